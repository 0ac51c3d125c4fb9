//! Whether the store can be reached, is up to date, and who holds it.

use super::Check;
use crate::commands::block_on;
use crate::config::{Config, StoreUrl};
use jiff::Timestamp;
use smartlog_sinks::{SinkError, StoredPosition, Survey};
use std::time::Duration;

/// Longer than the driver's own limit on connecting, so that its words are heard.
const PATIENCE: Duration = Duration::from_secs(15);

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
    let asked = block_on(async { tokio::time::timeout(PATIENCE, smartlog_sinks::survey(&store)).await })?;
    Ok(match asked {
        Err(_) => {
            let found = format!("{}: no answer within {PATIENCE:?}", config.store.url);
            (vec![Check::failed(name, found, "check the address, the network and the server's load")], None)
        }
        Ok(Err(fault)) => (vec![refused(&fault)], None),
        Ok(Ok(survey)) => {
            let lease = lease(&survey, Timestamp::now().as_microsecond());
            (vec![tables(&config.store.url, &survey), lease], Some(survey.positions))
        }
    })
}

/// Whether the tables are those of this program, and what a start would do about it.
fn tables(url: &StoreUrl, survey: &Survey) -> Check {
    let Survey { missing, unknown, .. } = survey;
    match (missing, unknown) {
        (0, 0) => Check::ok("store", format!("{url} answers, its tables are up to date")),
        (_, 1..) => Check::failed(
            "store",
            format!(
                "{url} answers, and its tables are those of a later version ({unknown} changes that this one does not know)"
            ),
            "run the version that wrote them, or a later one",
        ),
        (missing, 0) => Check::ok(
            "store",
            format!(
                "{url} answers; the first start, or smartlog migrate, brings its tables up to date ({missing} changes)"
            ),
        ),
    }
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
fn lease(survey: &Survey, now_us: i64) -> Check {
    let newest = survey.positions.iter().map(|position| position.updated_at_us).max();
    let found = match newest.map(|newest| now_us.saturating_sub(newest).max(0).unsigned_abs()) {
        _ if survey.is_held => "held: a set runs on this store".into(),
        None => "free; nothing was stored yet".into(),
        Some(age_us) => format!("free; last written {} ago", told(Duration::from_micros(age_us))),
    };
    Check::ok("lease", found)
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

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::*;
    use smartlog_schema::position::TopicPartition;

    fn written(updated_at_us: i64) -> Vec<StoredPosition> {
        vec![StoredPosition {
            sink: "logs".into(),
            partition: TopicPartition::new("logs", 0),
            next_offset: Some(1),
            fingerprint: None,
            watermark_us: None,
            lane: None,
            updated_at_us,
        }]
    }

    #[test]
    fn a_lease_is_held_or_free_since_when() {
        let survey = |is_held, positions| Survey { missing: 0, unknown: 0, is_held, positions };
        let found = |survey: &Survey| lease(survey, 1_000_000_000).found;
        assert_eq!(found(&survey(false, Vec::new())), "free; nothing was stored yet");
        assert_eq!(found(&survey(false, written(998_500_000))), "free; last written 1 s ago");
        assert_eq!(found(&survey(false, written(0))), "free; last written 16 min ago");
        assert_eq!(found(&survey(true, written(0))), "held: a set runs on this store");
    }

    #[test]
    fn tables_are_current_to_be_made_or_too_new() {
        let url = StoreUrl::Sqlite("a.db".into());
        let check = |missing, unknown| {
            let check = tables(&url, &Survey { missing, unknown, is_held: false, positions: Vec::new() });
            (check.outcome, check.found)
        };
        assert_eq!(check(0, 0), (Outcome::Ok, "sqlite:a.db answers, its tables are up to date".into()));
        let (outcome, found) = check(2, 0);
        assert_eq!(outcome, Outcome::Ok);
        assert!(found.ends_with("brings its tables up to date (2 changes)"), "{found}");
        let (outcome, found) = check(1, 3);
        assert_eq!(outcome, Outcome::Failed);
        assert!(found.contains("a later version (3 changes"), "{found}");
    }

    /// Looking must not migrate, and must say what was there.
    #[test]
    fn a_file_that_is_not_migrated_stays_so() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        std::fs::write(&path, b"").expect("an empty file is an empty database");
        let mut config = Config::default();
        config.store.url = StoreUrl::Sqlite(path.clone());
        let (found, positions) = checks(&config).expect("a report");
        assert_eq!((found[0].outcome, positions), (Outcome::Ok, Some(Vec::new())), "{found:?}");
        assert!(found[0].found.contains("the first start, or smartlog migrate"), "{found:?}");
        assert_eq!(std::fs::metadata(&path).expect("still there").len(), 0, "nothing was written");
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
