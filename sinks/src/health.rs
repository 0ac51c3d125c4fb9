//! How a store or sink is doing: written by it, read by `/health` and `/metrics`.

use crate::error::SinkError;
use jiff::Timestamp;
use prometheus_client::metrics::histogram::Histogram;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Bounds of how long a transaction takes, seconds: from a local file to a store that is on its knees.
const DURATIONS_S: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];
/// Bounds of how many rows one writes.
const ROWS: [f64; 7] = [1.0, 10.0, 100.0, 1_000.0, 10_000.0, 100_000.0, 1_000_000.0];

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

/// What waits in a queue of a sink's own, and how much may: bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill {
    /// A name of its own within the sink.
    pub queue: &'static str,
    pub used: u64,
    pub limit: u64,
}

type TellFills = dyn Fn() -> Vec<Fill> + Send + Sync;

/// Who tells of the queues; nobody where a sink has none.
#[derive(Default)]
struct Fills(Mutex<Option<Box<TellFills>>>);

impl fmt::Debug for Fills {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fills")
    }
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    retries: AtomicU64,
    commits: AtomicU64,
    rows: AtomicU64,
    dead_letters: AtomicU64,
    durations: Histogram,
    sizes: Histogram,
    fills: Fills,
}

impl Default for Inner {
    fn default() -> Self {
        Inner {
            state: Mutex::default(),
            retries: AtomicU64::default(),
            commits: AtomicU64::default(),
            rows: AtomicU64::default(),
            dead_letters: AtomicU64::default(),
            durations: Histogram::new(DURATIONS_S),
            sizes: Histogram::new(ROWS),
            fills: Fills::default(),
        }
    }
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

    /// How long transactions took, retries included, seconds.
    pub fn durations(&self) -> &Histogram {
        &self.0.durations
    }

    /// How many rows they wrote, dead letters included.
    pub fn sizes(&self) -> &Histogram {
        &self.0.sizes
    }

    /// The sink's own queues, as they are now.
    pub fn fills(&self) -> Vec<Fill> {
        let fills = self.0.fills.0.lock().unwrap_or_else(PoisonError::into_inner);
        fills.as_ref().map_or_else(Vec::new, |tell| tell())
    }

    /// `tell` is asked whenever somebody wants to know; it must not wait for anything.
    pub(crate) fn told_by(&self, tell: impl Fn() -> Vec<Fill> + Send + Sync + 'static) {
        *self.0.fills.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(tell));
    }

    pub(crate) fn committed(&self, took: Duration, rows: u64, dead_letters: u64) {
        self.0.commits.fetch_add(1, Ordering::Relaxed);
        self.0.rows.fetch_add(rows, Ordering::Relaxed);
        self.0.dead_letters.fetch_add(dead_letters, Ordering::Relaxed);
        self.0.durations.observe(took.as_secs_f64());
        self.0.sizes.observe((rows + dead_letters) as f64);
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
        health.retrying(&away("one"));
        health.committed(Duration::from_millis(3), 7, 1);
        assert_eq!(health.state(), State::Ok);
        assert_eq!((health.rows(), health.dead_letters(), health.commits()), (7, 1, 1));
        let mut page = String::new();
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register("took", "t", health.durations().clone());
        registry.register("size", "s", health.sizes().clone());
        prometheus_client::encoding::text::encode(&mut page, &registry).expect("a string takes all");
        assert!(
            page.contains("took_sum 0.003\n") && page.contains("took_bucket{le=\"0.005\"} 1\n"),
            "{page}"
        );
        assert!(page.contains("size_sum 8.0\n"), "{page}");
    }
}
