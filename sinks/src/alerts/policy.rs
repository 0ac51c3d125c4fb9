//! When a message may go out: quiet hours, and how many a minute.

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use smartlog_schema::anomaly::Severity;
use std::time::Duration;

/// Hours of the day in which only the severe is told; the rest waits for their end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuietHours {
    from: Time,
    to: Time,
    zone: TimeZone,
    /// This and above is told at once.
    loud: Severity,
}

impl QuietHours {
    /// `hours` as `22:00-07:00`, in the time zone `zone` (IANA).
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(hours: &str, zone: &str, loud: Severity) -> Result<Self, String> {
        let time = |text: &str| {
            Time::strptime("%H:%M", text.trim())
                .map_err(|_| format!("`{text}` is no time of day, such as 22:00"))
        };
        let (from, to) = hours
            .split_once('-')
            .ok_or_else(|| format!("`{hours}`: expected FROM-TO, such as 22:00-07:00"))?;
        let (from, to) = (time(from)?, time(to)?);
        if from == to {
            return Err(format!("`{hours}` is no time at all"));
        }
        let zone = match zone {
            // Also where the host has no table of time zones.
            "UTC" => TimeZone::UTC,
            zone => {
                TimeZone::get(zone).map_err(|_| format!("`{zone}` is no time zone, such as Europe/Berlin"))?
            }
        };
        Ok(QuietHours { from, to, zone, loud })
    }

    /// Whether an episode of `severity` is told at `now`.
    pub fn lets_pass(&self, severity: Severity, now: Timestamp) -> bool {
        let time = now.to_zoned(self.zone.clone()).time();
        let is_quiet = if self.from < self.to {
            self.from <= time && time < self.to
        } else {
            self.from <= time || time < self.to
        };
        !is_quiet || severity >= self.loud
    }
}

/// At most so many messages in any minute: a bucket that holds a tenth of a minute's worth, one at least.
#[derive(Debug)]
pub struct RateLimit {
    per_minute: f64,
    held: f64,
    filled_at: Timestamp,
}

impl RateLimit {
    pub fn new(per_minute: u32, now: Timestamp) -> Self {
        let per_minute = f64::from(per_minute.max(1));
        RateLimit { per_minute, held: Self::room(per_minute), filled_at: now }
    }

    fn room(per_minute: f64) -> f64 {
        (per_minute / 10.0).max(1.0)
    }

    /// Takes the right to send one message, or tells how long to wait for it.
    pub fn take(&mut self, now: Timestamp) -> Result<(), Duration> {
        let passed = now.duration_since(self.filled_at).as_secs_f64().max(0.0);
        self.held = (self.held + passed * self.per_minute / 60.0).min(Self::room(self.per_minute));
        self.filled_at = now;
        if self.held < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - self.held) * 60.0 / self.per_minute));
        }
        self.held -= 1.0;
        Ok(())
    }
}

/// What `Retry-After` says: seconds, or a date.
pub fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value.trim()).ok()?;
    Duration::try_from(date.duration_since(now)).ok().or(Some(Duration::ZERO))
}

/// How long to wait after so many failures in a row, the first being 1: doubling from a second to five minutes, with jitter
/// so that many hooks of one receiver do not come back at once.
pub fn back_off(failures: u32, jitter: f64) -> Duration {
    let longest = 300.0;
    let exact =
        2_f64.powi(i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX).min(20)).min(longest);
    Duration::from_secs_f64(exact * (0.75 + 0.5 * jitter.clamp(0.0, 1.0)))
}

/// The moment `wait` from `now`; the end of time where there is no such moment.
pub fn after(now: Timestamp, wait: Duration) -> Timestamp {
    let wait = i64::try_from(wait.as_micros()).unwrap_or(i64::MAX);
    now.checked_add(SignedDuration::from_micros(wait)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn quiet_hours_reach_over_midnight_and_let_the_severe_pass() {
        let quiet = QuietHours::parse("22:00-07:00", "Europe/Berlin", Severity::Critical).expect("hours");
        // Berlin is two hours ahead in summer, one in winter.
        for (time, told) in [
            ("2026-07-01T19:59:59Z", true),
            ("2026-07-01T20:00:00Z", false),
            ("2026-07-02T04:59:59Z", false),
            ("2026-07-02T05:00:00Z", true),
            ("2026-01-01T20:30:00Z", true),
            ("2026-01-01T21:00:00Z", false),
        ] {
            assert_eq!(quiet.lets_pass(Severity::High, at(time)), told, "{time}");
            assert!(quiet.lets_pass(Severity::Critical, at(time)), "{time}");
        }
        let noon = QuietHours::parse("12:00-13:00", "UTC", Severity::High).expect("hours");
        assert!(noon.lets_pass(Severity::Low, at("2026-01-01T13:00:00Z")));
        assert!(!noon.lets_pass(Severity::Low, at("2026-01-01T12:00:00Z")));
    }

    #[test]
    fn hours_that_are_none_are_refused() {
        for hours in ["22", "22:00", "25:00-07:00", "07:00-07:00", "a-b"] {
            QuietHours::parse(hours, "UTC", Severity::High).expect_err(hours);
        }
        QuietHours::parse("22:00-07:00", "Mars/Olympus", Severity::High).expect_err("no zone");
    }

    #[test]
    fn no_minute_holds_more_than_its_share_and_what_filled_up() {
        let begin = at("2026-01-01T00:00:00Z");
        let mut limit = RateLimit::new(20, begin);
        let (mut now, mut sent) = (begin, Vec::new());
        while now < after(begin, Duration::from_secs(600)) {
            match limit.take(now) {
                Ok(()) => sent.push(now),
                Err(wait) => now = after(now, wait + Duration::from_micros(1)),
            }
        }
        for first in &sent {
            let until = after(*first, Duration::from_secs(60));
            let in_minute = sent.iter().filter(|at| **at >= *first && **at < until).count();
            assert!(in_minute <= 22, "{in_minute} in the minute from {first}");
        }
        assert!((195..=205).contains(&sent.len()), "{} in ten minutes", sent.len());
    }

    #[test]
    fn retry_after_comes_as_seconds_or_as_a_date() {
        let now = at("2026-01-01T00:00:00Z");
        assert_eq!(retry_after("7", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("0.5", now), Some(Duration::from_millis(500)));
        assert_eq!(retry_after("Thu, 01 Jan 2026 00:01:00 GMT", now), Some(Duration::from_secs(60)));
        assert_eq!(retry_after("Wed, 31 Dec 2025 00:01:00 GMT", now), Some(Duration::ZERO), "past: at once");
        assert_eq!(retry_after("soon", now), None);
        assert_eq!(retry_after("-3", now), None);
    }

    #[test]
    fn pauses_grow_and_are_bounded() {
        let pauses: Vec<f64> =
            [1, 2, 3, 9, 10, 4_000_000_000].map(|n| back_off(n, 0.5).as_secs_f64()).to_vec();
        assert_eq!(pauses, [1.0, 2.0, 4.0, 256.0, 300.0, 300.0]);
        assert!(back_off(1, 0.0) < back_off(1, 1.0));
    }
}
