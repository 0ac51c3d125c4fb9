//! What in a message is a value: the masks of [`super::shape`].

use super::shape::WILDCARD;

/// What a word turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Word,
    /// Left in the caller's buffer, digits masked.
    Mixed,
    Value,
    Punct,
}

/// What bytes a word holds, as a set of bits.
pub(super) mod class {
    pub const LETTER: u8 = 1;
    /// `a` to `f`, beside being letters by themselves.
    pub const HEX_LETTER: u8 = 2;
    pub const DIGIT: u8 = 4;
    pub const DOT: u8 = 8;
    pub const SLASH: u8 = 16;
    pub const COLON: u8 = 32;
    pub const AT: u8 = 64;
    pub const OTHER: u8 = 128;

    /// Blanks and separators are in no class.
    pub const OF: [u8; 256] = {
        let mut of = [LETTER; 256];
        let mut byte = 0;
        while byte < 128 {
            of[byte] = match byte as u8 {
                b'a'..=b'f' => HEX_LETTER,
                b'A'..=b'Z' | b'g'..=b'z' => LETTER,
                b'0'..=b'9' => DIGIT,
                b'.' => DOT,
                b'/' | b'\\' => SLASH,
                b'@' => AT,
                0..=b' '
                | 0x7f
                | b'='
                | b','
                | b';'
                | b'('
                | b')'
                | b'['
                | b']'
                | b'{'
                | b'}'
                | b'<'
                | b'>'
                | b'"'
                | b'\''
                | b'|'
                | b':'
                | b'`' => 0,
                _ => OTHER,
            };
            byte += 1;
        }
        of
    };

    /// Whether a byte ends a word.
    pub const fn is_stop(byte: u8) -> bool {
        OF[byte as usize] == 0
    }
}
use class::is_stop;

/// The classes of all bytes of `word`.
pub(super) fn classes(word: &[u8]) -> u8 {
    let class = |byte: &u8| if *byte == b':' { class::COLON } else { class::OF[*byte as usize] };
    word.iter().fold(0, |classes, byte| classes | class(byte))
}

/// Where the word that begins at `start` ends. Separators that belong to values are part of it: `10:30:00`, `it's`,
/// `https://…`, `C:\…`, `0a:1b:2c`.
pub(super) fn end_of_word(line: &[u8], start: usize) -> usize {
    let next_is = |at: usize, byte: u8| line.get(at + 1) == Some(&byte);
    let next_is_stop = |at: usize| line.get(at + 1).is_none_or(|&byte| is_stop(byte));
    if line[start] == b'/' && !next_is_stop(start) {
        return end_of_path(line, start);
    }
    let mut at = start;
    if line[start].is_ascii_hexdigit() {
        at += colons_of_address(&line[start..]);
    }
    while at < line.len() {
        let byte = line[at];
        if !is_stop(byte) {
            // Leader dots, as in `depth.....3`, stand between a key and its value.
            if byte == b'.' && at > start && line[at - 1] != b'.' && next_is(at, b'.') {
                break;
            }
            at += 1;
            continue;
        }
        let last = if at > start { line[at - 1] } else { b' ' };
        let next = line.get(at + 1).copied().unwrap_or(b' ');
        match byte {
            b':' if next == b'/' && line.get(at + 2) == Some(&b'/') => return end_of_path(line, at),
            b':' if next == b'\\' => return end_of_path(line, at),
            b':' if last.is_ascii_digit() && next.is_ascii_digit() => at += 1,
            b'\'' if last.is_ascii_alphabetic() && next.is_ascii_alphabetic() => at += 1,
            _ => break,
        }
    }
    at
}

fn end_of_path(line: &[u8], start: usize) -> usize {
    let length = line[start..]
        .iter()
        .position(|&byte| byte <= b' ' || b"\"'<>|,;()[]{}".contains(&byte))
        .unwrap_or(line.len() - start);
    let mut end = start + length;
    while end > start + 1 && matches!(line[end - 1], b':' | b'.') {
        end -= 1;
    }
    end
}

/// Length of a hardware or IPv6 address (three groups and more of hexadecimal digits between colons), else 0.
fn colons_of_address(rest: &[u8]) -> usize {
    let (mut at, mut groups, mut digits, mut any_digit) = (0, 0, 0, false);
    loop {
        match rest.get(at) {
            Some(byte) if byte.is_ascii_hexdigit() && digits < 4 => {
                any_digit |= byte.is_ascii_digit();
                digits += 1;
            }
            Some(b':') if digits > 0 || rest.get(at.wrapping_sub(1)) == Some(&b':') => {
                groups += 1;
                digits = 0;
            }
            next => {
                let ends = next.is_none_or(|byte| !byte.is_ascii_alphanumeric());
                return if ends && groups >= 2 && digits > 0 && any_digit { at } else { 0 };
            }
        }
        at += 1;
        if digits == 0 && groups == 0 {
            return 0;
        }
    }
}

/// Length of the word without the full stops and exclamation marks that end it.
pub(super) fn without_stops(word: &[u8]) -> usize {
    let stops = word.iter().rev().take_while(|byte| matches!(byte, b'.' | b'!' | b'?')).count();
    word.len() - stops
}

/// What a word is. Of a mixed one `mixed` has the text with its digits masked.
pub(super) fn classify(word: &[u8], mixed: &mut Vec<u8>) -> Found {
    let classes = classes(word);
    let has = |class: u8| classes & class != 0;
    if !has(class::LETTER | class::HEX_LETTER | class::DIGIT) {
        return if has(class::SLASH) && is_path(word) { Found::Value } else { Found::Punct };
    }
    if has(class::SLASH) && is_path(word) || has(class::COLON) && is_address(word) {
        return Found::Value;
    }
    if !has(class::DIGIT) {
        // `ffffffff`: no word of a language.
        return if classes == class::HEX_LETTER && word.len() >= 8 { Found::Value } else { Found::Word };
    }
    let signs = word.iter().take_while(|byte| !byte.is_ascii_alphanumeric() && **byte < 0x80).count();
    let is_number = word.get(signs).is_some_and(u8::is_ascii_digit);
    if is_number || has(class::AT) && is_email(word) || has(class::DOT) && dots_inside(word) >= 2 {
        return Found::Value;
    }
    mask_digits(word, mixed);
    let left = mixed.iter().filter(|byte| byte.is_ascii_alphabetic() || **byte >= 0x80).count();
    if left < 2 { Found::Value } else { Found::Mixed }
}

/// `/a`, `a/b/c`, `app/.Main`, `C:\a`; not `read/write`.
fn is_path(word: &[u8]) -> bool {
    let slashes = word.iter().filter(|&&byte| byte == b'/').count();
    (word[0] == b'/' && word.len() > 1)
        || slashes >= 2
        || slashes == 1 && dots_inside(word) >= 2
        || memchr::memchr(b'\\', word).is_some()
}

/// With two colons it is a time or an address; with a scheme, one of the web.
fn is_address(word: &[u8]) -> bool {
    memchr::memchr(b':', word)
        .is_some_and(|at| word[at..].starts_with(b"://") || word[at + 1..].contains(&b':'))
}

/// Dots between letters or digits.
fn dots_inside(word: &[u8]) -> usize {
    let is_part = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    (1..word.len())
        .filter(|&at| word[at] == b'.' && is_part(word.get(at - 1)) && is_part(word.get(at + 1)))
        .count()
}

fn is_email(word: &[u8]) -> bool {
    let at = memchr::memchr(b'@', word);
    at.is_some_and(|at| at > 0 && memchr::memchr(b'.', &word[at..]).is_some())
}

/// Part by part: `core.2275` → `core.<*>`, `blk_-16` → `blk_<*>`, `part7f3a9` → `<*>`.
fn mask_digits(word: &[u8], mixed: &mut Vec<u8>) {
    mixed.clear();
    let is_separator = |byte: &u8| {
        matches!(
            byte,
            b'-' | b'_' | b'.' | b':' | b'/' | b'#' | b'@' | b'+' | b'$' | b'%' | b'~' | b'&' | b'*'
        )
    };
    let mut at = 0;
    while at < word.len() {
        let length = word[at..].iter().position(is_separator).unwrap_or(word.len() - at);
        mask_part(&word[at..at + length], mixed);
        at += length;
        if at < word.len() {
            mixed.push(word[at]);
            at += 1;
        }
    }
    join_values(mixed);
}

fn mask_part(part: &[u8], mixed: &mut Vec<u8>) {
    let Some(first) = part.iter().position(u8::is_ascii_digit) else {
        // A lone letter among numbers is part of the number, as in `attempt_7_m_1`.
        return match part.len() {
            1 => mixed.extend_from_slice(WILDCARD.as_bytes()),
            _ => mixed.extend_from_slice(part),
        };
    };
    let tail_is_number = part[first..].iter().all(u8::is_ascii_digit);
    let is_hex = part.len() >= 6 && part.iter().all(u8::is_ascii_hexdigit);
    if tail_is_number && !is_hex && first >= 2 {
        mixed.extend_from_slice(&part[..first]);
    }
    mixed.extend_from_slice(WILDCARD.as_bytes());
}

/// `<*>_<*>`, `_-<*>` → one value each.
fn join_values(mixed: &mut Vec<u8>) {
    let wildcard = WILDCARD.as_bytes();
    let mut kept = 0;
    let mut at = 0;
    while at < mixed.len() {
        if mixed[at..].starts_with(wildcard) {
            // Whether only signs stand between this value and the one before.
            let signs = mixed[..kept]
                .iter()
                .rev()
                .take_while(|byte| byte.is_ascii_punctuation() && **byte != b'>')
                .count();
            let follows = mixed[..kept - signs].ends_with(wildcard) && kept - signs >= wildcard.len();
            if follows {
                kept -= signs;
            } else {
                let target = if signs > 1 { kept - signs + 1 } else { kept };
                mixed.copy_within(at..at + wildcard.len(), target);
                kept = target + wildcard.len();
            }
            at += wildcard.len();
        } else {
            mixed[kept] = mixed[at];
            kept += 1;
            at += 1;
        }
    }
    mixed.truncate(kept);
}

/// Whether a number after this and a colon is a port or a line number: a host, a file. `state.count:12` is none.
pub(super) fn is_host(word: &[u8]) -> bool {
    let dots = word.iter().filter(|&&byte| byte == b'.').count();
    let is_name =
        |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    let last = word.len() - memchr::memrchr(b'.', word).map_or(0, |at| at + 1);
    dots >= 2 || word == b"localhost" || (dots == 1 && (2..=4).contains(&last) && word.iter().all(is_name))
}

/// Units of time, size and share, also of a clock's half and of time zones.
const UNITS: [&str; 58] = [
    "%",
    "AM",
    "B",
    "C",
    "EDT",
    "EST",
    "F",
    "GB",
    "GHz",
    "GMT",
    "GiB",
    "Hz",
    "KB",
    "KiB",
    "M",
    "MB",
    "MHz",
    "MiB",
    "PDT",
    "PM",
    "PST",
    "TB",
    "TiB",
    "UTC",
    "am",
    "byte",
    "bytes",
    "d",
    "day",
    "days",
    "h",
    "hour",
    "hours",
    "hrs",
    "kB",
    "kHz",
    "kb",
    "m",
    "microseconds",
    "millis",
    "milliseconds",
    "min",
    "mins",
    "minute",
    "minutes",
    "ms",
    "msec",
    "msecs",
    "nanoseconds",
    "ns",
    "pm",
    "s",
    "sec",
    "second",
    "seconds",
    "secs",
    "us",
    "week",
];

pub(super) fn is_unit(word: &[u8]) -> bool {
    word.len() <= 12 && UNITS.binary_search_by(|unit| unit.as_bytes().cmp(word)).is_ok()
}

const DAYS: [&[u8]; 7] = [b"mon", b"tue", b"wed", b"thu", b"fri", b"sat", b"sun"];
const MONTHS: [&[u8]; 12] =
    [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];

/// Whether the word is the name of a day or month, and the line goes on with a date.
pub(super) fn is_calendar(word: &[u8], line: &[u8], end: usize) -> bool {
    if !(word.len() >= 3 && word.len() <= 9 && word[0].is_ascii_uppercase()) {
        return false;
    }
    let short = [word[0].to_ascii_lowercase(), word[1].to_ascii_lowercase(), word[2].to_ascii_lowercase()];
    let is_day = DAYS.contains(&&short[..]) && (word.len() == 3 || word.ends_with(b"day"));
    let is_month = MONTHS.contains(&&short[..]) && is_month_in_full(word);
    if !is_day && !is_month {
        return false;
    }
    let rest = &line[end..];
    let blanks = rest.iter().take_while(|byte| matches!(byte, b' ' | b',')).count();
    let rest = &rest[blanks..];
    let is_number = rest.first().is_some_and(u8::is_ascii_digit);
    let is_month_next = rest.len() >= 3 && {
        let next = [rest[0].to_ascii_lowercase(), rest[1].to_ascii_lowercase(), rest[2].to_ascii_lowercase()];
        MONTHS.contains(&&next[..])
    };
    is_number || (is_day && is_month_next)
}

fn is_month_in_full(word: &[u8]) -> bool {
    const FULL: [&str; 12] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    word.len() == 3 || FULL.iter().any(|month| word.eq_ignore_ascii_case(month.as_bytes()))
}

/// After `key=` and a blank: whether the line ends, or goes on with the next `key=`.
pub(super) fn next_is_key_or_end(line: &[u8], from: usize) -> bool {
    let rest = &line[from..];
    let blanks = rest.iter().take_while(|&&byte| byte <= b' ').count();
    let rest = &rest[blanks..];
    let word = rest.iter().take_while(|&&byte| !is_stop(byte)).count();
    word == rest.len() && word == 0 || rest.get(word) == Some(&b'=')
}

/// Where a value next to a key ends, if it is more than a word: several words up to the bracket that closes, as in
/// `(name=two words)`, or fields of its own, as in `key=0|app|7`.
pub(super) fn end_of_value(line: &[u8], from: usize) -> Option<usize> {
    let rest = &line[from..];
    let glued =
        rest.iter().position(|byte| *byte <= b' ' || b"=,;()[]{}<>\"'".contains(byte)).unwrap_or(rest.len());
    let words = rest.iter().position(|byte| b"=,;()[]{}<>\"'".contains(byte)).unwrap_or(rest.len());
    let closes = rest.get(words).is_some_and(|byte| matches!(byte, b')' | b']' | b'}' | b'>'));
    if closes && words > glued {
        return Some(from + words);
    }
    let ends = rest.get(glued).is_none_or(|byte| !b"=([{<".contains(byte));
    (ends && rest[..glued.saturating_sub(1)].iter().any(|byte| matches!(byte, b':' | b'|')))
        .then_some(from + glued)
}
