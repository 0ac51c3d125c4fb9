//! What each field of a log may be, what it is read as, and what it costs when it is not: by example.

use smartlog_operators::parse::{FieldMapping, Limits, Parser, Preset, Reject, Scratch};
use smartlog_schema::dead_letter::Reason;
use smartlog_schema::level::Level;

const LOG: &str = r#"{"timestamp":"2026-01-15T10:30:00Z","level":"ERROR","service":"payment-service","host":"server-01","message":"Database connection timeout","metadata":{"request_id":"abc-123","duration_ms":5000}}"#;
const LOG_US: i64 = 1_768_473_000_000_000;

/// A log that owns its text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owned {
    timestamp_us: i64,
    level: Level,
    service: String,
    host: Option<String>,
    message: String,
    message_chars: u32,
    metadata: Option<String>,
}

fn parse_with(parser: &Parser, payload: &[u8], record_time_us: Option<i64>) -> Result<Owned, Reject> {
    let mut scratch = Scratch::default();
    let log = parser.parse(Some(payload), record_time_us, &mut scratch)?;
    Ok(Owned {
        timestamp_us: log.timestamp_us,
        level: log.level,
        service: log.service.to_owned(),
        host: log.host.map(str::to_owned),
        message: log.message.to_owned(),
        message_chars: log.message_chars,
        metadata: log.metadata.map(str::to_owned),
    })
}

fn parser() -> Parser {
    Parser::new(FieldMapping::default(), Limits::default())
}

fn parse(payload: &str) -> Result<Owned, Reject> {
    parse_with(&parser(), payload.as_bytes(), None)
}

fn preset(preset: Preset, payload: &str) -> Result<Owned, Reject> {
    parse_with(&Parser::new(FieldMapping::preset(preset), Limits::default()), payload.as_bytes(), None)
}

fn reason(result: Result<Owned, Reject>) -> Reason {
    result.expect_err("this payload is no log").reason
}

/// The example with the value of one field replaced (`None`: left out).
fn with(field: &str, value: Option<&str>) -> String {
    let members = [
        ("timestamp", r#""2026-01-15T10:30:00Z""#),
        ("level", r#""ERROR""#),
        ("service", r#""payment-service""#),
        ("host", r#""server-01""#),
        ("message", r#""Database connection timeout""#),
        ("metadata", "{}"),
    ];
    let members: Vec<String> = members
        .iter()
        .filter_map(|(name, usual)| {
            let value = if *name == field { value? } else { usual };
            Some(format!("\"{name}\":{value}"))
        })
        .collect();
    format!("{{{}}}", members.join(","))
}

#[test]
fn the_example_is_read_as_it_stands() {
    let expected = Owned {
        timestamp_us: LOG_US,
        level: Level::Error,
        service: "payment-service".into(),
        host: Some("server-01".into()),
        message: "Database connection timeout".into(),
        message_chars: 27,
        metadata: Some(r#"{"request_id":"abc-123","duration_ms":5000}"#.into()),
    };
    assert_eq!(parse(LOG), Ok(expected));
}

#[test]
fn missing_and_null_core_fields_name_the_field() {
    let missing = [
        ("timestamp", Reason::MissingTimestamp),
        ("level", Reason::MissingLevel),
        ("service", Reason::MissingService),
        ("message", Reason::MissingMessage),
    ];
    for (field, expected) in missing {
        assert_eq!(reason(parse(&with(field, None))), expected, "{field} left out");
        assert_eq!(reason(parse(&with(field, Some("null")))), expected, "{field} null");
    }
}

#[test]
fn presets_find_their_fields() {
    let ecs = r#"{"@timestamp":"2026-01-15T10:30:00.000Z","log":{"level":"warn","logger":"x"},"service.name":"a","host":{"name":"h"},"message":"m"}"#;
    let log = preset(Preset::Ecs, ecs).expect("an ECS log");
    assert_eq!((log.timestamp_us, log.level), (LOG_US, Level::Warn));
    assert_eq!((log.service.as_str(), log.host.as_deref()), ("a", Some("h")));
    assert_eq!(log.metadata.as_deref(), Some(r#"{"log":{"level":"warn","logger":"x"},"host":{"name":"h"}}"#));

    let otel = r#"{"timeUnixNano":"1768473000000000000","severityNumber":17,"severityText":"Bad","body":{"stringValue":"m"},"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"a"}}]}}"#;
    let log = preset(Preset::Otel, otel).expect("an OTLP log record");
    assert_eq!((log.timestamp_us, log.level), (LOG_US, Level::Error));
    assert_eq!((log.service.as_str(), log.message.as_str()), ("a", "m"));
    let kept = r#"{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"a"}}]},"severityText":"Bad"}"#;
    assert_eq!(log.metadata.as_deref(), Some(kept));

    let pino = r#"{"level":40,"time":1768473000000,"pid":1,"hostname":"h","name":"a","msg":"m"}"#;
    let log = preset(Preset::Pino, pino).expect("a pino log");
    assert_eq!((log.timestamp_us, log.level, log.host.as_deref()), (LOG_US, Level::Warn, Some("h")));
    assert_eq!(log.metadata.as_deref(), Some(r#"{"pid":1}"#));

    let gcp = r#"{"timestamp":"2026-01-15T10:30:00Z","textPayload":"m","resource":{"type":"k8s_container","labels":{"container_name":"a","pod_name":"p"}}}"#;
    let log = preset(Preset::Gcp, gcp).expect("a Cloud Logging entry");
    assert_eq!((log.level, log.service.as_str(), log.host.as_deref()), (Level::Info, "a", Some("p")));
}

#[test]
fn preset_alternatives_are_tried_in_order() {
    let both = r#"{"timeUnixNano":"0","observedTimeUnixNano":"1768473000000000000","severityNumber":0,"severityText":"Warning","body":"m","Resource":{"service.name":"a"}}"#;
    let log = preset(Preset::Otel, both).expect("what is unset is passed over");
    assert_eq!((log.timestamp_us, log.level), (LOG_US, Level::Warn));
    assert!(log.metadata.expect("what was tried is kept").contains(r#""timeUnixNano":"0""#));

    let bare = r#"{"timeUnixNano":"1768473000000000000","body":"m","attributes":{"service.name":"a"}}"#;
    assert_eq!(preset(Preset::Otel, bare).expect("no severity is INFO").level, Level::Info);
    let none = r#"{"timeUnixNano":"1768473000000000000","body":{"kvlistValue":{}},"attributes":{"service.name":"a"}}"#;
    assert_eq!(reason(preset(Preset::Otel, none)), Reason::InvalidMessage);
    let unnamed = r#"{"timeUnixNano":"1768473000000000000","body":"m"}"#;
    assert_eq!(reason(preset(Preset::Otel, unnamed)), Reason::MissingService);
}

#[test]
fn a_dotted_and_a_nested_key_are_one_path() {
    let twice = r#"{"@timestamp":"2026-01-15T10:30:00Z","log":{"level":"warn"},"log.level":"info","service":{"name":"a"},"message":"m"}"#;
    assert_eq!(reason(preset(Preset::Ecs, twice)), Reason::DuplicateField);
}

#[test]
fn core_fields_of_a_wrong_kind_reject() {
    let wrong = [
        ("timestamp", Reason::InvalidTimestamp, ["true", "{}", "\"yesterday\"", "\"\""].as_slice()),
        ("level", Reason::InvalidLevel, &["true", "[]", "\"loud\"", "3", "\"3\""]),
        ("service", Reason::InvalidService, &["5", "true", "{}", "[]", "\"\""]),
        ("message", Reason::InvalidMessage, &["5", "false", "{}", "[]"]),
    ];
    for (field, expected, values) in wrong {
        for value in values {
            assert_eq!(reason(parse(&with(field, Some(value)))), expected, "{field}: {value}");
        }
    }
}

#[test]
fn a_bad_host_costs_the_host_alone() {
    for value in ["5", "{}", "[\"h\"]", "true"] {
        let log = parse(&with("host", Some(value))).expect("a log");
        assert_eq!((log.host, log.metadata.as_deref()), (None, Some(r#"{"_invalid":["host"]}"#)), "{value}");
    }
    for value in ["null", "\"\""] {
        let log = parse(&with("host", Some(value))).expect("a log");
        assert_eq!((log.host, log.metadata.as_deref()), (None, Some("{}")), "{value}");
    }
}

#[test]
fn long_names_are_cut_by_characters_and_flagged() {
    let long = format!("\"{}\"", "é".repeat(101));
    let log = parse(&with("service", Some(&long))).expect("a log");
    assert_eq!(log.service, "é".repeat(100));
    assert_eq!(log.metadata.as_deref(), Some(r#"{"_truncated":["service"]}"#));
    let exact = format!("\"{}\"", "\\n".repeat(100));
    let log = parse(&with("host", Some(&exact))).expect("a log");
    assert_eq!((log.host, log.metadata.as_deref()), (Some("\n".repeat(100)), Some("{}")));
}

#[test]
fn repeated_fields() {
    for field in ["timestamp", "level", "service", "message"] {
        let payload = LOG.replacen('{', &format!("{{\"{field}\":null,"), 1);
        assert_eq!(reason(parse(&payload)), Reason::DuplicateField, "{field}");
    }
    let twice = LOG.replacen('{', r#"{"host":"first","metadata":{"a":1},"#, 1);
    let log = parse(&twice).expect("host and metadata never reject");
    assert_eq!(log.host.as_deref(), Some("first"));
    assert_eq!(log.metadata.as_deref(), Some(r#"{"a":1,"_duplicate":["host","metadata"]}"#));
}

#[test]
fn strings_lose_what_postgres_refuses() {
    let log = parse(&with("message", Some(r#""a\u0000b\ud800c\ud83d\ude00\n""#))).expect("a log");
    assert_eq!((log.message.as_str(), log.message_chars), ("a\u{FFFD}b\u{FFFD}c😀\n", 7));
}

#[test]
fn metadata_is_mended() {
    let cases = [
        ("null", None),
        ("{}", Some("{}")),
        (" { \"a\" : 1 } ", Some("{ \"a\" : 1 }")),
        ("[1,\"x\"]", Some(r#"{"_value":[1,"x"]}"#)),
        ("\"x\"", Some(r#"{"_value":"x"}"#)),
        ("5", Some(r#"{"_value":5}"#)),
        (r#"{"a\u0000":"\ud800\u00e9"}"#, Some("{\"a\u{FFFD}\":\"\u{FFFD}\\u00e9\"}")),
        (r#"{"a":1e400,"b":1e-20000,"c":1e300}"#, Some(r#"{"a":"1e400","b":"1e-20000","c":1e300}"#)),
        (r#"{"a":"\"1e400\" {[\\"}"#, Some(r#"{"a":"\"1e400\" {[\\"}"#)),
    ];
    for (given, expected) in cases {
        let log = parse(&with("metadata", Some(given))).expect("a log");
        assert_eq!(log.metadata.as_deref(), expected, "{given}");
    }
}

#[test]
fn nesting_is_kept_to_a_hundred_levels() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let log = parse(&with("metadata", Some(&nested(100)))).expect("a log");
    assert_eq!(log.metadata, Some(format!("{{\"_value\":{}}}", nested(100))));
    let log = parse(&with("metadata", Some(&nested(101)))).expect("a log");
    let expected = format!("{{\"_value\":{}\"_nested_too_deep\"{}}}", "[".repeat(100), "]".repeat(100));
    assert_eq!(log.metadata, Some(expected));
}

#[test]
fn metadata_beyond_its_limit_is_left_out() {
    let limits = Limits { max_metadata_bytes: 20, ..Limits::default() };
    let parser = Parser::new(FieldMapping::default(), limits);
    let metadata = |value: &str| {
        let log = parse_with(&parser, with("metadata", Some(value)).as_bytes(), None).expect("a log");
        log.metadata.expect("metadata")
    };
    assert_eq!(metadata(r#"{"k":"12345678901"}"#), r#"{"k":"12345678901"}"#);
    assert_eq!(metadata(r#"{"k":"1234567890123"}"#), r#"{"_truncated":["metadata"]}"#);
}

#[test]
fn payloads_that_are_no_object() {
    let cases: [(&[u8], Reason); 12] = [
        (b"", Reason::EmptyPayload),
        (b" ", Reason::InvalidJson),
        (b"null", Reason::NotAnObject),
        (b"[]", Reason::NotAnObject),
        (b"[", Reason::InvalidJson),
        (b"\"x\"", Reason::NotAnObject),
        (b"plain text", Reason::InvalidJson),
        (b"{\"a\":1", Reason::InvalidJson),
        (b"{\"a\":1} x", Reason::InvalidJson),
        (b"{\"a\":1,}", Reason::InvalidJson),
        (b"\xEF\xBB\xBF{}", Reason::InvalidJson),
        (b"{\"a\":\"\xFF\"}", Reason::InvalidUtf8),
    ];
    for (payload, expected) in cases {
        assert_eq!(reason(parse_with(&parser(), payload, None)), expected, "{payload:?}");
    }
    let mut scratch = Scratch::default();
    let tombstone = parser().parse(None, None, &mut scratch).expect_err("a tombstone");
    assert_eq!(tombstone.reason, Reason::EmptyPayload);
    let limits = Limits { max_record_bytes: LOG.len() - 1, ..Limits::default() };
    let large = parse_with(&Parser::new(FieldMapping::default(), limits), LOG.as_bytes(), None);
    let detail = large.expect_err("too large").detail;
    assert_eq!(
        detail,
        format!("expected at most {} bytes (max_record_bytes), found {}", LOG.len() - 1, LOG.len())
    );
}

#[test]
fn a_log_may_be_five_minutes_ahead_of_its_record() {
    let at = |record_us| parse_with(&parser(), LOG.as_bytes(), Some(record_us));
    assert!(at(LOG_US - 300_000_000).is_ok());
    let reject = at(LOG_US - 300_000_001).expect_err("from the future");
    assert_eq!(reject.reason, Reason::FromTheFuture);
    let expected =
        "timestamp: expected at most 300 s after the record's time (max_future_skew), found 300 s after it";
    assert_eq!(reject.detail, expected);
    assert!(at(i64::MAX).is_ok() && at(i64::MIN).is_err());
}

#[test]
fn details_never_hold_the_payloads_text() {
    const SECRET: &str = "hunter2";
    let fields = ["timestamp", "level", "service", "host", "message", "metadata"];
    let values = [
        "\"hunter2\"",
        "{\"hunter2\":\"hunter2\"}",
        "[\"hunter2\"]",
        "\"hunter2",
        "hunter2",
        "\"hunter2\\x\"",
    ];
    for field in fields {
        for value in values {
            if let Err(reject) = parse(&with(field, Some(value))) {
                assert!(!reject.detail.contains(SECRET), "{field}: {value}: {}", reject.detail);
            }
        }
    }
}

#[test]
fn timestamps() {
    let second = 1_000_000;
    let accepted = [
        ("\"2026-01-15T10:30:00+00:00\"", LOG_US),
        ("\"2026-01-15T16:00:00+05:30\"", LOG_US),
        ("\"2026-01-15t10:30:00.1234567z\"", LOG_US + 123_456),
        ("\"2026-01-15 10:30:00Z\"", LOG_US),
        ("\"20260115T103000Z\"", LOG_US),
        ("\"2026-01-15T10:29:60Z\"", LOG_US - 1),
        ("\"2026-01-15T10:30:00\\u005a\"", LOG_US),
        ("1768473000", LOG_US),
        ("1768473000.25", LOG_US + 250_000),
        ("1.768473e9", LOG_US),
        ("1768473000001", LOG_US + 1_000),
        ("1768473000000001", LOG_US + 1),
        ("1768473000000001999", LOG_US + 1),
        ("\"1768473000\"", LOG_US),
        ("\"1971-01-01T00:00:00Z\"", 31_536_000 * second),
        ("\"2199-12-31T23:59:59.999999Z\"", 7_258_118_400 * second - 1),
        ("\"2024-02-29T00:00:00Z\"", 1_709_164_800 * second),
    ];
    for (value, expected) in accepted {
        let log =
            parse(&with("timestamp", Some(value))).unwrap_or_else(|reject| panic!("{value}: {reject:?}"));
        assert_eq!(log.timestamp_us, expected, "{value}");
    }
    let refused = [
        "\"2026-01-15T10:30:00\"",
        "\"2026-01-15\"",
        "\"2026-02-29T00:00:00Z\"",
        "\"2026-01-15T10:30:00+25:00\"",
        "\"1970-12-31T23:59:59Z\"",
        "\"2200-01-01T00:00:00Z\"",
        "\"9999-12-31T23:59:59Z\"",
        "\"0000-01-01T00:00:00Z\"",
        "31535999",
        "7258118400",
        "0",
        "-1768473000",
        "1e300",
        "\"2026-01-15T10:30:00.Z\"",
        "\"1768473000s\"",
    ];
    for value in refused {
        assert_eq!(reason(parse(&with("timestamp", Some(value)))), Reason::InvalidTimestamp, "{value}");
    }
}

#[test]
fn level_numbers_mean_what_the_mapping_says() {
    let schemes: [(&str, &[(u32, Level)]); 5] = [
        (
            "syslog",
            &[(0, Level::Fatal), (3, Level::Error), (4, Level::Warn), (5, Level::Info), (7, Level::Debug)],
        ),
        (
            "otel",
            &[(1, Level::Trace), (4, Level::Trace), (5, Level::Debug), (12, Level::Info), (24, Level::Fatal)],
        ),
        (
            "pino",
            &[
                (10, Level::Trace),
                (30, Level::Info),
                (35, Level::Info),
                (50, Level::Error),
                (60, Level::Fatal),
            ],
        ),
        ("python", &[(10, Level::Debug), (20, Level::Info), (30, Level::Warn), (50, Level::Fatal)]),
        ("gcp", &[(100, Level::Debug), (300, Level::Info), (500, Level::Error), (800, Level::Fatal)]),
    ];
    for (scheme, meanings) in schemes {
        let mapping: FieldMapping =
            serde_json::from_value(serde_json::json!({ "level_numbers": scheme })).expect("a scheme");
        let parser = Parser::new(mapping, Limits::default());
        for (number, expected) in meanings {
            for value in [format!("{number}"), format!("\"{number}\"")] {
                let log = parse_with(&parser, with("level", Some(&value)).as_bytes(), None);
                assert_eq!(log.expect("a level").level, *expected, "{scheme} {value}");
            }
        }
        let out_of_scheme = with("level", Some("4000"));
        assert_eq!(
            reason(parse_with(&parser, out_of_scheme.as_bytes(), None)),
            Reason::InvalidLevel,
            "{scheme}"
        );
    }
}

#[test]
fn mappings_of_the_users_own() {
    let mapping: FieldMapping = serde_json::from_value(serde_json::json!({
        "timestamp": ["ts"], "message": ["event.text", "msg"], "service": ["app"], "unmapped": "metadata", "default_level": "INFO"
    }))
    .expect("a mapping");
    let parser = Parser::new(mapping.clone(), Limits::default());
    let payload = br#"{"ts":1768473000,"app":"a","event":{"text":"m","code":7},"msg":"other","metadata":{"x":1},"y":[]}"#;
    let log = parse_with(&parser, payload, None).expect("a log");
    assert_eq!((log.message.as_str(), log.level), ("m", Level::Info));
    assert_eq!(
        log.metadata.as_deref(),
        Some(r#"{"event":{"text":"m","code":7},"y":[],"msg":"other","x":1}"#)
    );
    let written = serde_json::to_value(&mapping).expect("mappings can be written");
    assert_eq!(serde_json::from_value::<FieldMapping>(written).expect("and read again"), mapping);
}

#[test]
fn mappings_that_make_no_sense_are_refused() {
    let cases = [
        (serde_json::json!({"timestmp": ["ts"]}), "unknown field `timestmp`"),
        (serde_json::json!({"service": []}), "service: expected at least one path, found none"),
        (
            serde_json::json!({"service": ["a..b"]}),
            "service: expected keys joined by single dots, found \"a..b\"",
        ),
        (serde_json::json!({"service": ["message"]}), "the path \"message\" is given twice"),
        (serde_json::json!({"host": ["a.b.c.d.e.f.g.h.i"]}), "host: expected at most 8 keys in a path"),
        (
            serde_json::json!({"host": (0..11).map(|i| i.to_string()).collect::<Vec<_>>()}),
            "host: expected at most 10 paths, found 11",
        ),
        (serde_json::json!({"host": ["a\"b"]}), "host: expected no quotes"),
        (serde_json::json!({"preset": "syslog"}), "unknown variant `syslog`"),
    ];
    for (given, expected) in cases {
        let error = serde_json::from_value::<FieldMapping>(given).expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
    }
}
