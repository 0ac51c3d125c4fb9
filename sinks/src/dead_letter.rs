//! Logs that a store refused, made dead letters.

use serde_json::value::RawValue;
use smartlog_schema::dead_letter::{DeadLetter, MAX_PAYLOAD_BYTES, Reason};
use smartlog_schema::log::LogRef;

/// The dead letter for a log that a store refused. `why` must not quote the log: it may hold secrets.
pub(crate) fn refused(partition: i32, log: &LogRef<'_>, why: &str) -> DeadLetter {
    let mut payload = payload(log).into_bytes();
    payload.truncate(MAX_PAYLOAD_BYTES);
    let detail = format!("the store refused the row: {why}");
    DeadLetter { partition, offset: log.offset, reason: Reason::RefusedByStore, detail, payload }
}

/// The log as JSON once more: what came from Kafka is not at hand any longer.
fn payload(log: &LogRef<'_>) -> String {
    let timestamp = jiff::Timestamp::from_microsecond(log.timestamp_us)
        .map_or_else(|_| log.timestamp_us.into(), |time| serde_json::Value::from(time.to_string()));
    let mut fields = serde_json::Map::from_iter([
        ("timestamp".to_owned(), timestamp),
        ("level".to_owned(), log.level.as_str().into()),
        ("service".to_owned(), log.service.into()),
        ("message".to_owned(), log.message.into()),
    ]);
    if let Some(host) = log.host {
        fields.insert("host".into(), host.into());
    }
    let mut text = serde_json::Value::Object(fields).to_string();
    if let Some(metadata) = log.metadata {
        text.pop();
        text.push_str(",\"metadata\":");
        // As it is where it is JSON (it may be nested too deep for a value), else as a string.
        match serde_json::from_str::<&RawValue>(metadata) {
            Ok(raw) => text.push_str(raw.get()),
            Err(_) => text.push_str(&serde_json::Value::from(metadata).to_string()),
        }
        text.push('}');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use smartlog_schema::level::Level;

    fn log() -> LogRef<'static> {
        LogRef {
            offset: 9,
            timestamp_us: 1_500_000,
            level: Level::Fatal,
            service: "s\0",
            host: Some("h"),
            message: "a \"b\"",
            metadata: Some(r#"{"k": 1e999}"#),
            shape: 0,
        }
    }

    #[test]
    fn the_payload_is_the_log_as_json() {
        let letter = refused(3, &log(), "because");
        assert_eq!(
            String::from_utf8(letter.payload).expect("UTF-8"),
            r#"{"host":"h","level":"FATAL","message":"a \"b\"","service":"s\u0000","timestamp":"1970-01-01T00:00:01.5Z","metadata":{"k": 1e999}}"#
        );
        assert_eq!((letter.partition, letter.offset, letter.reason), (3, 9, Reason::RefusedByStore));
        assert_eq!(letter.detail, "the store refused the row: because");
    }

    #[test]
    fn odd_metadata_and_times_are_kept_as_they_can_be() {
        let letter =
            refused(0, &LogRef { metadata: Some("{\"a\""), timestamp_us: i64::MAX, host: None, ..log() }, "");
        let value: serde_json::Value = serde_json::from_slice(&letter.payload).expect("JSON");
        assert_eq!(value["metadata"], "{\"a\"");
        assert_eq!(value["timestamp"], i64::MAX);
    }

    #[test]
    fn the_payload_is_bounded() {
        let message = "x".repeat(2 * MAX_PAYLOAD_BYTES);
        assert_eq!(refused(0, &LogRef { message: &message, ..log() }, "").payload.len(), MAX_PAYLOAD_BYTES);
    }
}
