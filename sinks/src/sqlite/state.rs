//! The aggregates of one pipeline in SQLite.

use super::classify;
use super::episodes::write_episodes;
use super::patterns::write_patterns;
use super::snapshot::take_over;
use super::writer::{Turn, Writer};
use crate::config::{StoreConfig, sqlite_name};
use crate::episode::{SERVICE_CHARS, micros, storable};
use crate::error::{Fault, SinkError};
use crate::plan::{Held, Move, StatePlan, fenced_position, never_poison, not_open, write_partition_clocks};
use crate::retry::Patience;
use crate::{AGGREGATES, StateStore};
use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use smartlog_schema::commit::{EpochCommit, Snapshot, Warmth};
use smartlog_schema::position::TopicPartition;
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
        let lease = self.take_lease(&writer)?;
        let (store, pipeline, max_lateness_us) =
            (self.store.clone(), self.pipeline.clone(), self.max_lateness_us);
        let (held, snapshot) = writer
            .run(Turn::Urgent, move |connection| take_over(connection, &store, &pipeline, max_lateness_us))
            .await?;
        Ok((Opened { writer, held, _lease: lease }, snapshot))
    }

    fn take_lease(&self, writer: &Writer) -> Result<File, SinkError> {
        let mut path = writer.file.clone().into_os_string();
        path.push(".lock");
        let path = PathBuf::from(path);
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
                wall_us = ?6, partition_clocks = ?7, feedback_seq = coalesce(?11, feedback_seq), updated_at = CAST(unixepoch('subsec') * 1000000 AS INTEGER)
         WHERE pipeline = ?8 AND sequence = ?9 AND holder = ?10",
    )?;
    let changed = statement.execute(params![
        plan.after.sequence,
        plan.after.event_seq,
        plan.epoch,
        plan.clock.clock_us,
        plan.clock.watermark_us,
        plan.clock.wall_us,
        write_partition_clocks(&plan.clock),
        pipeline,
        plan.before.sequence,
        plan.before.holder,
        plan.feedback_seq,
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
    keep_minutes(transaction, plan)?;
    write_patterns(transaction, &plan.patterns)?;
    add_models(transaction, plan)?;
    keep_cuts(transaction, plan)?;
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
    let mut warm = transaction.prepare_cached(
        "UPDATE baseline_state SET known_minutes = ?2, needed_minutes = ?3 WHERE service = ?1",
    )?;
    for Warmth { service, minutes, needed } in &plan.warmth {
        warm.execute(params![service.as_str(), minutes, needed])?;
    }
    Ok(())
}

fn keep_minutes(transaction: &Transaction<'_>, plan: &StatePlan) -> rusqlite::Result<()> {
    let mut keep = transaction.prepare_cached(
        "INSERT INTO minute_state (minute, service, counts) VALUES (?1, ?2, ?3)
         ON CONFLICT (minute, service) DO UPDATE SET counts = excluded.counts",
    )?;
    for (service, minute, counts) in &plan.minutes {
        keep.execute(params![minute, service.as_str(), counts])?;
    }
    if let Some(before) = plan.forget_minutes_before {
        transaction.prepare_cached("DELETE FROM minute_state WHERE minute < ?1")?.execute([before])?;
    }
    Ok(())
}

fn keep_cuts(transaction: &Transaction<'_>, plan: &StatePlan) -> rusqlite::Result<()> {
    let mut keep = transaction.prepare_cached(
        "INSERT INTO retention_cuts (topic, partition, from_offset, before_us) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (topic, partition, from_offset) DO UPDATE SET before_us = excluded.before_us",
    )?;
    for (source, cut) in &plan.cuts {
        keep.execute(params![source.topic.as_str(), source.partition, cut.from_offset, cut.before_us])?;
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

/// Scores and the models that came into force.
fn add_models(transaction: &Transaction<'_>, plan: &StatePlan) -> rusqlite::Result<()> {
    let mut add = transaction.prepare_cached(
        "INSERT INTO window_scores AS s (minute, service, role, score, threshold, alert_threshold, model_version,
                                         would_raise)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (minute, service, role) DO UPDATE SET score = max(s.score, excluded.score),
                threshold = excluded.threshold, alert_threshold = excluded.alert_threshold,
                model_version = excluded.model_version, would_raise = coalesce(s.would_raise, excluded.would_raise)
         WHERE s.score < excluded.score OR (s.would_raise IS NULL AND excluded.would_raise IS NOT NULL)",
    )?;
    for score in &plan.scores {
        let (minute, service, role) = (micros(score.minute), score.service.as_str(), score.role.as_str());
        let (level, threshold, alert) = (score.score, score.threshold, score.alert_threshold);
        let (version, would_raise) = (&score.model_version, score.would_raise.map(micros));
        add.execute(params![minute, service, role, level, threshold, alert, version, would_raise])?;
    }
    let mut swap = transaction.prepare_cached(
        "INSERT INTO model_swaps (role, effective, version, digest) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (role, effective) DO UPDATE SET version = excluded.version, digest = excluded.digest",
    )?;
    for model in &plan.models {
        let (role, effective) = (model.role.as_str(), micros(model.effective));
        swap.execute(params![role, effective, model.version, model.digest])?;
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

pub(super) fn drop_empty_hour(
    transaction: &Transaction<'_>,
    hour: i64,
    service: &str,
) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "DELETE FROM hourly_metrics
         WHERE hour = ?1 AND service = ?2 AND log_count = 0 AND error_count = 0 AND anomaly_count = 0",
    )?;
    statement.execute(params![micros(hour), service])?;
    Ok(())
}
