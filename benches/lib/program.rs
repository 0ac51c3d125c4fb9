//! The program that is measured.

use anyhow::{Context as _, ensure};
use std::path::PathBuf;
use std::process::Command;

/// `SMARTLOG_BIN`, or the release build, brought up to date first.
///
/// # Errors
/// When `SMARTLOG_BIN` names no file, and when the program cannot be built.
pub fn find() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("SMARTLOG_BIN") {
        return std::fs::canonicalize(path).context("SMARTLOG_BIN");
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = target_folder()?;
    let status = Command::new(cargo)
        .args(["build", "--release", "--quiet", "-p", "smartlog", "--bin", "smartlog"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("CARGO_TARGET_DIR", &target)
        .status()?;
    ensure!(status.success(), "smartlog could not be built; its errors stand above");
    Ok(target.join("release/smartlog"))
}

/// Where cargo built the program that asks.
///
/// # Errors
/// When it was not built by cargo.
pub fn target_folder() -> anyhow::Result<PathBuf> {
    let here = std::env::current_exe()?;
    let marked = here.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    Ok(marked.with_context(|| format!("{} does not lie in a target folder", here.display()))?.to_owned())
}
