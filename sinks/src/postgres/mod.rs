//! PostgreSQL. Each store and each sink has one session of its own, made anew after any trouble.
//!
//! ```text
//!   PostgresState ── session: lease (advisory lock), one transaction an epoch
//!   PostgresLogs  ── session: one transaction a write: positions, COPY, dead letters
//! ```

mod admin;
mod aggregates;
mod copy;
mod database;
mod days;
mod episodes;
mod history;
mod log_positions;
mod logs;
mod patterns;
mod session;
mod snapshot;
mod state;
mod statements;
#[cfg(feature = "tls")]
mod tls;
mod types;

pub(crate) use admin::{
    accept_topic, counts, expire, forget, migrate, note_lanes, positions, retention_cuts, set_start, survey,
};
pub(crate) use database::PostgresDatabase;
pub(crate) use history::{anomaly_intervals, read_logs, set_model_status};
pub(crate) use logs::PostgresLogs;
pub(crate) use state::PostgresState;

#[allow(clippy::unwrap_used, reason = "generated: it unwraps names of files that are checked at build time")]
mod migrations {
    refinery::embed_migrations!("../schema/migrations/postgres");
}

/// The advisory lock of `what` in this schema: pipelines in schemas of their own do not meet.
/// To be formatted into SQL with a literal or parameter for `what`.
macro_rules! lock_key {
    ($what:literal) => {
        concat!("hashtextextended('smartlog/' || current_schema() || '/' || ", $what, ", 0)")
    };
}
pub(crate) use lock_key;
