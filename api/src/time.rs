//! Times as clients write them and as answers carry them.

use jiff::{SignedDuration, Timestamp};

/// What [`parse`] accepts, in words.
pub const EXPECTED: &str = "RFC 3339 with an offset (2026-01-15T10:30:00Z), \"now\", or relative to now (-15m, -1h, -7d; s, m, h, d, w)";

/// The relative forms as a regular expression, for the documentation.
pub const RELATIVE: &str = "^(now|-[0-9]{1,9}[smhdw])$";

/// Reads RFC 3339 or a time relative to `now`, in whole microseconds. Times before 1970 become 1970: nothing is stored
/// from before. The error says what would have been accepted.
///
/// A `+` that a client forgot to encode arrives as a space: `10:30:00 02:00` is taken for `10:30:00+02:00`.
pub fn parse(text: &str, now: Timestamp) -> Result<Timestamp, &'static str> {
    let time = match text.strip_prefix('-') {
        Some(back) => seconds(back)
            .map(|back| now.checked_sub(SignedDuration::from_secs(back)).unwrap_or(Timestamp::UNIX_EPOCH)),
        None if text == "now" => Some(now),
        None => absolute(text),
    };
    let time = time.ok_or(EXPECTED)?.max(Timestamp::UNIX_EPOCH);
    from_micros(time.as_microsecond()).ok_or(EXPECTED)
}

fn absolute(text: &str) -> Option<Timestamp> {
    let is_lost_plus = text.len() > 19 && text.as_bytes()[text.len() - 6] == b' ';
    if is_lost_plus {
        let (time, offset) = text.split_at_checked(text.len() - 6)?;
        return format!("{time}+{}", &offset[1..]).parse().ok();
    }
    text.parse().ok()
}

/// `15m` in seconds, of at most nine digits, so that nothing overflows.
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
    if digits.len() > 9 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse::<i64>().ok()? * unit_s)
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
        for ancient in ["1969-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "-999999999w"] {
            assert_eq!(read(ancient).as_deref(), Some("1970-01-01T00:00:00Z"), "{ancient}");
        }
        assert_eq!(read("-9999999999s"), None, "more digits than anybody needs");
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
