//! `log_volume_drop`: volume < 0.1 × baseline, total silence included, where silence cannot be chance.

use super::{LOGS_PER_MINUTE, Rule, Side, Verdict, View, logs_per_minute, window_volume};
use smartlog_schema::anomaly::{AnomalyType, Severity};

pub const RULE: Rule = Rule {
    anomaly_type: AnomalyType::LogVolumeDrop,
    severity: Severity::Medium,
    side: Side::Below,
    measure: LOGS_PER_MINUTE,
    is_enabled: |settings| settings.log_volume_drop.enabled,
    judge,
};

fn judge(view: &View<'_>) -> Option<Verdict> {
    let settings = &view.settings.log_volume_drop;
    let (usual, deviation) = window_volume(view)?;
    if usual < settings.min_logs {
        return None;
    }
    let threshold = (settings.ratio * usual).min(usual - settings.deviations * deviation);
    Some(Verdict {
        value: logs_per_minute(view.window.logs as f64),
        threshold: logs_per_minute(threshold),
        baseline: logs_per_minute(usual),
    })
}
