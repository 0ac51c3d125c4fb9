//! `hour_of_day`: 0 to 23, UTC, of the window's last second.

use super::{Feature, Window};
use smartlog_schema::window::{DAY, HOUR};

pub const FEATURE: Feature = Feature { name: "hour_of_day", unit: "h", of, is_of_patterns: false };

fn of(window: &Window) -> f64 {
    ((window.end - 1).rem_euclid(DAY) / HOUR) as f64
}
