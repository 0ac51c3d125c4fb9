//! How far the pipeline itself has read: what a lane that reads by itself may not pass, and must judge by.

use smartlog_schema::commit::RetentionCut;
use smartlog_schema::position::{Positions, TopicPartition};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

#[derive(Debug, Default)]
struct Reached {
    next_offset: i64,
    cuts: Vec<RetentionCut>,
}

/// The partitions of one worker. Written by the worker, read by its lanes.
#[derive(Debug, Default)]
pub struct Front(Mutex<BTreeMap<TopicPartition, Reached>>);

impl Front {
    /// The pipeline read up to `next_offset`; the records since the last call were judged by `cut`. What lies before
    /// `needed_from` is no longer asked for.
    pub fn advance(&self, source: &TopicPartition, next_offset: i64, cut: RetentionCut, needed_from: i64) {
        let mut partitions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let reached = match partitions.get_mut(source) {
            Some(reached) => reached,
            None => partitions.entry(source.clone()).or_default(),
        };
        reached.next_offset = next_offset;
        if reached.cuts.last().is_none_or(|last| last.before_us != cut.before_us) {
            let passed = reached.cuts.partition_point(|cut| cut.from_offset <= needed_from).saturating_sub(1);
            reached.cuts.drain(..passed);
            reached.cuts.push(cut);
        }
    }

    /// Takes note of what was too old in offsets that an earlier run read.
    pub fn remember(&self, source: &TopicPartition, stored: Vec<RetentionCut>) {
        let mut partitions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let reached = partitions.entry(source.clone()).or_default();
        let first = reached.cuts.first().map_or(i64::MAX, |cut| cut.from_offset);
        let earlier = stored.into_iter().filter(|cut| cut.from_offset < first);
        reached.cuts.splice(..0, earlier.collect::<Vec<_>>());
    }

    /// The offset up to which the pipeline has read.
    pub fn next_offset(&self, source: &TopicPartition) -> i64 {
        let partitions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        partitions.get(source).map_or(i64::MIN, |reached| reached.next_offset)
    }

    /// The offsets up to which the pipeline has read.
    pub fn positions(&self) -> Positions {
        let partitions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        partitions.iter().map(|(source, reached)| (source.clone(), reached.next_offset)).collect()
    }

    /// Logs of the record at `offset` are too old before `.0`; so are those of the records after it, below `.1`.
    pub fn cut_at(&self, source: &TopicPartition, offset: i64) -> (i64, i64) {
        let partitions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(reached) = partitions.get(source) else { return (i64::MIN, i64::MAX) };
        let after = reached.cuts.partition_point(|cut| cut.from_offset <= offset);
        let before_us = after.checked_sub(1).map_or(i64::MIN, |at| reached.cuts[at].before_us);
        (before_us, reached.cuts.get(after).map_or(i64::MAX, |cut| cut.from_offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(from_offset: i64, before_us: i64) -> RetentionCut {
        RetentionCut { from_offset, before_us }
    }

    #[test]
    fn each_record_is_judged_by_what_held_when_the_pipeline_read_it() {
        let (front, source) = (Front::default(), TopicPartition::new("logs", 0));
        front.advance(&source, 100, cut(90, 7), 0);
        front.advance(&source, 120, cut(100, 7), 0);
        front.advance(&source, 140, cut(120, 9), 0);
        front.remember(&source, vec![cut(10, 3), cut(50, 5), cut(90, 6)]);
        let verdicts = [0, 9, 10, 49, 50, 89, 90, 119, 120, 999].map(|offset| front.cut_at(&source, offset));
        let none = i64::MIN;
        assert_eq!(
            verdicts,
            [
                (none, 10),
                (none, 10),
                (3, 50),
                (3, 50),
                (5, 90),
                (5, 90),
                (7, 120),
                (7, 120),
                (9, i64::MAX),
                (9, i64::MAX)
            ]
        );
        assert_eq!(front.next_offset(&source), 140);
    }

    #[test]
    fn what_every_lane_has_passed_is_forgotten_and_what_holds_at_its_offset_is_not() {
        let (front, source) = (Front::default(), TopicPartition::new("logs", 0));
        for n in 1..=9 {
            front.advance(&source, n * 10, cut(n * 10 - 10, n), 55);
        }
        assert_eq!(front.cut_at(&source, 0), (i64::MIN, 50), "forgotten");
        assert_eq!(front.cut_at(&source, 55), (6, 60));
    }
}
