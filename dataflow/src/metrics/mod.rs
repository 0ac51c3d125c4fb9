//! What the program says about itself to Prometheus.
//!
//! ```text
//!   gauges and counters that the workers, stores and lanes keep anyway ─┐
//!   episodes, as commits tell of them ──────────────────────────────────┼─▶ one page, made at every scrape
//!   /proc/self ─────────────────────────────────────────────────────────┘
//! ```
//!
//! A scrape reads atomics and short locks that nobody holds while waiting, so `/metrics` answers also while a worker is
//! stalled or a store is down. Every label has a bounded set of values. docs/OPERATIONS.md lists what there is.

pub mod episodes;
mod page;
mod pipeline;
mod process;

use crate::engine::Gauges;
use crate::models::status::Status;
use crate::sources::kafka::Settings;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use smartlog_operators::breakdown::Fills;
use smartlog_operators::patterns;
use smartlog_operators::top_services::Board;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// Bounds of how long a tick may take, seconds: a tick is a tenth of a second by default.
const TICKS_S: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
/// Bounds of how long a model may take for a window, seconds.
const SCORING_S: [f64; 9] = [2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2.5e-4, 1e-3, 1e-2];

/// What the dataflow measures for nobody else. Clones show the same.
#[derive(Debug, Clone)]
pub struct Meters {
    /// From the end of a tick until every worker is done with it, seconds.
    pub tick: Histogram,
    /// What a model took for a window, seconds.
    pub scoring: Histogram,
    /// The largest services by name.
    pub services: Board,
    pub episodes: episodes::Episodes,
    /// What is counted by host and by shape.
    pub breakdown: Fills,
    /// Shapes that services are known to have logged.
    pub known: Arc<AtomicUsize>,
    /// How many patterns there are.
    pub patterns: Arc<patterns::Size>,
}

impl Meters {
    /// `services`: how many are shown by name.
    pub fn new(services: usize) -> Self {
        Meters {
            tick: Histogram::new(TICKS_S),
            scoring: Histogram::new(SCORING_S),
            services: Board::new(services),
            episodes: episodes::Episodes::default(),
            breakdown: Fills::default(),
            known: Arc::default(),
            patterns: Arc::default(),
        }
    }
}

/// The registry of one process.
pub struct Metrics(Registry);

impl Metrics {
    /// Of a process that runs the pipeline. `models`: where models are followed.
    pub fn new(gauges: Gauges, kafka: Option<Arc<Settings>>, models: Option<Arc<Status>>) -> Self {
        let mut metrics = Self::of_process();
        metrics.0.register_collector(Box::new(pipeline::Pipeline { gauges, kafka, models }));
        metrics
    }

    /// Of a process that does not: what it is, and what it takes.
    pub fn of_process() -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(process::Process));
        Metrics(registry)
    }
}

impl smartlog_api::MetricsSource for Metrics {
    fn encode(&self, out: &mut String) -> fmt::Result {
        prometheus_client::encoding::text::encode_registry(out, &self.0)
    }
}
