//! What is counted of a shape, of a pattern, and of all that fell out of the memory.

use serde::{Deserialize, Serialize};
use smartlog_schema::level::Level;

/// Counts and times. Adding is commutative, so partial ones from many workers come to the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    pub logs: u64,
    /// Logs by level, in the order of [`Level::ALL`]; plain lines have none.
    pub levels: [u64; Level::ALL.len()],
    /// Event times of the first and last log, microseconds (of plain lines: their numbers).
    pub first_us: i64,
    pub last_us: i64,
}

impl Default for Stats {
    fn default() -> Self {
        Stats { logs: 0, levels: [0; Level::ALL.len()], first_us: i64::MAX, last_us: i64::MIN }
    }
}

impl Stats {
    /// Those of one log.
    pub fn one(at_us: i64, level: Option<Level>) -> Self {
        let mut stats = Stats { logs: 1, first_us: at_us, last_us: at_us, ..Stats::default() };
        if let Some(level) = level {
            stats.levels[level as usize] = 1;
        }
        stats
    }

    pub fn add(&mut self, other: &Stats) {
        self.logs += other.logs;
        self.levels.iter_mut().zip(&other.levels).for_each(|(mine, its)| *mine += its);
        self.first_us = self.first_us.min(other.first_us);
        self.last_us = self.last_us.max(other.last_us);
    }

    pub fn is_empty(&self) -> bool {
        self.logs == 0
    }

    /// Logs at ERROR and above.
    pub fn errors(&self) -> u64 {
        Level::ALL.iter().filter(|level| level.is_error()).map(|&level| self.levels[level as usize]).sum()
    }
}
