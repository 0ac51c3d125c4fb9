//! `GET /api/v1/logs`: raw logs of a time range, newest first.

use super::patterns::id_of;
use super::{Answer, Call, JSON, RAW_COMPLETE_SQL, Route, SERVICE, SINCE, UNTIL, encode, schema_of};
use crate::listing::{Count, Frame, Listed, Listing};
use crate::paging::{CURSOR, KeyKind, Order, PAGE, PER_PAGE};
use crate::params::{Kind, Param};
use crate::problem::Problem;
use crate::store::{Arg, Row, Sql, StoreError};
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
    params: &[SERVICE, LEVEL, HOST, TEXT, TEMPLATE, SINCE, UNTIL, SORT, PAGE, PER_PAGE, CURSOR],
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
const HOST: Param = Param {
    name: "host",
    kind: Kind::Text { max_chars: 100 },
    about: "Only this host",
    example: "server-01",
};
const TEMPLATE: Param = Param {
    name: "template",
    kind: Kind::Id,
    about: "Only messages of the template with this id; `/api/v1/patterns` lists them",
    example: "5b0a41c1e2d3f405",
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
    /// The id of the message's template, see `/api/v1/patterns`; null where none is known.
    #[schema(example = "5b0a41c1e2d3f405")]
    template: Option<String>,
}

/// A page of logs.
#[derive(Debug, Serialize, ToSchema)]
struct LogPage {
    logs: Vec<Log>,
    #[serde(flatten)]
    frame: Frame,
}

async fn list(call: Call) -> Result<Vec<u8>, Problem> {
    let descending = call.params.choice(&SORT) == "-timestamp";
    let listing = Listing {
        table: "logs",
        columns: "id, timestamp, level, service, host, message, metadata, \
                  (select template_id from patterns where patterns.shape = logs.shape)",
        order: Order { column: "timestamp", key: KeyKind::Time, descending },
        count: Count::UpTo(MAX_COUNTED),
        reached: RAW_COMPLETE_SQL,
        filter,
        read: log,
        key: |log| (log.timestamp.as_microsecond(), log.id),
    };
    let Listed { rows, frame, .. } = listing.page(&call).await?;
    encode(&LogPage { logs: rows, frame })
}

fn filter(call: &Call, sql: &mut Sql) {
    let params = &call.params;
    let (since, until) = (params.time(&SINCE), params.time(&UNTIL));
    let since = since.or_else(|| until.unwrap_or(call.now).checked_sub(DEFAULT_RANGE).ok());
    sql.and("timestamp >=", since.map(Arg::Time))
        .and("timestamp <", until.map(Arg::Time))
        .and("service =", params.text(&SERVICE).map(|service| Arg::Text(service.into())))
        .and("host =", params.text(&HOST).map(|host| Arg::Text(host.into())))
        .one_of("level", params.words(&LEVEL));
    if let Some(template) = params.integer(&TEMPLATE) {
        sql.push(" and shape in (select shape from patterns where template_id = ").arg(Arg::Int(template));
        sql.push(")");
    }
    if let Some(text) = params.text(&TEXT) {
        sql.contains("message", text);
    }
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
        template: row.get::<Option<i64>>(7)?.map(id_of),
    })
}

fn example() -> serde_json::Value {
    serde_json::json!({
        "logs": [{"id": 9, "timestamp": "2026-01-15T10:30:00Z", "level": "ERROR", "service": "payment-service",
                  "host": "server-01", "message": "Database connection timeout",
                  "metadata": {"request_id": "abc-123", "user_id": "user-456", "duration_ms": 5000},
                  "template": "5b0a41c1e2d3f405"}],
        "total": 1, "total_is_exact": true, "page": 1, "per_page": 50, "next_cursor": null,
        "clock": "2026-01-15T10:30:05Z", "complete_through": "2026-01-15T10:30:00Z"
    })
}
