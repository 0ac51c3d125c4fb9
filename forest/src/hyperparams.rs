//! Parameters under scikit-learn's names, checked before anything is fitted.

use std::fmt;

use linfa::ParamGuard;

use crate::error::{Error, Result};

/// Rows that each tree is grown on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum MaxSamples {
    /// The lesser of 256 and the number of rows: 256 suffice to isolate, and more make anomalies hide
    /// among each other (*swamping* and *masking*, section 3 of the 2008 paper).
    #[default]
    Auto,
    /// This many rows, or all when the data have fewer. At least 2.
    Count(usize),
    /// This share of the rows, in (0, 1], rounded down.
    Fraction(f64),
}

impl fmt::Display for MaxSamples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => write!(f, "auto"),
            Self::Count(count) => write!(f, "the count {count}"),
            Self::Fraction(fraction) => write!(f, "the fraction {fraction}"),
        }
    }
}

impl From<usize> for MaxSamples {
    fn from(count: usize) -> Self {
        Self::Count(count)
    }
}

impl From<f64> for MaxSamples {
    fn from(fraction: f64) -> Self {
        Self::Fraction(fraction)
    }
}

/// Features that each tree may split on, drawn anew for each tree.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum MaxFeatures {
    /// This many features.
    Count(usize),
    /// This share of the features, in (0, 1], rounded down, but at least one.
    Fraction(f64),
}

impl Default for MaxFeatures {
    fn default() -> Self {
        Self::Fraction(1.0)
    }
}

impl fmt::Display for MaxFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "the count {count}"),
            Self::Fraction(fraction) => write!(f, "the fraction {fraction}"),
        }
    }
}

impl From<usize> for MaxFeatures {
    fn from(count: usize) -> Self {
        Self::Count(count)
    }
}

impl From<f64> for MaxFeatures {
    fn from(fraction: f64) -> Self {
        Self::Fraction(fraction)
    }
}

/// Share of the training rows that shall count as outliers; it sets the offset of `decision_function`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Contamination {
    /// The offset is −0.5, the score of a row with the mean path length, whatever the data.
    #[default]
    Auto,
    /// The offset is that quantile of the training rows' `score_samples`. In (0, 0.5].
    Fraction(f64),
}

impl From<f64> for Contamination {
    fn from(fraction: f64) -> Self {
        Self::Fraction(fraction)
    }
}

/// Checked parameters. They come from [`IsolationForestParams`] through [`ParamGuard`] only, also when
/// they are deserialised.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(remote = "Self"))]
pub struct IsolationForestValidParams {
    pub(crate) n_estimators: usize,
    pub(crate) max_samples: MaxSamples,
    pub(crate) max_features: MaxFeatures,
    pub(crate) bootstrap: bool,
    pub(crate) contamination: Contamination,
    pub(crate) extension_level: usize,
    pub(crate) seed: u64,
}

impl IsolationForestValidParams {
    /// Number of trees.
    pub fn n_estimators(&self) -> usize {
        self.n_estimators
    }

    /// Rows of each tree.
    pub fn max_samples(&self) -> MaxSamples {
        self.max_samples
    }

    /// Features of each tree.
    pub fn max_features(&self) -> MaxFeatures {
        self.max_features
    }

    /// Whether rows are drawn with replacement.
    pub fn bootstrap(&self) -> bool {
        self.bootstrap
    }

    /// What sets the offset.
    pub fn contamination(&self) -> Contamination {
        self.contamination
    }

    /// Features in one split, less one.
    pub fn extension_level(&self) -> usize {
        self.extension_level
    }

    /// Seed of all chance in the fit.
    pub fn seed(&self) -> u64 {
        self.seed
    }
}

/// Parameters as they were given, with scikit-learn's names and defaults.
///
/// ```
/// use linfa::ParamGuard;
/// use linfa_isolation_forest::IsolationForest;
///
/// let params = IsolationForest::params().n_estimators(200).max_samples(0.5).contamination(0.01).seed(7);
/// assert!(params.check().is_ok());
///
/// let error = IsolationForest::params().contamination(0.7).check().unwrap_err();
/// assert_eq!(error.to_string(), "contamination: expected auto or a fraction in (0, 0.5], found 0.7");
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct IsolationForestParams(
    #[cfg_attr(feature = "serde", serde(with = "IsolationForestValidParams"))] IsolationForestValidParams,
);

impl Default for IsolationForestParams {
    fn default() -> Self {
        Self(IsolationForestValidParams {
            n_estimators: 100,
            max_samples: MaxSamples::default(),
            max_features: MaxFeatures::default(),
            bootstrap: false,
            contamination: Contamination::default(),
            extension_level: 0,
            seed: 42,
        })
    }
}

impl IsolationForestParams {
    /// The defaults: 100 trees of at most 256 rows, all features, no bootstrap, contamination auto,
    /// axis-parallel splits, seed 42.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of trees, at least 1. Scores settle well before 100 (2008 paper, section 5.2).
    #[must_use]
    pub fn n_estimators(mut self, n_estimators: usize) -> Self {
        self.0.n_estimators = n_estimators;
        self
    }

    /// Rows of each tree: [`MaxSamples`], a count (`usize`) or a fraction (`f64`).
    #[must_use]
    pub fn max_samples(mut self, max_samples: impl Into<MaxSamples>) -> Self {
        self.0.max_samples = max_samples.into();
        self
    }

    /// Features of each tree: [`MaxFeatures`], a count (`usize`) or a fraction (`f64`).
    #[must_use]
    pub fn max_features(mut self, max_features: impl Into<MaxFeatures>) -> Self {
        self.0.max_features = max_features.into();
        self
    }

    /// Whether each tree's rows are drawn with replacement.
    #[must_use]
    pub fn bootstrap(mut self, bootstrap: bool) -> Self {
        self.0.bootstrap = bootstrap;
        self
    }

    /// Share of outliers in the training rows: [`Contamination`] or a fraction (`f64`).
    #[must_use]
    pub fn contamination(mut self, contamination: impl Into<Contamination>) -> Self {
        self.0.contamination = contamination.into();
        self
    }

    /// 0: each split compares one feature (Liu, Ting, Zhou). `k` > 0: each split is a hyperplane through
    /// `k + 1` features (Hariri, Kind, Brunner), at most all of a tree's.
    #[must_use]
    pub fn extension_level(mut self, extension_level: usize) -> Self {
        self.0.extension_level = extension_level;
        self
    }

    /// Seed of all chance: equal seeds, data and parameters give equal forests, on any number of threads.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.0.seed = seed;
        self
    }
}

impl ParamGuard for IsolationForestParams {
    type Checked = IsolationForestValidParams;
    type Error = Error;

    fn check_ref(&self) -> Result<&Self::Checked> {
        let params = &self.0;
        if params.n_estimators == 0 {
            return Err(Error::NEstimators(params.n_estimators));
        }
        match params.max_samples {
            MaxSamples::Count(count) if count < 2 => return Err(Error::MaxSamples(params.max_samples)),
            MaxSamples::Fraction(f) if !is_share(f) => return Err(Error::MaxSamples(params.max_samples)),
            _ => {}
        }
        match params.max_features {
            MaxFeatures::Count(0) => return Err(Error::MaxFeatures(params.max_features)),
            MaxFeatures::Fraction(f) if !is_share(f) => return Err(Error::MaxFeatures(params.max_features)),
            _ => {}
        }
        match params.contamination {
            Contamination::Fraction(f) if !(f > 0.0 && f <= 0.5) => Err(Error::Contamination(f)),
            _ => Ok(params),
        }
    }

    fn check(self) -> Result<Self::Checked> {
        self.check_ref()?;
        Ok(self.0)
    }
}

/// NaN is none.
fn is_share(fraction: f64) -> bool {
    fraction > 0.0 && fraction <= 1.0
}

#[cfg(feature = "serde")]
impl serde::Serialize for IsolationForestValidParams {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for IsolationForestValidParams {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let params = Self::deserialize(deserializer)?;
        IsolationForestParams(params).check().map_err(serde::de::Error::custom)
    }
}
