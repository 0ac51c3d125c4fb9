//! A topic of a measurement's own.

use crate::workload::PARTITIONS;
use anyhow::Context as _;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const PATIENCE: Duration = Duration::from_secs(60);

/// A topic with a producer into it; deleted when dropped.
pub struct Topic {
    pub name: String,
    admin: AdminClient<DefaultClientContext>,
    producer: ThreadedProducer<DefaultProducerContext>,
    runtime: tokio::runtime::Runtime,
}

impl Topic {
    /// Makes a topic whose name begins with `stem`. Records are sent at the latest after `linger`.
    pub fn create(brokers: &str, stem: &str, linger: Duration) -> anyhow::Result<Self> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let name = format!("bench-{stem}-{:x}", since.as_micros());
        let producer = config(brokers)
            .set("enable.idempotence", "true")
            .set("compression.type", "lz4")
            .set("linger.ms", linger.as_millis().to_string())
            .set("batch.num.messages", "10000")
            .set("batch.size", "262144")
            .set("queue.buffering.max.messages", "500000")
            .set("queue.buffering.max.kbytes", "262144")
            .create()?;
        let admin: AdminClient<DefaultClientContext> = config(brokers).create()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let new = NewTopic::new(&name, PARTITIONS as i32, TopicReplication::Fixed(1));
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        let made = runtime.block_on(admin.create_topics([&new], &options))?;
        for topic in made {
            topic.map_err(|(name, code)| anyhow::anyhow!("{name}: {code}")).context("making a topic")?;
        }
        Ok(Topic { name, admin, producer, runtime })
    }

    /// Hands a record to the producer; waits while its queue is full. `time_ms`: the record's own time, if not now.
    pub fn send(&self, partition: usize, line: &[u8], time_ms: Option<i64>) -> anyhow::Result<()> {
        let mut record = BaseRecord::<(), [u8]>::to(&self.name).partition(partition as i32).payload(line);
        record.timestamp = time_ms;
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err((error, _)) => return Err(error).context("producing"),
            }
        }
    }

    /// Waits until the broker has everything.
    pub fn flush(&self) -> anyhow::Result<()> {
        self.producer.flush(PATIENCE).context("producing")
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // The services may be gone already; then so is the topic.
        let _ = self.runtime.block_on(self.admin.delete_topics(&[&self.name], &AdminOptions::new()));
    }
}

#[expect(clippy::disallowed_methods, reason = "what makes the input must not be configured by the program")]
fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("log_level", "3");
    config
}
