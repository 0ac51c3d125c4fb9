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
