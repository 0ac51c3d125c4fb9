//! `log_rate`: logs per minute over the window.

use super::{Feature, Window};
use smartlog_schema::window::{MINUTE, WINDOW_SECONDS};

pub const FEATURE: Feature = Feature { name: "log_rate", unit: "logs/min", of, is_of_patterns: false };

fn of(window: &Window) -> f64 {
    window.sums.logs as f64 * MINUTE as f64 / WINDOW_SECONDS as f64
}
