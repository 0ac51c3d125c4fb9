//! From the start of a process whose predecessor was killed to its first new commit, while logs pile up.

use crate::bench::{Bench, Step};
use crate::copy::{Database, runtime};
use crate::report::{Bar, Figure, median};
use crate::topic::Topic;
use crate::workload::PARTITIONS;
use smartlog_benches::logs::{Log, kind};
use smartlog_benches::random::Random;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio_postgres::Client;

/// Logs a second, all the time.
const RATE: f64 = 50_000.0;
/// How long it runs before it is killed.
const RUNNING: Duration = Duration::from_secs(5);
/// How long logs pile up before it is started again.
const DOWN: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(60);

pub fn measure(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let runtime = runtime()?;
    let topic = Topic::create(&bench.brokers, "recovery", Duration::from_millis(20))?;
    let database = Database::create(&bench.postgres, &runtime)?;
    let stop = AtomicBool::new(false);
    let kills = if bench.quick { 2 } else { 5 };
    let (aggregates, logs) = std::thread::scope(|scope| {
        let producer = scope.spawn(|| produce(&topic, &stop));
        let seconds = recover(bench, &runtime, (&topic, &database), kills);
        stop.store(true, Ordering::Relaxed);
        producer.join().map_err(|_| anyhow::anyhow!("the producer panicked"))??;
        seconds
    })?;
    let both: Vec<f64> = aggregates.iter().zip(&logs).map(|(a, b)| a.max(*b)).collect();
    let worst = both.iter().copied().fold(0.0, f64::max);
    let name = format!("recovery to the first commit of all sinks, slowest of {kills} kills, 50,000 logs/s");
    Ok(vec![
        Figure::plain(name, Bar::AtMost(5.0), "s", vec![worst]),
        Figure::plain("the same, usual: aggregates", Bar::Shown, "s", vec![median(&aggregates)]),
        Figure::plain("the same, usual: raw logs", Bar::Shown, "s", vec![median(&logs)]),
    ])
}

/// Seconds from each start to the first new commit of the aggregates and of the logs.
fn recover(
    bench: &Bench,
    runtime: &Arc<Runtime>,
    (topic, database): (&Topic, &Database),
    kills: usize,
) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
    let arguments = ["--store", database.url.as_str(), "--workers", "2"];
    let (mut aggregates, mut logs) = (Vec::new(), Vec::new());
    let store = database.connect()?;
    let mut process = bench.run(topic, &arguments)?;
    process.until("its first commits", PATIENCE, || {
        let (aggregates, logs) = positions(runtime, &store);
        Ok((aggregates > 0 && logs > 0).then_some(()))
    })?;
    for kill in 1..=kills {
        let _step = Step::begin(format!("recovery: kill {kill} of {kills}"), None);
        std::thread::sleep(RUNNING);
        process.check()?;
        process.kill()?;
        std::thread::sleep(DOWN);
        // By now no commit of the killed process is under way in the server.
        let before = positions(runtime, &store);
        process = bench.run(topic, &arguments)?;
        let started = process.started();
        let [mut of_aggregates, mut of_logs] = [None; 2];
        let seconds = process.until("the first new commits", PATIENCE, || {
            let now = positions(runtime, &store);
            let since = || started.elapsed().as_secs_f64();
            if now.0 > before.0 {
                of_aggregates.get_or_insert_with(since);
            }
            if now.1 > before.1 {
                of_logs.get_or_insert_with(since);
            }
            Ok(of_aggregates.zip(of_logs))
        })?;
        aggregates.push(seconds.0);
        logs.push(seconds.1);
    }
    process.kill()?;
    Ok((aggregates, logs))
}

/// Records that the aggregates and the logs are done with; 0 before the first commit.
fn positions(runtime: &Runtime, store: &Client) -> (i64, i64) {
    const SQL: &str = "select coalesce(sum(next_offset) filter (where sink = 'aggregates'), 0)::bigint,
        coalesce(sum(next_offset) filter (where sink = 'logs'), 0)::bigint from sink_positions";
    let row = runtime.block_on(store.query_one(SQL, &[]));
    // The table is not there before the first start has made it.
    row.map_or((0, 0), |row| (row.get(0), row.get(1)))
}

fn produce(topic: &Topic, stop: &AtomicBool) -> anyhow::Result<()> {
    let mut random = Random::new(13);
    let mut line = Vec::new();
    let (began, mut sent) = (Instant::now(), 0);
    while !stop.load(Ordering::Relaxed) {
        while (sent as f64) < began.elapsed().as_secs_f64() * RATE {
            let service = format!("service-{:02}", random.below(20));
            let at_ms = jiff::Timestamp::now().as_millisecond() - random.below(2_000) as i64;
            Log::draw(at_ms, &service, kind(20, &mut random), &mut random).write(&mut line);
            topic.send(sent % PARTITIONS, &line, None)?;
            sent += 1;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    topic.flush()
}
