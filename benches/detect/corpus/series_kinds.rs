//! The kinds of count series, after those of the Numenta benchmark: requests at a load balancer, tweets that name a
//! company, taxi rides of a city. Made here from scratch; no row of theirs.
//!
//! ```text
//!   count(row) = Poisson( mean × season(row) × noise(row) × what is odd(row) )
//! ```

use super::series::{Series, Stretch};
use rand::Rng as _;
use rand::seq::SliceRandom as _;
use rand_distr::{Distribution as _, Exp1, Poisson, StandardNormal};
use std::f64::consts::TAU;
use std::ops::Range;

pub type Rng = rand_xoshiro::Xoshiro256PlusPlus;

/// A kind of series.
pub struct Kind {
    pub name: &'static str,
    /// Lines of one, roughly.
    pub lines: u64,
    pub make: fn(&mut Rng) -> Series,
}

pub const KINDS: [Kind; 3] = [
    Kind { name: "requests", lines: 320_000, make: requests },
    Kind { name: "tweets", lines: 350_000, make: tweets },
    Kind { name: "taxi", lines: 900_000, make: taxi },
];

/// What is odd in a series, as far as it is planned: kind, rows it lasts, and how far it bends them as its share goes
/// from 0 to 1.
struct Odd {
    kind: &'static str,
    accepts: &'static str,
    rows: usize,
    bend: Bend,
}

enum Bend {
    /// The count is multiplied.
    Times(f64),
    /// The same, and it decays.
    Decays(f64),
}

impl Odd {
    fn new(kind: &'static str, accepts: &'static str, rows: usize, bend: Bend) -> Self {
        Odd { kind, accepts, rows, bend }
    }

    fn factor(&self, share: f64) -> f64 {
        match self.bend {
            Bend::Times(factor) => factor,
            Bend::Decays(peak) => 1.0 + (peak - 1.0) * (-2.5 * share).exp(),
        }
    }

    fn how(&self) -> String {
        match self.bend {
            Bend::Times(factor) => format!("x{factor:.2} for {} rows", self.rows),
            Bend::Decays(peak) => format!("up to x{peak:.1}, decays over {} rows", self.rows),
        }
    }
}

const SPIKE: &str = "log_volume_spike";
const DROP: &str = "log_volume_drop";

/// Load balancer: 5-minute rows over two weeks, a daily season, bursts.
fn requests(rng: &mut Rng) -> Series {
    let odd = vec![
        Odd::new("surge", SPIKE, rng.random_range(4..=10), Bend::Times(rng.random_range(6.0..9.0))),
        Odd::new("drop", DROP, rng.random_range(6..=24), Bend::Times(rng.random_range(0.0..0.07))),
        Odd::new("silence", DROP, rng.random_range(6..=18), Bend::Times(0.0)),
        Odd::new("level change", SPIKE, rng.random_range(100..=180), Bend::Times(rng.random_range(3.0..4.0))),
    ];
    let peak = rng.random_range(10.0..20.0);
    let season = |hours: f64| {
        let turn = TAU * (hours - peak) / 24.0;
        1.0 + 0.35 * turn.cos() + 0.12 * (2.0 * turn).cos()
    };
    Shape { row_seconds: 300, days: 14, mean: 80.0, noise: 0.25, memory: 0.6, news_per_day: 1.0 }
        .series(rng, &season, odd)
}

/// Tweets: 5-minute rows over a month, a daily season, news that come and decay and are nothing odd.
fn tweets(rng: &mut Rng) -> Series {
    let odd = vec![
        Odd::new("burst", SPIKE, rng.random_range(8..=20), Bend::Decays(rng.random_range(10.0..18.0))),
        Odd::new("burst", SPIKE, rng.random_range(8..=20), Bend::Decays(rng.random_range(8.0..12.0))),
        Odd::new("silence", DROP, rng.random_range(8..=24), Bend::Times(0.0)),
        Odd::new("level change", SPIKE, rng.random_range(150..=288), Bend::Times(rng.random_range(3.0..4.0))),
    ];
    let season = |hours: f64| 1.0 + 0.45 * (TAU * (hours - 16.5) / 24.0).cos();
    Shape { row_seconds: 300, days: 30, mean: 40.0, noise: 0.31, memory: 0.59, news_per_day: 2.0 }
        .series(rng, &season, odd)
}

/// Taxi rides: half-hour rows over three months, a daily and a weekly season, little noise.
fn taxi(rng: &mut Rng) -> Series {
    let odd = vec![
        Odd::new("holiday", DROP, 40, Bend::Times(rng.random_range(0.45..0.6))),
        Odd::new("storm", DROP, rng.random_range(24..=44), Bend::Times(rng.random_range(0.03..0.25))),
        Odd::new("surge", SPIKE, rng.random_range(6..=10), Bend::Times(rng.random_range(2.0..3.0))),
        Odd::new("missing day", DROP, 48, Bend::Times(0.0)),
    ];
    let season = |hours: f64| {
        let day = (hours / 24.0).floor() as i64 % 7;
        let weekend = if day >= 5 { 1.0 } else { 0.0 };
        let turn = TAU * (hours - 18.0 - 3.0 * weekend) / 24.0;
        (1.0 + 0.55 * turn.cos() + 0.3 * (2.0 * turn).cos() * (1.0 - weekend)).max(0.12)
            * (1.0 - 0.08 * weekend)
    };
    Shape { row_seconds: 1800, days: 90, mean: 210.0, noise: 0.04, memory: 0.7, news_per_day: 0.0 }
        .series(rng, &season, odd)
}

/// The usual part of a series.
struct Shape {
    row_seconds: i64,
    days: i64,
    /// Lines a row.
    mean: f64,
    /// Standard deviation of the log of the noise, and how much of it the next row keeps.
    noise: f64,
    memory: f64,
    /// Small bursts a day that are nothing odd: at most a doubling, over within the hour.
    news_per_day: f64,
}

impl Shape {
    fn series(&self, rng: &mut Rng, season: &dyn Fn(f64) -> f64, mut odd: Vec<Odd>) -> Series {
        let rows = (self.days * 86_400 / self.row_seconds) as usize;
        odd.shuffle(rng);
        let factors = self.news(rng, rows);
        let stretches = place(rng, rows, &odd);
        let mut wave = 0.0;
        let fresh = (1.0 - self.memory * self.memory).sqrt();
        let mut counts = Vec::with_capacity(rows);
        for (row, news) in factors.iter().enumerate() {
            let normal: f64 = StandardNormal.sample(rng);
            wave = self.memory * wave + fresh * normal;
            let noise = (self.noise * wave - self.noise * self.noise / 2.0).exp();
            let hours = (row as i64 * self.row_seconds) as f64 / 3600.0;
            let bent = stretches.iter().zip(&odd).find(|(rows, _)| rows.contains(&row));
            let bent = bent.map_or(1.0, |(rows, odd)| {
                odd.factor((row - rows.start) as f64 / (rows.end - rows.start) as f64)
            });
            counts.push(poisson(rng, self.mean * season(hours) * noise * news * bent));
        }
        let stretch = |(rows, odd): (Range<usize>, &Odd)| Stretch {
            rows,
            kind: odd.kind,
            accepts: odd.accepts,
            how: odd.how(),
        };
        Series {
            row_seconds: self.row_seconds,
            counts,
            stretches: stretches.into_iter().zip(&odd).map(stretch).collect(),
        }
    }

    fn news(&self, rng: &mut Rng, rows: usize) -> Vec<f64> {
        let mut factors = vec![1.0; rows];
        if self.news_per_day <= 0.0 {
            return factors;
        }
        let hour = (3600 / self.row_seconds).max(1) as usize;
        let rows_per_day = (86_400 / self.row_seconds) as f64;
        let mut at = 0.0;
        loop {
            let gap: f64 = Exp1.sample(rng);
            at += gap * rows_per_day / self.news_per_day;
            if at as usize >= rows {
                return factors;
            }
            let peak = rng.random_range(1.3..2.0);
            for (step, factor) in factors[at as usize..].iter_mut().take(hour).enumerate() {
                *factor *= 1.0 + (peak - 1.0) * (-3.0 * step as f64 / hour as f64).exp();
            }
        }
    }
}

/// A place for each, in order, apart from each other, after the time for learning.
fn place(rng: &mut Rng, rows: usize, odd: &[Odd]) -> Vec<Range<usize>> {
    let first = rows / 4;
    let part = (rows - first) / odd.len();
    let spot = |(index, odd): (usize, &Odd)| {
        let latest = (part * 4 / 5).saturating_sub(odd.rows).max(1);
        let start = first + index * part + rng.random_range(0..latest);
        start..(start + odd.rows).min(rows)
    };
    odd.iter().enumerate().map(spot).collect()
}

fn poisson(rng: &mut Rng, mean: f64) -> u64 {
    // Fails only for a mean of nothing.
    Poisson::new(mean).map_or(0, |count| count.sample(rng) as u64)
}
