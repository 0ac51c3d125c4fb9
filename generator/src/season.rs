//! How busy a service is at a moment: the daily and weekly season, and the slow bursts on top.
//!
//! ```text
//!   intensity(t) = mean rate × daily(t) × weekly(t) × burst(t) × incidents(t)
//!                              mean 1      mean 1      mean 1     1 when quiet
//! ```
//!
//! All three factors have mean 1 exactly (over a week; for the burst: in expectation at every moment), so a
//! configured rate is the mean rate.

use crate::rng::{Purpose, keyed};
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};
use std::f64::consts::TAU;

/// Share of the daily amplitude that the second (12 h) harmonic has: a dip at lunch, a second peak.
const SECOND_HARMONIC: f64 = 0.3;
/// The weekly wave peaks on Wednesday noon; 1970-01-01 was a Thursday.
const WEEK_PEAK_DAY: f64 = 6.5;

/// Daily and weekly season of one service.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Season {
    /// Amplitude of the daily wave, 0 (flat) to 0.7.
    pub daily: f64,
    /// Hour of the day (UTC) at which the service is busiest.
    pub peak_hour: f64,
    /// Amplitude of the weekly wave, 0 (flat) to 0.7: quiet weekends.
    pub weekly: f64,
}

impl Season {
    /// No season at all.
    pub const FLAT: Season = Season { daily: 0.0, peak_hour: 0.0, weekly: 0.0 };

    /// The factor at epoch second `second`. Its mean over a week is 1: the waves are orthogonal.
    pub fn factor(&self, second: i64) -> f64 {
        let days = second as f64 / 86_400.0;
        let turn = TAU * (days - self.peak_hour / 24.0);
        let daily = 1.0 + self.daily * (turn.cos() + SECOND_HARMONIC * (2.0 * turn + 0.8).cos());
        let weekly = 1.0 + self.weekly * (TAU * (days - WEEK_PEAK_DAY) / 7.0).cos();
        daily * weekly
    }
}

/// A stationary Gaussian wave with mean 0 and variance 1: independent knots, interpolated so that the variance stays 1
/// between them. Remembers the two knots it stands between, so a walk through time draws each knot once.
#[derive(Debug, Clone)]
pub(crate) struct Wave {
    seed: u64,
    /// Which wave of which service.
    key: u64,
    /// Seconds between knots.
    spacing: i64,
    at: i64,
    knots: (f64, f64),
}

impl Wave {
    pub(crate) fn new(seed: u64, service: usize, index: u64, spacing: i64) -> Self {
        Wave { seed, key: (service as u64) << 8 | index, spacing, at: i64::MIN, knots: (0.0, 0.0) }
    }

    pub(crate) fn value(&mut self, second: i64) -> f64 {
        let knot = second.div_euclid(self.spacing);
        if knot != self.at {
            self.knots = (self.knot(knot), self.knot(knot + 1));
            self.at = knot;
        }
        let share = second.rem_euclid(self.spacing) as f64 / self.spacing as f64;
        let (left, right) = (1.0 - share, share);
        (left * self.knots.0 + right * self.knots.1) / left.hypot(right)
    }

    fn knot(&self, knot: i64) -> f64 {
        StandardNormal.sample(&mut keyed(self.seed, Purpose::Knot, self.key, knot as u64))
    }
}

/// The log-normal factor with mean 1 that a standard normal `value` stands for at spread `sigma`.
pub(crate) fn log_normal_factor(value: f64, sigma: f64) -> f64 {
    (sigma * value - sigma * sigma / 2.0).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_season_has_mean_one_over_a_week_and_is_never_negative() {
        for season in [
            Season { daily: 0.7, peak_hour: 3.0, weekly: 0.7 },
            Season { daily: 0.4, peak_hour: 20.0, weekly: 0.1 },
        ] {
            let all: Vec<f64> = (0..7 * 24 * 60).map(|minute| season.factor(minute * 60)).collect();
            let mean = all.iter().sum::<f64>() / all.len() as f64;
            assert!((mean - 1.0).abs() < 1e-9, "{season:?} has mean {mean}");
            assert!(all.iter().all(|&f| f > 0.0), "{season:?} goes below zero");
        }
    }

    #[test]
    fn a_wave_is_standard_normal_at_and_between_knots_and_does_not_depend_on_the_way_there() {
        for offset in [0, 150, 300, 599] {
            let mut wave = Wave::new(11, 3, 0, 600);
            let values: Vec<f64> = (0..20_000).map(|k| wave.value(k * 1200 + offset)).collect();
            let mean = values.iter().sum::<f64>() / 20_000.0;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 20_000.0;
            // 5 standard errors: 1/sqrt(n) for the mean, sqrt(2/n) for the variance.
            assert!(mean.abs() < 5.0 / 20_000f64.sqrt(), "mean {mean} at offset {offset}");
            assert!((variance - 1.0).abs() < 5.0 * (2.0 / 20_000f64).sqrt(), "variance {variance}");
            let mut fresh = Wave::new(11, 3, 0, 600);
            assert_eq!(fresh.value(7 * 1200 + offset).to_bits(), values[7].to_bits());
        }
    }
}
