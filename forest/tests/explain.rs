//! Explanations against Shapley's definition, and on data whose guilty feature is known.

mod support;

use linfa::DatasetBase;
use linfa::traits::Fit;
use linfa_isolation_forest::IsolationForest;
use ndarray::{Array1, Array2};
use serde_json::Value;
use support::data::{Lcg, cloud, stream_like};

/// Expected path length of a row of which only the features of `known` are known, by the stored tree.
fn expected_path(tree: &Value, node: usize, depth: f64, row: &[f64], known: u32) -> f64 {
    let number = |name: &str, node: usize| tree[name][node].as_f64().expect("a number");
    let samples = number("n_node_samples", node);
    let left = number("left", node) as usize;
    if left == 0 {
        let harmonic = (samples - 1.0).max(0.5).ln() + 0.577_215_664_901_532_9;
        return depth
            + match samples as u32 {
                1 => 0.0,
                2 => 1.0,
                _ => 2.0 * harmonic - 2.0 * (samples - 1.0) / samples,
            };
    }
    let feature = number("feature", node) as usize;
    let child = |child: usize| expected_path(tree, child, depth + 1.0, row, known);
    if known >> feature & 1 == 1 {
        return child(if f64::from(row[feature] as f32) <= number("threshold", node) {
            left
        } else {
            left + 1
        });
    }
    let (a, b) = (number("n_node_samples", left), number("n_node_samples", left + 1));
    (a * child(left) + b * child(left + 1)) / (a + b)
}

/// Shapley's definition, over all coalitions.
fn shapley_by_definition(forest: &IsolationForest, row: &[f64]) -> Vec<f64> {
    let stored = serde_json::to_value(forest).expect("stored");
    let trees = stored["trees"]["Axis"].as_array().expect("axis-parallel trees");
    let features = row.len();
    let value: Vec<f64> = (0..1_u32 << features)
        .map(|known| trees.iter().map(|tree| expected_path(tree, 0, 0.0, row, known)).sum())
        .collect();
    let factorial = |n: usize| (1..=n).map(|i| i as f64).product::<f64>();
    let gain = |feature: usize| {
        (0..1_u32 << features)
            .filter(|known| known >> feature & 1 == 0)
            .map(|known| {
                let size = known.count_ones() as usize;
                let weight = factorial(size) * factorial(features - size - 1) / factorial(features);
                weight * (value[(known | 1 << feature) as usize] - value[known as usize])
            })
            .sum()
    };
    (0..features).map(gain).collect()
}

#[test]
fn contributions_are_shapley_values() {
    let rows = stream_like(600, 1);
    let params = IsolationForest::params().n_estimators(15).max_samples(128_usize);
    let forest = params.fit(&DatasetBase::from(rows.clone())).expect("fitted");
    let scale = 15.0 * linfa_isolation_forest::average_path_length(128);
    let mut random = Lcg::new(2);
    for _ in 0..20 {
        let mut row = rows.row(random.below(600)).to_vec();
        row[random.below(5)] *= 3.0;
        let ours = forest.explain(&row).expect("explained").contributions;
        let theirs = shapley_by_definition(&forest, &row);
        for feature in 0..5 {
            let expected = -theirs[feature] / scale;
            assert!((ours[feature] - expected).abs() < 1e-10, "{feature}: {} for {expected}", ours[feature]);
        }
    }
}

#[test]
fn contributions_add_up_to_the_score() {
    let rows = stream_like(2000, 3);
    for level in [0, 1, 4] {
        let params = IsolationForest::params().extension_level(level);
        let forest = params.fit(&DatasetBase::from(rows.clone())).expect("fitted");
        for row in rows.outer_iter().take(25) {
            let row = row.to_vec();
            let explanation = forest.explain(&row).expect("explained");
            assert_eq!(explanation.score, forest.score_row(&row).expect("scored"));
            let whole = (explanation.score / explanation.baseline).log2();
            assert!((explanation.contributions.sum() - whole).abs() < 1e-9, "level {level}");
        }
    }
}

#[test]
fn the_guilty_feature_has_the_largest_share() {
    let (rows, _) = cloud(2000, 0, 5, 4);
    for level in [0, 1, 4] {
        let params = IsolationForest::params().extension_level(level);
        let forest = params.fit(&DatasetBase::from(rows.clone())).expect("fitted");
        let mut found = 0;
        for guilty in 0..5 {
            for side in [-6.0, 6.0] {
                let mut row = rows.row(guilty).to_vec();
                row[guilty] = side;
                let shares = forest.explain(&row).expect("explained").shares();
                assert!((shares.sum() - 1.0).abs() < 1e-12);
                let largest = (0..5).max_by(|&a, &b| shares[a].total_cmp(&shares[b])).expect("five features");
                found += u32::from(largest == guilty && shares[guilty] > 0.4);
            }
        }
        assert_eq!(found, 10, "of ten guilty features at level {level}");
    }
}

#[test]
fn two_guilty_features_share_and_innocent_ones_do_not() {
    let (rows, _) = cloud(2000, 0, 6, 5);
    let forest = IsolationForest::params().n_estimators(200).fit(&DatasetBase::from(rows)).expect("fitted");
    let shares = forest.explain(&[0.0, 7.0, 0.0, 0.0, -7.0, 0.0]).expect("explained").shares();
    assert!(shares[1] > 0.35 && shares[4] > 0.35, "{shares}");
    assert!(shares[0] + shares[2] + shares[3] + shares[5] < 0.2, "{shares}");
}

#[test]
fn a_constant_feature_has_no_share() {
    let mut rows = stream_like(500, 6);
    rows.column_mut(2).fill(7.0);
    for level in [0, 3] {
        let params = IsolationForest::params().extension_level(level);
        let forest = params.fit(&DatasetBase::from(rows.clone())).expect("fitted");
        let explanation = forest.explain(&[5000.0, 0.03, 900.0, 5.0, 12.0]).expect("explained");
        assert_eq!(explanation.contributions[2], 0.0, "level {level}");
    }
}

#[test]
fn where_nothing_differs_nothing_is_guilty() {
    let forest =
        IsolationForest::params().fit(&DatasetBase::from(Array2::from_elem((20, 3), 1.0))).expect("fitted");
    let explanation = forest.explain(&[9.0, 9.0, 9.0]).expect("explained");
    assert_eq!(explanation.shares(), Array1::<f64>::zeros(3));
    assert_eq!(explanation.score, explanation.baseline);
}
