//! `[patterns]`: the kinds of messages that a stream is made of.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smartlog_operators::patterns;
use std::num::NonZeroUsize;

/// The kinds of messages that a stream is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Patterns {
    /// Whether logs carry the shape of their message, and are counted by host and by pattern.
    pub enabled: bool,
    /// Patterns that are remembered; beyond them the least recently seen count as "other".
    ///
    /// Bounds memory: some eight shapes are kept for each, a kilobyte or two a shape.
    pub max_patterns: NonZeroUsize,
}

impl Patterns {
    /// As the miner takes them.
    pub fn settings(&self) -> patterns::Settings {
        patterns::Settings { max_patterns: self.max_patterns.get() }
    }
}

impl Default for Patterns {
    fn default() -> Self {
        let patterns::Settings { max_patterns } = patterns::Settings::default();
        Patterns { enabled: true, max_patterns: NonZeroUsize::new(max_patterns).unwrap_or(NonZeroUsize::MIN) }
    }
}
