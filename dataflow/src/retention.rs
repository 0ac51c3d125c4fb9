//! Drops what is older than the retention, once an hour while the pipeline runs.
//!
//! Measured from the clock, not from the wall: a replay of old logs must not lose them on arrival.

use smartlog_schema::window::MICROS;
use smartlog_sinks::StoreConfig;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(3600);
/// Until the first: the store has enough to do at a start.
const FIRST: Duration = Duration::from_secs(30);

/// Runs until the runtime ends.
pub async fn keep(store: StoreConfig, clock_us: Arc<AtomicI64>) {
    tokio::time::sleep(FIRST).await;
    loop {
        let clock_us = clock_us.load(Ordering::Relaxed);
        let retention_us = i64::try_from(store.retention.as_micros()).unwrap_or(i64::MAX);
        let cutoff_us = clock_us.saturating_sub(retention_us);
        if clock_us > 0 && cutoff_us > MICROS {
            match smartlog_sinks::expire(&store, cutoff_us).await {
                Ok(0) => {}
                Ok(dropped) => tracing::info!(dropped, "dropped what is older than the retention"),
                Err(error) => {
                    tracing::warn!("what is older than the retention stays for another hour: {error}")
                }
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}
