//! The lane's thread: what the pipeline sends, and what the lane reads by itself, goes to the sink in one order.
//!
//! ```text
//!   detached ── asked: the pipeline sends it from `at` on ──▶ joining ── read up to `at` ──▶ attached
//!      ▲                                                        (what is sent waits)            │
//!      └───────────────────────── no room: not sent any more from `at` on ──────────────────────┘
//! ```

use super::follower::{Follower, LEAST_BYTES, Wanted};
use super::lane::{Lane, Parcel, bytes};
use super::{Front, LaneState, NEAR};
use crate::committer::wait;
use crate::sources::kafka::Settings;
use anyhow::Context as _;
use smartlog_operators::parse::Parser;
use smartlog_schema::log::LogBatch;
use smartlog_schema::position::TopicPartition;
use smartlog_sinks::{LogSink, StoreConfig};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A transaction is written once it holds this many logs …
const ROWS_PER_WRITE: usize = 20_000;
/// … or its first log waited this long.
const LINGER: Duration = Duration::from_millis(100);
/// How often a lane without logs tells its sink how far the watermark is.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Between two looks for records while a lane that reads by itself finds none.
const LOOK: Duration = Duration::from_millis(20);
/// A consumer of its own is given up when it was not needed for this long.
const IDLE: Duration = Duration::from_secs(10);

/// What all lanes of a worker share.
#[derive(Clone)]
pub struct Context {
    pub runtime: tokio::runtime::Handle,
    /// Where the positions of all sinks are.
    pub store: StoreConfig,
    pub kafka: Arc<Settings>,
    pub parser: Arc<Parser>,
    pub front: Arc<Front>,
    /// Set when reading is to end where it is.
    pub stop: Arc<AtomicBool>,
    /// Of the dataflow; 0 while unknown. For the end alone: while it runs, only what was sent counts.
    pub watermark_us: Arc<AtomicI64>,
}

/// Starts the thread behind one worker's lane; `number`: the sink's place among all. It ends when the [`Lane`] is
/// dropped and everything is written: all that the pipeline read, or, once told to stop, all that it sent.
pub fn start(
    context: Context,
    sink: Box<dyn LogSink>,
    number: usize,
    state: Arc<LaneState>,
    fail: impl Fn(anyhow::Error) + Send + 'static,
) -> std::io::Result<(Lane, JoinHandle<()>)> {
    let (sender, parcels) = channel();
    let lane = Lane::new(sender, Arc::clone(&state), number);
    let name = state.name();
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        if let Err(error) = Writer::new(context, sink, state).run(&parcels) {
            fail(error);
        }
    })?;
    Ok((lane, thread))
}

enum Mode {
    Attached,
    /// `asked`: to be attached.
    Detached {
        asked: bool,
    },
    /// What is sent from `at` on waits until everything before is read.
    Joining {
        at: i64,
        waiting: VecDeque<Parcel>,
    },
}

struct Partition {
    /// Everything below was handed to the sink, or is about to be.
    next_offset: i64,
    mode: Mode,
    /// Up to here the sink has all while the partition is not attached.
    watermark_us: i64,
}

struct Writer {
    context: Context,
    state: Arc<LaneState>,
    sink: Box<dyn LogSink>,
    follower: Option<Follower>,
    /// When the follower was last needed.
    needed: Instant,
    partitions: BTreeMap<TopicPartition, Partition>,
    /// Not claimed yet.
    opened: Vec<(TopicPartition, i64)>,
    ready: Vec<LogBatch>,
    rows: usize,
    /// Of what is ready, the bytes that count as waiting.
    sent_bytes: usize,
    /// Whether the last look found records.
    found: bool,
    /// Everything below was sent, of partitions that are attached.
    watermark_us: i64,
    written: Instant,
}

impl Writer {
    fn new(context: Context, sink: Box<dyn LogSink>, state: Arc<LaneState>) -> Self {
        Writer {
            context,
            state,
            sink,
            follower: None,
            needed: Instant::now(),
            partitions: BTreeMap::new(),
            opened: Vec::new(),
            ready: Vec::new(),
            rows: 0,
            sent_bytes: 0,
            found: false,
            watermark_us: i64::MIN,
            written: Instant::now(),
        }
    }

    fn run(&mut self, parcels: &Receiver<Parcel>) -> anyhow::Result<()> {
        let mut is_open = true;
        loop {
            if is_open {
                is_open = self.take(parcels)?;
            }
            let stopped = self.context.stop.load(Ordering::Relaxed);
            if !stopped {
                self.follow(is_open)?;
            }
            self.write()?;
            self.settle(is_open)?;
            if !is_open && self.ready.is_empty() && (stopped || !self.is_behind()) {
                self.write_last()?;
                return Ok(wait(&self.context.runtime, self.sink.finish())?);
            }
        }
    }

    /// Takes what was sent, and waits for it when there is nothing else to do. Whether more may come.
    fn take(&mut self, parcels: &Receiver<Parcel>) -> anyhow::Result<bool> {
        let mut first = None;
        let mut patience = match (self.is_apart(), self.found) {
            (true, true) => Duration::ZERO,
            (true, false) => LOOK,
            (false, _) => HEARTBEAT,
        };
        while self.rows < ROWS_PER_WRITE {
            match parcels.recv_timeout(patience) {
                Ok(parcel) => self.apply(parcel)?,
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => {
                    self.claim()?;
                    return Ok(false);
                }
            }
            patience = match self.is_apart() || self.ready.is_empty() {
                true => Duration::ZERO,
                false => LINGER.saturating_sub(first.get_or_insert_with(Instant::now).elapsed()),
            };
        }
        self.claim()?;
        Ok(true)
    }

    fn apply(&mut self, parcel: Parcel) -> anyhow::Result<()> {
        let source = match &parcel {
            Parcel::Opened { source, at } => {
                self.opened.push((source.clone(), *at));
                return Ok(());
            }
            Parcel::Watermark(watermark_us) => {
                self.watermark_us = self.watermark_us.max(*watermark_us);
                self.state.told.store(true, Ordering::Release);
                return Ok(());
            }
            Parcel::Attached { source, .. } | Parcel::Detached { source, .. } => source.clone(),
            Parcel::Logs(batch) => batch.source.clone(),
        };
        self.claim()?;
        let sink = self.state.sink;
        let partition = self.partitions.get_mut(&source);
        let partition =
            partition.with_context(|| format!("{sink}: logs of {source}, which was not opened"))?;
        match (&mut partition.mode, parcel) {
            (Mode::Joining { waiting, .. }, parcel) => waiting.push_back(parcel),
            (Mode::Detached { .. }, Parcel::Attached { at, .. }) if partition.next_offset >= at => {
                partition.mode = Mode::Attached;
            }
            (Mode::Detached { .. }, Parcel::Attached { at, .. }) => {
                partition.mode = Mode::Joining { at, waiting: VecDeque::new() };
            }
            (Mode::Attached, Parcel::Logs(batch)) => {
                let (next, first) = (partition.next_offset, batch.first_offset);
                anyhow::ensure!(first <= next, "{sink}: {source} goes on at offset {first}, {next} was due");
                partition.next_offset = next.max(batch.next_offset);
                self.rows += batch.len();
                self.sent_bytes += bytes(&batch);
                self.ready.push(batch);
            }
            (Mode::Attached, Parcel::Detached { at, .. }) => {
                let next = partition.next_offset;
                anyhow::ensure!(
                    at <= next,
                    "{sink}: {source} was sent up to offset {next}, and not from {at} on"
                );
                partition.mode = Mode::Detached { asked: false };
                partition.watermark_us = self.watermark_us;
            }
            (_, parcel) => anyhow::bail!("{sink}: {source} was sent {parcel:?} out of turn"),
        }
        Ok(())
    }

    /// Makes the partitions that were opened this sink's own, and learns where it stands in them.
    fn claim(&mut self) -> anyhow::Result<()> {
        if self.opened.is_empty() {
            return Ok(());
        }
        let opened = std::mem::take(&mut self.opened);
        let sources: Vec<TopicPartition> = opened.iter().map(|(source, _)| source.clone()).collect();
        let stored = wait(&self.context.runtime, self.sink.resume(&sources))?;
        for (source, at) in opened {
            let next_offset = stored.get(&source).copied().unwrap_or(at);
            if next_offset < at {
                let cuts = smartlog_sinks::retention_cuts(&self.context.store, &source);
                self.context.front.remember(&source, wait(&self.context.runtime, cuts)?);
                let behind = at - next_offset;
                tracing::info!(
                    "{}: {source} goes on at offset {next_offset}, {behind} records behind",
                    self.state.sink
                );
            }
            let mode = Mode::Detached { asked: false };
            self.partitions.insert(source, Partition { next_offset, mode, watermark_us: i64::MIN });
        }
        Ok(())
    }

    /// Reads partitions that are not attached.
    fn follow(&mut self, is_open: bool) -> anyhow::Result<()> {
        let wanted: Vec<Wanted> = self.wanted().collect();
        self.found = false;
        if wanted.is_empty() {
            if self.follower.is_some() && !self.is_apart() && self.needed.elapsed() > IDLE {
                self.follower = None;
            }
            return Ok(());
        }
        self.needed = Instant::now();
        let follower = match &mut self.follower {
            Some(follower) => follower,
            none => {
                let Context { kafka, parser, front, .. } = &self.context;
                none.insert(Follower::new(Arc::clone(kafka), Arc::clone(parser), Arc::clone(front))?)
            }
        };
        let most = (self.state.limit / 2).max(LEAST_BYTES);
        let batches = follower.read(&wanted, most, &self.state.lost)?;
        self.found = !batches.is_empty();
        for batch in batches {
            if let Some(partition) = self.partitions.get_mut(&batch.source) {
                partition.next_offset = batch.next_offset;
            }
            self.state.bytes.fetch_add(bytes(&batch), Ordering::Relaxed);
            self.sent_bytes += bytes(&batch);
            self.rows += batch.len();
            self.ready.push(batch);
        }
        if !self.found && !is_open {
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// What this lane is to read by itself.
    fn wanted(&self) -> impl Iterator<Item = Wanted> + '_ {
        self.partitions.iter().filter_map(|(source, partition)| {
            let to = match &partition.mode {
                Mode::Attached => return None,
                Mode::Detached { .. } => self.context.front.next_offset(source),
                Mode::Joining { at, .. } => *at,
            };
            let from = partition.next_offset;
            (from < to).then(|| Wanted { source: source.clone(), from, to })
        })
    }

    fn is_behind(&self) -> bool {
        self.wanted().next().is_some()
    }

    fn is_apart(&self) -> bool {
        self.partitions.values().any(|partition| !matches!(partition.mode, Mode::Attached))
    }

    fn write(&mut self) -> anyhow::Result<()> {
        let idle = self.ready.is_empty();
        if idle && (self.partitions.is_empty() || self.written.elapsed() < HEARTBEAT) {
            return Ok(());
        }
        let apart = self.partitions.values().filter(|partition| !matches!(partition.mode, Mode::Attached));
        let watermark_us =
            apart.map(|partition| partition.watermark_us).fold(self.watermark_us, std::cmp::min);
        wait(&self.context.runtime, self.sink.write(&self.ready, watermark_us))?;
        self.ready.clear();
        self.rows = 0;
        self.state.bytes.fetch_sub(std::mem::take(&mut self.sent_bytes), Ordering::Relaxed);
        self.written = Instant::now();
        Ok(())
    }

    /// At the end: a sink that has everything says so.
    fn write_last(&mut self) -> anyhow::Result<()> {
        if !self.partitions.is_empty() && !self.is_behind() {
            let watermark_us = match self.context.watermark_us.load(Ordering::Relaxed) {
                // Others may still be sending what it covers.
                _ if self.context.stop.load(Ordering::Relaxed) => self.watermark_us,
                0 => self.watermark_us,
                watermark_us => watermark_us,
            };
            wait(&self.context.runtime, self.sink.write(&[], watermark_us))?;
        }
        Ok(())
    }

    /// After a write: attaches what was read as far as agreed, asks for what is near, tells how it stands.
    fn settle(&mut self, is_open: bool) -> anyhow::Result<()> {
        let has_read = |partition: &Partition| matches!(partition.mode, Mode::Joining { at, .. } if partition.next_offset >= at);
        let joined: Vec<TopicPartition> = self
            .partitions
            .iter()
            .filter(|(_, partition)| has_read(partition))
            .map(|(source, _)| source.clone())
            .collect();
        for source in joined {
            let Some(partition) = self.partitions.get_mut(&source) else { continue };
            if let Mode::Joining { waiting, .. } = std::mem::replace(&mut partition.mode, Mode::Attached) {
                waiting.into_iter().try_for_each(|parcel| self.apply(parcel))?;
            }
        }
        let roomy = self.state.bytes.load(Ordering::Relaxed) <= self.state.limit / 2;
        for (source, partition) in &mut self.partitions {
            let is_near = self.context.front.next_offset(source) - partition.next_offset <= NEAR;
            if let Mode::Detached { asked } = &mut partition.mode
                && is_open
                && roomy
                && is_near
                && !std::mem::replace(asked, true)
            {
                self.state.request(source.clone());
            }
        }
        self.state.handed(self.partitions.iter().map(|(source, partition)| (source, partition.next_offset)));
        Ok(())
    }
}
