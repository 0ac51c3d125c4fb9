//! The aggregates of one pipeline in SQLite.

use super::classify;
use super::writer::{Turn, Writer};
use crate::config::{StoreConfig, sqlite_name};
use crate::episode::{
    EpisodeRow, MODEL_VERSION_CHARS, SERVICE_CHARS, event_json, json_or_string, micros, storable,
};
use crate::error::{Fault, SinkError};
use crate::plan::{Held, Move, StatePlan, fenced_position, never_poison, not_open};
use crate::retry::Patience;
use crate::{AGGREGATES, StateStore};
use async_trait::async_trait;
use compact_str::CompactString;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use smartlog_schema::anomaly::{Episode, EpisodeKey};
use smartlog_schema::commit::{ClockState, EpochCommit, Fingerprint, Snapshot};
use smartlog_schema::position::{Positions, TopicPartition};
use smartlog_schema::sums::Sums;
use smartlog_schema::window::HOUR;
use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// [`StateStore`] in a SQLite file. The lease is a lock on `FILE.lock`, which the kernel drops with the process.
pub(crate) struct SqliteState {
    file: PathBuf,
    store: String,
    pipeline: String,
    max_lateness_us: i64,
    patience: Patience,
    opened: Option<Opened>,
}

struct Opened {
    writer: Arc<Writer>,
    held: Held,
    /// Held until the store is dropped.
    _lease: File,
}

impl SqliteState {
    pub fn new(file: PathBuf, config: &StoreConfig, patience: Patience) -> Self {
        SqliteState {
            store: sqlite_name(&file),
            file,
            pipeline: config.pipeline.clone(),
            max_lateness_us: i64::try_from(config.max_lateness.as_micros()).unwrap_or(i64::MAX),
            patience,
            opened: None,
        }
    }

    /// One attempt to take the lease and read what is there.
    async fn try_open(&self) -> Result<(Opened, Snapshot), SinkError> {
        let writer = Writer::of(&self.file).await?;
        let lease = self.take_lease()?;
        let (store, pipeline, max_lateness_us) =
            (self.store.clone(), self.pipeline.clone(), self.max_lateness_us);
        let (held, snapshot) = writer
            .run(Turn::Urgent, move |connection| take_over(connection, &store, &pipeline, max_lateness_us))
            .await?;
        Ok((Opened { writer, held, _lease: lease }, snapshot))
    }

    fn take_lease(&self) -> Result<File, SinkError> {
        let path = PathBuf::from(format!("{}.lock", self.file.display()));
        let fault = |found: String, advice: &str| Fault {
            store: self.store.clone(),
            doing: format!("take the lease of pipeline {:?}", self.pipeline),
            found,
            advice: advice.into(),
        };
        let refuse = |error: std::io::Error| {
            SinkError::Fatal(fault(error.to_string(), "give this user the right to write the file's folder"))
        };
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(refuse)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(SinkError::Transient(fault(
                format!("another process holds {}", path.display()),
                "waiting for it to end",
            ))),
            Err(TryLockError::Error(error)) => Err(refuse(error)),
        }
    }
}

#[async_trait]
impl StateStore for SqliteState {
    async fn open(&mut self) -> Result<Snapshot, SinkError> {
        self.opened = None;
        let mut attempts = self.patience.attempts();
        loop {
            match self.try_open().await {
                Ok((opened, snapshot)) => {
                    self.opened = Some(opened);
                    self.patience.health.recovered();
                    return Ok(snapshot);
                }
                Err(error) => attempts.after(error).await?,
            }
        }
    }

    async fn commit(&mut self, commit: &EpochCommit) -> Result<(), SinkError> {
        let Some(opened) = &mut self.opened else { return Err(not_open(&self.store, "commit an epoch")) };
        let begun = Instant::now();
        let plan = Arc::new(StatePlan::new(commit, &opened.held));
        let mut attempts = self.patience.attempts();
        loop {
            let (plan, store, pipeline) = (Arc::clone(&plan), self.store.clone(), self.pipeline.clone());
            let job = move |connection: &mut Connection| apply(connection, &store, &pipeline, &plan);
            match opened.writer.run(Turn::Urgent, job).await {
                Ok(()) => break,
                Err(error) => attempts.after(never_poison(error)).await?,
            }
        }
        opened.held = plan.after.clone();
        self.patience.health.committed(begun.elapsed(), plan.seconds.len() as u64, 0);
        Ok(())
    }
}

/// Begins a transaction that holds the write lock from the start, so that what it reads stays true.
pub(super) fn begin(connection: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

// ---------------------------------------------------------------------------------------------------- opening

fn take_over(
    connection: &mut Connection,
    store: &str,
    pipeline: &str,
    max_lateness_us: i64,
) -> Result<(Held, Snapshot), SinkError> {
    const DOING: &str = "read the stored state";
    let failed = |error: rusqlite::Error| classify(store, DOING, &error);
    let transaction = begin(connection).map_err(failed)?;
    let owner: Option<String> = transaction
        .query_row("SELECT pipeline FROM pipeline_state WHERE pipeline <> ?1", [pipeline], |row| row.get(0))
        .optional()
        .map_err(failed)?;
    if let Some(owner) = owner {
        return Err(crate::plan::another_pipeline(store, pipeline, &owner));
    }
    let holder: i64 = rand::random();
    transaction
        .execute(
            "INSERT INTO pipeline_state (pipeline, sequence, holder, event_seq, epoch) VALUES (?1, 1, ?2, 0, 0)
             ON CONFLICT (pipeline) DO UPDATE SET sequence = sequence + 1, holder = excluded.holder",
            params![pipeline, holder],
        )
        .map_err(failed)?;
    let (held, snapshot) = read_snapshot(&transaction, store, pipeline, holder, max_lateness_us)?;
    transaction.commit().map_err(failed)?;
    Ok((held, snapshot))
}

fn read_snapshot(
    transaction: &Transaction<'_>,
    store: &str,
    pipeline: &str,
    holder: i64,
    max_lateness_us: i64,
) -> Result<(Held, Snapshot), SinkError> {
    let failed = |error: rusqlite::Error| classify(store, "read the stored state", &error);
    let (sequence, event_seq, clock, partition_clocks) = transaction
        .query_row(
            "SELECT sequence, event_seq, clock_us, watermark_us, wall_us, partition_clocks FROM pipeline_state
             WHERE pipeline = ?1",
            [pipeline],
            |row| {
                let clock: (Option<i64>, Option<i64>, Option<i64>) = (row.get(2)?, row.get(3)?, row.get(4)?);
                Ok((row.get(0)?, row.get(1)?, clock, row.get::<_, String>(5)?))
            },
        )
        .map_err(failed)?;
    let clock = match clock {
        (Some(clock_us), Some(watermark_us), Some(wall_us)) => Some(ClockState {
            clock_us,
            watermark_us,
            wall_us,
            partitions: crate::plan::read_partition_clocks(store, &partition_clocks)?,
        }),
        _ => None,
    };
    let (positions, fingerprints) = read_positions(transaction).map_err(failed)?;
    let settled_before = clock.as_ref().map_or(i64::MIN, |c| c.clock_us.saturating_sub(max_lateness_us));
    let episodes = read_episodes(transaction, settled_before).map_err(failed)?;
    let snapshot = Snapshot {
        fingerprints,
        clock,
        seconds: read_seconds(transaction).map_err(failed)?,
        detectors: read_detectors(transaction).map_err(failed)?,
        episodes: episodes.into_iter().map(|row| row.read(store)).collect::<Result<_, _>>()?,
        positions: positions.clone(),
    };
    let held = Held { holder, sequence, event_seq, positions, forgotten_before: i64::MIN };
    Ok((held, snapshot))
}

fn read_positions(
    transaction: &Transaction<'_>,
) -> rusqlite::Result<(Positions, BTreeMap<TopicPartition, Fingerprint>)> {
    let mut statement = transaction.prepare(
        "SELECT topic, partition, next_offset, record_time_ms, payload_hash FROM sink_positions
         WHERE sink = ?1 AND next_offset IS NOT NULL",
    )?;
    let (mut positions, mut fingerprints) = (Positions::new(), BTreeMap::new());
    let mut rows = statement.query([AGGREGATES])?;
    while let Some(row) = rows.next()? {
        let partition = TopicPartition::new(row.get::<_, String>(0)?, row.get(1)?);
        if let (Some(record_time_ms), Some(payload_hash)) = (row.get(3)?, row.get(4)?) {
            fingerprints.insert(partition.clone(), Fingerprint { record_time_ms, payload_hash });
        }
        positions.insert(partition, row.get(2)?);
    }
    Ok((positions, fingerprints))
}

fn read_seconds(transaction: &Transaction<'_>) -> rusqlite::Result<Vec<(CompactString, i64, Sums)>> {
    let mut statement = transaction.prepare(
        "SELECT service, second, logs, errors, message_chars FROM window_state ORDER BY service, second",
    )?;
    let read = |row: &Row<'_>| {
        let sums = Sums { logs: row.get(2)?, errors: row.get(3)?, message_chars: row.get(4)? };
        Ok((CompactString::from(row.get_ref(0)?.as_str()?), row.get(1)?, sums))
    };
    statement.query_map([], read)?.collect()
}

fn read_detectors(transaction: &Transaction<'_>) -> rusqlite::Result<Vec<(CompactString, Vec<u8>)>> {
    let mut statement = transaction.prepare("SELECT service, state FROM baseline_state ORDER BY service")?;
    let read = |row: &Row<'_>| Ok((CompactString::from(row.get_ref(0)?.as_str()?), row.get(1)?));
    statement.query_map([], read)?.collect()
}

/// Episodes that are not closed, and closed ones that ended at or after `settled_before` (microseconds).
fn read_episodes(transaction: &Transaction<'_>, settled_before: i64) -> rusqlite::Result<Vec<EpisodeRow>> {
    let mut statement = transaction.prepare(
        "SELECT service, anomaly_type, first_raised_at, status, severity, revision, detected_at, started_at, last_seen,
                ended_at, metric_value, threshold, baseline, peak_value, score, model_version, description,
                explanation, provenance
         FROM anomalies
         WHERE status IN ('provisional', 'open') OR coalesce(ended_at, last_seen) >= ?1
         ORDER BY coalesce(service, ''), anomaly_type, first_raised_at",
    )?;
    let read = |row: &Row<'_>| {
        Ok(EpisodeRow {
            service: row.get(0)?,
            anomaly_type: row.get(1)?,
            first_raised_at: row.get(2)?,
            status: row.get(3)?,
            severity: row.get(4)?,
            revision: row.get(5)?,
            detected_at: row.get(6)?,
            started_at: row.get(7)?,
            last_seen: row.get(8)?,
            ended_at: row.get(9)?,
            metric_value: row.get(10)?,
            threshold: row.get(11)?,
            baseline: row.get(12)?,
            peak_value: row.get(13)?,
            score: row.get(14)?,
            model_version: row.get(15)?,
            description: row.get(16)?,
            explanation: row.get(17)?,
            provenance: row.get(18)?,
        })
    };
    statement.query_map([settled_before], read)?.collect()
}

// ------------------------------------------------------------------------------------------------- committing

fn apply(
    connection: &mut Connection,
    store: &str,
    pipeline: &str,
    plan: &StatePlan,
) -> Result<(), SinkError> {
    let failed = |error: rusqlite::Error| classify(store, "commit an epoch", &error);
    let transaction = begin(connection).map_err(failed)?;
    if !fence(&transaction, pipeline, plan).map_err(failed)? {
        let found = found_state(&transaction, pipeline).map_err(failed)?;
        if found == Some((plan.after.sequence, Some(plan.before.holder))) {
            return Ok(()); // An earlier attempt went through although its answer was an error.
        }
        return Err(plan.fenced(store, pipeline, found));
    }
    if let Some(lost) = move_positions(&transaction, plan).map_err(failed)? {
        let found = found_position(&transaction, AGGREGATES, &lost.partition).map_err(failed)?;
        return Err(fenced_position(store, AGGREGATES, lost, found));
    }
    write_aggregates(&transaction, plan).map_err(failed)?;
    if !plan.changes.is_empty() {
        write_episodes(&transaction, plan).map_err(failed)?;
    }
    transaction.commit().map_err(failed)
}

/// Compare-and-set of the commit sequence; false: it is not ours any more.
fn fence(transaction: &Transaction<'_>, pipeline: &str, plan: &StatePlan) -> rusqlite::Result<bool> {
    let mut statement = transaction.prepare_cached(
        "UPDATE pipeline_state SET sequence = ?1, event_seq = ?2, epoch = ?3, clock_us = ?4, watermark_us = ?5,
                wall_us = ?6, partition_clocks = ?7, updated_at = CAST(unixepoch('subsec') * 1000000 AS INTEGER)
         WHERE pipeline = ?8 AND sequence = ?9 AND holder = ?10",
    )?;
    let changed = statement.execute(params![
        plan.after.sequence,
        plan.after.event_seq,
        plan.epoch,
        plan.clock.clock_us,
        plan.clock.watermark_us,
        plan.clock.wall_us,
        crate::plan::write_partition_clocks(&plan.clock),
        pipeline,
        plan.before.sequence,
        plan.before.holder,
    ])?;
    Ok(changed == 1)
}

fn found_state(
    transaction: &Transaction<'_>,
    pipeline: &str,
) -> rusqlite::Result<Option<(i64, Option<i64>)>> {
    transaction
        .query_row("SELECT sequence, holder FROM pipeline_state WHERE pipeline = ?1", [pipeline], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()
}

/// What is stored for a partition: `None` without an entry, `Some(None)` for an entry without a position.
pub(super) fn found_position(
    transaction: &Transaction<'_>,
    sink: &str,
    partition: &TopicPartition,
) -> rusqlite::Result<Option<Option<i64>>> {
    transaction
        .query_row(
            "SELECT next_offset FROM sink_positions WHERE sink = ?1 AND topic = ?2 AND partition = ?3",
            params![sink, partition.topic.as_str(), partition.partition],
            |row| row.get(0),
        )
        .optional()
}

/// Compare-and-set of each position; the first one that was not as expected.
fn move_positions<'a>(
    transaction: &Transaction<'_>,
    plan: &'a StatePlan,
) -> rusqlite::Result<Option<&'a Move>> {
    let mut update = transaction.prepare_cached(
        "UPDATE sink_positions SET next_offset = ?4, record_time_ms = coalesce(?5, record_time_ms),
                payload_hash = coalesce(?6, payload_hash),
                updated_at = CAST(unixepoch('subsec') * 1000000 AS INTEGER)
         WHERE sink = ?1 AND topic = ?2 AND partition = ?3 AND next_offset = ?7",
    )?;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO sink_positions (sink, topic, partition, next_offset, record_time_ms, payload_hash)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
    )?;
    for step in &plan.moves {
        let (topic, partition) = (step.partition.topic.as_str(), step.partition.partition);
        let (time, hash) = step.fingerprint.map(|f| (f.record_time_ms, f.payload_hash)).unzip();
        let changed = match step.expected {
            Some(expected) => {
                update.execute(params![AGGREGATES, topic, partition, step.next, time, hash, expected])?
            }
            None => insert.execute(params![AGGREGATES, topic, partition, step.next, time, hash])?,
        };
        if changed != 1 {
            return Ok(Some(step));
        }
    }
    Ok(None)
}

fn write_aggregates(transaction: &Transaction<'_>, plan: &StatePlan) -> rusqlite::Result<()> {
    add_seconds(transaction, plan)?;
    if let Some(before) = plan.forget_seconds_before {
        transaction.prepare_cached("DELETE FROM window_state WHERE second < ?1")?.execute([before])?;
    }
    add_hourly(transaction, plan)?;
    let mut keep = transaction.prepare_cached(
        "INSERT INTO baseline_state (service, state) VALUES (?1, ?2)
         ON CONFLICT (service) DO UPDATE SET state = excluded.state",
    )?;
    let mut give_up = transaction.prepare_cached("DELETE FROM baseline_state WHERE service = ?1")?;
    for (service, state) in &plan.detectors {
        match state {
            Some(state) => keep.execute(params![service.as_str(), state])?,
            None => give_up.execute([service.as_str()])?,
        };
    }
    Ok(())
}

fn add_seconds(transaction: &Transaction<'_>, plan: &StatePlan) -> rusqlite::Result<()> {
    let mut add = transaction.prepare_cached(
        "INSERT INTO window_state (second, service, logs, errors, message_chars) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (second, service) DO UPDATE SET logs = logs + excluded.logs, errors = errors + excluded.errors,
                message_chars = message_chars + excluded.message_chars",
    )?;
    for (service, second, sums) in &plan.seconds {
        add.execute(params![second, service.as_str(), sums.logs, sums.errors, sums.message_chars])?;
    }
    if plan.may_empty {
        let mut drop_empty = transaction.prepare_cached(
            "DELETE FROM window_state
             WHERE second = ?1 AND service = ?2 AND logs = 0 AND errors = 0 AND message_chars = 0",
        )?;
        for (service, second, _) in &plan.seconds {
            drop_empty.execute(params![second, service.as_str()])?;
        }
    }
    Ok(())
}

fn add_hourly(transaction: &Transaction<'_>, plan: &StatePlan) -> rusqlite::Result<()> {
    let mut add = transaction.prepare_cached(
        "INSERT INTO hourly_metrics (hour, service, log_count, error_count) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (hour, service) DO UPDATE SET log_count = log_count + excluded.log_count,
                error_count = error_count + excluded.error_count",
    )?;
    for delta in &plan.hourly {
        let service = storable(&delta.service, SERVICE_CHARS);
        add.execute(params![micros(delta.hour), service, delta.logs, delta.errors])?;
        if delta.logs < 0 {
            drop_empty_hour(transaction, delta.hour, &service)?;
        }
    }
    Ok(())
}

fn drop_empty_hour(transaction: &Transaction<'_>, hour: i64, service: &str) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "DELETE FROM hourly_metrics
         WHERE hour = ?1 AND service = ?2 AND log_count = 0 AND error_count = 0 AND anomaly_count = 0",
    )?;
    statement.execute(params![micros(hour), service])?;
    Ok(())
}

// --------------------------------------------------------------------------------------------------- episodes

fn write_episodes(transaction: &Transaction<'_>, plan: &StatePlan) -> rusqlite::Result<()> {
    let mut started_before = Vec::new();
    let mut ids: BTreeMap<&EpisodeKey, i64> = BTreeMap::new();
    for (key, episode) in plan.episodes() {
        let stored = stored_episode(transaction, key)?;
        if let Some((_, started_at)) = stored {
            started_before.push((key.clone(), crate::episode::seconds(started_at)));
        }
        ids.insert(key, write_episode(transaction, stored.map(|(id, _)| id), episode)?);
    }
    append_events(transaction, plan, &ids)?;
    for (hour, service) in plan.recounts(&started_before) {
        recount_hour(transaction, hour, &storable(&service, SERVICE_CHARS))?;
    }
    Ok(())
}

/// Id and `started_at` (microseconds) of an episode that is stored already.
fn stored_episode(transaction: &Transaction<'_>, key: &EpisodeKey) -> rusqlite::Result<Option<(i64, i64)>> {
    let mut statement = transaction.prepare_cached(
        "SELECT id, started_at FROM anomalies
         WHERE coalesce(service, '') = ?1 AND anomaly_type = ?2 AND first_raised_at = ?3",
    )?;
    let service = storable(key.service.as_deref().unwrap_or_default(), SERVICE_CHARS);
    let key = params![service, key.anomaly_type.as_str(), micros(key.first_raised_at)];
    statement.query_row(key, |row| Ok((row.get(0)?, row.get(1)?))).optional()
}

/// Inserts the episode, or updates the row `id`; gives the row's id.
fn write_episode(transaction: &Transaction<'_>, id: Option<i64>, episode: &Episode) -> rusqlite::Result<i64> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO anomalies (id, service, anomaly_type, first_raised_at, status, severity, revision, detected_at,
                started_at, last_seen, ended_at, metric_value, threshold, baseline, peak_value, score, model_version,
                description, explanation, provenance)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)
         ON CONFLICT (id) DO UPDATE SET status = excluded.status, severity = excluded.severity,
                revision = excluded.revision, detected_at = excluded.detected_at, started_at = excluded.started_at,
                last_seen = excluded.last_seen, ended_at = excluded.ended_at, metric_value = excluded.metric_value,
                threshold = excluded.threshold, baseline = excluded.baseline, peak_value = excluded.peak_value,
                score = excluded.score, model_version = excluded.model_version, description = excluded.description,
                explanation = excluded.explanation, provenance = excluded.provenance,
                updated_at = CAST(unixepoch('subsec') * 1000000 AS INTEGER)
         RETURNING id",
    )?;
    let key = &episode.key;
    let text = |text: &str| Value::Text(storable(text, usize::MAX).into_owned());
    let values: [Value; 20] = [
        id.into(),
        key.service.as_deref().map(|s| storable(s, SERVICE_CHARS).into_owned()).into(),
        text(key.anomaly_type.as_str()),
        micros(key.first_raised_at).into(),
        text(episode.status.as_str()),
        text(episode.severity.as_str()),
        i64::from(episode.revision).into(),
        episode.detected_at_us.into(),
        micros(episode.started_at).into(),
        micros(episode.last_seen).into(),
        episode.ended_at.map(micros).into(),
        number(episode.metric_value),
        number(episode.threshold),
        number(episode.baseline),
        number(episode.peak_value),
        episode.score.map_or(Value::Null, number),
        episode.model_version.as_deref().map(|v| storable(v, MODEL_VERSION_CHARS).into_owned()).into(),
        text(&episode.description),
        text(&json_or_string(&episode.explanation)),
        text(&json_or_string(&episode.provenance)),
    ];
    statement.query_row(rusqlite::params_from_iter(values), |row| row.get(0))
}

/// SQLite knows no NaN.
fn number(value: f64) -> Value {
    if value.is_nan() { Value::Null } else { Value::Real(value) }
}

fn append_events(
    transaction: &Transaction<'_>,
    plan: &StatePlan,
    ids: &BTreeMap<&EpisodeKey, i64>,
) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO anomaly_events (seq, anomaly_id, kind, revision, status, reason, clock, episode)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    for (seq, change) in (plan.before.event_seq + 1..).zip(&plan.changes) {
        let episode = &change.episode;
        statement.execute(params![
            seq,
            ids[&episode.key],
            change.kind.as_str(),
            episode.revision,
            episode.status.as_str(),
            change.reason.as_deref().map(|reason| storable(reason, usize::MAX)),
            plan.clock.clock_us,
            event_json(change),
        ])?;
    }
    Ok(())
}

fn recount_hour(transaction: &Transaction<'_>, hour: i64, service: &str) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO hourly_metrics (hour, service, anomaly_count)
         SELECT ?1, ?2, count(*) FROM anomalies
         WHERE service = ?2 AND started_at >= ?1 AND started_at < ?3 AND status <> 'retracted'
         ON CONFLICT (hour, service) DO UPDATE SET anomaly_count = excluded.anomaly_count",
    )?;
    statement.execute(params![micros(hour), service, micros(hour + HOUR)])?;
    drop_empty_hour(transaction, hour, service)
}
