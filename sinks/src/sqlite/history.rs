//! Stored history for models, and what the store is told of them, in SQLite.

use super::admin::run;
use super::classify;
use crate::config::sqlite_name;
use crate::error::SinkError;
use rusqlite::{Connection, OpenFlags, params};
use std::path::Path;

pub(crate) async fn set_model_status(file: &Path, values: [String; 5]) -> Result<(), SinkError> {
    run(file, "store the status of the models", move |connection| {
        connection.execute(
            "INSERT INTO model_status (pipeline, state, detail, registry, models) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (pipeline) DO UPDATE SET state = excluded.state, detail = excluded.detail,
                    registry = excluded.registry, models = excluded.models,
                    updated_at = CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
            values,
        )
    })
    .await
    .map(drop)
}

/// On a connection of its own, which reads: a pipeline that writes meanwhile does not wait.
pub(crate) fn read_logs(
    file: &Path,
    since_us: i64,
    until_us: i64,
    read: &mut (dyn FnMut(&str) -> bool + Send),
) -> Result<(), SinkError> {
    let mut each = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(file, flags)?;
        let mut statement = connection.prepare(
            "SELECT json_object('timestamp', timestamp, 'level', level, 'service', service, 'host', host,
                                'message', message)
             FROM logs WHERE timestamp >= ?1 AND timestamp < ?2 ORDER BY timestamp, id",
        )?;
        let mut rows = statement.query(params![since_us, until_us])?;
        while let Some(row) = rows.next()? {
            if !read(row.get_ref(0)?.as_str()?) {
                break;
            }
        }
        Ok(())
    };
    each().map_err(|fault: rusqlite::Error| classify(&sqlite_name(file), "read the stored logs", &fault))
}

pub(crate) async fn anomaly_intervals(file: &Path, expected: bool) -> Result<Vec<(i64, i64)>, SinkError> {
    run(file, "read the intervals of anomalies", move |connection| {
        let mut statement = connection.prepare(
            "SELECT started_at, coalesce(ended_at, last_seen) FROM anomalies
             WHERE (status <> 'retracted' OR expected_by IS NOT NULL)
               AND (feedback = 'expected' OR expected_by IS NOT NULL OR NOT ?1)",
        )?;
        statement.query_map([expected], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    })
    .await
}
