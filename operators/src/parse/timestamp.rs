//! Event time, from text or from a number, in microseconds since 1970 UTC.
//!
//! | written as | read as |
//! |---|---|
//! | `2026-01-15T10:30:00.123456789+05:30` | RFC 3339: `T` may be `t` or a space, `Z` may be `z`; digits beyond microseconds are cut off |
//! | `23:59:60` (a leap second) | the last microsecond before it |
//! | `31536000` to `7258118399` | seconds |
//! | the same times 1,000; 1,000,000; 1,000,000,000 | milli-, micro-, nanoseconds |
//!
//! Numbers may have a fraction and may stand in a string. The four ranges do not overlap because only instants from
//! 1971 to 2199 are accepted: a log from outside them has a broken clock or another unit. What is none of these
//! is offered to `jiff`, which knows the other forms of ISO 8601 (`20260115T103000+0530`); an offset there must be.

use jiff::fmt::temporal::{DateTimeParser, Pieces};
use std::ops::Range;

const SECOND: i64 = 1_000_000;

/// Instants accepted: 1971 to 2199.
const ACCEPTED_S: Range<i64> = 31_536_000..7_258_118_400;
const ACCEPTED_US: Range<i64> = ACCEPTED_S.start * SECOND..ACCEPTED_S.end * SECOND;

/// What is wrong with a timestamp, in words.
pub(super) type Fault = &'static str;

const OUT_OF_RANGE: Fault = "timestamp: expected an instant from 1971 to 2199, found one outside";
const NO_OFFSET: Fault = "timestamp: expected an offset (Z or +hh:mm) after the time, found none; without it the instant is unknown";
const UNREADABLE: Fault = "timestamp: expected RFC 3339 or epoch s, ms, us or ns, found other text";
pub(super) const WRONG_TYPE: Fault = "timestamp: expected a string or a number, found another JSON value";
const BAD_OFFSET: Fault = "timestamp: expected an offset below 24 hours, found a larger one";
const ODD_NUMBER: Fault =
    "timestamp: expected epoch s, ms, us or ns from 1971 to 2199, found a number in none of these ranges";

/// The minute that was read last: most logs are of the same one.
#[derive(Debug, Default)]
pub(super) struct Minute {
    /// `2026-01-15T10:30`; zeros before the first.
    text: [u8; 16],
    start_us: i64,
}

impl Minute {
    /// The start of the minute that `text` names, microseconds since 1970 as if its offset were UTC.
    #[inline]
    fn start_us(&mut self, text: &[u8; 16]) -> Option<i64> {
        if self.text != *text {
            *self = Minute { text: *text, start_us: minute_us(text)? };
        }
        Some(self.start_us)
    }
}

/// Reads the content of a string.
///
/// # Errors
/// What was expected and found, without the text.
pub(super) fn from_text(text: &str, minute: &mut Minute) -> Result<i64, Fault> {
    match rfc3339(text.as_bytes(), minute) {
        Some(instant_us) if ACCEPTED_US.contains(&instant_us) => Ok(instant_us),
        Some(_) => Err(OUT_OF_RANGE),
        None if is_number(text) => from_number(text),
        None => iso8601(text),
    }
}

/// RFC 3339 in full, for the years 0001 to 9999; `None` for anything else.
fn rfc3339(text: &[u8], minute: &mut Minute) -> Option<i64> {
    let (head, tail) = text.split_first_chunk()?;
    let start_us = minute.start_us(head)?;
    let [b':', s1, s2, tail @ ..] = tail else { return None };
    let second = two(*s1, *s2)?;
    if second > 60 {
        return None;
    }
    let (fraction_us, tail) = fraction(tail)?;
    let of_minute_us = if second == 60 { 59 * SECOND + 999_999 } else { second * SECOND + fraction_us };
    Some(start_us + of_minute_us - offset_s(tail)? * SECOND)
}

/// `YYYY-MM-DDThh:mm`, in microseconds since 1970.
fn minute_us(text: &[u8; 16]) -> Option<i64> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T' | b't' | b' ', h1, h2, b':', n1, n2] = *text else {
        return None;
    };
    let year = two(y1, y2)? * 100 + two(y3, y4)?;
    let (month, day) = (two(m1, m2)?, two(d1, d2)?);
    let (hour, minute) = (two(h1, h2)?, two(n1, n2)?);
    if hour > 23 || minute > 59 {
        return None;
    }
    Some((days(year, month, day)? * 86_400 + (hour * 60 + minute) * 60) * SECOND)
}

fn two(tens: u8, ones: u8) -> Option<i64> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens <= 9 && ones <= 9).then(|| i64::from(tens * 10 + ones))
}

/// Microseconds of a fraction of a second (0 when there is none), and what follows it.
fn fraction(tail: &[u8]) -> Option<(i64, &[u8])> {
    let Some(digits) = tail.strip_prefix(b".") else {
        return Some((0, tail));
    };
    let (mut fraction_us, mut place, mut count) = (0, SECOND / 10, 0);
    while let Some(digit @ b'0'..=b'9') = digits.get(count) {
        fraction_us += i64::from(digit - b'0') * place;
        place /= 10;
        count += 1;
    }
    (count > 0).then(|| (fraction_us, &digits[count..]))
}

/// The first `places` digits after a decimal point, as a whole number: `12` with 6 places is 120,000.
fn scaled(digits: &[u8], places: usize) -> i64 {
    let known = digits.iter().take(places).fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
    (digits.len()..places).fold(known, |value, _| value * 10)
}

/// `Z` or `±hh:mm`, in seconds.
fn offset_s(tail: &[u8]) -> Option<i64> {
    match *tail {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (two(h1, h2)?, two(m1, m2)?);
            let offset_s = (hours * 60 + minutes) * 60;
            (hours <= 23 && minutes <= 59).then_some(if sign == b'-' { -offset_s } else { offset_s })
        }
        _ => None,
    }
}

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar; `None` when there is no such date.
///
/// Counts years from March, so that the leap day is the last of its year (Hinnant, "chrono-compatible low-level date
/// algorithms").
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    if year == 0 || !(1..=12).contains(&month) || day == 0 || day > month_length(year, month) {
        return None;
    }
    let year = year - i64::from(month <= 2);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(year * 365 + year / 4 - year / 100 + year / 400 + of_year - 719_468)
}

fn month_length(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Whether a text is a number rather than a date: only digits, at most one point, perhaps an exponent.
fn is_number(text: &str) -> bool {
    let (mantissa, exponent) = split_exponent(text);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let exponent_digits = exponent.map(|power| power.strip_prefix(['+', '-']).unwrap_or(power));
    // Eight digits are a date of ISO 8601 (20260115) as much as a number, but without a time it is no instant.
    digits(whole) && digits(fraction) && exponent_digits.is_none_or(digits)
}

fn split_exponent(text: &str) -> (&str, Option<&str>) {
    match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    }
}

/// Reads a JSON number (or a string that looks like one).
///
/// # Errors
/// What was expected and found, without the text.
pub(super) fn from_number(text: &str) -> Result<i64, Fault> {
    let (mantissa, exponent) = split_exponent(text);
    if exponent.is_some() {
        return from_float(text);
    }
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let value: i64 = whole.parse().map_err(|_| ODD_NUMBER)?;
    for (per_second, places) in [(1, 6), (1_000, 3), (1_000_000, 0)] {
        if in_unit(value, per_second) {
            return Ok(value * (SECOND / per_second) + scaled(fraction.as_bytes(), places));
        }
    }
    if in_unit(value, 1_000 * SECOND) { Ok(value / 1_000) } else { Err(ODD_NUMBER) }
}

fn in_unit(value: i64, per_second: i64) -> bool {
    (ACCEPTED_S.start * per_second..ACCEPTED_S.end * per_second).contains(&value)
}

/// A number in scientific notation, to the precision of a double.
fn from_float(text: &str) -> Result<i64, Fault> {
    let value: f64 = text.parse().map_err(|_| ODD_NUMBER)?;
    let accepted = ACCEPTED_S.start as f64..ACCEPTED_S.end as f64;
    [1.0, 1e3, 1e6, 1e9]
        .into_iter()
        .map(|per_second| value / per_second)
        .find(|seconds| accepted.contains(seconds))
        .map(|seconds| (seconds * 1e6) as i64)
        .ok_or(ODD_NUMBER)
}

/// The other forms of ISO 8601.
fn iso8601(text: &str) -> Result<i64, Fault> {
    let pieces: Pieces<'_> = DateTimeParser::new().parse_pieces(text).map_err(|_| UNREADABLE)?;
    let time = pieces.time().ok_or(UNREADABLE)?;
    let offset = pieces.to_numeric_offset().ok_or(NO_OFFSET)?;
    if offset.seconds().unsigned_abs() >= 86_400 {
        return Err(BAD_OFFSET);
    }
    let instant = offset.to_timestamp(pieces.date().to_datetime(time)).map_err(|_| OUT_OF_RANGE)?;
    let instant_us = instant.as_microsecond();
    if ACCEPTED_US.contains(&instant_us) { Ok(instant_us) } else { Err(OUT_OF_RANGE) }
}
