//! The pipeline's own numbers.

use super::page::Page;
use crate::engine::Gauges;
use crate::lanes::LaneState;
use crate::models::status::{State as ModelState, Status};
use crate::sources::kafka::{Lag, Settings};
use crate::sources::kafka_client::queue_limit_bytes;
use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::histogram::Histogram;
use smartlog_operators::breakdown::Fill as Counted;
use smartlog_operators::novelty;
use smartlog_operators::sums::Sums;
use smartlog_schema::dead_letter::Reason;
use smartlog_schema::position::TopicPartition;
use smartlog_sinks::alerts::{self, HookState};
use smartlog_sinks::{Fill, Health, State};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The name under which services that are not among the largest are shown together.
const OTHERS: &str = "__other__";

/// Reads everything at every scrape.
pub struct Pipeline {
    pub gauges: Gauges,
    pub kafka: Option<Arc<Settings>>,
    pub models: Option<Arc<Status>>,
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pipeline")
    }
}

impl Collector for Pipeline {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page::new(encoder, "smartlog");
        self.records(&mut page)?;
        self.time(&mut page)?;
        self.windows(&mut page)?;
        self.episodes(&mut page)?;
        self.queues(&mut page)?;
        self.lanes(&mut page)?;
        self.stores(&mut page)?;
        self.models(&mut page)?;
        self.alerts(&mut page)
    }
}

impl Pipeline {
    fn records(&self, page: &mut Page<'_>) -> fmt::Result {
        let outcomes = &self.gauges.outcomes;
        page.counter("records", "Records read", count(&outcomes.records))?;
        page.counter("record_bytes", "Bytes of their payloads", count(&outcomes.bytes))?;
        page.counter("logs", "Records that are logs", count(&outcomes.logs))?;
        let dead = |reason: &Reason| {
            ([("reason", reason.as_str())], count(&outcomes.dead_letters[*reason as usize]))
        };
        page.counters("dead_letters", "Records that are no logs, by reason", Reason::ALL.iter().map(dead))?;
        let Some(kafka) = &self.kafka else { return Ok(()) };
        let lags = kafka.lags();
        let unread: i64 = lags.values().map(|lag| lag.unread).sum();
        page.gauge("lag_records", "Records not read yet", unread as f64)?;
        let partition = |(source, lag): (&TopicPartition, &Lag)| {
            let labels = [("topic", source.topic.to_string()), ("partition", source.partition.to_string())];
            (labels, lag.uncommitted as f64)
        };
        page.gauges(
            "partition_lag_records",
            "Records whose effects are not durable yet, as lag tools show of the group",
            lags.iter().map(partition),
        )?;
        page.counter("kafka_errors", "Errors that Kafka reported", count(&kafka.counters.errors))?;
        let lost = count(&kafka.counters.lost_to_retention);
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
        )?;
        let behind = if clock_us == 0 { 0 } else { Timestamp::now().as_microsecond() - clock_us };
        page.gauge("clock_delay_seconds", "By how much the clock is behind the wall", seconds(behind))?;
        page.histogram(
            "tick_duration_seconds",
            "From the end of a tick until every worker is done with it",
            &self.gauges.meters.tick,
        )?;
        page.gauge("tick_interval_seconds", "How often a tick is cut", self.gauges.pace.tick.as_secs_f64())
    }

    /// What the open windows hold.
    fn windows(&self, page: &mut Page<'_>) -> fmt::Result {
        let tally = self.gauges.meters.services.tally();
        page.gauge("window_services", "Services with a log in the last 5 minutes", tally.services as f64)?;
        let others = std::iter::once((OTHERS.into(), tally.rest));
        let named: Vec<_> = tally.top.into_iter().chain(others).collect();
        let of = |read: fn(&Sums) -> i64| {
            named.iter().map(move |(service, sums)| ([("service", service.to_string())], read(sums) as f64))
        };
        page.gauges("window_logs", "Logs of the last 5 minutes, by service", of(|sums| sums.logs))?;
        page.gauges("window_errors", "Errors of the last 5 minutes, by service", of(|sums| sums.errors))?;
        page.gauges(
            "window_message_characters",
            "Characters of the messages of the last 5 minutes, by service",
            of(|sums| sums.message_chars),
        )
    }

    fn episodes(&self, page: &mut Page<'_>) -> fmt::Result {
        let now =
            self.gauges.meters.episodes.now().into_iter().map(|((anomaly_type, severity, status), n)| {
                ([("type", anomaly_type), ("severity", severity), ("status", status)], n as f64)
            });
        page.gauges("episodes", "Episodes that are not over", now)?;
        let changes = self.gauges.meters.episodes.changes().into_iter();
        let changes = changes.map(|((anomaly_type, kind), n)| ([("type", anomaly_type), ("kind", kind)], n));
        page.counters("episode_changes", "Changes of episodes, by kind", changes)
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
        let patterns = &self.gauges.meters.patterns;
        page.gauge("patterns", "Patterns that are remembered", size(&patterns.patterns))?;
        page.gauge("pattern_shapes", "Shapes of messages that they are made of", size(&patterns.shapes))?;
        page.gauge("patterns_limit", "Patterns that may be; more are other", size(&patterns.limit))?;
        self.breakdown(page)?;
        page.gauge(
            "known_shapes",
            "Shapes of messages that services are known to have logged",
            size(&self.gauges.meters.known),
        )?;
        page.gauge(
            "known_limit_shapes",
            "As many as a worker knows; services with further ones are not judged by new patterns",
            novelty::Limits::default().shapes as f64,
        )?;
        page.gauge(
            "pending_commit_bytes",
            "Closed epochs not committed yet",
            size(&self.gauges.pending_commit_bytes),
        )?;
        self.fetched(page)?;
        let sinks = self.gauges.sinks("aggregates");
        let fills = |read: fn(&Fill) -> u64| {
            let of_sink = move |(name, health): &(String, &Health)| {
                let (name, fills) = (name.clone(), health.fills());
                fills.into_iter().map(move |fill| {
                    ([("sink", name.clone()), ("queue", fill.queue.to_owned())], read(&fill) as f64)
                })
            };
            sinks.iter().flat_map(of_sink)
        };
        page.gauges("sink_queue_bytes", "What waits in a queue of a sink's own", fills(|fill| fill.used))?;
        page.gauges("sink_queue_limit_bytes", "How much may wait in it", fills(|fill| fill.limit))
    }

    /// What is counted by host and by shape of message.
    fn breakdown(&self, page: &mut Page<'_>) -> fmt::Result {
        let fills = &self.gauges.meters.breakdown;
        let (now, limits) = (fills.now(), fills.limits());
        page.gauge("breakdown_services", "Services whose hosts and shapes are counted", now.services as f64)?;
        page.gauge(
            "breakdown_limit_services",
            "Services that may be; more are counted together",
            limits.services as f64,
        )?;
        page.gauge(
            "breakdown_parts",
            "Hosts and shapes of messages counted by name, of all services and minutes",
            now.parts as f64,
        )?;
        page.gauge(
            "breakdown_limit_parts",
            "Hosts and shapes that may be; more are other",
            limits.parts as f64,
        )?;
        let of = |fill: Counted| {
            [("hosts", fill.hosts), ("shapes", fill.shapes)].map(|(part, n)| ([("part", part)], n as f64))
        };
        page.gauges(
            "breakdown_minute_parts",
            "Hosts, or shapes, of the service and minute that have most",
            of(now),
        )?;
        page.gauges(
            "breakdown_limit_minute_parts",
            "Hosts, or shapes, that a service may have in a minute; more are other",
            of(limits),
        )
    }

    /// What librdkafka fetched ahead.
    fn fetched(&self, page: &mut Page<'_>) -> fmt::Result {
        let Some(kafka) = &self.kafka else { return Ok(()) };
        let (records, outcomes) = (count(&kafka.counters.fetched), &self.gauges.outcomes);
        page.gauge("fetched_records", "Records fetched ahead", records as f64)?;
        // It tells records only: they are taken to be as long as those before.
        let mean = count(&outcomes.bytes) as f64 / count(&outcomes.records).max(1) as f64;
        page.gauge("fetched_bytes", "Estimate of their size", records as f64 * mean)?;
        let limit = queue_limit_bytes(kafka) * count(&kafka.counters.readers);
        page.gauge("fetched_limit_bytes", "Size at which the fetchers pause", limit as f64)
    }

    /// The lanes of the log sinks: what waits in them, and whether they keep up.
    fn lanes(&self, page: &mut Page<'_>) -> fmt::Result {
        let gauges = |read: fn(&LaneState) -> f64| {
            self.gauges.lanes.iter().map(move |lane| ([("sink", lane.state.name())], read(&lane.state)))
        };
        let counters = |read: fn(&LaneState) -> u64| {
            self.gauges.lanes.iter().map(move |lane| ([("sink", lane.state.name())], read(&lane.state)))
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

    fn stores(&self, page: &mut Page<'_>) -> fmt::Result {
        let sinks = self.gauges.sinks("aggregates");
        let counts = |read: fn(&Health) -> u64| {
            sinks.iter().map(move |(name, health)| ([("sink", name.clone())], read(health)))
        };
        page.counters("sink_rows", "Rows written", counts(Health::rows))?;
        page.counters("sink_dead_letters", "Dead letters written", counts(Health::dead_letters))?;
        page.counters("sink_retries", "Attempts that failed and were made again", counts(Health::retries))?;
        let up = |(name, health): &(String, &Health)| {
            ([("sink", name.clone())], f64::from(u8::from(health.state() == State::Ok)))
        };
        page.gauges("sink_up", "Whether the last attempt succeeded", sinks.iter().map(up))?;
        let histograms = |read: fn(&Health) -> &Histogram| {
            sinks.iter().map(move |(name, health)| ([("sink", name.clone())], read(health).clone()))
        };
        page.histograms(
            "sink_commit_duration_seconds",
            "How long transactions took, attempts that failed included",
            histograms(Health::durations),
        )?;
        page.histograms("sink_commit_rows", "Rows that one transaction wrote", histograms(Health::sizes))
    }

    /// The webhooks that people are told by.
    fn alerts(&self, page: &mut Page<'_>) -> fmt::Result {
        let hooks = &self.gauges.hooks.states;
        let gauges = |read: fn(&HookState) -> f64| {
            hooks.iter().map(move |hook| ([("hook", hook.name.clone())], read(hook)))
        };
        let counters = |read: fn(&HookState) -> &AtomicU64| {
            hooks.iter().map(move |hook| ([("hook", hook.name.clone())], count(read(hook))))
        };
        let up = |hook: &HookState| f64::from(u8::from(hook.is_up.load(Ordering::Relaxed)));
        page.gauges("alert_hook_up", "Whether the hook took the last message", gauges(up))?;
        let pending = |hook: &HookState| hook.pending.load(Ordering::Relaxed) as f64;
        page.gauges("alerts_pending", "Alerts that wait to be taken", gauges(pending))?;
        let limit = |_: &HookState| alerts::MOST_PENDING as f64;
        page.gauges("alerts_pending_limit", "Alerts that may wait; more are dropped", gauges(limit))?;
        let oldest = |hook: &HookState| match hook.oldest_us.load(Ordering::Relaxed) {
            0 => 0.0,
            since => (Timestamp::now().as_microsecond() - since) as f64 / 1e6,
        };
        page.gauges("alerts_oldest_seconds", "For how long the oldest of them has waited", gauges(oldest))?;
        page.counters("alert_messages", "Messages that were taken", counters(|hook| &hook.sent))?;
        page.counters(
            "alert_failures",
            "Attempts that failed and were made again",
            counters(|hook| &hook.failures),
        )?;
        page.counters(
            "alerts_dropped",
            "Alerts that were refused for good, or found no room",
            counters(|hook| &hook.dropped),
        )
    }

    fn models(&self, page: &mut Page<'_>) -> fmt::Result {
        page.histogram(
            "scoring_duration_seconds",
            "How long a model took for one window",
            &self.gauges.meters.scoring,
        )?;
        let Some(status) = &self.models else { return Ok(()) };
        let now = status.now();
        let state =
            |state: &ModelState| ([("state", state.as_str())], f64::from(u8::from(*state == now.state)));
        page.gauges("model_state", "Where the life of models stands", ModelState::ALL.iter().map(state))?;
        let info = now.models.iter().map(|(role, model)| {
            ([("role", role.as_str().to_owned()), ("version", model.version.clone())], 1.0)
        });
        page.gauges("model_info", "Always 1; which model version serves in which role", info)?;
        page.counter("models_refused", "Models that could not serve", count(&status.refused))?;
        page.counter("model_swaps", "Models that came into force or left it", count(&status.swaps))?;
        page.counter("models_trained", "Models trained from the stream", count(&status.trained))
    }
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
