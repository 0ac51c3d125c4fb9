//! `error_rate`: errors per log.

use super::{Feature, Window, per_log};

pub const FEATURE: Feature = Feature { name: "error_rate", unit: "errors/log", of, is_of_patterns: false };

fn of(window: &Window) -> f64 {
    per_log(window, window.sums.errors)
}
