//! A Python with the pinned packages of `tests/requirements.txt`, made on first use and kept in a cache.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const REQUIREMENTS: &str = include_str!("../requirements.txt");

/// The interpreter. `None` only when the environment says `SMARTLOG_SERVICES=none`.
///
/// # Panics
/// When Python or the packages cannot be had: a comparison that was asked for must not pass unmade.
pub fn interpreter(for_what: &str) -> Option<PathBuf> {
    if std::env::var("SMARTLOG_SERVICES").is_ok_and(|services| services == "none") {
        super::say_skipped(for_what, "SMARTLOG_SERVICES=none");
        return None;
    }
    let venv = cache_folder().join("venv-forest");
    fs::create_dir_all(&venv).expect("the cache folder can be made (SMARTLOG_CACHE names it)");
    // Several test programs may come here at once; the first one installs.
    let lock = File::create(venv.with_extension("lock")).expect("a lock file can be made");
    lock.lock().expect("the lock file can be locked");
    let python = venv.join("bin/python");
    let stamp = venv.join("requirements.installed.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == REQUIREMENTS) {
        return Some(python);
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv), "python3 with its module venv");
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/requirements.txt");
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
    run(Command::new(&python).args(install).arg(requirements), "the packages of tests/requirements.txt");
    fs::write(&stamp, REQUIREMENTS).expect("the stamp can be written");
    Some(python)
}

fn cache_folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("SMARTLOG_CACHE") {
        return PathBuf::from(folder);
    }
    let home = std::env::var_os("HOME").expect("SMARTLOG_CACHE or HOME is set");
    PathBuf::from(home).join(".cache/smartlog")
}

fn run(command: &mut Command, what: &str) {
    let advice = "set SMARTLOG_SERVICES=none to leave the comparisons with Python out";
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| {
        panic!("{what}: expected to be had, found {error} ({command:?}); {advice}");
    });
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: expected to be had, found {stderr} ({command:?}); {advice}");
}

/// What a script of `tests/python` prints.
///
/// # Panics
/// When the script fails, with what it wrote to stderr.
pub fn script(python: &Path, name: &str, args: &[&Path]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(name);
    let output =
        Command::new(python).arg(path).args(args).stdin(Stdio::null()).output().expect("python starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} failed:\n{stderr}");
    String::from_utf8(output.stdout).expect("the script prints UTF-8")
}
