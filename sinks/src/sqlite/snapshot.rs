//! What a start reads.

use super::classify;
use super::patterns::read_shapes;
use super::state::begin;
use crate::AGGREGATES;
use crate::episode::EpisodeRow;
use crate::error::SinkError;
use crate::plan::{Held, another_pipeline, read_partition_clocks};
use compact_str::CompactString;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use smartlog_schema::commit::{ClockState, Fingerprint, Snapshot};
use smartlog_schema::model::{ModelSwap, Role};
use smartlog_schema::position::{Positions, TopicPartition};
use smartlog_schema::sums::Sums;
use smartlog_schema::window::MICROS;
use std::collections::BTreeMap;

pub(super) fn take_over(
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
        return Err(another_pipeline(store, pipeline, &owner));
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
    let (sequence, event_seq, clock, partition_clocks, feedback_seq) = transaction
        .query_row(
            "SELECT sequence, event_seq, clock_us, watermark_us, wall_us, partition_clocks, feedback_seq
             FROM pipeline_state
             WHERE pipeline = ?1",
            [pipeline],
            |row| {
                let clock: (Option<i64>, Option<i64>, Option<i64>) = (row.get(2)?, row.get(3)?, row.get(4)?);
                Ok((row.get(0)?, row.get(1)?, clock, row.get::<_, String>(5)?, row.get(6)?))
            },
        )
        .map_err(failed)?;
    let clock = match clock {
        (Some(clock_us), Some(watermark_us), Some(wall_us)) => Some(ClockState {
            clock_us,
            watermark_us,
            wall_us,
            partitions: read_partition_clocks(store, &partition_clocks)?,
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
        minutes: read_minutes(transaction).map_err(failed)?,
        shapes: read_shapes(transaction).map_err(failed)?,
        models: read_models(transaction).map_err(failed)?,
        feedback_seq,
        episodes: episodes.into_iter().map(|row| row.read(store)).collect::<Result<_, _>>()?,
        positions: positions.clone(),
    };
    let held = Held {
        holder,
        sequence,
        event_seq,
        positions,
        forgotten_before: i64::MIN,
        forgotten_minutes_before: i64::MIN,
    };
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

/// The newest of each role.
fn read_models(transaction: &Transaction<'_>) -> rusqlite::Result<Vec<ModelSwap>> {
    let mut statement = transaction.prepare(
        "SELECT role, max(effective), version, digest FROM model_swaps GROUP BY role ORDER BY role",
    )?;
    let read = |row: &Row<'_>| {
        let role = Role::parse(row.get_ref(0)?.as_str()?);
        let effective = row.get::<_, i64>(1)?.div_euclid(MICROS);
        Ok(role.map(|role| (role, effective)).zip(Some((row.get(2)?, row.get(3)?))))
    };
    let swaps = statement.query_map([], read)?.collect::<rusqlite::Result<Vec<_>>>()?;
    let swap = |((role, effective), (version, digest))| ModelSwap { role, effective, version, digest };
    Ok(swaps.into_iter().flatten().map(swap).collect())
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

fn read_minutes(transaction: &Transaction<'_>) -> rusqlite::Result<Vec<(CompactString, i64, Vec<u8>)>> {
    let mut statement =
        transaction.prepare("SELECT service, minute, counts FROM minute_state ORDER BY service, minute")?;
    let read = |row: &Row<'_>| Ok((CompactString::from(row.get_ref(0)?.as_str()?), row.get(1)?, row.get(2)?));
    statement.query_map([], read)?.collect()
}

/// Episodes that are not closed, expected ones that would not be, and closed ones that ended at or after `settled_before`
/// (microseconds).
fn read_episodes(transaction: &Transaction<'_>, settled_before: i64) -> rusqlite::Result<Vec<EpisodeRow>> {
    let mut statement = transaction.prepare(
        "SELECT service, anomaly_type, first_raised_at, status, severity, revision, detected_at, started_at, last_seen,
                ended_at, metric_value, threshold, baseline, peak_value, score, model_version, description,
                explanation, provenance, expected_by, expected_status
         FROM anomalies
         WHERE status IN ('provisional', 'open') OR coalesce(ended_at, last_seen) >= ?1
            OR (expected_by IS NOT NULL AND expected_status IN ('provisional', 'open'))
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
            expected_by: row.get(19)?,
            expected_status: row.get(20)?,
        })
    };
    statement.query_map([settled_before], read)?.collect()
}
