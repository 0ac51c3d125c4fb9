//! The lines of the logs that an alert cites, looked up when it is first told: by then they are stored, as a rule, and
//! nobody but the one hook waits for them.

use super::message::Notice;
use crate::database::{Row, Tables, Value, values};
use crate::error::SinkError;
use jiff::Timestamp;
use std::time::{Duration, Instant};

/// How many lines, and how much of each, characters.
const LINES: usize = 3;
const LINE_CHARS: usize = 300;
/// How long an alert waits for lines that were judged and are not stored yet, and how often they are looked for.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(200);
/// How far before its start the lines of an episode lie: the window that raised it.
const WINDOW: jiff::SignedDuration = jiff::SignedDuration::from_mins(5);

/// The lines that the explanation cites; where it cites none, or they are gone, the newest of the service and time;
/// errors, where it is about errors.
///
/// # Errors
/// As any question to the store.
pub(super) async fn lines(tables: &mut Tables, notice: &Notice) -> Result<Vec<String>, SinkError> {
    let (sql, values) = newest(tables, notice);
    let began = Instant::now();
    loop {
        let mut lines = cited(tables, notice).await?;
        if lines.is_empty() {
            lines = tables.query(&sql, values.clone()).await?.iter().map(line).collect();
        }
        if lines.len() >= LINES || began.elapsed() >= PATIENCE || !follow(tables).await? {
            return Ok(lines);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn cited(tables: &mut Tables, notice: &Notice) -> Result<Vec<String>, SinkError> {
    let sql = format!(
        "SELECT level, message FROM logs WHERE timestamp = {} AND kafka_topic = $2 AND kafka_partition = $3 \
         AND kafka_offset = $4 LIMIT 1",
        tables.moment("$1")
    );
    let mut lines = Vec::new();
    for sample in notice.cited.iter().take(LINES) {
        let at = sample.timestamp.as_microsecond();
        let place = values![at, sample.topic.as_str(), i64::from(sample.partition), sample.offset];
        lines.extend(tables.query(&sql, place).await?.iter().map(line));
    }
    Ok(lines)
}

fn newest(tables: &Tables, notice: &Notice) -> (String, Vec<Value>) {
    let from = notice.started_at.saturating_sub(WINDOW).unwrap_or(notice.started_at);
    let to = notice.ended_at.unwrap_or_else(Timestamp::now);
    let mut sql = format!(
        "SELECT level, message FROM logs WHERE timestamp >= {} AND timestamp <= {}",
        tables.moment("$1"),
        tables.moment("$2")
    );
    let mut values = values![from.as_microsecond(), to.as_microsecond(), LINES as i64];
    if let Some(service) = &notice.service {
        sql.push_str(" AND service = $4");
        values.push(service.as_str().into());
    }
    if notice.anomaly_type == "error_rate_spike" {
        sql.push_str(" AND level IN ('ERROR', 'FATAL')");
    }
    sql.push_str(" ORDER BY timestamp DESC LIMIT $3");
    (sql, values)
}

fn line(row: &Row) -> String {
    format!("{} {}", row.text(0), row.text(1)).chars().take(LINE_CHARS).collect()
}

/// Whether lines that were judged are not stored yet: detection does not wait for the table of logs.
async fn follow(tables: &mut Tables) -> Result<bool, SinkError> {
    let sql = "SELECT 1 FROM sink_positions AS l JOIN sink_positions AS a ON a.sink = 'aggregates' \
               AND a.topic = l.topic AND a.partition = l.partition \
               WHERE l.sink = 'logs' AND coalesce(l.next_offset, 0) < a.next_offset LIMIT 1";
    Ok(!tables.query(sql, values![]).await?.is_empty())
}
