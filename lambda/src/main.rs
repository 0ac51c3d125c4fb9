//! The function `log-processor`: keeps `daily_summaries` equal to a recount of the exported files.
//!
//! ```text
//!  PUT of a file, manifest or episodes ─▶ event.rs ─▶ handler.rs ─▶ object.rs: what is it?
//!                                                        │
//!                        parquet.rs ◀─ bucket.rs ◀── reconcile.rs ──▶ store.rs ─▶ daily_summaries
//!                     columns by ranges              what must change            summary_contributions
//! ```
//!
//! What it is started with: `SMARTLOG_SUMMARIES_TABLE`, `SMARTLOG_CONTRIBUTIONS_TABLE`, `SMARTLOG_EXPORT_PREFIX`, and what
//! Lambda itself sets. `AWS_ENDPOINT_URL` leads it to other servers than AWS's.

mod bucket;
mod config;
mod contribution;
mod event;
mod failure;
mod handler;
mod manifest;
mod object;
mod parquet;
mod reconcile;
mod store;
mod usage;

use std::sync::Mutex;
use std::time::Instant;

use jiff::Timestamp;
use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::Value;
use tracing::warn;

use crate::config::Config;
use crate::reconcile::Reconciler;
use crate::usage::Used;

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let started = Instant::now();
    tracing_subscriber::fmt().json().with_current_span(false).with_ansi(false).init();
    let config = Config::from_environment()?;
    let reconciler = Reconciler { s3: config.s3(), store: config.store() };
    let init_ms = Mutex::new(Some(started.elapsed().as_secs_f64() * 1000.0));
    let (config, reconciler, init_ms) = (&config, &reconciler, &init_ms);
    let call = move |event: LambdaEvent<Value>| async move {
        let first = init_ms.lock().ok().and_then(|mut first| first.take());
        called(config, reconciler, first, event).await
    };
    lambda_runtime::run(service_fn(call)).await
}

async fn called(
    config: &Config,
    reconciler: &Reconciler,
    init_ms: Option<f64>,
    event: LambdaEvent<Value>,
) -> Result<Value, Error> {
    let began = Instant::now();
    let mut used = Used { init_ms, memory_mb: config.memory_mb, ..Used::default() };
    let answer = match event::read(&event.payload) {
        Ok(call) => handler::handle(reconciler, &config.prefix, call, &mut used).await,
        Err(text) => {
            used.failures.push(failure::Fault::NotOurs);
            Err(text)
        }
    };
    used.units = reconciler.store.take_spent();
    used.duration_ms = began.elapsed().as_secs_f64() * 1000.0;
    let now = Timestamp::now();
    usage::print(&used.metrics(&config.function, now));
    let day = now.to_zoned(jiff::tz::TimeZone::UTC).date();
    if let Err(failure) = reconciler.store.record_usage(day, &used.ledger()).await {
        warn!("what this call used is missing in the ledger: {failure}");
    }
    answer.map_err(Error::from)
}
