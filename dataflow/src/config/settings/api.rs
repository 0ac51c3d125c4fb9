//! `[api]`: the REST API and the live page.

use super::{MIB, SECOND, StoreUrl};
use crate::config::units::{HumanBytes, HumanDuration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

/// The REST API and the live page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Api {
    /// Address to serve on, as IP:PORT; port 0 takes a free one and prints it.
    ///
    /// Reachable from this host only, by default.
    #[schemars(extend("x-flag" = "listen", "x-form" = "IP:PORT"))]
    pub listen: SocketAddr,
    /// Listen on an address that other machines reach, such as 0.0.0.0.
    ///
    /// Tokens are a reason that needs no yes; without them say true only behind a proxy that asks who is there.
    pub allow_public: bool,
    /// Tokens of which one is asked for, each as NAME:SCOPE+SCOPE:SHA256; `smartlog api token` makes one. None: no login.
    ///
    /// Scopes are `read` and `feedback`. The secret itself is kept nowhere.
    pub tokens: Vec<String>,
    /// The store once more, as a role that may insert feedback; `none`: as store.url says.
    ///
    /// With it, the role of store.url needs no right to write.
    pub feedback_store: StoreUrl,
    /// Web origins whose pages may read the API, such as `https://ops.example.org`, or `*`. Empty: its own pages only.
    pub cors_origins: Vec<String>,
    /// Connections to the store.
    ///
    /// For SQLite also the number of queries that run at once, each on a thread.
    pub store_connections: NonZeroUsize,
    /// A query that runs longer is cancelled, and its client told so.
    #[serde(with = "HumanDuration")]
    pub statement_timeout: Duration,
    /// Requests per second that one address may send; unset: any number.
    ///
    /// Behind a proxy all clients have the proxy's address: limit there.
    pub rate_limit: Option<NonZeroU32>,
    /// Requests that one address may send at once; counts only with `api.rate_limit`.
    pub rate_burst: NonZeroU32,
    /// Memory for answers kept until the store changes; with 0 each request reads the store for itself.
    #[serde(with = "HumanBytes")]
    pub cache_bytes: u64,
    /// Bounds on what clients can make the server hold or wait for.
    pub limits: ApiLimits,
}

impl Default for Api {
    fn default() -> Self {
        Api {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)),
            allow_public: false,
            tokens: Vec::new(),
            feedback_store: StoreUrl::None,
            cors_origins: Vec::new(),
            store_connections: NonZeroUsize::MIN.saturating_add(3),
            statement_timeout: 5 * SECOND,
            rate_limit: None,
            rate_burst: NonZeroU32::MIN.saturating_add(99),
            cache_bytes: 32 * MIB,
            limits: ApiLimits::default(),
        }
    }
}

/// Bounds on what clients can make the server hold or wait for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ApiLimits {
    /// Connections served at once; one more is told 503 and closed.
    pub connections: NonZeroUsize,
    /// How long a client may take for the head of a request, and idle before it.
    #[serde(with = "HumanDuration")]
    pub header_timeout: Duration,
    /// How long an HTTP/2 connection may be without a request.
    #[serde(with = "HumanDuration")]
    pub idle_timeout: Duration,
    /// A client that takes nothing of its answer for this long is cut off.
    #[serde(with = "HumanDuration")]
    pub write_timeout: Duration,
    /// How long an answer may take to begin.
    #[serde(with = "HumanDuration")]
    pub request_timeout: Duration,
    /// How long a stop waits for answers under way.
    #[serde(with = "HumanDuration")]
    pub drain_timeout: Duration,
    /// The longest request body.
    #[serde(with = "HumanBytes")]
    pub body_bytes: u64,
    /// The longest request head.
    #[serde(with = "HumanBytes")]
    pub head_bytes: u64,
}

impl Default for ApiLimits {
    fn default() -> Self {
        ApiLimits {
            connections: NonZeroUsize::MIN.saturating_add(9_999),
            header_timeout: 10 * SECOND,
            idle_timeout: 75 * SECOND,
            write_timeout: 30 * SECOND,
            request_timeout: 10 * SECOND,
            drain_timeout: 10 * SECOND,
            body_bytes: 64 << 10,
            head_bytes: 16 << 10,
        }
    }
}
