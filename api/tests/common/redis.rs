//! Two servers over one store, and a Redis under a prefix of their own.

use super::{Bench, CLOCK_US, Events, Seeded, Server};
use redis::aio::MultiplexedConnection;
use smartlog_api::{RateLimit, RedisConfig};
use smartlog_test_services::Service;
use std::sync::atomic::{AtomicU64, Ordering};

const STREAM: &str = "/api/v1/anomalies/stream";

pub struct Scene {
    pub servers: [Server; 2],
    pub redis: Service,
    pub prefix: String,
    identity: String,
    /// Of anomaly 1, as its changes hold it.
    episode: String,
}

impl Scene {
    pub async fn of(bench: Bench, rate_limit: Option<RateLimit>) -> Option<Scene> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let redis = Service::require("redis")?;
        bench.seed_pipeline().await;
        bench.seed_anomalies(3).await;
        let prefix = format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let identity = bench.text("select identity from pipeline_state").await;
        let episode = bench.text("select cast(episode as text) from anomaly_events where seq = 1").await;
        let mut config = bench.config();
        config.redis = Some(RedisConfig { url: redis.address(), prefix: prefix.clone() });
        config.rate_limit = rate_limit;
        let second = Server::start(bench.clone(), config.clone()).await;
        let first = Server::start(bench, config).await;
        Some(Scene { servers: [first, second], redis, prefix, identity, episode })
    }

    /// Commits change `seq` of anomaly 1, of which only the store knows then.
    pub async fn commit(&self, seq: i64) {
        let bench = &self.servers[0].bench;
        let event = Seeded::number(1).event(bench, seq, "updated");
        bench.execute(&format!("{}{event}", Seeded::INSERT_EVENT)).await;
    }

    pub async fn connect(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.redis.address()).expect("a URL");
        client.get_multiplexed_async_connection().await.expect("Redis answers")
    }

    /// Publishes it as `published`, by which it can be told from the store's.
    pub async fn publish(&self, connection: &mut MultiplexedConnection, seq: i64) {
        let mut command = redis::cmd("XADD");
        command.arg(format!("{}:{}:anomalies", self.prefix, self.identity)).arg(format!("{seq}-0"));
        command.arg("kind").arg("published").arg("clock_us").arg(CLOCK_US).arg("anomaly_id").arg(1);
        command.arg("revision").arg(1).arg("status").arg("open").arg("episode").arg(&self.episode);
        command.arg("created_at_us").arg(CLOCK_US).arg("feedback").arg("expected");
        command.query_async::<String>(connection).await.expect("Redis takes it");
    }

    /// Publishes what no version of ours would.
    pub async fn publish_nonsense(&self, connection: &mut MultiplexedConnection, seq: i64) {
        let mut command = redis::cmd("XADD");
        command.arg(format!("{}:{}:anomalies", self.prefix, self.identity)).arg(format!("{seq}-0"));
        command.arg("strange").arg("entry").query_async::<String>(connection).await.expect("Redis takes it");
    }

    pub async fn listen(&self) -> [Events; 2] {
        [Events::open(&self.servers[0], STREAM, &[]).await, Events::open(&self.servers[1], STREAM, &[]).await]
    }

    pub async fn end(self) {
        let [first, second] = self.servers;
        second.stop().await;
        first.end().await;
    }
}

/// What each of `events` is told next, which must be `seq`: its kind.
pub async fn told(events: &mut [Events; 2], seq: i64) -> [String; 2] {
    let mut kinds = [String::new(), String::new()];
    for (events, kind) in events.iter_mut().zip(&mut kinds) {
        let (found, change) = events.next_anomaly().await;
        assert_eq!(found, seq, "{change}");
        *kind = change["kind"].as_str().expect("a kind").to_owned();
    }
    kinds
}
