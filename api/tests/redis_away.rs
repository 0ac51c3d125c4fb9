//! A Redis that dies and comes back: streams go on from the store meanwhile, rate limits by each process's own counts.

mod common;

use common::Bench;
use common::redis::{Scene, told};
use serde_json::json;
use smartlog_api::RateLimit;
use smartlog_test_services::disturbing;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

smartlog_test_services::on_both_stores!(the_stream_goes_on_while_redis_is_away_and_comes_back_to_it);

#[expect(clippy::await_holding_lock, reason = "that is what it is for: one test at a time")]
async fn the_stream_goes_on_while_redis_is_away_and_comes_back_to_it(bench: Bench) {
    let _turn = disturbing();
    let Some(scene) = Scene::of(bench, None).await else { return };
    let mut events = scene.listen().await;
    scene.commit(4).await;
    told(&mut events, 4).await;
    scene.redis.kill();
    let health = scene.servers[0].get("/health").await;
    let dependencies = &health.json()["dependencies"];
    assert_eq!((health.status, dependencies["redis"]["status"].as_str()), (200, Some("down")));
    for seq in 5..10 {
        scene.commit(seq).await;
        assert_eq!(told(&mut events, seq).await, ["updated", "updated"]);
    }
    scene.redis.start();
    let mut connection = scene.connect().await;
    let mut seq = 10;
    loop {
        scene.commit(seq).await;
        scene.publish(&mut connection, seq).await;
        if told(&mut events, seq).await.contains(&"published".to_owned()) {
            break;
        }
        seq += 1;
    }
    let began = Instant::now();
    while scene.servers[0].get("/health").await.json()["dependencies"]["redis"]["status"] != "ok" {
        assert!(began.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let metrics = scene.servers[0].get("/metrics").await.text();
    assert!(!metrics.contains("smartlog_api_redis_failures_total 0\n"), "{metrics}");
    scene.end().await;
}

#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "one test at a time")]
async fn processes_share_rate_limits_and_go_by_their_own_without_redis() {
    let _turn = disturbing();
    let number = |n| NonZeroU32::new(n).expect("not 0");
    let limit = RateLimit { per_second: number(1), burst: number(20) };
    let Some(scene) = Scene::of(Bench::sqlite().await, Some(limit)).await else { return };
    let began = Instant::now();
    // What is earned back meanwhile, at most.
    let earned = || began.elapsed().as_secs() as usize + 1;
    let status = async |server: usize| scene.servers[server].get("/health/live").await.status;
    let mut admitted = 0;
    for n in 0..30 {
        admitted += usize::from(status(n % 2).await == 200);
    }
    assert!((20..=20 + earned()).contains(&admitted), "{admitted} of 30, by two processes");
    let refused = loop {
        let reply = scene.servers[0].get("/health/live").await;
        if reply.status != 200 {
            break reply;
        }
    };
    assert_eq!((refused.status, refused.json()["status"].clone()), (429, json!(429)));
    assert!(refused.header("retry-after").parse::<u32>().is_ok_and(|seconds| (1..=21).contains(&seconds)));

    // Each has some of its own bucket left, and that alone counts now.
    scene.redis.kill();
    while status(1).await != 200 {
        assert!(began.elapsed() < Duration::from_secs(40), "its own count goes on");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut admitted = 0;
    for _ in 0..60 {
        admitted += usize::from(status(1).await == 200);
    }
    assert!(admitted <= 20 + earned(), "{admitted} of 60: its own count bounds it");

    scene.redis.start();
    let mut connection = scene.connect().await;
    let began = Instant::now();
    loop {
        status(0).await;
        let mut keys = redis::cmd("KEYS");
        keys.arg(format!("{}:rate:*", scene.prefix));
        let keys: Vec<String> = keys.query_async(&mut connection).await.expect("Redis answers");
        if !keys.is_empty() {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "Redis is asked again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    scene.end().await;
}
