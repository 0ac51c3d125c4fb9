//! Whether a day's store, ledger, manifest and files say the same.

use super::checksum::RowChecksum;
use super::generation::Anew;
use super::keeper;
use super::names;
use crate::database::values;
use crate::error::SinkError;
use crate::retry::{Patience, until_done};
use crate::{CancellationToken, Health};
use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array as _, RecordBatch};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Deserialize;
use smartlog_schema::level::Level;
use smartlog_schema::log::LogRef;
use smartlog_schema::position::TopicPartition;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

/// Rows per partition.
type Rows = BTreeMap<TopicPartition, i64>;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Logs of the day in the store that are to be in files by now.
    pub stored: i64,
    /// Rows in the files.
    pub exported: i64,
    pub files: usize,
    /// Each in a sentence; none when all is well.
    pub differences: Vec<String>,
}

#[derive(Deserialize)]
struct Manifest {
    version: i64,
    files: Vec<ManifestFile>,
}

#[derive(Deserialize)]
struct ManifestFile {
    name: String,
    rows: i64,
    row_checksum: String,
}

/// Reads every file of a day and compares. `progress` hears how many files of how many were read.
pub async fn verify_day(
    of: &Anew,
    progress: &mut (dyn FnMut(i64, i64) + Send),
) -> Result<Verified, SinkError> {
    let patience = Patience { health: Health::new(), cancel: CancellationToken::new() };
    let mut days = keeper::open(&of.export, &of.store, &patience).await?;
    let date = of.day.to_string();
    let folder = names::logs_folder(&date);
    let mut found = Verified::default();
    let known = days.ledger.files(&date, "complete").await?;
    let there: BTreeSet<String> = until_done!(patience, days.target.list(&folder))?.into_iter().collect();
    let scratch = tempfile::tempdir()
        .map_err(|error| super::target::local::fault("a temporary folder", "make it", &error))?;
    let copy = scratch.path().join("file");
    let mut exported = Rows::new();
    for (at, file) in known.iter().enumerate() {
        if !there.contains(&file.name) {
            found.differences.push(format!("{} is missing", file.name));
            continue;
        }
        until_done!(patience, days.target.fetch(&file.path(), &copy))?;
        match read(&copy) {
            Ok((rows, checksum)) => {
                let count: i64 = rows.values().sum();
                if (count, checksum.to_string()) != (file.rows, file.checksum.clone()) {
                    let (name, expected) = (&file.name, file.rows);
                    found.differences.push(format!("{name} holds {count} rows that are not its {expected}"));
                }
                rows.into_iter()
                    .for_each(|(partition, count)| *exported.entry(partition).or_default() += count);
            }
            Err(error) => found.differences.push(format!("{} cannot be read: {error}", file.name)),
        }
        progress(at as i64 + 1, known.len() as i64);
    }
    let names: BTreeSet<&str> = known.iter().map(|file| file.name.as_str()).collect();
    let pending: BTreeSet<String> =
        days.ledger.files(&date, "intended").await?.into_iter().map(|file| file.name).collect();
    for name in there.iter().filter(|name| name.ends_with(".parquet") && !names.contains(name.as_str())) {
        let why = if pending.contains(name) { "is not complete yet" } else { "is not known to this store" };
        found.differences.push(format!("{name} {why}"));
    }
    if let Some(state) = days.state(&date).await?.filter(|state| state.manifest_version > 0) {
        let path = format!("{folder}{}", names::of_manifest(state.manifest_version));
        until_done!(patience, days.target.fetch(&path, &copy))?;
        let ours = known.iter().map(|file| (file.name.clone(), file.rows, file.checksum.clone()));
        match manifest(&copy) {
            Ok((_, theirs)) if theirs == ours.collect::<BTreeSet<_>>() => {}
            Ok((version, _)) => found.differences.push(format!("manifest v{version} lists other files (a newer one is written within seconds while `smartlog run` is up)")),
            Err(error) => found.differences.push(format!("{path} cannot be read: {error}")),
        }
    }
    days.note_usage().await?;
    let stored = stored(&mut days, of).await?;
    for partition in stored.keys().chain(exported.keys()).collect::<BTreeSet<_>>() {
        let (store, files) = (stored.get(partition).unwrap_or(&0), exported.get(partition).unwrap_or(&0));
        if store != files {
            found.differences.push(format!("{partition}: {store} logs in the store, {files} in the files"));
        }
    }
    found.stored = stored.values().sum();
    found.exported = exported.values().sum();
    found.files = known.len();
    Ok(found)
}

/// The store's logs of the day, as far as they are to be in files.
async fn stored(days: &mut super::days::Days, of: &Anew) -> Result<Rows, SinkError> {
    let below = super::generation::below(days, of.streamed).await?.below;
    let tables = &mut days.ledger.tables;
    let (from, to) = (tables.moment("$1"), tables.moment("$2"));
    let mut stored = Rows::new();
    for (partition, below) in below {
        let sql = format!(
            "SELECT count(*) FROM logs WHERE timestamp >= {from} AND timestamp < {to} AND kafka_topic = $3 \
             AND kafka_partition = $4 AND kafka_offset < $5"
        );
        let values =
            values![of.day.start_us(), of.day.end_us(), partition.topic.as_str(), partition.partition, below];
        let count = tables.query(&sql, values).await?.first().map_or(0, |row| row.int(0));
        if count > 0 {
            stored.insert(partition, count);
        }
    }
    Ok(stored)
}

type Listed = BTreeSet<(String, i64, String)>;

fn manifest(path: &Path) -> Result<(i64, Listed), Box<dyn std::error::Error + Send + Sync>> {
    let manifest: Manifest = serde_json::from_slice(&std::fs::read(path)?)?;
    let files = manifest.files.into_iter().map(|file| (file.name, file.rows, file.row_checksum));
    Ok((manifest.version, files.collect()))
}

fn read(path: &Path) -> Result<(Rows, RowChecksum), Box<dyn std::error::Error + Send + Sync>> {
    let (mut rows, mut checksum, mut scratch) = (Rows::new(), RowChecksum::default(), Vec::new());
    for batch in ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?.build()? {
        let batch = batch?;
        each_row(&batch, |partition, log| {
            checksum.add(partition, log, &mut scratch);
            match rows.get_mut(partition) {
                Some(count) => *count += 1,
                None => drop(rows.insert(partition.clone(), 1)),
            }
        })
        .ok_or("its columns are not those of docs/EXPORT.md")?;
    }
    Ok((rows, checksum))
}

/// `None` when a column is missing or of another type.
pub(super) fn each_row(batch: &RecordBatch, mut row: impl FnMut(&TopicPartition, &LogRef<'_>)) -> Option<()> {
    let text = |name: &str| batch.column_by_name(name)?.as_string_opt::<i32>();
    let (levels, services, hosts) = (text("level")?, text("service")?, text("host")?);
    let (messages, metadata, topics) = (text("message")?, text("metadata")?, text("kafka_topic")?);
    let times = batch.column_by_name("timestamp")?.as_primitive_opt::<TimestampMicrosecondType>()?;
    let partitions = batch.column_by_name("kafka_partition")?.as_primitive_opt::<Int32Type>()?;
    let offsets = batch.column_by_name("kafka_offset")?.as_primitive_opt::<Int64Type>()?;
    let shapes = batch.column_by_name("shape")?.as_primitive_opt::<Int64Type>()?;
    for at in 0..batch.num_rows() {
        let log = LogRef {
            offset: offsets.value(at),
            timestamp_us: times.value(at),
            level: Level::ALL.into_iter().find(|level| level.as_str() == levels.value(at))?,
            service: services.value(at),
            host: hosts.is_valid(at).then(|| hosts.value(at)),
            message: messages.value(at),
            metadata: metadata.is_valid(at).then(|| metadata.value(at)),
            shape: if shapes.is_valid(at) { shapes.value(at) } else { 0 },
        };
        row(&TopicPartition::new(topics.value(at), partitions.value(at)), &log);
    }
    Some(())
}
