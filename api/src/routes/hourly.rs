//! `GET /api/v1/metrics/hourly`: logs, errors and anomalies per hour and service.

use super::{Answer, Call, ClockNow, JSON, Route, SERVICE, SINCE, UNTIL, encode, schema_of};
use crate::paging::{CURSOR, KeyKind, Order, PAGE, PER_PAGE, Page};
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
    about: "Late logs correct their hour, so an hour before `complete_through` may still grow. Totals over all \
            services are sums of the rows.",
    params: &[SERVICE, SINCE, UNTIL, SORT, PAGE, PER_PAGE, CURSOR],
    path_params: &[],
    produces: JSON,
    schema: Some(schema_of::<HourlyPage>),
    example: Some(example),
    also: &[],
    answer: Answer::Kept(|call| Box::pin(list(call))),
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
    #[schema(example = "payment-service")]
    service: String,
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
    total: i64,
    page: i64,
    per_page: i64,
    next_cursor: Option<String>,
    #[serde(flatten)]
    reached: ClockNow,
}

async fn list(call: Call) -> Result<Vec<u8>, Problem> {
    let app = &*call.app;
    let page = Page::of(&call.params)?;
    let order =
        Order { column: "hour", key: KeyKind::Time, descending: call.params.choice(&SORT) == "-hour" };
    let columns = "select hour, service, log_count, error_count, anomaly_count, id from hourly_metrics";
    let mut select = selection(&call, columns);
    page.select(&mut select, order);
    let count = selection(&call, "select count(*) from hourly_metrics");
    let [reached, total, rows] = app.fetch_all([app.store.sql(ClockNow::SQL), count, select]).await?;
    let mut metrics = rows.iter().map(hour).collect::<Result<Vec<_>, _>>()?;
    let next_cursor = page.cut(&mut metrics, |hour| (hour.hour.as_microsecond(), hour.id));
    let total = total.first().map_or(Ok(0), |row| row.get(0))?;
    let reached = ClockNow::of(&reached)?;
    encode(&HourlyPage { metrics, total, page: page.number, per_page: page.per_page, next_cursor, reached })
}

fn selection(call: &Call, select: &str) -> Sql {
    let (since, until) = (call.params.time(&SINCE), call.params.time(&UNTIL));
    let mut sql = call.app.store.sql(select);
    sql.push(" where true")
        .and("service =", call.params.text(&SERVICE).map(|service| Arg::Text(service.into())))
        .and("hour >=", since.map(Arg::Time))
        .and("hour <", until.map(Arg::Time));
    sql
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
        "total": 1, "page": 1, "per_page": 50, "next_cursor": null,
        "clock": "2026-01-15T10:30:05Z", "complete_through": "2026-01-15T10:30:00Z"
    })
}
