//! What the open windows hold, service by service, for whoever watches: the largest by name, the others as one sum.
//!
//! ```text
//!   rolling ─┐
//!            ├─ top_services (every few seconds of wall time) ─▶ Board: one Tally a worker ─▶ /metrics
//!   ticks ───┘
//! ```
//!
//! Reads the arrangement that detection reads, and keeps nothing beside it but what it last showed.

use crate::record::{Epoch, Tick, WHOLE_STREAM};
use crate::sums::{Sums, sums};
use crate::window::RollingTrace;
use compact_str::CompactString;
use differential_dataflow::operators::arrange::Arranged;
use differential_dataflow::trace::TraceReader;
use differential_dataflow::trace::cursor::{Cursor, cursor_list};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::frontier::AntichainRef;

/// Between two looks, microseconds of wall time: a look passes over every service.
const EVERY_US: i64 = 2_000_000;

/// Sums of the open windows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// The services with most logs, most first; equals by name.
    pub top: Vec<(CompactString, Sums)>,
    /// All others.
    pub rest: Sums,
    /// Services that have a log in their window.
    pub services: usize,
}

impl Tally {
    /// Of `windows`, the `most` largest by name.
    pub fn of(windows: impl Iterator<Item = (CompactString, Sums)>, most: usize) -> Self {
        let mut top: Vec<(CompactString, Sums)> = windows.filter(|(_, sums)| sums.logs > 0).collect();
        let services = top.len();
        top.sort_unstable_by(|a, b| b.1.logs.cmp(&a.1.logs).then_with(|| a.0.cmp(&b.0)));
        let mut rest = Sums::default();
        top.drain(most.min(services)..).for_each(|(_, sums)| rest += sums);
        Tally { top, rest, services }
    }

    /// Of several workers, whose services differ.
    pub fn merged<'a>(parts: impl Iterator<Item = &'a Tally>, most: usize) -> Self {
        let (mut top, mut rest, mut services) = (Vec::new(), Sums::default(), 0);
        for part in parts {
            top.extend(part.top.iter().cloned());
            rest += part.rest;
            services += part.services;
        }
        let merged = Tally::of(top.into_iter(), most);
        rest += merged.rest;
        Tally { top: merged.top, rest, services }
    }
}

/// What the workers of a process showed last.
#[derive(Debug, Clone)]
pub struct Board {
    most: usize,
    tallies: Arc<Mutex<BTreeMap<usize, Tally>>>,
}

impl Board {
    /// A board that names the `most` largest services.
    pub fn new(most: usize) -> Self {
        Board { most, tallies: Arc::default() }
    }

    /// All workers together.
    pub fn tally(&self) -> Tally {
        let tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        Tally::merged(tallies.values(), self.most)
    }

    fn show(&self, worker: usize, tally: Tally) {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner).insert(worker, tally);
    }
}

/// Shows on `board` what the open windows of this worker hold.
pub fn top_services<'scope>(
    rolling: Arranged<'scope, RollingTrace>,
    ticks: StreamVec<'scope, Epoch, Tick>,
    board: Board,
) {
    let mut builder = OperatorBuilder::new("top_services".to_owned(), ticks.scope());
    let worker = ticks.scope().index();
    let mut rolling_in = builder.new_input(rolling.stream, Pipeline);
    let mut ticks_in = builder.new_input(ticks, Pipeline);
    let mut trace = rolling.trace;
    builder.build(move |_| {
        let (mut next_us, mut waiting) = (i64::MIN, None);
        move |frontiers| {
            rolling_in.for_each(|_, _| {});
            ticks_in.for_each(|cap, data| {
                let Some((epoch, tick)) = cap.least().copied().zip(data.pop()) else { return };
                if tick.clock.wall_us >= next_us {
                    waiting = Some((epoch, tick.clock.wall_us));
                }
            });
            let is_closed = |epoch: &Epoch| !frontiers.iter().any(|frontier| frontier.less_equal(epoch));
            if let Some((epoch, wall_us)) = waiting.take_if(|(epoch, _)| is_closed(epoch)) {
                board.show(worker, Tally::of(windows(&mut trace, epoch).into_iter(), board.most));
                next_us = wall_us + EVERY_US;
            }
            // Nothing before what is still open is asked for again.
            let open = waiting.map(|(epoch, _)| epoch);
            let frontier: Vec<Epoch> =
                open.into_iter().chain(frontiers.iter().filter_map(least)).min().into_iter().collect();
            trace.set_logical_compaction(AntichainRef::new(&frontier));
            trace.set_physical_compaction(AntichainRef::new(&frontier));
        }
    });
}

fn least(frontier: &timely::progress::frontier::MutableAntichain<Epoch>) -> Option<Epoch> {
    frontier.frontier().first().copied()
}

/// Each service and its sums as of `epoch`, but for the stream as a whole.
fn windows(trace: &mut RollingTrace, epoch: Epoch) -> Vec<(CompactString, Sums)> {
    let batches = trace.batches_through(AntichainRef::new(&[])).unwrap_or_default();
    let (mut cursor, batches) = cursor_list(batches);
    let mut found = Vec::new();
    while let Some(service) = cursor.get_key(&batches) {
        let mut total = Sums::default();
        cursor.map_times(&batches, |time, diff| {
            if *time <= epoch {
                total += sums(*diff);
            }
        });
        if *service != WHOLE_STREAM {
            found.push((service.clone(), total));
        }
        cursor.step_key(&batches);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn logs(count: i64) -> Sums {
        Sums { logs: count, errors: count / 2, message_chars: 7 * count }
    }

    #[test]
    fn the_largest_are_named_and_nothing_is_lost() {
        let windows = [("a", 3), ("b", 9), ("c", 0), ("d", 9), ("e", 1)];
        let tally = Tally::of(windows.iter().map(|(name, n)| ((*name).into(), logs(*n))), 2);
        let expected = Tally {
            top: vec![("b".into(), logs(9)), ("d".into(), logs(9))],
            rest: logs(3) + logs(1),
            services: 4,
        };
        assert_eq!(tally, expected);
        assert_eq!(Tally::of(std::iter::empty(), 2), Tally::default());
    }

    proptest! {
        /// However the services are spread over workers, all together show the same.
        #[test]
        fn workers_together_show_what_one_would(
            counts in prop::collection::vec((0_i64..50, 0_usize..4), 0..60),
            most in 0_usize..12,
        ) {
            let counts = &counts;
            let window = |i: usize| (CompactString::from(format!("s{i}")), logs(counts[i].0));
            let alone = Tally::of((0..counts.len()).map(window), most);
            let worker = |w: usize| {
                let own = (0..counts.len()).filter(move |i| counts[*i].1 == w);
                Tally::of(own.map(window).collect::<Vec<_>>().into_iter(), most)
            };
            let parts = [worker(0), worker(1), worker(2), worker(3)];
            prop_assert_eq!(Tally::merged(parts.iter(), most), alone);
        }
    }
}
