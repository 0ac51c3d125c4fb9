//! One log line as the product stores it, and batches of them.

use crate::dead_letter::DeadLetter;
use crate::level::Level;
use crate::position::TopicPartition;
use std::ops::Range;
use std::sync::Arc;

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
/// cross threads cheaply. Clones share the logs.
#[derive(Debug, Clone)]
pub struct LogBatch {
    pub source: TopicPartition,
    /// Offsets `[first, next)` were consumed to make this batch.
    pub first_offset: i64,
    pub next_offset: i64,
    pub dead_letters: Vec<DeadLetter>,
    logs: Arc<Logs>,
}

#[derive(Debug, Clone, Default)]
struct Logs {
    text: String,
    rows: Vec<Row>,
}

impl Logs {
    fn copy(&mut self, text: &str) -> Range<u32> {
        let start = self.text.len();
        self.text.push_str(text);
        let bound = |at: usize| u32::try_from(at).expect("a log batch holds less than 4 GiB of text");
        bound(start)..bound(self.text.len())
    }
}

impl LogBatch {
    pub fn new(source: TopicPartition, first_offset: i64) -> Self {
        LogBatch {
            source,
            first_offset,
            next_offset: first_offset,
            dead_letters: Vec::new(),
            logs: Arc::default(),
        }
    }

    /// What this batch holds, and in its place one that goes on where it ends, with room for as many logs: input that
    /// flows evenly is gathered without growing and copying.
    pub fn cut(&mut self) -> LogBatch {
        let Logs { text, rows } = &*self.logs;
        let room = Logs { text: String::with_capacity(text.len()), rows: Vec::with_capacity(rows.len()) };
        let next = LogBatch { logs: Arc::new(room), ..LogBatch::new(self.source.clone(), self.next_offset) };
        std::mem::replace(self, next)
    }

    /// Appends a copy of `log`.
    ///
    /// # Panics
    /// When the batch would hold more than 4 GiB of text: the writer cuts batches far below that.
    pub fn push(&mut self, log: &LogRef<'_>) {
        let logs = Arc::make_mut(&mut self.logs);
        let service = logs.copy(log.service);
        let host = log.host.map(|h| logs.copy(h));
        let message = logs.copy(log.message);
        let metadata = log.metadata.map(|m| logs.copy(m));
        let (offset, timestamp_us, level, shape) = (log.offset, log.timestamp_us, log.level, log.shape);
        logs.rows.push(Row { offset, timestamp_us, level, shape, service, host, message, metadata });
    }

    /// Number of logs (dead letters not included).
    pub fn len(&self) -> usize {
        self.logs.rows.len()
    }

    /// Whether the batch holds neither a log nor a dead letter.
    pub fn is_empty(&self) -> bool {
        self.logs.rows.is_empty() && self.dead_letters.is_empty()
    }

    /// Memory that the batch holds on to, bytes: what back-pressure counts. The same for every clone.
    pub fn bytes(&self) -> usize {
        self.memory(self.logs.text.capacity(), self.logs.rows.capacity())
    }

    /// Memory that is filled, bytes: what says when a batch is to be cut.
    pub fn filled_bytes(&self) -> usize {
        self.memory(self.logs.text.len(), self.logs.rows.len())
    }

    fn memory(&self, text: usize, rows: usize) -> usize {
        let letters = self.dead_letters.iter().map(|d| size_of::<DeadLetter>() + d.payload.len());
        text + rows * size_of::<Row>() + letters.sum::<usize>()
    }

    /// The log at `index`.
    pub fn get(&self, index: usize) -> LogRef<'_> {
        let row = &self.logs.rows[index];
        let text = |range: &Range<u32>| &self.logs.text[range.start as usize..range.end as usize];
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

    #[test]
    fn what_is_cut_is_counted_alike_by_all_who_hold_it_and_the_next_begins_empty_with_room() {
        let text = "x".repeat(1_000);
        let mut batch = LogBatch::new(TopicPartition::new("logs", 3), 7);
        for offset in 7..10 {
            let (level, service, message) = (Level::Info, "s", text.as_str());
            let (timestamp_us, host, metadata, shape) = (0, None, None, 0);
            batch.push(&LogRef { offset, timestamp_us, level, service, host, message, metadata, shape });
            batch.next_offset = offset + 1;
        }
        let whole = batch.cut();
        let (held, filled) = (whole.bytes(), whole.filled_bytes());
        assert!((3_003..=held).contains(&filled), "{filled} of {held}");
        assert_eq!(whole.clone().bytes(), held);
        assert_eq!((whole.first_offset, whole.next_offset, whole.len()), (7, 10, 3));
        assert_eq!((batch.first_offset, batch.next_offset, batch.len()), (10, 10, 0));
        assert!(batch.filled_bytes() == 0 && batch.bytes() >= filled, "{} bytes of room", batch.bytes());
        let mut other = whole.clone();
        other.push(&whole.get(0));
        assert_eq!((whole.len(), other.len()), (3, 4));
    }
}
