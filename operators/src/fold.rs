//! Records in; partial sums, log batches and dead letters out. The only place that touches every log, so it borrows
//! and folds: what leaves it is a few sums per service and second, however many logs came.
//!
//! ```text
//!                      ┌──▶ partials   one per (service, second) and epoch        ──▶ admit
//!   Input ──▶ fold ────┼──▶ reports    one per partition and epoch                ──▶ clock
//!                      ├──▶ gathered   counts by host and shape per (service, minute) and epoch ──▶ breakdown
//!                      └──▶ logs       stretches per partition, dead letters inside ──▶ lanes, same worker
//! ```

use crate::breakdown::{Gathered, Gathering as Counts, Place};
use crate::clock::PartitionTime;
use crate::parse::{Parser, Scratch};
use crate::partials::Partials;
use crate::patterns::Shaper;
use crate::record::{Epoch, Input, Partial, Partition, Record, Records, Report};
use crate::settings;
use crate::stretch::{self, Gathering, MAX_STRETCH_BYTES, Reading, Stretch, Want, Wants, too_old_before};
use crate::sums::Sums;
use smartlog_schema::commit::{Fingerprint, RetentionCut};
use smartlog_schema::dead_letter::Reason;
use smartlog_schema::position::TopicPartition;
use smartlog_schema::window::bucket_of;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

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
    /// Who wants the logs themselves; `None`: nobody ever does.
    pub wants: Option<Wants>,
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
    time: PartitionTime,
    fingerprint: Option<Fingerprint>,
    gathering: Gathering,
}

/// The state behind the operator; pure, so that tests can drive it without a dataflow.
pub struct Fold {
    context: Context,
    scratch: Scratch,
    shaper: Shaper,
    wall_us: i64,
    partitions: Vec<PartitionState>,
    partials: Partials,
    counts: Counts,
    /// Logs before this are too old.
    before_us: i64,
    full: Vec<Stretch>,
}

impl Fold {
    pub fn new(context: Context) -> Self {
        Fold {
            wall_us: context.wall_us,
            shaper: context.parser.shaper(),
            context,
            scratch: Scratch::default(),
            partitions: Vec::new(),
            partials: Partials::default(),
            counts: Counts::default(),
            before_us: i64::MIN,
            full: Vec::new(),
        }
    }

    /// Takes note of partitions that are new.
    pub fn partitions(&mut self, partitions: &[Partition]) {
        for partition in &partitions[self.partitions.len()..] {
            let (slot, source, from) =
                (self.partitions.len() as u32, partition.source.clone(), partition.next_offset);
            self.counts.partition(&source);
            let keep = partition.attached != 0;
            let mut gathering = Gathering::new(slot, source.clone(), from, keep);
            if let Some(wants) = &self.context.wants {
                wants.borrow_mut().push(Want { attached: partition.attached, keep, asked: true });
                let known = Some(self.before_us).filter(|&before_us| before_us != i64::MIN);
                gathering.cuts.extend(known.map(|before_us| RetentionCut { from_offset: from, before_us }));
            }
            let time = PartitionTime::new(partition.time_us);
            self.partitions.push(PartitionState { source, time, fingerprint: None, gathering });
        }
    }

    /// Takes note of which logs are wanted and which are too old from the next record on.
    fn look_up(&mut self) {
        let before_us = too_old_before(self.context.clock_us.get(), self.context.retention_us);
        let moved = before_us > self.before_us;
        let Some(wants) = &self.context.wants else {
            self.before_us = self.before_us.max(before_us);
            return;
        };
        for (state, want) in self.partitions.iter_mut().zip(wants.borrow().iter()) {
            let gathering = &mut state.gathering;
            if (moved || want.keep != gathering.keeps) && gathering.has_moved() {
                self.full.push(gathering.cut(self.before_us));
            }
            gathering.keeps = want.keep;
            if moved {
                let from_offset = gathering.batch.next_offset;
                gathering.cuts.push(RetentionCut { from_offset, before_us });
            }
        }
        self.before_us = self.before_us.max(before_us);
    }

    /// Folds records in.
    pub fn records(&mut self, records: &dyn Records) {
        self.look_up();
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
        let (context, before_us) = (&self.context, self.before_us);
        let gathering = &mut partition.gathering;
        let reading = Reading { parser: &context.parser, wall_us: self.wall_us, before_us };
        let (scratch, shaper) = (&mut self.scratch, &mut self.shaper);
        let counted = if gathering.keeps {
            let counted = stretch::append(&mut gathering.batch, record, &reading, scratch, shaper);
            if gathering.batch.filled_bytes() >= MAX_STRETCH_BYTES {
                self.full.push(gathering.cut(before_us));
            }
            counted
        } else {
            gathering.batch.next_offset = record.offset + 1;
            stretch::count(record, &reading, scratch, shaper)
        };
        let (log, counted) = match counted {
            Ok(counted) => (counted.core, counted),
            Err(reject) => {
                context.outcomes.dead_letters[reject.reason as usize].fetch_add(1, Ordering::Relaxed);
                return false;
            }
        };
        if partition.time.observe(log.timestamp_us, record.record_time_us) {
            settle(partition, context, self.wall_us, false);
        }
        let service = self.partials.number(log.service);
        let sums = Sums::one(log.level.is_error(), i64::from(log.message_chars));
        self.partials.add(service, bucket_of(log.timestamp_us), sums);
        if counted.shape != 0 {
            let place = Place { slot: record.slot, offset: record.offset };
            self.counts.add(service, &counted, place);
        }
        true
    }

    /// Whether what was folded should be sent before the epoch ends.
    fn is_full(&self) -> bool {
        self.partials.is_full() || self.counts.is_full()
    }

    /// What was folded since it was last taken.
    fn take(&mut self) -> (Vec<Partial>, Vec<Gathered>) {
        // Numbers of services hold until the sums are taken.
        let gathered = self.counts.take(|service| self.partials.name(service));
        (self.partials.take(), gathered)
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

    /// What was gathered so far. `partitions`: their state when the epoch closes.
    pub fn take_stretches(&mut self, partitions: Option<&[Partition]>) -> Vec<Stretch> {
        self.look_up();
        let Some(wants) = &self.context.wants else { return Vec::new() };
        let mut wants = wants.borrow_mut();
        for (slot, state) in self.partitions.iter_mut().enumerate() {
            let gathering = &mut state.gathering;
            let mut asked = false;
            if let Some(partition) = partitions.map(|p| &p[slot]) {
                // Offsets without a record (compaction, transaction markers) are consumed as well.
                gathering.batch.next_offset = gathering.batch.next_offset.max(partition.next_offset);
                asked = std::mem::take(&mut wants[slot].asked);
            }
            if asked || gathering.has_moved() {
                self.full.push(gathering.cut(self.before_us));
            }
        }
        std::mem::take(&mut self.full)
    }

    /// How far every partition has come.
    pub fn close(&mut self, partitions: &[Partition], wall_us: i64) -> Vec<Report> {
        self.wall_us = wall_us;
        self.partitions(partitions);
        let report = |(state, partition): (&mut PartitionState, &Partition)| {
            let exhausted = partition.at_end || partition.ended;
            let settled = settle(state, &self.context, wall_us, exhausted);
            let time_us = if partition.ended { state.time.finish(&self.context.time) } else { settled };
            Report {
                source: state.source.clone(),
                next_offset: partition.next_offset,
                time_us,
                at_end: partition.at_end,
                ended: partition.ended,
                wall_us,
                fingerprint: state.fingerprint,
                cuts: std::mem::take(&mut state.gathering.cuts),
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

/// The streams that [`fold`] makes.
pub struct Folded<'scope> {
    pub partials: StreamVec<'scope, Epoch, Partial>,
    pub reports: StreamVec<'scope, Epoch, Report>,
    /// Empty while shapes are off.
    pub gathered: StreamVec<'scope, Epoch, Gathered>,
    pub logs: StreamVec<'scope, Epoch, Stretch>,
}

/// Parses and folds what the source of this worker reads.
pub fn fold<'scope>(input: StreamVec<'scope, Epoch, Input>, context: Context) -> Folded<'scope> {
    let mut builder = OperatorBuilder::new("fold".to_owned(), input.scope());
    let mut input = builder.new_input(input, Pipeline);
    let (partials_out, partials) = builder.new_output();
    let (reports_out, reports) = builder.new_output();
    let (logs_out, logs) = builder.new_output();
    let (gathered_out, gathered) = builder.new_output();
    let mut partials_out = OutputBuilder::from(partials_out);
    let mut reports_out = OutputBuilder::from(reports_out);
    let mut logs_out = OutputBuilder::from(logs_out);
    let mut gathered_out = OutputBuilder::from(gathered_out);
    builder.build(move |capabilities| {
        drop(capabilities);
        let mut fold = Fold::new(context);
        // Sums of an epoch wait for its end under its capability.
        let mut held: Option<[Capability<Epoch>; 2]> = None;
        move |_frontiers| {
            let mut partials_out = partials_out.activate();
            let mut reports_out = reports_out.activate();
            let mut logs_out = logs_out.activate();
            let mut gathered_out = gathered_out.activate();
            let mut send = |[partials_cap, gathered_cap]: &[Capability<Epoch>; 2], fold: &mut Fold| {
                let (partials, gathered) = fold.take();
                partials_out.session(partials_cap).give_iterator(partials.into_iter());
                gathered_out.session(gathered_cap).give_iterator(gathered.into_iter());
            };
            input.for_each(|cap, messages| {
                for message in messages.drain(..) {
                    match message {
                        Input::Partitions(partitions) => fold.partitions(&partitions),
                        Input::Records(records) => {
                            fold.records(&*records);
                            held = held.take().or_else(|| Some([cap.retain_least(0)?, cap.retain_least(3)?]));
                            let Some(held) = &held else { continue };
                            if fold.is_full() {
                                send(held, &mut fold);
                            }
                        }
                        Input::Close { partitions, wall_us } => {
                            if let Some(held) = held.take() {
                                send(&held, &mut fold);
                            }
                            reports_out
                                .session(&cap)
                                .give_iterator(fold.close(&partitions, wall_us).into_iter());
                            logs_out
                                .session(&cap)
                                .give_iterator(fold.take_stretches(Some(&partitions)).into_iter());
                        }
                    }
                }
                logs_out.session(&cap).give_iterator(fold.take_stretches(None).into_iter());
            });
        }
    });
    Folded { partials, reports, gathered, logs }
}
