//! What can be set, with the defaults and the traps named.

use crate::auth::Token;
use crate::costs::CloudCosts;
use crate::shared::RedisConfig;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Everything that the API needs to know at start.
#[derive(Debug, Clone)]
pub struct ApiConfig {
    /// Where to listen. Port 0 takes a free one; see [`crate::Api::local_addr`].
    pub listen: SocketAddr,
    pub store: StoreUrl,
    /// The same PostgreSQL database as a role that may insert feedback; `None`: the role of `store`.
    pub feedback_store: Option<StoreUrl>,
    /// Connections to the store. For SQLite also the number of queries that may run at once, each on a thread.
    pub store_connections: usize,
    /// A statement that runs longer is cancelled; the client gets 503.
    pub statement_timeout: Duration,
    pub limits: Limits,
    /// Web origins whose pages may read the API (`https://ops.example.org`), or `*`. Empty: same origin only.
    pub cors_origins: Vec<String>,
    /// Requests that one address may send; `None`: any number.
    pub rate_limit: Option<RateLimit>,
    /// Tokens of which one is asked for; none: nobody is asked for anything.
    pub tokens: Vec<Token>,
    /// Whether to listen on an address that other machines reach without asking for a token. Say yes only behind
    /// something that asks who is there.
    pub allow_public: bool,
    /// Memory for answers kept until the store changes, bytes; with 0 each request reads for itself.
    pub cache_bytes: u64,
    /// What the estimate of costs takes for granted where a request does not say otherwise.
    pub cloud: CloudCosts,
    /// What processes share; `None`: each goes by the store alone.
    pub redis: Option<RedisConfig>,
}

impl ApiConfig {
    /// The defaults, on `127.0.0.1:8000`.
    pub fn new(store: StoreUrl) -> Self {
        ApiConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 8000)),
            store,
            feedback_store: None,
            store_connections: 4,
            statement_timeout: Duration::from_secs(5),
            limits: Limits::default(),
            cors_origins: Vec::new(),
            rate_limit: None,
            tokens: Vec::new(),
            allow_public: false,
            cache_bytes: 32 * 1024 * 1024,
            cloud: CloudCosts::default(),
            redis: None,
        }
    }
}

/// Bounds on what clients can make the server hold or wait for.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections served at once; one more is told 503 and closed.
    pub connections: usize,
    /// From the accept, or the end of the answer before, to the last byte of a request's head. Also how long an
    /// HTTP/1.1 connection may idle.
    pub header_timeout: Duration,
    /// For HTTP/2, whose connections are worth keeping: how long without a stream.
    pub idle_timeout: Duration,
    /// A client that takes no byte of its answer for this long is cut off.
    pub write_timeout: Duration,
    /// From the head of a request to the head of its answer.
    pub request_timeout: Duration,
    /// How long a stop waits for answers under way.
    pub drain_timeout: Duration,
    /// The longest request body.
    pub body_bytes: usize,
    /// The longest request head, bytes.
    pub head_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 10_000,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(10),
            body_bytes: 64 * 1024,
            head_bytes: 16 * 1024,
        }
    }
}

/// A bucket that refills evenly.
#[derive(Debug, Clone, Copy)]
pub struct RateLimit {
    pub per_second: std::num::NonZeroU32,
    /// How many may come at once.
    pub burst: std::num::NonZeroU32,
}

/// Where the materialised state lies: `sqlite:FILE` or `postgres://USER@HOST/DATABASE`.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    Sqlite(PathBuf),
    Postgres(String),
}

/// A store URL that is neither of the two.
#[derive(Debug, thiserror::Error)]
#[error("store must be sqlite:FILE or postgres://USER@HOST:PORT/DATABASE, found {found:?}")]
pub struct InvalidStoreUrl {
    /// What comes before the first colon: the rest may hold a password.
    found: String,
}

impl FromStr for StoreUrl {
    type Err = InvalidStoreUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("sqlite", file)) if !file.trim_start_matches("//").is_empty() => {
                Ok(StoreUrl::Sqlite(file.strip_prefix("//").unwrap_or(file).into()))
            }
            Some(("postgres" | "postgresql", _)) => Ok(StoreUrl::Postgres(text.to_owned())),
            Some((scheme, _)) => Err(InvalidStoreUrl { found: format!("{scheme}:…") }),
            None => Err(InvalidStoreUrl { found: text.chars().take(20).collect() }),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreUrl::Sqlite(file) => write!(f, "sqlite:{}", file.display()),
            // Whatever stands before the @ may be a password.
            StoreUrl::Postgres(url) => match url.rsplit_once('@') {
                Some((_, place)) => write!(f, "postgres://…@{}", place.split('?').next().unwrap_or_default()),
                None => f.write_str("postgres://…"),
            },
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn store_urls_are_read_and_never_show_a_password() {
        assert_eq!("sqlite:a/b.db".parse::<StoreUrl>().unwrap(), StoreUrl::Sqlite("a/b.db".into()));
        assert_eq!("sqlite:///b.db".parse::<StoreUrl>().unwrap(), StoreUrl::Sqlite("/b.db".into()));
        let url: StoreUrl = "postgres://me:canary@db:5432/logs?sslpassword=canary".parse().unwrap();
        assert_eq!(format!("{url} {url:?}"), "postgres://…@db:5432/logs postgres://…@db:5432/logs");
        for wrong in ["", "sqlite:", "sqlite://", "mysql://me:canary@db", "canary-and-more-than-twenty"] {
            let error = wrong.parse::<StoreUrl>().unwrap_err().to_string();
            assert!(error.starts_with("store must be sqlite:FILE or postgres://"), "{error}");
            assert!(!error.contains("me:canary"), "{error}");
        }
    }
}
