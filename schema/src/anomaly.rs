//! Episodes: one row per stretch of trouble, not per tick.
//!
//! ```text
//!              final evaluation agrees            back to normal (with hysteresis)
//! provisional ───────────────────────▶ open ───────────────────────▶ resolved
//!      │                               │  │
//!      │ final evaluation disagrees    │  └─ open longer than `max_episode` ─▶ expired
//!      ▼                               ▼ late data disproves it
//!   retracted ◀────────────────────────┘        (late data may also revive it: retracted ─▶ open)
//! ```

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

/// What kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnomalyType {
    /// Error rate far above the baseline.
    ErrorRateSpike,
    /// Many more logs than the baseline.
    LogVolumeSpike,
    /// Far fewer logs than the baseline, silence included.
    LogVolumeDrop,
    /// The forest's score is beyond its alert threshold.
    MultivariateOutlier,
    /// A message template never seen before, or bursting.
    NewPattern,
}

impl AnomalyType {
    pub const ALL: [AnomalyType; 5] = [
        AnomalyType::ErrorRateSpike,
        AnomalyType::LogVolumeSpike,
        AnomalyType::LogVolumeDrop,
        AnomalyType::MultivariateOutlier,
        AnomalyType::NewPattern,
    ];

    /// The stored spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            AnomalyType::ErrorRateSpike => "error_rate_spike",
            AnomalyType::LogVolumeSpike => "log_volume_spike",
            AnomalyType::LogVolumeDrop => "log_volume_drop",
            AnomalyType::MultivariateOutlier => "multivariate_outlier",
            AnomalyType::NewPattern => "new_pattern",
        }
    }

    /// The inverse of [`AnomalyType::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.as_str() == text)
    }
}

/// How bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    pub const ALL: [Severity; 4] = [Severity::Low, Severity::Medium, Severity::High, Severity::Critical];

    /// The stored spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
            Severity::Critical => "critical",
        }
    }

    /// The inverse of [`Severity::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == text)
    }
}

/// Where an episode stands in its life; see the drawing of this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Provisional,
    Open,
    Resolved,
    Expired,
    Retracted,
}

impl Status {
    pub const ALL: [Status; 5] =
        [Status::Provisional, Status::Open, Status::Resolved, Status::Expired, Status::Retracted];

    /// The stored spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Provisional => "provisional",
            Status::Open => "open",
            Status::Resolved => "resolved",
            Status::Expired => "expired",
            Status::Retracted => "retracted",
        }
    }

    /// The inverse of [`Status::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == text)
    }

    /// Whether the trouble is over, one way or another.
    pub const fn is_closed(self) -> bool {
        matches!(self, Status::Resolved | Status::Expired | Status::Retracted)
    }
}

/// What names an episode for ever: `unique (coalesce(service, ''), anomaly_type, first_raised_at)`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EpisodeKey {
    /// `None`: the whole stream.
    pub service: Option<CompactString>,
    pub anomaly_type: AnomalyType,
    /// End of the window that raised it first, epoch seconds of event time. Never changes.
    pub first_raised_at: i64,
}

/// One episode, as the row of `anomalies` holds it. Times are epoch seconds of event time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    pub key: EpisodeKey,
    pub status: Status,
    pub severity: Severity,
    /// 1 when first stored, one more with every change.
    pub revision: i32,
    /// The clock when it was first raised, microseconds of event time.
    pub detected_at_us: i64,
    /// End of the first window beyond the threshold.
    pub started_at: i64,
    /// End of the last window beyond the threshold.
    pub last_seen: i64,
    /// End of the first window of the calm that ended it.
    pub ended_at: Option<i64>,
    /// The metric when it was raised, in the metric's own unit (share of errors; logs per minute).
    pub metric_value: f64,
    /// The value that was crossed, floors included; same unit.
    pub threshold: f64,
    /// What was usual; same unit.
    pub baseline: f64,
    /// The most extreme value so far; same unit.
    pub peak_value: f64,
    /// The forest's score, 0 to 1, higher is stranger; `None` while no model serves.
    pub score: Option<f64>,
    pub model_version: Option<String>,
    /// One sentence for a person.
    pub description: String,
    /// JSON of an [`Explanation`](crate::explanation::Explanation): typical against actual, and what changed most.
    pub explanation: String,
    /// JSON object: what the decision rests on (rule values, model, clock).
    pub provenance: String,
    /// Somebody said that it was to be expected, and so it is retracted.
    #[serde(default)]
    pub expected: Option<Expected>,
}

impl Episode {
    /// As it is apart from what people say of it.
    #[must_use]
    pub fn unexpected(self) -> Self {
        let status = self.expected.map_or(self.status, |expected| expected.status);
        Episode { status, expected: None, ..self }
    }
}

/// Why an episode that stands is retracted nevertheless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// `feedback.seq` of the row that says so.
    pub by: i64,
    /// What it is apart from that.
    pub status: Status,
}

/// What happened to an episode: one row of `anomaly_events`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// First seen, from a window that is not complete yet.
    Raised,
    /// The complete windows agree.
    Opened,
    /// Its numbers changed.
    Updated,
    Resolved,
    Expired,
    Retracted,
    /// Late data brought a retracted or resolved episode back.
    Reopened,
}

impl ChangeKind {
    /// The stored spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            ChangeKind::Raised => "raised",
            ChangeKind::Opened => "opened",
            ChangeKind::Updated => "updated",
            ChangeKind::Resolved => "resolved",
            ChangeKind::Expired => "expired",
            ChangeKind::Retracted => "retracted",
            ChangeKind::Reopened => "reopened",
        }
    }
}

/// One change of one episode, with the episode as it is afterwards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpisodeChange {
    pub kind: ChangeKind,
    pub episode: Episode,
    /// Why, where that is not plain from the kind (a retraction's reason).
    pub reason: Option<String>,
}
