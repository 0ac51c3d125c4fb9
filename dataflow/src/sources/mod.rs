//! Where logs come from. A source is a [`Reader`] per worker; [`source`] puts it into the dataflow.
//!
//! ```text
//!   Assignment (from the coordinator) ──▶ Reader ──▶ Input: records, and the state of each partition at every tick
//! ```
//!
//! A new source is one file that implements [`Reader`] and an arm in [`Sources::reader`].

pub mod file;
pub(crate) mod gap;
pub mod kafka;
pub(crate) mod kafka_batch;
pub mod kafka_client;
pub mod kafka_retention;
mod kafka_watch;
mod operator;
mod pace;

pub use operator::{source, waker, wall_us};
pub use pace::{Board, Pace};

use serde::{Deserialize, Serialize};
use smartlog_operators::record::{Partition, Records};
use smartlog_schema::position::TopicPartition;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

/// A partition and where to read it. Broadcast; each worker takes its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    pub source: TopicPartition,
    /// First offset to read: where the aggregates stand.
    pub start: i64,
    /// Reading ends before this offset; `None`: never.
    pub end: Option<i64>,
    /// Which log sinks are near enough to be sent its logs from the start, a bit each.
    pub attached: u64,
    /// The partition's event time when its state was stored, microseconds.
    pub time_us: Option<i64>,
    /// The clock when the state was stored, microseconds; 0 for a new pipeline.
    pub clock_us: i64,
}

/// The worker that reads a partition. Pure, so that every worker knows without asking.
pub fn owner(source: &TopicPartition, peers: usize) -> usize {
    // Topics start at different workers, so that many topics of one partition spread.
    let shift: usize = source.topic.bytes().map(usize::from).sum();
    (shift + source.partition.unsigned_abs() as usize) % peers
}

/// One worker's hold on the input. Never blocks.
pub trait Reader {
    /// Takes more partitions.
    fn assign(&mut self, assignments: &[Assignment]) -> anyhow::Result<()>;

    /// Up to `most` records that are there now; `None` when there are none.
    fn poll(&mut self, most: usize) -> anyhow::Result<Option<Rc<dyn Records>>>;

    /// The state of every partition, by slot: slots are given in the order of assignment.
    fn partitions(&mut self) -> Vec<Partition>;

    /// Stops and resumes reading single partitions, by slot.
    fn pause(&mut self, slots: &[u32]) -> anyhow::Result<()>;
    fn resume(&mut self, slots: &[u32]) -> anyhow::Result<()>;
}

/// Wakes the worker when a file has something to read; Kafka is looked at often enough. May be called from any thread.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// What to read.
#[derive(Debug, Clone)]
pub enum Sources {
    Kafka(Arc<kafka::Settings>),
    /// NDJSON files, plain or compressed; `-` is the standard input. One partition each.
    Files(Vec<PathBuf>),
}

impl Sources {
    /// The reader of one worker.
    pub fn reader(&self, waker: Waker) -> anyhow::Result<Box<dyn Reader>> {
        match self {
            Sources::Kafka(settings) => Ok(Box::new(kafka::KafkaReader::new(Arc::clone(settings))?)),
            Sources::Files(paths) => Ok(Box::new(file::FileReader::new(paths.clone(), waker))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_of_a_topic_go_round_the_workers() {
        let owners: Vec<usize> = (0..8).map(|p| owner(&TopicPartition::new("logs", p), 4)).collect();
        let mut first = owners[..4].to_vec();
        first.sort_unstable();
        assert_eq!(first, [0, 1, 2, 3]);
        assert_eq!(owners[..4], owners[4..]);
    }
}
