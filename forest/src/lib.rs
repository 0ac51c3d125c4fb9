#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod algorithm;
mod arena;
mod error;
mod explain;
mod forest;
mod hyperparams;
mod number;
#[cfg(feature = "onnx")]
mod onnx;
#[cfg(feature = "sklearn")]
mod sklearn;
#[cfg(feature = "serde")]
mod stored;
mod tree;

pub use error::{Error, Result};
pub use explain::Explanation;
pub use forest::IsolationForest;
pub use hyperparams::{
    Contamination, IsolationForestParams, IsolationForestValidParams, MaxFeatures, MaxSamples,
};
pub use number::average_path_length;
