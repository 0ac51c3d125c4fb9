//! Rows → a fitted model with all that is logged of it.

use crate::sources::wall_us;
use smartlog_models::evaluate::{Report, evaluate};
use smartlog_models::export::model_folder;
use smartlog_models::fit::{Settings, fit};
use smartlog_models::plots::{importances, plots};
use smartlog_models::registry::DIGEST_TAG;
use smartlog_models::rows::Rows;
use smartlog_models::{ARTIFACT_PATH, Bundle, Run};
use std::collections::BTreeMap;

/// What is to be trained.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// A name for people.
    pub name: String,
    /// Where the history comes from, as it was given.
    pub source: String,
    pub fit: Settings,
}

/// A model, and the run that tells how it came to be.
pub struct Trained {
    pub bundle: Bundle,
    pub digest: String,
    /// `None`: the history is too short to hold any of it out.
    pub report: Option<Report>,
    pub run: Run,
}

impl Trained {
    /// Of the version that is registered of it.
    pub fn tags(&self) -> BTreeMap<String, String> {
        let origin = &self.bundle.origin;
        [
            (DIGEST_TAG, self.digest.clone()),
            ("smartlog.program", origin.program.clone()),
            ("smartlog.rows_digest", origin.rows_digest.clone()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }
}

/// Fits on all of `rows`, after judging the same settings on held-out time.
///
/// # Errors
/// Too few windows, or a bundle that cannot be exported.
pub fn train(rows: &Rows, wanted: &Wanted) -> anyhow::Result<Trained> {
    let started_ms = wall_us() / 1_000;
    let bundle = fit(rows, &wanted.fit, env!("CARGO_PKG_VERSION"))?;
    let report = evaluate(rows, &wanted.fit)
        .inspect_err(|fault| tracing::warn!("nothing could be held out to judge the model on: {fault}"))
        .ok();
    let bytes = bundle.to_bytes()?;
    let digest = Bundle::digest_of(&bytes);
    let model = model_folder(&bundle, &bytes)?.into_iter();
    let model = model.map(|(name, bytes)| (format!("{ARTIFACT_PATH}/{name}"), bytes));
    let run = Run {
        name: wanted.name.clone(),
        started_ms,
        ended_ms: wall_us() / 1_000,
        params: params(&bundle, wanted),
        metrics: metrics(&bundle, report.as_ref(), rows),
        tags: [("smartlog.rows_digest".to_owned(), bundle.origin.rows_digest.clone())].into(),
        artifacts: model.chain(plots(&bundle, rows)).collect(),
    };
    Ok(Trained { bundle, digest, report, run })
}

fn params(bundle: &Bundle, wanted: &Wanted) -> BTreeMap<String, String> {
    let origin = &bundle.origin;
    let time =
        |second| jiff::Timestamp::from_second(second).map_or_else(|_| String::new(), |time| time.to_string());
    [
        ("contamination", origin.contamination.to_string()),
        ("n_estimators", origin.n_estimators.to_string()),
        ("max_samples", origin.max_samples.to_string()),
        ("seed", origin.seed.to_string()),
        ("scoping", bundle.scoping.as_str().to_owned()),
        ("features", bundle.features.join(",")),
        ("since", time(origin.interval.0)),
        ("until", time(origin.interval.1)),
        ("source", wanted.source.clone()),
        ("rows_digest", origin.rows_digest.clone()),
        ("program", origin.program.clone()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

fn metrics(bundle: &Bundle, report: Option<&Report>, rows: &Rows) -> BTreeMap<String, f64> {
    let mut metrics: BTreeMap<String, f64> = [
        ("training_samples", bundle.origin.rows as f64),
        ("threshold", bundle.stream.threshold),
        ("alert_threshold", bundle.stream.alert_threshold),
        ("services", bundle.services.len() as f64),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    for (feature, share) in bundle.features.iter().zip(importances(bundle, rows)) {
        metrics.insert(format!("importance.{feature}"), share);
    }
    let Some(report) = report else { return metrics };
    metrics.extend(
        [
            ("held_out_samples", report.held_out_rows as f64),
            ("held_out_flagged_share", report.flagged_share),
            ("held_out_false_episodes_per_day", report.false_episodes_per_day),
            ("injected_recall", report.recall()),
            ("fit_seconds", report.fit.as_secs_f64()),
            ("score_seconds_per_window", report.score.as_secs_f64()),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    for (kind, (found, all)) in &report.injected {
        metrics.insert(
            format!("injected_recall.{}", kind.replace(' ', "_")),
            *found as f64 / (*all).max(1) as f64,
        );
    }
    metrics
}
