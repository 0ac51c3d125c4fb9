//! `log_volume_drop`: volume < 0.1 × baseline, total silence included, where it cannot be chance.
//!
//! Silence is told before a window has run dry: when so many logs are missing since the last one that chance does not
//! explain it, and for twice as long as the service ever pauses.

use super::{LOGS_PER_MINUTE, Rule, Scale, Side, Verdict, View};
use crate::chance::{greatest_below, volume_rate};
use crate::settings::Test;
use smartlog_schema::anomaly::{AnomalyType, Severity};

pub const RULE: Rule = Rule {
    anomaly_type: AnomalyType::LogVolumeDrop,
    severity: |_| Severity::Medium,
    side: Side::Below,
    measure: LOGS_PER_MINUTE,
    is_enabled: |settings| settings.log_volume_drop.enabled,
    judge,
};

/// The rule's place in [`super::RULES`].
pub const INDEX: usize = 2;

/// A pause must be this many times as long as the longest usual one.
const PAUSES: f64 = 2.0;
/// No silence is shorter, seconds: collectors ship in batches.
const SHORTEST: f64 = 15.0;

fn judge(view: &View<'_>, ease: f64) -> Option<Verdict> {
    let settings = &view.settings.log_volume_drop;
    let tests =
        [(Scale::Window, settings.window), (Scale::Minute, settings.minute), (Scale::Drift, settings.drift)];
    tests.into_iter().find_map(|(scale, test)| beyond(view, scale, test, ease)).or_else(|| silence(view))
}

fn beyond(view: &View<'_>, scale: Scale, test: Test, ease: f64) -> Option<Verdict> {
    let expected = view.expected(scale);
    let level = expected.volume.filter(|_| view.fills_window)?.down;
    let minutes = view.minutes(scale);
    let (logs, usual) = (view.sums(scale)?.logs as f64, level * minutes);
    if usual < view.settings.log_volume_drop.min_logs || logs >= test.ratio * usual / ease {
        return None;
    }
    if view.is_masked(scale) {
        return None;
    }
    let threshold = expected.thresholds[1].get().unwrap_or_else(|| {
        let chance = greatest_below(usual, view.needed(test), |n| volume_rate(n, usual, expected.spread));
        (test.ratio * usual).min(chance)
    });
    expected.thresholds[1].set(Some(threshold));
    let verdict = Verdict {
        value: logs / minutes,
        threshold: threshold / minutes,
        baseline: level,
        seconds: view.seconds(scale),
    };
    (logs < threshold / ease).then_some(verdict)
}

fn silence(view: &View<'_>) -> Option<Verdict> {
    let level = view.expected(Scale::Window).volume?.down;
    let needed = least_silence(view)?;
    let verdict = Verdict {
        value: 0.0,
        threshold: view.settings.log_volume_drop.window.ratio * level,
        baseline: level,
        seconds: view.silent_for,
    };
    (view.silent_for as f64 >= needed).then_some(verdict)
}

/// Seconds without a log from which on it is an episode.
pub fn least_silence(view: &View<'_>) -> Option<f64> {
    let settings = &view.settings.log_volume_drop;
    let expected = view.expected(Scale::Minute);
    let level = expected.volume.filter(|_| view.fills_window)?.down;
    if level * view.minutes(Scale::Window) < settings.min_logs {
        return None;
    }
    let missing = least_missing(view.needed(settings.minute), expected.spread);
    let pause = (PAUSES * view.normal.longest_pause).max(SHORTEST);
    Some((missing * 60.0 / level).max(pause).ceil())
}

/// Seconds after which a window that is too empty, but was masked by a pause of the whole stream, must be judged again;
/// `None`: none is. The drift is judged with every minute anyway.
pub fn masked_for(view: &View<'_>) -> Option<i64> {
    let settings = &view.settings.log_volume_drop;
    let is_suspicious = |scale: Scale, test: Test| {
        let level = view.expected(scale).volume?.down;
        let logs = view.sums(scale)?.logs as f64;
        (logs < test.ratio * level * view.minutes(scale)).then(|| view.masked_for(scale))
    };
    let masks =
        [is_suspicious(Scale::Window, settings.window), is_suspicious(Scale::Minute, settings.minute)];
    masks.into_iter().flatten().filter(|seconds| *seconds > 0).min()
}

/// The number of expected logs of which it is significant that none came: [`volume_rate`] of 0 solved for `m`, where
/// `a = −σλ`, so that `σ²λ²/2 + λ` is what is needed.
fn least_missing(needed: f64, spread: f64) -> f64 {
    let variance = spread.ln_1p();
    let level =
        if variance > 0.0 { ((1.0 + 2.0 * variance * needed).sqrt() - 1.0) / variance } else { needed };
    level * (variance * level).exp()
}
