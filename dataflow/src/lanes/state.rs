//! What the two ends of a lane, and whoever watches it, share.

use super::Front;
use smartlog_schema::position::TopicPartition;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// How a lane stands in one partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Everything below was handed to the sink, as its thread says; `None` before it claimed the partition.
    pub next_offset: Option<i64>,
    /// Whether the worker sends it the partition's logs.
    pub is_attached: bool,
}

/// One lane, as seen from outside.
#[derive(Debug)]
pub struct LaneState {
    pub sink: &'static str,
    pub worker: usize,
    /// Bytes that wait in the lane, and how many may before partitions are detached.
    pub bytes: AtomicUsize,
    pub limit: usize,
    /// How often a partition was detached.
    pub detachments: AtomicU64,
    /// Records that Kafka deleted before this lane had read them.
    pub lost: AtomicU64,
    front: Arc<Front>,
    standings: Mutex<BTreeMap<TopicPartition, Standing>>,
    requests: Mutex<Vec<TopicPartition>>,
    has_requests: AtomicBool,
    /// Whether the last word on the watermark was taken; the next waits for that.
    pub(super) told: AtomicBool,
}

impl LaneState {
    pub fn new(sink: &'static str, worker: usize, limit: usize, front: Arc<Front>) -> Self {
        LaneState {
            sink,
            worker,
            bytes: AtomicUsize::new(0),
            limit,
            detachments: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            front,
            standings: Mutex::default(),
            requests: Mutex::default(),
            has_requests: AtomicBool::new(false),
            told: AtomicBool::new(true),
        }
    }

    /// The sink and the worker: what metrics and `/health` call it.
    pub fn name(&self) -> String {
        format!("{}-{}", self.sink, self.worker)
    }

    /// Whether `bytes` more find room. One stretch always does: a lane that takes nothing would never move.
    pub fn has_room(&self, bytes: usize) -> bool {
        let waiting = self.bytes.load(Ordering::Relaxed);
        waiting == 0 || waiting + bytes <= self.limit
    }

    /// Records that the pipeline has read and this lane's sink was not handed yet.
    pub fn lag(&self) -> i64 {
        let front = self.front.positions();
        let standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
        let behind = |(source, next): (&TopicPartition, &i64)| {
            let handed = standings.get(source).and_then(|standing| standing.next_offset);
            handed.map_or(0, |handed| (next - handed).max(0))
        };
        front.iter().map(behind).sum()
    }

    /// Partitions that are attached, and those that are detached.
    pub fn counts(&self) -> (usize, usize) {
        let standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
        let attached = standings.values().filter(|standing| standing.is_attached).count();
        (attached, standings.len() - attached)
    }

    /// Partitions, and how it stands in each.
    pub fn standings(&self) -> BTreeMap<TopicPartition, Standing> {
        self.standings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says how far the sink was handed each partition.
    pub(super) fn handed<'a>(&self, next_offsets: impl Iterator<Item = (&'a TopicPartition, i64)>) {
        let mut standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
        for (source, next_offset) in next_offsets {
            standings.entry(source.clone()).or_default().next_offset = Some(next_offset);
        }
    }

    /// Says whether the lane is sent a partition's logs.
    pub(super) fn attach(&self, source: &TopicPartition, is_attached: bool) {
        let mut standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
        standings.entry(source.clone()).or_default().is_attached = is_attached;
    }

    /// Everything of a partition below this was handed to the sink.
    pub(super) fn handed_up_to(&self, source: &TopicPartition) -> Option<i64> {
        self.standings.lock().unwrap_or_else(PoisonError::into_inner).get(source)?.next_offset
    }

    /// Asks to be sent the logs of `source` again.
    pub(super) fn request(&self, source: TopicPartition) {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(source);
        self.has_requests.store(true, Ordering::Release);
    }

    /// What was asked for since the last call.
    pub(super) fn take_requests(&self) -> Vec<TopicPartition> {
        if !self.has_requests.swap(false, Ordering::Acquire) {
            return Vec::new();
        }
        std::mem::take(&mut *self.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
