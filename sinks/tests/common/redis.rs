//! A store and a Redis that what is committed in it is published to.

use super::Bench;
use redis::Value;
use redis::aio::MultiplexedConnection;
use smartlog_sinks::{CancellationToken, EventSinkEntry, Health, RedisConfig, StateStore, Wake, follow};
use smartlog_test_services::Service;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

pub const KEPT: u32 = 300;

/// A store with its tables and one pipeline, and a Redis under a prefix of its own.
pub struct Scene {
    pub bench: Bench,
    pub redis: Service,
    prefix: String,
    identity: String,
    pub stop: CancellationToken,
    _store: Box<dyn StateStore>,
}

impl Scene {
    pub async fn of(bench: Bench) -> Option<Scene> {
        let redis = Service::require("redis")?;
        let mut store = bench.state();
        store.open().await.expect("the store opens");
        let identity = bench.query("SELECT identity FROM pipeline_state").await[0][0].clone().expect("text");
        let prefix = format!("test-{}", bench.config.url.rsplit('/').next().unwrap_or_default());
        let stop = CancellationToken::new();
        Some(Scene { bench, redis, prefix, identity, stop, _store: store })
    }

    pub fn key(&self, name: &str) -> String {
        format!("{}:{}:{name}", self.prefix, self.identity)
    }

    /// Starts one that follows the store.
    pub fn follow(&self) -> (Wake, Health, JoinHandle<()>) {
        let config = RedisConfig { url: self.redis.address(), prefix: self.prefix.clone(), max_events: KEPT };
        let entry = EventSinkEntry::redis(config, &self.bench.config);
        let (wake, health) = (Wake::default(), Health::new());
        let sink = entry.open(health.clone(), self.stop.clone()).expect("a sink");
        let task = tokio::spawn(follow(sink, wake.clone(), health.clone(), self.stop.clone()));
        (wake, health, task)
    }

    pub async fn connect(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.redis.address()).expect("a URL");
        client.get_multiplexed_async_connection().await.expect("Redis answers")
    }

    /// Changes `from..=to`, whose descriptions say `mark`.
    pub async fn commit(&self, from: i64, to: i64, mark: &str) {
        let at = |us: i64| match self.bench.is_postgres() {
            true => format!("timestamptz 'epoch' + {us} * interval '1 microsecond'"),
            false => us.to_string(),
        };
        let rows: Vec<String> = (from..=to)
            .map(|seq| {
                let reason = if seq % 2 == 0 { "null" } else { "'it''s ü'" };
                let (clock, created) = (at(seq * 1_000_003), at(seq * 2_000_003 + mark.len() as i64));
                format!(
                    "({seq}, {}, 'raised', 1, 'open', {reason}, {clock}, '{{\"n\": {seq}, \"mark\": \"{mark}\"}}', {created})",
                    seq % 7
                )
            })
            .collect();
        let columns = "seq, anomaly_id, kind, revision, status, reason, clock, episode, created_at";
        self.bench
            .execute(&format!("INSERT INTO anomaly_events ({columns}) VALUES {}", rows.join(",")))
            .await;
    }

    /// What the store has of the newest changes, as Redis should hold it.
    async fn expected(&self) -> Vec<(String, BTreeMap<String, String>)> {
        let (clock, created) = (self.bench.micros("clock"), self.bench.micros("created_at"));
        let sql = format!(
            "SELECT seq, kind, reason, {clock}, anomaly_id, revision, status, episode, {created} FROM anomaly_events \
             WHERE seq > (SELECT max(seq) FROM anomaly_events) - {KEPT} ORDER BY seq"
        );
        let names =
            ["kind", "reason", "clock_us", "anomaly_id", "revision", "status", "episode", "created_at_us"];
        let entry = |row: Vec<Option<String>>| {
            let fields = names.iter().zip(&row[1..]);
            let present = fields.filter_map(|(name, value)| Some(((*name).to_owned(), value.clone()?)));
            (format!("{}-0", row[0].as_deref().expect("a seq")), present.collect())
        };
        self.bench.query(&sql).await.into_iter().map(entry).collect()
    }

    async fn published(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Vec<(String, BTreeMap<String, String>)> {
        let mut command = redis::cmd("XRANGE");
        command.arg(self.key("anomalies")).arg("-").arg("+");
        // By the protocol itself, not by the types that the program reads with.
        let Ok(Value::Array(entries)) = command.query_async(connection).await else { return Vec::new() };
        let text = |value: &Value| match value {
            Value::BulkString(bytes) => String::from_utf8(bytes.clone()).expect("UTF-8"),
            other => panic!("{other:?}"),
        };
        let entry = |entry: &Value| {
            let Value::Array(parts) = entry else { panic!("{entry:?}") };
            let Value::Array(fields) = &parts[1] else { panic!("{parts:?}") };
            let pairs = fields.chunks(2).map(|pair| (text(&pair[0]), text(&pair[1])));
            (text(&parts[0]), pairs.collect())
        };
        entries.iter().map(entry).collect()
    }

    /// Waits until Redis holds what it should.
    pub async fn settled(&self) {
        let expected = self.expected().await;
        let mut connection = self.connect().await;
        let began = Instant::now();
        loop {
            let published = self.published(&mut connection).await;
            if published == expected {
                return;
            }
            if began.elapsed() > Duration::from_secs(30) {
                assert_eq!(published.len(), expected.len());
                let strange = published.iter().zip(&expected).find(|(found, wanted)| found != wanted);
                panic!("found and expected: {strange:?}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn end(self, followers: Vec<JoinHandle<()>>) {
        self.stop.cancel();
        for follower in followers {
            follower.await.expect("it ends well");
        }
        self.bench.drop_it().await;
    }
}
