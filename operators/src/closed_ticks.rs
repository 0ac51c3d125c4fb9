//! Ticks that wait for their epoch to close, for the operators that read the arrangements.
//!
//! Under load several epochs close at once, and one look as of the last serves for all of them. But each tick lets the
//! arrangements forget what lies too far behind the tick before it, so a look must not skip ticks across which event
//! time moved far (catching up, one tick spans minutes): what it still needs would be gone.

use crate::record::{Epoch, Tick};
use std::collections::BTreeMap;
use timely::dataflow::operators::Capability;

/// Event seconds across which ticks may be skipped. Together with the step of a detector's checkpoint (a minute, and
/// what it lags behind) it stays below what [`kept_seconds`](crate::window::kept_seconds) keeps in reserve.
const SKIPPABLE: i64 = 60;

#[derive(Default)]
pub(crate) struct ClosedTicks {
    waiting: BTreeMap<Epoch, (Capability<Epoch>, Tick)>,
    looked_at: Option<i64>,
}

impl ClosedTicks {
    pub fn push(&mut self, cap: Capability<Epoch>, tick: Tick) {
        self.waiting.insert(*cap.time(), (cap, tick));
    }

    /// The next tick to look at, of those whose epochs are closed and whose time is known.
    pub fn next(&mut self, is_closed: impl Fn(&Epoch) -> bool) -> Option<(Capability<Epoch>, Tick)> {
        let mut newest: Option<(Capability<Epoch>, Tick)> = None;
        while let Some(entry) = self.waiting.first_entry().filter(|entry| is_closed(entry.key())) {
            let (_, tick) = entry.get();
            let looked_at = self.looked_at.or(tick.resumed_from).unwrap_or(i64::MIN);
            let moved_far =
                |(_, skipped): &(_, Tick)| skipped.final_through() > looked_at.saturating_add(SKIPPABLE);
            if newest.as_ref().is_some_and(moved_far) {
                break;
            }
            newest = Some(entry.remove()).filter(|(_, tick)| tick.is_known());
        }
        if let Some((_, tick)) = &newest {
            self.looked_at = Some(tick.final_through());
        }
        newest
    }
}
