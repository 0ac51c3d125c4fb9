//! The dataflow, top to bottom: a log's way from its source to the stores.
//!
//! ```text
//!  coordinator ─ assignments ─▶ source ─▶ fold ─┬─▶ logs ─▶ lanes ────────────▶ log sinks (same worker)
//!       │                                       ├─▶ reports ─▶ clock ─▶ ticks ──────────────┐
//!       │                                       ├─▶ gathered ─┬─▶ patterns ────────────────┐│
//!       │                                       │             └─▶ breakdown ◀──────────────┤│
//!       │                                       └─▶ partials ─▶ admit ─┬─▶ hourly ─────────┤│
//!       ├─ seeds ──────────────────────────────────────────▶           └─▶ window ─▶ detect ┴┴─▶ committer
//!       │                                                                      │      └▶ score ┘
//!       │                                            breakdown ◀─ feature rows ┤          ▲
//!       │                                                └─ rows with patterns ───────────┼─▶ training
//!       └─ models ─────────────────────────────────────────────────────────────│──────────┘
//!                                                                              └─▶ window rows ─▶ CSV
//! ```
//!
//! The breakdown lies before the score, which may look at its counts, and after it, for it explains what is raised: a
//! loop within an epoch, which it passes twice.
//!
//! The timestamp is the epoch, a tick of wall time; event time is data. All that an epoch changed is committed
//! together, and only once every worker has closed it. What detection raises passes `expected` on its way there, which
//! knows what people say: the coordinator brings that in as well.

use crate::committer::{Mailbox, committer};
use crate::coordinator::{Inbox, Orders, orders};
use crate::lanes::{OfWorker, logs_to};
use crate::metrics::Meters;
use crate::models::{Scoring, loader, tapped};
use crate::rows::{WindowsFile, rows_to};
use crate::sources::{Assignment, Pace, Sources, source, wall_us};
use crate::telemetry;
use prometheus_client::metrics::histogram::Histogram;
use smartlog_operators::admit::admit;
use smartlog_operators::breakdown::{self, Gathered, breakdown};
use smartlog_operators::clock::clock;
use smartlog_operators::detect::{self, detect};
use smartlog_operators::expected::{Memory, expected};
use smartlog_operators::feature_rows::{FeatureRow, feature_rows};
use smartlog_operators::fold::{Context, Folded, Outcomes, fold};
use smartlog_operators::hourly::hourly;
use smartlog_operators::novelty::{self, Novelty};
use smartlog_operators::outliers::abandoned;
use smartlog_operators::parse::Parser;
use smartlog_operators::patterns::{self, Learned, Mining, patterns};
use smartlog_operators::record::{Change, Epoch, Keyed, Tick};
use smartlog_operators::score::{self, ModelOrder, score};
use smartlog_operators::stretch::Wants;
use smartlog_operators::top_services::top_services;
use smartlog_operators::window::{Windows, window};
use smartlog_operators::window_rows::window_rows;
use smartlog_schema::feedback::Said;
use smartlog_schema::pattern::KnownShape;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;
use timely::dataflow::StreamVec;
use timely::dataflow::operators::generic::operator::empty;
use timely::dataflow::operators::vec::{Broadcast, Map};
use timely::dataflow::operators::{Concat, ConnectLoop, Feedback, Inspect};
use timely::worker::Worker;

/// A retired service gives its slot up this long after the last late log could bring its detection back, seconds.
const SLOT_AFTERLIFE: i64 = 3_600;
/// Episodes that are over are remembered this long besides, for what is said of them: longer than a commit takes.
const KEPT: Duration = Duration::from_secs(600);

/// What every worker of the process needs.
#[derive(Clone)]
pub struct Blueprint {
    pub sources: Sources,
    pub parser: Arc<Parser>,
    pub settings: detect::Settings,
    pub retention_us: Option<i64>,
    pub max_services: usize,
    pub patterns: patterns::Settings,
    /// Seconds between window rows; `None`: no rows.
    pub hop: Option<i64>,
    /// `None`: nothing is scored.
    pub scoring: Option<Scoring>,
    pub pace: Pace,
    pub watermark_us: Arc<AtomicI64>,
    pub outcomes: Arc<Outcomes>,
    pub meters: Meters,
    pub mailbox: Mailbox,
    pub fail: Arc<dyn Fn(anyhow::Error) + Send + Sync>,
}

impl Blueprint {
    fn memory(&self) -> Memory {
        memory(&self.settings, self.pace.tick)
    }

    fn counting(&self) -> breakdown::Settings {
        let scoring = self.scoring.as_ref();
        breakdown::Settings {
            limits: breakdown::Limits::default(),
            counts_patterns: scoring.is_some_and(|scoring| scoring.counts_patterns),
            lag: scoring.map_or(0, |scoring| scoring.lag),
        }
    }
}

/// What one worker alone gets.
#[derive(Default)]
pub struct Share {
    pub orders: Option<Inbox>,
    /// One lane per log sink.
    pub logs: OfWorker,
    pub models: Option<Receiver<ModelOrder>>,
    /// Shapes that are stored.
    pub shapes: Vec<KnownShape>,
    pub feedback: Option<Receiver<Said>>,
    pub windows_file: Option<WindowsFile>,
}

/// Builds the dataflow on one worker.
pub fn build(worker: &mut Worker, blueprint: &Blueprint, share: Share) {
    let Blueprint { settings, pace, .. } = blueprint.clone();
    let (mailbox, outcomes) = (blueprint.mailbox.clone(), Arc::clone(&blueprint.outcomes));
    let max_lateness = settings.time.max_lateness;
    let fail = |doing: &'static str| {
        let fail = Arc::clone(&blueprint.fail);
        move |error: anyhow::Error| fail(error.context(doing))
    };
    let clock_us = Rc::new(Cell::new(pace.clock_us.load(Ordering::Relaxed)));
    let live = Rc::new(RefCell::new(Vec::new()));
    let wants = (!share.logs.lanes.is_empty()).then(Wants::default);
    let context = Context {
        parser: Arc::clone(&blueprint.parser),
        time: settings.time.clone(),
        retention_us: blueprint.retention_us,
        wants: wants.clone(),
        clock_us: Rc::clone(&clock_us),
        live: Rc::clone(&live),
        wall_us: wall_us(),
        outcomes,
    };

    worker.dataflow::<Epoch, _, _>(|scope| {
        let Orders { seeds, plans, assignments, models, said } =
            orders(scope, share.orders, share.models, share.feedback, pace.clone());

        let reader = |waker| blueprint.sources.reader(waker);
        let assignments = know_clock(assignments.broadcast(), Rc::clone(&clock_us));
        let input = source(assignments, reader, pace.clone(), live, fail("reading"));
        let Folded { partials, reports, gathered, logs } = fold(input, context);
        let reports = reports.broadcast();
        let ticks = clock(reports.clone(), plans.broadcast(), settings.time.clone());
        let ticks =
            remember_clock(ticks, clock_us, Arc::clone(&pace.clock_us), Arc::clone(&blueprint.watermark_us));
        if let Some(wants) = wants {
            logs_to(logs, ticks.clone(), share.logs, wants, Arc::clone(&blueprint.watermark_us));
        }

        let keyed = partials.map(Keyed::Partial).concat(seeds);
        let retire_after = settings.detection.retire_after + max_lateness + SLOT_AFTERLIFE;
        let (admitted, slots) = admit(keyed, ticks.clone(), blueprint.max_services, retire_after);
        let hours = hourly(admitted.clone());
        let waiting_bytes = Arc::clone(&pace.waiting_bytes);
        let Windows { seconds, rolling, changes, seeds, flow } =
            window(admitted, ticks.clone(), max_lateness, waiting_bytes);
        top_services(rolling.clone(), ticks.clone(), blueprint.meters.services.clone());
        if let Some(hop) = blueprint.hop {
            let rows = window_rows(seconds.clone(), ticks.clone(), hop, max_lateness);
            rows_to(rows, share.windows_file, fail("writing windows"));
        }
        let rows = match &blueprint.scoring {
            None => empty(scope),
            Some(scoring) => feature_rows(seconds.clone(), ticks.clone(), scoring.lag),
        };
        let orders = models.broadcast();
        // What is detected comes from below, in the same epoch.
        let (from_below, detected) = scope.feedback(0);
        let inputs = MadeOf {
            gathered,
            seeds: seeds.clone(),
            ticks: ticks.clone(),
            orders: orders.clone(),
            rows,
            detected,
        };
        let (breakdown::Outputs { rows, changes: explained }, learned) =
            made_of(inputs, blueprint, share.shapes);

        let detection = settings.detection.clone();
        let (flow, seeded) = (flow.broadcast(), seeds.clone());
        let detected = detect(seconds.clone(), rolling.clone(), ticks.clone(), seeded, flow, settings);
        let detected = match &blueprint.scoring {
            None => detected.concat(seeds.clone().flat_map(abandoned)),
            Some(scoring) => {
                tapped(rows.clone(), Arc::clone(&scoring.tap));
                let (changes, ticks, seeds) = (detected, ticks.clone(), seeds.clone());
                let inputs = score::Inputs { rows, changes, orders, ticks, seeds, seconds, rolling };
                score(inputs, loader(blueprint.meters.scoring.clone()), detection)
            }
        };
        detected.connect_loop(from_below);

        let told = expected(explained, said.broadcast(), seeds, ticks.clone(), blueprint.memory());
        let changes = changes.concat(slots).concat(hours).concat(learned).concat(told);
        let closed = timed(blueprint.meters.tick.clone(), pace);
        committer(changes, reports, ticks, max_lateness, mailbox, closed);
    });
}

/// Takes note of how long each epoch took, from its end until every worker was done with it.
fn timed(took: Histogram, pace: Pace) -> impl Fn(Epoch) {
    // Seeds have an epoch of their own, long ago.
    let began = pace.epoch_at(wall_us());
    move |epoch| {
        if epoch >= began {
            let since = pace.since_end_of(epoch, wall_us());
            took.observe(since.as_secs_f64());
            telemetry::tick(since);
        }
    }
}

/// What [`made_of`] looks at.
struct MadeOf<'scope> {
    gathered: StreamVec<'scope, Epoch, Gathered>,
    seeds: StreamVec<'scope, Epoch, Keyed>,
    ticks: StreamVec<'scope, Epoch, Tick>,
    orders: StreamVec<'scope, Epoch, ModelOrder>,
    rows: StreamVec<'scope, Epoch, FeatureRow>,
    detected: StreamVec<'scope, Epoch, Change>,
}

/// What logs are made of: learns the patterns, which come second, and counts hosts and patterns, for the windows that
/// are scored and beside what was detected.
fn made_of<'scope>(
    inputs: MadeOf<'scope>,
    blueprint: &Blueprint,
    shapes: Vec<KnownShape>,
) -> (breakdown::Outputs<'scope>, StreamVec<'scope, Epoch, Change>) {
    let MadeOf { gathered, seeds, ticks, orders, rows, detected: changes } = inputs;
    let mining = Mining::new(blueprint.patterns, shapes);
    let Learned { changes: learned, names, known } =
        patterns(gathered.clone(), mining, Arc::clone(&blueprint.meters.patterns));
    let names = names.broadcast();
    let inputs = breakdown::Inputs { gathered, names, known, seeds, ticks, orders, rows, changes };
    let known = Arc::clone(&blueprint.meters.known);
    let novelty = Novelty::new(blueprint.settings.clone(), novelty::Limits::default(), known);
    (breakdown(inputs, blueprint.counting(), novelty, blueprint.meters.breakdown.clone()), learned)
}

/// How long what people say of episodes is remembered in the dataflow.
pub fn memory(settings: &detect::Settings, tick: Duration) -> Memory {
    let epochs = KEPT.as_nanos() / tick.as_nanos().max(1);
    Memory {
        settled_after: settings.settled_after(),
        max_episode: settings.detection.max_episode,
        epochs: Epoch::try_from(epochs).unwrap_or(Epoch::MAX),
    }
}

/// What is too old is judged by the stored clock from the first log on, in every process of a set.
fn know_clock<'scope>(
    assignments: StreamVec<'scope, Epoch, Assignment>,
    of_worker: Rc<Cell<i64>>,
) -> StreamVec<'scope, Epoch, Assignment> {
    assignments.inspect(move |assignment| of_worker.set(of_worker.get().max(assignment.clock_us)))
}

/// Lets the fold and the source know the clock; they lie before it in the dataflow.
fn remember_clock<'scope>(
    ticks: StreamVec<'scope, Epoch, Tick>,
    of_worker: Rc<Cell<i64>>,
    of_process: Arc<AtomicI64>,
    watermark_us: Arc<AtomicI64>,
) -> StreamVec<'scope, Epoch, Tick> {
    ticks.inspect(move |tick| {
        of_worker.set(tick.clock.clock_us);
        of_process.fetch_max(tick.clock.clock_us, Ordering::Relaxed);
        watermark_us.fetch_max(tick.clock.watermark_us, Ordering::Relaxed);
    })
}
