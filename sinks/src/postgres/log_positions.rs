//! Where the log sink stands in its partitions, and who may move it.

use crate::LOGS;
use crate::plan::LogPlan;
use smartlog_schema::position::{Positions, TopicPartition};
use std::collections::BTreeMap;
use tokio_postgres::{Client, Error, Row};

/// Makes `holder` the one that may move `partitions`, and reads where they stand. Waits for a transaction that is
/// moving one of them.
pub(super) async fn claim(
    client: &Client,
    holder: i64,
    partitions: &[TopicPartition],
) -> Result<Positions, Error> {
    let topics: Vec<&str> = partitions.iter().map(|p| p.topic.as_str()).collect();
    let numbers: Vec<i32> = partitions.iter().map(|p| p.partition).collect();
    let rows = client
        .query(
            "INSERT INTO sink_positions (sink, topic, partition, holder)
             SELECT DISTINCT $1, c.topic, c.partition, $2::bigint
             FROM unnest($3::text[], $4::int[]) AS c (topic, partition) ORDER BY 2, 3
             ON CONFLICT (sink, topic, partition) DO UPDATE SET holder = excluded.holder
             RETURNING topic, partition, next_offset",
            &[&LOGS, &holder, &topics, &numbers],
        )
        .await?;
    let read = |row: &Row| {
        Some((TopicPartition::new(row.get::<_, &str>(0), row.get(1)), row.get::<_, Option<i64>>(2)?))
    };
    Ok(rows.iter().filter_map(read).collect())
}

/// Position and holder of each partition that the plan moves. Waits for a transaction that is moving one of them.
pub(super) async fn stored(
    client: &Client,
    plan: &LogPlan,
) -> Result<BTreeMap<TopicPartition, (Option<i64>, Option<i64>)>, Error> {
    let topics: Vec<&str> = plan.moves.iter().map(|m| m.partition.topic.as_str()).collect();
    let partitions: Vec<i32> = plan.moves.iter().map(|m| m.partition.partition).collect();
    let rows = client
        .query(
            "SELECT p.topic, p.partition, p.next_offset, p.holder
             FROM sink_positions AS p JOIN unnest($2::text[], $3::int[]) AS c (topic, partition)
                  USING (topic, partition)
             WHERE p.sink = $1 ORDER BY 1, 2 FOR UPDATE OF p",
            &[&LOGS, &topics, &partitions],
        )
        .await?;
    let read = |row: &Row| (TopicPartition::new(row.get::<_, &str>(0), row.get(1)), (row.get(2), row.get(3)));
    Ok(rows.iter().map(read).collect())
}
