//! The function as it is packaged and run, judged by programs in another language: `tests/cloud/*.py`.

use std::path::{Path, PathBuf};
use std::process::Command;

use smartlog_test_services::Service;

const BOOTSTRAP: &str = env!("CARGO_BIN_EXE_bootstrap");

fn here(script: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cloud").join(script)
}

/// Runs a script with the tests' Python; its output goes into the message when it fails.
fn python(script: &str, arguments: &[&str]) {
    let python = std::env::var("SMARTLOG_TEST_PYTHON").expect("SMARTLOG_TEST_PYTHON: run by `make test`");
    let output =
        Command::new(python).arg("-B").arg(here(script)).args(arguments).output().expect("Python starts");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script} failed:\n{out}\n{err}");
}

fn needs(services: &[&str]) -> bool {
    services.iter().all(|name| Service::require(name).is_some())
}

#[test]
fn daily_summaries_equal_a_recount_after_any_order_repetition_replacement_and_crash() {
    if needs(&["moto", "dynamodb", "python"]) {
        let rounds = std::env::var("SMARTLOG_LAMBDA_ROUNDS").unwrap_or_else(|_| "6".into());
        python("exactly_once.py", &[BOOTSTRAP, &rounds, "1000"]);
    }
}

#[test]
fn only_what_is_bad_of_a_batch_fails() {
    if needs(&["moto", "dynamodb", "python"]) {
        python("batches.py", &[BOOTSTRAP]);
    }
}

#[test]
fn a_put_starts_the_function_and_it_survives_its_own_death() {
    if needs(&["minio", "dynamodb", "python"]) {
        python("chain.py", &[BOOTSTRAP]);
    }
}

#[test]
fn what_terraform_plans_works_on_a_local_aws() {
    if needs(&["terraform", "moto", "python"]) {
        python("planned.py", &[BOOTSTRAP]);
    }
}

/// As it goes to AWS: `scripts/lambda package` made it, QEMU runs it.
#[test]
#[ignore = "building for arm64 takes minutes: make test-arm64"]
fn the_package_for_arm64_does_the_same() {
    if needs(&["terraform", "moto", "python"]) {
        let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/lambda/log-processor.zip");
        let package = package.to_str().expect("a path in UTF-8");
        python("planned.py", &[package]);
    }
}

#[test]
fn a_large_file_is_counted_within_the_memory_of_the_function() {
    if needs(&["minio", "dynamodb", "python"]) {
        let megabytes = std::env::var("SMARTLOG_LAMBDA_LARGE_MB").unwrap_or_else(|_| "150".into());
        python("large.py", &[BOOTSTRAP, &megabytes]);
    }
}
