//! Reading from the bucket: small objects whole, large ones by ranges.

use std::ops::Range;
use std::sync::Arc;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use crate::failure::Failure;

/// A manifest lists a day's files; this many bytes hold about 40,000 of them.
const MAX_SMALL_BYTES: u64 = 16 << 20;
/// Read at once from the end of a file; more than the footer of a file of 1 GB needs.
const FOOTER_GUESS_BYTES: u64 = 64 << 10;
/// Columns of a row group are fetched together when no more than this lies between them.
const MAX_GAP_BYTES: u64 = 64 << 10;
/// What is fetched at once at most, so that a call stays within its memory. A row group of ours needs a hundredth.
const MAX_FETCH_BYTES: u64 = 48 << 20;

/// What is there under a key.
#[derive(Debug, Clone)]
pub struct Found {
    pub size: u64,
    pub etag: String,
}

/// The object at a key, `None` when there is none.
pub async fn find(client: &Client, bucket: &str, key: &str) -> Result<Option<Found>, Failure> {
    match client.head_object().bucket(bucket).key(key).send().await {
        Ok(head) => {
            let size = head.content_length().and_then(|n| u64::try_from(n).ok());
            let size = size
                .ok_or_else(|| Failure::transient(format!("S3 did not tell the size of {bucket}/{key}")))?;
            Ok(Some(Found { size, etag: head.e_tag().unwrap_or_default().to_owned() }))
        }
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(failed("HEAD", bucket, key, &error)),
    }
}

/// A small object as a whole, `None` when there is none.
pub async fn read(client: &Client, bucket: &str, key: &str) -> Result<Option<Bytes>, Failure> {
    let object = match client.get_object().bucket(bucket).key(key).send().await {
        Ok(object) => object,
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(failed("GET", bucket, key, &error)),
    };
    let size = object.content_length().and_then(|n| u64::try_from(n).ok()).unwrap_or(u64::MAX);
    if size > MAX_SMALL_BYTES {
        return Err(Failure::broken(format!(
            "{bucket}/{key} has {size} bytes, expected at most {MAX_SMALL_BYTES}"
        )));
    }
    let body = object.body.collect().await;
    let body = body.map_err(|e| Failure::transient(format!("GET of {bucket}/{key} broke off: {e}")))?;
    Ok(Some(body.into_bytes()))
}

fn is_missing<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> bool {
    matches!(error, SdkError::ServiceError(_)) && matches!(error.code(), Some("NoSuchKey" | "NotFound"))
}

fn failed<E: ProvideErrorMetadata + std::error::Error + 'static, R: std::fmt::Debug + 'static>(
    verb: &str,
    bucket: &str,
    key: &str,
    error: &SdkError<E, R>,
) -> Failure {
    let text = format!("{verb} of {bucket}/{key} failed: {}", aws_sdk_s3::error::DisplayErrorContext(error));
    Failure::transient(text)
}

/// A Parquet file in the bucket, of which one version is read: a replacement in between is an error, not a mixture.
pub struct RangedFile {
    client: Client,
    bucket: String,
    key: String,
    found: Found,
}

impl RangedFile {
    pub fn new(client: Client, bucket: &str, key: &str, found: Found) -> Self {
        Self { client, bucket: bucket.to_owned(), key: key.to_owned(), found }
    }

    async fn range(&self, range: Range<u64>) -> ParquetResult<Bytes> {
        let expected = range.end.saturating_sub(range.start);
        if range.end > self.found.size || expected > MAX_FETCH_BYTES {
            let text = format!(
                "bytes {}..{} of {} were asked for, at most {MAX_FETCH_BYTES} at once are read",
                range.start, range.end, self.found.size
            );
            return Err(ParquetError::General(text));
        }
        let request = self.client.get_object().bucket(&self.bucket).key(&self.key).if_match(&self.found.etag);
        let answer =
            request.range(format!("bytes={}-{}", range.start, range.end.saturating_sub(1))).send().await;
        let answer =
            answer.map_err(|e| ParquetError::External(failed("GET", &self.bucket, &self.key, &e).into()))?;
        let body = answer.body.collect().await.map_err(|e| ParquetError::External(e.into()))?.into_bytes();
        if body.len() as u64 != expected {
            return Err(ParquetError::General(format!(
                "{expected} bytes were asked for, {} came",
                body.len()
            )));
        }
        Ok(body)
    }
}

impl AsyncFileReader for RangedFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        self.range(range).boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        async move {
            let mut parts = Vec::with_capacity(ranges.len());
            for together in merged(&ranges) {
                let bytes = self.range(together.clone()).await?;
                let within = ranges.iter().filter(|r| together.start <= r.start && r.end <= together.end);
                let cut = |r: &Range<u64>| {
                    (
                        r.clone(),
                        bytes.slice((r.start - together.start) as usize..(r.end - together.start) as usize),
                    )
                };
                parts.extend(within.map(cut));
            }
            ranges.iter().map(|range| part(&parts, range)).collect()
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        async move {
            let size = self.found.size;
            let reader =
                ParquetMetaDataReader::new().with_prefetch_hint(Some(FOOTER_GUESS_BYTES.min(size) as usize));
            Ok(Arc::new(reader.load_and_finish(self, size).await?))
        }
        .boxed()
    }
}

fn part(parts: &[(Range<u64>, Bytes)], range: &Range<u64>) -> ParquetResult<Bytes> {
    let found = parts.iter().find(|(of, _)| of == range).map(|(_, bytes)| bytes.clone());
    found.ok_or_else(|| {
        ParquetError::General(format!("bytes {}..{} were not fetched", range.start, range.end))
    })
}

/// The ranges in order, neighbours as one.
fn merged(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut sorted = ranges.to_vec();
    sorted.sort_by_key(|range| range.start);
    let mut together: Vec<Range<u64>> = Vec::new();
    for range in sorted {
        match together.last_mut() {
            Some(last)
                if range.start <= last.end + MAX_GAP_BYTES && range.end - last.start <= MAX_FETCH_BYTES =>
            {
                last.end = last.end.max(range.end);
            }
            _ => together.push(range),
        }
    }
    together
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_fetched_together_and_distant_ranges_are_not() {
        let mb = 1 << 20;
        assert_eq!(merged(&[10..20, 0..10]).as_slice(), std::slice::from_ref(&(0..20)));
        assert_eq!(merged(&[0..10, 5..7, 20..30]).as_slice(), std::slice::from_ref(&(0..30)));
        assert_eq!(merged(&[0..10, 5 * mb..6 * mb]), [0..10, 5 * mb..6 * mb]);
        assert_eq!(merged(&[0..30 * mb, 30 * mb..60 * mb]), [0..30 * mb, 30 * mb..60 * mb]);
        assert_eq!(merged(&[]), Vec::<Range<u64>>::new());
    }
}
