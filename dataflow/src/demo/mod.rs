//! `smartlog demo`: everything in one process, on made-up logs with known incidents.
//!
//! ```text
//!   history (24 h of sums) ─▶ detectors, recent windows ─▶ seeds ─┐
//!   generator ─▶ embedded broker ─▶ the same pipeline as `run` ───┴─▶ SQLite ─▶ API and page
//!       └─ labels ─────────────────────────────────────────────────────▶ score: what was found
//! ```
//!
//! The broker is librdkafka's own stand-in: the source code path is that of a real Kafka, but it says nothing about one.

mod score;
mod warm_up;

use crate::commands::api::api_config;
use crate::commands::{job, run::stop_on_signal};
use crate::config::{Config, OutputFormat};
use crate::coordinator::Begin;
use crate::engine::{Engine, Job, Storage};
use crate::metrics::Metrics;
use crate::sources::kafka::Settings;
use crate::sources::{Sources, wall_us};
use anyhow::Context;
use jiff::Timestamp;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use score::{Score, Summary};
use smartlog_generator::Demo;
use smartlog_generator::output::{KafkaTarget, Pace, Partitioning, to_kafka};
use smartlog_sinks::parquet::{self, ExportConfig, Kept};
use smartlog_sinks::{CancellationToken, LogSinkEntry, StoreConfig};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Soon enough for someone who looks into the folder.
const ROLL_EVERY: Duration = Duration::from_secs(20);
const TOPIC: &str = "logs";
/// More partitions hold more of what the broker keeps (5 MiB each), and cost more: it looks for an offset batch by batch
/// from the start of a partition, and the more partitions, the smaller the batches.
const PARTITIONS: i32 = 4;
/// Lines that go out at once at the start: half of what the broker keeps.
const BACKLOG: f64 = 40_000.0;
/// How long the last logs may take from the broker to the store at the end.
const DRAIN: Duration = Duration::from_secs(10);

/// Runs the demo until its time is over or it is stopped.
pub fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let store = fresh_store(&config.demo.dir)?;
    let runtime = job::runtime()?;
    let traffic = Demo::new(config.demo.seed, Timestamp::now(), f64::from(config.demo.rate))
        .context("making up the logs")?;
    let snapshot = warm_up::snapshot(&traffic, &config.time.settings(), &config.detection.settings())?;
    tracing::info!("24 hours of history learnt in {:.1?}", began.elapsed());

    let broker = MockCluster::<DefaultProducerContext>::new(1).context("starting the embedded broker")?;
    broker.create_topic(TOPIC, PARTITIONS, 1).context("creating the topic in the embedded broker")?;
    let brokers = broker.bootstrap_servers();
    let kafka = Arc::new(Settings {
        brokers: brokers.clone(),
        topics: vec![TOPIC.into()],
        group: "smartlog-demo".into(),
        ..Settings::default()
    });
    let job = Job {
        sources: Sources::Kafka(Arc::clone(&kafka)),
        storage: Some(storage(config, &store)?),
        retention: Some(config.time.retention),
        begin: Begin::Earliest,
        until_end: false,
        warm_up: Some(snapshot),
        ..job::from_config(config, None, Kept::default())?
    };
    let score = Arc::new(Mutex::new(Score::default()));
    let scored = Arc::clone(&score);
    let observer = Box::new(move |commit: &smartlog_schema::commit::EpochCommit| {
        scored.lock().unwrap_or_else(PoisonError::into_inner).observe(commit);
    });
    let engine = Engine::start(job, runtime.handle(), observer)?;
    let metrics = Metrics::new(engine.gauges().clone(), Some(kafka), None);

    let stop_api = CancellationToken::new();
    let mut api = api_config(config, &store.url)?;
    api.listen = config.api.listen;
    let api = crate::committer::wait(runtime.handle(), smartlog_api::Api::bind(api, Arc::new(metrics)))?;
    let address = api.local_addr().context("asking for the page's address")?;
    let served = runtime.spawn(api.serve(stop_api.clone()));
    tracing::info!("the page is at http://{address}, {:.1?} after the start", began.elapsed());
    greet(config, &address.to_string())?;

    let stopped = Arc::new(AtomicBool::new(false));
    stop_on_signal(&runtime, Arc::clone(&stopped));
    let traffic = Traffic::start(&traffic, &brokers, &score)?;
    let until = config.demo.duration.map(|time| Instant::now() + time);
    let failed = engine.stop_flag();
    while !stopped.load(Ordering::Relaxed) && !failed.load(Ordering::Relaxed) {
        if until.is_some_and(|until| Instant::now() >= until) {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let produced = traffic.stop()?;
    drain(&engine, produced);
    engine.stop_flag().store(true, Ordering::Relaxed);
    engine.join(config.engine.shutdown_grace)?;
    stop_api.cancel();
    // The API only reads: how it ends changes nothing.
    let _ = crate::committer::wait(runtime.handle(), served);

    let counts = crate::committer::wait(runtime.handle(), smartlog_sinks::counts(&store))?;
    let exported = crate::committer::wait(runtime.handle(), parquet::exported_rows(&store))?;
    let score = score.lock().unwrap_or_else(PoisonError::into_inner);
    let summary = Summary { parquet_rows: exported.unsigned_abs(), ..score.summary(produced, &counts) };
    let mut out = std::io::stdout().lock();
    match config.output.format {
        OutputFormat::Json => writeln!(out, "{}", serde_json::to_string(&summary)?)?,
        OutputFormat::Table => summary.print(&mut out)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn greet(config: &Config, address: &str) -> anyhow::Result<()> {
    if config.output.format == OutputFormat::Json {
        return Ok(());
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n  smartlog demo   {} logs/s, something goes wrong every minute", config.demo.rate)?;
    writeln!(out, "  live page       http://{address}/")?;
    writeln!(out, "  API             http://{address}/docs")?;
    writeln!(out, "  stop            Ctrl-C\n")?;
    Ok(out.flush()?)
}

/// The store, and every log as Parquet in a folder beside it, begun anew as the store is.
fn storage(config: &Config, store: &StoreConfig) -> anyhow::Result<Storage> {
    let lake = config.demo.dir.join("lake");
    for folder in ["logs", "anomalies"] {
        match std::fs::remove_dir_all(lake.join(folder)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing the earlier demo's {}", lake.display()));
            }
            _ => {}
        }
    }
    let export = ExportConfig {
        roll_every: Some(config.export.roll_every.unwrap_or(ROLL_EVERY)),
        ..config.export.config_for(&lake.display().to_string())
    };
    let log_sinks = vec![LogSinkEntry::of_store(store), LogSinkEntry::parquet(&export, store)];
    Ok(Storage { store: store.clone(), log_sinks, event_sinks: Vec::new(), export: Some(export) })
}

/// A store of its own, begun anew: what an earlier demo left there is removed, and nothing else.
fn fresh_store(dir: &Path) -> anyhow::Result<StoreConfig> {
    std::fs::create_dir_all(dir).with_context(|| format!("creating the demo's folder {}", dir.display()))?;
    let file = dir.join("demo.db");
    for suffix in ["", "-wal", "-shm", ".lock", "-lock"] {
        let path = format!("{}{suffix}", file.display());
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing the earlier demo's {path}"));
            }
            _ => {}
        }
    }
    Ok(StoreConfig::new(format!("sqlite:{}", file.display())))
}

/// The generator, on a thread of its own.
struct Traffic {
    thread: JoinHandle<anyhow::Result<u64>>,
    cancelled: Arc<AtomicBool>,
}

impl Traffic {
    fn start(demo: &Demo, brokers: &str, score: &Arc<Mutex<Score>>) -> anyhow::Result<Self> {
        let mut generator = demo.live().context("making up the live logs")?;
        let target = KafkaTarget {
            brokers: brokers.to_owned(),
            topic: TOPIC.into(),
            partitioning: Partitioning::RoundRobin,
            properties: std::collections::BTreeMap::default(),
        };
        // Learning took a while: the lines of that time go out at once, as far as the broker has room, so that event time is wall
        // time and nobody seems to have been silent.
        let now_us = wall_us();
        let pace = Pace::real_time(now_us);
        let cancelled = Arc::clone(&pace.cancelled);
        let score = Arc::clone(score);
        let room_us = (BACKLOG / demo.config().rate_per_s * 1e6) as i64;
        let mut line = Vec::new();
        while generator.next_into(&mut line).is_some_and(|head| head.arrival_us < now_us - room_us) {
            line.clear();
        }
        let thread = std::thread::Builder::new().name("generator".into()).spawn(move || {
            let delivered =
                to_kafka(&mut generator, &target, &pace, &mut |_| {}).context("sending the logs")?;
            score.lock().unwrap_or_else(PoisonError::into_inner).labels = Some(generator.labels());
            Ok(delivered.delivered)
        })?;
        Ok(Traffic { thread, cancelled })
    }

    /// Ends it; how many records the broker took.
    fn stop(self) -> anyhow::Result<u64> {
        self.cancelled.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(result) => result,
            Err(_) => anyhow::bail!("the generator ended early; its message stands above"),
        }
    }
}

/// Waits until everything that was produced was read and handed to every log sink.
fn drain(engine: &Engine, produced: u64) {
    let deadline = Instant::now() + DRAIN;
    let read = || engine.gauges().outcomes.records.load(Ordering::Relaxed);
    let is_done = || read() >= produced && engine.gauges().most_behind() == 0;
    while !is_done() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
}
