//! One log line as the product stores it, and batches of them.

use crate::dead_letter::DeadLetter;
use crate::level::Level;
use crate::position::TopicPartition;
use std::ops::Range;

/// Longest `service` and `host` kept, characters (the columns are `VARCHAR(100)`).
pub const MAX_NAME_CHARS: usize = 100;

/// A log line, borrowed from the batch (or payload) that holds its text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogRef<'a> {
    /// Kafka offset (line number for files).
    pub offset: i64,
    /// Event time, microseconds since 1970 UTC.
    pub timestamp_us: i64,
    pub level: Level,
    pub service: &'a str,
    pub host: Option<&'a str>,
    pub message: &'a str,
    /// A JSON object as text, acceptable to `jsonb`; `None` when the log carried none.
    pub metadata: Option<&'a str>,
    /// Shape hash of the message; 0 where patterns are off.
    pub shape: i64,
}

#[derive(Debug, Clone)]
struct Row {
    offset: i64,
    timestamp_us: i64,
    level: Level,
    shape: i64,
    service: Range<u32>,
    host: Option<Range<u32>>,
    message: Range<u32>,
    metadata: Option<Range<u32>>,
}

/// What one partition's next stretch of input became: logs and dead letters, in offset order.
///
/// All text lies in one buffer, so that a batch costs a handful of allocations however many logs it holds, and can
/// cross threads cheaply.
#[derive(Debug, Clone)]
pub struct LogBatch {
    pub source: TopicPartition,
    /// Offsets `[first, next)` were consumed to make this batch.
    pub first_offset: i64,
    pub next_offset: i64,
    pub dead_letters: Vec<DeadLetter>,
    text: String,
    rows: Vec<Row>,
}

impl LogBatch {
    pub fn new(source: TopicPartition, first_offset: i64) -> Self {
        LogBatch {
            source,
            first_offset,
            next_offset: first_offset,
            dead_letters: Vec::new(),
            text: String::new(),
            rows: Vec::new(),
        }
    }

    /// Appends a copy of `log`.
    ///
    /// # Panics
    /// When the batch would hold more than 4 GiB of text: the writer cuts batches far below that.
    pub fn push(&mut self, log: &LogRef<'_>) {
        let service = self.copy(log.service);
        let host = log.host.map(|h| self.copy(h));
        let message = self.copy(log.message);
        let metadata = log.metadata.map(|m| self.copy(m));
        let (offset, timestamp_us, level, shape) = (log.offset, log.timestamp_us, log.level, log.shape);
        self.rows.push(Row { offset, timestamp_us, level, shape, service, host, message, metadata });
    }

    fn copy(&mut self, text: &str) -> Range<u32> {
        let start = self.text.len();
        self.text.push_str(text);
        let bound = |at: usize| u32::try_from(at).expect("a log batch holds less than 4 GiB of text");
        bound(start)..bound(self.text.len())
    }

    /// Number of logs (dead letters not included).
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether the batch holds neither a log nor a dead letter.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.dead_letters.is_empty()
    }

    /// Memory that the batch holds on to, bytes: what back-pressure counts.
    pub fn bytes(&self) -> usize {
        self.text.capacity()
            + self.rows.capacity() * size_of::<Row>()
            + self.dead_letters.iter().map(|d| size_of::<DeadLetter>() + d.payload.len()).sum::<usize>()
    }

    /// The log at `index`.
    pub fn get(&self, index: usize) -> LogRef<'_> {
        let row = &self.rows[index];
        let text = |range: &Range<u32>| &self.text[range.start as usize..range.end as usize];
        LogRef {
            offset: row.offset,
            timestamp_us: row.timestamp_us,
            level: row.level,
            service: text(&row.service),
            host: row.host.as_ref().map(text),
            message: text(&row.message),
            metadata: row.metadata.as_ref().map(text),
            shape: row.shape,
        }
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = LogRef<'_>> {
        (0..self.len()).map(|index| self.get(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_gives_back_what_it_was_given() {
        let mut batch = LogBatch::new(TopicPartition::new("logs", 3), 7);
        let log = LogRef {
            offset: 7,
            timestamp_us: -1,
            level: Level::Warn,
            service: "naïve",
            host: None,
            message: "",
            metadata: Some("{}"),
            shape: 5,
        };
        let other = LogRef { host: Some("h"), metadata: None, offset: 8, ..log };
        batch.push(&log);
        batch.push(&other);
        assert_eq!(batch.iter().collect::<Vec<_>>(), [log, other]);
    }
}
