//! `smartlog analyze`: the same dataflow over files or the standard input, no service needed.

use super::job;
use crate::config::{Config, OutputFormat};
use crate::coordinator::Begin;
use crate::engine::{Engine, Job};
use crate::sources::Sources;
use jiff::Timestamp;
use serde::Serialize;
use smartlog_operators::fold::Outcomes;
use smartlog_schema::anomaly::{Episode, EpisodeKey, Status};
use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Reads `inputs` to their end and prints the episodes.
pub fn run(config: &Config, inputs: Vec<PathBuf>) -> anyhow::Result<ExitCode> {
    let runtime = job::runtime()?;
    let job = Job {
        sources: Sources::Files(inputs),
        storage: None,
        retention: None,
        begin: Begin::Earliest,
        until_end: true,
        ..job::from_config(config, None)?
    };
    let episodes: Arc<Mutex<BTreeMap<EpisodeKey, Episode>>> = Arc::default();
    let found = Arc::clone(&episodes);
    let engine = Engine::start(
        job,
        runtime.handle(),
        Box::new(move |commit| {
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            for change in &commit.episodes {
                found.insert(change.episode.key.clone(), change.episode.clone());
            }
        }),
    )?;
    super::run::stop_on_signal(&runtime, engine.stop_flag());
    let outcomes = Arc::clone(&engine.gauges().outcomes);
    let progress = Progress::start(Arc::clone(&outcomes));
    let result = engine.join(config.engine.shutdown_grace);
    progress.finish();
    result?;
    let found = std::mem::take(&mut *episodes.lock().unwrap_or_else(PoisonError::into_inner));
    let mut episodes: Vec<Episode> = found.into_values().filter(|e| e.status != Status::Retracted).collect();
    episodes.sort_by(|a, b| (a.started_at, &a.key).cmp(&(b.started_at, &b.key)));
    let mut out = io::stdout().lock();
    match config.output.format {
        OutputFormat::Json => print_json(&episodes, &mut out)?,
        OutputFormat::Table => print_table(&episodes, &outcomes, &mut out)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// One episode, as programs read it.
#[derive(Debug, Serialize)]
struct Line<'a> {
    r#type: &'static str,
    service: Option<&'a str>,
    severity: &'static str,
    status: &'static str,
    started_at: String,
    detected_at: String,
    ended_at: Option<String>,
    metric_value: f64,
    threshold: f64,
    baseline: f64,
    score: Option<f64>,
    model_version: Option<&'a str>,
    description: &'a str,
    explanation: serde_json::Value,
}

fn print_json(episodes: &[Episode], out: &mut impl Write) -> anyhow::Result<()> {
    for episode in episodes {
        let line = Line {
            r#type: episode.key.anomaly_type.as_str(),
            service: episode.key.service.as_deref(),
            severity: episode.severity.as_str(),
            status: episode.status.as_str(),
            started_at: time(episode.started_at),
            detected_at: Timestamp::from_microsecond(episode.detected_at_us)?.to_string(),
            ended_at: episode.ended_at.map(time),
            metric_value: episode.metric_value,
            threshold: episode.threshold,
            baseline: episode.baseline,
            score: episode.score,
            model_version: episode.model_version.as_deref(),
            description: &episode.description,
            explanation: serde_json::from_str(&episode.explanation)?,
        };
        serde_json::to_writer(&mut *out, &line)?;
        writeln!(out)?;
    }
    Ok(())
}

fn print_table(episodes: &[Episode], outcomes: &Outcomes, out: &mut impl Write) -> anyhow::Result<()> {
    let head = ["STARTED", "LASTED", "SEVERITY", "STATUS", "SERVICE", "WHAT"].map(str::to_owned);
    let row = |episode: &Episode| {
        [
            time(episode.started_at),
            episode.ended_at.map_or("–".into(), |end| duration(end - episode.started_at)),
            episode.severity.as_str().into(),
            episode.status.as_str().into(),
            episode.key.service.as_deref().unwrap_or("(whole stream)").into(),
            episode.description.clone(),
        ]
    };
    if !episodes.is_empty() {
        super::write_columns(std::iter::once(head).chain(episodes.iter().map(row)), out)?;
        writeln!(out)?;
    }
    let (records, logs) = (outcomes.records.load(Ordering::Relaxed), outcomes.logs.load(Ordering::Relaxed));
    let noun = if episodes.len() == 1 { "episode" } else { "episodes" };
    writeln!(out, "{} {noun} in {logs} logs ({} lines were no logs)", episodes.len(), records - logs)?;
    Ok(())
}

fn time(second: i64) -> String {
    Timestamp::from_second(second).map_or_else(|_| second.to_string(), |time| time.to_string())
}

fn duration(seconds: i64) -> String {
    match (seconds / 3600, seconds % 3600 / 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m {s:02}s"),
        (h, m, _) => format!("{h}h {m:02}m"),
    }
}

/// How many lines were read, on a terminal.
struct Progress {
    bar: indicatif::ProgressBar,
    outcomes: Arc<Outcomes>,
}

impl Progress {
    fn start(outcomes: Arc<Outcomes>) -> Self {
        let bar = if io::stderr().is_terminal() {
            indicatif::ProgressBar::new_spinner()
        } else {
            indicatif::ProgressBar::hidden()
        };
        let style = "{spinner} {human_pos} lines  {per_sec}  {elapsed}";
        bar.set_style(
            indicatif::ProgressStyle::with_template(style)
                .unwrap_or_else(|_| indicatif::ProgressStyle::default_spinner()),
        );
        bar.enable_steady_tick(Duration::from_millis(100));
        let (shown, counted) = (bar.downgrade(), Arc::clone(&outcomes));
        std::thread::spawn(move || {
            while let Some(bar) = shown.upgrade() {
                bar.set_position(counted.records.load(Ordering::Relaxed));
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        Progress { bar, outcomes }
    }

    fn finish(self) {
        self.bar.set_position(self.outcomes.records.load(Ordering::Relaxed));
        self.bar.finish_and_clear();
    }
}
