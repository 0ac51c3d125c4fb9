//! Every route of the API, tried on what the real program stored from Kafka, on both stores. What routes there are the API
//! itself says (`/openapi.json`): one without a trial here fails.
//!
//! ```text
//!   Traffic ─▶ Kafka ─▶ smartlog run ─▶ store ─▶ smartlog api ─▶ trials
//!                                         └──── plain SQL ─────────┘  compared
//! ```

use serde_json::Value;
use smartlog_tests::program::Program;
use smartlog_tests::scene::{PARTITIONS, PATIENCE, STOP, Scene};
use smartlog_tests::store::{Kind, Store};
use smartlog_tests::web;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

const FAILING: &str = "checkout";

/// What a trial has at hand.
struct Stage {
    store: Store,
    /// `host:port` of the API.
    address: String,
    /// Of an open episode of [`FAILING`].
    id: i64,
}

impl Stage {
    fn get(&self, path: &str) -> String {
        let (status, body) = web::get(&format!("http://{}{path}", self.address)).expect("an answer");
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.get(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// `path` tells of as many things as `sql` counts, and lists some of them under `list`.
    fn counts(&mut self, path: &str, list: &str, sql: &str) -> Vec<Value> {
        let (answer, stored) = (self.json(path), self.store.number(sql));
        assert_eq!(answer["total"], stored, "{path}");
        let listed = answer[list].as_array().unwrap_or_else(|| panic!("{path} lists {list}: {answer}"));
        assert_eq!(listed.is_empty(), stored == 0, "{path}");
        assert!(answer["complete_through"].is_string(), "{path}: {answer}");
        listed.clone()
    }
}

/// A route as OpenAPI names it, and what it must be right about.
type Trial = (&'static str, &'static str, fn(&mut Stage));

const TRIALS: &[Trial] = &[
    ("get", "/", |stage| assert!(stage.get("/").contains("<title>smartlog"))),
    ("get", "/assets/{file}", |stage| assert!(stage.get("/assets/app.js").contains("drawServices"))),
    ("get", "/docs", |stage| assert!(stage.get("/docs").contains("swagger"))),
    ("get", "/docs/{file}", |stage| assert!(stage.get("/docs/swagger-ui.css").len() > 10_000)),
    ("get", "/openapi.json", |stage| assert_eq!(stage.json("/openapi.json")["openapi"], "3.1.0")),
    ("get", "/health", |stage| assert_eq!(stage.json("/health")["dependencies"]["store"]["status"], "ok")),
    ("get", "/health/live", |stage| assert_eq!(stage.json("/health/live")["status"], "ok")),
    ("get", "/health/ready", |stage| assert_eq!(stage.json("/health/ready")["status"], "ok")),
    ("get", "/metrics", |stage| {
        let page = stage.get("/metrics");
        assert!(page.contains("smartlog_api_requests_total{route=\"/health\""), "{page}");
    }),
    ("get", "/api/v1/anomalies", |stage| {
        let listed = stage.counts("/api/v1/anomalies", "anomalies", "select count(*) from anomalies");
        let id = stage.id;
        assert!(listed.iter().any(|anomaly| anomaly["id"] == id), "{listed:?}");
    }),
    ("get", "/api/v1/anomalies/{id}", |stage| {
        let id = stage.id;
        let anomaly = stage.json(&format!("/api/v1/anomalies/{id}"));
        assert_eq!(
            (&anomaly["id"], &anomaly["service"], &anomaly["type"]),
            (&id.into(), &FAILING.into(), &"error_rate_spike".into())
        );
        assert!(anomaly["metric_value"].as_f64() > anomaly["threshold"].as_f64(), "{anomaly}");
    }),
    ("get", "/api/v1/anomalies/stream", the_stream_begins_with_the_first_change),
    ("post", "/api/v1/anomalies/{id}/feedback", |stage| {
        let body = r#"{"verdict": "confirmed", "note": "a trial"}"#;
        let (id, headers) = (stage.id, [("content-type", "application/json")]);
        let url = format!("http://{}/api/v1/anomalies/{id}/feedback", stage.address);
        let (status, answer) = web::post_with(&url, &headers, body).expect("an answer");
        assert_eq!(status, 200, "{answer}");
        let kept = format!(
            "select count(*) from feedback where anomaly_id = {id} and verdict = 'confirmed' and note = 'a trial'"
        );
        assert_eq!(stage.store.number(&kept), 1);
        assert_eq!(stage.json(&format!("/api/v1/anomalies/{id}"))["feedback"], "confirmed");
    }),
    ("get", "/api/v1/metrics/hourly", |stage| {
        let hours = stage.counts(
            "/api/v1/metrics/hourly?per_page=1000",
            "metrics",
            "select count(*) from hourly_metrics",
        );
        let logs: i64 = hours.iter().filter_map(|hour| hour["log_count"].as_i64()).sum();
        assert_eq!(logs, stage.store.number("select count(*) from logs"));
    }),
    ("get", "/api/v1/services", |stage| {
        let answer = stage.json("/api/v1/services?per_page=1000");
        let names: BTreeSet<String> =
            answer["services"].as_array().expect("a list").iter().map(|s| s["service"].to_string()).collect();
        let stored = stage.store.rows("select distinct service from hourly_metrics");
        let stored: BTreeSet<String> =
            stored.into_iter().flatten().map(|name| Value::from(name).to_string()).collect();
        assert_eq!(names, stored);
        let of = |name: &str| {
            answer["services"].as_array().and_then(|all| all.iter().find(|s| s["service"] == name)).cloned()
        };
        let failing = of(FAILING).expect("it is there");
        assert_eq!(failing["state"], "anomalous", "{failing}");
        let known = format!("select known_minutes from baseline_state where service = '{FAILING}'");
        assert_eq!(
            failing["warming_up"]["minutes"],
            stage.store.number(&known),
            "half an hour is not enough: {failing}"
        );
    }),
    ("get", "/api/v1/logs", |stage| {
        let path = format!("/api/v1/logs?service={FAILING}&level=ERROR&since=-10m&per_page=20");
        let answer = stage.json(&path);
        let logs = answer["logs"].as_array().expect("a list");
        assert_eq!(logs.len(), 20, "{answer}");
        assert!(logs.iter().all(|log| log["service"] == FAILING && log["level"] == "ERROR"), "{answer}");
    }),
    ("get", "/api/v1/patterns", |stage| {
        stage.counts("/api/v1/patterns", "patterns", "select count(distinct template_id) from patterns");
    }),
    ("get", "/api/v1/dead-letters", |stage| {
        let dead = stage.counts("/api/v1/dead-letters", "dead_letters", "select count(*) from dead_letters");
        assert!(!dead.is_empty(), "some of the traffic is malformed");
    }),
    ("get", "/api/v1/models", |stage| {
        let swaps = stage.json("/api/v1/models")["history"].as_array().map_or(0, Vec::len);
        assert_eq!(swaps as i64, stage.store.number("select count(*) from model_swaps"));
    }),
    ("get", "/api/v1/status", |stage| {
        let status = stage.json("/api/v1/status");
        assert_eq!(status["partitions"].as_array().map(Vec::len), Some(PARTITIONS as usize));
        assert_eq!(status["dead_letters"], stage.store.number("select count(*) from dead_letters"));
        assert_eq!(status["seq"], stage.store.number("select max(seq) from anomaly_events"));
    }),
    ("get", "/api/v1/costs/estimate", |stage| {
        assert_eq!(stage.json("/api/v1/costs/estimate")["status"], "within_free_tier");
    }),
];

fn the_stream_begins_with_the_first_change(stage: &mut Stage) {
    let mut stream = TcpStream::connect(&stage.address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let request = "GET /api/v1/anomalies/stream HTTP/1.1\r\nhost: a\r\nlast-event-id: 0\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("it listens");
    let lines = BufReader::new(stream).lines().map(|line| line.expect("text"));
    let events = lines.filter_map(|line| line.strip_prefix("id: ").map(str::to_owned));
    let seen: Vec<String> = events.take(1).collect();
    assert_eq!(seen, ["1"], "seq begins with 1 and has no gap");
}

fn every_route_is_right_about_what_was_stored(kind: Kind) {
    let Some(mut scene) = Scene::create(kind, "api") else { return };
    scene.incident();
    let mut run = scene.start(&[]);
    let raised = format!(
        "select count(*) from anomalies where service = '{FAILING}' and anomaly_type = 'error_rate_spike'"
    );
    scene.live_until("the incident is an open episode", 50, PATIENCE, |store| {
        store.try_number(&format!("{raised} and status = 'open'")).is_ok_and(|open| open > 0)
    });
    scene.settle();
    // What is counted twice must stand still in between.
    run.terminate();
    run.succeed(STOP);
    let api = Program::start(&["api", "--listen", "127.0.0.1:0", "--store", &scene.store.url]);
    api.wait_for_words("address=", PATIENCE);
    let said = api.said();
    let (_, rest) = said.split_once("address=").expect("it was waited for");
    let address = rest.split_whitespace().next().expect("an address").to_owned();
    let first = raised.replace("count(*)", "min(id)");
    let Scene { mut store, .. } = scene;
    let id = store.number(&first);
    let mut stage = Stage { store, address, id };

    let document = stage.json("/openapi.json");
    let paths = document["paths"].as_object().expect("paths");
    let routes: BTreeSet<(&str, &str)> = paths
        .iter()
        .flat_map(|(path, methods)| {
            methods
                .as_object()
                .into_iter()
                .flat_map(move |m| m.keys().map(move |method| (method.as_str(), path.as_str())))
        })
        .collect();
    let tried: BTreeSet<(&str, &str)> = TRIALS.iter().map(|(method, path, _)| (*method, *path)).collect();
    assert_eq!(routes, tried, "each route has a trial, and each trial a route");
    for (_, _, is_right) in TRIALS {
        is_right(&mut stage);
    }
    drop(api);
}

#[test]
fn every_route_is_right_on_postgres() {
    every_route_is_right_about_what_was_stored(Kind::Postgres);
}

#[test]
fn every_route_is_right_on_sqlite() {
    every_route_is_right_about_what_was_stored(Kind::Sqlite);
}
