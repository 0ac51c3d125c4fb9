//! Waiting for a store that is away: back-off with jitter, for as long as it takes, but not past a shutdown.

use crate::error::SinkError;
use crate::health::Health;
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const FIRST_DELAY: Duration = Duration::from_millis(20);
/// Bounds how long after its return a store lies idle.
const LONGEST_DELAY: Duration = Duration::from_secs(2);
/// What an attempt under way is still given once the process shuts down.
const GRACE: Duration = Duration::from_secs(5);

/// What every store needs to wait well: whom to tell, and when to stop.
#[derive(Debug, Clone)]
pub(crate) struct Patience {
    pub health: Health,
    pub cancel: CancellationToken,
}

impl Patience {
    /// Begins a row of attempts.
    pub fn attempts(&self) -> Attempts<'_> {
        let delays = ExponentialBuilder::default()
            .with_min_delay(FIRST_DELAY)
            .with_max_delay(LONGEST_DELAY)
            .without_max_times()
            .with_jitter()
            .build();
        Attempts { patience: self, delays }
    }

    /// Runs one attempt; once the process shuts down it is given [`GRACE`] and then dropped (`None`).
    pub async fn within_grace<T>(&self, attempt: impl Future<Output = T>) -> Option<T> {
        let out_of_grace = async {
            self.cancel.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            biased;
            result = attempt => Some(result),
            () = out_of_grace => None,
        }
    }
}

/// Runs an attempt until it works; an error that must not be tried again is the result.
macro_rules! until_done {
    ($patience:expr, $attempt:expr) => {{
        let mut attempts = $patience.attempts();
        loop {
            match $attempt.await {
                Ok(done) => break Ok(done),
                Err(error) => {
                    if let Err(error) = attempts.after(error).await {
                        break Err(error);
                    }
                }
            }
        }
    }};
}
pub(crate) use until_done;

/// One row of attempts at the same thing.
pub(crate) struct Attempts<'a> {
    patience: &'a Patience,
    delays: ExponentialBackoff,
}

impl Attempts<'_> {
    /// Waits before the next attempt. Gives `error` back when there must be none: it is not transient, or the
    /// process shuts down.
    pub async fn after(&mut self, error: SinkError) -> Result<(), SinkError> {
        let Patience { health, cancel } = self.patience;
        if !error.is_transient() {
            health.failed(&error);
            return Err(error);
        }
        if health.retrying(&error) {
            tracing::warn!(%error, "waiting, then trying again");
        }
        let delay = self.delays.next().unwrap_or(LONGEST_DELAY);
        tokio::select! {
            () = cancel.cancelled() => Err(error),
            () = tokio::time::sleep(delay) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Fault;

    fn fault() -> Fault {
        let text = |s: &str| s.to_owned();
        Fault { store: text("s"), doing: text("d"), found: text("f"), advice: text("a") }
    }

    fn patience() -> Patience {
        Patience { health: Health::new(), cancel: CancellationToken::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_transient_is_tried_for_ever_with_growing_but_bounded_pauses() {
        let patience = patience();
        let mut attempts = patience.attempts();
        let begun = tokio::time::Instant::now();
        for _ in 0..100 {
            attempts.after(SinkError::Transient(fault())).await.expect("another attempt");
        }
        let took = begun.elapsed();
        assert!(took > Duration::from_secs(100), "{took:?}");
        assert!(took < 100 * 2 * LONGEST_DELAY, "{took:?}");
        assert_eq!(patience.health.retries(), 100);
    }

    #[tokio::test]
    async fn what_is_not_transient_is_not_tried_again() {
        let patience = patience();
        let error = SinkError::Fatal(fault());
        assert_eq!(patience.attempts().after(error.clone()).await, Err(error));
        assert!(matches!(patience.health.state(), crate::State::Failed { .. }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_ends_the_waiting_and_bounds_the_attempt() {
        let patience = patience();
        patience.cancel.cancel();
        let error = SinkError::Transient(fault());
        assert_eq!(patience.attempts().after(error.clone()).await, Err(error));
        assert_eq!(patience.within_grace(std::future::pending::<()>()).await, None);
        assert_eq!(patience.within_grace(std::future::ready(7)).await, Some(7));
    }
}
