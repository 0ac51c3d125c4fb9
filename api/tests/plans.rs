//! How PostgreSQL answers on 10 million logs and 100,000 anomalies: by its own account (auto_explain in the server's log)
//! of every statement that the API sends, none reads a large table from end to end.

mod common;

use common::{Bench, CLOCK_US};
use smartlog_test_services::Service;
use smartlog_test_services::database::connect;
use std::io::{Read, Seek, SeekFrom};

const LOGS: i64 = 10_000_000;
/// The logs lie in this many partitions, filled by two sessions at a time.
const PARTITIONS: i64 = 4;
/// 15 ms between logs: the 10 million are 42 hours.
const STEP_US: i64 = 15_000;

/// Each way to ask; the clock stands at 2026-01-15T10:30:00Z.
const QUESTIONS: &[&str] = &[
    "anomalies",
    "anomalies?page=200",
    "anomalies?sort=id&per_page=1000",
    "anomalies?status=provisional,open",
    "anomalies?service=service-7",
    "anomalies?service=service-7&status=open&since=2026-01-14T00:00:00Z",
    "anomalies?severity=critical&type=new_pattern",
    "anomalies?since=2026-01-15T00:00:00Z&until=2026-01-15T01:00:00Z",
    "anomalies/77",
    "metrics/hourly?since=2026-01-14T00:00:00Z",
    "metrics/hourly?service=service-7&since=2026-01-08T00:00:00Z",
    "metrics/hourly?by=hour&since=2026-01-14T00:00:00Z",
    "services",
    "status",
    "logs?since=2026-01-15T10:00:00Z",
    "logs?since=2026-01-15T10:00:00Z&page=200",
    "logs?since=2026-01-15T10:00:00Z&service=service-7&level=ERROR&text=SERVED",
    "logs?since=2026-01-14T00:00:00Z&service=service-7&sort=timestamp",
    "logs?since=2026-01-15T10:20:00Z&template=3",
    "dead-letters",
    "dead-letters?reason=invalid_json",
    "patterns",
    "patterns?service=service-1&text=9",
    "costs/estimate",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_statement_goes_by_an_index() {
    let Some(service) = Service::require("postgres") else { return };
    let Some(bench) = Bench::postgres().await else { return };
    seed(&bench).await;
    let name = bench.database().name().to_owned();
    bench
        .execute(&format!(
            "alter database {name} set session_preload_libraries = 'auto_explain';
             alter database {name} set auto_explain.log_min_duration = 0"
        ))
        .await;
    let mut log = std::fs::File::open(service.variable("LOG")).expect("the server's log");
    log.seek(SeekFrom::End(0)).expect("its end");
    let server = bench.serve().await;
    for question in QUESTIONS {
        let answer = server.json(&format!("/api/v1/{question}")).await;
        // And behind the first page, where there is another.
        if let Some(cursor) = answer["next_cursor"].as_str() {
            let more = if question.contains('?') { '&' } else { '?' };
            server.json(&format!("/api/v1/{question}{more}cursor={cursor}")).await;
        }
    }
    let mut events =
        common::Events::open(&server, "/api/v1/anomalies/stream", &[("last-event-id", "99990")]).await;
    assert_eq!(events.next_anomaly().await.0, 99_991);
    drop(events);
    server.end().await;

    let mut text = String::new();
    log.read_to_string(&mut text).expect("UTF-8");
    let plans: Vec<&str> =
        text.split("plan:\n").skip(1).filter(|plan| !plan.contains("pg_catalog")).collect();
    assert!(plans.len() > 3 * QUESTIONS.len(), "{} plans in {}", plans.len(), service.variable("LOG"));
    let scans: Vec<&str> = plans.iter().copied().filter(|plan| reads_all(plan)).collect();
    assert!(
        scans.is_empty(),
        "{} of {} statements read a whole table:\n{}",
        scans.len(),
        plans.len(),
        scans.join("\n")
    );
}

/// Whether the plan reads a large table from end to end. To count all rows of a list, something must be read from end to
/// end; of logs the count is bounded. `window_state` holds 18 minutes, of which 15 are shown: to read all of it is right.
fn reads_all(plan: &str) -> bool {
    let counts = plan.lines().next().is_some_and(|query| query.contains("select count(*)"));
    plan.split("Seq Scan on ").skip(1).any(|rest| {
        let table = rest.split_whitespace().next().unwrap_or_default();
        match table {
            _ if table.starts_with("logs_") => !table.ends_with("_default"),
            "anomalies" | "hourly_metrics" | "dead_letters" => !counts,
            "anomaly_events" | "baseline_state" => true,
            _ => false,
        }
    })
}

async fn seed(bench: &Bench) {
    let url = &bench.database().url;
    let per_partition = LOGS / PARTITIONS;
    let at = |back: i64| bench.at(CLOCK_US - back * STEP_US);
    let fill = async |partitions: std::ops::Range<i64>| {
        let client = connect(url).await;
        for p in partitions {
            let (first, last) = (p * per_partition, (p + 1) * per_partition - 1);
            // Without WAL and, before it is full, without indexes: what the planner sees is the same.
            let sql = format!(
                "create unlogged table logs_{p} (like logs including defaults);
                 insert into logs_{p} (timestamp, level, service, message, kafka_topic, kafka_partition, kafka_offset, shape)
                 select timestamptz 'epoch' + ({CLOCK_US} - i * {STEP_US}) * interval '1 microsecond',
                        case when i % 50 = 0 then 'ERROR' else 'INFO' end, 'service-' || i % 60, 'request ' || i % 1000 || ' served',
                        'l', 0, i, i % 500
                 from generate_series({first}::bigint, {last}::bigint) as i;
                 alter table logs attach partition logs_{p} for values from ({}) to ({});",
                at(last),
                at(first - 1),
            );
            client.batch_execute(&sql).await.expect("logs");
        }
    };
    bench.seed_pipeline().await;
    let half = PARTITIONS / 2;
    futures_util::future::join(fill(0..half), fill(half..PARTITIONS)).await;
    bench.execute(&small_tables(bench)).await;
    bench.execute("vacuum analyze").await;
}

fn small_tables(bench: &Bench) -> String {
    let (clock, minutes) = (bench.at(CLOCK_US), "interval '1 minute'");
    format!(
        "insert into anomalies (detected_at, anomaly_type, service, severity, description, metric_value, threshold,
                started_at, last_seen, status, revision, first_raised_at)
         select {clock} - i * {minutes}, (array['error_rate_spike','log_volume_spike','log_volume_drop','new_pattern'])[1 + i % 4],
                'service-' || i % 60, (array['low','medium','high','critical'])[1 + i % 4], 'number ' || i, 0.15, 0.05,
                {clock} - i * {minutes}, {clock} - i * {minutes}, case when i <= 20 then 'open' else 'resolved' end, 1, {clock} - i * {minutes}
         from generate_series(1, 100000) as i;
         insert into anomaly_events (seq, anomaly_id, kind, revision, status, clock, episode)
         select i, i, 'raised', 1, 'open', {clock}, '{{}}' from generate_series(1, 100000) as i;
         insert into hourly_metrics (hour, service, log_count, error_count)
         select date_trunc('hour', {clock}) - h * interval '1 hour', 'service-' || s, 6000, h % 7
         from generate_series(0, 2399) as h, generate_series(0, 59) as s;
         insert into window_state (second, service, logs, errors, message_chars)
         select {} - t, 'service-' || s, 2, 0, 80 from generate_series(0, 1079) as t, generate_series(0, 199) as s;
         insert into baseline_state (service, state, known_minutes, needed_minutes)
         select 'service-' || s, convert_to(repeat('state', 100), 'UTF8'), 10080, case when s < 20 then 20160 else 60 end
         from generate_series(0, 49999) as s;
         insert into patterns (shape, template_id, template)
         select i, i / 5, 'template ' || i / 5 from generate_series(0, 4999) as i;
         insert into pattern_counts (shape, service, first_seen, last_seen, log_count)
         select i, 'service-' || s, {clock}, {clock}, i from generate_series(0, 4999) as i, generate_series(0, 1) as s;
         insert into dead_letters (kafka_topic, kafka_partition, kafka_offset, reason, detail, payload)
         select 'logs', 0, i, 'invalid_json', 'expected a quote', '\\x7b' from generate_series(1, 50000) as i;",
        CLOCK_US / 1_000_000
    )
}
