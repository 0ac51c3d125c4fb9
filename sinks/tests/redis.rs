//! The sink that publishes to Redis, against a real one: everything once and in order, whatever becomes of the store
//! meanwhile; windows as a recount has them. What becomes of Redis: redis_away.rs.

mod common;

use common::Bench;
use common::redis::{KEPT, Scene};
use smartlog_sinks::CancellationToken;
use std::collections::BTreeMap;
use std::time::Duration;

smartlog_test_services::on_both_stores!(
    all_changes_are_published_once_in_order_and_the_newest_kept,
    a_store_that_was_put_back_takes_the_place_of_what_was_published,
    two_that_publish_at_once_publish_the_same,
    windows_are_those_of_a_recount,
);

async fn all_changes_are_published_once_in_order_and_the_newest_kept(bench: Bench) {
    let Some(scene) = Scene::of(bench).await else { return };
    // More than is kept, and than is sent at once.
    scene.commit(1, 900, "first").await;
    let (wake, health, follower) = scene.follow();
    scene.settled().await;
    for seq in 901..=930 {
        scene.commit(seq, seq, "then").await;
        wake.wake();
    }
    scene.settled().await;
    // The first of 900 were never needed there; it is counted a moment after it is to be seen.
    while health.rows() != u64::from(KEPT) + 30 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    scene.commit(931, 1_500, "a stretch longer than what is kept").await;
    scene.settled().await;
    scene.end(vec![follower]).await;
}

async fn a_store_that_was_put_back_takes_the_place_of_what_was_published(bench: Bench) {
    let Some(mut scene) = Scene::of(bench).await else { return };
    scene.commit(1, 100, "before").await;
    let (_, _, follower) = scene.follow();
    scene.settled().await;
    // While it runs: fewer changes, and others under the same numbers.
    scene.bench.execute("DELETE FROM anomaly_events WHERE seq > 40").await;
    scene.commit(41, 60, "put back").await;
    scene.bench.execute("UPDATE pipeline_state SET clock_us = 1768473000000000").await;
    scene.settled().await;
    scene.stop.cancel();
    follower.await.expect("it ends well");
    // While it does not run: more changes than before, and others.
    scene.bench.execute("DELETE FROM anomaly_events WHERE seq > 10").await;
    scene.commit(11, 90, "put back once more").await;
    scene.stop = CancellationToken::new();
    let (_, _, follower) = scene.follow();
    scene.settled().await;
    scene.end(vec![follower]).await;
}

async fn two_that_publish_at_once_publish_the_same(bench: Bench) {
    let Some(scene) = Scene::of(bench).await else { return };
    let (one, two) = (scene.follow(), scene.follow());
    for seq in 1..=200 {
        scene.commit(seq, seq, "either").await;
        one.0.wake();
        two.0.wake();
    }
    scene.settled().await;
    scene.end(vec![one.2, two.2]).await;
}

async fn windows_are_those_of_a_recount(bench: Bench) {
    let Some(scene) = Scene::of(bench).await else { return };
    let clock = 1_768_473_000; // 2026-01-15T10:30:00Z
    let mut recount: BTreeMap<String, (i64, i64, i64)> = BTreeMap::new();
    let mut rows = Vec::new();
    for n in 0..2_000_i64 {
        // Some before, some after the window.
        let (service, second) = (format!("service-{} ü", n % 450), clock - 320 + (n * 7_919) % 330);
        let (logs, errors, chars) = (n % 9, (n % 9) / 3, n % 1_000);
        if rows.iter().any(|(at, name, _)| *at == second && *name == service) {
            continue;
        }
        if (clock - 299..=clock).contains(&second) {
            let sum = recount.entry(service.clone()).or_default();
            *sum = (sum.0 + logs, sum.1 + errors, sum.2 + chars);
        }
        rows.push((second, service, (logs, errors, chars)));
    }
    let values: Vec<String> = rows
        .iter()
        .map(|(second, service, (logs, errors, chars))| {
            format!("({second}, '{service}', {logs}, {errors}, {chars})")
        })
        .collect();
    let columns = "second, service, logs, errors, message_chars";
    scene.bench.execute(&format!("INSERT INTO window_state ({columns}) VALUES {}", values.join(","))).await;
    scene.bench.execute(&format!("UPDATE pipeline_state SET clock_us = {clock}400000")).await;
    let (_, _, follower) = scene.follow();
    let mut connection = scene.connect().await;
    let windows = loop {
        let mut command = redis::cmd("HGETALL");
        let read: BTreeMap<String, String> =
            command.arg(scene.key("windows")).query_async(&mut connection).await.expect("a hash");
        if !read.is_empty() {
            break read;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(windows.len(), recount.len());
    for (service, (logs, errors, chars)) in recount {
        let window: serde_json::Value = serde_json::from_str(&windows[&service]).expect("JSON");
        assert_eq!(
            (&window["log_count"], &window["error_count"]),
            (&logs.into(), &errors.into()),
            "{service}"
        );
        assert_eq!(window["window_start"], "2026-01-15T10:25:01Z");
        assert_eq!(window["window_end"], "2026-01-15T10:30:01Z");
        let near = |name: &str, expected: Option<f64>| match (window[name].as_f64(), expected) {
            (Some(found), Some(expected)) => (found - expected).abs() < 1e-9,
            (found, expected) => found.is_none() && expected.is_none(),
        };
        let share = |part: i64| (logs > 0).then(|| part as f64 / logs as f64);
        assert!(near("avg_message_length", share(chars)), "{service}: {window}");
        assert!(near("error_rate", share(errors)), "{service}: {window}");
        assert!(near("log_rate", Some(logs as f64 / 5.0)), "{service}: {window}");
    }
    // It is not current for long once nobody refreshes it.
    let mut command = redis::cmd("TTL");
    let left: i64 = command.arg(scene.key("windows")).query_async(&mut connection).await.expect("a number");
    assert!((1..=60).contains(&left), "{left}");
    scene.end(vec![follower]).await;
}
