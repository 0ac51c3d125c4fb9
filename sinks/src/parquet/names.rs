//! Names of days, files and folders: docs/EXPORT.md.

use smartlog_schema::position::TopicPartition;
use std::fmt::Write as _;

const DAY_US: i64 = 86_400_000_000;

/// A UTC day, as days since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(i32);

impl Day {
    /// The day of an event time; `None` beyond the years 1 to 9999, which no log has that was parsed.
    pub fn of(timestamp_us: i64) -> Option<Self> {
        let day = Day(i32::try_from(timestamp_us.div_euclid(DAY_US)).ok()?);
        day.date().filter(|date| (1..=9999).contains(&date.year())).map(|_| day)
    }

    /// Reads `2026-01-15`.
    pub fn parse(text: &str) -> Option<Self> {
        let date: jiff::civil::Date = text.parse().ok()?;
        let day = Self::of(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_microsecond())?;
        (day.to_string() == text).then_some(day)
    }

    /// Event time of its first moment, microseconds.
    pub fn start_us(self) -> i64 {
        i64::from(self.0) * DAY_US
    }

    /// Event time of the next day's first moment, microseconds.
    pub fn end_us(self) -> i64 {
        self.start_us() + DAY_US
    }

    fn date(self) -> Option<jiff::civil::Date> {
        let start = jiff::Timestamp::from_microsecond(self.start_us()).ok()?;
        Some(start.to_zoned(jiff::tz::TimeZone::UTC).date())
    }
}

impl std::fmt::Display for Day {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.date() {
            Some(date) => write!(f, "{date}"),
            None => write!(f, "day {}", self.0),
        }
    }
}

/// The name of the file of one range and day. `again`: how many times that name was taken already.
pub(super) fn of_range(partition: &TopicPartition, first: i64, next: i64, again: u32) -> String {
    let mut name = String::new();
    for byte in partition.topic.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' => name.push(char::from(byte)),
            // Writing to a String never fails.
            _ => drop(write!(name, "%{byte:02X}")),
        }
    }
    // A leading `_` or `.` would hide the file from readers.
    if name.starts_with(['_', '.']) {
        name = format!("%{:02X}{}", name.as_bytes()[0], &name[1..]);
    }
    let repeated = if again > 0 { format!("-r{again}") } else { String::new() };
    format!("{name}-{}-{first:020}-{:020}{repeated}.parquet", partition.partition, next - 1)
}

/// The name of a part of what `smartlog export` writes.
pub(super) fn of_generation(generation: i64, part: usize) -> String {
    format!("export-g{generation:04}-{part:05}.parquet")
}

pub(super) fn of_manifest(version: i64) -> String {
    format!("_manifest-v{version}.json")
}

/// The folder of a day's logs, with its slash.
pub(super) fn logs_folder(day: &str) -> String {
    format!("logs/date={day}/")
}

/// The snapshot of a day's episodes.
pub(super) fn anomalies(day: Day) -> String {
    format!("anomalies/date={day}/episodes.parquet")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_utc_and_read_back() {
        for (us, text) in [(0, "1970-01-01"), (-1, "1969-12-31"), (1_768_471_200_000_000, "2026-01-15")] {
            let day = Day::of(us).expect("a day");
            assert_eq!(day.to_string(), text);
            assert_eq!(Day::parse(text), Some(day));
            assert!(day.start_us() <= us && us < day.end_us());
        }
        assert_eq!(Day::of(i64::MAX), None);
        assert_eq!(Day::of(253_402_300_800_000_000), None, "year 10000");
        for wrong in ["2026-1-5", "2026-02-30", "today", "2026-01-15T00:00:00"] {
            assert_eq!(Day::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn names_sort_by_offset_and_hold_no_sign_that_means_something() {
        let name =
            |topic: &str, first, again| of_range(&TopicPartition::new(topic, 3), first, first + 10, again);
        assert_eq!(name("web", 0, 0), "web-3-00000000000000000000-00000000000000000009.parquet");
        assert_eq!(name("web", 90, 2), "web-3-00000000000000000090-00000000000000000099-r2.parquet");
        assert!(name("web", 99, 0) < name("web", 100, 0));
        assert!(name("file:a/b é", 0, 0).starts_with("file%3Aa%2Fb%20%C3%A9-3-"));
        assert!(name("_x", 0, 0).starts_with("%5Fx-"));
        assert!(name("..", 0, 0).starts_with("%2E.-"));
        assert_eq!(of_generation(2, 0), "export-g0002-00000.parquet");
    }
}
