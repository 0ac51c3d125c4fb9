//! Lines into a Kafka topic: idempotent, lz4, key = service, record time = arrival time.
//!
//! ```text
//!   Generator ─► pace ─► librdkafka's queue (bounded; full: wait) ─► broker ─► acknowledgement, counted
//! ```
//!
//! A message that is not acknowledged ends the output with an error: a topic that lacks lines would be worse than none,
//! because the labels would no longer hold.

use super::{Pace, Pacer, Progress, worth_telling};
use crate::error::{GeneratorError, refuse};
use crate::stream::{Generator, Head};
use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// How long brokers and topic may take to show up at the start.
const CONNECT: Duration = Duration::from_secs(30);
/// One try of it.
const CONNECT_TRY: Duration = Duration::from_secs(5);
/// Sleep while librdkafka's queue is full.
const FULL_NAP: Duration = Duration::from_millis(1);

/// Which partition a line goes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Partitioning {
    /// By the key, so that a service keeps to one partition.
    #[default]
    Key,
    /// In turn, so that partitions are evenly full and every service is in all of them.
    RoundRobin,
}

/// A topic to write to.
#[derive(Debug, Clone, Default)]
pub struct KafkaTarget {
    /// Bootstrap servers, `host:port` separated by commas.
    pub brokers: String,
    /// Topic; it must exist, or the brokers must create topics by themselves.
    pub topic: String,
    pub partitioning: Partitioning,
    /// librdkafka properties on top of ours: TLS, SASL, timeouts.
    pub properties: BTreeMap<String, String>,
}

/// What became of the traffic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Delivered {
    /// What was handed to the client.
    pub sent: Progress,
    /// Messages that the brokers acknowledged: all that were sent.
    pub delivered: u64,
}

#[derive(Debug, Default)]
struct Counts {
    delivered: AtomicU64,
    failed: AtomicU64,
    reason: OnceLock<String>,
}

/// Counts acknowledgements.
#[derive(Debug, Clone, Default)]
struct Acknowledgements(Arc<Counts>);

impl ClientContext for Acknowledgements {}

impl ProducerContext for Acknowledgements {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => self.0.delivered.fetch_add(1, Ordering::Relaxed),
            Err((error, _)) => {
                self.0.reason.get_or_init(|| error.to_string());
                self.0.failed.fetch_add(1, Ordering::Relaxed)
            }
        };
    }
}

/// Sends the traffic to `target` and waits for every acknowledgement.
///
/// Waits while the client's queue is full. Stops at the end of the traffic or when cancelled; what was sent until then
/// is delivered.
///
/// # Errors
/// When the brokers or the topic cannot be reached within 30 s, and when any message was not delivered.
pub fn to_kafka(
    generator: &mut Generator,
    target: &KafkaTarget,
    pace: &Pace,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Delivered, GeneratorError> {
    let mut pacer = Pacer::new(pace)?;
    let output = Output::connect(target, &pacer)?;
    let mut sent = Progress::default();
    let mut payload = Vec::with_capacity(4096);
    loop {
        payload.clear();
        let Some(head) = generator.next_into(&mut payload) else { break };
        let waits = pacer.wait(head.arrival_us).is_some();
        if !pacer.hold(head.arrival_us) || output.counts.failed.load(Ordering::Relaxed) > 0 {
            break;
        }
        if !output.send(&head, generator.service(head.service), &payload, sent.lines, &pacer)? {
            break;
        }
        sent.lines += 1;
        sent.bytes += payload.len() as u64;
        sent.arrival_us = head.arrival_us;
        if worth_telling(&sent, waits) {
            progress(&sent);
        }
    }
    progress(&sent);
    output.finish(sent)
}

struct Output<'a> {
    target: &'a KafkaTarget,
    producer: ThreadedProducer<Acknowledgements>,
    counts: Arc<Counts>,
    partitions: u64,
}

impl<'a> Output<'a> {
    fn connect(target: &'a KafkaTarget, pacer: &Pacer) -> Result<Self, GeneratorError> {
        if target.brokers.is_empty() || target.topic.is_empty() {
            return Err(refuse("kafka", format!("{target:?}"), "give both brokers and a topic"));
        }
        let context = Acknowledgements::default();
        let counts = Arc::clone(&context.0);
        let producer = producer_config(target)
            .create_with_context(context)
            .map_err(|source| kafka_error(target, "cannot make a producer", source))?;
        let mut output = Output { target, producer, counts, partitions: 0 };
        output.partitions = output.wait_for_topic(pacer)?;
        Ok(output)
    }

    fn wait_for_topic(&self, pacer: &Pacer) -> Result<u64, GeneratorError> {
        let began = Instant::now();
        loop {
            let found = self.producer.client().fetch_metadata(Some(&self.target.topic), CONNECT_TRY);
            let problem = match found {
                Ok(metadata) => match metadata.topics().first().map(|topic| topic.partitions().len()) {
                    Some(partitions) if partitions > 0 => return Ok(partitions as u64),
                    _ => KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition),
                },
                Err(error) => error,
            };
            if began.elapsed() > CONNECT || pacer.cancelled() {
                let doing = format!(
                    "topic {:?} is not to be had; create it, or check the brokers",
                    self.target.topic
                );
                return Err(kafka_error(self.target, &doing, problem));
            }
            std::thread::sleep(super::NAP);
        }
    }

    /// Hands one line to the client; false when cancelled while its queue was full.
    fn send(
        &self,
        head: &Head,
        key: &str,
        payload: &[u8],
        number: u64,
        pacer: &Pacer,
    ) -> Result<bool, GeneratorError> {
        let mut record = BaseRecord::to(&self.target.topic)
            .key(key)
            .payload(payload)
            .timestamp(head.arrival_us.div_euclid(1000));
        if self.target.partitioning == Partitioning::RoundRobin {
            record = record.partition((number % self.partitions) as i32);
        }
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(true),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    if pacer.cancelled() || self.counts.failed.load(Ordering::Relaxed) > 0 {
                        return Ok(false);
                    }
                    record = back;
                    std::thread::sleep(FULL_NAP);
                }
                Err((source, _)) => return Err(kafka_error(self.target, "cannot send", source)),
            }
        }
    }

    /// Waits until everything sent is acknowledged or has failed (librdkafka's `message.timeout.ms` bounds that).
    fn finish(self, sent: Progress) -> Result<Delivered, GeneratorError> {
        while self.producer.in_flight_count() > 0 {
            let flushed = self.producer.flush(Duration::from_secs(1));
            match flushed {
                Ok(()) | Err(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut)) => {}
                Err(source) => return Err(kafka_error(self.target, "cannot flush", source)),
            }
        }
        let counts = Arc::clone(&self.counts);
        let target = self.target;
        // Joins the thread that serves acknowledgements, so that none is still to be counted.
        drop(self);
        let delivered = counts.delivered.load(Ordering::Relaxed);
        if delivered == sent.lines {
            return Ok(Delivered { sent, delivered });
        }
        Err(GeneratorError::Undelivered {
            brokers: target.brokers.clone(),
            topic: target.topic.clone(),
            sent: sent.lines,
            delivered,
            failed: sent.lines - delivered,
            reason: counts.reason.get().cloned().unwrap_or_else(|| "no acknowledgement came".to_owned()),
        })
    }
}

fn kafka_error(target: &KafkaTarget, doing: &str, source: KafkaError) -> GeneratorError {
    GeneratorError::Kafka {
        brokers: target.brokers.clone(),
        doing: doing.to_owned(),
        source: Box::new(source),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the generator's one producer; the rule is about consumers' settings"
)]
fn producer_config(target: &KafkaTarget) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &target.brokers)
        .set("client.id", "smartlog-generator")
        .set("enable.idempotence", "true")
        .set("compression.type", "lz4")
        .set("linger.ms", "40")
        .set("batch.num.messages", "20000")
        .set("batch.size", "900000")
        .set("queue.buffering.max.messages", "200000")
        .set("queue.buffering.max.kbytes", "65536");
    for (name, value) in &target.properties {
        config.set(name, value);
    }
    config
}
