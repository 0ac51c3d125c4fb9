//! The house's floor plan: who may depend on whom. Reads `cargo metadata`, so that a forbidden import fails here
//! before anyone has to notice it in review.

use std::collections::BTreeMap;
use std::process::Command;

/// Package and the workspace packages that it may depend on (development dependencies are free).
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("smartlog-schema", &[]),
    ("smartlog-http", &[]),
    ("linfa-isolation-forest", &[]),
    ("smartlog-operators", &["smartlog-schema", "linfa-isolation-forest"]),
    ("smartlog-sinks", &["smartlog-schema", "smartlog-http"]),
    ("smartlog-api", &["smartlog-schema"]),
    ("smartlog-generator", &["smartlog-schema"]),
    ("smartlog-models", &["smartlog-schema", "smartlog-http", "linfa-isolation-forest"]),
    ("smartlog-lambda", &["smartlog-schema"]),
    (
        "smartlog",
        &[
            "smartlog-schema",
            "smartlog-http",
            "linfa-isolation-forest",
            "smartlog-operators",
            "smartlog-sinks",
            "smartlog-api",
            "smartlog-generator",
            "smartlog-models",
        ],
    ),
    ("smartlog-benches", &["smartlog-generator"]),
    ("smartlog-test-services", &[]),
    ("smartlog-tests", &["smartlog-test-services"]),
];

/// Outside crates that a package must not depend on, directly.
const MUST_NOT_IMPORT: &[(&str, &[&str])] = &[
    ("smartlog-schema", &["tokio", "timely", "rdkafka", "serde_json"]),
    ("smartlog-http", &["tokio", "serde", "hyper"]),
    ("smartlog-operators", &["tokio", "rdkafka", "tokio-postgres", "rusqlite", "hyper"]),
    ("smartlog-sinks", &["timely", "differential-dataflow", "rdkafka"]),
    ("smartlog-api", &["timely", "differential-dataflow", "rdkafka"]),
    ("smartlog-models", &["timely", "differential-dataflow", "rdkafka", "tokio"]),
    ("smartlog-lambda", &["timely", "differential-dataflow", "rdkafka", "tokio-postgres", "rusqlite"]),
];

fn dependencies() -> BTreeMap<String, Vec<String>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let name = |value: &serde_json::Value| value["name"].as_str().expect("a name").to_owned();
    metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .map(|package| {
            let normal = |d: &&serde_json::Value| d["kind"].is_null() || d["kind"] == "build";
            let listed = package["dependencies"].as_array().expect("dependencies");
            (name(package), listed.iter().filter(normal).map(name).collect())
        })
        .collect()
}

#[test]
fn every_package_is_on_the_floor_plan() {
    let planned: Vec<&str> = MAY_IMPORT.iter().map(|(package, _)| *package).collect();
    for package in dependencies().keys() {
        assert!(
            planned.contains(&package.as_str()),
            "{package} is not in MAY_IMPORT: say what it may import"
        );
    }
}

#[test]
fn packages_import_only_what_lies_below_them() {
    let dependencies = dependencies();
    let ours: Vec<&String> = dependencies.keys().collect();
    for (package, allowed) in MAY_IMPORT {
        for imported in dependencies[*package].iter().filter(|d| ours.contains(d)) {
            assert!(allowed.contains(&imported.as_str()), "{package} must not import {imported}");
        }
    }
}

#[test]
fn packages_keep_away_from_what_they_must_not_know() {
    let dependencies = dependencies();
    for (package, forbidden) in MUST_NOT_IMPORT {
        for imported in &dependencies[*package] {
            assert!(!forbidden.contains(&imported.as_str()), "{package} must not import {imported}");
        }
    }
}
