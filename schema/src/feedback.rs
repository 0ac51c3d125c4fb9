//! What people say is expected: a load test, a release, a backup every night. Rows of the table `feedback` say it, and
//! take it back; each episode that it covers is retracted for as long as it holds.
//!
//! ```text
//!   `expected` of an anomaly ─┐
//!   an event of the calendar ─┴─▶ Expectation: which services, which type, when ──▶ covers an episode, or not
//! ```

use crate::anomaly::{AnomalyType, Episode};
use crate::window::{DAY, HOUR};
use compact_str::CompactString;
use serde::{Deserialize, Serialize};

/// The most expectations in force at once; beyond it the oldest are left out.
pub const MOST_IN_FORCE: usize = 10_000;

/// Hours of the day (UTC), written as `9-17`: from nine to before seventeen; `22-6` goes past midnight, and
/// `0-0` is all day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hours {
    from: u8,
    to: u8,
}

impl Hours {
    fn hold(self, hour: u8) -> bool {
        let Hours { from, to } = self;
        if from < to { (from..to).contains(&hour) } else { hour >= from || hour < to }
    }
}

impl TryFrom<String> for Hours {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let hour = |text: &str| text.parse::<u8>().ok().filter(|hour| *hour <= 24);
        let read = text.split_once('-').and_then(|(from, to)| Some((hour(from)?, hour(to)?)));
        let hours = read.filter(|(from, _)| *from < 24);
        let (from, to) = hours.ok_or_else(|| {
            let found: String = text.chars().take(20).collect();
            format!("expected hours of the day (UTC) as FROM-TO, such as 9-17 or 22-6, found `{found}`")
        })?;
        Ok(Hours { from, to })
    }
}

impl From<Hours> for String {
    fn from(hours: Hours) -> Self {
        format!("{}-{}", hours.from, hours.to)
    }
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weekday {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// Which episodes are expected. All that is given must hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applies {
    /// These services, the empty name being the whole stream; `None`: all of them, and the whole stream.
    pub services: Option<Vec<CompactString>>,
    /// `None`: any type.
    pub anomaly_type: Option<AnomalyType>,
    /// Episodes that started at or after this, epoch seconds of event time …
    pub since: i64,
    /// … and before this.
    pub until: i64,
    /// They started in these hours of the day.
    pub hours: Option<Hours>,
    /// They started on one of these days (UTC); empty: on any.
    pub weekdays: Vec<Weekday>,
    /// This one episode, by [`crate::anomaly::EpisodeKey::first_raised_at`].
    pub first_raised_at: Option<i64>,
}

impl Applies {
    pub fn covers(&self, episode: &Episode) -> bool {
        let key = &episode.key;
        let name = key.service.as_deref().unwrap_or_default();
        self.services.as_ref().is_none_or(|services| services.iter().any(|service| service == name))
            && self.anomaly_type.is_none_or(|anomaly_type| anomaly_type == key.anomaly_type)
            && self.first_raised_at.is_none_or(|second| second == key.first_raised_at)
            && (self.since..self.until).contains(&episode.started_at)
            && self.recurs_at(episode.started_at)
    }

    /// Whether hour and day of a second are among those meant.
    fn recurs_at(&self, second: i64) -> bool {
        let hour = (second.rem_euclid(DAY) / HOUR) as u8;
        // 1970 began on a Thursday.
        let weekday = (second.div_euclid(DAY) + Weekday::Thu as i64).rem_euclid(7);
        let is_on = |day: &Weekday| *day as i64 == weekday;
        self.hours.is_none_or(|hours| hours.hold(hour))
            && (self.weekdays.is_empty() || self.weekdays.iter().any(is_on))
    }
}

/// What somebody said is expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expectation {
    /// `feedback.seq` of the row that says so.
    pub seq: i64,
    /// Why, in words: becomes part of the reason of what it retracts.
    pub note: String,
    pub applies: Applies,
}

/// What was said since the last time, for the dataflow.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// All rows of `feedback` up to this `seq` are known by now.
    pub through: i64,
    /// Taken back, by `seq`.
    pub revoked: Vec<i64>,
    pub expected: Vec<Expectation>,
    /// Episodes of the store that this may change, as they were stored.
    pub episodes: Vec<Episode>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::anomaly::{EpisodeKey, Severity, Status};

    /// 2026-01-15T10:30:00Z, a Thursday.
    const THURSDAY: i64 = 1_768_473_000;

    fn episode(service: Option<&str>, started_at: i64) -> Episode {
        let anomaly_type = AnomalyType::ErrorRateSpike;
        Episode {
            key: EpisodeKey { service: service.map(Into::into), anomaly_type, first_raised_at: started_at },
            status: Status::Open,
            severity: Severity::High,
            revision: 1,
            detected_at_us: 0,
            started_at,
            last_seen: started_at,
            ended_at: None,
            metric_value: 0.0,
            threshold: 0.0,
            baseline: 0.0,
            peak_value: 0.0,
            score: None,
            model_version: None,
            description: String::new(),
            explanation: "{}".into(),
            provenance: "{}".into(),
            expected: None,
        }
    }

    fn always() -> Applies {
        Applies {
            services: None,
            anomaly_type: None,
            since: i64::MIN,
            until: i64::MAX,
            hours: None,
            weekdays: Vec::new(),
            first_raised_at: None,
        }
    }

    #[test]
    fn services_types_and_times_must_all_hold() {
        let shop = episode(Some("shop"), THURSDAY);
        assert!(always().covers(&shop));
        let of = |names: &[&str]| Some(names.iter().map(|name| CompactString::from(*name)).collect());
        assert!(Applies { services: of(&["a", "shop"]), ..always() }.covers(&shop));
        assert!(!Applies { services: of(&["a"]), ..always() }.covers(&shop));
        assert!(!Applies { services: of(&[""]), ..always() }.covers(&shop));
        assert!(Applies { services: of(&[""]), ..always() }.covers(&episode(None, THURSDAY)));
        let typed = |anomaly_type| Applies { anomaly_type: Some(anomaly_type), ..always() };
        assert!(typed(AnomalyType::ErrorRateSpike).covers(&shop));
        assert!(!typed(AnomalyType::LogVolumeDrop).covers(&shop));
        assert!(Applies { since: THURSDAY, until: THURSDAY + 1, ..always() }.covers(&shop));
        assert!(!Applies { until: THURSDAY, ..always() }.covers(&shop), "the end does not belong to it");
        assert!(!Applies { since: THURSDAY + 1, ..always() }.covers(&shop));
        assert!(!Applies { first_raised_at: Some(THURSDAY + 1), ..always() }.covers(&shop));
    }

    fn hours(text: &str) -> Hours {
        text.to_owned().try_into().expect("hours")
    }

    #[test]
    fn hours_are_read_as_they_are_written_and_others_say_what_was_expected() {
        for text in ["0-24", "9-17", "22-6", "23-0"] {
            assert_eq!(String::from(hours(text)), text);
        }
        for bad in ["", "9", "24-3", "9-25", "-3-4", "9:00-10", "a-b"] {
            let fault = Hours::try_from(bad.to_owned()).expect_err("no hours");
            assert!(
                fault.starts_with("expected hours") && fault.ends_with(&format!("found `{bad}`")),
                "{fault}"
            );
        }
    }

    #[test]
    fn hours_may_pass_midnight_and_days_are_counted_from_monday() {
        let at = |hour: i64| episode(Some("shop"), THURSDAY - THURSDAY.rem_euclid(DAY) + hour * HOUR);
        let night = Applies { hours: Some(hours("22-6")), ..always() };
        let held: Vec<i64> = (0..24).filter(|hour| night.covers(&at(*hour))).collect();
        assert_eq!(held, [0, 1, 2, 3, 4, 5, 22, 23]);
        let day = Applies { hours: Some(hours("9-11")), ..always() };
        assert_eq!((0..24).filter(|hour| day.covers(&at(*hour))).collect::<Vec<_>>(), [9, 10]);
        let all = [
            Weekday::Mon,
            Weekday::Tue,
            Weekday::Wed,
            Weekday::Thu,
            Weekday::Fri,
            Weekday::Sat,
            Weekday::Sun,
        ];
        let on = |weekday| Applies { weekdays: vec![weekday], ..always() };
        let held: Vec<Weekday> = all.into_iter().filter(|weekday| on(*weekday).covers(&at(12))).collect();
        assert_eq!(held, [Weekday::Thu]);
        assert!(on(Weekday::Wed).covers(&at(-1)), "an hour before Thursday is Wednesday");
        assert!(on(Weekday::Fri).covers(&episode(Some("shop"), -6 * DAY)), "Friday, 26 December 1969");
    }
}
