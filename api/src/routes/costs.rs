//! `GET /api/v1/costs/estimate`: what the cloud part costs this month, from what was stored and called.

use super::{Answer, Call, JSON, Route, fresh, schema_of};
use crate::app::App;
use crate::cloud;
use crate::costs::{Account, CloudCosts, Costs, Free, Prices, Status, Usage};
use crate::params::{Kind, Param};
use crate::problem::Problem;
use axum::response::Response;
use hyper::StatusCode;
use jiff::Timestamp;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use serde::Serialize;
use std::sync::atomic::AtomicU64;
use utoipa::ToSchema;

pub const ROUTE: Route = Route {
    path: "/api/v1/costs/estimate",
    operation: "estimateCosts",
    tag: "costs",
    summary: "Costs of the cloud part in the current month (UTC)",
    about: "From the exporter's own ledger (requests, how long each file was kept in S3), the last listing of the bucket, and \
            what the function measured of itself; until that was read (`cloud.contributions_table`), one call for each \
            request that writes, and the units of DynamoDB that counting a file takes at most. Prices are dated, without taxes. `forecast` is the whole month: requests at the pace so far, storage as it grew this month. Status: `approaching` from \
            80 % of anything that is free, `exceeded` beyond it or when a cent is to pay. All zero where nothing is exported to S3.",
    params: &[ACCOUNT, REGION],
    path_params: &[],
    produces: JSON,
    schema: Some(schema_of::<Estimate>),
    example: Some(example),
    also: &[],
    answer: Answer::Plain(|call| Box::pin(async move { estimate(&call).await })),
};

const ACCOUNT: Param = Param {
    name: "account",
    kind: Kind::Choice(&["configured", "first_year", "older", "credits"]),
    about: "What is free: as `cloud.account` says, or in the `first_year` of an account made before 15 July 2025, `older`, or made \
            since (`credits`)",
    example: "first_year",
};
const REGION: Param = Param {
    name: "region",
    kind: Kind::Choice(&[
        "configured",
        "ap-northeast-1",
        "ap-southeast-1",
        "eu-central-1",
        "eu-west-1",
        "eu-west-2",
        "us-east-1",
        "us-east-2",
        "us-west-2",
    ]),
    about: "Whose prices: as `cloud.region` says, or another's",
    example: "eu-west-1",
};

/// The estimate.
#[derive(Debug, Serialize, ToSchema)]
struct Estimate {
    #[schema(example = "2026-01")]
    period: String,
    estimated_costs_usd: Dollars,
    free_tier_usage: FreeTier,
    /// `within_free_tier`, `approaching` or `exceeded`.
    #[schema(example = "within_free_tier")]
    status: &'static str,
    forecast: Forecast,
    detail: Detail,
}

/// US dollars, to the cent.
#[derive(Debug, Serialize, ToSchema)]
struct Dollars {
    s3: f64,
    lambda: f64,
    dynamodb: f64,
    total: f64,
}

/// How much of what is free is used.
#[derive(Debug, Serialize, ToSchema)]
struct FreeTier {
    s3_storage_gb: Meter,
    s3_put_requests: Meter,
    s3_get_requests: Meter,
    lambda_invocations: Meter,
    lambda_gb_seconds: Meter,
}

#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
struct Meter {
    used: f64,
    limit: f64,
}

/// The whole month.
#[derive(Debug, Serialize, ToSchema)]
struct Forecast {
    estimated_costs_usd: Dollars,
    status: &'static str,
    /// How it is made.
    method: &'static str,
}

/// What it rests on.
#[derive(Debug, Serialize, ToSchema)]
struct Detail {
    account: &'static str,
    region: String,
    /// `on_demand`, or `provisioned`: requests to the tables have no price, and what is set aside for them is taken to be within
    /// the 25 units of each kind that are free.
    table_billing: &'static str,
    /// The day of the price list.
    prices_as_of: String,
    /// The share of the month that has passed.
    month_passed: f64,
    /// Services that logged this month.
    services: i64,
    /// When the bucket was listed; null: storage is what the exporter wrote.
    bucket_listed_at: Option<String>,
    /// When the function's own ledger was read; null: its calls and units are estimated from requests and services, an upper
    /// bound.
    function_measured_at: Option<String>,
    /// GB kept × the share of the month that they were kept.
    s3_gb_months: f64,
    dynamodb_write_units: f64,
    dynamodb_read_units: f64,
    /// Not rounded.
    exact_costs_usd: Dollars,
}

const METHOD: &str = "requests and calls: so far / share of the month that has passed (a day at least); \
                      storage: kept so far, and what is there now growing as it grew this month";

async fn estimate(call: &Call) -> Result<Response, Problem> {
    let CloudCosts { account: usual, region: home, tables } = &call.app.config.cloud;
    let account = Account::parse(call.params.choice(&ACCOUNT)).unwrap_or(*usual);
    let region = match call.params.choice(&REGION) {
        "configured" => home,
        asked => asked,
    };
    let prices =
        Prices::of(region).ok_or_else(|| Problem::internal("there is no price file of this region"))?;
    let prices = prices.billed(*tables);
    let known = cloud::read(&call.app, call.now).await?;
    let free = account.free();
    let (costs, end) = (known.usage.costs(&prices, &free), known.end.costs(&prices, &free));
    let answer = Estimate {
        period: known.period,
        estimated_costs_usd: Dollars::cents(&costs),
        free_tier_usage: FreeTier::of(&known.usage, &free),
        status: Status::of(&known.usage, &costs, &free).as_str(),
        forecast: Forecast {
            estimated_costs_usd: Dollars::cents(&end),
            status: Status::of(&known.end, &end, &free).as_str(),
            method: METHOD,
        },
        detail: Detail {
            account: account.as_str(),
            region: prices.region,
            table_billing: tables.as_str(),
            prices_as_of: prices.as_of,
            month_passed: known.month.passed(),
            services: known.services,
            bucket_listed_at: known.listed_at.map(rfc3339),
            function_measured_at: known.measured_at.map(rfc3339),
            s3_gb_months: known.usage.s3_gb_months,
            dynamodb_write_units: known.usage.dynamodb_write_units,
            dynamodb_read_units: known.usage.dynamodb_read_units,
            exact_costs_usd: Dollars::exact(&costs),
        },
    };
    fresh(StatusCode::OK, &answer)
}

impl Dollars {
    fn exact(costs: &Costs) -> Self {
        Self { s3: costs.s3, lambda: costs.lambda, dynamodb: costs.dynamodb, total: costs.total }
    }

    fn cents(costs: &Costs) -> Self {
        let round = |dollars: f64| (dollars * 100.0).round() / 100.0;
        Self {
            s3: round(costs.s3),
            lambda: round(costs.lambda),
            dynamodb: round(costs.dynamodb),
            total: round(costs.total),
        }
    }
}

impl FreeTier {
    fn of(usage: &Usage, free: &Free) -> Self {
        let [s3_storage_gb, s3_put_requests, s3_get_requests, lambda_invocations, lambda_gb_seconds] =
            usage.meters(free).map(|(_, used, limit)| Meter { used, limit });
        Self { s3_storage_gb, s3_put_requests, s3_get_requests, lambda_invocations, lambda_gb_seconds }
    }
}

type Dial<K> = Family<[(&'static str, K); 1], Gauge<f64, AtomicU64>>;

/// The same numbers for `/metrics`, for what is configured; nothing while the store cannot be read.
pub async fn gauges(app: &App, now: Timestamp) -> Registry {
    let mut registry = Registry::with_prefix("smartlog");
    let CloudCosts { account, region, tables } = &app.config.cloud;
    let (Ok(known), Some(prices)) = (cloud::read(app, now).await, Prices::of(region)) else {
        return registry;
    };
    let prices = prices.billed(*tables);
    let free = account.free();
    let (month, forecast, tier) = (Dial::default(), Dial::default(), Dial::default());
    for (dial, usage) in [(&month, &known.usage), (&forecast, &known.end)] {
        let costs = usage.costs(&prices, &free);
        for (service, dollars) in [("s3", costs.s3), ("lambda", costs.lambda), ("dynamodb", costs.dynamodb)] {
            dial.get_or_create(&[("service", service)]).set(dollars);
        }
    }
    for (meter, used, limit) in known.usage.meters(&free) {
        tier.get_or_create(&[("meter", meter)]).set(used / limit);
    }
    let dollars = || Unit::Other("dollars".into());
    registry.register_with_unit("cloud_cost", "Estimated costs of this month so far", dollars(), month);
    registry.register_with_unit(
        "cloud_cost_forecast",
        "Estimated costs of the whole month",
        dollars(),
        forecast,
    );
    registry.register_with_unit(
        "cloud_free_tier_used",
        "Used share of what is free in a month",
        Unit::Ratios,
        tier,
    );
    registry
}

fn rfc3339(us: i64) -> String {
    Timestamp::from_microsecond(us).unwrap_or_default().to_string()
}

fn example() -> serde_json::Value {
    let nothing = serde_json::json!({"s3": 0.0, "lambda": 0.0, "dynamodb": 0.0, "total": 0.0});
    serde_json::json!({
        "period": "2026-01", "estimated_costs_usd": nothing,
        "free_tier_usage": {
            "s3_storage_gb": {"used": 2.5, "limit": 5.0}, "s3_put_requests": {"used": 150.0, "limit": 2000.0},
            "s3_get_requests": {"used": 31.0, "limit": 20000.0}, "lambda_invocations": {"used": 150.0, "limit": 1_000_000.0},
            "lambda_gb_seconds": {"used": 37.5, "limit": 400_000.0}
        },
        "status": "within_free_tier",
        "forecast": {"estimated_costs_usd": nothing, "status": "within_free_tier", "method": METHOD},
        "detail": {
            "account": "first_year", "region": "eu-west-1", "table_billing": "on_demand", "prices_as_of": "2026-10-15",
            "month_passed": 0.5, "services": 8,
            "bucket_listed_at": "2026-01-16T00:20:00Z", "function_measured_at": "2026-01-16T00:20:00Z",
            "s3_gb_months": 1.25, "dynamodb_write_units": 5250.0, "dynamodb_read_units": 1350.0,
            "exact_costs_usd": {"s3": 0.0, "lambda": 0.0, "dynamodb": 0.0039, "total": 0.0039}
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_region_with_prices_can_be_asked_for() {
        let Kind::Choice(["configured", regions @ ..]) = REGION.kind else {
            panic!("words, the first of which is the configured region")
        };
        assert_eq!(regions, CloudCosts::regions());
    }
}
