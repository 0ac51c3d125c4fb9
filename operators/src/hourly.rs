//! Hourly counts per service, as differences: the store adds them up. A late log corrects its hour, however late it is.

use crate::record::{Change, Epoch, Keyed, WHOLE_STREAM};
use differential_dataflow::AsCollection;
use smartlog_schema::window::{HOUR, floor_to};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Operator;
use timely::dataflow::operators::vec::Map;

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
    let consolidated = counts.as_collection().consolidate();
    consolidated.inner.map(|((service, hour), _, (logs, errors))| Change::Hour {
        service,
        hour,
        logs,
        errors,
    })
}
