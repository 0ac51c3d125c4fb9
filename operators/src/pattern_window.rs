//! What kinds of messages a window is made of: how many logs are of new ones, and how evenly they are spread.
//!
//! ```text
//!        five whole minutes, counted by shape
//!   ├─────────┼─────────┼─────────┼─────────┼─────────┤
//!        ├──────────────── window ───────────────────────┤ end, every 10 s
//! ```
//!
//! Kinds are shapes, functions of messages alone, so the sums depend on the logs and not on what was mined by then. What
//! a minute does not count by name is one kind, and is not new.

use crate::breakdown::Minute;
use serde::{Deserialize, Serialize};
use smartlog_schema::window::{MINUTE, WINDOW_SECONDS, floor_to};
use std::collections::BTreeMap;
use std::ops::Range;

/// The sums of one window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PatternSums {
    /// Logs of kinds that are new to the service.
    pub new_logs: i64,
    /// Shannon entropy of the logs' distribution over kinds, thousandths of a bit.
    pub entropy_millibits: i64,
}

/// The seconds that are counted of the window that ends at `end`.
pub fn span(end: i64) -> Range<i64> {
    let end = floor_to(end, MINUTE);
    end - WINDOW_SECONDS..end
}

/// Adds the minutes of a window up. `is_new`: whether a shape is new.
pub fn pattern_sums<'a>(
    minutes: impl Iterator<Item = &'a Minute>,
    is_new: impl Fn(u64) -> bool,
) -> PatternSums {
    let mut kinds: BTreeMap<u64, u64> = BTreeMap::new();
    let mut others = 0;
    for minute in minutes {
        others += minute.other_shapes.logs;
        for (shape, counts) in &minute.shapes {
            *kinds.entry(*shape).or_default() += counts.logs;
        }
    }
    let new_logs: u64 = kinds.iter().filter(|(shape, _)| is_new(**shape)).map(|(_, logs)| logs).sum();
    PatternSums {
        new_logs: new_logs.cast_signed(),
        entropy_millibits: millibits(kinds.into_values().chain([others])),
    }
}

/// `log n − Σ c·log c / n`, in the order of the counts: the same counts give the same bits.
fn millibits(counts: impl Iterator<Item = u64>) -> i64 {
    let (mut total, mut weighted) = (0, 0.0);
    for count in counts.filter(|count| *count > 0) {
        total += count;
        weighted += count as f64 * (count as f64).log2();
    }
    if total == 0 {
        return 0;
    }
    let total = total as f64;
    ((total.log2() - weighted / total) * 1_000.0).round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breakdown::Counts;

    fn minute(shapes: &[(u64, u64)], other: u64) -> Minute {
        let counts = |logs| Counts { logs, errors: 0 };
        Minute {
            shapes: shapes.iter().map(|(shape, logs)| (*shape, counts(*logs))).collect(),
            other_shapes: counts(other),
            ..Minute::default()
        }
    }

    #[test]
    fn a_window_by_hand() {
        let minutes = [minute(&[(1, 3), (2, 1)], 0), minute(&[(1, 1), (3, 2)], 1)];
        let sums = pattern_sums(minutes.iter(), |shape| shape != 1);
        // 4, 1, 2, 1 of 8: ½·1 + ⅛·3 + ¼·2 + ⅛·3 bits.
        assert_eq!(sums, PatternSums { new_logs: 3, entropy_millibits: 1_750 });
    }

    #[test]
    fn one_kind_has_no_entropy_and_no_log_none() {
        assert_eq!(pattern_sums([minute(&[(1, 700)], 0)].iter(), |_| false), PatternSums::default());
        assert_eq!(pattern_sums([].iter(), |_| true), PatternSums::default());
        assert_eq!(millibits([1; 1_024].into_iter()), 10_000);
    }

    #[test]
    fn whole_minutes_are_counted() {
        assert_eq!(span(600), 300..600);
        assert_eq!(span(650), 300..600);
        assert_eq!(span(-10), -360..-60);
    }
}
