//! Sums per service and second as of an epoch, read from the trace that keeps them.
//!
//! Each batch has a cursor of its own: the library's merged cursor compares all of them at every step, and must not seek a
//! value while one of its cursors is past its last key.

use crate::record::Epoch;
use crate::sums::{Sums, sums};
use crate::window::SecondsTrace;
use compact_str::CompactString;
use differential_dataflow::trace::cursor::Cursor;
use differential_dataflow::trace::{Navigable, TraceReader};
use timely::progress::frontier::AntichainRef;

type Batch = <SecondsTrace as TraceReader>::Batch;

/// Goes through the services once, in ascending order.
pub(crate) struct Seconds {
    batches: Vec<Batch>,
    cursors: Vec<<Batch as Navigable>::Cursor>,
    epoch: Epoch,
    found: Vec<(i64, Sums)>,
}

impl Seconds {
    /// What came up to `epoch`.
    pub(crate) fn as_of(trace: &mut SecondsTrace, epoch: Epoch) -> Self {
        let batches = trace.batches_through(AntichainRef::new(&[])).unwrap_or_default();
        let cursors = batches.iter().map(Navigable::cursor).collect();
        Seconds { batches, cursors, epoch, found: Vec::new() }
    }

    /// The first service that was not asked for yet and comes after all that were.
    pub(crate) fn next_service(&self) -> Option<CompactString> {
        let parts = self.cursors.iter().zip(&self.batches);
        parts.filter_map(|(cursor, batch)| cursor.get_key(batch)).min().cloned()
    }

    /// The sums of `service`, which comes after those asked for before, from `from` on: ascending, none of them empty.
    pub(crate) fn of(&mut self, service: &CompactString, from: i64) -> &[(i64, Sums)] {
        self.found.clear();
        for (cursor, batch) in self.cursors.iter_mut().zip(&self.batches) {
            cursor.seek_key(batch, service);
            if cursor.get_key(batch) != Some(service) {
                continue;
            }
            cursor.seek_val(batch, &from);
            while let Some(&second) = cursor.get_val(batch) {
                let mut total = Sums::default();
                cursor.map_times(batch, |time, diff| {
                    if *time <= self.epoch {
                        total += sums(*diff);
                    }
                });
                self.found.push((second, total));
                cursor.step_val(batch);
            }
            cursor.step_key(batch);
        }
        add_up(&mut self.found);
        &self.found
    }
}

/// Calls `visit` with the epoch, service and second of every addition of a batch; what is only forgotten does not count.
pub(crate) fn each_addition(batch: &Batch, mut visit: impl FnMut(Epoch, &CompactString, i64)) {
    let mut cursor = batch.cursor();
    while let Some(service) = cursor.get_key(batch) {
        while let Some(&second) = cursor.get_val(batch) {
            cursor.map_times(batch, |epoch, diff| {
                if diff.0 > 0 {
                    visit(*epoch, service, second);
                }
            });
            cursor.step_val(batch);
        }
        cursor.step_key(batch);
    }
}

/// Sums of the same second become one; seconds without any are left out. Ascending.
fn add_up(found: &mut Vec<(i64, Sums)>) {
    found.sort_unstable_by_key(|(second, _)| *second);
    found.dedup_by(|later, kept| {
        let same = later.0 == kept.0;
        if same {
            kept.1 += later.1;
        }
        same
    });
    found.retain(|(_, sums)| !sums.is_empty());
}
