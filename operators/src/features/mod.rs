//! What a model may see of a window. One file each, one line each in [`FEATURES`].
//!
//! ```text
//!   Window ─ values ─▶ all features ─ Columns::pick ─▶ what one model looks at, in its own order
//! ```
//!
//! A model keeps the names of its columns: any of the features, and is refused where one is not known here.

mod avg_message_length;
mod columns;
mod error_rate;
mod hour_of_day;
mod log_rate;
mod new_pattern_rate;
mod pattern_entropy;
mod unique_services;

pub use columns::{Columns, Refusal};

use crate::pattern_window::PatternSums;
use crate::sums::Sums;

/// A window, as far as a feature may look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// End of the window, epoch seconds.
    pub end: i64,
    pub sums: Sums,
    /// Services with a log in the window, in the whole stream.
    pub unique_services: i64,
    /// Of the whole minutes in it; nothing where nobody asked for them.
    pub patterns: PatternSums,
}

/// One feature.
pub struct Feature {
    pub name: &'static str,
    /// For people.
    pub unit: &'static str,
    /// Always finite.
    pub of: fn(&Window) -> f64,
    /// It looks at [`Window::patterns`], which are counted only for models that do.
    pub is_of_patterns: bool,
}

/// Every feature.
pub const FEATURES: &[Feature] = &[
    log_rate::FEATURE,
    error_rate::FEATURE,
    avg_message_length::FEATURE,
    unique_services::FEATURE,
    hour_of_day::FEATURE,
    new_pattern_rate::FEATURE,
    pattern_entropy::FEATURE,
];

/// How many there are.
pub const WIDTH: usize = FEATURES.len();

/// The features' values, in the order of [`FEATURES`].
pub fn values(window: &Window) -> [f64; WIDTH] {
    std::array::from_fn(|at| (FEATURES[at].of)(window))
}

/// The features' names, in order.
pub fn names() -> [&'static str; WIDTH] {
    std::array::from_fn(|at| FEATURES[at].name)
}

/// A sum per log; 0 where there is no log.
fn per_log(window: &Window, sum: i64) -> f64 {
    if window.sums.logs > 0 { sum as f64 / window.sums.logs as f64 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(end: i64, logs: i64, errors: i64, message_chars: i64) -> Window {
        let patterns = PatternSums { new_logs: 15, entropy_millibits: 1_750 };
        Window { end, sums: Sums { logs, errors, message_chars }, unique_services: 4, patterns }
    }

    #[test]
    fn the_features_are_those_that_models_know() {
        assert_eq!(
            names(),
            [
                "log_rate",
                "error_rate",
                "avg_message_length",
                "unique_services",
                "hour_of_day",
                "new_pattern_rate",
                "pattern_entropy"
            ]
        );
    }

    #[test]
    fn a_window_by_hand() {
        // 10:05:00 UTC: 600 logs in five minutes, 30 of them errors.
        let values = values(&window(1_768_471_500, 600, 30, 48_000));
        assert_eq!(values, [120.0, 0.05, 80.0, 4.0, 10.0, 3.0, 1.75]);
    }

    #[test]
    fn an_empty_window_has_finite_values_and_the_hour_of_its_last_second() {
        let empty = Window { patterns: PatternSums::default(), ..window(3_600, 0, 0, 0) };
        assert_eq!(values(&empty), [0.0, 0.0, 0.0, 4.0, 0.0, 0.0, 0.0]);
        assert_eq!(values(&window(3_601, 0, 0, 0))[4], 1.0);
        assert_eq!(values(&window(0, 0, 0, 0))[4], 23.0, "before 1970 as well");
    }
}
