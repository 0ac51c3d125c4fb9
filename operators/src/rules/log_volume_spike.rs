//! `log_volume_spike`: volume > 5 × baseline, and further above it than its own spread explains.

use super::{LOGS_PER_MINUTE, Rule, Side, Verdict, View, logs_per_minute, window_volume};
use smartlog_schema::anomaly::{AnomalyType, Severity};

pub const RULE: Rule = Rule {
    anomaly_type: AnomalyType::LogVolumeSpike,
    severity: Severity::Medium,
    side: Side::Above,
    measure: LOGS_PER_MINUTE,
    is_enabled: |settings| settings.log_volume_spike.enabled,
    judge,
};

fn judge(view: &View<'_>) -> Option<Verdict> {
    let settings = &view.settings.log_volume_spike;
    let (usual, deviation) = window_volume(view)?;
    let threshold =
        (settings.ratio * usual).max(usual + settings.deviations * deviation).max(settings.min_logs);
    Some(Verdict {
        value: logs_per_minute(view.window.logs as f64),
        threshold: logs_per_minute(threshold),
        baseline: logs_per_minute(usual),
    })
}
