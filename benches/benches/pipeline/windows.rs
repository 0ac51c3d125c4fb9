//! The bench job at full speed: windows, rules and nothing stored, against a drain of the same topic; and everything that
//! the program does by default, every log in Parquet, against the former.

use crate::bench::{Bench, Step};
use crate::drain;
use crate::process::{Cost, Process};
use crate::report::{Bar, Figure, Spread};
use crate::topic::Topic;
use crate::truth::{HOP, Truth};
use crate::workload::Workload;
use anyhow::ensure;

/// Logs that take no time: what a run takes is its start and its end.
const ALMOST_NOTHING: u64 = 1_000;

/// What a run does with the logs.
#[derive(Clone, Copy)]
enum Job {
    /// Windows, rules and scores; nothing is stored.
    Windows,
    /// Whatever is on by default, results in SQLite, every log in Parquet in a folder.
    All,
}

impl Job {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            // As many services as are measured get state of their own.
            Job::Windows => {
                &["--store", "none", "--patterns-enabled=false", "--engine-max-services", "100000"]
            }
            Job::All => &["--store", "sqlite:state.db", "--store-raw-logs=false", "--export", "lake"],
        }
    }
}

/// Millions of logs a second, one value a round.
type Rates = Vec<f64>;

/// What the runs of one kind cost.
#[derive(Default)]
struct Runs {
    rates: Rates,
    cpu_us: Vec<f64>,
    peak_mib: Vec<f64>,
}

impl Runs {
    fn push(&mut self, logs: u64, cost: Cost) {
        self.rates.push(logs as f64 / cost.wall.as_secs_f64() / 1e6);
        self.cpu_us.push(cost.cpu.as_secs_f64() * 1e6 / logs as f64);
        self.peak_mib.push(cost.peak_mib);
    }
}

/// The bench job with 1 and 2 workers.
pub fn measure(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let workload = Workload::bench_job(bench.logs);
    let (topic, truth) = bench.topic("windows", &workload)?;
    let almost_nothing = Workload::bench_job(ALMOST_NOTHING);
    let (small, small_truth) = bench.topic("start", &almost_nothing)?;
    let [mut drain_1, mut drain_2, mut windows_1, mut windows_2, mut all_2]: [Runs; 5] = Default::default();
    let [mut drain_start, mut windows_start]: [Vec<f64>; 2] = Default::default();
    // The broker compiles its code and the kernel caches the topic.
    drained(bench, (&topic, bench.logs), 2, "warming up")?;
    for round in 1..=bench.rounds {
        let round = format!("round {round} of {}", bench.rounds);
        for (threads, drains, windows) in
            [(1, &mut drain_1, &mut windows_1), (2, &mut drain_2, &mut windows_2)]
        {
            drains.push(bench.logs, drained(bench, (&topic, bench.logs), threads, &round)?);
            windows.push(bench.logs, windowed(bench, Job::Windows, (&topic, &truth), threads, &round)?);
        }
        all_2.push(bench.logs, windowed(bench, Job::All, (&topic, &truth), 2, &round)?);
        drain_start.push(milliseconds(drained(bench, (&small, ALMOST_NOTHING), 2, &round)?));
        windows_start.push(milliseconds(windowed(bench, Job::Windows, (&small, &small_truth), 2, &round)?));
    }
    let against = |name: &str, bar, ours: &Runs, limit: &Runs| {
        Figure::ratio(
            name,
            Bar::AtLeast(bar),
            ratios(&ours.rates, &limit.rates),
            of(&ours.rates, &limit.rates),
        )
    };
    let cost = |name: &str, runs: &Runs| Figure::plain(name, Bar::Shown, "µs", runs.cpu_us.clone());
    Ok(vec![
        against("windows, 2 workers, against a drain with 2 threads", 0.80, &windows_2, &drain_2),
        against("windows, 1 worker, against a drain with 1 thread", 0.65, &windows_1, &drain_1),
        against("windows, 2 workers against 1", 1.6, &windows_2, &windows_1),
        against("all, 2 workers, against windows", 0.5, &all_2, &windows_2),
        Figure::plain(
            "peak memory, windows, 2 workers",
            Bar::AtMost(300.0),
            "MiB",
            windows_2.peak_mib.clone(),
        ),
        Figure::plain("peak memory, all, 2 workers", Bar::AtMost(600.0), "MiB", all_2.peak_mib.clone()),
        Figure::plain("peak memory, drain, 2 threads", Bar::Shown, "MiB", drain_2.peak_mib.clone()),
        cost("processor time a log, windows, 2 workers", &windows_2),
        cost("processor time a log, all, 2 workers", &all_2),
        cost("processor time a log, drain, 2 threads", &drain_2),
        Figure::plain("start to end with 1,000 logs, windows, 2 workers", Bar::Shown, "ms", windows_start),
        Figure::plain("start to end with 1,000 logs, drain, 2 threads", Bar::Shown, "ms", drain_start),
    ])
}

/// Many services instead of 20.
pub fn measure_services(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let logs = bench.logs / 4;
    let topic = |services: usize| {
        bench.topic(&format!("{services}-services"), &Workload::of_services(services, logs))
    };
    let few = topic(20)?;
    let mut figures = Vec::new();
    for (services, bar) in [(2_000, 0.7), (50_000, 0.3)] {
        let many = topic(services)?;
        drained(bench, (&many.0, logs), 2, "warming up")?;
        let [mut of_few, mut of_many]: [Runs; 2] = Default::default();
        for round in 1..=bench.rounds {
            let round = format!("round {round} of {}", bench.rounds);
            of_few.push(logs, windowed(bench, Job::Windows, (&few.0, &few.1), 2, &round)?);
            of_many.push(logs, windowed(bench, Job::Windows, (&many.0, &many.1), 2, &round)?);
        }
        figures.push(Figure::ratio(
            format!("windows, {services} services against 20"),
            Bar::AtLeast(bar),
            ratios(&of_many.rates, &of_few.rates),
            of(&of_many.rates, &of_few.rates),
        ));
        let name = format!("peak memory, {services} services, 2 workers");
        figures.push(Figure::plain(name, Bar::Shown, "MiB", of_many.peak_mib));
    }
    Ok(figures)
}

fn drained(bench: &Bench, (topic, logs): (&Topic, u64), threads: usize, round: &str) -> anyhow::Result<Cost> {
    let _step = Step::begin(format!("{round}: drain, {threads} threads"), None);
    let mut process = Process::start(drain::command(&bench.brokers, &topic.name, threads)?)?;
    let cost = process.finish()?;
    let printed = process.printed()?;
    let found = printed.split_whitespace().next().unwrap_or_default();
    ensure!(found == logs.to_string(), "the drain found `{found}` records, expected {logs}");
    Ok(cost)
}

/// One run of the program, its windows checked.
fn windowed(
    bench: &Bench,
    job: Job,
    (topic, truth): (&Topic, &Truth),
    workers: usize,
    round: &str,
) -> anyhow::Result<Cost> {
    let what = match job {
        Job::Windows => "windows",
        Job::All => "all",
    };
    let _step = Step::begin(format!("{round}: {what} of {}, {workers} workers", topic.name), None);
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("windows.csv");
    let (workers, hop) = (workers.to_string(), format!("{HOP}s"));
    let path = file.to_string_lossy();
    let mut arguments = vec!["--until-end", "--workers", &workers, "--windows-out", &path, "--hop", &hop];
    arguments.extend(job.arguments());
    let cost = bench.run(topic, &arguments)?.finish()?;
    truth.check(&file)?;
    Ok(cost)
}

fn milliseconds(cost: Cost) -> f64 {
    cost.wall.as_secs_f64() * 1e3
}

/// Quotients, round by round: what disturbs one round disturbs both of its runs.
pub fn ratios(ours: &[f64], limit: &[f64]) -> Vec<f64> {
    ours.iter().zip(limit).map(|(ours, limit)| ours / limit).collect()
}

fn of(ours: &[f64], limit: &[f64]) -> String {
    format!("{} of {} M logs/s", Spread(ours, ""), Spread(limit, ""))
}
