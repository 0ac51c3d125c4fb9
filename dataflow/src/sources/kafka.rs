//! Kafka partitions, assigned by hand: consumer groups would rebalance and stall.

use super::kafka_batch::{Notice, Queue};
use super::kafka_client::{Client, client, refusal};
use super::kafka_watch::{Watch, Watched};
use super::{Assignment, Reader, gap};
use anyhow::Context;
use foldhash::HashMap;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use smartlog_operators::record::{Partition, Records};
use smartlog_schema::commit::Fingerprint;
use smartlog_schema::position::{Positions, TopicPartition};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::rc::Rc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How to reach Kafka.
#[derive(Debug, Default)]
pub struct Settings {
    pub brokers: String,
    pub topics: Vec<String>,
    /// Advertised to lag tools; never joined.
    pub group: String,
    /// Passed through to librdkafka, last.
    pub properties: BTreeMap<String, String>,
    pub counters: Counters,
    /// What is durable, for lag tools: advertised as the group's offsets, never read back.
    pub durable: Mutex<Positions>,
}

/// What happened, for metrics.
#[derive(Debug, Default)]
pub struct Counters {
    /// Records that retention had deleted before they were read.
    pub lost_to_retention: AtomicU64,
    pub errors: AtomicU64,
    /// Records that librdkafka fetched ahead, and by how many readers.
    pub fetched: AtomicU64,
    pub readers: AtomicU64,
    partitions: Mutex<BTreeMap<TopicPartition, Arc<Progress>>>,
}

/// How far one partition is written and read.
#[derive(Debug)]
struct Progress {
    /// Offset after the last, as far as it is known.
    end: AtomicI64,
    /// Next offset to read.
    next: AtomicI64,
}

/// How far behind the end of a partition the program is, records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// Not read yet.
    pub unread: i64,
    /// Not durable yet: what lag tools show of the group.
    pub uncommitted: i64,
}

impl Settings {
    /// The lag of each partition that this process reads.
    pub fn lags(&self) -> BTreeMap<TopicPartition, Lag> {
        let partitions = self.counters.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        let durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        let lag = |(source, progress): (&TopicPartition, &Arc<Progress>)| {
            let (end, next) = (progress.end.load(Ordering::Relaxed), progress.next.load(Ordering::Relaxed));
            // Nothing was committed yet by this process: it began where it reads, or another one commits for it.
            let committed = durable.get(source).copied().unwrap_or(next);
            (source.clone(), Lag { unread: (end - next).max(0), uncommitted: (end - committed).max(0) })
        };
        partitions.iter().map(lag).collect()
    }
}

impl Counters {
    /// What to tell the progress of a partition by.
    fn watch(&self, source: &TopicPartition, start: i64) -> Arc<Progress> {
        let progress = Arc::new(Progress { end: AtomicI64::new(start), next: AtomicI64::new(start) });
        let mut partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        partitions.insert(source.clone(), Arc::clone(&progress));
        progress
    }
}

impl Progress {
    /// An end that no broker tells at the moment stays where it was.
    fn is_at(&self, end: Option<i64>, next: i64) {
        self.end.fetch_max(end.unwrap_or(next), Ordering::Relaxed);
        self.next.store(next, Ordering::Relaxed);
    }
}

struct Slot {
    assignment: Assignment,
    topic: CString,
    next_offset: i64,
    watched: Arc<Watched>,
    progress: Arc<Progress>,
    stopped: bool,
}

impl Slot {
    fn ended(&self) -> bool {
        self.assignment.end.is_some_and(|end| self.next_offset >= end)
    }
}

/// One worker's partitions.
pub struct KafkaReader {
    settings: Arc<Settings>,
    // Declared before the client that it belongs to: dropped first.
    queue: Queue,
    watch: Watch,
    client: Arc<Client>,
    slots: Vec<Slot>,
    by_partition: HashMap<i32, Vec<(String, u32)>>,
    advertised: Instant,
    /// Records fetched ahead when they were last counted.
    fetched: u64,
}

/// Kafka's calls that change an assignment, as opposed to its data, answer at once or within this.
const CALL: Duration = Duration::from_secs(5);
/// Between two advertisements of what is durable.
const ADVERTISE: Duration = Duration::from_secs(5);

impl KafkaReader {
    /// Wakes nobody when records come: it is looked at often enough.
    pub fn new(settings: Arc<Settings>) -> anyhow::Result<Self> {
        let client = Arc::new(client(&settings)?);
        settings.counters.readers.fetch_add(1, Ordering::Relaxed);
        Ok(KafkaReader {
            queue: Queue::of(Arc::clone(&client))?,
            watch: Watch::start(&client)?,
            client,
            slots: Vec::new(),
            by_partition: HashMap::default(),
            advertised: Instant::now(),
            fetched: 0,
            settings,
        })
    }

    fn list(&self, slots: &[u32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for slot in slots {
            let source = &self.slots[*slot as usize].assignment.source;
            list.add_partition(&source.topic, source.partition);
        }
        list
    }

    fn slot_of(&self, topic: &str, partition: i32) -> Option<u32> {
        slot_of(&self.by_partition, topic, partition)
    }

    fn notice(&mut self, notice: Notice) -> anyhow::Result<()> {
        match notice {
            Notice::End { topic, partition, offset } => {
                if let Some(slot) = self.slot_of(&topic, partition) {
                    // What lies between the last record and the end holds none (markers, compaction).
                    let slot = &mut self.slots[slot as usize];
                    slot.next_offset = slot.next_offset.max(offset);
                }
                Ok(())
            }
            Notice::Error { topic, partition, code, message } => {
                self.settings.counters.errors.fetch_add(1, Ordering::Relaxed);
                match (code, self.slot_of(&topic, partition)) {
                    (RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange, Some(slot)) => {
                        self.skip_what_is_gone(slot)
                    }
                    _ => {
                        let advice = refusal(code).map_or("nothing is lost", |refusal| refusal.advice);
                        tracing::warn!("Kafka, {topic}[{partition}]: {message}; waiting, {advice}");
                        Ok(())
                    }
                }
            }
        }
    }

    /// Goes on at the first offset that still exists, and says how much is missing.
    fn skip_what_is_gone(&mut self, slot: u32) -> anyhow::Result<()> {
        let slot = &mut self.slots[slot as usize];
        let source = slot.assignment.source.clone();
        let begin = gap::first_left(&self.client, &source, slot.next_offset)?;
        let missing = gap::passed(&source, slot.next_offset, begin);
        self.settings.counters.lost_to_retention.fetch_add(missing, Ordering::Relaxed);
        slot.next_offset = begin;
        // Seeking is refused while the client is in trouble with the offset: take the partition anew.
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&source.topic, source.partition, Offset::Offset(slot.next_offset))?;
        self.client.incremental_unassign(&list).with_context(|| format!("letting go of {source}"))?;
        self.client
            .incremental_assign(&list)
            .with_context(|| format!("taking {source} anew at {}", slot.next_offset))?;
        Ok(())
    }

    /// Tells lag tools, now and then, how far the durable results are.
    fn advertise(&mut self) {
        if self.advertised.elapsed() < ADVERTISE {
            return;
        }
        self.advertised = Instant::now();
        let durable = self.settings.durable.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = TopicPartitionList::new();
        for source in self.slots.iter().map(|slot| &slot.assignment.source) {
            let Some(next) = durable.get(source) else { continue };
            // Fails only for an offset that cannot be one.
            let _ = list.add_partition_offset(&source.topic, source.partition, Offset::Offset(*next));
        }
        if list.count() > 0
            && let Err(error) = self.client.commit(&list, CommitMode::Async)
        {
            tracing::debug!("the group's offsets could not be advertised: {error}");
        }
    }

    /// Takes note of what was fetched ahead.
    fn count_fetched(&mut self) {
        let now = self.queue.fetched() as u64;
        // The sum over all readers, which wraps as the differences do.
        self.settings.counters.fetched.fetch_add(now.wrapping_sub(self.fetched), Ordering::Relaxed);
        self.fetched = now;
    }

    /// Stops fetching partitions that were read as far as wanted.
    fn stop_ended(&mut self) -> anyhow::Result<()> {
        let is_over = |slot: &&(u32, &Slot)| slot.1.ended() && !slot.1.stopped;
        let over: Vec<u32> =
            (0..).zip(&self.slots).filter(|slot| is_over(&slot)).map(|(index, _)| index).collect();
        if !over.is_empty() {
            self.client.pause(&self.list(&over)).context("stopping partitions that were read to the end")?;
            over.iter().for_each(|slot| self.slots[*slot as usize].stopped = true);
        }
        Ok(())
    }
}

fn slot_of(by_partition: &HashMap<i32, Vec<(String, u32)>>, topic: &str, partition: i32) -> Option<u32> {
    by_partition.get(&partition)?.iter().find(|(name, _)| name == topic).map(|(_, slot)| *slot)
}

impl Reader for KafkaReader {
    fn assign(&mut self, assignments: &[Assignment]) -> anyhow::Result<()> {
        let mut list = TopicPartitionList::new();
        for assignment in assignments {
            let source = &assignment.source;
            list.add_partition_offset(&source.topic, source.partition, Offset::Offset(assignment.start))?;
            let slot = self.slots.len() as u32;
            self.by_partition.entry(source.partition).or_default().push((source.topic.to_string(), slot));
            self.slots.push(Slot {
                topic: CString::new(source.topic.as_str())?,
                next_offset: assignment.start,
                watched: self.watch.add(source.clone()),
                progress: self.settings.counters.watch(source, assignment.start),
                stopped: false,
                assignment: assignment.clone(),
            });
            tracing::info!("reading {source} from offset {}", assignment.start);
        }
        self.client.incremental_assign(&list).context("assigning partitions")
    }

    fn poll(&mut self, most: usize) -> anyhow::Result<Option<Rc<dyn Records>>> {
        self.count_fetched();
        let (by_partition, slots) = (&self.by_partition, &self.slots);
        let (batch, notices) = self.queue.drain(most, |topic, partition| {
            let slot = slot_of(by_partition, topic, partition)?;
            Some((slot, slots[slot as usize].assignment.end.unwrap_or(i64::MAX)))
        });
        for (slot, offset) in batch.stretches() {
            self.slots[slot as usize].next_offset = offset + 1;
        }
        for notice in notices {
            self.notice(notice)?;
        }
        self.stop_ended()?;
        Ok((!batch.is_empty()).then(|| Rc::new(batch) as Rc<dyn Records>))
    }

    fn partitions(&mut self) -> Vec<Partition> {
        let state = |slot: &Slot| {
            let confirmed = slot.watched.confirmed_end();
            let cached = self.queue.cached_end(&slot.topic, slot.assignment.source.partition);
            slot.progress.is_at(confirmed.max(cached), slot.next_offset);
            Partition {
                source: slot.assignment.source.clone(),
                next_offset: slot.next_offset,
                at_end: confirmed.is_some_and(|end| slot.next_offset >= end.max(cached.unwrap_or(end))),
                ended: slot.ended(),
                attached: slot.assignment.attached,
                time_us: slot.assignment.time_us,
            }
        };
        let partitions = self.slots.iter().map(state).collect();
        self.advertise();
        partitions
    }

    fn pause(&mut self, slots: &[u32]) -> anyhow::Result<()> {
        self.client.pause(&self.list(slots)).context("pausing partitions that run ahead")
    }

    fn resume(&mut self, slots: &[u32]) -> anyhow::Result<()> {
        let open: Vec<u32> =
            slots.iter().copied().filter(|slot| !self.slots[*slot as usize].stopped).collect();
        self.client.resume(&self.list(&open)).context("resuming partitions")
    }
}

/// What a record looks like, to know it again.
pub fn fingerprint(payload: Option<&[u8]>, record_time_ms: Option<i64>) -> Fingerprint {
    smartlog_operators::fold::fingerprint(payload, record_time_ms)
}

/// Partitions that exist, with their first and next offsets.
pub fn describe(client: &Client, topic: &str) -> anyhow::Result<Vec<(TopicPartition, i64, i64)>> {
    let metadata = client.fetch_metadata(Some(topic), CALL)?;
    let found = metadata.topics().iter().find(|t| t.name() == topic);
    let partitions = found.map(|t| t.partitions()).unwrap_or_default();
    partitions
        .iter()
        .map(|p| {
            let (begin, end) = client.fetch_watermarks(topic, p.id(), CALL)?;
            Ok((TopicPartition::new(topic, p.id()), begin, end))
        })
        .collect()
}
