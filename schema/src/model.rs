//! What the stores keep of models: which was in force from when on, what each said, and how the life of models goes.

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Serves: its scores stand at the anomalies.
    Champion,
    /// Scored beside it, in shadow.
    Challenger,
}

impl Role {
    pub const ALL: [Role; 2] = [Role::Champion, Role::Challenger];

    /// The stored spelling, and the alias in the registry.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Champion => "champion",
            Role::Challenger => "challenger",
        }
    }

    /// The inverse of [`Role::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

/// A model that came into force: one row of `model_swaps`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelSwap {
    pub role: Role,
    /// The first window that it scores ends here, epoch seconds of event time.
    pub effective: i64,
    /// As the registry counts.
    pub version: String,
    /// SHA-256 of its stored bytes, in hexadecimal.
    pub digest: String,
}

/// The highest score of a minute: one row of `window_scores`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WindowScore {
    /// Start of the minute that holds the last second of the window, epoch seconds.
    pub minute: i64,
    /// Empty for the whole stream.
    pub service: CompactString,
    pub role: Role,
    /// 0 to 1, the higher, the stranger.
    pub score: f64,
    /// Beyond it the window counts as an outlier.
    pub threshold: f64,
    /// Beyond it for some time, it is worth an alarm.
    pub alert_threshold: f64,
    pub model_version: String,
    /// The minute lies in an episode that the score alone would have raised with the window that ends here, epoch
    /// seconds: scores had been beyond `alert_threshold` for long enough by then.
    pub would_raise: Option<i64>,
}
