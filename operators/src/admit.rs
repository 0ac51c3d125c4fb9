//! Who has state: at most `max_services` services hold a slot, the rest share [`OVERFLOW`]. Who holds one is committed
//! state, so that a restart does not shuffle the slots.

use crate::detector::Detector;
use crate::record::{Change, Epoch, Keyed, OVERFLOW, Partial, Tick, WHOLE_STREAM};
use compact_str::CompactString;
use differential_dataflow::Hashable;
use foldhash::HashMap;
use std::collections::BTreeMap;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

/// The slots of one worker. Each worker owns the services that hash to it and its share of the slots.
#[derive(Debug)]
pub struct Slots {
    capacity: usize,
    /// The newest second of each holder.
    holders: HashMap<CompactString, i64>,
}

/// What a request for a slot came to.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Admission {
    Holder,
    NewHolder,
    Full,
}

impl Slots {
    pub fn new(capacity: usize) -> Self {
        Slots { capacity, holders: HashMap::default() }
    }

    /// Asks for a slot for a service that logged in `second`.
    pub fn admit(&mut self, service: &CompactString, second: i64) -> Admission {
        if let Some(newest) = self.holders.get_mut(service) {
            *newest = (*newest).max(second);
            return Admission::Holder;
        }
        if !Self::is_free_of_charge(service) && self.taken() >= self.capacity {
            return Admission::Full;
        }
        self.holders.insert(service.clone(), second);
        Admission::NewHolder
    }

    /// What is no service needs none of the slots.
    fn is_free_of_charge(service: &CompactString) -> bool {
        *service == WHOLE_STREAM || *service == OVERFLOW
    }

    /// Slots that services hold.
    fn taken(&self) -> usize {
        let held = |name: &str| usize::from(self.holders.contains_key(name));
        self.holders.len() - held(&WHOLE_STREAM) - held(&OVERFLOW)
    }

    /// Gives a slot back to a service that held it before a restart, even beyond the capacity (workers may be fewer).
    fn restore(&mut self, service: CompactString, second: i64) {
        let newest = self.holders.entry(service).or_insert(second);
        *newest = (*newest).max(second);
    }

    /// Takes the slots of services that were silent since before `second`.
    pub fn retire_before(&mut self, second: i64) -> Vec<CompactString> {
        let mut retired: Vec<_> = self
            .holders
            .iter()
            .filter(|(_, newest)| **newest < second)
            .map(|(service, _)| service.clone())
            .collect();
        retired.sort_unstable();
        retired.iter().for_each(|service| {
            self.holders.remove(service);
        });
        retired
    }
}

/// Sends what belongs to a service without a slot on under [`OVERFLOW`].
///
/// Returns the admitted stream and who gained or lost a slot.
pub fn admit<'scope>(
    keyed: StreamVec<'scope, Epoch, Keyed>,
    ticks: StreamVec<'scope, Epoch, Tick>,
    max_services: usize,
    retire_after: i64,
) -> (StreamVec<'scope, Epoch, Keyed>, StreamVec<'scope, Epoch, Change>) {
    let scope = keyed.scope();
    let capacity = max_services.div_ceil(scope.peers());
    let mut builder = OperatorBuilder::new("admit".to_owned(), scope);
    let mut keyed = builder.new_input(keyed, Exchange::new(|keyed: &Keyed| keyed.service().hashed()));
    let mut ticks = builder.new_input(ticks, Pipeline);
    let (admitted_out, admitted) = builder.new_output();
    let (changes_out, changes) = builder.new_output();
    let mut admitted_out = OutputBuilder::from(admitted_out);
    let mut changes_out = OutputBuilder::from(changes_out);
    builder.build(move |capabilities| {
        drop(capabilities);
        let mut slots = Slots::new(capacity);
        let mut swept_at = i64::MIN;
        let mut early = Some(Early::new());
        move |frontiers| {
            let mut admitted_out = admitted_out.activate();
            let mut changes_out = changes_out.activate();
            keyed.for_each(|cap, data| match &mut early {
                Some(early) => {
                    let Some(&epoch) = cap.least() else { return };
                    let held = || [cap.retain_least(0), cap.retain_least(1)];
                    early.entry(epoch).or_insert_with(|| (held(), Vec::new())).1.append(data);
                }
                None => {
                    let (mut admitted, mut changes) = (admitted_out.session(&cap), changes_out.session(&cap));
                    for item in data.drain(..) {
                        let (item, gained) = admit_one(&mut slots, item);
                        changes.give_iterator(gained.into_iter());
                        admitted.give(item);
                    }
                }
            });
            for (caps, items) in take_early(&mut early, |epoch| !frontiers[0].less_equal(epoch)) {
                let [Some(admitted_cap), Some(changes_cap)] = &caps else { continue };
                let (mut admitted, mut changes) =
                    (admitted_out.session(admitted_cap), changes_out.session(changes_cap));
                for item in items {
                    let (item, gained) = admit_one(&mut slots, item);
                    changes.give_iterator(gained.into_iter());
                    admitted.give(item);
                }
            }
            ticks.for_each(|cap, data| {
                let Some(tick) = data.drain(..).next_back().filter(Tick::is_known) else { return };
                // Sweeping looks at every holder: once a minute is enough.
                if tick.final_through() < swept_at.saturating_add(60) {
                    return;
                }
                swept_at = tick.final_through();
                let retired = slots.retire_before(tick.final_through() - retire_after);
                let lost = |service| Change::Detector { service, state: None };
                changes_out.session(&cap).give_iterator(retired.into_iter().map(lost));
            });
        }
    });
    (admitted, changes)
}

/// What came before it was known who holds a slot, by epoch, with the capabilities to send it on.
///
/// Seeds and the first partials come by different ways: these wait until all of those are here, or a service would be
/// taken for a new one and what is stored of it be overwritten.
type Early = BTreeMap<Epoch, Held>;
type Held = ([Option<Capability<Epoch>>; 2], Vec<Keyed>);

/// What need not wait any more, seeds first. `early` is gone once an epoch with a partial is closed: no seed is ordered
/// later than the first thing that is read.
fn take_early(early: &mut Option<Early>, is_closed: impl Fn(&Epoch) -> bool) -> Vec<Held> {
    let mut taken = Vec::new();
    while let Some(waiting) = early {
        let Some(entry) = waiting.first_entry().filter(|entry| is_closed(entry.key())) else { break };
        let (caps, mut items) = entry.remove();
        items.sort_by_key(|item| !item.is_seed());
        let begun = items.last().is_some_and(|item| !item.is_seed());
        taken.push((caps, items));
        if begun {
            taken.extend(std::mem::take(waiting).into_values());
            *early = None;
        }
    }
    taken
}

fn admit_one(slots: &mut Slots, item: Keyed) -> (Keyed, Option<Change>) {
    match item {
        Keyed::Partial(partial) => match slots.admit(&partial.service, partial.second) {
            Admission::Holder => (Keyed::Partial(partial), None),
            Admission::NewHolder => {
                let gained = Change::Detector { service: partial.service.clone(), state: Some(Vec::new()) };
                (Keyed::Partial(partial), Some(gained))
            }
            Admission::Full => (Keyed::Partial(Partial { service: OVERFLOW, ..partial }), None),
        },
        // Counted by name, whoever holds a slot.
        seed @ Keyed::SeedMinute { .. } => (seed, None),
        seed => {
            let second = match &seed {
                Keyed::SeedSecond(partial) => partial.second,
                Keyed::SeedDetector { state, .. } => Detector::last_seen_in(state).unwrap_or(i64::MIN),
                Keyed::Partial(_) | Keyed::SeedEpisode(_) | Keyed::SeedMinute { .. } => i64::MIN,
            };
            slots.restore(seed.service().clone(), second);
            (seed, None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_services_keep_their_slots_and_silence_frees_them() {
        let mut slots = Slots::new(2);
        let name = |n: usize| CompactString::from(format!("service-{n}"));
        assert_eq!(slots.admit(&name(0), 10), Admission::NewHolder);
        assert_eq!(slots.admit(&name(1), 90), Admission::NewHolder);
        assert_eq!(slots.admit(&name(2), 90), Admission::Full);
        assert_eq!(slots.admit(&name(0), 20), Admission::Holder);
        assert_eq!(slots.retire_before(50), [name(0)]);
        assert_eq!(slots.admit(&name(2), 91), Admission::NewHolder);
    }

    #[test]
    fn the_whole_stream_and_the_overflow_always_have_a_slot() {
        let mut slots = Slots::new(0);
        assert_eq!(slots.admit(&WHOLE_STREAM, 0), Admission::NewHolder);
        assert_eq!(slots.admit(&OVERFLOW, 0), Admission::NewHolder);
    }

    #[test]
    fn the_whole_stream_and_the_overflow_take_no_slot_from_a_service() {
        let mut slots = Slots::new(2);
        for name in [WHOLE_STREAM.clone(), OVERFLOW, "a".into(), "b".into()] {
            assert_eq!(slots.admit(&name, 0), Admission::NewHolder, "{name}");
        }
        assert_eq!(slots.admit(&"c".into(), 0), Admission::Full);
    }
}
