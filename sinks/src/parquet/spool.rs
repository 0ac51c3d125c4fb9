//! Where files are put together before they go to the target: a folder of this sink alone, gone with it.

use super::config::ExportConfig;
use super::target::{MODE, local::fault};
use crate::error::SinkError;
use std::fs::{self, File, Permissions, TryLockError};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use tempfile::{NamedTempFile, TempDir};

/// Its holder keeps this file locked: one that can be locked was left behind by a killed process.
const LOCK: &str = "in-use";
const PREFIX: &str = "spool-";

/// A folder for files under way.
pub(super) struct Spool {
    folder: TempDir,
    _lock: File,
}

impl Spool {
    /// Makes the folder, and deletes those that killed processes left beside it.
    pub fn new(config: &ExportConfig) -> Result<Self, SinkError> {
        let base = base(config);
        let make = || {
            fs::create_dir_all(&base)?;
            sweep(&base);
            let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(&base)?;
            Ok(Spool { _lock: lock(folder.path())?, folder })
        };
        make()
            .map_err(|error| fault(&base.display().to_string(), "make a folder for files under way", &error))
    }

    /// A new file, deleted when it is dropped.
    pub fn file(&self) -> std::io::Result<NamedTempFile> {
        tempfile::Builder::new().permissions(Permissions::from_mode(MODE)).tempfile_in(self.folder.path())
    }
}

/// The file is locked before it has its name: who sweeps meanwhile takes no folder for left behind.
fn lock(folder: &Path) -> std::io::Result<File> {
    let lock = NamedTempFile::new_in(folder)?;
    lock.as_file().lock()?;
    Ok(lock.persist(folder.join(LOCK))?)
}

fn base(config: &ExportConfig) -> PathBuf {
    let folder = config.target.strip_prefix("file://").unwrap_or(&config.target);
    match &config.spool {
        Some(folder) => folder.clone(),
        // On the same file system a file gets its name without being copied.
        None if config.is_local() => Path::new(folder).join("_spool"),
        None => std::env::temp_dir().join("smartlog-spool"),
    }
}

/// What cannot be looked at or deleted is left: the next start tries again.
fn sweep(base: &Path) {
    let folders = fs::read_dir(base).into_iter().flatten().flatten().map(|entry| entry.path());
    let ours =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
    for folder in folders.filter(ours) {
        let Ok(lock) = File::open(folder.join(LOCK)) else { continue };
        match lock.try_lock() {
            Ok(()) => drop(fs::remove_dir_all(&folder)),
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_the_dead_go_and_those_of_the_living_stay() {
        let target = tempfile::tempdir().expect("a folder");
        let config = ExportConfig::new(target.path().display().to_string());
        let dead = target.path().join("_spool/spool-dead");
        fs::create_dir_all(&dead).expect("a folder");
        File::create(dead.join(LOCK)).expect("a file");
        let living = Spool::new(&config).expect("a spool");
        let file = living.file().expect("a file");
        let other = Spool::new(&config).expect("a second spool");
        assert!(!dead.exists());
        assert!(file.path().exists(), "the second start took the first one's file away");
        drop((file, living, other));
        assert_eq!(fs::read_dir(target.path().join("_spool")).expect("a folder").count(), 0);
    }

    #[test]
    fn workers_that_start_together_leave_each_other_alone() {
        let target = tempfile::tempdir().expect("a folder");
        let config = ExportConfig::new(target.path().display().to_string());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        Spool::new(&config).expect("a spool").file().expect("its folder is there");
                    }
                });
            }
        });
    }
}
