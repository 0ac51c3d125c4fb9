//! Of the logs of a service in a minute: from which partitions they came, of which services they were (for the whole
//! stream), and a few of them, by where they are.
//!
//! What is kept depends on the logs alone, whatever workers, epochs and restarts cut them into: counts add up, and of
//! names beyond a limit and of lines those with the lowest hashes stay.

use super::Counts;
use crate::flow::hash;
use compact_str::{CompactString, format_compact};
use serde::{Deserialize, Serialize};
use smartlog_schema::position::TopicPartition;
use std::collections::BTreeMap;

/// Partitions and services of a minute that are counted by name, of each.
pub const MAX_NAMES: usize = 256;
/// Lines of a minute that are cited, of errors and of others.
pub const MAX_LINES: usize = 3;

/// Counts by name, of those with the lowest hashes: the same in every minute.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByName(BTreeMap<(u64, CompactString), Counts>);

impl ByName {
    /// Adds to what is counted of `name`, if that is within the limit.
    pub fn add(&mut self, name: CompactString, counts: Counts) {
        self.add_hashed((hash(&name), name), counts);
    }

    fn add_hashed(&mut self, key: (u64, CompactString), counts: Counts) {
        if let Some(known) = self.0.get_mut(&key) {
            *known += counts;
            return;
        }
        // One that is among the lowest in the end was so all the time: none of its logs is missed.
        if self.0.len() >= MAX_NAMES {
            if self.0.last_key_value().is_some_and(|(last, _)| *last < key) {
                return;
            }
            self.0.pop_last();
        }
        self.0.insert(key, counts);
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, Counts)> {
        self.0.iter().map(|((_, name), counts)| (name.as_str(), *counts))
    }
}

/// A line that is cited, by where it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cited {
    /// Decides who is cited; first, so that it decides the order.
    pub hash: u64,
    pub timestamp_us: i64,
    pub topic: CompactString,
    pub partition: i32,
    pub offset: i64,
}

/// The lines with the lowest hashes, ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lines(Vec<Cited>);

impl Lines {
    fn wants(&self, hash: u64) -> bool {
        self.0.len() < MAX_LINES || self.0.last().is_some_and(|last| hash < last.hash)
    }

    fn add(&mut self, line: Cited) {
        if let Err(at) = self.0.binary_search(&line) {
            self.0.insert(at, line);
            self.0.truncate(MAX_LINES);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Cited> {
        self.0.iter()
    }
}

/// What was seen of a service in a minute.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub total: Counts,
    /// Of the whole stream alone.
    pub services: ByName,
    /// As `topic/partition`.
    pub partitions: ByName,
    pub errors: Lines,
    pub others: Lines,
}

impl Seen {
    /// Adds what was seen of the same service elsewhere, or in another minute.
    pub fn merge(&mut self, other: &Seen) {
        self.total += other.total;
        for (to, from) in [(&mut self.services, &other.services), (&mut self.partitions, &other.partitions)] {
            from.0.iter().for_each(|(key, counts)| to.add_hashed(key.clone(), *counts));
        }
        for (to, from) in [(&mut self.errors, &other.errors), (&mut self.others, &other.others)] {
            from.iter().for_each(|line| to.add(line.clone()));
        }
    }

    /// As part of the whole stream.
    pub fn of_stream(&self, service: CompactString) -> Seen {
        let mut seen = Seen { services: ByName::default(), ..self.clone() };
        seen.services.add(service, self.total);
        seen
    }
}

/// A partition that is read, and what the hashes of its lines begin with.
#[derive(Debug)]
pub struct Source {
    partition: TopicPartition,
    name: CompactString,
    seed: u64,
}

impl Source {
    pub fn new(partition: &TopicPartition) -> Self {
        let name = format_compact!("{}/{}", partition.topic, partition.partition);
        Source { partition: partition.clone(), seed: hash(&name), name }
    }
}

/// A line as it is read.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Of its partition among those of the source.
    pub slot: u32,
    pub offset: i64,
}

/// What one worker saw since it last sent it.
#[derive(Debug, Default)]
pub struct Seeing {
    /// By slot.
    partitions: Vec<Counts>,
    errors: Lines,
    others: Lines,
}

impl Seeing {
    /// Adds one log of the partition `source`.
    #[inline]
    pub fn add(&mut self, source: &Source, place: Place, timestamp_us: i64, is_error: bool) {
        let slot = place.slot as usize;
        if self.partitions.len() <= slot {
            self.partitions.resize(slot + 1, Counts::default());
        }
        self.partitions[slot] += Counts { logs: 1, errors: u64::from(is_error) };
        let hash = mixed(source.seed.wrapping_add(place.offset.cast_unsigned()));
        let lines = if is_error { &mut self.errors } else { &mut self.others };
        if lines.wants(hash) {
            let TopicPartition { topic, partition } = &source.partition;
            let (topic, partition) = (topic.as_str().into(), *partition);
            lines.add(Cited { hash, timestamp_us, topic, partition, offset: place.offset });
        }
    }

    /// All of it; `sources` by slot.
    pub fn close(self, sources: &[Source]) -> Seen {
        let mut seen = Seen { errors: self.errors, others: self.others, ..Seen::default() };
        for (counts, source) in self.partitions.into_iter().zip(sources).filter(|(counts, _)| counts.logs > 0)
        {
            seen.total += counts;
            seen.partitions.add(source.name.clone(), counts);
        }
        seen
    }
}

/// Spreads numbers over all 64 bits (SplitMix64's finaliser: Steele, Lea, Flood, OOPSLA 2014). Never changes: lines of
/// one minute are read by several versions of the program.
#[inline]
fn mixed(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seen(logs: &[(u16, u64, bool)]) -> Seen {
        let mut seen = Seen::default();
        for (name, hash, is_error) in logs {
            let counts = Counts { logs: 1, errors: u64::from(*is_error) };
            seen.total += counts;
            seen.partitions.add(format_compact!("logs/{name}"), counts);
            let lines = if *is_error { &mut seen.errors } else { &mut seen.others };
            let line = Cited { hash: *hash, timestamp_us: 0, topic: "logs".into(), partition: 0, offset: 0 };
            if lines.wants(*hash) {
                lines.add(line);
            }
        }
        seen
    }

    proptest! {
        #[test]
        fn however_logs_are_cut_the_same_is_seen(
            logs in prop::collection::vec((0..1000u16, any::<u64>(), any::<bool>()), 0..2000),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
            backwards in any::<bool>(),
        ) {
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(logs.len() + 1)).collect();
            at.extend([0, logs.len()]);
            at.sort_unstable();
            let mut pieces: Vec<Seen> = at.windows(2).map(|ends| seen(&logs[ends[0]..ends[1]])).collect();
            if backwards {
                pieces.reverse();
            }
            let mut merged = Seen::default();
            pieces.iter().for_each(|piece| merged.merge(piece));
            prop_assert!(merged.partitions.iter().count() <= MAX_NAMES);
            prop_assert_eq!(merged, seen(&logs));
        }
    }
}
