//! What the models say of the windows, and beside which episodes it is written.
//!
//! ```text
//!   feature rows ─┐                         ┌─▶ Change::Score    the highest of each minute
//!   model orders ─┼─ score (by closed epoch)┼─▶ Change::Model    in force from which window on
//!   changes ──────┤   ├ rolling             └─▶ Change::Episode  with score and model_version,
//!   seeds ────────┘   └ seconds                                  or raised from scores alone (see `outliers`)
//! ```
//!
//! Every final window is scored once, every 10 s of event time; a window that is still open is scored when a rule
//! stirs, and the last window of an episode that was over before it was seen. A model comes into force between two ends of windows, the same on every worker, whatever the ticks are.

use crate::closed_epochs::ClosedEpochs;
use crate::evidence::{self, ScoredBy};
use crate::explain::words;
use crate::feature_rows::{FeatureRow, HOP_SECONDS};
use crate::features::{self, Columns, WIDTH, Window};
use crate::outliers::{Outliers, Seen};
use crate::pattern_window::PatternSums;
use crate::record::{Change, Epoch, Keyed, Tick, WHOLE_STREAM};
use crate::seconds::Seconds;
use crate::settings::Detection;
use crate::sums::{Sums, sums};
use crate::window::{RollingTrace, SecondsTrace};
use compact_str::CompactString;
use differential_dataflow::operators::arrange::Arranged;
use differential_dataflow::trace::TraceReader;
use differential_dataflow::trace::cursor::{Cursor, cursor_list};
use serde::{Deserialize, Serialize};
use smartlog_schema::anomaly::{ChangeKind, Episode, EpisodeChange, EpisodeKey};
use smartlog_schema::model::{ModelSwap, Role, WindowScore};
use smartlog_schema::window::{MINUTE, WINDOW_SECONDS, floor_to, provisional_end};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::frontier::AntichainRef;

/// What a model says of a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// 0 to 1, the higher, the stranger.
    pub score: f64,
    /// Beyond it the window counts as an outlier.
    pub threshold: f64,
    /// Beyond it for some time, it is worth an alarm.
    pub alert_threshold: f64,
}

/// A fitted model, as the dataflow asks it.
pub trait Model: Send + Sync {
    /// What it looks at.
    fn columns(&self) -> &Columns;

    /// Of a window of `service` (empty: the whole stream) with the `values` of all features; `None`: the model does not
    /// know the service.
    fn score(&self, service: &str, values: &[f64; WIDTH]) -> Option<Scored>;

    /// Each column's share of that score. Much dearer than the score.
    fn shares(&self, service: &str, values: &[f64; WIDTH]) -> Option<Vec<f64>>;

    /// Seconds that scores must stay beyond the alert threshold to be worth an alarm.
    fn hold(&self) -> i64;
}

/// A model that is to come into force, on its way to every worker.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelOrder {
    pub role: Role,
    pub version: String,
    pub digest: String,
    /// As it is stored; empty: none of this role any more.
    pub bytes: Vec<u8>,
    /// It looks at the patterns of windows.
    pub is_of_patterns: bool,
    /// It was in force already when the program stopped: that is stored, and no news.
    pub resumed: bool,
}

impl ModelOrder {
    /// No model of this role any more.
    pub fn none(role: Role) -> Self {
        let (version, digest, bytes) = Default::default();
        ModelOrder { role, version, digest, bytes, is_of_patterns: false, resumed: false }
    }
}

/// Reads a model's stored bytes. They were read once before they were ordered, so a failure is told and the old model
/// stays.
pub type Loader = Arc<dyn Fn(&ModelOrder) -> Option<Arc<dyn Model>> + Send + Sync>;

struct InForce {
    model: Arc<dyn Model>,
    by: ScoredBy,
}

/// What one epoch brings.
#[derive(Default)]
struct Pending {
    orders: Vec<ModelOrder>,
    rows: Vec<FeatureRow>,
    changes: Vec<Change>,
    seeds: Vec<Keyed>,
    tick: Option<Tick>,
}

/// The minute of a service that is being scored.
pub(crate) struct Best {
    minute: i64,
    /// Its highest score.
    score: f64,
    /// The first and the last window of the stretch beyond the alert threshold that it lies in.
    stretch: Option<(i64, i64)>,
    /// The window with which that stretch had lasted long enough.
    raised: Option<i64>,
    /// The minute is known to lie in an episode.
    told: bool,
    /// The patterns of the last window, and of those before it in its stretch that decide whether that has lasted.
    patterns: VecDeque<(i64, PatternSums)>,
}

impl Best {
    pub(crate) fn new(minute: i64) -> Self {
        Best { minute, score: -1.0, stretch: None, raised: None, told: false, patterns: VecDeque::new() }
    }

    /// Takes the score of the window that ends at `end`; whether that is news of its minute.
    pub(crate) fn take(&mut self, end: i64, scored: &Scored, hold: i64) -> bool {
        let minute = floor_to(end - 1, MINUTE);
        if self.minute != minute {
            (self.minute, self.score, self.told) = (minute, -1.0, false);
        }
        // A gap of windows without a log ends a stretch, too.
        let before = self.stretch.filter(|(_, last)| end - last < hold.max(MINUTE));
        self.stretch =
            (scored.score > scored.alert_threshold).then(|| (before.map_or(end, |(first, _)| first), end));
        self.raised = match self.stretch {
            Some((first, _)) if end - first >= hold => self.raised.filter(|at| *at >= first).or(Some(end)),
            _ => None,
        };
        let is_news = scored.score > self.score || (self.raised.is_some() && !self.told);
        self.score = self.score.max(scored.score);
        self.told |= self.raised.is_some();
        is_news
    }

    /// Windows that another model scored decide nothing any more.
    fn begin_stretch(&mut self) {
        (self.stretch, self.raised) = (None, None);
        self.patterns.clear();
    }

    /// Takes note of the patterns of the window that was taken last.
    fn note(&mut self, end: i64, patterns: PatternSums, hold: i64) {
        let first = self.stretch.map_or(end, |(first, _)| first);
        self.patterns.push_back((end, patterns));
        // The latest window from which on the stretch has lasted is the first that matters.
        let has_lasted = |(at, _): &(i64, PatternSums)| end - at >= hold;
        while self.patterns.front().is_some_and(|(at, _)| *at < first)
            || self.patterns.get(1).is_some_and(has_lasted)
        {
            self.patterns.pop_front();
        }
    }

    /// Whether scores were beyond the alert threshold for long enough.
    pub(crate) fn is_held(&self) -> bool {
        self.raised.is_some()
    }
}

/// What was written beside an episode: of the window that scored highest.
#[derive(Clone, Default)]
struct Stamp {
    score: Option<f64>,
    version: String,
    /// The features' names, values and shares of the score; empty: not known.
    features: Vec<(&'static str, f64, f64)>,
}

/// All that a worker knows of its models.
struct Scores {
    load: Loader,
    models: BTreeMap<Role, InForce>,
    best: BTreeMap<(CompactString, Role), Best>,
    /// What was written beside episodes that are not over.
    stamps: BTreeMap<EpisodeKey, Stamp>,
    /// What scores alone have raised.
    outliers: Outliers,
    settings: Detection,
    unique_services: i64,
    /// The last tick that knew the time.
    ticked: Option<Tick>,
    /// Windows that end at or before this were scored.
    scored_through: Option<i64>,
    /// Came into force before there was any window to score.
    untold: Vec<ModelSwap>,
}

impl Scores {
    fn new(load: Loader, settings: Detection) -> Self {
        Scores {
            load,
            models: BTreeMap::new(),
            best: BTreeMap::new(),
            stamps: BTreeMap::new(),
            outliers: Outliers::default(),
            settings,
            unique_services: 0,
            ticked: None,
            scored_through: None,
            untold: Vec::new(),
        }
    }

    /// What a closed epoch comes to.
    fn take(
        &mut self,
        pending: Pending,
        tells_swaps: bool,
        traces: &mut Traces,
        epoch: Epoch,
    ) -> Vec<Change> {
        let Pending { orders, mut rows, changes, seeds, tick } = pending;
        for seed in seeds {
            if let Keyed::SeedEpisode(episode) = seed {
                self.outliers.restore(*episode);
            }
        }
        if self.scored_through.is_none() {
            let resumed = tick.as_ref().and_then(|tick| tick.resumed_from);
            self.scored_through = resumed.map(|second| floor_to(second, HOP_SECONDS));
        }
        rows.sort_unstable();
        let swaps = self.take_orders(orders);
        let swaps = self.dated(swaps, &rows, tells_swaps);
        let mut given: Vec<Change> = swaps.into_iter().map(|swap| Change::Model(Box::new(swap))).collect();
        self.ticked = tick.filter(Tick::is_known).or(self.ticked.take());
        let clock_us = self.ticked.as_ref().map_or(0, |tick| tick.clock.clock_us);
        let mut raised = Vec::new();
        for row in &rows {
            self.score(row, clock_us, &mut raised, &mut given);
        }
        let end = self.ticked.as_ref().map_or(0, |tick| provisional_end(tick.clock_second()));
        for mut change in changes {
            if let Change::Episode(change) = &mut change {
                let (end, sums) = traces.window(&change.episode, end, epoch);
                let service = change.episode.key.service.as_ref().unwrap_or(&WHOLE_STREAM);
                let (unique_services, patterns) = (self.unique_services, self.patterns_of(service));
                self.stamp(&mut change.episode, &Window { end, sums, unique_services, patterns });
            }
            given.push(change);
        }
        self.conclude(&mut raised);
        given.extend(raised.into_iter().map(|change| Change::Episode(Box::new(change))));
        given
    }

    /// Every window that the clock made final was scored.
    fn conclude(&mut self, raised: &mut Vec<EpisodeChange>) {
        let Some(tick) = &self.ticked else { return };
        let through = floor_to(tick.final_through(), HOP_SECONDS);
        self.outliers.end(through, &self.settings, raised);
        if self.scored_through != Some(through) {
            self.forget_before(through - REMEMBERED);
        }
        self.scored_through = Some(self.scored_through.unwrap_or(through).max(through));
    }

    /// Those that came into force, and from which window on; 0: whichever is the first.
    fn take_orders(&mut self, orders: Vec<ModelOrder>) -> Vec<ModelSwap> {
        let effective = self.scored_through.map_or(0, |through| through + HOP_SECONDS);
        let mut swaps = Vec::new();
        for order in orders {
            if order.bytes.is_empty() {
                self.models.remove(&order.role);
            } else {
                let Some(model) = (self.load)(&order) else { continue };
                let by = ScoredBy { version: order.version.clone(), digest: order.digest.clone() };
                self.models.insert(order.role, InForce { model, by });
            }
            let of_role = self.best.iter_mut().filter(|((_, role), _)| *role == order.role);
            of_role.for_each(|(_, best)| best.begin_stretch());
            let ModelOrder { role, version, digest, resumed, .. } = order;
            if !resumed {
                swaps.push(ModelSwap { role, effective, version, digest });
            }
        }
        swaps
    }

    /// Those of `swaps` that this worker tells. What came before any window could be scored is told with the first one
    /// of the whole stream, by the worker that has that; what came later, by the one that `tells_swaps`.
    fn dated(&mut self, swaps: Vec<ModelSwap>, rows: &[FeatureRow], tells_swaps: bool) -> Vec<ModelSwap> {
        let (early, mut told): (Vec<_>, Vec<_>) = swaps.into_iter().partition(|swap| swap.effective == 0);
        self.untold.extend(early);
        told.retain(|_| tells_swaps);
        if let Some(first) = rows.iter().find(|row| row.service == WHOLE_STREAM) {
            told.extend(self.untold.drain(..).map(|swap| ModelSwap { effective: first.end, ..swap }));
        }
        told
    }

    /// What is news of the minute of `row`, by each model, is given; `raised`: what became of the episodes that scores have
    /// raised.
    fn score(
        &mut self,
        row: &FeatureRow,
        clock_us: i64,
        raised: &mut Vec<EpisodeChange>,
        given: &mut Vec<Change>,
    ) {
        self.unique_services = row.unique_services;
        let window = row.window();
        let (values, minute) = (features::values(&window), floor_to(row.end - 1, MINUTE));
        for (&role, in_force) in &self.models {
            let Some(scored) = in_force.model.score(&row.service, &values) else { continue };
            let best = self.best.entry((row.service.clone(), role)).or_insert_with(|| Best::new(minute));
            let (hold, columns) = (in_force.model.hold(), in_force.model.columns());
            let is_news = best.take(row.end, &scored, hold);
            if columns.of_patterns().is_some() {
                best.note(row.end, row.patterns, hold);
            }
            if role == Role::Champion {
                let (held, model_version) = (best.is_held(), in_force.by.version.as_str());
                let seen = Seen { window, scored, columns, held, model_version, clock_us };
                let before = raised.len();
                self.outliers.observe(&row.service, &seen, &self.settings, raised);
                let first = best.stretch.map_or(row.end, |(first, _)| first);
                let first = best.patterns.front().map_or(first, |(end, _)| *end);
                let opened = raised[before..].iter().filter(|change| change.kind == ChangeKind::Opened);
                let kept = opened.filter_map(|change| {
                    let patterns = best.patterns.iter().copied().collect();
                    let by = in_force.by.clone();
                    evidence::of_scores(&change.episode, first, patterns, by, &self.settings)
                });
                given.extend(kept.map(|evidence| Change::Evidence(Box::new(evidence))));
            }
            if !is_news {
                continue;
            }
            let (score, would_raise) = (best.score, best.raised);
            let Scored { threshold, alert_threshold, .. } = scored;
            let (service, model_version) = (row.service.clone(), in_force.by.version.clone());
            given.push(Change::Score(Box::new(WindowScore {
                minute,
                service,
                role,
                score,
                threshold,
                alert_threshold,
                model_version,
                would_raise,
            })));
        }
    }

    /// Writes what the model in force says of `window` beside `episode`: of the open window, or, of an episode that was over
    /// before it was seen, of the last beyond its threshold.
    fn stamp(&mut self, episode: &mut Episode, window: &Window) {
        let Some(champion) = self.models.get(&Role::Champion) else { return };
        let service = episode.key.service.as_deref().unwrap_or(WHOLE_STREAM.as_str());
        let known = self.stamps.remove(&episode.key);
        let (is_over, is_new) = (episode.status.is_closed(), known.is_none());
        let mut stamp = known.unwrap_or_else(|| Stamp {
            score: episode.score,
            version: episode.model_version.clone().unwrap_or_else(|| champion.by.version.clone()),
            features: Vec::new(),
        });
        if !is_over || is_new {
            let values = features::values(window);
            let now = champion.model.score(service, &values).map(|scored| scored.score);
            if now > stamp.score {
                stamp.score = now;
                let shares = champion.model.shares(service, &values).unwrap_or_default();
                let columns = champion.model.columns().of_values(&values);
                stamp.features =
                    columns.zip(shares).map(|((name, value), share)| (name, value, share)).collect();
            }
        }
        (episode.score, episode.model_version) = (stamp.score, Some(stamp.version.clone()));
        if !stamp.features.is_empty() {
            words::add_model_shares(episode, &stamp.features);
        }
        if !is_over {
            self.stamps.insert(episode.key.clone(), stamp);
        }
    }

    /// Of the last window of `service`, if the model in force looks at them.
    fn patterns_of(&self, service: &CompactString) -> PatternSums {
        let best = self.best.get(&(service.clone(), Role::Champion));
        best.and_then(|best| best.patterns.back())
            .map_or_else(PatternSums::default, |(_, patterns)| *patterns)
    }

    /// Names of services that came long ago are forgotten.
    fn forget_before(&mut self, second: i64) {
        self.best.retain(|_, best| best.minute >= second);
    }
}

/// How long a minute's best is remembered after its minute.
const REMEMBERED: i64 = 2 * MINUTE;

/// What is scored, and what says when and how.
pub struct Inputs<'scope> {
    pub rows: StreamVec<'scope, Epoch, FeatureRow>,
    pub changes: StreamVec<'scope, Epoch, Change>,
    pub orders: StreamVec<'scope, Epoch, ModelOrder>,
    pub ticks: StreamVec<'scope, Epoch, Tick>,
    /// What a restart brings back.
    pub seeds: StreamVec<'scope, Epoch, Keyed>,
    pub seconds: Arranged<'scope, SecondsTrace>,
    pub rolling: Arranged<'scope, RollingTrace>,
}

/// Scores the rows, writes what the champion says beside the episodes among the changes, and adds those that it raises.
pub fn score<'scope>(
    inputs: Inputs<'scope>,
    load: Loader,
    settings: Detection,
) -> StreamVec<'scope, Epoch, Change> {
    let Inputs { rows, changes, orders, ticks, seeds, seconds, rolling } = inputs;
    let mut builder = OperatorBuilder::new("score".to_owned(), rows.scope());
    let tells_swaps = rows.scope().index() == 0;
    let mut rows_in = builder.new_input(rows, Pipeline);
    let mut changes_in = builder.new_input(changes, Pipeline);
    let mut orders_in = builder.new_input(orders, Pipeline);
    let mut ticks_in = builder.new_input(ticks, Pipeline);
    let mut seeds_in = builder.new_input(seeds, Pipeline);
    let mut seconds_in = builder.new_input(seconds.stream, Pipeline);
    let mut rolling_in = builder.new_input(rolling.stream, Pipeline);
    let (out, scored) = builder.new_output();
    let mut out = OutputBuilder::from(out);
    let mut traces = Traces { seconds: seconds.trace, rolling: rolling.trace };
    builder.build(move |capabilities| {
        drop(capabilities);
        let mut scores = Scores::new(load, settings);
        let mut waiting = ClosedEpochs::<Pending>::new();
        move |frontiers| {
            rows_in.for_each(|cap, data| waiting.gather(cap.retain_least(0), |p| p.rows.append(data)));
            changes_in.for_each(|cap, data| waiting.gather(cap.retain_least(0), |p| p.changes.append(data)));
            orders_in.for_each(|cap, data| waiting.gather(cap.retain_least(0), |p| p.orders.append(data)));
            ticks_in.for_each(|cap, data| waiting.gather(cap.retain_least(0), |p| p.tick = data.pop()));
            seeds_in.for_each(|cap, data| waiting.gather(cap.retain_least(0), |p| p.seeds.append(data)));
            seconds_in.for_each(|_, _| {});
            rolling_in.for_each(|_, _| {});
            let is_closed = |epoch: &Epoch| !frontiers.iter().any(|frontier| frontier.less_equal(epoch));
            while let Some((cap, pending)) = waiting.next(is_closed) {
                let epoch = *cap.time();
                let given = scores.take(pending, tells_swaps, &mut traces, epoch);
                out.activate().session(&cap).give_iterator(given.into_iter());
                traces.compact(epoch + 1);
            }
        }
    });
    scored
}

/// The sums that windows are made of.
struct Traces {
    seconds: SecondsTrace,
    rolling: RollingTrace,
}

impl Traces {
    /// The window that `episode` is judged by, as of `epoch`: the open one, which ends at `end`, or its own last.
    fn window(&mut self, episode: &Episode, end: i64, epoch: Epoch) -> (i64, Sums) {
        let service = episode.key.service.as_ref().unwrap_or(&WHOLE_STREAM);
        if !episode.status.is_closed() {
            return (end, open_window(&mut self.rolling, service, epoch));
        }
        let end = episode.last_seen;
        let mut seconds = Seconds::as_of(&mut self.seconds, epoch);
        let seconds = seconds.of(service, end - WINDOW_SECONDS);
        let inside = seconds.iter().take_while(|(second, _)| *second < end);
        let total = inside.fold(Sums::default(), |sum, (_, sums)| sum + *sums);
        (end, total)
    }

    /// Lets the traces forget what no epoch from `epoch` on asks for.
    fn compact(&mut self, epoch: Epoch) {
        let frontier = [epoch];
        self.seconds.set_logical_compaction(AntichainRef::new(&frontier));
        self.seconds.set_physical_compaction(AntichainRef::new(&frontier));
        self.rolling.set_logical_compaction(AntichainRef::new(&frontier));
        self.rolling.set_physical_compaction(AntichainRef::new(&frontier));
    }
}

/// The sums of `service` over the window that is open at the clock, as of `epoch`.
fn open_window(trace: &mut RollingTrace, service: &CompactString, epoch: Epoch) -> Sums {
    let batches = trace.batches_through(AntichainRef::new(&[])).unwrap_or_default();
    let (mut cursor, batches) = cursor_list(batches);
    cursor.seek_key(&batches, service);
    let mut total = Sums::default();
    if cursor.get_key(&batches) == Some(service) {
        cursor.map_times(&batches, |time, diff| {
            if *time <= epoch {
                total += sums(*diff);
            }
        });
    }
    total
}
