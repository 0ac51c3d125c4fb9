//! Exported logs as a history, for training: every row of a folder or a file once, in the order of their times.
//!
//! ```text
//!   files of the days ─▶ rows in [since, until) ─▶ a temporary table, one row an offset ─▶ by time
//! ```
//!
//! Files are sorted by service, and two generations of a day may both be there for a moment: hence the table.

use super::names::Day;
use super::verify::each_row;
use crate::error::{Fault, SinkError};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rusqlite::{Connection, params};
use serde::Serialize;
use smartlog_schema::log::LogRef;
use smartlog_schema::position::TopicPartition;
use std::error::Error;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Where the files of logs lie below an export's folder.
const LOGS: &str = "logs";
/// Pages of the temporary table that are held in memory, KiB.
const CACHE_KIB: i64 = 65_536;

/// A log as people write it.
#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    level: &'a str,
    service: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    message: &'a str,
}

/// Calls `read` with each log of `[since_us, until_us)` as a line of JSON, by time, until it says `false`. `path`: a file
/// that was exported, or the folder of the export. Memory does not grow with the history; a temporary file does.
///
/// # Errors
/// No file there, one that cannot be read, or one of other columns than docs/EXPORT.md names.
pub fn read_exported(
    path: &Path,
    since_us: i64,
    until_us: i64,
    read: &mut dyn FnMut(&str) -> bool,
) -> Result<(), SinkError> {
    let failed = |what: &Path, found: &dyn std::fmt::Display| {
        SinkError::Fatal(Fault {
            store: what.display().to_string(),
            doing: "read exported logs".into(),
            found: found.to_string(),
            advice: "name a Parquet file that smartlog exported, or the folder of the export".into(),
        })
    };
    let files = files(path, since_us, until_us).map_err(|fault| failed(path, &fault))?;
    if files.is_empty() {
        return Err(failed(path, &"expected Parquet files of the interval, found none"));
    }
    let scratch = tempfile::NamedTempFile::new().map_err(|fault| failed(path, &fault))?;
    let mut table = open(scratch.path()).map_err(|fault| failed(scratch.path(), &fault))?;
    for file in &files {
        take(&mut table, file, since_us..until_us).map_err(|fault| failed(file, &fault))?;
    }
    tell(&table, read).map_err(|fault| failed(scratch.path(), &fault))
}

/// The files that may hold logs of the interval; those of other days are not looked at.
fn files(path: &Path, since_us: i64, until_us: i64) -> std::io::Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let root = Some(path.join(LOGS)).filter(|logs| logs.is_dir()).unwrap_or_else(|| path.to_owned());
    let is_wanted = |folder: &Path| {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let day = name.strip_prefix("date=").and_then(Day::parse);
        day.is_none_or(|day| day.start_us() < until_us && day.end_us() > since_us)
    };
    let (mut files, mut folders) = (Vec::new(), vec![root]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() && is_wanted(&path) {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "parquet") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn open(file: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(file)?;
    // Nobody reads it after a crash.
    connection.execute_batch(&format!(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -{CACHE_KIB};
         CREATE TABLE logs (topic TEXT, partition INTEGER, offset INTEGER, at INTEGER, line TEXT,
                            PRIMARY KEY (topic, partition, offset)) WITHOUT ROWID"
    ))?;
    Ok(connection)
}

fn take(
    table: &mut Connection,
    file: &Path,
    interval: std::ops::Range<i64>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let transaction = table.transaction()?;
    let mut add = transaction.prepare("INSERT OR IGNORE INTO logs VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for batch in ParquetRecordBatchReaderBuilder::try_new(File::open(file)?)?.build()? {
        let mut fault: Option<Box<dyn Error + Send + Sync>> = None;
        let mut keep = |partition: &TopicPartition, log: &LogRef<'_>| {
            if fault.is_some() || !interval.contains(&log.timestamp_us) {
                return;
            }
            let TopicPartition { topic, partition } = partition;
            let added = line(log).and_then(|line| {
                Ok(add.execute(params![topic.as_str(), partition, log.offset, log.timestamp_us, line])?)
            });
            fault = added.err();
        };
        each_row(&batch?, &mut keep).ok_or("its columns are not those of docs/EXPORT.md")?;
        fault.map_or(Ok(()), Err)?;
    }
    drop(add);
    Ok(transaction.commit()?)
}

fn line(log: &LogRef<'_>) -> Result<String, Box<dyn Error + Send + Sync>> {
    let LogRef { timestamp_us, service, host, message, .. } = *log;
    let timestamp = jiff::Timestamp::from_microsecond(timestamp_us)?.to_string();
    Ok(serde_json::to_string(&Line { timestamp, level: log.level.as_str(), service, host, message })?)
}

fn tell(table: &Connection, read: &mut dyn FnMut(&str) -> bool) -> rusqlite::Result<()> {
    let mut statement = table.prepare("SELECT line FROM logs ORDER BY at, topic, partition, offset")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if !read(row.get_ref(0)?.as_str()?) {
            break;
        }
    }
    Ok(())
}
