//! What goes on beside the sinks, once per set of processes: days are closed, files that a `smartlog export` left unfinished
//! voided, manifests written, voided files deleted, snapshots of anomalies made. Nothing waits for it, and what it could not do
//! it does in its next pass.

use super::config::ExportConfig;
use super::days::Days;
use super::ledger::Ledger;
use super::target;
use crate::config::StoreConfig;
use crate::database::Tables;
use crate::error::SinkError;
use crate::retry::Patience;
use crate::{CancellationToken, Health};
use std::time::{Duration, Instant};

/// Pause between passes: questions to the store alone, unless something changed.
const PAUSE: Duration = Duration::from_secs(10);
/// Pause between snapshots of anomalies where each request costs: 1,440 in 30 days, of the 2,000 writing requests that S3's free
/// year has for a month.
const PAID_SNAPSHOTS: Duration = Duration::from_secs(30 * 60);

/// Keeps the days of what `export` names until `stop`, and then once more, for which it is given until `cancel`.
pub async fn keep(
    export: ExportConfig,
    store: StoreConfig,
    stop: CancellationToken,
    cancel: CancellationToken,
) {
    let patience = Patience { health: Health::new(), cancel: cancel.clone() };
    let mut days = None;
    let mut snapshot_at: Option<Instant> = None;
    loop {
        let last = stop.is_cancelled();
        let due = last || snapshot_at.is_none_or(|at| at.elapsed() >= snapshots_every(&export));
        if let Err(error) = pass(&mut days, &export, &store, &patience, due).await {
            tracing::warn!(%error, "the days of the export are kept later");
        }
        if due {
            snapshot_at = Some(Instant::now());
        }
        if last || cancel.is_cancelled() {
            return;
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

async fn pass(
    kept: &mut Option<Days>,
    export: &ExportConfig,
    store: &StoreConfig,
    patience: &Patience,
    snapshots: bool,
) -> Result<(), SinkError> {
    let days = match kept {
        Some(days) => days,
        none => none.insert(open(export, store, patience).await?),
    };
    days.keep().await?;
    while snapshots && days.snapshot_anomalies().await? {}
    #[cfg(feature = "s3")]
    if let Some(how) = export.measure.as_ref().filter(|_| !export.is_local()) {
        super::usage::measure(days, export, how).await?;
    }
    days.note_usage().await
}

/// Rows in complete files of all targets.
///
/// # Errors
/// As any question to the store.
pub async fn exported_rows(store: &StoreConfig) -> Result<i64, SinkError> {
    let patience = Patience { health: Health::new(), cancel: CancellationToken::new() };
    let sql = "SELECT CAST(coalesce(sum(rows), 0) AS BIGINT) FROM export_files WHERE status = 'complete'";
    let rows = Tables::new(store, patience)?.query(sql, Vec::new()).await?;
    Ok(rows.first().map_or(0, |row| row.int(0)))
}

/// The days of a target, connected.
pub(super) async fn open(
    export: &ExportConfig,
    store: &StoreConfig,
    patience: &Patience,
) -> Result<Days, SinkError> {
    let target = target::open(export).await?;
    let mut ledger = Ledger::new(Tables::new(store, patience.clone())?, target.url().to_owned());
    ledger.check_owned(&*target, patience).await?;
    Ok(Days { ledger, target, patience: patience.clone() })
}

fn snapshots_every(export: &ExportConfig) -> Duration {
    if export.is_local() { PAUSE } else { PAID_SNAPSHOTS }
}
