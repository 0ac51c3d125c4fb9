//! `GET /api/v1/costs/estimate`: what the cloud part costs this month, from what was stored and called.
//!
//! Prices are those of eu-west-1 without taxes; the limits are the free tier's. What is not counted by this program
//! (requests of other users of the bucket, data transfer) is not in it.

use super::{Answer, Call, JSON, Route, encode, schema_of};
use crate::problem::Problem;
use crate::store::{Arg, Row, StoreError};
use jiff::{ToSpan, tz::TimeZone};
use serde::Serialize;
use utoipa::ToSchema;

pub const ROUTE: Route = Route {
    path: "/api/v1/costs/estimate",
    operation: "estimateCosts",
    tag: "costs",
    summary: "Costs of the cloud part in the current month",
    about: "From what was exported to S3: bytes kept, requests made, one call of the function for each file, and the \
            items that it writes. Within the free tier a service costs nothing. `forecast_usd` is the whole month at the \
            pace so far. All zero where nothing is exported to S3.",
    params: &[],
    path_params: &[],
    produces: JSON,
    schema: Some(schema_of::<Estimate>),
    example: Some(example),
    also: &[],
    answer: Answer::Kept(|call| Box::pin(estimate(call))),
};

/// US dollars: a GB kept for a month; a thousand PUT and a thousand GET requests.
const S3_GB_MONTH: f64 = 0.023;
const S3_1000_PUTS: f64 = 0.005;
const S3_1000_GETS: f64 = 0.0004;
/// A million calls of the function, beyond the free ones.
const LAMBDA_MILLION: f64 = 0.20;
/// A million write units; a transaction takes two for each item.
const DYNAMODB_MILLION_WRITES: f64 = 0.705;
const WRITES_PER_ITEM: f64 = 2.0;
/// What is free: of S3 in the first year of an account, of the others always. Writes on demand never are.
const FREE_S3_GB: f64 = 5.0;
const FREE_PUTS: f64 = 2_000.0;
const FREE_GETS: f64 = 20_000.0;
const FREE_CALLS: f64 = 1_000_000.0;

/// The estimate.
#[derive(Debug, Serialize, ToSchema)]
struct Estimate {
    /// The month, in UTC.
    #[schema(example = "2026-01")]
    period: String,
    estimated_costs_usd: Costs,
    free_tier_usage: FreeTier,
    /// `within_free_tier` or `exceeds_free_tier`.
    #[schema(example = "within_free_tier")]
    status: &'static str,
    /// The whole month at the pace so far.
    forecast_usd: Costs,
    counted: Counted,
}

/// US dollars.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
struct Costs {
    s3: f64,
    lambda: f64,
    dynamodb: f64,
    total: f64,
}

/// How much of what is free is used.
#[derive(Debug, Serialize, ToSchema)]
struct FreeTier {
    s3_storage_gb: Used,
    lambda_invocations: Used,
    s3_put_requests: Used,
}

#[derive(Debug, Serialize, ToSchema)]
struct Used {
    used: f64,
    limit: f64,
}

/// What the estimate rests on; this month's, but for what is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, ToSchema)]
struct Counted {
    /// Bytes in S3 now.
    stored_bytes: i64,
    put_requests: i64,
    get_requests: i64,
    /// Files completed: each calls the function once.
    files: i64,
    /// Services that logged: the function writes two items for each and one for the file.
    services: i64,
}

async fn estimate(call: Call) -> Result<Vec<u8>, Problem> {
    let app = &*call.app;
    let today = call.now.to_zoned(TimeZone::UTC).date();
    let (first, next) = (today.first_of_month(), today.first_of_month().saturating_add(1.month()));
    let at =
        |date: jiff::civil::Date| date.to_zoned(TimeZone::UTC).map(|day| day.timestamp()).unwrap_or(call.now);
    let (begin, end) = (at(first), at(next));
    let passed =
        (call.now.as_second() - begin.as_second()) as f64 / (end.as_second() - begin.as_second()) as f64;

    let mut files = app.store.sql(
        "select cast(coalesce(sum(case when deleted_us is null then bytes end), 0) as bigint), \
         cast(coalesce(sum(case when completed_us >= ",
    );
    files.arg(Arg::Int(begin.as_microsecond())).push(
        " then 1 end), 0) as bigint) from export_files where target like 's3:%' and status = 'complete'",
    );
    let mut usage = app.store.sql(
        "select cast(coalesce(sum(puts), 0) as bigint), cast(coalesce(sum(gets), 0) as bigint) from export_usage \
         where target like 's3:%' and day >= ",
    );
    usage.arg(Arg::Text(first.to_string()));
    let mut services = app.store.sql("select count(distinct service) from hourly_metrics where hour >= ");
    services.arg(Arg::Time(begin));
    let [files, usage, services] = app.fetch_all([files, usage, services]).await?;
    let counted = counted(&files, &usage, &services)?;
    let costs = costs(&counted, 1.0);
    let is_free = costs.total < 0.005;
    encode(&Estimate {
        period: first.strftime("%Y-%m").to_string(),
        estimated_costs_usd: costs,
        free_tier_usage: FreeTier {
            s3_storage_gb: Used { used: cents(gigabytes(&counted)), limit: FREE_S3_GB },
            lambda_invocations: Used { used: counted.files as f64, limit: FREE_CALLS },
            s3_put_requests: Used { used: counted.put_requests as f64, limit: FREE_PUTS },
        },
        status: if is_free { "within_free_tier" } else { "exceeds_free_tier" },
        // In the first hours a pace says nothing yet.
        forecast_usd: self::costs(&counted, 1.0 / passed.max(1.0 / 31.0)),
        counted,
    })
}

fn counted(files: &[Row], usage: &[Row], services: &[Row]) -> Result<Counted, StoreError> {
    let number = |rows: &[Row], column| rows.first().map_or(Ok(0), |row| row.get::<i64>(column));
    Ok(Counted {
        stored_bytes: number(files, 0)?,
        put_requests: number(usage, 0)?,
        get_requests: number(usage, 1)?,
        files: number(files, 1)?,
        services: number(services, 0)?,
    })
}

fn gigabytes(counted: &Counted) -> f64 {
    counted.stored_bytes as f64 / 1e9
}

/// What `times` as many requests cost, with as much kept as now.
fn costs(counted: &Counted, times: f64) -> Costs {
    let beyond = |used: f64, free: f64| (used - free).max(0.0);
    let requests = beyond(counted.put_requests as f64 * times, FREE_PUTS) * S3_1000_PUTS / 1e3
        + beyond(counted.get_requests as f64 * times, FREE_GETS) * S3_1000_GETS / 1e3;
    let s3 = cents(beyond(gigabytes(counted), FREE_S3_GB) * S3_GB_MONTH + requests);
    let calls = counted.files as f64 * times;
    let lambda = cents(beyond(calls, FREE_CALLS) * LAMBDA_MILLION / 1e6);
    let items = calls * (2.0 * counted.services as f64 + 1.0);
    let dynamodb = cents(items * WRITES_PER_ITEM * DYNAMODB_MILLION_WRITES / 1e6);
    Costs { s3, lambda, dynamodb, total: cents(s3 + lambda + dynamodb) }
}

fn cents(dollars: f64) -> f64 {
    (dollars * 100.0).round() / 100.0
}

fn example() -> serde_json::Value {
    let nothing = serde_json::json!({"s3": 0.00, "lambda": 0.00, "dynamodb": 0.00, "total": 0.00});
    serde_json::json!({
        "period": "2026-01", "estimated_costs_usd": nothing,
        "free_tier_usage": {"s3_storage_gb": {"used": 2.5, "limit": 5.0},
                            "lambda_invocations": {"used": 450.0, "limit": 1_000_000.0},
                            "s3_put_requests": {"used": 480.0, "limit": 2_000.0}},
        "status": "within_free_tier", "forecast_usd": nothing,
        "counted": {"stored_bytes": 2_500_000_000_i64, "put_requests": 480, "get_requests": 31, "files": 450, "services": 3}
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_free_costs_nothing_and_what_is_beyond_costs_its_price() {
        let free = Counted {
            stored_bytes: 5_000_000_000,
            put_requests: 2_000,
            get_requests: 20_000,
            files: 10,
            services: 3,
        };
        assert_eq!(costs(&free, 1.0).total, 0.0);
        // 10 GB beyond; a million PUT beyond; 2 million calls, of 1 service: 3 items of 2 write units each.
        let much = Counted {
            stored_bytes: 15_000_000_000,
            put_requests: 1_002_000,
            get_requests: 0,
            files: 2_000_000,
            services: 1,
        };
        let Costs { s3, lambda, dynamodb, total } = costs(&much, 1.0);
        assert_eq!((s3, lambda, dynamodb, total), (5.23, 0.20, 8.46, 13.89));
    }
}
