//! Forests that scikit-learn fitted, from plain JSON (the README has the Python that writes it).

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::forest::{IsolationForest, Trees};
use crate::number::floor_f32;
use crate::tree::{AxisSplit, Inner, Node, Tree};

#[derive(Deserialize)]
struct SklearnForest {
    n_features: usize,
    max_samples: usize,
    offset: f64,
    n_estimators: Option<usize>,
    trees: Vec<SklearnTree>,
}

/// The arrays of scikit-learn's `tree_`; −1 as left child marks a leaf.
#[derive(Deserialize)]
struct SklearnTree {
    feature: Vec<i64>,
    threshold: Vec<f64>,
    left: Vec<i64>,
    right: Vec<i64>,
    n_node_samples: Vec<u32>,
}

impl IsolationForest {
    /// A forest that scikit-learn fitted. `score_samples`, `decision_function` and labels equal its own to
    /// about 1e-15: thresholds are rounded *down* to `f32`, which changes no comparison with an `f32` row.
    ///
    /// The JSON has `n_features`, `max_samples`, `offset` and `trees`, each with `feature`, `threshold`, `left`,
    /// `right` (−1 at leaves) and `n_node_samples`; other keys are skipped. `feature` counts all features, also
    /// when the trees saw a part of them.
    ///
    /// # Errors
    /// [`Error::Json`], [`Error::InvalidForest`], [`Error::InvalidTree`].
    pub fn from_sklearn_json(json: &[u8]) -> Result<Self> {
        let forest: SklearnForest = serde_json::from_slice(json)?;
        if let Some(n_estimators) = forest.n_estimators.filter(|&n| n != forest.trees.len()) {
            let found = forest.trees.len();
            return Err(Error::InvalidForest(format!("trees: expected {n_estimators}, found {found}")));
        }
        let trees =
            forest.trees.iter().enumerate().map(|(i, tree)| tree.renumber(i)).collect::<Result<_>>()?;
        Self::from_trees(forest.n_features, forest.max_samples, forest.offset, Trees::Axis(trees))
    }
}

impl SklearnTree {
    /// Our order of nodes: level by level, siblings side by side.
    fn renumber(&self, tree: usize) -> Result<Tree<AxisSplit>> {
        let fault = |node: usize, reason: String| Error::InvalidTree { tree, node, reason };
        let lengths = [&self.left, &self.right, &self.feature].map(Vec::len);
        let lengths = [lengths[0], lengths[1], lengths[2], self.threshold.len(), self.n_node_samples.len()];
        if lengths.iter().any(|&length| length != lengths[0]) {
            let names = "left, right, feature, threshold and n_node_samples";
            return Err(fault(0, format!("expected {names} of one length, found {lengths:?}")));
        }
        if lengths[0] == 0 {
            return Err(fault(0, "expected at least a root, found no node".to_string()));
        }
        let mut order = vec![0_usize];
        let mut has_parent = vec![false; lengths[0]];
        has_parent[0] = true;
        let mut nodes = Vec::with_capacity(lengths[0]);
        while let Some(&node) = order.get(nodes.len()) {
            let left = order.len() as u32;
            let split = self.split(node).map_err(|reason| fault(node, reason))?;
            if split.is_some() {
                for child in self.children(node).map_err(|reason| fault(node, reason))? {
                    if std::mem::replace(&mut has_parent[child], true) {
                        return Err(fault(child, "expected one parent, found a second".to_string()));
                    }
                    order.push(child);
                }
            }
            let inner = split.map(|split| Inner { split, left });
            nodes.push(Node { samples: self.n_node_samples[node], inner });
        }
        match has_parent.iter().position(|has| !has) {
            Some(node) => Err(fault(node, "expected a parent, found none".to_string())),
            None => Ok(Tree { nodes }),
        }
    }

    fn children(&self, node: usize) -> std::result::Result<[usize; 2], String> {
        let child = |index: i64| {
            usize::try_from(index)
                .ok()
                .filter(|&child| child < self.left.len())
                .ok_or_else(|| format!("expected a child below {}, found {index}", self.left.len()))
        };
        Ok([child(self.left[node])?, child(self.right[node])?])
    }

    /// `None` for a leaf.
    fn split(&self, node: usize) -> std::result::Result<Option<AxisSplit>, String> {
        if self.left[node] == -1 {
            return Ok(None);
        }
        let (feature, threshold) = (self.feature[node], self.threshold[node]);
        let feature =
            u32::try_from(feature).map_err(|_| format!("expected a feature from 0, found {feature}"))?;
        if threshold.is_nan() {
            return Err("expected a number as threshold, found NaN".to_string());
        }
        Ok(Some(AxisSplit { feature, threshold: floor_f32(threshold) }))
    }
}
