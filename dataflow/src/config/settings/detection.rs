//! `[detection]`: when something counts as trouble. The defaults are those of the operators.

use super::{seconds, whole_seconds};
use crate::config::units::HumanDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smartlog_operators::settings;
use std::time::Duration;

/// When something counts as trouble. Durations are event time, in whole seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Detection {
    /// Many more errors than usual.
    pub error_rate_spike: ErrorRateSpike,
    /// Many more logs than usual.
    pub log_volume_spike: LogVolumeSpike,
    /// Far fewer logs than usual, silence included.
    pub log_volume_drop: LogVolumeDrop,
    /// What is usual.
    pub baseline: Baseline,
    /// How long a rule must be calm before its episode is resolved.
    ///
    /// Too short, and trouble that comes in bursts makes an episode of each.
    #[serde(with = "HumanDuration")]
    pub calm: Duration,
    /// Share of the threshold that an open episode's metric must come back within to count as calm, between 0 and 1.
    ///
    /// At 1, a metric that hovers at the threshold makes episode after episode.
    pub hysteresis: f64,
    /// An episode open for this long is closed as `expired` and its level becomes the new baseline.
    #[serde(with = "HumanDuration")]
    pub max_episode: Duration,
    /// A service silent for this long gives up its state.
    #[serde(with = "HumanDuration")]
    pub retire_after: Duration,
}

impl Default for Detection {
    fn default() -> Self {
        let settings = settings::Detection::default();
        Detection {
            error_rate_spike: ErrorRateSpike::default(),
            log_volume_spike: LogVolumeSpike::default(),
            log_volume_drop: LogVolumeDrop::default(),
            baseline: Baseline::default(),
            calm: seconds(settings.calm),
            hysteresis: settings.hysteresis,
            max_episode: seconds(settings.max_episode),
            retire_after: seconds(settings.retire_after),
        }
    }
}

impl Detection {
    /// What the operators need of it.
    pub fn settings(&self) -> settings::Detection {
        settings::Detection {
            baseline: self.baseline.settings(),
            error_rate_spike: self.error_rate_spike.settings(),
            log_volume_spike: self.log_volume_spike.settings(),
            log_volume_drop: self.log_volume_drop.settings(),
            calm: whole_seconds(self.calm),
            hysteresis: self.hysteresis,
            max_episode: whole_seconds(self.max_episode),
            retire_after: whole_seconds(self.retire_after),
        }
    }
}

/// Many more errors than usual.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ErrorRateSpike {
    /// Whether the rule is asked at all; an episode that is open when it is switched off ends.
    pub enabled: bool,
    /// Error rate of the window, as a multiple of the baseline, beyond which it is raised.
    pub ratio: f64,
    /// Errors in the window below which it is never raised.
    pub min_errors: i64,
    /// Error rate that a lower baseline is lifted to, between 0 and 1.
    ///
    /// Without it the first error of a service that never has any would be infinitely more than usual.
    pub baseline_floor: f64,
    /// Largest probability that chance alone gives as many errors.
    ///
    /// Smaller means fewer false alarms, and later ones.
    pub significance: f64,
}

impl Default for ErrorRateSpike {
    fn default() -> Self {
        let settings::ErrorRateSpike { enabled, ratio, min_errors, baseline_floor, significance } =
            Default::default();
        ErrorRateSpike { enabled, ratio, min_errors, baseline_floor, significance }
    }
}

impl ErrorRateSpike {
    fn settings(&self) -> settings::ErrorRateSpike {
        let ErrorRateSpike { enabled, ratio, min_errors, baseline_floor, significance } = *self;
        settings::ErrorRateSpike { enabled, ratio, min_errors, baseline_floor, significance }
    }
}

/// Many more logs than usual.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogVolumeSpike {
    /// Whether the rule is asked at all; an episode that is open when it is switched off ends.
    pub enabled: bool,
    /// Logs of the window, as a multiple of the baseline, beyond which it is raised.
    pub ratio: f64,
    /// Logs in the window below which it is never raised.
    pub min_logs: f64,
    /// Standard deviations of the service's own volume that the window must lie above the baseline.
    pub deviations: f64,
}

impl Default for LogVolumeSpike {
    fn default() -> Self {
        let settings::Volume { enabled, ratio, min_logs, deviations } = settings::Volume::spike();
        LogVolumeSpike { enabled, ratio, min_logs, deviations }
    }
}

impl LogVolumeSpike {
    fn settings(&self) -> settings::Volume {
        let LogVolumeSpike { enabled, ratio, min_logs, deviations } = *self;
        settings::Volume { enabled, ratio, min_logs, deviations }
    }
}

/// Far fewer logs than usual, silence included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogVolumeDrop {
    /// Whether the rule is asked at all; an episode that is open when it is switched off ends.
    pub enabled: bool,
    /// Logs of the window, as a multiple of the baseline, below which it is raised.
    pub ratio: f64,
    /// Logs that the baseline must expect in a window for the service to be judged at all.
    ///
    /// A service that logs once an hour is silent most of the time, and that is no incident.
    pub min_logs: f64,
    /// Standard deviations of the service's own volume that the window must lie below the baseline.
    pub deviations: f64,
}

impl Default for LogVolumeDrop {
    fn default() -> Self {
        let settings::Volume { enabled, ratio, min_logs, deviations } = settings::Volume::drop();
        LogVolumeDrop { enabled, ratio, min_logs, deviations }
    }
}

impl LogVolumeDrop {
    fn settings(&self) -> settings::Volume {
        let LogVolumeDrop { enabled, ratio, min_logs, deviations } = *self;
        settings::Volume { enabled, ratio, min_logs, deviations }
    }
}

/// What is usual: whole minutes of each service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Baseline {
    /// A minute enters the baseline this long after it ended.
    ///
    /// Too short, and a slow incident becomes its own baseline.
    #[serde(with = "HumanDuration")]
    pub lag: Duration,
    /// Minutes remembered.
    pub minutes: usize,
    /// Minutes that must have entered before they are trusted; until then all minutes so far serve.
    pub enough_minutes: usize,
    /// Minutes that a service must have at the least before it is judged on volume.
    pub first_minutes: usize,
}

impl Default for Baseline {
    fn default() -> Self {
        let settings::Baseline { lag, minutes, enough_minutes, first_minutes } = Default::default();
        Baseline { lag: seconds(lag), minutes, enough_minutes, first_minutes }
    }
}

impl Baseline {
    fn settings(&self) -> settings::Baseline {
        let Baseline { lag, minutes, enough_minutes, first_minutes } = *self;
        settings::Baseline { lag: whole_seconds(lag), minutes, enough_minutes, first_minutes }
    }
}
