//! The range of offsets of one partition that is being filled, and what it becomes.
//!
//! ```text
//!   log ─▶ its day: rows waiting ──(a row group's worth)──▶ file in the spool
//!   range ends ─▶ all files closed ─▶ Sealed: ready to be written to the target
//! ```

use super::checksum::RowChecksum;
use super::columns::Columns;
use super::config::Kept;
use super::encode::{Contents, LogFile, ROW_GROUP_ROWS};
use super::ledger::Entry;
use super::names::Day;
use super::spool::Spool;
use parquet::errors::ParquetError;
use smartlog_schema::log::LogRef;
use smartlog_schema::position::TopicPartition;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::time::{Duration, Instant};
use tempfile::{NamedTempFile, TempPath};

/// Text that waits for one row group at most: bounds what encoding it takes.
const ROW_GROUP_BYTES: usize = 32 << 20;
/// Days in a range at most, each a file: a stream of random dates ends it early.
pub(super) const MAX_DAYS: usize = 64;

/// A range that Kafka's retention presses gets that long at least.
const SHORTEST: Duration = Duration::from_secs(60);

/// A file of a sealed range, or of a generation.
#[derive(Debug)]
pub(super) struct SealedFile {
    pub path: TempPath,
    pub bytes: i64,
    pub contents: Contents,
    pub min_timestamp_us: i64,
    pub max_timestamp_us: i64,
}

impl SealedFile {
    /// The file as the ledger is to have it.
    pub fn entry(&self, name: String) -> Entry {
        Entry {
            date: self.contents.day.to_string(),
            name,
            rows: self.contents.rows,
            bytes: self.bytes,
            checksum: self.contents.checksum.to_string(),
            generation: self.contents.generation,
            min_timestamp_us: self.min_timestamp_us,
            max_timestamp_us: self.max_timestamp_us,
        }
    }
}

/// A range whose files are closed.
#[derive(Debug)]
pub(super) struct Sealed {
    pub source: TopicPartition,
    /// The position that the range begins at: what must be stored now.
    pub expected: Option<i64>,
    pub first: i64,
    pub next: i64,
    pub files: Vec<SealedFile>,
}

impl Sealed {
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes.unsigned_abs()).sum()
    }

    pub fn rows(&self) -> i64 {
        self.files.iter().map(|file| file.contents.rows).sum()
    }
}

/// A range being filled.
pub(super) struct Filling {
    source: TopicPartition,
    expected: Option<i64>,
    first: i64,
    pub next: i64,
    pub since: Instant,
    days: BTreeMap<Day, DayFile>,
    /// Event time of its oldest log, for want of the record's.
    oldest_us: i64,
    /// Text of its logs.
    taken_bytes: u64,
    scratch: Vec<u8>,
}

impl Filling {
    pub fn new(source: TopicPartition, expected: Option<i64>, first: i64) -> Self {
        Filling {
            source,
            expected,
            first,
            next: first,
            since: Instant::now(),
            days: BTreeMap::new(),
            oldest_us: i64::MAX,
            taken_bytes: 0,
            scratch: Vec::new(),
        }
    }

    /// Takes a log of `day`; writes a row group when one is full.
    pub fn push(&mut self, day: Day, log: &LogRef<'_>, spool: &Spool) -> Result<(), ExportError> {
        let source = &self.source;
        self.oldest_us = self.oldest_us.min(log.timestamp_us);
        self.taken_bytes += text_bytes(log);
        let file = self.days.entry(day).or_insert_with(|| DayFile::new(source));
        file.push(log, &mut self.scratch);
        file.keep_within(spool)
    }

    /// Whether no offset is in it. (One without logs may hold dead letters, or nothing that Kafka still has.)
    pub fn is_empty(&self) -> bool {
        self.next == self.first
    }

    pub fn days(&self) -> usize {
        self.days.len()
    }

    /// Rows that wait in memory, bytes.
    pub fn waiting_bytes(&self) -> usize {
        self.days.values().map(DayFile::waiting_bytes).sum()
    }

    /// Bytes in the spool.
    pub fn spooled_bytes(&self) -> u64 {
        self.days.values().map(DayFile::spooled_bytes).sum()
    }

    /// Bytes of its largest file, should it end now: what waits is taken for compressed to a quarter.
    pub fn largest_file(&self) -> u64 {
        let size = |file: &DayFile| file.spooled_bytes() + file.waiting_bytes() as u64 / 4;
        self.days.values().map(size).max().unwrap_or_default()
    }

    /// Whether it holds logs from before `us`, so that a day that ended there can be closed once this has ended.
    pub fn begins_before(&self, us: i64) -> bool {
        self.days.keys().any(|day| day.start_us() < us)
    }

    /// Whether it should end for what Kafka keeps: half of the time is over that its oldest log has left there, or it holds
    /// half of the bytes. What is that old already gets [`SHORTEST`], so that catching up does not make a file a second.
    pub fn outlives(&self, kept: &Kept, now_us: i64) -> bool {
        let by_time = kept.time.is_some_and(|time| {
            let left_us =
                self.oldest_us.saturating_sub(now_us).saturating_add_unsigned(time.as_micros() as u64);
            let left = Duration::from_micros(left_us.max(0).unsigned_abs());
            self.since.elapsed() >= (left / 2).max(SHORTEST).min(time / 2)
        });
        by_time || kept.bytes.is_some_and(|bytes| self.taken_bytes >= bytes / 2)
    }

    /// Moves what waits from memory to the spool.
    pub fn write_out(&mut self, spool: &Spool) -> Result<(), ExportError> {
        self.days.values_mut().try_for_each(|file| file.write_out(spool))
    }

    /// Ends the range.
    pub fn seal(self, spool: &Spool) -> Result<Sealed, ExportError> {
        let files = self.days.into_iter().map(|(day, file)| file.seal(day, 0, spool));
        let files = files.collect::<Result<_, _>>()?;
        let Filling { source, expected, first, next, .. } = self;
        Ok(Sealed { source, expected, first, next, files })
    }
}

/// The file of one day and partition.
pub(super) struct DayFile {
    source: TopicPartition,
    waiting: Columns,
    rows: i64,
    checksum: RowChecksum,
    min_timestamp_us: i64,
    max_timestamp_us: i64,
    file: Option<(LogFile<BufWriter<File>>, TempPath)>,
}

impl DayFile {
    pub fn new(source: &TopicPartition) -> Self {
        DayFile {
            source: source.clone(),
            waiting: Columns::default(),
            rows: 0,
            checksum: RowChecksum::default(),
            min_timestamp_us: i64::MAX,
            max_timestamp_us: i64::MIN,
            file: None,
        }
    }

    pub fn push(&mut self, log: &LogRef<'_>, scratch: &mut Vec<u8>) {
        self.waiting.push(log);
        self.rows += 1;
        self.checksum.add(&self.source, log, scratch);
        self.min_timestamp_us = self.min_timestamp_us.min(log.timestamp_us);
        self.max_timestamp_us = self.max_timestamp_us.max(log.timestamp_us);
    }

    /// Writes a row group when one is full.
    pub fn keep_within(&mut self, spool: &Spool) -> Result<(), ExportError> {
        let full = self.waiting.rows() >= ROW_GROUP_ROWS || self.waiting_bytes() >= ROW_GROUP_BYTES;
        if full { self.write_out(spool) } else { Ok(()) }
    }

    /// Rows that wait in memory, bytes.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting.bytes()
    }

    /// Bytes in the spool.
    pub fn spooled_bytes(&self) -> u64 {
        self.file.as_ref().map_or(0, |(file, _)| file.bytes())
    }

    /// Moves what waits from memory to the spool, as a row group.
    pub fn write_out(&mut self, spool: &Spool) -> Result<(), ExportError> {
        if self.waiting.rows() == 0 {
            return Ok(());
        }
        let source = self.source.clone();
        let next = Columns::with_room_of(&self.waiting);
        let waiting = std::mem::replace(&mut self.waiting, next);
        self.open(spool)?.row_group(waiting, &source)?;
        Ok(())
    }

    fn open(&mut self, spool: &Spool) -> Result<&mut LogFile<BufWriter<File>>, ExportError> {
        let file = match self.file.take() {
            Some(open) => open,
            None => {
                let (file, path) = NamedTempFile::into_parts(spool.file()?);
                (LogFile::new(BufWriter::new(file))?, path)
            }
        };
        Ok(&mut self.file.insert(file).0)
    }

    /// Closes the file.
    pub fn seal(mut self, day: Day, generation: i64, spool: &Spool) -> Result<SealedFile, ExportError> {
        self.write_out(spool)?;
        self.open(spool)?;
        let contents = Contents { day, generation, rows: self.rows, checksum: self.checksum };
        let Some((file, path)) = self.file else { return Err(ExportError::Closed) };
        let file = file.finish(&contents)?.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        let bytes = file.metadata()?.len() as i64;
        let (min_timestamp_us, max_timestamp_us) = (self.min_timestamp_us, self.max_timestamp_us);
        Ok(SealedFile { path, bytes, contents, min_timestamp_us, max_timestamp_us })
    }
}

/// About what a log takes in Kafka before it is compressed there.
fn text_bytes(log: &LogRef<'_>) -> u64 {
    let maybe = |text: Option<&str>| text.map_or(0, str::len);
    (log.service.len() + log.message.len() + maybe(log.host) + maybe(log.metadata)) as u64
}

/// What can go wrong while a file is put together.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExportError {
    #[error("{0}")]
    Disk(#[from] std::io::Error),
    #[error("{0}")]
    Format(#[from] ParquetError),
    #[error("the file is closed already")]
    Closed,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parquet::ExportConfig;
    use smartlog_schema::level::Level;

    const HOUR_US: i64 = 3_600_000_000;

    /// A range that began `age` ago, whose only log is from the hour 100.
    fn filling(age: Duration) -> Filling {
        let folder = tempfile::tempdir().expect("a folder");
        let spool = Spool::new(&ExportConfig::new(folder.path().display().to_string())).expect("a spool");
        let mut filling = Filling::new(TopicPartition::new("logs", 0), None, 0);
        filling.since = Instant::now().checked_sub(age).expect("the machine is up for longer");
        let log = LogRef {
            offset: 0,
            timestamp_us: 100 * HOUR_US,
            level: Level::Info,
            service: "svc",
            host: Some("host"),
            message: "message",
            metadata: Some("{}"),
            shape: 0,
        };
        filling.push(Day::of(log.timestamp_us).expect("a day"), &log, &spool).expect("taken");
        filling
    }

    #[test]
    fn a_range_ends_before_kafka_could_delete_its_first_log() {
        let hours = |hours: u64| Kept { time: Some(Duration::from_secs(hours * 3600)), bytes: None };
        let (fresh, minutes) = (filling(Duration::ZERO), filling(Duration::from_secs(20 * 60)));
        let now = |hour: i64| hour * HOUR_US;
        assert!(!minutes.outlives(&Kept::default(), now(1_000_000)), "kept for ever");
        assert!(!minutes.outlives(&hours(24), now(100)), "12 hours are left");
        assert!(
            minutes.outlives(&hours(24), now(124) - HOUR_US / 2),
            "half an hour was left, and 20 minutes passed"
        );
        assert!(!minutes.outlives(&hours(24), now(123)), "an hour was left, and 20 minutes passed");
        assert!(
            minutes.outlives(&hours(24), now(200)),
            "a backlog at the end of its time, and a minute passed"
        );
        assert!(!fresh.outlives(&hours(24), now(200)), "a backlog at the end of its time: a minute it has");
        let short = Kept { time: Some(Duration::from_secs(30)), bytes: None };
        assert!(filling(Duration::from_secs(16)).outlives(&short, now(100)), "half of what is kept at most");
    }

    #[test]
    fn a_range_ends_at_half_of_the_bytes_that_kafka_keeps() {
        let bytes = |bytes| Kept { time: None, bytes: Some(bytes) };
        // svc, host, message and {}: 16 bytes.
        assert!(filling(Duration::ZERO).outlives(&bytes(32), 0));
        assert!(!filling(Duration::ZERO).outlives(&bytes(34), 0));
    }
}
