//! Seeded, labelled log traffic as a real micro-service estate makes it.
//!
//! ```text
//!   GeneratorConfig ─► Model (estate, season, plan) ─► Generator ─► lines in order of arrival ─► output: file, Kafka
//!                        │                               └► Labels: what was planned, what was written
//!                        └──────────────────────────────► History: the sums alone, without text
//! ```
//!
//! * Services differ in rate by more than three orders of magnitude, have a daily and a weekly season, bursts, hosts,
//!   deployments, log-normal latencies, and share request ids along their calls.
//! * Incidents of every type that the product detects, and disturbances that it must keep quiet about, are planned from
//!   the seed and labelled.
//! * Lines arrive out of order within seconds, a few of them minutes late, some of them are no logs at all.
//! * Equal settings make equal bytes. Memory is bounded by the lines that are on their way.
//!
//! ```
//! use smartlog_generator::{Generator, GeneratorConfig, IncidentPlan};
//!
//! let incidents = IncidentPlan::Auto { per_day: 48.0, disturbances_per_day: 0.0, kinds: Vec::new() };
//! let config = GeneratorConfig { seed: 7, rate_per_s: 50.0, incidents, ..GeneratorConfig::default() };
//! let mut traffic = Generator::new(config)?;
//! let first = traffic.next().expect("an hour of traffic has a line");
//! assert!(first.payload.starts_with(b"{\"timestamp\":\"2026-01-01T00:00:00."));
//! # Ok::<(), smartlog_generator::GeneratorError>(())
//! ```

mod config;
mod demo;
mod deploy;
mod error;
mod estate;
mod history;
mod incidents;
mod labels;
mod line;
mod malformed;
mod model;
pub mod output;
mod plan;
mod requests;
mod rng;
mod season;
mod stream;
mod templates;

pub use config::{GeneratorConfig, MAX_LATE, MAX_RATE};
pub use demo::Demo;
pub use error::GeneratorError;
pub use estate::{MAX_HOSTS, MAX_SERVICES, ServiceConfig, Services};
pub use history::{History, SumsRow};
pub use incidents::{IncidentKind, IncidentSpec};
pub use labels::{Facts, Label, Labels, ServiceFacts};
pub use malformed::{MalformedKind, OddKind};
pub use plan::IncidentPlan;
pub use season::Season;
pub use stream::{Generator, Head, Record};
pub use templates::Family;
