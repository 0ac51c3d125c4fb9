//! Decides what is read from where: one per set, at worker 0 of process 0.
//!
//! ```text
//!   store ── Snapshot ─┐
//!                      ├─▶ coordinator ──▶ seeds, plan, assignments ──▶ every worker, through the dataflow
//!   Kafka ── partitions┘        └─ looks for new partitions every few seconds
//! ```

use crate::lanes::NEAR;
use crate::sources::kafka::{self, Settings, describe};
use crate::sources::kafka_client::{Client, client, refused};
use crate::sources::{Assignment, Pace, Sources, Waker, gap, waker, wall_us};
use anyhow::Context;
use rdkafka::consumer::Consumer;
use rdkafka::{Message, Offset, TopicPartitionList};
use smartlog_operators::clock::{Plan, StoredTime};
use smartlog_operators::record::{Epoch, Keyed, Partial, WHOLE_STREAM};
use smartlog_operators::score::ModelOrder;
use smartlog_operators::settings;
use smartlog_schema::commit::{ClockState, Fingerprint, Snapshot};
use smartlog_schema::feedback::Said;
use smartlog_schema::position::{Positions, TopicPartition};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, StreamVec};
use timely::scheduling::Activator;

/// Between two looks for new partitions.
const LOOK: Duration = Duration::from_secs(5);
/// Between two tries while Kafka or the topic is not there.
const RETRY: Duration = Duration::from_secs(1);
/// Longest wait for the one record that is compared with its fingerprint.
const FINGERPRINT_WAIT: Duration = Duration::from_secs(10);

/// Where partitions without a stored position begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    Earliest,
    Now,
    /// The first record at or after this, milliseconds since 1970.
    At(i64),
}

/// What the coordinator sends into the dataflow.
pub enum Order {
    Seed(Keyed),
    Plan(Plan),
    Assign(Assignment),
}

/// Makes start positions of a sink durable before anything of their partitions is read.
pub type KeepStart = Box<dyn Fn(&str, &Positions) -> anyhow::Result<()> + Send>;

/// What it decides by.
pub struct Brief {
    pub snapshot: Snapshot,
    pub time: settings::Time,
    /// The log sinks in their order, and where each stands; partitions missing there start with the rest.
    pub sinks: Vec<(&'static str, Positions)>,
    /// Makes durable where a log sink begins in partitions that it has never stored anything of.
    pub keep_start: KeepStart,
    pub begin: Begin,
    pub until_end: bool,
    pub stop: Arc<AtomicBool>,
}

/// Where the dataflow takes orders from.
pub struct Inbox {
    orders: Receiver<Order>,
    bell: Bell,
}

/// Sends orders, and wakes who takes them: they would wait for the end of a tick otherwise.
struct Outbox {
    orders: SyncSender<Order>,
    bell: Bell,
}

/// Silent until the dataflow is there, which takes what came before by itself.
type Bell = Arc<OnceLock<Waker>>;

impl Outbox {
    /// Whether somebody takes orders still: the dataflow may be gone, and then nobody is left to tell.
    fn send(&self, order: Order) -> bool {
        let sent = self.orders.send(order).is_ok();
        ring(&self.bell);
        sent
    }
}

fn ring(bell: &Bell) {
    if let Some(wake) = bell.get() {
        wake();
    }
}

/// Starts the coordinator; its orders arrive in the returned inbox, which closes when there will be no more.
pub fn start(
    sources: &Sources,
    brief: Brief,
    fail: impl Fn(anyhow::Error) + Send + 'static,
) -> anyhow::Result<Inbox> {
    // The dataflow takes orders as fast as they come; the bound only keeps a large snapshot from being held twice.
    let (orders, receiver) = sync_channel(4096);
    let bell = Bell::default();
    let inbox = Inbox { orders: receiver, bell: Arc::clone(&bell) };
    let outbox = Outbox { orders, bell: Arc::clone(&bell) };
    let sources = sources.clone();
    std::thread::Builder::new().name("coordinator".into()).spawn(move || {
        let stop = Arc::clone(&brief.stop);
        let result = match sources {
            Sources::Files(paths) => of_files(&paths, brief, outbox),
            Sources::Kafka(settings) => of_kafka(&settings, brief, outbox),
        };
        // That there will be no more is news as well.
        ring(&bell);
        match result {
            Err(error) if !stop.load(Ordering::Relaxed) => fail(error),
            _ => {}
        }
    })?;
    Ok(inbox)
}

fn seed(snapshot: &mut Snapshot, orders: &Outbox) -> bool {
    let seconds = std::mem::take(&mut snapshot.seconds).into_iter();
    let seconds = seconds.map(|(service, second, sums)| Keyed::SeedSecond(Partial { service, second, sums }));
    let detectors = std::mem::take(&mut snapshot.detectors).into_iter();
    let detectors = detectors.map(|(service, state)| Keyed::SeedDetector { service, state });
    let minutes = std::mem::take(&mut snapshot.minutes).into_iter();
    let minutes = minutes.map(|(service, minute, state)| Keyed::SeedMinute { service, minute, state });
    let episodes = std::mem::take(&mut snapshot.episodes).into_iter();
    let episodes = episodes.map(|episode| Keyed::SeedEpisode(Box::new(episode)));
    // Detectors first: an episode or a second alone makes a new one.
    detectors.chain(episodes).chain(seconds).chain(minutes).all(|keyed| orders.send(Order::Seed(keyed)))
}

/// Where time stood, by the stored clock and by the stored seconds.
fn stored_time(brief: &Brief) -> (ClockState, StoredTime) {
    let clock = brief.snapshot.clock.clone().unwrap_or_default();
    let whole = brief.snapshot.seconds.iter().filter(|(service, ..)| *service == WHOLE_STREAM);
    let mut seconds: Vec<(i64, i64)> = whole.map(|(_, second, sums)| (*second, sums.logs)).collect();
    seconds.sort_unstable();
    let stored = StoredTime::of(&seconds, &clock, &brief.time);
    (clock, stored)
}

fn of_files(paths: &[PathBuf], mut brief: Brief, orders: Outbox) -> anyhow::Result<()> {
    let name =
        |(index, path): (i32, &PathBuf)| TopicPartition::new(format!("file:{}", path.display()), index);
    let partitions: Vec<TopicPartition> = (0..).zip(paths).map(name).collect();
    let (clock, stored) = stored_time(&brief);
    seed(&mut brief.snapshot, &orders);
    orders.send(Order::Plan(Plan { partitions: partitions.clone(), clock, stored }));
    for source in partitions {
        let assignment = Assignment { source, start: 0, end: None, attached: 0, time_us: None, clock_us: 0 };
        orders.send(Order::Assign(assignment));
    }
    Ok(())
}

fn of_kafka(settings: &Settings, mut brief: Brief, orders: Outbox) -> anyhow::Result<()> {
    let client = client(settings)?;
    let (clock, stored) = stored_time(&brief);
    let mut known: BTreeMap<TopicPartition, ()> = BTreeMap::new();
    let mut first = true;
    seed(&mut brief.snapshot, &orders);
    while let Some(partitions) = wait_for_partitions(&client, settings, &brief.stop, first) {
        let mut fresh = Vec::new();
        for (source, low, high) in partitions {
            if known.insert(source.clone(), ()).is_none() {
                fresh.push(assignment(&client, &brief, &source, (low, high), first, settings)?);
            }
        }
        keep_starts(&brief, &fresh)?;
        if first || !fresh.is_empty() {
            let partitions = fresh.iter().map(|a| a.source.clone()).collect();
            if !first {
                tracing::info!("new partitions: {}", names(&fresh));
            }
            orders.send(Order::Plan(Plan { partitions, clock: clock.clone(), stored }));
            if !fresh.into_iter().all(|assignment| orders.send(Order::Assign(assignment))) {
                return Ok(());
            }
        }
        first = false;
        if brief.until_end {
            return Ok(());
        }
        pause(LOOK, &brief.stop);
    }
    Ok(())
}

/// A kill between the first commit of the aggregates and the first of a log sink must not make that begin where the
/// aggregates stand: where it begins is stored before either reads.
fn keep_starts(brief: &Brief, fresh: &[Assignment]) -> anyhow::Result<()> {
    for (sink, stored) in &brief.sinks {
        let unknown = fresh.iter().filter(|assignment| !stored.contains_key(&assignment.source));
        let starts: Positions = unknown.map(|a| (a.source.clone(), a.start)).collect();
        if !starts.is_empty() {
            (brief.keep_start)(sink, &starts).with_context(|| format!("storing where {sink} begins"))?;
        }
    }
    Ok(())
}

/// Which of the log sinks are near enough to be sent what is read from `start` on. Those far behind read by
/// themselves first.
fn attached(sinks: &[(&'static str, Positions)], source: &TopicPartition, start: i64) -> u64 {
    let is_near = |stored: &Positions| stored.get(source).is_none_or(|next| next + NEAR >= start);
    let bits = sinks.iter().enumerate().filter(|(_, (_, stored))| is_near(stored));
    bits.fold(0, |all, (number, _)| all | 1 << number)
}

fn names(assignments: &[Assignment]) -> String {
    assignments.iter().map(|a| a.source.to_string()).collect::<Vec<_>>().join(", ")
}

fn pause(time: Duration, stop: &AtomicBool) {
    let slice = Duration::from_millis(50);
    for _ in 0..time.as_millis() / slice.as_millis() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        std::thread::sleep(slice);
    }
}

/// All partitions of all topics; waits until every topic is there. `None` when told to stop.
fn wait_for_partitions(
    client: &Client,
    settings: &Settings,
    stop: &AtomicBool,
    first: bool,
) -> Option<Vec<(TopicPartition, i64, i64)>> {
    let (mut refusal, mut said) = (None, None);
    while !stop.load(Ordering::Relaxed) {
        let described: anyhow::Result<Vec<_>> =
            settings.topics.iter().map(|topic| describe(client, topic)).collect();
        let missing = match described {
            Ok(described) => match described.iter().position(Vec::is_empty) {
                None => return Some(described.into_iter().flatten().collect()),
                Some(index) => format!("topic `{}` is not there yet", settings.topics[index]),
            },
            Err(error) => {
                refusal = refused(client).or(refusal);
                match refusal {
                    Some(refusal) => format!("Kafka at {} {refusal}", settings.brokers),
                    None => format!("Kafka at {} does not answer ({error:#})", settings.brokers),
                }
            }
        };
        // Once, and again when it turns out that waiting alone will not do.
        if first && said.replace(refusal) != Some(refusal) {
            tracing::warn!("{missing}; waiting for it");
        }
        pause(RETRY, stop);
    }
    None
}

/// Where one partition is read, after looking whether it still is the one that was read before.
fn assignment(
    client: &Client,
    brief: &Brief,
    source: &TopicPartition,
    (low, high): (i64, i64),
    first: bool,
    settings: &Settings,
) -> anyhow::Result<Assignment> {
    let stored = brief.snapshot.positions.get(source).copied();
    let begin = match stored {
        Some(position) => position,
        // A partition that appears while running holds nothing old.
        None if !first => low,
        None => match brief.begin {
            Begin::Earliest => low,
            Begin::Now => high,
            Begin::At(ms) => offset_at(client, source, ms)?.unwrap_or(high),
        },
    };
    if begin > high {
        anyhow::bail!(gap::ends_before(source, high, begin));
    }
    if let Some(expected) = brief.snapshot.fingerprints.get(source) {
        check_fingerprint(client, source, begin - 1, low, *expected)?;
    }
    if stored.is_some() {
        let missing = gap::passed(source, begin, low);
        settings.counters.lost_to_retention.fetch_add(missing, Ordering::Relaxed);
    }
    let clock = brief.snapshot.clock.as_ref();
    let start = begin.max(low);
    Ok(Assignment {
        source: source.clone(),
        start,
        end: brief.until_end.then_some(high),
        attached: attached(&brief.sinks, source, start),
        time_us: clock.and_then(|clock| clock.partitions.get(source).copied()),
        clock_us: clock.map_or(0, |clock| clock.clock_us),
    })
}

/// The first record at or after a time, milliseconds since 1970; `None`: there is none yet.
pub fn offset_at(client: &Client, source: &TopicPartition, ms: i64) -> anyhow::Result<Option<i64>> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&source.topic, source.partition, Offset::Offset(ms))?;
    let found =
        client.offsets_for_times(list, Duration::from_secs(10)).context("looking the start time up")?;
    let offset = found.elements().first().map(|element| element.offset());
    Ok(match offset {
        Some(Offset::Offset(offset)) => Some(offset),
        _ => None,
    })
}

/// Compares the record before the position with what it looked like when it was read.
fn check_fingerprint(
    client: &Client,
    source: &TopicPartition,
    offset: i64,
    low: i64,
    expected: Fingerprint,
) -> anyhow::Result<()> {
    if offset < low {
        return Ok(());
    }
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&source.topic, source.partition, Offset::Offset(offset))?;
    client.assign(&list)?;
    let deadline = wall_us() + FINGERPRINT_WAIT.as_micros() as i64;
    let mut found = None;
    while found.is_none() && wall_us() < deadline {
        match client.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                found = Some((
                    message.offset(),
                    kafka::fingerprint(message.payload(), message.timestamp().to_millis()),
                ));
            }
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => break,
            Some(Err(error)) => tracing::debug!("{source}: {error}"),
            None => {}
        }
    }
    client.assign(&TopicPartitionList::new())?;
    match found {
        // Compaction or a marker may have removed the very record.
        Some((at, _)) if at != offset => Ok(()),
        Some((_, fingerprint)) if fingerprint != expected => {
            anyhow::bail!(gap::recreated(source, &format!("the record at offset {offset} is another one")))
        }
        _ => Ok(()),
    }
}

/// The streams of the coordinator's orders; empty on all workers but the first.
pub struct Orders<'scope> {
    pub seeds: StreamVec<'scope, Epoch, Keyed>,
    pub plans: StreamVec<'scope, Epoch, Plan>,
    pub assignments: StreamVec<'scope, Epoch, Assignment>,
    pub models: StreamVec<'scope, Epoch, ModelOrder>,
    pub said: StreamVec<'scope, Epoch, Said>,
}

/// Wakes the operator at the end of each epoch.
///
/// Every epoch waits for it: a timer of its own would hold each of them up by the same part of a tick. One is enough,
/// however often orders wake it meanwhile.
struct EndsOfEpochs {
    activator: Activator,
    next: Option<Instant>,
}

impl EndsOfEpochs {
    /// `rest`: until the epoch ends.
    fn wake_at_next(&mut self, rest: Duration) {
        let now = Instant::now();
        if self.next.is_none_or(|next| next <= now) {
            self.activator.activate_after(rest);
            self.next = Some(now + rest);
        }
    }
}

/// Brings orders into the dataflow. `inbox` and the receivers: on worker 0 only.
pub fn orders<'scope>(
    scope: Scope<'scope, Epoch>,
    inbox: Option<Inbox>,
    model_orders: Option<Receiver<ModelOrder>>,
    feedback: Option<Receiver<Said>>,
    pace: Pace,
) -> Orders<'scope> {
    let mut builder = OperatorBuilder::new("coordinator".to_owned(), scope);
    let (seeds_out, seeds) = builder.new_output();
    let (plans_out, plans) = builder.new_output();
    let (assignments_out, assignments) = builder.new_output();
    let (models_out, models) = builder.new_output();
    let (said_out, said) = builder.new_output();
    let mut seeds_out = OutputBuilder::from(seeds_out);
    let mut plans_out = OutputBuilder::from(plans_out);
    let mut assignments_out = OutputBuilder::from(assignments_out);
    let mut models_out = OutputBuilder::from(models_out);
    let mut said_out = OutputBuilder::from(said_out);
    let address = builder.operator_info().address;
    let mut ends = EndsOfEpochs { activator: scope.activator_for(Rc::clone(&address)), next: None };
    if let Some(inbox) = &inbox {
        inbox.bell.get_or_init(|| waker(scope, &address));
    }
    builder.build_reschedule(move |capabilities| {
        let mut capabilities: Vec<Capability<Epoch>> =
            if inbox.is_some() { capabilities } else { Vec::new() };
        move |_frontiers| {
            let (Some(inbox), false) = (&inbox, capabilities.is_empty()) else { return false };
            let mut over = pace.stop.load(Ordering::Relaxed);
            {
                let mut seeds_out = seeds_out.activate();
                let mut plans_out = plans_out.activate();
                let mut assignments_out = assignments_out.activate();
                let mut seeds = seeds_out.session(&capabilities[0]);
                let mut plans = plans_out.session(&capabilities[1]);
                let mut assignments = assignments_out.session(&capabilities[2]);
                if let Some(model_orders) = &model_orders {
                    models_out.activate().session(&capabilities[3]).give_iterator(model_orders.try_iter());
                }
                if let Some(feedback) = &feedback {
                    said_out.activate().session(&capabilities[4]).give_iterator(feedback.try_iter());
                }
                loop {
                    match inbox.orders.try_recv() {
                        Ok(Order::Seed(seed)) => seeds.give(seed),
                        Ok(Order::Plan(plan)) => plans.give(plan),
                        Ok(Order::Assign(assignment)) => assignments.give(assignment),
                        Err(TryRecvError::Empty) => break,
                        Err(TryRecvError::Disconnected) => {
                            over = true;
                            break;
                        }
                    }
                }
            }
            if over {
                capabilities.clear();
                return false;
            }
            let now_us = wall_us();
            let epoch = pace.epoch_at(now_us);
            for capability in &mut capabilities {
                if epoch > *capability.time() {
                    capability.downgrade(&epoch);
                }
            }
            ends.wake_at_next(pace.rest_of_epoch(now_us));
            true
        }
    });
    Orders { seeds, plans, assignments, models, said }
}
