//! `[search]`: every log in Elasticsearch or OpenSearch.

use super::login_url::{Kind, LoginUrl};
use super::{Config, MIB, SECOND};
use crate::config::units::{HumanBytes, HumanDuration, optional_duration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smartlog_sinks::search::SearchConfig;
use std::path::PathBuf;
use std::time::Duration;

/// Where the search index is; shown without the password that it may hold.
pub type SearchUrl = LoginUrl<OfSearch>;

/// http and https.
#[derive(Debug)]
pub struct OfSearch;

impl Kind for OfSearch {
    const NAME: &'static str = "SearchUrl";

    fn check(text: &str) -> Result<(), String> {
        match text.split_once("://") {
            Some(("http" | "https", rest)) if !rest.is_empty() => Ok(()),
            _ => Err("expected http://HOST:PORT or https://USER:PASSWORD@HOST:PORT, found something else"
                .to_owned()),
        }
    }
}

/// Every log in Elasticsearch (7.8 or later) or OpenSearch, in an index per event day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Search {
    /// http://HOST:PORT of Elasticsearch or OpenSearch; unset: none.
    ///
    /// What lies there afterwards: docs/SEARCH.md. When it is away its logs wait in Kafka, and nothing else waits for it. Keep
    /// the password out of the URL: see `search.login_file`.
    #[schemars(extend("x-form" = "URL"))]
    pub url: Option<SearchUrl>,
    /// File that holds USER:PASSWORD, or the value of an Authorization header such as `ApiKey ...`.
    ///
    /// Read once, at the start; a line break at the end of the file is cut off.
    #[schemars(extend("x-form" = "FILE"))]
    pub login_file: Option<PathBuf>,
    /// PEM file of who may vouch for an https server; unset: those that the system knows.
    #[schemars(extend("x-form" = "FILE"))]
    pub ca_file: Option<PathBuf>,
    /// What the names of the indexes begin with; the day follows, as in `smartlog-logs-2026.01.15`.
    pub prefix: String,
    /// How long a day's logs are kept there, by event time; unset: as long as `time.retention`.
    ///
    /// Older days are deleted as a whole, also those that were there before.
    #[schemars(with = "Option<HumanDuration>")]
    #[serde(with = "optional_duration")]
    pub retention: Option<Duration>,
    /// A bulk request has about this many bytes.
    #[serde(with = "HumanBytes")]
    pub max_request_bytes: u64,
    /// How long an answer may take.
    #[serde(with = "HumanDuration")]
    pub timeout: Duration,
}

impl Default for Search {
    fn default() -> Self {
        Search {
            url: None,
            login_file: None,
            ca_file: None,
            prefix: "smartlog-logs".into(),
            retention: None,
            max_request_bytes: 5 * MIB,
            timeout: 60 * SECOND,
        }
    }
}

impl Config {
    /// What the search sink is handed; `None` where nothing is indexed.
    pub fn search_config(&self) -> Option<SearchConfig> {
        let search = &self.search;
        Some(SearchConfig {
            url: search.url.as_ref()?.expose().to_owned(),
            login_file: search.login_file.clone(),
            authorities: search.ca_file.clone(),
            prefix: search.prefix.clone(),
            retention: search.retention.unwrap_or(self.time.retention),
            max_request_bytes: usize::try_from(search.max_request_bytes).unwrap_or(usize::MAX),
            timeout: search.timeout,
        })
    }
}
