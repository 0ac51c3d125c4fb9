//! Who has state: at most `max_services` services hold a slot, the rest share [`OVERFLOW`]. Who holds one is committed
//! state, so that a restart does not shuffle the slots.

use crate::record::{Change, Epoch, Keyed, OVERFLOW, Partial, Tick, WHOLE_STREAM};
use compact_str::CompactString;
use differential_dataflow::Hashable;
use foldhash::HashMap;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
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
        let free_of_charge = *service == WHOLE_STREAM || *service == OVERFLOW;
        if !free_of_charge && self.holders.len() >= self.capacity {
            return Admission::Full;
        }
        self.holders.insert(service.clone(), second);
        Admission::NewHolder
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
        move |_frontiers| {
            let mut admitted_out = admitted_out.activate();
            let mut changes_out = changes_out.activate();
            keyed.for_each(|cap, data| {
                let mut admitted = admitted_out.session(&cap);
                let mut changes = changes_out.session(&cap);
                for item in data.drain(..) {
                    let (item, gained) = admit_one(&mut slots, item);
                    if let Some(service) = gained {
                        changes.give(Change::Detector { service, state: Some(Vec::new()) });
                    }
                    admitted.give(item);
                }
            });
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

fn admit_one(slots: &mut Slots, item: Keyed) -> (Keyed, Option<CompactString>) {
    match item {
        Keyed::Partial(partial) => match slots.admit(&partial.service, partial.second) {
            Admission::Holder => (Keyed::Partial(partial), None),
            Admission::NewHolder => {
                let service = partial.service.clone();
                (Keyed::Partial(partial), Some(service))
            }
            Admission::Full => (Keyed::Partial(Partial { service: OVERFLOW, ..partial }), None),
        },
        seed => {
            let second = match &seed {
                Keyed::SeedSecond(partial) => partial.second,
                _ => i64::MIN,
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
}
