//! `pattern_entropy`: how evenly the logs are spread over the kinds of messages, in bits (Shannon 1948).

use super::{Feature, Window};

pub const FEATURE: Feature = Feature { name: "pattern_entropy", unit: "bits", of, is_of_patterns: true };

fn of(window: &Window) -> f64 {
    window.patterns.entropy_millibits as f64 / 1_000.0
}
