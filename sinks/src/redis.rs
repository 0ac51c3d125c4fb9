//! Redis: the newest changes of anomalies as a stream, and each service's current window, for readers that follow along
//! without asking the store. The names are those of [`smartlog_schema::live`].
//!
//! ```text
//!   anomaly_events behind the newest entry ──▶ XADD PREFIX:IDENTITY:anomalies seq-0   (at most `max_events` are kept)
//!   window_state at the clock, each second ──▶ RENAME … PREFIX:IDENTITY:windows       (all services at once)
//! ```
//!
//! Redis itself says how far it is: an entry's id is its `seq`, and Redis takes none that is not beyond the newest. So
//! nothing is kept of it elsewhere; a Redis that comes back empty is filled anew from the store, one that comes back with
//! what it had goes on there, and two writers at once write the same.

use crate::config::StoreConfig;
use crate::database::{Row, Tables, values};
use crate::error::{Fault, SinkError};
use crate::follow::EventSink;
use crate::health::Health;
use crate::retry::Patience;
use async_trait::async_trait;
use jiff::Timestamp;
use redis::aio::MultiplexedConnection;
use redis::streams::StreamRangeReply;
use redis::{AsyncConnectionConfig, Client, Pipeline, RedisError};
use serde_json::json;
use smartlog_schema::live::{Field, Keys, entry_id, seq_of};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// A Redis that answers nothing for this long is away.
const PATIENCE: Duration = Duration::from_secs(2);
/// Changes, and windows, that are sent at once.
const BATCH: i64 = 200;
/// How often the windows are published, and what share of the time that may take, where there are many services.
const WINDOWS_EVERY: Duration = Duration::from_secs(1);
const WINDOWS_SHARE: u32 = 10;
/// Windows that nobody refreshes are not current for long; the changes are of use for longer.
const WINDOWS_LIVE_S: i64 = 60;
const CHANGES_LIVE_S: i64 = 7 * 86_400;
const WINDOW_S: i64 = 300;
/// Fields of an entry in the order of [`Redis::changes`]'s columns behind the first.
const FIELDS: [Field; 9] = [
    Field::Kind,
    Field::Reason,
    Field::Clock,
    Field::AnomalyId,
    Field::Revision,
    Field::Status,
    Field::Episode,
    Field::CreatedAt,
    Field::Feedback,
];

/// Which Redis, and what of it is used.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisConfig {
    /// `redis://USER:PASSWORD@HOST:PORT/DATABASE`.
    pub url: String,
    /// What the names of all keys begin with.
    pub prefix: String,
    /// Changes that the stream keeps.
    pub max_events: u32,
}

impl std::fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL may hold a password.
        f.debug_struct("RedisConfig").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// Publishes one store's changes and windows.
pub(crate) struct Redis {
    config: RedisConfig,
    client: Client,
    /// For messages: without user and password.
    name: String,
    tables: Tables,
    link: Option<Link>,
    windows_due: Instant,
}

/// What is known while the connection holds.
struct Link {
    connection: MultiplexedConnection,
    keys: Keys,
    /// The newest change that Redis has.
    published: i64,
}

impl Redis {
    /// Nothing is connected before the first [`EventSink::catch_up`].
    ///
    /// # Errors
    /// [`SinkError::Fatal`] when a URL cannot be understood.
    pub fn new(
        config: RedisConfig,
        store: &StoreConfig,
        health: Health,
        cancel: CancellationToken,
    ) -> Result<Self, SinkError> {
        let (client, name) = client(&config)?;
        let tables = Tables::new(store, Patience { health, cancel })?;
        Ok(Redis { config, client, name, tables, link: None, windows_due: Instant::now() })
    }

    /// Connects, and finds out how far Redis is.
    async fn connect(&mut self) -> Result<Option<Link>, SinkError> {
        let sql = "SELECT identity FROM pipeline_state ORDER BY pipeline LIMIT 1";
        let rows = self.tables.query(sql, Vec::new()).await?;
        let Some(identity) = rows.first().and_then(|row| row.maybe_text(0)) else { return Ok(None) };
        let keys = Keys::new(&self.config.prefix, identity);
        let connection = connect(&self.client).await.map_err(|e| self.away(&e))?;
        let mut link = Link { connection, keys, published: 0 };
        self.find_place(&mut link).await?;
        Ok(Some(link))
    }

    /// Goes on behind the newest entry, where that is of this store; else begins anew.
    async fn find_place(&mut self, link: &mut Link) -> Result<(), SinkError> {
        let newest = self.newest().await?;
        let oldest_kept = newest.saturating_sub(i64::from(self.config.max_events));
        let mut command = redis::cmd("XREVRANGE");
        command.arg(&link.keys.anomalies).arg("+").arg("-").arg("COUNT").arg(1);
        let found: StreamRangeReply =
            command.query_async(&mut link.connection).await.map_err(|e| self.away(&e))?;
        let top = found
            .ids
            .first()
            .and_then(|entry| Some((seq_of(&entry.id)?, entry.get::<i64>(Field::CreatedAt.as_str())?)));
        if let Some((seq, created_at)) = top
            && self.created_at(seq).await? == Some(created_at)
        {
            link.published = seq.max(oldest_kept);
            return Ok(());
        }
        let mut command = redis::cmd("DEL");
        command.arg(&link.keys.anomalies);
        command.query_async::<()>(&mut link.connection).await.map_err(|e| self.away(&e))?;
        link.published = oldest_kept.max(0);
        Ok(())
    }

    async fn newest(&mut self) -> Result<i64, SinkError> {
        let rows = self.tables.query("SELECT max(seq) FROM anomaly_events", Vec::new()).await?;
        Ok(rows.first().map_or(0, |row| row.int(0)))
    }

    async fn created_at(&mut self, seq: i64) -> Result<Option<i64>, SinkError> {
        let created_at = self.tables.micros("created_at");
        let sql = format!("SELECT {created_at} FROM anomaly_events WHERE seq = $1");
        Ok(self.tables.query(&sql, values![seq]).await?.first().and_then(|row| row.maybe_int(0)))
    }

    /// The changes behind `seq`, oldest first, at most [`BATCH`].
    async fn changes(&mut self, seq: i64) -> Result<Vec<Row>, SinkError> {
        let (clock, created_at) = (self.tables.micros("clock"), self.tables.micros("created_at"));
        let sql = format!(
            "SELECT seq, kind, reason, {clock}, anomaly_id, revision, status, CAST(episode AS TEXT), {created_at}, \
             (SELECT feedback FROM anomalies WHERE id = anomaly_id) FROM anomaly_events WHERE seq > $1 ORDER BY seq LIMIT $2"
        );
        self.tables.query(&sql, values![seq, BATCH]).await
    }

    async fn publish_changes(&mut self, link: &mut Link) -> Result<u64, SinkError> {
        let mut published = 0;
        loop {
            let rows = self.changes(link.published).await?;
            let Some(last) = rows.last().map(|row| row.int(0)) else { return Ok(published) };
            let mut pipeline = redis::pipe();
            for row in &rows {
                add(&mut pipeline, &link.keys.anomalies, self.config.max_events, row);
            }
            pipeline.expire(&link.keys.anomalies, CHANGES_LIVE_S).ignore();
            pipeline.query_async::<()>(&mut link.connection).await.map_err(|e| self.away(&e))?;
            link.published = last;
            published += rows.len() as u64;
        }
    }

    /// Puts the windows that end at the clock in the place of those before, all at once.
    async fn publish_windows(&mut self, link: &mut Link) -> Result<(), SinkError> {
        let rows = self.tables.query("SELECT max(clock_us) FROM pipeline_state", Vec::new()).await?;
        let Some(clock_us) = rows.first().and_then(|row| row.maybe_int(0)) else { return Ok(()) };
        // As the API has it: the second that the clock is in counts.
        let end = clock_us.div_euclid(1_000_000) + 1;
        let sql = "SELECT service, CAST(sum(logs) AS BIGINT), CAST(sum(errors) AS BIGINT), \
                   CAST(sum(message_chars) AS BIGINT) FROM window_state WHERE second >= $1 AND second < $2 GROUP BY service";
        let rows = self.tables.query(sql, values![end - WINDOW_S, end]).await?;
        let (target, next) = (&link.keys.windows, format!("{}:next", link.keys.windows));
        let mut pipeline = redis::pipe();
        pipeline.del(&next).ignore();
        for batch in rows.chunks(BATCH as usize) {
            let windows: Vec<(&str, String)> =
                batch.iter().map(|row| (row.text(0), window(row, end))).collect();
            pipeline.hset_multiple(&next, &windows).ignore();
            pipeline.query_async::<()>(&mut link.connection).await.map_err(|e| self.away(&e))?;
            pipeline.clear();
        }
        if rows.is_empty() {
            pipeline.del(target).ignore();
        } else {
            pipeline.expire(&next, WINDOWS_LIVE_S).rename(&next, target).ignore();
        }
        pipeline.query_async::<()>(&mut link.connection).await.map_err(|e| self.away(&e))
    }

    async fn round(&mut self, link: &mut Link) -> Result<u64, SinkError> {
        let published = self.publish_changes(link).await?;
        let began = Instant::now();
        if began >= self.windows_due {
            // A store that was put back to an earlier state goes on with numbers that Redis has already.
            if self.newest().await? < link.published {
                self.find_place(link).await?;
            }
            self.publish_windows(link).await?;
            self.windows_due = began + WINDOWS_EVERY.max(began.elapsed() * WINDOWS_SHARE);
        }
        Ok(published)
    }

    fn away(&self, error: &RedisError) -> SinkError {
        away(&self.name, error)
    }
}

#[async_trait]
impl EventSink for Redis {
    async fn catch_up(&mut self) -> Result<u64, SinkError> {
        let link = match self.link.take() {
            Some(link) => Some(link),
            None => self.connect().await?,
        };
        let Some(mut link) = link else { return Ok(0) };
        let published = self.round(&mut link).await?;
        // After trouble the connection is made anew, and Redis asked how far it is.
        self.link = Some(link);
        Ok(published)
    }
}

fn client(config: &RedisConfig) -> Result<(Client, String), SinkError> {
    let client = Client::open(config.url.as_str()).map_err(|error| {
        SinkError::Fatal(Fault {
            store: "redis".into(),
            doing: "understand its URL".into(),
            found: error.to_string(),
            advice: "set redis.url to redis://HOST:PORT".into(),
        })
    })?;
    let name = format!("redis at {}", client.get_connection_info().addr());
    Ok((client, name))
}

async fn connect(client: &Client) -> Result<MultiplexedConnection, RedisError> {
    let timeouts = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    client.get_multiplexed_async_connection_with_config(&timeouts).await
}

fn away(name: &str, error: &RedisError) -> SinkError {
    SinkError::Transient(Fault {
        store: name.to_owned(),
        doing: "publish anomalies and windows".into(),
        found: error.to_string(),
        advice: "it is tried again; nothing else waits for it".into(),
    })
}

/// Where Redis is and which version answers there.
///
/// # Errors
/// When its URL cannot be understood, or nobody answers in time.
pub async fn probe_redis(config: &RedisConfig) -> Result<String, SinkError> {
    let (client, name) = client(config)?;
    let asked = async {
        let mut connection = connect(&client).await?;
        redis::cmd("INFO").arg("server").query_async::<String>(&mut connection).await
    };
    let info = asked.await.map_err(|error| away(&name, &error))?;
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or("unknown");
    Ok(format!("{name} answers, version {version}"))
}

/// Adds the entry of one change.
fn add(pipeline: &mut Pipeline, key: &str, max_events: u32, row: &Row) {
    let command =
        pipeline.cmd("XADD").arg(key).arg("MAXLEN").arg("=").arg(max_events).arg(entry_id(row.int(0)));
    for (field, at) in FIELDS.iter().zip(1..) {
        if let Some(number) = row.maybe_int(at) {
            command.arg(field.as_str()).arg(number);
        } else if let Some(text) = row.maybe_text(at) {
            command.arg(field.as_str()).arg(text);
        }
    }
    command.ignore();
}

/// A window as readers find it; `end` in seconds since 1970.
fn window(row: &Row, end: i64) -> String {
    let (logs, errors, chars) = (row.int(1), row.int(2), row.int(3));
    let second = |second: i64| Timestamp::from_second(second).unwrap_or_default();
    let share = |part: i64| (logs > 0).then(|| part as f64 / logs as f64);
    json!({
        "window_start": second(end - WINDOW_S), "window_end": second(end), "log_count": logs, "error_count": errors,
        "log_rate": logs as f64 * 60.0 / WINDOW_S as f64, "error_rate": share(errors), "avg_message_length": share(chars),
    })
    .to_string()
}
