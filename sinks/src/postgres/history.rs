//! Stored history for models, and what the store is told of them, in PostgreSQL.

use super::admin::{failed, session};
use super::types::Micros;
use crate::config::PostgresUrl;
use crate::error::SinkError;
use futures_util::TryStreamExt as _;
use std::pin::pin;
use tokio_postgres::types::ToSql;

pub(crate) async fn set_model_status(url: &PostgresUrl, values: &[String; 5]) -> Result<(), SinkError> {
    let sql = "INSERT INTO model_status (pipeline, state, detail, registry, models)
               VALUES ($1, $2, $3, $4, $5::text::json)
               ON CONFLICT (pipeline) DO UPDATE SET state = excluded.state, detail = excluded.detail,
                      registry = excluded.registry, models = excluded.models, updated_at = now()";
    let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
    let client = &session(url).await?.client;
    client.execute(sql, &values).await.map_err(failed(url, "store the status of the models"))?;
    Ok(())
}

pub(crate) async fn read_logs(
    url: &PostgresUrl,
    since_us: i64,
    until_us: i64,
    read: &mut (dyn FnMut(&str) -> bool + Send),
) -> Result<(), SinkError> {
    let failed = failed(url, "read the stored logs");
    let client = &session(url).await?.client;
    let sql =
        "SELECT json_build_object('timestamp', timestamp, 'level', level, 'service', service, 'host', host,
                      'message', message)::text
               FROM logs WHERE timestamp >= $1 AND timestamp < $2 ORDER BY timestamp, id";
    let rows = client.query_raw(sql, [Micros(since_us), Micros(until_us)]).await.map_err(&failed)?;
    let mut rows = pin!(rows);
    while let Some(row) = rows.try_next().await.map_err(&failed)? {
        if !read(row.get(0)) {
            break;
        }
    }
    Ok(())
}

pub(crate) async fn anomaly_intervals(
    url: &PostgresUrl,
    expected: bool,
) -> Result<Vec<(i64, i64)>, SinkError> {
    let sql = "SELECT started_at, coalesce(ended_at, last_seen) FROM anomalies
               WHERE (status <> 'retracted' OR expected_by IS NOT NULL)
                 AND (feedback = 'expected' OR expected_by IS NOT NULL OR NOT $1)";
    let client = &session(url).await?.client;
    let rows =
        client.query(sql, &[&expected]).await.map_err(failed(url, "read the intervals of anomalies"))?;
    Ok(rows.iter().map(|row| (row.get::<_, Micros>(0).0, row.get::<_, Micros>(1).0)).collect())
}
