//! All that one closed epoch changes, and the snapshot that a restart begins with.
//!
//! ```text
//!   dataflow ── EpochCommit ──▶ store: one transaction    (fenced by `sequence`)
//!   dataflow ◀── Snapshot ───── store: at start, under the lease
//! ```

use crate::anomaly::{Episode, EpisodeChange, EpisodeKey};
use crate::model::{ModelSwap, WindowScore};
use crate::pattern::{KnownShape, PatternChanges};
use crate::position::{Positions, TopicPartition};
use crate::sums::Sums;
use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How far event time has come. See docs/ARCHITECTURE.md, "Time".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockState {
    /// Event time reached, microseconds. Never goes back.
    pub clock_us: i64,
    /// Event time up to which windows are final, microseconds.
    pub watermark_us: i64,
    /// Wall time of the tick that reached it, microseconds: silence goes on counting through a downtime.
    pub wall_us: i64,
    /// Each partition's own event time, microseconds.
    pub partitions: BTreeMap<TopicPartition, i64>,
}

/// What the record before a position looked like, to notice a topic that was deleted and made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Kafka record time, milliseconds.
    pub record_time_ms: i64,
    /// 64-bit hash of the payload.
    pub payload_hash: i64,
}

/// From one offset of a partition on, what lies before `before_us` is too old to be a log: so that whoever reads the
/// partition later, or again, comes to the same verdict although the clock has gone on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RetentionCut {
    pub from_offset: i64,
    /// Event time, microseconds.
    pub before_us: i64,
}

/// Counts that one epoch adds to an hour of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HourlyDelta {
    /// Start of the hour, epoch seconds.
    pub hour: i64,
    pub service: CompactString,
    pub logs: i64,
    pub errors: i64,
}

/// How much a service's baseline knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warmth {
    /// Empty: the whole stream.
    pub service: CompactString,
    /// Minutes that entered the baseline, at most `needed`.
    pub minutes: i64,
    /// Minutes from which on it is trusted; with fewer the service is warming up.
    pub needed: i64,
}

/// What the decision of an episode rested on: one row of `anomaly_evidence`, that of its newest decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    pub key: EpisodeKey,
    /// What was decided, canonical JSON.
    pub decision: String,
    /// JSON object: clock, windows and rules in force.
    pub inputs: String,
    /// The rules in force, and the service's detector before the stretch that was decided on; opaque.
    pub detector: Vec<u8>,
    /// Only records before these were known.
    pub offsets: Positions,
    /// Only rows of `feedback` up to this one were known.
    pub feedback_seq: i64,
}

/// What one closed epoch (or several, merged) changes. The store applies all of it or nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochCommit {
    /// The newest epoch inside.
    pub epoch: u64,
    /// Next offsets of the partitions that moved.
    pub positions: Positions,
    /// Of the record before each position in `positions`.
    pub fingerprints: BTreeMap<TopicPartition, Fingerprint>,
    pub clock: ClockState,
    /// Where what is too old changed; by partition, in the order of offsets.
    pub cuts: Vec<(TopicPartition, RetentionCut)>,
    /// Changes of the sums per (service, second); consolidated, no zero. The empty service is the whole stream.
    pub seconds: Vec<(CompactString, i64, Sums)>,
    /// Sums of seconds before this one are no longer needed.
    pub forget_seconds_before: i64,
    pub hourly: Vec<HourlyDelta>,
    /// Detector state per service as opaque bytes; `None`: the service gave up its slot. Empty: it holds a slot and
    /// has no state yet.
    pub detectors: Vec<(CompactString, Option<Vec<u8>>)>,
    /// Counts by host and shape as opaque bytes, per service and minute (epoch seconds of its begin).
    pub minutes: Vec<(CompactString, i64, Vec<u8>)>,
    /// Those of minutes that begin before this are no longer needed.
    pub forget_minutes_before: i64,
    /// What became of the patterns.
    pub patterns: PatternChanges,
    /// What became known of baselines that warm up. For services that hold a slot.
    pub warmth: Vec<Warmth>,
    pub episodes: Vec<EpisodeChange>,
    pub evidence: Vec<Evidence>,
    /// Scores that are higher than any of their minute before, or were when they were made.
    pub scores: Vec<WindowScore>,
    /// Models that came into force.
    pub models: Vec<ModelSwap>,
    /// All rows of `feedback` up to this one are in; `None`: no more than before.
    pub feedback_seq: Option<i64>,
}

impl EpochCommit {
    /// Folds a later commit into this one, so that epochs merge while the store is busy.
    pub fn merge(&mut self, later: EpochCommit) {
        self.epoch = later.epoch;
        self.positions.extend(later.positions);
        self.fingerprints.extend(later.fingerprints);
        self.clock = later.clock;
        self.cuts.extend(later.cuts);
        self.forget_seconds_before = later.forget_seconds_before;
        self.seconds.extend(later.seconds);
        self.hourly.extend(later.hourly);
        self.detectors.extend(later.detectors);
        self.minutes.extend(later.minutes);
        self.forget_minutes_before = later.forget_minutes_before;
        self.patterns.merge(later.patterns);
        self.warmth.extend(later.warmth);
        self.episodes.extend(later.episodes);
        self.evidence.extend(later.evidence);
        self.scores.extend(later.scores);
        self.models.extend(later.models);
        self.feedback_seq = later.feedback_seq.max(self.feedback_seq);
    }

    /// Sums up what merging left side by side, so that each key is written once. Episode changes stay apart: each is
    /// an event of its own.
    pub fn consolidate(&mut self) {
        let mut seconds: BTreeMap<(CompactString, i64), Sums> = BTreeMap::new();
        let keep = self.forget_seconds_before;
        for (service, second, sums) in self.seconds.drain(..).filter(|(_, second, _)| *second >= keep) {
            *seconds.entry((service, second)).or_default() += sums;
        }
        seconds.retain(|_, sums| !sums.is_empty());
        self.seconds = seconds.into_iter().map(|((service, second), sums)| (service, second, sums)).collect();

        let mut hourly: BTreeMap<(i64, CompactString), (i64, i64)> = BTreeMap::new();
        for delta in self.hourly.drain(..) {
            let sum = hourly.entry((delta.hour, delta.service)).or_default();
            *sum = (sum.0 + delta.logs, sum.1 + delta.errors);
        }
        hourly.retain(|_, sum| *sum != (0, 0));
        let delta = |((hour, service), (logs, errors))| HourlyDelta { hour, service, logs, errors };
        self.hourly = hourly.into_iter().map(delta).collect();

        let newest: BTreeMap<_, _> =
            self.evidence.drain(..).map(|evidence| (evidence.key.clone(), evidence)).collect();
        self.evidence = newest.into_values().collect();

        let newest: BTreeMap<_, _> = self.detectors.drain(..).collect();
        self.detectors = newest.into_iter().collect();

        self.patterns.consolidate();

        let keep = self.forget_minutes_before;
        let young = self.minutes.drain(..).filter(|(_, minute, _)| *minute >= keep);
        let newest: BTreeMap<_, _> =
            young.map(|(service, minute, state)| ((service, minute), state)).collect();
        self.minutes =
            newest.into_iter().map(|((service, minute), state)| (service, minute, state)).collect();

        let newest: BTreeMap<_, _> =
            self.warmth.drain(..).map(|warmth| (warmth.service.clone(), warmth)).collect();
        self.warmth = newest.into_values().collect();

        let mut highest: BTreeMap<_, WindowScore> = BTreeMap::new();
        for score in self.scores.drain(..) {
            let key = (score.minute, score.service.clone(), score.role);
            let known = highest.entry(key).or_insert_with(|| score.clone());
            let would_raise = known.would_raise.or(score.would_raise);
            if score.score > known.score {
                *known = score;
            }
            known.would_raise = would_raise;
        }
        self.scores = highest.into_values().collect();
    }

    /// Memory that the commit holds on to, roughly, bytes.
    pub fn bytes(&self) -> usize {
        let detectors: usize =
            self.detectors.iter().map(|(_, state)| state.as_ref().map_or(0, Vec::len) + 64).sum();
        (self.seconds.len() + self.hourly.len() + self.cuts.len()) * 64
            + (self.episodes.len() + self.evidence.len() * 4) * 1024
            + detectors
            + self.patterns.bytes()
            + self.minutes.iter().map(|(_, _, state)| state.len() + 64).sum::<usize>()
            + self.scores.len() * 128
    }

    /// Whether nothing but the clock and the epoch moved.
    pub fn only_ticks(&self) -> bool {
        self.positions.is_empty()
            && self.seconds.is_empty()
            && self.hourly.is_empty()
            && self.detectors.is_empty()
            && self.minutes.is_empty()
            && self.patterns.is_empty()
            && self.episodes.is_empty()
            && self.scores.is_empty()
            && self.models.is_empty()
            && self.feedback_seq.is_none()
    }
}

/// What the store holds of a pipeline: where to go on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Next offsets of the aggregates; empty for a new pipeline.
    pub positions: Positions,
    pub fingerprints: BTreeMap<TopicPartition, Fingerprint>,
    /// `None` for a new pipeline.
    pub clock: Option<ClockState>,
    pub seconds: Vec<(CompactString, i64, Sums)>,
    pub detectors: Vec<(CompactString, Vec<u8>)>,
    /// Counts by host and shape, per service and minute.
    pub minutes: Vec<(CompactString, i64, Vec<u8>)>,
    /// Every shape that is remembered.
    pub shapes: Vec<KnownShape>,
    /// Episodes that are not closed, and closed ones that late data can still change.
    pub episodes: Vec<Episode>,
    /// The model in force of each role.
    pub models: Vec<ModelSwap>,
    /// The rows of `feedback` up to this one were taken in.
    pub feedback_seq: i64,
}
