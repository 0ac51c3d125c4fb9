//! What can go wrong at a store, sorted by who must act.
//!
//! ```text
//!   Transient  the store is away or full  ──▶ wait and try again (never the data's fault)
//!   Poison     the store refused the data ──▶ split the batch, dead-letter the row
//!   Fenced     another writer took over   ──▶ end this process; the other goes on
//!   Fatal      nothing here can mend it   ──▶ stop and say what to do
//! ```

use std::fmt;

/// Where, at what, what was found, and what to do. Never holds a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The store, without its secrets: `postgres://user@host:5432/db` or `sqlite:FILE`.
    pub store: String,
    /// What was being done: "write logs".
    pub doing: String,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub advice: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: cannot {}: {}; {}", self.store, self.doing, self.found, self.advice)
    }
}

/// An error of a store or sink; see the drawing of this module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// The store is away, busy or full. Retried until it works; seen by a caller only when it shuts down meanwhile.
    #[error("{0}")]
    Transient(Fault),
    /// The store refused the data. [`crate::LogSink::write`] dead-letters the rows that are to blame.
    #[error("{0}")]
    Poison(Fault),
    /// Another writer moved what this one believed to hold.
    #[error(
        "{store}: {what} was taken over by another writer: expected {expected}, found {found}; this process must end, restart it once the other has ended"
    )]
    Fenced {
        store: String,
        /// What is no longer ours: a position, or the pipeline's state.
        what: String,
        expected: String,
        found: String,
    },
    /// Nothing here can mend it.
    #[error("{0}")]
    Fatal(Fault),
}

impl SinkError {
    /// Whether waiting may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, SinkError::Transient(_))
    }
}
