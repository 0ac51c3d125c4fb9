//! What must hold for all forests: random trees against a naive recursive scorer, random data, stored bytes that
//! were tampered with.

mod support;

use linfa::DatasetBase;
use linfa::traits::Fit;
use linfa_isolation_forest::IsolationForest;
use ndarray::{Array2, Axis};
use proptest::prelude::*;
use serde_json::{Value, json};
use support::data::stream_like;

/// A tree as one would draw it: a leaf with its rows, or a comparison and two trees.
#[derive(Clone, Debug)]
enum Drawn {
    Leaf(u32),
    Inner(usize, f64, Box<Drawn>, Box<Drawn>),
}

impl Drawn {
    fn samples(&self) -> u32 {
        match self {
            Self::Leaf(samples) => *samples,
            Self::Inner(_, _, left, right) => left.samples() + right.samples(),
        }
    }

    /// The naive scorer: depth of the row's leaf and what its rows add, with c(n) as the paper has it.
    fn path_length(&self, row: &[f64], depth: u32) -> f64 {
        match self {
            Self::Leaf(samples) => f64::from(depth) + unsuccessful_search(*samples),
            Self::Inner(feature, threshold, left, right) => {
                let goes_left = f64::from(row[*feature] as f32) <= *threshold;
                let child = if goes_left { left } else { right };
                child.path_length(row, depth + 1)
            }
        }
    }

    /// scikit-learn's arrays, in scikit-learn's order (depth first) or with the children the other way round.
    fn arrays(&self, mirrored: bool) -> Value {
        let mut arrays = Arrays::default();
        arrays.add(self, mirrored);
        json!({
            "feature": arrays.feature, "threshold": arrays.threshold, "left": arrays.left,
            "right": arrays.right, "n_node_samples": arrays.samples,
        })
    }
}

fn unsuccessful_search(n: u32) -> f64 {
    if n <= 1 {
        return 0.0;
    }
    if n == 2 {
        return 1.0;
    }
    let n = f64::from(n);
    2.0 * (f64::ln(n - 1.0) + 0.577_215_664_9) - 2.0 * (n - 1.0) / n
}

#[derive(Default)]
struct Arrays {
    feature: Vec<i64>,
    threshold: Vec<f64>,
    left: Vec<i64>,
    right: Vec<i64>,
    samples: Vec<u32>,
}

impl Arrays {
    fn add(&mut self, tree: &Drawn, mirrored: bool) -> i64 {
        let node = self.feature.len();
        self.feature.push(-2);
        self.threshold.push(-2.0);
        self.left.push(-1);
        self.right.push(-1);
        self.samples.push(tree.samples());
        if let Drawn::Inner(feature, threshold, left, right) = tree {
            self.feature[node] = *feature as i64;
            self.threshold[node] = *threshold;
            if mirrored {
                self.right[node] = self.add(right, mirrored);
                self.left[node] = self.add(left, mirrored);
            } else {
                self.left[node] = self.add(left, mirrored);
                self.right[node] = self.add(right, mirrored);
            }
        }
        node as i64
    }
}

const FEATURES: usize = 4;

/// Numbers that often meet: quarters, so that rows lie on thresholds, and any others.
fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        (-12_i32..12).prop_map(|quarters| f64::from(quarters) / 4.0),
        -4.0..4.0_f64,
        Just(-0.0),
        -1e30..1e30_f64,
    ]
}

fn drawn_tree() -> impl Strategy<Value = Drawn> {
    let leaf = (1_u32..400).prop_map(Drawn::Leaf);
    leaf.prop_recursive(9, 120, 2, |below| {
        (0..FEATURES, number(), below.clone(), below).prop_map(|(feature, threshold, left, right)| {
            Drawn::Inner(feature, threshold, left.into(), right.into())
        })
    })
}

fn rows_of(width: usize) -> impl Strategy<Value = Array2<f64>> {
    prop::collection::vec(number(), width..=width * 40).prop_map(move |mut cells| {
        cells.truncate(cells.len() / width * width);
        Array2::from_shape_vec((cells.len() / width, width), cells).expect("whole rows")
    })
}

/// Rows to fit on: at least two, of one to six features, equal values often among them.
fn training_rows() -> impl Strategy<Value = Array2<f64>> {
    (1_usize..6, 2_usize..60).prop_flat_map(|(width, rows)| {
        prop::collection::vec(number(), width * rows)
            .prop_map(move |cells| Array2::from_shape_vec((rows, width), cells).expect("whole rows"))
    })
}

fn import(forest: &Value) -> IsolationForest {
    IsolationForest::from_sklearn_json(&serde_json::to_vec(forest).expect("JSON")).expect("it imports")
}

fn fit(rows: &Array2<f64>, level: usize, seed: u64) -> IsolationForest {
    let level = level.min(rows.ncols() - 1);
    let params = IsolationForest::params().n_estimators(13).extension_level(level).seed(seed);
    params.fit(&DatasetBase::from(rows.clone())).expect("fitted")
}

proptest! {
    #[test]
    fn random_trees_score_as_the_naive_scorer_says(
        trees in prop::collection::vec(drawn_tree(), 1..20),
        rows in rows_of(FEATURES),
        max_samples in 2_u32..1000,
        mirrored: bool,
    ) {
        let arrays: Vec<Value> = trees.iter().map(|tree| tree.arrays(mirrored)).collect();
        let forest = import(&json!({
            "n_features": FEATURES, "max_samples": max_samples, "offset": -0.5, "trees": arrays,
        }));
        let scores = forest.score_samples(&rows).expect("scores");
        for (row, &score) in rows.outer_iter().zip(&scores) {
            let row = row.to_vec();
            let path: f64 = trees.iter().map(|tree| tree.path_length(&row, 0)).sum::<f64>() / trees.len() as f64;
            let expected = -f64::powf(2.0, -path / unsuccessful_search(max_samples));
            prop_assert!((score - expected).abs() < 1e-9, "{score} for {expected}");
            prop_assert_eq!(score.to_bits(), forest.score_row(&row).expect("a score").to_bits());
        }
    }

    #[test]
    fn scores_lie_between_minus_one_and_zero(
        rows in training_rows(), level in 0_usize..6, seed: u64, strange in -3e38..3e38_f64,
    ) {
        let forest = fit(&rows, level, seed);
        let mut asked = rows.clone();
        asked.column_mut(0).fill(strange);
        for rows in [&rows, &asked] {
            for &score in &forest.score_samples(rows).expect("scores") {
                prop_assert!(-1.0 < score && score < 0.0, "{}", score);
            }
        }
    }

    /// Renaming the features of a forest and of the rows alike changes nothing.
    #[test]
    fn features_may_be_permuted(
        rows in training_rows(), seed: u64, order in Just((0..6).collect::<Vec<usize>>()).prop_shuffle(),
    ) {
        let width = rows.ncols();
        let order: Vec<usize> = order.into_iter().filter(|&feature| feature < width).collect();
        let forest = fit(&rows, 0, seed);
        let mut stored = serde_json::to_value(&forest).expect("stored");
        for tree in stored["trees"]["Axis"].as_array_mut().expect("trees") {
            for feature in tree["feature"].as_array_mut().expect("features") {
                let old = feature.as_u64().expect("a feature") as usize;
                *feature = json!(order.iter().position(|&other| other == old));
            }
        }
        let permuted: IsolationForest = serde_json::from_value(stored).expect("loaded");
        let there = permuted.score_samples(&rows.select(Axis(1), &order)).expect("scores");
        prop_assert_eq!(forest.score_samples(&rows).expect("scores"), there);
    }

    /// A feature's unit does not matter, to the last bit where the change of unit is exact.
    #[test]
    fn units_do_not_matter(rows in training_rows(), level in 0_usize..6, seed: u64, power in -20_i32..20) {
        let rows = rows.mapv(|x| f64::from((x as f32).clamp(-1e6, 1e6)));
        // Below this, a change of unit would round.
        let rows = rows.mapv(|x| if x.abs() < 1e-6 { 0.0 } else { x });
        let mut scaled = rows.clone();
        scaled.column_mut(0).mapv_inplace(|x| x * f64::powi(2.0, power));
        let here = fit(&rows, level, seed).score_samples(&rows).expect("scores");
        let there = fit(&scaled, level, seed).score_samples(&scaled).expect("scores");
        prop_assert_eq!(here, there);
    }

    #[test]
    fn a_stored_forest_comes_back_as_it_was(rows in training_rows(), level in 0_usize..6, seed: u64) {
        let forest = fit(&rows, level, seed);
        let json = serde_json::to_vec(&forest).expect("stored");
        let back: IsolationForest = serde_json::from_slice(&json).expect("loaded");
        prop_assert_eq!(&forest, &back);
        prop_assert_eq!(forest.score_samples(&rows).expect("scores"), back.score_samples(&rows).expect("scores"));
        prop_assert_eq!(json, serde_json::to_vec(&back).expect("stored again"));
    }

    /// Whatever is changed in a stored forest, it is refused, or scores as a forest does.
    #[test]
    fn a_tampered_forest_is_refused_or_harmless(
        level in 0_usize..2, tree in 0_usize..3, column in 0_usize..4, at in any::<prop::sample::Index>(),
        number in prop_oneof![0_u64..40, any::<u32>().prop_map(u64::from)], cut: bool,
    ) {
        let rows = stream_like(40, 1);
        let params = IsolationForest::params().n_estimators(3).extension_level(level);
        let forest = params.fit(&DatasetBase::from(rows.clone())).expect("fitted");
        let mut stored = serde_json::to_value(&forest).expect("stored");
        let (kind, columns): (_, [_; 4]) = if level == 0 {
            ("Axis", ["left", "n_node_samples", "feature", "threshold"])
        } else {
            ("Extended", ["left", "n_node_samples", "planes", "left"])
        };
        let cells = stored["trees"][kind][tree][columns[column]].as_array_mut().expect("a column");
        let at = at.index(cells.len());
        if cut {
            cells.truncate(at);
        } else if columns[column] == "planes" {
            cells[at]["features"][0] = json!(number);
        } else {
            cells[at] = json!(number);
        }
        if let Ok(forest) = serde_json::from_value::<IsolationForest>(stored) {
            for &score in &forest.score_samples(&rows).expect("scores") {
                prop_assert!((-1.0..=0.0).contains(&score));
            }
            forest.explain(&rows.row(0).to_vec()).expect("explained");
            forest.export_onnx().expect("exported");
        }
    }

    /// The same for an import, where children may lie anywhere.
    #[test]
    fn a_tampered_import_is_refused_or_harmless(
        tree in drawn_tree(), column in 0_usize..5, at in any::<prop::sample::Index>(), number in -3_i64..130,
    ) {
        let mut arrays = tree.arrays(false);
        let column = ["left", "right", "n_node_samples", "feature", "threshold"][column];
        let cells = arrays[column].as_array_mut().expect("a column");
        let at = at.index(cells.len());
        cells[at] = json!(number);
        let forest = json!({"n_features": FEATURES, "max_samples": 256, "offset": -0.5, "trees": [arrays]});
        if let Ok(forest) = IsolationForest::from_sklearn_json(&serde_json::to_vec(&forest).expect("JSON")) {
            let score = forest.score_row(&[0.5_f64; FEATURES]).expect("a score");
            prop_assert!((-1.0..=0.0).contains(&score));
        }
    }
}

/// Fitting on permuted columns draws other trees, so scores agree as far as two large forests do.
#[test]
fn fitting_on_permuted_features_changes_no_more_than_chance_does() {
    let rows = stream_like(1000, 12);
    let score = |rows: &Array2<f64>, seed| {
        let params = IsolationForest::params().n_estimators(2000).seed(seed);
        let forest = params.fit(&DatasetBase::from(rows.clone())).expect("fitted");
        forest.score_samples(rows).expect("scores")
    };
    let here = score(&rows, 1);
    let permuted = score(&rows.select(Axis(1), &[3, 0, 4, 2, 1]), 1);
    let largest = here.iter().zip(&permuted).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(largest < 0.02, "largest difference {largest}");
}

/// More features and deeper trees than the compact nodes can count.
#[test]
fn wide_and_deep_forests_score_as_the_naive_scorer_says() {
    let features = 70_000;
    let wide = Drawn::Inner(features - 1, 0.5, Drawn::Leaf(3).into(), Drawn::Leaf(5).into());
    // A chain of 40,000 splits has 80,001 nodes, and is too deep to recurse into.
    let links = 40_000_usize;
    let nodes = 2 * links + 1;
    let is_link = |node: usize| node.is_multiple_of(2) && node + 1 < nodes;
    let column = |of_link: &dyn Fn(usize) -> Value, of_leaf: Value| -> Vec<Value> {
        (0..nodes).map(|node| if is_link(node) { of_link(node) } else { of_leaf.clone() }).collect()
    };
    let chain = json!({
        "feature": column(&|_| json!(7), json!(-2)),
        "threshold": column(&|node| json!(node as f64 / 2.0), json!(-2.0)),
        "left": column(&|node| json!(node + 1), json!(-1)),
        "right": column(&|node| json!(node + 2), json!(-1)),
        "n_node_samples": vec![1; nodes],
    });
    let forest = import(&json!({
        "n_features": features, "max_samples": 80_001, "offset": -0.5, "trees": [wide.arrays(false), chain],
    }));
    let mut rows = Array2::<f64>::zeros((9, features));
    for row in 0..9 {
        rows[(row, 7)] = row as f64 * 1000.0 - 0.5;
        rows[(row, features - 1)] = (row % 2) as f64;
    }
    rows[(8, 7)] = 1e9;
    let scores = forest.score_samples(&rows).expect("scores");
    for row in 0..9 {
        let in_wide = 1.0 + if row % 2 == 0 { unsuccessful_search(3) } else { unsuccessful_search(5) };
        let steps = (row as f64 * 1000.0 + 1.0).min(if row == 8 { links as f64 } else { f64::INFINITY });
        let path = (in_wide + if row == 8 { links as f64 } else { steps }) / 2.0;
        let expected = -f64::powf(2.0, -path / unsuccessful_search(80_001));
        assert!((scores[row] - expected).abs() < 1e-9, "row {row}: {} for {expected}", scores[row]);
        assert_eq!(forest.score_row(&rows.row(row).to_vec()).expect("a score"), scores[row]);
    }
    forest.explain(&rows.row(1).to_vec()).expect("explained without a stack overflow");
}

/// What an import says of JSON that it cannot take.
#[test]
fn bad_imports_are_refused_by_name() {
    let leaf =
        json!({"feature": [-2], "threshold": [-2.0], "left": [-1], "right": [-1], "n_node_samples": [9]});
    let good = json!({"n_features": 2, "max_samples": 256, "offset": -0.5, "trees": [leaf]});
    import(&good);
    let refusal = |change: &dyn Fn(&mut Value)| {
        let mut forest = good.clone();
        change(&mut forest);
        let json = serde_json::to_vec(&forest).expect("JSON");
        IsolationForest::from_sklearn_json(&json).expect_err("refused").to_string()
    };
    let split = json!({
        "feature": [2, -2, -2], "threshold": [0.0, -2.0, -2.0], "left": [1, -1, -1], "right": [2, -1, -1],
        "n_node_samples": [9, 4, 5],
    });
    for (change, expected) in [
        (json!({"n_features": 0}), "forest: n_features: expected at least 1, found 0"),
        (json!({"max_samples": 1}), "forest: max_samples: expected at least 2, found 1"),
        (json!({"n_estimators": 2}), "forest: trees: expected 2, found 1"),
        (json!({"trees": []}), "forest: trees: expected at least 1, found none"),
        (json!({"trees": [split]}), "forest: tree 0, node 0: expected a feature below 2, found 2"),
    ] {
        let merge = |forest: &mut Value| {
            for (key, value) in change.as_object().expect("an object") {
                forest[key] = value.clone();
            }
        };
        assert_eq!(refusal(&merge), expected);
    }
    let split = &split;
    let tree = |change: Value| {
        refusal(&move |forest: &mut Value| {
            forest["trees"][0] = split.clone();
            forest["trees"][0]["feature"][0] = json!(0);
            for (key, value) in change.as_object().expect("an object") {
                forest["trees"][0][key] = value.clone();
            }
        })
    };
    let at = "forest: tree 0, node";
    assert_eq!(tree(json!({"left": [0, -1, -1]})), format!("{at} 0: expected one parent, found a second"));
    assert_eq!(tree(json!({"left": [7, -1, -1]})), format!("{at} 0: expected a child below 3, found 7"));
    assert_eq!(tree(json!({"left": [-1, -1, -1]})), format!("{at} 1: expected a parent, found none"));
    assert_eq!(
        tree(json!({"n_node_samples": [9, 0, 9]})),
        format!("{at} 1: expected at least 1 training row, found 0")
    );
    assert!(IsolationForest::from_sklearn_json(b"{").is_err());
    assert!(IsolationForest::from_sklearn_json(b"").is_err());
}

/// Checked parameters cannot be had unchecked through a file.
#[test]
fn stored_parameters_are_checked() {
    use linfa::ParamGuard;
    use linfa_isolation_forest::IsolationForestValidParams;
    let valid = IsolationForest::params().contamination(0.1).check().expect("valid");
    let mut stored = serde_json::to_value(&valid).expect("stored");
    assert_eq!(serde_json::from_value::<IsolationForestValidParams>(stored.clone()).expect("loaded"), valid);
    stored["n_estimators"] = json!(0);
    let error = serde_json::from_value::<IsolationForestValidParams>(stored).expect_err("refused");
    assert_eq!(error.to_string(), "n_estimators: expected at least 1 tree, found 0");
}
