//! `smartlog doctor`: checks each configured dependency, says what is wrong and how to mend it. Changes nothing; sends a test
//! alert where that is asked for.
//!
//! ```text
//!   settings ──▶ store ──positions──▶ kafka (reach, topics, lag) ──▶ redis, search ──▶ host (disk, files, clock, ports) ──▶ alerts ──▶ report
//!       └─ with --aws: identity, bucket, notification, function, tables, budget instead ─────────────────────────────────────▲
//! ```

mod alerts;
mod aws;
mod host;
mod kafka;
mod redis;
mod search;
mod store;

use crate::cli::{DoctorArgs, exit};
use crate::config::{Config, ConfigError, Loaded, OutputFormat};
use serde::Serialize;
use std::io::{self, Write};
use std::process::ExitCode;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Ok,
    /// It will run, and something is worth a look.
    Warning,
    /// It will not run, or not rightly.
    Failed,
    /// Not to be had with these settings, or something else must be mended first.
    Skipped,
}

/// One check, as it is printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    name: String,
    outcome: Outcome,
    /// What was found.
    found: String,
    /// How to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Check {
    fn ok(name: impl Into<String>, found: impl Into<String>) -> Self {
        Check { name: name.into(), outcome: Outcome::Ok, found: found.into(), advice: None }
    }

    fn skipped(name: impl Into<String>, found: impl Into<String>) -> Self {
        Check { name: name.into(), outcome: Outcome::Skipped, found: found.into(), advice: None }
    }

    fn warning(name: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        let advice = Some(advice.into());
        Check { name: name.into(), outcome: Outcome::Warning, found: found.into(), advice }
    }

    fn failed(name: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        let advice = Some(advice.into());
        Check { name: name.into(), outcome: Outcome::Failed, found: found.into(), advice }
    }
}

/// Runs every check and prints the report. A refused configuration is the first finding, and ends it. Where that
/// is asked for, each webhook is sent a made-up alert.
///
/// # Errors
/// When the report cannot be written.
pub fn run(loaded: Result<Loaded, ConfigError>, args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let (checks, format, refused) = match &loaded {
        Ok(loaded) if args.aws => (aws::checks(&loaded.config)?, loaded.config.output.format, false),
        Ok(loaded) => (checks(loaded, args.send_test_alert)?, loaded.config.output.format, false),
        Err(refusal) => (vec![refused(refusal)], OutputFormat::Table, true),
    };
    let mut out = io::stdout().lock();
    match format {
        OutputFormat::Table => write_table(&checks, &mut out)?,
        OutputFormat::Json => writeln!(out, "{}", serde_json::json!({ "checks": checks }))?,
    }
    let failed = checks.iter().any(|check| check.outcome == Outcome::Failed);
    Ok(match (refused, failed) {
        (true, _) => ExitCode::from(exit::CONFIG),
        (false, true) => ExitCode::from(exit::FAILURE),
        (false, false) => ExitCode::SUCCESS,
    })
}

fn refused(refusal: &ConfigError) -> Check {
    let problems: Vec<String> = refusal.problems.iter().map(ToString::to_string).collect();
    Check::failed("settings", problems.join("; "), "mend the settings first: the other checks rest on them")
}

fn checks(loaded: &Loaded, send_test_alert: bool) -> anyhow::Result<Vec<Check>> {
    let config: &Config = &loaded.config;
    let mut checks = vec![Check::ok("settings", told_origins(loaded))];
    let (of_store, positions) = store::checks(config)?;
    checks.extend(of_store);
    checks.extend(kafka::checks(config, positions.as_deref()));
    checks.extend(redis::checks(config)?);
    checks.extend(search::checks(config)?);
    checks.extend(host::checks(config));
    checks.extend(alerts::checks(config, send_test_alert)?);
    Ok(checks)
}

fn told_origins(loaded: &Loaded) -> String {
    let (file, variables, flags) = loaded.origins();
    let file = file.map_or("no file".into(), |path| path.display().to_string());
    format!("{file}, {variables} from variables, {flags} from flags; all fit together")
}

fn write_table(checks: &[Check], out: &mut impl Write) -> io::Result<()> {
    let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    for check in checks {
        let word = match check.outcome {
            Outcome::Ok => "ok",
            Outcome::Warning => "warning",
            Outcome::Failed => "FAILED",
            Outcome::Skipped => "skipped",
        };
        writeln!(out, "{word:<8} {:<width$}  {}", check.name, check.found)?;
        if let Some(advice) = &check.advice {
            writeln!(out, "{:<8} {:<width$}  -> {advice}", "", "")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_puts_the_advice_below_what_was_found() {
        let checks = [
            Check::ok("store", "sqlite:a.db"),
            Check::failed("topic logs", "is not there", "create it"),
            Check::skipped("lag", "no position yet"),
        ];
        let mut out = Vec::new();
        write_table(&checks, &mut out).expect("a vector takes all");
        assert_eq!(
            String::from_utf8(out).expect("text"),
            "ok       store       sqlite:a.db\n\
             FAILED   topic logs  is not there\n                     \
             -> create it\n\
             skipped  lag         no position yet\n"
        );
        let json = serde_json::to_value(&checks[..2]).expect("JSON");
        let expected = serde_json::json!([
            { "name": "store", "outcome": "ok", "found": "sqlite:a.db" },
            { "name": "topic logs", "outcome": "failed", "found": "is not there", "advice": "create it" },
        ]);
        assert_eq!(json, expected);
    }
}
