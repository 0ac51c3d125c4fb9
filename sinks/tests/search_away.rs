//! An OpenSearch that is killed: logs wait for it, and come once. A test program of its own, for the server is shared.

mod common;

use common::Bench;
use common::search::Index;
use smartlog_schema::level::Level;
use smartlog_schema::log::{LogBatch, LogRef};
use smartlog_schema::position::TopicPartition;
use smartlog_test_services::Service;
use std::time::Duration;

const T0: i64 = 1_768_471_200_000_000; // 2026-01-15T10:00:00Z

fn batch(first: i64, next: i64) -> LogBatch {
    let mut batch = LogBatch::new(TopicPartition::new("away", 0), first);
    for offset in first..next {
        batch.push(&LogRef {
            offset,
            timestamp_us: T0,
            level: Level::Info,
            service: "s",
            host: None,
            message: "m",
            metadata: None,
            shape: 0,
        });
    }
    batch.next_offset = next;
    batch
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_killed_is_waited_for() {
    let Some(server) = Service::require("opensearch") else { return };
    let Some(index) = Index::create() else { return };
    let bench = Bench::sqlite().await;
    let (mut sink, health) = index.sink(&bench.config);
    sink.resume(&[TopicPartition::new("away", 0)]).await.expect("claimed");
    sink.write(&[batch(0, 500)], i64::MIN).await.expect("written");
    server.kill();
    let writing = tokio::spawn(async move { sink.write(&[batch(500, 2_000)], i64::MIN).await });
    let waiting = async {
        while health.retries() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(common::PATIENCE, waiting).await.expect("it is tried again");
    let said = format!("{:?}", health.state());
    assert!(said.contains(&index.config.url) && said.contains("wait in Kafka"), "{said}");
    let [request] = health.fills()[..] else { panic!("one queue: {:?}", health.fills()) };
    assert_eq!((request.queue, request.limit), ("request", index.config.max_request_bytes as u64));
    assert!(request.used > 0, "{request:?}");
    server.start();
    tokio::time::timeout(common::PATIENCE, writing)
        .await
        .expect("in time")
        .expect("no panic")
        .expect("written");
    assert!(health.fills().iter().all(|queue| queue.used == 0), "{:?}", health.fills());
    assert_eq!(index.offsets(), (0..2_000).collect::<Vec<_>>());
    assert_eq!(bench.number("SELECT next_offset FROM sink_positions").await, 2_000);
}
