//! The short way for flat objects with known keys: one pass over the tokens, nothing built.
//!
//! It knows the grammar of JSON in full and is as strict as `serde_json`, but it never rejects: whatever it does not
//! expect (escaped or repeated keys, deep nesting, a fault) is `None`, and the general way decides. So it
//! may be narrow, as long as what it accepts is what the general way accepts; tests compare the two.

use super::mapping::{Field, FieldMapping};
use super::metadata::MAX_PLAIN_DIGITS;
use super::quotes::{Cursor, Quotes};
use super::read::Fields;
use super::text::Raw;
use memchr::memchr;

/// Deepest nesting that is followed: one bit of a `u64` for each level.
const MAX_DEPTH: u32 = 64;

/// The keys of a mapping in which each field is one member of the outermost object.
#[derive(Debug, Clone)]
pub(super) struct FlatKeys {
    keys: [Key; 6],
}

/// Longest key that is compared in two words, bytes.
const LONGEST_KEY: usize = 14;

/// `key":`, padded to two words, and which bits of each are part of it.
#[derive(Debug, Clone, Copy, Default)]
struct Key {
    words: [u64; 2],
    masks: [u64; 2],
    /// Of the key alone, bytes.
    length: usize,
}

impl Key {
    fn new(key: &str) -> Option<Key> {
        if key.len() > LONGEST_KEY {
            return None;
        }
        let mut bytes = [0; 16];
        let mut mask = [0; 16];
        for (at, byte) in key.bytes().chain(*b"\":").enumerate() {
            (bytes[at], mask[at]) = (byte, u8::MAX);
        }
        Some(Key { words: words(&bytes), masks: words(&mask), length: key.len() })
    }

    /// Whether at `at` follow the key, its closing quote and a colon. May miss it near the end.
    #[inline(always)]
    fn starts(&self, bytes: &[u8], at: usize) -> bool {
        bytes.get(at..at + 16).and_then(<[u8]>::first_chunk).is_some_and(|bytes| {
            let [first, second] = words(bytes);
            first & self.masks[0] == self.words[0] && second & self.masks[1] == self.words[1]
        })
    }

    fn is(&self, key: &[u8]) -> bool {
        let bytes = self.words.map(u64::to_le_bytes);
        key.len() == self.length && key == &bytes.as_flattened()[..self.length]
    }
}

#[inline(always)]
fn words(bytes: &[u8; 16]) -> [u64; 2] {
    let bits = u128::from_le_bytes(*bytes);
    [bits as u64, (bits >> 64) as u64]
}

/// Which field usually follows, by field: senders write them in one order, host before message.
const NEXT: [usize; 6] = [
    Field::Level as usize,
    Field::Service as usize,
    Field::Host as usize,
    Field::Metadata as usize,
    Field::Message as usize,
    Field::Timestamp as usize,
];

impl FlatKeys {
    /// `None` when the mapping asks for more than this way can do.
    pub(super) fn new(mapping: &FieldMapping) -> Option<FlatKeys> {
        if mapping.keeps_unmapped() || mapping.otlp_values() {
            return None;
        }
        let mut keys = [Key::default(); 6];
        for (key, field) in keys.iter_mut().zip(Field::ALL) {
            match mapping.paths(field) {
                [path] if !path.contains('.') => *key = Key::new(path)?,
                _ => return None,
            }
        }
        Some(FlatKeys { keys })
    }

    fn position(&self, key: &[u8]) -> Option<usize> {
        self.keys.iter().position(|known| known.is(key))
    }
}

/// Where the fields of a flat object stand.
#[derive(Default)]
pub(super) struct Flat {
    starts: [usize; 6],
    ends: [usize; 6],
    kinds: [Kind; 6],
    metadata_is_clean: bool,
}

impl Flat {
    /// The value of each field.
    #[inline]
    pub(super) fn values<'a>(&self, text: &'a str) -> [Raw<'a>; 6] {
        let value = |field| self.value(field, text);
        [value(0), value(1), value(2), value(3), value(4), value(5)]
    }

    #[inline(always)]
    fn value<'a>(&self, field: usize, text: &'a str) -> Raw<'a> {
        let (start, end) = (self.starts[field], self.ends[field]);
        match self.kinds[field] {
            Kind::Null => Raw::Absent,
            Kind::Plain => Raw::Plain(&text[start + 1..end - 1]),
            Kind::Escaped => Raw::Escaped(&text[start + 1..end - 1]),
            Kind::Other => Raw::Other(&text[start..end]),
        }
    }

    #[inline]
    pub(super) fn fields<'f, 'a>(&self, values: &'f [Raw<'a>; 6]) -> Fields<'f, 'a> {
        Fields {
            values: [&values[..1], &values[1..2], &values[2..3], &values[3..4], &values[4..5], &values[5..]],
            duplicate: [false; 6],
            whole_members: 0,
            metadata_is_clean: self.metadata_is_clean,
        }
    }
}

/// Finds the fields of `text`, whose quotes were found before, or gives up.
#[inline]
pub(super) fn scan(keys: &FlatKeys, text: &str, quotes: &Quotes, flat: &mut Flat) -> Option<()> {
    let mut tokens =
        Tokens { bytes: text.as_bytes(), quotes: quotes.cursor(), any_backslash: quotes.any_backslash };
    let mut seen = 0u8;
    let mut expected = Field::Timestamp as usize;
    let mut at = tokens.after(tokens.space(0), b'{')?;
    loop {
        let (field, start) = tokens.key(at, keys, expected)?;
        let (start, value) = tokens.value(start)?;
        if let Some(field) = field {
            if seen & (1 << field) != 0 {
                return None;
            }
            seen |= 1 << field;
            expected = NEXT[field];
            (flat.starts[field], flat.ends[field], flat.kinds[field]) = (start, value.end, value.kind);
            if field == Field::Metadata as usize {
                flat.metadata_is_clean = value.clean;
            }
        }
        at = tokens.skip_space(value.end);
        match tokens.bytes.get(at)? {
            b',' => at += 1,
            b'}' => break,
            _ => return None,
        }
    }
    (tokens.space(at + 1) == tokens.bytes.len()).then_some(())
}

/// What a value is, and where it ends.
struct Value {
    kind: Kind,
    end: usize,
    /// Known to need no mending as metadata.
    clean: bool,
}

#[derive(Clone, Copy, Default)]
enum Kind {
    /// Or not there.
    #[default]
    Null,
    Plain,
    Escaped,
    Other,
}

/// The tokens of a text, in order. Strings are jumped over from quote to quote.
struct Tokens<'a, 'q> {
    bytes: &'a [u8],
    quotes: Cursor<'q>,
    any_backslash: bool,
}

impl Tokens<'_, '_> {
    /// One past `byte`, if that is what stands at `at`.
    #[inline]
    fn after(&self, at: usize, byte: u8) -> Option<usize> {
        (self.bytes.get(at) == Some(&byte)).then_some(at + 1)
    }

    /// The same as [`Tokens::space`], for where there is usually none.
    #[inline(always)]
    fn skip_space(&self, at: usize) -> usize {
        if self.bytes.get(at).is_some_and(|byte| *byte > b' ') { at } else { self.space(at) }
    }

    /// One past the white space that begins at `at`.
    #[cold]
    fn space(&self, mut at: usize) -> usize {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.bytes.get(at) {
            at += 1;
        }
        at
    }

    /// A key without escapes: which field it is, and what follows its colon.
    #[inline(always)]
    fn key(&mut self, at: usize, keys: &FlatKeys, expected: usize) -> Option<(Option<usize>, usize)> {
        let open = self.quotes.next()?;
        let close = self.quotes.next()?;
        if open != at && open != self.space(at) {
            return None;
        }
        let usual = &keys.keys[expected];
        if usual.starts(self.bytes, open + 1) {
            return Some((Some(expected), open + usual.length + 3));
        }
        let key = &self.bytes[open + 1..close];
        let colon = self.space(close + 1);
        if self.bytes.get(colon) != Some(&b':') || self.any_backslash && memchr(b'\\', key).is_some() {
            return None;
        }
        Some((keys.position(key), colon + 1))
    }

    /// The string whose opening quote must stand at `at`.
    #[inline(always)]
    fn string(&mut self, at: usize) -> Option<StringToken> {
        if self.quotes.next()? != at {
            return None;
        }
        let close = self.quotes.next()?;
        let escaped = self.any_backslash && has_escapes(&self.bytes[at + 1..close])?;
        Some(StringToken { end: close + 1, escaped })
    }

    /// A value, and where it starts.
    #[inline(always)]
    fn value(&mut self, at: usize) -> Option<(usize, Value)> {
        let at = self.skip_space(at);
        let value = match self.bytes.get(at)? {
            b'"' => {
                let StringToken { end, escaped } = self.string(at)?;
                let kind = if escaped { Kind::Escaped } else { Kind::Plain };
                Value { kind, end, clean: !escaped }
            }
            b'{' | b'[' => self.container(at)?,
            _ => scalar(self.bytes, at)?,
        };
        Some((at, value))
    }

    /// An object or array, without recursion.
    fn container(&mut self, start: usize) -> Option<Value> {
        // Open containers, innermost in the lowest bit: 1 is an object.
        let (mut objects, mut depth) = (0u64, 0u32);
        let mut clean = true;
        let mut at = start;
        loop {
            let is_open = match *self.bytes.get(at)? {
                opening @ (b'{' | b'[') => {
                    if depth == MAX_DEPTH {
                        return None;
                    }
                    depth += 1;
                    objects = objects << 1 | u64::from(opening == b'{');
                    at = self.skip_space(at + 1);
                    // In ASCII a closing bracket is its opening one plus two.
                    self.bytes.get(at) != Some(&(opening + 2))
                }
                b'"' => {
                    let string = self.string(at)?;
                    clean &= !string.escaped;
                    at = string.end;
                    false
                }
                _ => {
                    let scalar = scalar(self.bytes, at)?;
                    clean &= scalar.clean;
                    at = scalar.end;
                    false
                }
            };
            if !is_open {
                // Past a value: close what ends here, up to a comma.
                loop {
                    at = self.skip_space(at) + 1;
                    match (self.bytes.get(at - 1)?, objects & 1) {
                        (b',', _) => break,
                        (b'}', 1) | (b']', 0) => {}
                        _ => return None,
                    }
                    objects >>= 1;
                    depth -= 1;
                    if depth == 0 {
                        return Some(Value { kind: Kind::Other, end: at, clean });
                    }
                }
                at = self.skip_space(at);
            }
            if objects & 1 == 1 {
                let key = self.string(at)?;
                clean &= !key.escaped;
                at = self.skip_space(self.after(self.skip_space(key.end), b':')?);
            }
        }
    }
}

struct StringToken {
    /// One past the closing quote.
    end: usize,
    escaped: bool,
}

/// Whether the content of a string has escapes; `None` when one of them is none of JSON's.
fn has_escapes(content: &[u8]) -> Option<bool> {
    let Some(mut at) = memchr(b'\\', content) else {
        return Some(false);
    };
    loop {
        at += match content.get(at + 1)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 2,
            b'u' if content.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit) => 6,
            _ => return None,
        };
        match memchr(b'\\', &content[at..]) {
            Some(length) => at += length,
            None => return Some(true),
        }
    }
}

/// A number or a literal.
#[inline]
fn scalar(bytes: &[u8], at: usize) -> Option<Value> {
    let rest = &bytes[at..];
    let literal = |kind, length| Some(Value { kind, end: at + length, clean: true });
    match rest.first()? {
        b'n' if rest.starts_with(b"null") => literal(Kind::Null, 4),
        b't' if rest.starts_with(b"true") => literal(Kind::Other, 4),
        b'f' if rest.starts_with(b"false") => literal(Kind::Other, 5),
        _ => number(bytes, at),
    }
}

fn number(bytes: &[u8], start: usize) -> Option<Value> {
    let whole = if bytes[start] == b'-' { start + 1 } else { start };
    let mut end = digits(bytes, whole)?;
    if bytes[whole] == b'0' && end > whole + 1 {
        return None;
    }
    if bytes.get(end) == Some(&b'.') {
        end = digits(bytes, end + 1)?;
    }
    let mut clean = end - start <= MAX_PLAIN_DIGITS;
    if let Some(b'e' | b'E') = bytes.get(end) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        end = digits(bytes, end + 1 + sign)?;
        clean = false;
    }
    Some(Value { kind: Kind::Other, end, clean })
}

/// One past at least one digit.
#[inline]
fn digits(bytes: &[u8], start: usize) -> Option<usize> {
    let mut end = start;
    while let Some(b'0'..=b'9') = bytes.get(end) {
        end += 1;
    }
    (end > start).then_some(end)
}
