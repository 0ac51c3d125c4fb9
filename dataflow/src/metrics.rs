//! What the dataflow says about itself to Prometheus. Read from the pipeline's own gauges at every scrape, so that
//! `/metrics` answers also while a worker is stalled or a store is down.

use crate::engine::Gauges;
use crate::lanes::LaneState;
use crate::models::status::{State as ModelState, Status};
use crate::sources::kafka::Settings;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use smartlog_schema::dead_letter::Reason;
use smartlog_sinks::{Health, State};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The registry of one process.
pub struct Metrics(Registry);

impl Metrics {
    /// `models`: where models are followed.
    pub fn new(gauges: Gauges, kafka: Option<Arc<Settings>>, models: Option<Arc<Status>>) -> Self {
        let mut registry = Registry::with_prefix("smartlog");
        registry.register_collector(Box::new(Pipeline { gauges, kafka, models }));
        Metrics(registry)
    }
}

impl smartlog_api::MetricsSource for Metrics {
    fn encode(&self, out: &mut String) -> fmt::Result {
        prometheus_client::encoding::text::encode_registry(out, &self.0)
    }
}

struct Pipeline {
    gauges: Gauges,
    kafka: Option<Arc<Settings>>,
    models: Option<Arc<Status>>,
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pipeline")
    }
}

type Labels = [(&'static str, String); 1];

struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let metric = ConstCounter::new(value);
        metric.encode(self.0.encode_descriptor(name, help, None, metric.metric_type())?)
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let metric = ConstGauge::new(value);
        metric.encode(self.0.encode_descriptor(name, help, None, metric.metric_type())?)
    }

    fn counters(&mut self, name: &str, help: &str, values: Vec<(Labels, u64)>) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn gauges(&mut self, name: &str, help: &str, values: Vec<(Labels, f64)>) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

impl Collector for Pipeline {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        self.records(&mut page)?;
        self.time(&mut page)?;
        self.queues(&mut page)?;
        self.lanes(&mut page)?;
        self.stores(&mut page)?;
        self.models(&mut page)
    }
}

impl Pipeline {
    fn records(&self, page: &mut Page<'_>) -> fmt::Result {
        let outcomes = &self.gauges.outcomes;
        page.counter("records", "Records read", outcomes.records.load(Ordering::Relaxed))?;
        page.counter("record_bytes", "Bytes of their payloads", outcomes.bytes.load(Ordering::Relaxed))?;
        page.counter("logs", "Records that are logs", outcomes.logs.load(Ordering::Relaxed))?;
        let dead = Reason::ALL.iter().map(|reason| {
            let count = outcomes.dead_letters[*reason as usize].load(Ordering::Relaxed);
            ([("reason", reason.as_str().to_owned())], count)
        });
        page.counters("dead_letters", "Records that are no logs, by reason", dead.collect())?;
        let Some(kafka) = &self.kafka else { return Ok(()) };
        let counters = &kafka.counters;
        page.gauge("lag_records", "Records not read yet", counters.lag.load(Ordering::Relaxed) as f64)?;
        page.counter("kafka_errors", "Errors that Kafka reported", counters.errors.load(Ordering::Relaxed))?;
        let lost = counters.lost_to_retention.load(Ordering::Relaxed);
        page.counter("records_lost_to_retention", "Records that Kafka deleted before they were read", lost)
    }

    fn time(&self, page: &mut Page<'_>) -> fmt::Result {
        let seconds = |us: i64| us as f64 / 1e6;
        let clock_us = self.gauges.pace.clock_us.load(Ordering::Relaxed);
        page.gauge("clock_timestamp_seconds", "Event time reached; 0 while unknown", seconds(clock_us))?;
        let watermark_us = self.gauges.watermark_us.load(Ordering::Relaxed);
        page.gauge(
            "watermark_timestamp_seconds",
            "Event time up to which windows are final",
            seconds(watermark_us),
        )
    }

    fn queues(&self, page: &mut Page<'_>) -> fmt::Result {
        let pace = &self.gauges.pace;
        let size = |bytes: &AtomicUsize| bytes.load(Ordering::Relaxed) as f64;
        page.gauge("waiting_bytes", "Sums that wait for the clock", size(&pace.waiting_bytes))?;
        page.gauge(
            "waiting_limit_bytes",
            "Size at which partitions that run ahead pause",
            pace.max_waiting_bytes as f64,
        )?;
        page.gauge(
            "pending_commit_bytes",
            "Closed epochs not committed yet",
            size(&self.gauges.pending_commit_bytes),
        )
    }

    /// The lanes of the log sinks: what waits in them, and whether they keep up.
    fn lanes(&self, page: &mut Page<'_>) -> fmt::Result {
        let gauges = |read: fn(&LaneState) -> f64| {
            let lanes = self.gauges.lanes.iter();
            lanes.map(|lane| ([("sink", lane.state.name())], read(&lane.state))).collect()
        };
        let counters = |read: fn(&LaneState) -> u64| {
            let lanes = self.gauges.lanes.iter();
            lanes.map(|lane| ([("sink", lane.state.name())], read(&lane.state))).collect()
        };
        let bytes = |lane: &LaneState| lane.bytes.load(Ordering::Relaxed) as f64;
        page.gauges("lane_bytes", "Logs that wait for the sink", gauges(bytes))?;
        let limit = |lane: &LaneState| lane.limit as f64;
        page.gauges("lane_limit_bytes", "Size beyond which the sink reads by itself", gauges(limit))?;
        let attached = |lane: &LaneState| lane.counts().0 as f64;
        page.gauges("lane_attached_partitions", "Partitions whose logs the sink is sent", gauges(attached))?;
        let detached = |lane: &LaneState| lane.counts().1 as f64;
        page.gauges(
            "lane_detached_partitions",
            "Partitions that the sink reads by itself",
            gauges(detached),
        )?;
        let lag = |lane: &LaneState| lane.lag() as f64;
        page.gauges("lane_lag_records", "Records read that the sink was not handed yet", gauges(lag))?;
        let detachments = |lane: &LaneState| lane.detachments.load(Ordering::Relaxed);
        page.counters("lane_detachments", "Times that a partition found no room", counters(detachments))?;
        let lost = |lane: &LaneState| lane.lost.load(Ordering::Relaxed);
        page.counters(
            "lane_records_lost_to_retention",
            "Records deleted before the sink read them",
            counters(lost),
        )
    }

    fn models(&self, page: &mut Page<'_>) -> fmt::Result {
        let Some(status) = &self.models else { return Ok(()) };
        let now = status.now();
        let states = ModelState::ALL.iter();
        let states = states
            .map(|state| ([("state", state.as_str().to_owned())], f64::from(u8::from(*state == now.state))));
        page.gauges("model_state", "Where the life of models stands", states.collect())?;
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        page.counter("models_refused", "Models that could not serve", count(&status.refused))?;
        page.counter("model_swaps", "Models that came into force or left it", count(&status.swaps))?;
        page.counter("models_trained", "Models trained from the stream", count(&status.trained))
    }

    fn stores(&self, page: &mut Page<'_>) -> fmt::Result {
        let sinks = self.gauges.sinks("aggregates");
        let label = |name: &String| [("sink", name.clone())];
        let counts = |read: fn(&Health) -> u64| {
            sinks.iter().map(|(name, health)| (label(name), read(health))).collect()
        };
        page.counters("sink_commits", "Transactions that went through", counts(Health::commits))?;
        page.counters("sink_rows", "Rows written", counts(Health::rows))?;
        page.counters("sink_retries", "Attempts that failed and were made again", counts(Health::retries))?;
        let gauges = |read: fn(&Health) -> f64| {
            sinks.iter().map(|(name, health)| (label(name), read(health))).collect()
        };
        let up = |health: &Health| f64::from(u8::from(health.state() == State::Ok));
        page.gauges("sink_up", "Whether the last attempt succeeded", gauges(up))?;
        let took = |health: &Health| health.last_commit().map_or(0.0, |time| time.as_secs_f64());
        page.gauges("sink_commit_duration_seconds", "How long the last transaction took", gauges(took))
    }
}
