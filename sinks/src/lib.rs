//! Where results go. Two kinds of sink, each with its own resume position stored in the transaction of its
//! data, and a third that follows them:
//!
//! ```text
//!   closed epochs ──▶ StateStore   aggregates, episodes, clock, positions     (one per pipeline, under a lease)
//!   log batches   ──▶ LogSink      every log and dead letter                   (one per worker and sink)
//!   the store     ──▶ EventSink    publishes what was committed                (one per pipeline and sink)
//! ```
//!
//! What makes it exactly once (docs/decisions/002-fencing.md): a position moves in the transaction of its data, by
//! compare-and-set; a start waits out what a killed predecessor may still have under way; and after a lost
//! connection the stored position, not the lost answer, says whether the transaction went through.
//!
//! A new log sink is one file that implements [`LogSink`] and one line where the program lists its [`LogSinkEntry`]s; a new
//! event sink one that implements [`EventSink`] and a line with its [`EventSinkEntry`].

mod admin;
pub mod alerts;
#[cfg(feature = "s3")]
pub mod aws;
mod config;
mod database;
mod dead_letter;
mod episode;
mod error;
mod evidence;
mod feedback;
mod follow;
mod health;
mod plan;
mod retry;

pub mod parquet;
mod postgres;
mod redis;
pub mod search;
mod sqlite;
mod standing;

pub use self::redis::{RedisConfig, probe_redis};
pub use admin::{
    Counts, LaneState, StoredPosition, Survey, accept_topic, anomaly_intervals, counts, expire, forget,
    migrate, note_lanes, positions, read_logs, retention_cuts, set_model_status, set_start, survey,
};
pub use config::StoreConfig;
pub use error::{Fault, SinkError};
pub use evidence::{EvidenceReader, StoredEvidence};
pub use feedback::{FeedbackLog, KnownEvent, episodes_between};
pub use follow::{EventSink, Wake, follow};
pub use health::{Fill, Health, State};
pub use tokio_util::sync::CancellationToken;

use async_trait::async_trait;
use config::Target;
use retry::Patience;
use smartlog_schema::commit::{EpochCommit, Snapshot};
use smartlog_schema::log::LogBatch;
use smartlog_schema::position::{Positions, TopicPartition};
use std::sync::Arc;

/// The name under which a [`StateStore`] keeps its positions.
pub const AGGREGATES: &str = "aggregates";
/// The name under which the stores' own [`LogSink`]s keep their positions.
pub const LOGS: &str = "logs";

/// Keeps the aggregates of one pipeline. Only one set of processes holds it at a time (a lease).
#[async_trait]
pub trait StateStore: Send {
    /// Takes the lease (waiting while another set holds it and saying so through [`Health`]), waits out a commit that
    /// a killed predecessor may still have under way, and reads what it left.
    async fn open(&mut self) -> Result<Snapshot, SinkError>;

    /// Applies `commit` in one transaction. Retries what can be retried until it is done: returns an error only when
    /// the process must stop ([`SinkError::Fenced`], [`SinkError::Fatal`]) or is stopping (the last
    /// [`SinkError::Transient`] after the token of [`state_store`] was cancelled).
    async fn commit(&mut self, commit: &EpochCommit) -> Result<(), SinkError>;
}

/// Keeps every log and dead letter of the partitions that it is given.
#[async_trait]
pub trait LogSink: Send {
    /// The name under which its positions are stored.
    fn name(&self) -> &str;

    /// Claims `partitions` and tells the next offset of each; partitions that the sink has never written are left
    /// out. Waits out a commit that a killed predecessor may still have under way, and fences every earlier holder.
    /// To be called only while this set holds the lease ([`StateStore::open`] returned), and again with new
    /// partitions when a topic grows.
    async fn resume(&mut self, partitions: &[TopicPartition]) -> Result<Positions, SinkError>;

    /// Writes `batches` and moves the positions past them in one transaction; `watermark_us` is noted for every
    /// partition that this sink claimed (`i64::MIN`: nothing is known of it yet). Retries like [`StateStore::commit`].
    /// What lies below the sink's position is left out, never doubled; positions only grow.
    async fn write(&mut self, batches: &[LogBatch], watermark_us: i64) -> Result<(), SinkError>;

    /// Called once, after the last write: what was held back is made durable, and the positions move past it.
    async fn finish(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

/// The log sink that writes Parquet files to what `export` names, and keeps its positions in `store`. Nothing is connected
/// before [`LogSink::resume`].
pub fn parquet_sink(
    export: &parquet::ExportConfig,
    store: &StoreConfig,
    health: Health,
    cancel: CancellationToken,
) -> Box<dyn LogSink> {
    Box::new(parquet::ParquetLogs::new(export.clone(), store.clone(), health, cancel))
}

/// The state store that `config` names. Nothing is connected before [`StateStore::open`].
///
/// # Errors
/// [`SinkError::Fatal`] when the URL cannot be understood.
pub fn state_store(
    config: &StoreConfig,
    health: Health,
    cancel: CancellationToken,
) -> Result<Box<dyn StateStore>, SinkError> {
    let patience = Patience { health, cancel };
    Ok(match Target::parse(&config.url)? {
        Target::Postgres(url) => Box::new(postgres::PostgresState::new(*url, config, patience)),
        Target::Sqlite(file) => Box::new(sqlite::SqliteState::new(file, config, patience)),
    })
}

/// Opens a sink.
type Open<S> = dyn Fn(Health, CancellationToken) -> Result<Box<S>, SinkError> + Send + Sync;

/// A sink that is wanted, and how to open it.
pub struct SinkEntry<S: ?Sized> {
    /// What it is called; for a log sink also where its positions are stored ([`LogSink::name`]).
    pub name: &'static str,
    open: Arc<Open<S>>,
}

/// Every worker opens one for the partitions that it reads. Each entry has positions of its own, and is read on for by
/// itself when it falls behind; none waits for another.
pub type LogSinkEntry = SinkEntry<dyn LogSink>;
/// The process that commits opens one.
pub type EventSinkEntry = SinkEntry<dyn EventSink>;

impl<S: ?Sized> SinkEntry<S> {
    /// `open` connects nothing; that is left to the sink's first work.
    pub fn new(
        name: &'static str,
        open: impl Fn(Health, CancellationToken) -> Result<Box<S>, SinkError> + Send + Sync + 'static,
    ) -> Self {
        SinkEntry { name, open: Arc::new(open) }
    }

    /// One more of it.
    ///
    /// # Errors
    /// [`SinkError::Fatal`] when its configuration cannot be understood.
    pub fn open(&self, health: Health, cancel: CancellationToken) -> Result<Box<S>, SinkError> {
        (self.open)(health, cancel)
    }
}

impl<S: ?Sized> Clone for SinkEntry<S> {
    fn clone(&self) -> Self {
        SinkEntry { name: self.name, open: Arc::clone(&self.open) }
    }
}

impl<S: ?Sized> std::fmt::Debug for SinkEntry<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SinkEntry").field(&self.name).finish()
    }
}

impl LogSinkEntry {
    /// The tables `logs` and `dead_letters` of the store itself.
    pub fn of_store(config: &StoreConfig) -> Self {
        let config = config.clone();
        LogSinkEntry::new(LOGS, move |health, cancel| log_sink(&config, health, cancel))
    }

    /// Parquet files in what `export` names; its positions are kept in `store`.
    pub fn parquet(export: &parquet::ExportConfig, store: &StoreConfig) -> Self {
        let (export, store) = (export.clone(), store.clone());
        LogSinkEntry::new(parquet::PARQUET, move |health, cancel| {
            Ok(parquet_sink(&export, &store, health, cancel))
        })
    }

    /// Documents in Elasticsearch or OpenSearch; its positions are kept in `store`.
    pub fn search(config: search::SearchConfig, store: &StoreConfig) -> Self {
        let store = store.clone();
        LogSinkEntry::new(search::SEARCH, move |health, cancel| {
            Ok(Box::new(search::SearchLogs::new(config.clone(), store.clone(), health, cancel)))
        })
    }
}

impl EventSinkEntry {
    /// Changes of anomalies and current windows, in Redis.
    pub fn redis(config: RedisConfig, store: &StoreConfig) -> Self {
        let store = store.clone();
        EventSinkEntry::new("redis", move |health, cancel| {
            Ok(Box::new(redis::Redis::new(config.clone(), &store, health, cancel)?))
        })
    }
}

/// The log sink of the store that `config` names. Nothing is connected before [`LogSink::resume`].
///
/// # Errors
/// [`SinkError::Fatal`] when the URL cannot be understood.
pub fn log_sink(
    config: &StoreConfig,
    health: Health,
    cancel: CancellationToken,
) -> Result<Box<dyn LogSink>, SinkError> {
    let patience = Patience { health, cancel };
    Ok(match Target::parse(&config.url)? {
        Target::Postgres(url) => Box::new(postgres::PostgresLogs::new(*url, config, patience)),
        Target::Sqlite(file) => Box::new(sqlite::SqliteLogs::new(file, patience)),
    })
}
