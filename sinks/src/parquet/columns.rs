//! The columns of a file of logs, and rows turned into them.
//!
//! ```text
//!   logs ─▶ columns in the order of arrival ─▶ order: service, time ─▶ RecordBatch ─▶ one row group
//! ```
//!
//! docs/EXPORT.md is what readers rely on; a column is added at the end or not at all.

use super::metadata;
use arrow_array::builder::StringBuilder;
use arrow_array::{
    Array, ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, UInt32Array,
};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow_select::take::take;
use foldhash::HashMap;
use smartlog_schema::level::Level;
use smartlog_schema::log::LogRef;
use smartlog_schema::position::TopicPartition;
use std::sync::{Arc, LazyLock};

/// By which the rows of a row group are sorted, ascending.
pub(super) const SORTED_BY: [&str; 2] = ["service", "timestamp"];
/// Few different values: a dictionary pays, and is worth keeping whatever its size.
pub(super) const FEW_VALUES: [&str; 4] = ["level", "service", "host", "kafka_topic"];
/// Text that resembles no other: with the lengths apart, compression finds nothing to look for, and is quick and dense.
pub(super) const RANDOM_TEXT: [&str; 1] = ["request_id"];
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

/// The rows of a row group under way, as columns in the order of arrival: what a log says is copied once, while it is at hand.
#[derive(Default)]
pub(super) struct Columns {
    timestamps: Vec<i64>,
    levels: Vec<Level>,
    services: Vec<u32>,
    service_names: StringBuilder,
    service_numbers: HashMap<String, u32>,
    hosts: StringBuilder,
    messages: StringBuilder,
    message_chars: Vec<i32>,
    metadata: StringBuilder,
    request_ids: StringBuilder,
    user_ids: StringBuilder,
    durations: Vec<Option<f64>>,
    offsets: Vec<i64>,
    shapes: Vec<i64>,
}

/// What a row takes beside its text, bytes: ten columns, its order and, of each text, where it ends.
const ROW_BYTES: usize = 96;

impl Columns {
    /// No rows, with room for those of `other` and some more: one row group is about as large as the next, and growing
    /// would copy each of them, into fresh memory.
    pub fn with_room_of(other: &Columns) -> Self {
        let more = |length: usize| length + length / 8;
        let rows = more(other.rows());
        let texts = |of: &StringBuilder| StringBuilder::with_capacity(rows, more(of.values_slice().len()));
        Columns {
            timestamps: Vec::with_capacity(rows),
            levels: Vec::with_capacity(rows),
            services: Vec::with_capacity(rows),
            service_names: StringBuilder::new(),
            service_numbers: HashMap::default(),
            hosts: texts(&other.hosts),
            messages: texts(&other.messages),
            message_chars: Vec::with_capacity(rows),
            metadata: texts(&other.metadata),
            request_ids: texts(&other.request_ids),
            user_ids: texts(&other.user_ids),
            durations: Vec::with_capacity(rows),
            offsets: Vec::with_capacity(rows),
            shapes: Vec::with_capacity(rows),
        }
    }

    pub fn push(&mut self, log: &LogRef<'_>) {
        let known = log.metadata.map(metadata::known).unwrap_or_default();
        let service = self.service(log.service);
        self.timestamps.push(log.timestamp_us);
        self.levels.push(log.level);
        self.services.push(service);
        self.hosts.append_option(log.host);
        self.messages.append_value(log.message);
        self.message_chars.push(i32::try_from(log.message.chars().count()).unwrap_or(i32::MAX));
        self.metadata.append_option(log.metadata);
        self.request_ids.append_option(known.request_id);
        self.user_ids.append_option(known.user_id);
        self.durations.push(known.duration_ms);
        self.offsets.push(log.offset);
        self.shapes.push(log.shape);
    }

    /// The number of a service: they count up as names come by.
    fn service(&mut self, name: &str) -> u32 {
        if let Some(number) = self.service_numbers.get(name) {
            return *number;
        }
        let number = self.service_numbers.len() as u32;
        self.service_names.append_value(name);
        self.service_numbers.insert(name.to_owned(), number);
        number
    }

    pub fn rows(&self) -> usize {
        self.offsets.len()
    }

    /// Memory that the rows take, bytes. (What is reserved beyond is not touched.)
    pub fn bytes(&self) -> usize {
        let texts = [&self.hosts, &self.messages, &self.metadata, &self.request_ids, &self.user_ids];
        let texts = texts.map(|text| text.values_slice().len());
        self.rows() * ROW_BYTES + texts.iter().sum::<usize>()
    }

    /// The rows by service, then time, then arrival.
    ///
    /// Each text is copied into that order before anything looks at it: copies from all over memory wait beside each other for what
    /// they copy, comparisons wait one after another.
    ///
    /// # Errors
    /// Never with a sound program: the columns are those of [`LOGS`].
    pub fn sorted(mut self, source: &TopicPartition) -> Result<RecordBatch, ArrowError> {
        let names = self.service_names.finish();
        let at = UInt32Array::from(order(&ranks(&names), &self.services, &self.timestamps));
        let order = at.values();
        let texts = |mut column: StringBuilder| take(&column.finish(), &at, None);
        let levels = pick(order, &self.levels).map(Level::as_str);
        let services = pick(order, &self.services).map(|service| names.value(service as usize));
        let timestamps = TimestampMicrosecondArray::from_iter_values(pick(order, &self.timestamps));
        let shapes = pick(order, &self.shapes).map(|shape| (shape != 0).then_some(shape));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(timestamps.with_timezone("UTC")),
            Arc::new(StringArray::from_iter_values(levels)),
            Arc::new(StringArray::from_iter_values(services)),
            texts(self.hosts)?,
            texts(self.messages)?,
            Arc::new(Int32Array::from_iter_values(pick(order, &self.message_chars))),
            texts(self.metadata)?,
            texts(self.request_ids)?,
            texts(self.user_ids)?,
            Arc::new(pick(order, &self.durations).collect::<Float64Array>()),
            Arc::new(StringArray::new_repeated(&source.topic, order.len())),
            Arc::new(Int32Array::from_value(source.partition, order.len())),
            Arc::new(Int64Array::from_iter_values(pick(order, &self.offsets))),
            Arc::new(shapes.collect::<Int64Array>()),
        ];
        RecordBatch::try_new(Arc::clone(&LOGS), columns)
    }
}

fn pick<'a, T: Copy>(order: &'a [u32], values: &'a [T]) -> impl ExactSizeIterator<Item = T> + 'a {
    order.iter().map(|row| values[*row as usize])
}

/// The rows by rank of their service, then time, then row. A row's key is one number of these three.
fn order(ranks: &[u32], services: &[u32], timestamps_us: &[i64]) -> Vec<u32> {
    let key = |(row, (service, timestamp_us)): (usize, (&u32, &i64))| {
        let unsigned = (*timestamp_us as u64) ^ (1 << 63);
        u128::from(ranks[*service as usize]) << 96 | u128::from(unsigned) << 32 | row as u128
    };
    let mut keys: Vec<u128> = services.iter().zip(timestamps_us).enumerate().map(key).collect();
    keys.sort_unstable();
    keys.into_iter().map(|key| key as u32).collect()
}

/// Each name's place in the order of the names.
fn ranks(names: &StringArray) -> Vec<u32> {
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_unstable_by_key(|&at| names.value(at));
    let mut ranks = vec![0; names.len()];
    for (rank, at) in order.into_iter().enumerate() {
        ranks[at] = rank as u32;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_by_service_then_time_then_arrival() {
        let mut waiting = Columns::default();
        let rows =
            [("b", 2), ("a", 9), ("b", i64::MIN), ("é", 0), ("b", 2), ("a", -1), ("b", 1), ("a", i64::MAX)];
        for (offset, (service, timestamp_us)) in (0..).zip(rows) {
            let (level, host, message, metadata) = (Level::Info, None, "mé", None);
            waiting.push(&LogRef { offset, timestamp_us, level, service, host, message, metadata, shape: 0 });
        }
        let columns = waiting.sorted(&TopicPartition::new("t", 7)).expect("columns of the schema");
        let column = |name: &str| columns.column_by_name(name).expect("a column").clone();
        let offsets = column("kafka_offset");
        let offsets = offsets.as_any().downcast_ref::<Int64Array>().expect("int64");
        assert_eq!(offsets.values(), &[5, 1, 7, 2, 6, 0, 4, 3]);
        let partitions = column("kafka_partition");
        let partitions = partitions.as_any().downcast_ref::<Int32Array>().expect("int32");
        assert_eq!(partitions.values(), &[7; 8]);
        let chars = column("message_chars");
        assert_eq!(chars.as_any().downcast_ref::<Int32Array>().expect("int32").value(0), 2);
    }
}
