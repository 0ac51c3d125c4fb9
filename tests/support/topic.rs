//! A Kafka topic of a test's own, over the broker's own protocol.

use crate::eventually;
use rand::seq::IndexedRandom;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

const PATIENCE: Duration = Duration::from_secs(30);

/// One record as the broker has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub offset: i64,
    pub time_ms: i64,
    pub payload: Option<Vec<u8>>,
}

/// A topic and a producer into it.
pub struct Topic {
    pub name: String,
    brokers: String,
    producer: ThreadedProducer<DefaultProducerContext>,
    runtime: Runtime,
}

#[expect(clippy::disallowed_methods, reason = "the tests' clients must not be configured by the program")]
fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("reconnect.backoff.max.ms", "500").set("log_level", "0");
    config
}

fn producer(brokers: &str) -> ThreadedProducer<DefaultProducerContext> {
    let producer = config(brokers)
        // A broker that crashes between writing and answering must not make a record twice.
        .set("enable.idempotence", "true")
        .set("queue.buffering.max.messages", "1000000")
        .set("queue.buffering.max.kbytes", "262144")
        .set("topic.metadata.refresh.interval.ms", "500") // a topic grows
        .set("linger.ms", "5")
        .create();
    producer.expect("a producer can be configured")
}

impl Topic {
    /// Makes the topic.
    pub fn create(brokers: &str, name: &str, partitions: i32) -> Self {
        let topic = Self::named(brokers, name);
        topic.make(partitions);
        topic
    }

    /// A topic that may not exist yet.
    pub fn named(brokers: &str, name: &str) -> Self {
        Topic {
            name: name.to_owned(),
            brokers: brokers.to_owned(),
            producer: producer(brokers),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"),
        }
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        config(&self.brokers).create().expect("an admin client can be configured")
    }

    /// Makes the topic with that many partitions, and waits until the broker tells so.
    pub fn make(&self, partitions: i32) {
        let new = NewTopic::new(&self.name, partitions, TopicReplication::Fixed(1));
        eventually("the topic can be made", PATIENCE, || {
            let made = self.runtime.block_on(self.admin().create_topics([&new], &AdminOptions::new()));
            made.ok()?.pop()?.ok()
        });
        self.wait_for_partitions(partitions);
    }

    /// Deletes the topic and makes it anew, empty.
    pub fn remake(&mut self, partitions: i32) {
        // The broker makes topics when a producer asks about them, as this one would meanwhile.
        self.producer = producer(&self.brokers);
        let deleted = self.runtime.block_on(self.admin().delete_topics(&[&self.name], &AdminOptions::new()));
        deleted.expect("the broker answers")[0].as_ref().expect("the topic can be deleted");
        self.wait_for_partitions(0);
        self.make(partitions);
    }

    /// Adds partitions up to `partitions`.
    pub fn grow(&self, partitions: usize) {
        let more = NewPartitions::new(&self.name, partitions);
        let grown = self.runtime.block_on(self.admin().create_partitions([&more], &AdminOptions::new()));
        grown.expect("the broker answers")[0].as_ref().expect("the topic can grow");
        self.wait_for_partitions(i32::try_from(partitions).expect("a small number"));
    }

    /// Deletes the records of `partition` below `offset`, as retention does.
    pub fn delete_before(&self, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        let added = list.add_partition_offset(&self.name, partition, Offset::Offset(offset));
        added.expect("an offset can be listed");
        let deleted = self.runtime.block_on(self.admin().delete_records(&list, &AdminOptions::new()));
        deleted.expect("records can be deleted");
    }

    fn wait_for_partitions(&self, partitions: i32) {
        let consumer = self.consumer();
        eventually("the broker tells of the topic's partitions", PATIENCE, || {
            let metadata = consumer.fetch_metadata(None, Duration::from_secs(5)).ok()?;
            let found = metadata.topics().iter().find(|t| t.name() == self.name);
            let led = found.map_or(0, |t| t.partitions().iter().filter(|p| p.leader() >= 0).count());
            (led == usize::try_from(partitions).ok()?).then_some(())
        });
    }

    /// Hands one record to the producer; waits while its queue is full.
    pub fn send(&self, partition: i32, payload: Option<&[u8]>, time_ms: i64) {
        let mut record = BaseRecord::<(), [u8]>::to(&self.name).partition(partition).timestamp(time_ms);
        record.payload = payload;
        let began = Instant::now();
        while let Err((error, back)) = self.producer.send(record) {
            assert!(began.elapsed() < Duration::from_secs(120), "the producer takes nothing: {error}");
            std::thread::sleep(Duration::from_millis(5));
            record = back;
        }
    }

    /// Waits until the broker has everything.
    pub fn flush(&self) {
        self.producer.flush(Duration::from_secs(120)).expect("the broker takes all records");
    }

    fn consumer(&self) -> BaseConsumer {
        config(&self.brokers)
            .set("group.id", "judge")
            .set("enable.auto.commit", "false")
            .set("fetch.wait.max.ms", "50")
            .create()
            .expect("a consumer can be configured")
    }

    /// First and next offset of each partition.
    pub fn ends(&self) -> BTreeMap<i32, (i64, i64)> {
        let consumer = self.consumer();
        let metadata = consumer.fetch_metadata(Some(&self.name), PATIENCE).expect("the broker answers");
        let partitions = metadata.topics()[0].partitions();
        let end = |id| consumer.fetch_watermarks(&self.name, id, PATIENCE).expect("the broker answers");
        partitions.iter().map(|p| (p.id(), end(p.id()))).collect()
    }

    /// The offset that `group` committed in each partition; 0 where it did not.
    pub fn committed(&self, group: &str) -> BTreeMap<i32, i64> {
        let consumer: BaseConsumer =
            config(&self.brokers).set("group.id", group).create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        for partition in self.ends().into_keys() {
            list.add_partition(&self.name, partition);
        }
        let committed = consumer.committed_offsets(list, PATIENCE).expect("the broker answers");
        let offset = |offset: Offset| offset.to_raw().unwrap_or(0).max(0);
        committed.elements().iter().map(|e| (e.partition(), offset(e.offset()))).collect()
    }

    /// Reads offsets `[from, to)` of a partition back, in pieces of at most `piece` records.
    pub fn read(
        &self,
        partition: i32,
        (from, to): (i64, i64),
        piece: usize,
        mut take: impl FnMut(Vec<Record>),
    ) {
        let consumer = self.consumer();
        let mut list = TopicPartitionList::new();
        let added = list.add_partition_offset(&self.name, partition, Offset::Offset(from));
        added.expect("an offset can be listed");
        consumer.assign(&list).expect("a partition can be assigned");
        let (mut next, mut last) = (from, Instant::now());
        let mut records = Vec::new();
        while next < to {
            match consumer.poll(Duration::from_millis(500)) {
                Some(Ok(message)) => {
                    next = message.offset() + 1;
                    records.push(Record {
                        offset: message.offset(),
                        time_ms: message.timestamp().to_millis().expect("records have a time"),
                        payload: message.payload().map(<[u8]>::to_vec),
                    });
                    last = Instant::now();
                }
                Some(Err(_)) | None => {
                    assert!(last.elapsed() < PATIENCE, "reading the topic back stalls at {next}")
                }
            }
            if records.len() >= piece || next >= to {
                take(std::mem::take(&mut records));
            }
        }
    }
}

/// Any of `of`.
pub fn any<'a, T>(of: &'a [T], rng: &mut impl rand::Rng) -> &'a T {
    of.choose(rng).expect("not empty")
}
