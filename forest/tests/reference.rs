//! The shared reference data: parity with a forest that scikit-learn fitted, and detection on seven labelled sets.

mod support;

use std::path::Path;
use std::process::Command;

use linfa::DatasetBase;
use linfa::traits::Fit;
use linfa_isolation_forest::IsolationForest;
use ndarray::{Array2, s};
use support::data::shared_forest_data;

const SEEDS: std::ops::Range<u64> = 0..10;

fn read_csv(path: &Path) -> Array2<f64> {
    let mut reader = csv::Reader::from_path(path).expect("the set is there");
    let columns = reader.headers().expect("names").len();
    let cells: Vec<f64> = reader
        .records()
        .flat_map(|r| {
            r.expect("a record").iter().map(|x| x.parse::<f64>().expect("a number")).collect::<Vec<_>>()
        })
        .collect();
    Array2::from_shape_vec((cells.len() / columns, columns), cells).expect("whole rows")
}

#[test]
fn the_shared_forest_scores_as_scikit_learn_says() {
    let Some(folder) = shared_forest_data("parity with scikit-learn's shared forest") else { return };
    let json = std::fs::read(folder.join("parity_annthyroid.forest.json")).expect("the forest is there");
    let forest = IsolationForest::from_sklearn_json(&json).expect("it imports");
    assert_eq!((forest.n_estimators(), forest.n_features(), forest.max_samples()), (100, 6, 256));
    assert_eq!(forest.offset(), -0.5);

    let table = read_csv(&folder.join("parity_annthyroid.rows.csv"));
    let rows = table.slice(s![.., ..6]);
    let scores = forest.score_samples(&rows).expect("scores");
    let decisions = forest.decision_function(&rows).expect("decisions");
    let labels = forest.labels(&rows).expect("labels");
    assert_eq!(scores.len(), 425);
    for row in 0..scores.len() {
        assert!((scores[row] - table[(row, 6)]).abs() < 1e-9, "row {row}: {}", scores[row]);
        assert!((decisions[row] - table[(row, 7)]).abs() < 1e-9, "row {row}: {}", decisions[row]);
        assert_eq!(f64::from(labels[row]), table[(row, 8)], "row {row}");
        // The same rows as f32: nothing is lost, for they are compared as f32 anyway.
        let narrow: Vec<f32> = rows.row(row).iter().map(|&x| x as f32).collect();
        assert_eq!(forest.score_row(&narrow).expect("a score"), scores[row]);
    }
}

/// `auroc.py --check` compares the mean over our seeds with scikit-learn's, within three standard errors.
fn check_set(name: &str) {
    let Some(folder) = shared_forest_data(&format!("detection on {name}")) else { return };
    let table = read_csv(&folder.join(format!("{name}.csv")));
    let rows = table.slice(s![.., ..table.ncols() - 1]);
    let scores = tempfile::tempdir().expect("a folder for scores");
    let mut check = Command::new("python3");
    check.arg(folder.join("auroc.py")).arg("--check").arg(folder.join("reference_sklearn.csv")).arg(name);
    for seed in SEEDS {
        let params = IsolationForest::params().n_estimators(100).max_samples(256_usize).seed(seed);
        let forest = params.fit(&DatasetBase::from(rows)).expect("fitted");
        let lines: Vec<String> =
            forest.score_samples(&rows).expect("scores").iter().map(|score| (-score).to_string()).collect();
        let path = scores.path().join(format!("{seed}.txt"));
        std::fs::write(&path, lines.join("\n")).expect("written");
        check.arg(path);
    }
    let output = check.output().expect("python3 starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.matches(" ok").count(), 2, "AUROC and average precision of {name}: {said}");
}

macro_rules! labelled_sets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            check_set(stringify!($name));
        })*
    };
}

labelled_sets! { annthyroid thyroid mammography satellite breastw pima wilt }
