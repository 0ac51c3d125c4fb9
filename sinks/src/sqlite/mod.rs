//! SQLite: the embedded default. One writer thread a file and process, so that nobody waits in SQLite's own queue,
//! which polls.
//!
//! ```text
//!   SqliteState ──urgent──┐
//!                         ├──▶ Writer: one thread, one connection ──▶ FILE (WAL)
//!   SqliteLogs  ──────────┘
//! ```

mod admin;
mod logs;
mod state;
mod writer;

pub(crate) use admin::{accept_topic, counts, expire, forget, migrate, positions, set_start};
pub(crate) use logs::SqliteLogs;
pub(crate) use state::SqliteState;

use crate::error::{Fault, SinkError};
use rusqlite::ErrorCode;

#[allow(clippy::unwrap_used, reason = "generated: it unwraps names of files that are checked at build time")]
mod migrations {
    refinery::embed_migrations!("../schema/migrations/sqlite");
}

/// Sorts an error of SQLite by who must act.
pub(crate) fn classify(store: &str, doing: &str, error: &rusqlite::Error) -> SinkError {
    let fault = |advice: &str| Fault {
        store: store.to_owned(),
        doing: doing.to_owned(),
        found: error.to_string(),
        advice: advice.to_owned(),
    };
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            SinkError::Transient(fault("another process writes to the file; waiting for it"))
        }
        Some(ErrorCode::DiskFull) => {
            SinkError::Transient(fault("the disk is full: make room, writing goes on by itself"))
        }
        Some(ErrorCode::SystemIoFailure | ErrorCode::OutOfMemory | ErrorCode::FileLockingProtocolFailed) => {
            SinkError::Transient(fault("look at the disk and the memory; trying again"))
        }
        Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch) => {
            SinkError::Poison(fault("the row is refused"))
        }
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            SinkError::Fatal(fault("give this user the right to write the file and its folder"))
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            SinkError::Fatal(fault("restore the file from a backup, or move it away to begin anew"))
        }
        _ => SinkError::Fatal(fault("this is a fault of the program or of the file: please report it")),
    }
}
