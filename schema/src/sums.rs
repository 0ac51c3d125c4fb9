//! The monoid that every aggregate is made of.

use serde::{Deserialize, Serialize};

/// Counts over a set of logs. Additive and invertible, so that a rolling window is `+` on entry and `-` on exit.
///
/// Rates and averages are divided at the edge ([`Sums::error_rate`], [`Sums::avg_message_length`]): no float
/// ever enters the dataflow, where records must have a total order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Sums {
    /// Logs.
    pub logs: i64,
    /// Logs of level ERROR or FATAL.
    pub errors: i64,
    /// Characters (Unicode scalar values) of all messages together.
    pub message_chars: i64,
}

impl Sums {
    /// One log line.
    #[inline]
    pub fn one(is_error: bool, message_chars: i64) -> Self {
        Sums { logs: 1, errors: i64::from(is_error), message_chars }
    }

    /// No log at all.
    #[inline]
    pub fn is_empty(&self) -> bool {
        *self == Sums::default()
    }

    /// Errors per log, 0 to 1; 0 when there is no log.
    pub fn error_rate(&self) -> f64 {
        ratio(self.errors, self.logs)
    }

    /// Mean message length in characters; 0 when there is no log.
    pub fn avg_message_length(&self) -> f64 {
        ratio(self.message_chars, self.logs)
    }
}

fn ratio(part: i64, whole: i64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

impl std::ops::AddAssign<&Sums> for Sums {
    #[inline]
    fn add_assign(&mut self, other: &Sums) {
        self.logs += other.logs;
        self.errors += other.errors;
        self.message_chars += other.message_chars;
    }
}

impl std::ops::AddAssign for Sums {
    #[inline]
    fn add_assign(&mut self, other: Sums) {
        *self += &other;
    }
}

impl std::ops::Add for Sums {
    type Output = Sums;
    #[inline]
    fn add(mut self, other: Sums) -> Sums {
        self += &other;
        self
    }
}

impl std::ops::Sub for Sums {
    type Output = Sums;
    #[inline]
    fn sub(self, other: Sums) -> Sums {
        self + -other
    }
}

impl std::ops::Neg for Sums {
    type Output = Sums;
    #[inline]
    fn neg(self) -> Sums {
        Sums { logs: -self.logs, errors: -self.errors, message_chars: -self.message_chars }
    }
}
