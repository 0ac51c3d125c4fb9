//! `smartlog models`: what there is, which one serves, and how two of them differ.

use crate::cli::{DiffArgs, ModelsAction};
use crate::config::{Config, OutputFormat};
use crate::history;
use crate::models::read_bundle;
use jiff::Timestamp;
use serde_json::json;
use smartlog_models::evaluate::{Alarm, Change, alarms, changes};
use smartlog_models::registry::{Folder, PUSHED_TAG};
use smartlog_models::{Bundle, Registry, Version, registry};
use smartlog_operators::features::Columns;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::process::ExitCode;

pub fn run(config: &Config, action: ModelsAction) -> anyhow::Result<ExitCode> {
    let registry = registry::open(&config.models.registry())?;
    let json = config.output.format == OutputFormat::Json;
    let mut out = io::stdout().lock();
    match action {
        ModelsAction::List => list(&registry.versions()?, json, &mut out)?,
        ModelsAction::Show { model } => show(&*registry, &model, json, &mut out)?,
        ModelsAction::Promote { model, alias } => {
            let version = registry.resolve(&model)?;
            read_bundle(&registry.bundle(&version)?)?;
            registry.set_alias(&alias, &version.version)?;
            writeln!(
                out,
                "Version {} is the {alias} now; smartlog run takes it over at its next look.",
                version.version
            )?;
        }
        ModelsAction::Withdraw { alias } => {
            registry.remove_alias(&alias)?;
            writeln!(out, "No version is the {alias} any more; smartlog run sees it at its next look.")?;
        }
        ModelsAction::Push => push(config, &*registry, &mut out)?,
        ModelsAction::Diff(args) => diff(config, &*registry, &args, json, &mut out)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn time_ms(ms: i64) -> String {
    Timestamp::from_second(ms.div_euclid(1_000)).map_or_else(|_| ms.to_string(), |time| time.to_string())
}

fn time(second: i64) -> String {
    time_ms(second.saturating_mul(1_000))
}

fn list(versions: &[Version], json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    if json {
        return versions
            .iter()
            .try_for_each(|version| Ok(writeln!(out, "{}", serde_json::to_string(version)?)?));
    }
    if versions.is_empty() {
        writeln!(out, "no versions yet: smartlog train --from … --register makes one")?;
        return Ok(());
    }
    let head = ["version", "aliases", "made", "digest", "pushed"].map(String::from);
    let row = |version: &Version| {
        [
            version.version.clone(),
            version.aliases.join(", "),
            time_ms(version.created_ms),
            version.digest().map_or("-".into(), |digest| digest.chars().take(12).collect()),
            version.tags.get(PUSHED_TAG).cloned().unwrap_or_default(),
        ]
    };
    super::write_columns(std::iter::once(head).chain(versions.iter().map(row)), out)?;
    Ok(())
}

fn show(registry: &dyn Registry, model: &str, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let version = registry.resolve(model)?;
    let bundle = Bundle::from_bytes(&registry.bundle(&version)?)?;
    let run = registry.run(&version.run_id)?;
    if json {
        let told = json!({
            "version": version.version, "run_id": version.run_id, "aliases": version.aliases, "tags": version.tags,
            "params": run.params, "metrics": run.metrics,
            "features": bundle.features, "scoping": bundle.scoping, "origin": bundle.origin,
        });
        writeln!(out, "{told}")?;
        return Ok(());
    }
    let mut rows = vec![
        ["version".to_owned(), version.version.clone()],
        ["run".into(), format!("{} ({})", version.run_id, run.name)],
        ["made".into(), time_ms(version.created_ms)],
        ["aliases".into(), version.aliases.join(", ")],
    ];
    rows.extend(version.tags.iter().map(|(key, value)| [key.clone(), value.clone()]));
    rows.extend(run.params.iter().map(|(key, value)| [key.clone(), value.clone()]));
    rows.extend(run.metrics.iter().map(|(key, value)| [key.clone(), format!("{value:.6}")]));
    super::write_columns(rows, out)?;
    writeln!(out)?;
    let head = ["forest", "windows", "threshold", "alert threshold"].map(String::from);
    let member = |(scope, member): (&str, &smartlog_models::bundle::Member)| {
        [
            scope.to_owned(),
            member.rows.to_string(),
            format!("{:.4}", member.threshold),
            format!("{:.4}", member.alert_threshold),
        ]
    };
    super::write_columns(std::iter::once(head).chain(bundle.members().map(member)), out)?;
    Ok(())
}

/// Brings versions of the folder to the server that are not there yet.
fn push(config: &Config, registry: &dyn Registry, out: &mut impl Write) -> anyhow::Result<()> {
    anyhow::ensure!(
        config.models.mlflow.is_some(),
        "models.mlflow is not set: name the server with --mlflow, in smartlog.toml, or in SMARTLOG_MODELS_MLFLOW"
    );
    let local = Folder::new(config.models.folder.clone());
    let waiting: Vec<Version> = local
        .versions()?
        .into_iter()
        .rev()
        .filter(|version| !version.tags.contains_key(PUSHED_TAG))
        .collect();
    for version in &waiting {
        let run = local.whole_run(&version.run_id)?;
        let run_id = registry.log_run(&run)?;
        let pushed = registry.register(&run_id, &version.tags)?;
        for alias in &version.aliases {
            registry.set_alias(alias, &pushed.version)?;
        }
        local.set_tag(&version.version, PUSHED_TAG, &format!("{} {}", registry.place(), pushed.version))?;
        writeln!(
            out,
            "version {} of {} is version {} of {}",
            version.version,
            local.place(),
            pushed.version,
            registry.place()
        )?;
    }
    if waiting.is_empty() {
        writeln!(out, "every version of {} is at {} already", local.place(), registry.place())?;
    }
    Ok(())
}

/// What each model would have raised on the same history.
fn diff(
    config: &Config,
    registry: &dyn Registry,
    args: &DiffArgs,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let bundle = |model: &str| -> anyhow::Result<Bundle> {
        Ok(read_bundle(&registry.bundle(&registry.resolve(model)?)?)?.0)
    };
    let (a, b) = (bundle(&args.a)?, bundle(&args.b)?);
    let both: BTreeSet<&String> = a.features.iter().chain(&b.features).collect();
    let rows = history::rows(config, &args.history.from, args.history.interval(), &Columns::of(both)?)?;
    let alarms = |bundle: &Bundle| -> anyhow::Result<Vec<Alarm>> {
        let rows = rows.select(&bundle.features).map_err(|name| anyhow::anyhow!("no window has {name}"))?;
        Ok(alarms(bundle, &rows))
    };
    let (of_a, of_b) = (alarms(&a)?, alarms(&b)?);
    let changes = changes(&of_a, &of_b);
    if json {
        for (kind, alarm) in changes.iter().map(told) {
            let line = json!({
                "change": kind, "service": Some(&alarm.service).filter(|service| !service.is_empty()),
                "started_at": time(alarm.started_at), "ended_at": time(alarm.ended_at), "peak_score": alarm.peak,
            });
            writeln!(out, "{line}")?;
        }
        return Ok(());
    }
    let head = ["change", "service", "started", "ended", "peak score"].map(String::from);
    let row = |change: &Change| {
        let (kind, alarm) = told(change);
        let service = if alarm.service.is_empty() { "(whole stream)" } else { &alarm.service };
        [
            kind.to_owned(),
            service.to_owned(),
            time(alarm.started_at),
            time(alarm.ended_at),
            format!("{:.4}", alarm.peak),
        ]
    };
    let different = || changes.iter().filter(|change| !matches!(change, Change::Same(_)));
    if different().next().is_some() {
        super::write_columns(std::iter::once(head).chain(different().map(row)), out)?;
        writeln!(out)?;
    }
    let count = |wanted: &str| changes.iter().filter(|change| told(change).0 == wanted).count();
    writeln!(
        out,
        "{} windows; {} raises {}, {} raises {}: {} added, {} removed, {} changed, {} the same",
        rows.rows.len(),
        args.a,
        of_a.len(),
        args.b,
        of_b.len(),
        count("added"),
        count("removed"),
        count("changed"),
        count("same"),
    )?;
    Ok(())
}

fn told(change: &Change) -> (&'static str, &Alarm) {
    match change {
        Change::Added(alarm) => ("added", alarm),
        Change::Removed(alarm) => ("removed", alarm),
        Change::Changed(_, alarm) => ("changed", alarm),
        Change::Same(alarm) => ("same", alarm),
    }
}
