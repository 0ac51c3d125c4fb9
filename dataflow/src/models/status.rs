//! How the life of models goes, for metrics, the store and the API.

use smartlog_models::{Bundle, Version};
use smartlog_schema::model::Role;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// No model yet, and too few windows for one.
    #[default]
    Waiting,
    Training,
    /// A champion serves.
    Ready,
    Failed,
}

impl State {
    pub const ALL: [State; 4] = [State::Waiting, State::Training, State::Ready, State::Failed];

    /// The stored spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Training => "training",
            State::Ready => "ready",
            State::Failed => "failed",
        }
    }
}

/// A model in force, as people are told.
#[derive(Debug, Clone, PartialEq)]
pub struct Serving {
    pub version: String,
    pub digest: String,
    pub features: Vec<String>,
    pub interval: (i64, i64),
    pub rows: u64,
    pub threshold: f64,
}

impl Serving {
    pub fn new(version: &Version, digest: &str, bundle: &Bundle) -> Self {
        Serving {
            version: version.version.clone(),
            digest: digest.to_owned(),
            features: bundle.features.clone(),
            interval: bundle.origin.interval,
            rows: bundle.origin.rows,
            threshold: bundle.stream.threshold,
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    pub state: State,
    /// A sentence: n of m, or why it failed.
    pub detail: String,
    pub models: BTreeMap<Role, Serving>,
}

/// Shared between the follower and who watches it.
#[derive(Debug, Default)]
pub struct Status {
    now: Mutex<Snapshot>,
    pub refused: AtomicU64,
    pub swaps: AtomicU64,
    pub trained: AtomicU64,
}

impl Status {
    fn lock(&self) -> MutexGuard<'_, Snapshot> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn now(&self) -> Snapshot {
        self.lock().clone()
    }

    pub fn set(&self, state: State, detail: impl Into<String>) {
        let mut now = self.lock();
        (now.state, now.detail) = (state, detail.into());
    }

    /// `None`: no model of this role any more.
    pub fn serve(&self, role: Role, model: Option<Serving>) {
        self.swaps.fetch_add(1, Ordering::Relaxed);
        let mut now = self.lock();
        match model {
            Some(model) => drop(now.models.insert(role, model)),
            None => drop(now.models.remove(&role)),
        }
    }
}

impl Snapshot {
    /// As the table `model_status` keeps it.
    pub fn models_json(&self) -> String {
        let time = |second: i64| {
            jiff::Timestamp::from_second(second).map_or_else(|_| String::new(), |t| t.to_string())
        };
        let model = |(role, model): (&Role, &Serving)| {
            serde_json::json!({
                "role": role.as_str(),
                "version": model.version,
                "digest": model.digest,
                "features": model.features,
                "trained_from": time(model.interval.0),
                "trained_to": time(model.interval.1),
                "rows": model.rows,
                "threshold": model.threshold,
            })
        };
        serde_json::Value::Array(self.models.iter().map(model).collect()).to_string()
    }
}
