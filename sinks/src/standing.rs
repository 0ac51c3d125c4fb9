//! Where a sink whose data lie outside the store stands in its partitions: rows of `sink_positions`, moved by
//! compare-and-set, and only by the last that claimed them.

use crate::database::{Step, Tables, values};
use crate::error::SinkError;
use crate::plan::{Move, fenced_position};
use smartlog_schema::position::TopicPartition;

/// One writer of one sink.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    pub sink: &'static str,
    /// Names this writer, drawn at random.
    pub holder: i64,
}

impl Standing {
    pub fn new(sink: &'static str) -> Self {
        Standing { sink, holder: rand::random() }
    }

    /// Makes this writer the one that may move `partition`; gives where the sink stands. Waits for a predecessor's
    /// transaction that is still under way.
    pub async fn claim(
        &self,
        tables: &mut Tables,
        partition: &TopicPartition,
    ) -> Result<Option<i64>, SinkError> {
        let sql = "INSERT INTO sink_positions (sink, topic, partition, holder) VALUES ($1, $2, $3, $4) \
                   ON CONFLICT (sink, topic, partition) DO UPDATE SET holder = excluded.holder RETURNING next_offset";
        let values = values![self.sink, partition.topic.as_str(), partition.partition, self.holder];
        let rows = tables.query(sql, values).await?;
        Ok(rows.first().and_then(|row| row.maybe_int(0)))
    }

    /// Moves the position, if it stands where it is expected and is still ours.
    pub fn advance(&self, tables: &Tables, step: &Move) -> Step {
        let sql = format!(
            "UPDATE sink_positions SET next_offset = $5, updated_at = {} WHERE sink = $1 AND topic = $2 \
             AND partition = $3 AND holder = $4 AND next_offset IS NOT DISTINCT FROM $6",
            tables.now()
        );
        let Move { partition, expected, next, .. } = step;
        let (topic, number) = (partition.topic.as_str(), partition.partition);
        Step::one(sql, values![self.sink, topic, number, self.holder, *next, *expected])
    }

    /// Everything that was given to this writer with `watermark_us` or before is durable.
    pub fn note_watermark(&self, tables: &Tables, watermark_us: i64) -> Step {
        let sql = format!(
            "UPDATE sink_positions SET watermark_us = $1, updated_at = {} \
             WHERE sink = $2 AND holder = $3 AND (watermark_us IS NULL OR watermark_us <= $1)",
            tables.now()
        );
        Step::new(sql, values![watermark_us, self.sink, self.holder])
    }

    /// Next offset and holder as they are stored; `None` without a row.
    pub async fn found(
        &self,
        tables: &mut Tables,
        partition: &TopicPartition,
    ) -> Result<Option<(Option<i64>, Option<i64>)>, SinkError> {
        let sql = "SELECT next_offset, holder FROM sink_positions WHERE sink = $1 AND topic = $2 AND partition = $3";
        let values = values![self.sink, partition.topic.as_str(), partition.partition];
        let rows = tables.query(sql, values).await?;
        Ok(rows.first().map(|row| (row.maybe_int(0), row.maybe_int(1))))
    }

    /// Whether `step` went through: the answer to an attempt that did may have been lost.
    pub async fn has_moved(&self, tables: &mut Tables, step: &Move) -> Result<bool, SinkError> {
        Ok(self.found(tables, &step.partition).await? == Some((Some(step.next), Some(self.holder))))
    }

    /// The error for a position that is not where it was left, or not ours any more.
    pub async fn fenced(&self, tables: &mut Tables, lost: &Move) -> Result<SinkError, SinkError> {
        let found = self.found(tables, &lost.partition).await?.map(|(next, _)| next);
        Ok(fenced_position(tables.name(), self.sink, lost, found))
    }
}
