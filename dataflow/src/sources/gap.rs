//! Records that are gone before they were read, and topics that are not what they were: told in one place.

use super::kafka_client::Client;
use anyhow::Context;
use rdkafka::consumer::Consumer;
use smartlog_schema::position::TopicPartition;
use std::time::Duration;

/// How long the brokers may take to say where a partition begins and ends.
const CALL: Duration = Duration::from_secs(5);

/// Where reading goes on when the record at `next_offset` is gone: at the first that Kafka still has.
///
/// # Errors
/// When the partition ends before `next_offset`: then it is not the one that was read.
pub fn first_left(client: &Client, source: &TopicPartition, next_offset: i64) -> anyhow::Result<i64> {
    let (begin, end) = client
        .fetch_watermarks(&source.topic, source.partition, CALL)
        .with_context(|| format!("asking where {source} begins"))?;
    anyhow::ensure!(next_offset <= end, ends_before(source, end, next_offset));
    Ok(begin.max(next_offset))
}

/// Says that records were deleted before they were read; how many.
pub fn passed(source: &TopicPartition, next_offset: i64, begin: i64) -> u64 {
    let missing = begin.saturating_sub(next_offset).max(0);
    if missing > 0 {
        tracing::error!(
            "{source}: {missing} records (offsets {next_offset} to {}) were deleted by Kafka's retention before they \
             were read; going on at {begin}",
            begin - 1
        );
    }
    missing.unsigned_abs()
}

/// The partition ends before an offset that was reached.
pub fn ends_before(source: &TopicPartition, end: i64, reached: i64) -> String {
    recreated(source, &format!("it ends at offset {end}, yet {reached} was reached before"))
}

/// The partition is not the one that was read before.
pub fn recreated(source: &TopicPartition, found: &str) -> String {
    format!(
        "{source} is not the partition that was read before: {found}. The topic was probably deleted and made anew. \
         Nothing is skipped on its own; `smartlog sinks accept-topic {}` starts it over",
        source.topic
    )
}
