//! Which features made a row's score.
//!
//! The logarithm of a score is additive over trees: log2 s = −E\[h\] / c. So the mean path length of the row is
//! what has to be shared out among the features.
//!
//! * Axis-parallel trees: Shapley values of the path length, exactly, by TreeSHAP (Lundberg, Erion, Lee 2018,
//!   *Consistent Individualized Feature Attribution for Tree Ensembles*, arXiv:1802.03888, algorithm 2): a
//!   feature that is not in the coalition sends the row both ways, in proportion to the training rows.
//! * Extended trees: a hyperplane belongs to several features, which TreeSHAP cannot part. Each step of the
//!   row's path changes the expected path length (Saabas 2014, *Interpreting random forests*); the change
//!   is shared among the features that pushed the row to its side, in proportion to their terms
//!   `normal · (x − point)`.
//!
//! Both add up exactly to the difference between the row's and the training rows' mean path length.

use linfa::Float;
use ndarray::Array1;

use crate::error::Result;
use crate::forest::{IsolationForest, Trees, to_f32};
use crate::tree::{AxisSplit, PlaneSplit, Split, Tree};

/// A row's score, shared out among its features.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Explanation {
    /// `score_samples` of the row, in (−1, 0).
    pub score: f64,
    /// `score_samples` of a row with the mean path length of the training rows.
    pub baseline: f64,
    /// What each feature adds to log2 of the anomaly score. Positive: it makes the row more anomalous. They
    /// add up to log2(score / baseline).
    pub contributions: Array1<f64>,
}

impl Explanation {
    /// Each feature's share of what makes the row anomalous: its positive contribution over the sum of all
    /// positive ones. They add up to 1, or all are 0 when nothing does.
    pub fn shares(&self) -> Array1<f64> {
        let positive = self.contributions.mapv(|contribution| contribution.max(0.0));
        let total = positive.sum();
        if total > 0.0 { positive / total } else { positive }
    }
}

impl IsolationForest {
    /// Each feature's share of a row's score: Shapley values of the path length (TreeSHAP, Lundberg 2018) for
    /// axis-parallel trees, path attribution (Saabas 2014) for extended ones. The README tells more.
    ///
    /// Takes up to some thousand times as long as a score: it is meant for the rows that are reported.
    ///
    /// ```
    /// use linfa::DatasetBase;
    /// use linfa::traits::Fit;
    /// use linfa_isolation_forest::IsolationForest;
    /// use ndarray::Array2;
    ///
    /// let rows = Array2::from_shape_fn((500, 3), |(i, j)| ((i * (7 + j)) % 101) as f64);
    /// let forest = IsolationForest::params().fit(&DatasetBase::from(rows))?;
    ///
    /// let explanation = forest.explain(&[50.0, 900.0, 50.0])?;
    /// assert!(explanation.shares()[1] > 0.8);
    /// # Ok::<(), linfa_isolation_forest::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::score_row`].
    pub fn explain<F: Float>(&self, row: &[F]) -> Result<Explanation> {
        self.check_width(row.len())?;
        let score = self.score_row(row)?;
        let row: Vec<f32> = row.iter().map(|&value| to_f32(value)).collect();
        let mut paths = vec![0.0; row.len()];
        let mean_path = match self.trees() {
            Trees::Axis(trees) => share_out(self, trees, &row, &mut paths, shapley),
            Trees::Extended(trees) => share_out(self, trees, &row, &mut paths, along_path),
        };
        let scale = self.path_sum_scale();
        Ok(Explanation {
            score,
            baseline: -(-mean_path / scale).exp2(),
            contributions: Array1::from_vec(paths).mapv(|path| -path / scale),
        })
    }
}

/// Adds each feature's part of the row's path lengths to `paths`; returns the sum over trees of the training
/// rows' mean path length.
fn share_out<S>(
    forest: &IsolationForest,
    trees: &[Tree<S>],
    row: &[f32],
    paths: &mut [f64],
    share_tree: impl Fn(&Tree<S>, &[f64], &[f32], &mut [f64]),
) -> f64 {
    let mut mean_path = 0.0;
    for (i, tree) in trees.iter().enumerate() {
        let path_lengths = forest.path_lengths(i);
        share_tree(tree, path_lengths, row, paths);
        mean_path += path_lengths[0];
    }
    mean_path
}

/// Path attribution: each step's change of the expected path length goes to the features that caused the step.
fn along_path(tree: &Tree<PlaneSplit>, path_lengths: &[f64], row: &[f32], paths: &mut [f64]) {
    let mut node = 0;
    while let Some(inner) = &tree.nodes[node].inner {
        let right = inner.split.goes_right(|feature| row[feature]);
        let child = inner.left as usize + usize::from(right);
        let change = path_lengths[child] - path_lengths[node];
        let side = if right { 1.0 } else { -1.0 };
        let pushes = || inner.split.terms(row).map(|(feature, term)| (feature, (side * term).max(0.0)));
        let total: f64 = pushes().map(|(_, push)| push).sum();
        for (feature, push) in pushes() {
            // A row that lies on the point was pushed by none: all share alike.
            let part = if total > 0.0 { push / total } else { 1.0 / inner.split.features.len() as f64 };
            paths[feature] += change * part;
        }
        node = child;
    }
}

/// A feature on the way from the root, with what Shapley's weights need to know of it.
#[derive(Clone, Copy)]
struct Step {
    feature: Option<u32>,
    /// Share of the training rows that go this way, when the feature is not in the coalition.
    zero: f64,
    /// 1 when the row goes this way, else 0: when the feature is in the coalition.
    one: f64,
    /// Sum of the weights of the coalitions of one size.
    weight: f64,
}

/// A node that waits, with the steps above it.
struct Visit {
    node: usize,
    steps: Vec<Step>,
    via: Step,
}

/// Shapley values of the path length in one tree (TreeSHAP, algorithm 2), without recursion: an imported tree
/// may be deeper than a thread's stack.
fn shapley(tree: &Tree<AxisSplit>, path_lengths: &[f64], row: &[f32], paths: &mut [f64]) {
    let root = Step { feature: None, zero: 1.0, one: 1.0, weight: 0.0 };
    let mut pending = vec![Visit { node: 0, steps: Vec::new(), via: root }];
    while let Some(Visit { node, mut steps, via }) = pending.pop() {
        extend(&mut steps, via);
        let Some(inner) = &tree.nodes[node].inner else {
            for i in 1..steps.len() {
                let Step { feature: Some(feature), zero, one, .. } = steps[i] else { continue };
                paths[feature as usize] += unwound_weight(&steps, i) * (one - zero) * path_lengths[node];
            }
            continue;
        };
        // A feature that was met before: its steps become one.
        let feature = Some(inner.split.feature);
        let met = steps.iter().position(|step| step.feature == feature);
        let (zero, one) = met.map_or((1.0, 1.0), |i| (steps[i].zero, steps[i].one));
        if let Some(i) = met {
            unwind(&mut steps, i);
        }
        let right = row[inner.split.feature as usize] > inner.split.threshold;
        let samples = children_samples(tree, inner.left);
        let visit = |child: u32, taken: bool, steps| {
            let passing = f64::from(tree.nodes[child as usize].samples) / samples;
            let one = if taken { one } else { 0.0 };
            Visit {
                node: child as usize,
                steps,
                via: Step { feature, zero: zero * passing, one, weight: 0.0 },
            }
        };
        pending.push(visit(inner.left, !right, steps.clone()));
        pending.push(visit(inner.left + 1, right, steps));
    }
}

fn children_samples(tree: &Tree<AxisSplit>, left: u32) -> f64 {
    [left as usize, left as usize + 1].iter().map(|&child| f64::from(tree.nodes[child].samples)).sum()
}

/// EXTEND of the paper: coalitions grow by one feature.
fn extend(steps: &mut Vec<Step>, via: Step) {
    let length = steps.len();
    steps.push(Step { weight: if length == 0 { 1.0 } else { 0.0 }, ..via });
    let size = (length + 1) as f64;
    for i in (0..length).rev() {
        steps[i + 1].weight += via.one * steps[i].weight * (i + 1) as f64 / size;
        steps[i].weight *= via.zero * (length - i) as f64 / size;
    }
}

/// UNWIND of the paper: undoes the extension by step `i`.
fn unwind(steps: &mut Vec<Step>, i: usize) {
    let last = steps.len() - 1;
    let size = (last + 1) as f64;
    let (zero, one) = (steps[i].zero, steps[i].one);
    let mut next = steps[last].weight;
    for j in (0..last).rev() {
        if one == 0.0 {
            steps[j].weight = steps[j].weight * size / (zero * (last - j) as f64);
        } else {
            let kept = steps[j].weight;
            steps[j].weight = next * size / ((j + 1) as f64 * one);
            next = kept - steps[j].weight * zero * (last - j) as f64 / size;
        }
    }
    for j in i..last {
        let Step { feature, zero, one, .. } = steps[j + 1];
        steps[j] = Step { feature, zero, one, weight: steps[j].weight };
    }
    steps.pop();
}

/// Sum of the weights that [`unwind`] would leave.
fn unwound_weight(steps: &[Step], i: usize) -> f64 {
    let last = steps.len() - 1;
    let size = (last + 1) as f64;
    let (zero, one) = (steps[i].zero, steps[i].one);
    let mut next = steps[last].weight;
    let mut total = 0.0;
    for j in (0..last).rev() {
        if one == 0.0 {
            total += steps[j].weight * size / (zero * (last - j) as f64);
        } else {
            let weight = next * size / ((j + 1) as f64 * one);
            total += weight;
            next = steps[j].weight - weight * zero * (last - j) as f64 / size;
        }
    }
    total
}
