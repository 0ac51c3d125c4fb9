//! From settings to a [`Job`].

use crate::config::{Config, Start};
use crate::coordinator::Begin;
use crate::engine::{Cluster, Job, Storage};
use crate::feedback;
use crate::sources::Sources;
use crate::sources::kafka::Settings;
use anyhow::Context;
use smartlog_operators::detect;
use smartlog_operators::parse::{Limits, Parser};
use smartlog_sinks::parquet::{ExportConfig, Kept};
use smartlog_sinks::{EventSinkEntry, LogSinkEntry, StoreConfig};
use std::sync::Arc;
use std::time::Duration;

/// The job of `smartlog run`. `kept`: what Kafka keeps of a partition, for sinks that hold logs back.
pub fn from_config(config: &Config, cluster: Option<Cluster>, kept: Kept) -> anyhow::Result<Job> {
    let services = config.detection.of_services().map_err(anyhow::Error::msg)?;
    let settings = detect::Settings {
        time: config.time.settings(),
        detection: config.detection.settings(),
        services: services.iter().map(|(service, own)| (service.into(), own.settings())).collect(),
    };
    let storage = config.store_config().map(|store| {
        // A restart needs every episode that late logs can still change.
        let max_lateness = Duration::from_secs(settings.settled_after().unsigned_abs());
        let store = StoreConfig { max_lateness, ..store };
        let export = config.export_config().map(|export| ExportConfig { kept, ..export });
        Storage {
            log_sinks: log_sinks(config, &store, export.as_ref()),
            event_sinks: event_sinks(config, &store),
            export,
            store,
        }
    });
    let keeps_logs = storage.is_some();
    Ok(Job {
        sources: Sources::Kafka(Arc::new(kafka_settings(config))),
        parser: parser(config)?,
        settings,
        // What is not kept cannot be too old.
        retention: keeps_logs.then_some(config.time.retention),
        storage,
        calendar: config.detection.calendar.as_deref().map_or(Ok(Vec::new()), feedback::read_calendar)?,
        alerts: None,
        windows_file: config.windows.out.clone().map(|path| (path, whole_seconds(config.windows.hop))),
        warm_up: None,
        scoring: None,
        models: None,
        begin: match config.kafka.start {
            Start::Earliest => Begin::Earliest,
            Start::Now => Begin::Now,
            Start::At(time) => Begin::At(time.as_millisecond()),
        },
        until_end: config.engine.until_end,
        workers: config.engine.worker_threads().get(),
        cluster,
        tick: config.engine.tick,
        max_in_flight_bytes: bytes(config.engine.max_in_flight_bytes),
        max_waiting_bytes: bytes(config.engine.max_waiting_bytes),
        max_services: config.engine.max_services.get(),
        patterns: config.patterns.settings(),
        metrics_services: config.metrics.services,
    })
}

/// The registry of log sinks: a line each. The order may change between runs.
pub fn log_sinks(config: &Config, store: &StoreConfig, export: Option<&ExportConfig>) -> Vec<LogSinkEntry> {
    let mut sinks = Vec::new();
    sinks.extend(config.store.raw_logs.then(|| LogSinkEntry::of_store(store)));
    sinks.extend(export.map(|export| LogSinkEntry::parquet(export, store)));
    sinks.extend(config.search_config().map(|search| LogSinkEntry::search(search, store)));
    sinks
}

/// The registry of event sinks: a line each.
pub fn event_sinks(config: &Config, store: &StoreConfig) -> Vec<EventSinkEntry> {
    let mut sinks = Vec::new();
    sinks.extend(config.redis.sink_config().map(|redis| EventSinkEntry::redis(redis, store)));
    sinks
}

/// How to reach Kafka.
pub fn kafka_settings(config: &Config) -> Settings {
    let property = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    Settings {
        brokers: config.kafka.brokers.clone(),
        topics: config.kafka.topics.clone(),
        group: format!("smartlog-{}", config.store.pipeline),
        properties: config.kafka.properties.iter().map(property).collect(),
        ..Settings::default()
    }
}

/// How payloads are read.
pub fn parser(config: &Config) -> anyhow::Result<Parser> {
    let mapping = config.parse.mapping().map_err(|(key, fault)| anyhow::anyhow!("{key}: {fault}"))?;
    let limits = Limits {
        max_record_bytes: bytes(config.parse.max_record_bytes),
        max_metadata_bytes: bytes(config.parse.max_metadata_bytes),
        max_future_skew_us: i64::try_from(config.time.max_future_skew.as_micros()).unwrap_or(i64::MAX),
    };
    Ok(Parser::new(mapping, limits).with_shapes(config.patterns.enabled))
}

fn whole_seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX).max(1)
}

fn bytes(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// The runtime of the stores and the API: they wait far more than they work.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("io").enable_all().build();
    runtime.context("starting the runtime of the stores")
}
