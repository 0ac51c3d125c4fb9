//! What `smartlog sinks` and maintenance do, in PostgreSQL.

use super::days;
use super::session::{self, Session, classify};
use super::types::Micros;
use crate::admin::{Counts, StoredPosition};
use crate::config::PostgresUrl;
use crate::error::SinkError;
use crate::plan::{read_partition_clocks, write_partition_clocks};
use crate::{AGGREGATES, LOGS};
use smartlog_schema::commit::{ClockState, Fingerprint};
use smartlog_schema::position::{Positions, TopicPartition};
use std::time::Duration;
use tokio_postgres::{Error, Row};

/// A command whose transaction is left open that long is ended by the server.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);

async fn session(url: &PostgresUrl) -> Result<Session, SinkError> {
    Session::connect(url, GIVE_UP_AFTER).await
}

fn failed(url: &PostgresUrl, doing: &'static str) -> impl Fn(Error) -> SinkError {
    let store = url.name.clone();
    move |error| classify(&store, doing, &error)
}

pub(crate) async fn migrate(url: &PostgresUrl) -> Result<(), SinkError> {
    session::migrate(url, GIVE_UP_AFTER).await
}

pub(crate) async fn positions(url: &PostgresUrl) -> Result<Vec<StoredPosition>, SinkError> {
    let rows = session(url)
        .await?
        .client
        .query(
            "SELECT sink, topic, partition, next_offset, record_time_ms, payload_hash,
                    CASE sink WHEN $1 THEN (SELECT max(watermark_us) FROM pipeline_state) ELSE watermark_us END,
                    updated_at
             FROM sink_positions ORDER BY sink, topic, partition",
            &[&AGGREGATES],
        )
        .await
        .map_err(failed(url, "list positions"))?;
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
                    watermark_us = NULL, updated_at = now()",
            &[&sink, &topics, &partitions, &next],
        )
        .await
        .map_err(failed(url, "set where a sink starts"))?;
    Ok(())
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
    let sql = "DELETE FROM sink_positions WHERE topic = $1";
    let dropped = transaction.execute(sql, &[&topic]).await.map_err(&failed)?;
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
