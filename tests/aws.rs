//! AWS as it is set up: by docs/AWS_SETUP.md on a local AWS, and by the Compose set's profile `aws` on this machine. The scripts
//! that judge it are in another language: `cloud/*.py`.

use smartlog_test_services::{Service, tool};
use smartlog_tests::program::{binary_with_s3, bootstrap};
use std::path::Path;
use std::process::Command;

/// Runs a script with the tests' Python; its output goes into the message when it fails.
fn judged_by(script: &str, needed: &[&str], arguments: impl Fn() -> Vec<&'static Path>) {
    if !needed.iter().all(|name| Service::require(name).is_some()) {
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("cloud").join(script);
    let python = tool("python").expect("services are not switched off");
    let output =
        Command::new(python).arg("-B").arg(script).args(arguments()).output().expect("Python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_commands_of_the_document_find_what_terraform_plans_and_doctor_tells_what_is_missing() {
    let needed = ["terraform", "moto", "awscli"];
    judged_by("doctor.py", &needed, || vec![bootstrap(), binary_with_s3()]);
}

#[test]
fn the_setup_of_the_compose_set_makes_bucket_notification_and_tables_once() {
    judged_by("compose.py", &["manifests", "minio", "dynamodb", "awscli"], Vec::new);
}
