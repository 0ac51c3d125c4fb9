//! Where a sink stands in the input.

use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One partition of one topic. For files the topic is `file:NAME` and the partition the file's place in the list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    pub topic: CompactString,
    pub partition: i32,
}

impl TopicPartition {
    pub fn new(topic: impl Into<CompactString>, partition: i32) -> Self {
        TopicPartition { topic: topic.into(), partition }
    }
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{}]", self.topic, self.partition)
    }
}

/// The next offset to read, per partition: everything below it is durable.
pub type Positions = BTreeMap<TopicPartition, i64>;
