//! This crate, scikit-learn and onnxruntime by turns, in one go and on one thread each, so that a busy machine
//! is busy for all of them. Prints medians over the rounds and ratios.
//!
//! ```text
//! cargo bench -p linfa-isolation-forest --bench forest_vs_sklearn
//! ```

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use linfa::DatasetBase;
use linfa::traits::Fit;
use linfa_isolation_forest::{IsolationForest, IsolationForestParams};
use ndarray::Array2;
use support::data::stream_like;
use support::python;

const ROWS: usize = 100_000;
const ROUNDS: usize = 7;

fn main() -> std::io::Result<()> {
    // `cargo test --benches` starts benches without this flag, to see that they start.
    if !std::env::args().any(|arg| arg == "--bench") {
        return Ok(());
    }
    let Some(python) = python::interpreter("forest_vs_sklearn") else { return Ok(()) };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool of one thread");
    pool.install(|| compare(&python))
}

fn compare(python: &Path) -> std::io::Result<()> {
    let rows = stream_like(ROWS, 7);
    let forest = fit(params(), &rows);
    let folder = tempfile::tempdir()?;
    let (cells, model) = (folder.path().join("rows.f64"), folder.path().join("model.onnx"));
    std::fs::write(&cells, rows.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())?;
    std::fs::write(&model, forest.export_onnx().expect("exported"))?;
    let mut peer = Peer::start(python, &cells, rows.ncols(), &model)?;
    let versions = peer.ask("versions")?;

    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{ROWS} rows x 5 features, 100 trees x 256 samples, one thread, median of {ROUNDS} rounds by turns"
    )?;
    writeln!(out, "scikit-learn and onnxruntime: {versions}")?;
    let fit_contaminated = || seconds(|| fit(params().contamination(0.05), &rows));
    let batch = || seconds(|| forest.score_samples(&rows));
    let row = || each_row(&forest, &rows);
    for (name, job, ours) in [
        ("fit", "fit", &(|| seconds(|| fit(params(), &rows))) as &dyn Fn() -> Vec<f64>),
        ("fit, contamination 0.05", "fit_contamination", &fit_contaminated),
        ("score the batch", "batch", &batch),
        ("score one row", "row", &row),
        ("score the batch, onnxruntime", "onnx_batch", &batch),
        ("score one row, onnxruntime", "onnx_row", &row),
    ] {
        let (mut here, mut there) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            here.push(ours());
            there.push(peer.ask_seconds(job)?);
        }
        for (column, what) in ["p50", "p99"].iter().enumerate().take(here[0].len()) {
            let (here, there) = (median(&here, column), median(&there, column));
            let what = if job.ends_with("row") { format!("{name} {what}") } else { name.to_string() };
            let rate = if job.ends_with("batch") {
                format!("  {:>9.0} rows/s against {:>7.0}", ROWS as f64 / here, ROWS as f64 / there)
            } else {
                String::new()
            };
            let (ours, theirs) = (here * 1e6, there * 1e6);
            writeln!(
                out,
                "{what:32} {ours:>10.1} us against {theirs:>10.1} us: {:>6.1} x{rate}",
                there / here
            )?;
        }
    }
    peer.stop()
}

fn params() -> IsolationForestParams {
    IsolationForest::params().n_estimators(100).max_samples(256_usize).seed(1)
}

fn fit(params: IsolationForestParams, rows: &Array2<f64>) -> IsolationForest {
    params.fit(&DatasetBase::from(rows.view())).expect("fitted")
}

fn seconds<R>(work: impl FnOnce() -> R) -> Vec<f64> {
    let start = Instant::now();
    black_box(work());
    vec![start.elapsed().as_secs_f64()]
}

/// p50 and p99 of single rows, each another one.
fn each_row(forest: &IsolationForest, rows: &Array2<f64>) -> Vec<f64> {
    let mut times: Vec<f64> = rows
        .outer_iter()
        .take(20_000)
        .map(|row| {
            let row = row.to_slice().expect("rows are contiguous");
            let start = Instant::now();
            black_box(forest.score_row(black_box(row)).expect("a score"));
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    vec![times[times.len() / 2], times[times.len() * 99 / 100]]
}

fn median(rounds: &[Vec<f64>], column: usize) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(|round| round[column]).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The other side: a Python that does one job a line.
struct Peer {
    child: Child,
    jobs: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    fn start(python: &Path, cells: &Path, features: usize, model: &Path) -> std::io::Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/bench_peer.py");
        let mut command = Command::new(python);
        command.arg(script).arg(cells).arg(features.to_string()).arg(model);
        for threads in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"] {
            command.env(threads, "1");
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let jobs = child.stdin.take().expect("stdin is piped");
        let answers = BufReader::new(child.stdout.take().expect("stdout is piped"));
        Ok(Self { child, jobs, answers })
    }

    fn ask(&mut self, job: &str) -> std::io::Result<String> {
        writeln!(self.jobs, "{job}")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        Ok(answer.trim().to_string())
    }

    fn ask_seconds(&mut self, job: &str) -> std::io::Result<Vec<f64>> {
        Ok(serde_json::from_str(&self.ask(job)?)?)
    }

    fn stop(self) -> std::io::Result<()> {
        let Self { mut child, jobs, .. } = self;
        drop(jobs);
        child.wait()?;
        Ok(())
    }
}
