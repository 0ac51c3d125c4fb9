//! The breakdown in the dataflow.

use super::{Breakdown, Fills, Gathered, KEPT, Limits};
use crate::closed_epochs::ClosedEpochs;
use crate::explain::Explainer;
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
    changes: Vec<Change>,
    tick: Option<Tick>,
}

/// What it learns from.
pub struct Inputs<'scope> {
    pub gathered: StreamVec<'scope, Epoch, Gathered>,
    /// Which pattern each shape belongs to; broadcast.
    pub names: StreamVec<'scope, Epoch, Named>,
    /// What a restart brings back, on the worker of its service.
    pub seeds: StreamVec<'scope, Epoch, Keyed>,
}

/// Keeps the counts of the services that hash to this worker, and has every change of an episode explained, with all
/// counts of its epoch and before. Gives `changes` back, and what the store must remember.
///
/// `fills`: where it shows how full it is.
pub fn breakdown<'scope>(
    inputs: Inputs<'scope>,
    changes: StreamVec<'scope, Epoch, Change>,
    ticks: StreamVec<'scope, Epoch, Tick>,
    limits: Limits,
    fills: Fills,
) -> StreamVec<'scope, Epoch, Change> {
    let Inputs { gathered, names, seeds } = inputs;
    let mut builder = OperatorBuilder::new("breakdown".to_owned(), changes.scope());
    let worker = changes.scope().index();
    let by_service = Exchange::new(|gathered: &Gathered| gathered.service.hashed());
    let mut gathered_in = builder.new_input(gathered, by_service);
    let mut names_in = builder.new_input(names, Pipeline);
    let mut seeds_in = builder.new_input(seeds, Pipeline);
    let mut changes_in = builder.new_input(changes, Pipeline);
    let mut ticks_in = builder.new_input(ticks, Pipeline);
    let (out, explained) = builder.new_output();
    let mut out = OutputBuilder::from(out);
    builder.build(move |capabilities| {
        drop(capabilities);
        let mut all = Breakdown::new(limits);
        let mut explainer = Explainer::default();
        let mut waiting = ClosedEpochs::<Pending>::new();
        move |frontiers| {
            gathered_in
                .for_each(|cap, data| waiting.gather(cap.retain_least(0), |p| p.gathered.append(data)));
            names_in.for_each(|cap, data| waiting.gather(cap.retain_least(0), |p| p.names.append(data)));
            seeds_in.for_each(|cap, data| waiting.gather(cap.retain_least(0), |p| p.seeds.append(data)));
            changes_in.for_each(|cap, data| waiting.gather(cap.retain_least(0), |p| p.changes.append(data)));
            ticks_in.for_each(|cap, data| waiting.gather(cap.retain_least(0), |p| p.tick = data.pop()));
            let is_closed = |epoch: &Epoch| !frontiers.iter().any(|frontier| frontier.less_equal(epoch));
            while let Some((cap, pending)) = waiting.next(is_closed) {
                let Pending { seeds, gathered, names, changes, tick } = pending;
                let mut output = out.activate();
                let mut session = output.session(&cap);
                names.into_iter().for_each(|named| all.name(named));
                seeds.iter().for_each(|seed| restore(&mut all, &mut explainer, seed));
                session.give_iterator(take(&mut all, &gathered).into_iter());
                for mut change in changes {
                    if let Change::Episode(change) = &mut change {
                        explainer.explain(&mut change.episode, &all);
                    }
                    session.give(change);
                }
                if let Some(tick) = tick.filter(Tick::is_known) {
                    let before = floor_to(tick.final_through() - KEPT, MINUTE);
                    all.forget_before(before);
                    explainer.forget_before(before);
                }
            }
            fills.show(worker, all.fill(), limits);
        }
    });
    explained
}

fn restore(all: &mut Breakdown, explainer: &mut Explainer, seed: &Keyed) {
    match seed {
        Keyed::SeedMinute { service, minute, state } => {
            // Of another version: what is new counts from here on.
            let _ = all.restore(service, *minute, state);
        }
        Keyed::SeedEpisode(episode) => explainer.remember(episode),
        _ => {}
    }
}

/// What the store must remember of the minutes that changed.
fn take(all: &mut Breakdown, gathered: &[Gathered]) -> Vec<Change> {
    let touched: BTreeSet<(CompactString, i64)> =
        gathered.iter().filter_map(|gathered| Some((all.add(gathered)?, gathered.minute))).collect();
    let change = |(service, minute): (CompactString, i64)| {
        let state = all.to_bytes(&service, minute)?;
        Some(Change::Minute { service, minute, state })
    };
    touched.into_iter().filter_map(change).collect()
}
