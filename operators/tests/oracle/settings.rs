//! Settings under which interesting things happen often.

use smartlog_operators::settings::{Baseline, Detection, ErrorRateSpike, Time, Volume};

#[derive(Debug, Clone, Default)]
pub struct Settings {
    pub time: Time,
    pub detection: Detection,
    pub hop: i64,
}

/// As shipped.
pub fn defaults() -> Settings {
    Settings { hop: 10, ..Settings::default() }
}

/// Everything sooner and more often.
pub fn dense() -> Settings {
    Settings {
        time: Time { watermark_delay: 5, max_lateness: 90, max_clock_jump: 600, lone_event_patience: 60 },
        detection: Detection {
            baseline: Baseline { lag: 120, minutes: 12, enough_minutes: 4, first_minutes: 2 },
            error_rate_spike: ErrorRateSpike {
                enabled: true,
                ratio: 2.0,
                min_errors: 2,
                baseline_floor: 0.01,
                significance: 0.05,
            },
            log_volume_spike: Volume { enabled: true, ratio: 1.6, min_logs: 5.0, deviations: 1.5 },
            log_volume_drop: Volume { enabled: true, ratio: 0.5, min_logs: 4.0, deviations: 1.0 },
            calm: 60,
            hysteresis: 0.8,
            max_episode: 420,
            retire_after: 24 * 3600,
        },
        hop: 10,
    }
}
