//! Models in the running program: how the dataflow asks them, where they come from, how new ones come to be.
//!
//! ```text
//!   registry ── every 30 s ─▶ follower ── ModelOrder ─▶ dataflow ─▶ scores, swaps
//!                               ▲  └──── model_status, metrics
//!   feature rows ─▶ learner ────┘ first forest after warm-up, then daily
//! ```

pub mod follow;
pub mod learn;
pub mod status;

use crate::config::Config;
use anyhow::Context as _;
use prometheus_client::metrics::histogram::Histogram;
use smartlog_models::{Bundle, BundleError, registry};
use smartlog_operators::feature_rows::FeatureRow;
use smartlog_operators::features::{self, WIDTH};
use smartlog_operators::record::Epoch;
use smartlog_operators::score::{Loader, Model, ModelOrder, Scored};
use smartlog_schema::model::Role;
use std::sync::Arc;
use std::time::Instant;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

/// Is handed the feature rows of the whole set, on worker 0 of process 0. Must not block.
pub type Tap = Arc<dyn Fn(&mut Vec<FeatureRow>) + Send + Sync>;

/// What the dataflow does with feature rows. Without it none are made.
#[derive(Clone)]
pub struct Scoring {
    /// How long after they are final windows are taken, seconds: 0 to serve, `max_lateness` to train.
    pub lag: i64,
    /// Who else wants the rows. There always is one: processes of a set must build the same dataflow, and only one learns.
    pub tap: Tap,
}

impl Default for Scoring {
    fn default() -> Self {
        Scoring { lag: 0, tap: Arc::new(|_: &mut Vec<FeatureRow>| ()) }
    }
}

/// A bundle, as the dataflow asks it, and what its answers take.
struct Serving {
    bundle: Bundle,
    took: Histogram,
}

impl Model for Serving {
    fn score(&self, service: &str, values: &[f64; WIDTH]) -> Option<Scored> {
        let began = Instant::now();
        let scored = self.bundle.score(service, values);
        self.took.observe(began.elapsed().as_secs_f64());
        let smartlog_models::Scored { score, threshold, alert_threshold } = scored?;
        Some(Scored { score, threshold, alert_threshold })
    }

    fn shares(&self, service: &str, values: &[f64; WIDTH]) -> Option<Vec<f64>> {
        self.bundle.explain(service, values)
    }

    fn hold(&self) -> i64 {
        self.bundle.origin.hold_seconds
    }
}

/// Reads a stored bundle, and refuses one that does not fit this program.
///
/// # Errors
/// What does not fit.
pub fn read_bundle(bytes: &[u8]) -> Result<Bundle, BundleError> {
    let bundle = Bundle::from_bytes(bytes)?;
    bundle.check_features(&features::names())?;
    Ok(bundle)
}

/// The champion that `model`, an alias or a version's number, would be.
///
/// # Errors
/// A registry that does not answer, or has no such model, or one that does not fit this program.
pub fn ordered(config: &Config, model: &str) -> anyhow::Result<ModelOrder> {
    let registry = registry::open(&config.models.registry())?;
    let version = registry.resolve(model)?;
    let bytes = registry.bundle(&version)?;
    read_bundle(&bytes).with_context(|| format!("model version {}", version.version))?;
    let digest = Bundle::digest_of(&bytes);
    Ok(ModelOrder { role: Role::Champion, version: version.version, digest, bytes, resumed: false })
}

/// The model of an order, as the dataflow asks it.
///
/// # Errors
/// What does not fit this program.
pub fn served(order: &ModelOrder) -> Result<Arc<dyn Model>, BundleError> {
    serving(order, Histogram::new(std::iter::empty()))
}

fn serving(order: &ModelOrder, took: Histogram) -> Result<Arc<dyn Model>, BundleError> {
    Ok(Arc::new(Serving { bundle: read_bundle(&order.bytes)?, took }))
}

/// How workers read the models that are ordered. What scoring takes is observed by `took`, in seconds.
pub fn loader(took: Histogram) -> Loader {
    Arc::new(move |order: &ModelOrder| {
        let read = serving(order, took.clone());
        read.inspect_err(|fault| {
            tracing::error!("model version {} is refused, the old one stays: {fault}", order.version);
        })
        .ok()
    })
}

/// Hands the rows to `tap`.
pub fn tapped<'scope>(rows: StreamVec<'scope, Epoch, FeatureRow>, tap: Tap) {
    let mut builder = OperatorBuilder::new("feature_tap".to_owned(), rows.scope());
    let mut rows = builder.new_input(rows, Exchange::new(|_: &FeatureRow| 0));
    builder.build(move |_| {
        move |_frontiers| {
            rows.for_each(|_, data| {
                tap(data);
                data.clear();
            });
        }
    });
}

/// A row as models are fitted on.
pub fn training_row(row: &FeatureRow) -> smartlog_models::rows::Row {
    smartlog_models::rows::Row {
        end: row.end,
        service: row.service.to_string(),
        values: row.values().to_vec(),
    }
}
