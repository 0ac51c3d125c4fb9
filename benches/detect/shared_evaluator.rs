//! The shared replay's own evaluator, asked about the same alarms: a second opinion from other hands.

use crate::Run;
use crate::corpus::Corpus;
use crate::corpus::replays::{Maker, shown};
use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::process::Command;

/// What it says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Opinion {
    pub incidents: u64,
    pub found: u64,
    pub false_episodes: u64,
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
    pub false_per_service_day: f64,
    pub delay_median_s: Option<f64>,
    pub missed: Vec<String>,
}

/// Its opinion of the shared replay; `None` where that is not there.
pub fn ask(runs: &[Run<'_>]) -> anyhow::Result<Option<Opinion>> {
    let shared = runs.iter().find(|run| run.case.corpus == Corpus::Shared);
    let (Some(run), Some(maker)) = (shared, Maker::find()) else { return Ok(None) };
    let folder = tempfile::tempdir()?;
    let alarms = folder.path().join("alarms.csv");
    write_alarms(run, &alarms)?;
    let opinion = opinion(&maker, &alarms)?;
    let judged = &run.judgement;
    let found = judged.fates.iter().filter(|fate| fate.delay.is_some()).count() as u64;
    ensure!(
        (opinion.found, opinion.false_episodes) == (found, judged.false_episodes.len() as u64),
        "the two judges disagree: {found} found and {} false here, {} and {} by evaluate.py",
        judged.false_episodes.len(),
        opinion.found,
        opinion.false_episodes
    );
    Ok(Some(opinion))
}

fn write_alarms(run: &Run<'_>, file: &Path) -> anyhow::Result<()> {
    let mut rows = csv::Writer::from_path(file)?;
    rows.write_record(["service", "type", "at"])?;
    for alarm in &run.alarms {
        rows.write_record([&alarm.service, &alarm.anomaly_type, &shown(alarm.at)])?;
    }
    Ok(rows.flush()?)
}

fn opinion(maker: &Maker, alarms: &Path) -> anyhow::Result<Opinion> {
    let labels = maker.shared_labels();
    let output =
        Command::new("python3").arg(maker.evaluator()).arg(labels).arg(alarms).arg("--json").output()?;
    ensure!(output.status.success(), "evaluate.py: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("what evaluate.py says")
}
