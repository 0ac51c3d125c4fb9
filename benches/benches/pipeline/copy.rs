//! Every raw log in PostgreSQL, against a bare binary COPY of the same rows into the same table.

use crate::bench::{Bench, Step};
use crate::process::{Cost, Process};
use crate::report::{Bar, Figure, Spread};
use crate::topic::Topic;
use crate::windows::ratios;
use crate::workload::{PARTITIONS, Workload};
use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use serde_json::value::RawValue;
use std::pin::pin;
use std::process::Command;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::runtime::Runtime;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{Json, Type};
use tokio_postgres::{Client, NoTls};

const COPY: &str =
    "COPY logs (timestamp, level, service, host, message, metadata, kafka_topic, kafka_partition,
    kafka_offset, shape) FROM STDIN (FORMAT binary)";
const COLUMNS: [Type; 10] = [
    Type::TIMESTAMPTZ,
    Type::VARCHAR,
    Type::VARCHAR,
    Type::VARCHAR,
    Type::TEXT,
    Type::JSONB,
    Type::TEXT,
    Type::INT4,
    Type::INT8,
    Type::INT8,
];

/// A row of the table `logs`.
struct Row {
    timestamp: Timestamp,
    level: &'static str,
    service: String,
    host: String,
    message: &'static str,
    metadata: Box<RawValue>,
    partition: i32,
    offset: i64,
}

/// A database of a measurement's own, dropped at the end.
pub struct Database {
    pub url: String,
    name: String,
    server: String,
    runtime: Arc<Runtime>,
}

impl Database {
    pub fn create(server: &str, runtime: &Arc<Runtime>) -> anyhow::Result<Self> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let name = format!("bench_{:x}", since.as_micros());
        let (before, _) = server.rsplit_once('/').context("the URL ends with a database")?;
        let url = format!("{before}/{name}");
        let sql = format!("create database {name} template template0 strategy file_copy");
        runtime.block_on(async {
            connect(server).await?.batch_execute(&sql).await.map_err(anyhow::Error::from)
        })?;
        Ok(Database { url, name, server: server.to_owned(), runtime: Arc::clone(runtime) })
    }

    pub fn connect(&self) -> anyhow::Result<Client> {
        self.runtime.block_on(connect(&self.url))
    }

    /// Number of logs, and a sum over all that the table says of them.
    fn digest(&self) -> anyhow::Result<(i64, String)> {
        const SQL: &str =
            "select count(*), coalesce(sum(hashtextextended(concat_ws('|', timestamp, level, service, host,
            message, metadata, kafka_partition, kafka_offset), 0)::numeric), 0)::text from logs";
        let row = self.runtime.block_on(async {
            connect(&self.url).await?.query_one(SQL, &[]).await.map_err(anyhow::Error::from)
        })?;
        Ok((row.get(0), row.get(1)))
    }

    fn checkpoint(&self) -> anyhow::Result<()> {
        self.runtime.block_on(async {
            connect(&self.server).await?.batch_execute("checkpoint").await.map_err(anyhow::Error::from)
        })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let sql = format!("drop database if exists {} with (force)", self.name);
        // The server may be gone already; then so is the database.
        let _ = self.runtime.block_on(async {
            connect(&self.server).await?.batch_execute(&sql).await.map_err(anyhow::Error::from)
        });
    }
}

async fn connect(url: &str) -> anyhow::Result<Client> {
    let (client, connection) =
        tokio_postgres::connect(url, NoTls).await.context("connecting to PostgreSQL")?;
    tokio::spawn(connection);
    Ok(client)
}

pub fn runtime() -> anyhow::Result<Arc<Runtime>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    Ok(Arc::new(runtime))
}

/// Both numbers of workers against as many connections.
pub fn measure(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let workload = Workload::bench_job(bench.logs / 4);
    let runtime = runtime()?;
    let (topic, _) = bench.topic("copy", &workload)?;
    let rows = rows(&workload)?;
    let mut figures = Vec::new();
    for lanes in [2, 1] {
        let (mut bare, mut ours, mut cpu_us) = (Vec::new(), Vec::new(), Vec::new());
        for round in 1..=bench.rounds {
            let step = |what: &str| {
                Step::begin(format!("round {round} of {}: {what}, {lanes} connections", bench.rounds), None)
            };
            let rate = |seconds: f64| workload.logs as f64 / seconds / 1e3;
            let (seconds, expected) = {
                let _step = step("bare COPY");
                copied(bench, &runtime, &rows, lanes)?
            };
            bare.push(rate(seconds));
            let _step = step("logs into PostgreSQL");
            let (cost, found) = stored(bench, &runtime, &topic, lanes)?;
            ensure!(found == expected, "the table holds (logs, digest) {found:?}, expected {expected:?}");
            ours.push(rate(cost.wall.as_secs_f64()));
            cpu_us.push(cost.cpu.as_secs_f64() * 1e6 / workload.logs as f64);
        }
        let of = format!("{} of {} k logs/s", Spread(&ours, ""), Spread(&bare, ""));
        let name = format!("every log in PostgreSQL, {lanes} workers, against {lanes} bare COPY");
        figures.push(Figure::ratio(name, Bar::AtLeast(0.90), ratios(&ours, &bare), of));
        let name = format!("processor time a log, PostgreSQL, {lanes} workers");
        figures.push(Figure::plain(name, Bar::Shown, "µs", cpu_us));
    }
    Ok(figures)
}

/// The logs as rows, those of a partition together.
fn rows(workload: &Workload) -> anyhow::Result<Arc<Vec<Vec<Row>>>> {
    let mut partitions: Vec<Vec<Row>> = (0..PARTITIONS).map(|_| Vec::new()).collect();
    let mut index = 0;
    workload.each(|log| {
        let partition = index % PARTITIONS;
        partitions[partition].push(Row {
            timestamp: log.timestamp(),
            level: log.level,
            service: log.service.to_owned(),
            host: log.host.clone(),
            message: log.message,
            metadata: RawValue::from_string(log.metadata.clone())?,
            partition: i32::try_from(partition)?,
            offset: (index / PARTITIONS) as i64,
        });
        index += 1;
        Ok(())
    })?;
    Ok(Arc::new(partitions))
}

/// Seconds for the rows in as many connections, the table as the program makes it; and what it then holds.
fn copied(
    bench: &Bench,
    runtime: &Arc<Runtime>,
    rows: &Arc<Vec<Vec<Row>>>,
    connections: usize,
) -> anyhow::Result<(f64, (i64, String))> {
    let database = Database::create(&bench.postgres, runtime)?;
    let mut migrate = Command::new(&bench.program);
    migrate.args(["migrate", "--store", &database.url]);
    Process::start(migrate)?.finish()?;
    let partition = "CREATE TABLE logs_p20260115 (LIKE logs INCLUDING DEFAULTS INCLUDING INDEXES);
         ALTER TABLE logs ATTACH PARTITION logs_p20260115
         FOR VALUES FROM ('2026-01-15 00:00:00+00') TO ('2026-01-16 00:00:00+00')";
    runtime.block_on(async {
        connect(&database.url).await?.batch_execute(partition).await.map_err(anyhow::Error::from)
    })?;
    database.checkpoint()?;
    let began = Instant::now();
    runtime.block_on(async {
        let start = |connection: usize| {
            let (url, rows) = (database.url.clone(), Arc::clone(rows));
            tokio::spawn(async move {
                let client = connect(&url).await?;
                for rows in rows.iter().skip(connection).step_by(connections) {
                    copy(&client, rows).await?;
                }
                anyhow::Ok(())
            })
        };
        let running: Vec<_> = (0..connections).map(start).collect();
        for copying in running {
            copying.await??;
        }
        anyhow::Ok(())
    })?;
    Ok((began.elapsed().as_secs_f64(), database.digest()?))
}

async fn copy(client: &Client, rows: &[Row]) -> anyhow::Result<()> {
    let mut writer = pin!(BinaryCopyInWriter::new(client.copy_in(COPY).await?, &COLUMNS));
    let (topic, shape) = ("bench", None::<i64>);
    for row in rows {
        let Row { timestamp, level, service, host, message, metadata, partition, offset } = row;
        let metadata = Json(metadata);
        writer
            .as_mut()
            .write(&[timestamp, level, service, host, message, &metadata, &topic, partition, offset, &shape])
            .await?;
    }
    writer.finish().await?;
    Ok(())
}

/// The program from its start to its exit, and what the table then holds.
fn stored(
    bench: &Bench,
    runtime: &Arc<Runtime>,
    topic: &Topic,
    workers: usize,
) -> anyhow::Result<(Cost, (i64, String))> {
    let database = Database::create(&bench.postgres, runtime)?;
    database.checkpoint()?;
    let workers = workers.to_string();
    let cost =
        bench.run(topic, &["--until-end", "--workers", &workers, "--store", &database.url])?.finish()?;
    Ok((cost, database.digest()?))
}
