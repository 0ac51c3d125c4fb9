//! Runs the pipeline: opens the store, starts the workers, stops them, and says how it went.

use crate::committer::{self, Mailbox, Observer, wait};
use crate::coordinator::{self, Begin, Brief};
use crate::feedback::{self, KnownEvent};
use crate::followers::Followers;
use crate::lanes::{self, Opening};
use crate::metrics::Meters;
use crate::models::Scoring;
use crate::pipeline::{self, Blueprint, Share};
use crate::retention;
use crate::rows::WindowsFile;
use crate::set;
use crate::sources::{Pace, Sources};
use anyhow::Context;
use smartlog_operators::detect;
use smartlog_operators::fold::Outcomes;
use smartlog_operators::parse::Parser;
use smartlog_operators::patterns;
use smartlog_operators::score::ModelOrder;
use smartlog_schema::commit::Snapshot;
use smartlog_schema::model::ModelSwap;
use smartlog_schema::position::Positions;
use smartlog_sinks::alerts::{self, AlertsConfig, Hooks};
use smartlog_sinks::parquet::{self, ExportConfig};
use smartlog_sinks::{
    CancellationToken, EventSinkEntry, Health, LogSinkEntry, SinkError, StateStore, StoreConfig,
};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use timely::WorkerConfig;
use timely::communication::allocator::ProcessBuilder;
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::initialize::WorkerGuards;
use timely::communication::{self, AllocatorBuilder};

/// How often a stop is looked for that gives what is under way its grace.
const LOOK: Duration = Duration::from_millis(100);

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
    /// Where every log is kept as well.
    pub log_sinks: Vec<LogSinkEntry>,
    /// What follows the store and publishes what was committed.
    pub event_sinks: Vec<EventSinkEntry>,
    /// What one of them exports to, whose days are kept beside it.
    pub export: Option<ExportConfig>,
}

/// Starts what orders models, once the store has said which were in force.
pub type StartModels = Box<dyn FnOnce(Vec<ModelSwap>) -> anyhow::Result<Receiver<ModelOrder>> + Send>;

/// All that a run needs.
pub struct Job {
    pub sources: Sources,
    pub parser: Parser,
    pub settings: detect::Settings,
    /// `None`: logs are never too old.
    pub retention: Option<Duration>,
    pub storage: Option<Storage>,
    /// Events that are known to come.
    pub calendar: Vec<KnownEvent>,
    /// Whom to tell of episodes; needs the store.
    pub alerts: Option<AlertsConfig>,
    pub windows_file: Option<(PathBuf, i64)>,
    /// What to begin with where the store is empty.
    pub warm_up: Option<Snapshot>,
    /// What is done with feature rows; `None`: none are made.
    pub scoring: Option<Scoring>,
    /// Told which models were in force when the pipeline stopped; gives what is to come into force from then on.
    pub models: Option<StartModels>,
    pub begin: Begin,
    pub until_end: bool,
    pub workers: usize,
    pub cluster: Option<Cluster>,
    pub tick: Duration,
    pub max_in_flight_bytes: usize,
    pub max_waiting_bytes: usize,
    pub max_services: usize,
    pub patterns: patterns::Settings,
    /// Services that metrics show by name.
    pub metrics_services: usize,
}

/// What can be watched while it runs.
#[derive(Clone)]
pub struct Gauges {
    pub outcomes: Arc<Outcomes>,
    pub pace: Pace,
    pub watermark_us: Arc<AtomicI64>,
    pub pending_commit_bytes: Arc<AtomicUsize>,
    pub store: Health,
    pub lanes: Vec<lanes::Watched>,
    pub meters: Meters,
    pub hooks: Hooks,
    /// Of each event sink, by its name.
    pub followers: Vec<(&'static str, Health)>,
}

impl Gauges {
    /// The health of the state store, under `store_name`, of each worker's log sinks, and of the event sinks.
    pub fn sinks<'a>(&'a self, store_name: &str) -> Vec<(String, &'a Health)> {
        let lanes = self.lanes.iter().map(|lane| (lane.state.name(), &lane.health));
        let followers = self.followers.iter().map(|(name, health)| ((*name).to_owned(), health));
        std::iter::once((store_name.to_owned(), &self.store)).chain(lanes).chain(followers).collect()
    }

    /// Records that were read and that some log sink was not handed yet; the most of any sink.
    pub fn most_behind(&self) -> i64 {
        let mut sinks: BTreeMap<&str, i64> = BTreeMap::new();
        for lane in &self.lanes {
            *sinks.entry(lane.state.sink).or_default() += lane.state.lag();
        }
        sinks.into_values().max().unwrap_or(0)
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

/// Dropped, the first ends the second.
type Noting = (tokio::sync::oneshot::Sender<()>, tokio::task::JoinHandle<()>);

fn note(runtime: &tokio::runtime::Handle, store: &StoreConfig, lanes: &[lanes::Watched]) -> Noting {
    let states = lanes.iter().map(|lane| Arc::clone(&lane.state)).collect();
    let (done, is_done) = tokio::sync::oneshot::channel();
    (done, runtime.spawn(lanes::Notes::new(store.clone(), states).keep(is_done)))
}

/// Cancelled, the first lets the second look over the days of the export once more and end.
type Keeping = (CancellationToken, tokio::task::JoinHandle<()>);

fn keep_days(
    runtime: &tokio::runtime::Handle,
    storage: &Storage,
    cancel: &CancellationToken,
) -> Option<Keeping> {
    let stop = CancellationToken::new();
    let kept = parquet::keep(storage.export.clone()?, storage.store.clone(), stop.clone(), cancel.clone());
    Some((stop, runtime.spawn(kept)))
}

/// Tells people of what is in the store; cancelled, it goes on at the next start.
fn keep_telling(
    runtime: &tokio::runtime::Handle,
    storage: &Storage,
    alerts: &AlertsConfig,
    hooks: &Hooks,
) -> Keeping {
    let stop = CancellationToken::new();
    let told = alerts::keep(alerts.clone(), storage.store.clone(), hooks.clone(), stop.clone());
    (stop, runtime.spawn(told))
}

/// A running pipeline.
pub struct Engine {
    guards: WorkerGuards<()>,
    threads: Vec<JoinHandle<()>>,
    failure: Failure,
    cancel: CancellationToken,
    mailbox: Mailbox,
    gauges: Gauges,
    runtime: tokio::runtime::Handle,
    /// Ends the notes on lanes when it is dropped, and what they end with.
    noting: Option<Noting>,
    keeping: Vec<Keeping>,
    followers: Followers,
}

impl Engine {
    /// Starts `job`. `observer` is told of every commit once it is durable.
    ///
    /// # Errors
    /// What keeps it from starting: the store, a file, an address that is taken.
    pub fn start(job: Job, runtime: &tokio::runtime::Handle, observer: Observer) -> anyhow::Result<Self> {
        let mut starting = Starting::new(runtime, &job);
        let leads = job.cluster.as_ref().is_none_or(|cluster| cluster.process == 0);
        let pace = pace(&job, Arc::clone(&starting.failure.stop));
        let (mut snapshot, sinks) =
            if leads { starting.keep_state(&job, &pace, observer)? } else { Default::default() };
        begin(&mut snapshot, job.warm_up, &pace);
        let parser = Arc::new(job.parser);
        let mut shares: Vec<Share> = (0..job.workers).map(|_| Share::default()).collect();
        let leading = job.storage.as_ref().filter(|_| leads);
        let mut keeping =
            leading.map_or_else(Vec::new, |storage| starting.keep_beside(storage, job.alerts.as_ref()));
        if leads {
            let (stop, memory) = (CancellationToken::new(), pipeline::memory(&job.settings, job.tick));
            let store = leading.map(|storage| &storage.store);
            let followed = feedback::start(runtime, store, &snapshot, &job.calendar, memory, stop.clone())?;
            shares[0].feedback = Some(followed.said);
            keeping.extend(followed.task.map(|task| (stop, task)));
        }
        let (mut lanes, mut noting) = (Vec::new(), None);
        if let Some(storage) = job.storage.as_ref().filter(|storage| !storage.log_sinks.is_empty()) {
            lanes =
                starting.open_lanes(storage, &job.sources, &parser, job.max_in_flight_bytes, &mut shares)?;
            noting = Some(note(runtime, &storage.store, &lanes));
        }
        let hop = job.windows_file.as_ref().map(|(_, hop)| *hop);
        if leads {
            let in_force = std::mem::take(&mut snapshot.models);
            shares[0].shapes = std::mem::take(&mut snapshot.shapes);
            shares[0].models = job.models.map(|start| start(in_force)).transpose()?;
            let brief = Brief {
                snapshot,
                time: job.settings.time.clone(),
                sinks,
                keep_start: keep_start(runtime, job.storage.as_ref()),
                begin: job.begin,
                until_end: job.until_end,
                stop: Arc::clone(&starting.failure.stop),
            };
            let fail = starting.failure.clone();
            shares[0].orders = Some(coordinator::start(&job.sources, brief, move |error| fail.raise(error))?);
            if let Some((path, _)) = &job.windows_file {
                shares[0].windows_file = Some(WindowsFile::create(path)?);
            }
        }
        let gauges = starting.gauges(&pace, lanes);
        let Starting { failure, cancel, mailbox, watermark_us, meters, threads, followers, .. } = starting;
        let blueprint = Blueprint {
            sources: job.sources,
            parser,
            settings: job.settings,
            retention_us: job.retention.map(|time| i64::try_from(time.as_micros()).unwrap_or(i64::MAX)),
            max_services: job.max_services,
            patterns: job.patterns,
            hop,
            scoring: job.scoring,
            pace,
            watermark_us,
            outcomes: Arc::clone(&gauges.outcomes),
            meters,
            mailbox: mailbox.clone(),
            fail: failure.raiser(),
        };
        let guards = spawn_workers(job.workers, job.cluster, blueprint, shares)?;
        Ok(Engine {
            guards,
            threads,
            failure,
            cancel,
            mailbox,
            gauges,
            runtime: runtime.clone(),
            noting,
            keeping,
            followers,
        })
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
        let Engine { guards, threads, failure, cancel, mailbox, runtime, noting, keeping, followers, .. } =
            self;
        let (stop, patience) = (Arc::clone(&failure.stop), cancel.clone());
        let (done, finished) = mpsc::channel::<()>();
        let watchdog = std::thread::Builder::new().name("grace".into()).spawn(move || {
            let mut stopped_at = None;
            while finished.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                if stop.load(Ordering::Relaxed) {
                    let since = *stopped_at.get_or_insert_with(Instant::now);
                    if since.elapsed() > grace {
                        patience.cancel();
                    }
                }
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
        for (stop, kept) in keeping {
            stop.cancel();
            panicked |= wait(&runtime, kept).is_err();
        }
        panicked |= !wait(&runtime, followers.end());
        if let Some((noted, notes)) = noting {
            drop(noted);
            panicked |= wait(&runtime, notes).is_err();
        }
        drop(done);
        panicked |= watchdog.join().is_err();
        match failure.take() {
            Some(error) => Err(error),
            None if panicked => anyhow::bail!("a worker ended early; its message stands above"),
            None => Ok(()),
        }
    }
}

/// What the parts of an engine are started with.
struct Starting<'a> {
    runtime: &'a tokio::runtime::Handle,
    failure: Failure,
    cancel: CancellationToken,
    mailbox: Mailbox,
    store_health: Health,
    watermark_us: Arc<AtomicI64>,
    meters: Meters,
    hooks: Hooks,
    threads: Vec<JoinHandle<()>>,
    followers: Followers,
}

impl<'a> Starting<'a> {
    fn new(runtime: &'a tokio::runtime::Handle, job: &Job) -> Self {
        Starting {
            runtime,
            failure: Failure::default(),
            cancel: CancellationToken::new(),
            mailbox: Mailbox::default(),
            store_health: Health::new(),
            watermark_us: Arc::default(),
            meters: Meters::new(job.metrics_services),
            hooks: job.alerts.as_ref().map(Hooks::new).unwrap_or_default(),
            threads: Vec::new(),
            followers: Followers::default(),
        }
    }

    /// Starts what commits, and retention. Returns what the store holds, and where each log sink stands.
    fn keep_state(
        &mut self,
        job: &Job,
        pace: &Pace,
        observer: Observer,
    ) -> anyhow::Result<(Snapshot, Stands)> {
        let (mut store, mut found) = (None, Default::default());
        if let Some(storage) = &job.storage {
            let (opened, snapshot, sinks) = open(storage, self.runtime, &self.store_health, &self.cancel)?;
            self.meters.episodes.restore(&snapshot.episodes);
            if job.alerts.is_some() {
                wait(self.runtime, alerts::begin(&storage.store, self.cancel.clone()))?;
            }
            (store, found) = (Some(opened), (snapshot, sinks));
            self.runtime.spawn(retention::keep(storage.store.clone(), Arc::clone(&pace.clock_us)));
            self.followers = Followers::start(self.runtime, &storage.event_sinks)?;
        }
        let observer = advertising(&job.sources, following(&self.meters, &self.hooks, observer));
        let observer = self.followers.waking(observer);
        let fail = sink_failure(&self.failure, "committing");
        let committing = committer::start(self.mailbox.clone(), self.runtime.clone(), store, observer, fail)?;
        self.threads.push(committing);
        Ok(found)
    }

    /// Starts what goes on beside the pipeline: the days of the export, and telling people.
    fn keep_beside(&self, storage: &Storage, alerts: Option<&AlertsConfig>) -> Vec<Keeping> {
        let telling = alerts.map(|to| keep_telling(self.runtime, storage, to, &self.hooks));
        keep_days(self.runtime, storage, &self.cancel).into_iter().chain(telling).collect()
    }

    fn gauges(&self, pace: &Pace, lanes: Vec<lanes::Watched>) -> Gauges {
        Gauges {
            outcomes: Arc::default(),
            pace: pace.clone(),
            watermark_us: Arc::clone(&self.watermark_us),
            pending_commit_bytes: Arc::clone(&self.mailbox.bytes),
            store: self.store_health.clone(),
            lanes,
            meters: self.meters.clone(),
            hooks: self.hooks.clone(),
            followers: self.followers.health.clone(),
        }
    }

    /// Starts a lane for each log sink and worker.
    fn open_lanes(
        &mut self,
        storage: &Storage,
        sources: &Sources,
        parser: &Arc<Parser>,
        max_in_flight_bytes: usize,
        shares: &mut [Share],
    ) -> anyhow::Result<Vec<lanes::Watched>> {
        let opening = Opening {
            runtime: self.runtime,
            store: &storage.store,
            sinks: &storage.log_sinks,
            sources,
            parser,
            max_in_flight_bytes,
            stop: &self.failure.stop,
            cancel: &self.cancel,
            watermark_us: &self.watermark_us,
        };
        opening.open(shares, &mut self.threads, lane_failure(&self.failure))
    }
}

/// Where each log sink stands.
type Stands = Vec<(&'static str, Positions)>;

/// The state store, what it holds, and where each log sink stands.
type Opened = (Box<dyn StateStore>, Snapshot, Stands);

fn open(
    storage: &Storage,
    runtime: &tokio::runtime::Handle,
    health: &Health,
    cancel: &CancellationToken,
) -> anyhow::Result<Opened> {
    let mut store = smartlog_sinks::state_store(&storage.store, health.clone(), cancel.clone())?;
    let snapshot = wait(runtime, store.open())?;
    let stored = wait(runtime, smartlog_sinks::positions(&storage.store))?;
    // Each sink says itself where it stands, and holds on to it, once it is written to.
    let of = |entry: &LogSinkEntry| {
        let of_sink = stored.iter().filter(|position| position.sink == entry.name);
        let known = of_sink.filter_map(|p| Some((p.partition.clone(), p.next_offset?)));
        (entry.name, known.collect())
    };
    Ok((store, snapshot, storage.log_sinks.iter().map(of).collect()))
}

/// Begins a new pipeline with `warm_up`, and the clock where it stood.
fn begin(snapshot: &mut Snapshot, warm_up: Option<Snapshot>, pace: &Pace) {
    if let (None, Some(warm_up)) = (&snapshot.clock, warm_up) {
        *snapshot = warm_up;
    }
    if let Some(clock) = &snapshot.clock {
        pace.clock_us.store(clock.clock_us, Ordering::Relaxed);
    }
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

/// Counts what becomes of episodes, and has it told, besides `observer`.
fn following(meters: &Meters, hooks: &Hooks, mut observer: Observer) -> Observer {
    let (episodes, hooks) = (meters.episodes.clone(), hooks.clone());
    Box::new(move |commit| {
        episodes.observe(commit);
        if !commit.episodes.is_empty() {
            hooks.wake();
        }
        observer(commit);
    })
}

/// Stores where a log sink begins; there is nothing to store without a store.
fn keep_start(runtime: &tokio::runtime::Handle, storage: Option<&Storage>) -> coordinator::KeepStart {
    let (runtime, store) = (runtime.clone(), storage.map(|storage| storage.store.clone()));
    Box::new(move |sink, starts| {
        let Some(store) = &store else { return Ok(()) };
        Ok(wait(&runtime, smartlog_sinks::set_start(store, sink, starts))?)
    })
}

fn lane_failure(failure: &Failure) -> impl Fn(&'static str, anyhow::Error) + Clone + Send + 'static {
    let failure = failure.clone();
    move |sink, error| failure.raise(error.context(format!("keeping the logs in {sink}")))
}

fn sink_failure(failure: &Failure, doing: &'static str) -> impl Fn(SinkError) + Send + 'static {
    let failure = failure.clone();
    move |error| failure.raise(anyhow::Error::new(error).context(doing))
}

fn pace(job: &Job, stop: Arc<AtomicBool>) -> Pace {
    Pace {
        tick: job.tick,
        waiting_bytes: Arc::default(),
        max_waiting_bytes: job.max_waiting_bytes,
        stop,
        clock_us: Arc::default(),
        board: Arc::default(),
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

/// What timely's workers talk to each other by, and what must live as long as they do.
type Allocators = (Vec<AllocatorBuilder>, Box<dyn std::any::Any + Send>);

fn allocators(workers: usize, cluster: Option<Cluster>) -> anyhow::Result<Allocators> {
    let Some(cluster) = cluster else {
        let built = timely::CommunicationConfig::Process(workers).try_build();
        return built.map_err(|error| anyhow::anyhow!("{error}"));
    };
    let (hooks, sockets) = (communication::Hooks::default(), set::connect(&cluster)?);
    let within = ProcessBuilder::new_typed_vector(workers, hooks.refill.clone(), hooks.spill.clone());
    let (builders, guard) =
        initialize_networking_from_sockets(within, sockets, cluster.process, workers, hooks)
            .context("starting the connections of the set")?;
    Ok((builders.into_iter().map(AllocatorBuilder::Tcp).collect(), Box::new(guard)))
}

fn spawn_workers(
    workers: usize,
    cluster: Option<Cluster>,
    blueprint: Blueprint,
    shares: Vec<Share>,
) -> anyhow::Result<WorkerGuards<()>> {
    let (builders, guard) = allocators(workers, cluster)?;
    let shares: Vec<Mutex<Option<Share>>> = shares.into_iter().map(|share| Mutex::new(Some(share))).collect();
    timely::execute::execute_from(builders, guard, WorkerConfig::default(), move |worker| {
        let share = &shares[worker.index() % workers];
        let share = share.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
        let _guard = PanicGuard(Arc::clone(&blueprint.fail));
        pipeline::build(worker, &blueprint, share);
        while worker.step_or_park(None) {}
    })
    .map_err(|error| anyhow::anyhow!("{error}"))
    .context("starting the workers")
}
