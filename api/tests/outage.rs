//! A PostgreSQL that falls silent, or dies, and comes back: what the API says meanwhile, and that it goes on by itself.

mod common;

use common::{Bench, Events, PATIENCE, Seeded, Server};
use smartlog_test_services::{Service, disturbing};
use std::time::{Duration, Instant};

const ROUTES: [&str; 5] = [
    "/api/v1/anomalies",
    "/api/v1/anomalies/1",
    "/api/v1/services",
    "/api/v1/logs?since=2026-01-01T00:00:00Z",
    "/health/ready",
];

async fn serve() -> Option<Server> {
    let bench = Bench::postgres().await?;
    bench.seed_pipeline().await;
    bench.seed_anomalies(3).await;
    let mut config = bench.config();
    // So that what waits for a silent server gives up within the test, and no busy machine is taken for one.
    config.statement_timeout = Duration::from_secs(4);
    Some(Server::start(bench, config).await)
}

/// Health says that the store is down, and everything else says so when its statement's time is over.
async fn says_that_the_store_is_down(server: &Server) {
    let health = server.get("/health").await;
    let found = health.json();
    assert_eq!((health.status, found["status"].as_str()), (503, Some("down")), "{found}");
    assert_eq!(found["dependencies"]["store"]["status"], "down", "{found}");
    assert!(!health.text().contains("127.0.0.1"), "hosts are for the log: {found}");
    assert_eq!(server.get("/health/live").await.status, 200, "the process itself is well");
    let replies = futures_util::future::join_all(ROUTES.map(|path| server.get(path))).await;
    for (path, reply) in ROUTES.iter().zip(replies) {
        assert_eq!(reply.status, 503, "{path}: {}", reply.text());
        if path.starts_with("/api/") {
            assert_eq!(reply.header("content-type"), "application/problem+json", "{path}");
            assert!(!reply.header("retry-after").is_empty(), "{path}");
        }
    }
}

async fn recovers(server: &Server) {
    let began = Instant::now();
    while server.get("/health").await.status != 200 {
        assert!(began.elapsed() < PATIENCE, "it comes back by itself");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for path in ROUTES {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
}

/// What was committed meanwhile comes on the stream that was open all the time.
async fn goes_on(server: &Server, events: &mut Events, seq: i64) {
    let event = Seeded::number(1).event(&server.bench, seq, "updated");
    server.bench.execute(&format!("{}{event}", Seeded::INSERT_EVENT)).await;
    assert_eq!(events.next_anomaly().await.0, seq);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::await_holding_lock, reason = "one test at a time")]
async fn a_silent_database_is_told_and_taken_up_again() {
    let Some(postgres) = Service::require("postgres") else { return };
    let _turn = disturbing();
    let server = serve().await.expect("PostgreSQL is there");
    let mut events = Events::open(&server, "/api/v1/anomalies/stream", &[]).await;
    goes_on(&server, &mut events, 4).await;
    let paused = postgres.pause();
    says_that_the_store_is_down(&server).await;
    assert!(events.next("stale").await.is_some(), "the stream says that it may be old");
    drop(paused);
    recovers(&server).await;
    goes_on(&server, &mut events, 5).await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::await_holding_lock, reason = "one test at a time")]
async fn a_database_that_died_is_taken_up_again() {
    let Some(postgres) = Service::require("postgres") else { return };
    let _turn = disturbing();
    let server = serve().await.expect("PostgreSQL is there");
    let mut events = Events::open(&server, "/api/v1/anomalies/stream", &[]).await;
    goes_on(&server, &mut events, 4).await;
    postgres.kill_all();
    says_that_the_store_is_down(&server).await;
    assert!(events.next("stale").await.is_some(), "the stream says that it may be old");
    postgres.start();
    recovers(&server).await;
    goes_on(&server, &mut events, 5).await;
    server.end().await;
}
