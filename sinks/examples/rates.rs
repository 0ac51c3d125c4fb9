//! How fast the stores take logs and commits, on a real server, beside what the server itself can do.
//!
//! ```sh
//! SMARTLOG_TEST_POSTGRES=postgres://USER@HOST:PORT/DATABASE cargo run --release -p smartlog-sinks --example rates
//! ```
//!
//! Prints one table. The bar: the sink reaches at least 0.90 of a bare binary COPY of the same rows into the same
//! table, made in the same run, in turns.
#![allow(clippy::print_stdout, reason = "a table for people")]

use anyhow::{Context, Result, ensure};
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use smartlog_schema::commit::{ClockState, EpochCommit, HourlyDelta};
use smartlog_schema::level::Level;
use smartlog_schema::log::{LogBatch, LogRef};
use smartlog_schema::position::{Positions, TopicPartition};
use smartlog_schema::sums::Sums;
use smartlog_sinks::{CancellationToken, Health, LogSink, StoreConfig};
use std::pin::pin;
use std::time::{Duration, Instant};
use tokio_postgres::Client;

const T0: i64 = 1_768_471_200;
/// Rows of one measured stretch.
const ROWS: i64 = 200_000;
const ROUNDS: usize = 3;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let admin = std::env::var("SMARTLOG_TEST_POSTGRES").context("set SMARTLOG_TEST_POSTGRES")?;
    let (client, connection) = tokio_postgres::connect(&admin, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    let database = format!("smartlog_rates_{}", std::process::id());
    client.batch_execute(&format!("CREATE DATABASE {database}")).await?;
    let slash = admin.rfind('/').context("a URL with a database")?;
    let config = StoreConfig::new(format!("{}/{database}", &admin[..slash]));
    let measured = measure(&config).await;
    client.batch_execute(&format!("DROP DATABASE {database} WITH (FORCE)")).await?;
    measured
}

async fn measure(config: &StoreConfig) -> Result<()> {
    println!("{:<58}{:>14}{:>8}", "", "rate", "ratio");
    logs(config).await?;
    let file = tempfile::tempdir()?;
    let sqlite = StoreConfig::new(format!("sqlite:{}", file.path().join("store.db").display()));
    sqlite_logs(&sqlite).await?;
    for (name, config) in [("PostgreSQL", config), ("SQLite", &sqlite)] {
        commits(name, config).await?;
    }
    Ok(())
}

/// Bare COPY and the sink in turns, so that what slows the machine slows both.
async fn logs(config: &StoreConfig) -> Result<()> {
    let mut sink = smartlog_sinks::log_sink(config, Health::new(), CancellationToken::new())?;
    sink.resume(&[TopicPartition::new("logs", 0)]).await?;
    let client = connect(config).await?;
    let mut first = 0;
    for batch in [5_000, 10_000, 20_000] {
        let (mut whole, mut cut, mut ours) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            client.batch_execute("TRUNCATE logs; CHECKPOINT").await?;
            let mut took = Duration::ZERO;
            for at in (first..first + ROWS).step_by(batch as usize) {
                took += write(&mut *sink, at, batch).await?;
            }
            let (all, parts) =
                (Bare::read(&client, first, ROWS).await?, Bare::read(&client, first, batch).await?);
            client.batch_execute("TRUNCATE logs; CHECKPOINT").await?;
            let took_whole = all.run(&client).await?;
            client.batch_execute("TRUNCATE logs; CHECKPOINT").await?;
            let took_cut = parts.run(&client).await?;
            first += ROWS;
            // The first round warms up.
            if round > 0 {
                ours.push(took);
                whole.push(took_whole);
                cut.push(took_cut);
            }
        }
        let (whole, cut, ours) = (rate(&mut whole), rate(&mut cut), rate(&mut ours));
        println!("{:<58}{whole:>10.0} /s", "bare COPY, one transaction");
        println!(
            "{:<58}{cut:>10.0} /s{:>8.2}",
            format!("bare COPY, {batch} rows a transaction"),
            cut / whole
        );
        println!(
            "{:<58}{ours:>10.0} /s{:>8.2}",
            format!("log sink, {batch} rows a transaction"),
            ours / whole
        );
    }
    let count = smartlog_sinks::counts(config).await?.logs;
    ensure!(count == ROWS, "{count} rows instead of {ROWS}");
    Ok(())
}

/// Rows a second in the median round.
fn rate(took: &mut [Duration]) -> f64 {
    took.sort_unstable();
    ROWS as f64 / took[took.len() / 2].as_secs_f64()
}

/// How long the write took; making the batch is not counted.
async fn write(sink: &mut dyn LogSink, first: i64, rows: i64) -> Result<Duration> {
    let mut batch = LogBatch::new(TopicPartition::new("logs", 0), first);
    (first..first + rows).for_each(|offset| with_log(offset, |log| batch.push(log)));
    batch.next_offset = first + rows;
    let begun = Instant::now();
    sink.write(&[batch], T0).await?;
    Ok(begun.elapsed())
}

/// Some 250 bytes as JSON, as in the product's other benches.
fn with_log(offset: i64, use_it: impl FnOnce(&LogRef<'_>)) {
    const SERVICES: [&str; 5] =
        ["payment-service", "auth-service", "cart-service", "search-service", "mail-service"];
    let mixed = offset.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64) as u64;
    let host = format!("server-{:02}", mixed % 20);
    let message = format!("Request {mixed:016x} took {} ms", mixed % 5_000);
    let metadata = format!(
        r#"{{"request_id": "{mixed:016x}", "user_id": "user-{}", "duration_ms": {}}}"#,
        mixed % 9_999,
        mixed % 5_000
    );
    use_it(&LogRef {
        offset,
        timestamp_us: T0 * 1_000_000 + (offset % 3_600_000) * 1_000 + (mixed % 2_000_000) as i64,
        level: Level::ALL[(mixed % 6) as usize],
        service: SERVICES[(mixed >> 8) as usize % 5],
        host: Some(&host),
        message: &message,
        metadata: Some(&metadata),
        shape: mixed as i64,
    });
}

/// The same rows into the same table with nothing else: the rows in the server's own words (it wrote them out as
/// binary before), sent in large pieces, `rows_each` a transaction. Nothing but sending and waiting is measured.
struct Bare {
    transactions: Vec<Vec<Bytes>>,
}

const COLUMNS: &str =
    "timestamp, level, service, host, message, metadata, kafka_topic, kafka_partition, kafka_offset,
    shape";

impl Bare {
    /// Reads `ROWS` rows from offset `first` on out of the table.
    async fn read(client: &Client, first: i64, rows_each: i64) -> Result<Self> {
        let mut transactions = Vec::new();
        for first in (first..first + ROWS).step_by(rows_each as usize) {
            let sql = format!(
                "COPY (SELECT {COLUMNS} FROM logs WHERE kafka_offset >= {first} AND kafka_offset < {}
                 ORDER BY kafka_offset) TO STDOUT (FORMAT binary)",
                first + rows_each
            );
            let mut out = pin!(client.copy_out(&sql).await?);
            let (mut pieces, mut piece) = (Vec::new(), BytesMut::new());
            while let Some(row) = out.next().await {
                piece.extend_from_slice(&row?);
                if piece.len() >= 256 * 1024 {
                    pieces.push(piece.split().freeze());
                }
            }
            pieces.push(piece.freeze());
            transactions.push(pieces);
        }
        Ok(Bare { transactions })
    }

    async fn run(&self, client: &Client) -> Result<Duration> {
        let copy = client.prepare(&format!("COPY logs ({COLUMNS}) FROM STDIN (FORMAT binary)")).await?;
        let begun = Instant::now();
        for pieces in &self.transactions {
            let mut sink = pin!(client.copy_in::<_, Bytes>(&copy).await?);
            for piece in pieces {
                sink.send(piece.clone()).await?;
            }
            sink.finish().await?;
        }
        Ok(begun.elapsed())
    }
}

async fn connect(config: &StoreConfig) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(&config.url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn sqlite_logs(config: &StoreConfig) -> Result<()> {
    const BATCH: i64 = 20_000;
    let mut sink = smartlog_sinks::log_sink(config, Health::new(), CancellationToken::new())?;
    sink.resume(&[TopicPartition::new("logs", 0)]).await?;
    let mut took = Duration::ZERO;
    for first in (0..ROWS).step_by(BATCH as usize) {
        took += write(&mut *sink, first, BATCH).await?;
    }
    println!(
        "{:<58}{:>10.0} /s",
        "SQLite log sink, 20000 rows a transaction",
        ROWS as f64 / took.as_secs_f64()
    );
    Ok(())
}

/// Commits as they come each tick, and one as it comes after a long catch-up.
async fn commits(name: &str, config: &StoreConfig) -> Result<()> {
    let mut store = smartlog_sinks::state_store(config, Health::new(), CancellationToken::new())?;
    store.open().await?;
    let services: Vec<String> = (0..60).map(|i| format!("service-{i}")).collect();
    let mut took = Vec::new();
    for tick in 0..2_000_i64 {
        // Ten ticks a second, four seconds touched by late logs, old ones forgotten.
        let second = T0 + tick / 10;
        let rows = services.iter().map(|s| (s.as_str(), second - tick % 4));
        let commit = commit(tick, second, rows);
        let begun = Instant::now();
        store.commit(&commit).await?;
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    let (p50, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    println!(
        "{:<58}{:>14}{:>8}",
        format!("{name}: commit of 60 sums, p50 and p99"),
        format!("{p50:.2?}"),
        format!("{p99:.1?}")
    );
    let rows = (0..50_000).map(|i| (services[i % 60].as_str(), T0 + 1_000 + (i / 60) as i64));
    let commit = commit(2_000, T0 + 1_900, rows);
    let begun = Instant::now();
    store.commit(&commit).await?;
    println!("{:<58}{:>14}", format!("{name}: commit of 50000 sums"), format!("{:.0?}", begun.elapsed()));
    Ok(())
}

fn commit<'a>(tick: i64, second: i64, rows: impl Iterator<Item = (&'a str, i64)>) -> EpochCommit {
    EpochCommit {
        epoch: tick as u64,
        positions: Positions::from([(TopicPartition::new("logs", 0), tick + 1)]),
        clock: ClockState { clock_us: second * 1_000_000, ..ClockState::default() },
        seconds: rows.map(|(s, at)| (s.into(), at, Sums { logs: 3, errors: 1, message_chars: 99 })).collect(),
        hourly: (0..20)
            .map(|i| HourlyDelta { hour: T0, service: format!("service-{i}").into(), logs: 3, errors: 1 })
            .collect(),
        forget_seconds_before: second - 900,
        ..EpochCommit::default()
    }
}
