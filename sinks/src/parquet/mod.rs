//! Every log as Parquet, in a folder or bucket, exactly once. What readers rely on: docs/EXPORT.md.
//!
//! ```text
//!   ParquetLogs::write ─▶ range of a partition, by day ─▶ spool ─▶ Uploader (a task) ─▶ Target
//!        [range]                                                    intent │ completion
//!                                                                          ▼
//!                                                               Ledger: tables of the state store
//! ```
//!
//! | module | what it owns |
//! |---|---|
//! | `columns`, `metadata`, `encode` | the schema; rows into row groups; one file |
//! | `checksum`, `names` | what identifies rows; what things are called |
//! | `range`, `spool` | a range being filled; where its files are put together |
//! | `upload`, `ledger` | the protocol, and the tables that it rests on |
//! | `days`, `anomalies`, `keeper` | closing days, manifests, snapshots: beside the sinks |
//! | `usage` | what the cloud part used, measured where it happened |
//! | `generation`, `verify` | `smartlog export` |
//! | `history` | exported logs, read back for training |
//! | `target` | the seam to folders, S3 and its kin |

mod anomalies;
mod checksum;
mod columns;
mod config;
mod days;
mod encode;
mod generation;
mod history;
mod keeper;
mod ledger;
pub(crate) mod metadata;
mod names;
mod range;
mod spool;
pub(crate) mod target;
mod upload;
#[cfg(feature = "s3")]
mod usage;
mod verify;

pub use checksum::RowChecksum;
pub use config::{ExportConfig, Kept, Measure, Precondition, S3Config};
pub use generation::{Anew, Exported, export_day};
pub use history::read_exported;
pub use keeper::{exported_rows, keep};
pub use names::Day;
pub use verify::{Verified, verify_day};

use crate::config::StoreConfig;
use crate::database::Tables;
use crate::error::{Fault, SinkError};
use crate::plan::{check_claimed, not_open};
use crate::retry::{Patience, until_done};
use crate::{CancellationToken, Fill, Health, LogSink};
use async_trait::async_trait;
use ledger::{Covered, Intent, Ledger};
use range::{ExportError, Filling, MAX_DAYS};
use smartlog_schema::log::{LogBatch, LogRef};
use smartlog_schema::position::{Positions, TopicPartition};
use spool::Spool;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use target::Target;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use upload::{Shared, Uploader, Work};

/// The name under which its positions are stored.
pub const PARQUET: &str = "parquet";
/// How long after its end a day is closed, event time.
pub(crate) const CLOSE_AFTER_US: i64 = 15 * 60 * 1_000_000;
const DAY_US: i64 = 86_400_000_000;
/// How often the ledger hears how far this sink is, or that it lives.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// [`LogSink`] into Parquet files. Its position moves when a range of offsets is complete, not with each write: what was
/// not complete is read again after a restart.
pub(crate) struct ParquetLogs {
    config: ExportConfig,
    store: StoreConfig,
    patience: Patience,
    opened: Option<Opened>,
}

struct Opened {
    ledger: Ledger,
    target: Arc<dyn Target>,
    spool: Spool,
    covered: Covered,
    claimed: BTreeSet<TopicPartition>,
    /// What is complete, or handed over to become so.
    sealed_to: Positions,
    filling: BTreeMap<TopicPartition, Filling>,
    /// Ranges that a predecessor fixed: they end where they ended.
    fixed: BTreeMap<TopicPartition, Intent>,
    work: UnboundedSender<Work>,
    shared: Arc<Shared>,
    uploader: JoinHandle<()>,
    watermark_us: i64,
    heard_of: Instant,
}

impl ParquetLogs {
    pub fn new(config: ExportConfig, store: StoreConfig, health: Health, cancel: CancellationToken) -> Self {
        ParquetLogs { config, store, patience: Patience { health, cancel }, opened: None }
    }
}

impl Opened {
    /// Claims a partition, and finishes what a killed predecessor fixed of it, if it left all the objects.
    async fn claim(&mut self, partition: &TopicPartition, patience: &Patience) -> Result<(), SinkError> {
        let stored = self.ledger.claim(partition).await?;
        let mut stands_at = stored;
        let elsewhere = self.ledger.give_up_elsewhere(partition).await?;
        if elsewhere > 0 {
            tracing::warn!(
                %partition, files = elsewhere,
                "the target changed while files were under way: their logs go to the new one, and may be in the old one too"
            );
        }
        if let Some(intent) = self.ledger.intent(partition).await? {
            let target = Arc::clone(&self.target);
            for file in &intent.files {
                until_done!(patience, target.abort_uploads(&file.path()))?;
            }
            if is_there(&*target, &intent, patience).await? {
                let (source, expected, files) = (partition.clone(), stored, Vec::new());
                let done = range::Sealed { source, expected, first: intent.first, next: intent.next, files };
                self.ledger.complete(&done, &intent.files, target.usage().take()).await?;
                stands_at = Some(intent.next);
            } else {
                self.fixed.insert(partition.clone(), intent);
            }
        }
        // Read once the position is ours: from here on `smartlog export` covers what we completed, and no more.
        self.covered = self.ledger.covered().await?;
        self.claimed.insert(partition.clone());
        self.sealed_to.extend(stands_at.map(|next| (partition.clone(), next)));
        Ok(())
    }

    /// Takes what of `batch` is not taken yet.
    fn take(&mut self, batch: &LogBatch) -> Result<(), ExportError> {
        let mut at = 0;
        loop {
            let source = &batch.source;
            let stored = self.sealed_to.get(source).copied();
            if stored.is_some_and(|stored| stored >= batch.next_offset) {
                return Ok(());
            }
            let begin = || Filling::new(source.clone(), stored, stored.unwrap_or(batch.first_offset));
            let filling = self.filling.entry(source.clone()).or_insert_with(begin);
            // Where a predecessor fixed the end of the range, or where this batch ends.
            let ends = self.fixed.get(source).map_or(i64::MAX, |intent| intent.next);
            let end = ends.min(batch.next_offset);
            while at < batch.len() {
                let log = batch.get(at);
                if log.offset >= end {
                    break;
                }
                at += 1;
                let day = Day::of(log.timestamp_us);
                let Some(day) = day.filter(|_| log.offset >= filling.next) else { continue };
                if !is_covered(&self.covered, day, source, &log) {
                    filling.push(day, &log, &self.spool)?;
                }
            }
            filling.next = filling.next.max(end);
            if batch.next_offset < ends && filling.days() < MAX_DAYS {
                return Ok(());
            }
            let source = source.clone();
            self.seal(&source)?;
        }
    }

    /// Ends the range of a partition and hands it over.
    fn seal(&mut self, partition: &TopicPartition) -> Result<(), ExportError> {
        let Some(filling) = self.filling.remove(partition) else { return Ok(()) };
        if filling.is_empty() {
            return Ok(());
        }
        let sealed = filling.seal(&self.spool)?;
        self.sealed_to.insert(partition.clone(), sealed.next);
        self.shared.waiting_bytes.fetch_add(sealed.bytes(), Ordering::Relaxed);
        // An uploader that ended is noticed by whoever asks for its failure.
        let _ = self.work.send(Work::Range(Box::new(sealed), self.fixed.remove(partition)));
        Ok(())
    }

    fn seal_where(&mut self, ends: impl Fn(&Filling) -> bool) -> Result<(), ExportError> {
        let ended = self.filling.iter().filter(|(_, filling)| ends(filling)).map(|(p, _)| p.clone());
        ended.collect::<Vec<_>>().iter().try_for_each(|partition| self.seal(partition))
    }

    /// Keeps memory within its bound: what waits most goes to disk first.
    fn keep_within(&mut self, max_buffer_bytes: usize) -> Result<(), ExportError> {
        while self.filling.values().map(Filling::waiting_bytes).sum::<usize>() > max_buffer_bytes {
            let Some(largest) = self.filling.values_mut().max_by_key(|filling| filling.waiting_bytes())
            else {
                return Ok(());
            };
            largest.write_out(&self.spool)?;
        }
        Ok(())
    }

    /// Takes note of what waits, and tells how much of it is on disk.
    fn note_spooled(&self) -> u64 {
        let (filling, buffered) = self.filling.values().fold((0, 0), |(filling, buffered), range| {
            (filling + range.spooled_bytes(), buffered + range.waiting_bytes() as u64)
        });
        self.shared.filling_bytes.store(filling, Ordering::Relaxed);
        self.shared.buffered_bytes.store(buffered, Ordering::Relaxed);
        self.shared.spooled_bytes()
    }

    /// Waits until the uploader has made room on disk.
    async fn make_room(&mut self, max_spool_bytes: u64) -> Result<(), ExportError> {
        if self.note_spooled() <= max_spool_bytes {
            return Ok(());
        }
        self.seal_where(|filling| filling.spooled_bytes() > 0)?;
        loop {
            let progress = self.shared.progress.notified();
            if self.note_spooled() <= max_spool_bytes || self.shared.failure().is_some() {
                return Ok(());
            }
            progress.await;
        }
    }

    /// As [`Self::seal_where`], but a range that a predecessor fixed ends where that one ended, wherever the batches of this
    /// run are cut: ended sooner it would be another range, beside what the predecessor left of its own.
    fn roll_where(&mut self, ends: impl Fn(&Filling) -> bool) -> Result<(), ExportError> {
        let fixed = &self.fixed;
        let ended = self.filling.iter().filter(|(p, filling)| !fixed.contains_key(p) && ends(filling));
        let ended: Vec<_> = ended.map(|(partition, _)| partition.clone()).collect();
        ended.iter().try_for_each(|partition| self.seal(partition))
    }

    /// Ends the ranges whose time has come.
    fn roll(&mut self, config: &ExportConfig, watermark_us: i64) -> Result<(), ExportError> {
        self.roll_where(|filling| filling.largest_file() >= config.roll_bytes)?;
        if let Some(every) = config.roll_every() {
            self.roll_where(|filling| filling.since.elapsed() >= every)?;
        }
        let now_us = ledger::wall_us();
        self.roll_where(|filling| filling.outlives(&config.kept, now_us))?;
        let closed = closed_before(watermark_us);
        if closed > closed_before(self.watermark_us) {
            self.roll_where(|filling| filling.begins_before(closed))?;
        }
        Ok(())
    }

    /// Tells the ledger how far this sink is, once everything up to there was handed over.
    fn report(&mut self, watermark_us: i64) {
        let crossed = closed_before(watermark_us) > closed_before(self.watermark_us);
        self.watermark_us = self.watermark_us.max(watermark_us);
        if !crossed && self.heard_of.elapsed() < HEARTBEAT {
            return;
        }
        self.heard_of = Instant::now();
        // What is still being filled is of days that are not over, so the days before are all there.
        let closed = closed_before(self.watermark_us);
        let whole = !self.filling.values().any(|filling| filling.begins_before(closed));
        let known = closed.saturating_add(CLOSE_AFTER_US);
        let work = if whole && self.watermark_us > i64::MIN { Work::Watermark(known) } else { Work::Alive };
        // As in `seal`.
        let _ = self.work.send(work);
    }

    fn failure(&self) -> Result<(), SinkError> {
        self.shared.failure().map_or(Ok(()), Err)
    }
}

/// Connects target and ledger, and starts the uploader.
async fn open(config: &ExportConfig, store: &StoreConfig, patience: &Patience) -> Result<Opened, SinkError> {
    let target = until_done!(patience, target::open(config))?;
    let ledger = |tables| Ledger::new(tables, target.url().to_owned());
    let mut ours = ledger(Tables::new(store, patience.clone())?);
    ours.check_owned(&*target, patience).await?;
    let (shared, (work, todo)) = (Arc::new(Shared::default()), unbounded_channel());
    let uploader = Uploader {
        // Another connection of the same writer.
        ledger: Ledger { standing: ours.standing, ..ledger(Tables::new(store, patience.clone())?) },
        target: Arc::clone(&target),
        patience: patience.clone(),
        shared: Arc::clone(&shared),
    };
    let (told, limits) = (Arc::clone(&shared), (config.max_buffer_bytes as u64, config.max_spool_bytes));
    patience.health.told_by(move || {
        let buffered = told.buffered_bytes.load(Ordering::Relaxed);
        vec![
            Fill { queue: "buffer", used: buffered, limit: limits.0 },
            Fill { queue: "spool", used: told.spooled_bytes(), limit: limits.1 },
        ]
    });
    Ok(Opened {
        covered: Covered::new(),
        ledger: ours,
        spool: Spool::new(config)?,
        claimed: BTreeSet::new(),
        sealed_to: Positions::new(),
        filling: BTreeMap::new(),
        fixed: BTreeMap::new(),
        uploader: tokio::spawn(uploader.run(todo)),
        work,
        shared,
        target,
        watermark_us: i64::MIN,
        heard_of: Instant::now(),
    })
}

/// Whether every file of an intent is there with the rows that it is to hold.
async fn is_there(target: &dyn Target, intent: &Intent, patience: &Patience) -> Result<bool, SinkError> {
    for file in &intent.files {
        let head = until_done!(patience, target.head(&file.path()))?;
        if !head.is_some_and(|head| file.agrees(&head)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The midnight before which every day is over at that watermark.
fn closed_before(watermark_us: i64) -> i64 {
    watermark_us.saturating_sub(CLOSE_AFTER_US).div_euclid(DAY_US).saturating_mul(DAY_US)
}

/// Whether `smartlog export` wrote the log before this sink first came by.
fn is_covered(covered: &Covered, day: Day, source: &TopicPartition, log: &LogRef<'_>) -> bool {
    !covered.is_empty()
        && covered
            .get(&day.to_string())
            .and_then(|of_day| of_day.get(source))
            .is_some_and(|next| log.offset < *next)
}

#[async_trait]
impl LogSink for ParquetLogs {
    fn name(&self) -> &str {
        PARQUET
    }

    async fn resume(&mut self, partitions: &[TopicPartition]) -> Result<Positions, SinkError> {
        if self.opened.is_none() {
            self.opened = Some(open(&self.config, &self.store, &self.patience).await?);
        }
        let Some(opened) = &mut self.opened else {
            return Err(not_open(&self.config.target, "claim partitions"));
        };
        for partition in partitions {
            opened.claim(partition, &self.patience).await?;
        }
        self.patience.health.recovered();
        let of = |partition: &TopicPartition| Some((partition.clone(), *opened.sealed_to.get(partition)?));
        Ok(partitions.iter().filter_map(of).collect())
    }

    async fn write(&mut self, batches: &[LogBatch], watermark_us: i64) -> Result<(), SinkError> {
        let ParquetLogs { config, opened, .. } = self;
        let Some(opened) = opened else { return Err(not_open(&config.target, "write logs")) };
        check_claimed(&config.target, &opened.claimed, batches)?;
        opened.failure()?;
        for batch in batches {
            opened.take(batch).map_err(|error| trouble(config, error))?;
            opened.keep_within(config.max_buffer_bytes).map_err(|error| trouble(config, error))?;
        }
        opened.roll(config, watermark_us).map_err(|error| trouble(config, error))?;
        opened.make_room(config.max_spool_bytes).await.map_err(|error| trouble(config, error))?;
        opened.report(watermark_us);
        opened.failure()
    }

    async fn finish(&mut self) -> Result<(), SinkError> {
        let Some(mut opened) = self.opened.take() else { return Ok(()) };
        opened.seal_where(|_| true).map_err(|error| trouble(&self.config, error))?;
        let Opened { work, shared, uploader, .. } = opened;
        drop(work);
        let ended = uploader.await;
        match (shared.failure(), ended) {
            (Some(error), _) => Err(error),
            (None, Err(panic)) => Err(not_open(&self.config.target, &format!("upload: {panic}"))),
            (None, Ok(())) => Ok(()),
        }
    }
}

pub(in crate::parquet) fn trouble(config: &ExportConfig, error: ExportError) -> SinkError {
    match error {
        ExportError::Disk(error) => target::local::fault(&config.target, "put a file together", &error),
        error => SinkError::Fatal(Fault {
            store: config.target.clone(),
            doing: "put a file together".into(),
            found: error.to_string(),
            advice:
                "if the disk of export.spool is full make room there, else please report it; then start again"
                    .into(),
        }),
    }
}
