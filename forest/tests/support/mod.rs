//! What several tests need: made data, the shared reference data, Python with its packages.
#![allow(dead_code, reason = "each test uses a part")]

pub mod data;
pub mod python;

use std::io::Write;

/// Says on the real stderr, which the test harness does not capture, that something was left out.
pub fn say_skipped(what: &str, why: &str) {
    let message = format!("\n*** SKIPPED: {what}: {why} ***\n\n");
    let _ = std::io::stderr().write_all(message.as_bytes());
}
