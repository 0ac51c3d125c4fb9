//! S3, and what speaks its language: MinIO, Google Cloud Storage by its interoperability keys, others.
//!
//! ```text
//!   up to 16 MiB  PUT, If-None-Match ────────────────────────────────────────────┐
//!   more          create ─▶ parts (4 at a time, each with its checksum) ─▶ complete, If-None-Match ─▶ Written | Taken
//!                    └──────── any of it fails, or the name is taken: abort ─────┘
//! ```
//!
//! Credentials come by the SDK's chain (environment, profile, web identity, container, instance) and are shown nowhere.

use super::{Body, Head, Put, Target, Usage, wrong};
use crate::error::{Fault, SinkError};
use crate::parquet::config::{ExportConfig, Precondition};
use async_trait::async_trait;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::head_object::HeadObjectError;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use bytes::Bytes;
use futures_util::stream::{StreamExt as _, TryStreamExt as _, iter};
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};

/// Bytes beyond which an object is uploaded in parts …
const SINGLE_PUT: i64 = 16 << 20;
/// … of this size, so that 80 GB fit into the 10,000 parts that S3 takes …
const PART: i64 = 8 << 20;
/// … so many at a time: with the size, what an upload holds in memory.
const PARTS_AT_ONCE: usize = 4;
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
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        if bucket.is_empty() {
            return Err(wrong(&config.target, "it names no bucket"));
        }
        let prefix = prefix.trim_matches('/');
        let url = format!("s3://{bucket}/{prefix}").trim_end_matches('/').to_owned();
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let bucket = Bucket {
            client: client(config).await,
            bucket: bucket.to_owned(),
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

    /// Sorts an error by who must act.
    fn failed<E>(&self, doing: &str, error: &SdkError<E>) -> SinkError
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let (code, status) = (error.code().unwrap_or_default(), status(error));
        let found = match error {
            SdkError::ServiceError(_) => {
                format!(
                    "{} {code}: {}",
                    status.unwrap_or_default(),
                    error.message().unwrap_or("no reason given")
                )
            }
            error => DisplayErrorContext(error).to_string(),
        };
        let fault = |advice: &str| Fault {
            store: self.url.clone(),
            doing: doing.to_owned(),
            found: found.trim_end().to_owned(),
            advice: advice.to_owned(),
        };
        let (refused, advice) = match (code, status) {
            ("NoSuchBucket", _) => (true, "make the bucket, or name another in export.target"),
            (_, Some(301 | 307)) => (true, "set export.s3_region to the bucket's region"),
            (_, Some(401 | 403)) => {
                (true, "check the credentials and what they allow: smartlog doctor tells more")
            }
            (_, Some(400 | 404 | 405 | 501)) => {
                (true, "check export.target, export.s3_endpoint and export.s3_region")
            }
            _ => (
                matches!(error, SdkError::ConstructionFailure(_)),
                "look at the network and the service; trying again",
            ),
        };
        if refused && !self.worked.load(Ordering::Relaxed) {
            return SinkError::Fatal(fault(advice));
        }
        SinkError::Transient(fault(advice))
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
        let request = self.client.put_object().bucket(&self.bucket).key(self.key(path)).body(body);
        let request = request.content_type(content_type(path)).set_metadata(Some(metadata(tags)));
        let sent = match (self.precondition, old) {
            (Precondition::S3, None) => request.if_none_match("*").send().await,
            (Precondition::S3, Some(old)) => request.if_match(&old.etag).send().await,
            (Precondition::Gcs, None) => {
                let customized = request.customize().mutate_request(|request| {
                    request.headers_mut().insert("x-goog-if-generation-match", "0");
                });
                customized.send().await
            }
            (Precondition::Gcs, Some(_)) => request.send().await,
        };
        match sent {
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

    async fn put_parts(
        &self,
        path: &str,
        source: &Path,
        bytes: i64,
        tags: &[(String, String)],
    ) -> Result<Put, SinkError> {
        // Cheaper than to upload it all and be refused at the end.
        if self.head(path).await?.is_some() {
            return Ok(Put::Taken);
        }
        let request = self.client.create_multipart_upload().bucket(&self.bucket).key(self.key(path));
        let request = request.content_type(content_type(path)).set_metadata(Some(metadata(tags)));
        let begun = request.checksum_algorithm(ChecksumAlgorithm::Crc32).send().await;
        self.usage.put(0);
        let begun = begun.map_err(|error| self.failed(&format!("begin to write {path}"), &error))?;
        let upload = begun.upload_id().unwrap_or_default();
        let put = self.fill(path, source, bytes, upload).await;
        if !matches!(put, Ok(Put::Written)) {
            self.abort(path, upload).await;
        }
        put
    }

    async fn fill(&self, path: &str, source: &Path, bytes: i64, upload: &str) -> Result<Put, SinkError> {
        let parts = iter(0..(bytes + PART - 1) / PART)
            .map(|at| self.part(path, source, bytes, upload, at))
            .buffered(PARTS_AT_ONCE)
            .try_collect::<Vec<_>>()
            .await?;
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request = self.client.complete_multipart_upload().bucket(&self.bucket).key(self.key(path));
        let request = request.upload_id(upload).multipart_upload(parts).if_none_match("*");
        let done = request.send().await;
        self.usage.put(0);
        match done {
            Ok(_) => {
                self.worked();
                Ok(Put::Written)
            }
            Err(error) if status(&error) == Some(412) => Ok(Put::Taken),
            Err(error) => Err(self.failed(&format!("finish writing {path}"), &error)),
        }
    }

    async fn part(
        &self,
        path: &str,
        source: &Path,
        bytes: i64,
        upload: &str,
        at: i64,
    ) -> Result<CompletedPart, SinkError> {
        let length = PART.min(bytes - at * PART);
        let body = read(source, at * PART, length)
            .await
            .map_err(|error| super::local::fault(&source.display().to_string(), "read it", &error))?;
        let number = i32::try_from(at + 1).unwrap_or(i32::MAX);
        let request = self.client.upload_part().bucket(&self.bucket).key(self.key(path)).upload_id(upload);
        let request = request.part_number(number).checksum_algorithm(ChecksumAlgorithm::Crc32);
        let sent = request.body(ByteStream::from(body)).send().await;
        self.usage.put(length);
        let sent = sent.map_err(|error| self.failed(&format!("write part {number} of {path}"), &error))?;
        Ok(CompletedPart::builder()
            .part_number(number)
            .set_e_tag(sent.e_tag().map(str::to_owned))
            .set_checksum_crc32(sent.checksum_crc32().map(str::to_owned))
            .build())
    }

    /// Best effort: what stays is found by the next start, and by the bucket's lifecycle rule.
    async fn abort(&self, path: &str, upload: &str) {
        let request = self.client.abort_multipart_upload().bucket(&self.bucket).key(self.key(path));
        match request.upload_id(upload).send().await {
            Ok(_) => self.usage.aborted(),
            Err(error) => {
                let error = self.failed("abort an upload", &error);
                tracing::warn!(%error, path, "an upload that failed could not be aborted");
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
            // Its parts know no precondition: one stream, which it takes up to 5 TiB.
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
        let (mut names, mut after) = self.list_page(folder, None, 1000).await?;
        while after.is_some() {
            let (more, next) = self.list_page(folder, after, 1000).await?;
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

    async fn abort_uploads(&self, path: &str) -> Result<(), SinkError> {
        let key = self.key(path);
        let found = self.client.list_multipart_uploads().bucket(&self.bucket).prefix(&key).send().await;
        self.usage.put(0);
        let found = found.map_err(|error| self.failed("list uploads under way", &error))?;
        for upload in found.uploads().iter().filter(|upload| upload.key() == Some(&key)) {
            self.abort(path, upload.upload_id().unwrap_or_default()).await;
        }
        Ok(())
    }
}

async fn client(config: &ExportConfig) -> Client {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(5))
        .read_timeout(Duration::from_secs(60));
    // The same TLS as the rest of the workspace: one build of it.
    let https =
        aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(https)
        .timeout_config(timeouts.build())
        .retry_config(RetryConfig::standard().with_max_attempts(3));
    if let Some(region) = &config.s3.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(endpoint) = &config.s3.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    let shared = loader.load().await;
    let mut settings = aws_sdk_s3::config::Builder::from(&shared).force_path_style(config.s3.path_style);
    if config.s3.precondition == Precondition::Gcs {
        settings = settings
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    }
    Client::from_conf(settings.build())
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

fn status<E>(error: &SdkError<E>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}
