//! Scores the rows of a CSV file.
//!
//! ```text
//! cargo run --release -p linfa-isolation-forest --example score -- --train F.csv [--label-last] [--seed N]
//!     fits a forest on the rows and prints their anomaly scores, one a line, higher = more anomalous
//! cargo run --release -p linfa-isolation-forest --example score -- --import FOREST.json --rows R.csv
//!     prints scikit-learn's score_samples of the rows for a forest that scikit-learn fitted
//! ```

use std::error::Error;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use linfa::DatasetBase;
use linfa::traits::Fit;
use linfa_isolation_forest::IsolationForest;
use ndarray::Array2;

const USAGE: &str = "usage: score --train F.csv [--label-last] [--seed N]
       score --import FOREST.json --rows R.csv

  --train F.csv     fit on the rows of F.csv and print one anomaly score a line
  --label-last      leave the last column out: it is the label
  --seed N          seed of the fit (42)
  --import F.json   a forest of scikit-learn's, as the README tells how to write it
  --rows R.csv      rows to print score_samples of; columns beyond the forest's features are left out

A first line without any number names the columns.";

enum Job {
    Train { csv: PathBuf, label_last: bool, seed: u64 },
    Import { forest: PathBuf, rows: PathBuf },
}

fn main() -> ExitCode {
    if std::env::args().any(|arg| arg == "--help" || arg == "-h") {
        // Nothing is left to do when stdout is closed.
        let _ = writeln!(std::io::stdout(), "{USAGE}");
        return ExitCode::SUCCESS;
    }
    let job = match parse(std::env::args().skip(1)) {
        Ok(job) => job,
        Err(reason) => return fail(&format!("{reason}\n\n{USAGE}"), 2),
    };
    match run(&job).and_then(|(scores, sign)| print(&scores, sign)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string(), 1),
    }
}

fn fail(message: &str, code: u8) -> ExitCode {
    // Nothing is left to do when stderr is closed.
    let _ = writeln!(std::io::stderr(), "score: {message}");
    ExitCode::from(code)
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Job, String> {
    let (mut train, mut import, mut rows, mut seed, mut label_last) = (None, None, None, 42, false);
    while let Some(flag) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{flag}: expected a value, found none"));
        match flag.as_str() {
            "--train" => train = Some(PathBuf::from(value()?)),
            "--import" => import = Some(PathBuf::from(value()?)),
            "--rows" => rows = Some(PathBuf::from(value()?)),
            "--label-last" => label_last = true,
            "--seed" => {
                let text = value()?;
                seed = text.parse().map_err(|_| format!("--seed: expected a whole number, found {text}"))?;
            }
            other => return Err(format!("expected a flag from below, found {other}")),
        }
    }
    match (train, import, rows) {
        (Some(csv), None, None) => Ok(Job::Train { csv, label_last, seed }),
        (None, Some(forest), Some(rows)) => Ok(Job::Import { forest, rows }),
        _ => Err("expected either --train, or --import with --rows".to_string()),
    }
}

/// `score_samples` and the sign to print them with.
fn run(job: &Job) -> Result<(Vec<f64>, f64), Box<dyn Error>> {
    match job {
        Job::Train { csv, label_last, seed } => {
            let data =
                DatasetBase::from(read_csv(csv, |columns| columns.saturating_sub(usize::from(*label_last)))?);
            let forest = IsolationForest::params().seed(*seed).fit(&data)?;
            Ok((forest.score_samples(data.records())?.to_vec(), -1.0))
        }
        Job::Import { forest, rows } => {
            let json = std::fs::read(forest).map_err(|error| format!("{}: {error}", forest.display()))?;
            let forest = IsolationForest::from_sklearn_json(&json)
                .map_err(|error| format!("{}: {error}", forest.display()))?;
            let rows = read_csv(rows, |columns| columns.min(forest.n_features()))?;
            Ok((forest.score_samples(&rows)?.to_vec(), 1.0))
        }
    }
}

/// The first columns of a CSV file; `keep` tells how many of them. A first line of names is skipped.
fn read_csv(path: &Path, keep: impl Fn(usize) -> usize) -> Result<Array2<f64>, Box<dyn Error>> {
    let name = path.display();
    let reader = csv::ReaderBuilder::new().has_headers(false).trim(csv::Trim::All).from_path(path);
    let mut reader = reader.map_err(|error| format!("{name}: {error}"))?;
    let mut values = Vec::new();
    let (mut rows, mut columns) = (0, 0);
    for (line, record) in (1..).zip(reader.records()) {
        let record = record.map_err(|error| format!("{name}: {error}"))?;
        if line == 1 {
            columns = keep(record.len());
            if record.iter().all(|field| field.parse::<f64>().is_err()) {
                continue;
            }
        }
        for (column, field) in (1..).zip(record.iter().take(columns)) {
            let value = field.parse::<f64>().map_err(|_| {
                format!("{name}: line {line}, column {column}: expected a number, found {field:?}")
            })?;
            values.push(value);
        }
        rows += 1;
    }
    Ok(Array2::from_shape_vec((rows, columns), values)?)
}

fn print(scores: &[f64], sign: f64) -> Result<(), Box<dyn Error>> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let written =
        scores.iter().try_for_each(|score| writeln!(out, "{}", sign * score)).and_then(|()| out.flush());
    match written {
        // `score … | head` closes the pipe, and that is all right.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
