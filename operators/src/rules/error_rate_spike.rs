//! `error_rate_spike`: error rate > 3 × baseline, and more errors than chance explains.
//!
//! At low counts a ratio alone is noise, and the share of errors has bursts of its own, so the threshold is at least the
//! rate that a negative binomial count of errors ([`crate::chance::error_rate`]) exceeds with probability `significance`.

use super::{Measure, Rule, Scale, Side, Verdict, View};
use crate::chance::{error_rate, least_above};
use crate::settings::Test;
use smartlog_schema::anomaly::{AnomalyType, Severity};

pub const RULE: Rule = Rule {
    anomaly_type: AnomalyType::ErrorRateSpike,
    severity: |_| Severity::High,
    side: Side::Above,
    measure: Measure { name: "Error rate", unit: "%", scale: 100.0 },
    is_enabled: |settings| settings.error_rate_spike.enabled,
    judge,
};

fn judge(view: &View<'_>, ease: f64) -> Option<Verdict> {
    let settings = &view.settings.error_rate_spike;
    let tests =
        [(Scale::Window, settings.window), (Scale::Minute, settings.minute), (Scale::Drift, settings.drift)];
    tests.into_iter().find_map(|(scale, test)| beyond(view, scale, test, ease))
}

fn beyond(view: &View<'_>, scale: Scale, test: Test, ease: f64) -> Option<Verdict> {
    let settings = &view.settings.error_rate_spike;
    let sums = view.sums(scale)?;
    let expected = view.expected(scale);
    let baseline = expected.errors?.rate;
    let (errors, logs) = (sums.errors as f64, sums.logs as f64);
    let floored = baseline.max(settings.baseline_floor);
    let few = settings.min_errors as f64;
    // The bound costs a search: only who is beyond the ratio is asked for it.
    if errors < few || errors <= test.ratio * floored * logs * ease {
        return None;
    }
    let usual = floored * logs;
    let chance = least_above(usual, view.needed(test), |e| error_rate(e, usual, expected.error_spread));
    let threshold = (test.ratio * usual).max(chance).min(logs);
    let verdict = Verdict {
        value: errors / logs,
        threshold: threshold.max(few) / logs,
        baseline,
        seconds: view.seconds(scale),
    };
    (errors > threshold * ease || errors >= logs).then_some(verdict)
}
