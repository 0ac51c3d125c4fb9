//! History without text: the sums that a stretch of traffic would add up to, some hundred times faster.
//!
//! What agrees with the text of the same settings, and how far:
//!
//! | number | agreement |
//! |---|---|
//! | logs and errors of each service in each second | equal: both come from the same draw |
//! | message characters | same distribution: drawn per line from 4,096 rendered lengths of the service, beyond 24 lines from the normal distribution with their mean and variance |
//!
//! Not in the sums: the few start-up lines of a deployment differ in length, one odd form is a character longer, and
//! lines of a wrong clock are counted at their true second. Malformed lines are no logs here either.

use crate::config::GeneratorConfig;
use crate::error::{GeneratorError, refuse};
use crate::line::{latency_ms, uniform};
use crate::model::{Cell, Cells, Model, Service, error_line, usual_line};
use crate::rng::{Purpose, Rng, keyed};
use crate::templates::Context;
use rand::Rng as _;
use rand_distr::{Distribution, StandardNormal};
use smartlog_schema::level::Level;
use smartlog_schema::sums::Sums;
use smartlog_schema::window::floor_to;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Rendered lengths kept of each sort of line.
const SAMPLES: usize = 4096;
/// Up to that many lines each length is drawn by itself.
const ONE_BY_ONE: u32 = 24;
/// Up to that many services each has lengths of its own; beyond, those of a family and a like latency share them.
const OWN_LENGTHS: usize = 100;

/// Sums of one service in one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SumsRow {
    /// Index of the service: see [`History::services`].
    pub service: usize,
    /// Epoch second in which the bucket starts.
    pub bucket: i64,
    /// What the service wrote in it.
    pub sums: Sums,
}

/// Iterates over the sums, bucket by bucket and within a bucket service by service; empty ones are left out.
#[derive(Debug)]
pub struct History {
    model: Arc<Model>,
    cells: Cells,
    lengths: Vec<Arc<ServiceLengths>>,
    /// Seconds still to come; the first is a bucket's start but for a cut first bucket.
    seconds: Range<i64>,
    grain: i64,
    bucket: Range<i64>,
    next_service: usize,
}

impl History {
    /// The sums of `config`'s traffic in its whole duration, in buckets of `grain` seconds (1 for seconds, 60 for
    /// minutes).
    ///
    /// # Errors
    /// When a setting cannot be worked with; the duration must have an end.
    pub fn new(config: GeneratorConfig, grain: u32) -> Result<History, GeneratorError> {
        if grain == 0 {
            return Err(refuse("grain", "0 s", "give at least 1"));
        }
        if config.duration.is_none() {
            return Err(refuse("duration", "none", "a history needs an end: set it"));
        }
        let (first, end) = config.seconds();
        let model = Model::new(config)?;
        let cells = Cells::new(Arc::clone(&model));
        let lengths = lengths(&model);
        let mut history = History {
            model,
            cells,
            lengths,
            seconds: first..end,
            grain: i64::from(grain),
            bucket: first..first,
            next_service: 0,
        };
        history.open_bucket();
        Ok(history)
    }

    /// Names of the services, by index.
    pub fn services(&self) -> impl ExactSizeIterator<Item = &str> {
        self.model.services.iter().map(|service| service.config.name.as_str())
    }

    fn open_bucket(&mut self) {
        let start = self.seconds.start;
        let end = (floor_to(start, self.grain) + self.grain).min(self.seconds.end);
        self.bucket = start..end;
        self.seconds.start = end;
        self.next_service = 0;
    }

    fn sums(&mut self, service: usize) -> Sums {
        let mut sums = Sums::default();
        for second in self.bucket.clone() {
            let cell = self.cells.draw(service, second);
            if cell.lines() > 0 {
                let seed = self.model.config.seed;
                let mut rng = keyed(seed, Purpose::History, service as u64, second as u64);
                sums += Sums {
                    logs: i64::from(cell.lines()),
                    errors: i64::from(cell.errors + cell.pattern),
                    message_chars: self.lengths[service].draw(&self.model, &cell, &mut rng),
                };
            }
        }
        sums
    }
}

impl Iterator for History {
    type Item = SumsRow;

    fn next(&mut self) -> Option<SumsRow> {
        loop {
            while self.next_service < self.model.services.len() {
                let service = self.next_service;
                self.next_service += 1;
                let sums = self.sums(service);
                if !sums.is_empty() {
                    return Some(SumsRow { service, bucket: floor_to(self.bucket.start, self.grain), sums });
                }
            }
            if self.seconds.is_empty() {
                return None;
            }
            self.open_bucket();
        }
    }
}

/// Message lengths of one sort of line, in characters.
#[derive(Debug)]
struct Lengths {
    samples: Vec<u32>,
    mean: f64,
    deviation: f64,
}

/// Message lengths of one service.
#[derive(Debug)]
struct ServiceLengths {
    usual: Lengths,
    error: Lengths,
    long: Lengths,
}

impl Lengths {
    fn new(samples: Vec<u32>) -> Self {
        let count = samples.len() as f64;
        let mean = samples.iter().map(|&s| f64::from(s)).sum::<f64>() / count;
        let variance = samples.iter().map(|&s| (f64::from(s) - mean).powi(2)).sum::<f64>() / count;
        Lengths { samples, mean, deviation: variance.sqrt() }
    }

    /// Characters of `lines` messages together.
    fn draw(&self, lines: u32, rng: &mut Rng) -> i64 {
        if lines <= ONE_BY_ONE {
            let one = |_| i64::from(self.samples[rng.random_range(0..self.samples.len())]);
            return (0..lines).map(one).sum();
        }
        let normal: f64 = StandardNormal.sample(rng);
        let lines = f64::from(lines);
        (lines * self.mean + lines.sqrt() * self.deviation * normal).round().max(lines) as i64
    }
}

impl ServiceLengths {
    fn new(model: &Model, service: &Service) -> Self {
        let family = service.config.family;
        let catalogue = &model.catalogue;
        let mut rng =
            keyed(model.config.seed, Purpose::Lengths, family as u64, service.config.latency_ms.to_bits());
        let mut rendered = |pick: &dyn Fn(f64, f64) -> (Level, u32)| {
            // Evenly spread choices (a Kronecker sequence) instead of random ones: no error from the mix of templates.
            const GOLDEN: f64 = 0.618_033_988_749_894_8;
            let at = |i: usize| ((i as f64 + 0.5) / SAMPLES as f64, (i as f64 * GOLDEN).fract());
            let one = |i| {
                let (level, template) = pick(at(i).0, at(i).1);
                message_chars(model, service, level, template, &mut rng)
            };
            Lengths::new((0..SAMPLES).map(one).collect())
        };
        ServiceLengths {
            usual: rendered(&|level, text| usual_line(catalogue, family, level, text)),
            error: rendered(&|level, text| error_line(catalogue, family, level, text)),
            long: rendered(&|_, text| (Level::Info, catalogue.long(family, text))),
        }
    }

    fn draw(&self, model: &Model, cell: &Cell, rng: &mut Rng) -> i64 {
        let mut chars = self.usual.draw(cell.usual, rng) + self.error.draw(cell.errors, rng);
        chars += self.long.draw(cell.long, rng);
        for _ in 0..cell.pattern {
            let context = Context { duration_ms: 1, user: 0, service: "", service_chars: 0 };
            chars +=
                i64::from(model.catalogue.get(cell.pattern_template).render(rng, &context, &mut Vec::new()));
        }
        chars
    }
}

fn message_chars(model: &Model, service: &Service, level: Level, template: u32, rng: &mut Rng) -> u32 {
    let duration_ms = latency_ms(service.config.latency_ms, level, rng);
    let user = (uniform(rng) * 50_000.0) as u64;
    let context = Context { duration_ms, user, service: &service.escaped, service_chars: service.name_chars };
    model.catalogue.get(template).render(rng, &context, &mut Vec::new())
}

fn lengths(model: &Model) -> Vec<Arc<ServiceLengths>> {
    let own = model.services.len() <= OWN_LENGTHS;
    let mut known = HashMap::new();
    let of = |service: &Service| {
        let latency = service.config.latency_ms;
        let like = if own { latency.to_bits() } else { latency.log2().round() as u64 };
        let made = known.entry((service.config.family, like));
        Arc::clone(made.or_insert_with(|| Arc::new(ServiceLengths::new(model, service))))
    };
    model.services.iter().map(of).collect()
}
