//! What a start reads.

use super::patterns::read_shapes;
use super::session::classify;
use super::types::Micros;
use crate::AGGREGATES;
use crate::episode::EpisodeRow;
use crate::error::SinkError;
use crate::plan::{Held, another_pipeline, read_partition_clocks};
use smartlog_schema::anomaly::Episode;
use smartlog_schema::commit::{ClockState, Fingerprint, Snapshot};
use smartlog_schema::model::{ModelSwap, Role};
use smartlog_schema::position::{Positions, TopicPartition};
use smartlog_schema::sums::Sums;
use smartlog_schema::window::MICROS;
use std::collections::BTreeMap;
use tokio_postgres::{Client, Error, Row};

/// Makes this process the holder and reads what is there. The row locks wait for a commit that is under way.
pub(super) async fn take_over(
    client: &Client,
    store: &str,
    pipeline: &str,
    max_lateness_us: i64,
) -> Result<(Held, Snapshot), SinkError> {
    let failed = |error: Error| classify(store, "read the stored state", &error);
    client.batch_execute("BEGIN").await.map_err(failed)?;
    let owner = client
        .query_opt("SELECT pipeline FROM pipeline_state WHERE pipeline <> $1 LIMIT 1", &[&pipeline])
        .await
        .map_err(failed)?;
    if let Some(owner) = owner {
        return Err(another_pipeline(store, pipeline, owner.get(0)));
    }
    let holder: i64 = rand::random();
    let state = client
        .query_one(
            "INSERT INTO pipeline_state AS p (pipeline, sequence, holder, event_seq, epoch) VALUES ($1, 1, $2, 0, 0)
             ON CONFLICT (pipeline) DO UPDATE SET sequence = p.sequence + 1, holder = excluded.holder
             RETURNING sequence, event_seq, clock_us, watermark_us, wall_us, partition_clocks::text, feedback_seq",
            &[&pipeline, &holder],
        )
        .await
        .map_err(failed)?;
    let clock = match (state.get(2), state.get(3), state.get(4)) {
        (Some(clock_us), Some(watermark_us), Some(wall_us)) => {
            let partitions = read_partition_clocks(store, state.get(5))?;
            Some(ClockState { clock_us, watermark_us, wall_us, partitions })
        }
        _ => None,
    };
    let settled_before = clock.as_ref().map_or(i64::MIN, |c| c.clock_us.saturating_sub(max_lateness_us));
    let (positions, fingerprints) = read_positions(client).await.map_err(failed)?;
    let snapshot = Snapshot {
        positions: positions.clone(),
        fingerprints,
        clock,
        seconds: read_seconds(client).await.map_err(failed)?,
        detectors: read_detectors(client).await.map_err(failed)?,
        minutes: read_minutes(client).await.map_err(failed)?,
        shapes: read_shapes(client).await.map_err(failed)?,
        episodes: read_episodes(client, store, settled_before).await?,
        models: read_models(client).await.map_err(failed)?,
        feedback_seq: state.get(6),
    };
    client.batch_execute("COMMIT").await.map_err(failed)?;
    let (sequence, event_seq) = (state.get(0), state.get(1));
    Ok((
        Held {
            holder,
            sequence,
            event_seq,
            positions,
            forgotten_before: i64::MIN,
            forgotten_minutes_before: i64::MIN,
        },
        snapshot,
    ))
}

async fn read_positions(
    client: &Client,
) -> Result<(Positions, BTreeMap<TopicPartition, Fingerprint>), Error> {
    let rows = client
        .query(
            "SELECT topic, partition, next_offset, record_time_ms, payload_hash FROM sink_positions
             WHERE sink = $1 AND next_offset IS NOT NULL ORDER BY topic, partition FOR UPDATE",
            &[&AGGREGATES],
        )
        .await?;
    let (mut positions, mut fingerprints) = (Positions::new(), BTreeMap::new());
    for row in rows {
        let partition = TopicPartition::new(row.get::<_, &str>(0), row.get(1));
        if let (Some(record_time_ms), Some(payload_hash)) = (row.get(3), row.get(4)) {
            fingerprints.insert(partition.clone(), Fingerprint { record_time_ms, payload_hash });
        }
        positions.insert(partition, row.get(2));
    }
    Ok((positions, fingerprints))
}

async fn read_seconds(client: &Client) -> Result<Vec<(compact_str::CompactString, i64, Sums)>, Error> {
    let rows = client
        .query(
            "SELECT service, second, logs, errors, message_chars FROM window_state
             ORDER BY service COLLATE \"C\", second",
            &[],
        )
        .await?;
    let read = |row: &Row| {
        let sums = Sums { logs: row.get(2), errors: row.get(3), message_chars: row.get(4) };
        (row.get::<_, &str>(0).into(), row.get(1), sums)
    };
    Ok(rows.iter().map(read).collect())
}

async fn read_detectors(client: &Client) -> Result<Vec<(compact_str::CompactString, Vec<u8>)>, Error> {
    let rows =
        client.query("SELECT service, state FROM baseline_state ORDER BY service COLLATE \"C\"", &[]).await?;
    Ok(rows.iter().map(|row| (row.get::<_, &str>(0).into(), row.get(1))).collect())
}

async fn read_minutes(client: &Client) -> Result<Vec<(compact_str::CompactString, i64, Vec<u8>)>, Error> {
    let sql = "SELECT service, minute, counts FROM minute_state ORDER BY service COLLATE \"C\", minute";
    let rows = client.query(sql, &[]).await?;
    Ok(rows.iter().map(|row| (row.get::<_, &str>(0).into(), row.get(1), row.get(2))).collect())
}

/// The newest of each role.
async fn read_models(client: &Client) -> Result<Vec<ModelSwap>, Error> {
    let sql = "SELECT DISTINCT ON (role) role, effective, version, digest FROM model_swaps
               ORDER BY role, effective DESC";
    let rows = client.query(sql, &[]).await?;
    let read = |row: &Row| {
        let effective = row.get::<_, Micros>(1).0.div_euclid(MICROS);
        Some(ModelSwap { role: Role::parse(row.get(0))?, effective, version: row.get(2), digest: row.get(3) })
    };
    Ok(rows.iter().filter_map(read).collect())
}

/// Episodes that are not closed, expected ones that would not be, and closed ones that ended at or after `settled_before` (microseconds).
async fn read_episodes(client: &Client, store: &str, settled_before: i64) -> Result<Vec<Episode>, SinkError> {
    let rows = client
        .query(
            "SELECT service, anomaly_type, first_raised_at, status, severity, revision, detected_at, started_at,
                    last_seen, ended_at, metric_value, threshold, baseline, peak_value, score, model_version,
                    description, explanation::text, provenance::text, expected_by, expected_status
             FROM anomalies
             WHERE status IN ('provisional', 'open') OR coalesce(ended_at, last_seen) >= $1
                OR (expected_by IS NOT NULL AND expected_status IN ('provisional', 'open'))
             ORDER BY coalesce(service, '') COLLATE \"C\", anomaly_type COLLATE \"C\", first_raised_at",
            &[&Micros(settled_before)],
        )
        .await
        .map_err(|error| classify(store, "read the open episodes", &error))?;
    let time = |row: &Row, column: usize| row.get::<_, Micros>(column).0;
    let read = |row: Row| {
        EpisodeRow {
            first_raised_at: time(&row, 2),
            detected_at: time(&row, 6),
            started_at: time(&row, 7),
            last_seen: time(&row, 8),
            ended_at: row.get::<_, Option<Micros>>(9).map(|m| m.0),
            service: row.get(0),
            anomaly_type: row.get(1),
            status: row.get(3),
            severity: row.get(4),
            revision: row.get(5),
            metric_value: row.get(10),
            threshold: row.get(11),
            baseline: row.get(12),
            peak_value: row.get(13),
            score: row.get(14),
            model_version: row.get(15),
            description: row.get(16),
            explanation: row.get(17),
            provenance: row.get(18),
            expected_by: row.get(19),
            expected_status: row.get(20),
        }
        .read(store)
    };
    rows.into_iter().map(read).collect()
}

/// Sequence and holder; waits for a commit that is under way.
pub(super) async fn stored_sequence(
    client: &Client,
    pipeline: &str,
) -> Result<Option<(i64, Option<i64>)>, Error> {
    let sql = "SELECT sequence, holder FROM pipeline_state WHERE pipeline = $1 FOR UPDATE";
    Ok(client.query_opt(sql, &[&pipeline]).await?.map(|row| (row.get(0), row.get(1))))
}

pub(super) async fn stored_positions(
    client: &Client,
) -> Result<BTreeMap<TopicPartition, Option<i64>>, Error> {
    let sql = "SELECT topic, partition, next_offset FROM sink_positions WHERE sink = $1";
    let rows = client.query(sql, &[&AGGREGATES]).await?;
    Ok(rows.iter().map(|row| (TopicPartition::new(row.get::<_, &str>(0), row.get(1)), row.get(2))).collect())
}
