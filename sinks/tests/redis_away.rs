//! A Redis that is away when it is to be published to, dies, and comes back empty.

mod common;

use common::Bench;
use common::redis::Scene;
use smartlog_sinks::State;
use smartlog_test_services::disturbing;
use std::time::Duration;

smartlog_test_services::on_both_stores!(a_redis_that_dies_is_filled_again_and_holds_nobody_up);

#[expect(clippy::await_holding_lock, reason = "that is what it is for: one test at a time")]
async fn a_redis_that_dies_is_filled_again_and_holds_nobody_up(bench: Bench) {
    let _turn = disturbing();
    let Some(scene) = Scene::of(bench).await else { return };
    scene.redis.kill();
    scene.commit(1, 50, "while it is away").await;
    let (wake, health, follower) = scene.follow();
    while health.state() == State::Ok {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(format!("{:?}", health.state()).contains("it is tried again; nothing else waits for it"));
    scene.redis.start();
    scene.settled().await;
    // It keeps nothing: what comes back is empty.
    scene.redis.kill();
    scene.commit(51, 60, "again").await;
    wake.wake();
    scene.redis.start();
    scene.settled().await;
    while health.state() != State::Ok {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    scene.end(vec![follower]).await;
}
