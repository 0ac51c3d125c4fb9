//! What `smartlog sinks` and maintenance do, in PostgreSQL.

use super::days;
use super::lock_key;
use super::session::{self, Session, classify};
use super::types::Micros;
use crate::admin::{Counts, LaneState, PASSED_CUTS, StoredPosition, Survey};
use crate::config::PostgresUrl;
use crate::error::SinkError;
use crate::plan::{read_partition_clocks, write_partition_clocks};
use crate::{AGGREGATES, LOGS};
use smartlog_schema::commit::{ClockState, Fingerprint, RetentionCut};
use smartlog_schema::position::{Positions, TopicPartition};
use std::time::Duration;
use tokio_postgres::{Client, Error, Row};

/// A command whose transaction is left open that long is ended by the server.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);

pub(super) async fn session(url: &PostgresUrl) -> Result<Session, SinkError> {
    Session::connect(url, GIVE_UP_AFTER).await
}

pub(super) fn failed(url: &PostgresUrl, doing: &'static str) -> impl Fn(Error) -> SinkError {
    let store = url.name.clone();
    move |error| classify(&store, doing, &error)
}

pub(crate) async fn migrate(url: &PostgresUrl) -> Result<(), SinkError> {
    session::migrate(url, GIVE_UP_AFTER).await
}

pub(crate) async fn survey(url: &PostgresUrl, pipeline: &str) -> Result<Survey, SinkError> {
    let client = &session(url).await?.client;
    let failed = failed(url, "look at the tables");
    let sql = "SELECT to_regclass('refinery_schema_history') IS NOT NULL";
    let applied: Vec<i32> = if client.query_one(sql, &[]).await.map_err(&failed)?.get(0) {
        let sql = "SELECT version FROM refinery_schema_history";
        client.query(sql, &[]).await.map_err(&failed)?.iter().map(|row| row.get(0)).collect()
    } else {
        Vec::new()
    };
    let mut survey = Survey::of_versions(&applied, &session::known_migrations());
    let sql = concat!(
        "SELECT count(*) > 0 FROM pg_locks AS l, (SELECT ",
        lock_key!("$1::text"),
        " AS key) AS k WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
           AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND (l.classid::bigint << 32) | l.objid::bigint = k.key"
    );
    survey.is_held = client.query_one(sql, &[&pipeline]).await.map_err(&failed)?.get(0);
    if survey.is_current() {
        survey.positions = read_positions(client).await.map_err(&failed)?;
    }
    Ok(survey)
}

pub(crate) async fn positions(url: &PostgresUrl) -> Result<Vec<StoredPosition>, SinkError> {
    read_positions(&session(url).await?.client).await.map_err(failed(url, "list positions"))
}

async fn read_positions(client: &Client) -> Result<Vec<StoredPosition>, Error> {
    let rows = client
        .query(
            "SELECT sink, topic, partition, next_offset, record_time_ms, payload_hash,
                    CASE sink WHEN $1 THEN (SELECT max(watermark_us) FROM pipeline_state) ELSE watermark_us END,
                    updated_at, lane
             FROM sink_positions ORDER BY sink, topic, partition",
            &[&AGGREGATES],
        )
        .await?;
    let read = |row: &Row| {
        let fingerprint: (Option<i64>, Option<i64>) = (row.get(4), row.get(5));
        StoredPosition {
            sink: row.get(0),
            partition: TopicPartition::new(row.get::<_, &str>(1), row.get(2)),
            next_offset: row.get(3),
            fingerprint: fingerprint
                .0
                .zip(fingerprint.1)
                .map(|(record_time_ms, payload_hash)| Fingerprint { record_time_ms, payload_hash }),
            watermark_us: row.get(6),
            updated_at_us: row.get::<_, Micros>(7).0,
            lane: LaneState::from_stored(row.get(8)),
        }
    };
    Ok(rows.iter().map(read).collect())
}

pub(crate) async fn forget(url: &PostgresUrl, sink: &str) -> Result<u64, SinkError> {
    let client = &session(url).await?.client;
    let forgotten = client.execute("DELETE FROM sink_positions WHERE sink = $1", &[&sink]).await;
    forgotten.map_err(failed(url, "forget a sink"))
}

pub(crate) async fn set_start(url: &PostgresUrl, sink: &str, start: &Positions) -> Result<(), SinkError> {
    let topics: Vec<&str> = start.keys().map(|p| p.topic.as_str()).collect();
    let partitions: Vec<i32> = start.keys().map(|p| p.partition).collect();
    let next: Vec<i64> = start.values().copied().collect();
    session(url)
        .await?
        .client
        .execute(
            "INSERT INTO sink_positions (sink, topic, partition, next_offset)
             SELECT $1, * FROM unnest($2::text[], $3::int[], $4::bigint[]) ORDER BY 2, 3
             ON CONFLICT (sink, topic, partition) DO UPDATE SET next_offset = excluded.next_offset, holder = NULL,
                    watermark_us = NULL, lane = NULL, updated_at = now()",
            &[&sink, &topics, &partitions, &next],
        )
        .await
        .map_err(failed(url, "set where a sink starts"))?;
    Ok(())
}

pub(crate) async fn note_lanes(
    url: &PostgresUrl,
    sink: &str,
    lanes: &[(TopicPartition, LaneState)],
) -> Result<(), SinkError> {
    let client = &session(url).await?.client;
    for (partition, lane) in lanes {
        // One row at a time: whoever moves several positions cannot be waiting for us and we for them.
        let noted = client
            .execute(
                "UPDATE sink_positions SET lane = $4 WHERE sink = $1 AND topic = $2 AND partition = $3",
                &[&sink, &partition.topic.as_str(), &partition.partition, &lane.as_str()],
            )
            .await;
        noted.map_err(failed(url, "note how a sink gets its logs"))?;
    }
    Ok(())
}

pub(crate) async fn retention_cuts(
    url: &PostgresUrl,
    partition: &TopicPartition,
) -> Result<Vec<RetentionCut>, SinkError> {
    let rows = session(url)
        .await?
        .client
        .query(
            "SELECT from_offset, before_us FROM retention_cuts WHERE topic = $1 AND partition = $2 ORDER BY 1",
            &[&partition.topic.as_str(), &partition.partition],
        )
        .await
        .map_err(failed(url, "read what was too old when"))?;
    Ok(rows.iter().map(|row| RetentionCut { from_offset: row.get(0), before_us: row.get(1) }).collect())
}

pub(crate) async fn accept_topic(url: &PostgresUrl, topic: &str) -> Result<u64, SinkError> {
    let failed = failed(url, "accept a re-created topic");
    let mut session = session(url).await?;
    let transaction = session.client.transaction().await.map_err(&failed)?;
    let sql = "SELECT pipeline, partition_clocks::text FROM pipeline_state FOR UPDATE";
    for state in transaction.query(sql, &[]).await.map_err(&failed)? {
        let mut partitions = read_partition_clocks(&url.name, state.get(1))?;
        partitions.retain(|partition, _| partition.topic != topic);
        let clocks = write_partition_clocks(&ClockState { partitions, ..ClockState::default() });
        let sql =
            "UPDATE pipeline_state SET partition_clocks = $2::text::json, holder = NULL WHERE pipeline = $1";
        transaction.execute(sql, &[&state.get::<_, &str>(0), &clocks]).await.map_err(&failed)?;
    }
    // What was exported of the old topic says nothing about the offsets of the new one.
    transaction.execute("UPDATE export_days SET covered = '[]'", &[]).await.map_err(&failed)?;
    let sql = "DELETE FROM sink_positions WHERE topic = $1";
    let dropped = transaction.execute(sql, &[&topic]).await.map_err(&failed)?;
    let sql = "DELETE FROM retention_cuts WHERE topic = $1";
    transaction.execute(sql, &[&topic]).await.map_err(&failed)?;
    transaction.commit().await.map_err(&failed)?;
    Ok(dropped)
}

pub(crate) async fn expire(url: &PostgresUrl, cutoff_us: i64) -> Result<u64, SinkError> {
    let failed = failed(url, "delete what is past the retention");
    let client = &session(url).await?.client;
    let dropped = days::drop_before(client, cutoff_us).await.map_err(&failed)?;
    let sql = "DELETE FROM dead_letters WHERE created_at < $1";
    let letters = client.execute(sql, &[&Micros(cutoff_us)]).await.map_err(&failed)?;
    let sql = "DELETE FROM window_scores WHERE minute < $1";
    let scores = client.execute(sql, &[&Micros(cutoff_us)]).await.map_err(&failed)?;
    client.batch_execute(PASSED_CUTS).await.map_err(&failed)?;
    // Without the logs it is worth nothing.
    let sql = "DELETE FROM anomaly_evidence AS e USING anomalies AS a WHERE a.id = e.anomaly_id AND a.started_at < $1";
    client.execute(sql, &[&Micros(cutoff_us)]).await.map_err(&failed)?;
    Ok(dropped + letters + scores)
}

pub(crate) async fn counts(url: &PostgresUrl) -> Result<Counts, SinkError> {
    let row = session(url)
        .await?
        .client
        .query_one(
            "SELECT (SELECT count(*) FROM logs), (SELECT count(*) FROM dead_letters),
                    (SELECT count(*) FROM anomalies), (SELECT count(*) FROM anomaly_events),
                    (SELECT min(watermark_us) FROM sink_positions WHERE sink = $1)",
            &[&LOGS],
        )
        .await
        .map_err(failed(url, "count rows"))?;
    Ok(Counts {
        logs: row.get(0),
        dead_letters: row.get(1),
        anomalies: row.get(2),
        anomaly_events: row.get(3),
        logs_watermark_us: row.get(4),
    })
}
