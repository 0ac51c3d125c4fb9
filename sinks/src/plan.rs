//! What a commit or a batch means for what is stored already: decided here without I/O, so that both stores do the same.

use crate::error::{Fault, SinkError};
use smartlog_schema::anomaly::{Episode, EpisodeChange, EpisodeKey};
use smartlog_schema::commit::{
    ClockState, EpochCommit, Evidence, Fingerprint, HourlyDelta, RetentionCut, Warmth,
};
use smartlog_schema::log::LogBatch;
use smartlog_schema::model::{ModelSwap, WindowScore};
use smartlog_schema::pattern::PatternChanges;
use smartlog_schema::position::{Positions, TopicPartition};
use smartlog_schema::sums::Sums;
use smartlog_schema::window::{HOUR, MINUTE, floor_to};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// What the state store holds, as the process that holds the lease knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Names this process in `pipeline_state`: drawn at random when the lease was taken.
    pub holder: i64,
    /// Number of commits of this pipeline, openings included.
    pub sequence: i64,
    /// `seq` of the newest row of `anomaly_events`.
    pub event_seq: i64,
    pub positions: Positions,
    /// Seconds before this one are already deleted.
    pub forgotten_before: i64,
    /// Minutes that begin before this one are already deleted.
    pub forgotten_minutes_before: i64,
}

/// A position that moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Move {
    pub partition: TopicPartition,
    /// What must be stored now; `None`: nothing.
    pub expected: Option<i64>,
    pub next: i64,
    pub fingerprint: Option<Fingerprint>,
}

/// All that one transaction of a state store does.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StatePlan {
    pub before: Held,
    pub after: Held,
    pub epoch: i64,
    pub clock: ClockState,
    pub moves: Vec<Move>,
    pub cuts: Vec<(TopicPartition, RetentionCut)>,
    pub seconds: Vec<(compact_str::CompactString, i64, Sums)>,
    /// Whether a sum may come to nothing.
    pub may_empty: bool,
    pub forget_seconds_before: Option<i64>,
    pub hourly: Vec<HourlyDelta>,
    pub detectors: Vec<(compact_str::CompactString, Option<Vec<u8>>)>,
    pub minutes: Vec<(compact_str::CompactString, i64, Vec<u8>)>,
    pub forget_minutes_before: Option<i64>,
    pub patterns: PatternChanges,
    pub warmth: Vec<Warmth>,
    pub changes: Vec<EpisodeChange>,
    pub scores: Vec<WindowScore>,
    pub models: Vec<ModelSwap>,
    pub feedback_seq: Option<i64>,
    pub evidence: Vec<Evidence>,
}

impl StatePlan {
    pub fn new(commit: &EpochCommit, before: &Held) -> Self {
        // Each key once: a statement may not touch a row twice.
        let mut commit = commit.clone();
        commit.consolidate();
        let moves = moves(&commit, &before.positions);
        let mut after = before.clone();
        after.sequence += 1;
        after.event_seq += commit.episodes.len() as i64;
        after.positions.extend(moves.iter().map(|m| (m.partition.clone(), m.next)));
        after.forgotten_before = before.forgotten_before.max(commit.forget_seconds_before);
        after.forgotten_minutes_before =
            before.forgotten_minutes_before.max(floor_to(commit.forget_minutes_before, MINUTE));
        StatePlan {
            epoch: i64::try_from(commit.epoch).unwrap_or(i64::MAX),
            clock: commit.clock,
            moves,
            cuts: commit.cuts,
            may_empty: commit
                .seconds
                .iter()
                .any(|(_, _, s)| s.logs < 0 || s.errors < 0 || s.message_chars < 0),
            seconds: commit.seconds,
            forget_seconds_before: (after.forgotten_before > before.forgotten_before)
                .then_some(after.forgotten_before),
            hourly: commit.hourly,
            detectors: commit.detectors,
            minutes: commit.minutes,
            patterns: commit.patterns,
            forget_minutes_before: (after.forgotten_minutes_before > before.forgotten_minutes_before)
                .then_some(after.forgotten_minutes_before),
            warmth: commit.warmth,
            changes: commit.episodes,
            scores: commit.scores,
            models: commit.models,
            feedback_seq: commit.feedback_seq,
            evidence: commit.evidence,
            before: before.clone(),
            after,
        }
    }

    /// The newest form of each episode that changed.
    pub fn episodes(&self) -> BTreeMap<&EpisodeKey, &Episode> {
        self.changes.iter().map(|change| (&change.episode.key, &change.episode)).collect()
    }

    /// The (hour, service) whose `anomaly_count` may have changed, given where the changed episodes started before.
    pub fn recounts(&self, started_before: &[(EpisodeKey, i64)]) -> BTreeSet<(i64, String)> {
        let old = started_before.iter().map(|(key, started_at)| (key, *started_at));
        let new = self.episodes().into_iter().map(|(key, episode)| (key, episode.started_at));
        old.chain(new)
            .filter_map(|(key, started)| Some((floor_to(started, HOUR), key.service.as_ref()?.to_string())))
            .collect()
    }

    /// The error for a sequence that is not what it must be.
    pub fn fenced(&self, store: &str, pipeline: &str, found: Option<(i64, Option<i64>)>) -> SinkError {
        let found = match found {
            None => "no state at all".to_owned(),
            Some((sequence, Some(_))) => format!("commit {sequence} of another holder"),
            Some((sequence, None)) => format!("commit {sequence}, changed by a command"),
        };
        SinkError::Fenced {
            store: store.to_owned(),
            what: format!("the state of pipeline {pipeline:?}"),
            expected: format!("commit {}", self.before.sequence),
            found,
        }
    }
}

/// Positions only grow: a branch that replays what is stored already moves nothing.
fn moves(commit: &EpochCommit, stored: &Positions) -> Vec<Move> {
    let grown = |(partition, next): (&TopicPartition, &i64)| {
        let expected = stored.get(partition).copied();
        let fingerprint = commit.fingerprints.get(partition).copied();
        let partition = partition.clone();
        expected.is_none_or(|e| *next > e).then_some(Move { partition, expected, next: *next, fingerprint })
    };
    commit.positions.iter().filter_map(grown).collect()
}

/// The part of a batch that is not stored yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stretch {
    /// Which of the batches.
    pub batch: usize,
    /// Its logs that are to be written.
    pub rows: Range<usize>,
    /// Its dead letters that are to be written.
    pub dead_letters: Range<usize>,
}

/// All that one transaction of a log sink does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogPlan {
    pub stretches: Vec<Stretch>,
    pub moves: Vec<Move>,
}

impl LogPlan {
    /// What of `batches` lies at or beyond the position of its partition. Several batches of one partition follow
    /// each other.
    pub fn new(batches: &[LogBatch], held: &Positions) -> Self {
        let mut stretches = Vec::new();
        let mut moves: BTreeMap<&TopicPartition, Move> = BTreeMap::new();
        for (at, batch) in batches.iter().enumerate() {
            let partition = &batch.source;
            let stored = held.get(partition).copied();
            let from = moves.get(partition).map(|m| m.next).or(stored).unwrap_or(batch.first_offset);
            if batch.next_offset <= from && stored.is_some() {
                continue;
            }
            let rows = first_from(batch.len(), |row| batch.get(row).offset >= from)..batch.len();
            let letters = &batch.dead_letters;
            let dead_letters = first_from(letters.len(), |i| letters[i].offset >= from)..letters.len();
            stretches.push(Stretch { batch: at, rows, dead_letters });
            let (expected, fingerprint) = (stored, None);
            let next = batch.next_offset.max(from);
            moves.insert(partition, Move { partition: partition.clone(), expected, next, fingerprint });
        }
        LogPlan { stretches, moves: moves.into_values().collect() }
    }

    pub fn rows(&self) -> usize {
        self.stretches.iter().map(|s| s.rows.len()).sum()
    }

    pub fn dead_letters(&self) -> usize {
        self.stretches.iter().map(|s| s.dead_letters.len()).sum()
    }
}

/// The first of `0..len` for which `reached` holds; it holds for all that follow.
fn first_from(len: usize, reached: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low.midpoint(high);
        if reached(middle) { high = middle } else { low = middle + 1 }
    }
    low
}

/// The error for a position that is not what it must be.
pub(crate) fn fenced_position(store: &str, sink: &str, lost: &Move, found: Option<Option<i64>>) -> SinkError {
    let offset = |next: Option<i64>| next.map_or("no position".to_owned(), |n| format!("offset {n}"));
    let found = match found {
        None => "no entry".to_owned(),
        Some(next) if next == lost.expected => format!("{} held by another writer", offset(next)),
        Some(next) => offset(next),
    };
    SinkError::Fenced {
        store: store.to_owned(),
        what: format!("the position of sink {sink:?} in {}", lost.partition),
        expected: offset(lost.expected),
        found,
    }
}

/// The error for a store that serves another pipeline.
pub(crate) fn another_pipeline(store: &str, ours: &str, owner: &str) -> SinkError {
    SinkError::Fatal(Fault {
        store: store.to_owned(),
        doing: format!("open it for pipeline {ours:?}"),
        found: format!("it holds the state of pipeline {owner:?}"),
        advice: "give each pipeline a store of its own (in PostgreSQL a schema will do: ?options=-csearch_path%3DNAME)"
            .into(),
    })
}

/// For a call that comes before its opening one.
pub(crate) fn not_open(store: &str, doing: &str) -> SinkError {
    SinkError::Fatal(Fault {
        store: store.to_owned(),
        doing: doing.to_owned(),
        found: "it was not opened".into(),
        advice: "this is a fault of the program: please report it".into(),
    })
}

/// A sink may only be given what it claimed.
pub(crate) fn check_claimed(
    store: &str,
    claimed: &BTreeSet<TopicPartition>,
    batches: &[LogBatch],
) -> Result<(), SinkError> {
    match batches.iter().find(|batch| !claimed.contains(&batch.source)) {
        None => Ok(()),
        Some(batch) => Err(not_open(store, &format!("write logs of {}", batch.source))),
    }
}

/// A state store has no row to set aside: data that it refuses is a fault of the program.
pub(crate) fn never_poison(error: SinkError) -> SinkError {
    match error {
        SinkError::Poison(fault) => SinkError::Fatal(Fault {
            advice: "this is a fault of the program: please report it".into(),
            ..fault
        }),
        other => other,
    }
}

/// Each partition's event time as `pipeline_state.partition_clocks` keeps it: `[["topic", 0, 1700000000000000], …]`.
pub(crate) fn write_partition_clocks(clock: &ClockState) -> String {
    let entries: Vec<(&str, i32, i64)> =
        clock.partitions.iter().map(|(p, &time)| (p.topic.as_str(), p.partition, time)).collect();
    serde_json::json!(entries).to_string()
}

/// The inverse of [`write_partition_clocks`].
pub(crate) fn read_partition_clocks(
    store: &str,
    text: &str,
) -> Result<BTreeMap<TopicPartition, i64>, SinkError> {
    let entries: Vec<(String, i32, i64)> = serde_json::from_str(text).map_err(|error| {
        SinkError::Fatal(Fault {
            store: store.to_owned(),
            doing: "read pipeline_state.partition_clocks".into(),
            found: error.to_string(),
            advice: "run the version that wrote it, or a later one".into(),
        })
    })?;
    Ok(entries
        .into_iter()
        .map(|(topic, partition, time)| (TopicPartition::new(topic, partition), time))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use smartlog_schema::dead_letter::{DeadLetter, Reason};
    use smartlog_schema::level::Level;
    use smartlog_schema::log::LogRef;

    fn batch(first: i64, offsets: &[i64], letters: &[i64], next: i64) -> LogBatch {
        let mut batch = LogBatch::new(TopicPartition::new("t", 0), first);
        for &offset in offsets {
            batch.push(&LogRef {
                offset,
                timestamp_us: 0,
                level: Level::Info,
                service: "s",
                host: None,
                message: "m",
                metadata: None,
                shape: 0,
            });
        }
        for &offset in letters {
            let (reason, detail, payload) = (Reason::InvalidJson, String::new(), Vec::new());
            batch.dead_letters.push(DeadLetter { partition: 0, offset, reason, detail, payload });
        }
        batch.next_offset = next;
        batch
    }

    fn held(next: i64) -> Positions {
        Positions::from([(TopicPartition::new("t", 0), next)])
    }

    fn parts(plan: &LogPlan) -> Vec<(usize, Range<usize>, Range<usize>)> {
        plan.stretches.iter().map(|s| (s.batch, s.rows.clone(), s.dead_letters.clone())).collect()
    }

    #[test]
    fn what_lies_below_the_position_is_left_out() {
        let plan = LogPlan::new(&[batch(10, &[10, 12, 15], &[11, 14], 20)], &held(12));
        assert_eq!(parts(&plan), [(0, 1..3, 1..2)]);
        assert_eq!((plan.moves[0].expected, plan.moves[0].next), (Some(12), 20));
    }

    #[test]
    fn a_batch_that_is_stored_already_moves_nothing() {
        let plan = LogPlan::new(&[batch(10, &[10], &[11], 12)], &held(12));
        assert_eq!(plan, LogPlan { stretches: vec![], moves: vec![] });
    }

    #[test]
    fn batches_of_one_partition_follow_each_other_in_one_move() {
        let batches = [batch(0, &[0, 1], &[], 2), batch(1, &[1, 2], &[3], 4), batch(7, &[7], &[], 8)];
        let plan = LogPlan::new(&batches, &Positions::new());
        assert_eq!(parts(&plan), [(0, 0..2, 0..0), (1, 1..2, 0..1), (2, 0..1, 0..0)]);
        assert_eq!(plan.moves.len(), 1);
        assert_eq!((plan.moves[0].expected, plan.moves[0].next), (None, 8));
    }

    #[test]
    fn an_empty_stretch_still_moves_the_position() {
        let plan = LogPlan::new(&[batch(5, &[], &[], 9)], &held(5));
        assert_eq!((plan.rows(), plan.dead_letters(), plan.moves[0].next), (0, 0, 9));
    }

    #[test]
    fn positions_of_aggregates_only_grow() {
        let commit = EpochCommit { positions: held(7), ..EpochCommit::default() };
        let with = |next| StatePlan::new(&commit, &Held { positions: held(next), ..Held::default() });
        assert_eq!(with(6).moves.len(), 1);
        assert_eq!(with(7).moves, []);
        assert_eq!(with(8).moves, []);
        assert_eq!(with(8).after.positions, held(8));
    }
}
