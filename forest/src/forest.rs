//! The fitted forest and its scores.

use std::fmt;

use linfa::Float;
use linfa::traits::PredictInplace;
use ndarray::{Array1, ArrayBase, ArrayView2, Axis, Data, Ix2, Slice};
#[cfg(feature = "rayon")]
use rayon::prelude::*;

use crate::arena::{AxisArena, PathSums, PlaneArena};
use crate::error::{Error, Result};
use crate::hyperparams::IsolationForestParams;
use crate::number::average_path_length;
use crate::tree::{AxisSplit, PlaneSplit, Tree};

/// Cells of a block of rows in a batch: with one tree they fill the first-level cache, and no more.
const BLOCK_CELLS: usize = 6 * 1024;

/// Rows up to this width are cast once on the stack; wider ones are cast where a tree looks.
const STACK_FEATURES: usize = 64;

/// A fitted isolation forest.
///
/// It comes from [`IsolationForest::params`] and [`Fit`](linfa::traits::Fit), from scikit-learn
/// (`from_sklearn_json`, feature `sklearn`), or is deserialised (feature `serde`), which checks it whole: bytes
/// from outside can be refused but cannot make a walk leave its tree or run for ever.
///
/// Rows of `f32` and `f64` are taken alike; they are cast to `f32` before they are compared, as scikit-learn
/// and ONNX do. Features that differ only beyond the seventh digit, such as epoch seconds, want their origin
/// moved first.
#[derive(Clone)]
pub struct IsolationForest {
    n_features: usize,
    max_samples: usize,
    offset: f64,
    trees: Trees,
    compiled: Compiled,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Trees {
    Axis(Vec<Tree<AxisSplit>>),
    Extended(Vec<Tree<PlaneSplit>>),
}

#[derive(Clone)]
enum Compiled {
    Compact(AxisArena<u16>),
    Wide(AxisArena<u32>),
    Planes(PlaneArena),
}

impl fmt::Debug for IsolationForest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IsolationForest")
            .field("n_estimators", &self.n_estimators())
            .field("n_features", &self.n_features)
            .field("max_samples", &self.max_samples)
            .field("offset", &self.offset)
            .field("extended", &self.is_extended())
            .finish_non_exhaustive()
    }
}

impl PartialEq for IsolationForest {
    fn eq(&self, other: &Self) -> bool {
        self.n_features == other.n_features
            && self.max_samples == other.max_samples
            && self.offset == other.offset
            && self.trees == other.trees
    }
}

impl Trees {
    fn len(&self) -> usize {
        match self {
            Self::Axis(trees) => trees.len(),
            Self::Extended(trees) => trees.len(),
        }
    }

    fn check(&self, n_features: usize) -> Result<()> {
        match self {
            Self::Axis(trees) => trees.iter().enumerate().try_for_each(|(i, tree)| tree.check(i, n_features)),
            Self::Extended(trees) => {
                trees.iter().enumerate().try_for_each(|(i, tree)| tree.check(i, n_features))
            }
        }
    }

    fn compile(&self) -> Option<Compiled> {
        match self {
            Self::Axis(trees) => AxisArena::compile(trees)
                .map(Compiled::Compact)
                .or_else(|| AxisArena::compile(trees).map(Compiled::Wide)),
            Self::Extended(trees) => PlaneArena::compile(trees).map(Compiled::Planes),
        }
    }
}

impl IsolationForest {
    /// Parameters with scikit-learn's defaults.
    pub fn params() -> IsolationForestParams {
        IsolationForestParams::new()
    }

    /// A forest of trees from anywhere, checked.
    ///
    /// # Errors
    /// [`Error::InvalidForest`] or [`Error::InvalidTree`] with what was expected.
    pub(crate) fn from_trees(
        n_features: usize,
        max_samples: usize,
        offset: f64,
        trees: Trees,
    ) -> Result<Self> {
        let fault = |reason: String| Err(Error::InvalidForest(reason));
        if n_features == 0 {
            return fault("n_features: expected at least 1, found 0".to_string());
        }
        if max_samples < 2 {
            return fault(format!("max_samples: expected at least 2, found {max_samples}"));
        }
        if !offset.is_finite() {
            return fault(format!("offset: expected a finite number, found {offset}"));
        }
        if trees.len() == 0 {
            return fault("trees: expected at least 1, found none".to_string());
        }
        trees.check(n_features)?;
        let Some(compiled) = trees.compile() else {
            return fault("trees: expected fewer than 2^32 nodes and weights, found more".to_string());
        };
        Ok(Self { n_features, max_samples, offset, trees, compiled })
    }

    /// [`Tree::path_lengths`] of one tree.
    pub(crate) fn path_lengths(&self, tree: usize) -> &[f64] {
        match &self.compiled {
            Compiled::Compact(arena) => arena.path_lengths(tree),
            Compiled::Wide(arena) => arena.path_lengths(tree),
            Compiled::Planes(arena) => arena.path_lengths(tree),
        }
    }

    pub(crate) fn set_offset(&mut self, offset: f64) {
        self.offset = offset;
    }

    pub(crate) fn trees(&self) -> &Trees {
        &self.trees
    }

    /// Number of trees.
    pub fn n_estimators(&self) -> usize {
        self.trees.len()
    }

    /// Width of the rows.
    pub fn n_features(&self) -> usize {
        self.n_features
    }

    /// Rows that each tree was grown on.
    pub fn max_samples(&self) -> usize {
        self.max_samples
    }

    /// Whether the splits are hyperplanes.
    pub fn is_extended(&self) -> bool {
        matches!(self.trees, Trees::Extended(_))
    }

    /// What `decision_function` subtracts from `score_samples`: rows that score below it are outliers.
    pub fn offset(&self) -> f64 {
        self.offset
    }

    /// scikit-learn's `score_samples`: minus the anomaly score of the papers, in (−1, 0). The lower, the more
    /// anomalous.
    ///
    /// # Errors
    /// [`Error::FeatureCount`] and [`Error::NotFinite`].
    pub fn score_samples<F: Float, D: Data<Elem = F>>(&self, x: &ArrayBase<D, Ix2>) -> Result<Array1<f64>> {
        self.check_width(x.ncols())?;
        check_finite(x.view())?;
        let mut scores = vec![0.0; x.nrows()];
        match &self.compiled {
            Compiled::Compact(arena) => sum_paths(arena, x.view(), &mut scores),
            Compiled::Wide(arena) => sum_paths(arena, x.view(), &mut scores),
            Compiled::Planes(arena) => sum_paths(arena, x.view(), &mut scores),
        }
        for score in &mut scores {
            *score = self.score_of(*score);
        }
        Ok(Array1::from_vec(scores))
    }

    /// [`Self::score_samples`] of one row, to the last bit, without an allocation.
    ///
    /// # Errors
    /// [`Error::FeatureCount`] and [`Error::NotFinite`], whose row is then 0.
    pub fn score_row<F: Float>(&self, row: &[F]) -> Result<f64> {
        self.check_width(row.len())?;
        if let Some(column) = row.iter().position(|&value| !is_usable(value)) {
            return Err(not_finite(0, column, row[column]));
        }
        let sum = match &self.compiled {
            Compiled::Compact(arena) => sum_row(arena, row),
            Compiled::Wide(arena) => sum_row(arena, row),
            Compiled::Planes(arena) => sum_row(arena, row),
        };
        Ok(self.score_of(sum))
    }

    /// scikit-learn's `decision_function`: `score_samples − offset`, below zero for outliers.
    ///
    /// # Errors
    /// As [`Self::score_samples`].
    pub fn decision_function<F: Float, D: Data<Elem = F>>(
        &self,
        x: &ArrayBase<D, Ix2>,
    ) -> Result<Array1<f64>> {
        Ok(self.score_samples(x)? - self.offset)
    }

    /// What scikit-learn's `predict` returns: −1 for outliers, 1 for all others.
    ///
    /// # Errors
    /// As [`Self::score_samples`].
    pub fn labels<F: Float, D: Data<Elem = F>>(&self, x: &ArrayBase<D, Ix2>) -> Result<Array1<i8>> {
        Ok(self.decision_function(x)?.mapv(|decision| if decision < 0.0 { -1 } else { 1 }))
    }

    pub(crate) fn check_width(&self, found: usize) -> Result<()> {
        if found == self.n_features {
            return Ok(());
        }
        Err(Error::FeatureCount { expected: self.n_features, found })
    }

    /// The sum of path lengths over all trees at which the score is 1/2.
    pub(crate) fn path_sum_scale(&self) -> f64 {
        self.n_estimators() as f64 * average_path_length(self.max_samples)
    }

    fn score_of(&self, path_sum: f64) -> f64 {
        -(-path_sum / self.path_sum_scale()).exp2()
    }
}

/// True marks outliers, so that a linfa confusion matrix against `true` = anomaly reads as one expects.
///
/// # Panics
/// `predict` cannot return an error, so it panics with the message of [`Error::FeatureCount`] or
/// [`Error::NotFinite`]; [`IsolationForest::labels`] returns it.
impl<F: Float, D: Data<Elem = F>> PredictInplace<ArrayBase<D, Ix2>, Array1<bool>> for IsolationForest {
    fn predict_inplace(&self, x: &ArrayBase<D, Ix2>, y: &mut Array1<bool>) {
        assert_eq!(x.nrows(), y.len(), "The number of data points must match the number of output targets.");
        match self.decision_function(x) {
            Ok(decisions) => y.zip_mut_with(&decisions, |outlier, &decision| *outlier = decision < 0.0),
            Err(error) => panic!("{error}"),
        }
    }

    fn default_target(&self, x: &ArrayBase<D, Ix2>) -> Array1<bool> {
        Array1::from_elem(x.nrows(), false)
    }
}

/// The value as the trees compare it.
#[inline]
pub(crate) fn to_f32<F: Float>(value: F) -> f32 {
    value.to_f32().unwrap_or(f32::NAN)
}

#[inline]
fn is_usable<F: Float>(value: F) -> bool {
    to_f32(value).is_finite()
}

fn not_finite<F: Float>(row: usize, column: usize, value: F) -> Error {
    Error::NotFinite { row, column, found: value.to_f64().unwrap_or(f64::NAN) }
}

pub(crate) fn check_finite<F: Float>(x: ArrayView2<'_, F>) -> Result<()> {
    if x.as_slice_memory_order().is_some_and(|values| values.iter().fold(true, |all, &v| all & is_usable(v)))
    {
        return Ok(());
    }
    match x.indexed_iter().find(|&(_, &value)| !is_usable(value)) {
        Some(((row, column), &value)) => Err(not_finite(row, column, value)),
        None => Ok(()),
    }
}

/// Casts and walks block by block; blocks are shared out over threads with feature `rayon`.
fn sum_paths<F: Float, P: PathSums>(arena: &P, x: ArrayView2<'_, F>, sums: &mut [f64]) {
    let width = x.ncols();
    let block_rows = (BLOCK_CELLS / width).clamp(32, 1024).next_multiple_of(8);
    let walk = |cells: &mut Vec<P::Cell>, (block, sums): (usize, &mut [f64])| {
        let first = block * block_rows;
        cells.clear();
        for row in x.slice_axis(Axis(0), Slice::from(first..first + sums.len())).rows() {
            cells.extend(row.iter().map(|&value| P::cell(to_f32(value))));
        }
        arena.add_block(cells, width, sums);
    };
    #[cfg(feature = "rayon")]
    sums.par_chunks_mut(block_rows).enumerate().for_each_init(Vec::new, walk);
    #[cfg(not(feature = "rayon"))]
    {
        let mut cells = Vec::new();
        sums.chunks_mut(block_rows).enumerate().for_each(|block| walk(&mut cells, block));
    }
}

fn sum_row<F: Float, P: PathSums>(arena: &P, row: &[F]) -> f64 {
    if row.len() > STACK_FEATURES {
        return arena.row_sum(|feature| P::cell(to_f32(row[feature])));
    }
    let mut cells = [P::Cell::default(); STACK_FEATURES];
    for (cell, &value) in cells.iter_mut().zip(row) {
        *cell = P::cell(to_f32(value));
    }
    arena.row_sum(|feature| cells[feature])
}
