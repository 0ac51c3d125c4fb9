//! Which search index, who we are there, and what is kept.

use std::path::PathBuf;
use std::time::Duration;

/// An Elasticsearch or OpenSearch, and what of it is used.
#[derive(Clone, PartialEq, Eq)]
pub struct SearchConfig {
    /// `http://HOST:PORT` or `https://…`, also with `USER:PASSWORD@`.
    pub url: String,
    /// A file that holds `USER:PASSWORD`, or the value of an `Authorization` header such as `ApiKey …`.
    pub login_file: Option<PathBuf>,
    /// A PEM file of who may vouch for an https server, in the place of those that the system knows.
    pub authorities: Option<PathBuf>,
    /// What the names of all its indexes begin with.
    pub prefix: String,
    /// How long the logs of a day are kept, by event time.
    pub retention: Duration,
    /// Bytes of one bulk request, about.
    pub max_request_bytes: usize,
    /// How long an answer may take.
    pub timeout: Duration,
}

impl std::fmt::Debug for SearchConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL may hold a password.
        f.debug_struct("SearchConfig").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
