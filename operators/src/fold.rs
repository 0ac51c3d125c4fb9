//! Records in; partial sums, log batches and dead letters out. The only place that touches every log, so it borrows
//! and folds: what leaves it is a few sums per service and second, however many logs came.
//!
//! ```text
//!                      ┌──▶ partials   one per (service, second) and epoch        ──▶ admit
//!   Input ──▶ fold ────┼──▶ reports    one per partition and epoch                ──▶ clock
//!                      └──▶ logs       batches per partition, dead letters inside ──▶ raw sinks, same worker
//! ```

use crate::clock::PartitionTime;
use crate::parse::{ParsedCore, ParsedLog, Parser, Reject, Scratch};
use crate::record::{Epoch, Input, Partial, Partition, Record, Records, Report, WHOLE_STREAM};
use crate::settings;
use crate::sums::Sums;
use compact_str::CompactString;
use foldhash::HashMap;
use smartlog_schema::commit::Fingerprint;
use smartlog_schema::dead_letter::{DeadLetter, MAX_PAYLOAD_BYTES, Reason};
use smartlog_schema::log::{LogBatch, LogRef};
use smartlog_schema::position::TopicPartition;
use smartlog_schema::window::bucket_of;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

/// Partials are sent before the epoch ends once there are this many: bounds memory when every log is of another
/// service and second.
const MAX_PARTIALS: usize = 1 << 16;
/// Service names that are remembered with a number each; the memory starts over when it is full (hostile input).
const MAX_INTERNED: usize = 1 << 17;
/// A log batch is handed on once it holds this many bytes.
const MAX_BATCH_BYTES: usize = 1 << 20;

/// What became of the records, counted. Shared with whoever publishes it; `records = logs + dead letters`.
#[derive(Debug, Default)]
pub struct Outcomes {
    pub records: AtomicU64,
    pub bytes: AtomicU64,
    pub logs: AtomicU64,
    /// By [`Reason`], in the order of [`Reason::ALL`].
    pub dead_letters: [AtomicU64; Reason::ALL.len()],
}

/// What the fold needs to know besides the records.
#[derive(Clone)]
pub struct Context {
    pub parser: Arc<Parser>,
    pub time: settings::Time,
    /// Logs further than this behind the clock are dead letters, microseconds; `None`: none is.
    pub retention_us: Option<i64>,
    /// Whether anybody wants the logs themselves.
    pub raw: bool,
    /// The newest clock, microseconds; 0 while unknown. Written where the ticks are made.
    pub clock_us: Rc<Cell<i64>>,
    /// Event time of the newest log of each partition, by slot: how far reading is, before any epoch closes.
    pub live: Rc<RefCell<Vec<Option<i64>>>>,
    /// Wall time at start, microseconds: what "the future" means for records without a time of their own.
    pub wall_us: i64,
    pub outcomes: Arc<Outcomes>,
}

struct PartitionState {
    source: TopicPartition,
    aggregate_from: i64,
    raw_from: i64,
    time: PartitionTime,
    fingerprint: Option<Fingerprint>,
    batch: LogBatch,
}

/// The state behind the operator; pure, so that tests can drive it without a dataflow.
pub struct Fold {
    context: Context,
    scratch: Scratch,
    wall_us: i64,
    partitions: Vec<PartitionState>,
    services: HashMap<CompactString, u32>,
    names: Vec<CompactString>,
    partials: HashMap<(u32, i64), Sums>,
    full_batches: Vec<LogBatch>,
}

impl Fold {
    pub fn new(context: Context) -> Self {
        Fold {
            wall_us: context.wall_us,
            context,
            scratch: Scratch::default(),
            partitions: Vec::new(),
            services: HashMap::default(),
            names: Vec::new(),
            partials: HashMap::default(),
            full_batches: Vec::new(),
        }
    }

    /// Takes note of partitions that are new.
    pub fn partitions(&mut self, partitions: &[Partition]) {
        for partition in &partitions[self.partitions.len()..] {
            self.partitions.push(PartitionState {
                source: partition.source.clone(),
                aggregate_from: partition.aggregate_from,
                raw_from: partition.raw_from,
                time: PartitionTime::new(partition.time_us),
                fingerprint: None,
                batch: LogBatch::new(partition.source.clone(), partition.next_offset),
            });
        }
    }

    /// Folds records in.
    pub fn records(&mut self, records: &dyn Records) {
        let (mut logs, mut bytes) = (0, 0);
        let mut last_of_slot = [None::<usize>; 64];
        for index in 0..records.len() {
            let record = records.get(index);
            bytes += record.payload.map_or(0, <[u8]>::len) as u64;
            logs += u64::from(self.record(&record));
            match last_of_slot.get_mut(record.slot as usize) {
                Some(last) => *last = Some(index),
                None => self.fingerprint(&record),
            }
        }
        for index in last_of_slot.into_iter().flatten() {
            self.fingerprint(&records.get(index));
        }
        self.publish_live_times();
        let outcomes = &self.context.outcomes;
        outcomes.records.fetch_add(records.len() as u64, Ordering::Relaxed);
        outcomes.bytes.fetch_add(bytes, Ordering::Relaxed);
        outcomes.logs.fetch_add(logs, Ordering::Relaxed);
    }

    /// Folds one record in; whether it is a log.
    fn record(&mut self, record: &Record<'_>) -> bool {
        let partition = &mut self.partitions[record.slot as usize];
        let now_us = Some(record.record_time_us.unwrap_or(self.wall_us));
        let context = &self.context;
        let core = if context.raw && record.offset >= partition.raw_from {
            let parsed = context.parser.parse(record.payload, now_us, &mut self.scratch);
            let parsed =
                parsed.and_then(|log| keep_within_retention(log.timestamp_us, context).map(|()| log));
            append(&mut partition.batch, record, &parsed);
            if partition.batch.bytes() >= MAX_BATCH_BYTES {
                let next = LogBatch::new(partition.source.clone(), partition.batch.next_offset);
                self.full_batches.push(std::mem::replace(&mut partition.batch, next));
            }
            parsed.map(|log| core_of(&log))
        } else {
            // Nobody wants the text: the fields that are counted cost a third less.
            let parsed = context.parser.parse_core(record.payload, now_us, &mut self.scratch);
            parsed.and_then(|log| keep_within_retention(log.timestamp_us, context).map(|()| log))
        };
        let log = match core {
            Ok(log) => log,
            Err(reject) => {
                context.outcomes.dead_letters[reject.reason as usize].fetch_add(1, Ordering::Relaxed);
                return false;
            }
        };
        if record.offset >= partition.aggregate_from {
            if partition.time.observe(log.timestamp_us, record.record_time_us) {
                settle(partition, context, self.wall_us, false);
            }
            let service = match self.services.get(log.service) {
                Some(&service) => service,
                None => intern(&mut self.services, &mut self.names, log.service),
            };
            let sums = Sums::one(log.level.is_error(), i64::from(log.message_chars));
            *self.partials.entry((service, bucket_of(log.timestamp_us))).or_default() += sums;
        }
        true
    }

    fn publish_live_times(&self) {
        let mut live = self.context.live.borrow_mut();
        live.clear();
        live.extend(self.partitions.iter().map(|partition| partition.time.latest_us()));
    }

    fn fingerprint(&mut self, record: &Record<'_>) {
        let record_time_ms = record.record_time_us.map(|us| us.div_euclid(1000));
        self.partitions[record.slot as usize].fingerprint = Some(fingerprint(record.payload, record_time_ms));
    }

    /// Whether partials should be sent before the epoch ends.
    fn is_full(&self) -> bool {
        self.partials.len() >= MAX_PARTIALS
    }

    /// The sums folded so far, and those of the whole stream.
    pub fn take_partials(&mut self) -> Vec<Partial> {
        let mut whole: BTreeMap<i64, Sums> = BTreeMap::new();
        let mut partials = Vec::with_capacity(self.partials.len() + 64);
        for ((service, second), sums) in self.partials.drain() {
            *whole.entry(second).or_default() += sums;
            partials.push(Partial { service: self.names[service as usize].clone(), second, sums });
        }
        partials.extend(whole.into_iter().map(|(second, sums)| Partial {
            service: WHOLE_STREAM.clone(),
            second,
            sums,
        }));
        if self.names.len() >= MAX_INTERNED {
            self.services.clear();
            self.names.clear();
        }
        partials
    }

    /// The logs gathered so far.
    pub fn take_batches(&mut self, partitions: Option<&[Partition]>) -> Vec<LogBatch> {
        if !self.context.raw {
            return Vec::new();
        }
        for (slot, state) in self.partitions.iter_mut().enumerate() {
            if let Some(partition) = partitions.map(|p| &p[slot]) {
                // Offsets without a record (compaction, transaction markers) are consumed as well.
                state.batch.next_offset = state.batch.next_offset.max(partition.next_offset);
            }
            if state.batch.next_offset > state.batch.first_offset {
                let next = LogBatch::new(state.source.clone(), state.batch.next_offset);
                self.full_batches.push(std::mem::replace(&mut state.batch, next));
            }
        }
        std::mem::take(&mut self.full_batches)
    }

    /// How far every partition has come.
    pub fn close(&mut self, partitions: &[Partition], wall_us: i64) -> Vec<Report> {
        self.wall_us = wall_us;
        self.partitions(partitions);
        let report = |(state, partition): (&mut PartitionState, &Partition)| {
            let exhausted = partition.at_end || partition.ended;
            let settled = settle(state, &self.context, wall_us, exhausted);
            let time_us = if partition.ended { state.time.finish() } else { settled };
            Report {
                source: state.source.clone(),
                // While a raw branch catches up below it, the aggregates' position stays where it is.
                next_offset: partition.next_offset.max(state.aggregate_from),
                time_us,
                at_end: partition.at_end,
                ended: partition.ended,
                wall_us,
                fingerprint: state.fingerprint,
            }
        };
        self.partitions.iter_mut().zip(partitions).map(report).collect()
    }
}

/// What a record looks like, to know it again. The hash is stored, so it is one that never changes (XXH3).
pub fn fingerprint(payload: Option<&[u8]>, record_time_ms: Option<i64>) -> Fingerprint {
    let hash = xxhash_rust::xxh3::xxh3_64(payload.unwrap_or_default());
    Fingerprint { record_time_ms: record_time_ms.unwrap_or(0), payload_hash: hash.cast_signed() }
}

fn settle(state: &mut PartitionState, context: &Context, wall_us: i64, exhausted: bool) -> Option<i64> {
    let clock_us = Some(context.clock_us.get()).filter(|&us| us != 0);
    state.time.settle(clock_us, wall_us, exhausted, &context.time)
}

fn intern(services: &mut HashMap<CompactString, u32>, names: &mut Vec<CompactString>, service: &str) -> u32 {
    let name = CompactString::new(service);
    let number = names.len() as u32;
    names.push(name.clone());
    services.insert(name, number);
    number
}

fn keep_within_retention(timestamp_us: i64, context: &Context) -> Result<(), Reject> {
    match context.retention_us {
        Some(retention_us) if timestamp_us < context.clock_us.get() - retention_us => Err(Reject {
            reason: Reason::BeforeRetention,
            detail: "the timestamp lies before the retention (time.retention), counted from the clock".into(),
        }),
        _ => Ok(()),
    }
}

fn core_of<'a>(log: &ParsedLog<'a>) -> ParsedCore<'a> {
    let ParsedLog { timestamp_us, level, service, message_chars, .. } = *log;
    ParsedCore { timestamp_us, level, service, message_chars }
}

fn append(batch: &mut LogBatch, record: &Record<'_>, parsed: &Result<ParsedLog<'_>, Reject>) {
    match parsed {
        Ok(log) => batch.push(&LogRef {
            offset: record.offset,
            timestamp_us: log.timestamp_us,
            level: log.level,
            service: log.service,
            host: log.host,
            message: log.message,
            metadata: log.metadata,
            shape: 0,
        }),
        Err(reject) => batch.dead_letters.push(dead_letter(batch.source.partition, record, reject)),
    }
    batch.next_offset = record.offset + 1;
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

/// The three streams that [`fold`] makes.
pub struct Folded<'scope> {
    pub partials: StreamVec<'scope, Epoch, Partial>,
    pub reports: StreamVec<'scope, Epoch, Report>,
    pub logs: StreamVec<'scope, Epoch, LogBatch>,
}

/// Parses and folds what the source of this worker reads.
pub fn fold<'scope>(input: StreamVec<'scope, Epoch, Input>, context: Context) -> Folded<'scope> {
    let mut builder = OperatorBuilder::new("fold".to_owned(), input.scope());
    let mut input = builder.new_input(input, Pipeline);
    let (partials_out, partials) = builder.new_output();
    let (reports_out, reports) = builder.new_output();
    let (logs_out, logs) = builder.new_output();
    let mut partials_out = OutputBuilder::from(partials_out);
    let mut reports_out = OutputBuilder::from(reports_out);
    let mut logs_out = OutputBuilder::from(logs_out);
    builder.build(move |capabilities| {
        drop(capabilities);
        let mut fold = Fold::new(context);
        // Sums of an epoch wait for its end under its capability.
        let mut held: Option<Capability<Epoch>> = None;
        move |_frontiers| {
            let mut partials_out = partials_out.activate();
            let mut reports_out = reports_out.activate();
            let mut logs_out = logs_out.activate();
            input.for_each(|cap, messages| {
                for message in messages.drain(..) {
                    match message {
                        Input::Partitions(partitions) => fold.partitions(&partitions),
                        Input::Records(records) => {
                            fold.records(&*records);
                            held = held.take().or_else(|| cap.retain_least(0));
                            let Some(held) = &held else { continue };
                            if fold.is_full() {
                                partials_out.session(held).give_iterator(fold.take_partials().into_iter());
                            }
                        }
                        Input::Close { partitions, wall_us } => {
                            if let Some(held) = held.take() {
                                partials_out.session(&held).give_iterator(fold.take_partials().into_iter());
                            }
                            reports_out
                                .session(&cap)
                                .give_iterator(fold.close(&partitions, wall_us).into_iter());
                            logs_out
                                .session(&cap)
                                .give_iterator(fold.take_batches(Some(&partitions)).into_iter());
                        }
                    }
                }
                logs_out.session(&cap).give_iterator(fold.take_batches(None).into_iter());
            });
        }
    });
    Folded { partials, reports, logs }
}
