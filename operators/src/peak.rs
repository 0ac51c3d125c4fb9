//! The window in which an episode was worst, feature by feature: how far each was from what is usual, in units of what it
//! usually strays. Squared, those distances are shared out ([`shares`]): which feature it is that makes the window odd.

use crate::baseline::Expected;
use crate::rules::{Verdict, View};
use crate::sums::Sums;
use serde::{Deserialize, Serialize};
use smartlog_schema::window::MINUTE;

/// What is compared, in the spelling of [`crate::features`]. The other features are the same for every service.
pub const COMPARED: [&str; 3] = ["log_rate", "error_rate", "avg_message_length"];

/// The worst window so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Peak {
    /// What the rule measured.
    pub value: f64,
    /// End of the window, epoch seconds, and its length.
    pub end: i64,
    pub seconds: i64,
    /// In the order of [`COMPARED`].
    pub features: [Departure; COMPARED.len()],
}

/// How far a feature is from what is usual.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Departure {
    /// `None`: not known yet.
    pub typical: Option<f64>,
    pub actual: f64,
    /// In units of its spread; 0 where nothing is known.
    pub distance: f64,
}

impl Peak {
    /// The window that ends now, of which a rule came to `verdict`.
    pub fn of(view: &View<'_>, verdict: &Verdict) -> Self {
        let (sums, expected, seconds) = view.measured(verdict.seconds);
        let features = [volume(sums, expected, seconds), errors(sums, expected), length(view)];
        Peak { value: verdict.value, end: view.end, seconds, features }
    }
}

/// Counts stray by chance and because their level does: `Var n = m + φ·m²` ([`crate::dispersion`]).
fn count_distance(n: f64, m: f64, spread: f64) -> f64 {
    (n - m).abs() / (m.max(1.0) + spread * m * m).sqrt()
}

fn volume(sums: Sums, expected: &Expected, seconds: i64) -> Departure {
    let minutes = seconds as f64 / MINUTE as f64;
    let logs = sums.logs as f64;
    let actual = logs / minutes;
    let Some(band) = expected.volume else { return Departure { actual, ..Departure::default() } };
    let (n, m) = band.nearest(logs, minutes);
    Departure { typical: Some(m / minutes), actual, distance: count_distance(n, m, expected.spread) }
}

fn errors(sums: Sums, expected: &Expected) -> Departure {
    let actual = sums.error_rate();
    let Some(usual) = expected.errors else { return Departure { actual, ..Departure::default() } };
    let distance = count_distance(sums.errors as f64, usual.rate * sums.logs as f64, expected.error_spread);
    Departure { typical: Some(usual.rate), actual, distance: if sums.logs > 0 { distance } else { 0.0 } }
}

fn length(view: &View<'_>) -> Departure {
    let (actual, usual) = (view.window.avg_message_length(), view.normal.length);
    if !usual.is_known() {
        return Departure { actual, ..Departure::default() };
    }
    let off = (actual - usual.level).abs() / usual.deviation.max(f64::MIN_POSITIVE);
    Departure { typical: Some(usual.level), actual, distance: if view.window.logs > 0 { off } else { 0.0 } }
}

/// Each feature's part in the squared distance from what is usual; all 0 where nothing is unusual.
pub fn shares(features: &[Departure]) -> Vec<f64> {
    let squares: Vec<f64> = features.iter().map(|feature| feature.distance * feature.distance).collect();
    let total: f64 = squares.iter().sum();
    let is_sane = total.is_finite() && total > 0.0;
    squares.iter().map(|square| if is_sane { square / total } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compared_are_features() {
        let names = crate::features::names();
        assert!(COMPARED.iter().all(|name| names.contains(name)), "{names:?}");
    }

    #[test]
    fn shares_are_those_of_the_squared_distance() {
        let of = |distance| Departure { distance, ..Departure::default() };
        assert_eq!(shares(&[of(3.0), of(4.0), of(0.0)]), [0.36, 0.64, 0.0]);
        assert_eq!(shares(&[of(0.0), of(0.0)]), [0.0, 0.0]);
        assert_eq!(shares(&[of(f64::INFINITY), of(1.0)]), [0.0, 0.0]);
    }
}
