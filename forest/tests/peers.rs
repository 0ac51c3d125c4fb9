//! The real Python packages as oracles: onnxruntime for the export, scikit-learn for the import.

mod support;

use std::path::Path;

use linfa::DatasetBase;
use linfa::traits::Fit;
use linfa_isolation_forest::{IsolationForest, IsolationForestParams};
use ndarray::{Array2, s};
use serde_json::{Value, json};
use support::data::{cloud, shared_forest_data, stream_like};
use support::python;

/// f64 to 1e-9 is what an import promises, f32 to 1e-5 what an export does.
const IMPORT_TOLERANCE: f64 = 1e-9;
const EXPORT_TOLERANCE: f64 = 1e-5;

fn fit(params: IsolationForestParams, rows: &Array2<f64>) -> IsolationForest {
    params.fit(&DatasetBase::from(rows.clone())).expect("the forest can be fitted")
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().expect("an array").iter().map(|x| x.as_f64().expect("a number")).collect()
}

/// What onnxruntime says of the rows.
fn run_onnx(python: &Path, forest: &IsolationForest, rows: &Array2<f64>) -> Value {
    let folder = tempfile::tempdir().expect("a folder for the model");
    let (model, cells) = (folder.path().join("model.onnx"), folder.path().join("rows.f32"));
    std::fs::write(&model, forest.export_onnx().expect("the forest can be exported")).expect("written");
    let bytes: Vec<u8> = rows.iter().flat_map(|&x| (x as f32).to_le_bytes()).collect();
    std::fs::write(&cells, bytes).expect("written");
    let width = rows.ncols().to_string();
    let said = python::script(python, "onnx_score.py", &[&model, &cells, Path::new(&width)]);
    serde_json::from_str(&said).expect("the script prints JSON")
}

fn assert_onnx_agrees(python: &Path, what: &str, forest: &IsolationForest, rows: &Array2<f64>) {
    let said = run_onnx(python, forest, rows);
    let width = forest.n_features();
    assert_eq!(said["inputs"], json!([["X", "tensor(float)", ["N", width]]]), "{what}");
    let outputs = json!([["label", "tensor(int64)", ["N", 1]], ["scores", "tensor(float)", ["N", 1]]]);
    assert_eq!(said["outputs"], outputs, "{what}");
    assert_eq!(said["shapes"], json!([[rows.nrows(), 1], [rows.nrows(), 1]]), "{what}");

    let ours = forest.decision_function(rows).expect("scores");
    let labels = forest.labels(rows).expect("labels");
    let (theirs, their_labels) = (floats(&said["scores"]), floats(&said["label"]));
    assert_eq!(theirs.len(), rows.nrows(), "{what}");
    for row in 0..rows.nrows() {
        let difference = (ours[row] - theirs[row]).abs();
        assert!(
            difference < EXPORT_TOLERANCE,
            "{what}: row {row}: {} here, {} there",
            ours[row],
            theirs[row]
        );
        // Within rounding of the offset either label is right.
        if ours[row].abs() > EXPORT_TOLERANCE {
            assert_eq!(f64::from(labels[row]), their_labels[row], "{what}: row {row}");
        }
    }
}

#[test]
fn onnxruntime_scores_an_export_as_we_do() {
    let Some(python) = python::interpreter("export against onnxruntime") else { return };
    let stream = stream_like(3000, 5);
    let (cloud, _) = cloud(900, 100, 3, 6);
    let constant = Array2::from_elem((50, 2), 4.0);
    let params = IsolationForest::params;
    for (what, params, rows) in [
        ("defaults", params(), &stream),
        ("contamination", params().contamination(0.05).max_samples(1.0).n_estimators(40), &stream),
        ("bootstrap", params().bootstrap(true).max_features(2_usize).n_estimators(300), &stream),
        ("one tree of two rows", params().n_estimators(1).max_samples(2_usize), &cloud),
        ("equal rows: roots are leaves", params(), &constant),
        ("extended", params().extension_level(2).contamination(0.1), &cloud),
        ("partly extended", params().extension_level(1).n_estimators(30), &stream),
    ] {
        assert_onnx_agrees(&python, what, &fit(params, rows), rows);
    }
}

#[test]
fn onnxruntime_scores_rows_on_thresholds_as_we_do() {
    let Some(python) = python::interpreter("ties against onnxruntime") else { return };
    // Whole numbers and their thresholds: rows that lie on a split must go left on both sides.
    let stream = stream_like(2000, 7);
    let forest = fit(IsolationForest::params(), &stream);
    let stored = serde_json::to_value(&forest).expect("stored");
    let thresholds: Vec<f64> = floats(&stored["trees"]["Axis"][0]["threshold"]);
    let rows = Array2::from_shape_fn((thresholds.len(), 5), |(row, _)| thresholds[row]);
    assert_onnx_agrees(&python, "thresholds as rows", &forest, &rows);
}

#[test]
fn equal_forests_export_equal_bytes() {
    let rows = stream_like(500, 8);
    let export = || fit(IsolationForest::params(), &rows).export_onnx().expect("exported");
    assert_eq!(export(), export());
}

#[test]
fn the_shared_forest_of_scikit_learn_is_exported_as_skl2onnx_does() {
    let Some(folder) = shared_forest_data("skl2onnx' scores of the shared forest") else { return };
    let Some(python) = python::interpreter("the shared forest in onnxruntime") else { return };
    let json = std::fs::read(folder.join("parity_annthyroid.forest.json")).expect("the forest is there");
    let forest = IsolationForest::from_sklearn_json(&json).expect("it imports");
    let mut reader = csv::Reader::from_path(folder.join("parity_annthyroid.rows.csv")).expect("rows");
    let cells: Vec<f64> = reader
        .records()
        .flat_map(|r| {
            r.expect("a record").iter().map(|x| x.parse::<f64>().expect("a number")).collect::<Vec<_>>()
        })
        .collect();
    let table = Array2::from_shape_vec((cells.len() / 11, 11), cells).expect("eleven columns");
    let rows = table.slice(s![.., ..6]).to_owned();
    let said = run_onnx(&python, &forest, &rows);
    let (scores, labels) = (floats(&said["scores"]), floats(&said["label"]));
    for row in 0..rows.nrows() {
        assert!((scores[row] - table[(row, 9)]).abs() < EXPORT_TOLERANCE, "row {row}");
        assert_eq!(labels[row], table[(row, 10)], "row {row}");
    }
}

#[test]
fn forests_of_scikit_learn_score_here_as_there() {
    let Some(python) = python::interpreter("import against scikit-learn") else { return };
    let rows = stream_like(1500, 9);
    let folder = tempfile::tempdir().expect("a folder for the rows");
    let cells = folder.path().join("rows.f64");
    let bytes: Vec<u8> = rows.iter().flat_map(|x| x.to_le_bytes()).collect();
    std::fs::write(&cells, bytes).expect("written");
    let said = python::script(&python, "fit_sklearn.py", &[&cells, Path::new("5")]);
    let mut forests = 0;
    for line in said.lines() {
        let theirs: Value = serde_json::from_str(line).expect("a JSON object a line");
        let json = serde_json::to_vec(&theirs["forest"]).expect("JSON");
        let forest = IsolationForest::from_sklearn_json(&json).expect("it imports");
        let setting = &theirs["setting"];
        let scores = forest.score_samples(&rows).expect("scores");
        let decisions = forest.decision_function(&rows).expect("decisions");
        let labels = forest.labels(&rows).expect("labels");
        let (their_scores, their_decisions) =
            (floats(&theirs["score_samples"]), floats(&theirs["decision_function"]));
        let their_labels = floats(&theirs["predict"]);
        for row in 0..rows.nrows() {
            assert!((scores[row] - their_scores[row]).abs() < IMPORT_TOLERANCE, "{setting}: row {row}");
            assert!((decisions[row] - their_decisions[row]).abs() < IMPORT_TOLERANCE, "{setting}: row {row}");
            if decisions[row].abs() > IMPORT_TOLERANCE {
                assert_eq!(f64::from(labels[row]), their_labels[row], "{setting}: row {row}");
            }
        }
        forests += 1;
    }
    assert_eq!(forests, 6);
}
