//! Figures of many cases, and how sure they are.
//!
//! Proportions have Wilson's interval (Wilson 1927); the rest a percentile bootstrap over cases, which are what is
//! independent (Efron & Tibshirani 1993, chapter 13). A single case is resampled by incident, its false episodes as a
//! Poisson count.

use crate::judge::{Fate, Judgement};
use rand::Rng as _;
use rand::SeedableRng as _;
use rand_distr::{Distribution as _, Poisson};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};

/// Resamplings.
const ROUNDS: usize = 2000;
/// 97.5 % quantile of the normal distribution: all intervals are of 95 %.
const Z: f64 = 1.959_963_984_540_054;

/// A number and its interval; all `None` when there is nothing to tell it from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    pub value: Option<f64>,
    pub low: Option<f64>,
    pub high: Option<f64>,
}

/// How detection went over some cases.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    pub cases: usize,
    pub incidents: usize,
    pub found: usize,
    /// Found, and named rightly.
    pub named: usize,
    pub fragments: usize,
    pub false_episodes: usize,
    pub service_days: f64,
    pub services: usize,
    pub precision: Estimate,
    pub recall: Estimate,
    pub f1: Estimate,
    pub false_per_service_day: Estimate,
    /// Seconds.
    pub median_delay: Estimate,
}

/// What one case adds.
#[derive(Debug, Clone, Default)]
struct Part {
    incidents: f64,
    found: f64,
    false_episodes: f64,
    service_days: f64,
    delays: Vec<f64>,
}

impl Part {
    fn of(judgement: &Judgement) -> Self {
        let delays: Vec<f64> =
            judgement.fates.iter().filter_map(|fate| fate.delay).map(|d| d as f64).collect();
        Part {
            incidents: judgement.fates.len() as f64,
            found: delays.len() as f64,
            false_episodes: judgement.false_episodes.len() as f64,
            service_days: judgement.service_days,
            delays,
        }
    }

    fn add(&mut self, other: &Part) {
        self.incidents += other.incidents;
        self.found += other.found;
        self.false_episodes += other.false_episodes;
        self.service_days += other.service_days;
        self.delays.extend(&other.delays);
    }

    fn f1(&self) -> Option<f64> {
        // The harmonic mean of precision and recall, without their divisions by nothing.
        let all = self.found + self.false_episodes + self.incidents;
        (self.incidents > 0.0).then(|| 2.0 * self.found / all)
    }

    fn rate(&self) -> Option<f64> {
        (self.service_days > 0.0).then(|| self.false_episodes / self.service_days)
    }

    fn median_delay(&mut self) -> Option<f64> {
        self.delays.sort_by(f64::total_cmp);
        quantile(&self.delays, 0.5)
    }
}

/// The figures of `judgements`, one a case.
pub fn figures(judgements: &[Judgement]) -> Figures {
    let parts: Vec<Part> = judgements.iter().map(Part::of).collect();
    let mut total = parts.iter().fold(Part::default(), |mut sum, part| {
        sum.add(part);
        sum
    });
    let mut drawn: [Vec<f64>; 3] = Default::default();
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    for _ in 0..ROUNDS {
        let mut sample = match (parts.as_slice(), judgements) {
            ([_], [judgement]) => resampled(judgement, &mut rng),
            _ => resampled_cases(&parts, &mut rng),
        };
        let values = [sample.f1(), sample.rate(), sample.median_delay()];
        drawn.iter_mut().zip(values).for_each(|(drawn, value)| drawn.extend(value));
    }
    let [f1, rate, delay] = drawn;
    let fates = || judgements.iter().flat_map(|judgement| &judgement.fates);
    Figures {
        cases: judgements.len(),
        incidents: fates().count(),
        found: fates().filter(|fate| fate.delay.is_some()).count(),
        named: fates().filter(|fate| fate.is_named).count(),
        fragments: fates().map(|fate| fate.fragments).sum(),
        false_episodes: judgements.iter().map(|judgement| judgement.false_episodes.len()).sum(),
        service_days: total.service_days,
        services: judgements.iter().map(|judgement| judgement.services).sum(),
        precision: wilson(total.found, total.found + total.false_episodes),
        recall: wilson(total.found, total.incidents),
        f1: between(total.f1(), f1),
        false_per_service_day: between(total.rate(), rate),
        median_delay: between(total.median_delay(), delay),
    }
}

fn resampled_cases(parts: &[Part], rng: &mut Xoshiro256PlusPlus) -> Part {
    let mut sample = Part::default();
    (0..parts.len()).for_each(|_| sample.add(&parts[rng.random_range(0..parts.len())]));
    sample
}

fn resampled(judgement: &Judgement, rng: &mut Xoshiro256PlusPlus) -> Part {
    let fates: Vec<&Fate> = judgement.fates.iter().collect();
    let drawn: Vec<&Fate> = (0..fates.len()).map(|_| fates[rng.random_range(0..fates.len())]).collect();
    let delays: Vec<f64> = drawn.iter().filter_map(|fate| fate.delay).map(|d| d as f64).collect();
    let mean = judgement.false_episodes.len() as f64;
    Part {
        incidents: drawn.len() as f64,
        found: delays.len() as f64,
        // Fails only for a mean of nothing.
        false_episodes: Poisson::new(mean).map_or(0.0, |count| count.sample(rng)),
        service_days: judgement.service_days,
        delays,
    }
}

fn between(value: Option<f64>, mut drawn: Vec<f64>) -> Estimate {
    drawn.sort_by(f64::total_cmp);
    Estimate { value, low: quantile(&drawn, 0.025), high: quantile(&drawn, 0.975) }
}

/// The value of `sorted` below which `share` of them lie, interpolated.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let at = share * sorted.len().checked_sub(1)? as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    Some(low + (high - low) * at.fract())
}

/// Wilson's interval of a proportion.
fn wilson(hits: f64, of: f64) -> Estimate {
    if of == 0.0 {
        return Estimate::default();
    }
    let share = hits / of;
    let center = share + Z * Z / (2.0 * of);
    let reach = Z * (share * (1.0 - share) / of + Z * Z / (4.0 * of * of)).sqrt();
    let scale = 1.0 + Z * Z / of;
    Estimate {
        value: Some(share),
        low: Some(((center - reach) / scale).max(0.0)),
        high: Some(((center + reach) / scale).min(1.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::False;

    fn judgement(found: usize, missed: usize, false_episodes: usize) -> Judgement {
        let fate = |delay| Fate {
            kind: "silence".into(),
            service: "a".into(),
            start: 0,
            how: String::new(),
            accepts: Vec::new(),
            delay,
            is_named: delay.is_some(),
            fragments: 0,
        };
        let wrong = False {
            service: "a".into(),
            anomaly_type: "log_volume_drop".into(),
            at: 0,
            description: String::new(),
        };
        Judgement {
            fates: (0..found)
                .map(|n| fate(Some(n as i64 * 10)))
                .chain((0..missed).map(|_| fate(None)))
                .collect(),
            false_episodes: vec![wrong; false_episodes],
            service_days: 2.0,
            services: 2,
        }
    }

    #[test]
    fn wilson_as_published() {
        // Newcombe 1998, table I, "score, no continuity correction": 81 of 263.
        let Estimate { low, high, .. } = wilson(81.0, 263.0);
        assert!((low.unwrap() - 0.2553).abs() < 5e-5 && (high.unwrap() - 0.3662).abs() < 5e-5);
        assert_eq!(wilson(0.0, 20.0).low, Some(0.0));
    }

    #[test]
    fn figures_are_those_of_all_cases_together() {
        let figures = figures(&[judgement(3, 1, 1), judgement(1, 1, 0)]);
        assert_eq!((figures.incidents, figures.found, figures.false_episodes), (6, 4, 1));
        assert_eq!(figures.precision.value, Some(0.8));
        assert_eq!(figures.recall.value, Some(4.0 / 6.0));
        let (p, r) = (0.8, 4.0 / 6.0);
        assert!((figures.f1.value.unwrap() - 2.0 * p * r / (p + r)).abs() < 1e-12);
        assert_eq!(figures.false_per_service_day.value, Some(0.25));
        assert_eq!(figures.median_delay.value, Some(5.0));
    }

    #[test]
    fn the_interval_of_equal_cases_is_a_point_and_of_unlike_ones_is_not() {
        let equal = figures(&vec![judgement(3, 1, 1); 10]).f1;
        assert_eq!((equal.low, equal.high), (equal.value, equal.value));
        let unlike = figures(&[judgement(4, 0, 0), judgement(0, 4, 3), judgement(2, 2, 1)]).f1;
        assert!(unlike.low < unlike.value && unlike.value < unlike.high, "{unlike:?}");
    }

    #[test]
    fn one_case_has_an_interval_of_its_incidents() {
        let one = figures(&[judgement(5, 4, 2)]);
        assert!(one.f1.low < one.f1.value && one.f1.value < one.f1.high);
    }

    #[test]
    fn nothing_to_find_has_no_recall() {
        let quiet = figures(&[judgement(0, 0, 3)]);
        assert_eq!((quiet.f1.value, quiet.recall.value), (None, None));
        assert_eq!(quiet.false_per_service_day.value, Some(1.5));
    }
}
