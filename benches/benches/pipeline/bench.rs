//! What every measurement needs: where the services are, how much to do, and a line that says what is being done.

use crate::process::Process;
use crate::topic::Topic;
use crate::truth::Truth;
use crate::workload::{PARTITIONS, Workload};
use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Logs of the bench job.
const LOGS: u64 = 4_000_000;
const QUICK_LOGS: u64 = 400_000;
const ROUNDS: usize = 3;

pub struct Bench {
    pub brokers: String,
    pub postgres: String,
    pub program: PathBuf,
    pub quick: bool,
    pub logs: u64,
    pub rounds: usize,
}

/// The value of a variable, where it is set and not empty.
pub fn number(variable: &str) -> anyhow::Result<Option<u64>> {
    match std::env::var(variable).unwrap_or_default().as_str() {
        "" => Ok(None),
        text => {
            Ok(Some(text.parse().with_context(|| format!("{variable}: expected a number, found {text}"))?))
        }
    }
}

impl Bench {
    pub fn new(brokers: String, postgres: String, program: PathBuf, quick: bool) -> anyhow::Result<Self> {
        let (logs, rounds) = if quick { (QUICK_LOGS, 1) } else { (LOGS, ROUNDS) };
        let logs = number("SMARTLOG_BENCH_LOGS")?.unwrap_or(logs).max(1_000);
        let rounds = number("SMARTLOG_BENCH_ROUNDS")?.map_or(rounds, |rounds| rounds.max(1) as usize);
        Ok(Bench { brokers, postgres, program, quick, logs, rounds })
    }

    /// `smartlog run` over a topic.
    pub fn run(&self, topic: &Topic, arguments: &[&str]) -> anyhow::Result<Process> {
        let mut command = Command::new(&self.program);
        command.args(["run", "--brokers", &self.brokers, "--topic", &topic.name]).args(arguments);
        Process::start(command)
    }

    /// Produces a workload into a topic of its own.
    pub fn topic(&self, stem: &str, workload: &Workload) -> anyhow::Result<(Topic, Truth)> {
        let step = Step::begin(format!("producing {} logs ({stem})", workload.logs), Some(workload.logs));
        let topic = Topic::create(&self.brokers, stem, Duration::from_millis(20))?;
        let truth = workload.produce(|index, line| {
            step.advance();
            topic.send(index % PARTITIONS, line, None)
        })?;
        topic.flush()?;
        Ok((topic, truth))
    }
}

/// Something under way: a bar or a spinner on a terminal, else one line.
pub struct Step(ProgressBar);

impl Step {
    pub fn begin(what: String, length: Option<u64>) -> Self {
        if !std::io::stderr().is_terminal() {
            // Nobody reads it when this fails.
            let _ = writeln!(std::io::stderr(), "pipeline: {what}");
            return Step(ProgressBar::hidden());
        }
        let (bar, template) = match length {
            Some(length) => (ProgressBar::new(length), "{spinner} {msg} {wide_bar} {eta}"),
            None => (ProgressBar::new_spinner(), "{spinner} {msg} {elapsed}"),
        };
        // An unknown word in the template is the one way in which this fails.
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = bar.with_style(style).with_message(what);
        bar.enable_steady_tick(Duration::from_millis(120));
        Step(bar)
    }

    pub fn advance(&self) {
        self.0.inc(1);
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
