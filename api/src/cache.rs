//! Answers kept until the store changes.
//!
//! A kept answer belongs to one revision of the store; a request first learns the revision (see
//! [`crate::store::RevisionGate`]), so that it never gets an answer older than what was committed when it came. Equal
//! requests at the same time share one reading.

use crate::problem::Problem;
use crate::store::Revision;
use bytes::Bytes;
use hyper::header::HeaderValue;
use quick_cache::sync::Cache;
use std::hash::{DefaultHasher, Hash, Hasher};

/// One answer, ready to send.
#[derive(Debug, Clone)]
pub struct Kept {
    pub body: Bytes,
    /// Weak: the same answer may be sent compressed.
    pub etag: HeaderValue,
}

impl Kept {
    pub fn new(body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        let etag = format!("W/\"{:016x}-{:x}\"", hasher.finish(), body.len());
        Kept { body, etag: HeaderValue::from_str(&etag).unwrap_or(HeaderValue::from_static("W/\"\"")) }
    }
}

/// What names an answer: the route, its parameters in canonical form, the revision.
type Key = (&'static str, String, Revision);

#[derive(Clone)]
struct ByBytes;

impl quick_cache::Weighter<Key, Kept> for ByBytes {
    fn weight(&self, key: &Key, kept: &Kept) -> u64 {
        (key.1.len() + kept.body.len() + 256) as u64
    }
}

/// Answers by request and revision, bounded in bytes.
pub struct Answers(Cache<Key, Kept, ByBytes>);

impl Answers {
    pub fn new(max_bytes: u64) -> Self {
        Answers(Cache::with_weighter(1_024, max_bytes, ByBytes))
    }

    /// The kept answer, or the one that `read` makes now; one reading for all who ask at the same time.
    pub async fn get(
        &self,
        key: (&'static str, String, Revision),
        read: impl Future<Output = Result<Kept, Problem>>,
    ) -> Result<Kept, Problem> {
        self.0.get_or_insert_async(&key, read).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etags_follow_the_body_alone() {
        assert_eq!(Kept::new("a").etag, Kept::new("a").etag);
        assert_ne!(Kept::new("a").etag, Kept::new("b").etag);
    }
}
