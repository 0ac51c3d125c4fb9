//! `smartlog export`: one day anew from the store, or a day's store and files compared.

use super::{block_on, store_config};
use crate::cli::ExportArgs;
use crate::config::{Config, OutputFormat};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use smartlog_sinks::parquet::{Anew, Day, Exported, Verified, export_day, verify_day};
use std::io::{self, Write as _};
use std::process::ExitCode;

/// Reads a day as `--date` takes it.
pub fn parse_day(text: &str) -> Result<Day, String> {
    Day::parse(text).ok_or_else(|| format!("expected a day as 2026-01-15, found `{text}`"))
}

pub fn run(config: &Config, args: &ExportArgs) -> anyhow::Result<ExitCode> {
    let streams_to = &config.export.target;
    let target = args.to.as_ref().unwrap_or(streams_to);
    anyhow::ensure!(
        target != "none",
        "no target: give --to DIR or --to s3://BUCKET/PREFIX, or set export.target"
    );
    let anew = |day: Day| -> anyhow::Result<Anew> {
        Ok(Anew {
            export: config.export.config_for(target),
            store: store_config(config)?,
            day,
            streamed: target == streams_to,
            force: args.force,
        })
    };
    match (args.date, args.verify) {
        (_, Some(day)) => verify(config, &anew(day)?),
        (Some(day), None) => export(config, &anew(day)?),
        (None, None) => anyhow::bail!("give a day: --date 2026-01-15 or --verify 2026-01-15"),
    }
}

fn export(config: &Config, anew: &Anew) -> anyhow::Result<ExitCode> {
    let bar = bar("{bar:40} {human_pos} of {human_len} logs read, {eta} to go");
    let done = block_on(export_day(anew, &mut |done, total| tell(&bar, done, total)))??;
    bar.finish_and_clear();
    let Exported { generation, files, rows, bytes, replaced_files, replaced_rows } = done;
    let mut out = io::stdout().lock();
    match config.output.format {
        OutputFormat::Json => writeln!(
            out,
            "{}",
            json!({
                "date": anew.day.to_string(), "target": anew.export.target, "generation": generation, "files": files,
                "rows": rows, "bytes": bytes, "replaced_files": replaced_files, "replaced_rows": replaced_rows,
            })
        )?,
        OutputFormat::Table => writeln!(
            out,
            "{}: generation {generation}, {rows} logs in {files} files, {bytes} bytes; it replaces {replaced_files} \
             files with {replaced_rows} logs",
            anew.day
        )?,
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(config: &Config, of: &Anew) -> anyhow::Result<ExitCode> {
    let bar = bar("{bar:40} {pos} of {len} files read");
    let found = block_on(verify_day(of, &mut |done, total| tell(&bar, done, total)))??;
    bar.finish_and_clear();
    let Verified { stored, exported, files, differences } = &found;
    let mut out = io::stdout().lock();
    match config.output.format {
        OutputFormat::Json => writeln!(
            out,
            "{}",
            json!({
                "date": of.day.to_string(), "target": of.export.target, "stored": stored, "exported": exported,
                "files": files, "differences": differences,
            })
        )?,
        OutputFormat::Table => {
            writeln!(out, "{}: {stored} logs in the store, {exported} in {files} files", of.day)?;
            differences.iter().try_for_each(|difference| writeln!(out, "  {difference}"))?;
            if differences.is_empty() {
                writeln!(out, "  store, ledger, manifest and files agree")?;
            }
        }
    }
    Ok(if differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Shown where stderr is a terminal.
fn bar(template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style)
}

fn tell(bar: &ProgressBar, done: i64, total: i64) {
    bar.set_length(total.unsigned_abs());
    bar.set_position(done.unsigned_abs());
}
