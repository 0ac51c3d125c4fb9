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
use smartlog_models::{Bundle, registry};
use smartlog_operators::feature_rows::FeatureRow;
use smartlog_operators::features::{Columns, WIDTH};
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
    /// Whether what else wants the rows looks at their patterns; models that are ordered say so themselves.
    pub counts_patterns: bool,
    /// Who else wants the rows. There always is one: processes of a set must build the same dataflow, and only one learns.
    pub tap: Tap,
}

impl Default for Scoring {
    fn default() -> Self {
        Scoring { lag: 0, counts_patterns: false, tap: Arc::new(|_: &mut Vec<FeatureRow>| ()) }
    }
}

/// A bundle, as the dataflow asks it, and what its answers take.
struct Serving {
    bundle: Bundle,
    columns: Columns,
    took: Histogram,
}

impl Model for Serving {
    fn columns(&self) -> &Columns {
        &self.columns
    }

    fn score(&self, service: &str, values: &[f64; WIDTH]) -> Option<Scored> {
        let began = Instant::now();
        let scored = self.bundle.score(service, self.columns.pick(values, &mut [0.0; WIDTH]));
        self.took.observe(began.elapsed().as_secs_f64());
        let smartlog_models::Scored { score, threshold, alert_threshold } = scored?;
        Some(Scored { score, threshold, alert_threshold })
    }

    fn shares(&self, service: &str, values: &[f64; WIDTH]) -> Option<Vec<f64>> {
        self.bundle.explain(service, self.columns.pick(values, &mut [0.0; WIDTH]))
    }

    fn hold(&self) -> i64 {
        self.bundle.origin.hold_seconds
    }
}

/// Reads a stored bundle and what it looks at, and refuses one that does not fit this program.
///
/// # Errors
/// What does not fit.
pub fn read_bundle(bytes: &[u8]) -> anyhow::Result<(Bundle, Columns)> {
    let bundle = Bundle::from_bytes(bytes)?;
    let columns = Columns::of(&bundle.features)
        .map_err(|fault| anyhow::anyhow!("{fault}; train one with this program (smartlog train)"))?;
    Ok((bundle, columns))
}

/// Refuses to have a model look at patterns that nobody counts.
///
/// # Errors
/// Which feature it is, and what to set.
pub fn check_counted(columns: &Columns, has_patterns: bool) -> anyhow::Result<()> {
    match columns.of_patterns().filter(|_| !has_patterns) {
        None => Ok(()),
        Some(feature) => anyhow::bail!("the model looks at {feature}, which needs patterns.enabled = true"),
    }
}

/// The champion that `model`, an alias or a version's number, would be.
///
/// # Errors
/// A registry that does not answer, or has no such model, or one that does not fit this program.
pub fn ordered(config: &Config, model: &str) -> anyhow::Result<ModelOrder> {
    let registry = registry::open(&config.models.registry())?;
    let version = registry.resolve(model)?;
    let bytes = registry.bundle(&version)?;
    let fits = || {
        let (_, columns) = read_bundle(&bytes)?;
        check_counted(&columns, config.patterns.enabled)?;
        Ok::<_, anyhow::Error>(columns.of_patterns().is_some())
    };
    let is_of_patterns = fits().with_context(|| format!("model version {}", version.version))?;
    let digest = Bundle::digest_of(&bytes);
    let (role, version) = (Role::Champion, version.version);
    Ok(ModelOrder { role, version, digest, bytes, is_of_patterns, resumed: false })
}

/// The model of an order, as the dataflow asks it.
///
/// # Errors
/// What does not fit this program.
pub fn served(order: &ModelOrder) -> anyhow::Result<Arc<dyn Model>> {
    serving(order, Histogram::new(std::iter::empty()))
}

fn serving(order: &ModelOrder, took: Histogram) -> anyhow::Result<Arc<dyn Model>> {
    let (bundle, columns) = read_bundle(&order.bytes)?;
    Ok(Arc::new(Serving { bundle, columns, took }))
}

/// How workers read the models that are ordered. What scoring takes is observed by `took`, in seconds.
pub fn loader(took: Histogram) -> Loader {
    Arc::new(move |order: &ModelOrder| {
        let read = serving(order, took.clone());
        read.inspect_err(|fault| {
            tracing::error!("model version {} is refused, the old one stays: {fault:#}", order.version);
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

/// A row as models of these columns are fitted on.
pub fn training_row(row: &FeatureRow, columns: &Columns) -> smartlog_models::rows::Row {
    smartlog_models::rows::Row {
        end: row.end,
        service: row.service.to_string(),
        values: columns.pick(&row.values(), &mut [0.0; WIDTH]).to_vec(),
    }
}
