//! Episodes on their way into columns and back.

use crate::error::{Fault, SinkError};
use compact_str::CompactString;
use smartlog_schema::anomaly::{AnomalyType, Episode, EpisodeChange, EpisodeKey, Expected, Severity, Status};
use smartlog_schema::window::MICROS;
use std::borrow::Cow;

/// Widths of columns, characters.
pub(crate) const SERVICE_CHARS: usize = 100;
pub(crate) const MODEL_VERSION_CHARS: usize = 50;

/// Epoch seconds as microseconds.
pub(crate) fn micros(second: i64) -> i64 {
    second.saturating_mul(MICROS)
}

/// Microseconds as epoch seconds.
pub(crate) fn seconds(micros: i64) -> i64 {
    micros.div_euclid(MICROS)
}

/// `text` as any store takes it: no NUL, at most `max_chars` characters.
pub(crate) fn storable(text: &str, max_chars: usize) -> Cow<'_, str> {
    let end = text.char_indices().nth(max_chars).map_or(text.len(), |(at, _)| at);
    let cut = &text[..end];
    if cut.contains('\0') { cut.replace('\0', "\u{fffd}").into() } else { cut.into() }
}

/// `text` where it is JSON, else the JSON string that holds it: an episode is never refused over its explanation.
pub(crate) fn json_or_string(text: &str) -> Cow<'_, str> {
    if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() {
        text.into()
    } else {
        serde_json::Value::from(text).to_string().into()
    }
}

/// The episode as `anomaly_events` keeps it. Numbers that JSON cannot say are null.
pub(crate) fn event_json(change: &EpisodeChange) -> String {
    serde_json::to_string(&change.episode).unwrap_or_else(|error| {
        // The types hold nothing that serde_json refuses; should one ever, the event is worth more than its text.
        serde_json::json!({ "error": error.to_string() }).to_string()
    })
}

/// The columns of `anomalies` that a snapshot reads, times in microseconds.
pub(crate) struct EpisodeRow {
    pub service: Option<String>,
    pub anomaly_type: String,
    pub first_raised_at: i64,
    pub status: String,
    pub severity: String,
    pub revision: i32,
    pub detected_at: i64,
    pub started_at: i64,
    pub last_seen: i64,
    pub ended_at: Option<i64>,
    pub metric_value: Option<f64>,
    pub threshold: Option<f64>,
    pub baseline: Option<f64>,
    pub peak_value: Option<f64>,
    pub score: Option<f64>,
    pub model_version: Option<String>,
    pub description: String,
    pub explanation: String,
    pub provenance: String,
    pub expected_by: Option<i64>,
    pub expected_status: Option<String>,
}

impl EpisodeRow {
    /// # Errors
    /// [`SinkError::Fatal`] when a word is none that this version writes: a newer version wrote it.
    pub fn read(self, store: &str) -> Result<Episode, SinkError> {
        let unknown = |column: &str, word: &str| {
            SinkError::Fatal(Fault {
                store: store.to_owned(),
                doing: "read the open episodes".into(),
                found: format!("anomalies.{column} = {word:?}, which this version does not know"),
                advice: "run the version that wrote it, or a later one".into(),
            })
        };
        let expected = match (self.expected_by, &self.expected_status) {
            (Some(by), Some(word)) => {
                let status = Status::parse(word).ok_or_else(|| unknown("expected_status", word))?;
                Some(Expected { by, status })
            }
            _ => None,
        };
        Ok(Episode {
            key: EpisodeKey {
                service: self.service.map(CompactString::from),
                anomaly_type: AnomalyType::parse(&self.anomaly_type)
                    .ok_or_else(|| unknown("anomaly_type", &self.anomaly_type))?,
                first_raised_at: seconds(self.first_raised_at),
            },
            status: Status::parse(&self.status).ok_or_else(|| unknown("status", &self.status))?,
            severity: Severity::parse(&self.severity).ok_or_else(|| unknown("severity", &self.severity))?,
            revision: self.revision,
            detected_at_us: self.detected_at,
            started_at: seconds(self.started_at),
            last_seen: seconds(self.last_seen),
            ended_at: self.ended_at.map(seconds),
            metric_value: self.metric_value.unwrap_or(f64::NAN),
            threshold: self.threshold.unwrap_or(f64::NAN),
            baseline: self.baseline.unwrap_or(f64::NAN),
            peak_value: self.peak_value.unwrap_or(f64::NAN),
            score: self.score,
            model_version: self.model_version,
            description: self.description,
            explanation: self.explanation,
            provenance: self.provenance,
            expected,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_by_characters_and_freed_of_nul() {
        assert_eq!(storable("naïve", 3), "naï");
        assert_eq!(storable("a\0b", 9), "a\u{fffd}b");
        assert_eq!(storable("", 0), "");
    }

    #[test]
    fn what_is_no_json_becomes_a_json_string() {
        assert_eq!(json_or_string(r#"{"a": 1}"#), r#"{"a": 1}"#);
        assert_eq!(json_or_string("a \"b\"\0"), r#""a \"b\"\u0000""#);
        assert_eq!(json_or_string(""), r#""""#);
    }
}
