//! `smartlog analyze`: the same dataflow over files or the standard input, no service needed.
//!
//! ```text
//!   files ──▶ engine ──commits──▶ Seen: episodes, counts per minute ──▶ table or JSON   stdout
//!                └──outcomes──▶ progress, summary, advice                               stderr
//! ```

mod advice;
pub(super) mod progress;
mod summary;
mod table;
mod timeline;
mod why;

use super::job;
use crate::config::{Config, OutputFormat};
use crate::coordinator::Begin;
use crate::engine::{Engine, Job};
use crate::sources::Sources;
use jiff::Timestamp;
use progress::Progress;
use serde::Serialize;
use smartlog_schema::anomaly::{Episode, EpisodeKey, Status};
use smartlog_schema::commit::EpochCommit;
use smartlog_sinks::parquet::Kept;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use summary::Summary;
use timeline::Timelines;

/// Reads `inputs` to their end and prints the episodes.
///
/// Ends with a failure when there were lines and none of them was a log.
pub fn run(config: &Config, inputs: Vec<PathBuf>) -> anyhow::Result<ExitCode> {
    let runtime = job::runtime()?;
    let job = Job {
        sources: Sources::Files(inputs.clone()),
        storage: None,
        retention: None,
        begin: Begin::Earliest,
        until_end: true,
        ..job::from_config(config, None, Kept::default())?
    };
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let noted = Arc::clone(&seen);
    let began = Instant::now();
    let engine = Engine::start(
        job,
        runtime.handle(),
        Box::new(move |commit| noted.lock().unwrap_or_else(PoisonError::into_inner).note(commit)),
    )?;
    super::run::stop_on_signal(&runtime, engine.stop_flag());
    let outcomes = Arc::clone(&engine.gauges().outcomes);
    let progress = Progress::start(&inputs, Arc::clone(&outcomes));
    let result = engine.join(config.engine.shutdown_grace);
    progress.finish();
    result?;
    let seen = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
    let summary = Summary::new(&seen, &outcomes, began.elapsed());
    let (episodes, timelines) = (seen.episodes(), &seen.timelines);
    let mut out = io::stdout().lock();
    match config.output.format {
        OutputFormat::Json => print_json(&episodes, &mut out)?,
        OutputFormat::Table => {
            let look = table::Look::of_stdout();
            out.write_all(table::episodes(&episodes, timelines, &look).as_bytes())?;
            out.write_all(why::sentences(&episodes, &look).as_bytes())?;
            writeln!(out, "{summary}")?;
        }
    }
    let advice = advice::of(&inputs, config, &summary);
    let mut told = io::stderr().lock();
    advice.iter().try_for_each(|line| writeln!(told, "{line}"))?;
    Ok(if summary.records > 0 && summary.logs == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What the commits said.
#[derive(Debug, Default)]
struct Seen {
    episodes: BTreeMap<EpisodeKey, Episode>,
    timelines: Timelines,
    /// Event time reached, microseconds.
    clock_us: i64,
}

impl Seen {
    fn note(&mut self, commit: &EpochCommit) {
        for change in &commit.episodes {
            self.episodes.insert(change.episode.key.clone(), change.episode.clone());
        }
        for (service, second, sums) in &commit.seconds {
            self.timelines.add(service, *second, *sums);
        }
        self.clock_us = self.clock_us.max(commit.clock.clock_us);
    }

    /// Those that stand, in order of their start.
    fn episodes(&self) -> Vec<&Episode> {
        let mut episodes: Vec<&Episode> =
            self.episodes.values().filter(|episode| episode.status != Status::Retracted).collect();
        episodes.sort_by(|a, b| (a.started_at, &a.key).cmp(&(b.started_at, &b.key)));
        episodes
    }
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

fn print_json(episodes: &[&Episode], out: &mut impl Write) -> anyhow::Result<()> {
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

fn time(second: i64) -> String {
    Timestamp::from_second(second).map_or_else(|_| second.to_string(), |time| time.to_string())
}

fn duration(seconds: i64) -> String {
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, s) => format!("{m}m {s:02}s"),
        (0, h, m, _) => format!("{h}h {m:02}m"),
        (d, h, _, _) => format!("{d}d {h:02}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_told_in_two_units() {
        let told = [7, 65, 3_700, 90_000].map(duration);
        assert_eq!(told, ["7s", "1m 05s", "1h 01m", "1d 01h"]);
    }
}
