//! The numbers that decide what an anomaly is. Times are whole seconds of event time.
//!
//! Plain data with defaults; reading them from files, flags and the environment is the program's business.

use crate::dispersion::Prior;
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
    /// Minutes that a level is taken from.
    pub minutes: usize,
    /// Lagged minutes needed before they are trusted; until then all minutes so far serve.
    pub enough_minutes: usize,
    /// Minutes with logs that volume needs at the least.
    pub first_minutes: usize,
    /// Days on which an hour must have been seen before it counts as season.
    pub season_days: usize,
    /// Length of the window that is watched for slow changes; its baseline lags by as much more.
    pub drift: i64,
    /// Squared relative spread that a level is taken to have until it is learned.
    pub spread: f64,
    /// The same of the share of errors.
    pub error_spread: f64,
}

impl Default for Baseline {
    fn default() -> Self {
        Baseline {
            lag: 600,
            minutes: 60,
            enough_minutes: 30,
            first_minutes: 5,
            season_days: 3,
            drift: 900,
            spread: 0.05,
            error_spread: 0.15,
        }
    }
}

impl Baseline {
    /// For blocks of a minute: worth an hour, two days remembered.
    pub fn minute_prior(&self) -> Prior {
        Prior { spread: self.spread, blocks: 30.0, memory: 2880.0 }
    }

    /// For blocks of five minutes.
    pub fn window_prior(&self) -> Prior {
        Prior { spread: self.spread, blocks: 12.0, memory: 576.0 }
    }

    /// For blocks as long as `drift`.
    pub fn drift_prior(&self) -> Prior {
        Prior { spread: self.spread, blocks: 6.0, memory: 192.0 }
    }

    /// For the errors of five minutes.
    pub fn error_prior(&self) -> Prior {
        Prior { spread: self.error_spread, blocks: 6.0, memory: 576.0 }
    }
}

/// When a window of one length is beyond: both must hold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Test {
    /// Multiple of the baseline.
    pub ratio: f64,
    /// Largest probability that chance alone goes as far.
    pub significance: f64,
}

/// `error_rate_spike`: error rate above `ratio` × baseline, and more errors than chance explains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorRateSpike {
    /// Whether the rule is asked at all.
    pub enabled: bool,
    /// Over the last minute, over the window, and over the time that is watched for drift.
    pub minute: Test,
    pub window: Test,
    pub drift: Test,
    /// Fewest errors.
    pub min_errors: i64,
    /// The baseline is taken to be at least this, so that a service without errors is not alarmed by its first.
    pub baseline_floor: f64,
}

impl Default for ErrorRateSpike {
    fn default() -> Self {
        ErrorRateSpike {
            enabled: true,
            minute: Test { ratio: 3.0, significance: 3e-5 },
            window: Test { ratio: 3.0, significance: 2e-4 },
            drift: Test { ratio: 2.5, significance: 3e-4 },
            min_errors: 5,
            baseline_floor: 0.002,
        }
    }
}

/// `log_volume_spike` and `log_volume_drop`: volume beyond `ratio` × baseline, and further from it than the service's
/// own bursts explain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    /// Whether the rule is asked at all.
    pub enabled: bool,
    pub minute: Test,
    pub window: Test,
    pub drift: Test,
    /// Fewest logs a window must have (spike) or be expected to have (drop).
    pub min_logs: f64,
}

impl Volume {
    /// Defaults of `log_volume_spike`.
    pub fn spike() -> Self {
        Volume {
            enabled: true,
            minute: Test { ratio: 3.0, significance: 1e-8 },
            window: Test { ratio: 3.2, significance: 3e-5 },
            drift: Test { ratio: 2.5, significance: 1e-3 },
            min_logs: 20.0,
        }
    }

    /// Defaults of `log_volume_drop`.
    pub fn drop() -> Self {
        Volume {
            enabled: true,
            minute: Test { ratio: 0.1, significance: 5e-6 },
            window: Test { ratio: 0.1, significance: 5e-4 },
            drift: Test { ratio: 0.3, significance: 1e-6 },
            min_logs: 10.0,
        }
    }
}

/// `multivariate_outlier`: a model's score beyond its own alert threshold for as long as the model asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MultivariateOutlier {
    /// Whether scores raise anything: off, as it costs precision (docs/decisions/019).
    pub enabled: bool,
}

/// `new_pattern`: a message of a kind that the service never logged before, at ERROR or above, or in bursts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct NewPattern {
    /// Whether it is looked for at all.
    pub enabled: bool,
    /// Seconds from a service's first log during which nothing is new.
    pub warm_up: i64,
    /// Fewest errors of one new kind within the window.
    pub min_errors: i64,
    /// What is new at any level bursts when it has so many times the logs that the service usually has in a window.
    pub burst_ratio: f64,
    /// Fewest logs of a burst within the window.
    pub min_burst: i64,
}

impl Default for NewPattern {
    fn default() -> Self {
        NewPattern { enabled: true, warm_up: 3600, min_errors: 3, burst_ratio: 2.0, min_burst: 50 }
    }
}

/// All of detection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    pub baseline: Baseline,
    pub error_rate_spike: ErrorRateSpike,
    pub log_volume_spike: Volume,
    pub log_volume_drop: Volume,
    pub multivariate_outlier: MultivariateOutlier,
    pub new_pattern: NewPattern,
    /// A rule that raised more episodes of a service than this within a week asks for more surprise there.
    pub episodes_per_week: f64,
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
            multivariate_outlier: MultivariateOutlier::default(),
            new_pattern: NewPattern::default(),
            episodes_per_week: 1.0,
            calm: 60,
            hysteresis: 0.8,
            max_episode: 6 * 3600,
            retire_after: 24 * 3600,
        }
    }
}
