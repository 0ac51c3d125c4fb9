//! What the logs of a service are made of: counts per minute, by host and by shape of message.
//!
//! ```text
//!   fold ── Gathered: counts of one epoch, by (service, minute) ──▶ exchange by service ──▶ breakdown ──▶ Change::Minute
//!                                                                       changes ──▶ ───┼─ explained ──▶ changes
//!                                                                  feature rows ──▶ ───┴─ patterns ───▶ feature rows
//! ```
//!
//! It tells which part of a service changed most, before and during an episode. The counts of a minute are kept for
//! [`KEPT`] seconds; they are stored with everything else that an epoch changes, so a restart forgets none.

mod fill;
mod gathering;
mod minutes;
mod operator;
mod seen;

pub use fill::{Fill, Fills};
pub use gathering::{Gathered, Gathering, Tally};
pub use minutes::{Breakdown, Limits, Minute, Parts};
pub use operator::{Inputs, Outputs, Settings, breakdown};
pub use seen::{Cited, Place, Seen};

use serde::{Deserialize, Serialize};

/// How long a minute's counts are kept after the watermark passed it, seconds: as long as a late log may have a window
/// judged anew (10 minutes), what an explanation looks back on, and some minutes until it is told.
pub const KEPT: i64 = crate::explain::REACH + 14 * 60;

/// Logs of a part. `other` of a service is what is not counted by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Counts {
    pub logs: u64,
    /// Those at ERROR and above.
    pub errors: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.logs += other.logs;
        self.errors += other.errors;
    }
}
