//! Every log to every log sink: straight from the worker that read it, never through the windows, and never so that
//! detection waits.
//!
//! ```text
//!             attached: sent while the lane has room
//!   stretches ──────────────────────────────▶ queue ──▶ thread: LogSink::write
//!       │                                      ▲           ▲
//!       │ front: how far, what was too old     │ from an   │ detached: what the lane reads by itself,
//!       ▼                                      │ agreed    │ from the sink's own position
//!   Kafka ─────────────▶ follower ─────────────┼───────────┘
//!                          └─ near the front: asks to be sent the partition again
//! ```
//!
//! A lane is one log sink on one worker. Per partition it is *attached* (the pipeline sends it what it reads) or
//! *detached* (it reads by itself). The pipeline detaches a partition at the first stretch that finds no room in the
//! lane's share of `engine.max_in_flight_bytes`; it never waits. The lane reads on from where its sink stands, by the
//! same rules, up to the front of the pipeline; near it, it asks for the partition. The pipeline then names the offset
//! from which it sends it again, and the lane reads exactly that far by itself: no gap, nothing twice.

mod follower;
mod front;
mod lane;
mod notes;
mod open;
mod state;
mod writer;

pub use front::Front;
pub use lane::logs_to;
pub use notes::Notes;
pub use open::{OfWorker, Opening, Watched};

pub use state::LaneState;

use lane::Lane;
use writer::Context;

/// A sink that is this near to the front is sent the partition's logs again: it is a moment's reading. Records.
pub const NEAR: i64 = 10_000;
