//! What flows between the operators.
//!
//! ```text
//!   source ──Input──▶ parse ──Partial──▶ admit ──Keyed──▶ window ──▶ detect ──Change──▶ committer
//!                       └──Report──▶ clock ──Tick──▶ (window, detect, committer)
//! ```

use crate::sums::Sums;
use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use smartlog_schema::anomaly::{Episode, EpisodeChange};
use smartlog_schema::commit::{ClockState, Evidence, Fingerprint, RetentionCut, Warmth};
use smartlog_schema::model::{ModelSwap, WindowScore};
use smartlog_schema::pattern::PatternChanges;
use smartlog_schema::position::TopicPartition;
use std::rc::Rc;

/// The timely timestamp: ticks of wall time. Event time is data, never a timestamp (docs/decisions).
pub type Epoch = u64;

/// The name under which the whole stream is aggregated; no service can have it.
pub static WHOLE_STREAM: CompactString = CompactString::const_new("");
/// The name that services beyond `max_services` share.
pub const OVERFLOW: CompactString = CompactString::const_new("__overflow__");

/// One record as a source read it.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Which of the source's partitions, by slot (see [`Partition`]).
    pub slot: u32,
    pub offset: i64,
    /// Kafka record time, microseconds; `None` where there is none.
    pub record_time_us: Option<i64>,
    pub payload: Option<&'a [u8]>,
}

/// Records that a source hands over in one piece, so that bytes are borrowed from it rather than copied.
pub trait Records {
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The record at `index`; records of one slot are in offset order.
    fn get(&self, index: usize) -> Record<'_>;
}

/// A partition that a source reads, as of the end of an epoch.
#[derive(Debug, Clone)]
pub struct Partition {
    pub source: TopicPartition,
    /// Everything below was handed over.
    pub next_offset: i64,
    /// Nothing is unread, and that was confirmed within the last second.
    pub at_end: bool,
    /// Nothing will ever come again.
    pub ended: bool,
    /// Which log sinks its logs are sent to from the start, a bit each.
    pub attached: u64,
    /// The event time that it had come to when its state was stored, microseconds.
    pub time_us: Option<i64>,
}

/// What a source says.
#[derive(Clone)]
pub enum Input {
    /// Every partition that the source reads, by slot; comes before the first record of a new one.
    Partitions(Vec<Partition>),
    Records(Rc<dyn Records>),
    /// The epoch is over; the state of every partition, by slot.
    Close {
        partitions: Vec<Partition>,
        wall_us: i64,
    },
}

/// Sums of one service over one second, as far as one worker saw them in one epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partial {
    pub service: CompactString,
    pub second: i64,
    pub sums: Sums,
}

/// How far one partition has come, at the end of an epoch. Broadcast.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub source: TopicPartition,
    pub next_offset: i64,
    /// The partition's event time, microseconds; `None` while that is undecided.
    pub time_us: Option<i64>,
    pub at_end: bool,
    pub ended: bool,
    pub wall_us: i64,
    pub fingerprint: Option<Fingerprint>,
    /// Where in this epoch what is too old changed.
    pub cuts: Vec<RetentionCut>,
}

/// Event time at the end of an epoch; the same on every worker.
#[derive(Debug, Clone)]
pub struct Tick {
    /// `clock_us` is 0 while no event time is known.
    pub clock: Rc<ClockState>,
    /// The input is over: what is not final now becomes final.
    pub ended: bool,
    /// Where the watermark stood when this run began, epoch seconds; `None` for a new pipeline.
    pub resumed_from: Option<i64>,
}

impl Tick {
    /// The second in which the clock stands.
    pub fn clock_second(&self) -> i64 {
        smartlog_schema::window::bucket_of(self.clock.clock_us)
    }

    /// Windows that end at or before this second are final.
    pub fn final_through(&self) -> i64 {
        smartlog_schema::window::bucket_of(self.clock.watermark_us)
    }

    /// Whether any event time is known.
    pub fn is_known(&self) -> bool {
        self.clock.clock_us != 0
    }
}

/// What goes to the worker that owns a service: new sums, or what a restart brings back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Keyed {
    Partial(Partial),
    SeedSecond(Partial),
    SeedDetector {
        service: CompactString,
        state: Vec<u8>,
    },
    SeedEpisode(Box<Episode>),
    /// The counts by part of a minute, see [`crate::breakdown`].
    SeedMinute {
        service: CompactString,
        minute: i64,
        state: Vec<u8>,
    },
}

impl Keyed {
    /// Whether a restart brings it back.
    pub fn is_seed(&self) -> bool {
        !matches!(self, Keyed::Partial(_))
    }

    /// The service that decides which worker it goes to.
    pub fn service(&self) -> &CompactString {
        match self {
            Keyed::Partial(partial) | Keyed::SeedSecond(partial) => &partial.service,
            Keyed::SeedDetector { service, .. } | Keyed::SeedMinute { service, .. } => service,
            Keyed::SeedEpisode(episode) => episode.key.service.as_ref().unwrap_or(&WHOLE_STREAM),
        }
    }
}

/// What an epoch changes in the store; gathered by the committer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Change {
    Second(Partial),
    Hour {
        service: CompactString,
        hour: i64,
        logs: i64,
        errors: i64,
    },
    /// `None`: the service gave up its slot.
    Detector {
        service: CompactString,
        state: Option<Vec<u8>>,
    },
    /// What became of the patterns.
    Patterns(Box<PatternChanges>),
    /// The counts by part of a minute.
    Minute {
        service: CompactString,
        minute: i64,
        state: Vec<u8>,
    },
    /// What a baseline that warms up knows by now.
    Warmth(Warmth),
    Episode(Box<EpisodeChange>),
    Score(Box<WindowScore>),
    Model(Box<ModelSwap>),
    /// What the decision of an episode rested on.
    Evidence(Box<Evidence>),
    /// The rows of `feedback` up to this one are taken in.
    Feedback(i64),
}
