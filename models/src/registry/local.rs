//! The registry that needs no server: a folder.
//!
//! ```text
//!   FOLDER/registry.json             versions and aliases; replaced whole
//!   FOLDER/runs/ID/run.json          params, metrics, tags
//!   FOLDER/runs/ID/artifacts/…       the model folder and the plots, as MLflow keeps them
//!   FOLDER/lock                      held while something changes
//! ```

use super::{Registry, RegistryError, Run, Version};
use crate::{ARTIFACT_PATH, bundle};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Component, Path, PathBuf};

/// A registry in a folder. Several processes may use it at once, on a file system that locks.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Index {
    versions: Vec<Version>,
    aliases: BTreeMap<String, String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredRun {
    name: String,
    started_ms: i64,
    ended_ms: i64,
    params: BTreeMap<String, String>,
    metrics: BTreeMap<String, f64>,
    tags: BTreeMap<String, String>,
}

impl Folder {
    /// Nothing is made before something is kept.
    pub fn new(root: PathBuf) -> Self {
        Folder { root }
    }

    /// Where a run's artifacts lie.
    pub fn artifacts(&self, run_id: &str) -> PathBuf {
        self.root.join("runs").join(run_id).join("artifacts")
    }

    /// A run with its artifacts, to be kept elsewhere too.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn whole_run(&self, run_id: &str) -> Result<Run, RegistryError> {
        let mut run = self.run(run_id)?;
        let root = self.artifacts(run_id);
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            let entries = fs::read_dir(&folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
            for entry in entries.map_err(|fault| failed("listing artifacts", &folder, &fault))? {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let bytes = read("reading an artifact", &path)?;
                let name = path.strip_prefix(&root).unwrap_or(&path).to_string_lossy().into_owned();
                run.artifacts.push((name, bytes));
            }
        }
        run.artifacts.sort();
        Ok(run)
    }

    fn index(&self) -> Result<Index, RegistryError> {
        let path = self.root.join("registry.json");
        let text = match fs::read(&path) {
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(Index::default()),
            other => other.map_err(|fault| failed("reading the registry", &path, &fault))?,
        };
        serde_json::from_slice(&text).map_err(|fault| failed("reading the registry", &path, &fault))
    }

    /// Changes the index under the lock. It is replaced whole, so that readers never see half of it.
    fn change<T>(
        &self,
        step: &str,
        change: impl FnOnce(&mut Index) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let at = |fault: &dyn std::fmt::Display| failed(step, &self.root, fault);
        fs::create_dir_all(&self.root).map_err(|fault| at(&fault))?;
        let lock = File::create(self.root.join("lock")).map_err(|fault| at(&fault))?;
        lock.lock().map_err(|fault| at(&fault))?;
        let mut index = self.index()?;
        let result = change(&mut index)?;
        let text = serde_json::to_vec_pretty(&index).map_err(|fault| at(&fault))?;
        let mut file = tempfile::NamedTempFile::new_in(&self.root).map_err(|fault| at(&fault))?;
        file.write_all(&text).and_then(|()| file.as_file().sync_all()).map_err(|fault| at(&fault))?;
        file.persist(self.root.join("registry.json")).map_err(|fault| at(&fault))?;
        Ok(result)
    }

    fn none(&self, step: &str, what: &str) -> RegistryError {
        RegistryError {
            advice: "smartlog models list shows what there is".into(),
            ..failed(step, &self.root, &format!("expected {what}, found none"))
        }
    }
}

impl Index {
    fn with_aliases(&self, version: &Version) -> Version {
        let mut version = version.clone();
        let here = self.aliases.iter().filter(|(_, to)| **to == version.version);
        version.aliases = here.map(|(alias, _)| alias.clone()).collect();
        version
    }
}

impl Registry for Folder {
    fn place(&self) -> String {
        self.root.display().to_string()
    }

    fn log_run(&self, run: &Run) -> Result<String, RegistryError> {
        let step = "keeping the run";
        let runs = self.root.join("runs");
        let at = |fault: &dyn std::fmt::Display| failed(step, &runs, fault);
        fs::create_dir_all(&runs).map_err(|fault| at(&fault))?;
        // Made whole beside its place, then moved there: a run is there or it is not.
        let whole = tempfile::Builder::new().prefix(".new-").tempdir_in(&runs).map_err(|fault| at(&fault))?;
        for (name, bytes) in &run.artifacts {
            let path = whole.path().join("artifacts").join(safe(name).ok_or_else(|| at(name))?);
            let parent = path.parent().unwrap_or(whole.path());
            fs::create_dir_all(parent)
                .and_then(|()| fs::write(&path, bytes))
                .map_err(|fault| failed(step, &path, &fault))?;
        }
        let Run { name, started_ms, ended_ms, params, metrics, tags, .. } = run.clone();
        let stored = StoredRun { name, started_ms, ended_ms, params, metrics, tags };
        let text = serde_json::to_vec_pretty(&stored).map_err(|fault| at(&fault))?;
        fs::write(whole.path().join("run.json"), text).map_err(|fault| at(&fault))?;
        let mut number = 0;
        loop {
            let suffix = if number == 0 { String::new() } else { format!("-{number}") };
            let id = format!("{}{suffix}", run.started_ms);
            match fs::rename(whole.path(), runs.join(&id)) {
                Ok(()) => return Ok(id),
                Err(_) if runs.join(&id).exists() => number += 1,
                Err(fault) => return Err(at(&fault)),
            }
        }
    }

    fn register(&self, run_id: &str, tags: &BTreeMap<String, String>) -> Result<Version, RegistryError> {
        let step = "registering a version";
        let run = self.run(run_id)?;
        if !self.artifacts(run_id).join(ARTIFACT_PATH).is_dir() {
            return Err(self.none(step, &format!("a model in run {run_id}")));
        }
        self.change(step, |index| {
            let next = index.versions.iter().map(Version::number).max().unwrap_or(0) + 1;
            let version = Version {
                version: next.to_string(),
                run_id: run_id.to_owned(),
                created_ms: run.ended_ms,
                tags: tags.clone(),
                aliases: Vec::new(),
            };
            index.versions.push(version.clone());
            Ok(version)
        })
    }

    fn versions(&self) -> Result<Vec<Version>, RegistryError> {
        let index = self.index()?;
        Ok(index.versions.iter().rev().map(|version| index.with_aliases(version)).collect())
    }

    fn set_alias(&self, alias: &str, version: &str) -> Result<(), RegistryError> {
        let step = format!("pointing the alias {alias} to version {version}");
        self.change(&step, |index| {
            if !index.versions.iter().any(|known| known.version == version) {
                return Err(self.none(&step, &format!("a version {version}")));
            }
            index.aliases.insert(alias.to_owned(), version.to_owned());
            Ok(())
        })
    }

    fn remove_alias(&self, alias: &str) -> Result<(), RegistryError> {
        let step = format!("withdrawing the alias {alias}");
        self.change(&step, |index| match index.aliases.remove(alias) {
            Some(_) => Ok(()),
            None => Err(self.none(&step, &format!("an alias {alias}"))),
        })
    }

    fn alias(&self, alias: &str) -> Result<Option<Version>, RegistryError> {
        let index = self.index()?;
        let Some(number) = index.aliases.get(alias) else { return Ok(None) };
        let found = index.versions.iter().find(|version| version.version == *number);
        Ok(found.map(|version| index.with_aliases(version)))
    }

    fn set_tag(&self, version: &str, key: &str, value: &str) -> Result<(), RegistryError> {
        let step = format!("tagging version {version}");
        self.change(&step, |index| {
            let known = index.versions.iter_mut().find(|known| known.version == version);
            let known = known.ok_or_else(|| self.none(&step, &format!("a version {version}")))?;
            known.tags.insert(key.to_owned(), value.to_owned());
            Ok(())
        })
    }

    fn bundle(&self, version: &Version) -> Result<Vec<u8>, RegistryError> {
        let path = self.artifacts(&version.run_id).join(ARTIFACT_PATH).join(bundle::FILE);
        read(&format!("reading version {}", version.version), &path)
    }

    fn run(&self, run_id: &str) -> Result<Run, RegistryError> {
        let path = self.root.join("runs").join(run_id).join("run.json");
        let text = read("reading a run", &path)?;
        let stored: StoredRun =
            serde_json::from_slice(&text).map_err(|fault| failed("reading a run", &path, &fault))?;
        let StoredRun { name, started_ms, ended_ms, params, metrics, tags } = stored;
        Ok(Run { name, started_ms, ended_ms, params, metrics, tags, artifacts: Vec::new() })
    }
}

/// A relative path that stays below its root.
fn safe(name: &str) -> Option<&Path> {
    let path = Path::new(name);
    path.components().all(|part| matches!(part, Component::Normal(_))).then_some(path)
}

fn read(step: &str, path: &Path) -> Result<Vec<u8>, RegistryError> {
    fs::read(path).map_err(|fault| failed(step, path, &fault))
}

fn failed(step: &str, path: &Path, found: &dyn std::fmt::Display) -> RegistryError {
    RegistryError {
        step: step.to_owned(),
        place: path.display().to_string(),
        found: found.to_string(),
        advice: String::new(),
        away: false,
    }
}
