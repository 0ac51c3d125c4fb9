//! Which member of a JSON object is which field of a log: presets, and paths of the user's own.
//!
//! A path is written with dots, and a dot matches nesting and a dot in a key alike: `log.level` finds
//! `{"log":{"level":…}}` and `{"log.level":…}`, for ECS writes both.

use super::level::LevelNumbers;
use serde::{Deserialize, Serialize};
use smartlog_schema::level::Level;
use std::fmt;

/// Conventions that logs come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// `timestamp`, `level`, `service`, `host`, `message`, `metadata`.
    Default,
    /// Elastic Common Schema.
    Ecs,
    /// OpenTelemetry: one log record of OTLP/JSON, or of the data model's JSON, with its resource inside.
    Otel,
    /// Google Cloud `LogEntry`.
    Gcp,
    /// pino and bunyan.
    Pino,
}

/// What happens to members of the object that are no field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unmapped {
    /// They are left out.
    Drop,
    /// They are put into the metadata.
    Metadata,
}

/// Most paths per field.
const MAX_PATHS: usize = 10;
/// Most segments per path: how deep the parser descends.
const MAX_SEGMENTS: usize = 8;
/// Most paths in all.
pub(super) const MAX_SLOTS: usize = 6 * MAX_PATHS;

/// Where each field is found. Paths are tried in order; the first whose value can be read is taken.
///
/// Always valid: it is made from a preset, or deserialised from a table that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Overrides", into = "Overrides")]
pub struct FieldMapping {
    preset: Preset,
    /// In the order of [`Field`].
    paths: [Vec<String>; 6],
    level_numbers: LevelNumbers,
    default_level: Option<Level>,
    unmapped: Unmapped,
    otlp_values: bool,
}

/// The fields of a log, in the order in which they are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Field {
    Timestamp,
    Level,
    Service,
    Message,
    Host,
    Metadata,
}

impl Field {
    pub(super) const ALL: [Field; 6] =
        [Field::Timestamp, Field::Level, Field::Service, Field::Message, Field::Host, Field::Metadata];

    pub(super) fn name(self) -> &'static str {
        match self {
            Field::Timestamp => "timestamp",
            Field::Level => "level",
            Field::Service => "service",
            Field::Message => "message",
            Field::Host => "host",
            Field::Metadata => "metadata",
        }
    }

    /// Whether a log is nothing without it.
    pub(super) fn is_core(self) -> bool {
        !matches!(self, Field::Host | Field::Metadata)
    }
}

/// What a user writes: a preset, and what differs from it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Overrides {
    preset: Option<Preset>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    level_numbers: Option<LevelNumbers>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_level: Option<Level>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unmapped: Option<Unmapped>,
}

/// Why a mapping is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappingError {
    field: &'static str,
    fault: String,
}

impl fmt::Display for MappingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "field mapping, {}: {}", self.field, self.fault)
    }
}

impl std::error::Error for MappingError {}

impl Default for FieldMapping {
    fn default() -> Self {
        FieldMapping::preset(Preset::Default)
    }
}

impl FieldMapping {
    /// The mapping of a convention, unchanged.
    pub fn preset(preset: Preset) -> Self {
        let (paths, level_numbers, default_level, unmapped) = match preset {
            Preset::Default => (DEFAULT, LevelNumbers::None, None, Unmapped::Drop),
            Preset::Ecs => (ECS, LevelNumbers::Syslog, None, Unmapped::Metadata),
            Preset::Otel => (OTEL, LevelNumbers::Otel, Some(Level::Info), Unmapped::Metadata),
            Preset::Gcp => (GCP, LevelNumbers::Gcp, Some(Level::Info), Unmapped::Metadata),
            Preset::Pino => (PINO, LevelNumbers::Pino, None, Unmapped::Metadata),
        };
        let paths = paths.map(|of_field| of_field.iter().map(|path| (*path).to_owned()).collect());
        let otlp_values = preset == Preset::Otel;
        FieldMapping { preset, paths, level_numbers, default_level, unmapped, otlp_values }
    }

    pub(super) fn level_numbers(&self) -> LevelNumbers {
        self.level_numbers
    }

    pub(super) fn default_level(&self) -> Option<Level> {
        self.default_level
    }

    pub(super) fn keeps_unmapped(&self) -> bool {
        self.unmapped == Unmapped::Metadata
    }

    pub(super) fn otlp_values(&self) -> bool {
        self.otlp_values
    }

    pub(super) fn paths(&self, field: Field) -> &[String] {
        &self.paths[field as usize]
    }

    fn check(&self) -> Result<(), MappingError> {
        let mut seen: Vec<&str> = Vec::new();
        for field in Field::ALL {
            let paths = self.paths(field);
            let refuse = |fault: String| Err(MappingError { field: field.name(), fault });
            if paths.is_empty() && field.is_core() {
                return refuse("expected at least one path, found none; a log needs this field".to_owned());
            }
            if paths.len() > MAX_PATHS {
                return refuse(format!("expected at most {MAX_PATHS} paths, found {}", paths.len()));
            }
            for path in paths {
                let segments = path.split('.');
                if segments.clone().any(str::is_empty) {
                    return refuse(format!("expected keys joined by single dots, found {path:?}"));
                }
                if segments.count() > MAX_SEGMENTS {
                    return refuse(format!("expected at most {MAX_SEGMENTS} keys in a path, found {path:?}"));
                }
                if path.contains(['"', '\\']) || path.contains(char::is_control) {
                    return refuse(format!(
                        "expected no quotes, backslashes or control characters, found {path:?}"
                    ));
                }
                if seen.contains(&path.as_str()) {
                    return refuse(format!("the path {path:?} is given twice; name each path once"));
                }
                seen.push(path);
            }
        }
        Ok(())
    }
}

impl TryFrom<Overrides> for FieldMapping {
    type Error = MappingError;

    fn try_from(given: Overrides) -> Result<Self, MappingError> {
        let mut mapping = FieldMapping::preset(given.preset.unwrap_or(Preset::Default));
        let paths = [given.timestamp, given.level, given.service, given.message, given.host, given.metadata];
        for (slot, given) in mapping.paths.iter_mut().zip(paths) {
            if let Some(given) = given {
                *slot = given;
            }
        }
        mapping.level_numbers = given.level_numbers.unwrap_or(mapping.level_numbers);
        mapping.default_level = given.default_level.or(mapping.default_level);
        mapping.unmapped = given.unmapped.unwrap_or(mapping.unmapped);
        mapping.check()?;
        Ok(mapping)
    }
}

impl From<FieldMapping> for Overrides {
    fn from(mapping: FieldMapping) -> Self {
        let [timestamp, level, service, message, host, metadata] = mapping.paths.map(Some);
        Overrides {
            preset: Some(mapping.preset),
            timestamp,
            level,
            service,
            message,
            host,
            metadata,
            level_numbers: Some(mapping.level_numbers),
            default_level: mapping.default_level,
            unmapped: Some(mapping.unmapped),
        }
    }
}

/// Paths of each field, in the order of [`Field`].
type Paths = [&'static [&'static str]; 6];

const DEFAULT: Paths = [&["timestamp"], &["level"], &["service"], &["message"], &["host"], &["metadata"]];

const ECS: Paths = [
    &["@timestamp"],
    &["log.level", "log.syslog.severity.code"],
    &["service.name"],
    &["message"],
    &["host.name", "host.hostname"],
    &[],
];

const OTEL: Paths = [
    &["timeUnixNano", "Timestamp", "observedTimeUnixNano", "ObservedTimestamp"],
    &["severityNumber", "severityText", "SeverityNumber", "SeverityText"],
    &["resource.attributes.service.name", "Resource.service.name", "attributes.service.name"],
    &["body", "Body"],
    &["resource.attributes.host.name", "Resource.host.name", "attributes.host.name"],
    &[],
];

const GCP: Paths = [
    &["timestamp", "receiveTimestamp"],
    &["severity", "jsonPayload.severity"],
    &[
        "jsonPayload.serviceContext.service",
        "resource.labels.service_name",
        "resource.labels.container_name",
        "resource.labels.function_name",
        "resource.labels.job_name",
        "resource.labels.module_id",
        "resource.type",
    ],
    &["textPayload", "jsonPayload.message"],
    &[
        "resource.labels.pod_name",
        "labels.compute.googleapis.com/resource_name",
        "resource.labels.instance_id",
    ],
    &[],
];

const PINO: Paths = [&["time"], &["level"], &["name", "service"], &["msg"], &["hostname"], &[]];

/// The paths as a tree of keys, and which slot each path fills.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    /// First slot of each field, and one past the last of all.
    starts: [usize; 7],
}

#[derive(Debug, Clone, Default)]
struct Node {
    slot: Option<usize>,
    children: Vec<(Box<str>, usize)>,
}

impl Tree {
    pub(super) const ROOT: usize = 0;

    pub(super) fn new(mapping: &FieldMapping) -> Tree {
        let mut tree = Tree { nodes: vec![Node::default()], starts: [0; 7] };
        let mut slot = 0;
        for field in Field::ALL {
            tree.starts[field as usize] = slot;
            for path in mapping.paths(field) {
                let node = path.split('.').fold(Tree::ROOT, |node, key| tree.grow(node, key));
                tree.nodes[node].slot = Some(slot);
                slot += 1;
            }
        }
        tree.starts[6] = slot;
        tree
    }

    fn grow(&mut self, node: usize, key: &str) -> usize {
        if let Some(child) = self.child(node, key) {
            return child;
        }
        let child = self.nodes.len();
        self.nodes.push(Node::default());
        self.nodes[node].children.push((key.into(), child));
        child
    }

    fn child(&self, node: usize, key: &str) -> Option<usize> {
        self.nodes[node].children.iter().find(|(name, _)| **name == *key).map(|(_, child)| *child)
    }

    /// The node under `node` that a key leads to; dots in the key lead through several.
    pub(super) fn descend(&self, node: usize, key: &str) -> Option<usize> {
        key.split('.').try_fold(node, |node, part| self.child(node, part))
    }

    pub(super) fn slot(&self, node: usize) -> Option<usize> {
        self.nodes[node].slot
    }

    pub(super) fn is_leaf(&self, node: usize) -> bool {
        self.nodes[node].children.is_empty()
    }

    /// The slots of a field, in the order in which they are tried.
    pub(super) fn slots(&self, field: Field) -> std::ops::Range<usize> {
        self.starts[field as usize]..self.starts[field as usize + 1]
    }
}
