//! The server itself: methods, media types, limits, slow clients, a full house, a stop, a store that is away.

mod common;

use common::{Bench, Events, PATIENCE, Seeded, Server};
use hyper::body::Bytes;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::json;
use smartlog_api::{Api, RateLimit, routes::ROUTES};
use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

smartlog_test_services::on_both_stores!(
    the_stream_goes_on_behind_the_last_event,
    the_stream_tells_changes_as_they_are_committed,
    a_replaced_store_resets_the_stream,
);

async fn the_stream_goes_on_behind_the_last_event(bench: Bench) {
    bench.seed_pipeline().await;
    bench.seed_anomalies(1_300).await;
    let server = bench.serve().await;
    // More than one batch of the store behind.
    let mut events = Events::open(&server, "/api/v1/anomalies/stream", &[("last-event-id", "7")]).await;
    for expected in 8..=1_300 {
        let (seq, change) = events.next_anomaly().await;
        assert_eq!(
            (seq, &change["seq"], &change["anomaly"]["id"]),
            (expected, &json!(expected), &json!(expected))
        );
    }
    let path = "/api/v1/anomalies/stream?last_event_id=1200&service=search&type=log_volume_drop,new_pattern";
    let mut events = Events::open(&server, path, &[]).await;
    let wanted = |a: &Seeded| {
        a.service == Some("search") && ["log_volume_drop", "new_pattern"].contains(&a.anomaly_type)
    };
    for expected in (1_201..=1_300).map(Seeded::number).filter(wanted) {
        assert_eq!(events.next_anomaly().await.0, expected.id);
    }
    server.end().await;
}

async fn the_stream_tells_changes_as_they_are_committed(bench: Bench) {
    bench.seed_pipeline().await;
    bench.seed_anomalies(3).await;
    let server = bench.serve().await;
    let mut listeners = Vec::new();
    for _ in 0..20 {
        listeners.push(Events::open(&server, "/api/v1/anomalies/stream", &[]).await);
    }
    for seq in 4..40 {
        let event = Seeded::number(1).event(&server.bench, seq, "updated");
        server.bench.execute(&format!("{}{event}", Seeded::INSERT_EVENT)).await;
        if seq == 20 {
            // Joins in the middle, and is told what it asks for all the same.
            let headers = [("last-event-id", "3")];
            listeners.push(Events::open(&server, "/api/v1/anomalies/stream", &headers).await);
        }
    }
    for listener in &mut listeners {
        for expected in 4..40 {
            let (seq, change) = listener.next_anomaly().await;
            assert_eq!(
                (seq, &change["kind"], &change["anomaly_id"]),
                (expected, &json!("updated"), &json!(1))
            );
        }
    }
    let clock = listeners[0].next("clock");
    server.bench.execute("update pipeline_state set clock_us = clock_us + 7000000").await;
    assert!(clock.await.is_some());
    server.end().await;
}

async fn a_replaced_store_resets_the_stream(bench: Bench) {
    bench.seed_pipeline().await;
    bench.seed_anomalies(3).await;
    let server = bench.serve().await;
    let mut events = Events::open(&server, "/api/v1/anomalies/stream", &[("last-event-id", "900")]).await;
    let reset = events.next("reset").await.expect("an event");
    assert_eq!((reset.id, reset.data.as_str()), (Some(3), "{\"seq\":3}"));
    let event = Seeded::number(2).event(&server.bench, 4, "resolved");
    server.bench.execute(&format!("{}{event}", Seeded::INSERT_EVENT)).await;
    assert_eq!(events.next_anomaly().await.0, 4);
    server.end().await;
}

async fn sqlite_server() -> Server {
    let bench = Bench::sqlite().await;
    bench.seed_pipeline().await;
    bench.seed_anomalies(100).await;
    bench.serve().await
}

#[tokio::test]
async fn every_answer_carries_id_and_security_headers() {
    let server = sqlite_server().await;
    for path in
        ["/", "/health", "/api/v1/anomalies", "/nothing", "/api/v1/anomalies?page=x", "/docs/index.html"]
    {
        let reply = server.get(path).await;
        assert!(!reply.header("x-request-id").is_empty(), "{path}");
        assert_eq!(reply.header("x-content-type-options"), "nosniff", "{path}");
        let policy = reply.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{path}: {policy}");
    }
    let reply = server.send("GET", "/health", &[("x-request-id", "abc-123")], Bytes::new()).await;
    assert_eq!(reply.header("x-request-id"), "abc-123");
    server.end().await;
}

#[tokio::test]
async fn head_answers_as_get_without_a_body() {
    let server = sqlite_server().await;
    for path in ["/", "/health", "/api/v1/anomalies", "/api/v1/anomalies/1", "/metrics", "/openapi.json"] {
        let get = server.get(path).await;
        let head = server.send("HEAD", path, &[], Bytes::new()).await;
        assert_eq!((head.status, head.body.len()), (get.status, 0), "{path}");
        for name in ["content-type", "etag"] {
            assert_eq!(head.header(name), get.header(name), "{path} {name}");
        }
    }
    server.end().await;
}

#[tokio::test]
async fn strange_methods_paths_types_and_bodies_are_refused_in_words() {
    let server = sqlite_server().await;
    let large = Bytes::from(vec![b'x'; 65 * 1024]);
    for (method, path, headers, body, status) in [
        ("POST", "/api/v1/anomalies", &[][..], Bytes::new(), 405),
        ("PUT", "/api/v1/anomalies/1", &[], Bytes::new(), 405),
        ("DELETE", "/api/v1/anomalies/1", &[], Bytes::new(), 405),
        ("TRACE", "/health", &[], Bytes::new(), 405),
        ("GET", "/api/v1/anomalie", &[], Bytes::new(), 404),
        ("GET", "/api/v1/anomalies/", &[], Bytes::new(), 404),
        ("GET", "//api/v1/anomalies", &[], Bytes::new(), 404),
        ("GET", "/api/v1/../v1/anomalies", &[], Bytes::new(), 404),
        ("GET", "/assets/..%2Fapp.rs", &[], Bytes::new(), 404),
        ("GET", "/docs/..%2f..%2fetc%2fpasswd", &[], Bytes::new(), 404),
        ("GET", "/api/v1/anomalies", &[("accept", "text/html")], Bytes::new(), 406),
        ("GET", "/api/v1/anomalies/stream", &[("accept", "application/json")], Bytes::new(), 406),
        ("GET", "/", &[("accept", "application/json")], Bytes::new(), 406),
        ("GET", "/api/v1/anomalies", &[], large.clone(), 413),
        ("POST", "/nothing", &[], large, 413),
        ("GET", "/api/v1/anomalies/stream", &[("last-event-id", "x")], Bytes::new(), 400),
    ] {
        let reply = server.send(method, path, headers, body).await;
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.text());
        assert_eq!(reply.header("content-type"), "application/problem+json", "{method} {path}");
        assert_eq!(reply.json()["status"], status, "{method} {path}");
        assert_eq!(
            reply.header("allow") == "GET,HEAD",
            status == 405,
            "{method} {path}: {}",
            reply.header("allow")
        );
    }
    server.end().await;
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let server = sqlite_server().await;
    let mut stream = TcpStream::connect(server.address).await.expect("a connection");
    let request =
        format!("GET /api/v1/anomalies?service={} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(1_000_000));
    // The server may close before it has read all of it.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert_eq!(server.get("/health").await.status, 200);
    server.end().await;
}

#[tokio::test]
async fn http2_without_tls_is_served() {
    let server = sqlite_server().await;
    assert_eq!(server.get_h2c("/api/v1/anomalies").await, 200);
    server.end().await;
}

#[tokio::test]
async fn large_answers_are_compressed_on_demand_and_streams_never() {
    let server = sqlite_server().await;
    let plain = server.get("/api/v1/anomalies").await;
    for encoding in ["gzip", "br"] {
        let reply =
            server.send("GET", "/api/v1/anomalies", &[("accept-encoding", encoding)], Bytes::new()).await;
        assert_eq!(reply.header("content-encoding"), encoding);
        assert!(reply.body.len() * 4 < plain.body.len(), "{} of {}", reply.body.len(), plain.body.len());
        assert_eq!(reply.header("etag"), plain.header("etag"));
        let stream = server
            .open("GET", "/api/v1/anomalies/stream", &[("accept-encoding", encoding)], Bytes::new())
            .await;
        assert!(!stream.headers().contains_key("content-encoding"));
    }
    assert_eq!(plain.header("content-encoding"), "");
    server.end().await;
}

#[tokio::test]
async fn other_origins_may_read_when_configured() {
    let bench = Bench::sqlite().await;
    let mut config = bench.config();
    config.cors_origins = vec!["https://ops.example.org".into()];
    let server = Server::start(bench, config).await;
    let ask = async |origin| server.send("GET", "/health/live", &[("origin", origin)], Bytes::new()).await;
    assert_eq!(
        ask("https://ops.example.org").await.header("access-control-allow-origin"),
        "https://ops.example.org"
    );
    assert_eq!(ask("https://evil.example.org").await.header("access-control-allow-origin"), "");
    let preflight = [("origin", "https://ops.example.org"), ("access-control-request-method", "GET")];
    let reply = server.send("OPTIONS", "/api/v1/anomalies", &preflight, Bytes::new()).await;
    assert_eq!((reply.status, reply.header("access-control-allow-methods")), (200, "GET,HEAD,POST,DELETE"));
    server.end().await;
    let plain = sqlite_server().await;
    let reply =
        plain.send("GET", "/health/live", &[("origin", "https://ops.example.org")], Bytes::new()).await;
    assert_eq!(reply.header("access-control-allow-origin"), "");
    plain.end().await;
}

#[tokio::test]
async fn too_many_requests_from_one_address_are_told_so() {
    let bench = Bench::sqlite().await;
    let mut config = bench.config();
    let number = |n| NonZeroU32::new(n).expect("not zero");
    config.rate_limit = Some(RateLimit { per_second: number(1), burst: number(3) });
    let server = Server::start(bench, config).await;
    let mut replies = Vec::new();
    for _ in 0..20 {
        replies.push(server.get("/health/live").await);
    }
    assert_eq!(replies[..3].iter().map(|r| r.status).collect::<Vec<_>>(), [200, 200, 200]);
    let refused = replies.iter().find(|reply| reply.status == 429).expect("the bucket is empty by now");
    assert_eq!(refused.header("content-type"), "application/problem+json");
    assert!(refused.header("retry-after").parse::<u32>().is_ok_and(|s| (1..=2).contains(&s)));
    server.end().await;
}

/// Opens a connection, writes `first`, then `drip` every 20 ms, or nothing more; gives how long it lived.
async fn drip(server: &Server, first: &[u8], drip: &[u8]) -> Duration {
    let began = Instant::now();
    let mut stream = TcpStream::connect(server.address).await.expect("a connection");
    stream.write_all(first).await.expect("room for a few bytes");
    let (mut reading, mut writing) = stream.split();
    let mut answer = Vec::new();
    let closed = reading.read_to_end(&mut answer);
    let dripping = async {
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if writing.write_all(drip).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        _ = closed => began.elapsed(),
        () = dripping => unreachable!("it drips for ever"),
        () = tokio::time::sleep(PATIENCE) => panic!("still open after {PATIENCE:?}: {first:?}"),
    }
}

#[tokio::test]
async fn connections_that_drip_or_say_nothing_are_closed_and_others_served() {
    let bench = Bench::sqlite().await;
    let mut config = bench.config();
    let patience = Duration::from_secs(1);
    config.limits.header_timeout = patience;
    config.limits.idle_timeout = patience;
    let server = Server::start(bench, config).await;
    let slow = [
        ("a head that never ends", &b"GET /health/live HTTP/1.1\r\nx-a: "[..], &b"x"[..]),
        ("nothing at all", b"", b""),
        // The beginning of HTTP/2's preface: which protocol it is must not take for ever to find out.
        ("undecided", b"PRI", b""),
        ("HTTP/2 that asks nothing", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", b""),
        ("a second head that never ends", b"GET /health/live HTTP/1.1\r\nhost: a\r\n\r\nGET /", b"x"),
    ];
    for (what, first, then) in slow {
        let (lived, served) =
            futures_util::future::join(drip(&server, first, then), server.get("/health/live")).await;
        assert_eq!(served.status, 200, "{what}");
        assert!(lived >= patience / 2, "{what}: closed after {lived:?}");
    }
    server.end().await;
}

#[tokio::test]
async fn a_full_house_says_so_and_has_room_again_when_somebody_leaves() {
    let bench = Bench::sqlite().await;
    let mut config = bench.config();
    config.limits.connections = 2;
    let server = Server::start(bench, config).await;
    let first = Events::open(&server, "/api/v1/anomalies/stream", &[]).await;
    let second = Events::open(&server, "/api/v1/anomalies/stream", &[]).await;
    let mut third = TcpStream::connect(server.address).await.expect("a connection");
    third.write_all(b"GET /health/live HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("room");
    let mut answer = String::new();
    third.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("retry-after: 1") && answer.contains("application/problem+json"), "{answer}");
    drop((first, second));
    let is_served = async {
        loop {
            let mut stream = TcpStream::connect(server.address).await.expect("a connection");
            stream
                .write_all(b"GET /health/live HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                .await
                .expect("room");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("an answer");
            if answer.starts_with("HTTP/1.1 200 ") {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, is_served).await.expect("room again");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_lets_answers_finish_and_ends_streams() {
    let server = sqlite_server().await;
    let mut events = Events::open(&server, "/api/v1/anomalies/stream", &[]).await;
    // A request whose body is not sent yet is under way: its answer must still come.
    let mut stream = TcpStream::connect(server.address).await.expect("a connection");
    stream
        .write_all(b"GET /api/v1/anomalies HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .await
        .expect("room");
    let mut start = [0; 15];
    stream.read_exact(&mut start).await.expect("the answer begins");
    server.begin_stop();
    assert!(events.next("anomaly").await.is_none(), "the stream ends");
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.expect("the whole answer");
    assert!(rest.ends_with('}'), "{rest}");
    let address = server.address;
    tokio::time::timeout(PATIENCE, server.end()).await.expect("a drain without stragglers is quick");
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_cuts_off_who_never_finishes() {
    let bench = Bench::sqlite().await;
    let mut config = bench.config();
    config.limits.drain_timeout = Duration::from_millis(200);
    let server = Server::start(bench, config).await;
    let mut stream = TcpStream::connect(server.address).await.expect("a connection");
    stream
        .write_all(b"GET /health/live HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n")
        .await
        .expect("room");
    tokio::time::timeout(PATIENCE, server.end()).await.expect("the stop is bounded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_file_is_told_and_found_when_it_comes() {
    store_comes_later(Bench::empty_sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_database_is_told_and_found_when_it_comes() {
    let Some(bench) = Bench::empty_postgres() else { return };
    store_comes_later(bench).await;
}

async fn store_comes_later(bench: Bench) {
    let server = bench.serve().await;
    let reply = server.get("/health").await;
    assert_eq!((reply.status, &reply.json()["status"]), (503, &json!("down")));
    assert_eq!(server.get("/health/live").await.status, 200);
    assert_eq!(server.get("/health/ready").await.status, 503);
    for path in [
        "anomalies",
        "anomalies/1",
        "metrics/hourly",
        "services",
        "status",
        "logs",
        "patterns",
        "models",
        "costs/estimate",
        "dead-letters",
        "anomalies/stream",
    ] {
        let reply = server.get(&format!("/api/v1/{path}")).await;
        assert_eq!(reply.status, 503, "{path}: {}", reply.text());
        assert_eq!(reply.header("content-type"), "application/problem+json", "{path}");
        assert_eq!(reply.header("retry-after"), "1", "{path}");
    }
    server.bench.create().await;
    server.bench.seed_pipeline().await;
    assert_eq!(server.json("/health").await["status"], "ok");
    assert_eq!(server.json("/api/v1/anomalies").await["total"], 0);
    server.end().await;
}

#[tokio::test]
async fn a_file_that_was_replaced_is_read_anew() {
    let server = sqlite_server().await;
    assert_eq!(server.json("/api/v1/anomalies").await["total"], 100);
    let smartlog_api::StoreUrl::Sqlite(file) = &server.bench.url else { unreachable!("it is SQLite") };
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", file.display()));
    }
    server.bench.create().await;
    server.bench.seed_anomalies(3).await;
    assert_eq!(server.json("/api/v1/anomalies").await["total"], 3);
    server.end().await;
}

#[tokio::test]
async fn a_public_address_needs_a_yes() {
    let bench = Bench::sqlite().await;
    let mut config = bench.config();
    config.listen = "0.0.0.0:0".parse().expect("an address");
    let refused = Api::bind(config, Arc::new(|_: &mut String| Ok(()))).await.err().expect("no");
    assert!(refused.to_string().contains("no token is asked for"), "{refused}");
    let mut config = bench.config();
    config.cors_origins = vec!["ops.example.org".into()];
    let refused = Api::bind(config, Arc::new(|_: &mut String| Ok(()))).await.err().expect("no");
    assert_eq!(
        refused.to_string(),
        "\"ops.example.org\" is not a web origin such as https://ops.example.org, nor *"
    );
}

#[tokio::test]
async fn openapi_documents_every_route_and_all_its_references_lead_somewhere() {
    let server = sqlite_server().await;
    let document = server.json("/openapi.json").await;
    assert!(document["openapi"].as_str().is_some_and(|v| v.starts_with("3.1")));
    let documented: BTreeSet<&str> =
        document["paths"].as_object().expect("paths").keys().map(String::as_str).collect();
    assert_eq!(documented, ROUTES.iter().map(|route| route.path).collect());
    let mut operations = BTreeSet::new();
    for route in ROUTES {
        let method = route.method().as_str().to_lowercase();
        let operation = &document["paths"][route.path][&method];
        assert_eq!(operation["requestBody"].is_object(), method == "post", "{}", route.path);
        assert!(
            operations.insert(operation["operationId"].as_str().expect("an id")),
            "{} is named twice",
            route.path
        );
        let parameters = operation["parameters"].as_array().map_or(0, Vec::len);
        assert_eq!(parameters, route.params.len() + route.path_params.len(), "{}", route.path);
        assert_eq!(route.path.matches('{').count(), route.path_params.len(), "{}", route.path);
    }
    let text = document.to_string();
    let references = text.split("\"$ref\":\"").skip(1).map(|rest| rest.split('"').next().expect("its end"));
    for reference in references {
        let pointer = reference.trim_start_matches('#');
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    server.end().await;
}

#[tokio::test]
async fn documented_examples_have_the_keys_of_real_answers() {
    let server = sqlite_server().await;
    server.bench.seed_hours(30).await;
    server.bench.seed_windows().await;
    server.bench.seed_baselines().await;
    server.bench.seed_logs(3).await;
    server.bench.seed_dead_letters(1).await;
    server.bench.seed_patterns(1).await;
    server.bench.seed_models().await;
    let said = "{\"verdict\":\"confirmed\"}";
    assert_eq!(server.post("/api/v1/anomalies/1/feedback", &[], said).await.status, 200);
    let event = "{\"name\":\"a\",\"services\":[\"b\"],\"when\":{\"weekdays\":[\"sat\"]}}";
    assert_eq!(server.post("/api/v1/calendar", &[], event).await.status, 200);
    for route in ROUTES.iter().filter(|route| route.method() == "GET") {
        let Some(example) = route.example else { continue };
        let path = route.path.replace("{id}", "1");
        // What shows all there is to show.
        let path = match path.as_str() {
            "/api/v1/logs" => format!("{path}?since=2026-01-01T00:00:00Z"),
            "/api/v1/services" => format!("{path}?service=payment-service"),
            _ => path,
        };
        let mut answer = server.json(&path).await;
        let mut example = example();
        for free in ["provenance", "trained", "shadow"] {
            for value in [&mut answer, &mut example] {
                value.as_object_mut().expect("an object").remove(free);
            }
        }
        assert_eq!(keys(&answer, ""), keys(&example, ""), "{path}");
    }
    server.end().await;
}

/// Paths of all keys; lists by their first row, and free-form metadata not at all.
fn keys(value: &serde_json::Value, at: &str) -> BTreeSet<String> {
    match value {
        serde_json::Value::Object(map) => map
            .iter()
            .flat_map(|(key, value)| {
                if key == "metadata" {
                    BTreeSet::from([format!("{at}.metadata")])
                } else {
                    keys(value, &format!("{at}.{key}"))
                }
            })
            .collect(),
        serde_json::Value::Array(rows)
            if at.ends_with(".open_anomalies") || at.ends_with("stream.minutes") || rows.is_empty() =>
        {
            BTreeSet::from([at.to_owned()])
        }
        serde_json::Value::Array(rows) => keys(&rows[0], &format!("{at}[]")),
        _ if at.contains(".baseline") => BTreeSet::new(),
        _ => BTreeSet::from([at.to_owned()]),
    }
}

#[tokio::test]
async fn page_and_documentation_need_nothing_from_elsewhere() {
    let server = sqlite_server().await;
    assert_eq!(server.get("/docs").await.header("location"), "/docs/index.html");
    for (page, base) in [("/", ""), ("/docs/index.html", "/docs/")] {
        let html = server.get(page).await.text();
        assert!(!html.contains("http://") && !html.contains("https://"), "{page} loads from elsewhere");
        assert!(
            !html.contains("<script>") && !html.contains(" onclick") && !html.contains("style=\""),
            "{page}"
        );
        let parts: Vec<&str> = html
            .split(['"', '\''])
            .filter(|part| [".js", ".css", ".svg", ".png"].iter().any(|end| part.ends_with(end)))
            .collect();
        assert!(parts.len() >= 3, "{page}: {parts:?}");
        for part in parts {
            let path = format!("{base}{}", part.trim_start_matches("./"));
            let reply = server.get(&path).await;
            assert_eq!((reply.status, reply.body.is_empty()), (200, false), "{path}");
        }
    }
    let initializer = server.get("/docs/swagger-initializer.js").await.text();
    assert!(initializer.contains("/openapi.json"), "{initializer}");
    server.end().await;
}

#[tokio::test]
async fn metrics_hold_the_process_and_the_api() {
    let server = sqlite_server().await;
    server.get("/api/v1/anomalies?page=x").await;
    server.get("/made/up").await;
    let plain = server.get("/metrics").await;
    assert!(plain.header("content-type").starts_with("text/plain; version=0.0.4"));
    assert!(plain.text().contains("# TYPE smartlog_api_requests_total counter\n"), "{}", plain.text());
    let asked = [("accept", "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2")];
    let reply = server.send("GET", "/metrics", &asked, Bytes::new()).await;
    assert!(reply.header("content-type").starts_with("application/openmetrics-text; version=1.0.0"));
    let text = reply.text();
    for line in [
        "demo_logs_total 7",
        "smartlog_api_requests_total{route=\"/api/v1/anomalies\",method=\"GET\",status=\"400\"} 1",
        "smartlog_api_requests_total{route=\"unmatched\",method=\"GET\",status=\"404\"} 1",
        "smartlog_api_request_duration_seconds_count{route=\"unmatched\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1);
    server.end().await;
}

/// Texts that break careless parsers, and names that routes have.
fn query() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        Just("page"),
        Just("per_page"),
        Just("cursor"),
        Just("service"),
        Just("type"),
        Just("severity"),
        Just("status"),
        Just("since"),
        Just("until"),
        Just("sort"),
        Just("text"),
        Just("level"),
        Just("reason"),
        Just("partition"),
    ]
    .prop_map(str::to_owned);
    let value = prop_oneof![
        "[-+0-9eE.]{0,24}",
        "(%[0-9a-fA-F]{2}){0,6}",
        "-[0-9]{1,22}[smhdwy]?",
        "[A-Za-z0-9_-]{43}",
        "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(Z|[ +-][0-9]{2}:[0-9]{2})",
        "(high|open|id|-id|now|ERROR|log_volume_drop)(,(high|low|INFO))?",
        "[!-~&&[^#]]{0,20}",
    ];
    let pair = (prop_oneof![4 => name, 1 => "[!-~&&[^#]]{0,8}"], value)
        .prop_map(|(name, value)| format!("{name}={value}"));
    prop::collection::vec(pair, 0..4).prop_map(|pairs| pairs.join("&"))
}

/// Whatever the query, the fault is never the server's.
fn no_query_is_a_fault_of_the_server(runtime: &tokio::runtime::Runtime, server: &Server, cases: u32) {
    let paths = ["anomalies", "anomalies/1", "metrics/hourly", "services", "logs", "dead-letters", "status"];
    let mut runner =
        TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() });
    let outcome = runner.run(&(query(), 0..paths.len()), |(query, path)| {
        let uri = format!("/api/v1/{}?{query}", paths[path]);
        if uri.parse::<hyper::Uri>().is_err() {
            return Ok(());
        }
        let reply = runtime.block_on(server.get(&uri));
        prop_assert!(reply.status < 500, "{}: {} {}", uri, reply.status, reply.text());
        if reply.status != 200 {
            prop_assert_eq!(reply.header("content-type"), "application/problem+json");
        }
        Ok(())
    });
    outcome.expect("no query is a fault of the server");
}

#[test]
fn no_query_is_a_fault_of_the_server_on_sqlite() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = runtime.block_on(sqlite_server());
    no_query_is_a_fault_of_the_server(&runtime, &server, 3_000);
    runtime.block_on(server.end());
}

#[test]
fn no_query_is_a_fault_of_the_server_on_postgres() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let Some(bench) = runtime.block_on(Bench::postgres()) else { return };
    let server = runtime.block_on(async {
        bench.seed_pipeline().await;
        bench.seed_anomalies(100).await;
        bench.serve().await
    });
    no_query_is_a_fault_of_the_server(&runtime, &server, 3_000);
    runtime.block_on(server.end());
}
