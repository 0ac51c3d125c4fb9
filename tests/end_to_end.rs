//! The main job, whole: a real topic read to its end into a real store, and every number of it recounted.

#![expect(
    clippy::print_stderr,
    reason = "whoever reads the output of a failure wants to know which run it was"
)]

use smartlog_test_services::Service;
use smartlog_tests::judge::{episodes, judge, judge_all, templates, windows_file};
use smartlog_tests::oracle::{Log, Windows, windows};
use smartlog_tests::program::Program;
use smartlog_tests::store::{Cell, Kind, Store};
use smartlog_tests::topic::Topic;
use smartlog_tests::traffic::Traffic;
use smartlog_tests::{now_us, unique};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const PARTITIONS: i32 = 4;
const MINUTE_US: i64 = 60_000_000;
/// Long: the machine may be busy with other things.
const PATIENCE: Duration = Duration::from_secs(90);
const HOP: i64 = 10;

/// Child processes with several workers each: one test at a time keeps the machine usable.
static TURN: Mutex<()> = Mutex::new(());

fn arguments(brokers: &str, topic: &Topic, store: &Store, more: &[&str]) -> Vec<String> {
    let base = ["run", "--brokers", brokers, "--topic", &topic.name, "--store", &store.url];
    base.iter().chain(more).map(|argument| (*argument).to_owned()).collect()
}

/// Forty minutes of logs across two full hours, with an incident that nobody can miss.
fn fill(topic: &Topic, seed: u64) -> Traffic {
    let mut traffic = Traffic::new(seed, PARTITIONS as usize);
    let hour = now_us() / (60 * MINUTE_US) * 60 * MINUTE_US;
    let minute = |n: i64| hour - 80 * MINUTE_US + n * MINUTE_US;
    traffic.send(topic, 15_000, (minute(0), minute(30)));
    traffic.failing = Some("checkout");
    traffic.send(topic, 1_500, (minute(30), minute(33)));
    traffic.failing = None;
    traffic.send(topic, 3_500, (minute(33), minute(40)));
    topic.flush();
    traffic
}

fn assert_same_windows(found: &Windows, expected: &Windows) {
    let name = |((end, service), window): (&(i64, String), _)| format!("{end} {service} {window:?}");
    let missing: Vec<String> =
        expected.iter().filter(|(k, w)| found.get(k) != Some(w)).map(name).take(3).collect();
    let extra: Vec<String> =
        found.iter().filter(|(k, w)| expected.get(k) != Some(w)).map(name).take(3).collect();
    assert!(missing.is_empty() && extra.is_empty(), "windows differ: expected {missing:?}, found {extra:?}");
}

/// Episodes that stand, and each shape with its template.
type Found = (Vec<(String, String, i64)>, Vec<Vec<Cell>>);

/// Reads `topic` to its end with `more` arguments and judges everything.
fn read_and_judge(kind: Kind, brokers: &str, topic: &Topic, more: &[&str]) -> Option<Found> {
    let mut store = Store::create(kind)?;
    let csv = store.folder().join("windows.csv");
    let path = csv.to_str().expect("a temporary path is UTF-8").to_owned();
    let all = [&["--until-end", "--windows-out", &path], more].concat();
    Program::start(&arguments(brokers, topic, &store, &all)).succeed(PATIENCE);
    let mut logs: Vec<Log> = Vec::new();
    let totals = judge(&mut store, topic, |log| logs.push(log.clone()));
    assert!(totals.dead_letters > 20 && totals.logs > 19_000, "the input held what it should: {totals:?}");
    assert_same_windows(&windows_file(&csv), &windows(logs.iter(), HOP));
    Some((episodes(&mut store), templates(&mut store)))
}

fn every_shape_of_a_set_gives_the_same(kind: Kind) {
    let Some(kafka) = Service::require("kafka") else { return };
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let brokers = kafka.address();
    let topic = Topic::create(&brokers, &unique("shapes"), PARTITIONS);
    fill(&topic, 17);
    let shapes: &[&[&str]] = match kind {
        Kind::Postgres => &[
            &["--workers", "1"],
            &["--workers", "2"],
            &["--workers", "4"],
            &["--workers", "1", "--processes", "2"],
        ],
        // SQLite serves one process.
        Kind::Sqlite => &[&["--workers", "1"], &["--workers", "2"], &["--workers", "4"]],
    };
    let mut first: Option<Found> = None;
    for shape in shapes {
        eprintln!("{kind:?}, {shape:?}");
        let Some((episodes, templates)) = read_and_judge(kind, &brokers, &topic, shape) else { return };
        let spike = |e: &(String, String, i64)| e.0 == "checkout" && e.1 == "error_rate_spike";
        assert!(episodes.iter().any(spike), "the incident was not found: {episodes:?}");
        let expected = first.get_or_insert_with(|| (episodes.clone(), templates.clone()));
        assert_eq!(episodes, expected.0, "{shape:?} gives other episodes than {:?}", shapes[0]);
        assert_eq!(templates, expected.1, "{shape:?} gives other templates than {:?}", shapes[0]);
    }
}

#[test]
fn postgres_holds_the_topic_whatever_the_number_of_workers_and_processes() {
    every_shape_of_a_set_gives_the_same(Kind::Postgres);
}

#[test]
fn sqlite_holds_the_topic_whatever_the_number_of_workers() {
    every_shape_of_a_set_gives_the_same(Kind::Sqlite);
}

/// Topics with partitions of equal numbers, read by workers that share them.
#[test]
fn several_topics_are_read_as_one_stream() {
    let Some(kafka) = Service::require("kafka") else { return };
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let brokers = kafka.address();
    let Some(mut store) = Store::create(Kind::Postgres) else { return };
    let topics = [("one", 1), ("three", 3), ("two", 2)].map(|(stem, partitions)| {
        let topic = Topic::create(&brokers, &unique(stem), partitions);
        let mut traffic = Traffic::new(partitions as u64, partitions as usize);
        traffic.send(&topic, 6_000, (now_us() - 40 * MINUTE_US, now_us() - 10 * MINUTE_US));
        topic.flush();
        topic
    });
    let names: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
    let run = |workers: &str, names: &[&str]| {
        let mut arguments = vec!["run", "--until-end", "--workers", workers, "--brokers", &brokers];
        arguments.extend(["--store", &store.url]);
        names.iter().for_each(|name| arguments.extend(["--topic", name]));
        Program::start(&arguments).succeed(PATIENCE);
    };
    // One topic first: the others join a pipeline that has a past.
    run("1", &names[..1]);
    run("2", &names);
    let all: Vec<&Topic> = topics.iter().collect();
    let totals = judge_all(&mut store, &all, |_| {});
    assert_eq!(totals.logs + totals.dead_letters, 18_000);
}

/// Logs that come later than windows can be corrected still belong to their hour, and a second run knows where the first
/// one ended, whatever its number of workers.
fn a_second_run_goes_on_where_the_first_ended(kind: Kind) {
    let Some(kafka) = Service::require("kafka") else { return };
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let brokers = kafka.address();
    let topic = Topic::create(&brokers, &unique("again"), PARTITIONS);
    let Some(mut store) = Store::create(kind) else { return };
    let mut traffic = fill(&topic, 23);
    let run = |store: &Store, workers: &str| {
        Program::start(&arguments(&brokers, &topic, store, &["--until-end", "--workers", workers]))
            .succeed(PATIENCE);
    };
    run(&store, "2");
    let before = judge(&mut store, &topic, |_| {});
    run(&store, "1"); // nothing new
    let still = judge(&mut store, &topic, |_| {});
    assert_eq!(still.logs, before.logs);
    let late = now_us() - 3 * 60 * MINUTE_US;
    traffic.send(&topic, 500, (late, late + MINUTE_US));
    traffic.send(&topic, 3_000, (now_us() - 20 * MINUTE_US, now_us() - 10 * MINUTE_US));
    topic.flush();
    run(&store, "3");
    assert_eq!(
        judge(&mut store, &topic, |_| {}).logs,
        traffic.made() - store.number("select count(*) from dead_letters") as u64
    );
}

#[test]
fn a_second_run_on_postgres_goes_on_where_the_first_ended() {
    a_second_run_goes_on_where_the_first_ended(Kind::Postgres);
}

#[test]
fn a_second_run_on_sqlite_goes_on_where_the_first_ended() {
    a_second_run_goes_on_where_the_first_ended(Kind::Sqlite);
}
