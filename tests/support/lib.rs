//! What the tests of the whole program share: they run it as a user does, and judge it by an oracle of their own.
//!
//! ```text
//!   Traffic ──▶ Topic (real Kafka) ──▶ Program (a child process) ──▶ Store (real PostgreSQL, SQLite)
//!                 │                                                     │
//!                 └──▶ read back ──▶ oracle: naive, from the payloads ──┴──▶ judge: every log once, all columns
//! ```
//!
//! No package of the program is imported here, so no error of it can hide in what judges it.

pub mod cloud;
pub mod document;
pub mod judge;
pub mod manifest;
pub mod oracle;
pub mod program;
pub mod scene;
pub mod store;
pub mod topic;
pub mod traffic;
pub mod web;

use std::time::{Duration, Instant};

/// Asks until the answer is there.
///
/// # Panics
/// When it is not within `patience`.
pub fn eventually<T>(what: &str, patience: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < patience, "not within {patience:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Microseconds since 1970, now.
pub fn now_us() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.expect("the wall clock is past 1970").as_micros()).expect("the year is below 294000")
}

/// A name that no other test of this or another run has.
pub fn unique(stem: &str) -> String {
    format!("{stem}_{:08x}", rand::random::<u32>())
}
