//! Snapshots of the episodes of a day, made anew when one of them changed.
//!
//! ```text
//!   anomaly_events beyond the position ─▶ days that they touch ─▶ rows of anomalies ─▶ anomalies/date=…/episodes.parquet
//! ```

use super::days::Days;
use super::encode::common;
use super::ledger::wall_us;
use super::names::{self, Day};
use crate::database::{Row, Step, values};
use crate::error::SinkError;
use crate::retry::until_done;
use arrow_array::{
    ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The name under which its position, a `seq` of `anomaly_events`, is stored.
const SINK: &str = "parquet-anomalies";
const SOURCE: &str = "anomaly_events";
const SEQ_TAG: &str = "smartlog-event-seq";
/// Changes of one pass at most.
const EVENTS_A_PASS: i64 = 1_000;

/// What kind of column: how it is read from a row and written.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Id,
    Time,
    Text,
    Number,
    Count,
}

/// Name, kind, whether it may be null.
const COLUMNS: [(&str, Kind, bool); 19] = [
    ("id", Kind::Id, false),
    ("detected_at", Kind::Time, false),
    ("started_at", Kind::Time, false),
    ("last_seen", Kind::Time, false),
    ("ended_at", Kind::Time, true),
    ("anomaly_type", Kind::Text, false),
    ("service", Kind::Text, true),
    ("severity", Kind::Text, true),
    ("description", Kind::Text, true),
    ("model_version", Kind::Text, true),
    ("metric_value", Kind::Number, true),
    ("threshold", Kind::Number, true),
    ("baseline", Kind::Number, true),
    ("peak_value", Kind::Number, true),
    ("score", Kind::Number, true),
    ("status", Kind::Text, false),
    ("revision", Kind::Count, false),
    ("explanation", Kind::Text, false),
    ("feedback", Kind::Text, true),
];

/// What of an event's episode is needed here.
#[derive(Deserialize)]
struct Started {
    started_at: i64,
}

impl Days {
    /// Brings the snapshots up to the newest change; gives whether there may be more to do.
    pub async fn snapshot_anomalies(&mut self) -> Result<bool, SinkError> {
        let sql = "SELECT next_offset FROM sink_positions WHERE sink = $1 AND topic = $2 AND partition = 0";
        let stored = self.ledger.tables.query(sql, values![SINK, SOURCE]).await?;
        let stored = stored.first().and_then(|row| row.maybe_int(0));
        let from = stored.unwrap_or(1);
        let newest = self.ledger.tables.query("SELECT max(seq) FROM anomaly_events", Vec::new()).await?;
        let Some(newest) = newest.first().and_then(|row| row.maybe_int(0)).filter(|newest| *newest >= from)
        else {
            return Ok(false);
        };
        let to = newest.min(from + EVENTS_A_PASS - 1);
        for day in self.touched(from, to).await? {
            self.snapshot(day, to).await?;
        }
        let sql = format!(
            "INSERT INTO sink_positions (sink, topic, partition, next_offset) VALUES ($1, $2, 0, $3) \
             ON CONFLICT (sink, topic, partition) DO UPDATE SET next_offset = excluded.next_offset, updated_at = {} \
             WHERE sink_positions.next_offset < excluded.next_offset",
            self.ledger.tables.now()
        );
        self.ledger.tables.apply(&[Step::new(sql, values![SINK, SOURCE, to + 1])]).await?;
        Ok(to < newest)
    }

    /// The days in which episodes that changed lie, or lay before.
    async fn touched(&mut self, from: i64, to: i64) -> Result<BTreeSet<Day>, SinkError> {
        let sql = "SELECT CAST(episode AS TEXT) FROM anomaly_events WHERE anomaly_id IN \
                   (SELECT anomaly_id FROM anomaly_events WHERE seq >= $1 AND seq <= $2)";
        let rows = self.ledger.tables.query(sql, values![from, to]).await?;
        let day = |row: &Row| {
            let started: Started = serde_json::from_str(row.text(0)).ok()?;
            Day::of(started.started_at.saturating_mul(1_000_000))
        };
        Ok(rows.iter().filter_map(day).collect())
    }

    /// Writes the snapshot of a day, which then shows all changes up to `seq`.
    async fn snapshot(&mut self, day: Day, seq: i64) -> Result<(), SinkError> {
        let rows = self.episodes(day).await?;
        let body = encode(&rows, seq).map_err(|error| {
            self.ledger.tables.broken("put a snapshot of anomalies together", error.to_string())
        })?;
        let (path, tags) = (names::anomalies(day), [(SEQ_TAG.to_owned(), seq.to_string())]);
        loop {
            let old = until_done!(self.patience, self.target.head(&path))?;
            let shows = old.as_ref().and_then(|old| old.tags.get(SEQ_TAG)?.parse::<i64>().ok());
            if shows.is_some_and(|shows| shows > seq) {
                return Ok(()); // A successor of ours was here.
            }
            if until_done!(self.patience, self.target.replace(&path, body.clone(), &tags, old.as_ref()))? {
                return Ok(());
            }
        }
    }

    async fn episodes(&mut self, day: Day) -> Result<Vec<Row>, SinkError> {
        let tables = &mut self.ledger.tables;
        let column = |(name, kind, _): &(&str, Kind, bool)| match kind {
            Kind::Time => tables.micros(name),
            Kind::Text => format!("CAST({name} AS TEXT)"),
            Kind::Id | Kind::Number | Kind::Count => (*name).to_owned(),
        };
        let columns: Vec<String> = COLUMNS.iter().map(column).collect();
        let started = tables.micros("started_at");
        let sql = format!(
            "SELECT {} FROM anomalies WHERE {started} >= $1 AND {started} < $2 ORDER BY started_at, id",
            columns.join(", ")
        );
        tables.query(&sql, values![day.start_us(), day.end_us()]).await
    }
}

fn encode(rows: &[Row], seq: i64) -> Result<Bytes, ParquetError> {
    let utc = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let field = |(name, kind, null): &(&str, Kind, bool)| {
        let data = match kind {
            Kind::Id => DataType::Int64,
            Kind::Time => utc(),
            Kind::Text => DataType::Utf8,
            Kind::Number => DataType::Float64,
            Kind::Count => DataType::Int32,
        };
        Field::new(*name, data, *null)
    };
    let schema = Arc::new(Schema::new(COLUMNS.iter().map(field).collect::<Vec<_>>()));
    let column = |(at, (_, kind, _)): (usize, &(&str, Kind, bool))| -> ArrayRef {
        match kind {
            Kind::Id => Arc::new(rows.iter().map(|row| row.maybe_int(at)).collect::<Int64Array>()),
            Kind::Time => {
                let times = rows.iter().map(|row| row.maybe_int(at)).collect::<TimestampMicrosecondArray>();
                Arc::new(times.with_timezone("UTC"))
            }
            Kind::Text => Arc::new(rows.iter().map(|row| row.maybe_text(at)).collect::<StringArray>()),
            Kind::Number => Arc::new(rows.iter().map(|row| row.real(at)).collect::<Float64Array>()),
            Kind::Count => {
                let counts = rows.iter().map(|row| row.maybe_int(at).map(|count| count as i32));
                Arc::new(counts.collect::<Int32Array>())
            }
        }
    };
    let columns = COLUMNS.iter().enumerate().map(column).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
    let mut file = ArrowWriter::try_new(Vec::new(), schema, Some(common().build()))?;
    file.write(&batch)?;
    file.append_key_value_metadata(KeyValue::new(SEQ_TAG.to_owned(), seq.to_string()));
    file.append_key_value_metadata(KeyValue::new("smartlog-created-us".to_owned(), wall_us().to_string()));
    Ok(Bytes::from(file.into_inner()?))
}
