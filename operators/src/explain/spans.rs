//! Which minutes are compared: those of the worst window, with those before the trouble.
//!
//! ```text
//!    ├── before: 10 minutes ──┤·· at most 5 ··├── after: the worst window, in whole minutes ──┤
//!                             └ the first window beyond the threshold began
//! ```

use crate::rules::Side;
use smartlog_schema::window::{MINUTE, WINDOW_SECONDS, ceil_to, floor_to};
use std::ops::Range;

/// Length of what is compared with, seconds.
pub const BEFORE: i64 = 10 * MINUTE;
/// How far before the worst window it may end, seconds.
const GAP: i64 = 5 * MINUTE;
/// How far before the end of a window its explanation looks, seconds.
pub const REACH: i64 = WINDOW_SECONDS + GAP + BEFORE + 2 * MINUTE;

/// The minutes that are compared, epoch seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spans {
    pub before: Range<i64>,
    pub after: Range<i64>,
}

impl Spans {
    /// Of an episode whose first window ended at `started_at`, and the worst window.
    pub fn of(window: &Range<i64>, started_at: i64, side: Side) -> Self {
        let length = (window.end - window.start).clamp(MINUTE, WINDOW_SECONDS);
        let (from, to) = (window.end - length, window.end);
        let outer = floor_to(from, MINUTE)..ceil_to(to, MINUTE);
        let inner = ceil_to(from, MINUTE)..floor_to(to, MINUTE);
        // What is missing is missed in minutes that are missing whole.
        let after = if side == Side::Below && !inner.is_empty() { inner } else { outer };
        let latest = floor_to(started_at - length, MINUTE).min(after.start);
        let end = latest.max(after.start - GAP);
        Spans { before: end - BEFORE..end, after }
    }
}

/// Its length in minutes.
pub fn minutes(span: &Range<i64>) -> f64 {
    (span.end - span.start) as f64 / MINUTE as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(end: i64, seconds: i64, started_at: i64, side: Side) -> (Range<i64>, Range<i64>) {
        let Spans { before, after } = Spans::of(&(end - seconds..end), started_at, side);
        (before, after)
    }

    #[test]
    fn whole_minutes_around_what_is_too_much_and_within_what_is_missing() {
        assert_eq!(spans(6_010, 300, 6_010, Side::Above), (5_100..5_700, 5_700..6_060));
        assert_eq!(spans(6_010, 300, 6_010, Side::Below), (5_100..5_700, 5_760..6_000));
        assert_eq!(spans(6_010, 60, 6_010, Side::Below), (5_340..5_940, 5_940..6_060), "no whole minute");
        assert_eq!(spans(6_010, 1_800, 6_010, Side::Above), spans(6_010, 300, 6_010, Side::Above));
    }

    #[test]
    fn what_is_compared_with_lies_before_the_trouble_where_that_is_near() {
        assert_eq!(spans(6_300, 300, 6_120, Side::Above), (5_220..5_820, 6_000..6_300));
        assert_eq!(spans(9_000, 300, 6_000, Side::Above), (7_800..8_400, 8_700..9_000));
        let earliest = spans(9_000, 300, 0, Side::Above).0.start;
        assert!(9_000 - earliest <= REACH);
    }
}
