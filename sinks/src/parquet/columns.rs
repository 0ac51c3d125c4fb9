//! The columns of a file of logs, and rows turned into them.
//!
//! ```text
//!   LogBatch (rows in the order of arrival) ─▶ order: service, time, offset ─▶ RecordBatch ─▶ one row group
//! ```
//!
//! docs/EXPORT.md is what readers rely on; a column is added at the end or not at all.

use super::metadata;
use arrow_array::builder::{Float64Builder, StringBuilder};
use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use foldhash::{HashMap, HashMapExt};
use smartlog_schema::log::{LogBatch, LogRef};
use std::sync::{Arc, LazyLock};

/// By which the rows of a row group are sorted, ascending.
pub(super) const SORTED_BY: [&str; 2] = ["service", "timestamp"];
/// Few different values: a dictionary pays, and is worth keeping whatever its size.
pub(super) const FEW_VALUES: [&str; 4] = ["level", "service", "host", "kafka_topic"];
/// Numbers that follow each other closely once sorted.
pub(super) const CLOSE_NUMBERS: [&str; 2] = ["timestamp", "kafka_offset"];

/// The schema of `logs/`.
pub(super) static LOGS: LazyLock<SchemaRef> = LazyLock::new(|| {
    let required = |name: &str, kind| Field::new(name, kind, false);
    let optional = |name: &str, kind| Field::new(name, kind, true);
    Arc::new(Schema::new(vec![
        required("timestamp", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        required("level", DataType::Utf8),
        required("service", DataType::Utf8),
        optional("host", DataType::Utf8),
        required("message", DataType::Utf8),
        required("message_chars", DataType::Int32),
        optional("metadata", DataType::Utf8),
        optional("request_id", DataType::Utf8),
        optional("user_id", DataType::Utf8),
        optional("duration_ms", DataType::Float64),
        required("kafka_topic", DataType::Utf8),
        required("kafka_partition", DataType::Int32),
        required("kafka_offset", DataType::Int64),
        optional("shape", DataType::Int64),
    ]))
});

/// Rows with the partition that each came from.
pub(super) struct Rows<'a> {
    batches: &'a [LogBatch],
    order: Vec<(u32, u32)>,
}

impl<'a> Rows<'a> {
    /// All rows of `batches` in the order of the file.
    pub fn sorted(batches: &'a [LogBatch]) -> Self {
        let logs = || batches.iter().flat_map(LogBatch::iter);
        let ranks = ranks(logs());
        let numbered =
            |(b, batch): (usize, &'a LogBatch)| (0..batch.len()).map(move |row| (b as u32, row as u32));
        let mut keyed: Vec<_> = batches
            .iter()
            .enumerate()
            .flat_map(numbered)
            .zip(logs())
            .map(|(at, log)| (ranks[log.service], log.timestamp_us, at.0, log.offset, at))
            .collect();
        keyed.sort_unstable();
        Rows { batches, order: keyed.into_iter().map(|(.., at)| at).collect() }
    }

    fn iter(&self) -> impl ExactSizeIterator<Item = LogRef<'a>> {
        self.order.iter().map(|&(batch, row)| self.batches[batch as usize].get(row as usize))
    }

    fn texts(&self, of: impl Fn(&LogRef<'a>) -> &'a str) -> ArrayRef {
        Arc::new(StringArray::from_iter_values(self.iter().map(|log| of(&log))))
    }

    fn maybe_texts(&self, of: impl Fn(&LogRef<'a>) -> Option<&'a str>) -> ArrayRef {
        Arc::new(self.iter().map(|log| of(&log)).collect::<StringArray>())
    }

    /// The rows as columns of [`LOGS`].
    ///
    /// # Errors
    /// Never with a sound program: the columns are those of the schema.
    pub fn columns(&self) -> Result<RecordBatch, ArrowError> {
        let timestamps = TimestampMicrosecondArray::from_iter_values(self.iter().map(|log| log.timestamp_us));
        let chars = |log: LogRef<'_>| i32::try_from(log.message.chars().count()).unwrap_or(i32::MAX);
        let sources = || self.order.iter().map(|&(batch, _)| &self.batches[batch as usize].source);
        let shapes = self.iter().map(|log| (log.shape != 0).then_some(log.shape));
        let [request_ids, user_ids, durations] = self.metadata_columns();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(timestamps.with_timezone("UTC")),
            self.texts(|log| log.level.as_str()),
            self.texts(|log| log.service),
            self.maybe_texts(|log| log.host),
            self.texts(|log| log.message),
            Arc::new(Int32Array::from_iter_values(self.iter().map(chars))),
            self.maybe_texts(|log| log.metadata),
            request_ids,
            user_ids,
            durations,
            Arc::new(StringArray::from_iter_values(sources().map(|source| source.topic.as_str()))),
            Arc::new(Int32Array::from_iter_values(sources().map(|source| source.partition))),
            Arc::new(Int64Array::from_iter_values(self.iter().map(|log| log.offset))),
            Arc::new(shapes.collect::<Int64Array>()),
        ];
        RecordBatch::try_new(Arc::clone(&LOGS), columns)
    }

    fn metadata_columns(&self) -> [ArrayRef; 3] {
        let mut request_ids = StringBuilder::with_capacity(self.order.len(), self.order.len() * 16);
        let mut user_ids = StringBuilder::with_capacity(self.order.len(), self.order.len() * 8);
        let mut durations = Float64Builder::with_capacity(self.order.len());
        for log in self.iter() {
            let known = log.metadata.map(metadata::known).unwrap_or_default();
            request_ids.append_option(known.request_id);
            user_ids.append_option(known.user_id);
            durations.append_option(known.duration_ms);
        }
        [Arc::new(request_ids.finish()), Arc::new(user_ids.finish()), Arc::new(durations.finish())]
    }
}

/// Each service's place in the order of their names.
fn ranks<'a>(logs: impl Iterator<Item = LogRef<'a>>) -> HashMap<&'a str, u32> {
    let mut ranks: HashMap<&str, u32> = HashMap::new();
    for log in logs {
        ranks.entry(log.service).or_default();
    }
    let mut names: Vec<&str> = ranks.keys().copied().collect();
    names.sort_unstable();
    for (rank, name) in names.into_iter().enumerate() {
        ranks.insert(name, rank as u32);
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;
    use smartlog_schema::level::Level;
    use smartlog_schema::position::TopicPartition;

    #[test]
    fn rows_are_sorted_by_service_then_time_and_keep_their_partition() {
        let mut batches =
            [LogBatch::new(TopicPartition::new("t", 0), 0), LogBatch::new(TopicPartition::new("t", 7), 0)];
        for (batch, offset, service, timestamp_us) in
            [(0, 0, "b", 2), (0, 1, "a", 9), (1, 0, "b", 1), (1, 1, "é", 0), (0, 2, "b", 2)]
        {
            let (level, host, message, metadata) = (Level::Info, None, "mé", None);
            batches[batch].push(&LogRef {
                offset,
                timestamp_us,
                level,
                service,
                host,
                message,
                metadata,
                shape: 0,
            });
        }
        let columns = Rows::sorted(&batches).columns().expect("columns of the schema");
        let column = |name: &str| columns.column_by_name(name).expect("a column").clone();
        let partitions = column("kafka_partition");
        let partitions = partitions.as_any().downcast_ref::<Int32Array>().expect("int32");
        assert_eq!(partitions.values(), &[0, 7, 0, 0, 7]);
        let offsets = column("kafka_offset");
        let offsets = offsets.as_any().downcast_ref::<Int64Array>().expect("int64");
        assert_eq!(offsets.values(), &[1, 0, 0, 2, 1]);
        let chars = column("message_chars");
        assert_eq!(chars.as_any().downcast_ref::<Int32Array>().expect("int32").value(0), 2);
    }
}
