//! What several tests need: a history of windows, and a run made of it.
#![allow(dead_code, reason = "each test uses a part")]

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use smartlog_models::export::model_folder;
use smartlog_models::fit::{Settings, fit};
use smartlog_models::plots::plots;
use smartlog_models::rows::{Row, Rows};
use smartlog_models::{ARTIFACT_PATH, Bundle, Run, Scoping};

pub const FEATURES: [&str; 5] =
    ["log_rate", "error_rate", "avg_message_length", "unique_services", "hour_of_day"];

/// Windows every 10 s of three services, each of its own size, and the whole stream.
pub fn history(seed: u64, windows: i64) -> Rows {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut rows = Vec::new();
    for window in 1..=windows {
        let end = 1_768_435_200 + window * 10;
        // Every hour is seen soon.
        let hour = (window % 24) as f64;
        // Irwin and Hall: nearly normal, with a deviation of 5 %.
        let mut noise =
            |size: f64| size * (1.0 + 0.05 * ((0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0));
        for (service, rate) in [("checkout", 600.0), ("search", 60.0), ("mail", 6.0), ("", 666.0)] {
            let values = vec![noise(rate), noise(0.02), noise(50.0), 3.0, hour];
            rows.push(Row { end, service: service.into(), values });
        }
    }
    Rows::new(&FEATURES, rows)
}

pub fn settings(scoping: Scoping) -> Settings {
    Settings { scoping, seed: 7, n_estimators: 50, ..Settings::default() }
}

pub fn bundle(scoping: Scoping) -> Bundle {
    fit(&history(1, 800), &settings(scoping), "1.2.3").expect("enough windows")
}

/// A run as `smartlog train` makes it.
pub fn run(bundle: &Bundle, rows: &Rows) -> Run {
    let bytes = bundle.to_bytes().expect("it can be written");
    let folder = model_folder(bundle, &bytes).expect("it can be exported");
    let artifacts = folder.into_iter().map(|(name, bytes)| (format!("{ARTIFACT_PATH}/{name}"), bytes));
    Run {
        name: "a test".into(),
        started_ms: 1_768_435_200_000,
        ended_ms: 1_768_435_205_000,
        // More than one request may carry.
        params: (0..130).map(|n| (format!("param_{n}"), n.to_string())).collect(),
        metrics: [("training_samples".into(), 3200.0), ("threshold".into(), bundle.stream.threshold)].into(),
        tags: [("smartlog.test".into(), "yes".into())].into(),
        artifacts: artifacts.chain(plots(bundle, rows)).collect(),
    }
}
