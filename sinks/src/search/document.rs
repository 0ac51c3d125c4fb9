//! A log as a document, and where it belongs: the index of its event day, under the name of its place in Kafka.

use crate::parquet::Day;
use crate::parquet::metadata::known;
use serde::Serialize;
use serde_json::{Value, json};
use smartlog_schema::log::LogRef;
use smartlog_schema::position::TopicPartition;
use std::borrow::Cow;

/// Of a log that the index of its day refuses, this much is kept as text, bytes.
const KEPT_MAX: usize = 16 << 10;

/// The fields of `index-template.json`.
#[derive(Serialize)]
struct Document<'a> {
    timestamp: jiff::Timestamp,
    level: &'a str,
    service: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Value>,
    /// What cannot be read as a value, as it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata_text: Option<&'a str>,
    shape: i64,
    #[serde(flatten)]
    place: Place<'a>,
}

#[derive(Serialize)]
struct Place<'a> {
    kafka_topic: &'a str,
    kafka_partition: i32,
    kafka_offset: i64,
}

impl<'a> Place<'a> {
    fn of(source: &'a TopicPartition, log: &LogRef<'_>) -> Self {
        Place { kafka_topic: &source.topic, kafka_partition: source.partition, kafka_offset: log.offset }
    }
}

/// The index of a day's logs.
pub(super) fn of_day(prefix: &str, day: Day) -> String {
    format!("{prefix}-{}", day.to_string().replace('-', "."))
}

/// The index of those that the other one refuses.
pub(super) fn of_refused(prefix: &str, day: Day) -> String {
    of_day(&format!("{prefix}-refused"), day)
}

/// The day of an index of either kind; `None` where it is not one of ours.
pub(super) fn day_of(prefix: &str, index: &str) -> Option<Day> {
    let rest = index.strip_prefix(prefix)?.strip_prefix('-')?;
    let date = rest.strip_prefix("refused-").unwrap_or(rest);
    Day::parse(&date.replace('.', "-")).filter(|_| !date.contains('-'))
}

/// Appends the two lines of a bulk request that put a log into `index`. Whoever puts it again replaces it by itself.
pub(super) fn write_log(body: &mut Vec<u8>, index: &str, source: &TopicPartition, log: &LogRef<'_>) {
    let known = log.metadata.map(known).unwrap_or_default();
    // The server refuses a name that is there twice; of these the last counts, as in the store.
    let value = log.metadata.and_then(|text| serde_json::from_str(text).ok());
    let document = Document {
        timestamp: time_of(log),
        level: log.level.as_str(),
        service: log.service,
        host: log.host,
        message: log.message,
        request_id: known.request_id,
        user_id: known.user_id,
        duration_ms: known.duration_ms,
        metadata_text: log.metadata.filter(|_| value.is_none()),
        metadata: value,
        shape: log.shape,
        place: Place::of(source, log),
    };
    write(body, index, &name(source, log), &document);
}

/// As [`write_log`], for a log that the index of its day refused: as text alone, which nothing can be wrong with.
pub(super) fn write_refused(
    body: &mut Vec<u8>,
    index: &str,
    (source, log): (&TopicPartition, &LogRef<'_>),
    why: &str,
) {
    let kept = |text: &str| text[..text.floor_char_boundary(KEPT_MAX)].to_owned();
    let document = json!({
        "timestamp": time_of(log), "level": log.level.as_str(), "service": log.service,
        "refused": why, "refused_message": kept(log.message), "refused_metadata": log.metadata.map(kept),
        "kafka_topic": source.topic.as_str(), "kafka_partition": source.partition, "kafka_offset": log.offset,
    });
    write(body, index, &name(source, log), &document);
}

fn time_of(log: &LogRef<'_>) -> jiff::Timestamp {
    // It has a day, hence it is one.
    jiff::Timestamp::from_microsecond(log.timestamp_us).unwrap_or_default()
}

fn name(source: &TopicPartition, log: &LogRef<'_>) -> String {
    format!("{}-{}-{}", source.topic, source.partition, log.offset)
}

fn write(body: &mut Vec<u8>, index: &str, id: &str, document: &impl Serialize) {
    let action = json!({ "index": { "_index": index, "_id": id } });
    // Neither writing to a vector nor names that are text can fail.
    let _ = serde_json::to_writer(&mut *body, &action);
    body.push(b'\n');
    let _ = serde_json::to_writer(&mut *body, document);
    body.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use smartlog_schema::level::Level;

    fn written(log: &LogRef<'_>) -> (Value, Value) {
        let mut body = Vec::new();
        write_log(&mut body, "logs-2026.01.15", &TopicPartition::new("app", 2), log);
        let text = String::from_utf8(body).expect("text");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), text.ends_with('\n')), (2, true), "{text}");
        let value = |line: &str| serde_json::from_str(line).expect("JSON");
        (value(lines[0]), value(lines[1]))
    }

    fn log() -> LogRef<'static> {
        LogRef {
            offset: 7,
            timestamp_us: 1_768_473_000_123_456,
            level: Level::Error,
            service: "payment",
            host: None,
            message: "a \"b\"\nc",
            metadata: Some(r#"{"user_id": 17, "duration_ms": 5, "user": {"a": 1, "a": 2}}"#),
            shape: -5,
        }
    }

    #[test]
    fn a_log_is_one_document_named_by_its_place() {
        let (action, document) = written(&log());
        assert_eq!(action, json!({ "index": { "_index": "logs-2026.01.15", "_id": "app-2-7" } }));
        let expected = json!({
            "timestamp": "2026-01-15T10:30:00.123456Z", "level": "ERROR", "service": "payment",
            "message": "a \"b\"\nc", "user_id": "17", "duration_ms": 5.0,
            "metadata": { "user_id": 17, "duration_ms": 5, "user": { "a": 2 } }, "shape": -5,
            "kafka_topic": "app", "kafka_partition": 2, "kafka_offset": 7,
        });
        assert_eq!(document, expected);
    }

    #[test]
    fn metadata_that_is_no_value_costs_only_itself() {
        let deep = format!("{{\"a\": {}1{}}}", "[".repeat(500), "]".repeat(500));
        for odd in [deep.as_str(), r#"{"a": 1e999}"#] {
            let (_, document) = written(&LogRef { metadata: Some(odd), ..log() });
            assert_eq!((&document["metadata_text"], &document["metadata"]), (&json!(odd), &Value::Null));
        }
    }

    #[test]
    fn only_our_own_indexes_are_known_by_their_days() {
        let day = Day::parse("2026-01-15").expect("a day");
        assert_eq!(of_day("p", day), "p-2026.01.15");
        assert_eq!(of_refused("p", day), "p-refused-2026.01.15");
        for (index, known) in [
            ("p-2026.01.15", true),
            ("p-refused-2026.01.15", true),
            ("p-2026.01.15-reindexed", false),
            ("p-2026.1.15", false),
            ("p-2026-01-15", false),
            ("p-x-2026.01.15", false),
            ("q-2026.01.15", false),
            ("p2026.01.15", false),
        ] {
            assert_eq!(day_of("p", index), known.then_some(day), "{index}");
        }
    }
}
