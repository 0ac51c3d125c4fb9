//! How full the breakdown is, for whoever watches.

use super::Limits;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What is counted by name; and how much may be, each in the same field of [`Fills::limits`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fill {
    pub services: usize,
    /// Hosts and shapes, of all services and minutes.
    pub parts: usize,
    /// Hosts of the service and minute that have most.
    pub hosts: usize,
    /// Shapes of the service and minute that have most.
    pub shapes: usize,
}

impl Fill {
    /// Of several workers, whose services differ.
    fn merged(fills: impl Iterator<Item = Fill>) -> Fill {
        fills.fold(Fill::default(), |all, one| Fill {
            services: all.services + one.services,
            parts: all.parts + one.parts,
            hosts: all.hosts.max(one.hosts),
            shapes: all.shapes.max(one.shapes),
        })
    }
}

/// What the workers of a process showed last. Clones show the same.
#[derive(Debug, Clone, Default)]
pub struct Fills(Arc<Mutex<BTreeMap<usize, (Fill, Limits)>>>);

impl Fills {
    /// All workers together.
    pub fn now(&self) -> Fill {
        Fill::merged(self.workers().into_iter().map(|(fill, _)| fill))
    }

    /// How much all of them may count by name.
    pub fn limits(&self) -> Fill {
        let limits = |Limits { services, parts, hosts, shapes }| Fill { services, parts, hosts, shapes };
        Fill::merged(self.workers().into_iter().map(|(_, of)| limits(of)))
    }

    pub(super) fn show(&self, worker: usize, fill: Fill, limits: Limits) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(worker, (fill, limits));
    }

    fn workers(&self) -> Vec<(Fill, Limits)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_added_up_but_for_the_fullest_minute() {
        let fills = Fills::default();
        assert_eq!((fills.now(), fills.limits()), (Fill::default(), Fill::default()));
        let limits = Limits { services: 10, hosts: 4, shapes: 5, parts: 100 };
        fills.clone().show(0, Fill { services: 1, parts: 9, hosts: 9, shapes: 9 }, limits);
        fills.show(0, Fill { services: 2, parts: 7, hosts: 4, shapes: 3 }, limits);
        fills.show(1, Fill { services: 3, parts: 6, hosts: 1, shapes: 5 }, limits);
        assert_eq!(fills.now(), Fill { services: 5, parts: 13, hosts: 4, shapes: 5 });
        assert_eq!(fills.limits(), Fill { services: 20, parts: 200, hosts: 4, shapes: 5 });
    }
}
