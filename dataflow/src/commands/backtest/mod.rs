//! `smartlog backtest`: the same dataflow over history, with other rules or another model, against what was raised.
//!
//! ```text
//!   history ──▶ engine, as it would be ──▶ episodes ─┐
//!                                                    ├─ compare ─▶ added, removed, changed, unchanged
//!   the store, or the engine as it is ──▶ episodes ──┘      └────▶ precision, recall (with labels), picture
//! ```

mod compare;
mod judged;
mod picture;

use crate::cli::BacktestArgs;
use crate::commands::job;
use crate::config::{Config, Layers, Loaded, OutputFormat, StoreUrl};
use crate::engine::{Job, StartModels};
use crate::history::{self, From, History, Interval};
use crate::models::{Scoring, ordered};
use anyhow::Context as _;
use compare::{Change, Raised, compare};
use jiff::Timestamp;
use judged::Judged;
use serde::Serialize;
use smartlog_generator::Labels;
use smartlog_operators::score::ModelOrder;
use smartlog_schema::anomaly::{Episode, EpisodeKey, Status};
use smartlog_schema::commit::EpochCommit;
use smartlog_schema::window::MICROS;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

/// Runs the history through and prints how the episodes differ.
pub fn run(config: &Config, args: &BacktestArgs) -> anyhow::Result<ExitCode> {
    let wanted = args.history.interval();
    let labels = args.labels.as_deref().map(read_labels).transpose()?;
    let mut tried = match &args.rules {
        Some(file) => with_rules(config, file)?,
        None => config.clone(),
    };
    let model = args.model.as_deref().map(|model| ordered(config, model)).transpose()?;
    // It is tried by what it would raise.
    tried.detection.multivariate_outlier.enabled |= model.is_some();
    let history = History::open(config, &args.history.from, wanted.begun_earlier(args.warm_up))?;
    let after = episodes_of(&tried, &history, model, wanted)?;
    let (against, before) = match of_store(config, args, wanted)? {
        Some(episodes) => (config.store.url.to_string(), episodes),
        None => ("the settings in force".to_owned(), episodes_of(config, &history, None, wanted)?),
    };
    let changes = compare(before, after);
    let found = changes.iter().filter_map(Change::after);
    let judged = labels.map(|labels| Judged::new(&labels, found, wanted.seconds()));
    let mut out = io::stdout().lock();
    match config.output.format {
        OutputFormat::Json => print_json(&against, &changes, judged, &mut out)?,
        OutputFormat::Table => print_table(&against, &changes, judged, &mut out)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The settings in force, but detection and time as the file has them.
fn with_rules(config: &Config, file: &Path) -> anyhow::Result<Config> {
    let layers =
        Layers { file: Some(file.to_owned()), in_use: Some(&["detection", "time"]), ..Layers::default() };
    let Config { detection, time, .. } = Loaded::load(&layers)?.config;
    Ok(Config { detection, time, ..config.clone() })
}

fn read_labels(path: &Path) -> anyhow::Result<Labels> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| {
        format!("{}: expected labels as smartlog generate --labels writes them", path.display())
    })
}

/// What a run over the history raises in the interval.
fn episodes_of(
    config: &Config,
    history: &History,
    model: Option<ModelOrder>,
    wanted: Interval,
) -> anyhow::Result<Vec<Raised>> {
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let noting = Arc::clone(&seen);
    // Patterns raise episodes, too.
    let parser = job::parser(config)?;
    let job = |job| {
        let job = Job { calendar: Vec::new(), parser, ..job };
        match model {
            None => job,
            Some(order) => Job { scoring: Some(Scoring::default()), models: Some(serving(order)), ..job },
        }
    };
    let observer = move |commit: &EpochCommit, progress: &history::Reached| {
        let mut seen = noting.lock().unwrap_or_else(PoisonError::into_inner);
        seen.note(commit);
        progress.reach(commit.clock.clock_us.div_euclid(MICROS), seen.0.len());
    };
    history.replay(config, "episodes", job, observer)?;
    let seen = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(seen.raised().filter(|raised| wanted.holds_second(raised.started_at)).collect())
}

/// One model, from the start.
fn serving(order: ModelOrder) -> StartModels {
    Box::new(move |_| {
        let (sender, orders) = std::sync::mpsc::sync_channel(1);
        sender.send(order).context("ordering the model")?;
        Ok(orders)
    })
}

/// What was raised in the store, where there is one that knows of the same logs.
fn of_store(config: &Config, args: &BacktestArgs, wanted: Interval) -> anyhow::Result<Option<Vec<Raised>>> {
    if matches!(args.history.from, From::File(_)) {
        return Ok(None);
    }
    let is_there = match &config.store.url {
        StoreUrl::Sqlite(file) => file.exists(),
        StoreUrl::None | StoreUrl::Postgres(_) => true,
    };
    let Some(store) = config.store_config().filter(|_| is_there) else { return Ok(None) };
    let (since, until) = wanted.seconds();
    let stored = super::block_on(smartlog_sinks::episodes_between(&store, since, until))?;
    let stored = stored.with_context(|| format!("reading what was raised from {}", config.store.url))?;
    // What people expect was raised all the same.
    let stands = stored.into_iter().map(Episode::unexpected).filter(|e| e.status != Status::Retracted);
    Ok(Some(stands.map(|episode| Raised::of(&episode)).collect()))
}

/// What the commits of one run said.
#[derive(Default)]
struct Seen(BTreeMap<EpisodeKey, Episode>);

impl Seen {
    fn note(&mut self, commit: &EpochCommit) {
        let changed = commit.episodes.iter().map(|change| &change.episode);
        self.0.extend(changed.map(|episode| (episode.key.clone(), episode.clone())));
    }

    fn raised(self) -> impl Iterator<Item = Raised> {
        let stands = self.0.into_values().filter(|episode| episode.status != Status::Retracted);
        stands.map(|episode| Raised::of(&episode))
    }
}

#[derive(Serialize)]
struct Summary<'a> {
    against: &'a str,
    added: usize,
    removed: usize,
    changed: usize,
    unchanged: usize,
    #[serde(flatten)]
    judged: Option<Judged>,
}

fn summary<'a>(against: &'a str, changes: &[Change], judged: Option<Judged>) -> Summary<'a> {
    let count = |kind: &str| changes.iter().filter(|change| change.kind() == kind).count();
    let (added, removed) = (count("added"), count("removed"));
    Summary { against, added, removed, changed: count("changed"), unchanged: count("unchanged"), judged }
}

fn print_json(
    against: &str,
    changes: &[Change],
    judged: Option<Judged>,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let episodes: Vec<_> = changes
        .iter()
        .map(|change| serde_json::json!({"change": change.kind(), "before": change.before(), "after": change.after()}))
        .collect();
    let told = serde_json::json!({"summary": summary(against, changes, judged), "episodes": episodes});
    serde_json::to_writer(&mut *out, &told)?;
    Ok(writeln!(out)?)
}

fn print_table(
    against: &str,
    changes: &[Change],
    judged: Option<Judged>,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let head = ["change", "service", "type", "started", "ended", "value", "threshold"].map(String::from);
    let row = |change: &Change| {
        let Raised { service, anomaly_type, started_at, ended_at, value, threshold, .. } = change.newest();
        [
            change.kind().to_owned(),
            service.clone().unwrap_or_else(|| "(whole stream)".to_owned()),
            anomaly_type.as_str().to_owned(),
            time(*started_at),
            ended_at.map_or("–".to_owned(), time),
            format!("{value:.4}"),
            format!("{threshold:.4}"),
        ]
    };
    let different = || changes.iter().filter(|change| change.kind() != "unchanged");
    if different().next().is_some() {
        super::write_columns(std::iter::once(head).chain(different().map(row)), out)?;
        writeln!(out)?;
    }
    let width = console::Term::stdout().size_checked().map_or(100, |(_, columns)| usize::from(columns));
    out.write_all(picture::draw(changes, width).as_bytes())?;
    let Summary { added, removed, changed, unchanged, .. } = summary(against, changes, None);
    writeln!(
        out,
        "against {against}: {added} added, {removed} removed, {changed} changed, {unchanged} unchanged"
    )?;
    if let Some(Judged { incidents, found, right, wrong, precision, recall }) = judged {
        let share = |share: Option<f64>| share.map_or("–".to_owned(), |share| format!("{share:.3}"));
        writeln!(
            out,
            "{found} of {incidents} incidents found, {right} episodes right, {wrong} wrong: precision {}, recall {}",
            share(precision),
            share(recall)
        )?;
    }
    Ok(())
}

fn time(second: i64) -> String {
    Timestamp::from_second(second).map_or_else(|_| second.to_string(), |time| time.to_string())
}
