//! SQLite: the embedded default. One writer thread a file and process, so that nobody waits in SQLite's own queue,
//! which polls.
//!
//! ```text
//!   SqliteState ──urgent──┐
//!                         ├──▶ Writer: one thread, one connection ──▶ FILE (WAL)
//!   SqliteLogs  ──────────┘
//! ```

mod admin;
mod database;
mod episodes;
mod history;
mod logs;
mod patterns;
mod snapshot;
mod state;
mod writer;

pub(crate) use admin::{
    accept_topic, counts, expire, forget, migrate, note_lanes, positions, retention_cuts, set_start, survey,
};
pub(crate) use database::SqliteDatabase;
pub(crate) use history::{anomaly_intervals, read_logs, set_model_status};
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

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(sql: &str) -> SinkError {
        let connection = rusqlite::Connection::open_in_memory().expect("opens");
        classify("sqlite:x", "write logs", &connection.execute_batch(sql).expect_err("fails"))
    }

    #[test]
    fn a_full_disk_is_waited_for_and_named() {
        let fill = "PRAGMA max_page_count = 3; CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(100000))";
        let error = failure(fill);
        assert!(error.is_transient());
        assert_eq!(
            error.to_string(),
            "sqlite:x: cannot write logs: database or disk is full; \
             the disk is full: make room, writing goes on by itself"
        );
    }

    #[test]
    fn errors_are_sorted_by_who_must_act() {
        let refused = failure("CREATE TABLE t (x INTEGER) STRICT; INSERT INTO t VALUES ('text')");
        assert!(matches!(refused, SinkError::Poison(_)), "{refused}");
        assert!(matches!(failure("SELECT * FROM nowhere"), SinkError::Fatal(_)));
    }
}
