//! One day anew: all its logs from the table `logs`, as a new generation that replaces what was there.
//!
//! ```text
//!   what the stream completed (positions) ─▶ rows of the day below them ─▶ parts in the spool
//!     ─▶ intent (export_days.generation) ─▶ objects ─▶ one transaction: new files complete, old ones voided
//!     ─▶ manifest ─▶ _SUCCESS ─▶ voided files are deleted
//! ```

use super::config::ExportConfig;
use super::days::{DayState, Days};
use super::keeper;
use super::ledger::Entry;
use super::names::{self, Day};
use super::range::{DayFile, SealedFile};
use super::spool::Spool;
use super::target::Body;
use super::{PARQUET, trouble, upload};
use crate::config::StoreConfig;
use crate::database::{Row, Step, values};
use crate::error::{Fault, SinkError};
use crate::retry::Patience;
use crate::{CancellationToken, Health, LOGS};
use smartlog_schema::level::Level;
use smartlog_schema::log::LogRef;
use smartlog_schema::position::TopicPartition;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Rows of one question to the store.
const ROWS_A_PAGE: i64 = 20_000;

/// What `smartlog export --date` is told.
pub struct Anew {
    pub export: ExportConfig,
    pub store: StoreConfig,
    pub day: Day,
    /// Whether the sink `parquet` writes to this target.
    pub streamed: bool,
    /// Replace files by fewer rows.
    pub force: bool,
}

/// What it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    pub generation: i64,
    pub files: usize,
    pub rows: i64,
    pub bytes: i64,
    /// Files that it replaced, and their rows.
    pub replaced_files: usize,
    pub replaced_rows: i64,
}

/// Per partition, the next offset that does not belong to the generation.
type Below = BTreeMap<TopicPartition, i64>;

/// What a generation covers.
#[derive(Debug, Default)]
pub(super) struct Covers {
    pub below: Below,
    /// Partitions that the stream is to write to this target, and has not come by yet.
    unclaimed: Vec<TopicPartition>,
}

/// Writes a day anew. `progress` hears how many rows of how many were read.
pub async fn export_day(
    anew: &Anew,
    progress: &mut (dyn FnMut(i64, i64) + Send),
) -> Result<Exported, SinkError> {
    let patience = Patience { health: Health::new(), cancel: CancellationToken::new() };
    let mut days = keeper::open(&anew.export, &anew.store, &patience).await?;
    let date = anew.day.to_string();
    days.ledger.tables.apply(&[days.ledger.know_day(&date)]).await?;
    days.ledger.void_unfinished(&date, i64::MAX).await?;
    let Some(state) = days.state(&date).await? else {
        return Err(days.ledger.tables.broken("read export_days", "the day that was just made is gone"));
    };
    let covers = below(&mut days, anew.streamed).await?;
    let replaced = replaced(&mut days, &date, &covers.below, anew).await?;
    let spool = Spool::new(&anew.export)?;
    let generation = state.generation + 1;
    let parts = read_day(&mut days, anew, generation, &covers.below, &spool, progress).await?;
    let rows: i64 = parts.iter().map(|part| part.contents.rows).sum();
    let replaced_rows: i64 = replaced.iter().map(|file| file.rows).sum();
    if rows < replaced_rows && !anew.force {
        return Err(SinkError::Fatal(Fault {
            store: days.ledger.tables.name().to_owned(),
            doing: format!("export {date} anew"),
            found: format!(
                "it holds {rows} logs of that day, the {} files hold {replaced_rows}",
                replaced.len()
            ),
            advice: "the store has dropped logs since; --force replaces the files all the same".into(),
        }));
    }
    let entries = publish(&mut days, &state, generation, &parts, &replaced, &covers).await?;
    if let Some(state) = days.state(&date).await? {
        days.write_manifest(&state, None).await?;
    }
    days.keep().await?;
    let bytes = entries.iter().map(|file| file.bytes).sum();
    Ok(Exported {
        generation,
        files: entries.len(),
        rows,
        bytes,
        replaced_files: replaced.len(),
        replaced_rows,
    })
}

/// What the stream has completed; what is stored where it has nothing to do with this target, or has not come by yet.
pub(super) async fn below(days: &mut Days, streamed: bool) -> Result<Covers, SinkError> {
    let sql = "SELECT l.topic, l.partition, l.next_offset, p.topic, p.next_offset, p.holder FROM sink_positions l \
               LEFT JOIN sink_positions p ON p.sink = $2 AND p.topic = l.topic AND p.partition = l.partition \
               WHERE l.sink = $1 AND l.next_offset IS NOT NULL";
    let rows = days.ledger.tables.query(sql, values![LOGS, PARQUET]).await?;
    let mut covers = Covers::default();
    for row in &rows {
        let partition = TopicPartition::new(row.text(0), row.int(1) as i32);
        let (stored, exported) = (row.int(2), row.maybe_int(4));
        let claimed = row.maybe_text(3).is_some() && (exported.is_some() || row.maybe_int(5).is_some());
        let below = match (streamed, claimed) {
            (true, true) => exported.unwrap_or(0),
            (true, false) => {
                covers.unclaimed.push(partition.clone());
                stored
            }
            (false, _) => stored,
        };
        if below > stored {
            return Err(behind(days, &partition, stored));
        }
        covers.below.insert(partition, below);
    }
    Ok(covers)
}

fn behind(days: &Days, partition: &TopicPartition, stored: i64) -> SinkError {
    SinkError::Fatal(Fault {
        store: days.ledger.tables.name().to_owned(),
        doing: "export a day anew".into(),
        found: format!(
            "its table logs ends at offset {stored} of {partition}, before what is exported already"
        ),
        advice: "run it again once the store has caught up (store.raw_logs must be on)".into(),
    })
}

/// The files that the generation takes the place of.
async fn replaced(days: &mut Days, date: &str, below: &Below, anew: &Anew) -> Result<Vec<Entry>, SinkError> {
    let sql = "SELECT name, topic, partition, next_offset FROM export_files WHERE target = $1 AND date = $2 \
               AND status = 'complete' AND generation = 0";
    let rows = days.ledger.tables.query(sql, values![days.ledger.target.as_str(), date]).await?;
    let mut later = Vec::new();
    for row in &rows {
        let partition = TopicPartition::new(row.text(1), row.int(2) as i32);
        let ends = below.get(&partition).copied().unwrap_or_default();
        if row.int(3) > ends {
            if !anew.streamed {
                return Err(behind(days, &partition, ends));
            }
            // Completed while we looked: its logs are not ours.
            later.push(row.text(0).to_owned());
        }
    }
    let mut files = days.ledger.files(date, "complete").await?;
    let known = |file: &Entry| file.generation > 0 || rows.iter().any(|row| row.text(0) == file.name);
    files.retain(|file| known(file) && !later.contains(&file.name));
    Ok(files)
}

/// Reads the day from the table `logs` into files: parts of one partition each.
async fn read_day(
    days: &mut Days,
    anew: &Anew,
    generation: i64,
    below: &Below,
    spool: &Spool,
    progress: &mut (dyn FnMut(i64, i64) + Send),
) -> Result<Vec<SealedFile>, SinkError> {
    let (start, end) = (anew.day.start_us(), anew.day.end_us());
    let tables = &mut days.ledger.tables;
    let (time, from, to) = (tables.micros("timestamp"), tables.moment("$1"), tables.moment("$2"));
    let count = format!("SELECT count(*) FROM logs WHERE timestamp >= {from} AND timestamp < {to}");
    let total = tables.query(&count, values![start, end]).await?.first().map_or(0, |row| row.int(0));
    let page = format!(
        "SELECT {time}, id, level, service, host, message, CAST(metadata AS TEXT), kafka_topic, kafka_partition, \
         kafka_offset, shape FROM logs WHERE timestamp >= {from} AND timestamp < {to} \
         AND (timestamp > {from} OR id > $3) ORDER BY timestamp, id LIMIT $4"
    );
    let mut open: BTreeMap<TopicPartition, DayFile> = BTreeMap::new();
    let (mut parts, mut read, mut scratch) = (Vec::new(), 0, Vec::new());
    let failed = |error| trouble(&anew.export, error);
    let (mut at, mut id) = (start, i64::MIN);
    loop {
        let rows = tables.query(&page, values![at, end, id, ROWS_A_PAGE]).await?;
        let Some(last) = rows.last() else { break };
        (at, id) = (last.int(0), last.int(1));
        read += rows.len() as i64;
        for row in &rows {
            let partition = TopicPartition::new(row.text(7), row.int(8) as i32);
            if below.get(&partition).is_none_or(|below| row.int(9) >= *below) {
                continue;
            }
            let file = open.entry(partition.clone()).or_insert_with(|| DayFile::new(&partition));
            file.push(&log_of(row), &mut scratch);
            file.keep_within(spool).map_err(failed)?;
        }
        while open.values().map(DayFile::waiting_bytes).sum::<usize>() > anew.export.max_buffer_bytes {
            let Some(largest) = open.values_mut().max_by_key(|file| file.waiting_bytes()) else { break };
            largest.write_out(spool).map_err(failed)?;
        }
        let full = open.extract_if(.., |_, file| file.spooled_bytes() >= anew.export.roll_bytes);
        parts.extend(full.map(|(_, file)| file));
        progress(read, total);
    }
    parts.extend(open.into_values());
    let seal = |file: DayFile| file.seal(anew.day, generation, spool).map_err(failed);
    parts.into_iter().map(seal).collect()
}

fn log_of(row: &Row) -> LogRef<'_> {
    let level = Level::ALL.into_iter().find(|level| level.as_str() == row.text(2));
    LogRef {
        offset: row.int(9),
        timestamp_us: row.int(0),
        level: level.unwrap_or(Level::Info),
        service: row.text(3),
        host: row.maybe_text(4),
        message: row.text(5),
        metadata: row.maybe_text(6),
        shape: row.int(10),
    }
}

/// Intent, objects, and the exchange.
async fn publish(
    days: &mut Days,
    state: &DayState,
    generation: i64,
    parts: &[SealedFile],
    replaced: &[Entry],
    covers: &Covers,
) -> Result<Vec<Entry>, SinkError> {
    let named = |(at, part): (usize, &SealedFile)| part.entry(names::of_generation(generation, at));
    let entries: Vec<Entry> = parts.iter().enumerate().map(named).collect();
    let (target, date) = (days.ledger.target.clone(), state.date.as_str());
    let sql = "UPDATE export_days SET generation = $3 WHERE target = $1 AND date = $2 AND generation = $4";
    let mut steps = vec![Step::one(sql, values![target.as_str(), date, generation, state.generation])];
    steps.extend(entries.iter().map(|file| days.ledger.insert(file, None)));
    if !days.ledger.tables.apply(&steps).await? {
        return Err(another(days, date));
    }
    for (part, entry) in parts.iter().zip(&entries) {
        let body = Body::File(PathBuf::from(&*part.path));
        if !upload::put(&*days.target, &days.patience, entry, body, &part.contents.tags()).await? {
            return Err(foreign(days, entry));
        }
    }
    let covered: Vec<(&str, i32, i64)> =
        covers.below.iter().map(|(p, next)| (p.topic.as_str(), p.partition, *next)).collect();
    let covered = serde_json::json!(covered).to_string();
    let sql = "UPDATE export_days SET covered = $4 WHERE target = $1 AND date = $2 AND generation = $3";
    let mut steps = vec![Step::one(sql, values![target.as_str(), date, generation, covered])];
    steps.extend(entries.iter().map(|file| days.ledger.complete_file(file)));
    for file in replaced {
        let sql = "UPDATE export_files SET status = 'voided' WHERE target = $1 AND date = $2 AND name = $3 \
                   AND status = 'complete'";
        steps.push(Step::one(sql, values![target.as_str(), date, file.name.as_str()]));
    }
    // A sink that claimed a partition meanwhile does not know what is covered: all of this is given up then.
    for partition in &covers.unclaimed {
        let sql = format!(
            "INSERT INTO sink_positions (sink, topic, partition) VALUES ($1, $2, $3) \
             ON CONFLICT (sink, topic, partition) DO UPDATE SET updated_at = {} \
             WHERE sink_positions.holder IS NULL AND sink_positions.next_offset IS NULL",
            days.ledger.tables.now()
        );
        steps.push(Step::one(sql, values![PARQUET, partition.topic.as_str(), partition.partition]));
    }
    steps.push(days.ledger.changed_day(date));
    steps.extend(days.ledger.used(days.target.usage().take()));
    if !days.ledger.tables.apply(&steps).await? && !is_published(days, date, &entries).await? {
        // Whoever voided them may have deleted their objects before the last ones were there.
        let sql = "UPDATE export_files SET deleted_us = NULL WHERE target = $1 AND date = $2 AND generation = $3 \
                   AND status = 'voided'";
        days.ledger.tables.apply(&[Step::new(sql, values![target, date, generation])]).await?;
        return Err(another(days, date));
    }
    Ok(entries)
}

/// Whether an exchange whose answer was lost went through.
async fn is_published(days: &mut Days, date: &str, entries: &[Entry]) -> Result<bool, SinkError> {
    let complete = days.ledger.files(date, "complete").await?;
    Ok(entries.iter().all(|file| complete.contains(file)))
}

fn another(days: &Days, date: &str) -> SinkError {
    SinkError::Fatal(Fault {
        store: days.ledger.tables.name().to_owned(),
        doing: format!("export {date} anew"),
        found:
            "another `smartlog export` of that day ran at the same time, `smartlog run` began to export, or its files \
             were not there within an hour"
                .into(),
        advice: "run it again".into(),
    })
}

fn foreign(days: &Days, entry: &Entry) -> SinkError {
    SinkError::Fatal(Fault {
        store: days.target.url().to_owned(),
        doing: format!("write {}", entry.path()),
        found: "an object of that name, which this store knows nothing of, holds other rows".into(),
        advice:
            "does another store export to the same place? Give each a prefix of its own; then run it again"
                .into(),
    })
}
