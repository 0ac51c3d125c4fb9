//! What `smartlog sinks`, `smartlog migrate` and maintenance do: each call connects for itself.
//!
//! A command that changes positions takes them away from a writer that is running: that writer ends as
//! [`SinkError::Fenced`] and reads them anew when it is started again.

use crate::config::Target;
use crate::error::{Fault, SinkError};
use crate::{AGGREGATES, StoreConfig, postgres, sqlite};
use smartlog_schema::commit::Fingerprint;
use smartlog_schema::position::{Positions, TopicPartition};

/// One row of `sink_positions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPosition {
    /// Name of the sink: [`AGGREGATES`], [`crate::LOGS`], or another's.
    pub sink: String,
    pub partition: TopicPartition,
    /// `None`: the sink has claimed the partition and stored nothing of it.
    pub next_offset: Option<i64>,
    pub fingerprint: Option<Fingerprint>,
    /// Event time up to which the sink has all, microseconds.
    pub watermark_us: Option<i64>,
    /// Wall time of the last change, microseconds.
    pub updated_at_us: i64,
}

/// How much a store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    pub logs: i64,
    pub dead_letters: i64,
    pub anomalies: i64,
    pub anomaly_events: i64,
    /// Event time up to which all logs are stored, microseconds; `None` when nothing was.
    pub logs_watermark_us: Option<i64>,
}

/// Brings the tables up to date. Harmless when they are.
pub async fn migrate(config: &StoreConfig) -> Result<(), SinkError> {
    match Target::parse(&config.url)? {
        Target::Postgres(url) => postgres::migrate(&url).await,
        Target::Sqlite(file) => sqlite::migrate(&file).await,
    }
}

/// Every sink's positions, by sink, topic and partition.
pub async fn positions(config: &StoreConfig) -> Result<Vec<StoredPosition>, SinkError> {
    match Target::parse(&config.url)? {
        Target::Postgres(url) => postgres::positions(&url).await,
        Target::Sqlite(file) => sqlite::positions(&file).await,
    }
}

/// Drops the positions of a sink that was removed; gives how many there were.
///
/// # Errors
/// [`SinkError::Fatal`] for [`AGGREGATES`]: their positions belong to their sums.
pub async fn forget(config: &StoreConfig, sink: &str) -> Result<u64, SinkError> {
    refuse_aggregates(sink, "forget")?;
    match Target::parse(&config.url)? {
        Target::Postgres(url) => postgres::forget(&url, sink).await,
        Target::Sqlite(file) => sqlite::forget(&file, sink.to_owned()).await,
    }
}

/// Sets where a sink begins in the partitions named, whether it has a position there or not.
///
/// # Errors
/// [`SinkError::Fatal`] for [`AGGREGATES`]: their positions belong to their sums.
pub async fn set_start(config: &StoreConfig, sink: &str, start: &Positions) -> Result<(), SinkError> {
    refuse_aggregates(sink, "set the start of")?;
    match Target::parse(&config.url)? {
        Target::Postgres(url) => postgres::set_start(&url, sink, start).await,
        Target::Sqlite(file) => sqlite::set_start(&file, sink.to_owned(), start.clone()).await,
    }
}

/// Accepts that `topic` was deleted and made anew: drops every sink's positions and fingerprints in it, so that
/// reading begins at its start. What was stored of the old topic stays. Gives how many positions were dropped.
pub async fn accept_topic(config: &StoreConfig, topic: &str) -> Result<u64, SinkError> {
    match Target::parse(&config.url)? {
        Target::Postgres(url) => postgres::accept_topic(&url, topic).await,
        Target::Sqlite(file) => sqlite::accept_topic(&file, topic.to_owned()).await,
    }
}

/// Deletes logs older than `cutoff_us` (event time, microseconds; PostgreSQL: in whole days) and dead letters stored
/// before it. Gives how many went: rows in SQLite, day partitions and dead letters in PostgreSQL.
pub async fn expire(config: &StoreConfig, cutoff_us: i64) -> Result<u64, SinkError> {
    match Target::parse(&config.url)? {
        Target::Postgres(url) => postgres::expire(&url, cutoff_us).await,
        Target::Sqlite(file) => sqlite::expire(&file, cutoff_us).await,
    }
}

/// How much the store holds. Counts rows: not for a hot path.
pub async fn counts(config: &StoreConfig) -> Result<Counts, SinkError> {
    match Target::parse(&config.url)? {
        Target::Postgres(url) => postgres::counts(&url).await,
        Target::Sqlite(file) => sqlite::counts(&file).await,
    }
}

fn refuse_aggregates(sink: &str, verb: &str) -> Result<(), SinkError> {
    if sink != AGGREGATES {
        return Ok(());
    }
    Err(SinkError::Fatal(Fault {
        store: "the store".into(),
        doing: format!("{verb} {AGGREGATES}"),
        found: "their positions belong to the sums stored with them".into(),
        advice: "name another sink, or begin with a new store".into(),
    }))
}
