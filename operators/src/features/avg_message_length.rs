//! `avg_message_length`: characters per message.

use super::{Feature, Window, per_log};

pub const FEATURE: Feature =
    Feature { name: "avg_message_length", unit: "characters", of, is_of_patterns: false };

fn of(window: &Window) -> f64 {
    per_log(window, window.sums.message_chars)
}
