//! The breakdown in the dataflow.
//!
//! ```text
//!   gathered, seeds, ticks, orders ─▶ count ─▶ rows with their patterns ─▶ (score) ─▶ changes
//!   rows ───────────────────────────▶                                                   │
//!   changes, names ◀────────────────────────────────────────────────────────────────────┘
//!        └─▶ tell ─▶ changes explained, what is new, what the store must remember
//! ```
//!
//! An epoch passes twice: what is scored may depend on its counts, and is explained by them. No later epoch is counted
//! before that, so that what is told depends on no other order.

use super::{Breakdown, Fills, Gathered, KEPT, Limits};
use crate::explain::Explainer;
use crate::feature_rows::FeatureRow;
use crate::novelty::{FirstSeen, Novelty};
use crate::pattern_window::{PatternSums, pattern_sums, span};
use crate::patterns::Named;
use crate::record::{Change, Epoch, Keyed, Tick};
use crate::score::ModelOrder;
use compact_str::CompactString;
use differential_dataflow::Hashable;
use smartlog_schema::model::Role;
use smartlog_schema::window::{MINUTE, WINDOW_SECONDS, floor_to};
use std::collections::{BTreeMap, BTreeSet};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::{Capability, InputCapability};
use timely::progress::Antichain;

/// The outputs, in order.
const ROWS: usize = 0;
const TOLD: usize = 1;
/// Inputs that counting waits for, which come before those that only telling does.
const COUNTED: usize = 6;

/// What one epoch brings.
#[derive(Default)]
struct Pending {
    seeds: Vec<Keyed>,
    gathered: Vec<Gathered>,
    known: Vec<FirstSeen>,
    orders: Vec<ModelOrder>,
    tick: Option<Tick>,
    rows: Vec<FeatureRow>,
    rows_cap: Option<Capability<Epoch>>,
    names: Vec<Named>,
    changes: Vec<Change>,
    told_cap: Option<Capability<Epoch>>,
    is_counted: bool,
}

/// What it learns from.
pub struct Inputs<'scope> {
    pub gathered: StreamVec<'scope, Epoch, Gathered>,
    /// Which pattern each shape belongs to; broadcast.
    pub names: StreamVec<'scope, Epoch, Named>,
    /// What is stored of when services logged shapes first.
    pub known: StreamVec<'scope, Epoch, FirstSeen>,
    /// What a restart brings back, on the worker of its service.
    pub seeds: StreamVec<'scope, Epoch, Keyed>,
    pub ticks: StreamVec<'scope, Epoch, Tick>,
    /// Models on their way to every worker: some want the patterns of windows.
    pub orders: StreamVec<'scope, Epoch, ModelOrder>,
    /// Final windows, on the worker of their service.
    pub rows: StreamVec<'scope, Epoch, FeatureRow>,
    /// What was detected; of an epoch, it may depend on the rows that this gives of it.
    pub changes: StreamVec<'scope, Epoch, Change>,
}

/// What it gives.
pub struct Outputs<'scope> {
    /// The windows, with their patterns where somebody wants them.
    pub rows: StreamVec<'scope, Epoch, FeatureRow>,
    /// The changes, explained, with what is new, and what the store must remember.
    pub changes: StreamVec<'scope, Epoch, Change>,
}

/// What it keeps, and for whom.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings {
    pub limits: Limits,
    /// Windows have their patterns counted whatever models there are.
    pub counts_patterns: bool,
    /// How long after they are final windows come, seconds.
    pub lag: i64,
}

/// Keeps the counts of the services that hash to this worker, tells what is new in them, and has every change of an
/// episode explained, with all counts of its epoch and before.
///
/// `fills`: where it shows how full it is.
pub fn breakdown<'scope>(
    inputs: Inputs<'scope>,
    settings: Settings,
    novelty: Novelty,
    fills: Fills,
) -> Outputs<'scope> {
    let Inputs { gathered, names, known, seeds, ticks, orders, rows, changes } = inputs;
    let mut builder = OperatorBuilder::new("breakdown".to_owned(), changes.scope());
    let worker = changes.scope().index();
    let (rows_out, with_patterns) = builder.new_output();
    let (told_out, told) = builder.new_output();
    let mut rows_out = OutputBuilder::from(rows_out);
    let mut told_out = OutputBuilder::from(told_out);
    // What is told of an epoch is none of what rows are made of: that is what lets it lie before and after the score.
    let to = |output: usize| [(output, Antichain::from_elem(0))];
    let by_service = Exchange::new(|gathered: &Gathered| gathered.service.hashed());
    let mut gathered_in = builder.new_input_connection(gathered, by_service, to(TOLD));
    let by_service = Exchange::new(|known: &FirstSeen| known.service.hashed());
    let mut known_in = builder.new_input_connection(known, by_service, to(TOLD));
    let mut seeds_in = builder.new_input_connection(seeds, Pipeline, to(TOLD));
    let mut ticks_in = builder.new_input_connection(ticks, Pipeline, to(TOLD));
    let mut orders_in = builder.new_input_connection(orders, Pipeline, to(TOLD));
    let mut rows_in = builder.new_input_connection(rows, Pipeline, to(ROWS));
    let mut names_in = builder.new_input_connection(names, Pipeline, to(TOLD));
    let mut changes_in = builder.new_input_connection(changes, Pipeline, to(TOLD));
    builder.build(move |capabilities| {
        drop(capabilities);
        let mut all = All::new(settings, novelty);
        let mut waiting = Waiting::default();
        move |frontiers| {
            gathered_in.for_each(|cap, data| waiting.tell(&cap, |p| p.gathered.append(data)));
            known_in.for_each(|cap, data| waiting.tell(&cap, |p| p.known.append(data)));
            seeds_in.for_each(|cap, data| waiting.tell(&cap, |p| p.seeds.append(data)));
            ticks_in.for_each(|cap, data| waiting.tell(&cap, |p| p.tick = data.pop()));
            orders_in.for_each(|cap, data| waiting.tell(&cap, |p| p.orders.append(data)));
            rows_in.for_each(|cap, data| waiting.rows(&cap, data));
            names_in.for_each(|cap, data| waiting.tell(&cap, |p| p.names.append(data)));
            changes_in.for_each(|cap, data| waiting.tell(&cap, |p| p.changes.append(data)));
            let (counted, told) = frontiers.split_at(COUNTED);
            while let Some(mut entry) = waiting.0.first_entry() {
                let (epoch, pending) = (*entry.key(), entry.get_mut());
                if counted.iter().any(|f| f.less_equal(&epoch)) || told.iter().any(|f| f.less_than(&epoch)) {
                    break;
                }
                if !std::mem::replace(&mut pending.is_counted, true) {
                    all.count(pending);
                    if let Some(cap) = pending.rows_cap.take() {
                        rows_out.activate().session(&cap).give_iterator(pending.rows.drain(..));
                    }
                }
                if told.iter().any(|f| f.less_equal(&epoch)) {
                    break;
                }
                let mut pending = entry.remove();
                let cap = pending.told_cap.take();
                let told = all.tell(pending);
                if let Some(cap) = cap {
                    told_out.activate().session(&cap).give_iterator(told.into_iter());
                }
            }
            fills.show(worker, all.breakdown.fill(), settings.limits);
        }
    });
    Outputs { rows: with_patterns, changes: told }
}

/// Epochs that are not over.
#[derive(Default)]
struct Waiting(BTreeMap<Epoch, Pending>);

impl Waiting {
    /// Adds what is told something of.
    fn tell(&mut self, cap: &InputCapability<Epoch>, add: impl FnOnce(&mut Pending)) {
        let Some(&epoch) = cap.least() else { return };
        let pending = self.0.entry(epoch).or_default();
        pending.told_cap = pending.told_cap.take().or_else(|| cap.retain_least(TOLD));
        add(pending);
    }

    fn rows(&mut self, cap: &InputCapability<Epoch>, rows: &mut Vec<FeatureRow>) {
        let Some(&epoch) = cap.least() else { return };
        let pending = self.0.entry(epoch).or_default();
        pending.rows_cap = pending.rows_cap.take().or_else(|| cap.retain_least(ROWS));
        pending.rows.append(rows);
    }
}

/// What one worker knows.
struct All {
    settings: Settings,
    breakdown: Breakdown,
    novelty: Novelty,
    explainer: Explainer,
    /// The models in force that look at patterns.
    wanting: BTreeSet<Role>,
}

impl All {
    fn new(settings: Settings, novelty: Novelty) -> Self {
        All {
            settings,
            breakdown: Breakdown::new(settings.limits),
            novelty,
            explainer: Explainer::default(),
            wanting: BTreeSet::new(),
        }
    }

    /// Takes the counts that an epoch brought, all of them, and gives its windows their patterns.
    fn count(&mut self, pending: &mut Pending) {
        pending.known.iter().for_each(|known| self.novelty.remember(known));
        pending.seeds.iter().for_each(|seed| self.restore(seed));
        self.take(&std::mem::take(&mut pending.gathered), &mut pending.changes);
        for order in &pending.orders {
            if order.is_of_patterns {
                self.wanting.insert(order.role);
            } else {
                self.wanting.remove(&order.role);
            }
        }
        if self.settings.counts_patterns || !self.wanting.is_empty() {
            self.fill_in(&mut pending.rows);
        }
    }

    /// Six windows in a row have the same minutes.
    fn fill_in(&self, rows: &mut [FeatureRow]) {
        let mut known: BTreeMap<(CompactString, i64), PatternSums> = BTreeMap::new();
        for row in rows {
            let minutes = span(row.end);
            let sums = known.entry((row.service.clone(), minutes.end)).or_insert_with(|| {
                let is_new = self.novelty.is_new(&row.service, minutes.end);
                let minutes = self.breakdown.minutes(&row.service, minutes.start, minutes.end);
                pattern_sums(minutes.map(|(_, minute)| minute), is_new)
            });
            row.patterns = *sums;
        }
    }

    /// What comes of an epoch that was counted.
    fn tell(&mut self, pending: Pending) -> Vec<Change> {
        let Pending { names, mut changes, tick, .. } = pending;
        names.into_iter().for_each(|named| self.breakdown.name(named));
        let tick = tick.filter(Tick::is_known);
        if let Some(tick) = &tick {
            let (news, evidence) = self.novelty.look(&self.breakdown, tick);
            changes.extend(news.into_iter().map(|change| Change::Episode(Box::new(change))));
            changes.extend(evidence.into_iter().map(|evidence| Change::Evidence(Box::new(evidence))));
        }
        for change in &mut changes {
            if let Change::Episode(change) = change {
                let news = self.novelty.news(&change.episode);
                self.explainer.explain(&mut change.episode, &self.breakdown, &news);
            }
        }
        if let Some(tick) = tick {
            let kept = KEPT.max(self.settings.lag + WINDOW_SECONDS + 2 * MINUTE);
            let before = floor_to(tick.final_through() - kept, MINUTE);
            self.breakdown.forget_before(before);
            self.explainer.forget_before(before);
        }
        changes
    }

    fn restore(&mut self, seed: &Keyed) {
        match seed {
            Keyed::SeedMinute { service, minute, state } => {
                // Of another version: what is new counts from here on.
                let _ = self.breakdown.restore(service, *minute, state);
            }
            Keyed::SeedEpisode(episode) => {
                self.explainer.remember(episode);
                self.novelty.restore(episode);
            }
            _ => {}
        }
    }

    /// `changes`: gets what the store must remember of the minutes that changed.
    fn take(&mut self, gathered: &[Gathered], changes: &mut Vec<Change>) {
        let mut touched: BTreeSet<(CompactString, i64)> = BTreeSet::new();
        for gathered in gathered {
            let counted_for = self.breakdown.add(gathered);
            self.novelty.take(gathered, counted_for.as_ref());
            touched.extend(counted_for.map(|service| (service, gathered.minute)));
        }
        changes.extend(touched.into_iter().filter_map(|(service, minute)| {
            let state = self.breakdown.to_bytes(&service, minute)?;
            Some(Change::Minute { service, minute, state })
        }));
    }
}
