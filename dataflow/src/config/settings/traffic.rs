//! `[generate]` and `[demo]`: made-up logs.

use crate::config::units::{HumanDuration, optional_duration};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smartlog_generator::{GeneratorConfig, IncidentKind};
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

/// `smartlog generate`: made-up logs with known incidents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Generate {
    /// Logs per second of event time, of all services together, over a week of season.
    #[schemars(extend("x-flag" = "rate"))]
    pub rate: f64,
    /// Decides everything that is drawn: equal settings make equal logs.
    #[schemars(extend("x-flag" = "seed"))]
    pub seed: u64,
    /// Event time to cover; unset: without end.
    #[schemars(extend("x-flag" = "for"), with = "Option<HumanDuration>")]
    #[serde(with = "optional_duration")]
    pub duration: Option<Duration>,
    /// Most lines to make; unset: all of the duration.
    #[schemars(extend("x-flag" = "count"))]
    pub count: Option<NonZeroU64>,
    /// Where the lines go: stdout, kafka (see `kafka.brokers`, and the first of `kafka.topics`), or a file.
    ///
    /// A file is replaced. Its ending may ask for compression: .gz or .zst.
    #[schemars(extend("x-flag" = "to", "x-form" = "stdout|kafka|FILE"))]
    pub to: String,
    /// File for what was put in, as one JSON document: incidents, disturbances and counts.
    ///
    /// Written at the end, also when it was stopped.
    #[schemars(extend("x-flag" = "labels", "x-form" = "FILE"))]
    pub labels: Option<PathBuf>,
    /// Event time per wall time: 1 is real time, 60 an hour per minute, 0 as fast as it goes.
    #[schemars(extend("x-flag" = "speed"))]
    pub speed: f64,
    /// Event time of the first line; unset: now, or at full speed such that the duration ends now.
    ///
    /// Lines that lie in the future when they are read become dead letters.
    #[schemars(extend("x-flag" = "start", "x-form" = "TIME"), with = "Option<String>")]
    pub start: Option<Timestamp>,
    /// What goes wrong: none, auto (drawn from the seed), demo (one each minute), or a JSON file that lists incidents.
    #[schemars(extend("x-flag" = "incidents", "x-form" = "none|auto|demo|FILE"))]
    pub incidents: String,
    /// Incidents a day over all services, with `generate.incidents = "auto"`.
    pub incidents_per_day: f64,
    /// Things a day that look like trouble and are none (a level shift, a wrong clock), with `auto`.
    pub disturbances_per_day: f64,
    /// Kinds of incident to take in turn, with `auto`, such as error_rate_spike; empty: all.
    #[schemars(with = "Vec<String>")]
    pub incident_kinds: Vec<IncidentKind>,
    /// Quiet time at the start in which nothing goes wrong.
    #[serde(with = "HumanDuration")]
    pub learn: Duration,
    /// Services to make up; unset: the built-in web shop of 26.
    #[schemars(extend("x-flag" = "services"))]
    pub services: Option<NonZeroU32>,
    /// Lines that are no logs, as a share of the rate and on top of it.
    pub malformed_share: f64,
    /// Logs in an unusual but acceptable form, as a share of all.
    pub odd_share: f64,
    /// Greatest usual delay between a line's event and its arrival.
    #[serde(with = "HumanDuration")]
    pub disorder: Duration,
    /// Lines that arrive much later, as a share of all.
    pub late_share: f64,
    /// How late those are at most.
    #[serde(with = "HumanDuration")]
    pub late_max: Duration,
    /// Mean time between two deployments of one service.
    #[serde(with = "HumanDuration")]
    pub deploy_every: Duration,
}

impl Default for Generate {
    fn default() -> Self {
        let traffic = GeneratorConfig::default();
        Generate {
            rate: traffic.rate_per_s,
            seed: traffic.seed,
            duration: None,
            count: None,
            to: "stdout".into(),
            labels: None,
            speed: 1.0,
            start: None,
            incidents: "none".into(),
            incidents_per_day: 24.0,
            disturbances_per_day: 6.0,
            incident_kinds: Vec::new(),
            learn: traffic.learn.unsigned_abs(),
            services: None,
            malformed_share: traffic.malformed_share,
            odd_share: traffic.odd_share,
            disorder: traffic.disorder.unsigned_abs(),
            late_share: traffic.late_share,
            late_max: traffic.late_max.unsigned_abs(),
            deploy_every: traffic.deploy_every.unsigned_abs(),
        }
    }
}

/// `smartlog demo`: everything in one process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Demo {
    /// End by itself after this long and print a summary; unset: until stopped.
    #[schemars(extend("x-flag" = "for"), with = "Option<HumanDuration>")]
    #[serde(with = "optional_duration")]
    pub duration: Option<Duration>,
    /// Logs per second.
    #[schemars(extend("x-flag" = "rate"))]
    pub rate: u32,
    /// Seed of the logs and incidents.
    #[schemars(extend("x-flag" = "seed"))]
    pub seed: u64,
    /// Folder for the demo's store and files.
    ///
    /// Emptied at each start.
    #[schemars(extend("x-flag" = "dir", "x-form" = "FOLDER"))]
    pub dir: PathBuf,
}

impl Default for Demo {
    fn default() -> Self {
        Demo { duration: None, rate: 1000, seed: 42, dir: "smartlog-demo".into() }
    }
}
