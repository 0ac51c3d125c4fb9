//! Settings under which interesting things happen often.

use compact_str::CompactString;
use smartlog_operators::settings::{
    Baseline, Detection, ErrorRateSpike, MultivariateOutlier, NewPattern, Test, Time, Volume,
};
use std::collections::BTreeMap;

#[derive(Debug, Clone, Default)]
pub struct Settings {
    pub time: Time,
    pub detection: Detection,
    pub services: BTreeMap<CompactString, Detection>,
    pub hop: i64,
}

/// As shipped.
pub fn defaults() -> Settings {
    Settings { hop: 10, ..Settings::default() }
}

/// As shipped, but for what the naive program knows nothing of.
pub fn rules_alone() -> Settings {
    let mut settings = defaults();
    settings.detection.new_pattern.enabled = false;
    settings
}

/// Everything sooner and more often.
pub fn dense() -> Settings {
    Settings {
        time: Time { watermark_delay: 5, max_lateness: 90, max_clock_jump: 600, lone_event_patience: 60 },
        detection: Detection {
            baseline: Baseline {
                lag: 120,
                minutes: 12,
                enough_minutes: 4,
                first_minutes: 2,
                season_days: 3,
                drift: 180,
                spread: 0.05,
                error_spread: 0.1,
            },
            error_rate_spike: ErrorRateSpike {
                enabled: true,
                minute: test(2.0, 0.02),
                window: test(2.0, 0.2),
                drift: test(1.5, 0.2),
                min_errors: 2,
                baseline_floor: 0.01,
            },
            log_volume_spike: Volume {
                enabled: true,
                minute: test(1.6, 0.02),
                window: test(1.4, 0.2),
                drift: test(1.3, 0.3),
                min_logs: 5.0,
            },
            log_volume_drop: Volume {
                enabled: true,
                minute: test(0.5, 0.02),
                window: test(0.5, 0.3),
                drift: test(0.7, 0.3),
                min_logs: 4.0,
            },
            multivariate_outlier: MultivariateOutlier::default(),
            new_pattern: NewPattern { enabled: false, ..NewPattern::default() },
            episodes_per_week: 2.0,
            calm: 60,
            hysteresis: 0.8,
            max_episode: 420,
            retire_after: 24 * 3600,
        },
        services: BTreeMap::new(),
        hop: 10,
    }
}

fn test(ratio: f64, significance: f64) -> Test {
    Test { ratio, significance }
}
