//! Hourly counts per service, as differences: the store adds them up. A late log corrects its hour, however late it is.

use crate::record::{Change, Epoch, Keyed, WHOLE_STREAM};
use compact_str::CompactString;
use differential_dataflow::AsCollection;
use smartlog_schema::window::{HOUR, floor_to};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Operator;

/// What each epoch adds to each hour of each service.
pub fn hourly<'scope>(admitted: StreamVec<'scope, Epoch, Keyed>) -> StreamVec<'scope, Epoch, Change> {
    let counts = admitted.unary(Pipeline, "hourly", |_, _| {
        |input, output| {
            input.for_each(|cap, data| {
                let Some(&epoch) = cap.least() else { return };
                let mut session = output.session(&cap);
                for item in data.drain(..) {
                    let Keyed::Partial(partial) = item else { continue };
                    if partial.service != WHOLE_STREAM {
                        let hour = floor_to(partial.second, HOUR);
                        session.give((
                            (partial.service, hour),
                            epoch,
                            (partial.sums.logs, partial.sums.errors),
                        ));
                    }
                }
            });
        }
    });
    // A batch of several epochs travels under the first of them. Each change must travel under its own, or it would be
    // committed with an earlier epoch's positions, and once more after a crash between the two.
    counts.as_collection().consolidate().inner.unary(Pipeline, "hourly by epoch", |_, _| {
        |input, output| {
            input.for_each(|cap, data| {
                let Some(first) = cap.retain_least(0) else { return };
                data.sort_unstable_by_key(|(_, epoch, _)| *epoch);
                for of_epoch in data.chunk_by(|a, b| a.1 == b.1) {
                    let epoch = first.delayed(&of_epoch[0].1);
                    output.session(&epoch).give_iterator(of_epoch.iter().map(change));
                }
            });
        }
    })
}

fn change(((service, hour), _, (logs, errors)): &((CompactString, i64), Epoch, (i64, i64))) -> Change {
    Change::Hour { service: service.clone(), hour: *hour, logs: *logs, errors: *errors }
}
