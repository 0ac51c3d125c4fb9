//! `[models]`: how models are trained, where they are registered, which of them serves.

use super::{Config, seconds};
use crate::config::units::HumanDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smartlog_models::fit;
use smartlog_operators::features::{Columns, Refusal};
use std::path::PathBuf;
use std::time::Duration;

/// Which forest scores a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scoping {
    /// That of the whole stream
    Stream,
    /// Its own where it has enough windows, else the shared one
    Service,
    /// One for all services, on values scaled by what is usual for each
    #[default]
    Shared,
}

/// How models are trained, where they are registered, which of them serves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Models {
    /// Folder of runs, versions and aliases; what is trained is always kept here first.
    #[schemars(extend("x-form" = "FOLDER"))]
    pub folder: PathBuf,
    /// URL of an MLflow server that takes the folder's place as the registry; unset: the folder.
    ///
    /// Login by `MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`, or `MLFLOW_TRACKING_TOKEN`. https needs a
    /// build with the feature `tls`.
    #[schemars(extend("x-flag" = "mlflow", "x-form" = "URL"))]
    pub mlflow: Option<String>,
    /// Score windows with the models that the registry calls champion and challenger.
    pub enabled: bool,
    /// How often the aliases are looked at; SIGHUP looks at once.
    #[serde(with = "HumanDuration")]
    pub poll: Duration,
    /// Train from the stream when there is no champion, and this often while the champion is one of those; 0s: never.
    #[serde(with = "HumanDuration")]
    pub retrain_every: Duration,
    /// What models that are trained look at, in this order; any of `log_rate`, `error_rate`, `avg_message_length`,
    /// `unique_services`, `hour_of_day`, `new_pattern_rate`, `pattern_entropy`.
    ///
    /// The last two need `patterns.enabled`. A model keeps its own, whatever is set here.
    #[schemars(extend("x-flag" = "features"))]
    pub features: Vec<String>,
    /// Which forest scores a service: the whole stream's, its own, or one that all share.
    #[schemars(extend("x-flag" = "scoping"))]
    pub scoping: Scoping,
    /// Share of the training windows that count as outliers, above 0 and at most 0.5.
    #[schemars(extend("x-flag" = "contamination"))]
    pub contamination: f64,
    /// Trees of a forest.
    pub n_estimators: usize,
    /// Windows that each tree is grown on, at the most.
    pub max_samples: usize,
    /// The same seed and history give the same model, to the byte.
    #[schemars(extend("x-flag" = "seed"))]
    pub seed: u64,
    /// Fewest windows (one every 10 s) that a forest is fitted on.
    pub min_windows: usize,
    /// How long a score must stay beyond the alert threshold to count as an alarm, event time.
    #[serde(with = "HumanDuration")]
    pub hold: Duration,
}

impl Default for Models {
    fn default() -> Self {
        let fit::Settings { contamination, n_estimators, max_samples, seed, min_rows, hold_seconds, .. } =
            fit::Settings::default();
        Models {
            folder: "smartlog-models".into(),
            mlflow: None,
            enabled: false,
            poll: Duration::from_secs(30),
            retrain_every: Duration::from_secs(86_400),
            features: Columns::of_sums().names().map(str::to_owned).collect(),
            scoping: Scoping::Shared,
            contamination,
            n_estimators,
            max_samples,
            seed,
            min_windows: min_rows,
            hold: seconds(hold_seconds),
        }
    }
}

impl Models {
    /// What the registry is: a URL or a folder.
    pub fn registry(&self) -> String {
        self.mlflow.clone().unwrap_or_else(|| self.folder.display().to_string())
    }

    /// What models that are trained look at.
    ///
    /// # Errors
    /// A name that is no feature's, which was refused when the settings were read.
    pub fn columns(&self) -> Result<Columns, Refusal> {
        Columns::of(&self.features)
    }

    /// How models are fitted.
    pub fn fit(&self) -> fit::Settings {
        fit::Settings {
            scoping: match self.scoping {
                Scoping::Stream => smartlog_models::Scoping::Stream,
                Scoping::Service => smartlog_models::Scoping::Service,
                Scoping::Shared => smartlog_models::Scoping::Shared,
            },
            contamination: self.contamination,
            n_estimators: self.n_estimators,
            max_samples: self.max_samples,
            seed: self.seed,
            min_rows: self.min_windows,
            hold_seconds: super::whole_seconds(self.hold),
            hop_seconds: smartlog_operators::feature_rows::HOP_SECONDS,
        }
    }
}

impl Config {
    /// How the running program follows the registry; `None`: it does not.
    ///
    /// # Errors
    /// As [`Models::columns`].
    pub fn follow(&self) -> Result<Option<crate::models::follow::Settings>, Refusal> {
        let models = &self.models;
        let columns = models.columns()?;
        Ok(models.enabled.then(|| crate::models::follow::Settings {
            registry: models.registry(),
            folder: models.folder.clone(),
            poll: models.poll,
            retrain_every: Some(models.retrain_every).filter(|every| !every.is_zero()),
            fit: models.fit(),
            columns,
            has_patterns: self.patterns.enabled,
        }))
    }
}
