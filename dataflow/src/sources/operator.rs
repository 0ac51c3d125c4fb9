//! The operator around a [`Reader`]: reads while there is room, cuts epochs by the wall clock.
//!
//! Every worker cuts epochs by the same clock and says how far it is at each, also when it read nothing: nobody waits
//! for a worker that is merely idle. Records go out before the capability is moved on, never after.

use super::pace::{LiveTimes, Pace, Together};
use super::{Assignment, Reader, Waker, owner};
use smartlog_operators::record::{Epoch, Input};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

/// Records taken at a time: enough to make a batch worthwhile, few enough for ticks to stay on time.
const RECORDS_PER_POLL: usize = 4096;
/// Batches taken before the rest of the dataflow has its turn.
const POLLS_PER_TURN: usize = 4;
/// How long to wait before asking again whether the sinks have made room.
const ROOM_CHECK: Duration = Duration::from_millis(2);

/// Wall time, microseconds since 1970.
pub fn wall_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Reads this worker's share of what `assignments` name, until it ends or is told to stop.
pub fn source<'scope>(
    assignments: StreamVec<'scope, Epoch, Assignment>,
    reader: impl FnOnce(Waker) -> anyhow::Result<Box<dyn Reader>>,
    pace: Pace,
    live: LiveTimes,
    fail: impl Fn(anyhow::Error) + 'static,
) -> StreamVec<'scope, Epoch, Input> {
    let scope = assignments.scope();
    let (index, peers) = (scope.index(), scope.peers());
    let mut builder = OperatorBuilder::new("source".to_owned(), scope.clone());
    // The output's times come from the source's own capability.
    let mut assignments = builder.new_input_connection(assignments, Pipeline, []);
    let (output, stream) = builder.new_output_connection([]);
    let mut output = OutputBuilder::from(output);
    let info = builder.operator_info();
    let activator = scope.activator_for(Rc::clone(&info.address));
    let waker = scope.worker().sync_activator_for(info.address.to_vec());
    let mut reader = reader(Arc::new(move || {
        // The worker is gone when this fails: nobody is left to wake.
        let _ = waker.activate();
    }));
    builder.build_reschedule(move |mut capabilities| {
        let mut capability: Option<Capability<Epoch>> = capabilities.pop();
        let mut slots = 0;
        let mut together = Together::new(pace.clone(), live);
        move |frontiers| {
            let Some(cap) = capability.as_mut() else { return false };
            let mut step = || -> anyhow::Result<bool> {
                let reader = reader.as_mut().map_err(|error| anyhow::anyhow!("{error:#}"))?;
                let mut output = output.activate();
                let mut fresh = Vec::new();
                assignments.for_each(|at, data| {
                    // What was ordered in an epoch happens in it or later: seeds and plan come first.
                    if let Some(epoch) = at.least().filter(|epoch| *epoch > cap.time()) {
                        cap.downgrade(epoch);
                    }
                    fresh.extend(data.drain(..).filter(|a: &Assignment| owner(&a.source, peers) == index));
                });
                if !fresh.is_empty() {
                    reader.assign(&fresh)?;
                    slots += fresh.len();
                    output.session(cap).give(Input::Partitions(reader.partitions()));
                }
                let mut more = true;
                let stop = pace.stop.load(Ordering::Relaxed);
                for _ in 0..POLLS_PER_TURN {
                    if stop || !more || !pace.has_room() {
                        break;
                    }
                    match reader.poll(RECORDS_PER_POLL)? {
                        Some(records) => output.session(cap).give(Input::Records(records)),
                        None => more = false,
                    }
                }
                let now_us = wall_us();
                let epoch = pace.epoch_at(now_us).max(*cap.time());
                let partitions = reader.partitions();
                let all_assigned = frontiers[0].is_empty();
                let over = all_assigned && partitions.iter().all(|p| p.ended);
                if over || stop || epoch > *cap.time() {
                    together.keep(&mut **reader, &partitions)?;
                    if slots > 0 {
                        output.session(cap).give(Input::Close { partitions, wall_us: now_us });
                    }
                    cap.downgrade(&epoch.max(*cap.time() + 1));
                }
                if over || stop {
                    return Ok(true);
                }
                if !pace.has_room() {
                    pace.stalls.fetch_add(1, Ordering::Relaxed);
                    activator.activate_after(ROOM_CHECK);
                } else if more && slots > 0 {
                    activator.activate();
                }
                activator.activate_after(pace.rest_of_epoch(now_us));
                Ok(false)
            };
            match step() {
                Ok(false) => true,
                Ok(true) => {
                    capability = None;
                    false
                }
                Err(error) => {
                    fail(error);
                    capability = None;
                    false
                }
            }
        }
    });
    stream
}
