//! The API's own numbers, for `/metrics`.

use super::connection::Connections;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::time::Duration;

/// Bounds of the latency histogram, seconds.
const BOUNDS_S: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 1.0, 3.0, 10.0];

/// Labels of one answered request. The route is a template, so that their number is bounded.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Answered {
    pub route: &'static str,
    pub method: &'static str,
    pub status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByRoute {
    pub route: &'static str,
}

/// The API's own registry and the handles that fill it.
pub struct HttpMetrics {
    pub registry: Registry,
    answered: Family<Answered, Counter>,
    seconds: Family<ByRoute, Histogram>,
    pub connections: Connections,
    pub subscribers: Gauge,
    pub cache_hits: Counter,
    pub cache_misses: Counter,
    pub store_failures: Counter,
    pub redis_failures: Counter,
    /// Changes sent to the stream, by where they were learnt.
    pub changes: Family<Source, Counter>,
}

/// Where a change was learnt.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Source {
    pub source: &'static str,
}

impl HttpMetrics {
    pub fn new() -> Self {
        let answered = Family::<Answered, Counter>::default();
        let seconds = Family::<ByRoute, Histogram>::new_with_constructor(|| Histogram::new(BOUNDS_S));
        let connections = Connections::default();
        let (subscribers, cache_hits, cache_misses) =
            (Gauge::default(), Counter::default(), Counter::default());
        let (store_failures, redis_failures) = (Counter::default(), Counter::default());
        let changes = Family::<Source, Counter>::default();
        let mut root = Registry::with_prefix("smartlog");
        let api = root.sub_registry_with_prefix("api");
        api.register("requests", "Requests answered, by route, method and status", answered.clone());
        let about = "From the head of a request to the head of its answer";
        api.register_with_unit("request_duration", about, Unit::Seconds, seconds.clone());
        api.register("connections", "Connections open now", connections.open.clone());
        api.register(
            "connections_refused",
            "Connections refused because of the bound",
            connections.refused.clone(),
        );
        api.register("stream_subscribers", "Clients listening to the anomaly stream", subscribers.clone());
        api.register("cache_hits", "Answers that were kept from before", cache_hits.clone());
        api.register("cache_misses", "Answers that had to be read from the store", cache_misses.clone());
        api.register("store_failures", "Statements that the store did not answer", store_failures.clone());
        api.register("redis_failures", "Questions that Redis did not answer", redis_failures.clone());
        for source in ["store", "redis"] {
            drop(changes.get_or_create(&Source { source })); // shown from the start
        }
        let about = "Changes of anomalies that were told to the stream, by where they were learnt";
        api.register("stream_changes", about, changes.clone());
        HttpMetrics {
            registry: root,
            answered,
            seconds,
            connections,
            subscribers,
            cache_hits,
            cache_misses,
            store_failures,
            redis_failures,
            changes,
        }
    }

    /// Counts one answered request.
    pub fn count(&self, answered: Answered, took: Duration) {
        self.seconds.get_or_create(&ByRoute { route: answered.route }).observe(took.as_secs_f64());
        self.answered.get_or_create(&answered).inc();
    }
}
