//! What one look at a running pipeline shows; `--format json` prints it as it is.

use super::exposition::{Labels, Samples};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use smartlog_schema::anomaly::Severity;
use std::cmp::Reverse;
use std::time::Instant;

/// One look.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Frame {
    pub at: Timestamp,
    pub api: Source,
    pub metrics: Source,
    pub status: Option<Status>,
    pub flow: Flow,
    /// Every bounded queue that has a gauge.
    pub queues: Vec<Queue>,
    pub partitions: Vec<Partition>,
    /// Names of the stores and sinks whose last attempt failed.
    pub failing_sinks: Vec<String>,
    pub services: Vec<Service>,
    /// How many services there are, shown or not.
    pub services_total: u64,
    /// Open and provisional ones, the newest first.
    pub episodes: Vec<Episode>,
    pub episodes_total: u64,
}

/// One of the two addresses that are asked.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Source {
    pub url: String,
    /// Why there is no answer; `None` when there is one.
    pub trouble: Option<String>,
}

/// How much comes in. `None` where `/metrics` does not say, or has been asked once only.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Flow {
    pub records_per_s: Option<f64>,
    pub bytes_per_s: Option<f64>,
    pub dead_letters_per_s: Option<f64>,
    /// Mean time that a tick took since the look before.
    pub tick_ms: Option<f64>,
    /// Records in Kafka that are not read yet.
    pub lag_records: Option<f64>,
}

/// A queue and its bound, in the same unit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Queue {
    pub name: String,
    pub used: f64,
    pub limit: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Partition {
    pub topic: String,
    pub partition: i64,
    /// Records whose effects are not durable yet; `None` where `/metrics` does not say.
    pub lag_records: Option<f64>,
    /// Wall time minus the partition's event time.
    pub behind_ms: Option<i64>,
}

/// What `/api/v1/status` says, as far as it is shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    pub pipeline: String,
    pub clock: Option<Timestamp>,
    pub behind_ms: Option<i64>,
    pub logs_per_second: f64,
    pub dead_letters: u64,
    #[serde(skip_serializing)]
    pub partitions: Vec<PartitionClock>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct PartitionClock {
    pub topic: String,
    pub partition: i64,
    pub behind_ms: Option<i64>,
}

/// A service, as `/api/v1/services` has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Service {
    pub service: String,
    pub state: String,
    /// Logs per minute.
    pub log_rate: f64,
    /// Errors per log.
    pub error_rate: Option<f64>,
    pub baseline: Option<Usual>,
    pub warming_up: Option<WarmingUp>,
    pub open_anomalies: Vec<Open>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Usual {
    pub log_rate: f64,
    pub error_rate: Option<f64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WarmingUp {
    pub minutes: u64,
    pub needed: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Open {
    pub severity: Option<String>,
}

/// An episode, as `/api/v1/anomalies` has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Episode {
    pub id: i64,
    #[serde(rename = "type")]
    pub anomaly_type: String,
    /// `None`: the whole stream.
    pub service: Option<String>,
    pub severity: Option<String>,
    pub status: String,
    pub started_at: Option<Timestamp>,
    pub description: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct Services {
    pub services: Vec<Service>,
    pub total: u64,
}

#[derive(Debug, Deserialize)]
pub struct Episodes {
    pub anomalies: Vec<Episode>,
    pub total: u64,
}

impl Service {
    /// The worst of its open episodes; `None` without any.
    pub fn worst(&self) -> Option<Severity> {
        self.open_anomalies.iter().filter_map(|open| Severity::parse(open.severity.as_deref()?)).max()
    }
}

/// The order of the services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sort {
    #[default]
    Severity,
    Volume,
    Errors,
    Name,
}

impl Sort {
    pub fn next(self) -> Self {
        match self {
            Sort::Severity => Sort::Volume,
            Sort::Volume => Sort::Errors,
            Sort::Errors => Sort::Name,
            Sort::Name => Sort::Severity,
        }
    }

    /// What a person calls it.
    pub fn name(self) -> &'static str {
        match self {
            Sort::Severity => "severity",
            Sort::Volume => "volume",
            Sort::Errors => "errors",
            Sort::Name => "name",
        }
    }

    /// What the API calls it.
    pub fn parameter(self) -> &'static str {
        match self {
            Sort::Severity => "-severity",
            Sort::Volume => "-log_rate",
            Sort::Errors => "-error_rate",
            Sort::Name => "service",
        }
    }

    /// Sorts as the API does, for what is on the screen already.
    pub fn apply(self, services: &mut [Service]) {
        services.sort_by(|a, b| a.service.cmp(&b.service));
        let errors = |service: &Service| service.error_rate.unwrap_or(-1.0);
        match self {
            Sort::Severity => services.sort_by_key(|service| Reverse(service.worst())),
            Sort::Volume => services.sort_by(|a, b| b.log_rate.total_cmp(&a.log_rate)),
            Sort::Errors => services.sort_by(|a, b| errors(b).total_cmp(&errors(a))),
            Sort::Name => {}
        }
    }
}

/// Each queue: what it is called, the gauge of what it holds, the gauge of its bound.
const QUEUES: [(&str, &str, &str); 4] = [
    ("fetched", "smartlog_fetched_bytes", "smartlog_fetched_limit_bytes"),
    ("waiting", "smartlog_waiting_bytes", "smartlog_waiting_limit_bytes"),
    ("lane", "smartlog_lane_bytes", "smartlog_lane_limit_bytes"),
    ("sink", "smartlog_sink_queue_bytes", "smartlog_sink_queue_limit_bytes"),
];

/// The queues that a page of `/metrics` tells of; series of one queue that have labels are named by them.
pub fn queues(samples: &Samples) -> Vec<Queue> {
    let of_kind = |(kind, used, limit): &(&str, &str, &'static str)| {
        let (kind, limit) = (kind.to_string(), *limit);
        let queue = move |(labels, used): &(Labels, f64)| {
            let words = std::iter::once(kind.as_str()).chain(labels.values().map(String::as_str));
            let name = words.collect::<Vec<_>>().join(" ");
            // A bound that all series share has no labels.
            let limit = samples.with(limit, labels).or_else(|| samples.sum(limit))?;
            Some(Queue { name, used: *used, limit })
        };
        samples.all(used).iter().filter_map(queue).collect::<Vec<_>>()
    };
    QUEUES.iter().flat_map(of_kind).collect()
}

/// Each partition that either of the two sources knows, the one with the greatest lag first.
pub fn partitions(samples: &Samples, clocks: &[PartitionClock]) -> Vec<Partition> {
    let lags = samples.all("smartlog_partition_lag_records").iter().filter_map(|(labels, lag)| {
        let topic = labels.get("topic")?.clone();
        let partition = labels.get("partition")?.parse().ok()?;
        Some(Partition { topic, partition, lag_records: Some(*lag), behind_ms: None })
    });
    let mut partitions: Vec<Partition> = lags.collect();
    for clock in clocks {
        match partitions.iter_mut().find(|p| p.partition == clock.partition && p.topic == clock.topic) {
            Some(known) => known.behind_ms = clock.behind_ms,
            None => partitions.push(Partition {
                topic: clock.topic.clone(),
                partition: clock.partition,
                lag_records: None,
                behind_ms: clock.behind_ms,
            }),
        }
    }
    let key = |p: &Partition| (Reverse(p.lag_records.unwrap_or(-1.0) as i64), p.topic.clone(), p.partition);
    partitions.sort_by_cached_key(key);
    partitions
}

/// Sinks whose last attempt failed.
pub fn failing(samples: &Samples) -> Vec<String> {
    let down = samples.all("smartlog_sink_up").iter().filter(|(_, up)| *up == 0.0);
    down.filter_map(|(labels, _)| labels.get("sink").cloned()).collect()
}

/// Counters at one moment: two of them make rates.
#[derive(Debug, Clone, Copy)]
pub struct Counters {
    at: Instant,
    records: Option<f64>,
    bytes: Option<f64>,
    dead_letters: Option<f64>,
    tick_seconds: Option<f64>,
    ticks: Option<f64>,
}

impl Counters {
    pub fn read(samples: &Samples, at: Instant) -> Self {
        Counters {
            at,
            records: samples.sum("smartlog_records_total"),
            bytes: samples.sum("smartlog_record_bytes_total"),
            dead_letters: samples.sum("smartlog_dead_letters_total"),
            tick_seconds: samples.sum("smartlog_tick_duration_seconds_sum"),
            ticks: samples.sum("smartlog_tick_duration_seconds_count"),
        }
    }

    /// Whether the page was one of a dataflow.
    pub fn are_there(&self) -> bool {
        self.records.is_some()
    }

    /// What came since `earlier`.
    pub fn since(&self, earlier: &Counters) -> Flow {
        let seconds = self.at.saturating_duration_since(earlier.at).as_secs_f64();
        // A counter that went back belongs to a process that was started anew.
        let grown = |now: Option<f64>, then: Option<f64>| Some(now? - then?).filter(|grown| *grown >= 0.0);
        let rate = |now, then| grown(now, then).filter(|_| seconds > 0.0).map(|grown| grown / seconds);
        let ticks = grown(self.ticks, earlier.ticks).filter(|ticks| *ticks > 0.0);
        Flow {
            records_per_s: rate(self.records, earlier.records),
            bytes_per_s: rate(self.bytes, earlier.bytes),
            dead_letters_per_s: rate(self.dead_letters, earlier.dead_letters),
            tick_ms: grown(self.tick_seconds, earlier.tick_seconds)
                .zip(ticks)
                .map(|(seconds, ticks)| seconds * 1e3 / ticks),
            lag_records: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const PAGE: &str = "smartlog_records_total 1000\nsmartlog_record_bytes_total 5000\n\
        smartlog_dead_letters_total{reason=\"a\"} 3\nsmartlog_dead_letters_total{reason=\"b\"} 4\n\
        smartlog_tick_duration_seconds_sum 2\nsmartlog_tick_duration_seconds_count 100\n\
        smartlog_waiting_bytes 10\nsmartlog_waiting_limit_bytes 40\n\
        smartlog_lane_bytes{sink=\"logs 0\"} 1\nsmartlog_lane_bytes{sink=\"logs 1\"} 2\n\
        smartlog_lane_limit_bytes{sink=\"logs 0\"} 8\nsmartlog_lane_limit_bytes{sink=\"logs 1\"} 4\n\
        smartlog_sink_up{sink=\"aggregates\"} 1\nsmartlog_sink_up{sink=\"logs 0\"} 0\n\
        smartlog_partition_lag_records{topic=\"t\",partition=\"0\"} 5\n\
        smartlog_partition_lag_records{topic=\"t\",partition=\"10\"} 7\n";

    #[test]
    fn two_looks_make_rates_and_a_restart_makes_none() {
        let began = Instant::now();
        let first = Counters::read(&Samples::parse(PAGE), began);
        let later = PAGE
            .replace("total 1000", "total 1500")
            .replace("_sum 2", "_sum 2.5")
            .replace("count 100", "count 150");
        let second = Counters::read(&Samples::parse(&later), began + Duration::from_secs(2));
        let flow = second.since(&first);
        assert_eq!((flow.records_per_s, flow.bytes_per_s), (Some(250.0), Some(0.0)));
        assert_eq!((flow.dead_letters_per_s, flow.tick_ms), (Some(0.0), Some(10.0)));
        assert_eq!(first.since(&second).records_per_s, None, "it went back");
        let nothing = Counters::read(&Samples::parse("up 1\n"), began + Duration::from_secs(3));
        assert!(first.are_there() && !nothing.are_there());
        assert_eq!(nothing.since(&second), Flow::default());
    }

    #[test]
    fn queues_and_partitions_are_put_together_from_their_series() {
        let samples = Samples::parse(PAGE);
        let found: Vec<_> = queues(&samples).into_iter().map(|q| (q.name, q.used, q.limit)).collect();
        let expected = [("waiting", 10.0, 40.0), ("lane logs 0", 1.0, 8.0), ("lane logs 1", 2.0, 4.0)];
        assert_eq!(found, expected.map(|(name, used, limit)| (name.to_owned(), used, limit)));
        assert_eq!(failing(&samples), ["logs 0"]);
        let clock =
            |partition, behind| PartitionClock { topic: "t".into(), partition, behind_ms: Some(behind) };
        let found = partitions(&samples, &[clock(0, 90), clock(2, 95)]);
        let found: Vec<_> = found.iter().map(|p| (p.partition, p.lag_records, p.behind_ms)).collect();
        assert_eq!(found, [(10, Some(7.0), None), (0, Some(5.0), Some(90)), (2, None, Some(95))]);
    }

    #[test]
    fn services_are_sorted_as_the_api_sorts_them() {
        let service = |name: &str, rate, errors, severity: Option<&str>| Service {
            service: name.into(),
            state: "ok".into(),
            log_rate: rate,
            error_rate: errors,
            baseline: None,
            warming_up: None,
            open_anomalies: severity.map(|s| Open { severity: Some(s.into()) }).into_iter().collect(),
        };
        let mut services = vec![
            service("b", 1.0, Some(0.0), None),
            service("d", 3.0, None, Some("low")),
            service("c", 2.0, Some(0.5), Some("critical")),
            service("a", 2.0, Some(0.5), None),
        ];
        for (sort, expected) in
            [(Sort::Severity, "cdab"), (Sort::Volume, "dacb"), (Sort::Errors, "acbd"), (Sort::Name, "abcd")]
        {
            sort.apply(&mut services);
            let names: String = services.iter().map(|service| service.service.as_str()).collect();
            assert_eq!(names, expected, "{}", sort.name());
        }
    }
}
