//! Why an episode was raised, in terms of the logs: the JSON of `anomalies.explanation`.
//!
//! ```text
//!        before: 10 minutes          window: the episode's worst
//!   ├──────────────────────────┤···├──────────────┤
//!     typical ─────────────────────▶ actual            features, each with its share of what is unusual
//!     hosts, templates, services ──▶ the same          those whose share of the logs changed most
//!     who logged ──────────────────▶ who is silent
//!                                    └ three lines, by where they are
//! ```
//!
//! Everything is bounded, whatever the logs hold. A part that is not known is empty or null: readers cope.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Version of the form; a change of meaning raises it.
pub const VERSION: u32 = 1;
/// Hosts, templates and services that are named, of each.
pub const MAX_CHANGES: usize = 5;
/// Those that fell silent that are named.
pub const MAX_SILENT: usize = 10;
/// Lines that are cited.
pub const MAX_SAMPLES: usize = 3;
/// Sentences for people.
pub const MAX_SENTENCES: usize = 5;
/// Characters of a name of a host, service or partition.
pub const MAX_NAME_CHARS: usize = 100;
/// Characters of a template.
pub const MAX_TEMPLATE_CHARS: usize = 200;

/// All that is said of an episode's why.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Explanation {
    pub version: u32,
    /// Sentences for people, the most important first: typical against actual, then who changed most.
    pub summary: Vec<String>,
    /// What the rule measured, and in which unit `typical` and `actual` are.
    pub metric: String,
    pub unit: String,
    pub typical: f64,
    /// At the episode's peak so far.
    pub actual: f64,
    /// `actual / typical`; `None` where nothing is typical.
    pub ratio: Option<f64>,
    /// The window in which it was worst.
    pub window: Option<Span>,
    /// What the parts below are compared with.
    pub before: Option<Span>,
    pub features: Vec<Feature>,
    /// What the shares below are shares of: `logs` or `errors`.
    pub counted: String,
    /// For the whole stream.
    pub services: Vec<Change>,
    pub hosts: Vec<Change>,
    pub templates: Vec<Change>,
    pub silent: Vec<Silent>,
    pub samples: Vec<Sample>,
}

/// From one moment to another, the end not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    pub from: Timestamp,
    pub to: Timestamp,
}

/// What a feature is usually, what it was, and its part in what is unusual.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Feature {
    /// As models know it.
    pub name: String,
    pub typical: Option<f64>,
    pub actual: f64,
    /// Of the squared distance from what is usual, each feature in units of its own spread; they add up to 1.
    pub share: Option<f64>,
    /// What the model in force says of it, where one scored the window.
    #[serde(default)]
    pub model_share: Option<f64>,
}

/// A host, template or service whose share changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    pub name: String,
    /// Of a template, as `/api/v1/patterns` calls it.
    #[serde(default)]
    pub id: Option<String>,
    /// Of what is `counted`, a minute.
    pub before: f64,
    pub after: f64,
    /// Of what is `counted`, 0 to 1.
    pub share_before: f64,
    pub share_after: f64,
}

/// What kind of source fell silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Service,
    Host,
    Partition,
    Template,
}

impl Kind {
    /// The stored spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Service => "service",
            Kind::Host => "host",
            Kind::Partition => "partition",
            Kind::Template => "template",
        }
    }
}

/// Who logged steadily before, and not at all any more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Silent {
    pub kind: Kind,
    pub name: String,
    /// Logs a minute, before.
    pub before: f64,
    /// End of the last minute with a log.
    pub since: Timestamp,
}

/// A line, by where it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Sample {
    pub timestamp: Timestamp,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
}

/// `text` within `most` characters.
pub fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// Three significant digits, as people read numbers.
pub fn significant(value: f64) -> String {
    let magnitude = if value == 0.0 { 0 } else { value.abs().log10().floor() as i32 };
    let decimals = (2 - magnitude).clamp(0, 6) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        let shown: Vec<String> = [0.0, 0.0123, 1.0, 5.25, 40.0, 123.4, 98_765.0].map(significant).to_vec();
        assert_eq!(shown, ["0", "0.0123", "1", "5.25", "40", "123", "98765"]);
    }

    #[test]
    fn text_is_cut_by_characters() {
        assert_eq!((cut("naïve", 5).as_str(), cut("naïve", 4).as_str()), ("naïve", "naï…"));
        assert_eq!(cut("", 0), "");
    }
}
