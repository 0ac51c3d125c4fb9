//! Logs and dead letters in SQLite.

use super::classify;
use super::state::{begin, found_position};
use super::writer::{Turn, Writer};
use crate::config::sqlite_name;
use crate::dead_letter::refused;
use crate::error::SinkError;
use crate::plan::{LogPlan, Move, check_claimed, fenced_position, not_open};
use crate::retry::Patience;
use crate::{LOGS, LogSink};
use async_trait::async_trait;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Statement, Transaction, params};
use smartlog_schema::dead_letter::DeadLetter;
use smartlog_schema::log::{LogBatch, LogRef};
use smartlog_schema::position::{Positions, TopicPartition};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Rows of one INSERT: beyond this the gain is lost in the noise.
const ROWS: usize = 16;
const COLUMNS: usize = 10;

/// [`LogSink`] into the tables `logs` and `dead_letters` of a SQLite file.
pub(crate) struct SqliteLogs {
    file: PathBuf,
    store: String,
    patience: Patience,
    opened: Option<Opened>,
}

struct Opened {
    writer: Arc<Writer>,
    holder: i64,
    claimed: BTreeSet<TopicPartition>,
    positions: Positions,
    watermark_us: i64,
}

impl SqliteLogs {
    pub fn new(file: PathBuf, patience: Patience) -> Self {
        SqliteLogs { store: sqlite_name(&file), file, patience, opened: None }
    }

    async fn try_resume(&mut self, partitions: &[TopicPartition]) -> Result<Positions, SinkError> {
        let opened = match &mut self.opened {
            Some(opened) => opened,
            none => none.insert(Opened {
                writer: Writer::of(&self.file).await?,
                holder: rand::random(),
                claimed: BTreeSet::new(),
                positions: Positions::new(),
                watermark_us: i64::MIN,
            }),
        };
        let (holder, store, wanted) = (opened.holder, self.store.clone(), partitions.to_vec());
        let job = move |connection: &mut Connection| {
            claim(connection, holder, &wanted).map_err(|error| classify(&store, "claim partitions", &error))
        };
        let found = opened.writer.run(Turn::Plain, job).await?;
        opened.claimed.extend(partitions.iter().cloned());
        opened.positions.extend(found.clone());
        Ok(found)
    }
}

#[async_trait]
impl LogSink for SqliteLogs {
    fn name(&self) -> &str {
        LOGS
    }

    async fn resume(&mut self, partitions: &[TopicPartition]) -> Result<Positions, SinkError> {
        let patience = self.patience.clone();
        let mut attempts = patience.attempts();
        loop {
            match self.try_resume(partitions).await {
                Ok(positions) => {
                    patience.health.recovered();
                    return Ok(positions);
                }
                Err(error) => attempts.after(error).await?,
            }
        }
    }

    async fn write(&mut self, batches: &[LogBatch], watermark_us: i64) -> Result<(), SinkError> {
        let Some(opened) = &mut self.opened else { return Err(not_open(&self.store, "write logs")) };
        check_claimed(&self.store, &opened.claimed, batches)?;
        let plan = LogPlan::new(batches, &opened.positions);
        if plan.moves.is_empty() && watermark_us <= opened.watermark_us {
            return Ok(());
        }
        let begun = Instant::now();
        // The thread outlives this call when it is dropped, hence clones.
        let work = Arc::new((plan, batches.to_vec()));
        let holder = opened.holder;
        let mut attempts = self.patience.attempts();
        let refused_rows = loop {
            let (work, store) = (Arc::clone(&work), self.store.clone());
            let job = move |connection: &mut Connection| {
                apply(connection, &store, holder, &work.0, &work.1, watermark_us)
            };
            match opened.writer.run(Turn::Plain, job).await {
                Ok(refused_rows) => break refused_rows,
                Err(error) => attempts.after(error).await?,
            }
        };
        let plan = &work.0;
        opened.positions.extend(plan.moves.iter().map(|m| (m.partition.clone(), m.next)));
        opened.watermark_us = opened.watermark_us.max(watermark_us);
        let (rows, letters) = (plan.rows() as u64 - refused_rows, plan.dead_letters() as u64 + refused_rows);
        self.patience.health.committed(begun.elapsed(), rows, letters);
        Ok(())
    }
}

/// Makes `holder` the one that may move `partitions`, and reads where they stand.
fn claim(
    connection: &mut Connection,
    holder: i64,
    partitions: &[TopicPartition],
) -> rusqlite::Result<Positions> {
    let transaction = begin(connection)?;
    let mut positions = Positions::new();
    {
        let mut statement = transaction.prepare_cached(
            "INSERT INTO sink_positions (sink, topic, partition, holder) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (sink, topic, partition) DO UPDATE SET holder = excluded.holder
             RETURNING next_offset",
        )?;
        for partition in partitions {
            let values = params![LOGS, partition.topic.as_str(), partition.partition, holder];
            let next: Option<i64> = statement.query_row(values, |row| row.get(0))?;
            positions.extend(next.map(|next| (partition.clone(), next)));
        }
    }
    transaction.commit()?;
    Ok(positions)
}

/// One transaction; gives the number of logs that were refused and became dead letters.
fn apply(
    connection: &mut Connection,
    store: &str,
    holder: i64,
    plan: &LogPlan,
    batches: &[LogBatch],
    watermark_us: i64,
) -> Result<u64, SinkError> {
    let failed = |error: rusqlite::Error| classify(store, "write logs", &error);
    let transaction = begin(connection).map_err(failed)?;
    if let Some(lost) = move_positions(&transaction, holder, plan).map_err(failed)? {
        if is_applied(&transaction, holder, plan).map_err(failed)? {
            return Ok(0); // An earlier attempt went through although its answer was an error.
        }
        let found = found_position(&transaction, LOGS, &lost.partition).map_err(failed)?;
        return Err(fenced_position(store, LOGS, lost, found));
    }
    if watermark_us != i64::MIN {
        note_watermark(&transaction, holder, watermark_us).map_err(failed)?;
    }
    let mut refused_rows = 0;
    for stretch in &plan.stretches {
        let batch = &batches[stretch.batch];
        let letters = insert_logs(&transaction, store, batch, stretch.rows.clone())?;
        refused_rows += letters.len() as u64;
        let given = &batch.dead_letters[stretch.dead_letters.clone()];
        insert_dead_letters(&transaction, &batch.source, given.iter().chain(&letters)).map_err(failed)?;
    }
    transaction.commit().map_err(failed)?;
    Ok(refused_rows)
}

/// Compare-and-set of each position; the first one that was not as expected.
fn move_positions<'a>(
    transaction: &Transaction<'_>,
    holder: i64,
    plan: &'a LogPlan,
) -> rusqlite::Result<Option<&'a Move>> {
    let mut statement = transaction.prepare_cached(
        "UPDATE sink_positions SET next_offset = ?4, updated_at = CAST(unixepoch('subsec') * 1000000 AS INTEGER)
         WHERE sink = ?1 AND topic = ?2 AND partition = ?3 AND next_offset IS ?5 AND holder = ?6",
    )?;
    for step in &plan.moves {
        let (topic, partition) = (step.partition.topic.as_str(), step.partition.partition);
        let changed = statement.execute(params![LOGS, topic, partition, step.next, step.expected, holder])?;
        if changed != 1 {
            return Ok(Some(step));
        }
    }
    Ok(None)
}

/// Whether every position stands where this plan leads, and is still ours.
fn is_applied(transaction: &Transaction<'_>, holder: i64, plan: &LogPlan) -> rusqlite::Result<bool> {
    let mut statement = transaction.prepare_cached(
        "SELECT 1 FROM sink_positions
         WHERE sink = ?1 AND topic = ?2 AND partition = ?3 AND next_offset = ?4 AND holder = ?5",
    )?;
    for step in &plan.moves {
        let values =
            params![LOGS, step.partition.topic.as_str(), step.partition.partition, step.next, holder];
        if statement.query_row(values, |_| Ok(())).optional()?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn note_watermark(transaction: &Transaction<'_>, holder: i64, watermark_us: i64) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "UPDATE sink_positions SET watermark_us = ?1
         WHERE sink = ?2 AND holder = ?3 AND coalesce(watermark_us < ?1, 1)",
    )?;
    statement.execute(params![watermark_us, LOGS, holder])?;
    Ok(())
}

// ------------------------------------------------------------------------------------------------------- rows

/// Inserts the logs at `rows`; gives those that SQLite refused, as dead letters.
fn insert_logs(
    transaction: &Transaction<'_>,
    store: &str,
    batch: &LogBatch,
    rows: std::ops::Range<usize>,
) -> Result<Vec<DeadLetter>, SinkError> {
    let failed = |error: rusqlite::Error| classify(store, "write logs", &error);
    let mut many = prepare_insert(transaction, ROWS).map_err(failed)?;
    let mut single = prepare_insert(transaction, 1).map_err(failed)?;
    let mut letters = Vec::new();
    let mut at = rows.start;
    while at < rows.end {
        let end = (at + ROWS).min(rows.end);
        let whole = end - at == ROWS && insert(&mut many, batch, at..end, store)?.is_none();
        if !whole {
            // The tail, or a group with a refused row: SQLite took back the whole statement, so one by one.
            for row in at..end {
                if let Some(why) = insert(&mut single, batch, row..row + 1, store)? {
                    letters.push(refused(batch.source.partition, &batch.get(row), &why));
                }
            }
        }
        at = end;
    }
    Ok(letters)
}

fn prepare_insert<'a>(
    transaction: &'a Transaction<'_>,
    rows: usize,
) -> rusqlite::Result<CachedStatement<'a>> {
    let one = format!("({})", ["?"; COLUMNS].join(", "));
    transaction.prepare_cached(&format!(
        "INSERT INTO logs (timestamp, level, service, host, message, metadata, kafka_topic, kafka_partition,
                kafka_offset, shape) VALUES {}",
        vec![one; rows].join(", ")
    ))
}

/// Inserts a group of logs by a statement that holds as many; why it was refused, if it was.
fn insert(
    statement: &mut Statement<'_>,
    batch: &LogBatch,
    rows: std::ops::Range<usize>,
    store: &str,
) -> Result<Option<String>, SinkError> {
    let first = rows.start;
    let bound =
        rows.into_iter().try_for_each(|row| bind(statement, (row - first) * COLUMNS, batch, &batch.get(row)));
    match bound.and_then(|()| statement.raw_execute()) {
        Ok(_) => Ok(None),
        Err(error) => match classify(store, "write logs", &error) {
            SinkError::Poison(_) => Ok(Some(refusal(&error))),
            error => Err(error),
        },
    }
}

/// Why SQLite refused a row, by code: its message may quote the row.
fn refusal(error: &rusqlite::Error) -> String {
    let code = error.sqlite_error().map_or(0, |e| e.extended_code);
    format!("SQLite result code {code}")
}

fn bind(
    statement: &mut Statement<'_>,
    before: usize,
    batch: &LogBatch,
    log: &LogRef<'_>,
) -> rusqlite::Result<()> {
    statement.raw_bind_parameter(before + 1, log.timestamp_us)?;
    statement.raw_bind_parameter(before + 2, log.level.as_str())?;
    statement.raw_bind_parameter(before + 3, log.service)?;
    statement.raw_bind_parameter(before + 4, log.host)?;
    statement.raw_bind_parameter(before + 5, log.message)?;
    statement.raw_bind_parameter(before + 6, log.metadata)?;
    statement.raw_bind_parameter(before + 7, batch.source.topic.as_str())?;
    statement.raw_bind_parameter(before + 8, batch.source.partition)?;
    statement.raw_bind_parameter(before + 9, log.offset)?;
    statement.raw_bind_parameter(before + 10, (log.shape != 0).then_some(log.shape))
}

/// A re-created topic counts its offsets anew: the newer dead letter takes the place of the older.
fn insert_dead_letters<'a>(
    transaction: &Transaction<'_>,
    source: &TopicPartition,
    letters: impl Iterator<Item = &'a DeadLetter>,
) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO dead_letters (kafka_topic, kafka_partition, kafka_offset, reason, detail, payload)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (kafka_topic, kafka_partition, kafka_offset) DO UPDATE
         SET reason = excluded.reason, detail = excluded.detail, payload = excluded.payload,
             created_at = CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
    )?;
    for letter in letters {
        let (topic, partition) = (source.topic.as_str(), source.partition);
        let values =
            (topic, partition, letter.offset, letter.reason.as_str(), &letter.detail, &letter.payload);
        statement.execute(values)?;
    }
    Ok(())
}
