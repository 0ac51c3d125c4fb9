//! Objects too large for one request: parts, completed if the name is still free, aborted when anything fails.

use super::{Bucket, content_type, metadata, read, status};
use crate::error::SinkError;
use crate::parquet::target::{Put, Target as _, local};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use futures_util::stream::{StreamExt as _, TryStreamExt as _, iter};
use std::path::Path;

/// Bytes of a part, so that 80 GB fit into the 10,000 that S3 takes …
const PART: i64 = 8 << 20;
/// … so many at a time: with the size, what an upload holds in memory.
const PARTS_AT_ONCE: usize = 4;

impl Bucket {
    /// Writes an object in parts, unless something has its name.
    pub(super) async fn put_parts(
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
            .map_err(|error| local::fault(&source.display().to_string(), "read it", &error))?;
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

    /// Aborts what a killed process began to upload to `path`.
    pub(super) async fn abort_all(&self, path: &str) -> Result<(), SinkError> {
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
