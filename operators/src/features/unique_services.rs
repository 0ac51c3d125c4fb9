//! `unique_services`: services with a log in the window, in the whole stream; the same in every service's row.

use super::{Feature, Window};

pub const FEATURE: Feature = Feature { name: "unique_services", unit: "services", of, is_of_patterns: false };

fn of(window: &Window) -> f64 {
    window.unique_services as f64
}
