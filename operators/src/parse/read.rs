//! From the fields as they stand in the payload to a log: what each may be, and what it costs when it is not.
//!
//! The four core fields reject the log when they are missing or bad. Host and metadata never do.

use super::level::{self, Reading};
use super::mapping::{Field, FieldMapping};
use super::metadata::{self, Flags};
use super::text::{Raw, chars, chars_of_escaped, cut, unescape};
use super::timestamp::{self, Minute};
use super::{ParsedLog, Parser, Reject, Scratch};
use smartlog_schema::dead_letter::Reason;
use smartlog_schema::level::Level;
use smartlog_schema::log::MAX_NAME_CHARS;
use std::borrow::Cow;

/// How much of a log a caller wants. Whatever it wants, the same payloads are logs.
pub(super) trait Wanted {
    /// Host and message, as text.
    const TEXT: bool;
    const METADATA: bool;
}

pub(super) struct All;
impl Wanted for All {
    const TEXT: bool = true;
    const METADATA: bool = true;
}

pub(super) struct TextOnly;
impl Wanted for TextOnly {
    const TEXT: bool = true;
    const METADATA: bool = false;
}

pub(super) struct CoreOnly;
impl Wanted for CoreOnly {
    const TEXT: bool = false;
    const METADATA: bool = false;
}

/// The fields of one payload, undecoded, each in the order of [`Field::ALL`].
pub(super) struct Fields<'f, 'a> {
    /// What each path of the field found.
    pub values: [&'f [Raw<'a>]; 6],
    /// Whether one of its paths found two values.
    pub duplicate: [bool; 6],
    /// Which values, counted through all fields, were whole members of the outermost object.
    pub whole_members: u64,
    /// Whether the metadata is known to need no mending.
    pub metadata_is_clean: bool,
}

impl<'f, 'a> Fields<'f, 'a> {
    fn of(&self, field: Field) -> &'f [Raw<'a>] {
        self.values[field as usize]
    }

    fn is_duplicate(&self, field: Field) -> bool {
        self.duplicate[field as usize]
    }
}

/// A value, and which of the field's paths it was found by (none: it is a default).
struct Taken<T> {
    value: T,
    path: Option<usize>,
}

impl<T> Taken<T> {
    fn by(path: usize, value: T) -> Taken<T> {
        Taken { value, path: Some(path) }
    }
}

const MISSING_TIMESTAMP: (Reason, &str) =
    (Reason::MissingTimestamp, "timestamp: expected a string or a number, found nothing, or null");
const MISSING_LEVEL: (Reason, &str) =
    (Reason::MissingLevel, "level: expected a name, found nothing, or null");
const MISSING_SERVICE: (Reason, &str) =
    (Reason::MissingService, "service: expected a string, found nothing, or null");
const MISSING_MESSAGE: (Reason, &str) =
    (Reason::MissingMessage, "message: expected a string, found nothing, or null");

/// Reads every field.
///
/// # Errors
/// The first fault in the order of [`Parser::parse`].
pub(super) fn read<'a, W: Wanted>(
    parser: &Parser,
    fields: &Fields<'_, 'a>,
    record_time_us: Option<i64>,
    scratch: &'a mut Scratch,
) -> Result<ParsedLog<'a>, Reject> {
    let mapping = &parser.mapping;
    refuse_duplicates(fields)?;
    let timestamp = read_timestamp(fields.of(Field::Timestamp), &mut scratch.minute)?;
    let level = read_level(fields.of(Field::Level), mapping)?;
    let service = find_service(fields.of(Field::Service))?;
    let message = find_message(fields.of(Field::Message))?;
    refuse_future(timestamp.value, record_time_us, parser.limits.max_future_skew_us)?;

    let Scratch {
        service: service_buffer,
        host: host_buffer,
        message: message_buffer,
        metadata: metadata_buffer,
        ..
    } = scratch;
    let (service_text, service_cut) = name(service.value, service_buffer);
    let (message_text, message_chars) = read_message::<W>(message.value, message_buffer);
    let mut log = ParsedLog {
        timestamp_us: timestamp.value,
        level: level.value,
        service: service_text,
        host: None,
        message: message_text,
        message_chars,
        metadata: None,
    };
    let mut flags = Flags { service_cut, ..Flags::default() };
    let mut taken = [timestamp.path, level.path, service.path, message.path, None, None];
    if W::TEXT {
        let host = find_host(fields, &mut flags);
        taken[Field::Host as usize] = host.path;
        log.host = host.value.map(|raw| {
            let (text, was_cut) = name(raw, host_buffer);
            flags.host_cut = was_cut;
            text
        });
    }
    if W::METADATA {
        log.metadata = read_metadata(parser, fields, taken, flags, metadata_buffer);
    }
    Ok(log)
}

#[inline]
fn refuse_duplicates(fields: &Fields<'_, '_>) -> Result<(), Reject> {
    match Field::ALL.into_iter().find(|field| field.is_core() && fields.is_duplicate(*field)) {
        None => Ok(()),
        Some(field) => {
            let detail =
                Cow::Owned(format!("{}: expected one value, found two for the same path", field.name()));
            Err(Reject { reason: Reason::DuplicateField, detail })
        }
    }
}

/// The first value that `try_read` can read; else what it said of the first that is there; else `missing`.
#[inline]
fn first_readable<'a, T>(
    values: &[Raw<'a>],
    missing: (Reason, &'static str),
    mut try_read: impl FnMut(Raw<'a>) -> Result<T, Reject>,
) -> Result<Taken<T>, Reject> {
    let mut fault = None;
    for (path, &raw) in values.iter().enumerate().filter(|(_, raw)| **raw != Raw::Absent) {
        match try_read(raw) {
            Ok(value) => return Ok(Taken::by(path, value)),
            Err(reject) => fault = fault.or(Some(reject)),
        }
    }
    Err(fault.unwrap_or_else(|| Reject::new(missing.0, missing.1)))
}

#[inline]
fn read_timestamp(values: &[Raw<'_>], minute: &mut Minute) -> Result<Taken<i64>, Reject> {
    first_readable(values, MISSING_TIMESTAMP, |raw| {
        let read = match raw {
            Raw::Plain(text) => timestamp::from_text(text, minute),
            Raw::Escaped(content) => timestamp::from_text(&decoded(content), minute),
            Raw::Other(json) if is_number(json) => timestamp::from_number(json),
            Raw::Other(_) | Raw::Absent => Err(timestamp::WRONG_TYPE),
        };
        read.map_err(|fault| Reject::new(Reason::InvalidTimestamp, fault))
    })
}

#[inline]
fn read_level(values: &[Raw<'_>], mapping: &FieldMapping) -> Result<Taken<Level>, Reject> {
    let numbers = mapping.level_numbers();
    let read = first_readable(values, MISSING_LEVEL, |raw| {
        let reading = match raw {
            Raw::Plain(text) => level::from_text(text, numbers),
            Raw::Escaped(content) => level::from_text(&decoded(content), numbers),
            Raw::Other(json) if is_number(json) => level::from_number(json, numbers),
            Raw::Other(_) | Raw::Absent => Reading::Unknown,
        };
        match reading {
            Reading::Level(level) => Ok(level),
            Reading::Unspecified => {
                Err(Reject::new(Reason::MissingLevel, "level: expected a name, found one left unset"))
            }
            Reading::Unknown => Err(unknown_level(raw)),
        }
    });
    match (read, mapping.default_level()) {
        (Err(Reject { reason: Reason::MissingLevel, .. }), Some(value)) => Ok(Taken { value, path: None }),
        (read, _) => read,
    }
}

#[cold]
fn unknown_level(raw: Raw<'_>) -> Reject {
    let detail = match raw {
        Raw::Other(json) if is_number(json) => {
            "level: expected a name, or a number of the scheme that level_numbers names, found another number"
        }
        Raw::Other(_) => "level: expected a name or a number, found another JSON value",
        _ => "level: expected trace, debug, info, warn, error, fatal or a usual synonym, found another word",
    };
    Reject::new(Reason::InvalidLevel, detail)
}

/// Whether a value is a string that is not empty (an escape never decodes to nothing).
fn is_text(raw: &Raw<'_>) -> bool {
    matches!(raw, Raw::Plain(text) | Raw::Escaped(text) if !text.is_empty())
}

#[inline]
fn find_service<'a>(values: &[Raw<'a>]) -> Result<Taken<Raw<'a>>, Reject> {
    first_readable(values, MISSING_SERVICE, |raw| match raw {
        raw if is_text(&raw) => Ok(raw),
        Raw::Other(_) => {
            Err(Reject::new(Reason::InvalidService, "service: expected a string, found another JSON value"))
        }
        _ => Err(Reject::new(Reason::InvalidService, "service: expected a name, found an empty string")),
    })
}

#[inline]
fn find_message<'a>(values: &[Raw<'a>]) -> Result<Taken<Raw<'a>>, Reject> {
    first_readable(values, MISSING_MESSAGE, |raw| match raw {
        Raw::Other(_) => {
            Err(Reject::new(Reason::InvalidMessage, "message: expected a string, found another JSON value"))
        }
        text => Ok(text),
    })
}

/// The host, if there is a usable one; what is wrong with it otherwise goes to the flags.
fn find_host<'a>(fields: &Fields<'_, 'a>, flags: &mut Flags) -> Taken<Option<Raw<'a>>> {
    let values = fields.of(Field::Host);
    flags.host_duplicate = fields.is_duplicate(Field::Host);
    let path = values.iter().position(is_text);
    flags.host_invalid = path.is_none() && values.iter().any(|raw| matches!(raw, Raw::Other(_)));
    Taken { value: path.map(|path| values[path]), path }
}

#[inline]
fn refuse_future(timestamp_us: i64, record_time_us: Option<i64>, max_skew_us: i64) -> Result<(), Reject> {
    match record_time_us.map(|record_us| timestamp_us.saturating_sub(record_us)) {
        Some(ahead_us) if ahead_us > max_skew_us => Err(from_the_future(ahead_us, max_skew_us)),
        _ => Ok(()),
    }
}

#[cold]
fn from_the_future(ahead_us: i64, max_skew_us: i64) -> Reject {
    let (ahead_s, max_s) = (ahead_us / 1_000_000, max_skew_us / 1_000_000);
    let detail = format!(
        "timestamp: expected at most {max_s} s after the record's time (max_future_skew), found {ahead_s} s after it"
    );
    Reject { reason: Reason::FromTheFuture, detail: Cow::Owned(detail) }
}

/// Whether a JSON value that is no string and not null is a number.
fn is_number(json: &str) -> bool {
    json.starts_with(|first: char| first == '-' || first.is_ascii_digit())
}

#[cold]
fn decoded(content: &str) -> String {
    let mut text = String::with_capacity(content.len());
    unescape(content, &mut text);
    text
}

/// A name of at most [`MAX_NAME_CHARS`] characters, and whether it had to be cut.
#[inline]
fn name<'a>(raw: Raw<'a>, buffer: &'a mut String) -> (&'a str, bool) {
    let text = match raw {
        Raw::Plain(text) => text,
        Raw::Escaped(content) => {
            unescape(content, buffer);
            buffer
        }
        Raw::Other(_) | Raw::Absent => "",
    };
    cut(text, MAX_NAME_CHARS)
}

/// The message (empty unless text is wanted) and its length in characters.
#[inline]
fn read_message<'a, W: Wanted>(raw: Raw<'a>, buffer: &'a mut String) -> (&'a str, u32) {
    let (text, length) = match raw {
        Raw::Plain(text) => (text, chars(text)),
        Raw::Escaped(content) if !W::TEXT => ("", chars_of_escaped(content)),
        Raw::Escaped(content) => {
            unescape(content, buffer);
            (buffer.as_str(), chars(buffer))
        }
        Raw::Other(_) | Raw::Absent => ("", 0),
    };
    (text, u32::try_from(length).unwrap_or(u32::MAX))
}

fn read_metadata<'a>(
    parser: &Parser,
    fields: &Fields<'_, 'a>,
    taken: [Option<usize>; 6],
    mut flags: Flags,
    buffer: &'a mut String,
) -> Option<&'a str> {
    let values = fields.of(Field::Metadata);
    let path = values.iter().position(|raw| *raw != Raw::Absent);
    let raw = path.map_or(Raw::Absent, |path| values[path]);
    flags.metadata_duplicate = fields.is_duplicate(Field::Metadata);
    if parser.mapping.keeps_unmapped() {
        let taken = [taken[0], taken[1], taken[2], taken[3], taken[4], path];
        write_leftovers(parser, fields, taken, buffer);
    }
    metadata::compose(raw, flags, fields.metadata_is_clean, parser.limits.max_metadata_bytes, buffer)
}

/// Keeps whole members that were tried for a field and not taken, so that an unmapped member is never lost.
fn write_leftovers(parser: &Parser, fields: &Fields<'_, '_>, taken: [Option<usize>; 6], out: &mut String) {
    for (field, taken) in Field::ALL.into_iter().zip(taken) {
        let slots = parser.tree.slots(field);
        for (path, key) in parser.mapping.paths(field).iter().enumerate() {
            let is_whole_member = fields.whole_members & (1 << (slots.start + path)) != 0;
            if is_whole_member && taken != Some(path) {
                metadata::write_leftover(out, key, fields.of(field)[path]);
            }
        }
    }
}
