//! `[parse]`: how a payload becomes a log.

use super::MIB;
use crate::config::units::HumanBytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use smartlog_operators::parse::FieldMapping;

/// Which names the fields of a log go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `timestamp level service host message metadata`
    #[default]
    Default,
    /// Elastic Common Schema
    Ecs,
    /// OpenTelemetry log records
    Otel,
    /// Google Cloud LogEntry
    Gcp,
    /// pino and bunyan
    Pino,
}

/// How a payload becomes a log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Parse {
    /// The convention that the logs follow: which members of the JSON object are the fields of a log.
    ///
    /// The keys below replace single fields of it. Try a change with `smartlog analyze` on a file first: where
    /// timestamp, level, service or message is not found, every line becomes a dead letter.
    #[schemars(extend("x-flag" = "input-format"))]
    pub format: Format,
    /// Where the timestamp is found: paths, tried in order; a dot goes one level down. Empty: as `parse.format` says.
    pub timestamp: Vec<String>,
    /// Where the level is found.
    pub level: Vec<String>,
    /// Where the service is found.
    pub service: Vec<String>,
    /// Where the message is found.
    pub message: Vec<String>,
    /// Where the host is found.
    pub host: Vec<String>,
    /// Where the metadata is found.
    pub metadata: Vec<String>,
    /// What a number means as a level: none, syslog, otel, pino, python or gcp; unset: as `parse.format` says.
    ///
    /// Not to be told by looking: 40 is WARN to pino and ERROR to Python.
    pub level_numbers: Option<String>,
    /// Level of a log that has none, such as INFO; unset: as `parse.format` says.
    pub default_level: Option<String>,
    /// What happens to members that are no field, drop or metadata; unset: as `parse.format` says.
    pub unmapped: Option<String>,
    /// Longer payloads become dead letters.
    ///
    /// Bounds what one record can cost in memory.
    #[serde(with = "HumanBytes")]
    pub max_record_bytes: u64,
    /// Longer metadata is left out; the log stays.
    #[serde(with = "HumanBytes")]
    pub max_metadata_bytes: u64,
}

impl Parse {
    /// The mapping of fields that the parser works by.
    ///
    /// # Errors
    /// The key that cannot be used, and why.
    pub fn mapping(&self) -> Result<FieldMapping, (&'static str, String)> {
        let overrides = self.overrides();
        for one in &overrides {
            self.mapping_with(std::slice::from_ref(one)).map_err(|fault| (one.0, fault))?;
        }
        self.mapping_with(&overrides).map_err(|fault| ("parse.format", fault))
    }

    fn mapping_with(&self, overrides: &[(&'static str, Value)]) -> Result<FieldMapping, String> {
        let named = |(key, value): &(&'static str, Value)| {
            (key.trim_start_matches("parse.").to_string(), value.clone())
        };
        let mut mapping: serde_json::Map<String, Value> = overrides.iter().map(named).collect();
        mapping.insert("preset".into(), json!(self.format));
        FieldMapping::deserialize(Value::Object(mapping)).map_err(|fault| fault.to_string())
    }

    /// What differs from the preset.
    fn overrides(&self) -> Vec<(&'static str, Value)> {
        let paths = [
            ("parse.timestamp", &self.timestamp),
            ("parse.level", &self.level),
            ("parse.service", &self.service),
            ("parse.message", &self.message),
            ("parse.host", &self.host),
            ("parse.metadata", &self.metadata),
        ];
        let words = [
            ("parse.level_numbers", self.level_numbers.as_deref().map(str::to_lowercase)),
            ("parse.default_level", self.default_level.as_deref().map(str::to_uppercase)),
            ("parse.unmapped", self.unmapped.as_deref().map(str::to_lowercase)),
        ];
        let paths =
            paths.into_iter().filter(|(_, paths)| !paths.is_empty()).map(|(key, paths)| (key, json!(paths)));
        let words = words.into_iter().filter_map(|(key, word)| word.map(|word| (key, json!(word))));
        paths.chain(words).collect()
    }
}

impl Default for Parse {
    fn default() -> Self {
        Parse {
            format: Format::Default,
            timestamp: Vec::new(),
            level: Vec::new(),
            service: Vec::new(),
            message: Vec::new(),
            host: Vec::new(),
            metadata: Vec::new(),
            level_numbers: None,
            default_level: None,
            unmapped: None,
            max_record_bytes: MIB,
            max_metadata_bytes: MIB / 4,
        }
    }
}
