//! `log_volume_spike`: volume > 5 × baseline, or further above it than the service's own bursts explain.

use super::{LOGS_PER_MINUTE, Rule, Scale, Side, Verdict, View};
use crate::chance::{least_above, volume_rate};
use crate::settings::Test;
use smartlog_schema::anomaly::{AnomalyType, Severity};

pub const RULE: Rule = Rule {
    anomaly_type: AnomalyType::LogVolumeSpike,
    severity: |_| Severity::Medium,
    side: Side::Above,
    measure: LOGS_PER_MINUTE,
    is_enabled: |settings| settings.log_volume_spike.enabled,
    judge,
};

fn judge(view: &View<'_>, ease: f64) -> Option<Verdict> {
    let settings = &view.settings.log_volume_spike;
    let tests =
        [(Scale::Window, settings.window), (Scale::Minute, settings.minute), (Scale::Drift, settings.drift)];
    tests.into_iter().find_map(|(scale, test)| beyond(view, scale, test, ease))
}

fn beyond(view: &View<'_>, scale: Scale, test: Test, ease: f64) -> Option<Verdict> {
    let expected = view.expected(scale);
    let level = expected.volume.filter(|_| view.fills_window)?.up;
    let minutes = view.minutes(scale);
    let (logs, usual) = (view.sums(scale)?.logs as f64, level * minutes);
    // As many for each window that fits in.
    let few = view.settings.log_volume_spike.min_logs * (minutes / view.minutes(Scale::Window)).max(1.0);
    if logs < few || logs <= test.ratio * usual * ease {
        return None;
    }
    let threshold = expected.thresholds[0].get().unwrap_or_else(|| {
        let chance = if usual > 0.0 {
            least_above(usual, view.needed(test), |n| volume_rate(n, usual, expected.spread))
        } else {
            few
        };
        (test.ratio * usual).max(chance)
    });
    expected.thresholds[0].set(Some(threshold));
    let verdict = Verdict {
        value: logs / minutes,
        threshold: threshold.max(few) / minutes,
        baseline: level,
        seconds: view.seconds(scale),
    };
    (logs > threshold * ease).then_some(verdict)
}
