//! Metadata as text that `jsonb` (and every other reader) accepts: bad metadata never costs the log line.
//!
//! ```text
//! "metadata": {…}         kept as it stands, unless something in it has to be mended
//! "metadata": [1]         {"_value":[1]}
//! "a\u0000", "\ud800"     U+FFFD for the NUL, for the half surrogate pair
//! 1e200000                "1e200000"
//! nested too deep         "_nested_too_deep" for what lies beyond MAX_NESTING
//! longer than the limit   {"_truncated":["metadata"]}
//! ```
//!
//! What was done to the fields of the log is told at the end: `"_truncated":["service"]`, `"_invalid":["host"]`,
//! `"_duplicate":["metadata"]`. In `jsonb` the last of equal keys counts, so these stand even if the sender uses them.

use super::text::{Raw, escape};
use memchr::memchr2;

/// Deepest nesting kept. `serde_json` reads 127 levels, PostgreSQL some thousand.
pub(super) const MAX_NESTING: usize = 100;

/// Longest number kept as a number, bytes: `jsonb` stores every digit.
const MAX_NUMBER_BYTES: usize = 64;
/// Largest power of ten kept, also for numbers that a double would take for zero.
const MAX_EXPONENT: i32 = 308;

/// What was done to a log's fields, to be told in its metadata.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Flags {
    pub service_cut: bool,
    pub host_cut: bool,
    pub metadata_dropped: bool,
    pub host_invalid: bool,
    pub host_duplicate: bool,
    pub metadata_duplicate: bool,
}

impl Flags {
    fn any(self) -> bool {
        self != Flags::default()
    }

    fn write(self, out: &mut String) {
        let list = |out: &mut String, key: &str, names: &[(bool, &str)]| {
            if names.iter().any(|(set, _)| *set) {
                begin_member(out, key);
                out.push('[');
                for (_, name) in names.iter().filter(|(set, _)| *set) {
                    separate(out);
                    out.push('"');
                    out.push_str(name);
                    out.push('"');
                }
                out.push(']');
            }
        };
        let cut =
            [(self.service_cut, "service"), (self.host_cut, "host"), (self.metadata_dropped, "metadata")];
        list(out, "_truncated", &cut);
        list(out, "_invalid", &[(self.host_invalid, "host")]);
        list(out, "_duplicate", &[(self.host_duplicate, "host"), (self.metadata_duplicate, "metadata")]);
    }
}

/// Writes a comma unless this is the first element of its object or array.
fn separate(out: &mut String) {
    if !out.ends_with(['{', '[']) {
        out.push(',');
    }
}

fn begin_member(out: &mut String, key: &str) {
    separate(out);
    out.push('"');
    out.push_str(key);
    out.push_str("\":");
}

/// Begins the text that [`write_member`] and [`compose`] go on with.
pub(super) fn begin(out: &mut String) {
    out.push('{');
}

/// Writes a member that is no field of the log. `key` is the content of a JSON string, `value` any JSON.
pub(super) fn write_member(out: &mut String, key: &str, value: &str) {
    separate(out);
    out.push('"');
    mend_string(key, out);
    out.push_str("\":");
    mend(value, out);
}

/// Writes a value that was tried for a field and not taken.
pub(super) fn write_leftover(out: &mut String, key: &str, value: Raw<'_>) {
    begin_member(out, key);
    write_value(value, out);
}

fn write_value(value: Raw<'_>, out: &mut String) {
    match value {
        Raw::Absent => out.push_str("null"),
        Raw::Plain(content) | Raw::Escaped(content) => {
            out.push('"');
            mend_string(content, out);
            out.push('"');
        }
        Raw::Other(text) => mend(text, out),
    }
}

/// The metadata of a log: `raw` as it came, in `out` if anything has to be changed or added.
///
/// `out` is empty, or holds what [`begin`] and [`write_member`] wrote. `known_clean` spares the search for something to mend.
pub(super) fn compose<'a>(
    raw: Raw<'a>,
    mut flags: Flags,
    known_clean: bool,
    max_bytes: usize,
    out: &'a mut String,
) -> Option<&'a str> {
    if out.len() <= 1 && !flags.any() {
        match raw {
            Raw::Absent => return None,
            Raw::Other(text)
                if text.starts_with('{') && text.len() <= max_bytes && (known_clean || is_clean(text)) =>
            {
                return Some(text);
            }
            _ => {}
        }
    }
    if out.is_empty() {
        out.push('{');
    }
    write_own(raw, out);
    let closing = 1;
    if out.len() + closing > max_bytes {
        flags.metadata_dropped = true;
        out.truncate(1);
    }
    flags.write(out);
    out.push('}');
    Some(out)
}

/// Writes the members of the log's own metadata.
fn write_own(raw: Raw<'_>, out: &mut String) {
    let members = match raw {
        Raw::Absent => return,
        Raw::Other(text) => text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')),
        _ => None,
    };
    match members {
        Some(members) if members.trim_ascii().is_empty() => {}
        Some(members) => {
            separate(out);
            mend_at_depth(members, 1, out);
        }
        None => {
            begin_member(out, "_value");
            write_value(raw, out);
        }
    }
}

/// Whether a text surely needs no mending: no escapes, no long or scientific numbers, not nested too deep.
fn is_clean(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (0, 0);
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'"' => match memchr2(b'"', b'\\', &bytes[at..]) {
                Some(length) if bytes[at + length] == b'"' => at += length + 1,
                _ => return false,
            },
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_NESTING {
                    return false;
                }
            }
            b'}' | b']' => depth -= 1,
            b'0'..=b'9' => {
                let length = number_length(&bytes[at..]);
                if length >= MAX_PLAIN_DIGITS
                    || bytes[at..at + length].iter().any(|b| matches!(b, b'e' | b'E'))
                {
                    return false;
                }
                at += length;
            }
            _ => {}
        }
    }
    true
}

/// Numbers without an exponent and up to this length need no second look.
pub(super) const MAX_PLAIN_DIGITS: usize = 32;

fn number_length(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')).count()
}

/// Copies JSON, mending what `jsonb` or common readers refuse.
fn mend(text: &str, out: &mut String) {
    mend_at_depth(text, 0, out);
}

fn mend_at_depth(text: &str, outer_depth: usize, out: &mut String) {
    let bytes = text.as_bytes();
    let (mut at, mut copied, mut depth) = (0, 0, outer_depth);
    while let Some(&byte) = bytes.get(at) {
        let end = match byte {
            b'"' => string_end(bytes, at),
            b'-' | b'0'..=b'9' => at + number_length(&bytes[at..]),
            b'{' | b'[' if depth == MAX_NESTING => container_end(bytes, at),
            _ => at + 1,
        };
        match byte {
            b'{' | b'[' if depth < MAX_NESTING => depth += 1,
            b'}' | b']' => depth -= 1,
            b'"' | b'-' | b'0'..=b'9' | b'{' | b'[' => {
                out.push_str(&text[copied..at]);
                mend_token(&text[at..end], out);
                copied = end;
            }
            _ => {}
        }
        at = end;
    }
    out.push_str(&text[copied..]);
}

/// Writes a whole string, number, or container that lies too deep.
fn mend_token(token: &str, out: &mut String) {
    match token.as_bytes().first() {
        Some(b'"') => mend_string(token, out),
        Some(b'{' | b'[') => out.push_str("\"_nested_too_deep\""),
        _ if number_is_fine(token) => out.push_str(token),
        _ => {
            out.push('"');
            out.push_str(token);
            out.push('"');
        }
    }
}

fn number_is_fine(token: &str) -> bool {
    let exponent = match token.split_once(['e', 'E']) {
        Some((_, exponent)) => exponent.parse().ok(),
        None => Some(0),
    };
    token.len() <= MAX_NUMBER_BYTES
        && exponent.is_some_and(|power: i32| power.abs() <= MAX_EXPONENT)
        && token.parse().is_ok_and(f64::is_finite)
}

/// Copies a JSON string (with or without its quotes), U+FFFD for escapes that stand for no character.
fn mend_string(token: &str, out: &mut String) {
    let mut rest = token;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        let (one, length) = escape(&rest.as_bytes()[at..]);
        let kept = if one == char::REPLACEMENT_CHARACTER { at } else { at + length };
        out.push_str(&rest[..kept]);
        if kept == at {
            out.push(one);
        }
        rest = &rest[at + length..];
    }
    out.push_str(rest);
}

/// One past the end of the string that begins at `start`.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(length) = bytes.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += length;
        if bytes[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    bytes.len()
}

/// One past the end of the container that begins at `start`.
fn container_end(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while let Some(&byte) = bytes.get(at) {
        at = if byte == b'"' { string_end(bytes, at) } else { at + 1 };
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}
