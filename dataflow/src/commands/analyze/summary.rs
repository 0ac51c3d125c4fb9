//! What was read, in a line or two.

use super::{Seen, duration, time};
use indicatif::HumanCount;
use smartlog_operators::fold::Outcomes;
use smartlog_schema::dead_letter::Reason;
use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Counts of a run.
#[derive(Debug, Default, PartialEq)]
pub struct Summary {
    pub episodes: usize,
    /// Lines.
    pub records: u64,
    pub logs: u64,
    pub services: usize,
    /// Lines that are no logs, by reason, most first.
    pub dead_letters: Vec<(&'static str, u64)>,
    /// First log, and event time reached, epoch seconds.
    pub span: Option<(i64, i64)>,
    pub took: Duration,
}

impl Summary {
    pub fn new(seen: &Seen, outcomes: &Outcomes, took: Duration) -> Self {
        let count = |reason: Reason| {
            (reason.as_str(), outcomes.dead_letters[reason as usize].load(Ordering::Relaxed))
        };
        let mut dead_letters: Vec<_> =
            Reason::ALL.into_iter().map(count).filter(|(_, count)| *count > 0).collect();
        dead_letters.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let last = seen.clock_us.div_euclid(1_000_000);
        Summary {
            episodes: seen.episodes().len(),
            records: outcomes.records.load(Ordering::Relaxed),
            logs: outcomes.logs.load(Ordering::Relaxed),
            services: seen.timelines.services(),
            dead_letters,
            span: seen.timelines.first().map(|first| (first.min(last), last)),
            took,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = |count: u64, one: &str, more: &str| {
            format!("{} {}", HumanCount(count), if count == 1 { one } else { more })
        };
        write!(
            f,
            "{} in {} of {}",
            counted(self.episodes as u64, "episode", "episodes"),
            counted(self.logs, "log", "logs"),
            counted(self.services as u64, "service", "services")
        )?;
        if let Some((first, last)) = self.span {
            write!(f, ", {} to {} ({})", time(first), time(last), duration(last - first))?;
        }
        let rate = (self.records as f64 / self.took.as_secs_f64().max(1e-3)) as u64;
        write!(f, "; {} lines/s", HumanCount(rate))?;
        let dead: u64 = self.dead_letters.iter().map(|(_, count)| count).sum();
        if dead > 0 {
            let reasons: Vec<String> = self
                .dead_letters
                .iter()
                .map(|(reason, count)| format!("{} {reason}", HumanCount(*count)))
                .collect();
            let were = counted(dead, "line was no log", "lines were no logs");
            write!(f, "\n{were}: {}", reasons.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_reads_as_a_sentence() {
        let summary = Summary {
            episodes: 1,
            records: 12_345,
            logs: 12_340,
            services: 26,
            dead_letters: vec![("invalid_json", 4), ("missing_level", 1)],
            span: Some((1_768_473_000, 1_768_480_200)),
            took: Duration::from_secs(1),
        };
        let told = "1 episode in 12,340 logs of 26 services, 2026-01-15T10:30:00Z to 2026-01-15T12:30:00Z (2h 00m); \
            12,345 lines/s\n5 lines were no logs: 4 invalid_json, 1 missing_level";
        assert_eq!(summary.to_string(), told);
        assert!(Summary::default().to_string().starts_with("0 episodes in 0 logs of 0 services; 0 lines/s"));
    }
}
