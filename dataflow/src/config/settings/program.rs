//! `[metrics]`, `[log]`, `[output]`: what the program says of itself, and how.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Figures about the program itself, for Prometheus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Address on which `smartlog run` serves `/metrics` and `/health`; unset: not served.
    ///
    /// Each process of a set needs its own.
    #[schemars(extend("x-form" = "IP:PORT"))]
    pub listen: Option<SocketAddr>,
    /// Services shown by name, those with most logs; the others are one sum, `__other__`.
    ///
    /// Each is three series in Prometheus, and those that take turns in the list are kept too.
    pub services: usize,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics { listen: None, services: 20 }
    }
}

/// How lines of the program's own log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line for a person, coloured on a terminal
    #[default]
    Pretty,
    /// One JSON object per line
    Json,
}

/// The program's own log, on stderr.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Lines for a person, or one JSON object per line.
    pub format: LogFormat,
    /// What is logged: a level, or TARGET=LEVEL pairs separated by commas.
    ///
    /// `RUST_LOG` is heard too, and yields to every other way to set this.
    pub filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Log { format: LogFormat::Pretty, filter: "info,refinery_core=warn".into() }
    }
}

/// How a command prints its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OutputFormat {
    /// For a person
    #[default]
    Table,
    /// For a program
    Json,
}

/// What commands print.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Output {
    /// The result on stdout, for a person or for a program.
    #[schemars(extend("x-flag" = "format"))]
    pub format: OutputFormat,
}
