//! Where results go. Two kinds of sink, each with its own resume position stored in the transaction of its data:
//!
//! ```text
//!   closed epochs ──▶ StateStore   aggregates, episodes, clock, positions     (one per pipeline, under a lease)
//!   log batches   ──▶ LogSink      every log and dead letter                   (one per worker and sink)
//! ```
//!
//! A new sink is one file that implements [`LogSink`] and one arm in [`log_sink`].

mod error;
mod health;
mod retry;

pub mod postgres;
pub mod sqlite;

pub use error::SinkError;
pub use health::{Health, State};

use async_trait::async_trait;
use smartlog_schema::commit::{EpochCommit, Snapshot};
use smartlog_schema::log::LogBatch;
use smartlog_schema::position::{Positions, TopicPartition};

/// Keeps the aggregates of one pipeline. Only one set of processes holds it at a time (a lease).
#[async_trait]
pub trait StateStore: Send {
    /// Takes the lease (waiting while another set holds it and saying so through [`Health`]), waits out a commit that
    /// a killed predecessor may still have under way, and reads what it left.
    async fn open(&mut self) -> Result<Snapshot, SinkError>;

    /// Applies `commit` in one transaction. Retries what can be retried until it is done: returns an error only when
    /// the process must stop ([`SinkError::Fenced`], [`SinkError::Fatal`]).
    async fn commit(&mut self, commit: &EpochCommit) -> Result<(), SinkError>;
}

/// Keeps every log and dead letter of the partitions that it is given.
#[async_trait]
pub trait LogSink: Send {
    /// The name under which its positions are stored.
    fn name(&self) -> &str;

    /// The next offset of each partition that the sink has ever seen; partitions that it has not are left out.
    /// Waits out a commit that a killed predecessor may still have under way.
    async fn resume(&mut self, partitions: &[TopicPartition]) -> Result<Positions, SinkError>;

    /// Writes `batches` and moves the positions past them in one transaction. Retries like [`StateStore::commit`].
    /// A batch must begin at or before the sink's position; what lies below the position is left out, never doubled.
    async fn write(&mut self, batches: &[LogBatch], watermark_us: i64) -> Result<(), SinkError>;
}
