//! `error_rate_spike`: error rate > 3 × baseline, and more errors than chance explains.
//!
//! At low counts a ratio alone is noise, so the threshold is at least the rate that a binomial count of errors at the
//! baseline rate exceeds with probability `significance`. The bound is Chernoff's (Hoeffding 1963, theorem 1):
//! `P(errors ≥ n·q) ≤ exp(−n·KL(q ‖ p))`, which holds for every n and errs on the quiet side.

use super::{Measure, Rule, Side, Verdict, View};
use smartlog_schema::anomaly::{AnomalyType, Severity};

pub const RULE: Rule = Rule {
    anomaly_type: AnomalyType::ErrorRateSpike,
    severity: Severity::High,
    side: Side::Above,
    measure: Measure { name: "Error rate", unit: "%", scale: 100.0 },
    is_enabled: |settings| settings.error_rate_spike.enabled,
    judge,
};

fn judge(view: &View<'_>) -> Option<Verdict> {
    let settings = &view.settings.error_rate_spike;
    // A rate can only be compared with that of minutes that were complete.
    view.normal.volume?;
    let baseline = view.normal.error_rate?;
    if view.window.logs == 0 {
        return None;
    }
    let value = view.window.error_rate();
    let floored = baseline.max(settings.baseline_floor);
    let few = settings.min_errors as f64 / view.window.logs as f64;
    let threshold = (settings.ratio * floored).max(few).min(1.0);
    // The bound costs a search: only who is beyond the ratio, or would be while an episode is open, is asked for it.
    let threshold = if value > threshold * view.settings.hysteresis.min(1.0) {
        threshold.max(chance_bound(floored, view.window.logs as f64, settings.significance))
    } else {
        threshold
    };
    Some(Verdict { value, threshold, baseline })
}

/// The rate that `n` trials at rate `p` exceed with probability `significance` at the most.
fn chance_bound(p: f64, n: f64, significance: f64) -> f64 {
    let needed = -significance.ln() / n;
    let (mut low, mut high) = (p, 1.0);
    if divergence(high, p) < needed {
        return 1.0;
    }
    for _ in 0..40 {
        let middle = (low + high) / 2.0;
        if divergence(middle, p) < needed { low = middle } else { high = middle }
    }
    high
}

/// Kullback-Leibler divergence of two coins.
fn divergence(q: f64, p: f64) -> f64 {
    let term = |a: f64, b: f64| if a == 0.0 { 0.0 } else { a * (a / b).ln() };
    term(q, p) + term(1.0 - q, 1.0 - p)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_exceeded_as_rarely_as_it_says() {
        // Exact binomial tail by summing, for a few cases.
        for (p, n) in [(0.01, 100), (0.05, 40), (0.2, 1000)] {
            let bound = chance_bound(p, f64::from(n), 1e-4);
            let least = (bound * f64::from(n)).ceil() as i32;
            let tail: f64 = (least..=n).map(|k| binomial(n, k, p)).sum();
            assert!(tail <= 1e-4, "p {p} n {n}: {tail}");
        }
    }

    fn binomial(n: i32, k: i32, p: f64) -> f64 {
        let log_choose: f64 = (0..k).map(|i| (f64::from(n - i) / f64::from(k - i)).ln()).sum();
        (log_choose + f64::from(k) * p.ln() + f64::from(n - k) * (1.0 - p).ln()).exp()
    }
}
