//! The breakdown in the dataflow.

use super::{Breakdown, Fills, Gathered, KEPT, Limits};
use crate::closed_epochs::ClosedEpochs;
use crate::explain::Explainer;
use crate::novelty::{FirstSeen, Novelty};
use crate::patterns::Named;
use crate::record::{Change, Epoch, Keyed, Tick};
use compact_str::CompactString;
use differential_dataflow::Hashable;
use smartlog_schema::window::{MINUTE, floor_to};
use std::collections::BTreeSet;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

/// What one epoch brings.
#[derive(Default)]
struct Pending {
    seeds: Vec<Keyed>,
    gathered: Vec<Gathered>,
    names: Vec<Named>,
    known: Vec<FirstSeen>,
    changes: Vec<Change>,
    tick: Option<Tick>,
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
}

/// Keeps the counts of the services that hash to this worker, tells what is new in them, and has every change of an
/// episode explained, with all counts of its epoch and before. Gives `changes` back, and what the store must remember.
///
/// `fills`: where it shows how full it is.
pub fn breakdown<'scope>(
    inputs: Inputs<'scope>,
    changes: StreamVec<'scope, Epoch, Change>,
    ticks: StreamVec<'scope, Epoch, Tick>,
    limits: Limits,
    novelty: Novelty,
    fills: Fills,
) -> StreamVec<'scope, Epoch, Change> {
    let Inputs { gathered, names, known, seeds } = inputs;
    let mut builder = OperatorBuilder::new("breakdown".to_owned(), changes.scope());
    let worker = changes.scope().index();
    let by_service = Exchange::new(|gathered: &Gathered| gathered.service.hashed());
    let mut gathered_in = builder.new_input(gathered, by_service);
    let mut names_in = builder.new_input(names, Pipeline);
    let mut known_in = builder.new_input(known, Exchange::new(|known: &FirstSeen| known.service.hashed()));
    let mut seeds_in = builder.new_input(seeds, Pipeline);
    let mut changes_in = builder.new_input(changes, Pipeline);
    let mut ticks_in = builder.new_input(ticks, Pipeline);
    let (out, explained) = builder.new_output();
    let mut out = OutputBuilder::from(out);
    builder.build(move |capabilities| {
        drop(capabilities);
        let (breakdown, explainer) = (Breakdown::new(limits), Explainer::default());
        let mut all = All { breakdown, novelty, explainer };
        let mut waiting = ClosedEpochs::<Pending>::new();
        move |frontiers| {
            gathered_in
                .for_each(|cap, data| waiting.gather(cap.retain_least(0), |p| p.gathered.append(data)));
            names_in.for_each(|cap, data| waiting.gather(cap.retain_least(0), |p| p.names.append(data)));
            known_in.for_each(|cap, data| waiting.gather(cap.retain_least(0), |p| p.known.append(data)));
            seeds_in.for_each(|cap, data| waiting.gather(cap.retain_least(0), |p| p.seeds.append(data)));
            changes_in.for_each(|cap, data| waiting.gather(cap.retain_least(0), |p| p.changes.append(data)));
            ticks_in.for_each(|cap, data| waiting.gather(cap.retain_least(0), |p| p.tick = data.pop()));
            let is_closed = |epoch: &Epoch| !frontiers.iter().any(|frontier| frontier.less_equal(epoch));
            while let Some((cap, pending)) = waiting.next(is_closed) {
                out.activate().session(&cap).give_iterator(all.close(pending).into_iter());
            }
            fills.show(worker, all.breakdown.fill(), limits);
        }
    });
    explained
}

/// What one worker knows.
struct All {
    breakdown: Breakdown,
    novelty: Novelty,
    explainer: Explainer,
}

impl All {
    /// Takes what an epoch brought, all of it.
    fn close(&mut self, pending: Pending) -> Vec<Change> {
        let Pending { seeds, gathered, names, known, mut changes, tick } = pending;
        names.into_iter().for_each(|named| self.breakdown.name(named));
        known.iter().for_each(|known| self.novelty.remember(known));
        seeds.iter().for_each(|seed| self.restore(seed));
        let mut out = self.take(&gathered);
        let tick = tick.filter(Tick::is_known);
        if let Some(tick) = &tick {
            let (news, evidence) = self.novelty.look(&self.breakdown, tick);
            changes.extend(news.into_iter().map(|change| Change::Episode(Box::new(change))));
            changes.extend(evidence.into_iter().map(|evidence| Change::Evidence(Box::new(evidence))));
        }
        for mut change in changes {
            if let Change::Episode(change) = &mut change {
                let news = self.novelty.news(&change.episode);
                self.explainer.explain(&mut change.episode, &self.breakdown, &news);
            }
            out.push(change);
        }
        if let Some(tick) = tick {
            let before = floor_to(tick.final_through() - KEPT, MINUTE);
            self.breakdown.forget_before(before);
            self.explainer.forget_before(before);
        }
        out
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

    /// What the store must remember of the minutes that changed.
    fn take(&mut self, gathered: &[Gathered]) -> Vec<Change> {
        let mut touched: BTreeSet<(CompactString, i64)> = BTreeSet::new();
        for gathered in gathered {
            let counted_for = self.breakdown.add(gathered);
            self.novelty.take(gathered, counted_for.as_ref());
            touched.extend(counted_for.map(|service| (service, gathered.minute)));
        }
        let change = |(service, minute): (CompactString, i64)| {
            let state = self.breakdown.to_bytes(&service, minute)?;
            Some(Change::Minute { service, minute, state })
        };
        touched.into_iter().filter_map(change).collect()
    }
}
