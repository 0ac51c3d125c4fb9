//! From the bytes of a message to a log, or to the reason why it is none.
//!
//! ```text
//! payload ─→ scanner (flat objects, no surprises) ─┬─→ fields, undecoded ─→ read each ─→ ParsedLog
//!                     │ anything unusual           │                            │
//!                     └─→ general (serde_json) ────┘                            └─→ Reject
//! ```
//!
//! Both ways find the same fields or none; only the general one rejects, so a reject is worded in one place. What
//! the input may look like is written down in docs/FORMAT.md.

mod general;
mod level;
mod mapping;
mod metadata;
mod quotes;
mod read;
mod scanner;
mod text;
mod timestamp;

pub use level::LevelNumbers;
pub use mapping::{FieldMapping, MappingError, Preset, Unmapped};

use crate::patterns::Shaper;
use mapping::Tree;
use quotes::Quotes;
use read::{All, CoreOnly, TextOnly, Wanted};
use scanner::{Flat, FlatKeys};
use smartlog_schema::dead_letter::Reason;
use smartlog_schema::level::Level;
use std::borrow::Cow;

/// What is too large and what is too late to be a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest payload, bytes.
    pub max_record_bytes: usize,
    /// Longest metadata, bytes; longer metadata is left out, the log stays.
    pub max_metadata_bytes: usize,
    /// How far a log's time may lie after the time of its record, microseconds.
    pub max_future_skew_us: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_record_bytes: 1024 * 1024,
            max_metadata_bytes: 256 * 1024,
            max_future_skew_us: 5 * 60 * 1_000_000,
        }
    }
}

/// A log, borrowed from its payload, or from the [`Scratch`] where its text had to be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParsedLog<'a> {
    /// Event time, microseconds since 1970 UTC.
    pub timestamp_us: i64,
    pub level: Level,
    /// 1 to [`MAX_NAME_CHARS`](smartlog_schema::log::MAX_NAME_CHARS) characters.
    pub service: &'a str,
    /// 1 to [`MAX_NAME_CHARS`](smartlog_schema::log::MAX_NAME_CHARS) characters.
    pub host: Option<&'a str>,
    pub message: &'a str,
    /// Length of the message, characters.
    pub message_chars: u32,
    /// A JSON object as text, acceptable to `jsonb`.
    pub metadata: Option<&'a str>,
}

/// As much of a log as the aggregates need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParsedCore<'a> {
    /// Event time, microseconds since 1970 UTC.
    pub timestamp_us: i64,
    pub level: Level,
    /// 1 to [`MAX_NAME_CHARS`](smartlog_schema::log::MAX_NAME_CHARS) characters.
    pub service: &'a str,
    /// Length of the message, characters.
    pub message_chars: u32,
}

/// Why a payload is no log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    pub reason: Reason,
    /// What was expected and what was found, in words, never with the payload's text.
    pub detail: Cow<'static, str>,
}

impl Reject {
    fn new(reason: Reason, detail: &'static str) -> Reject {
        Reject { reason, detail: Cow::Borrowed(detail) }
    }
}

/// Buffers for text that cannot be borrowed from the payload. One per thread, used again for each log.
#[derive(Debug, Default)]
pub struct Scratch {
    service: String,
    host: String,
    message: String,
    metadata: String,
    quotes: Quotes,
    minute: timestamp::Minute,
}

/// A buffer that one huge log has grown is given back once it is this large, bytes.
const MAX_KEPT_BYTES: usize = 64 * 1024;

impl Scratch {
    fn clear(&mut self) {
        for buffer in [&mut self.service, &mut self.host, &mut self.message, &mut self.metadata] {
            buffer.clear();
            if buffer.capacity() > MAX_KEPT_BYTES {
                buffer.shrink_to(MAX_KEPT_BYTES);
            }
        }
    }
}

/// Turns payloads into logs. Immutable: one serves all threads.
#[derive(Debug, Clone)]
pub struct Parser {
    mapping: FieldMapping,
    tree: Tree,
    /// `None`: every payload goes the general way.
    flat: Option<FlatKeys>,
    limits: Limits,
    shapes: bool,
}

impl Parser {
    pub fn new(mapping: FieldMapping, limits: Limits) -> Parser {
        Parser { tree: Tree::new(&mapping), flat: FlatKeys::new(&mapping), mapping, limits, shapes: false }
    }

    /// Whether logs are to be given the shape of their message by whoever reads them.
    #[must_use]
    pub fn with_shapes(self, shapes: bool) -> Parser {
        Parser { shapes, ..self }
    }

    /// Makes the shapes of the logs of one thread, if they are to have any.
    pub fn shaper(&self) -> Shaper {
        Shaper::new(self.shapes)
    }

    /// The same parser without its short way: slower, with the same results. Tests compare the two.
    pub fn general_only(self) -> Parser {
        Parser { flat: None, ..self }
    }

    /// Reads one payload.
    ///
    /// `record_time_us`: time of the Kafka record, microseconds since 1970 UTC; the wall clock where there is none;
    /// `None` where a log may be of any time (files).
    ///
    /// # Errors
    /// The first fault in this order: the payload as a whole, duplicate fields, timestamp, level, service, message,
    /// a time in the future. Faults of host and metadata never reject; the metadata says what they were.
    pub fn parse<'a>(
        &self,
        payload: Option<&'a [u8]>,
        record_time_us: Option<i64>,
        scratch: &'a mut Scratch,
    ) -> Result<ParsedLog<'a>, Reject> {
        self.parse_wanted::<All>(payload, record_time_us, scratch)
    }

    /// Like [`Parser::parse`], with `metadata` always `None`.
    ///
    /// # Errors
    /// The same as [`Parser::parse`] for the same payload.
    pub fn parse_text<'a>(
        &self,
        payload: Option<&'a [u8]>,
        record_time_us: Option<i64>,
        scratch: &'a mut Scratch,
    ) -> Result<ParsedLog<'a>, Reject> {
        self.parse_wanted::<TextOnly>(payload, record_time_us, scratch)
    }

    /// As much of the log as the aggregates need.
    ///
    /// # Errors
    /// The same as [`Parser::parse`] for the same payload.
    pub fn parse_core<'a>(
        &self,
        payload: Option<&'a [u8]>,
        record_time_us: Option<i64>,
        scratch: &'a mut Scratch,
    ) -> Result<ParsedCore<'a>, Reject> {
        let log = self.parse_wanted::<CoreOnly>(payload, record_time_us, scratch)?;
        let ParsedLog { timestamp_us, level, service, message_chars, .. } = log;
        Ok(ParsedCore { timestamp_us, level, service, message_chars })
    }

    fn parse_wanted<'a, W: Wanted>(
        &self,
        payload: Option<&'a [u8]>,
        record_time_us: Option<i64>,
        scratch: &'a mut Scratch,
    ) -> Result<ParsedLog<'a>, Reject> {
        scratch.clear();
        let payload = self.accepted(payload)?;
        let text = match &self.flat {
            None => text(payload)?,
            Some(keys) => {
                let look = scratch.quotes.find(payload);
                let text = look.ascii.map_or_else(|| text(payload), Ok)?;
                let mut flat = Flat::default();
                if look.strings_are_clean && scanner::scan(keys, text, &scratch.quotes, &mut flat).is_some() {
                    let values = flat.values(text);
                    return read::read::<W>(self, &flat.fields(&values), record_time_us, scratch);
                }
                text
            }
        };
        let keep = W::METADATA && self.mapping.keeps_unmapped();
        let unmapped = keep.then(|| {
            metadata::begin(&mut scratch.metadata);
            &mut scratch.metadata
        });
        let found = general::find(&self.tree, self.mapping.otlp_values(), text, unmapped)?;
        read::read::<W>(self, &found.fields(&self.tree), record_time_us, scratch)
    }

    /// The payload, of a length that is accepted.
    #[inline]
    fn accepted<'a>(&self, payload: Option<&'a [u8]>) -> Result<&'a [u8], Reject> {
        let payload = payload.unwrap_or_default();
        if payload.is_empty() {
            return Err(Reject::new(
                Reason::EmptyPayload,
                "expected a JSON object, found a record without a value",
            ));
        }
        if payload.len() > self.limits.max_record_bytes {
            let (limit, found) = (self.limits.max_record_bytes, payload.len());
            let detail =
                Cow::Owned(format!("expected at most {limit} bytes (max_record_bytes), found {found}"));
            return Err(Reject { reason: Reason::TooLarge, detail });
        }
        Ok(payload)
    }
}

fn text(payload: &[u8]) -> Result<&str, Reject> {
    simdutf8::basic::from_utf8(payload).map_err(|_| invalid_utf8(payload))
}

#[cold]
fn invalid_utf8(payload: &[u8]) -> Reject {
    let at = std::str::from_utf8(payload).map_or_else(|error| error.valid_up_to(), str::len);
    let detail = Cow::Owned(format!("expected UTF-8, found a byte that is none at byte {at}"));
    Reject { reason: Reason::InvalidUtf8, detail }
}
