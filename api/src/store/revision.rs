//! What the store holds, as one comparable value, asked for once by all who want to know at the same time.
//!
//! ```text
//!  request 1 ──▶ check A ───────▶ revision          A began before requests 2 and 3 came: what was committed
//!  request 2 ─────┐                                 between would be missed, so they wait for B and share it
//!  request 3 ─────┴─────▶ check B ───────▶ revision
//! ```
//! So an answer that is kept for a revision is never older than a commit that was done when the request came.

use super::{Store, StoreError};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Mutex;

/// Equal revisions of one [`Store`] mean equal data.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Revision(Arc<str>);

impl Revision {
    pub(super) fn new(text: impl Into<Arc<str>>) -> Self {
        Revision(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Shares checks between requests.
#[derive(Default)]
pub struct RevisionGate {
    /// Counts requests as they come.
    arrivals: AtomicU64,
    /// The newest check: how many requests had come when it began, and what it found. A failure is shared as well,
    /// or those who wait for a store that is away would each wait in turn.
    newest: Mutex<Option<(u64, Result<Revision, StoreError>)>>,
}

impl RevisionGate {
    /// The revision at some moment after this call.
    pub async fn current(&self, store: &Store) -> Result<Revision, StoreError> {
        let ticket = self.arrivals.fetch_add(1, Ordering::SeqCst) + 1;
        let mut newest = self.newest.lock().await;
        if let Some((covers, outcome)) = newest.as_ref()
            && *covers >= ticket
        {
            return outcome.clone();
        }
        let covers = self.arrivals.load(Ordering::SeqCst);
        let outcome = store.revision().await;
        *newest = Some((covers, outcome.clone()));
        outcome
    }
}
