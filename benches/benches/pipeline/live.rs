//! Latency, processor time and memory at 5,000 logs a second.
//!
//! A history with few errors teaches the program what is usual. Then, one service after the other, a burst of errors
//! is planted that lifts the service's error rate over its threshold. Latency is from handing the first log of the
//! burst to the producer until a reader of the store sees the anomaly's row.

use crate::bench::{Bench, Step};
use crate::process::Process;
use crate::report::{Bar, Figure, quantile};
use crate::topic::Topic;
use crate::workload::PARTITIONS;
use anyhow::{Context as _, ensure};
use rusqlite::{Connection, OpenFlags};
use smartlog_benches::logs::{ERROR, Log, kind};
use smartlog_benches::random::Random;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Logs a second.
const RATE: f64 = 5_000.0;
/// Event time before the beginning: more than the five minutes that a baseline of volume takes.
const HISTORY: Duration = Duration::from_secs(8 * 60);
/// A quarter of the rate: after half a minute at the whole rate the window is still no spike of volume.
const HISTORY_RATE: f64 = RATE / 4.0;
/// Half of the logs are of services that nothing happens to.
const CALM_SERVICES: u64 = 20;
const TROUBLED_SERVICES: u64 = 100;
/// Errors in a thousand logs: the threshold is then three times `baseline_floor`, 1.5 %.
const USUAL_ERRORS: u64 = 4;
/// A troubled service has up to 2,500 logs in its window, some 10 of them errors: this makes it more than 2 %.
const BURST: usize = 45;
/// How often the store is asked.
const LOOK: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(60);

/// Instants by service.
type Times = BTreeMap<String, Instant>;

/// What the producer is told, and what it tells.
struct Stage {
    stop: AtomicBool,
    /// When to plant bursts: from, and how far apart.
    schedule: Mutex<Option<(Instant, Duration)>>,
    planted: Mutex<Times>,
}

/// The run and what was seen of it.
struct Seen {
    latencies_ms: Vec<f64>,
    cpu_percent: f64,
    resident_mib: f64,
}

pub fn measure(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let length = Duration::from_secs(if bench.quick { 8 } else { 30 });
    let [mut p50, mut p99, mut cpu, mut resident]: [Vec<f64>; 4] = Default::default();
    let mut samples = 0;
    for _ in 0..bench.rounds {
        let seen = round(bench, length)?;
        samples += seen.latencies_ms.len();
        p50.push(quantile(&seen.latencies_ms, 0.50));
        p99.push(quantile(&seen.latencies_ms, 0.99));
        cpu.push(seen.cpu_percent);
        resident.push(seen.resident_mib);
    }
    let latency = |name, bar, rounds| {
        Figure::plain(
            format!("log to anomaly row, 5,000 logs/s, {name} of {samples}"),
            Bar::AtMost(bar),
            "ms",
            rounds,
        )
    };
    Ok(vec![
        latency("p50", 80.0, p50),
        latency("p99", 200.0, p99),
        Figure::plain("processor at 5,000 logs/s, no raw logs", Bar::AtMost(8.0), "% of a core", cpu),
        Figure::plain("steady memory at 5,000 logs/s", Bar::AtMost(60.0), "MiB", resident),
    ])
}

fn round(bench: &Bench, length: Duration) -> anyhow::Result<Seen> {
    let topic = Topic::create(&bench.brokers, "live", Duration::from_millis(5))?;
    let folder = tempfile::tempdir()?;
    let store = folder.path().join("state.db");
    let stage = Stage { stop: AtomicBool::new(false), schedule: Mutex::new(None), planted: Mutex::default() };
    {
        let _step = Step::begin("live: producing the history".to_owned(), None);
        history(&topic)?;
    }
    std::thread::scope(|scope| {
        let producer = scope.spawn(|| produce(&topic, &stage));
        let seen = watch(bench, &topic, &store, &stage, length);
        stage.stop.store(true, Ordering::Relaxed);
        producer.join().map_err(|_| anyhow::anyhow!("the producer panicked"))??;
        seen
    })
}

/// Catches up with the history in one process, then watches a second one that has nothing to catch up with.
fn watch(
    bench: &Bench,
    topic: &Topic,
    store: &Path,
    stage: &Stage,
    length: Duration,
) -> anyhow::Result<Seen> {
    let url = format!("sqlite:{}", store.display());
    let arguments = ["--store", &url, "--store-raw-logs=false", "--engine-tick", "100ms"];
    {
        let _step = Step::begin("live: catching up".to_owned(), None);
        let mut first = bench.run(topic, &arguments)?;
        first.until("it is up to date", PATIENCE, || up_to_date(store))?;
        first.stop()?;
    }
    let _step = Step::begin(format!("live: {} logs/s for {} s", RATE, length.as_secs()), None);
    let mut process = bench.run(topic, &arguments)?;
    process.until("it is up to date", PATIENCE, || up_to_date(store))?;
    std::thread::sleep(Duration::from_secs(2));

    let (began, cpu) = (Instant::now(), process.cpu()?);
    let apart = length / TROUBLED_SERVICES as u32;
    let apart = apart.max(Duration::from_millis(270));
    *stage.schedule.lock().unwrap_or_else(PoisonError::into_inner) = Some((began, apart));
    let rows = rows_until(store, began + length, &mut process)?;
    let cpu_percent = 100.0 * (process.cpu()? - cpu).as_secs_f64() / began.elapsed().as_secs_f64();
    let resident_mib = process.resident_mib()?;
    process.stop()?;

    let planted = stage.planted.lock().unwrap_or_else(PoisonError::into_inner);
    // What was planted last may be on its way still.
    let due = |at: &Instant| *at + Duration::from_secs(1) < began + length;
    let mut latencies_ms = Vec::new();
    for (service, at) in planted.iter().filter(|(_, at)| due(at)) {
        let row = rows.get(service).with_context(|| format!("the errors of {service} raised no anomaly"))?;
        let latency = row.checked_duration_since(*at);
        let latency = latency.with_context(|| format!("{service} had an anomaly before its errors"))?;
        latencies_ms.push(latency.as_secs_f64() * 1e3);
    }
    ensure!(latencies_ms.len() >= 20, "only {} anomalies were planted in time", latencies_ms.len());
    Ok(Seen { latencies_ms, cpu_percent, resident_mib })
}

fn open(store: &Path) -> rusqlite::Result<Connection> {
    Connection::open_with_flags(store, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
}

/// Whether the stored clock is near now. There may be no store yet.
fn up_to_date(store: &Path) -> anyhow::Result<Option<()>> {
    let clock = open(store).and_then(|connection| {
        connection.query_row("select coalesce(max(clock_us), 0) from pipeline_state", [], |row| {
            row.get::<_, i64>(0)
        })
    });
    let now_us = jiff::Timestamp::now().as_microsecond();
    Ok(clock.is_ok_and(|clock_us| now_us - clock_us < 2_000_000).then_some(()))
}

/// When the row of each service's first error rate spike could be read.
fn rows_until(store: &Path, until: Instant, process: &mut Process) -> anyhow::Result<Times> {
    let connection = open(store)?;
    connection.busy_timeout(Duration::from_millis(500))?;
    let mut query = connection.prepare(
        "select id, service from anomalies where id > ? and anomaly_type = 'error_rate_spike' order by id",
    )?;
    let (mut times, mut last) = (Times::new(), 0_i64);
    while Instant::now() < until {
        let mut rows = query.query([last])?;
        while let Some(row) = rows.next()? {
            last = row.get(0)?;
            if let Some(service) = row.get(1)? {
                times.entry(service).or_insert_with(Instant::now);
            }
        }
        process.check()?;
        std::thread::sleep(LOOK);
    }
    Ok(times)
}

fn service(random: &mut Random) -> String {
    match random.below(2) {
        0 => format!("calm-{:02}", random.below(CALM_SERVICES)),
        _ => troubled(random.below(TROUBLED_SERVICES)),
    }
}

fn troubled(index: u64) -> String {
    format!("troubled-{index:03}")
}

/// Logs of the minutes before now, each record as old as its event.
fn history(topic: &Topic) -> anyhow::Result<()> {
    let mut random = Random::new(7);
    let mut line = Vec::new();
    let logs = (HISTORY.as_secs_f64() * HISTORY_RATE) as i64;
    let begin_ms = jiff::Timestamp::now().as_millisecond() - HISTORY.as_millis() as i64;
    for index in 0..logs {
        let at_ms = begin_ms + index * HISTORY.as_millis() as i64 / logs;
        let (service, kind) = (service(&mut random), kind(USUAL_ERRORS, &mut random));
        Log::draw(at_ms, &service, kind, &mut random).write(&mut line);
        topic.send(index as usize % PARTITIONS, &line, Some(at_ms))?;
    }
    topic.flush()
}

/// Logs of now at the live rate, a tenth of them up to 2 s old, and the bursts that are due.
fn produce(topic: &Topic, stage: &Stage) -> anyhow::Result<()> {
    let mut random = Random::new(11);
    let mut line = Vec::new();
    let (began, mut sent, mut bursts) = (Instant::now(), 0, 0);
    while !stage.stop.load(Ordering::Relaxed) {
        while (sent as f64) < began.elapsed().as_secs_f64() * RATE {
            let age_ms = if random.below(10) == 0 { random.below(2_000) as i64 } else { 0 };
            let (service, kind) = (service(&mut random), kind(USUAL_ERRORS, &mut random));
            let at_ms = jiff::Timestamp::now().as_millisecond() - age_ms;
            Log::draw(at_ms, &service, kind, &mut random).write(&mut line);
            topic.send(sent % PARTITIONS, &line, None)?;
            sent += 1;
        }
        let schedule = *stage.schedule.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((from, apart)) = schedule {
            // Anywhere in the tick.
            let jitter = Duration::from_millis(Random::new(u64::from(bursts)).below(100));
            if from + apart * bursts + jitter <= Instant::now() && u64::from(bursts) < TROUBLED_SERVICES {
                burst(topic, stage, u64::from(bursts), &mut random)?;
                bursts += 1;
            }
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    topic.flush()
}

fn burst(topic: &Topic, stage: &Stage, index: u64, random: &mut Random) -> anyhow::Result<()> {
    let service = troubled(index);
    let mut line = Vec::new();
    stage.planted.lock().unwrap_or_else(PoisonError::into_inner).insert(service.clone(), Instant::now());
    for nth in 0..BURST {
        let at_ms = jiff::Timestamp::now().as_millisecond();
        Log::draw(at_ms, &service, ("ERROR", ERROR[0]), random).write(&mut line);
        topic.send(nth % PARTITIONS, &line, None)?;
    }
    Ok(())
}
