//! Traffic for a demonstration: a day of back-history, then live traffic in which something happens every minute.
//!
//! ```text
//!   T − 24 h ───────────── history ─────────────► T ──── live ────►
//!      quiet; as sums (seconds) or as text        10 s: first incident, then one a minute
//! ```
//!
//! Both sides are the same model at the same rate, so what is learnt from the history holds for the live traffic.

use crate::config::GeneratorConfig;
use crate::error::{GeneratorError, refuse};
use crate::history::History;
use crate::plan::IncidentPlan;
use crate::stream::Generator;
use jiff::{SignedDuration, Timestamp};

/// A demonstration around one moment.
#[derive(Debug, Clone)]
pub struct Demo {
    live: GeneratorConfig,
    history: SignedDuration,
}

impl Demo {
    /// A demonstration that goes live at `at`, at `rate_per_s` logs per second: the expected rate at that very moment,
    /// so that the season does not surprise whoever started it.
    ///
    /// Incidents are planned for a week (10,000 of them); see [`Generator::plan`] for when each starts.
    ///
    /// # Errors
    /// When a setting cannot be worked with.
    pub fn new(seed: u64, at: Timestamp, rate_per_s: f64) -> Result<Demo, GeneratorError> {
        let mut live = GeneratorConfig {
            seed,
            start: at,
            duration: None,
            rate_per_s,
            incidents: IncidentPlan::Demo,
            ..GeneratorConfig::default()
        };
        live.check()?;
        let services = live.services.resolve(seed)?;
        let total: f64 = services.iter().map(|service| service.weight).sum();
        let now: f64 = services.iter().map(|s| s.weight * s.season.factor(at.as_second())).sum();
        live.rate_per_s = rate_per_s * total / now;
        live.check()?;
        Ok(Demo { live, history: SignedDuration::from_hours(24) })
    }

    /// The same with `history` of back-history instead of 24 hours.
    pub fn with_history(self, history: SignedDuration) -> Demo {
        Demo { history, ..self }
    }

    /// The live traffic from `at` on, without end, with its incidents.
    ///
    /// # Errors
    /// When a setting cannot be worked with.
    pub fn live(&self) -> Result<Generator, GeneratorError> {
        Generator::new(self.live.clone())
    }

    /// The back-history as lines of text; at 1,000 logs/s that is 86 million lines.
    ///
    /// # Errors
    /// When a setting cannot be worked with.
    pub fn history_text(&self) -> Result<Generator, GeneratorError> {
        Generator::new(self.quiet()?)
    }

    /// The back-history as sums in buckets of `grain` seconds: what the text would add up to, within seconds.
    ///
    /// # Errors
    /// When a setting cannot be worked with.
    pub fn history_sums(&self, grain: u32) -> Result<History, GeneratorError> {
        History::new(self.quiet()?, grain)
    }

    /// Settings of the live traffic.
    pub fn config(&self) -> &GeneratorConfig {
        &self.live
    }

    fn quiet(&self) -> Result<GeneratorConfig, GeneratorError> {
        let at = Timestamp::from_second(self.live.start.as_second()).unwrap_or(self.live.start);
        let start = at
            .checked_sub(self.history)
            .map_err(|_| refuse("history", format!("{:#}", self.history), "begin the history after 1970"))?;
        Ok(GeneratorConfig {
            start,
            duration: Some(self.history),
            incidents: IncidentPlan::None,
            ..self.live.clone()
        })
    }
}
