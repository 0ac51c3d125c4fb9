//! How fast logs become Parquet files, and how large they are, beside pyarrow writing the same rows with the same codec.
//!
//! ```sh
//! SMARTLOG_TEST_PYTHON=$(scripts/services install python) cargo run --release -p smartlog-sinks --example parquet_rates
//! ```
//!
//! The sink does all of its work: hashing, taking fields out of metadata, counting characters, sorting, files, ledger (SQLite).
//! pyarrow starts from finished columns in memory (`columns`, in the order of arrival, so its file is not sorted), from those
//! which it sorts first (`sorted`: the same file), or from Python's own rows (`rows`). In turns, so that what slows the
//! machine slows both; the best of each by the clock, and the least processor time, for a busy machine.
#![allow(clippy::print_stdout, reason = "a table for people")]

use anyhow::{Context, Result, ensure};
use smartlog_schema::level::Level;
use smartlog_schema::log::{LogBatch, LogRef};
use smartlog_schema::position::TopicPartition;
use smartlog_sinks::parquet::ExportConfig;
use smartlog_sinks::{CancellationToken, Health, StoreConfig};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// As the program's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const T0: i64 = 1_768_471_200_000_000;
const ROUNDS: usize = 5;
const BATCH: i64 = 1_000;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let rows =
        std::env::var("SMARTLOG_BENCH_LOGS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(500_000_i64);
    let python = std::env::var("SMARTLOG_TEST_PYTHON").context("set SMARTLOG_TEST_PYTHON")?;
    let batches = batches(rows);
    let folder = tempfile::tempdir()?;
    let mut best = BTreeMap::<String, Run>::new();
    for round in 0..ROUNDS {
        let lake = folder.path().join(format!("lake{round}"));
        let ours = write(&lake, &batches).await?;
        for (name, run) in pyarrow(&python, &lake)?.into_iter().chain([(OURS.to_owned(), ours)]) {
            let best = best.entry(name).or_insert(run);
            let (seconds, processor) = (best.seconds.min(run.seconds), best.processor.min(run.processor));
            *best = Run { seconds, processor, bytes: run.bytes };
        }
        std::fs::remove_dir_all(lake)?;
    }
    let ours = *best.get(OURS).context("no round")?;
    println!("{rows} logs, best of {ROUNDS}; ratio: smartlog's rate by this one");
    println!("{:<18}{:>10}{:>8}{:>12}{:>8}{:>12}", "", "logs/s", "ratio", "µs of CPU", "ratio", "bytes/log");
    for (name, run) in &best {
        let (rate, ratio) = (rows as f64 / run.seconds, run.seconds / ours.seconds);
        let (micros, by_processor) = (run.processor * 1e6 / rows as f64, run.processor / ours.processor);
        let each = run.bytes as f64 / rows as f64;
        println!("{name:<18}{rate:>10.0}{ratio:>8.2}{micros:>12.2}{by_processor:>8.2}{each:>12.1}");
    }
    Ok(())
}

const OURS: &str = "smartlog";

/// What it took to write all logs once.
#[derive(Clone, Copy)]
struct Run {
    seconds: f64,
    /// Processor time, seconds.
    processor: f64,
    bytes: u64,
}

/// Processor time of this process seconds. The kernel counts it by hundredths.
fn processor() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(") ").context("/proc/self/stat")?.1;
    let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(ticks as f64 / 100.0)
}

fn batches(rows: i64) -> Vec<LogBatch> {
    let services =
        ["payment-service", "auth", "checkout", "catalogue", "search", "shipping", "mail", "gateway"];
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut batches = Vec::new();
    for first in (0..rows).step_by(BATCH as usize) {
        let mut batch = LogBatch::new(TopicPartition::new("logs", 0), first);
        for offset in first..(first + BATCH).min(rows) {
            let (took, user) = (random(5_000), random(20_000));
            let message = match random(5) {
                0 => format!("GET /api/v1/orders/{} 200 in {took} ms", random(1_000_000)),
                1 => format!(
                    "Database connection timeout after {took} ms to 10.0.{}.{}",
                    random(8),
                    random(250)
                ),
                2 => format!("cache miss for key user:{user}"),
                3 => format!("payment {:08x} authorised", random(u64::MAX) as u32),
                _ => "heartbeat".to_owned(),
            };
            let id = random(u64::MAX);
            let metadata =
                format!(r#"{{"request_id": "{id:016x}", "user_id": "user-{user}", "duration_ms": {took}}}"#);
            let host = format!("server-{:02}", random(40));
            batch.push(&LogRef {
                offset,
                timestamp_us: T0 + offset * 100 + random(2_000_000) as i64,
                level: Level::ALL[random(5) as usize],
                service: services[random(8) as usize],
                host: Some(&host),
                message: &message,
                metadata: Some(&metadata),
                shape: random(60) as i64 + 1,
            });
        }
        batch.next_offset = (first + BATCH).min(rows);
        batches.push(batch);
    }
    batches
}

async fn write(lake: &Path, batches: &[LogBatch]) -> Result<Run> {
    let store = tempfile::tempdir()?;
    let store = StoreConfig::new(format!("sqlite:{}", store.path().join("store.db").display()));
    let config = ExportConfig::new(lake.display().to_string());
    let mut sink = smartlog_sinks::parquet_sink(&config, &store, Health::new(), CancellationToken::new());
    sink.resume(&[TopicPartition::new("logs", 0)]).await?;
    let (begun, worked) = (Instant::now(), processor()?);
    for few in batches.chunks(10) {
        sink.write(few, T0).await?;
    }
    sink.finish().await?;
    let (seconds, processor) = (begun.elapsed().as_secs_f64(), processor()? - worked);
    Ok(Run { seconds, processor, bytes: bytes_in(lake)? })
}

fn bytes_in(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() { bytes_in(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}

/// Each way by its name.
fn pyarrow(python: &str, lake: &Path) -> Result<Vec<(String, Run)>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/parquet_rates.py");
    let output = Command::new(python).arg(script).arg(lake).output().context("running python")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let run = |line: &str| {
        let (name, figures) = line.split_once(": ").context("expected name: seconds, processor, bytes")?;
        let mut figures = figures.split(' ');
        let mut next = || figures.next().context("a figure");
        let (seconds, processor, bytes) = (next()?.parse()?, next()?.parse()?, next()?.parse()?);
        Ok((format!("pyarrow, {name}"), Run { seconds, processor, bytes }))
    };
    text.lines().map(run).collect()
}
