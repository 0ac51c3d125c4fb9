//! A log sink that does not keep up: detection goes on as if nothing were, and once the sink is let loose it gets every
//! log exactly once, through kills too.
//!
//! The sink is PostgreSQL's table `logs`, locked by somebody else or with a slow trigger: the aggregates of the same database
//! are not.

use serde_json::Value;
use smartlog_tests::judge::judge;
use smartlog_tests::program::run_to_end;
use smartlog_tests::scene::{MINUTE_US, PATIENCE, SECOND_US, STOP, Scene};
use smartlog_tests::store::{Kind, Store};
use smartlog_tests::{eventually, now_us};
use std::time::Duration;

/// Room for a few thousand logs, so that a lane is soon without any.
const NARROW: [&str; 4] = ["--engine-max-in-flight-bytes", "1MiB", "--parse-max-record-bytes", "256KiB"];

/// A topic, and a database that has its tables.
fn scene(stem: &str) -> Option<Scene> {
    let scene = Scene::create(Kind::Postgres, stem)?;
    let (status, _, said) = run_to_end(&["migrate", "--store", &scene.store.url], PATIENCE);
    assert!(status.success(), "{said}");
    Some(scene)
}

/// Waits until the aggregates are at the end of the topic; gives that.
fn counted(scene: &mut Scene) -> i64 {
    scene.topic.flush();
    let end: i64 = scene.topic.ends().values().map(|(_, end)| end).sum();
    let store = &mut scene.store;
    eventually("all records are counted", PATIENCE, || (store.progress("aggregates") == end).then_some(()));
    end
}

/// What `smartlog sinks list` says of a sink: one object for each partition.
fn listed(store: &Store, sink: &str) -> Vec<Value> {
    let list = ["sinks", "list", "--format", "json", "--store", &store.url];
    let (status, printed, said) = run_to_end(&list, PATIENCE);
    assert!(status.success(), "{said}");
    let rows = printed.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"));
    rows.filter(|row| row["sink"] == sink).collect()
}

fn all_are(store: &Store, lane: &str) -> Option<()> {
    let rows = listed(store, "logs");
    (!rows.is_empty() && rows.iter().all(|row| row["lane"] == lane)).then_some(())
}

#[test]
fn a_sink_that_stands_still_delays_nobody_and_gets_every_log_once_it_goes_on() {
    let Some(mut scene) = scene("locked") else { return };
    let locked = scene.store.lock("logs");
    scene.backlog(250_000);
    let mut program = scene.start(&NARROW);
    counted(&mut scene);
    scene.live_for(400, Duration::from_secs(3));
    counted(&mut scene);
    let store = &mut scene.store;
    eventually("every partition is left to the lane's own reading", PATIENCE, || all_are(store, "detached"));
    let behind =
        listed(store, "logs").iter().map(|row| row["behind"].as_i64().expect("a number")).sum::<i64>();
    assert!(behind > 200_000, "{behind} records behind");
    assert_eq!(store.progress("logs"), 0, "the table is locked");
    let hours = store.number("select sum(log_count) from hourly_metrics");
    assert!(hours > 240_000, "{hours} logs were counted");

    program.kill();
    let mut program = scene.start(&NARROW);
    scene.live_for(400, Duration::from_secs(2));
    let end = counted(&mut scene);
    assert_eq!(scene.store.progress("logs"), 0, "the table is locked");
    drop(locked);
    for round in 0..3 {
        let store = &mut scene.store;
        let before = store.progress("logs");
        let at = eventually("the lane catches up", PATIENCE, || {
            Some(store.progress("logs")).filter(|at| *at > before)
        });
        assert!(at < end, "round {round}: all {end} were stored at once, so the kill proves nothing");
        program.kill();
        program = scene.start(&NARROW);
    }
    scene.live_until("the sink is there", 400, PATIENCE, |store| {
        store.progress("logs") >= end && all_are(store, "attached").is_some()
    });
    scene.live_for(400, Duration::from_secs(1));
    scene.end_and_judge(program);
}

/// The most that the program takes with one worker, a sink that keeps up or not, MiB; all logs would be 100 MiB more.
const MOST_MEMORY: u64 = 160;

#[test]
fn a_sink_at_a_hundredth_of_its_speed_delays_no_detection_and_costs_no_memory() {
    let Some(mut scene) = scene("crawling") else { return };
    scene.store.slow_logs_down();
    let now = now_us();
    scene.traffic.unruly.late = 0;
    scene.traffic.send(&scene.topic, 230_000, (now - 30 * MINUTE_US, now - 4 * MINUTE_US));
    scene.traffic.failing = Some("checkout");
    scene.traffic.send(&scene.topic, 30_000, (now - 4 * MINUTE_US, now - MINUTE_US));
    scene.traffic.failing = None;
    scene.traffic.send(&scene.topic, 10_000, (now - MINUTE_US, now));
    let program = scene.start(&["--workers", "1"]);
    counted(&mut scene);
    let found =
        "select count(*) from anomalies where service = 'checkout' and anomaly_type = 'error_rate_spike'";
    let store = &mut scene.store;
    eventually("the incident is raised", PATIENCE, || (store.number(found) > 0).then_some(()));
    // For a while, as it happens, with the sink at the limit of what it takes: it has some, and is far from all.
    scene.live_until("the sink takes some", 500, PATIENCE, |store| store.progress("logs") > 0);
    let end = counted(&mut scene);
    let stored = scene.store.progress("logs");
    assert!(stored > 0 && stored < end / 2, "{stored} of {end} logs were stored: the sink was not slow");
    let most = program.memory_mib("VmHWM");
    eprintln!("{stored} of {end} logs stored when all were counted; {most} MiB at most");
    assert!(most <= MOST_MEMORY, "{most} MiB");

    scene.store.let_logs_go();
    scene.end_and_judge(program);
}

#[test]
fn a_run_to_the_end_ends_when_every_sink_is_there() {
    let Some(mut scene) = scene("end") else { return };
    let locked = scene.store.lock("logs");
    scene.backlog(60_000);
    let mut program = scene.start(&[&NARROW[..], &["--until-end", "--workers", "2"]].concat());
    counted(&mut scene);
    assert!(program.is_running(), "it ended without a single log stored:\n{}", program.said());
    drop(locked);
    program.succeed(PATIENCE);
    judge(&mut scene.store, &scene.topic, |_| {});
}

/// The clock goes on while a lane is behind. What was young enough when it was counted is a log for the lane too.
#[test]
fn what_is_too_old_is_the_same_for_a_lane_that_reads_later() {
    const DAYS: i64 = 24 * 60 * MINUTE_US;
    let Some(mut scene) = scene("age") else { return };
    let arguments = [&NARROW[..], &["--time-retention", "3d"]].concat();
    let locked = scene.store.lock("logs");
    let start = (now_us() - 5 * 60 * MINUTE_US) / (60 * MINUTE_US) * 60 * MINUTE_US;
    scene.traffic.send(&scene.topic, 20_000, (start, start + 10 * MINUTE_US));
    let mut program = scene.start(&arguments);
    counted(&mut scene);
    let old = start - 3 * DAYS + 30 * MINUTE_US;
    scene.traffic.send(&scene.topic, 200, (old, old + SECOND_US));
    counted(&mut scene);
    let later = start + 120 * MINUTE_US;
    scene.traffic.send(&scene.topic, 20_000, (later, later + 10 * MINUTE_US));
    counted(&mut scene);
    // All of those may have been read in one tick, whose clock the next records find.
    scene.traffic.send(&scene.topic, 200, (later + 10 * MINUTE_US, later + 11 * MINUTE_US));
    counted(&mut scene);
    let store = &mut scene.store;
    eventually("every partition is left to the lane's own reading", PATIENCE, || all_are(store, "detached"));
    assert_eq!(store.progress("logs"), 0, "the table is locked");
    assert!(store.number("select count(*) from retention_cuts") >= 8, "the clock moved on by two hours");
    program.kill();
    let program = scene.start(&arguments);
    drop(locked);
    scene.end_and_judge(program);
}

/// With room for next to nothing, partitions are detached and attached all the time.
#[test]
fn partitions_that_come_and_go_lose_and_double_nothing() {
    for kind in [Kind::Postgres, Kind::Sqlite] {
        let Some(mut scene) = Scene::create(kind, "flapping") else { return };
        scene.backlog(40_000);
        let mut program = scene.start(&[&NARROW[..], &["--workers", "2"]].concat());
        for round in 0..6 {
            scene.live_for(3_000, Duration::from_millis(700));
            scene.backlog(20_000);
            if round % 2 == 1 {
                program.kill();
                program = scene.start(&[&NARROW[..], &["--workers", "2"]].concat());
            }
        }
        program.wait_for_words("from offset", STOP);
        scene.end_and_judge(program);
    }
}
