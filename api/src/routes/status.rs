//! `GET /api/v1/status`: the pipeline at a glance: clock, throughput, each partition, each sink.

use super::health::STALE_AFTER_S;
use super::{Answer, Call, ClockNow, JSON, Route, fresh, schema_of};
use crate::app::App;
use crate::problem::Problem;
use crate::store::{Arg, Row, StoreError};
use crate::time;
use axum::response::Response;
use hyper::StatusCode;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

pub const ROUTE: Route = Route {
    path: "/api/v1/status",
    operation: "getStatus",
    tag: "status",
    summary: "The pipeline at a glance",
    about: "Clock, throughput, how far each partition and each sink is. `behind_ms` is wall time minus event time: a \
            replay of old logs is behind by their age.",
    params: &[],
    path_params: &[],
    produces: JSON,
    schema: Some(schema_of::<Status>),
    example: Some(example),
    also: &[],
    answer: Answer::Plain(|call| Box::pin(async move { status(call).await })),
};

/// Rows about sinks that are shown at most.
const MAX_POSITIONS: i64 = 10_000;
/// Seconds over which throughput is measured.
const THROUGHPUT_S: i64 = 60;
/// Dead letters are counted up to here.
const MAX_COUNTED: i64 = 100_000;

/// The pipeline at a glance.
#[derive(Debug, Serialize, ToSchema)]
struct Status {
    /// `running`; `stalled`: no commit for 30 s; `absent`: it never ran.
    #[schema(example = "running")]
    pipeline: &'static str,
    #[serde(flatten)]
    reached: ClockNow,
    /// Wall time minus clock.
    #[schema(example = 120)]
    behind_ms: Option<i64>,
    /// Commits so far.
    #[schema(example = 36000)]
    commits: i64,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_commit: Option<Timestamp>,
    /// Logs per second over the last minute of event time.
    #[schema(example = 1040.5)]
    logs_per_second: f64,
    /// Episodes that are provisional or open.
    #[schema(example = 1)]
    open_anomalies: i64,
    /// Payloads that could not become a log, counted up to 100,000.
    #[schema(example = 0)]
    dead_letters: i64,
    /// The newest change of an anomaly.
    #[schema(example = 42)]
    seq: i64,
    partitions: Vec<Partition>,
    sinks: Vec<SinkPosition>,
}

/// Event time of one partition.
#[derive(Debug, Serialize, ToSchema)]
struct Partition {
    #[schema(example = "logs")]
    topic: String,
    #[schema(example = 0)]
    partition: i64,
    #[schema(value_type = Option<String>, format = DateTime)]
    clock: Option<Timestamp>,
    behind_ms: Option<i64>,
}

/// Where one sink stands in one partition.
#[derive(Debug, Serialize, ToSchema)]
struct SinkPosition {
    #[schema(example = "postgres")]
    sink: String,
    #[schema(example = "logs")]
    topic: String,
    #[schema(example = 0)]
    partition: i64,
    /// Everything before this offset is stored.
    next_offset: Option<i64>,
    /// Event time up to which the sink is complete.
    #[schema(value_type = Option<String>, format = DateTime)]
    complete_through: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

async fn status(call: Call) -> Result<Response, Problem> {
    let app = &*call.app;
    let pipeline = app.store.sql(
        "select clock_us, watermark_us, sequence, updated_at, partition_clocks from pipeline_state order by pipeline limit 1",
    );
    let mut sinks = app.store.sql(
        "select sink, topic, partition, next_offset, watermark_us, updated_at from sink_positions order by sink, topic, partition limit ",
    );
    sinks.arg(Arg::Int(MAX_POSITIONS));
    let newest = app.store.sql("select coalesce(max(seq), 0) from anomaly_events");
    let open = app.store.sql("select count(*) from anomalies where status in ('provisional', 'open')");
    let mut dead = app.store.sql("select count(*) from (select 1 from dead_letters limit ");
    dead.arg(Arg::Int(MAX_COUNTED)).push(") as counted");
    let [pipeline, sinks, newest, open, dead] = app.fetch_all([pipeline, sinks, newest, open, dead]).await?;
    let count = |rows: &[Row]| rows.first().map_or(Ok(0), |row| row.get::<i64>(0));

    let now = Timestamp::now();
    let reached = ClockNow::of(&pipeline)?;
    let (commits, last_commit, partitions) = match pipeline.first() {
        Some(row) => (row.get(2)?, Some(row.get(3)?), partitions(&row.get::<Clocks>(4)?, now)),
        None => (0, None, Vec::new()),
    };
    let answer = Status {
        pipeline: state(last_commit, now),
        behind_ms: reached.clock.map(|clock| now.as_millisecond() - clock.as_millisecond()),
        logs_per_second: throughput(app, &reached).await?,
        reached,
        commits,
        last_commit,
        open_anomalies: count(&open)?,
        dead_letters: count(&dead)?,
        seq: count(&newest)?,
        partitions,
        sinks: sinks.iter().map(sink_position).collect::<Result<_, _>>()?,
    };
    fresh(StatusCode::OK, &answer)
}

type Clocks = Box<serde_json::value::RawValue>;

fn state(last_commit: Option<Timestamp>, now: Timestamp) -> &'static str {
    match last_commit {
        None => "absent",
        Some(at) if now.as_second() - at.as_second() > STALE_AFTER_S => "stalled",
        Some(_) => "running",
    }
}

/// From `[["topic", 0, 1700000000000000], …]`; what cannot be read is left out.
fn partitions(clocks: &Clocks, now: Timestamp) -> Vec<Partition> {
    let clocks: Vec<(String, i64, i64)> = serde_json::from_str(clocks.get()).unwrap_or_default();
    let partition = |(topic, partition, micros): (String, i64, i64)| {
        let clock = time::from_micros(micros);
        let behind_ms = clock.map(|clock| now.as_millisecond() - clock.as_millisecond());
        Partition { topic, partition, clock, behind_ms }
    };
    clocks.into_iter().map(partition).collect()
}

/// Logs per second over the last whole minute before the clock.
async fn throughput(app: &App, reached: &ClockNow) -> Result<f64, StoreError> {
    let Some(clock) = reached.clock else { return Ok(0.0) };
    let end = clock.as_second();
    let mut sql = app.store.sql(
        "select cast(coalesce(sum(case when service = '' then logs end), sum(logs), 0) as bigint) \
         from window_state where second >= ",
    );
    sql.arg(Arg::Int(end - THROUGHPUT_S)).push(" and second < ").arg(Arg::Int(end));
    let rows = app.fetch(sql).await?;
    let logs: i64 = rows.first().map_or(Ok(0), |row| row.get(0))?;
    Ok((logs as f64 / THROUGHPUT_S as f64 * 100.0).round() / 100.0)
}

fn sink_position(row: &Row) -> Result<SinkPosition, StoreError> {
    Ok(SinkPosition {
        sink: row.get(0)?,
        topic: row.get(1)?,
        partition: row.get(2)?,
        next_offset: row.get(3)?,
        complete_through: row.get::<Option<i64>>(4)?.and_then(time::from_micros),
        updated_at: row.get(5)?,
    })
}

fn example() -> serde_json::Value {
    serde_json::json!({
        "pipeline": "running", "clock": "2026-01-15T10:30:05Z", "complete_through": "2026-01-15T10:30:00Z",
        "behind_ms": 120, "commits": 36000, "last_commit": "2026-01-15T10:30:05Z", "logs_per_second": 1040.5,
        "open_anomalies": 1, "dead_letters": 0, "seq": 42,
        "partitions": [{"topic": "logs", "partition": 0, "clock": "2026-01-15T10:30:05Z", "behind_ms": 120}],
        "sinks": [{"sink": "state", "topic": "logs", "partition": 0, "next_offset": 12345,
                   "complete_through": "2026-01-15T10:30:00Z", "updated_at": "2026-01-15T10:30:05Z"}]
    })
}
