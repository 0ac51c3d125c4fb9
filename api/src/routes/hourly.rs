//! `GET /api/v1/metrics/hourly`: logs, errors and anomalies per hour and service.

use super::{Answer, Call, ClockNow, JSON, Route, SERVICE, SINCE, UNTIL, encode, schema_of};
use crate::listing::{Count, Frame, Listed, Listing};
use crate::paging::{CURSOR, KeyKind, Order, PAGE, PER_PAGE};
use crate::params::{Kind, Param};
use crate::problem::Problem;
use crate::store::{Arg, Row, Sql, StoreError};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

pub const ROUTE: Route = Route {
    path: "/api/v1/metrics/hourly",
    operation: "listHourlyMetrics",
    tag: "metrics",
    summary: "Logs, errors and anomalies per hour and service",
    about: "Late logs correct their hour, so an hour before `complete_through` may still grow. `by=hour` sums over the \
            services that the filters leave, and `service` is then null.",
    params: &[SERVICE, BY, SINCE, UNTIL, SORT, PAGE, PER_PAGE, CURSOR],
    path_params: &[],
    produces: JSON,
    schema: Some(schema_of::<HourlyPage>),
    example: Some(example),
    also: &[],
    answer: Answer::Kept(|call| Box::pin(list(call))),
};

const BY: Param = Param {
    name: "by",
    kind: Kind::Choice(&["service", "hour"]),
    about: "What a row is: one service's hour, or the hour of all of them",
    example: "hour",
};
const SORT: Param = Param {
    name: "sort",
    kind: Kind::Choice(&["-hour", "hour"]),
    about: "The order; `-` is descending",
    example: "-hour",
};

/// One hour of one service.
#[derive(Debug, Serialize, ToSchema)]
struct Hour {
    /// The hour's start.
    #[schema(value_type = String, format = DateTime, example = "2026-01-15T10:00:00Z")]
    hour: Timestamp,
    /// Null for the sum of all.
    #[schema(example = "payment-service")]
    service: Option<String>,
    #[schema(example = 50000)]
    log_count: i64,
    /// Logs at ERROR or FATAL.
    #[schema(example = 150)]
    error_count: i64,
    /// Episodes, not retracted, that started in the hour.
    #[schema(example = 3)]
    anomaly_count: i64,
    #[serde(skip)]
    id: i64,
}

/// A page of hours.
#[derive(Debug, Serialize, ToSchema)]
struct HourlyPage {
    metrics: Vec<Hour>,
    #[serde(flatten)]
    frame: Frame,
}

/// The hours of all services together; conditions on the hour reach the index within.
const SUMS: &str = "(select hour, min(id) as id, cast(null as text) as service, \
     cast(sum(log_count) as bigint) as log_count, cast(sum(error_count) as bigint) as error_count, \
     cast(sum(anomaly_count) as bigint) as anomaly_count from hourly_metrics group by hour) as hours";
/// Rows are counted up to here.
const MAX_COUNTED: i64 = 1_000_000;

async fn list(call: Call) -> Result<Vec<u8>, Problem> {
    let table = match (call.params.choice(&BY), call.params.text(&SERVICE)) {
        ("hour", None) => SUMS,
        // The sum over one service is that service.
        _ => "hourly_metrics",
    };
    let listing = Listing {
        table,
        columns: "hour, service, log_count, error_count, anomaly_count, id",
        order: Order { column: "hour", key: KeyKind::Time, descending: call.params.choice(&SORT) == "-hour" },
        count: Count::UpTo(MAX_COUNTED),
        reached: ClockNow::SQL,
        filter,
        read: hour,
        key: |hour| (hour.hour.as_microsecond(), hour.id),
    };
    let Listed { rows, frame, .. } = listing.page(&call).await?;
    encode(&HourlyPage { metrics: rows, frame })
}

fn filter(call: &Call, sql: &mut Sql) {
    let (since, until) = (call.params.time(&SINCE), call.params.time(&UNTIL));
    sql.and("service =", call.params.text(&SERVICE).map(|service| Arg::Text(service.into())))
        .and("hour >=", since.map(Arg::Time))
        .and("hour <", until.map(Arg::Time));
}

fn hour(row: &Row) -> Result<Hour, StoreError> {
    Ok(Hour {
        hour: row.get(0)?,
        service: row.get(1)?,
        log_count: row.get(2)?,
        error_count: row.get(3)?,
        anomaly_count: row.get(4)?,
        id: row.get(5)?,
    })
}

fn example() -> serde_json::Value {
    serde_json::json!({
        "metrics": [{"hour": "2026-01-15T10:00:00Z", "service": "payment-service", "log_count": 50000,
                     "error_count": 150, "anomaly_count": 3}],
        "total": 1, "total_is_exact": true, "page": 1, "per_page": 50, "next_cursor": null,
        "clock": "2026-01-15T10:30:05Z", "complete_through": "2026-01-15T10:30:00Z"
    })
}
