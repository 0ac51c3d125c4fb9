//! Incidents: what bends a service's traffic, and how far at a moment.
//!
//! ```text
//!   error_rate_spike  errors ×m     ┌──┐        slow_ramp   ╱▔▔|      level_shift  ╱▔▔▔▔▔▔ (stays)
//!   log_volume_spike  rate ×m     ──┘  └──                ──   |──               ──
//!   flapping_errors   ┌┐┌┐┌┐      silence  ──┐  ┌──
//!                   ──┘└┘└┘└──               └──┘
//! ```
//!
//! A disturbance (`expected` is false) is there to be *not* reported: a lasting change of level, a host with a wrong
//! clock, a host whose lines arrive minutes late.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// Seconds over which a level shift comes about.
const SHIFT_SECONDS: f64 = 600.0;
/// Share of a ramp's time in which it grows; then it holds.
const RAMP_SHARE: f64 = 0.75;
/// Seconds for which flapping stays on, and off.
const FLAP_SECONDS: i64 = 60;

/// The kinds of incident and disturbance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentKind {
    /// The share of errors is multiplied by the magnitude.
    ErrorRateSpike,
    /// The rate is multiplied by the magnitude.
    LogVolumeSpike,
    /// The rate is multiplied by the magnitude, which is below 0.1.
    LogVolumeDrop,
    /// No line at all.
    Silence,
    /// Rate, error share and message length all shift, none of them far: at magnitude 1 the rate ×1.7, the error
    /// share ×2.3, and a quarter of the lines long ones.
    MultivariateOutlier,
    /// That many ERROR lines a minute of a text never seen before, on top of the usual traffic.
    NewPattern,
    /// The rate grows to the magnitude over three quarters of the time, then holds.
    SlowRampVolume,
    /// The same with the share of errors.
    SlowRampErrors,
    /// The share of errors is multiplied by the magnitude every other minute.
    FlappingErrors,
    /// No incident: within ten minutes the rate moves to magnitude × what it was, and stays.
    LevelShift,
    /// No incident: one host's clock is that many hours ahead; its lines are still in the stream.
    BadClock,
    /// No incident: one host's lines are held back and arrive together, that many minutes after the last of them.
    HeldHost,
}

impl IncidentKind {
    /// The incidents that a detector must find.
    pub const INCIDENTS: [IncidentKind; 9] = [
        IncidentKind::ErrorRateSpike,
        IncidentKind::LogVolumeSpike,
        IncidentKind::LogVolumeDrop,
        IncidentKind::NewPattern,
        IncidentKind::MultivariateOutlier,
        IncidentKind::Silence,
        IncidentKind::SlowRampVolume,
        IncidentKind::FlappingErrors,
        IncidentKind::SlowRampErrors,
    ];
    /// The disturbances that a detector must keep quiet about.
    pub const DISTURBANCES: [IncidentKind; 3] =
        [IncidentKind::LevelShift, IncidentKind::BadClock, IncidentKind::HeldHost];

    /// Whether a detector should report it.
    pub fn expected(self) -> bool {
        !IncidentKind::DISTURBANCES.contains(&self)
    }

    /// The `type` in the labels: the anomaly type where there is exactly one, else the name of the scenario.
    pub fn label(self) -> &'static str {
        match self {
            IncidentKind::ErrorRateSpike => "error_rate_spike",
            IncidentKind::LogVolumeSpike => "log_volume_spike",
            IncidentKind::LogVolumeDrop | IncidentKind::Silence => "log_volume_drop",
            IncidentKind::MultivariateOutlier => "multivariate_outlier",
            IncidentKind::NewPattern => "new_pattern",
            IncidentKind::SlowRampVolume | IncidentKind::SlowRampErrors => "slow_ramp",
            IncidentKind::FlappingErrors => "flapping",
            IncidentKind::LevelShift => "level_shift",
            IncidentKind::BadClock => "bad_clock",
            IncidentKind::HeldHost => "held_host",
        }
    }

    /// The anomaly types that count as having named it rightly.
    pub fn accepts(self) -> &'static [&'static str] {
        match self {
            IncidentKind::ErrorRateSpike | IncidentKind::SlowRampErrors | IncidentKind::FlappingErrors => {
                &["error_rate_spike", "multivariate_outlier"]
            }
            IncidentKind::LogVolumeSpike | IncidentKind::SlowRampVolume => {
                &["log_volume_spike", "multivariate_outlier"]
            }
            IncidentKind::LogVolumeDrop | IncidentKind::Silence => {
                &["log_volume_drop", "multivariate_outlier"]
            }
            IncidentKind::MultivariateOutlier => {
                &["multivariate_outlier", "error_rate_spike", "log_volume_spike"]
            }
            IncidentKind::NewPattern => &["new_pattern", "error_rate_spike", "multivariate_outlier"],
            IncidentKind::LevelShift | IncidentKind::BadClock | IncidentKind::HeldHost => &[],
        }
    }

    /// The magnitude where none is given.
    pub fn usual_magnitude(self) -> f64 {
        match self {
            IncidentKind::ErrorRateSpike | IncidentKind::FlappingErrors => 12.0,
            IncidentKind::LogVolumeSpike => 8.0,
            IncidentKind::LogVolumeDrop => 0.05,
            IncidentKind::Silence => 0.0,
            IncidentKind::MultivariateOutlier => 1.0,
            IncidentKind::NewPattern => 12.0,
            IncidentKind::SlowRampVolume => 5.0,
            IncidentKind::SlowRampErrors => 9.0,
            IncidentKind::LevelShift => 1.6,
            IncidentKind::BadClock => 5.0,
            IncidentKind::HeldHost => 4.0,
        }
    }

    /// The magnitudes that make sense, least and greatest.
    pub fn magnitudes(self) -> (f64, f64) {
        match self {
            IncidentKind::LogVolumeDrop => (0.0, 0.1),
            IncidentKind::Silence => (0.0, 0.0),
            IncidentKind::MultivariateOutlier => (0.1, 3.0),
            IncidentKind::NewPattern => (0.1, 100_000.0),
            IncidentKind::LevelShift => (0.2, 4.0),
            IncidentKind::BadClock => (0.25, 100_000.0),
            IncidentKind::HeldHost => (0.0, 60.0),
            _ => (1.0, 1_000.0),
        }
    }
}

/// One planned incident or disturbance.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Incident {
    /// Number in order of start, from 1.
    pub(crate) id: u32,
    pub(crate) kind: IncidentKind,
    /// Index of the service.
    pub(crate) service: usize,
    /// First event second that is bent.
    pub(crate) start: Timestamp,
    /// First event second that no longer is (a level shift: the end of the change; the level stays).
    pub(crate) end: Timestamp,
    /// How far: see [`IncidentKind`].
    pub(crate) magnitude: f64,
    /// The same in words.
    pub(crate) note: String,
}

/// An incident that the user asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IncidentSpec {
    pub kind: IncidentKind,
    /// Name of the service.
    pub service: String,
    /// From the start of the traffic.
    pub after: SignedDuration,
    pub lasts: SignedDuration,
    /// How far; the kind's usual magnitude when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub magnitude: Option<f64>,
}

/// How a service's traffic is bent at a moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Effect {
    /// Factor of the rate.
    pub(crate) rate: f64,
    /// Factor of the share of errors.
    pub(crate) errors: f64,
    /// Share of the lines without error that are long ones.
    pub(crate) long: f64,
    /// Lines per second of a new pattern, and the incident's position in the plan.
    pub(crate) pattern: Option<(f64, usize)>,
}

impl Effect {
    pub(crate) const NONE: Effect = Effect { rate: 1.0, errors: 1.0, long: 0.0, pattern: None };
}

impl Incident {
    pub(crate) fn start_second(&self) -> i64 {
        self.start.as_second()
    }

    pub(crate) fn end_second(&self) -> i64 {
        self.end.as_second()
    }

    pub(crate) fn active(&self, second: i64) -> bool {
        (self.start_second()..self.end_second()).contains(&second)
    }

    /// Bends `effect` as this incident, number `index` of the plan, does at `second`.
    pub(crate) fn bend(&self, index: usize, second: i64, effect: &mut Effect) {
        let since = second - self.start_second();
        if self.kind == IncidentKind::LevelShift && since >= 0 {
            effect.rate *= grown(self.magnitude, since as f64 / SHIFT_SECONDS);
        }
        if !self.active(second) {
            return;
        }
        let ramp = since as f64 / (RAMP_SHARE * (self.end_second() - self.start_second()) as f64);
        match self.kind {
            IncidentKind::ErrorRateSpike => effect.errors *= self.magnitude,
            IncidentKind::LogVolumeSpike | IncidentKind::LogVolumeDrop | IncidentKind::Silence => {
                effect.rate *= self.magnitude;
            }
            IncidentKind::SlowRampVolume => effect.rate *= grown(self.magnitude, ramp),
            IncidentKind::SlowRampErrors => effect.errors *= grown(self.magnitude, ramp),
            IncidentKind::FlappingErrors if since / FLAP_SECONDS % 2 == 0 => effect.errors *= self.magnitude,
            IncidentKind::NewPattern => effect.pattern = Some((self.magnitude / 60.0, index)),
            IncidentKind::MultivariateOutlier => {
                effect.rate *= 1.0 + 0.7 * self.magnitude;
                effect.errors *= 1.0 + 1.3 * self.magnitude;
                effect.long = (0.25 * self.magnitude).min(1.0);
            }
            IncidentKind::FlappingErrors
            | IncidentKind::LevelShift
            | IncidentKind::BadClock
            | IncidentKind::HeldHost => {}
        }
    }

    /// The incident in words, for the labels.
    pub(crate) fn describe(kind: IncidentKind, magnitude: f64) -> String {
        match kind {
            IncidentKind::ErrorRateSpike => format!("share of errors x{magnitude:.1}"),
            IncidentKind::LogVolumeSpike => format!("volume x{magnitude:.1}"),
            IncidentKind::LogVolumeDrop => format!("volume x{magnitude:.3}"),
            IncidentKind::Silence => "total silence".to_owned(),
            IncidentKind::MultivariateOutlier => format!(
                "volume x{:.2}, share of errors x{:.2}, {:.0} % long lines: each alone is unsuspicious",
                1.0 + 0.7 * magnitude,
                1.0 + 1.3 * magnitude,
                (25.0 * magnitude).min(100.0)
            ),
            IncidentKind::NewPattern => {
                format!("an ERROR line never seen before, about {magnitude:.0} a minute")
            }
            IncidentKind::SlowRampVolume => format!("volume grows to x{magnitude:.1}, then holds"),
            IncidentKind::SlowRampErrors => format!("share of errors grows to x{magnitude:.1}, then holds"),
            IncidentKind::FlappingErrors => {
                format!("share of errors x{magnitude:.1} for a minute, well for a minute, and again")
            }
            IncidentKind::LevelShift => {
                format!("volume moves to x{magnitude:.2} for good: a new normal, no incident")
            }
            IncidentKind::BadClock => format!("one host's clock is {magnitude:.1} h ahead"),
            IncidentKind::HeldHost => {
                format!("one host's lines are held back and arrive {magnitude:.0} min after the last of them")
            }
        }
    }
}

/// From 1 to `factor` as `progress` goes from 0 to 1, and `factor` from then on.
fn grown(factor: f64, progress: f64) -> f64 {
    1.0 + (factor - 1.0) * progress.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(kind: IncidentKind, magnitude: f64, second: i64) -> Effect {
        let at = |second| Timestamp::from_second(second).unwrap();
        let (start, end) = (at(1000), at(2000));
        let incident = Incident { id: 1, kind, service: 0, start, end, magnitude, note: String::new() };
        let mut effect = Effect::NONE;
        incident.bend(4, second, &mut effect);
        effect
    }

    #[test]
    fn nothing_is_bent_outside_an_incident() {
        for kind in IncidentKind::INCIDENTS {
            for second in [0, 999, 2000, 9999] {
                assert_eq!(effect(kind, 5.0, second), Effect::NONE, "{kind:?} at {second}");
            }
        }
    }

    #[test]
    fn shapes() {
        assert_eq!(effect(IncidentKind::ErrorRateSpike, 9.0, 1000).errors, 9.0);
        assert_eq!(effect(IncidentKind::LogVolumeDrop, 0.05, 1999).rate, 0.05);
        assert_eq!(effect(IncidentKind::Silence, 0.0, 1500).rate, 0.0);
        assert_eq!(effect(IncidentKind::SlowRampVolume, 4.0, 1375).rate, 2.5);
        assert_eq!(effect(IncidentKind::SlowRampErrors, 4.0, 1800).errors, 4.0);
        assert_eq!(effect(IncidentKind::FlappingErrors, 6.0, 1059).errors, 6.0);
        assert_eq!(effect(IncidentKind::FlappingErrors, 6.0, 1060).errors, 1.0);
        assert_eq!(effect(IncidentKind::NewPattern, 30.0, 1500).pattern, Some((0.5, 4)));
        assert_eq!(effect(IncidentKind::LevelShift, 2.0, 1300).rate, 1.5);
        assert_eq!(effect(IncidentKind::LevelShift, 2.0, 1_000_000).rate, 2.0, "a level shift stays");
    }
}
