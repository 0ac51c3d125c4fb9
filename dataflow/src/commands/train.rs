//! `smartlog train`: history → a model, tracked and registered.

use crate::cli::TrainArgs;
use crate::config::{Config, OutputFormat};
use crate::history;
use crate::training::{self, Trained, Wanted};
use anyhow::Context as _;
use jiff::Timestamp;
use smartlog_models::registry::{Folder, PUSHED_TAG};
use smartlog_models::rows::Rows;
use smartlog_models::{CHAMPION, Registry, Version, registry};
use smartlog_schema::window::WINDOW_SECONDS;
use std::io::{self, Write};
use std::process::ExitCode;
use std::str::FromStr;

/// An interval to leave out, written `FROM..TO`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftOut(pub i64, pub i64);

impl FromStr for LeftOut {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (from, to) = text.split_once("..")?;
            let (from, to) = (from.parse::<Timestamp>().ok()?, to.parse::<Timestamp>().ok()?);
            (from < to).then(|| LeftOut(from.as_second(), to.as_second()))
        };
        read().ok_or_else(|| {
            format!("expected FROM..TO, such as 2026-01-15T10:00:00Z..2026-01-15T10:30:00Z, found `{text}`")
        })
    }
}

pub fn run(config: &Config, args: &TrainArgs) -> anyhow::Result<ExitCode> {
    let rows = history::rows(config, &args.history.from, args.history.interval(), &config.models.columns()?)?;
    let left_out = left_out(config, args)?;
    let before = rows.rows.len();
    let rows: Rows = rows.without(&left_out, WINDOW_SECONDS);
    let dropped = before - rows.rows.len();
    let wanted = Wanted {
        name: args
            .name
            .clone()
            .unwrap_or_else(|| format!("train-{}", Timestamp::now().strftime("%Y%m%d-%H%M%S"))),
        source: args.history.from.to_string(),
        fit: config.models.fit(),
    };
    let trained = training::train(&rows, &wanted)?;
    let kept = keep(config, args, &trained)?;
    let mut out = io::stdout().lock();
    match config.output.format {
        OutputFormat::Json => write_json(&trained, &kept, dropped, &mut out)?,
        OutputFormat::Table => write_table(&trained, &kept, dropped, args, &mut out)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What is not to be learnt from: what was named, and what people called expected.
fn left_out(config: &Config, args: &TrainArgs) -> anyhow::Result<Vec<(i64, i64)>> {
    let mut left_out: Vec<(i64, i64)> = args.exclude.iter().map(|&LeftOut(from, to)| (from, to)).collect();
    if args.exclude_anomalies || args.exclude_expected {
        let store = super::store_config(config)?;
        let only_expected = !args.exclude_anomalies;
        let of_store = super::block_on(smartlog_sinks::anomaly_intervals(&store, only_expected))?;
        left_out.extend(of_store.context("reading the intervals of anomalies")?);
    }
    Ok(left_out)
}

/// Where it was kept.
struct Kept {
    run_id: String,
    place: String,
    version: Option<Version>,
    /// Why the server does not have it.
    not_pushed: Option<String>,
}

/// The folder first: what was trained is not lost when the server is away.
fn keep(config: &Config, args: &TrainArgs, trained: &Trained) -> anyhow::Result<Kept> {
    let local = Folder::new(config.models.folder.clone());
    let run_id = local.log_run(&trained.run)?;
    let register = args.register || args.alias.is_some();
    let of_folder = |not_pushed| -> anyhow::Result<Kept> {
        let version =
            if register || not_pushed { Some(local.register(&run_id, &trained.tags())?) } else { None };
        if let Some((version, alias)) = version.as_ref().zip(args.alias.as_ref()) {
            local.set_alias(alias, &version.version)?;
        }
        Ok(Kept { run_id: run_id.clone(), place: local.place(), version, not_pushed: None })
    };
    let Some(url) = &config.models.mlflow else { return of_folder(false) };
    let server = registry::open(url)?;
    match on_server(&*server, args, trained, register) {
        Ok((remote_id, version)) => {
            if let Some(version) = &version {
                let here = local.register(&run_id, &trained.tags())?;
                local.set_tag(
                    &here.version,
                    PUSHED_TAG,
                    &format!("{} {}", server.place(), version.version),
                )?;
            }
            Ok(Kept { run_id: remote_id, place: server.place(), version, not_pushed: None })
        }
        Err(fault) => {
            tracing::error!("{fault}");
            Ok(Kept { not_pushed: Some(fault.to_string()), ..of_folder(true)? })
        }
    }
}

fn on_server(
    server: &dyn Registry,
    args: &TrainArgs,
    trained: &Trained,
    register: bool,
) -> Result<(String, Option<Version>), smartlog_models::RegistryError> {
    let run_id = server.log_run(&trained.run)?;
    if !register {
        return Ok((run_id, None));
    }
    let version = server.register(&run_id, &trained.tags())?;
    if let Some(alias) = &args.alias {
        server.set_alias(alias, &version.version)?;
    }
    Ok((run_id, Some(version)))
}

fn write_json(trained: &Trained, kept: &Kept, dropped: usize, out: &mut impl Write) -> anyhow::Result<()> {
    let told = serde_json::json!({
        "run_id": kept.run_id,
        "registry": kept.place,
        "version": kept.version.as_ref().map(|version| &version.version),
        "digest": trained.digest,
        "not_pushed": kept.not_pushed,
        "left_out": dropped,
        "params": trained.run.params,
        "metrics": trained.run.metrics,
    });
    writeln!(out, "{told}")?;
    Ok(())
}

fn write_table(
    trained: &Trained,
    kept: &Kept,
    dropped: usize,
    args: &TrainArgs,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let (origin, params) = (&trained.bundle.origin, &trained.run.params);
    let mut rows = vec![
        ["windows".to_owned(), format!("{} ({dropped} left out)", origin.rows)],
        ["interval".into(), format!("{} to {}", params["since"], params["until"])],
        ["services with their own forest".into(), trained.bundle.services.len().to_string()],
        ["scoping".into(), params["scoping"].clone()],
        ["threshold".into(), format!("{:.4}", trained.bundle.stream.threshold)],
        ["alert threshold".into(), format!("{:.4}", trained.bundle.stream.alert_threshold)],
    ];
    if let Some(report) = &trained.report {
        rows.extend([
            ["flagged, held out".into(), format!("{:.1} %", report.flagged_share * 100.0)],
            ["false episodes a day, held out".into(), format!("{:.2}", report.false_episodes_per_day)],
            ["made-up incidents found".into(), format!("{:.0} %", report.recall() * 100.0)],
            ["fit".into(), format!("{:.2?}", report.fit)],
            ["score, one window".into(), format!("{:.2?}", report.score)],
        ]);
    }
    rows.push(["digest".into(), trained.digest.clone()]);
    rows.push(["run".into(), format!("{} in {}", kept.run_id, kept.place)]);
    super::write_columns(rows, out)?;
    writeln!(out)?;
    if let Some(fault) = &kept.not_pushed {
        writeln!(out, "Kept in the folder alone: {fault}")?;
        writeln!(out, "When the server is back:  smartlog models push")?;
    }
    match (&kept.version, &args.alias) {
        (Some(version), Some(alias)) => writeln!(out, "Version {} is the {alias} now.", version.version)?,
        (Some(version), None) => writeln!(
            out,
            "Registered as version {0}. To let it serve:  smartlog models promote {0} --alias {CHAMPION}",
            version.version
        )?,
        (None, _) => writeln!(out, "Not registered: add --register, or --alias {CHAMPION}.")?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_read_and_bad_ones_say_how() {
        assert_eq!("1970-01-01T00:01:00Z..1970-01-01T00:02:00Z".parse(), Ok(LeftOut(60, 120)));
        for bad in ["", "x..y", "1970-01-01T00:02:00Z..1970-01-01T00:01:00Z", "1970-01-01T00:02:00Z"] {
            let fault = bad.parse::<LeftOut>().expect_err("no interval");
            assert!(
                fault.starts_with("expected FROM..TO") && fault.ends_with(&format!("found `{bad}`")),
                "{fault}"
            );
        }
    }
}
