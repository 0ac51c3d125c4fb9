//! Every Kafka client of the program is configured here: what correctness and speed rest on is written once.

use super::kafka::Settings;
use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::time::{Duration, Instant};

/// The consumer that all readers use.
pub type Client = BaseConsumer<Context>;

/// Sends librdkafka's log to ours.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context;

impl ClientContext for Context {
    /// Errors of a client that is not being read from, such as while it closes; the reader sees its own.
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "kafka", "{error}: {reason}");
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => {
                tracing::warn!(target: "kafka", facility, "{message}");
            }
            // Each request that timed out, many a second while a broker is away: we say that ourselves, once.
            _ => tracing::debug!(target: "kafka", facility, "{message}"),
        }
    }
}

impl ConsumerContext for Context {}

/// Properties that exactly-once or the program's own settings rest on, each with what to use in its place:
/// setting them otherwise is refused by the configuration.
pub const RESERVED: [(&str, &str); 8] = [
    ("bootstrap.servers", "set kafka.brokers"),
    ("metadata.broker.list", "set kafka.brokers"),
    ("enable.auto.commit", "positions are stored with the data, never committed by Kafka's client"),
    ("enable.auto.offset.store", "positions are stored with the data, never committed by Kafka's client"),
    ("auto.offset.reset", "set kafka.start; a gap is reported, never skipped in silence"),
    ("enable.partition.eof", "the clock rests on it"),
    ("group.id", "it follows from store.pipeline"),
    ("group.instance.id", "no consumer group is joined"),
];

/// What a reader fetches ahead at most, KiB. The largest part of the program's memory: one such queue per worker.
const QUEUE: (&str, u64) = ("queued.max.messages.kbytes", 16_384);

/// The bound on what a reader fetches ahead, bytes.
pub fn queue_limit_bytes(settings: &Settings) -> u64 {
    let (property, kib) = QUEUE;
    // What librdkafka cannot read as a number it has refused.
    settings.properties.get(property).and_then(|own| own.parse().ok()).unwrap_or(kib) * 1_024
}

/// The configuration of a client: ours, then whatever the user passes through.
#[expect(clippy::disallowed_methods, reason = "the one place where a client's configuration is made")]
pub fn config(settings: &Settings) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &settings.brokers)
        .set("client.id", "smartlog")
        // Never joined: it only gives the client its consumer queue, and lag tools a name.
        .set("group.id", &settings.group)
        // Positions live with the data, in the stores.
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // A position that is gone must be noticed and counted, not skipped.
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set("allow.auto.create.topics", "false")
        // Without this the fetcher sleeps a second whenever its queue was full once: half the speed.
        .set("fetch.queue.backoff.ms", "2")
        // A broker answers once it has so much or so long after it was asked, not for each batch that a producer sends.
        .set("fetch.min.bytes", "65536")
        .set("fetch.wait.max.ms", "10")
        // What is fetched at once waits in memory beside the queue; four times as much costs a third more memory, and its
        // bytes have left the caches when they are parsed.
        .set("fetch.message.max.bytes", "524288")
        .set("queued.min.messages", "200000")
        .set(QUEUE.0, QUEUE.1.to_string())
        .set("check.crcs", "false")
        .set("reconnect.backoff.max.ms", "1000")
        .set("topic.metadata.refresh.interval.ms", "30000")
        .set("socket.keepalive.enable", "true")
        .set("log_level", "5");
    for (name, value) in &settings.properties {
        config.set(name, value);
    }
    config
}

/// A consumer with that configuration.
pub fn client(settings: &Settings) -> anyhow::Result<Client> {
    create(&config(settings))
}

/// A consumer for a lane that reads by itself: as slow as its sink, so it fetches little ahead.
pub fn client_of_a_lane(settings: &Settings) -> anyhow::Result<Client> {
    let mut config = config(settings);
    config.set("queued.min.messages", "20000").set("queued.max.messages.kbytes", "4096");
    create(&config)
}

fn create(config: &ClientConfig) -> anyhow::Result<Client> {
    config.create_with_context(Context).map_err(|error| {
        anyhow::anyhow!(
            "the Kafka client refuses its configuration: {error}; see [kafka] and kafka.properties"
        )
    })
}

/// Why a broker that answers will not have us, or is not believed, and what to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    pub found: &'static str,
    pub advice: &'static str,
}

const LOGIN: Refusal = Refusal {
    found: "refuses the login",
    advice: "set sasl.username, sasl.password and sasl.mechanism as the brokers expect them, in kafka.properties and \
             kafka.property_files",
};
const TLS: Refusal = Refusal {
    found: "cannot be trusted by TLS",
    advice: "set ssl.ca.location in kafka.properties to the PEM file of the authority that signed the brokers' \
             certificates",
};

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; {}", self.found, self.advice)
    }
}

/// What an error means that waiting alone does not mend.
pub fn refusal(code: RDKafkaErrorCode) -> Option<Refusal> {
    match code {
        RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed => Some(LOGIN),
        RDKafkaErrorCode::SSL => Some(TLS),
        _ => None,
    }
}

/// How long the events of a client are looked through: lines of its log lie among them.
const LOOKED_THROUGH: Duration = Duration::from_millis(100);

/// The newest refusal of a client that nobody reads from; each is told once.
pub fn refused(client: &Client) -> Option<Refusal> {
    let until = Instant::now() + LOOKED_THROUGH;
    let mut newest = None;
    while Instant::now() < until {
        if let Some(Err(error)) = client.poll(LOOKED_THROUGH / 10) {
            newest = error.rdkafka_error_code().and_then(refusal).or(newest);
        }
    }
    newest
}
