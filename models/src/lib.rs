//! The life of a model: fitted on windows, bundled into one unit, tracked, registered, and loaded again.
//!
//! ```text
//!   rows ── fit ──▶ Bundle ── evaluate ──▶ Report ─┐
//!                     │                            ├─▶ Run ──▶ Registry ──▶ versions, aliases
//!                     └── export ──▶ MLflow folder ┘           (a folder | an MLflow server)
//!   Registry ── fetch ──▶ Bundle::from_bytes ──▶ scores
//! ```
//!
//! | module | what it owns |
//! |---|---|
//! | [`rows`] | what a model is fitted on, and the digest that names it |
//! | [`bundle`] | everything a model is, as one unit with deterministic bytes |
//! | [`profile`] | what is usual for a service, overall and by hour |
//! | [`fit`] | rows → bundle |
//! | [`evaluate`] | how good it is on held-out time |
//! | [`export`] | the folder that MLflow's Python packages load |
//! | [`plots`] | pictures for people |
//! | [`registry`] | where runs, versions and aliases live |
//!
//! Nothing here reads a wall clock or starts a thread; only [`registry`] does I/O, and it blocks.

pub mod bundle;
pub mod evaluate;
pub mod export;
pub mod fit;
pub mod plots;
pub mod profile;
pub mod registry;
pub mod rows;

pub use bundle::{Bundle, BundleError, Scoping, Scored};
pub use registry::{Registry, RegistryError, Run, Version};

/// The experiment that runs are tracked under.
pub const EXPERIMENT: &str = "log-anomaly-detection";
/// The name that versions are registered under.
pub const MODEL_NAME: &str = "log-anomaly-detector";
/// The folder of a run's artifacts that holds the model.
pub const ARTIFACT_PATH: &str = "anomaly_model";
/// The alias of the version that serves.
pub const CHAMPION: &str = "champion";
/// The alias of the version that is scored beside it, in shadow.
pub const CHALLENGER: &str = "challenger";
