//! What one object adds to the daily numbers, and what has to change when it adds something else.

use std::collections::BTreeMap;

/// The numbers of one service and day: what an object adds, or the sum of what all objects add.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Number of logs.
    pub logs: i64,
    /// Those at ERROR or FATAL.
    pub errors: i64,
    /// Characters of all their messages, by which averages can be added up.
    pub message_chars: i64,
    /// Episodes that are not retracted.
    pub anomalies: i64,
}

impl Counts {
    /// Whether nothing is counted, so that nothing is stored.
    pub fn is_zero(self) -> bool {
        self == Self::default()
    }

    /// The sum after an object adds `new` where it added `old` before.
    pub fn replaced(self, old: Self, new: Self) -> Self {
        Self {
            logs: self.logs - old.logs + new.logs,
            errors: self.errors - old.errors + new.errors,
            message_chars: self.message_chars - old.message_chars + new.message_chars,
            anomalies: self.anomalies - old.anomalies + new.anomalies,
        }
    }

    /// Mean length of a message in characters; `None` without logs.
    pub fn average_message_length(self) -> Option<f64> {
        (self.logs > 0).then(|| self.message_chars as f64 / self.logs as f64)
    }
}

/// Counts by service, what an object adds or added.
pub type ByService = BTreeMap<String, Counts>;

/// One service whose contribution changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub service: String,
    pub old: Counts,
    pub new: Counts,
}

/// What must change so that an object that added `old` adds `new`: also services that it no longer holds.
pub fn changes(old: &ByService, new: &ByService) -> Vec<Change> {
    let gone = old.iter().filter(|(service, _)| !new.contains_key(*service));
    let gone =
        gone.map(|(service, old)| Change { service: service.clone(), old: *old, new: Counts::default() });
    let kept = new.iter().filter_map(|(service, new)| {
        let old = old.get(service).copied().unwrap_or_default();
        (old != *new).then(|| Change { service: service.clone(), old, new: *new })
    });
    gone.chain(kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logs(pairs: &[(&str, i64)]) -> ByService {
        let counts = |logs| Counts { logs, message_chars: logs * 10, ..Counts::default() };
        pairs.iter().map(|(service, n)| ((*service).to_owned(), counts(*n))).collect()
    }

    #[test]
    fn nothing_changes_where_nothing_differs() {
        assert_eq!(changes(&logs(&[("a", 1)]), &logs(&[("a", 1)])), []);
    }

    #[test]
    fn a_service_that_is_gone_is_taken_away() {
        let found = changes(&logs(&[("a", 1), ("b", 2)]), &logs(&[("b", 3), ("c", 4)]));
        let summary: Vec<_> = found.iter().map(|c| (c.service.as_str(), c.old.logs, c.new.logs)).collect();
        assert_eq!(summary, [("a", 1, 0), ("b", 2, 3), ("c", 0, 4)]);
    }

    #[test]
    fn a_sum_follows_a_replacement() {
        let sum = Counts { logs: 10, errors: 2, message_chars: 100, anomalies: 1 };
        let old = Counts { logs: 4, errors: 1, message_chars: 40, anomalies: 0 };
        let new = Counts { logs: 1, errors: 0, message_chars: 20, anomalies: 0 };
        let after = sum.replaced(old, new);
        assert_eq!(after, Counts { logs: 7, errors: 1, message_chars: 80, anomalies: 1 });
        assert_eq!(sum.replaced(sum, Counts::default()), Counts::default());
        assert_eq!(after.average_message_length(), Some(80.0 / 7.0));
        assert_eq!(Counts::default().average_message_length(), None);
    }
}
