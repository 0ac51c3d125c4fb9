//! The cost estimate over real stores, against months computed by hand.

mod common;

use common::{Bench, HOUR, Server};
use jiff::{Timestamp, ToSpan, tz::TimeZone};
use serde_json::{Value, json};
use smartlog_api::CloudCosts;

smartlog_test_services::on_both_stores!(
    nothing_exported_costs_nothing,
    a_month_costs_what_it_costs_by_hand,
    provisioned_tables_cost_nothing_by_the_request,
    a_changed_ledger_changes_the_answer,
    what_was_measured_takes_the_place_of_what_was_estimated,
    what_the_buckets_lifecycle_deleted_is_not_paid_for,
    metrics_show_the_same_numbers,
);

const GIB: i64 = 1 << 30;

struct Month {
    first: String,
    last: String,
    begin: i64,
    end: i64,
    now: i64,
}

/// Of the wall clock, as the route sees it.
fn month() -> Month {
    let now = Timestamp::now();
    let first = now.to_zoned(TimeZone::UTC).date().first_of_month();
    let micros =
        |date: jiff::civil::Date| date.to_zoned(TimeZone::UTC).expect("a day").timestamp().as_microsecond();
    let (last, next) = (first.saturating_sub(1.day()), first.saturating_add(1.month()));
    let (begin, end) = (micros(first), micros(next));
    Month { first: first.to_string(), last: last.to_string(), begin, end, now: now.as_microsecond() }
}

async fn file(
    bench: &Bench,
    target: &str,
    name: &str,
    gib: i64,
    completed: Option<i64>,
    deleted: Option<i64>,
) {
    let null = |micros: Option<i64>| micros.map_or("null".to_owned(), |micros| micros.to_string());
    let status = if completed.is_some() { "complete" } else { "intended" };
    let (completed, deleted, bytes) = (null(completed), null(deleted), gib * GIB);
    bench
        .execute(&format!(
            "insert into export_files (target, date, name, status, generation, rows, bytes, row_checksum, min_timestamp_us, \
             max_timestamp_us, created_us, completed_us, deleted_us) \
             values ('{target}', '2026-01-15', '{name}', '{status}', 0, 1, {bytes}, '00', 0, 0, 0, {completed}, {deleted})"
        ))
        .await;
}

async fn requests(bench: &Bench, target: &str, day: &str, puts: i64, gets: i64) {
    bench
        .execute(&format!(
            "insert into export_usage (target, day, puts, gets) values ('{target}', '{day}', {puts}, {gets})"
        ))
        .await;
}

/// A month with all that counts and all that does not; what is by hand stands in the test.
async fn seed(bench: &Bench) -> Month {
    let month = month();
    let middle = month.begin + (month.now - month.begin) / 2;
    file(bench, "s3://lake/", "kept", 2, Some(month.begin - HOUR), None).await;
    file(bench, "s3://lake/", "deleted", 1, Some(month.begin - 40 * 24 * HOUR), Some(middle)).await;
    file(bench, "s3://lake/", "long gone", 50, Some(month.begin - 2 * HOUR), Some(month.begin - HOUR)).await;
    file(bench, "s3://lake/", "not there yet", 50, None, None).await;
    file(bench, "file:///lake", "elsewhere", 50, Some(month.begin), None).await;
    requests(bench, "s3://lake/", &month.first, 4_000, 30_000).await;
    requests(bench, "s3://other/", &month.first, 1_000, 0).await;
    requests(bench, "s3://lake/", &month.last, 70_000, 70_000).await;
    requests(bench, "file:///lake", &month.first, 70_000, 70_000).await;
    for (service, at) in
        [("a", month.now), ("b", month.now), ("c", month.begin), ("a", month.begin), ("d", month.begin - 1)]
    {
        let hour = bench.at(at);
        bench
            .execute(&format!(
                "insert into hourly_metrics (hour, service, log_count, error_count, anomaly_count) values ({hour}, '{service}', 1, 0, 0)"
            ))
            .await;
    }
    month
}

fn near(found: &Value, expected: f64, tolerance: f64) {
    let found = found.as_f64().expect("a number");
    assert!((found - expected).abs() <= tolerance, "found {found}, expected {expected}");
}

async fn nothing_exported_costs_nothing(bench: Bench) {
    let server = bench.serve().await;
    let answer = server.json("/api/v1/costs/estimate").await;
    assert_eq!(answer["period"], month().first[..7]);
    assert_eq!(
        answer["estimated_costs_usd"],
        json!({"s3": 0.0, "lambda": 0.0, "dynamodb": 0.0, "total": 0.0})
    );
    assert_eq!(answer["free_tier_usage"]["s3_storage_gb"], json!({"used": 0.0, "limit": 5.0}));
    assert_eq!(answer["free_tier_usage"]["lambda_invocations"], json!({"used": 0.0, "limit": 1_000_000.0}));
    assert_eq!(
        (&answer["status"], &answer["forecast"]["status"]),
        (&json!("within_free_tier"), &json!("within_free_tier"))
    );
    server.end().await;
}

/// 5,000 PUT and 30,000 GET in the first free year: (5,000 − 2,000) × $0.005/1000 + (30,000 − 20,000) × $0.0004/1000 = $0.019.
/// 5,000 calls that count 3 services: 5,000 × (2 × (2 × 3 + 1) + 1) = 75,000 write units × $0.705/M = $0.052875, and
/// 5,000 × (3 + 1) = 20,000 read units × $0.1415/M = $0.00283. 2 GB kept all the time and 1 GB half of it are free.
async fn a_month_costs_what_it_costs_by_hand(bench: Bench) {
    let month = seed(&bench).await;
    let server = bench.serve().await;
    let answer = server.json("/api/v1/costs/estimate").await;
    let exact = &answer["detail"]["exact_costs_usd"];
    near(&exact["s3"], 0.019, 1e-9);
    near(&exact["lambda"], 0.0, 0.0);
    near(&exact["dynamodb"], 0.055705, 1e-9);
    assert_eq!(
        answer["estimated_costs_usd"],
        json!({"s3": 0.02, "lambda": 0.0, "dynamodb": 0.06, "total": 0.07})
    );
    assert_eq!(answer["free_tier_usage"]["s3_storage_gb"]["used"], 2.0);
    assert_eq!(answer["free_tier_usage"]["s3_put_requests"], json!({"used": 5_000.0, "limit": 2_000.0}));
    assert_eq!((&answer["status"], &answer["detail"]["services"]), (&json!("exceeded"), &json!(3)));
    // 2.5 GB on average, so far; a minute's tolerance for the time between the seed and the answer.
    let passed = (month.now - month.begin) as f64 / (month.end - month.begin) as f64;
    near(&answer["detail"]["month_passed"], passed, 60e6 / (month.end - month.begin) as f64);
    near(&answer["detail"]["s3_gb_months"], 2.5 * passed, 2.5 * 60e6 / (month.end - month.begin) as f64);
    let older = server.json("/api/v1/costs/estimate?account=older").await;
    let s3 =
        5.0 * 0.005 + 30.0 * 0.0004 + answer["detail"]["s3_gb_months"].as_f64().expect("a number") * 0.023;
    near(&older["detail"]["exact_costs_usd"]["s3"], s3, 1e-6);
    server.end().await;
}

/// 2,000 calls that count 1 service: 2,000 × 7 write units and 2,000 × 2 read units, on demand more than half a cent:
/// 14,000 × $0.705/M + 4,000 × $0.1415/M = $0.010436.
async fn provisioned_tables_cost_nothing_by_the_request(bench: Bench) {
    let month = month();
    requests(&bench, "s3://lake/", &month.first, 2_000, 0).await;
    let hour = bench.at(month.now);
    bench
        .execute(&format!(
            "insert into hourly_metrics (hour, service, log_count, error_count, anomaly_count) values ({hour}, 'a', 1, 0, 0)"
        ))
        .await;
    let server = billed(bench, "on_demand").await;
    assert_tables_cost(&server, 0.010436, "exceeded", "on_demand").await;
    let server = billed(server.stop().await, "provisioned").await;
    // Of S3's requests all that is free is used, and no more.
    assert_tables_cost(&server, 0.0, "approaching", "provisioned").await;
    server.end().await;
}

async fn billed(bench: Bench, tables: &str) -> Server {
    let mut config = bench.config();
    config.cloud = CloudCosts::new("first_year", "eu-west-1", tables).expect("known");
    Server::start(bench, config).await
}

async fn assert_tables_cost(server: &Server, dollars: f64, status: &str, tables: &str) {
    let answer = server.json("/api/v1/costs/estimate").await;
    let detail = &answer["detail"];
    near(&detail["exact_costs_usd"]["dynamodb"], dollars, 1e-9);
    near(&detail["exact_costs_usd"]["total"], dollars, 1e-9);
    near(&detail["dynamodb_write_units"], 14_000.0, 0.0);
    assert_eq!((&answer["status"], &detail["table_billing"]), (&json!(status), &json!(tables)));
    let text = server.get("/metrics").await.text();
    let name = "smartlog_cloud_cost_dollars{service=\"dynamodb\"} ";
    let value = text.lines().find_map(|line| line.strip_prefix(name)).expect(name);
    near(&json!(dollars), value.parse().expect("a number"), 1e-9);
}

async fn a_changed_ledger_changes_the_answer(bench: Bench) {
    let month = seed(&bench).await;
    let server = bench.serve().await;
    let before = server.json("/api/v1/costs/estimate").await;
    requests(&server.bench, "s3://third/", &month.first, 1_000, 0).await;
    // Not in this very second, which the route's clock may not have reached.
    file(&server.bench, "s3://third/", "more", 4, Some(month.now - 5_000_000), None).await;
    let after = server.json("/api/v1/costs/estimate").await;
    let s3 = |answer: &Value| answer["detail"]["exact_costs_usd"]["s3"].as_f64().expect("a number");
    near(&json!(s3(&after) - s3(&before)), 0.005, 1e-6);
    near(&after["detail"]["dynamodb_write_units"], 90_000.0, 0.0);
    assert_eq!(after["free_tier_usage"]["s3_storage_gb"]["used"], 6.0);
    server.end().await;
}

/// The bucket held 3 GB where the exporter knows of 2 (and of 50 in a bucket that was not listed): manifests and others are 1 GB.
/// 900 calls were measured, 12.5 GB-s, 4,000 write and 1,000 read units: $0.00282 + $0.0001415. Last month's do not count.
async fn what_was_measured_takes_the_place_of_what_was_estimated(bench: Bench) {
    let month = seed(&bench).await;
    let listed = month.now - 60_000_000;
    file(&bench, "s3://other/", "not listed", 50, Some(month.begin), None).await;
    bench
        .execute(&format!("insert into export_listings values ('s3://lake/', 12, {}, {listed})", 3 * GIB))
        .await;
    for (day, calls) in [(&month.first, 900), (&month.last, 7_000_000)] {
        let row =
            format!("insert into function_usage values ('{day}', {calls}, 2, 12.5, 1000, 4000, {listed})");
        bench.execute(&row).await;
    }
    let server = bench.serve().await;
    let answer = server.json("/api/v1/costs/estimate").await;
    assert_eq!(answer["free_tier_usage"]["s3_storage_gb"]["used"], 53.0);
    assert_eq!(answer["free_tier_usage"]["lambda_invocations"]["used"], 900.0);
    assert_eq!(answer["free_tier_usage"]["lambda_gb_seconds"]["used"], 12.5);
    near(&answer["detail"]["exact_costs_usd"]["dynamodb"], 0.00282 + 0.000_141_5, 1e-12);
    near(&answer["detail"]["dynamodb_write_units"], 4_000.0, 0.0);
    // 2.5 GB on average, 50 all the time, and 1 of others.
    let passed = answer["detail"]["month_passed"].as_f64().expect("a number");
    near(&answer["detail"]["s3_gb_months"], 53.5 * passed, 53.5 * 60e6 / (month.end - month.begin) as f64);
    let at = Timestamp::from_microsecond(listed).expect("a time").to_string();
    assert_eq!(
        (&answer["detail"]["bucket_listed_at"], &answer["detail"]["function_measured_at"]),
        (&json!(at), &json!(at))
    );
    server.end().await;
}

/// The exporter wrote 3 GB, of which a listing found 1; then it wrote 4 more, and a listing found nothing.
async fn what_the_buckets_lifecycle_deleted_is_not_paid_for(bench: Bench) {
    let month = month();
    file(&bench, "s3://lake/", "expired in part", 3, Some(month.begin - HOUR), None).await;
    let row = format!("insert into export_listings values ('s3://lake/', 1, {GIB}, {})", month.now);
    bench.execute(&row).await;
    let server = bench.serve().await;
    let answer = server.json("/api/v1/costs/estimate").await;
    assert_eq!(answer["free_tier_usage"]["s3_storage_gb"]["used"], 1.0);
    let passed = answer["detail"]["month_passed"].as_f64().expect("a number");
    // The ledger's 3 GB are counted to the microsecond of the question, as the share of the month is.
    near(&answer["detail"]["s3_gb_months"], passed, 1e-9);
    let middle = month.begin + (month.now - month.begin) / 2;
    file(&server.bench, "s3://lake/", "expired", 4, Some(middle), None).await;
    server.bench.execute("update export_listings set bytes = 0").await;
    let answer = server.json("/api/v1/costs/estimate").await;
    assert_eq!(answer["free_tier_usage"]["s3_storage_gb"]["used"], 0.0);
    // 3 GB all the time and 4 for half of it, less 7 all the time: not less than nothing.
    assert_eq!(answer["detail"]["s3_gb_months"], 0.0);
    server.end().await;
}

async fn metrics_show_the_same_numbers(bench: Bench) {
    seed(&bench).await;
    let server = bench.serve().await;
    let answer = server.json("/api/v1/costs/estimate").await;
    let text = server.get("/metrics").await.text();
    let value = |name: &str| -> f64 {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_else(|| panic!("{name} in {text}"));
        line.trim().parse().expect("a number")
    };
    let exact = &answer["detail"]["exact_costs_usd"];
    near(&exact["dynamodb"], value("smartlog_cloud_cost_dollars{service=\"dynamodb\"}"), 1e-9);
    near(&exact["s3"], value("smartlog_cloud_cost_dollars{service=\"s3\"}"), 1e-9);
    assert!(
        value("smartlog_cloud_cost_forecast_dollars{service=\"s3\"}")
            >= value("smartlog_cloud_cost_dollars{service=\"s3\"}")
    );
    near(&json!(2.5), value("smartlog_cloud_free_tier_used_ratios{meter=\"s3_put_requests\"}"), 1e-9);
    server.end().await;
}
