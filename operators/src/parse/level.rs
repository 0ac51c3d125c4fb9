//! Severity, from the words and numbers that logging libraries use, to the six levels.

use serde::{Deserialize, Serialize};
use smartlog_schema::level::Level;

/// What a number means as a level. There is no way to tell by looking: 40 is WARN to pino and ERROR to Python.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LevelNumbers {
    /// Numbers are refused.
    None,
    /// RFC 5424: 0 (emergency) to 7 (debug).
    Syslog,
    /// OpenTelemetry `SeverityNumber`: 1 to 24 by fours, 0 unspecified.
    Otel,
    /// pino and bunyan: trace 10, debug 20, ... fatal 60; what lies between counts as the lower one.
    Pino,
    /// Python's `logging`: debug 10, info 20, ... critical 50; what lies between counts as the lower one.
    Python,
    /// Google Cloud `LogSeverity`: 0 (default) to 800 (emergency) by hundreds.
    Gcp,
}

/// What a level field says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    Level(Level),
    /// The sender says that it set none: the same as if the field were not there.
    Unspecified,
    Unknown,
}

/// Longest spelling known, bytes.
const LONGEST: usize = 13;

/// Reads the content of a string: a name in any case, or a number.
pub(super) fn from_text(text: &str, numbers: LevelNumbers) -> Reading {
    match text {
        "INFO" => return Reading::Level(Level::Info),
        "ERROR" => return Reading::Level(Level::Error),
        "WARN" => return Reading::Level(Level::Warn),
        "DEBUG" => return Reading::Level(Level::Debug),
        _ => {}
    }
    let text = text.trim_ascii();
    if text.is_empty() {
        return Reading::Unspecified;
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return from_number(text, numbers);
    }
    let mut lower = [0; LONGEST];
    let Some(lower) = lower.get_mut(..text.len()) else {
        return Reading::Unknown;
    };
    lower.copy_from_slice(text.as_bytes());
    lower.make_ascii_lowercase();
    named(lower)
}

fn named(lower: &[u8]) -> Reading {
    // OpenTelemetry's short names number the shades of a level: INFO2, ERROR4.
    let lower = match lower {
        [name @ .., b'2'..=b'4'] if name.len() >= 4 => name,
        _ => lower,
    };
    Reading::Level(match lower {
        b"trace" | b"verbose" | b"trc" | b"finest" | b"finer" | b"t" | b"v" => Level::Trace,
        b"debug" | b"dbg" | b"fine" | b"d" => Level::Debug,
        b"info" | b"information" | b"informational" | b"inf" | b"notice" | b"log" | b"i" | b"n" => {
            Level::Info
        }
        b"warn" | b"warning" | b"wrn" | b"w" => Level::Warn,
        b"error" | b"err" | b"severe" | b"e" => Level::Error,
        b"fatal" | b"critical" | b"crit" | b"alert" | b"emergency" | b"emerg" | b"panic" | b"dpanic"
        | b"ftl" | b"f" | b"c" => Level::Fatal,
        b"default" | b"unspecified" => return Reading::Unspecified,
        _ => return Reading::Unknown,
    })
}

/// Reads a number, written as JSON or in a string.
pub(super) fn from_number(text: &str, numbers: LevelNumbers) -> Reading {
    let Ok(number) = text.parse::<u32>() else {
        return Reading::Unknown;
    };
    let level = match (numbers, number) {
        (LevelNumbers::Otel | LevelNumbers::Gcp, 0) => return Reading::Unspecified,
        (LevelNumbers::None, _) => None,
        (LevelNumbers::Syslog, _) => syslog(number),
        (LevelNumbers::Otel, _) => Level::ALL.get((number as usize - 1) / 4).copied(),
        (LevelNumbers::Pino, _) => by_tens(number),
        (LevelNumbers::Python, _) => by_tens(number.saturating_add(10)),
        (LevelNumbers::Gcp, _) => gcp(number),
    };
    level.map_or(Reading::Unknown, Reading::Level)
}

fn syslog(number: u32) -> Option<Level> {
    Some(match number {
        0..=2 => Level::Fatal,
        3 => Level::Error,
        4 => Level::Warn,
        5 | 6 => Level::Info,
        7 => Level::Debug,
        _ => return None,
    })
}

fn by_tens(number: u32) -> Option<Level> {
    Some(match number {
        0 => return None,
        1..20 => Level::Trace,
        20..30 => Level::Debug,
        30..40 => Level::Info,
        40..50 => Level::Warn,
        50..60 => Level::Error,
        60..=100 => Level::Fatal,
        _ => return None,
    })
}

fn gcp(number: u32) -> Option<Level> {
    Some(match number {
        100 => Level::Debug,
        200 | 300 => Level::Info,
        400 => Level::Warn,
        500 => Level::Error,
        600 | 700 | 800 => Level::Fatal,
        _ => return None,
    })
}
