//! `terraform/` by Terraform itself, with providers that know only their schema, and by Checkov.
//!
//! What this does not check: rules of the real provider beyond its schema, and what AWS says. docs/AWS_SETUP.md lists it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use smartlog_test_services::Service;

fn configuration() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("terraform")
}

/// A copy, for Terraform writes beside what it reads.
fn copied() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let status =
        Command::new("cp").arg("-r").arg(configuration()).arg(folder.path().join("terraform")).status();
    assert!(status.expect("cp starts").success());
    folder
}

fn terraform(service: &Service, folder: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(service.address());
    command.current_dir(folder).args(arguments).arg("-no-color");
    command.env("TF_CLI_CONFIG_FILE", service.variable("CONFIG")).env("TF_IN_AUTOMATION", "1");
    ran(&mut command)
}

fn ran(command: &mut Command) -> Result<String, String> {
    let output = command.output().expect("the program starts");
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(text) } else { Err(text) }
}

fn initialised(service: &Service, folder: &Path) {
    terraform(service, folder, &["init", "-input=false"])
        .unwrap_or_else(|e| panic!("init in {}: {e}", folder.display()));
}

#[test]
fn the_configuration_is_formatted_valid_and_wired_as_its_tests_say() {
    let Some(service) = Service::require("terraform") else { return };
    terraform(&service, &configuration(), &["fmt", "-check", "-recursive", "-diff"])
        .expect("`terraform fmt -recursive terraform` has nothing to do");
    let folder = copied();
    let root = folder.path().join("terraform");
    initialised(&service, &root);
    terraform(&service, &root, &["validate"]).expect("valid");
    let said = terraform(&service, &root, &["test"]).expect("all runs pass");
    let runs = std::fs::read_dir(root.join("tests")).expect("tests").flatten().map(|entry| entry.path());
    let runs = runs.filter(|path| path.extension() == Some(OsStr::new("hcl")));
    let runs: usize =
        runs.map(|path| std::fs::read_to_string(path).expect("text").matches("\nrun \"").count()).sum();
    assert!(
        runs >= 20 && said.contains(&format!("{runs} passed, 0 failed")),
        "{runs} runs are written: {said}"
    );
}

#[test]
fn every_example_can_be_planned() {
    let Some(service) = Service::require("terraform") else { return };
    let folder = copied();
    for (example, variables) in [
        ("remote-state", vec!["-var=owner=somebody"]),
        ("bucket-only", vec![]),
        ("gcp", vec!["-var=project=somebodys", "-var=bucket=somebodys-logs"]),
    ] {
        let example = folder.path().join("terraform/examples").join(example);
        initialised(&service, &example);
        let arguments = [&["plan", "-input=false"], variables.as_slice()].concat();
        let plan = terraform(&service, &example, &arguments).expect("planned");
        assert!(plan.contains(" to add, 0 to change, 0 to destroy"), "{plan}");
    }
}

#[test]
fn a_broken_configuration_is_refused() {
    let Some(service) = Service::require("terraform") else { return };
    let module = "terraform/modules/summaries/main.tf";
    for (right, wrong, complaint) in [
        ("hash_key ", "hash_kee ", "Unsupported argument"),
        ("enabled = var.point_in_time_recovery", "enabled = [1]", "Incorrect attribute value type"),
        ("var.billing_mode", "var.billing", "Reference to undeclared input variable"),
        (
            "  range_key                   = \"service\"",
            "  range_key                   = aws_s3_bucket.x.id",
            "undeclared resource",
        ),
        ("  name                        = var.summaries_name\n", "", "Missing required argument"),
    ] {
        let folder = copied();
        let file = folder.path().join(module);
        let text = std::fs::read_to_string(&file).expect("text");
        assert!(text.contains(right), "{right}");
        std::fs::write(&file, text.replacen(right, wrong, 1)).expect("written");
        let root = folder.path().join("terraform");
        initialised(&service, &root);
        let error = terraform(&service, &root, &["validate"]).expect_err("refused");
        assert!(error.contains(complaint), "expected '{complaint}', found {error}");
    }
}

#[test]
fn checkov_finds_nothing_that_is_not_explained() {
    let Some(service) = Service::require("checkov") else { return };
    let mut command = Command::new(service.address());
    command.arg("-d").arg(configuration()).args([
        "--framework",
        "terraform",
        "--compact",
        "--quiet",
        "--skip-download",
    ]);
    command.env("LOG_LEVEL", "ERROR");
    ran(&mut command)
        .unwrap_or_else(|findings| panic!("mend it, or explain it by #checkov:skip=ID:why\n{findings}"));
}
