//! What the world does to a running pipeline, with real services: brokers and databases that crash, stall and come back,
//! topics that grow, vanish and are made anew, processes that are told to end or are killed.
//!
//! Every test ends with the same question: is every log there once, and does every number agree?

use rustix::process::{Signal, kill_process};
use smartlog_test_services::Service;
use smartlog_tests::judge::{judge, judge_episodes, judge_records};
use smartlog_tests::program::{Program, host_file, run_to_end, wait_until_gone};
use smartlog_tests::scene::{MINUTE_US, PARTITIONS, PATIENCE, SECOND_US, STOP, Scene};
use smartlog_tests::store::Kind;
use smartlog_tests::traffic::Traffic;
use smartlog_tests::{eventually, now_us};
use std::time::{Duration, Instant};

/// Volume that is missing for three quarters of a minute is raised, so that a minute without a broker would be.
const WATCHFUL: [&str; 4] =
    ["--detection-log-volume-drop-minute-ratio", "0.5", "--detection-log-volume-drop-window-ratio", "0.85"];
const LIVE_RATE: i64 = 40;
const DROPS: &str = "select count(*) from anomalies where anomaly_type = 'log_volume_drop'";

/// Twenty minutes up to `end_us`, with nothing in them from before: what is usual is to be clear.
fn history(scene: &mut Scene, end_us: i64) {
    scene.traffic.unruly.late = 0;
    let count = 20 * 60 * LIVE_RATE;
    scene.traffic.send(&scene.topic, count as usize, (end_us - 20 * MINUTE_US, end_us));
}

#[test]
fn a_minute_of_true_silence_is_raised() {
    let Some(mut scene) = Scene::create(Kind::Sqlite, "silence") else { return };
    let now = now_us();
    history(&mut scene, now - 3 * MINUTE_US);
    scene.traffic.send(&scene.topic, 120 * LIVE_RATE as usize, (now - 2 * MINUTE_US, now));
    scene.topic.flush();
    scene.start(&[&["--until-end"][..], &WATCHFUL].concat()).succeed(PATIENCE);
    assert!(
        scene.store.number(DROPS) > 0,
        "the minute without logs was not raised: the next test would prove nothing"
    );
    judge(&mut scene.store, &scene.topic, |_| {});
}

#[test]
fn a_broker_that_restarts_and_one_that_is_away_for_a_minute_are_no_silence() {
    let Some(mut scene) = Scene::create(Kind::Postgres, "away") else { return };
    history(&mut scene, now_us());
    let mut program = scene.start(&WATCHFUL);
    scene.live_for(LIVE_RATE, Duration::from_secs(5));
    let kafka = scene.kafka.clone();
    kafka.kill();
    scene.live_for(LIVE_RATE, Duration::from_secs(3));
    kafka.start();
    let before = scene.store.progress("logs");
    scene.live_until("reading goes on after the restart", LIVE_RATE, PATIENCE, |store| {
        store.progress("logs") > before
    });
    let paused = kafka.pause();
    scene.live_for(LIVE_RATE, Duration::from_secs(61));
    drop(paused);
    let before = scene.store.progress("logs");
    scene.live_until("reading goes on after the minute", LIVE_RATE, PATIENCE, |store| {
        store.progress("logs") > before + 61 * LIVE_RATE
    });
    scene.live_for(LIVE_RATE, Duration::from_secs(5));
    assert!(program.is_running(), "it ended:\n{}", program.said());
    let drops = "select anomaly_type, coalesce(service, '*'), status, description from anomalies where anomaly_type = 'log_volume_drop'";
    let found = scene.store.rows(drops);
    assert!(found.is_empty(), "an outage was taken for silence: {found:?}\n{}", program.said());
    scene.end_and_judge(program);
}

#[test]
fn a_broker_and_a_topic_that_are_not_there_yet_are_waited_for() {
    let Some(mut scene) = Scene::with(Kind::Sqlite, "early", false) else { return };
    let kafka = scene.kafka.clone();
    kafka.kill();
    let mut program = scene.start(&[]);
    program.wait_for_words("does not answer", PATIENCE);
    kafka.start();
    // The broker is up again, so whoever starts now misses the topic alone.
    let brokers = kafka.address();
    let second = ["run", "--brokers", &brokers, "--topic", &scene.topic.name, "--store", "none"];
    let mut patient = Program::start(&second);
    patient.wait_for_words("is not there yet", PATIENCE);
    assert!(program.is_running() && patient.is_running());
    patient.terminate();
    patient.succeed(STOP);
    scene.topic.make(PARTITIONS);
    scene.backlog(2_000);
    scene.end_and_judge(program);
}

#[test]
fn partitions_that_are_added_while_it_runs_are_read() {
    for kind in [Kind::Postgres, Kind::Sqlite] {
        let Some(mut scene) = Scene::create(kind, "growth") else { return };
        scene.backlog(2_000);
        let program = scene.start(&["--workers", "2"]);
        scene.live_until("the first commit", 200, PATIENCE, |store| store.progress("logs") > 0);
        scene.topic.grow(8);
        scene.traffic.grow(8);
        let grown = "select count(distinct kafka_partition) from logs where kafka_partition >= 4";
        scene.live_until("logs of all new partitions", 200, PATIENCE, |store| store.number(grown) == 4);
        scene.end_and_judge(program);
    }
}

#[test]
fn what_retention_deleted_is_reported_and_reading_goes_on() {
    let Some(mut scene) = Scene::create(Kind::Postgres, "retention") else { return };
    scene.backlog(4_000);
    scene.run_to_end();
    let stored = scene.store.number("select count(*) from logs");
    let position = scene.topic.ends()[&0].1;
    scene.backlog(4_000);
    scene.topic.delete_before(0, position + 200);
    let program = scene.start(&[]);
    let gap = |from, to| format!("{} records (offsets {from} to {}) were deleted", to - from, to - 1);
    program.wait_for_words(&gap(position, position + 200), PATIENCE);
    scene.settle();

    program.signal(Signal::STOP);
    // The request that is under way may still be answered with these.
    scene.backlog(4_000);
    scene.topic.flush();
    let position = scene.topic.ends()[&1].1;
    scene.backlog(4_000);
    scene.topic.delete_before(1, position + 300);
    program.signal(Signal::CONT);
    program.wait_for_words(&format!(" to {}) were deleted", position + 299), PATIENCE);
    scene.settle();
    program.terminate();
    let mut program = program;
    program.succeed(STOP);
    let totals = judge_records(&mut scene.store, &scene.topic, |_| {});
    assert!(totals.logs > 0 && scene.store.number("select count(*) from logs") > stored);
    let counted = "select sum(log_count) from hourly_metrics";
    assert_eq!(
        scene.store.number(counted),
        scene.store.number("select count(*) from logs"),
        "hours count what was read"
    );
    judge_episodes(&mut scene.store);
}

#[test]
fn a_topic_made_anew_is_refused_until_it_is_accepted() {
    // Shorter than what was read; and longer, where only the records themselves tell.
    for (kind, anew) in [(Kind::Postgres, 100), (Kind::Sqlite, 6_000)] {
        let Some(mut scene) = Scene::create(kind, "anew") else { return };
        scene.backlog(3_000);
        scene.run_to_end();
        let (logs, letters) = ("select count(*) from logs", "select count(*) from dead_letters");
        let before = scene.store.number(logs) + scene.store.number(letters);
        scene.topic.remake(PARTITIONS);
        scene.traffic = Traffic::new(6, PARTITIONS as usize);
        scene.backlog(anew);
        let command = format!("smartlog sinks accept-topic {}", scene.topic.name);
        let (status, _, said) = run_to_end(&scene.arguments(&["--until-end"]), PATIENCE);
        assert!(
            !status.success() && said.contains(&command),
            "{kind:?}, {anew}: {status}, and it said:\n{said}"
        );
        assert_eq!(
            scene.store.number(logs) + scene.store.number(letters),
            before,
            "nothing of the new topic was stored"
        );

        let accept = ["sinks", "accept-topic", &scene.topic.name, "--store", &scene.store.url];
        let (status, printed, said) = run_to_end(&accept, PATIENCE);
        assert!(status.success(), "{status}: {printed}{said}");
        scene.run_to_end();
        let after = scene.store.number(logs) + scene.store.number(letters);
        assert_eq!(after, before + anew as i64, "every record of the old topic and of the new one");
        let counted = "select sum(log_count) from hourly_metrics";
        assert_eq!(scene.store.number(counted), scene.store.number(logs), "hours count both");
    }
}

#[test]
fn a_topic_made_anew_while_it_runs_is_refused() {
    let Some(mut scene) = Scene::create(Kind::Sqlite, "swapped") else { return };
    scene.backlog(3_000);
    let mut program = scene.start(&[]);
    scene.settle();
    scene.topic.remake(PARTITIONS);
    scene.backlog(100);
    let status = program.wait(PATIENCE);
    let command = format!("smartlog sinks accept-topic {}", scene.topic.name);
    assert!(
        !status.success() && program.said().contains(&command),
        "{status}, and it said:\n{}",
        program.said()
    );
}

/// What lies before the retention is told by the clock that was stored, also right after a restart.
#[test]
fn a_restart_judges_retention_by_the_stored_clock() {
    let Some(mut scene) = Scene::create(Kind::Sqlite, "old") else { return };
    scene.backlog(2_000);
    scene.run_to_end();
    let old = now_us() - 40 * 24 * 60 * MINUTE_US;
    scene.traffic.unruly.malformed = 0;
    scene.traffic.send(&scene.topic, 50, (old, old + SECOND_US));
    scene.topic.flush();
    scene.run_to_end();
    let before = "select count(*) from dead_letters where reason = 'before_retention'";
    let ancient = format!("select count(*) from logs where timestamp < {}", old + 24 * 60 * MINUTE_US);
    assert_eq!(scene.store.number(&ancient), 0, "logs from before the retention were stored as logs");
    assert_eq!(scene.store.number(before), 50);
}

/// A kill right after the first logs were committed leaves them without a clock, and whoever comes after has nothing left
/// to read that would tell the time.
#[test]
fn a_kill_before_any_clock_was_known_does_not_stop_time() {
    for kind in [Kind::Postgres, Kind::Sqlite] {
        let Some(mut scene) = Scene::create(kind, "clockless") else { return };
        (scene.traffic.unruly.malformed, scene.traffic.unruly.late) = (0, 0);
        scene.backlog(50);
        scene.run_to_end();
        let newest = format!("select max({}) from logs", scene.store.micros("timestamp"));
        let newest = scene.store.number(&newest);
        let clockless = "update pipeline_state set clock_us = 0, watermark_us = 0, partition_clocks = '[]'";
        let clock = "select clock_us from pipeline_state";

        scene.store.rows(clockless);
        scene.run_to_end();
        assert_eq!(scene.store.number(clock), (newest / SECOND_US + 1) * SECOND_US, "{kind:?}, at the end");

        scene.store.rows(clockless);
        let program = scene.start(&[]);
        let store = &mut scene.store;
        // The 0.9 quantile of ten minutes lies about a minute before the newest log.
        let begun = eventually("the time is known", PATIENCE, || {
            Some(store.number(clock)).filter(|clock| *clock > newest - 2 * MINUTE_US)
        });
        eventually("time goes on", PATIENCE, || (store.number(clock) > begun + SECOND_US).then_some(()));
        scene.end_and_judge(program);
    }
}

#[test]
fn postgres_that_crashes_in_mid_copy_loses_and_doubles_nothing() {
    let Some(mut scene) = Scene::create(Kind::Postgres, "copy") else { return };
    let Some(postgres) = Service::require("postgres") else { return };
    scene.backlog(400_000);
    let mut program = scene.start(&["--workers", "2"]);
    let copying = "select count(*) from pg_stat_activity where datname = current_database() and state = 'active' \
                   and query ilike 'copy%'";
    for round in 0..3 {
        let store = &mut scene.store;
        eventually("a COPY is under way", PATIENCE, || {
            (store.try_number(copying).unwrap_or(0) > 0).then_some(())
        });
        if round == 1 {
            postgres.restart()
        } else {
            postgres.kill_all()
        }
        postgres.start();
        let at = eventually("it answers", PATIENCE, || {
            store.try_number("select sum(next_offset) from sink_positions where sink = 'logs'").ok()
        });
        eprintln!("crash {round}: {at} of 400000 records were stored");
    }
    assert!(program.is_running(), "it ended:\n{}", program.said());
    scene.end_and_judge(program);
}

#[test]
fn sigterm_under_load_commits_what_was_read_and_ends_well() {
    for kind in [Kind::Postgres, Kind::Sqlite] {
        let Some(mut scene) = Scene::create(kind, "sigterm") else { return };
        scene.backlog(200_000);
        let mut program = scene.start(&["--workers", "2"]);
        let store = &mut scene.store;
        eventually("the first commit", PATIENCE, || (store.progress("logs") > 0).then_some(()));
        let began = Instant::now();
        program.terminate();
        program.succeed(STOP);
        let (logs, aggregates) = (store.progress("logs"), store.progress("aggregates"));
        eprintln!("{kind:?}: ended {:?} after SIGTERM, {logs} of 200000 records stored", began.elapsed());
        assert!(logs <= aggregates, "logs are stored of what was never counted: {logs}, {aggregates}");
        let rows =
            store.number("select count(*) from logs") + store.number("select count(*) from dead_letters");
        assert_eq!(rows, logs, "rows, and what the positions say");
        scene.run_to_end();
        judge(&mut scene.store, &scene.topic, |_| {});
    }
}

#[test]
fn when_one_process_of_a_set_is_killed_the_others_ask_for_a_restart() {
    let Some(mut scene) = Scene::create(Kind::Postgres, "set") else { return };
    scene.backlog(20_000);
    for victim in [0, 1] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let hosts = host_file(folder.path(), 2);
        let hosts = hosts.to_str().expect("a temporary path is UTF-8");
        let process = |n: &str| {
            scene.start(&["--workers", "1", "--processes", "2", "--process", n, "--hostfile", hosts])
        };
        let mut set = [process("0"), process("1")];
        let before = scene.store.progress("logs");
        set[0].wait_for_words("reading", PATIENCE);
        set[1].wait_for_words("reading", PATIENCE);
        scene.live_until("the set commits", 200, PATIENCE, |store| store.progress("logs") > before);
        set[victim].kill();
        let other = &mut set[1 - victim];
        let status = other.wait(PATIENCE);
        assert_eq!(
            status.code(),
            Some(75),
            "process {} ended with {status} and said:\n{}",
            1 - victim,
            other.said()
        );
    }
    scene.run_to_end();
    judge(&mut scene.store, &scene.topic, |_| {});
}

#[test]
fn a_supervised_set_starts_again_when_one_of_it_is_killed() {
    let Some(mut scene) = Scene::create(Kind::Postgres, "supervised") else { return };
    scene.backlog(20_000);
    let program = scene.start(&["--workers", "1", "--processes", "2"]);
    for victim in [0, 1] {
        let before = scene.store.progress("aggregates");
        scene.live_until("the set commits", 200, PATIENCE, |store| store.progress("aggregates") > before);
        let children = program.children();
        assert_eq!(children.len(), 2, "{}", program.said());
        kill_process(children[victim], Signal::KILL).expect("a child of the set runs");
        wait_until_gone(children[victim], PATIENCE);
        wait_until_gone(children[1 - victim], PATIENCE);
    }
    scene.end_and_judge(program);
}
