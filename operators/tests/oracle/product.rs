//! The real operators, wired as the program wires them, fed by a script instead of Kafka; and a store that holds what
//! closed epochs left behind.

use super::script::{Input, Step};
use super::settings::Settings;
use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use smartlog_operators::admit::admit;
use smartlog_operators::breakdown::{self, Breakdown, KEPT, breakdown};
use smartlog_operators::clock::{Plan, StoredTime, clock};
use smartlog_operators::detect::{self, detect};
use smartlog_operators::feature_rows::{FeatureRow, feature_rows};
use smartlog_operators::fold::{Context, Folded, Outcomes, fold};
use smartlog_operators::hourly::hourly;
use smartlog_operators::novelty::Novelty;
use smartlog_operators::parse::{FieldMapping, Limits, Parser};
use smartlog_operators::patterns::{Learned, Mining, patterns};
use smartlog_operators::record::{
    self, Change, Epoch, Keyed, Partial, Partition, Record, Records, Report, Tick, WHOLE_STREAM,
};
use smartlog_operators::settings;
use smartlog_operators::sums::{Diff, Sums, sums};
use smartlog_operators::window::{Windows, kept_seconds, window};
use smartlog_operators::window_rows::{WindowRow, window_rows};
use smartlog_schema::anomaly::{Episode, EpisodeChange, EpisodeKey, Status};
use smartlog_schema::commit::ClockState;
use smartlog_schema::pattern::{KnownShape, PatternChanges, PatternCount, PatternShape};
use smartlog_schema::position::TopicPartition;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::generic::operator::empty;
use timely::dataflow::operators::vec::{Broadcast, Map};
use timely::dataflow::operators::{Capability, Concat, ConnectLoop, Feedback, Inspect, ToStream};
use timely::dataflow::{Scope, StreamVec};
use timely::scheduling::Activator;

/// All that a closed epoch left behind.
#[derive(Debug, Default, Clone)]
pub struct Closed {
    pub epoch: Epoch,
    pub changes: Vec<Change>,
    pub reports: Vec<Report>,
    pub clock: ClockState,
    pub ended: bool,
    pub rows: Vec<WindowRow>,
    pub features: Vec<FeatureRow>,
    /// As training takes them.
    pub trained_on: Vec<FeatureRow>,
    pub rolling: Vec<(CompactString, Sums)>,
}

impl Closed {
    pub fn clock_second(&self) -> i64 {
        self.clock.clock_us.div_euclid(1_000_000)
    }

    pub fn final_through(&self) -> i64 {
        self.clock.watermark_us.div_euclid(1_000_000)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Out {
    Change(Change),
    Row(WindowRow),
    Features(FeatureRow),
    TrainedOn(FeatureRow),
    /// With its epoch: a batch of several travels under the first of them.
    Rolling(CompactString, Epoch, Diff),
}

struct Slice {
    input: Arc<Input>,
    /// Slot, partition, offset.
    records: Vec<(u32, usize, usize)>,
}

impl Records for Slice {
    fn len(&self) -> usize {
        self.records.len()
    }

    fn get(&self, index: usize) -> Record<'_> {
        let (slot, partition, offset) = self.records[index];
        let payload = Some(self.input.partitions[partition][offset].payload.as_slice());
        Record { slot, offset: offset as i64, record_time_us: None, payload }
    }
}

/// What is to be run.
#[derive(Clone)]
pub struct Run {
    pub input: Arc<Input>,
    pub steps: Arc<Vec<Step>>,
    pub store: Arc<Store>,
    pub settings: Settings,
    pub workers: usize,
    /// How many epochs the source may be ahead of the clock.
    pub lead: u64,
    pub max_services: usize,
}

impl Run {
    /// Runs it to its end; every epoch in order.
    pub fn go(self) -> Vec<Closed> {
        let closed = Arc::new(Mutex::new(Vec::new()));
        let results = Arc::clone(&closed);
        let guards = timely::execute(timely::Config::process(self.workers), move |worker| {
            build(worker, &self, &results);
            while worker.step_or_park(None) {}
        })
        .expect("the workers start");
        for result in guards.join() {
            result.expect("no worker panics");
        }
        std::mem::take(&mut *closed.lock().expect("no worker panicked"))
    }
}

fn partition(index: usize) -> TopicPartition {
    TopicPartition::new("logs", index as i32)
}

fn build(worker: &mut timely::worker::Worker, run: &Run, results: &Arc<Mutex<Vec<Closed>>>) {
    let Settings { time, detection, services, hop } = run.settings.clone();
    let max_lateness = time.max_lateness;
    let clock_us = Rc::new(Cell::new(0));
    let ticked = Rc::new(Cell::new(0));
    let limits = Limits { max_future_skew_us: i64::MAX / 4, ..Limits::default() };
    let context = Context {
        parser: Arc::new(Parser::new(FieldMapping::default(), limits).with_shapes(true)),
        time: time.clone(),
        retention_us: None,
        wants: None,
        clock_us: Rc::clone(&clock_us),
        live: Rc::new(RefCell::new(Vec::new())),
        wall_us: run.input.first_wall_us,
        outcomes: Arc::new(Outcomes::default()),
    };
    let first = worker.index() == 0;
    worker.dataflow::<Epoch, _, _>(|scope| {
        let seeds = if first { run.store.seeds() } else { Vec::new() };
        let seeds = seeds.to_stream(scope);
        let partitions = (0..run.input.partitions.len()).map(partition).collect();
        let plan = Plan { partitions, clock: run.store.clock.clone(), stored: run.store.time(&time) };
        let plans = if first { vec![plan] } else { Vec::new() }.to_stream(scope);

        let wake = Rc::new(RefCell::new(None));
        let input = source(scope, run, Rc::clone(&ticked), Rc::clone(&wake));
        let Folded { partials, reports, gathered, .. } = fold(input, context);
        let reports = reports.broadcast();
        let ticks = clock(reports.clone(), plans.broadcast(), time.clone());
        let ticks = ticks.inspect(move |tick| {
            clock_us.set(tick.clock.clock_us);
            ticked.set(ticked.get() + 1);
            wake.borrow().iter().for_each(|source| source.activate());
        });
        let keyed = partials.map(Keyed::Partial).concat(seeds);
        let retire_after = detection.retire_after + 3600;
        let (admitted, slots) = admit(keyed, ticks.clone(), run.max_services, retire_after);
        let hours = hourly(admitted.clone());
        let Windows { seconds, rolling, changes, seeds, flow } =
            window(admitted, ticks.clone(), max_lateness, Arc::default());
        let rows = window_rows(seconds.clone(), ticks.clone(), hop, max_lateness);
        let served = feature_rows(seconds.clone(), ticks.clone(), 0);
        let trained_on = feature_rows(seconds.clone(), ticks.clone(), max_lateness);
        let sums_of_window = rolling.clone().as_collection(|service, ()| service.clone()).inner;
        let settings = detect::Settings { time, detection, services };
        let detected =
            detect(seconds, rolling, ticks.clone(), seeds.clone(), flow.broadcast(), settings.clone());
        let mining =
            Mining::new(Default::default(), if first { run.store.known_shapes() } else { Vec::new() });
        let Learned { changes: learned, names, known } = patterns(gathered.clone(), mining, Arc::default());
        let (names, orders) = (names.broadcast(), empty(scope));
        let inputs = |rows, changes| breakdown::Inputs {
            gathered: gathered.clone(),
            names: names.clone(),
            known: known.clone(),
            seeds: seeds.clone(),
            ticks: ticks.clone(),
            orders: orders.clone(),
            rows,
            changes,
        };
        let counted = |inputs, lag| {
            let novelty = Novelty::new(settings.clone(), Default::default(), Arc::default());
            let settings =
                breakdown::Settings { counts_patterns: true, lag, ..breakdown::Settings::default() };
            breakdown(inputs, settings, novelty, breakdown::Fills::default())
        };
        let trained_on = counted(inputs(trained_on, empty(scope)), max_lateness).rows.map(Out::TrainedOn);
        // As in the program: what is told may depend on the rows of its own epoch.
        let (from_below, changes_of_rows) = scope.feedback(0);
        let breakdown::Outputs { rows: served, changes: told } = counted(inputs(served, changes_of_rows), 0);
        detected.concat(served.clone().flat_map(|_| None)).connect_loop(from_below);
        let features = served.map(Out::Features);
        let changes = changes.concat(slots).concat(hours).concat(learned).concat(told).map(Out::Change);
        let rows = rows.map(Out::Row);
        let sums_of_window = sums_of_window.map(|(service, at, diff)| Out::Rolling(service, at, diff));
        collect(
            changes.concat(rows).concat(features).concat(trained_on).concat(sums_of_window),
            reports,
            ticks,
            Arc::clone(results),
        );
    });
}

fn source<'scope>(
    scope: Scope<'scope, Epoch>,
    run: &Run,
    ticked: Rc<Cell<u64>>,
    wake: Rc<RefCell<Option<Activator>>>,
) -> StreamVec<'scope, Epoch, record::Input> {
    let (index, peers) = (scope.index(), scope.peers());
    let mut builder = OperatorBuilder::new("source".to_owned(), scope);
    let (output, stream) = builder.new_output();
    let mut output = OutputBuilder::from(output);
    *wake.borrow_mut() = Some(scope.activator_for(builder.operator_info().address));
    let run = run.clone();
    let mine: Vec<usize> = (0..run.input.partitions.len()).filter(|p| p % peers == index).collect();
    builder.build_reschedule(move |mut capabilities| {
        let mut capability: Option<Capability<Epoch>> = capabilities.pop();
        let mut at = 0;
        move |_| {
            let Some(cap) = capability.as_mut() else { return false };
            while at < run.steps.len() && at as u64 <= ticked.get() + run.lead {
                let mut output = output.activate();
                let mut session = output.session(cap);
                let before = at.checked_sub(1).map_or(&run.store.positions, |last| &run.steps[last].next);
                if at == 0 && !mine.is_empty() {
                    session.give(record::Input::Partitions(run.partitions(&mine, before, &run.steps[0])));
                }
                let step = &run.steps[at];
                for records in run.records(&mine, before, &step.next) {
                    session.give(record::Input::Records(Rc::new(records)));
                }
                if !mine.is_empty() {
                    let partitions = run.partitions(&mine, &step.next, step);
                    session.give(record::Input::Close { partitions, wall_us: step.wall_us });
                }
                at += 1;
                drop(session);
                cap.downgrade(&(at as u64));
            }
            if at == run.steps.len() {
                capability = None;
                return false;
            }
            // The next tick wakes it.
            true
        }
    });
    stream
}

impl Run {
    fn partitions(&self, mine: &[usize], next: &[usize], step: &Step) -> Vec<Partition> {
        let state = |&index: &usize| Partition {
            source: partition(index),
            next_offset: next[index] as i64,
            at_end: step.at_end[index],
            ended: step.ended[index],
            attached: 0,
            time_us: self.store.clock.partitions.get(&partition(index)).copied(),
        };
        mine.iter().map(state).collect()
    }

    /// The records of an epoch, in two batches where there are many.
    fn records(&self, mine: &[usize], from: &[usize], to: &[usize]) -> Vec<Slice> {
        let of = |(slot, &index): (usize, &usize)| {
            let offsets: Range<usize> = from[index]..to[index];
            offsets.map(move |offset| (slot as u32, index, offset))
        };
        let mut records: Vec<_> = mine.iter().enumerate().flat_map(of).collect();
        // Slots take turns, each in the order of its offsets.
        records.sort_by_key(|(slot, _, offset)| (offset / 3, *slot, *offset));
        let half = records.len() / 2;
        let rest = records.split_off(half);
        let slice = |records| Slice { input: Arc::clone(&self.input), records };
        [records, rest].into_iter().filter(|records| !records.is_empty()).map(slice).collect()
    }
}

fn collect<'scope>(
    out: StreamVec<'scope, Epoch, Out>,
    reports: StreamVec<'scope, Epoch, Report>,
    ticks: StreamVec<'scope, Epoch, Tick>,
    results: Arc<Mutex<Vec<Closed>>>,
) {
    let first = out.scope().index() == 0;
    let mut builder = OperatorBuilder::new("collect".to_owned(), out.scope());
    let mut out = builder.new_input(out, Exchange::new(|_: &Out| 0));
    let mut reports = builder.new_input(reports, Pipeline);
    let mut ticks = builder.new_input(ticks, Pipeline);
    builder.build(move |_| {
        let mut open: BTreeMap<Epoch, Closed> = BTreeMap::new();
        move |frontiers| {
            out.for_each(|cap, data| {
                let Some(&epoch) = cap.least() else { return };
                for item in data.drain(..) {
                    let at = if let Out::Rolling(_, at, _) = &item { *at } else { epoch };
                    let closed = open.entry(at).or_default();
                    match item {
                        Out::Change(change) => closed.changes.push(change),
                        Out::Row(row) => closed.rows.push(row),
                        Out::Features(row) => closed.features.push(row),
                        Out::TrainedOn(row) => closed.trained_on.push(row),
                        Out::Rolling(service, _, diff) => closed.rolling.push((service, sums(diff))),
                    }
                }
            });
            reports.for_each(|cap, data| {
                let Some(epoch) = cap.least().filter(|_| first) else { return };
                open.entry(*epoch).or_default().reports.append(data);
            });
            ticks.for_each(|cap, data| {
                let (Some(epoch), Some(tick)) = (cap.least().filter(|_| first), data.pop()) else { return };
                let closed = open.entry(*epoch).or_default();
                closed.clock = (*tick.clock).clone();
                closed.ended = tick.ended;
            });
            while let Some(entry) = open.first_entry() {
                if frontiers.iter().any(|frontier| frontier.less_equal(entry.key())) {
                    break;
                }
                let (epoch, closed) = entry.remove_entry();
                results.lock().expect("no worker panicked").push(Closed { epoch, ..closed });
            }
        }
    });
}

/// What a store holds, kept as the stores keep it.
#[derive(Debug, Clone, Default)]
pub struct Store {
    pub positions: Vec<usize>,
    pub clock: ClockState,
    seconds: BTreeMap<(CompactString, i64), Sums>,
    detectors: BTreeMap<CompactString, Vec<u8>>,
    minutes: BTreeMap<(CompactString, i64), Vec<u8>>,
    /// By shape: its pattern, the pattern's text, an example.
    pub shapes: BTreeMap<i64, (i64, String, String)>,
    /// By shape and service: logs, errors, first and last time.
    pub patterns: BTreeMap<(i64, CompactString), (i64, i64, i64, i64)>,
    pub episodes: BTreeMap<EpisodeKey, Episode>,
    pub hours: BTreeMap<(CompactString, i64), (i64, i64)>,
    pub log: Vec<EpisodeChange>,
    /// By service: minutes known, minutes needed.
    pub warmth: BTreeMap<CompactString, (i64, i64)>,
    max_lateness: i64,
    settled_after: i64,
}

impl Store {
    pub fn new(partitions: usize, settings: &Settings) -> Self {
        let Settings { time, detection, services, .. } = settings.clone();
        let max_lateness = time.max_lateness;
        let settled_after = detect::Settings { time, detection, services }.settled_after();
        Store { positions: vec![0; partitions], max_lateness, settled_after, ..Store::default() }
    }

    /// One transaction.
    pub fn commit(&mut self, closed: &Closed) {
        let forget_before = closed.final_through() - kept_seconds(self.max_lateness);
        for report in &closed.reports {
            let position = &mut self.positions[report.source.partition as usize];
            *position = (*position).max(report.next_offset as usize);
        }
        if closed.clock.wall_us != 0 {
            self.clock = closed.clock.clone();
        }
        for change in closed.changes.clone() {
            match change {
                Change::Second(Partial { service, second, sums }) => {
                    *self.seconds.entry((service, second)).or_default() += sums;
                }
                Change::Hour { service, hour, logs, errors } => {
                    let count = self.hours.entry((service, hour)).or_default();
                    *count = (count.0 + logs, count.1 + errors);
                }
                Change::Detector { service, state: Some(state) } => {
                    self.detectors.insert(service, state);
                }
                Change::Detector { service, state: None } => {
                    self.detectors.remove(&service);
                }
                Change::Patterns(changes) => self.learn(*changes),
                Change::Minute { service, minute, state } => {
                    self.minutes.insert((service, minute), state);
                }
                Change::Episode(change) => {
                    self.episodes.insert(change.episode.key.clone(), change.episode.clone());
                    self.log.push(*change);
                }
                Change::Warmth(warmth) => {
                    self.warmth.insert(warmth.service.clone(), (warmth.minutes, warmth.needed));
                }
                Change::Evidence(_) => {}
                Change::Score(_) | Change::Model(_) | Change::Feedback(_) => {
                    unreachable!("no model is in force here, and nobody says anything")
                }
            }
        }
        self.seconds.retain(|(_, second), _| *second >= forget_before);
        self.minutes.retain(|(_, minute), _| *minute >= closed.final_through() - KEPT);
    }

    fn learn(&mut self, changes: PatternChanges) {
        for (shape, into) in changes.forgotten {
            self.shapes.remove(&shape);
            let of_shape: Vec<_> = self.patterns.extract_if(.., |key, _| key.0 == shape).collect();
            of_shape.into_iter().for_each(|((_, service), counts)| self.count((into, service), counts));
        }
        for PatternShape { shape, template_id, template, example } in changes.shapes {
            let known = self.shapes.remove(&shape).map(|(.., example)| example);
            let example = example.or(known).expect("a new shape has an example");
            self.shapes.insert(shape, (template_id, template, example));
        }
        for PatternCount { shape, service, logs, errors, first_us, last_us } in changes.counts {
            self.count((shape, service), (logs, errors, first_us, last_us));
        }
    }

    fn count(&mut self, key: (i64, CompactString), counts: (i64, i64, i64, i64)) {
        let known = self.patterns.entry(key).or_insert((0, 0, i64::MAX, i64::MIN));
        *known = (known.0 + counts.0, known.1 + counts.1, known.2.min(counts.2), known.3.max(counts.3));
    }

    fn known_shapes(&self) -> Vec<KnownShape> {
        let known = |(&shape, (template_id, template, example)): (&i64, &(i64, String, String))| {
            let rows = || self.patterns.iter().filter(|((of, _), _)| *of == shape);
            KnownShape {
                shape,
                template_id: *template_id,
                template: template.clone(),
                example: example.clone(),
                last_us: rows().map(|(_, counts)| counts.3).max().unwrap_or(0),
                services: rows().map(|((_, service), counts)| (service.clone(), counts.2)).collect(),
            }
        };
        self.shapes.iter().map(known).collect()
    }

    /// The stored counts by host and shape.
    pub fn breakdown(&self) -> Breakdown {
        let mut breakdown = Breakdown::new(breakdown::Limits::default());
        for ((service, minute), state) in &self.minutes {
            breakdown.restore(service, *minute, state).expect("what was stored can be read");
        }
        breakdown
    }

    /// What the stored seconds say of the time.
    fn time(&self, settings: &settings::Time) -> StoredTime {
        let whole = self.seconds.iter().filter(|((service, _), _)| *service == WHOLE_STREAM);
        let seconds: Vec<_> = whole.map(|((_, second), sums)| (*second, sums.logs)).collect();
        StoredTime::of(&seconds, &self.clock, settings)
    }

    /// What a start brings back, in the program's order.
    fn seeds(&self) -> Vec<Keyed> {
        let settled_before = self.clock.clock_us / 1_000_000 - self.settled_after;
        let matters = |episode: &&Episode| {
            matches!(episode.status, Status::Provisional | Status::Open)
                || episode.ended_at.unwrap_or(episode.last_seen) >= settled_before
        };
        let detectors = self.detectors.iter();
        let detectors = detectors
            .map(|(service, state)| Keyed::SeedDetector { service: service.clone(), state: state.clone() });
        let episodes = self.episodes.values().filter(matters);
        let episodes = episodes.map(|episode| Keyed::SeedEpisode(Box::new(episode.clone())));
        let seconds = self.seconds.iter().map(|((service, second), sums)| {
            Keyed::SeedSecond(Partial { service: service.clone(), second: *second, sums: *sums })
        });
        let minutes = self.minutes.iter().map(|((service, minute), state)| Keyed::SeedMinute {
            service: service.clone(),
            minute: *minute,
            state: state.clone(),
        });
        detectors.chain(episodes).chain(seconds).chain(minutes).collect()
    }
}
