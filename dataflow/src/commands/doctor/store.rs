//! Whether the store can be reached, is up to date, and who holds it.

use super::Check;
use crate::commands::block_on;
use crate::config::{Config, StoreUrl};
use jiff::Timestamp;
use smartlog_sinks::{SinkError, StoredPosition};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longer than the driver's own limit on connecting, so that its words are heard.
const PATIENCE: Duration = Duration::from_secs(15);
/// A position younger than this was written by a set that runs now, microseconds.
const FRESH_US: i64 = 15_000_000;

/// The checks, and the stored positions where they could be read.
pub(super) fn checks(config: &Config) -> anyhow::Result<(Vec<Check>, Option<Vec<StoredPosition>>)> {
    let name = "store";
    let Some(store) = config.store_config() else {
        return Ok((
            vec![Check::skipped(name, "store.url is none: nothing is kept, a restart begins anew")],
            None,
        ));
    };
    // Asking would make the file.
    if let StoreUrl::Sqlite(path) = &config.store.url
        && !path.exists()
    {
        let check = Check::ok(name, format!("{} is not there yet; the first start makes it", path.display()));
        return Ok((vec![check], Some(Vec::new())));
    }
    let asked = block_on(async { tokio::time::timeout(PATIENCE, smartlog_sinks::positions(&store)).await })?;
    Ok(match asked {
        Err(_) => {
            let found = format!("{}: no answer within {PATIENCE:?}", config.store.url);
            (vec![Check::failed(name, found, "check the address, the network and the server's load")], None)
        }
        Ok(Err(fault)) => (vec![refused(&fault)], None),
        Ok(Ok(positions)) => {
            let found = format!("{} answers, its tables are up to date", config.store.url);
            let lease = lease(&config.store.url, &positions, Timestamp::now().as_microsecond());
            (vec![Check::ok(name, found), lease], Some(positions))
        }
    })
}

fn refused(fault: &SinkError) -> Check {
    match fault {
        SinkError::Transient(fault) | SinkError::Poison(fault) | SinkError::Fatal(fault) => Check::failed(
            "store",
            format!("{}: cannot {}: {}", fault.store, fault.doing, fault.found),
            fault.advice.clone(),
        ),
        fenced @ SinkError::Fenced { .. } => {
            Check::failed("store", fenced.to_string(), "run smartlog doctor again")
        }
    }
}

/// Whether a set could start now. A lease that is held is no fault: the set that runs holds it.
fn lease(url: &StoreUrl, positions: &[StoredPosition], now_us: i64) -> Check {
    let newest = positions.iter().map(|position| position.updated_at_us).max();
    let age_us = newest.map(|newest| now_us.saturating_sub(newest));
    match (is_locked(url), age_us) {
        (true, _) => Check::ok("lease", "held: a set runs on this store"),
        (false, Some(age_us)) if (0..FRESH_US).contains(&age_us) => {
            Check::ok("lease", format!("a set wrote {:.1} s ago and probably runs", age_us as f64 / 1e6))
        }
        (false, Some(age_us)) => Check::ok(
            "lease",
            format!("free; last written {} ago", told(Duration::from_micros(age_us.max(0).unsigned_abs()))),
        ),
        (false, None) => Check::ok("lease", "free; nothing was stored yet"),
    }
}

/// In the largest unit: nobody needs more of an age.
fn told(age: Duration) -> String {
    match age.as_secs() {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ ..7200 => format!("{} min", seconds / 60),
        seconds @ ..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// Whether another process holds SQLite's lease, a lock on `FILE.lock`.
fn is_locked(url: &StoreUrl) -> bool {
    let StoreUrl::Sqlite(path) = url else { return false };
    let lock = lock_file(path);
    let Ok(file) = File::open(lock) else { return false };
    // Dropped at once, and the lock with it.
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

fn lock_file(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use smartlog_schema::position::TopicPartition;

    fn written(updated_at_us: i64) -> Vec<StoredPosition> {
        vec![StoredPosition {
            sink: "logs".into(),
            partition: TopicPartition::new("logs", 0),
            next_offset: Some(1),
            fingerprint: None,
            watermark_us: None,
            updated_at_us,
        }]
    }

    #[test]
    fn a_lease_is_held_fresh_or_free() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        let url = StoreUrl::Sqlite(path.clone());
        let found = |positions: &[StoredPosition]| lease(&url, positions, 1_000_000_000).found;
        assert_eq!(found(&[]), "free; nothing was stored yet");
        assert_eq!(found(&written(998_500_000)), "a set wrote 1.5 s ago and probably runs");
        assert_eq!(found(&written(0)), "free; last written 16 min ago");
        let lock = File::create(folder.path().join("a.db.lock")).expect("made");
        assert_eq!(found(&written(0)), "free; last written 16 min ago");
        lock.lock().expect("locked");
        assert_eq!(found(&written(0)), "held: a set runs on this store");
    }

    #[test]
    fn looking_at_a_store_that_is_not_there_does_not_make_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        let mut config = Config::default();
        config.store.url = StoreUrl::Sqlite(path.clone());
        let (checks, positions) = checks(&config).expect("a report");
        assert!(checks[0].found.ends_with("is not there yet; the first start makes it"), "{checks:?}");
        assert_eq!(positions, Some(Vec::new()));
        assert!(!path.exists());
    }
}
