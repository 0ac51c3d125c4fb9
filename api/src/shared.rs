//! What several API processes share by Redis, where there is one: the changes of anomalies, which the dataflow publishes,
//! and rate limits. The store stays the truth: without Redis, and while it is away, everything works from the store and
//! each process's own counts.
//!
//! ```text
//!   Redis ── stream of changes ──▶ Tail ──▶ feed.rs      (a connection of its own: a read that waits holds up others)
//!     ▲ └─── ping ───────────────▶ /health
//!     └───── one script a request ── serving/limiter.rs
//! ```

use ::redis::aio::MultiplexedConnection;
use ::redis::streams::{StreamId, StreamReadReply};
use ::redis::{AsyncConnectionConfig, Client, RedisError, Script};
use prometheus_client::metrics::counter::Counter;
use smartlog_schema::live::{Keys, entry_id};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A Redis that answers nothing for this long is away: a request waits for it.
const ANSWER_WITHIN: Duration = Duration::from_millis(150);
/// How long to go without a Redis that was away.
const REST: Duration = Duration::from_secs(1);
/// Changes read at once.
const BATCH: usize = 500;

/// Which Redis.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisConfig {
    /// `redis://USER:PASSWORD@HOST:PORT/DATABASE`.
    pub url: String,
    /// What the names of all keys begin with.
    pub prefix: String,
}

impl std::fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL may hold a password.
        f.debug_struct("RedisConfig").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// A Redis that may be away.
pub struct Shared {
    client: Client,
    prefix: String,
    link: Mutex<Link>,
    failures: Counter,
}

struct Link {
    connection: Option<MultiplexedConnection>,
    /// Nobody tries before.
    rested: Instant,
    is_told: bool,
}

impl Shared {
    /// Nothing is connected yet. `failures` counts questions that got no answer; the first in a row is told in the log.
    ///
    /// # Errors
    /// When the URL cannot be understood.
    pub fn new(config: &RedisConfig, failures: Counter) -> Result<Arc<Self>, RedisError> {
        let client = Client::open(config.url.as_str())?;
        let link = Link { connection: None, rested: Instant::now(), is_told: false };
        let (prefix, link) = (config.prefix.clone(), Mutex::new(link));
        Ok(Arc::new(Shared { client, prefix, link, failures }))
    }

    /// Whether it answers.
    pub async fn ping(&self) -> bool {
        let Some(mut connection) = self.connection().await else { return false };
        self.heard(::redis::cmd("PING").query_async::<String>(&mut connection).await).is_some()
    }

    /// Runs a script on one key under the prefix; `None` while Redis is away.
    pub async fn run(&self, script: &Script, key: &str, args: &[f64]) -> Option<i64> {
        let mut connection = self.connection().await?;
        let mut call = script.key(format!("{}:{key}", self.prefix));
        call.arg(args);
        self.heard(call.invoke_async(&mut connection).await)
    }

    /// The connection that requests share; one of them makes it, the others go without until it is there.
    async fn connection(&self) -> Option<MultiplexedConnection> {
        {
            let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
            if link.connection.is_some() {
                return link.connection.clone();
            }
            let now = Instant::now();
            if link.rested > now {
                return None;
            }
            link.rested = now + REST;
        }
        let made = self.heard(self.connect(ANSWER_WITHIN).await)?;
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        link.connection = Some(made.clone());
        Some(made)
    }

    async fn connect(&self, answer_within: Duration) -> Result<MultiplexedConnection, RedisError> {
        let timeouts = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ANSWER_WITHIN))
            .set_response_timeout(Some(answer_within));
        self.client.get_multiplexed_async_connection_with_config(&timeouts).await
    }

    /// Takes note of a failure: the next one who asks goes without for a while.
    fn heard<T>(&self, answer: Result<T, RedisError>) -> Option<T> {
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(answer) => {
                if std::mem::take(&mut link.is_told) {
                    tracing::info!("Redis answers again");
                }
                Some(answer)
            }
            Err(error) => {
                self.failures.inc();
                if !std::mem::replace(&mut link.is_told, true) {
                    tracing::warn!(%error, "Redis does not answer: going on with the store and this process's own counts");
                }
                link.connection = None;
                link.rested = Instant::now() + REST;
                None
            }
        }
    }
}

/// Follows the stream of changes of one store.
pub struct Tail {
    shared: Arc<Shared>,
    key: String,
    connection: Option<MultiplexedConnection>,
}

impl Tail {
    /// `identity`: the store's.
    pub fn new(shared: Arc<Shared>, identity: &str) -> Self {
        let key = Keys::new(&shared.prefix, identity).anomalies;
        Tail { shared, key, connection: None }
    }

    /// The entries behind `seq`, waiting at most `patience` for the first; `None` while Redis is away.
    pub async fn behind(&mut self, seq: i64, patience: Duration) -> Option<Vec<StreamId>> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.shared.heard(self.shared.connect(patience + Duration::from_secs(1)).await)?,
        };
        let mut command = ::redis::cmd("XREAD");
        // 0 would be for ever.
        let block_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX).max(1);
        command.arg("COUNT").arg(BATCH).arg("BLOCK").arg(block_ms);
        command.arg("STREAMS").arg(&self.key).arg(entry_id(seq));
        let answer: Result<Option<StreamReadReply>, _> = command.query_async(&mut connection).await;
        let read = self.shared.heard(answer)?;
        self.connection = Some(connection);
        Some(read.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids).collect())
    }
}
