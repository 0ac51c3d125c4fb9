//! The worker's end of a lane: decides, stretch by stretch, what is sent and what is left to the lane's own reading.
//! Never waits.

use super::{Front, LaneState, OfWorker};
use smartlog_operators::record::{Epoch, Tick};
use smartlog_operators::stretch::{Stretch, Wants};
use smartlog_schema::commit::RetentionCut;
use smartlog_schema::log::LogBatch;
use smartlog_schema::position::TopicPartition;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::Sender;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

/// What the worker tells the lane's thread, in order.
#[derive(Debug)]
pub(super) enum Parcel {
    /// The pipeline reads this partition, from this offset. Not attached until it is told so.
    Opened {
        source: TopicPartition,
        at: i64,
    },
    /// From this offset on all logs of the partition are sent.
    Attached {
        source: TopicPartition,
        at: i64,
    },
    Logs(LogBatch),
    /// From this offset on none are.
    Detached {
        source: TopicPartition,
        at: i64,
    },
    /// Everything below this watermark was sent before, of partitions that are attached. Microseconds.
    Watermark(i64),
}

/// How the worker deals with one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    Attached,
    Detached,
    /// Attached from the next stretch that is kept.
    Awaited,
}

/// The worker's end. What it sent and the sink has not taken is bounded by [`LaneState::limit`].
pub struct Lane {
    sender: Sender<Parcel>,
    state: Arc<LaneState>,
    /// Which of the log sinks it is, as a bit of [`smartlog_operators::stretch::Want::attached`].
    bit: u64,
    /// By slot.
    holds: Vec<Hold>,
}

impl Lane {
    pub(super) fn new(sender: Sender<Parcel>, state: Arc<LaneState>, number: usize) -> Self {
        Lane { sender, state, bit: 1 << number, holds: Vec::new() }
    }

    fn send(&self, parcel: Parcel) {
        // The thread is gone only after it failed, which stops everything.
        let _ = self.sender.send(parcel);
    }

    fn open(&mut self, slot: usize, source: &TopicPartition, at: i64, attached: u64) {
        self.send(Parcel::Opened { source: source.clone(), at });
        let is_attached = attached & self.bit != 0;
        if is_attached {
            self.send(Parcel::Attached { source: source.clone(), at });
        }
        self.state.attach(source, is_attached);
        self.holds.resize(self.holds.len().max(slot + 1), Hold::Detached);
        self.holds[slot] = if is_attached { Hold::Attached } else { Hold::Detached };
    }

    /// Sends a stretch, or leaves it to the lane's own reading.
    fn offer(&mut self, stretch: &Stretch) {
        let hold = &mut self.holds[stretch.slot as usize];
        let batch = &stretch.batch;
        let (source, at) = (batch.source.clone(), batch.first_offset);
        match hold {
            Hold::Awaited if stretch.kept => {
                *hold = Hold::Attached;
                self.state.attach(&source, true);
                self.send(Parcel::Attached { source, at });
                self.offer(stretch);
            }
            Hold::Detached | Hold::Awaited => {}
            Hold::Attached if stretch.kept && self.state.has_room(bytes(batch)) => {
                self.state.bytes.fetch_add(bytes(batch), Ordering::Relaxed);
                self.send(Parcel::Logs(batch.clone()));
            }
            Hold::Attached => {
                *hold = Hold::Detached;
                self.state.attach(&source, false);
                self.state.detachments.fetch_add(1, Ordering::Relaxed);
                tracing::debug!("{}: {source} is left to its own reading from offset {at}", self.state.sink);
                self.send(Parcel::Detached { source, at });
            }
        }
    }

    /// Whether it is sent this partition, or will be.
    fn wants(&self, slot: usize) -> bool {
        self.holds.get(slot).is_some_and(|hold| *hold != Hold::Detached)
    }
}

/// Memory that a batch takes in a lane.
pub(super) fn bytes(batch: &LogBatch) -> usize {
    batch.bytes() + size_of::<LogBatch>()
}

/// All lanes of one worker.
struct Lanes {
    lanes: Vec<Lane>,
    front: Arc<Front>,
    wants: Wants,
    /// By slot; `None` before anything came of it.
    sources: Vec<Option<TopicPartition>>,
}

impl Lanes {
    fn take(&mut self, stretch: &Stretch) {
        let (slot, batch) = (stretch.slot as usize, &stretch.batch);
        self.sources.resize(self.sources.len().max(slot + 1), None);
        if self.sources[slot].is_none() {
            self.sources[slot] = Some(batch.source.clone());
            let attached = self.wants.borrow()[slot].attached;
            self.lanes
                .iter_mut()
                .for_each(|lane| lane.open(slot, &batch.source, batch.first_offset, attached));
        }
        let handed = |lane: &Lane| lane.state.handed_up_to(&batch.source).unwrap_or(i64::MIN);
        let needed_from = self.lanes.iter().map(handed).min();
        let cut = RetentionCut { from_offset: batch.first_offset, before_us: stretch.before_us };
        self.front.advance(&batch.source, batch.next_offset, cut, needed_from.unwrap_or(i64::MAX));
        self.lanes.iter_mut().for_each(|lane| lane.offer(stretch));
    }

    /// Does what lanes asked for, and tells the fold which logs are wanted.
    fn settle(&mut self) {
        let mut wants = self.wants.borrow_mut();
        for lane in &mut self.lanes {
            for source in lane.state.take_requests() {
                let Some(slot) = self.sources.iter().position(|known| known.as_ref() == Some(&source)) else {
                    continue;
                };
                if lane.holds[slot] == Hold::Detached {
                    lane.holds[slot] = Hold::Awaited;
                    wants[slot].asked = true;
                }
            }
        }
        for (slot, source) in self.sources.iter().enumerate() {
            if source.is_some() {
                wants[slot].keep = self.lanes.iter().any(|lane| lane.wants(slot));
            }
        }
    }

    fn tell(&self, watermark_us: i64) {
        for lane in &self.lanes {
            if watermark_us != 0 && lane.state.told.swap(false, Ordering::AcqRel) {
                lane.send(Parcel::Watermark(watermark_us));
            }
        }
    }
}

/// Sends stretches on their lanes. `watermark_us`: of the dataflow, 0 while unknown; nothing raises it once `ticks` are over,
/// so lanes end after that, and their sinks know how far all of it goes.
pub fn logs_to<'scope>(
    stretches: StreamVec<'scope, Epoch, Stretch>,
    ticks: StreamVec<'scope, Epoch, Tick>,
    logs: OfWorker,
    wants: Wants,
    watermark_us: Arc<AtomicI64>,
) {
    let OfWorker { lanes, front } = logs;
    let mut builder = OperatorBuilder::new("logs".to_owned(), stretches.scope());
    let mut stretches = builder.new_input(stretches, Pipeline);
    let mut ticks = builder.new_input(ticks, Pipeline);
    builder.build(move |_| {
        let mut lanes = Lanes { lanes, front, wants, sources: Vec::new() };
        move |frontiers| {
            // What the watermark covers was read before it was known, hence lies in the input by now.
            let covered_us = watermark_us.load(Ordering::Relaxed);
            stretches.for_each(|_, data| data.drain(..).for_each(|stretch| lanes.take(&stretch)));
            ticks.for_each(|_, _| {});
            lanes.settle();
            lanes.tell(covered_us);
            if frontiers.iter().all(|frontier| frontier.is_empty()) {
                lanes.lanes.clear();
            }
        }
    });
}
