//! Final windows every 10 s of event time, as a model sees them.
//!
//! ```text
//!   seconds ─▶ feature_windows ─┬─ windows of this worker's services ──────────────▶ feature_rows ─▶ FeatureRow
//!   ticks   ─▶                  └─ how many services have a log ── broadcast ─▶
//! ```
//!
//! What kinds of messages there are [`breakdown`](crate::breakdown) counts, and writes in where a model asks for it.
//!
//! Serving takes a window once the watermark passes its end; what is later than that corrects windows and episodes, not
//! the rows. Training waits for `max_lateness` more, so that the same history gives the same rows whatever the ticks
//! and workers were. Windows without a log have no row.

use crate::closed_epochs::ClosedEpochs;
use crate::features::{self, WIDTH, Window};
use crate::pattern_window::PatternSums;
use crate::record::{Epoch, Tick, WHOLE_STREAM};
use crate::seconds::{Seconds, each_addition};
use crate::sums::Sums;
use crate::window::SecondsTrace;
use crate::window_rows::rows_of;
use compact_str::CompactString;
use differential_dataflow::operators::arrange::Arranged;
use differential_dataflow::trace::TraceReader;
use serde::{Deserialize, Serialize};
use smartlog_schema::window::{WINDOW_SECONDS, bucket_of, floor_to};
use std::collections::BTreeMap;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::vec::Broadcast;
use timely::progress::frontier::AntichainRef;

/// Seconds of event time between two windows of a service.
pub const HOP_SECONDS: i64 = 10;

/// One final window, whole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FeatureRow {
    /// End of the window, epoch seconds, a multiple of [`HOP_SECONDS`].
    pub end: i64,
    pub service: CompactString,
    pub sums: Sums,
    pub unique_services: i64,
    pub patterns: PatternSums,
}

impl FeatureRow {
    /// The window.
    pub fn window(&self) -> Window {
        let FeatureRow { end, sums, unique_services, patterns, .. } = *self;
        Window { end, sums, unique_services, patterns }
    }

    /// What models may look at.
    pub fn values(&self) -> [f64; WIDTH] {
        features::values(&self.window())
    }
}

/// A window of this worker; its count of services comes from all workers.
type Part = (i64, CompactString, Sums);
/// End of a window, and how many services of one worker have a log in it.
type Count = (i64, i64);

/// Which windows are taken when; what it holds are names and times, never sums.
#[derive(Debug, Default)]
struct Takes {
    /// How long after its end passed the watermark a window is taken.
    lag: i64,
    /// The last end that was taken.
    taken_through: Option<i64>,
    /// The newest second with a log of each service that may have one in a window still to come.
    live: BTreeMap<CompactString, i64>,
}

impl Takes {
    fn saw(&mut self, service: &CompactString, second: i64) {
        match self.live.get_mut(service) {
            Some(newest) => *newest = second.max(*newest),
            None => drop(self.live.insert(service.clone(), second)),
        }
    }

    /// The ends in `(after, through]` that are due at `tick`.
    fn due(&mut self, tick: &Tick) -> Option<(i64, i64)> {
        let through = floor_to(self.reached(tick), HOP_SECONDS);
        let after = self.taken_through.or_else(|| tick.resumed_from.map(|s| floor_to(s, HOP_SECONDS)));
        // A first start begins with the first log, wherever that is.
        let after = after.unwrap_or(i64::MIN / 2);
        (through > after).then(|| {
            self.taken_through = Some(through);
            (after, through)
        })
    }

    fn reached(&self, tick: &Tick) -> i64 {
        // At the end of a history the clock may have gone on with the wall: the logs say where it ends.
        let newest = tick.clock.partitions.values().max().map(|us| bucket_of(*us));
        match newest.filter(|_| tick.ended && self.lag > 0) {
            Some(newest) => newest,
            None => tick.final_through() - self.lag,
        }
    }

    fn forget_silent(&mut self, through: i64) {
        self.live.retain(|_, newest| *newest + WINDOW_SECONDS > through);
    }
}

/// The rows of this worker's services, in no particular order within an epoch, each `lag` seconds after its window is
/// final.
pub fn feature_rows<'scope>(
    seconds: Arranged<'scope, SecondsTrace>,
    ticks: StreamVec<'scope, Epoch, Tick>,
    lag: i64,
) -> StreamVec<'scope, Epoch, FeatureRow> {
    let (parts, counts) = feature_windows(seconds, ticks, lag);
    complete(parts, counts.broadcast())
}

fn feature_windows<'scope>(
    seconds: Arranged<'scope, SecondsTrace>,
    ticks: StreamVec<'scope, Epoch, Tick>,
    lag: i64,
) -> (StreamVec<'scope, Epoch, Part>, StreamVec<'scope, Epoch, Count>) {
    let mut builder = OperatorBuilder::new("feature_windows".to_owned(), ticks.scope());
    let mut seconds_in = builder.new_input(seconds.stream, Pipeline);
    let mut ticks_in = builder.new_input(ticks, Pipeline);
    let (parts_out, parts) = builder.new_output();
    let (counts_out, counts) = builder.new_output();
    let mut parts_out = OutputBuilder::from(parts_out);
    let mut counts_out = OutputBuilder::from(counts_out);
    let mut trace = seconds.trace;
    builder.build(move |capabilities| {
        drop(capabilities);
        let mut takes = Takes { lag, ..Takes::default() };
        let mut ticks: BTreeMap<Epoch, (Vec<Capability<Epoch>>, Tick)> = BTreeMap::new();
        move |frontiers| {
            seconds_in.for_each(|_, spans| {
                for batch in spans.drain(..).filter_map(|span| span.inner) {
                    each_addition(&batch, |_, service, second| takes.saw(service, second));
                }
            });
            ticks_in.for_each(|cap, data| {
                if let (Some(&epoch), Some(tick)) = (cap.least(), data.drain(..).next_back()) {
                    let held = (0..2).filter_map(|port| cap.retain_least(port)).collect();
                    ticks.insert(epoch, (held, tick));
                }
            });
            let is_closed = |epoch: &Epoch| !frontiers.iter().any(|frontier| frontier.less_equal(epoch));
            while let Some(entry) = ticks.first_entry().filter(|entry| is_closed(entry.key())) {
                let (epoch, (caps, tick)) = entry.remove_entry();
                if let Some((after, through)) = takes.due(&tick).filter(|_| tick.is_known()) {
                    let mut parts = parts_out.activate();
                    let mut parts = parts.session(&caps[0]);
                    let mut services_at: BTreeMap<i64, i64> = BTreeMap::new();
                    let mut sums = Seconds::as_of(&mut trace, epoch);
                    for service in takes.live.keys() {
                        let seconds = sums.of(service, after - WINDOW_SECONDS);
                        for (end, sums) in rows_of(seconds, HOP_SECONDS, after, through) {
                            if *service != WHOLE_STREAM {
                                *services_at.entry(end).or_default() += 1;
                            }
                            parts.give((end, service.clone(), sums));
                        }
                    }
                    counts_out.activate().session(&caps[1]).give_iterator(services_at.into_iter());
                    takes.forget_silent(through);
                }
                let frontier = [epoch + 1];
                trace.set_logical_compaction(AntichainRef::new(&frontier));
                trace.set_physical_compaction(AntichainRef::new(&frontier));
            }
        }
    });
    (parts, counts)
}

/// Gives each window its count of services, once all workers have told theirs.
fn complete<'scope>(
    parts: StreamVec<'scope, Epoch, Part>,
    counts: StreamVec<'scope, Epoch, Count>,
) -> StreamVec<'scope, Epoch, FeatureRow> {
    let mut builder = OperatorBuilder::new("feature_rows".to_owned(), parts.scope());
    let mut parts_in = builder.new_input(parts, Pipeline);
    let mut counts_in = builder.new_input(counts, Pipeline);
    let (rows_out, rows) = builder.new_output();
    let mut rows_out = OutputBuilder::from(rows_out);
    builder.build(move |capabilities| {
        drop(capabilities);
        let mut waiting = ClosedEpochs::<Vec<Part>>::new();
        let mut counted: BTreeMap<Epoch, BTreeMap<i64, i64>> = BTreeMap::new();
        move |frontiers| {
            parts_in.for_each(|cap, data| waiting.gather(cap.retain_least(0), |parts| parts.append(data)));
            counts_in.for_each(|cap, data| {
                let Some(&epoch) = cap.least() else { return };
                let of_epoch = counted.entry(epoch).or_default();
                for (end, services) in data.drain(..) {
                    *of_epoch.entry(end).or_default() += services;
                }
            });
            let is_closed = |epoch: &Epoch| !frontiers.iter().any(|frontier| frontier.less_equal(epoch));
            while let Some((cap, parts)) = waiting.next(is_closed) {
                let counts = counted.remove(cap.time()).unwrap_or_default();
                let row = |(end, service, sums)| FeatureRow {
                    end,
                    service,
                    sums,
                    unique_services: counts.get(&end).copied().unwrap_or(0),
                    patterns: PatternSums::default(),
                };
                rows_out.activate().session(&cap).give_iterator(parts.into_iter().map(row));
            }
            // Epochs of which this worker has no window.
            while counted.first_entry().filter(|entry| is_closed(entry.key())).map(|e| e.remove()).is_some() {
            }
        }
    });
    rows
}
