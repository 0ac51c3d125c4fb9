//! linfa's conventions, and every refusal with its message.

mod support;

use linfa::dataset::Records;
use linfa::prelude::ToConfusionMatrix;
use linfa::traits::{Fit, Predict, PredictInplace};
use linfa::{Dataset, DatasetBase, ParamGuard};
use linfa_isolation_forest::{
    Contamination, Error, Explanation, IsolationForest, IsolationForestParams, IsolationForestValidParams,
    MaxFeatures, MaxSamples,
};
use ndarray::{Array1, Array2, array, s};
use support::data::{cloud, stream_like};

#[test]
fn autotraits() {
    fn has_autotraits<T: Send + Sync + Sized + Unpin>() {}
    has_autotraits::<IsolationForest>();
    has_autotraits::<IsolationForestParams>();
    has_autotraits::<IsolationForestValidParams>();
    has_autotraits::<Explanation>();
    has_autotraits::<Error>();
}

#[test]
fn defaults_are_those_of_scikit_learn() {
    let params = IsolationForest::params().check().expect("defaults are valid");
    assert_eq!(params.n_estimators(), 100);
    assert_eq!(params.max_samples(), MaxSamples::Auto);
    assert_eq!(params.max_features(), MaxFeatures::Fraction(1.0));
    assert!(!params.bootstrap());
    assert_eq!(params.contamination(), Contamination::Auto);
    assert_eq!(params.extension_level(), 0);
}

/// The message that parameters are refused with.
fn refusal(params: IsolationForestParams) -> String {
    params.check().expect_err("the parameters are refused").to_string()
}

#[test]
fn bad_parameters_are_refused_by_name() {
    let params = IsolationForest::params;
    assert!(matches!(params().n_estimators(0).check(), Err(Error::NEstimators(0))));
    assert!(matches!(params().max_samples(1_usize).check(), Err(Error::MaxSamples(MaxSamples::Count(1)))));
    assert!(matches!(params().max_features(0.0).check(), Err(Error::MaxFeatures(MaxFeatures::Fraction(_)))));
    assert!(matches!(params().contamination(0.6).check(), Err(Error::Contamination(_))));

    assert_eq!(refusal(params().n_estimators(0)), "n_estimators: expected at least 1 tree, found 0");
    let expected = "max_samples: expected auto, a count of at least 2, or a fraction in (0, 1], found";
    for (found, text) in [
        (MaxSamples::Count(0), "the count 0"),
        (MaxSamples::Count(1), "the count 1"),
        (MaxSamples::Fraction(0.0), "the fraction 0"),
        (MaxSamples::Fraction(1.5), "the fraction 1.5"),
        (MaxSamples::Fraction(f64::NAN), "the fraction NaN"),
    ] {
        assert_eq!(refusal(params().max_samples(found)), format!("{expected} {text}"));
    }
    let expected = "max_features: expected a count of at least 1 or a fraction in (0, 1], found";
    for (found, text) in [
        (MaxFeatures::Count(0), "the count 0"),
        (MaxFeatures::Fraction(-0.5), "the fraction -0.5"),
        (MaxFeatures::Fraction(f64::INFINITY), "the fraction inf"),
    ] {
        assert_eq!(refusal(params().max_features(found)), format!("{expected} {text}"));
    }
    for found in [0.0, -0.1, 0.51, f64::NAN] {
        let expected = format!("contamination: expected auto or a fraction in (0, 0.5], found {found}");
        assert_eq!(refusal(params().contamination(found)), expected);
    }
}

/// The message that a fit is refused with.
fn fit_refusal(params: IsolationForestParams, rows: Array2<f64>) -> String {
    params.fit(&DatasetBase::from(rows)).expect_err("the fit is refused").to_string()
}

#[test]
fn bad_data_are_refused_by_name() {
    let params = IsolationForest::params;
    let refuse = |rows| fit_refusal(params(), rows);
    assert_eq!(refuse(Array2::zeros((0, 3))), "data: expected at least 2 rows, found an empty set");
    assert_eq!(
        refuse(Array2::zeros((3, 0))),
        "data: expected at least 1 feature, found rows without columns"
    );
    assert_eq!(
        refuse(array![[1.0, 2.0]]),
        "max_samples: expected at least 2 rows for each tree, found 1 (1 rows in the data)"
    );
    for (bad, text) in
        [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (f64::NEG_INFINITY, "-inf"), (1e39, "1e39")]
    {
        let found: f64 = text.parse().expect("a number");
        assert_eq!(
            refuse(array![[1.0, 2.0], [3.0, 4.0], [5.0, bad]]),
            format!("row 2, column 1: expected a finite number within the range of f32, found {found}")
        );
    }
    let rows = array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]];
    assert_eq!(
        fit_refusal(params().max_samples(0.5), rows.clone()),
        "max_samples: expected at least 2 rows for each tree, found 1 (3 rows in the data)"
    );
    assert_eq!(
        fit_refusal(params().max_features(3_usize), rows.clone()),
        "max_features: expected at most the 2 features of the data, found 3"
    );
    assert_eq!(
        fit_refusal(params().extension_level(2), rows),
        "extension_level: expected at most 1 (one less than the 2 features of a tree), found 2"
    );
}

#[test]
fn bad_rows_are_refused_by_name() {
    let forest = IsolationForest::params().fit(&DatasetBase::from(stream_like(300, 1))).expect("fitted");
    let narrow = "features: expected rows of 5 features, as the forest was fitted on, found 4";
    assert_eq!(forest.score_samples(&Array2::<f32>::zeros((2, 4))).expect_err("narrow").to_string(), narrow);
    assert_eq!(forest.score_row(&[0.0; 4]).expect_err("narrow").to_string(), narrow);
    assert_eq!(forest.explain(&[0.0; 4]).expect_err("narrow").to_string(), narrow);

    let mut rows = stream_like(2000, 2);
    rows[(1234, 3)] = f64::NAN;
    rows[(1500, 0)] = f64::INFINITY;
    let expected = "row 1234, column 3: expected a finite number within the range of f32, found NaN";
    assert_eq!(forest.score_samples(&rows).expect_err("NaN").to_string(), expected);
    assert_eq!(forest.decision_function(&rows).expect_err("NaN").to_string(), expected);
    assert_eq!(forest.labels(&rows).expect_err("NaN").to_string(), expected);
    let expected = "row 0, column 3: expected a finite number within the range of f32, found NaN";
    assert_eq!(forest.score_row(&rows.row(1234).to_vec()).expect_err("NaN").to_string(), expected);
    assert_eq!(forest.explain(&rows.row(1234).to_vec()).expect_err("NaN").to_string(), expected);
    // No rows are no error: there is nothing to say of them.
    assert_eq!(forest.score_samples(&Array2::<f64>::zeros((0, 5))).expect("no rows").len(), 0);
}

#[test]
#[should_panic(expected = "row 0, column 1: expected a finite number")]
fn predict_panics_with_the_error() {
    let (rows, _) = cloud(50, 0, 2, 3);
    let forest = IsolationForest::params().fit(&DatasetBase::from(rows)).expect("fitted");
    let _ = forest.predict(&array![[0.0, f64::NAN]]);
}

#[test]
fn predicts_in_all_forms_of_linfa() {
    let (rows, truth) = cloud(950, 50, 4, 4);
    let forest = IsolationForest::params()
        .contamination(0.05)
        .fit(&Dataset::new(rows.clone(), truth.clone()))
        .expect("labels are not looked at");
    let from_rows: Array1<bool> = forest.predict(&rows);
    let from_dataset = forest.predict(&DatasetBase::from(rows.clone()));
    let dataset = forest.predict(DatasetBase::from(rows.clone()));
    assert_eq!(from_rows, from_dataset);
    assert_eq!(from_rows, dataset.targets);
    assert_eq!(dataset.nsamples(), 1000);
    let mut in_place = forest.default_target(&rows);
    forest.predict_inplace(&rows, &mut in_place);
    assert_eq!(from_rows, in_place);
    assert_eq!(
        from_rows.mapv(|outlier| if outlier { -1_i8 } else { 1 }),
        forest.labels(&rows).expect("labels")
    );

    let matrix = from_rows.confusion_matrix(&truth).expect("a confusion matrix");
    assert!(matrix.accuracy() > 0.97, "accuracy {}", matrix.accuracy());
}

#[test]
fn contamination_sets_the_share_of_outliers() {
    let rows = stream_like(2000, 5);
    for share in [0.01, 0.05, 0.25, 0.5] {
        let forest = IsolationForest::params().contamination(share).fit(&DatasetBase::from(rows.clone()));
        let forest = forest.expect("fitted");
        let outliers = forest.predict(&rows).iter().filter(|&&outlier| outlier).count();
        assert!((outliers as f64 - share * 2000.0).abs() <= 1.0, "{outliers} of 2000 at {share}");
        let (scores, decisions) = (forest.score_samples(&rows), forest.decision_function(&rows));
        assert_eq!(scores.expect("scores") - forest.offset(), decisions.expect("decisions"));
    }
    let auto = IsolationForest::params().fit(&DatasetBase::from(rows)).expect("fitted");
    assert_eq!(auto.offset(), -0.5);
}

#[test]
fn f32_and_f64_and_any_layout_score_alike() {
    let rows = stream_like(400, 6).mapv(|x| x as f32);
    let wide = rows.mapv(f64::from);
    let forest = IsolationForest::params().fit(&DatasetBase::from(rows.clone())).expect("f32 can be fitted");
    assert_eq!(forest, IsolationForest::params().fit(&DatasetBase::from(wide.clone())).expect("and f64"));
    let scores = forest.score_samples(&rows).expect("scores");
    assert_eq!(scores, forest.score_samples(&wide).expect("f64"));
    let mut by_column = Array2::zeros((5, 400)).reversed_axes();
    by_column.assign(&wide);
    assert_eq!(scores, forest.score_samples(&by_column).expect("column by column"));
    let backwards = forest.score_samples(&wide.slice(s![..;-1, ..])).expect("a view");
    assert_eq!(scores.slice(s![..;-1]), backwards);
}

#[test]
fn one_row_scores_as_in_a_batch_to_the_last_bit() {
    let (rows, _) = cloud(1003, 7, 70, 7);
    let narrow = rows.slice(s![.., ..9]).to_owned();
    for (rows, level) in [(&rows, 0), (&rows, 3), (&narrow, 0), (&narrow, 8)] {
        let params = IsolationForest::params().n_estimators(37).extension_level(level);
        let forest = params.fit(&DatasetBase::from(rows.clone())).expect("fitted");
        let batch = forest.score_samples(rows).expect("scores");
        for (row, &score) in rows.outer_iter().zip(&batch) {
            assert_eq!(forest.score_row(&row.to_vec()).expect("a score").to_bits(), score.to_bits());
        }
    }
}

#[test]
fn the_seed_decides_whatever_the_number_of_threads() {
    let rows = stream_like(3000, 8);
    for level in [0, 2] {
        let fit = |seed| {
            let params = IsolationForest::params().seed(seed).bootstrap(true).max_features(3_usize);
            params
                .extension_level(level)
                .contamination(0.1)
                .fit(&DatasetBase::from(rows.clone()))
                .expect("fitted")
        };
        let with_threads = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            pool.install(|| {
                let forest = fit(11);
                let scores = forest.score_samples(&rows).expect("scores");
                (forest, scores)
            })
        };
        let (one, scores) = with_threads(1);
        for threads in [2, 3, 8] {
            let (many, same_scores) = with_threads(threads);
            assert_eq!(one, many, "{threads} threads");
            assert_eq!(scores, same_scores, "{threads} threads");
        }
        assert_ne!(one, fit(12));
    }
}

#[test]
fn trees_have_the_shape_that_the_parameters_ask_for() {
    let rows = stream_like(1000, 9);
    let params = IsolationForest::params().n_estimators(20).max_samples(64_usize).max_features(0.4);
    let forest = params.fit(&DatasetBase::from(rows)).expect("fitted");
    assert_eq!((forest.n_estimators(), forest.max_samples(), forest.n_features()), (20, 64, 5));
    let stored = serde_json::to_value(&forest).expect("stored");
    for tree in stored["trees"]["Axis"].as_array().expect("trees") {
        assert_eq!(tree["n_node_samples"][0], 64);
        let left = tree["left"].as_array().expect("left");
        let features: std::collections::BTreeSet<u64> = (0..left.len())
            .filter(|&node| left[node] != 0)
            .map(|node| tree["feature"][node].as_u64().expect("a feature"))
            .collect();
        assert!((1..=2).contains(&features.len()), "0.4 of 5 features are 2, found {features:?}");
    }
}

#[test]
fn finds_outliers_with_and_without_planes() {
    let (rows, truth) = cloud(2000, 100, 6, 10);
    for level in [0, 1, 5] {
        let forest = IsolationForest::params().extension_level(level).fit(&DatasetBase::from(rows.clone()));
        let scores = forest.expect("fitted").score_samples(&rows).expect("scores");
        let (mut lower, mut pairs) = (0.0, 0.0);
        for (&outlier, _) in scores.iter().zip(&truth).filter(|(_, truth)| **truth) {
            for (&inlier, _) in scores.iter().zip(&truth).filter(|(_, truth)| !**truth) {
                lower += f64::from(u8::from(outlier < inlier));
                pairs += 1.0;
            }
        }
        assert!(lower / pairs > 0.97, "AUROC {} at level {level}", lower / pairs);
    }
}

/// Hariri, Kind and Brunner, figure 2: two blobs make axis-parallel forests see two more, where there are none.
#[test]
fn planes_see_no_ghosts_of_two_blobs() {
    let mut random = support::data::Lcg::new(11);
    let rows = Array2::from_shape_fn((2000, 2), |(row, feature)| {
        if (row + feature) % 2 == 0 { random.normal() } else { 10.0 + random.normal() }
    });
    let ghosts = array![[0.0, 0.0], [10.0, 10.0]];
    let mean_score = |level| {
        let params = IsolationForest::params().n_estimators(300).extension_level(level);
        let forest = params.fit(&DatasetBase::from(rows.clone())).expect("fitted");
        forest.score_samples(&ghosts).expect("scores").mean().expect("two ghosts")
    };
    let (parallel, extended) = (mean_score(0), mean_score(1));
    assert!(extended < parallel - 0.05, "ghosts score {parallel} without planes, {extended} with");
}
