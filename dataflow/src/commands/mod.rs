//! One file per command. Each takes the settings as loaded and judged, and gives the exit code.

mod analyze;
pub mod api;
mod backtest;
pub mod doctor;
pub mod export;
mod generate;
pub mod health;
pub mod job;
mod migrate;
mod models;
mod patterns;
mod replay;
pub mod run;
pub mod sinks;
mod supervise;
pub mod train;

use crate::cli::Command;
use crate::config::Config;
use anyhow::Context as _;
use std::future::Future;
use std::io::{self, Write};
use std::process::ExitCode;

/// Runs `command`. `doctor` and `completions` are started by [`crate::cli::main`]: they need no valid settings.
///
/// # Errors
/// What stopped the command, with what to do about it.
pub fn run_command(config: Config, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Demo => crate::demo::run(&config),
        Command::Run => run::run(&config),
        Command::Api(args) => args.action.as_ref().map_or_else(|| api::run(&config), api::token),
        Command::Analyze(args) => analyze::run(&config, args.inputs),
        Command::Patterns(args) => patterns::run(&config, &args),
        Command::Generate => generate::run(&config),
        Command::Health(args) => health::run(&config, args.role),
        Command::Top(args) => crate::top::run(&config, args.once),
        Command::Migrate => migrate::run(&config),
        Command::Export(args) => export::run(&config, &args),
        Command::Sinks(args) => sinks::run(&config, args.action),
        Command::Train(args) => train::run(&config, &args),
        Command::Models(args) => models::run(&config, args.action),
        Command::Replay(args) => replay::run(&config, &args),
        Command::Backtest(args) => backtest::run(&config, &args),
        Command::Doctor(_) | Command::Completions { .. } => Ok(ExitCode::SUCCESS),
    }
}

/// Runs one asynchronous piece of work to its end on the calling thread.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.context("the asynchronous runtime could not be started")?.block_on(work))
}

/// The store as the sinks know it.
///
/// # Errors
/// When `store.url` is `none`: the command has nothing to work on.
pub(crate) fn store_config(config: &Config) -> anyhow::Result<smartlog_sinks::StoreConfig> {
    config.store_config().context(
        "store.url is `none`: name the store with --store, in smartlog.toml, or in SMARTLOG_STORE_URL",
    )
}

/// Writes rows in columns as wide as their widest cell, two blanks apart.
fn write_columns<const N: usize>(
    rows: impl IntoIterator<Item = [String; N]>,
    out: &mut impl Write,
) -> io::Result<()> {
    let rows: Vec<[String; N]> = rows.into_iter().collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    rows.iter().try_for_each(|row| {
        let line: String = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  ")).collect();
        writeln!(out, "{}", line.trim_end())
    })
}
