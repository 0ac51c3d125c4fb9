//! What the user decides about the traffic, and the checks on it.

use crate::error::{GeneratorError, refuse};
use crate::estate::Services;
use crate::malformed::{MalformedKind, OddKind};
use crate::plan::IncidentPlan;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// Greatest mean rate, logs per second.
pub const MAX_RATE: f64 = 5e6;
/// Longest that a line may be held back.
pub const MAX_LATE: SignedDuration = SignedDuration::from_hours(2);

/// All settings of a stretch of traffic. Equal settings make equal bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GeneratorConfig {
    /// Decides everything that is drawn.
    pub seed: u64,
    /// Event time at which the traffic begins; cut to the whole second.
    pub start: Timestamp,
    /// How much event time; without end when `None`.
    pub duration: Option<SignedDuration>,
    /// Most lines to hand out; all of the duration when `None`.
    pub lines: Option<u64>,
    /// Mean logs per second of all services together, over a week of season.
    pub rate_per_s: f64,
    /// Who makes the traffic.
    pub services: Services,
    /// What goes wrong.
    pub incidents: IncidentPlan,
    /// Quiet time at the start, in which nothing goes wrong: alarms count only after it.
    pub learn: SignedDuration,
    /// Lines that are no logs, as a share of the rate and on top of it.
    pub malformed_share: f64,
    /// Which kinds of them, in equal shares.
    pub malformed_kinds: Vec<MalformedKind>,
    /// Logs in an unusual but acceptable form, as a share of all logs.
    pub odd_share: f64,
    /// Which kinds of them, in equal shares.
    pub odd_kinds: Vec<OddKind>,
    /// Greatest usual delay between a line's event and its arrival: how far apart two lines can be out of order.
    /// Delays are log-normal with a median of a tenth of it.
    pub disorder: SignedDuration,
    /// Lines that arrive much later, as a share of all logs.
    pub late_share: f64,
    /// How late those are at most; evenly between the usual delay and this.
    pub late_max: SignedDuration,
    /// Mean time between two deployments of one service.
    pub deploy_every: SignedDuration,
    /// Most lines held back at a time (about 60 bytes each). Beyond it lines are no longer late.
    pub max_held: usize,
}

impl Default for GeneratorConfig {
    fn default() -> Self {
        GeneratorConfig {
            seed: 1,
            start: Timestamp::from_second(1_767_225_600).expect("2026 is in range"),
            duration: Some(SignedDuration::from_hours(1)),
            lines: None,
            rate_per_s: 1000.0,
            services: Services::Builtin,
            incidents: IncidentPlan::None,
            learn: SignedDuration::ZERO,
            malformed_share: 0.0005,
            malformed_kinds: MalformedKind::CERTAIN.to_vec(),
            odd_share: 0.0005,
            odd_kinds: OddKind::USUAL.to_vec(),
            disorder: SignedDuration::from_secs(2),
            late_share: 0.001,
            late_max: SignedDuration::from_mins(8),
            deploy_every: SignedDuration::from_hours(9),
            max_held: 4_000_000,
        }
    }
}

impl GeneratorConfig {
    /// Event seconds `[first, end)` in which lines are made; `end` is `i64::MAX` when there is none.
    pub(crate) fn seconds(&self) -> (i64, i64) {
        let first = self.start.as_second();
        let end = self.duration.map_or(i64::MAX, |duration| first + ceil_seconds(duration));
        (first, end)
    }

    /// Seconds in which the plan may put incidents: 30 days ahead when the traffic has no end.
    pub(crate) fn planned(&self) -> std::ops::Range<i64> {
        const HORIZON: i64 = 30 * 86_400;
        let (first, end) = self.seconds();
        first + ceil_seconds(self.learn)..end.min(first + HORIZON)
    }

    pub(crate) fn check(&self) -> Result<(), GeneratorError> {
        if !(self.rate_per_s > 0.0 && self.rate_per_s <= MAX_RATE) {
            return Err(refuse(
                "rate_per_s",
                self.rate_per_s.to_string(),
                format!("give above 0 to {MAX_RATE}"),
            ));
        }
        let shares = [
            ("malformed_share", self.malformed_share),
            ("odd_share", self.odd_share),
            ("late_share", self.late_share),
        ];
        for (setting, share) in shares {
            if !(0.0..=1.0).contains(&share) {
                return Err(refuse(setting, share.to_string(), "give 0 to 1"));
            }
        }
        if self.malformed_share > 0.0 && self.malformed_kinds.is_empty() {
            return Err(refuse("malformed_kinds", "none", "name at least one, or set malformed_share to 0"));
        }
        if self.odd_share > 0.0 && self.odd_kinds.is_empty() {
            return Err(refuse("odd_kinds", "none", "name at least one, or set odd_share to 0"));
        }
        self.check_times()
    }

    fn check_times(&self) -> Result<(), GeneratorError> {
        let day = SignedDuration::from_hours(24);
        let spans = [
            ("learn", self.learn, SignedDuration::ZERO, day * 3650),
            ("disorder", self.disorder, SignedDuration::ZERO, SignedDuration::from_mins(1)),
            ("late_max", self.late_max, SignedDuration::ZERO, MAX_LATE),
            ("deploy_every", self.deploy_every, SignedDuration::from_mins(5), day * 3650),
            ("duration", self.duration.unwrap_or(day), SignedDuration::from_secs(1), day * 3650),
        ];
        for (setting, value, least, greatest) in spans {
            if value < least || value > greatest {
                return Err(refuse(setting, format!("{value:#}"), format!("give {least:#} to {greatest:#}")));
            }
        }
        if !(0..4_000_000_000).contains(&self.start.as_second()) {
            return Err(refuse("start", self.start.to_string(), "give a time from 1970 to 2096"));
        }
        Ok(())
    }
}

fn ceil_seconds(duration: SignedDuration) -> i64 {
    duration.as_secs() + i64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_read_as_people_write_them_and_come_back_the_same() {
        let text = r#"{"seed": 7, "start": "2026-03-04T06:00:00Z", "duration": "12h", "rate_per_s": 50.0,
            "incidents": {"auto": {"per_day": 12.0}}, "learn": "3h", "services": {"count": 40}}"#;
        let config: GeneratorConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.duration, Some(SignedDuration::from_hours(12)));
        assert_eq!(config.services, Services::Count(40));
        assert_eq!(config.planned(), 1_772_604_000 + 3 * 3600..1_772_604_000 + 12 * 3600);
        let back = serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
        assert_eq!(config, back);
    }

    #[test]
    fn unknown_and_senseless_settings_are_refused_with_the_reason() {
        let unknown = serde_json::from_str::<GeneratorConfig>(r#"{"sede": 7}"#).unwrap_err().to_string();
        assert!(unknown.contains("unknown field `sede`"), "{unknown}");
        let refused = |config: GeneratorConfig| config.check().unwrap_err().to_string();
        let config = GeneratorConfig::default();
        assert_eq!(
            refused(GeneratorConfig { rate_per_s: f64::NAN, ..config.clone() }),
            "generator setting `rate_per_s`: NaN; give above 0 to 5000000"
        );
        assert_eq!(
            refused(GeneratorConfig { late_max: SignedDuration::from_hours(3), ..config.clone() }),
            "generator setting `late_max`: 3h; give 0s to 2h"
        );
        assert_eq!(
            refused(GeneratorConfig { odd_share: 1.5, ..config }),
            "generator setting `odd_share`: 1.5; give 0 to 1"
        );
    }
}
