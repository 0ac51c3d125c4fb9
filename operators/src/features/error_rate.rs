//! `error_rate`: errors per log.

use super::{Feature, Window, per_log};

pub const FEATURE: Feature = Feature { name: "error_rate", unit: "errors/log", of };

fn of(window: &Window) -> f64 {
    per_log(window, window.sums.errors)
}
