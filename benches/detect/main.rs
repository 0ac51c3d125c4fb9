//! How well does the program detect? Precision, recall, F1, false episodes per service and day, delay; of all detectors
//! together, of each alone, and without each.
//!
//! ```text
//!   corpus ──lines──▶ smartlog analyze ──episodes──▶ judge ──▶ figures ──▶ tables, JSON, bars
//!      └─────────────────labels──────────────────────▲
//! ```
//!
//! The program runs as a child process and is asked as a user asks it; what judges it knows the labels and nothing of
//! the detectors. docs/DETECTION.md says what each figure means.
//!
//!     make detect                         the held-out seeds
//!     make detect SET=tune WORST=20       the seeds for tuning, and what went worst
//!     make detect BASELINE=before.json    what changed since

mod bars;
mod corpus;
mod judge;
mod program;
mod report;
mod shared_evaluator;
mod stats;

use anyhow::Context as _;
use clap::Parser;
use corpus::{Amount, Case, Corpus, Labels, Set};
use indicatif::{ProgressBar, ProgressStyle};
use judge::{Judgement, judge};
use program::{Alarm, Program};
use report::{Report, Row};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Every anomaly type that a detector raises.
const DETECTORS: [&str; 5] =
    ["error_rate_spike", "log_volume_spike", "log_volume_drop", "multivariate_outlier", "new_pattern"];

/// Judges `smartlog analyze` by labelled logs.
#[derive(Debug, Parser)]
struct Options {
    /// Which seeds
    #[arg(long, value_enum, default_value = "held-out")]
    set: Set,
    /// Only these corpora
    #[arg(long, value_enum)]
    corpus: Vec<Corpus>,
    /// Few and short cases: shows that it works, the figures mean nothing
    #[arg(long)]
    quick: bool,
    /// Run again without each detector, by its switch; otherwise its episodes are left out, which is nearly the same
    #[arg(long)]
    without_each: bool,
    /// Table for people or JSON for programs
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Write the JSON to this file as well
    #[arg(long)]
    out: Option<PathBuf>,
    /// JSON of an earlier run to compare with
    #[arg(long)]
    baseline: Option<PathBuf>,
    /// List so many of the misses and false episodes of each kind
    #[arg(long, default_value_t = 0)]
    worst: usize,
    /// End with 1 when a bar is missed
    #[arg(long)]
    check: bool,
    /// Further arguments for `smartlog analyze`, after `--`
    #[arg(last = true)]
    arguments: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Table,
    Json,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(code) => code,
        Err(error) => {
            tell(&format!("detect: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let amount = Amount { set: options.set, quick: options.quick };
    let program = Program { path: smartlog_benches::program::find()?, arguments: options.arguments.clone() };
    let (cases, missing) = corpus::cases(&options.corpus, &amount)?;
    missing.iter().for_each(|what| tell(&format!("detect: {what}")));
    let runs = analyze(&program, &cases, "all")?;
    let mut rows = rows_of_one_run(&runs);
    for detector in DETECTORS.into_iter().filter(|detector| raised(&runs, detector)) {
        rows.extend(rows_without(options, &program, &cases, &runs, detector)?);
    }
    rows.sort_by_key(|row| row.corpus);
    let report = Report {
        set: options.set,
        quick: options.quick,
        missing,
        seconds: began.elapsed().as_secs(),
        evaluator: shared_evaluator::ask(&runs)?,
        kinds: report::kinds(&runs),
        verdicts: bars::verdicts(options.set, options.quick, &rows, &runs),
        rows,
    };
    publish(options, &report, &runs)
}

fn publish(options: &Options, report: &Report, runs: &[Run<'_>]) -> anyhow::Result<ExitCode> {
    let json = serde_json::to_string_pretty(report)?;
    if let Some(file) = &options.out {
        std::fs::write(file, &json).with_context(|| format!("writing {}", file.display()))?;
    }
    let mut out = std::io::stdout().lock();
    match options.format {
        Format::Json => writeln!(out, "{json}")?,
        Format::Table => {
            let before = options.baseline.as_ref().map(report::read).transpose()?;
            write!(out, "{}", report.tables(before.as_ref()))?;
            write!(out, "{}", report::worst(runs, options.worst))?;
        }
    }
    let missed = report.verdicts.iter().filter(|verdict| !verdict.reached).count();
    if missed > 0 && options.check {
        tell(&format!("detect: {missed} of {} bars are missed", report.verdicts.len()));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// A case after the program has seen it.
pub struct Run<'a> {
    case: &'a Case,
    labels: Labels,
    alarms: Vec<Alarm>,
    judgement: Judgement,
}

impl Run<'_> {
    /// The same with some of the alarms and incidents only.
    fn judged(&self, keep: impl Fn(&Alarm) -> bool, expect: impl Fn(&corpus::Incident) -> bool) -> Judgement {
        let alarms: Vec<Alarm> = self.alarms.iter().filter(|alarm| keep(alarm)).cloned().collect();
        let mut judgement = judge(&self.labels, &alarms);
        let expected = self.labels.incidents.iter().map(expect).collect::<Vec<bool>>();
        let mut expected = expected.into_iter();
        judgement.fates.retain(|_| expected.next().unwrap_or(true));
        judgement
    }
}

fn analyze<'a>(program: &Program, cases: &'a [Case], what: &str) -> anyhow::Result<Vec<Run<'a>>> {
    let mut order: Vec<&Case> = cases.iter().collect();
    order.sort_by_key(|case| std::cmp::Reverse(case.size));
    let bar = ProgressBar::new(cases.iter().map(|case| case.size).sum());
    if let Ok(style) =
        ProgressStyle::with_template("{msg:30} {bar:40} {human_pos} of {human_len} lines, {eta}")
    {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    let runs = parallel(&order, |case| {
        let (alarms, labels) = program.analyze(case)?;
        bar.inc(case.size);
        let judgement = judge(&labels, &alarms);
        Ok(Run { case, labels, alarms, judgement })
    });
    bar.finish_and_clear();
    let mut runs = runs.into_iter().collect::<anyhow::Result<Vec<Run<'a>>>>()?;
    runs.sort_by(|a, b| (a.case.corpus, &a.case.name).cmp(&(b.case.corpus, &b.case.name)));
    Ok(runs)
}

fn raised(runs: &[Run<'_>], detector: &str) -> bool {
    runs.iter().any(|run| run.alarms.iter().any(|alarm| alarm.anomaly_type == detector))
}

/// All detectors, and each alone on the incidents that it is for.
fn rows_of_one_run(runs: &[Run<'_>]) -> Vec<Row> {
    let mut rows = report::rows(runs, "all", &|run| run.judgement.clone());
    for detector in DETECTORS.into_iter().filter(|detector| raised(runs, detector)) {
        let of = |run: &Run<'_>| {
            run.judged(
                |alarm| alarm.anomaly_type == detector,
                |incident| incident.accepts.first().is_some_and(|first| first == detector),
            )
        };
        rows.extend(report::rows(runs, &format!("only {detector}"), &of));
    }
    rows
}

fn rows_without(
    options: &Options,
    program: &Program,
    cases: &[Case],
    runs: &[Run<'_>],
    detector: &str,
) -> anyhow::Result<Vec<Row>> {
    let name = format!("without {detector}");
    if options.without_each && program.knows(detector)? {
        let runs = analyze(&program.without(detector), cases, &name)?;
        return Ok(report::rows(&runs, &name, &|run| run.judgement.clone()));
    }
    let of = |run: &Run<'_>| run.judged(|alarm| alarm.anomaly_type != detector, |_| true);
    Ok(report::rows(runs, &name, &of))
}

/// Does `work` for each item on as many threads as there are cores; the results in the order of the items.
fn parallel<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(&T) -> anyhow::Result<R> + Sync,
) -> Vec<anyhow::Result<R>> {
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<anyhow::Result<R>>>> = items.iter().map(|_| Mutex::new(None)).collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(items.len());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { break };
                    let result = work(item);
                    if let Ok(mut slot) = results[index].lock() {
                        *slot = Some(result);
                    }
                }
            });
        }
    });
    let taken = |slot: Mutex<Option<anyhow::Result<R>>>| match slot.into_inner() {
        Ok(Some(result)) => result,
        _ => Err(anyhow::anyhow!("a thread of the harness ended early")),
    };
    results.into_iter().map(taken).collect()
}

/// To people, on stderr.
fn tell(text: &str) {
    // Nothing can be done about a stderr that is closed.
    let _ = writeln!(std::io::stderr(), "{text}");
}
