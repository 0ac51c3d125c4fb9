//! Severity levels, normalised from the spellings that logging libraries use.

use serde::{Deserialize, Serialize};

/// Severity of a log line, least severe first (the order is part of the meaning: `level >= Level::Error`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[repr(u8)]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

impl Level {
    /// All levels, least severe first.
    pub const ALL: [Level; 6] =
        [Level::Trace, Level::Debug, Level::Info, Level::Warn, Level::Error, Level::Fatal];

    /// The stored spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Level::Trace => "TRACE",
            Level::Debug => "DEBUG",
            Level::Info => "INFO",
            Level::Warn => "WARN",
            Level::Error => "ERROR",
            Level::Fatal => "FATAL",
        }
    }

    /// Whether the line counts as an error in `error_rate` (ERROR and FATAL).
    #[inline]
    pub const fn is_error(self) -> bool {
        matches!(self, Level::Error | Level::Fatal)
    }
}
