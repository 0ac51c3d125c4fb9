//! How near does the program come to what the machine, Kafka and PostgreSQL allow?
//!
//! ```text
//!   services ─▶ topics ─▶ rounds: limit, program, limit, program … ─▶ figures ─▶ table, JSON
//! ```
//!
//! Every limit is measured in the same run, in turn with the program. The program runs as a child process, from its
//! start to its exit, and what it says is checked each time: a wrong answer is no figure. `docs/BENCHMARKS.md` says
//! what each row means.
//!
//!     make bench BENCH="--bench pipeline"                 all of it
//!     make bench BENCH="--bench pipeline -- live"         one part: windows, services, postgres, live, recovery
//!     make bench BENCH="--bench pipeline" QUICK=1         a smoke test of the benchmark itself

mod bench;
mod copy;
mod drain;
mod live;
mod process;
mod recovery;
mod report;
mod topic;
mod truth;
mod windows;
mod workload;

use anyhow::{Context as _, ensure};
use bench::Bench;
use report::{Circumstances, Figure};
use smartlog_benches::program;
use smartlog_test_services::Service;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Instant;

/// The drain has the allocator that the program has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A part of the benchmark and how it is measured.
type Part = (&'static str, fn(&Bench) -> anyhow::Result<Vec<Figure>>);

const PARTS: [Part; 5] = [
    ("windows", windows::measure),
    ("services", windows::measure_services),
    ("postgres", copy::measure),
    ("live", live::measure),
    ("recovery", recovery::measure),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.split_first() {
        Some((first, rest)) if first == drain::WORD => drain::main(rest),
        // `cargo test` runs benchmarks as tests, without this word.
        _ if arguments.iter().any(|argument| argument == "--bench") => run(&arguments),
        _ => say("not run: this is for `make bench`"),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing can be done about a stderr that is closed.
            let _ = writeln!(std::io::stderr(), "pipeline: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

fn run(arguments: &[String]) -> anyhow::Result<()> {
    let wanted: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|word| !word.starts_with("--")).collect();
    let names = PARTS.map(|(name, _)| name);
    for word in &wanted {
        ensure!(names.contains(word), "there is no part {word}; the parts are {}", names.join(", "));
    }
    let (Some(kafka), Some(postgres)) = (Service::require("kafka"), Service::require("postgres")) else {
        return Ok(());
    };
    let quick = arguments.iter().any(|argument| argument == "--quick")
        || bench::number("SMARTLOG_BENCH_QUICK")?.is_some_and(|n| n > 0);
    let bench = Bench::new(kafka.address(), postgres.address(), program::find()?, quick)?;
    let (began, load_before, date) =
        (Instant::now(), load(), jiff::Timestamp::now().strftime("%F %H:%M UTC").to_string());
    let mut figures = Vec::new();
    for (name, measure) in PARTS.iter().filter(|(name, _)| wanted.is_empty() || wanted.contains(name)) {
        figures.extend(measure(&bench).with_context(|| format!("measuring {name}"))?);
    }
    let circumstances = Circumstances {
        version: env!("CARGO_PKG_VERSION"),
        date,
        quick,
        logs: bench.logs,
        rounds: bench.rounds,
        cores: std::thread::available_parallelism()?.get(),
        load_before,
        load_after: load(),
        seconds: began.elapsed().as_secs(),
    };
    publish(&circumstances, &figures)
}

fn publish(circumstances: &Circumstances, figures: &[Figure]) -> anyhow::Result<()> {
    let Circumstances { date, logs, rounds, cores, load_before, load_after, seconds, .. } = circumstances;
    let file = program::target_folder()?.join("smartlog-bench.json");
    std::fs::write(&file, report::json(circumstances, figures)?)
        .with_context(|| format!("writing {}", file.display()))?;
    say(&format!("\n{}", report::table(figures)))?;
    say(&format!(
        "{date}, {logs} logs, {rounds} rounds, {cores} cores, {seconds} s; load before: {load_before}, after: \
         {load_after}\nMedian (least–largest) of the rounds. Also in {}",
        file.display()
    ))?;
    if circumstances.quick {
        say("QUICK: this shows that the benchmark works; the figures and verdicts mean nothing.")?;
    }
    Ok(())
}

/// How busy the machine was over the last 1, 5 and 15 minutes.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}
