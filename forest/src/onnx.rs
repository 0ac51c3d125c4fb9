//! Export as an ONNX graph with skl2onnx' output names.
//!
//! ```text
//! X ──────────────────────────► TreeEnsembleRegressor ─► Mul ─► Exp ─► Neg ─► Sub ─► scores ─► Less ─► Where ─► label
//!  └► Cast ► MatMul ► Sub ► Cast ─┘ (extended trees only)   −ln 2 / scale       offset           −1 | 1
//! ```

mod proto;

use prost::Message;

use crate::error::{Error, Result};
use crate::forest::{IsolationForest, Trees};
use crate::tree::{PlaneSplit, Split, Tree};
use proto::{Attribute, Graph, Model, Node, OperatorSet, Tensor, ValueInfo};

/// Versions of format and operators: those that onnxruntime 1.15 and later read.
const IR_VERSION: i64 = 8;
const OPSET: i64 = 17;
const OPSET_ML: i64 = 3;
const DOMAIN_ML: &str = "ai.onnx.ml";

/// Protocol buffers cannot be larger.
const BYTES_MAX: usize = i32::MAX as usize;

impl IsolationForest {
    /// The forest as an ONNX model: input `X` (float, rows × features), outputs `label` (int64, −1 for
    /// outliers, else 1) and `scores` (float, the decision function), each rows × 1, as skl2onnx has them.
    /// onnxruntime's scores differ from ours by the rounding of `f32` alone (about 1e-7).
    ///
    /// Extended forests become one matrix product whose result, rows × all inner nodes of the forest, the
    /// runtime holds in memory: score those in batches of some hundred rows.
    ///
    /// Equal forests give equal bytes.
    ///
    /// # Errors
    /// [`Error::OnnxTooLarge`].
    pub fn export_onnx(&self) -> Result<Vec<u8>> {
        let mut graph = Graph { name: "isolation_forest".to_string(), ..Graph::default() };
        graph.input.push(ValueInfo::matrix("X", proto::FLOAT, self.n_features() as i64));
        match self.trees() {
            Trees::Axis(trees) => {
                let ensemble = Ensemble::new(trees, |_, split| (i64::from(split.feature), split.threshold));
                graph.node.push(ensemble.into_node("X"));
            }
            Trees::Extended(trees) => {
                add_planes(&mut graph, trees, self.n_features());
                let ensemble = Ensemble::new(trees, |plane, _| (plane, 0.0));
                graph.node.push(ensemble.into_node("distances"));
            }
        }
        add_scores(&mut graph, -std::f64::consts::LN_2 / self.path_sum_scale(), self.offset());
        let model = Model {
            ir_version: IR_VERSION,
            producer_name: env!("CARGO_PKG_NAME").to_string(),
            producer_version: env!("CARGO_PKG_VERSION").to_string(),
            graph: Some(graph),
            opset_import: vec![
                OperatorSet { domain: String::new(), version: OPSET },
                OperatorSet { domain: DOMAIN_ML.to_string(), version: OPSET_ML },
            ],
        };
        match model.encoded_len() {
            bytes if bytes > BYTES_MAX => Err(Error::OnnxTooLarge(bytes)),
            _ => Ok(model.encode_to_vec()),
        }
    }
}

/// `distances`: each row's signed distance from each plane of the forest, in the order of the nodes.
fn add_planes(graph: &mut Graph, trees: &[Tree<PlaneSplit>], n_features: usize) {
    let planes = || trees.iter().flat_map(|tree| tree.inner_nodes().map(|(_, inner)| &inner.split));
    let count = planes().count();
    let mut normals = vec![0.0; n_features * count];
    for (column, plane) in planes().enumerate() {
        for (&feature, &weight) in plane.features.iter().zip(&plane.normal) {
            normals[feature as usize * count + column] = f64::from(weight);
        }
    }
    let intercepts = planes().map(PlaneSplit::intercept).collect();
    graph.initializer.push(Tensor::doubles("normals", &[n_features as i64, count as i64], normals));
    graph.initializer.push(Tensor::doubles("intercepts", &[count as i64], intercepts));
    graph.node.extend([
        Node::new("Cast", &["X"], "wide").with(Attribute::int("to", proto::DOUBLE.into())),
        Node::new("MatMul", &["wide", "normals"], "projections"),
        Node::new("Sub", &["projections", "intercepts"], "wide_distances"),
        Node::new("Cast", &["wide_distances"], "distances").with(Attribute::int("to", proto::FLOAT.into())),
    ]);
}

/// From the sum of path lengths to the two outputs.
fn add_scores(graph: &mut Graph, exponent: f64, offset: f64) {
    graph.initializer.extend([
        Tensor::float("exponent", exponent as f32),
        Tensor::float("offset", offset as f32),
        Tensor::float("zero", 0.0),
        Tensor::int("outlier", -1),
        Tensor::int("inlier", 1),
    ]);
    graph.node.extend([
        Node::new("Mul", &["path_lengths", "exponent"], "log_score"),
        Node::new("Exp", &["log_score"], "anomaly_score"),
        Node::new("Neg", &["anomaly_score"], "score_samples"),
        Node::new("Sub", &["score_samples", "offset"], "scores"),
        Node::new("Less", &["scores", "zero"], "is_outlier"),
        Node::new("Where", &["is_outlier", "outlier", "inlier"], "label"),
    ]);
    graph.output.push(ValueInfo::matrix("label", proto::INT64, 1));
    graph.output.push(ValueInfo::matrix("scores", proto::FLOAT, 1));
}

/// The columns of a `TreeEnsembleRegressor`.
#[derive(Default)]
struct Ensemble {
    tree_ids: Vec<i64>,
    node_ids: Vec<i64>,
    feature_ids: Vec<i64>,
    modes: Vec<&'static str>,
    thresholds: Vec<f32>,
    true_ids: Vec<i64>,
    false_ids: Vec<i64>,
    leaf_tree_ids: Vec<i64>,
    leaf_node_ids: Vec<i64>,
    leaf_weights: Vec<f32>,
}

impl Ensemble {
    /// `compare` gives the feature and threshold of an inner node, told its number in the forest.
    fn new<S: Split>(trees: &[Tree<S>], compare: impl Fn(i64, &S) -> (i64, f32)) -> Self {
        let mut ensemble = Self::default();
        let mut inner_nodes = 0;
        for (tree_id, tree) in (0..).zip(trees) {
            for ((node_id, node), path) in (0..).zip(&tree.nodes).zip(tree.path_lengths()) {
                ensemble.tree_ids.push(tree_id);
                ensemble.node_ids.push(node_id);
                let (mode, feature, threshold, left) = match &node.inner {
                    Some(inner) => {
                        let (feature, threshold) = compare(inner_nodes, &inner.split);
                        inner_nodes += 1;
                        ("BRANCH_LEQ", feature, threshold, i64::from(inner.left))
                    }
                    None => {
                        ensemble.leaf_tree_ids.push(tree_id);
                        ensemble.leaf_node_ids.push(node_id);
                        ensemble.leaf_weights.push(path as f32);
                        ("LEAF", 0, 0.0, 0)
                    }
                };
                ensemble.modes.push(mode);
                ensemble.feature_ids.push(feature);
                ensemble.thresholds.push(threshold);
                ensemble.true_ids.push(left);
                ensemble.false_ids.push(if left == 0 { 0 } else { left + 1 });
            }
        }
        ensemble
    }

    fn into_node(self, input: &str) -> Node {
        let leaves = self.leaf_weights.len();
        let mut node = Node::new("TreeEnsembleRegressor", &[input], "path_lengths")
            .with(Attribute::string("aggregate_function", "SUM"))
            .with(Attribute::string("post_transform", "NONE"))
            .with(Attribute::int("n_targets", 1))
            .with(Attribute::ints("nodes_treeids", self.tree_ids))
            .with(Attribute::ints("nodes_nodeids", self.node_ids))
            .with(Attribute::ints("nodes_featureids", self.feature_ids))
            .with(Attribute::strings("nodes_modes", &self.modes))
            .with(Attribute::floats("nodes_values", self.thresholds))
            .with(Attribute::ints("nodes_truenodeids", self.true_ids))
            .with(Attribute::ints("nodes_falsenodeids", self.false_ids))
            .with(Attribute::ints("target_treeids", self.leaf_tree_ids))
            .with(Attribute::ints("target_nodeids", self.leaf_node_ids))
            .with(Attribute::ints("target_ids", vec![0; leaves]))
            .with(Attribute::floats("target_weights", self.leaf_weights));
        node.domain = DOMAIN_ML.to_string();
        node
    }
}
