//! S3, and what speaks its language: MinIO, Google Cloud Storage by its interoperability keys, others.
//!
//! ```text
//!   up to 16 MiB  PUT, If-None-Match ────────────────────────────────────────────┐
//!   more          create ─▶ parts (4 at a time, each with its checksum) ─▶ complete, If-None-Match ─▶ Written | Taken
//!                    └──────── any of it fails, or the name is taken: abort ─────┘
//!   to Google     HEAD ─▶ PUT, of any size ──────────────────────────────────────┘
//! ```
//!
//! Credentials come by the SDK's chain (environment, profile, web identity, container, instance) and are shown nowhere.

mod client;
mod multipart;
#[cfg(test)]
mod tests;

pub(crate) use client::s3_client;

use super::{Body, Head, Measured, Put, Target, Usage, bucket_of, wrong};
use crate::error::SinkError;
use crate::parquet::config::{ExportConfig, Precondition};
use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::head_object::HeadObjectError;
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use client::{client, status};
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};

/// Bytes beyond which an object is uploaded in parts.
const SINGLE_PUT: i64 = 16 << 20;
/// Objects that one request lists at most.
const LIST_PAGE: i32 = 1000;
const CONTENT_TYPE: &str = "application/vnd.apache.parquet";

/// [`Target`] below a prefix of a bucket.
pub(super) struct Bucket {
    client: Client,
    bucket: String,
    /// Empty, or with a slash at its end.
    prefix: String,
    precondition: Precondition,
    url: String,
    usage: Usage,
    /// Whether a request ever went through: until then a refusal is the configuration's fault, later it may pass.
    worked: AtomicBool,
}

impl Bucket {
    /// Connects, and looks whether the bucket is there and lets us in.
    ///
    /// # Errors
    /// [`SinkError::Fatal`] when it does not.
    pub async fn open(config: &ExportConfig, place: &str) -> Result<Self, SinkError> {
        let (bucket, prefix) = bucket_of(place);
        if bucket.is_empty() {
            return Err(wrong(&config.target, "it names no bucket"));
        }
        let url = format!("s3://{bucket}/{prefix}").trim_end_matches('/').to_owned();
        let bucket = Bucket {
            client: client(config).await,
            bucket,
            prefix,
            precondition: config.s3.precondition,
            url,
            usage: Usage::default(),
            worked: AtomicBool::new(false),
        };
        bucket.list_page("logs/", None, 1).await?;
        Ok(bucket)
    }

    fn key(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    fn failed<E>(&self, doing: &str, error: &SdkError<E>) -> SinkError
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        client::failed(&self.url, self.worked.load(Ordering::Relaxed), doing, error)
    }

    fn worked(&self) {
        self.worked.store(true, Ordering::Relaxed);
    }

    async fn list_page(
        &self,
        folder: &str,
        after: Option<String>,
        at_most: i32,
    ) -> Result<(Vec<String>, Option<String>), SinkError> {
        let prefix = self.key(folder);
        let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(&prefix).delimiter("/");
        let page = request.set_continuation_token(after).max_keys(at_most).send().await;
        self.usage.put(0);
        let page = page.map_err(|error| self.failed(&format!("list {folder}"), &error))?;
        self.worked();
        let keys = page.contents().iter().filter_map(|object| object.key());
        let names = keys.filter_map(|key| key.strip_prefix(&prefix)).map(str::to_owned).collect();
        Ok((names, page.next_continuation_token().map(str::to_owned)))
    }

    async fn put_whole(&self, path: &str, body: Bytes, tags: &[(String, String)]) -> Result<Put, SinkError> {
        let bytes = body.len() as i64;
        self.put_stream(path, ByteStream::from(body), bytes, tags, None).await
    }

    /// `old`: `None`: nothing may be there; otherwise what is replaced.
    async fn put_stream(
        &self,
        path: &str,
        body: ByteStream,
        bytes: i64,
        tags: &[(String, String)],
        old: Option<&Head>,
    ) -> Result<Put, SinkError> {
        // Who of ours writes what is fixed by the ledger; another's object that came between the two would be replaced.
        if self.precondition == Precondition::Gcs && old.is_none() && self.head(path).await?.is_some() {
            return Ok(Put::Taken);
        }
        let request = self.client.put_object().bucket(&self.bucket).key(self.key(path)).body(body);
        let request = request.content_type(content_type(path)).set_metadata(Some(metadata(tags)));
        let request = match (self.precondition, old) {
            (Precondition::S3, None) => request.if_none_match("*"),
            (Precondition::S3, Some(old)) => request.if_match(&old.etag),
            (Precondition::Gcs, _) => request,
        };
        match request.send().await {
            Ok(_) => {
                self.usage.put(bytes);
                self.worked();
                Ok(Put::Written)
            }
            Err(error) if status(&error) == Some(412) => {
                self.usage.put(0);
                Ok(Put::Taken)
            }
            Err(error) => {
                self.usage.put(0);
                Err(self.failed(&format!("write {path}"), &error))
            }
        }
    }
}

#[async_trait]
impl Target for Bucket {
    fn url(&self) -> &str {
        &self.url
    }

    fn usage(&self) -> &Usage {
        &self.usage
    }

    async fn put_new(&self, path: &str, body: Body, tags: &[(String, String)]) -> Result<Put, SinkError> {
        let source = match body {
            Body::Bytes(bytes) => return self.put_whole(path, bytes, tags).await,
            Body::File(source) => source,
        };
        let failed =
            |error: std::io::Error| super::local::fault(&source.display().to_string(), "read it", &error);
        let bytes = tokio::fs::metadata(&source).await.map_err(failed)?.len() as i64;
        if bytes <= SINGLE_PUT {
            let body = read(&source, 0, bytes).await.map_err(failed)?;
            return self.put_whole(path, body, tags).await;
        }
        match self.precondition {
            Precondition::S3 => self.put_parts(path, &source, bytes, tags).await,
            // One stream, which it takes up to 5 TiB: parts gain nothing where their end cannot be made to fail either.
            Precondition::Gcs => {
                let body = ByteStream::from_path(&source)
                    .await
                    .map_err(|error| failed(std::io::Error::other(error)))?;
                self.put_stream(path, body, bytes, tags, None).await
            }
        }
    }

    async fn replace(
        &self,
        path: &str,
        body: Bytes,
        tags: &[(String, String)],
        old: Option<&Head>,
    ) -> Result<bool, SinkError> {
        let bytes = body.len() as i64;
        Ok(self.put_stream(path, ByteStream::from(body), bytes, tags, old).await? == Put::Written)
    }

    async fn head(&self, path: &str) -> Result<Option<Head>, SinkError> {
        let found = self.client.head_object().bucket(&self.bucket).key(self.key(path)).send().await;
        self.usage.get();
        match found {
            Ok(head) => {
                self.worked();
                let tags = head.metadata().into_iter().flatten();
                Ok(Some(Head {
                    bytes: head.content_length().unwrap_or_default(),
                    tags: tags.map(|(key, value)| (key.clone(), value.clone())).collect(),
                    etag: head.e_tag().unwrap_or_default().to_owned(),
                }))
            }
            Err(error) if error.as_service_error().is_some_and(HeadObjectError::is_not_found) => Ok(None),
            Err(error) => Err(self.failed(&format!("look at {path}"), &error)),
        }
    }

    async fn fetch(&self, path: &str, into: &Path) -> Result<(), SinkError> {
        let found = self.client.get_object().bucket(&self.bucket).key(self.key(path)).send().await;
        self.usage.get();
        let mut body = found.map_err(|error| self.failed(&format!("read {path}"), &error))?.body;
        let copy = async {
            let mut file = tokio::fs::File::create(into).await?;
            while let Some(piece) = body.try_next().await.map_err(std::io::Error::other)? {
                file.write_all(&piece).await?;
            }
            file.flush().await
        };
        copy.await.map_err(|error| super::local::fault(&self.url, &format!("read {path}"), &error))
    }

    async fn list(&self, folder: &str) -> Result<Vec<String>, SinkError> {
        let (mut names, mut after) = self.list_page(folder, None, LIST_PAGE).await?;
        while after.is_some() {
            let (more, next) = self.list_page(folder, after, LIST_PAGE).await?;
            names.extend(more);
            after = next;
        }
        Ok(names)
    }

    async fn delete(&self, path: &str) -> Result<(), SinkError> {
        let gone = self.client.delete_object().bucket(&self.bucket).key(self.key(path)).send().await;
        self.usage.delete();
        gone.map(drop).map_err(|error| self.failed(&format!("delete {path}"), &error))
    }

    async fn measure(&self, folder: &str, at_most: i64) -> Result<Measured, SinkError> {
        let (mut measured, mut after) = (Measured::default(), None);
        loop {
            let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(self.key(folder));
            let page = i32::try_from(at_most).unwrap_or(i32::MAX).min(LIST_PAGE);
            let page = request.set_continuation_token(after).max_keys(page).send().await;
            self.usage.put(0);
            let page = page.map_err(|error| self.failed(&format!("list {folder}"), &error))?;
            self.worked();
            measured.objects += page.contents().len() as i64;
            measured.bytes += page.contents().iter().filter_map(|object| object.size()).sum::<i64>();
            after = page.next_continuation_token().map(str::to_owned);
            if after.is_none() || measured.objects >= at_most {
                return Ok(measured);
            }
        }
    }

    async fn abort_uploads(&self, path: &str) -> Result<(), SinkError> {
        self.abort_all(path).await
    }
}

async fn read(source: &Path, from: i64, length: i64) -> std::io::Result<Bytes> {
    let mut file = tokio::fs::File::open(source).await?;
    file.seek(std::io::SeekFrom::Start(from.unsigned_abs())).await?;
    let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
    file.read_exact(&mut bytes).await?;
    Ok(Bytes::from(bytes))
}

fn metadata(tags: &[(String, String)]) -> HashMap<String, String> {
    tags.iter().cloned().collect()
}

fn content_type(path: &str) -> &'static str {
    if path.ends_with(".parquet") { CONTENT_TYPE } else { "application/json" }
}
