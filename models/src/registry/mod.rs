//! Where runs, versions and aliases live: a folder, or an MLflow server.
//!
//! ```text
//!   Run ── log_run ──▶ run id ── register ──▶ Version 1, 2, 3 … ◀── aliases: champion, challenger
//!                                                  └── bundle ──▶ bytes
//! ```
//!
//! Both keep the same: what `smartlog train` writes into the folder while the server is away, `smartlog models push`
//! brings there later.

mod http;
mod local;
mod mlflow;

pub use local::Folder;
pub use mlflow::{Login, Mlflow};

use crate::export::File;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Tag of a version: [`crate::Bundle::digest_of`] its stored bytes.
pub const DIGEST_TAG: &str = "smartlog.digest";
/// Tag of a version in the folder: where it was pushed to.
pub const PUSHED_TAG: &str = "smartlog.pushed";

/// One training, as it is tracked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Run {
    /// A name for people.
    pub name: String,
    /// Wall time, milliseconds.
    pub started_ms: i64,
    pub ended_ms: i64,
    pub params: BTreeMap<String, String>,
    pub metrics: BTreeMap<String, f64>,
    pub tags: BTreeMap<String, String>,
    /// The model folder's files and the plots, by path below the run's artifacts.
    pub artifacts: Vec<File>,
}

/// A registered model version.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// As the registry counts them: "1", "2", …
    pub version: String,
    pub run_id: String,
    /// Wall time, milliseconds.
    pub created_ms: i64,
    pub tags: BTreeMap<String, String>,
    #[serde(default)]
    pub aliases: Vec<String>,
}

impl Version {
    /// [`DIGEST_TAG`].
    pub fn digest(&self) -> Option<&str> {
        self.tags.get(DIGEST_TAG).map(String::as_str)
    }

    fn number(&self) -> u64 {
        self.version.parse().unwrap_or(0)
    }
}

/// Why a registry did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[error("{step} at {place}: {found}{}{advice}", if .advice.is_empty() { "" } else { "; " })]
pub struct RegistryError {
    /// What was being done.
    pub step: String,
    /// The URL or the path, without secrets.
    pub place: String,
    pub found: String,
    /// What to do about it; may be empty.
    pub advice: String,
    /// Nobody answered: the same may work later.
    pub away: bool,
}

/// A registry. Every call blocks until it is done or has failed for good.
pub trait Registry: Send + Sync {
    /// Where it is, for people.
    fn place(&self) -> String;

    /// Keeps a run with its artifacts; its id.
    fn log_run(&self, run: &Run) -> Result<String, RegistryError>;

    /// Makes a new version of the model that the run has logged.
    fn register(&self, run_id: &str, tags: &BTreeMap<String, String>) -> Result<Version, RegistryError>;

    /// Every version, the newest first.
    fn versions(&self) -> Result<Vec<Version>, RegistryError>;

    /// Points `alias` to `version`, away from where it pointed.
    fn set_alias(&self, alias: &str, version: &str) -> Result<(), RegistryError>;

    /// Takes `alias` away from where it points; an error where it points nowhere.
    fn remove_alias(&self, alias: &str) -> Result<(), RegistryError>;

    /// The version that `alias` points to.
    fn alias(&self, alias: &str) -> Result<Option<Version>, RegistryError>;

    /// Sets a tag of a version.
    fn set_tag(&self, version: &str, key: &str, value: &str) -> Result<(), RegistryError>;

    /// The bundle of a version, as it was stored.
    fn bundle(&self, version: &Version) -> Result<Vec<u8>, RegistryError>;

    /// Params and metrics of a run; without artifacts.
    fn run(&self, run_id: &str) -> Result<Run, RegistryError>;

    /// The version that `selector` means: an alias, or a number.
    fn resolve(&self, selector: &str) -> Result<Version, RegistryError> {
        let found = if selector.bytes().all(|byte| byte.is_ascii_digit()) {
            self.versions()?.into_iter().find(|version| version.version == selector)
        } else {
            self.alias(selector)?
        };
        found.ok_or_else(|| RegistryError {
            step: format!("looking for the model version `{selector}`"),
            place: self.place(),
            found: "there is none".into(),
            advice: "smartlog models list shows what there is".into(),
            away: false,
        })
    }
}

/// Opens what `place` names: `http://…` and `https://…` are MLflow servers, anything else is a folder.
///
/// # Errors
/// A URL that cannot be used.
pub fn open(place: &str) -> Result<Box<dyn Registry>, RegistryError> {
    if place.starts_with("http://") || place.starts_with("https://") {
        // As MLflow's own client.
        let authorities =
            std::env::var_os("MLFLOW_TRACKING_SERVER_CERT_PATH").filter(|path| !path.is_empty());
        Ok(Box::new(Mlflow::new(place, Login::from_environment(), authorities.as_deref().map(Path::new))?))
    } else {
        Ok(Box::new(Folder::new(PathBuf::from(place))))
    }
}
