//! The files by which smartlog is installed, as the tools that read them see them: JSON of `scripts/provision/manifests`.

use serde_json::Value;
use smartlog_test_services::Service;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The checkout.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the checkout")
}

/// The reader, or `None` when tests of services are switched off.
pub struct Reader(Service);

impl Reader {
    pub fn require() -> Option<Self> {
        Service::require("manifests").map(Self)
    }

    /// What `docker compose` makes of the Compose file in `folder` with these variables and no others.
    ///
    /// # Errors
    /// What it says against it.
    pub fn compose(&self, folder: &Path, variables: &BTreeMap<String, String>) -> Result<Value, String> {
        let words: Vec<String> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut command = Command::new(self.0.address());
        read(command.arg("compose").arg(folder).args(words))
    }

    /// What `kubectl apply -k folder` would send.
    ///
    /// # Errors
    /// What kustomize says against it.
    pub fn kustomize(&self, folder: &Path) -> Result<Value, String> {
        read(Command::new(self.0.address()).arg("kustomize").arg(folder))
    }

    /// Any other YAML file of the checkout.
    pub fn yaml(&self, path: &str) -> Value {
        read(Command::new(self.0.address()).arg("yaml").arg(repository().join(path))).expect(path)
    }
}

fn read(command: &mut Command) -> Result<Value, String> {
    let output = command.output().expect("the reader starts");
    if output.status.success() {
        Ok(serde_json::from_slice(&output.stdout).expect("it prints JSON"))
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// The variables of a file of NAME=VALUE lines.
pub fn variables_of(path: &Path) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())))
        .collect()
}

/// Members of an object; empty for anything else.
pub fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// The strings of a list; empty for anything else.
pub fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A copy of a part of the checkout, for a test that breaks it.
pub fn copied(parts: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let paths: Vec<PathBuf> = parts.iter().map(|part| repository().join(part)).collect();
    let status = Command::new("cp").arg("-r").args(paths).arg(folder.path()).status().expect("cp starts");
    assert!(status.success());
    folder
}
