//! What a payload means, said naively: `serde_json::Value`, `char`s, and calendar arithmetic by `jiff`. Shares no
//! code with the parser. Where it cannot know (text that `Value` does not hold exactly) it has no opinion.

use jiff::tz::{Offset, TimeZone};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value, json};
use smartlog_operators::parse::ParsedLog;
use smartlog_schema::dead_letter::Reason;
use smartlog_schema::level::Level;

const FUTURE_US: i128 = 300_000_000;

#[derive(Debug)]
pub enum Verdict {
    Log(Box<Expected>),
    Reject(Reason),
    NoOpinion,
}

#[derive(Debug)]
pub struct Expected {
    timestamp_us: i128,
    level: Level,
    service: String,
    host: Option<String>,
    message: String,
    metadata: Option<Value>,
}

impl Expected {
    pub fn assert_same(&self, log: &ParsedLog<'_>) {
        assert_eq!(self.timestamp_us, i128::from(log.timestamp_us));
        assert_eq!(self.level, log.level);
        assert_eq!(self.service, log.service);
        assert_eq!(self.host.as_deref(), log.host);
        assert_eq!(self.message, log.message);
        assert_eq!(self.message.chars().count(), log.message_chars as usize);
        let metadata = log.metadata.map(|text| serde_json::from_str(text).expect("metadata is JSON"));
        assert_eq!(self.metadata, metadata);
    }
}

/// The members of an object in order, repeated keys included.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Members;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Members, M::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(All)
    }
}

pub fn judge(payload: &[u8], record_us: Option<i64>) -> Verdict {
    judged(payload, record_us).unwrap_or_else(|verdict| verdict)
}

fn judged(payload: &[u8], record_us: Option<i64>) -> Result<Verdict, Verdict> {
    let no = |reason| Err(Verdict::Reject(reason));
    if payload.is_empty() {
        return no(Reason::EmptyPayload);
    }
    if payload.len() > 1024 * 1024 {
        return no(Reason::TooLarge);
    }
    let Ok(text) = std::str::from_utf8(payload) else { return no(Reason::InvalidUtf8) };
    if serde_json::from_str::<IgnoredAny>(text).is_err() {
        return no(Reason::InvalidJson);
    }
    if !text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{') {
        return no(Reason::NotAnObject);
    }
    let Ok(Members(members)) = serde_json::from_str::<Members>(text) else { return Err(Verdict::NoOpinion) };
    let is_long = |run: &str| run.len() > 60 && run.contains('.');
    if text.split(|c: char| !c.is_ascii_digit() && c != '.').any(is_long) {
        return Err(Verdict::NoOpinion);
    }
    let get = |name: &str| {
        members.iter().find(|(key, _)| key == name).map(|(_, value)| value).filter(|v| !v.is_null())
    };
    let times = |name: &str| members.iter().filter(|(key, _)| key == name).count();
    if ["timestamp", "level", "service", "message"].iter().any(|name| times(name) > 1) {
        return no(Reason::DuplicateField);
    }
    let timestamp_us = timestamp(get("timestamp"))?;
    let level = level(get("level"))?;
    let service = match get("service") {
        None => return no(Reason::MissingService),
        Some(Value::String(name)) if !name.is_empty() => name,
        Some(_) => return no(Reason::InvalidService),
    };
    let message = match get("message") {
        None => return no(Reason::MissingMessage),
        Some(Value::String(message)) => without_nul(message),
        Some(_) => return no(Reason::InvalidMessage),
    };
    if record_us.is_some_and(|record_us| timestamp_us > i128::from(record_us) + FUTURE_US) {
        return no(Reason::FromTheFuture);
    }
    let host = get("host").and_then(Value::as_str).filter(|name| !name.is_empty());
    let flags = flags(service, get("host"), times("host"), times("metadata"));
    let metadata = metadata(get("metadata"), flags)?;
    let host = host.map(first_hundred);
    Ok(Verdict::Log(Box::new(Expected {
        timestamp_us,
        level,
        service: first_hundred(service),
        host,
        message,
        metadata,
    })))
}

fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{FFFD}")
}

fn first_hundred(text: &str) -> String {
    without_nul(text).chars().take(100).collect()
}

fn flags(
    service: &str,
    host: Option<&Value>,
    hosts: usize,
    metadatas: usize,
) -> Vec<(&'static str, Vec<&'static str>)> {
    let long = |text: &str| text.chars().count() > 100;
    let names =
        |of: &[(bool, &'static str)]| of.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
    let long_host = host.and_then(Value::as_str).is_some_and(long);
    [
        ("_truncated", names(&[(long(service), "service"), (long_host, "host")])),
        ("_invalid", names(&[(host.is_some_and(|host| !host.is_string()), "host")])),
        ("_duplicate", names(&[(hosts > 1, "host"), (metadatas > 1, "metadata")])),
    ]
    .into_iter()
    .filter(|(_, names): &(_, Vec<_>)| !names.is_empty())
    .collect()
}

fn metadata(given: Option<&Value>, flags: Vec<(&str, Vec<&str>)>) -> Result<Option<Value>, Verdict> {
    let mut members = match given {
        None if flags.is_empty() => return Ok(None),
        None => Map::new(),
        Some(Value::Object(members)) => match mended(&Value::Object(members.clone()), 0)? {
            Value::Object(members) => members,
            _ => unreachable!("an object is mended to an object"),
        },
        Some(other) => Map::from_iter([("_value".to_owned(), mended(other, 0)?)]),
    };
    members.extend(flags.into_iter().map(|(key, names)| (key.to_owned(), json!(names))));
    Ok(Some(Value::Object(members)))
}

/// `Err` where a number may have been written in a way that `Value` does not remember.
fn mended(value: &Value, depth: usize) -> Result<Value, Verdict> {
    Ok(match value {
        Value::Array(_) | Value::Object(_) if depth == 100 => json!("_nested_too_deep"),
        Value::String(text) => Value::String(without_nul(text)),
        Value::Array(elements) => {
            Value::Array(elements.iter().map(|element| mended(element, depth + 1)).collect::<Result<_, _>>()?)
        }
        Value::Object(members) => {
            let mended: Map<String, Value> = members
                .iter()
                .map(|(key, value)| Ok((without_nul(key), mended(value, depth + 1)?)))
                .collect::<Result<_, Verdict>>()?;
            if mended.len() < members.len() {
                return Err(Verdict::NoOpinion);
            }
            Value::Object(mended)
        }
        Value::Number(number) => {
            let size = number.as_f64().unwrap_or(0.0).abs();
            let is_plain = size == 0.0 && !number.is_f64() || (1e-30..1e30).contains(&size);
            if !is_plain {
                return Err(Verdict::NoOpinion);
            }
            value.clone()
        }
        other => other.clone(),
    })
}

fn level(given: Option<&Value>) -> Result<Level, Verdict> {
    let text = match given {
        None => return Err(Verdict::Reject(Reason::MissingLevel)),
        Some(Value::String(text)) => text.trim_matches([' ', '\t', '\n', '\r', '\u{c}']),
        Some(_) => return Err(Verdict::Reject(Reason::InvalidLevel)),
    };
    let known: [(&str, Level); 6] = [
        ("trace verbose trc finest finer t v", Level::Trace),
        ("debug dbg fine d", Level::Debug),
        ("info information informational inf notice log i n", Level::Info),
        ("warn warning wrn w", Level::Warn),
        ("error err severe e", Level::Error),
        ("fatal critical crit alert emergency emerg panic dpanic ftl f c", Level::Fatal),
    ];
    let lower = text.to_ascii_lowercase();
    let named = known.into_iter().find(|(names, _)| names.split(' ').any(|name| name == lower));
    match named {
        Some((_, level)) => Ok(level),
        None if text.is_empty() || lower == "default" || lower == "unspecified" => {
            Err(Verdict::Reject(Reason::MissingLevel))
        }
        None if lower.ends_with(['2', '3', '4']) && lower.len() > 1 => {
            Err(Verdict::NoOpinion).or_else(|verdict| {
                let base = &lower[..lower.len() - 1];
                let of_otel = Level::ALL.into_iter().find(|level| level.as_str().to_lowercase() == base);
                of_otel.ok_or(verdict)
            })
        }
        None => Err(Verdict::Reject(Reason::InvalidLevel)),
    }
}

fn timestamp(given: Option<&Value>) -> Result<i128, Verdict> {
    let invalid = Verdict::Reject(Reason::InvalidTimestamp);
    let instant = match given {
        None => return Err(Verdict::Reject(Reason::MissingTimestamp)),
        Some(Value::String(text)) => match rfc3339(text) {
            Some(instant) => instant,
            None if text.parse::<f64>().is_ok() || text.parse::<jiff::Timestamp>().is_ok() => {
                return if text.bytes().all(|byte| byte.is_ascii_digit()) {
                    epoch(text).ok_or(invalid)
                } else {
                    Err(Verdict::NoOpinion)
                };
            }
            None => return Err(invalid),
        },
        Some(Value::Number(number)) if number.is_u64() || number.is_i64() => {
            return epoch(&number.to_string()).ok_or(invalid);
        }
        Some(Value::Number(_)) => return Err(Verdict::NoOpinion),
        Some(_) => return Err(invalid),
    };
    let first = jiff::civil::date(1971, 1, 1).to_zoned(TimeZone::UTC).expect("a date").timestamp();
    let last = jiff::civil::date(2200, 1, 1).to_zoned(TimeZone::UTC).expect("a date").timestamp();
    let accepted = i128::from(first.as_microsecond())..i128::from(last.as_microsecond());
    if accepted.contains(&instant) { Ok(instant) } else { Err(invalid) }
}

/// The unit is the one that puts the number between 1971 and 2200.
fn epoch(digits: &str) -> Option<i128> {
    let number: i128 = digits.parse().ok()?;
    let units = [(1_000_000, 1), (1_000, 1), (1, 1), (1, 1_000)];
    units
        .into_iter()
        .map(|(times, by)| number * times / by)
        .find(|instant| (31_536_000_000_000..7_258_118_400_000_000).contains(instant))
}

fn rfc3339(text: &str) -> Option<i128> {
    let digits = |from: usize, to: usize| {
        text.get(from..to).filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()))?.parse::<i16>().ok()
    };
    let is = |at: usize, any: &str| text.get(at..=at).filter(|one| any.contains(*one));
    let marks = [(4, "-"), (7, "-"), (10, "Tt "), (13, ":"), (16, ":")];
    if marks.iter().any(|(at, any)| is(*at, any).is_none()) {
        return None;
    }
    let small = |from, to| digits(from, to).and_then(|number| i8::try_from(number).ok());
    let date =
        jiff::civil::Date::new(digits(0, 4).filter(|year| *year > 0)?, small(5, 7)?, small(8, 10)?).ok()?;
    let second = small(17, 19).filter(|second| *second <= 60)?;
    let rest = text.get(19..)?;
    let fraction_length = match rest.strip_prefix('.') {
        Some(fraction) => 1 + fraction.bytes().take_while(u8::is_ascii_digit).count(),
        None => 0,
    };
    if fraction_length == 1 {
        return None;
    }
    let mut micros: String = rest[..fraction_length].chars().skip(1).take(6).collect();
    while micros.len() < 6 {
        micros.push('0');
    }
    let mut micros: i128 = micros.parse().ok()?;
    let time = jiff::civil::Time::new(small(11, 13)?, small(14, 16)?, second.min(59), 0).ok()?;
    if second == 60 {
        micros = 999_999;
    }
    let zone = &rest[fraction_length..];
    let offset_s = if zone == "Z" || zone == "z" {
        0
    } else {
        let number = |from, to| {
            zone.get(from..to).filter(|s: &&str| s.bytes().all(|b| b.is_ascii_digit()))?.parse::<i32>().ok()
        };
        let (hours, minutes) = (number(1, 3)?, number(4, 6)?);
        if zone.len() != 6
            || !zone.starts_with(['+', '-'])
            || &zone[3..4] != ":"
            || hours > 23
            || minutes > 59
        {
            return None;
        }
        (hours * 60 + minutes) * 60 * if zone.starts_with('-') { -1 } else { 1 }
    };
    let local = date.to_datetime(time);
    let utc = Offset::UTC.to_timestamp(local).ok()?;
    Some(i128::from(utc.as_microsecond()) + micros - i128::from(offset_s) * 1_000_000)
}
