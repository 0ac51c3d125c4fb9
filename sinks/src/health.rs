//! How a store or sink is doing: written by it, read by `/health` and `/metrics`.

use crate::error::SinkError;
use jiff::Timestamp;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What a store or sink is doing right now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum State {
    /// The last attempt succeeded, or there was none yet.
    #[default]
    Ok,
    /// It waits and tries again.
    Retrying {
        /// Wall time of the first failure in a row.
        since: Timestamp,
        /// The last failure.
        error: String,
    },
    /// It gave up: the process must end.
    Failed { error: String },
}

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    retries: AtomicU64,
    commits: AtomicU64,
    rows: AtomicU64,
    dead_letters: AtomicU64,
    last_commit_us: AtomicU64,
}

/// A cheap handle: clones show the same health.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Inner>);

impl Health {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn state(&self) -> State {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Attempts that failed and were tried again.
    pub fn retries(&self) -> u64 {
        self.0.retries.load(Ordering::Relaxed)
    }

    /// Transactions that went through.
    pub fn commits(&self) -> u64 {
        self.0.commits.load(Ordering::Relaxed)
    }

    /// Rows stored: logs for a log sink, window rows for a state store.
    pub fn rows(&self) -> u64 {
        self.0.rows.load(Ordering::Relaxed)
    }

    /// Dead letters stored.
    pub fn dead_letters(&self) -> u64 {
        self.0.dead_letters.load(Ordering::Relaxed)
    }

    /// How long the last transaction took, retries included; `None` before the first.
    pub fn last_commit(&self) -> Option<Duration> {
        (self.commits() > 0).then(|| Duration::from_micros(self.0.last_commit_us.load(Ordering::Relaxed)))
    }

    pub(crate) fn committed(&self, took: Duration, rows: u64, dead_letters: u64) {
        self.0.commits.fetch_add(1, Ordering::Relaxed);
        self.0.rows.fetch_add(rows, Ordering::Relaxed);
        self.0.dead_letters.fetch_add(dead_letters, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.0.last_commit_us.store(micros, Ordering::Relaxed);
        self.recovered();
    }

    /// Whether it had to recover.
    pub(crate) fn recovered(&self) -> bool {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *state) != State::Ok
    }

    /// Whether this is the first failure in a row, or one of another kind than the last.
    pub(crate) fn retrying(&self, error: &SinkError) -> bool {
        self.0.retries.fetch_add(1, Ordering::Relaxed);
        let error = error.to_string();
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, news) = match &*state {
            State::Retrying { since, error: last } => (*since, *last != error),
            State::Ok | State::Failed { .. } => (Timestamp::now(), true),
        };
        *state = State::Retrying { since, error };
        news
    }

    pub(crate) fn failed(&self, error: &SinkError) {
        *self.0.state.lock().unwrap_or_else(PoisonError::into_inner) =
            State::Failed { error: error.to_string() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Fault;

    fn away(found: &str) -> SinkError {
        let text = |s: &str| s.to_owned();
        SinkError::Transient(Fault {
            store: text("s"),
            doing: text("d"),
            found: text(found),
            advice: text("a"),
        })
    }

    #[test]
    fn failures_in_a_row_keep_the_time_of_the_first_and_tell_only_news() {
        let health = Health::new();
        assert!(health.retrying(&away("one")));
        let State::Retrying { since, .. } = health.state() else { panic!("not retrying") };
        assert!(!health.retrying(&away("one")));
        assert!(health.retrying(&away("two")));
        let State::Retrying { since: later, error } = health.state() else { panic!("not retrying") };
        assert_eq!((since, error.as_str()), (later, "s: cannot d: two; a"));
        assert_eq!(health.retries(), 3);
    }

    #[test]
    fn a_commit_makes_it_well_again() {
        let health = Health::new();
        assert_eq!(health.last_commit(), None);
        health.retrying(&away("one"));
        health.committed(Duration::from_millis(3), 7, 1);
        assert_eq!(health.state(), State::Ok);
        assert_eq!((health.rows(), health.dead_letters(), health.commits()), (7, 1, 1));
        assert_eq!(health.last_commit(), Some(Duration::from_millis(3)));
    }
}
