//! What `smartlog sinks`, `smartlog migrate` and maintenance do: each call connects for itself.
//!
//! A command that changes positions takes them away from a writer that is running: that writer ends as
//! [`SinkError::Fenced`] and reads them anew when it is started again.

use crate::config::Target;
use crate::error::{Fault, SinkError};
use crate::{AGGREGATES, StoreConfig, postgres, sqlite};
use smartlog_schema::commit::{Fingerprint, RetentionCut};
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
    /// How a log sink gets the partition's logs; `None` where nothing was said of it.
    pub lane: Option<LaneState>,
    /// Wall time of the last change, microseconds.
    pub updated_at_us: i64,
}

/// How a log sink gets the logs of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneState {
    /// From the pipeline, as it reads them.
    Attached,
    /// By a reader of its own, from its own position.
    Detached,
}

impl LaneState {
    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            LaneState::Attached => "attached",
            LaneState::Detached => "detached",
        }
    }

    pub(crate) fn from_stored(text: Option<&str>) -> Option<Self> {
        [LaneState::Attached, LaneState::Detached].into_iter().find(|state| Some(state.as_str()) == text)
    }
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

/// Drops what is too old of where it changed: each change that a later one replaces for whatever any sink still reads.
pub(crate) const PASSED_CUTS: &str = "DELETE FROM retention_cuts WHERE EXISTS (
    SELECT 1 FROM retention_cuts AS later
    WHERE later.topic = retention_cuts.topic AND later.partition = retention_cuts.partition
      AND later.from_offset > retention_cuts.from_offset
      AND later.from_offset <= (SELECT min(p.next_offset) FROM sink_positions AS p
                                WHERE p.topic = retention_cuts.topic AND p.partition = retention_cuts.partition))";

/// Brings the tables up to date. Harmless when they are.
pub async fn migrate(config: &StoreConfig) -> Result<(), SinkError> {
    match Target::parse(&config.url)? {
        Target::Postgres(url) => postgres::migrate(&url).await,
        Target::Sqlite(file) => sqlite::migrate(&file).await,
    }
}

/// What a store holds before anything is done to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// Migrations that were not applied yet.
    pub missing: usize,
    /// Migrations that this program does not know: a later one wrote the tables.
    pub unknown: usize,
    /// Whether some set holds the pipeline's lease now.
    pub is_held: bool,
    /// As [`positions`] gives them; none where the tables are not up to date.
    pub positions: Vec<StoredPosition>,
}

impl Survey {
    pub(crate) fn of_versions(applied: &[i32], known: &[i32]) -> Self {
        let missing = known.iter().filter(|version| !applied.contains(version)).count();
        let unknown = applied.iter().filter(|version| !known.contains(version)).count();
        Survey { missing, unknown, is_held: false, positions: Vec::new() }
    }

    /// Whether the tables are those that this program works with.
    pub fn is_current(&self) -> bool {
        self.missing == 0 && self.unknown == 0
    }
}

/// Looks at the store without changing anything. A SQLite file must be there.
pub async fn survey(config: &StoreConfig) -> Result<Survey, SinkError> {
    match Target::parse(&config.url)? {
        Target::Postgres(url) => postgres::survey(&url, &config.pipeline).await,
        Target::Sqlite(file) => sqlite::survey(&file).await,
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

/// Notes how a log sink gets the logs of partitions that it claimed, for [`positions`].
pub async fn note_lanes(
    config: &StoreConfig,
    sink: &str,
    lanes: &[(TopicPartition, LaneState)],
) -> Result<(), SinkError> {
    match Target::parse(&config.url)? {
        Target::Postgres(url) => postgres::note_lanes(&url, sink, lanes).await,
        Target::Sqlite(file) => sqlite::note_lanes(&file, sink.to_owned(), lanes.to_vec()).await,
    }
}

/// Where in a partition what is too old changed, in the order of offsets.
pub async fn retention_cuts(
    config: &StoreConfig,
    partition: &TopicPartition,
) -> Result<Vec<RetentionCut>, SinkError> {
    match Target::parse(&config.url)? {
        Target::Postgres(url) => postgres::retention_cuts(&url, partition).await,
        Target::Sqlite(file) => sqlite::retention_cuts(&file, partition.clone()).await,
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
/// before it; and the [`RetentionCut`]s that every sink has left behind. Gives how many went: rows in SQLite, day partitions and dead letters in PostgreSQL.
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

/// Writes how the life of models goes. `models`: a JSON array, one object a role in force.
pub async fn set_model_status(
    config: &StoreConfig,
    state: &str,
    detail: &str,
    registry: &str,
    models: &str,
) -> Result<(), SinkError> {
    let values = [&config.pipeline, state, detail, registry, models].map(str::to_owned);
    match Target::parse(&config.url)? {
        Target::Postgres(url) => postgres::set_model_status(&url, &values).await,
        Target::Sqlite(file) => sqlite::set_model_status(&file, values).await,
    }
}

/// Calls `read` with each stored log of `[since_us, until_us)` as a line of JSON, by time, until it says `false`.
/// Streams: memory does not grow with the history.
pub async fn read_logs(
    config: &StoreConfig,
    since_us: i64,
    until_us: i64,
    read: &mut (dyn FnMut(&str) -> bool + Send),
) -> Result<(), SinkError> {
    match Target::parse(&config.url)? {
        Target::Postgres(url) => postgres::read_logs(&url, since_us, until_us, read).await,
        Target::Sqlite(file) => sqlite::read_logs(&file, since_us, until_us, read),
    }
}

/// When episodes that were not disproved lasted, epoch seconds; `expected`: only those that people expect.
pub async fn anomaly_intervals(config: &StoreConfig, expected: bool) -> Result<Vec<(i64, i64)>, SinkError> {
    let micros = match Target::parse(&config.url)? {
        Target::Postgres(url) => postgres::anomaly_intervals(&url, expected).await?,
        Target::Sqlite(file) => sqlite::anomaly_intervals(&file, expected).await?,
    };
    let seconds = |us: i64| us.div_euclid(smartlog_schema::window::MICROS);
    Ok(micros.into_iter().map(|(from, to)| (seconds(from), seconds(to) + 1)).collect())
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
