//! Sinks that follow what is committed. They read the store, are woken by commits, and hold none of them up: one that is
//! slow, or whose target is away, is behind and nothing more, and catches up by itself.
//!
//! ```text
//!   commit ──▶ Wake ──▶ follow(): EventSink::catch_up ──▶ wherever it publishes
//!                           ▲ │ reads what it has not published yet
//!                           │ ▼
//!                         the store
//! ```

use crate::error::SinkError;
use crate::health::Health;
use crate::retry::{Patience, until_done};
use async_trait::async_trait;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// A sink is called this often also when nothing wakes it.
const AT_LEAST_EVERY: Duration = Duration::from_secs(1);

/// Publishes what is committed, from the store.
#[async_trait]
pub trait EventSink: Send {
    /// Brings what it publishes up to what is committed; how many rows it published. An error that is transient is tried
    /// again, with growing pauses.
    async fn catch_up(&mut self) -> Result<u64, SinkError>;
}

/// Tells followers that an episode changed. Clones wake the same ones.
#[derive(Debug, Clone, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// Never waits; that nobody has looked since the last time changes nothing.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}

/// Keeps `sink` up to date until `stop`, then once more. Ends early, and says so, when waiting cannot help.
pub async fn follow(mut sink: Box<dyn EventSink>, wake: Wake, health: Health, stop: CancellationToken) {
    let patience = Patience { health: health.clone(), cancel: stop.clone() };
    loop {
        let is_last = stop.is_cancelled();
        let began = Instant::now();
        match until_done!(patience, sink.catch_up()) {
            Ok(0) => {
                health.recovered();
            }
            Ok(rows) => health.committed(began.elapsed(), rows, 0),
            Err(error) if error.is_transient() => return, // it stops, and what is missing comes with the next start
            Err(error) => {
                tracing::error!(%error, "what followed the store has ended; the pipeline goes on");
                return;
            }
        }
        if is_last {
            return;
        }
        tokio::select! {
            () = wake.0.notified() => {}
            () = tokio::time::sleep(AT_LEAST_EVERY) => {}
            () = stop.cancelled() => {}
        }
    }
}
