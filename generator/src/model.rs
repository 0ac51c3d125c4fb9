//! The model of the estate: how many lines of which sort each service writes in each second.
//!
//! ```text
//!   GeneratorConfig ─► Model ─► Cells ──(service, second)──► Cell ─┬─► stream.rs   lines of text
//!                                                                  └─► history.rs  sums without text
//! ```
//!
//! A [`Cell`] is drawn from its own keyed random numbers, so both ways out see the very same counts.

use crate::config::GeneratorConfig;
use crate::deploy::Deployments;
use crate::error::GeneratorError;
use crate::estate::{ServiceConfig, calling_order};
use crate::incidents::{Effect, Incident, IncidentKind};
use crate::plan::PlanInput;
use crate::rng::{Purpose, Rng, keyed};
use crate::season::{Wave, log_normal_factor};
use crate::templates::{Catalogue, Family, escape, novel};
use rand_distr::{Binomial, Distribution, Gamma, Poisson};
use smartlog_schema::level::Level;
use std::sync::Arc;

/// Greatest share of errors, however bad an incident is.
const MOST_ERRORS: f64 = 0.97;
/// Spread of the slow wave of the error share.
const ERROR_BURST: f64 = 0.2;
/// Spread of the fast burst relative to the slow one.
const FAST_BURST: f64 = 0.5;
/// Seconds between knots: slow burst, fast burst, error share.
const KNOTS: [i64; 3] = [600, 30, 900];
/// Shares of levels among the lines without error; the rest is INFO.
const DEBUG_SHARE: f64 = 0.05;
const WARN_SHARE: f64 = 0.04;
/// Share of long lines among those without error.
const LONG_SHARE: f64 = 0.02;
/// Share of FATAL among the errors.
const FATAL_SHARE: f64 = 0.01;

/// A service, ready to use.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) config: ServiceConfig,
    /// Name, JSON-escaped, without quotes.
    pub(crate) escaped: String,
    pub(crate) name_chars: u32,
    /// Mean logs per second.
    pub(crate) rate: f64,
    /// Indexes of the services whose requests it works on.
    pub(crate) callers: Vec<usize>,
    pub(crate) deployments: Deployments,
    /// Positions in the plan of what hits this service.
    pub(crate) incidents: Vec<usize>,
}

/// Everything that is fixed before the first line.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) config: GeneratorConfig,
    pub(crate) services: Vec<Service>,
    /// Service indexes, callers first.
    pub(crate) order: Vec<usize>,
    pub(crate) incidents: Vec<Incident>,
    pub(crate) catalogue: Catalogue,
    /// Template number of each incident's new pattern.
    pub(crate) patterns: Vec<u32>,
}

impl Model {
    pub(crate) fn new(config: GeneratorConfig) -> Result<Arc<Model>, GeneratorError> {
        config.check()?;
        let list = config.services.resolve(config.seed)?;
        let (order, callers) = calling_order(&list)?;
        let incidents = config.incidents.resolve(&PlanInput {
            seed: config.seed,
            services: &list,
            rate_per_s: config.rate_per_s,
            start: config.seconds().0,
            open: config.planned(),
        })?;
        let total: f64 = list.iter().map(|service| service.weight).sum();
        let services = (0..).zip(list).zip(callers).map(|((index, service), callers)| Service {
            escaped: escape(&service.name),
            name_chars: service.name.chars().count() as u32,
            rate: config.rate_per_s * service.weight / total,
            callers,
            deployments: Deployments::new(config.seed, index, config.deploy_every.as_secs()),
            incidents: (0..incidents.len()).filter(|&i| incidents[i].service == index).collect(),
            config: service,
        });
        let services = services.collect();
        let mut catalogue = Catalogue::new();
        let mut novelties = 0..;
        let patterns = incidents.iter().map(|incident| match incident.kind {
            IncidentKind::NewPattern => catalogue.add(novel(novelties.next().unwrap_or(0))),
            _ => 0,
        });
        let patterns = patterns.collect();
        Ok(Arc::new(Model { config, services, order, incidents, catalogue, patterns }))
    }

    /// How `service` is bent at `second`.
    pub(crate) fn effect(&self, service: usize, second: i64) -> Effect {
        let mut effect = Effect::NONE;
        for &index in &self.services[service].incidents {
            self.incidents[index].bend(index, second, &mut effect);
        }
        effect
    }
}

/// How many lines of which sort one service writes in one second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cell {
    /// Lines without error, of the usual mix.
    pub(crate) usual: u32,
    /// Long lines beyond the usual mix.
    pub(crate) long: u32,
    /// Lines of level ERROR or FATAL, of the usual mix.
    pub(crate) errors: u32,
    /// Lines of a new pattern (all ERROR).
    pub(crate) pattern: u32,
    /// Their template.
    pub(crate) pattern_template: u32,
}

impl Cell {
    pub(crate) fn lines(&self) -> u32 {
        self.usual + self.long + self.errors + self.pattern
    }
}

/// Draws cells. Remembers where in its waves each service stands, which saves time and changes nothing.
#[derive(Debug)]
pub(crate) struct Cells {
    model: Arc<Model>,
    waves: Vec<[Wave; 3]>,
}

impl Cells {
    pub(crate) fn new(model: Arc<Model>) -> Self {
        let seed = model.config.seed;
        let wave = |service, index: usize| Wave::new(seed, service, index as u64, KNOTS[index]);
        let waves = (0..model.services.len()).map(|service| [0, 1, 2].map(|index| wave(service, index)));
        let waves = waves.collect();
        Cells { model, waves }
    }

    pub(crate) fn draw(&mut self, service: usize, second: i64) -> Cell {
        let effect = self.model.effect(service, second);
        let about = &self.model.services[service];
        let [slow, fast, faults] = &mut self.waves[service];
        let burst = log_normal_factor(slow.value(second), about.config.burst)
            * log_normal_factor(fast.value(second), about.config.burst * FAST_BURST);
        let mean = about.rate * about.config.season.factor(second) * burst * effect.rate;
        let share = about.config.error_share * log_normal_factor(faults.value(second), ERROR_BURST);
        let share = (share * effect.errors).min(MOST_ERRORS);
        let mut rng = keyed(self.model.config.seed, Purpose::Counts, service as u64, second as u64);
        let lines = over_dispersed(mean, about.config.dispersion, &mut rng);
        let errors = binomial(lines, share, &mut rng);
        let long = binomial(lines - errors, effect.long, &mut rng);
        let (pattern, pattern_template) = effect
            .pattern
            .map_or((0, 0), |(rate, index)| (poisson(rate, &mut rng), self.model.patterns[index]));
        Cell { usual: lines - errors - long, long, errors, pattern, pattern_template }
    }
}

/// A negative binomial count (Poisson with a Gamma-distributed rate): variance `mean + mean² / dispersion`.
fn over_dispersed(mean: f64, dispersion: f64, rng: &mut Rng) -> u32 {
    let factor = Gamma::new(dispersion, 1.0 / dispersion).map_or(1.0, |gamma| gamma.sample(rng));
    poisson(mean * factor, rng)
}

/// A Poisson count; 0 for a mean of 0.
pub(crate) fn poisson(mean: f64, rng: &mut Rng) -> u32 {
    Poisson::new(mean).map_or(0, |poisson| poisson.sample(rng) as u32)
}

fn binomial(trials: u32, share: f64, rng: &mut Rng) -> u32 {
    if trials == 0 || share <= 0.0 {
        return 0;
    }
    Binomial::new(u64::from(trials), share).map_or(0, |binomial| binomial.sample(rng) as u32)
}

/// Level and template of a line without error, decided by two uniform numbers.
pub(crate) fn usual_line(catalogue: &Catalogue, family: Family, level: f64, text: f64) -> (Level, u32) {
    if level < LONG_SHARE {
        return (Level::Info, catalogue.long(family, text));
    }
    let level = match level {
        l if l < LONG_SHARE + DEBUG_SHARE => Level::Debug,
        l if l < LONG_SHARE + DEBUG_SHARE + WARN_SHARE => Level::Warn,
        _ => Level::Info,
    };
    (level, catalogue.choose(family, level, text))
}

/// Level and template of an error, decided by two uniform numbers.
pub(crate) fn error_line(catalogue: &Catalogue, family: Family, level: f64, text: f64) -> (Level, u32) {
    let level = if level < FATAL_SHARE { Level::Fatal } else { Level::Error };
    (level, catalogue.choose(family, level, text))
}
