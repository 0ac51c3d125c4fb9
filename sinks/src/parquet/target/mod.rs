//! Where files go: one seam for a folder, S3, and what speaks its language.

pub(super) mod local;
#[cfg(feature = "s3")]
mod s3;

use super::ExportConfig;
use crate::error::{Fault, SinkError};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Rights of files, less the process' umask: what was exported is there to be read.
pub(super) const MODE: u32 = 0o666;

/// What is written.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    /// A file of the spool.
    File(PathBuf),
    /// Something small.
    Bytes(Bytes),
}

/// What [`Target::put_new`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    Written,
    /// Something has that name already, and stays as it is.
    Taken,
}

/// What is known of an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Head {
    pub bytes: i64,
    /// The key-values of docs/EXPORT.md.
    pub tags: BTreeMap<String, String>,
    /// Names this very content, for [`Target::replace`].
    pub etag: String,
}

/// What lies in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Measured {
    pub objects: i64,
    pub bytes: i64,
}

/// A folder or bucket. Paths are relative to it, with `/`. Nothing here retries beyond what its client does.
#[async_trait]
pub(crate) trait Target: Send + Sync {
    /// Its URL without secrets: what the ledger and messages call it.
    fn url(&self) -> &str;

    fn usage(&self) -> &Usage;

    /// Writes an object unless something has its name: of two writers one wins, and a reader sees all of it or nothing.
    async fn put_new(&self, path: &str, body: Body, tags: &[(String, String)]) -> Result<Put, SinkError>;

    /// Writes an object in the place of `old` (`None`: of nothing). `false` when it was another by then.
    async fn replace(
        &self,
        path: &str,
        body: Bytes,
        tags: &[(String, String)],
        old: Option<&Head>,
    ) -> Result<bool, SinkError>;

    /// `None`: nothing has that name.
    async fn head(&self, path: &str) -> Result<Option<Head>, SinkError>;

    /// Fetches an object into a file that is made anew.
    async fn fetch(&self, path: &str, into: &Path) -> Result<(), SinkError>;

    /// The names in a folder (given with its slash), without what lies deeper.
    async fn list(&self, folder: &str) -> Result<Vec<String>, SinkError>;

    /// What lies in a folder (given with its slash) at any depth. Counting stops once `at_most` objects are found.
    async fn measure(&self, folder: &str, at_most: i64) -> Result<Measured, SinkError>;

    /// Deletes an object; fine when it is not there.
    async fn delete(&self, path: &str) -> Result<(), SinkError>;

    /// Aborts what a killed process began to upload to `path`.
    async fn abort_uploads(&self, path: &str) -> Result<(), SinkError>;
}

/// What a target was asked for since [`Usage::take`], for the costs.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    puts: AtomicI64,
    gets: AtomicI64,
    deletes: AtomicI64,
    bytes_uploaded: AtomicI64,
    multipart_aborted: AtomicI64,
}

/// Counts of one stretch of time, as a row of `export_usage` keeps them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counted {
    pub puts: i64,
    pub gets: i64,
    pub deletes: i64,
    pub bytes_uploaded: i64,
    pub multipart_aborted: i64,
}

impl Usage {
    pub fn put(&self, bytes: i64) {
        self.puts.fetch_add(1, Ordering::Relaxed);
        self.bytes_uploaded.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn get(&self) {
        self.gets.fetch_add(1, Ordering::Relaxed);
    }

    pub fn delete(&self) {
        self.deletes.fetch_add(1, Ordering::Relaxed);
    }

    #[cfg(feature = "s3")]
    pub fn aborted(&self) {
        self.multipart_aborted.fetch_add(1, Ordering::Relaxed);
        self.delete();
    }

    /// What was counted since the last call.
    pub fn take(&self) -> Counted {
        let take = |counter: &AtomicI64| counter.swap(0, Ordering::Relaxed);
        Counted {
            puts: take(&self.puts),
            gets: take(&self.gets),
            deletes: take(&self.deletes),
            bytes_uploaded: take(&self.bytes_uploaded),
            multipart_aborted: take(&self.multipart_aborted),
        }
    }
}

/// The target that `config` names. Nothing is connected yet.
///
/// # Errors
/// [`SinkError::Fatal`] when the URL cannot be understood, or asks for what this build leaves out.
pub(crate) async fn open(config: &ExportConfig) -> Result<Arc<dyn Target>, SinkError> {
    match config.target.split_once("://") {
        Some(("s3", place)) => open_s3(config, place).await,
        Some(("file", path)) => Ok(Arc::new(local::Folder::new(Path::new(path))?)),
        Some((scheme, _)) => Err(wrong(&config.target, &format!("nothing is known of {scheme}://"))),
        None if config.target.is_empty() => Err(wrong("", "it is empty")),
        None => Ok(Arc::new(local::Folder::new(Path::new(&config.target))?)),
    }
}

/// Bucket, and prefix with its slash or empty, of `s3://BUCKET/PREFIX`.
#[cfg(feature = "s3")]
pub(crate) fn bucket_of(target: &str) -> (String, String) {
    let place = target.strip_prefix("s3://").unwrap_or(target);
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    let prefix = prefix.trim_matches('/');
    let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    (bucket.to_owned(), prefix)
}

#[cfg(feature = "s3")]
pub(crate) use s3::s3_client;

#[cfg(feature = "s3")]
async fn open_s3(config: &ExportConfig, place: &str) -> Result<Arc<dyn Target>, SinkError> {
    Ok(Arc::new(s3::Bucket::open(config, place).await?))
}

#[cfg(not(feature = "s3"))]
async fn open_s3(config: &ExportConfig, _: &str) -> Result<Arc<dyn Target>, SinkError> {
    Err(SinkError::Fatal(Fault {
        store: config.target.clone(),
        doing: "export to it".into(),
        found: "this program was built without S3".into(),
        advice: "build it with --features s3, or name a folder".into(),
    }))
}

fn wrong(target: &str, found: &str) -> SinkError {
    SinkError::Fatal(Fault {
        store: format!("export target {target:?}"),
        doing: "understand it".into(),
        found: found.into(),
        advice: "name a folder, or s3://BUCKET/PREFIX".into(),
    })
}
