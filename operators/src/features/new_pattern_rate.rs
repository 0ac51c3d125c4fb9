//! `new_pattern_rate`: logs per minute of kinds that are new to the service, as `new_pattern` understands new.

use super::{Feature, Window};
use smartlog_schema::window::{MINUTE, WINDOW_SECONDS};

pub const FEATURE: Feature = Feature { name: "new_pattern_rate", unit: "logs/min", of, is_of_patterns: true };

fn of(window: &Window) -> f64 {
    window.patterns.new_logs as f64 * MINUTE as f64 / WINDOW_SECONDS as f64
}
