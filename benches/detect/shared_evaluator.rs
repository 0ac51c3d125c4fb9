//! The shared replay's own evaluator, asked about the same alarms: a second opinion from other hands.

use crate::Run;
use crate::corpus::Corpus;
use crate::corpus::replays::{Maker, shown};
use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// What it says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Opinion {
    /// Which incidents were counted.
    pub counted: String,
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

/// Its opinion of the shared replay: of all incidents, and without those of new patterns; none where it is not there.
pub fn ask(runs: &[Run<'_>]) -> anyhow::Result<Vec<Opinion>> {
    let shared = runs.iter().find(|run| run.case.corpus == Corpus::Shared);
    let (Some(run), Some(maker)) = (shared, Maker::find()) else { return Ok(Vec::new()) };
    let folder = tempfile::tempdir()?;
    let alarms = folder.path().join("alarms.csv");
    write_alarms(run, &alarms)?;
    let text = std::fs::read_to_string(maker.shared_labels())?;
    let mut labels: Value = serde_json::from_str(&text).context("the shared labels")?;
    let reduced = folder.path().join("labels.json");
    let all = opinion(&maker, &maker.shared_labels(), &alarms, "all incidents")?;
    leave_out_new_patterns(&mut labels).context("the shared labels are not as expected")?;
    std::fs::write(&reduced, labels.to_string())?;
    let some = opinion(&maker, &reduced, &alarms, "without new patterns")?;
    let judged = &run.judgement;
    let found = judged.fates.iter().filter(|fate| fate.delay.is_some()).count() as u64;
    let same = if run.labels.incidents.len() as u64 == all.incidents { &all } else { &some };
    ensure!(
        (same.found, same.false_episodes) == (found, judged.false_episodes.len() as u64),
        "the two judges disagree: {found} found and {} false here, {} and {} by evaluate.py",
        judged.false_episodes.len(),
        same.found,
        same.false_episodes
    );
    Ok(vec![all, some])
}

fn write_alarms(run: &Run<'_>, file: &Path) -> anyhow::Result<()> {
    let mut rows = csv::Writer::from_path(file)?;
    rows.write_record(["service", "type", "at"])?;
    for alarm in &run.alarms {
        rows.write_record([&alarm.service, &alarm.anomaly_type, &shown(alarm.at)])?;
    }
    Ok(rows.flush()?)
}

/// Alarms about them count for nothing.
fn leave_out_new_patterns(labels: &mut Value) -> Option<()> {
    let incidents = labels.get_mut("incidents")?.as_array_mut()?;
    let is_new_pattern = |incident: &Value| incident["type"] == "new_pattern";
    let left_out: Vec<Value> =
        incidents.iter().filter(|incident| is_new_pattern(incident)).cloned().collect();
    incidents.retain(|incident| !is_new_pattern(incident));
    labels.get_mut("excused")?.as_array_mut()?.extend(left_out);
    Some(())
}

fn opinion(maker: &Maker, labels: &Path, alarms: &Path, counted: &str) -> anyhow::Result<Opinion> {
    let output =
        Command::new("python3").arg(maker.evaluator()).args([labels, alarms]).arg("--json").output()?;
    ensure!(output.status.success(), "evaluate.py: {}", String::from_utf8_lossy(&output.stderr));
    let mut said: Value = serde_json::from_slice(&output.stdout).context("what evaluate.py says")?;
    said["counted"] = counted.into();
    serde_json::from_value(said).context("what evaluate.py says")
}
