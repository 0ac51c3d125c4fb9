//! Times as clients write them and as answers carry them.

use jiff::{SignedDuration, Timestamp};

/// What [`parse`] accepts, in words.
pub const EXPECTED: &str = "RFC 3339 with an offset (2026-01-15T10:30:00Z), \"now\", or relative to now (-15m, -1h, -7d; s, m, h, d, w)";

/// [`EXPECTED`] as a regular expression, for the documentation.
pub const PATTERN: &str = "^(now|-[0-9]+[smhdw]|[0-9]{4}-[0-9]{2}-[0-9]{2}T.+)$";

/// The longest way back that a relative time may reach: about 100 years, so that the sum never overflows.
const MAX_BACK_S: i64 = 100 * 366 * 86_400;

/// Reads RFC 3339 or a time relative to `now`, in whole microseconds; before 1970 nothing is stored, so that is
/// refused. The error says what would have been accepted.
///
/// A `+` that a client forgot to encode arrives as a space: `10:30:00 02:00` is taken for `10:30:00+02:00`.
pub fn parse(text: &str, now: Timestamp) -> Result<Timestamp, &'static str> {
    let time = match text.strip_prefix('-') {
        Some(back) => now.checked_sub(SignedDuration::from_secs(seconds(back).ok_or(EXPECTED)?)).ok(),
        None if text == "now" => Some(now),
        None => absolute(text),
    };
    let time = time.filter(|time| *time >= Timestamp::UNIX_EPOCH).ok_or(EXPECTED)?;
    Timestamp::from_microsecond(time.as_microsecond()).map_err(|_| EXPECTED)
}

fn absolute(text: &str) -> Option<Timestamp> {
    let is_lost_plus = text.len() > 19 && text.as_bytes()[text.len() - 6] == b' ';
    if is_lost_plus {
        let (time, offset) = text.split_at_checked(text.len() - 6)?;
        return format!("{time}+{}", &offset[1..]).parse().ok();
    }
    text.parse().ok()
}

fn seconds(text: &str) -> Option<i64> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit_s = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return None,
    };
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<i64>().ok()?.checked_mul(unit_s).filter(|s| *s <= MAX_BACK_S)
}

/// Microseconds since 1970 as a time; `None` for what lies outside the calendar.
pub fn from_micros(micros: i64) -> Option<Timestamp> {
    Timestamp::from_microsecond(micros).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Option<String> {
        parse(text, "2026-01-15T10:30:00Z".parse().unwrap()).ok().map(|time| time.to_string())
    }

    #[test]
    fn absolute_and_relative_times() {
        for (text, expected) in [
            ("2026-01-15T10:30:00Z", "2026-01-15T10:30:00Z"),
            ("2026-01-15T10:30:00.1234567+02:00", "2026-01-15T08:30:00.123456Z"),
            ("2026-01-15T10:30:00 02:00", "2026-01-15T08:30:00Z"),
            ("now", "2026-01-15T10:30:00Z"),
            ("-90s", "2026-01-15T10:28:30Z"),
            ("-15m", "2026-01-15T10:15:00Z"),
            ("-1h", "2026-01-15T09:30:00Z"),
            ("-7d", "2026-01-08T10:30:00Z"),
            ("-2w", "2026-01-01T10:30:00Z"),
        ] {
            assert_eq!(read(text).as_deref(), Some(expected), "{text}");
        }
        for text in ["", "-", "-h", "-1", "-1y", "--1h", "-+1h", "1h", "yesterday", "2026-01-15T10:30:00"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(read("1969-12-31T23:59:59Z"), None, "before 1970");
        assert_eq!(read("-99999999999999d"), None, "too far back");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = read(&text);
        }

        #[test]
        fn what_is_printed_is_read_back(micros in 0i64..250_000_000_000_000_000) {
            let time = from_micros(micros).unwrap();
            prop_assert_eq!(parse(&time.to_string(), time), Ok(time));
        }
    }
}
