//! `smartlog doctor`.

use crate::config::{ConfigError, Loaded};
use std::process::ExitCode;

pub fn run(loaded: Result<Loaded, ConfigError>) -> anyhow::Result<ExitCode> {
    let _ = loaded?;
    Ok(ExitCode::SUCCESS)
}
