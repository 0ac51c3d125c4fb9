//! Lines that are no logs, and logs in an unusual form.
//!
//! A **malformed** line must become a dead letter; it comes on top of the configured rate and is no log of any
//! service. An **odd** line is a log like any other, told in a form that real shippers produce now and then; losing it
//! would be a fault.

use crate::rng::Rng;
use crate::templates::put_number;
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use smartlog_schema::level::Level;

/// A log's fields as JSON text, from which any line is put together.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    /// RFC 3339, without quotes.
    pub(crate) timestamp: Vec<u8>,
    /// The same moment, milliseconds since 1970.
    pub(crate) timestamp_ms: i64,
    /// With quotes.
    pub(crate) service: Vec<u8>,
    /// With quotes.
    pub(crate) host: Vec<u8>,
    /// Escaped, without quotes.
    pub(crate) message: Vec<u8>,
    /// The object.
    pub(crate) metadata: Vec<u8>,
}

/// The ways in which a line can be no log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MalformedKind {
    /// A log cut off somewhere.
    Truncated,
    /// A line as programs write it to a terminal.
    PlainText,
    NoTimestamp,
    /// A timestamp that is none.
    BadTimestamp,
    /// A timestamp in the year 2099: never credible.
    FarFuture,
    /// `"level": 3`.
    LevelIsNumber,
    /// The fields as a JSON array.
    JsonArray,
    /// A JSON string.
    JsonScalar,
    /// Bytes that are no UTF-8, in the message.
    InvalidUtf8,
    NoService,
    NullMessage,
    /// Opening brackets by the thousand.
    DeepNesting,
    /// Two objects in one message.
    TrailingGarbage,
    /// Bytes of another format.
    Binary,
    /// The service named twice, differently. Lenient parsers take one of them, so not in [`MalformedKind::CERTAIN`].
    DuplicateKey,
    /// A number for a message. Lenient parsers take it, so not in [`MalformedKind::CERTAIN`].
    NumberMessage,
}

impl MalformedKind {
    /// The kinds that no parser may take for a log.
    pub const CERTAIN: [MalformedKind; 14] = [
        MalformedKind::Truncated,
        MalformedKind::PlainText,
        MalformedKind::NoTimestamp,
        MalformedKind::BadTimestamp,
        MalformedKind::FarFuture,
        MalformedKind::LevelIsNumber,
        MalformedKind::JsonArray,
        MalformedKind::JsonScalar,
        MalformedKind::InvalidUtf8,
        MalformedKind::NoService,
        MalformedKind::NullMessage,
        MalformedKind::DeepNesting,
        MalformedKind::TrailingGarbage,
        MalformedKind::Binary,
    ];

    /// Appends a line of this kind, made from `fields`. Never holds a line break, so that files keep one line each.
    pub(crate) fn write(self, fields: &Fields, level: Level, rng: &mut Rng, out: &mut Vec<u8>) {
        let timestamp = quoted(&fields.timestamp);
        let level = quoted(level.as_str().as_bytes());
        let message = quoted(&fields.message);
        let parts: [(&str, &[u8]); 6] = [
            ("timestamp", &timestamp),
            ("level", &level),
            ("service", &fields.service),
            ("host", &fields.host),
            ("message", &message),
            ("metadata", &fields.metadata),
        ];
        let with = |name: &str, value: &[u8], out: &mut Vec<u8>| {
            object(parts.iter().map(|&(key, old)| (key, if key == name { value } else { old })), out);
        };
        let without = |name: &str, out: &mut Vec<u8>| {
            object(parts.iter().copied().filter(|(key, _)| *key != name), out)
        };
        match self {
            MalformedKind::Truncated => {
                let start = out.len();
                object(parts.iter().copied(), out);
                let whole = out.len() - start;
                out.truncate(start + rng.random_range(1..whole));
            }
            MalformedKind::PlainText => {
                out.extend_from_slice(&fields.timestamp);
                out.extend_from_slice(b" [main] ");
                out.extend_from_slice(&level[1..level.len() - 1]);
                out.extend_from_slice(b" - ");
                out.extend_from_slice(&fields.message);
            }
            MalformedKind::NoTimestamp => without("timestamp", out),
            MalformedKind::BadTimestamp => with("timestamp", bad_timestamp(rng), out),
            MalformedKind::FarFuture => with("timestamp", b"\"2099-06-01T00:00:00.000Z\"", out),
            MalformedKind::LevelIsNumber => with("level", b"3", out),
            MalformedKind::JsonArray => list(parts.iter().map(|&(_, value)| value), out),
            MalformedKind::JsonScalar => out.extend_from_slice(&message),
            MalformedKind::InvalidUtf8 => {
                let mut broken = message.clone();
                broken.splice(1..1, *b"\xff\xfe\xc3");
                with("message", &broken, out);
            }
            MalformedKind::NoService => without("service", out),
            MalformedKind::NullMessage => with("message", b"null", out),
            MalformedKind::DeepNesting => {
                out.extend_from_slice(b"{\"metadata\":");
                out.resize(out.len() + 12_000, b'[');
                out.resize(out.len() + 12_000, b']');
                out.push(b'}');
            }
            MalformedKind::TrailingGarbage => {
                object(parts.iter().copied(), out);
                object(parts.iter().copied(), out);
            }
            MalformedKind::Binary => binary(rng, out),
            MalformedKind::DuplicateKey => {
                object(parts.iter().copied().chain([("service", &b"\"someone-else\""[..])]), out);
            }
            MalformedKind::NumberMessage => with("message", b"42", out),
        }
    }
}

fn bad_timestamp(rng: &mut Rng) -> &'static [u8] {
    const BAD: [&[u8]; 5] =
        [b"\"yesterday\"", b"\"2026-13-45T99:00:00Z\"", b"\"\"", b"null", b"{\"seconds\":1767225600}"];
    BAD[rng.random_range(0..BAD.len())]
}

/// Avro's magic and then bytes, none of which is a line break.
fn binary(rng: &mut Rng, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Obj\x01\x00\xff");
    for _ in 0..60 {
        let byte: u8 = rng.random();
        out.push(if matches!(byte, b'\n' | b'\r') { 0 } else { byte });
    }
}

/// The unusual forms that a log can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OddKind {
    /// A timestamp with an offset of +05:30.
    OffsetTimestamp,
    /// A timestamp in milliseconds since 1970.
    EpochMillis,
    /// A level as other libraries spell it.
    LevelSpelling,
    /// Fields in another order, and spaces.
    Reordered,
    /// A field that nobody asked for.
    ExtraField,
    /// `"metadata": []`.
    MetadataArray,
    /// `"metadata": null`.
    MetadataNull,
    /// Metadata nested 300 deep.
    MetadataDeep,
    /// A lone surrogate in the metadata.
    MetadataSurrogate,
    /// 1e400 in the metadata.
    MetadataHugeNumber,
    /// A NUL in the message.
    NulInMessage,
    /// A message of 200,000 characters. Bends the mean message length, so not in [`OddKind::USUAL`].
    HugeMessage,
}

impl OddKind {
    /// The kinds that leave all measured numbers as they are (but for one character).
    pub const USUAL: [OddKind; 11] = [
        OddKind::OffsetTimestamp,
        OddKind::EpochMillis,
        OddKind::LevelSpelling,
        OddKind::Reordered,
        OddKind::ExtraField,
        OddKind::MetadataArray,
        OddKind::MetadataNull,
        OddKind::MetadataDeep,
        OddKind::MetadataSurrogate,
        OddKind::MetadataHugeNumber,
        OddKind::NulInMessage,
    ];

    /// Characters that the message gains.
    pub(crate) fn extra_chars(self) -> u32 {
        match self {
            OddKind::NulInMessage => 1,
            OddKind::HugeMessage => HUGE_CHARS as u32,
            _ => 0,
        }
    }

    /// Appends a log of this form.
    pub(crate) fn write(self, fields: &Fields, level: Level, out: &mut Vec<u8>) {
        let mut timestamp = quoted(&fields.timestamp);
        let mut spelling = level.as_str();
        let mut message = quoted(&fields.message);
        let mut metadata = fields.metadata.clone();
        let mut extra: Option<(&str, &[u8])> = None;
        match self {
            OddKind::OffsetTimestamp => timestamp = quoted(offset_timestamp(fields.timestamp_ms).as_bytes()),
            OddKind::EpochMillis => {
                timestamp.clear();
                put_number(fields.timestamp_ms.unsigned_abs(), &mut timestamp);
            }
            OddKind::LevelSpelling => spelling = other_spelling(level),
            OddKind::Reordered => {}
            OddKind::ExtraField => {
                extra = Some(("logger", b"{\"name\":\"main\",\"thread\":[1,2.5e3,null,true]}"))
            }
            OddKind::MetadataArray => metadata = b"[]".to_vec(),
            OddKind::MetadataNull => metadata = b"null".to_vec(),
            OddKind::MetadataDeep => {
                metadata = [&b"{\"deep\":"[..], &[b'['; 300], &[b']'; 300], b"}"].concat();
            }
            OddKind::MetadataSurrogate => metadata = br#"{"emoji":"\ud83d"}"#.to_vec(),
            OddKind::MetadataHugeNumber => metadata = b"{\"duration_ms\":1e400}".to_vec(),
            OddKind::NulInMessage => {
                message.truncate(message.len() - 1);
                message.extend_from_slice(b"\\u0000\"");
            }
            OddKind::HugeMessage => {
                message.truncate(message.len() - 1);
                message.resize(message.len() + HUGE_CHARS, b'x');
                message.push(b'"');
            }
        }
        let level = quoted(spelling.as_bytes());
        let mut parts: Vec<(&str, &[u8])> = vec![
            ("timestamp", &timestamp),
            ("level", &level),
            ("service", &fields.service),
            ("host", &fields.host),
            ("message", &message),
            ("metadata", &metadata),
        ];
        parts.extend(extra);
        if self == OddKind::Reordered {
            parts.rotate_left(3);
            out.push(b' ');
        }
        object(parts.into_iter(), out);
    }
}

const HUGE_CHARS: usize = 200_000;

fn other_spelling(level: Level) -> &'static str {
    match level {
        Level::Trace => "trace",
        Level::Debug => "debug",
        Level::Info => "Information",
        Level::Warn => "warning",
        Level::Error => "error",
        Level::Fatal => "CRITICAL",
    }
}

fn offset_timestamp(ms: i64) -> String {
    let offset = jiff::tz::Offset::from_seconds(19_800).expect("+05:30 is an offset");
    let moment = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    moment.display_with_offset(offset).to_string()
}

fn quoted(text: &[u8]) -> Vec<u8> {
    [b"\"", text, b"\""].concat()
}

fn object<'a>(parts: impl Iterator<Item = (&'a str, &'a [u8])>, out: &mut Vec<u8>) {
    out.push(b'{');
    for (index, (key, value)) in parts.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.push(b'"');
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(b"\":");
        out.extend_from_slice(value);
    }
    out.push(b'}');
}

fn list<'a>(values: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    out.push(b'[');
    for (index, value) in values.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(value);
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, keyed};
    use crate::templates::escape;
    use serde_json::Value;

    fn json_string(text: &str) -> Vec<u8> {
        quoted(escape(text).as_bytes())
    }

    fn fields() -> Fields {
        Fields {
            timestamp: b"2026-01-15T10:30:00.123Z".to_vec(),
            timestamp_ms: 1_768_473_000_123,
            service: json_string("payment-service"),
            host: json_string("server-01"),
            message: escape("naïve \"quoted\"\n\tat line").into_bytes(),
            metadata: br#"{"request_id":"abc"}"#.to_vec(),
        }
    }

    /// What a strict reader asks of a log, written against the format alone.
    fn is_log(line: &[u8]) -> bool {
        let Ok(Value::Object(log)) = serde_json::from_slice(line) else { return false };
        let text = |name: &str| log.get(name).and_then(Value::as_str);
        let moment = text("timestamp").and_then(|t| t.parse::<jiff::Timestamp>().ok());
        let credible = moment.is_some_and(|m| m.as_second() < 4_000_000_000);
        credible && ["level", "service", "message"].iter().all(|name| text(name).is_some())
    }

    #[test]
    fn no_malformed_line_is_a_log_or_holds_a_line_break() {
        for kind in MalformedKind::CERTAIN {
            for attempt in 0..50 {
                let mut rng = keyed(attempt, Purpose::Malformed, 0, 0);
                let mut line = Vec::new();
                kind.write(&fields(), Level::Info, &mut rng, &mut line);
                assert!(!is_log(&line), "{kind:?}: {}", String::from_utf8_lossy(&line));
                assert!(!line.contains(&b'\n') && !line.is_empty(), "{kind:?}");
            }
        }
    }

    #[test]
    fn odd_logs_are_json_objects_with_the_same_core() {
        for kind in OddKind::USUAL.into_iter().chain([OddKind::HugeMessage]) {
            let mut line = Vec::new();
            kind.write(&fields(), Level::Warn, &mut line);
            // serde_json refuses these two on its own account; a borrowed reader of the core fields does not.
            if matches!(
                kind,
                OddKind::MetadataDeep | OddKind::MetadataSurrogate | OddKind::MetadataHugeNumber
            ) {
                let text = String::from_utf8(line).unwrap();
                assert!(text.contains("\"service\":\"payment-service\""), "{kind:?}: {text}");
                continue;
            }
            let log: Value = serde_json::from_slice(&line).unwrap_or_else(|e| panic!("{kind:?}: {e}"));
            assert_eq!(log["service"], "payment-service");
            let chars = log["message"].as_str().unwrap().chars().count();
            assert_eq!(chars, "naïve \"quoted\"\n\tat line".chars().count() + kind.extra_chars() as usize);
            let moment = match &log["timestamp"] {
                Value::Number(ms) => jiff::Timestamp::from_millisecond(ms.as_i64().unwrap()).unwrap(),
                text => text.as_str().unwrap().parse().unwrap(),
            };
            assert_eq!(moment.as_millisecond(), fields().timestamp_ms, "{kind:?}");
        }
    }
}
