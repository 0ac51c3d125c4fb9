//! A naive reader of the traffic, written against the line format alone, and small statistics.

#![allow(dead_code, reason = "each test program uses its own part")]

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use smartlog_generator::{
    Family, Generator, GeneratorConfig, IncidentKind, IncidentPlan, IncidentSpec, Record, Season,
    ServiceConfig, Services,
};
use std::collections::BTreeMap;

pub const START: i64 = 1_772_604_000;

/// A log as a strict reader sees it.
#[derive(Debug, Clone)]
pub struct Log {
    pub arrival_us: i64,
    pub event_ms: i64,
    pub level: String,
    pub service: String,
    pub host: String,
    pub message: String,
    pub request: String,
    pub user: String,
    pub duration_ms: u64,
    pub version: Option<String>,
}

impl Log {
    pub fn is_error(&self) -> bool {
        matches!(self.level.as_str(), "ERROR" | "FATAL")
    }

    pub fn second(&self) -> i64 {
        self.event_ms.div_euclid(1000)
    }
}

/// The log in `record`, or `None` when it is none by the format in the requirements.
pub fn read(record: &Record) -> Option<Log> {
    let Ok(Value::Object(log)) = serde_json::from_slice(&record.payload) else { return None };
    let text = |name: &str| log.get(name).and_then(Value::as_str).map(str::to_owned);
    let metadata = log.get("metadata")?.as_object()?;
    let told: Timestamp = text("timestamp")?.parse().ok()?;
    Some(Log {
        arrival_us: record.arrival_us,
        event_ms: told.as_millisecond(),
        level: text("level")?,
        service: text("service")?,
        host: text("host")?,
        message: text("message")?,
        request: metadata.get("request_id")?.as_str()?.to_owned(),
        user: metadata.get("user_id")?.as_str()?.to_owned(),
        duration_ms: metadata.get("duration_ms")?.as_u64()?,
        version: metadata.get("version").and_then(Value::as_str).map(str::to_owned),
    })
}

/// Settings for a test: no malformed and no odd lines, nothing late.
pub fn plain(seed: u64, minutes: i64, rate_per_s: f64) -> GeneratorConfig {
    GeneratorConfig {
        seed,
        start: Timestamp::from_second(START).unwrap(),
        duration: Some(SignedDuration::from_mins(minutes)),
        rate_per_s,
        malformed_share: 0.0,
        odd_share: 0.0,
        late_share: 0.0,
        ..GeneratorConfig::default()
    }
}

pub fn logs(config: GeneratorConfig) -> Vec<Log> {
    Generator::new(config).unwrap().map(|record| read(&record).expect("a well-formed log")).collect()
}

/// A service without season, so that rates are what they are.
pub fn service(name: &str, weight: f64) -> ServiceConfig {
    ServiceConfig {
        name: name.to_owned(),
        family: Family::Orders,
        weight,
        error_share: 0.02,
        hosts: 4,
        season: Season::FLAT,
        burst: 0.05,
        dispersion: 20.0,
        latency_ms: 50.0,
        callers: Vec::new(),
    }
}

/// Two services of equal rate: one to bend, one to compare.
pub fn two_services() -> Services {
    Services::List(vec![service("bent", 1.0), service("calm", 1.0)])
}

/// One incident on `bent` from minute `after` on.
pub fn one(kind: IncidentKind, magnitude: f64, after: i64, minutes: i64) -> IncidentPlan {
    IncidentPlan::Explicit(vec![IncidentSpec {
        kind,
        service: "bent".to_owned(),
        after: SignedDuration::from_mins(after),
        lasts: SignedDuration::from_mins(minutes),
        magnitude: Some(magnitude),
    }])
}

/// Logs, errors and message characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub logs: i64,
    pub errors: i64,
    pub chars: i64,
}

impl Count {
    pub fn add(&mut self, log: &Log) {
        self.logs += 1;
        self.errors += i64::from(log.is_error());
        self.chars += log.message.chars().count() as i64;
    }

    pub fn error_rate(&self) -> f64 {
        self.errors as f64 / self.logs.max(1) as f64
    }

    pub fn mean_length(&self) -> f64 {
        self.chars as f64 / self.logs.max(1) as f64
    }
}

pub fn by_service_and_second(logs: &[Log]) -> BTreeMap<(String, i64), Count> {
    let mut counts: BTreeMap<_, Count> = BTreeMap::new();
    for log in logs {
        counts.entry((log.service.clone(), log.second())).or_default().add(log);
    }
    counts
}

/// Counts of `service` in the minutes `[from, to)` after the start.
pub fn count(logs: &[Log], service: &str, from: i64, to: i64) -> Count {
    let mut count = Count::default();
    let minutes = from..to;
    let within =
        |log: &&Log| log.service == service && minutes.contains(&(log.second() - START).div_euclid(60));
    logs.iter().filter(within).for_each(|log| count.add(log));
    count
}

/// Mean and its standard error.
pub fn mean(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (mean, (variance / n).sqrt())
}

#[track_caller]
pub fn assert_close(what: &str, found: f64, expected: f64, tolerance: f64) {
    assert!(
        (found - expected).abs() <= tolerance,
        "{what}: found {found}, expected {expected} ± {tolerance}"
    );
}
