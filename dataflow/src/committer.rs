//! Closed epochs become durable: all that an epoch changed, in one transaction.
//!
//! ```text
//!   changes ─┐                                         ┌ store busy: epochs merge
//!   reports ─┼─ committer (worker 0) ─▶ pending commit ┤
//!   ticks ───┘                                         └─▶ thread: StateStore::commit, then the observer
//! ```
//!
//! The worker never waits for the store: it folds closed epochs into the pending commit, and the thread takes that
//! whenever it is free. So there is no queue that could grow; what is pending is at most the state itself.

use smartlog_operators::breakdown;
use smartlog_operators::record::{Change, Epoch, Report, Tick};
use smartlog_operators::window::kept_seconds;
use smartlog_schema::commit::{EpochCommit, HourlyDelta};
use smartlog_sinks::{SinkError, StateStore};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use tracing::Instrument as _;

/// A clock that moved without anything else is stored this often: enough for `complete_through`.
const TICKS_ONLY: Duration = Duration::from_secs(1);

/// Is told of every commit once it is durable.
pub type Observer = Box<dyn FnMut(&EpochCommit) + Send>;

#[derive(Default)]
struct Pending {
    commit: Option<EpochCommit>,
    /// Nothing will be added.
    closed: bool,
}

/// Between the worker and the committing thread.
#[derive(Clone, Default)]
pub struct Mailbox {
    pending: Arc<(Mutex<Pending>, Condvar)>,
    /// Size of the pending commit, bytes.
    pub bytes: Arc<AtomicUsize>,
}

impl Mailbox {
    fn put(&self, commit: EpochCommit) {
        let (pending, bell) = &*self.pending;
        let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut pending.commit {
            Some(waiting) => waiting.merge(commit),
            None => pending.commit = Some(commit),
        }
        self.bytes.store(pending.commit.as_ref().map_or(0, EpochCommit::bytes), Ordering::Relaxed);
        bell.notify_one();
    }

    /// No more commits will come.
    pub fn close(&self) {
        let (pending, bell) = &*self.pending;
        pending.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        bell.notify_one();
    }

    /// The next commit worth storing; `None` once closed and empty.
    fn take(&self, last: Instant) -> Option<EpochCommit> {
        let (pending, bell) = &*self.pending;
        let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let wait = match &pending.commit {
                None if pending.closed => return None,
                None => TICKS_ONLY,
                Some(commit) if !commit.only_ticks() || pending.closed => break,
                Some(_) => match TICKS_ONLY.checked_sub(last.elapsed()) {
                    Some(wait) => wait,
                    None => break,
                },
            };
            pending = bell.wait_timeout(pending, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
        self.bytes.store(0, Ordering::Relaxed);
        pending.commit.take()
    }
}

/// Starts the thread that makes commits durable; it ends when `mailbox` is closed. `store`: `None` keeps nothing.
pub fn start(
    mailbox: Mailbox,
    runtime: tokio::runtime::Handle,
    mut store: Option<Box<dyn StateStore>>,
    mut observer: Observer,
    fail: impl Fn(SinkError) + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("committer".into()).spawn(move || {
        let mut last = Instant::now();
        while let Some(mut commit) = mailbox.take(last) {
            if store.is_some() {
                // Where nothing is stored, observers count for themselves, also what is long over.
                commit.consolidate();
            }
            if let Some(store) = &mut store
                && let Err(error) = wait(&runtime, store.commit(&commit).instrument(span_of(&commit)))
            {
                fail(error);
                return;
            }
            last = Instant::now();
            observer(&commit);
        }
    })
}

/// For who collects traces. Only signed numbers get there as numbers.
fn span_of(commit: &EpochCommit) -> tracing::Span {
    tracing::trace_span!(
        target: "smartlog_trace", "commit",
        epoch = commit.epoch as i64,
        seconds = commit.seconds.len() as i64,
        episodes = commit.episodes.len() as i64,
        positions = commit.positions.len() as i64,
        bytes = commit.bytes() as i64
    )
}

/// Runs one piece of asynchronous work on a thread that is not a worker.
#[expect(clippy::disallowed_methods, reason = "this is the bridge: its thread has nothing else to do")]
pub fn wait<T>(runtime: &tokio::runtime::Handle, work: impl Future<Output = T>) -> T {
    runtime.block_on(work)
}

/// Gathers what each epoch changes and hands it to `mailbox` once the epoch is closed, which `closed` is told. Works on
/// worker 0 only.
pub fn committer<'scope>(
    changes: StreamVec<'scope, Epoch, Change>,
    reports: StreamVec<'scope, Epoch, Report>,
    ticks: StreamVec<'scope, Epoch, Tick>,
    max_lateness: i64,
    mailbox: Mailbox,
    closed: impl Fn(Epoch) + 'static,
) {
    let mut builder = OperatorBuilder::new("committer".to_owned(), changes.scope());
    let is_first = changes.scope().index() == 0;
    let mut changes = builder.new_input(changes, Exchange::new(|_: &Change| 0));
    let mut reports = builder.new_input(reports, Pipeline);
    let mut ticks = builder.new_input(ticks, Pipeline);
    builder.build(move |_| {
        let mut open: BTreeMap<Epoch, EpochCommit> = BTreeMap::new();
        let mut positions = smartlog_schema::position::Positions::new();
        let mut feedback_seq = 0;
        move |frontiers| {
            changes.for_each(|cap, data| {
                let Some(&epoch) = cap.least() else { return };
                let commit = open.entry(epoch).or_default();
                data.drain(..).for_each(|change| add(commit, change));
            });
            reports.for_each(|cap, data| {
                let Some(epoch) = cap.least().filter(|_| is_first) else { return };
                let commit = open.entry(*epoch).or_default();
                data.drain(..).for_each(|report| moved(commit, report));
            });
            ticks.for_each(|cap, data| {
                let (Some(&epoch), Some(tick)) = (cap.least().filter(|_| is_first), data.pop()) else {
                    return;
                };
                let commit = open.entry(epoch).or_default();
                commit.clock = (*tick.clock).clone();
                commit.forget_seconds_before = tick.final_through() - kept_seconds(max_lateness);
                commit.forget_minutes_before = tick.final_through() - breakdown::KEPT;
            });
            while let Some(entry) = open.first_entry() {
                if frontiers.iter().any(|frontier| frontier.less_equal(entry.key())) {
                    break;
                }
                let (epoch, mut commit) = entry.remove_entry();
                commit.epoch = epoch;
                feedback_seq = commit.feedback_seq.unwrap_or(0).max(feedback_seq);
                // Positions that stand still are not written again.
                commit
                    .positions
                    .retain(|source, next| positions.insert(source.clone(), *next) != Some(*next));
                for evidence in &mut commit.evidence {
                    (evidence.offsets, evidence.feedback_seq) = (positions.clone(), feedback_seq);
                }
                let moved = &commit.positions;
                commit.fingerprints.retain(|source, _| moved.contains_key(source));
                if is_first {
                    closed(epoch);
                    mailbox.put(commit);
                }
            }
            if is_first && frontiers.iter().all(|frontier| frontier.is_empty()) {
                mailbox.close();
            }
        }
    });
}

fn add(commit: &mut EpochCommit, change: Change) {
    match change {
        Change::Second(partial) => commit.seconds.push((partial.service, partial.second, partial.sums)),
        Change::Hour { service, hour, logs, errors } => {
            commit.hourly.push(HourlyDelta { hour, service, logs, errors });
        }
        Change::Detector { service, state } => commit.detectors.push((service, state)),
        Change::Minute { service, minute, state } => commit.minutes.push((service, minute, state)),
        Change::Patterns(changes) => commit.patterns.merge(*changes),
        Change::Warmth(warmth) => commit.warmth.push(warmth),
        Change::Episode(change) => commit.episodes.push(*change),
        Change::Evidence(evidence) => commit.evidence.push(*evidence),
        Change::Score(score) => commit.scores.push(*score),
        Change::Model(swap) => commit.models.push(*swap),
        Change::Feedback(seq) => commit.feedback_seq = commit.feedback_seq.max(Some(seq)),
    }
}

fn moved(commit: &mut EpochCommit, report: Report) {
    if let Some(fingerprint) = report.fingerprint {
        commit.fingerprints.insert(report.source.clone(), fingerprint);
    }
    commit.cuts.extend(report.cuts.into_iter().map(|cut| (report.source.clone(), cut)));
    commit.positions.insert(report.source, report.next_offset);
}
