//! `[top]`: the view of a running pipeline in a terminal.

use super::SECOND;
use crate::config::secret::Secret;
use crate::config::units::HumanDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// `smartlog top`: a running pipeline in a terminal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Top {
    /// Where the API is, such as `http://127.0.0.1:8000`; unset: on this host, at the port of api.listen.
    #[schemars(extend("x-flag" = "url", "x-form" = "URL"))]
    pub url: Option<String>,
    /// Where the figures of `smartlog run` are; unset: at metrics.listen, and without that at `/metrics` of the API.
    ///
    /// `smartlog demo` has them at the API. Without them throughput, lag and queues are not shown.
    #[schemars(extend("x-flag" = "metrics-url", "x-form" = "URL"))]
    pub metrics_url: Option<String>,
    /// File with the secret of a token, for an API that asks for one.
    ///
    /// A line break at the end of the file is cut off. It is sent to `top.url` alone.
    #[schemars(extend("x-flag" = "token-file", "x-form" = "FILE"))]
    pub token_file: Option<PathBuf>,
    /// How often it looks.
    #[serde(with = "HumanDuration")]
    #[schemars(extend("x-flag" = "refresh"))]
    pub refresh: Duration,
    /// What `token_file` holds, once loaded.
    #[serde(skip)]
    pub token: Option<Secret>,
}

impl Default for Top {
    fn default() -> Self {
        Top { url: None, metrics_url: None, token_file: None, refresh: SECOND, token: None }
    }
}
