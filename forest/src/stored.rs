//! The stored form of a forest: columns per tree, as scikit-learn keeps them. It is checked when it is read.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::{Error, Result};
use crate::forest::{IsolationForest, Trees};
use crate::tree::{AxisSplit, Inner, Node, PlaneSplit, Tree};

/// Version of this form. A change of meaning raises it.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct StoredForest {
    format: u32,
    n_features: usize,
    max_samples: usize,
    offset: f64,
    trees: StoredTrees,
}

#[derive(Serialize, Deserialize)]
enum StoredTrees {
    Axis(Vec<StoredAxisTree>),
    Extended(Vec<StoredExtendedTree>),
}

/// `left` is 0 for leaves, whose feature and threshold are 0.
#[derive(Serialize, Deserialize)]
struct StoredAxisTree {
    feature: Vec<u32>,
    threshold: Vec<f32>,
    left: Vec<u32>,
    n_node_samples: Vec<u32>,
}

/// `left` is 0 for leaves; `planes` are those of the inner nodes, in their order.
#[derive(Serialize, Deserialize)]
struct StoredExtendedTree {
    planes: Vec<PlaneSplit>,
    left: Vec<u32>,
    n_node_samples: Vec<u32>,
}

impl Serialize for IsolationForest {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let trees = match self.trees() {
            Trees::Axis(trees) => StoredTrees::Axis(trees.iter().map(store_axis).collect()),
            Trees::Extended(trees) => StoredTrees::Extended(trees.iter().map(store_extended).collect()),
        };
        StoredForest {
            format: FORMAT,
            n_features: self.n_features(),
            max_samples: self.max_samples(),
            offset: self.offset(),
            trees,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for IsolationForest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        load(StoredForest::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

fn load(stored: StoredForest) -> Result<IsolationForest> {
    if stored.format != FORMAT {
        return Err(Error::InvalidForest(format!("format: expected {FORMAT}, found {}", stored.format)));
    }
    let trees = match stored.trees {
        StoredTrees::Axis(trees) => Trees::Axis(load_all(trees, load_axis)?),
        StoredTrees::Extended(trees) => Trees::Extended(load_all(trees, load_extended)?),
    };
    IsolationForest::from_trees(stored.n_features, stored.max_samples, stored.offset, trees)
}

/// `load_one` says what is wrong with a tree.
fn load_all<T, S>(
    trees: Vec<T>,
    load_one: impl Fn(T) -> std::result::Result<Tree<S>, String>,
) -> Result<Vec<Tree<S>>> {
    let load_one =
        |(tree, stored)| load_one(stored).map_err(|reason| Error::InvalidTree { tree, node: 0, reason });
    trees.into_iter().enumerate().map(load_one).collect()
}

fn lefts<S>(tree: &Tree<S>) -> Vec<u32> {
    tree.nodes.iter().map(|node| node.inner.as_ref().map_or(0, |inner| inner.left)).collect()
}

fn samples<S>(tree: &Tree<S>) -> Vec<u32> {
    tree.nodes.iter().map(|node| node.samples).collect()
}

fn store_axis(tree: &Tree<AxisSplit>) -> StoredAxisTree {
    let splits = || tree.nodes.iter().map(|node| node.inner.as_ref().map(|inner| &inner.split));
    StoredAxisTree {
        feature: splits().map(|split| split.map_or(0, |split| split.feature)).collect(),
        threshold: splits().map(|split| split.map_or(0.0, |split| split.threshold)).collect(),
        left: lefts(tree),
        n_node_samples: samples(tree),
    }
}

fn store_extended(tree: &Tree<PlaneSplit>) -> StoredExtendedTree {
    StoredExtendedTree {
        planes: tree.inner_nodes().map(|(_, inner)| inner.split.clone()).collect(),
        left: lefts(tree),
        n_node_samples: samples(tree),
    }
}

fn load_axis(stored: StoredAxisTree) -> std::result::Result<Tree<AxisSplit>, String> {
    let lengths =
        [stored.feature.len(), stored.threshold.len(), stored.left.len(), stored.n_node_samples.len()];
    if lengths.iter().any(|&length| length != lengths[0]) {
        return Err(format!(
            "expected feature, threshold, left and n_node_samples of one length, found {lengths:?}"
        ));
    }
    let splits = stored.feature.into_iter().zip(stored.threshold);
    let nodes =
        splits.zip(stored.left).zip(stored.n_node_samples).map(|(((feature, threshold), left), samples)| {
            let inner = (left != 0).then_some(Inner { split: AxisSplit { feature, threshold }, left });
            Node { samples, inner }
        });
    Ok(Tree { nodes: nodes.collect() })
}

fn load_extended(stored: StoredExtendedTree) -> std::result::Result<Tree<PlaneSplit>, String> {
    let (nodes, counted) = (stored.left.len(), stored.n_node_samples.len());
    let inner_nodes = stored.left.iter().filter(|&&left| left != 0).count();
    if nodes != counted || inner_nodes != stored.planes.len() {
        return Err(format!(
            "expected as many n_node_samples as the {nodes} nodes and a plane for each of {inner_nodes} inner ones, \
             found {counted} and {}",
            stored.planes.len()
        ));
    }
    let mut planes = stored.planes.into_iter();
    let nodes = stored.left.into_iter().zip(stored.n_node_samples).map(|(left, samples)| {
        let split = if left == 0 { None } else { planes.next() };
        Node { samples, inner: split.map(|split| Inner { split, left }) }
    });
    Ok(Tree { nodes: nodes.collect() })
}
