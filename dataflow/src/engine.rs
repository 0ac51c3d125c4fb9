//! Runs the pipeline: opens the store, starts the workers, stops them, and says how it went.

use crate::committer::{self, Mailbox, Observer, wait};
use crate::coordinator::{self, Begin, Brief};
use crate::pipeline::{self, Blueprint, Share};
use crate::raw;
use crate::retention;
use crate::rows::WindowsFile;
use crate::sources::{Pace, Sources};
use anyhow::Context;
use smartlog_operators::detect;
use smartlog_operators::fold::Outcomes;
use smartlog_operators::parse::Parser;
use smartlog_schema::commit::Snapshot;
use smartlog_schema::position::Positions;
use smartlog_sinks::{CancellationToken, Health, LOGS, SinkError, StateStore, StoreConfig};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use timely::WorkerConfig;
use timely::communication::initialize::WorkerGuards;

/// The processes of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Which of them this one is.
    pub process: usize,
    /// `host:port` of each, this one included.
    pub addresses: Vec<String>,
}

/// Where state is kept.
#[derive(Debug, Clone)]
pub struct Storage {
    pub store: StoreConfig,
    /// Whether every log is kept as well.
    pub raw_logs: bool,
}

/// All that a run needs.
pub struct Job {
    pub sources: Sources,
    pub parser: Parser,
    pub settings: detect::Settings,
    /// `None`: logs are never too old.
    pub retention: Option<Duration>,
    pub storage: Option<Storage>,
    pub windows_file: Option<(PathBuf, i64)>,
    /// What to begin with where the store is empty.
    pub warm_up: Option<Snapshot>,
    pub begin: Begin,
    pub until_end: bool,
    pub workers: usize,
    pub cluster: Option<Cluster>,
    pub tick: Duration,
    pub max_in_flight_bytes: usize,
    pub max_waiting_bytes: usize,
    pub max_services: usize,
}

/// What can be watched while it runs.
#[derive(Clone)]
pub struct Gauges {
    pub outcomes: Arc<Outcomes>,
    pub pace: Pace,
    pub watermark_us: Arc<AtomicI64>,
    pub pending_commit_bytes: Arc<AtomicUsize>,
    pub store: Health,
    pub logs: Vec<Health>,
}

impl Gauges {
    /// The health of the state store, under `store_name`, and of each worker's log sink.
    pub fn sinks<'a>(&'a self, store_name: &str) -> Vec<(String, &'a Health)> {
        let workers = self.logs.iter().enumerate().map(|(worker, health)| (format!("logs-{worker}"), health));
        std::iter::once((store_name.to_owned(), &self.store)).chain(workers).collect()
    }
}

/// The first thing that went wrong, and the flag that ends everything.
#[derive(Clone, Default)]
struct Failure {
    first: Arc<Mutex<Option<anyhow::Error>>>,
    stop: Arc<AtomicBool>,
}

impl Failure {
    fn raise(&self, error: anyhow::Error) {
        tracing::debug!("stopping: {error:#}");
        self.first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.stop.store(true, Ordering::Relaxed);
    }

    fn raiser(&self) -> Arc<dyn Fn(anyhow::Error) + Send + Sync> {
        let failure = self.clone();
        Arc::new(move |error| failure.raise(error))
    }

    fn take(&self) -> Option<anyhow::Error> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A running pipeline.
pub struct Engine {
    guards: WorkerGuards<()>,
    threads: Vec<JoinHandle<()>>,
    failure: Failure,
    cancel: CancellationToken,
    mailbox: Mailbox,
    gauges: Gauges,
}

impl Engine {
    /// Starts `job`. `observer` is told of every commit once it is durable.
    ///
    /// # Errors
    /// What keeps it from starting: the store, a file, an address that is taken.
    pub fn start(job: Job, runtime: &tokio::runtime::Handle, observer: Observer) -> anyhow::Result<Self> {
        let failure = Failure::default();
        let cancel = CancellationToken::new();
        let leads = job.cluster.as_ref().is_none_or(|cluster| cluster.process == 0);
        let pace = pace(&job, Arc::clone(&failure.stop));
        let watermark_us = Arc::new(AtomicI64::new(0));
        let mailbox = Mailbox::default();
        let store_health = Health::new();
        let mut threads = Vec::new();

        let (mut snapshot, mut raw) = (Snapshot::default(), None);
        if leads {
            let mut store = None;
            if let Some(storage) = &job.storage {
                let opened = open(storage, runtime, &store_health, &cancel)?;
                (store, snapshot, raw) = (Some(opened.0), opened.1, opened.2);
                runtime.spawn(retention::keep(storage.store.clone(), Arc::clone(&pace.clock_us)));
            }
            let observer = advertising(&job.sources, observer);
            let fail = sink_failure(&failure, "committing");
            threads.push(committer::start(mailbox.clone(), runtime.clone(), store, observer, fail)?);
        }
        if snapshot.clock.is_none() {
            snapshot = job.warm_up.unwrap_or(snapshot);
        }

        if let Some(clock) = &snapshot.clock {
            // What is too old is judged by the clock from the first log on.
            pace.clock_us.store(clock.clock_us, Ordering::Relaxed);
        }

        let mut shares: Vec<Share> = (0..job.workers).map(|_| Share::default()).collect();
        let mut logs = Vec::new();
        if let Some(storage) = job.storage.as_ref().filter(|storage| storage.raw_logs) {
            let lanes = Lanes {
                runtime,
                pace: &pace,
                watermark_us: &watermark_us,
                cancel: &cancel,
                failure: &failure,
            };
            logs = lanes.open(&storage.store, &mut shares, &mut threads)?;
        }
        let hop = job.windows_file.as_ref().map(|(_, hop)| *hop);
        if leads {
            let brief = Brief {
                snapshot,
                raw,
                keep_raw_start: keep_raw_start(runtime, job.storage.as_ref()),
                begin: job.begin,
                until_end: job.until_end,
                stop: Arc::clone(&failure.stop),
            };
            let fail = failure.clone();
            shares[0].orders = Some(coordinator::start(&job.sources, brief, move |error| fail.raise(error))?);
            if let Some((path, _)) = &job.windows_file {
                shares[0].windows_file = Some(WindowsFile::create(path)?);
            }
        }
        let outcomes = Arc::new(Outcomes::default());
        let gauges = Gauges {
            outcomes: Arc::clone(&outcomes),
            pace: pace.clone(),
            watermark_us: Arc::clone(&watermark_us),
            pending_commit_bytes: Arc::clone(&mailbox.bytes),
            store: store_health,
            logs,
        };
        let blueprint = Blueprint {
            sources: job.sources,
            parser: Arc::new(job.parser),
            settings: job.settings,
            retention_us: job.retention.map(|time| i64::try_from(time.as_micros()).unwrap_or(i64::MAX)),
            max_services: job.max_services,
            hop,
            pace,
            watermark_us,
            outcomes,
            mailbox: mailbox.clone(),
            fail: failure.raiser(),
        };
        let guards = spawn_workers(job.workers, job.cluster, blueprint, shares)?;
        Ok(Engine { guards, threads, failure, cancel, mailbox, gauges })
    }

    pub fn gauges(&self) -> &Gauges {
        &self.gauges
    }

    /// The flag that ends it: reading stops, everything read is committed.
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.failure.stop)
    }

    /// Waits until the input ended, it was stopped, or something failed. After a stop, what is not durable within
    /// `grace` is left for the next start.
    ///
    /// # Errors
    /// The first thing that went wrong.
    pub fn join(self, grace: Duration) -> anyhow::Result<()> {
        let Engine { guards, threads, failure, cancel, mailbox, .. } = self;
        let (stop, patience) = (Arc::clone(&failure.stop), cancel.clone());
        let done = Arc::new(AtomicBool::new(false));
        let finished = Arc::clone(&done);
        let watchdog = std::thread::Builder::new().name("grace".into()).spawn(move || {
            let mut stopped_at = None;
            while !finished.load(Ordering::Relaxed) {
                if stop.load(Ordering::Relaxed) {
                    let since = *stopped_at.get_or_insert_with(Instant::now);
                    if since.elapsed() > grace {
                        patience.cancel();
                    }
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        })?;
        let mut panicked = false;
        for result in guards.join() {
            panicked |= result.is_err();
        }
        mailbox.close();
        for thread in threads {
            panicked |= thread.join().is_err();
        }
        done.store(true, Ordering::Relaxed);
        panicked |= watchdog.join().is_err();
        match failure.take() {
            Some(error) => Err(error),
            None if panicked => anyhow::bail!("a worker ended early; its message stands above"),
            None => Ok(()),
        }
    }
}

/// The state store, what it holds, and where the log sink stands, if logs are kept.
type Opened = (Box<dyn StateStore>, Snapshot, Option<Positions>);

fn open(
    storage: &Storage,
    runtime: &tokio::runtime::Handle,
    health: &Health,
    cancel: &CancellationToken,
) -> anyhow::Result<Opened> {
    let mut store = smartlog_sinks::state_store(&storage.store, health.clone(), cancel.clone())?;
    let snapshot = wait(runtime, store.open())?;
    let logs = if storage.raw_logs { Some(wait(runtime, raw_positions(&storage.store))?) } else { None };
    Ok((store, snapshot, logs))
}

/// Tells the source what is durable, besides `observer`.
fn advertising(sources: &Sources, mut observer: Observer) -> Observer {
    let Sources::Kafka(kafka) = sources else { return observer };
    let kafka = Arc::clone(kafka);
    Box::new(move |commit| {
        let mut durable = kafka.durable.lock().unwrap_or_else(PoisonError::into_inner);
        durable.extend(commit.positions.iter().map(|(source, next)| (source.clone(), *next)));
        drop(durable);
        observer(commit);
    })
}

/// Stores where the logs begin; there is nothing to store without a store.
fn keep_raw_start(runtime: &tokio::runtime::Handle, storage: Option<&Storage>) -> coordinator::RawStart {
    let (runtime, store) = (runtime.clone(), storage.map(|storage| storage.store.clone()));
    Box::new(move |starts| {
        let Some(store) = &store else { return Ok(()) };
        Ok(wait(&runtime, smartlog_sinks::set_start(store, LOGS, starts))?)
    })
}

fn sink_failure(failure: &Failure, doing: &'static str) -> impl Fn(SinkError) + Send + 'static {
    let failure = failure.clone();
    move |error| failure.raise(anyhow::Error::new(error).context(doing))
}

fn pace(job: &Job, stop: Arc<AtomicBool>) -> Pace {
    Pace {
        tick: job.tick,
        in_flight_bytes: Arc::default(),
        max_in_flight_bytes: job.max_in_flight_bytes,
        waiting_bytes: Arc::default(),
        max_waiting_bytes: job.max_waiting_bytes,
        stop,
        clock_us: Arc::default(),
        stalls: Arc::default(),
        board: Arc::default(),
    }
}

/// Where the store's log sink stands; it says itself, and holds on to it, once it is written to.
async fn raw_positions(store: &StoreConfig) -> Result<Positions, SinkError> {
    let stored = smartlog_sinks::positions(store).await?;
    let of_logs = stored.into_iter().filter(|position| position.sink == LOGS);
    Ok(of_logs.filter_map(|position| Some((position.partition, position.next_offset?))).collect())
}

/// What the raw lanes of all workers share.
struct Lanes<'a> {
    runtime: &'a tokio::runtime::Handle,
    pace: &'a Pace,
    watermark_us: &'a Arc<AtomicI64>,
    cancel: &'a CancellationToken,
    failure: &'a Failure,
}

impl Lanes<'_> {
    /// Gives every worker a lane to the store's log sink; the sinks' health, by worker.
    fn open(
        &self,
        store: &StoreConfig,
        shares: &mut [Share],
        threads: &mut Vec<JoinHandle<()>>,
    ) -> anyhow::Result<Vec<Health>> {
        let mut healths = Vec::new();
        for (worker, share) in shares.iter_mut().enumerate() {
            let health = Health::new();
            let sink = smartlog_sinks::log_sink(store, health.clone(), self.cancel.clone())?;
            let in_flight = Arc::clone(&self.pace.in_flight_bytes);
            let fail = sink_failure(self.failure, "storing logs");
            let (lane, thread) = raw::start(
                worker,
                self.runtime.clone(),
                sink,
                in_flight,
                Arc::clone(self.watermark_us),
                fail,
            )?;
            share.lane = Some(lane);
            threads.push(thread);
            healths.push(health);
        }
        Ok(healths)
    }
}

/// A worker that panics ends everything: the others would wait for it for ever.
struct PanicGuard(Arc<dyn Fn(anyhow::Error) + Send + Sync>);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0)(anyhow::anyhow!("a worker ended early; its message stands above"));
        }
    }
}

fn spawn_workers(
    workers: usize,
    cluster: Option<Cluster>,
    blueprint: Blueprint,
    shares: Vec<Share>,
) -> anyhow::Result<WorkerGuards<()>> {
    let communication = match cluster {
        Some(Cluster { process, addresses }) => timely::CommunicationConfig::Cluster {
            threads: workers,
            process,
            addresses,
            report: false,
            zerocopy: false,
        },
        None => timely::CommunicationConfig::Process(workers),
    };
    let config = timely::Config { communication, worker: WorkerConfig::default() };
    let shares: Vec<Mutex<Option<Share>>> = shares.into_iter().map(|share| Mutex::new(Some(share))).collect();
    timely::execute(config, move |worker| {
        let share = &shares[worker.index() % workers];
        let share = share.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
        let _guard = PanicGuard(Arc::clone(&blueprint.fail));
        pipeline::build(worker, &blueprint, share);
        while worker.step_or_park(None) {}
    })
    .map_err(|error| anyhow::anyhow!("{error}"))
    .context("starting the workers")
}
