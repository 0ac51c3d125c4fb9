//! The numbers that decide what an anomaly is. Times are whole seconds of event time.
//!
//! Plain data with defaults; reading them from files, flags and the environment is the program's business.

use serde::{Deserialize, Serialize};

/// How event time is kept. See docs/ARCHITECTURE.md, "Time".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Time {
    /// The watermark is the clock minus this: how long a window waits for stragglers before it is final.
    pub watermark_delay: i64,
    /// How far behind the watermark a log may still correct windows and episodes.
    pub max_lateness: i64,
    /// An event further than this ahead of everything else does not move the clock on its own.
    pub max_clock_jump: i64,
    /// What is credible when nothing else has come for this long, seconds of wall time.
    pub lone_event_patience: i64,
}

impl Default for Time {
    fn default() -> Self {
        Time { watermark_delay: 5, max_lateness: 600, max_clock_jump: 600, lone_event_patience: 60 }
    }
}

/// What is normal for a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// A minute counts only once it ended this long ago, so that an incident does not become its own baseline.
    pub lag: i64,
    /// Minutes remembered.
    pub minutes: usize,
    /// Lagged minutes needed before they are trusted; until then all minutes so far serve.
    pub enough_minutes: usize,
    /// Minutes so far that volume needs at the least.
    pub first_minutes: usize,
}

impl Default for Baseline {
    fn default() -> Self {
        Baseline { lag: 600, minutes: 120, enough_minutes: 30, first_minutes: 5 }
    }
}

/// `error_rate_spike`: error rate above `ratio` × baseline, and more errors than chance explains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorRateSpike {
    /// Whether the rule is asked at all.
    pub enabled: bool,
    pub ratio: f64,
    /// Fewest errors in the window.
    pub min_errors: i64,
    /// The baseline is taken to be at least this, so that a service without errors is not alarmed by its first.
    pub baseline_floor: f64,
    /// Largest probability that chance alone gives as many errors.
    pub significance: f64,
}

impl Default for ErrorRateSpike {
    fn default() -> Self {
        ErrorRateSpike { enabled: true, ratio: 3.0, min_errors: 5, baseline_floor: 0.005, significance: 1e-6 }
    }
}

/// `log_volume_spike` and `log_volume_drop`: volume beyond `ratio` × baseline, and further from it than its own
/// spread explains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    /// Whether the rule is asked at all.
    pub enabled: bool,
    pub ratio: f64,
    /// Fewest logs a window must have (spike) or be expected to have (drop).
    pub min_logs: f64,
    /// Standard deviations of the window's volume.
    pub deviations: f64,
}

impl Volume {
    /// Defaults of `log_volume_spike`.
    pub fn spike() -> Self {
        Volume { enabled: true, ratio: 5.0, min_logs: 20.0, deviations: 6.0 }
    }

    /// Defaults of `log_volume_drop`.
    pub fn drop() -> Self {
        Volume { enabled: true, ratio: 0.1, min_logs: 20.0, deviations: 3.0 }
    }
}

/// All of detection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    pub baseline: Baseline,
    pub error_rate_spike: ErrorRateSpike,
    pub log_volume_spike: Volume,
    pub log_volume_drop: Volume,
    /// An episode ends when its rule has been calm for this long.
    pub calm: i64,
    /// While an episode is open, its rule stays beyond until the metric is back within this share of the threshold.
    pub hysteresis: f64,
    /// An episode open for this long is expired and its level becomes the new normal.
    pub max_episode: i64,
    /// A service silent for this long gives up its state.
    pub retire_after: i64,
}

impl Default for Detection {
    fn default() -> Self {
        Detection {
            baseline: Baseline::default(),
            error_rate_spike: ErrorRateSpike::default(),
            log_volume_spike: Volume::spike(),
            log_volume_drop: Volume::drop(),
            calm: 60,
            hysteresis: 0.8,
            max_episode: 6 * 3600,
            retire_after: 24 * 3600,
        }
    }
}
