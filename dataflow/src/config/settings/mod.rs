//! The settings themselves: one struct per section of the file.
//!
//! A field is the only place where a setting is written down. Its name is the key, its doc comment the help (the first
//! paragraph in `-h`, all of it elsewhere), `Default` the default; flag, variable, example file and table in
//! docs/CONFIGURATION.md are derived from it (see [`super::options`]). `x-flag` gives a short flag beside the
//! one that follows from the key, `x-form` what a value looks like.

mod alerts;
mod api;
mod cloud;
mod detection;
mod engine;
mod export;
mod kafka;
mod login_url;
mod models;
mod parse;
mod patterns;
mod program;
mod redis;
mod search;
mod store;
mod telemetry;
mod time;
mod top;
mod traffic;

pub use alerts::{Alerts, HookUrls, Loudness};
pub use api::{Api, ApiLimits};
pub use cloud::{Account, Cloud, TableBilling};
pub use detection::{
    Baseline, Detection, ErrorRateSpike, LogVolumeDrop, LogVolumeSpike, MultivariateOutlier, Test,
};
pub use engine::{Engine, Windows};
pub use export::{Dialect, Export};
pub use kafka::{Kafka, Properties};
pub use models::{Models, Scoping};
pub use parse::{Format, Parse};
pub use patterns::Patterns;
pub use program::{Log, LogFormat, Metrics, Output, OutputFormat};
pub use redis::{Redis, RedisUrl};
pub use search::{Search, SearchUrl};
pub use store::{Store, StoreUrl};
pub use telemetry::Telemetry;
pub use time::Time;
pub use top::Top;
pub use traffic::{Demo, Generate};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

const MIB: u64 = 1 << 20;
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// All settings of one start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the logs come from.
    pub kafka: Kafka,
    /// How a payload becomes a log.
    pub parse: Parse,
    /// Threads, processes and the bounds on memory.
    pub engine: Engine,
    /// What counts as now, as late and as wrong.
    pub time: Time,
    /// Where results are kept.
    pub store: Store,
    /// Every log as Parquet, in a folder or bucket.
    pub export: Export,
    /// Every log in Elasticsearch (7.8 or later) or OpenSearch, in an index per event day.
    pub search: Search,
    /// What there is on AWS beside the bucket, and what it costs.
    pub cloud: Cloud,
    /// Who is told of episodes, by webhooks.
    pub alerts: Alerts,
    /// The windows as a file, for other programs.
    pub windows: Windows,
    /// When something counts as trouble.
    pub detection: Detection,
    /// How models are trained, where they are registered, which of them serves.
    pub models: Models,
    /// The kinds of messages that a stream is made of.
    pub patterns: Patterns,
    /// The REST API and the live page.
    pub api: Api,
    /// What processes share, where there is a Redis: nothing rests on it.
    pub redis: Redis,
    /// Figures about the program itself, for Prometheus.
    pub metrics: Metrics,
    /// Traces of commits, ticks and requests, for a receiver of OpenTelemetry's.
    pub telemetry: Telemetry,
    /// `smartlog top`: a running pipeline in a terminal.
    pub top: Top,
    /// The program's own log, on stderr.
    pub log: Log,
    /// What commands print.
    pub output: Output,
    /// `smartlog generate`: made-up logs with known incidents.
    pub generate: Generate,
    /// `smartlog demo`: everything in one process.
    pub demo: Demo,
}

/// The operators count whole seconds of event time.
const fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(seconds.unsigned_abs())
}

/// Of a duration that was checked to be whole seconds and to fit.
fn whole_seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
