//! What the detectors are judged on: labelled logs of four sorts, none of which any detector was made from.
//!
//! ```text
//!   Set (tune, held-out, short) ──▶ cases ──▶ Lines: a file, or written into the program's stdin as it reads
//!                                        └──▶ Labels: incidents, excused times, where judging begins and ends
//! ```
//!
//! | corpus | file | what |
//! |---|---|---|
//! | shared | `replays.rs` | the replay that lies beside the checkout, where it does |
//! | mixed | `estates.rs`, `replays.rs` | our generator's estates, and replays of other specifications made by the shared replay's own maker |
//! | quiet | `estates.rs` | a week of season and bursts in which nothing is wrong |
//! | series | `series.rs`, `series_kinds.rs` | count series of the kinds of the Numenta benchmark, a row's count as so many logs |

pub mod estates;
pub mod replays;
pub mod series;
mod series_kinds;

use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::path::PathBuf;

/// As long after an incident's end an alarm still finds it, where lines come one by one.
const GRACE: Second = 60;
/// A window, and a minute.
const TAIL: Second = 360;

/// Seconds since 1970.
pub type Second = i64;

/// Which seeds. Tuning may look at [`Set::Tune`] and [`Set::TuneMore`] alone; what is published comes from [`Set::HeldOut`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Set {
    /// Seeds 1001, 1002, …: look at them as often as you like.
    Tune,
    /// Seeds 1101, 1102, …: to see whether what helped on the former helps on others.
    TuneMore,
    /// Seeds 2401, 2402, …: measured with a configuration that is settled.
    HeldOut,
    /// Seeds 3001, 3002, …: the few that `make test` asks.
    Short,
}

impl Set {
    /// The first `count` seeds.
    pub fn seeds(self, count: u64) -> impl Iterator<Item = u64> {
        let first = match self {
            Set::Tune => 1001,
            Set::TuneMore => 1101,
            Set::HeldOut => 2401,
            Set::Short => 3001,
        };
        first..first + count
    }
}

/// One of the four sorts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Corpus {
    /// The shared replay.
    Shared,
    /// Estates and replays of unseen seeds, with incidents.
    Mixed,
    /// A week in which nothing is wrong.
    Quiet,
    /// Plain count series.
    Series,
}

/// One stretch of logs, judged as a whole.
pub struct Case {
    pub corpus: Corpus,
    /// Names it in the output, seed included.
    pub name: String,
    /// Lines, roughly: the longest are begun first.
    pub size: u64,
    pub lines: Lines,
}

/// Writes the lines of a case and says what was in them.
pub type Writer = Box<dyn Fn(&mut dyn Write) -> anyhow::Result<Labels> + Send + Sync>;

/// Where a case's lines come from.
pub enum Lines {
    /// They lie in a file.
    File(PathBuf, Labels),
    /// They are made while the program reads.
    Made(Writer),
}

/// What is true of a case.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Labels {
    /// Alarms before this count for nothing.
    pub from: Second,
    /// When the logs end.
    pub to: Second,
    /// How long after an incident's end an alarm still finds it.
    pub grace: Second,
    /// How long after an incident's end alarms count for nothing: windows are still full of it.
    pub tail: Second,
    pub services: usize,
    pub incidents: Vec<Incident>,
    /// Times in which alarms count neither way.
    pub excused: Vec<Excused>,
}

/// Something that a detector should find.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    pub service: String,
    /// What was done: finer than the anomaly type.
    pub kind: String,
    /// The anomaly types that name it rightly.
    pub accepts: Vec<String>,
    pub start: Second,
    pub end: Second,
    /// How strong, in words.
    pub how: String,
}

/// A time in which a service may do what it likes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Excused {
    pub service: String,
    pub start: Second,
    pub end: Second,
}

/// How much of each corpus is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Amount {
    pub set: Set,
    /// A smoke test of the harness: few and short cases.
    pub quick: bool,
}

impl Amount {
    /// `full` cases, or as many as will do.
    fn cases(&self, full: u64, short: u64) -> u64 {
        if self.quick || self.set == Set::Short { short } else { full }
    }
}

/// The wanted cases, and what could not be had, for people.
pub fn cases(wanted: &[Corpus], amount: &Amount) -> anyhow::Result<(Vec<Case>, Vec<String>)> {
    let (mut cases, mut missing) = (Vec::new(), Vec::new());
    let wants = |corpus| wanted.is_empty() || wanted.contains(&corpus);
    let maker = replays::Maker::find();
    if maker.is_none() && (wants(Corpus::Shared) || wants(Corpus::Mixed)) {
        missing.push(replays::ABSENT.to_owned());
    }
    if let Some(maker) = &maker {
        if wants(Corpus::Shared) {
            cases.push(maker.shared()?);
        }
        if wants(Corpus::Mixed) {
            cases.extend(maker.others(amount)?);
        }
    }
    if wants(Corpus::Mixed) {
        cases.extend(estates::mixed(amount));
    }
    if wants(Corpus::Quiet) {
        cases.extend(estates::quiet(amount));
    }
    if wants(Corpus::Series) {
        cases.extend(series::cases(amount));
    }
    Ok((cases, missing))
}

/// Whether writing stopped because the reader has gone: its own words say why.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}
