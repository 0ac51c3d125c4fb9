//! From a sealed range to complete files: intent, objects, completion. One range at a time, beside the sink that fills the next.
//!
//! ```text
//!   Work::Range ─▶ intend ─▶ put each file ─┬─ all there ─▶ complete ─▶ the position has moved
//!                    ▲                       └─ a name is another's ─┐
//!                    └───────────────── the next names ◀─────────────┘
//! ```
//!
//! A crash anywhere leaves the intent, which the next start finishes (docs/EXPORT.md).

use super::ledger::{Entry, Intent, Ledger};
use super::names;
use super::range::Sealed;
use super::target::{Body, Put, Target};
use crate::error::SinkError;
use crate::retry::{Patience, until_done};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;

/// What the sink hands over, in order. The queue is bounded by the bytes of the spool, which the sink watches.
pub(super) enum Work {
    /// A range, and what was fixed of it by a predecessor.
    Range(Box<Sealed>, Option<Intent>),
    /// All that was handed over before is all that there is up to this event time.
    Watermark(i64),
    /// Nothing new; say that we live.
    Alive,
}

/// What sink and uploader know of each other.
#[derive(Default)]
pub(super) struct Shared {
    /// Bytes of files that are not complete.
    pub waiting_bytes: AtomicU64,
    /// Bytes of files that are being filled, and of rows that wait in memory to be encoded.
    pub filling_bytes: AtomicU64,
    pub buffered_bytes: AtomicU64,
    /// Rows completed since the start.
    pub rows: AtomicI64,
    pub progress: Notify,
    failed: Mutex<Option<SinkError>>,
}

impl Shared {
    /// Bytes on disk: of files that are being filled or not complete.
    pub fn spooled_bytes(&self) -> u64 {
        self.filling_bytes.load(Ordering::Relaxed) + self.waiting_bytes.load(Ordering::Relaxed)
    }

    /// The error that ended the uploader.
    pub fn failure(&self) -> Option<SinkError> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(super) struct Uploader {
    pub ledger: Ledger,
    pub target: Arc<dyn Target>,
    pub patience: Patience,
    pub shared: Arc<Shared>,
}

impl Uploader {
    /// Works until the sink is gone and everything is done, or something fails for good.
    pub async fn run(mut self, mut work: UnboundedReceiver<Work>) {
        while let Some(next) = work.recv().await {
            if let Err(error) = self.take(next).await {
                self.patience.health.failed(&error);
                *self.shared.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                break;
            }
            self.shared.progress.notify_waiters();
        }
        if self.shared.failure().is_none()
            && let Err(error) = self.ledger.note_usage(&*self.target).await
        {
            tracing::warn!(%error, "some requests to the target are missing in the costs");
        }
        self.shared.progress.notify_waiters();
    }

    async fn take(&mut self, work: Work) -> Result<(), SinkError> {
        match work {
            Work::Range(sealed, intent) => {
                let bytes = sealed.bytes();
                self.range(&sealed, intent).await?;
                self.shared.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
                self.shared.rows.fetch_add(sealed.rows(), Ordering::Relaxed);
                Ok(())
            }
            Work::Watermark(us) => self.ledger.note_watermark(us).await,
            Work::Alive => self.ledger.touch().await,
        }
    }

    async fn range(&mut self, sealed: &Sealed, intent: Option<Intent>) -> Result<(), SinkError> {
        let begun = std::time::Instant::now();
        let (mut fixed, mut again) = match intent {
            Some(intent) if is_of(&intent, sealed) => (Some(intent.files), 0),
            _ => (None, self.ledger.names_taken(sealed).await?),
        };
        let mut foreign = Vec::new();
        loop {
            let files = match fixed.take() {
                Some(files) => files,
                None => {
                    let files = entries(sealed, again);
                    self.ledger.intend(sealed, &files, &foreign).await?;
                    files
                }
            };
            foreign = self.put_all(sealed, &files).await?;
            if foreign.is_empty() {
                let used = self.target.usage().take();
                self.ledger.complete(sealed, &files, used).await?;
                self.patience.health.committed(begun.elapsed(), sealed.rows().unsigned_abs(), 0);
                return Ok(());
            }
            again = self.ledger.names_taken(sealed).await?.max(again + 1);
        }
    }

    /// Puts every file; gives the names that hold other rows.
    async fn put_all(&self, sealed: &Sealed, files: &[Entry]) -> Result<Vec<String>, SinkError> {
        let mut foreign = Vec::new();
        for (file, entry) in sealed.files.iter().zip(files) {
            let body = Body::File(PathBuf::from(&*file.path));
            if !put(&*self.target, &self.patience, entry, body, &file.contents.tags()).await? {
                tracing::warn!(
                    target = self.target.url(),
                    file = entry.path(),
                    "holds other rows than this range: writing under another name"
                );
                foreign.push(entry.name.clone());
            }
        }
        Ok(foreign)
    }
}

/// Writes a file, or finds that it is there; `false`: the name holds something else.
pub(super) async fn put(
    target: &dyn Target,
    patience: &Patience,
    entry: &Entry,
    body: Body,
    tags: &[(String, String)],
) -> Result<bool, SinkError> {
    let path = entry.path();
    loop {
        let put = until_done!(patience, target.put_new(&path, body.clone(), tags))?;
        if put == Put::Written {
            return Ok(true);
        }
        // Nothing there: it went away meanwhile.
        if let Some(head) = until_done!(patience, target.head(&path))? {
            return Ok(entry.agrees(&head));
        }
    }
}

/// Whether a predecessor fixed this very range with these very rows.
fn is_of(intent: &Intent, sealed: &Sealed) -> bool {
    let fixed = intent.files.iter().map(|file| (file.date.clone(), file.rows, file.checksum.clone()));
    let ours = sealed
        .files
        .iter()
        .map(|file| (file.contents.day.to_string(), file.contents.rows, file.contents.checksum.to_string()));
    (intent.first, intent.next) == (sealed.first, sealed.next) && fixed.eq(ours)
}

fn entries(sealed: &Sealed, again: u32) -> Vec<Entry> {
    let name = names::of_range(&sealed.source, sealed.first, sealed.next, again);
    let entry = |file: &super::range::SealedFile| file.entry(name.clone());
    sealed.files.iter().map(entry).collect()
}
