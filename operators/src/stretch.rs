//! The logs themselves, for whoever wants them: what the fold reads of a partition, cut into stretches without a gap.
//!
//! ```text
//!   offsets   0 ………… 4,000 ………… 9,000 ………………… 31,000 …
//!             │ kept    │ kept    │ skipped        │ kept          one stretch ends where the next begins
//!             └ wanted by some sink                └ wanted again
//! ```
//!
//! A stretch that nobody wants carries offsets alone: its records are parsed only as far as the aggregates need. What
//! becomes of a record is decided here for everybody who reads it, whenever that is: see [`append`].

use crate::parse::{ParsedCore, ParsedLog, Parser, Reject, Scratch};
use crate::patterns::Shaper;
use crate::record::Record;
use smartlog_schema::commit::RetentionCut;
use smartlog_schema::dead_letter::{DeadLetter, MAX_PAYLOAD_BYTES, Reason};
use smartlog_schema::log::{LogBatch, LogRef};
use smartlog_schema::position::TopicPartition;
use smartlog_schema::window::{HOUR, MICROS};
use std::cell::RefCell;
use std::rc::Rc;

/// A stretch is handed on once it holds this many bytes.
pub const MAX_STRETCH_BYTES: usize = 1 << 20;

/// Consecutive offsets of one partition.
#[derive(Debug, Clone)]
pub struct Stretch {
    /// The partition's place among those of its source.
    pub slot: u32,
    /// What the offsets became; without logs and dead letters when it is not `kept`.
    pub batch: LogBatch,
    /// Whether somebody wanted the logs while it was read.
    pub kept: bool,
    /// Logs before this were too old, microseconds; `i64::MIN`: none was.
    pub before_us: i64,
}

/// What the sinks want of one partition. Written by them, read by the fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// Which sinks the partition's logs are sent to at first, a bit each.
    pub attached: u64,
    /// Whether anybody wants the logs from the next record on.
    pub keep: bool,
    /// Whether the next closing of an epoch must show a stretch, even an empty one; the fold takes it back.
    pub asked: bool,
}

/// By slot; as long as the source's partitions.
pub type Wants = Rc<RefCell<Vec<Want>>>;

/// The stretch of one partition that is being gathered.
#[derive(Debug)]
pub(crate) struct Gathering {
    slot: u32,
    pub batch: LogBatch,
    pub keeps: bool,
    /// Where what is too old changed, since they were last taken.
    pub cuts: Vec<RetentionCut>,
}

impl Gathering {
    pub fn new(slot: u32, source: TopicPartition, first_offset: i64, keeps: bool) -> Self {
        Gathering { slot, batch: LogBatch::new(source, first_offset), keeps, cuts: Vec::new() }
    }

    /// Whether anything was gathered.
    pub fn has_moved(&self) -> bool {
        self.batch.next_offset > self.batch.first_offset
    }

    /// What was gathered; the next stretch begins where this one ends.
    pub fn cut(&mut self, before_us: i64) -> Stretch {
        Stretch { slot: self.slot, batch: self.batch.cut(), kept: self.keeps, before_us }
    }
}

/// Logs before this event time are too old, microseconds; `i64::MIN` while nothing is known, or kept for ever.
///
/// Moves in steps of an hour of event time. So the offsets at which it moved are few, they are stored with the
/// aggregates ([`RetentionCut`]), and whoever reads a partition later comes to the same verdict.
pub fn too_old_before(clock_us: i64, retention_us: Option<i64>) -> i64 {
    match retention_us {
        Some(retention_us) if clock_us != 0 => {
            let step_us = HOUR * MICROS;
            (clock_us.div_euclid(step_us) * step_us).saturating_sub(retention_us)
        }
        _ => i64::MIN,
    }
}

/// A log, as far as it is counted.
#[derive(Debug, Clone, Copy)]
pub struct Counted<'a> {
    pub core: ParsedCore<'a>,
    /// The shape of its message; 0 where shapes are off. Then no host is known, either.
    pub shape: u64,
    pub host: Option<&'a str>,
    pub message: &'a str,
}

impl<'a> Counted<'a> {
    fn of(log: &ParsedLog<'a>, shape: u64) -> Self {
        let ParsedLog { timestamp_us, level, service, message_chars, host, message, .. } = *log;
        Counted { core: ParsedCore { timestamp_us, level, service, message_chars }, shape, host, message }
    }
}

/// How one thread reads records.
#[derive(Debug)]
pub struct Reading<'p> {
    pub parser: &'p Parser,
    /// Stands in for the time of a record that has none, microseconds.
    pub wall_us: i64,
    /// Logs before this are too old, microseconds.
    pub before_us: i64,
}

/// Parses `record`, and appends the log or dead letter that it is to `batch`.
///
/// # Errors
/// Why the record is no log; the dead letter is in the batch then.
pub fn append<'a>(
    batch: &mut LogBatch,
    record: &Record<'a>,
    reading: &Reading<'_>,
    scratch: &'a mut Scratch,
    shaper: &mut Shaper,
) -> Result<Counted<'a>, Reject> {
    let now_us = Some(record.record_time_us.unwrap_or(reading.wall_us));
    let parsed = reading.parser.parse(record.payload, now_us, scratch);
    let parsed = parsed.and_then(|log| check_age(log.timestamp_us, reading.before_us).map(|()| log));
    batch.next_offset = record.offset + 1;
    match parsed {
        Ok(log) => {
            let shape = shaper.shape_of(log.message);
            batch.push(&log_of(record, &log, shape));
            Ok(Counted::of(&log, shape))
        }
        Err(reject) => {
            batch.dead_letters.push(dead_letter(batch.source.partition, record, &reject));
            Err(reject)
        }
    }
}

/// As [`append`] for a record that no sink wants: the fields that are counted cost a third less, without shapes.
///
/// # Errors
/// The same.
pub fn count<'a>(
    record: &Record<'a>,
    reading: &Reading<'_>,
    scratch: &'a mut Scratch,
    shaper: &mut Shaper,
) -> Result<Counted<'a>, Reject> {
    let now_us = Some(record.record_time_us.unwrap_or(reading.wall_us));
    let counted = if shaper.is_on() {
        let log = reading.parser.parse_text(record.payload, now_us, scratch)?;
        Counted::of(&log, shaper.shape_of(log.message))
    } else {
        let core = reading.parser.parse_core(record.payload, now_us, scratch)?;
        Counted { core, shape: 0, host: None, message: "" }
    };
    check_age(counted.core.timestamp_us, reading.before_us).map(|()| counted)
}

fn check_age(timestamp_us: i64, before_us: i64) -> Result<(), Reject> {
    if timestamp_us >= before_us {
        return Ok(());
    }
    Err(Reject {
        reason: Reason::BeforeRetention,
        detail: "the timestamp lies before the retention (time.retention), counted from the clock's hour"
            .into(),
    })
}

fn log_of<'a>(record: &Record<'_>, log: &ParsedLog<'a>, shape: u64) -> LogRef<'a> {
    LogRef {
        offset: record.offset,
        timestamp_us: log.timestamp_us,
        level: log.level,
        service: log.service,
        host: log.host,
        message: log.message,
        metadata: log.metadata,
        shape: shape.cast_signed(),
    }
}

fn dead_letter(partition: i32, record: &Record<'_>, reject: &Reject) -> DeadLetter {
    let payload = record.payload.unwrap_or_default();
    DeadLetter {
        partition,
        offset: record.offset,
        reason: reject.reason,
        detail: reject.detail.clone().into_owned(),
        payload: payload[..payload.len().min(MAX_PAYLOAD_BYTES)].to_vec(),
    }
}
