//! How far to read: no partition far ahead of the others.

use super::Reader;
use smartlog_operators::record::{Epoch, Partition};
use smartlog_schema::position::TopicPartition;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A partition runs ahead when it is this much later than the slowest unread one, microseconds.
const AHEAD_US: i64 = 10_000_000;

/// Event time of the newest log of each partition, by slot; written by the fold as it reads.
pub type LiveTimes = Rc<RefCell<Vec<Option<i64>>>>;

/// Event times of the unread partitions of all workers of this process, as they are read.
pub type Board = Arc<Mutex<BTreeMap<TopicPartition, i64>>>;

/// What decides when the source reads, shared by the workers of a process.
#[derive(Clone)]
pub struct Pace {
    pub tick: Duration,
    /// Bytes that wait for the clock, and how many may before partitions that run ahead are paused.
    pub waiting_bytes: Arc<AtomicUsize>,
    pub max_waiting_bytes: usize,
    /// Set to end reading and drain.
    pub stop: Arc<AtomicBool>,
    /// The clock, microseconds; 0 while unknown.
    pub clock_us: Arc<AtomicI64>,
    pub board: Board,
}

impl Pace {
    /// The epoch to which a wall time belongs; the same on every worker.
    pub fn epoch_at(&self, wall_us: i64) -> Epoch {
        (wall_us / i64::try_from(self.tick.as_micros()).unwrap_or(i64::MAX)).unsigned_abs()
    }

    /// How long ago an epoch ended; nothing while it has not.
    pub fn since_end_of(&self, epoch: Epoch, wall_us: i64) -> Duration {
        let tick = self.tick.as_micros() as u64;
        Duration::from_micros(
            wall_us.unsigned_abs().saturating_sub(epoch.saturating_add(1).saturating_mul(tick)),
        )
    }

    /// Until the next epoch begins.
    pub fn rest_of_epoch(&self, wall_us: i64) -> Duration {
        let tick = self.tick.as_micros() as u64;
        Duration::from_micros(tick - wall_us.unsigned_abs() % tick)
    }
}

/// Keeps one worker's partitions together with everybody's.
pub struct Together {
    pace: Pace,
    live: LiveTimes,
    paused: BTreeSet<u32>,
}

impl Together {
    pub fn new(pace: Pace, live: LiveTimes) -> Self {
        Together { pace, live, paused: BTreeSet::new() }
    }

    /// Publishes how far this worker's partitions are, and pauses those that run ahead while too much waits for the
    /// clock.
    pub fn keep(&mut self, reader: &mut dyn Reader, partitions: &[Partition]) -> anyhow::Result<()> {
        let slowest = self.publish(partitions);
        let waiting = self.pace.waiting_bytes.load(Ordering::Relaxed);
        if waiting < self.pace.max_waiting_bytes / 2 {
            if !self.paused.is_empty() {
                let all: Vec<u32> = std::mem::take(&mut self.paused).into_iter().collect();
                reader.resume(&all)?;
            }
            return Ok(());
        }
        if waiting <= self.pace.max_waiting_bytes {
            return Ok(());
        }
        // Another process may be the one that is behind: its progress shows in the clock only.
        let clock_us = self.pace.clock_us.load(Ordering::Relaxed);
        let overfull = waiting > 2 * self.pace.max_waiting_bytes;
        let slowest = slowest.filter(|_| !overfull).unwrap_or(clock_us);
        let live = self.live.borrow();
        let slots = (0..).zip(live.iter().zip(partitions));
        let ahead =
            slots.filter(|(_, (time, p))| !p.ended && time.is_some_and(|time| time > slowest + AHEAD_US));
        let fresh: Vec<u32> = ahead.map(|(slot, _)| slot).filter(|slot| self.paused.insert(*slot)).collect();
        if fresh.is_empty() { Ok(()) } else { reader.pause(&fresh) }
    }

    /// The event time of the slowest unread partition of this process.
    fn publish(&self, partitions: &[Partition]) -> Option<i64> {
        let mut board = self.pace.board.lock().unwrap_or_else(PoisonError::into_inner);
        for (partition, time) in partitions.iter().zip(self.live.borrow().iter()) {
            match time {
                Some(time) if !partition.at_end && !partition.ended => {
                    board.insert(partition.source.clone(), *time)
                }
                _ => board.remove(&partition.source),
            };
        }
        board.values().min().copied()
    }
}
