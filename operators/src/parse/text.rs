//! The text of a JSON value as it stands in the payload, and JSON strings decoded from it.
//!
//! Everything here takes text whose JSON grammar was already checked, by the scanner or by `serde_json`. The grammar
//! lets through what PostgreSQL refuses (`\u0000`, half of a surrogate pair): those become U+FFFD wherever a string
//! is decoded, so that no log line is lost to them.

use memchr::memchr;

/// One value of a known field, undecoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Raw<'a> {
    /// Not there, or null.
    Absent,
    /// Between the quotes of a string that has no escape: it is its own meaning.
    Plain(&'a str),
    /// Between the quotes of a string that has escapes.
    Escaped(&'a str),
    /// Any other value, whole.
    Other(&'a str),
}

impl<'a> Raw<'a> {
    /// Sorts a whole JSON value by its first byte.
    pub(super) fn of(value: &'a str) -> Raw<'a> {
        let Some(content) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
            return if value == "null" { Raw::Absent } else { Raw::Other(value) };
        };
        match memchr(b'\\', content.as_bytes()) {
            Some(_) => Raw::Escaped(content),
            None => Raw::Plain(content),
        }
    }
}

/// What a decoded string is handed to, piece by piece.
pub(super) trait Pieces {
    fn text(&mut self, text: &str);
    fn char(&mut self, one: char);
}

impl Pieces for String {
    fn text(&mut self, text: &str) {
        self.push_str(text);
    }
    fn char(&mut self, one: char) {
        self.push(one);
    }
}

/// Counts characters and keeps nothing.
struct Counter(usize);

impl Pieces for Counter {
    fn text(&mut self, text: &str) {
        self.0 += chars(text);
    }
    fn char(&mut self, _: char) {
        self.0 += 1;
    }
}

/// Number of characters of a text; ASCII is told apart first, for it is the rule and needs no counting.
pub(super) fn chars(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.chars().count() }
}

/// Number of characters that the content of an escaped string decodes to.
pub(super) fn chars_of_escaped(content: &str) -> usize {
    let mut counter = Counter(0);
    unescape(content, &mut counter);
    counter.0
}

/// Decodes the content of a JSON string, with U+FFFD for NUL and for unpaired surrogates.
pub(super) fn unescape(content: &str, into: &mut impl Pieces) {
    let mut rest = content;
    while let Some(at) = memchr(b'\\', rest.as_bytes()) {
        into.text(&rest[..at]);
        let (one, length) = escape(&rest.as_bytes()[at..]);
        into.char(one);
        rest = &rest[at + length..];
    }
    into.text(rest);
}

/// What one escape, at the start of `bytes`, stands for, and how many bytes it takes.
pub(super) fn escape(bytes: &[u8]) -> (char, usize) {
    let simple = match bytes.get(1) {
        Some(b'n') => '\n',
        Some(b't') => '\t',
        Some(b'r') => '\r',
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'u') => return unicode_escape(bytes),
        Some(&other) => char::from(other),
        None => char::REPLACEMENT_CHARACTER,
    };
    (simple, 2)
}

fn unicode_escape(bytes: &[u8]) -> (char, usize) {
    let unit = hex4(&bytes[2..]).unwrap_or(0);
    if (0xD800..0xDC00).contains(&unit)
        && let Some(low) = bytes[6..].strip_prefix(b"\\u").and_then(hex4)
        && (0xDC00..0xE000).contains(&low)
    {
        let code = 0x1_0000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
        return (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 12);
    }
    match char::from_u32(unit) {
        None | Some('\0') => (char::REPLACEMENT_CHARACTER, 6),
        Some(one) => (one, 6),
    }
}

/// The value of four hexadecimal digits at the start of `bytes`.
pub(super) fn hex4(bytes: &[u8]) -> Option<u32> {
    let digits = bytes.first_chunk::<4>()?;
    digits.iter().try_fold(0, |value, &digit| Some(value << 4 | char::from(digit).to_digit(16)?))
}

/// Longest start of `text` of at most `max` characters, and whether anything was cut off.
pub(super) fn cut(text: &str, max: usize) -> (&str, bool) {
    if text.len() <= max {
        return (text, false);
    }
    match text.char_indices().nth(max) {
        Some((end, _)) => (&text[..end], true),
        None => (text, false),
    }
}
