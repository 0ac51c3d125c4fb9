//! `[time]`: what counts as now, as late and as wrong.

use super::{DAY, MINUTE, seconds, whole_seconds};
use crate::config::units::HumanDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smartlog_operators::settings;
use std::time::Duration;

/// What counts as now, as late and as wrong. All in event time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Time {
    /// How far the watermark stays behind the clock: windows are final that much later.
    ///
    /// Logs that come later than this correct windows that were already final. Detection does not wait for it.
    #[serde(with = "HumanDuration")]
    pub watermark_delay: Duration,
    /// How late a log may still correct windows and episodes; older ones correct their hour only.
    ///
    /// Costs memory: the sums of every service and second are kept for it.
    #[serde(with = "HumanDuration")]
    pub max_lateness: Duration,
    /// How far ahead of the clock a log may lie and still be believed alone.
    ///
    /// One host with a wrong clock must not make all others late.
    #[serde(with = "HumanDuration")]
    pub max_clock_jump: Duration,
    /// A time further ahead is believed all the same when nothing else came for this long (wall time).
    #[serde(with = "HumanDuration")]
    pub lone_event_patience: Duration,
    /// Logs further than this after their Kafka record time become dead letters.
    #[serde(with = "HumanDuration")]
    pub max_future_skew: Duration,
    /// How long logs are kept; older ones that arrive become dead letters.
    ///
    /// Measured from the hour that the clock is in. Lowering it drops stored days at the next start.
    #[serde(with = "HumanDuration")]
    pub retention: Duration,
}

impl Default for Time {
    fn default() -> Self {
        let settings = settings::Time::default();
        Time {
            watermark_delay: seconds(settings.watermark_delay),
            max_lateness: seconds(settings.max_lateness),
            max_clock_jump: seconds(settings.max_clock_jump),
            lone_event_patience: seconds(settings.lone_event_patience),
            max_future_skew: 5 * MINUTE,
            retention: 30 * DAY,
        }
    }
}

impl Time {
    /// What the operators need of it.
    pub fn settings(&self) -> settings::Time {
        settings::Time {
            watermark_delay: whole_seconds(self.watermark_delay),
            max_lateness: whole_seconds(self.max_lateness),
            max_clock_jump: whole_seconds(self.max_clock_jump),
            lone_event_patience: whole_seconds(self.lone_event_patience),
        }
    }
}
