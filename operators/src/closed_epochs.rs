//! What several inputs bring for an epoch, kept until nothing more of that epoch can come.
//!
//! ```text
//!   inputs ── gather ──▶ epoch 7: pending, epoch 8: pending … ── next, once closed ──▶ operator
//! ```

use crate::record::Epoch;
use std::collections::BTreeMap;
use timely::dataflow::operators::Capability;

/// What waits, by epoch, each with the right to send at its epoch.
pub(crate) struct ClosedEpochs<P> {
    waiting: BTreeMap<Epoch, (Capability<Epoch>, P)>,
}

impl<P: Default> ClosedEpochs<P> {
    pub fn new() -> Self {
        ClosedEpochs { waiting: BTreeMap::new() }
    }

    /// Adds to what waits for the epoch of `cap`; without one there is nothing to add it to.
    pub fn gather(&mut self, cap: Option<Capability<Epoch>>, add: impl FnOnce(&mut P)) {
        let Some(cap) = cap else { return };
        let (_, pending) = self.waiting.entry(*cap.time()).or_insert_with(|| (cap, P::default()));
        add(pending);
    }

    /// The first epoch that waits, if it is closed.
    pub fn next(&mut self, is_closed: impl Fn(&Epoch) -> bool) -> Option<(Capability<Epoch>, P)> {
        let first = self.waiting.first_entry().filter(|entry| is_closed(entry.key()))?;
        Some(first.remove())
    }
}
