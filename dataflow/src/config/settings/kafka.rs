//! `[kafka]`: where the logs come from.

use crate::config::secret::{REDACTED, is_secret_property};
use crate::config::units::Start;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

/// Where the logs come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Kafka {
    /// Brokers to begin with, as HOST:PORT, separated by commas.
    ///
    /// The rest of the cluster is learnt from them, under the names that the brokers advertise: those must be
    /// reachable from here too.
    #[schemars(extend("x-flag" = "brokers", "x-form" = "HOST:PORT"))]
    pub brokers: String,
    /// Topics to read, every partition of each.
    ///
    /// A topic added later is read from `kafka.start` on. A topic taken out keeps its stored position until
    /// `smartlog sinks forget` drops it.
    #[schemars(extend("x-flag" = "topic", "x-form" = "TOPIC"))]
    pub topics: Vec<String>,
    /// Where a partition begins that has no stored position yet.
    ///
    /// Not a way to read again: once a position is stored, this is ignored. See `smartlog sinks set-start`.
    pub start: Start,
    /// Any property of librdkafka, passed through as it is, such as `security.protocol`.
    ///
    /// Beats what the program sets itself, except for the properties that exactly-once rests on: those are refused.
    /// Keep secrets out of here: `kafka.property_files` reads them from a file.
    #[schemars(extend("x-flag" = "property"))]
    pub properties: Properties,
    /// Properties of librdkafka whose value is the content of a file, such as `"sasl.password" = "/run/secrets/kafka"`.
    ///
    /// Read once, at the start; a line break at the end of the file is cut off.
    #[schemars(extend("x-form" = "NAME=FILE"))]
    pub property_files: BTreeMap<String, PathBuf>,
}

impl Default for Kafka {
    fn default() -> Self {
        Kafka {
            brokers: "localhost:9092".into(),
            topics: vec!["logs".into()],
            start: Start::Earliest,
            properties: Properties::default(),
            property_files: BTreeMap::new(),
        }
    }
}

/// Properties of librdkafka by name. Printed without the values that are secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties {
    values: BTreeMap<String, String>,
    /// Names whose values came from files.
    hidden: BTreeSet<String>,
}

impl Properties {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Names and values, the values unredacted, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Sets a value that is never printed.
    pub fn set_hidden(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let name = name.into();
        self.hidden.insert(name.clone());
        self.values.insert(name, value.into());
    }

    fn redacted(&self) -> impl Iterator<Item = (&str, &str)> {
        let is_hidden = |name: &str| self.hidden.contains(name) || is_secret_property(name);
        self.iter().map(move |(name, value)| (name, if is_hidden(name) { REDACTED } else { value }))
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.redacted()).finish()
    }
}

impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.redacted())
    }
}

impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let values = BTreeMap::deserialize(deserializer)?;
        Ok(Properties { values, hidden: BTreeSet::new() })
    }
}

impl JsonSchema for Properties {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Properties".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        BTreeMap::<String, String>::json_schema(generator)
    }
}
