//! Every route against real stores: shapes, filters, paging, faults, freshness.

mod common;

use common::{Bench, CLOCK_US, HOUR, MINUTE, SECOND, SERVICES, Seeded, Server};
use hyper::body::Bytes;
use serde_json::{Value, json};

smartlog_test_services::on_both_stores!(
    anomalies_have_the_asked_for_shape,
    one_anomaly_comes_with_its_explanation_and_history,
    filters_select_what_a_naive_filter_selects,
    pages_by_number_and_by_cursor_hold_each_row_once,
    a_cursor_goes_on_while_rows_are_added,
    hourly_metrics_have_the_asked_for_shape,
    services_show_rates_against_what_is_usual,
    models_tell_who_scores_and_who_did,
    status_tells_partitions_and_sinks,
    dead_letters_are_listed_and_filtered,
    logs_are_searched,
    an_empty_store_answers_with_empty_lists,
    faults_name_the_parameter,
    an_answer_is_never_older_than_the_last_commit,
    etags_spare_the_body,
);

fn ids(answer: &Value, list: &str) -> Vec<i64> {
    // Those of templates are written in hexadecimal.
    let written = |row: &Value| i64::from_str_radix(row["id"].as_str()?, 16).ok();
    let id = |row: &Value| row["id"].as_i64().or_else(|| written(row)).expect("an id");
    answer[list].as_array().expect("a list").iter().map(id).collect()
}

async fn seeded(bench: Bench, anomalies: i64) -> Server {
    bench.seed_pipeline().await;
    bench.seed_anomalies(anomalies).await;
    bench.serve().await
}

async fn anomalies_have_the_asked_for_shape(bench: Bench) {
    let server = seeded(bench, 3).await;
    let answer = server.json("/api/v1/anomalies").await;
    assert_eq!((&answer["total"], &answer["page"], &answer["per_page"]), (&json!(3), &json!(1), &json!(50)));
    assert_eq!((&answer["seq"], &answer["next_cursor"]), (&json!(3), &Value::Null));
    assert_eq!(answer["clock"], "2026-01-15T10:30:00Z");
    assert_eq!(answer["complete_through"], "2026-01-15T10:29:55Z");
    // 1 has the clock's time; 2 and 3 share the minute before, and the higher id comes first.
    assert_eq!(ids(&answer, "anomalies"), [1, 3, 2]);
    let mut first = answer["anomalies"][0].clone();
    assert!(first["updated_at"].as_str().expect("a time").ends_with('Z'));
    first["updated_at"] = Value::Null;
    assert_eq!(
        first,
        json!({
            "id": 1, "detected_at": "2026-01-15T10:30:00Z", "type": "log_volume_spike", "service": "payment-service",
            "severity": "low", "description": "it's number 1", "metric_value": 0.15, "threshold": 0.05,
            "model_version": "1.2.0", "status": "provisional", "revision": 1, "baseline": 0.012, "peak_value": 0.21,
            "score": 0.7, "started_at": "2026-01-15T10:30:00Z", "last_seen": "2026-01-15T10:30:00Z",
            "ended_at": null, "updated_at": null, "feedback": null, "expected": false
        })
    );
    server.end().await;
}

async fn one_anomaly_comes_with_its_explanation_and_history(bench: Bench) {
    let server = seeded(bench, 3).await;
    let answer = server.json("/api/v1/anomalies/2").await;
    assert_eq!((&answer["id"], &answer["type"]), (&json!(2), &json!("log_volume_drop")));
    assert_eq!(answer["explanation"], common::explanation());
    assert_eq!(answer["provenance"], json!({"rule": "r"}));
    assert_eq!(answer["first_raised_at"], "2026-01-15T10:29:00.000002Z");
    assert_eq!(answer["events"][0]["kind"], "raised");
    for (path, status) in
        [("4", 404), ("0", 404), ("99999999999999999999", 404), ("-1", 400), ("x", 400), ("%00", 400)]
    {
        let reply = server.get(&format!("/api/v1/anomalies/{path}")).await;
        assert_eq!(reply.status, status, "{path}: {}", reply.text());
        assert_eq!(reply.header("content-type"), "application/problem+json");
    }
    server.end().await;
}

async fn filters_select_what_a_naive_filter_selects(bench: Bench) {
    let server = seeded(bench, 200).await;
    let all: Vec<Seeded> = (1..=200).map(Seeded::number).collect();
    type Keep = fn(&Seeded) -> bool;
    let cases: [(&str, Keep); 11] = [
        ("service=payment-service", |a| a.service == Some("payment-service")),
        ("service=web%20%C3%BC", |a| a.service == Some("web ü")),
        ("service=nobody", |_| false),
        ("service=%27%20OR%201%3D1--", |_| false),
        ("type=log_volume_drop", |a| a.anomaly_type == "log_volume_drop"),
        ("severity=critical,high", |a| a.severity == "critical" || a.severity == "high"),
        ("status=provisional,open", |a| a.status == "provisional" || a.status == "open"),
        ("since=2026-01-15T10:00:00Z", |a| a.detected_us >= CLOCK_US - 30 * MINUTE),
        ("since=2026-01-15T10:00:00Z&until=2026-01-15T09:00:00Z", |_| false),
        ("until=2026-01-15T11:00:00+01:00", |a| a.detected_us < CLOCK_US - 30 * MINUTE),
        ("since=2026-01-15T09:30:00Z&until=2026-01-15T10:30:00Z&severity=low&service=search", |a| {
            (CLOCK_US - HOUR..CLOCK_US).contains(&a.detected_us)
                && a.severity == "low"
                && a.service == Some("search")
        }),
    ];
    for (query, keep) in cases {
        let mut expected: Vec<&Seeded> = all.iter().filter(|a| keep(a)).collect();
        expected.sort_by_key(|a| (-a.detected_us, -a.id));
        let answer = server.json(&format!("/api/v1/anomalies?{query}&per_page=1000")).await;
        assert_eq!(ids(&answer, "anomalies"), expected.iter().map(|a| a.id).collect::<Vec<_>>(), "{query}");
        assert_eq!(answer["total"], json!(expected.len()), "{query}");
    }
    server.end().await;
}

/// All ids of a list, page by page.
async fn by_number(server: &Server, path: &str, list: &str, pages: i64) -> Vec<i64> {
    let mut all = Vec::new();
    for page in 1..=pages {
        all.extend(ids(&server.json(&format!("{path}&page={page}")).await, list));
    }
    all
}

async fn by_cursor(server: &Server, path: &str, list: &str) -> Vec<i64> {
    let mut answer = server.json(path).await;
    let mut all = ids(&answer, list);
    let mut page = 1;
    while let Some(cursor) = answer["next_cursor"].as_str() {
        page += 1;
        answer = server.json(&format!("{path}&cursor={cursor}")).await;
        assert_eq!(answer["page"], page);
        all.extend(ids(&answer, list));
    }
    all
}

async fn pages_by_number_and_by_cursor_hold_each_row_once(bench: Bench) {
    bench.seed_logs(95).await;
    bench.seed_dead_letters(41).await;
    bench.seed_patterns(30).await;
    let server = seeded(bench, 200).await;
    for (path, list, pages, total) in [
        ("/api/v1/anomalies?per_page=7", "anomalies", 29, 200),
        ("/api/v1/anomalies?per_page=7&sort=detected_at", "anomalies", 29, 200),
        ("/api/v1/anomalies?per_page=50&sort=-id&severity=low,high", "anomalies", 2, 100),
        ("/api/v1/anomalies?per_page=200&sort=id", "anomalies", 1, 200),
        ("/api/v1/logs?per_page=10&since=2026-01-15T00:00:00Z", "logs", 10, 95),
        ("/api/v1/logs?per_page=10&since=2026-01-15T00:00:00Z&sort=timestamp", "logs", 10, 95),
        ("/api/v1/dead-letters?per_page=10", "dead_letters", 5, 41),
        ("/api/v1/patterns?per_page=7", "patterns", 5, 30),
        ("/api/v1/patterns?per_page=7&sort=last_seen", "patterns", 5, 30),
    ] {
        let numbered = by_number(&server, path, list, pages).await;
        assert_eq!(numbered, by_cursor(&server, path, list).await, "{path}");
        let mut distinct = numbered.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!((distinct.len(), numbered.len()), (total, total), "{path}");
    }
    server.end().await;
}

async fn a_cursor_goes_on_while_rows_are_added(bench: Bench) {
    let server = seeded(bench, 30).await;
    let first = server.json("/api/v1/anomalies?per_page=10").await;
    let late = Seeded { id: 1_000, detected_us: CLOCK_US + SECOND, ..Seeded::number(1) };
    server.bench.execute(&format!("{}{}", Seeded::INSERT, late.row(&server.bench))).await;
    let cursor = first["next_cursor"].as_str().expect("another page");
    let second = server.json(&format!("/api/v1/anomalies?per_page=10&cursor={cursor}")).await;
    let mut seen = ids(&first, "anomalies");
    seen.extend(ids(&second, "anomalies"));
    let mut expected: Vec<Seeded> = (1..=30).map(Seeded::number).collect();
    expected.sort_by_key(|a| (-a.detected_us, -a.id));
    assert_eq!(seen, expected[..20].iter().map(|a| a.id).collect::<Vec<_>>());
    server.end().await;
}

async fn hourly_metrics_have_the_asked_for_shape(bench: Bench) {
    bench.seed_hours(30).await;
    let server = seeded(bench, 0).await;
    let answer = server.json("/api/v1/metrics/hourly?service=search&since=2026-01-15T08:00:00Z").await;
    assert_eq!(
        answer,
        json!({
            "metrics": [
                {"hour": "2026-01-15T10:00:00Z", "service": "search", "log_count": 6000, "error_count": 0, "anomaly_count": 1},
                {"hour": "2026-01-15T09:00:00Z", "service": "search", "log_count": 6000, "error_count": 1, "anomaly_count": 1},
                {"hour": "2026-01-15T08:00:00Z", "service": "search", "log_count": 6000, "error_count": 2, "anomaly_count": 1}
            ],
            "total": 3, "total_is_exact": true, "page": 1, "per_page": 50, "next_cursor": null,
            "clock": "2026-01-15T10:30:00Z", "complete_through": "2026-01-15T10:29:55Z"
        })
    );
    let sums = server.json("/api/v1/metrics/hourly?by=hour&since=2026-01-15T10:00:00Z").await;
    let sum = json!({"hour": "2026-01-15T10:00:00Z", "service": null, "log_count": 24_000, "error_count": 0, "anomaly_count": 4});
    assert_eq!((&sums["metrics"], &sums["total"]), (&json!([sum]), &json!(1)));
    let one = server.json("/api/v1/metrics/hourly?by=hour&service=search").await;
    assert_eq!((&one["metrics"][0]["service"], &one["total"]), (&json!("search"), &json!(30)));
    let all = server.json("/api/v1/metrics/hourly?per_page=1000&sort=hour").await;
    assert_eq!(
        (all["total"].clone(), all["metrics"][0]["hour"].clone()),
        (json!(120), json!("2026-01-14T05:00:00Z"))
    );
    server.end().await;
}

async fn services_show_rates_against_what_is_usual(bench: Bench) {
    bench.seed_windows().await;
    bench.seed_hours(30).await;
    bench.seed_baselines().await;
    let server = seeded(bench, 5).await;
    let answer = server.json("/api/v1/services?sort=service").await;
    assert_eq!(answer["total"], 4);
    assert_eq!(answer["window_end"], "2026-01-15T10:30:01Z");
    let names: Vec<&str> = answer["services"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|s| s["service"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, SERVICES);
    let payment = &answer["services"][1];
    // 300 seconds of 2 logs; the last 60 with 1 error each.
    assert_eq!((&payment["log_count"], &payment["error_count"]), (&json!(600), &json!(60)));
    assert_eq!((&payment["log_rate"], &payment["error_rate"]), (&json!(120.0), &json!(0.1)));
    assert_eq!(payment["avg_message_length"], json!(40.0));
    assert_eq!(payment["state"], "anomalous");
    assert_eq!(payment["last_seen"], "2026-01-15T10:30:00Z");
    // 24 hours of 6,000 logs with 1 to 24 errors.
    assert_eq!(
        payment["baseline"],
        json!({"log_rate": 100.0, "log_rate_low": 100.0, "log_rate_high": 100.0, "error_rate": 0.002083,
               "error_rate_low": 0.000167, "error_rate_high": 0.004, "source": "hours"})
    );
    let warming: Vec<&Value> = (0..4).map(|at| &answer["services"][at]["warming_up"]).collect();
    assert_eq!(warming, [&Value::Null, &json!({"minutes": 12, "needed": 60}), &Value::Null, &Value::Null]);
    assert_eq!(payment["minutes"].as_array().expect("minutes").len(), 15);
    assert_eq!(payment["minutes"][13], json!({"logs": 120, "errors": 59}));
    let search = &answer["services"][2];
    assert_eq!((&search["log_count"], &search["error_rate"]), (&json!(0), &Value::Null));
    assert_eq!(search["last_seen"], "2026-01-15T10:25:00Z");
    assert_eq!(answer["stream"]["log_count"], 600);
    let worst_first = server.json("/api/v1/services").await;
    assert_eq!(
        worst_first["services"][0]["service"], "payment-service",
        "its anomaly 5 is the only high one"
    );
    assert_eq!(answer["stream"]["open_anomalies"][0]["id"], 4, "anomaly 4 is the whole stream's");
    server.end().await;
}

async fn models_tell_who_scores_and_who_did(bench: Bench) {
    bench.seed_models().await;
    let server = seeded(bench, 0).await;
    let answer = server.json("/api/v1/models").await;
    let champion = json!({"name": "log-anomaly-detector", "version": "2", "role": "champion",
                          "effective": "2026-01-15T09:30:00Z", "digest": "bb"});
    assert_eq!(
        (&answer["serving"], &answer["shadow"]),
        (&champion, &Value::Null),
        "the challenger was given up"
    );
    assert_eq!((&answer["state"], &answer["trained"][0]["version"]), (&json!("ready"), &json!("2")));
    assert_eq!(answer["history"].as_array().map(Vec::len), Some(4));
    server.end().await;
}

async fn status_tells_partitions_and_sinks(bench: Bench) {
    bench.seed_windows().await;
    bench.seed_dead_letters(3).await;
    let server = seeded(bench, 5).await;
    let answer = server.json("/api/v1/status").await;
    assert_eq!(
        (&answer["pipeline"], &answer["commits"], &answer["seq"]),
        (&json!("running"), &json!(10), &json!(5))
    );
    assert_eq!((&answer["logs_per_second"], &answer["dead_letters"]), (&json!(2.0), &json!(3)));
    assert_eq!(answer["open_anomalies"], 5);
    assert_eq!(answer["partitions"][1]["clock"], "2026-01-15T10:29:55Z");
    assert!(answer["behind_ms"].as_i64().expect("a number") > 0);
    assert_eq!(
        (&answer["sinks"][0]["sink"], &answer["sinks"][0]["next_offset"]),
        (&json!("raw"), &json!(990))
    );
    assert_eq!(answer["sinks"][0]["complete_through"], "2026-01-15T10:29:53Z");
    server.end().await;
}

async fn dead_letters_are_listed_and_filtered(bench: Bench) {
    bench.seed_dead_letters(10).await;
    let server = seeded(bench, 0).await;
    let answer =
        server.json("/api/v1/dead-letters?reason=missing_service&partition=1&topic=logs&per_page=2").await;
    assert_eq!((&answer["total"], answer["dead_letters"].as_array().map(Vec::len)), (&json!(5), Some(2)));
    let first = &answer["dead_letters"][0];
    assert_eq!((&first["offset"], &first["reason"]), (&json!(9), &json!("missing_service")));
    assert_eq!((&first["payload"], &first["stored_bytes"]), (&json!("{\"\u{fffd}"), &json!(3)));
    // The raw sink is two seconds behind the aggregates.
    assert_eq!(answer["complete_through"], "2026-01-15T10:29:53Z");
    server.end().await;
}

async fn logs_are_searched(bench: Bench) {
    bench.seed_logs(100).await;
    let server = seeded(bench, 0).await;
    let day = "since=2026-01-15T00:00:00Z";
    let answer = server
        .json(&format!("/api/v1/logs?{day}&text=timeout%20NO%207&level=WARN&service=web%20%C3%BC"))
        .await;
    // 7 and 70 to 79, of which WARN (1 modulo 3) and the fourth service (3 modulo 4): 7 and 79.
    let found: Vec<i64> = answer["logs"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|log| log["metadata"]["n"].as_i64().expect("n"))
        .collect();
    assert_eq!(found, [7, 79]);
    assert_eq!((&answer["total"], &answer["total_is_exact"]), (&json!(2), &json!(true)));
    assert_eq!(answer["complete_through"], "2026-01-15T10:29:53Z");
    let none = server.json("/api/v1/logs").await;
    assert_eq!(none["total"], 0, "the last hour of wall time holds none");
    let range = server.json("/api/v1/logs?until=2026-01-15T10:29:58Z").await;
    assert_eq!(range["total"], 97, "the hour before `until`");
    server.end().await;
}

async fn an_empty_store_answers_with_empty_lists(bench: Bench) {
    let server = bench.serve().await;
    for (path, list) in [
        ("/api/v1/anomalies", "anomalies"),
        ("/api/v1/metrics/hourly", "metrics"),
        ("/api/v1/services", "services"),
        ("/api/v1/dead-letters", "dead_letters"),
        ("/api/v1/logs", "logs"),
        ("/api/v1/patterns", "patterns"),
    ] {
        let answer = server.json(path).await;
        assert_eq!((&answer[list], &answer["total"]), (&json!([]), &json!(0)), "{path}");
        assert_eq!(answer.get("complete_through"), Some(&Value::Null), "{path}");
    }
    assert_eq!(server.json("/api/v1/status").await["pipeline"], "absent");
    let health = server.json("/health").await;
    assert_eq!(
        (&health["status"], &health["dependencies"]["pipeline"]["status"]),
        (&json!("degraded"), &json!("absent"))
    );
    server.end().await;
}

async fn faults_name_the_parameter(bench: Bench) {
    let server = seeded(bench, 120).await;
    let cursor =
        server.json("/api/v1/anomalies").await["next_cursor"].as_str().expect("another page").to_owned();
    let long = "x".repeat(101);
    let cases = [
        ("anomalies?page=-1".to_owned(), 422, "page"),
        ("anomalies?page=0".to_owned(), 422, "page"),
        ("anomalies?page=NaN".to_owned(), 400, "page"),
        ("anomalies?page=1.5".to_owned(), 400, "page"),
        ("anomalies?page=201".to_owned(), 404, "page"),
        ("anomalies?per_page=1e18".to_owned(), 400, "per_page"),
        ("anomalies?per_page=1000000000000000000000".to_owned(), 422, "per_page"),
        ("anomalies?per_page=0".to_owned(), 422, "per_page"),
        ("anomalies?type=nothing".to_owned(), 400, "type"),
        ("anomalies?severity=high,,low".to_owned(), 400, "severity"),
        ("anomalies?status=closed".to_owned(), 400, "status"),
        ("anomalies?sort=service".to_owned(), 400, "sort"),
        ("anomalies?since=yesterday".to_owned(), 400, "since"),
        ("anomalies?until=2026-13-01T00:00:00Z".to_owned(), 400, "until"),
        ("anomalies?service=%00".to_owned(), 400, "service"),
        ("anomalies?service=%ff".to_owned(), 400, "service"),
        (format!("anomalies?service={long}"), 400, "service"),
        ("anomalies?sevice=a".to_owned(), 400, "sevice"),
        ("anomalies?page=1&page=2".to_owned(), 400, "page"),
        ("anomalies?cursor=abc".to_owned(), 404, "cursor"),
        (format!("anomalies?cursor={cursor}&sort=id"), 404, "cursor"),
        (format!("anomalies?cursor={cursor}&service=search"), 404, "cursor"),
        ("anomalies/1?page=1".to_owned(), 400, "page"),
        ("metrics/hourly?type=error_rate_spike".to_owned(), 400, "type"),
        ("services?sort=worst".to_owned(), 400, "sort"),
        ("dead-letters?partition=-1".to_owned(), 422, "partition"),
        ("dead-letters?reason=bad".to_owned(), 400, "reason"),
        ("logs?level=LOUD".to_owned(), 400, "level"),
        ("logs?text=".to_owned(), 400, "text"),
        ("anomalies/stream?last_event_id=-1".to_owned(), 422, "last_event_id"),
    ];
    for (query, status, parameter) in cases {
        let reply = server.get(&format!("/api/v1/{query}")).await;
        assert_eq!(reply.status, status, "{query}: {}", reply.text());
        assert_eq!(reply.header("content-type"), "application/problem+json", "{query}");
        let problem = reply.json();
        assert_eq!(
            (&problem["parameter"], &problem["status"]),
            (&json!(parameter), &json!(status)),
            "{query}"
        );
        assert!(problem["detail"].as_str().is_some_and(|d| d.len() > 20), "{query}: {problem}");
    }
    server.end().await;
}

async fn an_answer_is_never_older_than_the_last_commit(bench: Bench) {
    let server = seeded(bench, 1).await;
    for id in 2..60 {
        let path = "/api/v1/anomalies?per_page=1000";
        assert_eq!(server.json(path).await["total"], id - 1);
        let added = Seeded::number(id);
        let (row, event) = (added.row(&server.bench), added.event(&server.bench, id, "raised"));
        let sql = format!("begin; {}{row}; {}{event}; commit", Seeded::INSERT, Seeded::INSERT_EVENT);
        server.bench.execute(&sql).await;
        let answer = server.json(path).await;
        assert_eq!((answer["total"].as_i64(), answer["seq"].as_i64()), (Some(id), Some(id)));
    }
    server.end().await;
}

async fn etags_spare_the_body(bench: Bench) {
    let server = seeded(bench, 60).await;
    for path in [
        "/api/v1/anomalies",
        "/api/v1/services",
        "/api/v1/metrics/hourly?page=1",
        "/openapi.json",
        "/",
        "/assets/app.js",
    ] {
        let first = server.get(path).await;
        let etag = first.header("etag").to_owned();
        assert!(etag.starts_with("W/\""), "{path}: {etag}");
        for known in [etag.as_str(), "*", &format!("\"other\", {}", etag.trim_start_matches("W/"))] {
            let again = server.send("GET", path, &[("if-none-match", known)], Bytes::new()).await;
            assert_eq!((again.status, again.body.len()), (304, 0), "{path}: {known}");
            assert_eq!(again.header("etag"), etag);
        }
        let other = server.send("GET", path, &[("if-none-match", "\"other\"")], Bytes::new()).await;
        assert_eq!((other.status, other.body == first.body), (200, true), "{path}");
    }
    server.bench.execute("update pipeline_state set clock_us = clock_us + 1000000").await;
    let etag = server.get("/api/v1/anomalies").await.header("etag").to_owned();
    server.bench.execute("update pipeline_state set clock_us = clock_us + 1000000").await;
    let moved = server.send("GET", "/api/v1/anomalies", &[("if-none-match", &etag)], Bytes::new()).await;
    assert_eq!(moved.status, 200, "the clock moved, and it is part of the answer");
    server.end().await;
}
