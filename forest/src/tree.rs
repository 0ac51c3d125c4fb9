//! One isolation tree as it is grown, stored, explained and exported.
//!
//! ```text
//! rows of one tree ─► split at random ─► left: rows at or below   ─► … until one row, equal rows,
//!                                     └► right: rows above        ─► … or depth ⌈log2(rows)⌉
//! ```
//!
//! Nodes lie in one vector; the right child follows the left, and both follow their parent.

use std::ops::Range;

use rand::Rng;
use rand::seq::SliceRandom;
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::error::{Error, Result};
use crate::number::{average_path_length, floor_f32};

/// How an inner node sends rows left or right.
pub(crate) trait Split: Sized {
    /// Whether the row goes right whose features `value` tells.
    fn goes_right(&self, value: impl Fn(usize) -> f32) -> bool;

    /// What is wrong with a stored split, if anything is.
    fn fault(&self, n_features: usize) -> Option<String>;

    /// A random split of `rows`, or nothing when all rows are equal.
    fn draw(sample: &Sample, rows: &[u32], order: &mut [u32], rng: &mut Xoshiro256PlusPlus) -> Option<Self>;
}

/// Compares one feature: right when it is above `threshold`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AxisSplit {
    pub(crate) feature: u32,
    pub(crate) threshold: f32,
}

/// Compares a weighted sum of features: right when `Σ normal · (x − point)` is above zero.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct PlaneSplit {
    pub(crate) features: Vec<u32>,
    pub(crate) normal: Vec<f32>,
    pub(crate) point: Vec<f32>,
}

/// A node: how many training rows reached it and, unless it is a leaf, its split and left child.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node<S> {
    pub(crate) samples: u32,
    pub(crate) inner: Option<Inner<S>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Inner<S> {
    pub(crate) split: S,
    pub(crate) left: u32,
}

/// A tree. The root is node 0.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tree<S> {
    pub(crate) nodes: Vec<Node<S>>,
}

/// The rows of one tree, column by column, as `f32`.
pub(crate) struct Sample {
    /// `columns[k]` holds feature `features[k]`.
    columns: Vec<Vec<f32>>,
    features: Vec<u32>,
    /// The inverse of `features`.
    column_of: Vec<u32>,
    /// Features in one split, less one.
    extension_level: usize,
}

impl Sample {
    /// `columns` are those of `features`, of `n_features` in all.
    pub(crate) fn new(
        columns: Vec<Vec<f32>>,
        features: Vec<u32>,
        n_features: usize,
        extension_level: usize,
    ) -> Self {
        let mut column_of = vec![0; n_features];
        for (column, &feature) in features.iter().enumerate() {
            column_of[feature as usize] = column as u32;
        }
        Self { columns, features, column_of, extension_level }
    }

    fn value(&self, feature: usize, row: u32) -> f32 {
        self.columns[self.column_of[feature] as usize][row as usize]
    }

    fn rows(&self) -> u32 {
        self.columns.first().map_or(0, |column| column.len() as u32)
    }

    /// Least and greatest value of column `k` among `rows`.
    fn range(&self, k: usize, rows: &[u32]) -> (f32, f32) {
        let column = &self.columns[k];
        rows.iter()
            .map(|&row| column[row as usize])
            .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)))
    }
}

impl Split for AxisSplit {
    fn goes_right(&self, value: impl Fn(usize) -> f32) -> bool {
        value(self.feature as usize) > self.threshold
    }

    fn fault(&self, n_features: usize) -> Option<String> {
        if self.feature as usize >= n_features {
            return Some(format!("expected a feature below {n_features}, found {}", self.feature));
        }
        self.threshold.is_nan().then(|| "expected a number as threshold, found NaN".to_string())
    }

    /// A feature at random among those that differ, then a threshold, uniform between its extremes.
    fn draw(sample: &Sample, rows: &[u32], order: &mut [u32], rng: &mut Xoshiro256PlusPlus) -> Option<Self> {
        for left in (1..=order.len()).rev() {
            order.swap(left - 1, rng.gen_range(0..left));
            let k = order[left - 1] as usize;
            let (low, high) = sample.range(k, rows);
            if low < high {
                return Some(Self { feature: sample.features[k], threshold: between(low, high, rng) });
            }
        }
        None
    }
}

/// A number in [low, high), so that both sides of a split get a row.
fn between(low: f32, high: f32, rng: &mut Xoshiro256PlusPlus) -> f32 {
    let (from, to) = (f64::from(low), f64::from(high));
    let threshold = floor_f32(from + rng.r#gen::<f64>() * (to - from));
    if threshold < high { threshold } else { low }
}

impl PlaneSplit {
    /// What each feature adds to the signed distance from the plane.
    pub(crate) fn terms<'a>(&'a self, row: &'a [f32]) -> impl Iterator<Item = (usize, f64)> + 'a {
        self.features.iter().zip(&self.normal).zip(&self.point).map(|((&feature, &weight), &point)| {
            let feature = feature as usize;
            (feature, f64::from(weight) * (f64::from(row[feature]) - f64::from(point)))
        })
    }

    /// `Σ normal · point`: a row is compared with this.
    pub(crate) fn intercept(&self) -> f64 {
        dot(self.normal.iter().copied().zip(self.point.iter().copied()))
    }
}

/// Products of `f32` are exact in `f64`; the order of summation is the caller's.
pub(crate) fn dot(pairs: impl Iterator<Item = (f32, f32)>) -> f64 {
    pairs.map(|(a, b)| f64::from(a) * f64::from(b)).sum()
}

impl Split for PlaneSplit {
    fn goes_right(&self, value: impl Fn(usize) -> f32) -> bool {
        let values = self.features.iter().map(|&feature| value(feature as usize));
        dot(self.normal.iter().copied().zip(values)) > self.intercept()
    }

    fn fault(&self, n_features: usize) -> Option<String> {
        let (features, weights, points) = (self.features.len(), self.normal.len(), self.point.len());
        if features == 0 || features != weights || features != points {
            return Some(format!(
                "expected as many features as weights and coordinates, found {features}, {weights} and {points}"
            ));
        }
        if let Some(feature) = self.features.iter().find(|&&feature| feature as usize >= n_features) {
            return Some(format!("expected features below {n_features}, found {feature}"));
        }
        let all_finite = self.normal.iter().chain(&self.point).all(|x| x.is_finite());
        (!all_finite).then(|| "expected finite weights and coordinates".to_string())
    }

    /// `extension_level + 1` features at random among those that differ; a normal vector of Gaussian
    /// weights, each in units of its feature's range here, so that no feature rules by its scale; a point,
    /// uniform in the box of the rows. Drawn again when it leaves one side empty.
    fn draw(sample: &Sample, rows: &[u32], order: &mut [u32], rng: &mut Xoshiro256PlusPlus) -> Option<Self> {
        /// A plane through the box of at least two distinct rows parts them with fair odds; after so many
        /// failures the rows lie together in a far corner, and the widest feature parts them for sure.
        const TRIES: usize = 32;
        order.shuffle(rng);
        let varying: Vec<(usize, f32, f32)> = order
            .iter()
            .map(|&k| (k as usize, sample.range(k as usize, rows)))
            .filter(|(_, (low, high))| low < high)
            .take(sample.extension_level + 1)
            .map(|(k, (low, high))| (k, low, high))
            .collect();
        let &(first, low, high) = varying.first()?;
        for _ in 0..TRIES {
            let plane = draw_plane(sample, &varying, rng);
            if parts(&plane, sample, rows) {
                return Some(plane);
            }
        }
        let point = between(low, high, rng);
        Some(Self { features: vec![sample.features[first]], normal: vec![1.0], point: vec![point] })
    }
}

fn draw_plane(sample: &Sample, varying: &[(usize, f32, f32)], rng: &mut Xoshiro256PlusPlus) -> PlaneSplit {
    let mut plane = PlaneSplit { features: Vec::new(), normal: Vec::new(), point: Vec::new() };
    for &(k, low, high) in varying {
        plane.features.push(sample.features[k]);
        let weight = gaussian(rng) / (f64::from(high) - f64::from(low));
        plane.normal.push((weight as f32).clamp(f32::MIN, f32::MAX));
        plane.point.push(between(low, high, rng));
    }
    plane
}

/// Whether both sides of the plane hold a row.
fn parts(plane: &PlaneSplit, sample: &Sample, rows: &[u32]) -> bool {
    let right = rows.iter().filter(|&&row| plane.goes_right(|feature| sample.value(feature, row))).count();
    right > 0 && right < rows.len()
}

/// A standard normal number, by Box and Muller.
fn gaussian(rng: &mut Xoshiro256PlusPlus) -> f64 {
    let radius = (-2.0 * (1.0 - rng.r#gen::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.r#gen::<f64>()).cos()
}

impl<S: Split> Tree<S> {
    /// Grows a tree until each leaf holds one row, or equal rows, or lies at depth ⌈log2(rows)⌉, where the
    /// rows that are left are no anomalies any more.
    pub(crate) fn grow(sample: &Sample, rng: &mut Xoshiro256PlusPlus) -> Self {
        let n = sample.rows();
        let depth_max = n.next_power_of_two().trailing_zeros();
        let mut rows: Vec<u32> = (0..n).collect();
        let mut order: Vec<u32> = (0..sample.columns.len() as u32).collect();
        let mut nodes = vec![Node { samples: n, inner: None }];
        let mut pending = vec![(0_usize, 0..n as usize, 0_u32)];
        while let Some((node, range, depth)) = pending.pop() {
            if depth == depth_max || range.len() < 2 {
                continue;
            }
            let Some(split) = S::draw(sample, &rows[range.clone()], &mut order, rng) else { continue };
            let middle = partition(&split, sample, &mut rows, &range);
            let left = nodes.len();
            nodes[node].inner = Some(Inner { split, left: left as u32 });
            for (child, range) in [(left, range.start..middle), (left + 1, middle..range.end)] {
                nodes.push(Node { samples: range.len() as u32, inner: None });
                pending.push((child, range, depth + 1));
            }
        }
        Self { nodes }
    }

    /// Depth of each node; a parent comes before its children.
    pub(crate) fn depths(&self) -> Vec<u32> {
        let mut depths = vec![0; self.nodes.len()];
        for (node, inner) in self.inner_nodes() {
            let left = inner.left as usize;
            depths[left] = depths[node] + 1;
            depths[left + 1] = depths[node] + 1;
        }
        depths
    }

    /// For a leaf its path length, depth + c(samples); for an inner node the mean path length of the
    /// training rows that passed it.
    pub(crate) fn path_lengths(&self) -> Vec<f64> {
        let mut paths: Vec<f64> = self
            .nodes
            .iter()
            .zip(self.depths())
            .map(|(node, depth)| f64::from(depth) + average_path_length(node.samples as usize))
            .collect();
        for (node, inner) in self.inner_nodes().collect::<Vec<_>>().into_iter().rev() {
            let left = inner.left as usize;
            let [a, b] = [left, left + 1].map(|child| f64::from(self.nodes[child].samples));
            paths[node] = (a * paths[left] + b * paths[left + 1]) / (a + b);
        }
        paths
    }

    pub(crate) fn inner_nodes(&self) -> impl Iterator<Item = (usize, &Inner<S>)> {
        self.nodes.iter().enumerate().filter_map(|(node, n)| n.inner.as_ref().map(|inner| (node, inner)))
    }

    /// Checks a tree that comes from outside: children after their parent, each with one parent, none empty.
    pub(crate) fn check(&self, tree: usize, n_features: usize) -> Result<()> {
        let fault = |node: usize, reason: String| Err(Error::InvalidTree { tree, node, reason });
        if self.nodes.is_empty() {
            return fault(0, "expected at least a root, found no node".to_string());
        }
        let mut has_parent = vec![false; self.nodes.len()];
        has_parent[0] = true;
        for (node, inner) in self.inner_nodes() {
            let left = inner.left as usize;
            if left <= node || left + 1 >= self.nodes.len() || has_parent[left] || has_parent[left + 1] {
                return fault(
                    node,
                    format!("expected two children of its own after it, found {left} and the next"),
                );
            }
            has_parent[left] = true;
            has_parent[left + 1] = true;
            if let Some(reason) = inner.split.fault(n_features) {
                return fault(node, reason);
            }
        }
        if let Some(node) = has_parent.iter().position(|has| !has) {
            return fault(node, "expected a parent, found none".to_string());
        }
        match self.nodes.iter().position(|node| node.samples == 0) {
            Some(node) => fault(node, "expected at least 1 training row, found 0".to_string()),
            None => Ok(()),
        }
    }
}

/// Orders `rows[range]` so that those that go left come first, and returns where the right ones begin.
fn partition<S: Split>(split: &S, sample: &Sample, rows: &mut [u32], range: &Range<usize>) -> usize {
    let (mut left, mut right) = (range.start, range.end);
    while left < right {
        if split.goes_right(|feature| sample.value(feature, rows[left])) {
            right -= 1;
            rows.swap(left, right);
        } else {
            left += 1;
        }
    }
    left
}
