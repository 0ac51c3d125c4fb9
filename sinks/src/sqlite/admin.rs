//! What `smartlog sinks` and maintenance do, in SQLite.

use super::classify;
use super::migrations;
use super::writer::{BUSY_TIMEOUT, Turn, Writer};
use crate::admin::{Counts, LaneState, PASSED_CUTS, StoredPosition, Survey};
use crate::config::sqlite_name;
use crate::error::{Fault, SinkError};
use crate::plan::{read_partition_clocks, write_partition_clocks};
use crate::{AGGREGATES, LOGS};
use rusqlite::{Connection, OpenFlags, params};
use smartlog_schema::commit::{ClockState, Fingerprint, RetentionCut};
use smartlog_schema::position::{Positions, TopicPartition};
use std::fs::{File, TryLockError};
use std::path::Path;

/// Rows deleted at a time: between two deletions others get their turn.
const EXPIRE_ROWS: usize = 5_000;
/// Of `window_scores`.
const KEY: &str = "minute, service, role";

pub(super) async fn run<T: Send + 'static>(
    file: &Path,
    doing: &'static str,
    job: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, SinkError> {
    let writer = Writer::of(file).await?;
    let store = writer.store.clone();
    let job =
        move |connection: &mut Connection| job(connection).map_err(|error| classify(&store, doing, &error));
    writer.run(Turn::Plain, job).await
}

pub(crate) async fn migrate(file: &Path) -> Result<(), SinkError> {
    Writer::of(file).await.map(drop)
}

/// Reads without the writer, which would bring the tables up to date first.
pub(crate) async fn survey(file: &Path) -> Result<Survey, SinkError> {
    let (file, store) = (file.to_owned(), sqlite_name(file));
    let name = store.clone();
    let looked =
        tokio::task::spawn_blocking(move || look(&file).map_err(|error| classify(&name, LOOK, &error)));
    looked.await.unwrap_or_else(|error| {
        let found = error.to_string();
        let advice = "please report it".to_owned();
        Err(SinkError::Fatal(Fault { store, doing: LOOK.into(), found, advice }))
    })
}

const LOOK: &str = "look at the tables";

fn look(file: &Path) -> rusqlite::Result<Survey> {
    let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let sql = "SELECT count(*) FROM sqlite_master WHERE name = 'refinery_schema_history'";
    let applied: Vec<i32> = match connection.query_row(sql, [], |row| row.get::<_, i64>(0))? {
        0 => Vec::new(),
        _ => {
            let mut statement = connection.prepare("SELECT version FROM refinery_schema_history")?;
            statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?
        }
    };
    let known = migrations::migrations::runner();
    let known: Vec<i32> = known.get_migrations().iter().map(|m| m.version()).collect();
    let mut survey = Survey::of_versions(&applied, &known);
    survey.is_held = is_locked(file);
    if survey.is_current() {
        survey.positions = read_positions(&connection)?;
    }
    Ok(survey)
}

/// Whether another process holds the lease, a lock on `FILE.lock`.
fn is_locked(file: &Path) -> bool {
    let mut name = file.as_os_str().to_owned();
    name.push(".lock");
    let Ok(file) = File::open(Path::new(&name)) else { return false };
    // Dropped at once, and the lock with it.
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

pub(crate) async fn positions(file: &Path) -> Result<Vec<StoredPosition>, SinkError> {
    run(file, "list positions", |connection| read_positions(connection)).await
}

fn read_positions(connection: &Connection) -> rusqlite::Result<Vec<StoredPosition>> {
    let mut statement = connection.prepare(
            "SELECT sink, topic, partition, next_offset, record_time_ms, payload_hash,
                    CASE sink WHEN ?1 THEN (SELECT max(watermark_us) FROM pipeline_state) ELSE watermark_us END,
                    updated_at, lane
             FROM sink_positions ORDER BY sink, topic, partition",
        )?;
    let read = |row: &rusqlite::Row<'_>| {
        let fingerprint: (Option<i64>, Option<i64>) = (row.get(4)?, row.get(5)?);
        Ok(StoredPosition {
            sink: row.get(0)?,
            partition: TopicPartition::new(row.get::<_, String>(1)?, row.get(2)?),
            next_offset: row.get(3)?,
            fingerprint: fingerprint
                .0
                .zip(fingerprint.1)
                .map(|(record_time_ms, payload_hash)| Fingerprint { record_time_ms, payload_hash }),
            watermark_us: row.get(6)?,
            updated_at_us: row.get(7)?,
            lane: LaneState::from_stored(row.get::<_, Option<String>>(8)?.as_deref()),
        })
    };
    statement.query_map([AGGREGATES], read)?.collect()
}

pub(crate) async fn forget(file: &Path, sink: String) -> Result<u64, SinkError> {
    run(file, "forget a sink", move |connection| {
        connection.execute("DELETE FROM sink_positions WHERE sink = ?1", [sink]).map(|rows| rows as u64)
    })
    .await
}

pub(crate) async fn set_start(file: &Path, sink: String, start: Positions) -> Result<(), SinkError> {
    run(file, "set where a sink starts", move |connection| {
        let transaction = super::state::begin(connection)?;
        for (partition, next) in &start {
            transaction.execute(
                "INSERT INTO sink_positions (sink, topic, partition, next_offset) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (sink, topic, partition) DO UPDATE SET next_offset = excluded.next_offset,
                        holder = NULL, watermark_us = NULL, lane = NULL,
                        updated_at = CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
                params![sink, partition.topic.as_str(), partition.partition, next],
            )?;
        }
        transaction.commit()
    })
    .await
}

pub(crate) async fn note_lanes(
    file: &Path,
    sink: String,
    lanes: Vec<(TopicPartition, LaneState)>,
) -> Result<(), SinkError> {
    run(file, "note how a sink gets its logs", move |connection| {
        for (partition, lane) in &lanes {
            connection.execute(
                "UPDATE sink_positions SET lane = ?4 WHERE sink = ?1 AND topic = ?2 AND partition = ?3",
                params![sink, partition.topic.as_str(), partition.partition, lane.as_str()],
            )?;
        }
        Ok(())
    })
    .await
}

pub(crate) async fn retention_cuts(
    file: &Path,
    partition: TopicPartition,
) -> Result<Vec<RetentionCut>, SinkError> {
    run(file, "read what was too old when", move |connection| {
        let mut statement = connection.prepare(
            "SELECT from_offset, before_us FROM retention_cuts WHERE topic = ?1 AND partition = ?2 ORDER BY 1",
        )?;
        let read = |row: &rusqlite::Row<'_>| {
            Ok(RetentionCut { from_offset: row.get(0)?, before_us: row.get(1)? })
        };
        statement.query_map(params![partition.topic.as_str(), partition.partition], read)?.collect()
    })
    .await
}

pub(crate) async fn accept_topic(file: &Path, topic: String) -> Result<u64, SinkError> {
    let writer = Writer::of(file).await?;
    let store = writer.store.clone();
    let job = move |connection: &mut Connection| {
        let failed = |error: rusqlite::Error| classify(&store, "accept a re-created topic", &error);
        let transaction = super::state::begin(connection).map_err(failed)?;
        let dropped =
            transaction.execute("DELETE FROM sink_positions WHERE topic = ?1", [&topic]).map_err(failed)?;
        transaction.execute("DELETE FROM retention_cuts WHERE topic = ?1", [&topic]).map_err(failed)?;
        // What was exported of the old topic says nothing about the offsets of the new one.
        transaction.execute("UPDATE export_days SET covered = '[]'", []).map_err(failed)?;
        let state: Vec<(String, String)> = transaction
            .prepare("SELECT pipeline, partition_clocks FROM pipeline_state")
            .and_then(|mut s| s.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
            .map_err(failed)?;
        for (pipeline, clocks) in state {
            let mut partitions = read_partition_clocks(&store, &clocks)?;
            partitions.retain(|partition, _| partition.topic != topic);
            let clocks = write_partition_clocks(&ClockState { partitions, ..ClockState::default() });
            transaction
                .execute(
                    "UPDATE pipeline_state SET partition_clocks = ?2, holder = NULL WHERE pipeline = ?1",
                    [pipeline, clocks],
                )
                .map_err(failed)?;
        }
        transaction.commit().map_err(failed)?;
        Ok(dropped as u64)
    };
    writer.run(Turn::Plain, job).await
}

pub(crate) async fn expire(file: &Path, cutoff_us: i64) -> Result<u64, SinkError> {
    let mut gone = 0;
    let keyed =
        [("logs", "id", "timestamp"), ("dead_letters", "id", "created_at"), ("window_scores", KEY, "minute")];
    for (table, key, time) in keyed {
        loop {
            let sql = format!(
                "DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} WHERE {time} < ?1 LIMIT {EXPIRE_ROWS})"
            );
            let rows = run(file, "delete what is past the retention", move |connection| {
                connection.execute(&sql, [cutoff_us])
            })
            .await?;
            gone += rows as u64;
            if rows < EXPIRE_ROWS {
                break;
            }
        }
    }
    run(file, "delete what is past the retention", move |connection| {
        connection.execute_batch(PASSED_CUTS)?;
        // Without the logs it is worth nothing.
        let sql = "DELETE FROM anomaly_evidence WHERE anomaly_id IN (SELECT id FROM anomalies WHERE started_at < ?1)";
        connection.execute(sql, [cutoff_us])
    })
    .await?;
    Ok(gone)
}

pub(crate) async fn counts(file: &Path) -> Result<Counts, SinkError> {
    run(file, "count rows", |connection| {
        connection.query_row(
            "SELECT (SELECT count(*) FROM logs), (SELECT count(*) FROM dead_letters),
                    (SELECT count(*) FROM anomalies), (SELECT count(*) FROM anomaly_events),
                    (SELECT min(watermark_us) FROM sink_positions WHERE sink = ?1)",
            [LOGS],
            |row| {
                Ok(Counts {
                    logs: row.get(0)?,
                    dead_letters: row.get(1)?,
                    anomalies: row.get(2)?,
                    anomaly_events: row.get(3)?,
                    logs_watermark_us: row.get(4)?,
                })
            },
        )
    })
    .await
}
