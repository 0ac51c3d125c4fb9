//! `smartlog migrate`: brings the store's tables up to date.

use super::{block_on, store_config};
use crate::config::Config;
use std::io::Write as _;
use std::process::ExitCode;

pub fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let store = store_config(config)?;
    block_on(smartlog_sinks::migrate(&store))??;
    writeln!(std::io::stdout().lock(), "{}: the tables are up to date", config.store.url)?;
    Ok(ExitCode::SUCCESS)
}
