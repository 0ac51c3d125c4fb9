//! Sums per (service, second) that grow log by log until they are sent.
//!
//! ```text
//!   log ──▶ recent: the last few seconds of its service ──(another second needs the place)──▶ settled ──▶ taken
//! ```
//!
//! Logs of a service come in bursts of the same few seconds, so nearly every one finds its sums in a handful of places
//! that belong to the service, without a hash of the pair.

use crate::record::{Partial, WHOLE_STREAM};
use crate::sums::Sums;
use compact_str::CompactString;
use foldhash::HashMap;
use std::collections::BTreeMap;

/// Partials are sent before the epoch ends once there are this many: bounds memory when every log is of another
/// service and second.
const MAX_PARTIALS: usize = 1 << 16;
/// Service names that are remembered with a number each; the memory starts over when it is full (hostile input).
const MAX_INTERNED: usize = 1 << 17;
/// Neighbouring seconds of a service that are at hand; a power of two.
const RECENT: usize = 4;

/// A service's number, until the partials are next taken.
pub type Service = u32;

/// The sums of one second; without a log there is nothing in the place.
#[derive(Debug, Clone, Copy, Default)]
struct Recent {
    second: i64,
    sums: Sums,
}

/// All sums of one worker that were not sent yet.
#[derive(Debug, Default)]
pub struct Partials {
    numbers: HashMap<CompactString, Service>,
    names: Vec<CompactString>,
    recent: Vec<[Recent; RECENT]>,
    /// Services with anything in `recent`.
    touched: Vec<Service>,
    settled: HashMap<(Service, i64), Sums>,
}

impl Partials {
    /// The number of `service`.
    #[inline]
    pub fn number(&mut self, service: &str) -> Service {
        match self.numbers.get(service) {
            Some(&number) => number,
            None => self.intern(service),
        }
    }

    /// The service of a number.
    pub fn name(&self, service: Service) -> CompactString {
        self.names[service as usize].clone()
    }

    #[cold]
    fn intern(&mut self, service: &str) -> Service {
        let name = CompactString::new(service);
        let number = self.names.len() as Service;
        self.names.push(name.clone());
        self.recent.push([Recent::default(); RECENT]);
        self.numbers.insert(name, number);
        number
    }

    /// Adds `sums`, of at least one log, to those of `service` over `second`.
    #[inline]
    pub fn add(&mut self, service: Service, second: i64, sums: Sums) {
        let places = &mut self.recent[service as usize];
        let place = &mut places[second as usize % RECENT];
        if place.second == second && place.sums.logs > 0 {
            place.sums += sums;
            return;
        }
        let before = std::mem::replace(place, Recent { second, sums });
        if before.sums.logs > 0 {
            *self.settled.entry((service, before.second)).or_default() += before.sums;
        } else if places.iter().filter(|place| place.sums.logs > 0).count() == 1 {
            self.touched.push(service);
        }
    }

    /// Whether they should be sent before the epoch ends.
    pub fn is_full(&self) -> bool {
        self.settled.len() + self.touched.len() * RECENT >= MAX_PARTIALS
    }

    /// The sums added so far, and those of the whole stream.
    pub fn take(&mut self) -> Vec<Partial> {
        self.settle();
        let mut whole: BTreeMap<i64, Sums> = BTreeMap::new();
        let mut partials = Vec::with_capacity(self.settled.len() + 64);
        for ((service, second), sums) in self.settled.drain() {
            *whole.entry(second).or_default() += sums;
            partials.push(Partial { service: self.names[service as usize].clone(), second, sums });
        }
        let of_stream = |(second, sums)| Partial { service: WHOLE_STREAM.clone(), second, sums };
        partials.extend(whole.into_iter().map(of_stream));
        if self.names.len() >= MAX_INTERNED {
            *self = Partials::default();
        }
        partials
    }

    fn settle(&mut self) {
        for service in self.touched.drain(..) {
            for place in &mut self.recent[service as usize] {
                let Recent { second, sums } = std::mem::take(place);
                if sums.logs > 0 {
                    *self.settled.entry((service, second)).or_default() += sums;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Found = BTreeMap<(CompactString, i64), Sums>;

    fn collect(partials: &mut Partials, found: &mut Found) {
        for Partial { service, second, sums } in partials.take() {
            *found.entry((service, second)).or_default() += sums;
        }
    }

    proptest! {
        #[test]
        fn they_add_up_to_what_was_added(
            logs in prop::collection::vec(
                (0..5u8, -20..20i64, any::<bool>(), 0..9i64, prop::bool::weighted(0.05)),
                0..400,
            ),
        ) {
            let mut partials = Partials::default();
            let (mut expected, mut found) = (Found::new(), Found::new());
            for (service, second, is_error, chars, take) in logs {
                let service = format!("service-{service}");
                for key in [service.as_str().into(), WHOLE_STREAM.clone()] {
                    let sums = expected.entry((key, second)).or_default();
                    sums.logs += 1;
                    sums.errors += i64::from(is_error);
                    sums.message_chars += chars;
                }
                let number = partials.number(&service);
                partials.add(number, second, Sums::one(is_error, chars));
                if take {
                    collect(&mut partials, &mut found);
                }
            }
            collect(&mut partials, &mut found);
            prop_assert_eq!(found, expected);
        }
    }
}
