//! `GET /api/v1/logs`: raw logs of a time range, newest first.

use super::{
    Answer, Call, ClockNow, JSON, RAW_COMPLETE_SQL, Route, SERVICE, SINCE, UNTIL, encode, schema_of,
};
use crate::paging::{CURSOR, KeyKind, Order, PAGE, PER_PAGE, Page};
use crate::params::{Kind, Param};
use crate::problem::Problem;
use crate::store::{Arg, Dialect, Row, Sql, StoreError};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::value::RawValue;
use smartlog_schema::level::Level;
use utoipa::ToSchema;

pub const ROUTE: Route = Route {
    path: "/api/v1/logs",
    operation: "listLogs",
    tag: "logs",
    summary: "Raw logs of a time range, newest first",
    about: "Without `since` and `until`: the last hour. `total` is counted up to 10,000; `total_is_exact` says whether \
            there are more.",
    params: &[SERVICE, LEVEL, TEXT, SINCE, UNTIL, SORT, PAGE, PER_PAGE, CURSOR],
    path_params: &[],
    produces: JSON,
    schema: Some(schema_of::<LogPage>),
    example: Some(example),
    also: &[],
    answer: Answer::Kept(|call| Box::pin(list(call))),
};

const fn level_words() -> [&'static str; Level::ALL.len()] {
    let mut words = [""; Level::ALL.len()];
    let mut i = 0;
    while i < words.len() {
        words[i] = Level::ALL[i].as_str();
        i += 1;
    }
    words
}

const LEVEL: Param = Param {
    name: "level",
    kind: Kind::Words(&level_words()),
    about: "Only these levels, separated by commas",
    example: "ERROR,FATAL",
};
const TEXT: Param = Param {
    name: "text",
    kind: Kind::Text { max_chars: 200 },
    about: "Only messages that contain this, in any case",
    example: "timeout",
};
const SORT: Param = Param {
    name: "sort",
    kind: Kind::Choice(&["-timestamp", "timestamp"]),
    about: "The order; `-` is descending",
    example: "-timestamp",
};

/// Logs are counted up to here.
const MAX_COUNTED: i64 = 10_000;
/// What a request without a range asks for.
const DEFAULT_RANGE: SignedDuration = SignedDuration::from_hours(1);

/// One log.
#[derive(Debug, Serialize, ToSchema)]
struct Log {
    id: i64,
    #[schema(value_type = String, format = DateTime, example = "2026-01-15T10:30:00Z")]
    timestamp: Timestamp,
    #[schema(example = "ERROR")]
    level: String,
    #[schema(example = "payment-service")]
    service: String,
    #[schema(example = "server-01")]
    host: Option<String>,
    #[schema(example = "Database connection timeout")]
    message: Option<String>,
    #[schema(value_type = Option<serde_json::Value>)]
    metadata: Option<Box<RawValue>>,
}

/// A page of logs.
#[derive(Debug, Serialize, ToSchema)]
struct LogPage {
    logs: Vec<Log>,
    total: i64,
    /// False: there are more than `total`.
    total_is_exact: bool,
    page: i64,
    per_page: i64,
    next_cursor: Option<String>,
    #[serde(flatten)]
    reached: ClockNow,
}

async fn list(call: Call) -> Result<Vec<u8>, Problem> {
    let app = &*call.app;
    let page = Page::of(&call.params)?;
    let descending = call.params.choice(&SORT) == "-timestamp";
    let order = Order { column: "timestamp", key: KeyKind::Time, descending };
    let mut select =
        selection(&call, "select id, timestamp, level, service, host, message, metadata from logs");
    page.select(&mut select, order);
    let mut count = selection(&call, "select count(*) from (select 1 from logs");
    count.push(" limit ").arg(Arg::Int(MAX_COUNTED + 1)).push(") as counted");
    let [reached, counted, rows] = app.fetch_all([app.store.sql(RAW_COMPLETE_SQL), count, select]).await?;
    let mut logs = rows.iter().map(log).collect::<Result<Vec<_>, _>>()?;
    let next_cursor = page.cut(&mut logs, |log| (log.timestamp.as_microsecond(), log.id));
    let counted: i64 = counted.first().map_or(Ok(0), |row| row.get(0))?;
    encode(&LogPage {
        logs,
        total: counted.min(MAX_COUNTED),
        total_is_exact: counted <= MAX_COUNTED,
        page: page.number,
        per_page: page.per_page,
        next_cursor,
        reached: ClockNow::of(&reached)?,
    })
}

fn selection(call: &Call, select: &str) -> Sql {
    let params = &call.params;
    let (since, until) = (params.time(&SINCE), params.time(&UNTIL));
    let since = since.or_else(|| until.unwrap_or(call.now).checked_sub(DEFAULT_RANGE).ok());
    let contains = match call.app.store.dialect() {
        Dialect::Sqlite => "0 < instr(lower(message), lower(",
        Dialect::Postgres => "0 < position(lower(",
    };
    let mut sql = call.app.store.sql(select);
    sql.push(" where true")
        .and("timestamp >=", since.map(Arg::Time))
        .and("timestamp <", until.map(Arg::Time))
        .and("service =", params.text(&SERVICE).map(|service| Arg::Text(service.into())))
        .one_of("level", params.words(&LEVEL));
    if let Some(text) = params.text(&TEXT) {
        sql.push(" and ").push(contains).arg(Arg::Text(text.into()));
        sql.push(if call.app.store.dialect() == Dialect::Sqlite {
            "))"
        } else {
            "::text) in lower(message))"
        });
    }
    sql
}

fn log(row: &Row) -> Result<Log, StoreError> {
    Ok(Log {
        id: row.get(0)?,
        timestamp: row.get(1)?,
        level: row.get(2)?,
        service: row.get(3)?,
        host: row.get(4)?,
        message: row.get(5)?,
        metadata: row.get(6)?,
    })
}

fn example() -> serde_json::Value {
    serde_json::json!({
        "logs": [{"id": 9, "timestamp": "2026-01-15T10:30:00Z", "level": "ERROR", "service": "payment-service",
                  "host": "server-01", "message": "Database connection timeout",
                  "metadata": {"request_id": "abc-123", "user_id": "user-456", "duration_ms": 5000}}],
        "total": 1, "total_is_exact": true, "page": 1, "per_page": 50, "next_cursor": null,
        "clock": "2026-01-15T10:30:05Z", "complete_through": "2026-01-15T10:30:00Z"
    })
}
