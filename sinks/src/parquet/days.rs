//! The days of a target: closing them, saying what they consist of, deleting what no longer counts.
//!
//! ```text
//!   export_days: revision moves with every change of a day's files (what nobody finished is voided)
//!     └ closed, and manifest_revision behind ─▶ _manifest-vN.json ─▶ manifest_version = N ─▶ _SUCCESS ─▶ success_version = N
//!                                                                                              └▶ voided files are deleted
//! ```
//!
//! Each arrow may be cut by a crash: the next pass goes on there.

use super::checksum::RowChecksum;
use super::ledger::{Entry, Ledger, wall_us};
use super::names::{self, Day};
use super::target::{Body, Put, Target};
use super::{CLOSE_AFTER_US, PARQUET};
use crate::database::{Step, values};
use crate::error::SinkError;
use crate::retry::{Patience, until_done};
use bytes::Bytes;
use serde::Serialize;
use std::sync::Arc;

/// A partition whose sink has not been heard of for so long is not waited for: it may be of a topic that is gone, and what it
/// still brings makes another version of the manifest.
const SILENT_US: i64 = 10 * 60 * 1_000_000;
/// A `smartlog export` whose files are not complete after so long was killed or stopped: until they are voided, readers of the
/// folder find their rows twice. One that is but slow fails then.
const ABANDONED_US: i64 = 60 * 60 * 1_000_000;
/// Days of one pass at most; the rest comes with the next.
const DAYS_A_PASS: i64 = 100;

#[derive(Serialize)]
struct Manifest<'a> {
    format: &'static str,
    date: &'a str,
    version: i64,
    generation: i64,
    closed: bool,
    created_at: String,
    watermark: Option<String>,
    rows: i64,
    bytes: i64,
    row_checksum: String,
    files: Vec<ManifestFile<'a>>,
    voided: Vec<&'a str>,
}

#[derive(Serialize)]
struct ManifestFile<'a> {
    name: &'a str,
    rows: i64,
    bytes: i64,
    row_checksum: &'a str,
    generation: i64,
    min_timestamp: String,
    max_timestamp: String,
}

#[derive(Serialize)]
struct Success<'a> {
    manifest: &'a str,
    version: i64,
}

/// A day as `export_days` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DayState {
    pub date: String,
    pub generation: i64,
    pub revision: i64,
    pub manifest_version: i64,
    pub closed: bool,
}

/// The days of one target.
pub(super) struct Days {
    pub ledger: Ledger,
    pub target: Arc<dyn Target>,
    pub patience: Patience,
}

impl Days {
    /// One pass over all that is to be done.
    pub async fn keep(&mut self) -> Result<(), SinkError> {
        let complete = self.complete_to().await?;
        if let Some(end) = complete {
            self.close_before(end).await?;
        }
        self.void_abandoned().await?;
        for day in self.changed().await? {
            self.write_manifest(&day, complete).await?;
        }
        for (date, version) in self.unannounced().await? {
            self.announce(&date, version).await?;
        }
        self.sweep().await?;
        self.note_usage().await
    }

    /// Writes down what the target was asked for since the last time.
    pub async fn note_usage(&mut self) -> Result<(), SinkError> {
        self.ledger.note_usage(&*self.target).await
    }

    /// Event time up to which every partition that lives has everything in complete files.
    async fn complete_to(&mut self) -> Result<Option<i64>, SinkError> {
        let sql = format!(
            "SELECT count(*), count(watermark_us), min(watermark_us) FROM sink_positions WHERE sink = $1 AND {} >= $2",
            self.ledger.tables.micros("updated_at")
        );
        let rows = self.ledger.tables.query(&sql, values![PARQUET, wall_us() - SILENT_US]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok((row.int(0) > 0 && row.int(0) == row.int(1)).then(|| row.maybe_int(2)).flatten())
    }

    async fn close_before(&mut self, complete_us: i64) -> Result<(), SinkError> {
        let Some(open) = Day::of(complete_us.saturating_sub(CLOSE_AFTER_US)) else { return Ok(()) };
        let sql = "UPDATE export_days SET closed = 1, revision = revision + 1 WHERE target = $1 AND closed = 0 AND date < $2";
        let step = Step::new(sql, values![self.ledger.target.as_str(), open.to_string()]);
        self.ledger.tables.apply(&[step]).await.map(drop)
    }

    async fn void_abandoned(&mut self) -> Result<(), SinkError> {
        let before = wall_us() - ABANDONED_US;
        let sql = "SELECT DISTINCT date FROM export_files WHERE target = $1 AND generation > 0 AND status = 'intended' \
                   AND created_us < $2";
        for row in self.ledger.tables.query(sql, values![self.ledger.target.as_str(), before]).await? {
            self.ledger.void_unfinished(row.text(0), before).await?;
        }
        Ok(())
    }

    async fn changed(&mut self) -> Result<Vec<DayState>, SinkError> {
        let sql = "SELECT date, generation, revision, manifest_version, closed FROM export_days WHERE target = $1 \
                   AND (closed = 1 OR manifest_version > 0) AND manifest_revision <> revision ORDER BY date LIMIT $2";
        let rows = self.ledger.tables.query(sql, values![self.ledger.target.as_str(), DAYS_A_PASS]).await?;
        Ok(rows.iter().map(read_state).collect())
    }

    /// A day of the ledger.
    pub async fn state(&mut self, date: &str) -> Result<Option<DayState>, SinkError> {
        let sql = "SELECT date, generation, revision, manifest_version, closed FROM export_days WHERE target = $1 \
                   AND date = $2";
        let rows = self.ledger.tables.query(sql, values![self.ledger.target.as_str(), date]).await?;
        Ok(rows.first().map(read_state))
    }

    /// Writes the next version of a day's manifest and notes it.
    pub async fn write_manifest(&mut self, day: &DayState, watermark: Option<i64>) -> Result<(), SinkError> {
        let files = self.ledger.files(&day.date, "complete").await?;
        let voided = self.ledger.files(&day.date, "voided").await?;
        let mut version = day.manifest_version + 1;
        loop {
            let body = manifest(day, version, &files, &voided, watermark);
            let path = format!("{}{}", names::logs_folder(&day.date), names::of_manifest(version));
            let body = Body::Bytes(body);
            if until_done!(self.patience, self.target.put_new(&path, body.clone(), &[]))? == Put::Written {
                break;
            }
            // Written by a run that was killed before it could note it, from files that may have changed since.
            version += 1;
        }
        let sql = "UPDATE export_days SET manifest_version = $3, manifest_revision = $4 \
                   WHERE target = $1 AND date = $2 AND manifest_version = $5";
        let target = self.ledger.target.as_str();
        let values = values![target, day.date.as_str(), version, day.revision, day.manifest_version];
        self.ledger.tables.apply(&[Step::one(sql, values)]).await.map(drop)
    }

    async fn unannounced(&mut self) -> Result<Vec<(String, i64)>, SinkError> {
        let sql = "SELECT date, manifest_version FROM export_days WHERE target = $1 AND success_version < manifest_version \
                   ORDER BY date LIMIT $2";
        let rows = self.ledger.tables.query(sql, values![self.ledger.target.as_str(), DAYS_A_PASS]).await?;
        Ok(rows.iter().map(|row| (row.text(0).to_owned(), row.int(1))).collect())
    }

    /// Lets `_SUCCESS` name a version.
    pub async fn announce(&mut self, date: &str, version: i64) -> Result<(), SinkError> {
        let path = format!("{}_SUCCESS", names::logs_folder(date));
        let name = names::of_manifest(version);
        let body = serde_json::to_vec(&Success { manifest: &name, version }).unwrap_or_default();
        let body = Bytes::from(body);
        let old = until_done!(self.patience, self.target.head(&path))?;
        if !until_done!(self.patience, self.target.replace(&path, body.clone(), &[], old.as_ref()))? {
            return Ok(()); // Another writer was quicker; the next pass looks again.
        }
        let sql = "UPDATE export_days SET success_version = $3 WHERE target = $1 AND date = $2 AND success_version < $3";
        let step = Step::new(sql, values![self.ledger.target.as_str(), date, version]);
        self.ledger.tables.apply(&[step]).await.map(drop)
    }

    /// Deletes files that were voided, once the manifest that says so is there (or where there is none).
    pub async fn sweep(&mut self) -> Result<(), SinkError> {
        let sql = "SELECT f.date, f.name FROM export_files f JOIN export_days d ON d.target = f.target AND d.date = f.date \
                   WHERE f.target = $1 AND f.status = 'voided' AND f.deleted_us IS NULL \
                   AND (d.manifest_version = 0 OR d.manifest_revision = d.revision AND d.success_version = d.manifest_version) \
                   ORDER BY f.date, f.name LIMIT 1000";
        let rows = self.ledger.tables.query(sql, values![self.ledger.target.as_str()]).await?;
        for row in &rows {
            let (date, name) = (row.text(0), row.text(1));
            let path = format!("{}{name}", names::logs_folder(date));
            until_done!(self.patience, self.target.abort_uploads(&path))?;
            until_done!(self.patience, self.target.delete(&path))?;
            let sql = "UPDATE export_files SET deleted_us = $4 WHERE target = $1 AND date = $2 AND name = $3";
            let step = Step::new(sql, values![self.ledger.target.as_str(), date, name, wall_us()]);
            self.ledger.tables.apply(&[step]).await?;
        }
        Ok(())
    }
}

fn read_state(row: &crate::database::Row) -> DayState {
    DayState {
        date: row.text(0).to_owned(),
        generation: row.int(1),
        revision: row.int(2),
        manifest_version: row.int(3),
        closed: row.int(4) == 1,
    }
}

fn manifest(
    day: &DayState,
    version: i64,
    files: &[Entry],
    voided: &[Entry],
    watermark: Option<i64>,
) -> Bytes {
    let time = |us: i64| jiff::Timestamp::from_microsecond(us).map(|time| time.to_string()).ok();
    let mut checksum = RowChecksum::default();
    files.iter().filter_map(|file| RowChecksum::parse(&file.checksum)).for_each(|sum| checksum.merge(sum));
    let manifest = Manifest {
        format: "smartlog-manifest/1",
        date: &day.date,
        version,
        generation: day.generation,
        closed: day.closed,
        created_at: time(wall_us()).unwrap_or_default(),
        watermark: watermark.and_then(time),
        rows: files.iter().map(|file| file.rows).sum(),
        bytes: files.iter().map(|file| file.bytes).sum(),
        row_checksum: checksum.to_string(),
        files: files
            .iter()
            .map(|file| ManifestFile {
                name: &file.name,
                rows: file.rows,
                bytes: file.bytes,
                row_checksum: &file.checksum,
                generation: file.generation,
                min_timestamp: time(file.min_timestamp_us).unwrap_or_default(),
                max_timestamp: time(file.max_timestamp_us).unwrap_or_default(),
            })
            .collect(),
        voided: voided.iter().map(|file| file.name.as_str()).collect(),
    };
    // The types hold nothing that serde_json refuses.
    Bytes::from(serde_json::to_vec_pretty(&manifest).unwrap_or_default())
}
