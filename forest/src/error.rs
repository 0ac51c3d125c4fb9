//! What can be wrong with parameters, data or a stored forest. Every message names the thing, what was
//! expected and what was found.

use thiserror::Error;

use crate::hyperparams::{MaxFeatures, MaxSamples};

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a forest could not be fitted, loaded, asked or exported.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// `n_estimators` is zero.
    #[error("n_estimators: expected at least 1 tree, found {0}")]
    NEstimators(usize),
    /// `max_samples` is zero, or a fraction outside (0, 1].
    #[error("max_samples: expected auto, a count of at least 2, or a fraction in (0, 1], found {0}")]
    MaxSamples(MaxSamples),
    /// `max_features` is zero, or a fraction outside (0, 1].
    #[error("max_features: expected a count of at least 1 or a fraction in (0, 1], found {0}")]
    MaxFeatures(MaxFeatures),
    /// `max_features` asks for more features than the data have.
    #[error("max_features: expected at most the {n_features} features of the data, found {found}")]
    MaxFeaturesExceedsData {
        /// Features of the data.
        n_features: usize,
        /// Features asked for.
        found: usize,
    },
    /// `contamination` is a fraction outside (0, 0.5].
    #[error("contamination: expected auto or a fraction in (0, 0.5], found {0}")]
    Contamination(f64),
    /// `extension_level` needs more features than a tree may use.
    #[error(
        "extension_level: expected at most {max} (one less than the {} features of a tree), found {found}",
        max + 1
    )]
    ExtensionLevel {
        /// Highest level that the features of a tree allow.
        max: usize,
        /// Level asked for.
        found: usize,
    },
    /// The data have no rows.
    #[error("data: expected at least 2 rows, found an empty set")]
    EmptyData,
    /// The data have no columns.
    #[error("data: expected at least 1 feature, found rows without columns")]
    NoFeatures,
    /// Trees would be grown on fewer than two rows, and nothing can be isolated from nothing.
    #[error("max_samples: expected at least 2 rows for each tree, found {found} ({rows} rows in the data)")]
    TooFewSamples {
        /// Rows of the data.
        rows: usize,
        /// Rows that a tree would get.
        found: usize,
    },
    /// More rows than a tree can count.
    #[error("max_samples: expected at most 2147483647 rows for each tree, found {0}")]
    TooManySamples(usize),
    /// A value is NaN, infinite, or beyond the range of `f32`.
    #[error("row {row}, column {column}: expected a finite number within the range of f32, found {found}")]
    NotFinite {
        /// Row, from 0.
        row: usize,
        /// Column, from 0.
        column: usize,
        /// The value.
        found: f64,
    },
    /// Rows are wider or narrower than those that the forest was fitted on.
    #[error("features: expected rows of {expected} features, as the forest was fitted on, found {found}")]
    FeatureCount {
        /// Features of the forest.
        expected: usize,
        /// Features of the rows.
        found: usize,
    },
    /// A stored or imported forest contradicts itself.
    #[error("forest: {0}")]
    InvalidForest(String),
    /// A stored or imported tree contradicts itself.
    #[error("forest: tree {tree}, node {node}: {reason}")]
    InvalidTree {
        /// Tree, from 0.
        tree: usize,
        /// Node, from 0.
        node: usize,
        /// What was expected and what was found.
        reason: String,
    },
    /// The JSON of an imported forest is not what the import expects.
    #[cfg(feature = "sklearn")]
    #[error("forest: expected JSON with n_features, max_samples, offset and trees: {0}")]
    Json(#[from] serde_json::Error),
    /// A forest or one of its parts is too large for ONNX' 2 GiB limit on a model.
    #[cfg(feature = "onnx")]
    #[error("onnx: expected a model below 2 GiB, found {0} bytes")]
    OnnxTooLarge(usize),
    /// An error of linfa itself.
    #[error(transparent)]
    Linfa(#[from] linfa::Error),
}
