//! What the program should make of each payload, said naively: `serde_json::Value`, loops over years and months, and
//! every log added to every window that it is in.

use crate::topic::Record;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const SECOND_US: i64 = 1_000_000;
const FUTURE_US: i64 = 300 * SECOND_US;

/// A row of `logs`.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    pub timestamp_us: i64,
    pub level: String,
    pub service: String,
    pub host: Option<String>,
    pub message: String,
    pub metadata: Option<Value>,
}

impl Log {
    pub fn is_error(&self) -> bool {
        ["ERROR", "FATAL"].contains(&self.level.as_str())
    }
}

/// What a record becomes: a log, or a dead letter with its reason.
pub fn judge(record: &Record) -> Result<Log, &'static str> {
    let payload = record.payload.as_deref().unwrap_or_default();
    if payload.is_empty() {
        return Err("empty_payload");
    }
    let text = std::str::from_utf8(payload).map_err(|_| "invalid_utf8")?;
    // `Value` refuses half a surrogate pair, which the program mends: so does this.
    let mended = text.replace("\\ud800", "\\ufffd").replace("\\u0000", "\\ufffd");
    let value: Value = serde_json::from_str(&mended).map_err(|_| "invalid_json")?;
    let Value::Object(members) = value else { return Err("not_an_object") };
    let keys = ["\"timestamp\":", "\"level\":", "\"service\":", "\"message\":"];
    if keys.iter().any(|key| mended.matches(key).count() > 1) {
        return Err("duplicate_field");
    }
    let get = |name: &str| members.get(name).filter(|value| !value.is_null());
    let timestamp_us = instant(get("timestamp").ok_or("missing_timestamp")?).ok_or("invalid_timestamp")?;
    let level = get("level").ok_or("missing_level")?.as_str().and_then(level).ok_or("invalid_level")?;
    let service = get("service").ok_or("missing_service")?.as_str().ok_or("invalid_service")?;
    let message = get("message").ok_or("missing_message")?.as_str().ok_or("invalid_message")?;
    if timestamp_us > record.time_ms * 1_000 + FUTURE_US {
        return Err("from_the_future");
    }
    let host = get("host").and_then(Value::as_str);
    let (mut cut, mut invalid) = (Vec::new(), Vec::new());
    if service.chars().count() > 100 {
        cut.push("service");
    }
    if host.is_some_and(|host| host.chars().count() > 100) {
        cut.push("host");
    }
    if get("host").is_some_and(|host| !host.is_string()) {
        invalid.push("host");
    }
    let shorten = |text: &str| text.chars().take(100).collect::<String>();
    Ok(Log {
        timestamp_us,
        level: level.to_owned(),
        service: shorten(service),
        host: host.map(shorten),
        message: message.to_owned(),
        metadata: metadata(get("metadata"), &cut, &invalid),
    })
}

fn metadata(given: Option<&Value>, cut: &[&str], invalid: &[&str]) -> Option<Value> {
    let mut members = match given {
        None if cut.is_empty() && invalid.is_empty() => return None,
        None => Map::new(),
        Some(Value::Object(members)) => members.clone(),
        Some(other) => Map::from_iter([("_value".to_owned(), other.clone())]),
    };
    for (key, names) in [("_truncated", cut), ("_invalid", invalid)] {
        if !names.is_empty() {
            members.insert(key.to_owned(), json!(names));
        }
    }
    Some(Value::Object(members))
}

fn level(text: &str) -> Option<&'static str> {
    Some(match text.trim().to_lowercase().as_str() {
        "trace" => "TRACE",
        "debug" => "DEBUG",
        "info" | "information" | "notice" => "INFO",
        "warn" | "warning" => "WARN",
        "error" | "err" => "ERROR",
        "fatal" | "critical" => "FATAL",
        _ => return None,
    })
}

/// RFC 3339, or a number of seconds or milliseconds, also as text.
fn instant(value: &Value) -> Option<i64> {
    let number = match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    match number {
        Some(number) if number > 100_000_000_000 => Some(number * 1_000),
        Some(number) => Some(number * SECOND_US),
        None => parse_rfc3339(value.as_str()?),
    }
}

fn year_days(year: i64) -> i64 {
    if is_leap(year) { 366 } else { 365 }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn month_days(year: i64) -> [i64; 12] {
    let february = year_days(year) - 337;
    [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
}

/// Microseconds since 1970 of `2026-01-15T10:30:00.123456Z` or with an offset `+05:30`.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let rest = text.get(19..)?;
    let zone_at = rest.find(['Z', '+', '-'])?;
    let (fraction, zone) = rest.split_at(zone_at);
    let micros = match fraction.strip_prefix('.') {
        Some(digits) => format!("{digits:0<6}").get(..6)?.parse::<i64>().ok()?,
        None => 0,
    };
    let offset_minutes = match zone {
        "Z" => 0,
        _ => {
            let minutes = zone.get(1..3)?.parse::<i64>().ok()? * 60 + zone.get(4..6)?.parse::<i64>().ok()?;
            if zone.starts_with('-') { -minutes } else { minutes }
        }
    };
    let months = month_days(year);
    let days = (1970..year).map(year_days).sum::<i64>()
        + months.iter().take(usize::try_from(month - 1).ok()?).sum::<i64>()
        + day
        - 1;
    let seconds = ((days * 24 + hour) * 60 + minute - offset_minutes) * 60 + second;
    Some(seconds * SECOND_US + micros)
}

/// The instant as RFC 3339 in UTC, microseconds.
pub fn rfc3339(us: i64) -> String {
    format!("{}Z", local(us))
}

/// The instant as a place east of Greenwich writes it.
pub fn rfc3339_at_offset(us: i64, minutes: i64) -> String {
    format!("{}+{:02}:{:02}", local(us + minutes * 60 * SECOND_US), minutes / 60, minutes % 60)
}

fn local(us: i64) -> String {
    let (seconds, micros) = (us / SECOND_US, us % SECOND_US);
    let (mut days, of_day) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970;
    while days >= year_days(year) {
        days -= year_days(year);
        year += 1;
    }
    let mut month = 1;
    for length in month_days(year) {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}", days + 1)
}

/// Logs and errors of each hour (start, epoch seconds) and service.
pub type Hours = BTreeMap<(i64, String), (i64, i64)>;

/// Adds `log` to its hour.
pub fn count_hour(hours: &mut Hours, log: &Log) {
    let hour = log.timestamp_us / SECOND_US / 3_600 * 3_600;
    let sums = hours.entry((hour, log.service.clone())).or_default();
    sums.0 += 1;
    sums.1 += i64::from(log.is_error());
}

/// A row of the windows file.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    pub logs: i64,
    pub errors: i64,
    pub avg_message_length: f64,
    pub unique_services: i64,
}

/// Windows by end (epoch seconds) and service.
pub type Windows = BTreeMap<(i64, String), Window>;

/// Every window of five minutes that ends at a multiple of `hop` and holds a log.
pub fn windows<'a>(logs: impl Iterator<Item = &'a Log>, hop: i64) -> Windows {
    let mut sums: BTreeMap<(i64, &str), (i64, i64, usize)> = BTreeMap::new();
    for log in logs {
        let second = log.timestamp_us / SECOND_US;
        let mut end = (second / hop + 1) * hop;
        while end - 300 <= second {
            let sum = sums.entry((end, log.service.as_str())).or_default();
            *sum = (sum.0 + 1, sum.1 + i64::from(log.is_error()), sum.2 + log.message.chars().count());
            end += hop;
        }
    }
    let mut services: BTreeMap<i64, i64> = BTreeMap::new();
    for (end, _) in sums.keys() {
        *services.entry(*end).or_default() += 1;
    }
    let row = |((end, service), (logs, errors, chars)): ((i64, &str), (i64, i64, usize))| {
        let avg_message_length = chars as f64 / logs as f64;
        (
            (end, service.to_owned()),
            Window { logs, errors, avg_message_length, unique_services: services[&end] },
        )
    };
    sums.into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_written_and_read_as_the_calendar_has_them() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(rfc3339(951_782_400 * SECOND_US), "2000-02-29T00:00:00.000000Z");
        assert_eq!(parse_rfc3339("2026-01-15T10:30:00Z"), Some(1_768_473_000 * SECOND_US));
        assert_eq!(parse_rfc3339("2026-01-15T16:00:00.5+05:30"), Some(1_768_473_000_500_000));
        for us in [1, 1_768_473_000_123_456, 4_102_444_799_999_999] {
            assert_eq!(parse_rfc3339(&rfc3339(us)), Some(us));
            assert_eq!(parse_rfc3339(&rfc3339_at_offset(us, 330)), Some(us));
        }
    }
}
