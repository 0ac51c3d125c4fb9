//! Reads partitions for one lane alone, from offsets of its own, by the same rules as the pipeline and never past it.

use super::Front;
use crate::sources::gap;
use crate::sources::kafka::Settings;
use crate::sources::kafka_batch::{Notice, Queue};
use crate::sources::kafka_client::{Client, client_of_a_lane};
use crate::sources::wall_us;
use anyhow::Context as _;
use rdkafka::consumer::Consumer;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use smartlog_operators::parse::{Parser, Scratch};
use smartlog_operators::patterns::Shaper;
use smartlog_operators::record::Records;
use smartlog_operators::stretch::{MAX_STRETCH_BYTES, Reading, append};
use smartlog_schema::log::LogBatch;
use smartlog_schema::position::TopicPartition;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Records taken at a time.
const RECORDS_PER_POLL: usize = 4096;

/// A partition that a lane wants to read for itself: offsets `[from, to)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub source: TopicPartition,
    pub from: i64,
    pub to: i64,
}

struct Slot {
    /// What is read now; `batch` begins where the last one ended.
    batch: LogBatch,
    to: i64,
    is_assigned: bool,
    /// A record at or beyond `to` was seen, and dropped: it must be fetched again.
    is_past: bool,
}

/// A consumer of its own.
pub(super) struct Follower {
    // Declared before the client that it belongs to: dropped first.
    queue: Queue,
    client: Arc<Client>,
    settings: Arc<Settings>,
    parser: Arc<Parser>,
    front: Arc<Front>,
    scratch: Scratch,
    shaper: Shaper,
    slots: Vec<Slot>,
}

impl Follower {
    pub fn new(settings: Arc<Settings>, parser: Arc<Parser>, front: Arc<Front>) -> anyhow::Result<Self> {
        let client = Arc::new(client_of_a_lane(&settings)?);
        Ok(Follower {
            queue: Queue::of(Arc::clone(&client))?,
            client,
            settings,
            shaper: parser.shaper(),
            parser,
            front,
            scratch: Scratch::default(),
            slots: Vec::new(),
        })
    }

    /// Reads what is there now of `wanted`, until `most_bytes` are gathered; what was wanted before and is not any
    /// more is let go of. The batches of a partition follow each other from its `from` on. `lost`: counts records that
    /// Kafka deleted before.
    pub fn read(
        &mut self,
        wanted: &[Wanted],
        most_bytes: usize,
        lost: &AtomicU64,
    ) -> anyhow::Result<Vec<LogBatch>> {
        self.assign(wanted)?;
        let (mut bytes, mut full) = (0, Vec::new());
        while bytes < most_bytes {
            let slots = &self.slots;
            let slot_of = |topic: &str, partition: i32| {
                let is_it = |slot: &Slot| {
                    slot.batch.source.partition == partition && slot.batch.source.topic == topic
                };
                let at = slots.iter().position(is_it).filter(|at| slots[*at].is_assigned)?;
                Some((at as u32, i64::MAX))
            };
            let (records, notices) = self.queue.drain(RECORDS_PER_POLL, slot_of);
            let is_empty = records.is_empty() && notices.is_empty();
            self.take(&records, &mut full);
            for notice in notices {
                self.notice(notice, lost)?;
            }
            let begun = self.slots.iter().map(|slot| slot.batch.filled_bytes());
            bytes = full.iter().map(LogBatch::bytes).chain(begun).sum();
            if is_empty {
                break;
            }
        }
        full.extend(self.slots.iter_mut().filter_map(Slot::take));
        Ok(full)
    }

    /// Takes and lets go of partitions, so that exactly `wanted` is read.
    fn assign(&mut self, wanted: &[Wanted]) -> anyhow::Result<()> {
        let (mut leave, mut begin) = (TopicPartitionList::new(), TopicPartitionList::new());
        for slot in &mut self.slots {
            let source = &slot.batch.source;
            let now = wanted.iter().find(|wanted| wanted.source == *source);
            let goes_on = now.is_some_and(|now| now.from == slot.batch.next_offset) && !slot.is_past;
            if slot.is_assigned && !goes_on {
                leave.add_partition(&source.topic, source.partition);
                slot.is_assigned = false;
            }
        }
        for Wanted { source, from, to } in wanted {
            let at = match self.slots.iter().position(|slot| slot.batch.source == *source) {
                Some(at) => at,
                None => {
                    self.slots.push(Slot::new(source, *from));
                    self.slots.len() - 1
                }
            };
            let slot = &mut self.slots[at];
            slot.to = *to;
            if !slot.is_assigned && from < to {
                *slot = Slot { to: *to, is_assigned: true, ..Slot::new(source, *from) };
                begin.add_partition_offset(&source.topic, source.partition, Offset::Offset(*from))?;
            }
        }
        if leave.count() > 0 {
            self.client.incremental_unassign(&leave).context("letting go of partitions")?;
        }
        if begin.count() > 0 {
            self.client.incremental_assign(&begin).context("taking partitions")?;
        }
        Ok(())
    }

    /// Batches that are as large as a stretch of the pipeline are moved to `full`.
    fn take(&mut self, records: &dyn Records, full: &mut Vec<LogBatch>) {
        let wall_us = wall_us();
        let (mut slot, mut cut) = (u32::MAX, (i64::MIN, i64::MIN));
        for index in 0..records.len() {
            let record = records.get(index);
            let state = &mut self.slots[record.slot as usize];
            if record.offset >= state.to {
                // Everything below was seen.
                state.reach(state.to);
                state.is_past = true;
                continue;
            }
            if state.is_past || record.offset < state.batch.next_offset {
                continue;
            }
            if slot != record.slot || record.offset >= cut.1 {
                (slot, cut) = (record.slot, self.front.cut_at(&state.batch.source, record.offset));
            }
            let reading = Reading { parser: &self.parser, wall_us, before_us: cut.0 };
            // What the record became is in the batch, whichever it is.
            let _ = append(&mut state.batch, &record, &reading, &mut self.scratch, &mut self.shaper);
            if state.batch.filled_bytes() >= MAX_STRETCH_BYTES {
                full.push(state.batch.cut());
            }
        }
    }

    fn notice(&mut self, notice: Notice, lost: &AtomicU64) -> anyhow::Result<()> {
        let (Notice::End { topic, partition, .. } | Notice::Error { topic, partition, .. }) = &notice;
        let is_it =
            |slot: &&mut Slot| slot.batch.source.partition == *partition && slot.batch.source.topic == *topic;
        let Some(slot) = self.slots.iter_mut().find(is_it).filter(|slot| slot.is_assigned) else {
            return Ok(());
        };
        match notice {
            // What lies between the last record and the end holds none (markers, compaction).
            Notice::End { offset, .. } => slot.reach(offset.min(slot.to)),
            Notice::Error {
                code: RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange,
                ..
            } => {
                let source = slot.batch.source.clone();
                let begin = gap::first_left(&self.client, &source, slot.batch.next_offset)?;
                lost.fetch_add(gap::passed(&source, slot.batch.next_offset, begin), Ordering::Relaxed);
                slot.reach(begin);
                // Seeking is refused while the client is in trouble with the offset: it is taken anew.
                slot.is_past = true;
            }
            Notice::Error { topic, partition, message, .. } => {
                self.settings.counters.errors.fetch_add(1, Ordering::Relaxed);
                tracing::debug!("Kafka, {topic}[{partition}]: {message}; waiting, nothing is lost");
            }
        }
        Ok(())
    }
}

impl Slot {
    fn new(source: &TopicPartition, from: i64) -> Self {
        Slot { batch: LogBatch::new(source.clone(), from), to: from, is_assigned: false, is_past: false }
    }

    fn reach(&mut self, offset: i64) {
        self.batch.next_offset = self.batch.next_offset.max(offset);
    }

    /// What was read; the next batch begins where it ends.
    fn take(&mut self) -> Option<LogBatch> {
        (self.batch.next_offset > self.batch.first_offset).then(|| self.batch.cut())
    }
}

/// The least that is read in one go, whatever the lane's limit: a stretch of the pipeline's own.
pub(super) const LEAST_BYTES: usize = MAX_STRETCH_BYTES;
