//! The operator around a [`Reader`]: reads what there is, cuts epochs by the wall clock.
//!
//! Every worker cuts epochs by the same clock and says how far it is at each, also when it read nothing: nobody waits
//! for a worker that is merely idle. Records go out before the capability is moved on, never after.

use super::pace::{LiveTimes, Pace, Together};
use super::{Assignment, Reader, Waker, owner};
use smartlog_operators::record::{Epoch, Input};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, StreamVec};
use timely::scheduling::Activator;

/// Records taken at a time: enough to make a batch worthwhile, few enough for ticks to stay on time.
const RECORDS_PER_POLL: usize = 4096;
/// Batches taken before the rest of the dataflow has its turn.
const POLLS_PER_TURN: usize = 4;
/// Looks for records while an epoch lasts, where there were none the last time. What is read shows when the epoch ends, so
/// to be woken by each batch that a broker sends would cost time and win none.
const LOOKS_PER_EPOCH: u32 = 4;

/// Wall time, microseconds since 1970.
pub fn wall_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Wakes the operator at `address` from another thread.
pub fn waker(scope: Scope<'_, Epoch>, address: &[usize]) -> Waker {
    let activator = scope.worker().sync_activator_for(address.to_vec());
    Arc::new(move || {
        // The worker is gone when this fails: nobody is left to wake.
        let _ = activator.activate();
    })
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
    let mut builder = OperatorBuilder::new("source".to_owned(), scope);
    // The output's times come from the source's own capability.
    let mut assignments = builder.new_input_connection(assignments, Pipeline, []);
    let (output, stream) = builder.new_output_connection([]);
    let mut output = OutputBuilder::from(output);
    let info = builder.operator_info();
    let activator = scope.activator_for(Rc::clone(&info.address));
    let reader = reader(waker(scope, &info.address));
    let together = Together::new(pace.clone(), live);
    let mut source = match reader {
        Ok(reader) => Some(Source { reader, together, pace, activator, any: false }),
        Err(error) => {
            fail(error);
            None
        }
    };
    builder.build_reschedule(move |mut capabilities| {
        let mut capability = capabilities.pop().filter(|_| source.is_some());
        move |frontiers| {
            let (Some(cap), Some(source)) = (&mut capability, &mut source) else {
                // What is assigned after the end is taken all the same: a dataflow does not end while something is on
                // its way.
                assignments.for_each(|_, data| data.clear());
                return false;
            };
            let mut fresh = Vec::new();
            assignments.for_each(|at, data| {
                // What was ordered in an epoch happens in it or later: seeds and plan come first.
                if let Some(epoch) = at.least().filter(|epoch| *epoch > cap.time()) {
                    cap.downgrade(epoch);
                }
                fresh.extend(data.drain(..).filter(|a: &Assignment| owner(&a.source, peers) == index));
            });
            let mut output = output.activate();
            let mut give = |cap: &Capability<Epoch>, input| output.session(cap).give(input);
            let over = source.turn(cap, &fresh, frontiers[0].is_empty(), &mut give).unwrap_or_else(|error| {
                fail(error);
                true
            });
            if over {
                capability = None;
            }
            !over
        }
    });
    stream
}

struct Source {
    reader: Box<dyn Reader>,
    together: Together,
    pace: Pace,
    activator: Activator,
    /// Whether there is any partition to read.
    any: bool,
}

impl Source {
    /// One turn: takes assignments, reads what there is, closes the epoch when its time is over. Whether nothing
    /// will ever come again. `all_assigned`: no more assignments will come.
    fn turn(
        &mut self,
        cap: &mut Capability<Epoch>,
        fresh: &[Assignment],
        all_assigned: bool,
        give: &mut dyn FnMut(&Capability<Epoch>, Input),
    ) -> anyhow::Result<bool> {
        if !fresh.is_empty() {
            self.reader.assign(fresh)?;
            self.any = true;
            give(cap, Input::Partitions(self.reader.partitions()));
        }
        let stop = self.pace.stop.load(Ordering::Relaxed);
        let more = !stop && self.read(cap, give)?;
        let now_us = wall_us();
        let epoch = self.pace.epoch_at(now_us).max(*cap.time());
        let partitions = self.reader.partitions();
        let over = stop || (all_assigned && partitions.iter().all(|p| p.ended));
        if over || epoch > *cap.time() {
            self.together.keep(&mut *self.reader, &partitions)?;
            if self.any {
                give(cap, Input::Close { partitions, wall_us: now_us });
            }
            cap.downgrade(&epoch.max(*cap.time() + 1));
        }
        if more && self.any {
            self.activator.activate();
        }
        self.activator.activate_after(self.pace.rest_of_epoch(now_us).min(self.pace.tick / LOOKS_PER_EPOCH));
        Ok(over)
    }

    /// Reads a few batches; whether there may be more.
    fn read(
        &mut self,
        cap: &Capability<Epoch>,
        give: &mut dyn FnMut(&Capability<Epoch>, Input),
    ) -> anyhow::Result<bool> {
        for _ in 0..POLLS_PER_TURN {
            match self.reader.poll(RECORDS_PER_POLL)? {
                Some(records) => give(cap, Input::Records(records)),
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Waker;
    use super::*;
    use smartlog_operators::record::{Partition, Records};
    use smartlog_schema::position::TopicPartition;
    use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize};
    use std::time::Duration;
    use timely::dataflow::InputHandleVec;
    use timely::dataflow::operators::Probe as _;

    /// Nothing to read.
    struct Nothing;

    impl Reader for Nothing {
        fn assign(&mut self, _: &[Assignment]) -> anyhow::Result<()> {
            Ok(())
        }

        fn poll(&mut self, _: usize) -> anyhow::Result<Option<Rc<dyn Records>>> {
            Ok(None)
        }

        fn partitions(&mut self) -> Vec<Partition> {
            Vec::new()
        }

        fn pause(&mut self, _: &[u32]) -> anyhow::Result<()> {
            Ok(())
        }

        fn resume(&mut self, _: &[u32]) -> anyhow::Result<()> {
            Ok(())
        }
    }

    fn stopped() -> Pace {
        Pace {
            tick: Duration::from_millis(1),
            waiting_bytes: Arc::new(AtomicUsize::new(0)),
            max_waiting_bytes: 1,
            stop: Arc::new(AtomicBool::new(true)),
            clock_us: Arc::new(AtomicI64::new(0)),
            board: Arc::default(),
        }
    }

    fn assert_ends(reader: fn(Waker) -> anyhow::Result<Box<dyn Reader>>) {
        timely::execute_directly(move |worker| {
            let mut orders = InputHandleVec::new();
            let probe = worker.dataflow(|scope| {
                let assignments = orders.to_stream(scope);
                source(assignments, reader, stopped(), LiveTimes::default(), |_| {}).probe().0
            });
            for _ in 0..10 {
                worker.step();
            }
            let source = TopicPartition::new("a", 0);
            orders.send(Assignment { source, start: 0, end: None, attached: 0, time_us: None, clock_us: 0 });
            orders.close();
            for _ in 0..100 {
                worker.step();
            }
            assert!(probe.done());
            assert!(!worker.has_dataflows(), "something is on its way for ever");
        });
    }

    #[test]
    fn what_is_assigned_after_the_end_does_not_keep_the_dataflow() {
        assert_ends(|_| Ok(Box::new(Nothing)));
        assert_ends(|_| anyhow::bail!("no reader"));
    }
}
