//! Least privilege: what the code asks of AWS is what Terraform's policies allow, no less and no more.
//!
//! ```text
//!   sinks/src, lambda/src ─────────────────▶ calls of the SDK ─▶ actions ─┐
//!   terraform/modules/{exporter,function} ─▶ policy ───────────▶ actions ─┴─▶ equal, but for what AWS does in the role itself
//! ```
//!
//! That they are allowed on the right resources is asserted by `terraform/tests`.

use serde_json::Value;
use smartlog_tests::document::read;
use smartlog_tests::manifest::repository;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An operation of the SDK, or a part of a transaction, and the actions that it needs, by AWS's service authorization reference.
const NEEDS: &[(&str, &[&str])] = &[
    ("abort_multipart_upload", &["s3:AbortMultipartUpload"]),
    ("batch_get_item", &["dynamodb:BatchGetItem"]),
    ("complete_multipart_upload", &["s3:PutObject"]),
    ("create_multipart_upload", &["s3:PutObject"]),
    ("delete_object", &["s3:DeleteObject"]),
    ("describe_budgets", &["budgets:ViewBudget"]),
    ("describe_table", &["dynamodb:DescribeTable"]),
    ("get_bucket_notification_configuration", &["s3:GetBucketNotification"]),
    // Anybody may.
    ("get_caller_identity", &[]),
    ("get_function_configuration", &["lambda:GetFunctionConfiguration"]),
    ("get_object", &["s3:GetObject"]),
    // Without the second a missing file is a 403 and no 404.
    ("head_object", &["s3:GetObject", "s3:ListBucket"]),
    ("list_multipart_uploads", &["s3:ListBucketMultipartUploads"]),
    ("list_objects_v2", &["s3:ListBucket"]),
    ("put_object", &["s3:PutObject"]),
    ("query", &["dynamodb:Query"]),
    // What its items need.
    ("transact_write_items", &[]),
    ("Delete::builder", &["dynamodb:DeleteItem"]),
    ("Put::builder", &["dynamodb:PutItem"]),
    ("update_item", &["dynamodb:UpdateItem"]),
    ("upload_part", &["s3:PutObject"]),
];
/// Items of a transaction.
const ITEMS: [&str; 4] = ["ConditionCheck::builder", "Delete::builder", "Put::builder", "Update::builder"];
/// What Lambda does in the function's role: keeps what it prints, and hands over what failed.
const BY_LAMBDA: [&str; 3] = ["logs:CreateLogStream", "logs:PutLogEvents", "sqs:SendMessage"];

type Names = BTreeSet<String>;

/// Every package that is built, as cargo resolves them.
fn packages() -> Vec<Value> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--all-features", "--locked", "--offline"])
        .current_dir(repository())
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    match metadata["packages"].take() {
        Value::Array(packages) => packages,
        other => panic!("cargo metadata has no packages but {other}"),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

fn is_sdk(package: &Value) -> bool {
    text(&package["name"]).starts_with("aws-sdk-")
}

/// The files of Rust in a folder and below, but for tests.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let rust = files
        .into_iter()
        .filter(|path| path.extension().is_some_and(|ending| ending == "rs") && !path.ends_with("tests.rs"));
    rust.chain(folders.iter().flat_map(|folder| sources(folder))).collect()
}

/// What the SDK can be asked for: each operation has a module of its name.
fn operations(packages: &[Value]) -> Names {
    let of = |package: &Value| {
        let folder = Path::new(text(&package["manifest_path"])).with_file_name("src").join("operation");
        let entries = std::fs::read_dir(folder).expect("operations").flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter_map(|name| name.strip_suffix(".rs").map(str::to_owned)).collect::<Vec<_>>()
    };
    let found: Names = packages.iter().filter(|package| is_sdk(package)).flat_map(of).collect();
    assert!(found.len() > 100, "{found:?}");
    found
}

/// What the code of a package calls, of the operations and of the items of transactions; its tests do not count.
fn calls(package: &str, operations: &Names) -> Names {
    let mut found = Names::new();
    for path in sources(&repository().join(package).join("src")) {
        let whole = std::fs::read_to_string(&path).expect("text");
        let code = whole.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let called = code.split('.').skip(1).filter_map(|rest| rest.split_once("()")).map(|(name, _)| name);
        found.extend(called.filter(|name| operations.contains(*name)).map(str::to_owned));
        let built = ITEMS.into_iter().filter(|item| code.contains(&format!(" {item}()")));
        found.extend(built.map(str::to_owned));
    }
    found
}

fn needed(calls: &Names) -> Names {
    let needs = |call: &String| {
        let known = NEEDS.iter().find(|(name, _)| name == call);
        known.unwrap_or_else(|| panic!("NEEDS does not say which actions {call} needs")).1
    };
    calls.iter().flat_map(needs).map(|action| (*action).to_owned()).collect()
}

/// The actions of the policy document that is called as its module.
fn allowed(module: &str) -> Names {
    let text = read(&format!("terraform/modules/{module}/main.tf"));
    let begins = format!("data \"aws_iam_policy_document\" \"{module}\" {{");
    let document = text.split_once(&begins).expect("the policy").1;
    let document = document.split_once("\n}\n").expect("its end").0;
    // Names of conditions begin with a small letter: "s3:prefix".
    let is_action = |word: &&str| {
        let action = word.split_once(':').map_or("", |(_, action)| action);
        action.starts_with(|first: char| first.is_ascii_uppercase())
    };
    document.split('"').skip(1).step_by(2).filter(is_action).map(str::to_owned).collect()
}

#[test]
fn policies_allow_what_the_code_calls_and_nothing_else() {
    let packages = packages();
    let asks = |package: &&Value| {
        package["source"].is_null()
            && package["dependencies"].as_array().into_iter().flatten().any(is_sdk_of_the_program)
    };
    let asking: Names =
        packages.iter().filter(asks).map(|package| text(&package["name"]).to_owned()).collect();
    assert_eq!(asking, ["smartlog-lambda", "smartlog-sinks"].map(str::to_owned).into());

    let operations = operations(&packages);
    let (exporter, function) = (calls("sinks", &operations), calls("lambda", &operations));
    assert_eq!(allowed("exporter"), needed(&exporter), "policy of the exporter (left), calls of sinks/src");
    let mut expected = needed(&function);
    expected.extend(BY_LAMBDA.map(str::to_owned));
    assert_eq!(allowed("function"), expected, "policy of the function (left), calls of lambda/src");
    let called: Names = exporter.union(&function).cloned().collect();
    assert_eq!(called, NEEDS.iter().map(|(name, _)| (*name).to_owned()).collect(), "calls (left), and NEEDS");
}

fn is_sdk_of_the_program(dependency: &Value) -> bool {
    is_sdk(dependency) && dependency["kind"].is_null()
}
