//! What is told: a message holds the notices of one or several episodes.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use smartlog_schema::explanation::{Sample, significant};

/// Where the episode of a notice stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Confirmed by complete windows, and not over.
    Firing,
    Resolved,
    /// Open for so long that its level counts as normal now.
    Expired,
    /// It was none after all.
    Retracted,
}

impl Phase {
    /// The stored spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Phase::Firing => "firing",
            Phase::Resolved => "resolved",
            Phase::Expired => "expired",
            Phase::Retracted => "retracted",
        }
    }

    /// As people read it.
    pub const fn in_words(self) -> &'static str {
        match self {
            Phase::Firing => "Anomaly",
            Phase::Resolved => "Resolved",
            Phase::Expired => "Became normal",
            Phase::Retracted => "Withdrawn",
        }
    }
}

/// One episode, as it is told. Stored when it comes, so that every attempt says the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// `anomalies.id`.
    pub id: i64,
    /// `anomaly_events.seq` of the change that it tells.
    pub seq: i64,
    pub status: Phase,
    #[serde(rename = "type")]
    pub anomaly_type: String,
    /// `None`: the whole stream.
    pub service: Option<String>,
    pub severity: String,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    /// What was measured, such as `error rate`, and in which unit the numbers below are.
    pub metric: Option<String>,
    pub unit: Option<String>,
    pub typical: Option<f64>,
    pub actual: Option<f64>,
    /// One sentence.
    pub description: String,
    /// Why it was retracted, where that was said.
    pub reason: Option<String>,
    /// Who changed most, who is silent: sentences.
    #[serde(default)]
    pub why: Vec<String>,
    /// Where the lines are that it cites.
    #[serde(default)]
    pub cited: Vec<Sample>,
    /// Up to three lines of its service and time, looked up when it is told.
    pub samples: Vec<String>,
    /// The page, at this episode.
    pub url: Option<String>,
}

impl Notice {
    /// One line for a person.
    pub fn title(&self) -> String {
        let kind = self.anomaly_type.replace('_', " ");
        let service = self.service.as_deref().unwrap_or("the whole stream");
        format!("{}: {kind} in {service} ({})", self.status.in_words(), self.severity)
    }

    /// Typical against actual, where both are known.
    pub fn comparison(&self) -> Option<String> {
        let unit = self.unit.as_deref().map_or(String::new(), |unit| format!(" {unit}"));
        let metric = self.metric.as_deref().unwrap_or("value");
        Some(format!(
            "{metric}: {}{unit}, usually {}{unit}",
            significant(self.actual?),
            significant(self.typical?)
        ))
    }
}

/// What one request tells.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The same for every attempt: receivers that know it leave repetitions out.
    pub key: String,
    /// One at least.
    pub notices: Vec<Notice>,
    /// The receiver's name of the message that this one takes the place of.
    pub edits: Option<String>,
    /// When it was put together.
    pub at: Timestamp,
}

impl Message {
    /// A made-up one, which says so.
    pub fn test(page_url: Option<&str>, now: Timestamp) -> Self {
        let notice = Notice {
            id: 0,
            seq: 0,
            status: Phase::Firing,
            anomaly_type: "error_rate_spike".into(),
            service: Some("smartlog-test".into()),
            severity: "low".into(),
            started_at: now,
            ended_at: Some(now),
            metric: Some("error rate".into()),
            unit: Some("%".into()),
            typical: Some(1.0),
            actual: Some(12.5),
            description: "This is a test of smartlog's alerts: nothing is wrong.".into(),
            reason: None,
            why: vec!["host web-1: 90 % of the errors, 10 % before".into()],
            cited: Vec::new(),
            samples: vec!["ERROR a line of a log would stand here".into()],
            url: page_url.map(|page| format!("{}/", page.trim_end_matches('/'))),
        };
        let key = format!("smartlog-test-{}", now.as_microsecond());
        Message { key, notices: vec![notice], edits: None, at: now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_with_their_unit_and_what_is_unknown_is_not_told() {
        let mut notice = Message::test(None, Timestamp::UNIX_EPOCH).notices.remove(0);
        assert_eq!(notice.comparison().as_deref(), Some("error rate: 12.5 %, usually 1 %"));
        assert_eq!(notice.title(), "Anomaly: error rate spike in smartlog-test (low)");
        (notice.typical, notice.service, notice.status) = (None, None, Phase::Retracted);
        assert_eq!(notice.comparison(), None);
        assert_eq!(notice.title(), "Withdrawn: error rate spike in the whole stream (low)");
    }
}
