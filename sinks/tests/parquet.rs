//! Parquet files, read back by pyarrow and DuckDB; the protocol under crashes, rivals and names that are taken.

mod common;

use common::Bench;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use smartlog_schema::level::Level;
use smartlog_schema::log::{LogBatch, LogRef};
use smartlog_schema::position::TopicPartition;
use smartlog_sinks::parquet::{Anew, Day, ExportConfig, export_day, keep as keep_days, verify_day};
use smartlog_sinks::{CancellationToken, Health, LogSink, SinkError};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// 2026-01-15T00:00:00Z.
const DAY0: i64 = 1_768_435_200_000_000;
const DAY: i64 = 86_400_000_000;
const MINUTE: i64 = 60_000_000;

/// One log of the input, kept to compare with.
#[derive(Debug, Clone)]
struct Input {
    partition: i32,
    offset: i64,
    timestamp_us: i64,
    level: Level,
    service: String,
    host: Option<String>,
    message: String,
    metadata: Option<String>,
    shape: i64,
}

impl Input {
    fn random(random: &mut StdRng, partition: i32, offset: i64) -> Self {
        let services = ["payment-service", "auth", "z", "Ünïcode", "a\"b'c", "00"];
        let messages = ["", "connection timeout", "naïve 🦀 \u{1} \u{10ffff}", "line\nbreak\ttab", "x"];
        let metadata = [
            None,
            Some(r#"{"request_id": "abc-123", "user_id": "user-456", "duration_ms": 5000}"#),
            Some(r#"{"request_id": 7, "user_id": null, "duration_ms": "no"}"#),
            Some(r#"{"request_id":"q\"\u00e9","duration_ms":-1.25,"nested":{"request_id":"inner"}}"#),
            Some("{}"),
        ];
        let message = messages[random.random_range(0..messages.len())].repeat(random.random_range(1..4));
        Input {
            partition,
            offset,
            timestamp_us: DAY0 + random.random_range(-DAY..2 * DAY),
            level: Level::ALL[random.random_range(0..6)],
            service: services[random.random_range(0..services.len())].to_owned(),
            host: random.random_bool(0.7).then(|| format!("server-{}", random.random_range(0..30))),
            message,
            metadata: metadata[random.random_range(0..metadata.len())].map(str::to_owned),
            shape: if random.random_bool(0.5) { random.random() } else { 0 },
        }
    }

    fn log(&self) -> LogRef<'_> {
        LogRef {
            offset: self.offset,
            timestamp_us: self.timestamp_us,
            level: self.level,
            service: &self.service,
            host: self.host.as_deref(),
            message: &self.message,
            metadata: self.metadata.as_deref(),
            shape: self.shape,
        }
    }

    /// The row that a reader is to find, as `read_lake.py` prints it.
    fn row(&self) -> Value {
        let metadata: Value =
            self.metadata.as_deref().map_or(Value::Null, |text| serde_json::from_str(text).expect("JSON"));
        let id = |key: &str| match &metadata[key] {
            Value::String(text) => json!(text),
            Value::Number(number) => json!(number.to_string()),
            _ => Value::Null,
        };
        let date = jiff::Timestamp::from_microsecond(self.timestamp_us).expect("a time").to_string()[..10]
            .to_owned();
        json!([
            "logs",
            self.partition,
            self.offset,
            self.timestamp_us,
            self.level.as_str(),
            self.service,
            self.host,
            self.message,
            self.message.chars().count(),
            self.metadata,
            id("request_id"),
            id("user_id"),
            metadata["duration_ms"].as_f64(),
            if self.shape == 0 { Value::Null } else { json!(self.shape) },
            date
        ])
    }
}

fn source(partition: i32) -> TopicPartition {
    TopicPartition::new("logs", partition)
}

/// `count` logs of a partition, with gaps between their offsets.
fn inputs(random: &mut StdRng, partition: i32, count: usize) -> Vec<Input> {
    let mut offset = 0;
    let mut next = || {
        let log = Input::random(random, partition, offset);
        offset += 1 + i64::from(random.random_bool(0.1)) * random.random_range(0..5);
        log
    };
    (0..count).map(|_| next()).collect()
}

/// The batch of `logs`, which follow each other; it consumed what lies before `next`.
fn batch(logs: &[Input], next: i64) -> LogBatch {
    let mut batch = LogBatch::new(source(logs[0].partition), logs[0].offset);
    logs.iter().for_each(|log| batch.push(&log.log()));
    batch.next_offset = next;
    batch
}

/// All batches of `logs`, cut at random, and what comes from `from` on.
fn batches(random: &mut StdRng, logs: &[Input], from: i64) -> Vec<LogBatch> {
    let mut rest = &logs[logs.partition_point(|log| log.offset < from)..];
    let mut batches = Vec::new();
    while !rest.is_empty() {
        let (now, later) = rest.split_at(random.random_range(1..=rest.len().min(400)));
        let next = later.first().map_or(now[now.len() - 1].offset + 1, |log| log.offset);
        batches.push(batch(now, next));
        rest = later;
    }
    batches
}

struct Lake {
    folder: tempfile::TempDir,
    config: ExportConfig,
}

impl Lake {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = ExportConfig::new(folder.path().display().to_string());
        Lake { folder, config }
    }

    fn sink(&self, bench: &Bench) -> Box<dyn LogSink> {
        self.sink_with(bench, CancellationToken::new())
    }

    fn sink_with(&self, bench: &Bench, cancel: CancellationToken) -> Box<dyn LogSink> {
        smartlog_sinks::parquet_sink(&self.config, &bench.config, Health::new(), cancel)
    }

    /// A sink that takes one partition's batch, and ends well.
    async fn take(&self, bench: &Bench, batch: LogBatch, watermark_us: i64) {
        let mut sink = self.sink(bench);
        sink.resume(std::slice::from_ref(&batch.source)).await.expect("claimed");
        sink.write(&[batch], watermark_us).await.expect("buffered");
        sink.finish().await.expect("finished");
    }

    /// How the day of these tests is exported from `store`, which nothing streams from.
    fn anew(&self, store: &Bench) -> Anew {
        Anew {
            export: self.config.clone(),
            store: store.config.clone(),
            day: Day::parse("2026-01-15").expect("a day"),
            streamed: false,
            force: false,
        }
    }

    fn rows(&self) -> Option<Vec<Value>> {
        rows(self.folder.path())
    }

    /// Names in a day's folder.
    fn names(&self, date: &str) -> Vec<String> {
        let folder = self.folder.path().join(format!("logs/date={date}"));
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

/// Every row of a lake, sorted by partition and offset; `None` when tests of services are switched off.
fn rows(folder: &Path) -> Option<Vec<Value>> {
    let python = smartlog_test_services::tool("python")?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/read_lake.py");
    let output = std::process::Command::new(python).arg(script).arg(folder).output().expect("python runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "read_lake.py: {said}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    Some(text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect())
}

fn expected(logs: &[Input]) -> Vec<Value> {
    let by_place: BTreeMap<(i32, i64), Value> =
        logs.iter().map(|log| ((log.partition, log.offset), log.row())).collect();
    by_place.into_values().collect()
}

/// The first difference in full, not two walls of text.
fn assert_same(found: &[Value], expected: &[Value]) {
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len(), "rows");
}

/// Runs a test on both stores.
macro_rules! on_both_stores {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(super::Bench::sqlite().await).await })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(bench) = super::Bench::postgres().await { super::$name(bench).await }
            })*
        }
    };
}

on_both_stores!(
    every_log_is_read_back_once,
    a_crash_leaves_no_gap_and_no_double,
    a_rival_fences_the_old_writer,
    a_day_is_closed_once_it_is_whole_and_late_logs_make_a_new_version,
    a_generation_replaces_a_day_and_what_is_streamed_meanwhile_stays,
    what_a_killed_generation_left_is_voided_after_an_hour,
    a_stream_that_comes_later_leaves_out_what_a_generation_holds,
);

async fn every_log_is_read_back_once(bench: Bench) {
    let mut random = StdRng::seed_from_u64(1);
    let mut lake = Lake::new();
    // Small bounds: many row groups, files and ranges.
    lake.config.max_buffer_bytes = 96 << 10;
    lake.config.roll_bytes = 24 << 10;
    let logs: Vec<Vec<Input>> = (0..3).map(|partition| inputs(&mut random, partition, 8_000)).collect();
    let mut sink = lake.sink(&bench);
    assert_eq!(sink.resume(&[source(0), source(1), source(2)]).await.expect("claimed").len(), 0);
    for partition in &logs {
        for batch in batches(&mut random, partition, 0) {
            sink.write(&[batch], DAY0).await.expect("written");
        }
    }
    sink.finish().await.expect("finished");
    let Some(found) = lake.rows() else { return };
    assert_same(&found, &expected(&logs.concat()));
    let stored = bench
        .query("SELECT partition, next_offset FROM sink_positions WHERE sink = 'parquet' ORDER BY 1")
        .await;
    for (partition, row) in logs.iter().zip(&stored) {
        let next = partition[partition.len() - 1].offset + 1;
        assert_eq!(row[1].as_deref(), Some(next.to_string().as_str()));
    }
    assert_eq!(bench.number("SELECT count(*) FROM export_files WHERE status <> 'complete'").await, 0);
    assert_eq!(bench.number("SELECT sum(rows) FROM export_files").await, 24_000);
    assert!(
        bench.number("SELECT count(DISTINCT first_offset) FROM export_files").await > 3,
        "no range was rolled"
    );
    bench.drop_it().await;
}

/// The process dies again and again, at any moment of the protocol, as its runtime is torn down under it.
async fn a_crash_leaves_no_gap_and_no_double(bench: Bench) {
    let mut random = StdRng::seed_from_u64(2);
    let mut lake = Lake::new();
    lake.config.roll_bytes = 16 << 10;
    lake.config.max_buffer_bytes = 64 << 10;
    let logs = inputs(&mut random, 0, 6_000);
    let end = logs[logs.len() - 1].offset + 1;
    let mut crashes = 0;
    loop {
        let survives = crashes >= 25;
        let cancel = CancellationToken::new();
        let mut sink = lake.sink_with(&bench, cancel.clone());
        let (store, input) = (bench.config.clone(), logs.clone());
        let seed = random.random();
        let until = Duration::from_micros(random.random_range(0..60_000));
        let life = async move {
            let mut random = StdRng::seed_from_u64(seed);
            let stands = sink.resume(&[source(0)]).await.expect("claimed");
            let from = stands.get(&source(0)).copied().unwrap_or(0);
            for batch in batches(&mut random, &input, from) {
                sink.write(&[batch], DAY0).await.expect("written");
            }
            sink.finish().await.expect("finished");
            drop(store);
        };
        let done = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            let runtime = runtime.expect("a runtime");
            let task = runtime.spawn(life);
            let done = runtime.block_on(async {
                tokio::select! {
                    ended = task => { ended.expect("no panic"); true }
                    () = tokio::time::sleep(until), if !survives => false,
                }
            });
            runtime.shutdown_background();
            done
        });
        if done.join().expect("no panic") && (survives || crashes > 0) {
            break;
        }
        crashes += 1;
    }
    let next = bench.number("SELECT next_offset FROM sink_positions WHERE sink = 'parquet'").await;
    assert_eq!(next, end);
    assert_eq!(bench.number("SELECT count(*) FROM export_files WHERE status = 'intended'").await, 0);
    let Some(found) = lake.rows() else { return };
    assert_same(&found, &expected(&logs));
    bench.drop_it().await;
}

async fn a_rival_fences_the_old_writer(bench: Bench) {
    let mut random = StdRng::seed_from_u64(3);
    let lake = Lake::new();
    let logs = inputs(&mut random, 0, 100);
    let whole = batch(&logs, logs[99].offset + 1);
    let mut old = lake.sink(&bench);
    old.resume(&[source(0)]).await.expect("claimed");
    old.write(std::slice::from_ref(&whole), DAY0).await.expect("buffered");
    let mut new = lake.sink(&bench);
    new.resume(&[source(0)]).await.expect("claimed");
    let error = old.finish().await.expect_err("the position is another's");
    assert!(matches!(error, SinkError::Fenced { .. }), "{error}");
    new.write(&[whole], DAY0).await.expect("buffered");
    new.finish().await.expect("finished");
    let Some(found) = lake.rows() else { return };
    assert_same(&found, &expected(&logs));
    bench.drop_it().await;
}

#[tokio::test]
async fn a_name_that_holds_other_rows_is_left_alone() {
    let bench = Bench::sqlite().await;
    let mut random = StdRng::seed_from_u64(4);
    let lake = Lake::new();
    let mut log = inputs(&mut random, 0, 1).remove(0);
    log.timestamp_us = DAY0 + MINUTE;
    let folder = lake.folder.path().join("logs/date=2026-01-15");
    let taken = format!("logs-0-{:020}-{:020}.parquet", 0, 0);
    // This store's target: it has written there before.
    lake.take(&bench, batch(&of_one_day(&mut random, 1, 1), 1), DAY0).await;
    let first = lake.names("2026-01-15");
    std::fs::write(folder.join(&taken), "not ours").expect("written");
    lake.take(&bench, batch(std::slice::from_ref(&log), 1), DAY0).await;
    assert_eq!(std::fs::read_to_string(folder.join(&taken)).expect("still there"), "not ours");
    let again = taken.replace(".parquet", "-r1.parquet");
    assert_eq!(lake.names("2026-01-15"), [again.clone(), taken, first[0].clone()]);
    let known = bench.query("SELECT name, status FROM export_files WHERE partition = 0").await;
    assert_eq!(known, [[Some(again), Some("complete".to_owned())]]);
}

/// A store that was lost, and one that has nothing to do with it: both would write every log once more.
#[tokio::test]
async fn a_new_store_is_kept_away_from_the_files_of_another() {
    let (bench, other) = (Bench::sqlite().await, Bench::sqlite().await);
    let mut random = StdRng::seed_from_u64(8);
    let lake = Lake::new();
    let logs = of_one_day(&mut random, 0, 50);
    let whole = batch(&logs, logs[49].offset + 1);
    // An empty folder is anybody's.
    lake.take(&bench, whole, DAY0).await;
    let error = lake.sink(&other).resume(&[source(0)]).await.expect_err("refused");
    assert!(matches!(error, SinkError::Fatal(_)), "{error}");
    assert!(error.to_string().contains("it holds logs already"), "{error}");
    let forced = Anew { force: true, ..lake.anew(&other) };
    let error = export_day(&forced, &mut |_, _| {}).await.expect_err("refused").to_string();
    assert!(error.contains("it holds logs already"), "{error}");
    lake.sink(&bench)
        .resume(&[source(0), source(1)])
        .await
        .expect("its own store goes on, with more partitions");
    assert_eq!(other.number("SELECT count(*) FROM export_files").await, 0);
    let Some(found) = lake.rows() else { return };
    assert_same(&found, &expected(&logs));
}

/// S3's default is one file a day: where Kafka keeps less, it is cut in time.
#[tokio::test]
async fn a_range_is_written_before_kafka_deletes_its_logs() {
    let bench = Bench::sqlite().await;
    let mut random = StdRng::seed_from_u64(9);
    let mut lake = Lake::new();
    lake.config.roll_every = Some(Duration::from_secs(86_400));
    let logs = of_one_day(&mut random, 0, 50);
    let end = logs[49].offset + 1;
    let position = "SELECT coalesce(next_offset, 0) FROM sink_positions WHERE sink = 'parquet'";
    let mut sink = lake.sink(&bench);
    sink.resume(&[source(0)]).await.expect("claimed");
    sink.write(&[batch(&logs, end)], DAY0).await.expect("buffered");
    drop(sink);
    assert_eq!(bench.number(position).await, 0, "nothing presses");
    lake.config.kept.time = Some(Duration::from_millis(2));
    let mut sink = lake.sink(&bench);
    sink.resume(&[source(0)]).await.expect("claimed");
    sink.write(&[batch(&logs, end)], DAY0).await.expect("buffered");
    let cut = async {
        while bench.number(position).await != end {
            sink.write(&[], DAY0).await.expect("written");
            tokio::time::sleep(Duration::from_millis(5)).await; // the uploader's turn
        }
    };
    tokio::time::timeout(Duration::from_secs(60), cut).await.expect("cut for what Kafka keeps");
    let Some(found) = lake.rows() else { return };
    assert_same(&found, &expected(&logs));
}

/// Nothing else ends a range here. On one thread: the uploader works only while the sink waits for it.
#[tokio::test]
async fn what_waits_on_disk_stays_within_its_bound() {
    let bench = Bench::sqlite().await;
    let mut random = StdRng::seed_from_u64(12);
    let mut lake = Lake::new();
    lake.config.max_spool_bytes = 64 << 10;
    lake.config.max_buffer_bytes = 1; // each batch goes to disk at once
    lake.config.roll_bytes = 1 << 30;
    lake.config.roll_every = Some(Duration::from_secs(86_400));
    let mut logs = of_one_day(&mut random, 0, 6_000);
    for log in &mut logs {
        // Text that does not compress; the largest batches alone are more than the bound.
        log.message = (0..200).map(|_| char::from(random.random_range(b'!'..=b'~'))).collect();
    }
    let mut sink = lake.sink(&bench);
    sink.resume(&[source(0)]).await.expect("claimed");
    let mut most = 0;
    for batch in batches(&mut random, &logs, 0) {
        sink.write(&[batch], DAY0).await.expect("written");
        let held = spooled(&lake);
        assert!(held <= lake.config.max_spool_bytes, "{held} bytes lie in the spool");
        most = most.max(held);
    }
    assert!(most > 0, "nothing ever waited on disk");
    sink.finish().await.expect("finished");
    assert_eq!(spooled(&lake), 0);
    let bytes = bench.number("SELECT sum(bytes) FROM export_files WHERE status = 'complete'").await;
    assert!(bytes.unsigned_abs() > 8 * lake.config.max_spool_bytes, "{bytes} bytes prove little");
    let Some(found) = lake.rows() else { return };
    assert_same(&found, &expected(&logs));
}

/// Bytes on disk of what is put together or waits to be written to the target.
fn spooled(lake: &Lake) -> u64 {
    let spools = std::fs::read_dir(lake.folder.path().join("_spool")).expect("a folder");
    let files =
        spools.flat_map(|spool| std::fs::read_dir(spool.expect("an entry").path()).expect("a folder"));
    files.map(|file| file.expect("an entry").metadata().expect("its size").len()).sum()
}

/// One pass of what goes on beside the sinks.
async fn keep(lake: &Lake, bench: &Bench) {
    let now = CancellationToken::new();
    now.cancel();
    keep_days(lake.config.clone(), bench.config.clone(), now, CancellationToken::new()).await;
}

fn json_file(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("the file is there")).expect("JSON")
}

/// Logs of one partition on 2026-01-15.
fn of_one_day(random: &mut StdRng, partition: i32, count: usize) -> Vec<Input> {
    let mut logs = inputs(random, partition, count);
    logs.iter_mut().for_each(|log| log.timestamp_us = DAY0 + random.random_range(0..DAY));
    logs
}

async fn a_day_is_closed_once_it_is_whole_and_late_logs_make_a_new_version(bench: Bench) {
    let mut random = StdRng::seed_from_u64(5);
    let lake = Lake::new();
    let mut logs = of_one_day(&mut random, 0, 500);
    let (end, day) = (logs[499].offset + 1, lake.folder.path().join("logs/date=2026-01-15"));
    let mut sink = lake.sink(&bench);
    sink.resume(&[source(0)]).await.expect("claimed");
    sink.write(&[batch(&logs, end)], DAY0 + DAY + 14 * MINUTE).await.expect("buffered");
    keep(&lake, &bench).await;
    assert_eq!(lake.names("2026-01-15"), [""; 0], "nothing is written before its time");
    sink.write(&[], DAY0 + DAY + 16 * MINUTE).await.expect("rolled");
    sink.finish().await.expect("finished");
    keep(&lake, &bench).await;
    let file = format!("logs-0-{:020}-{:020}.parquet", 0, end - 1);
    assert_eq!(lake.names("2026-01-15"), ["_SUCCESS", "_manifest-v1.json", &file]);
    let manifest = json_file(&day.join("_manifest-v1.json"));
    assert_eq!(json_file(&day.join("_SUCCESS")), json!({"manifest": "_manifest-v1.json", "version": 1}));
    assert_eq!(manifest["closed"], true);
    assert_eq!(manifest["rows"], 500);
    assert_eq!(manifest["files"][0]["name"], json!(file));
    keep(&lake, &bench).await;
    assert_eq!(lake.names("2026-01-15").len(), 3, "nothing changed, nothing is written");

    let mut late = of_one_day(&mut random, 0, 1);
    late[0].offset = end;
    let mut sink = lake.sink(&bench);
    assert_eq!(sink.resume(&[source(0)]).await.expect("claimed")[&source(0)], end);
    sink.write(&[batch(&late, end + 1)], DAY0 + 2 * DAY).await.expect("buffered");
    sink.finish().await.expect("finished");
    keep(&lake, &bench).await;
    assert_eq!(json_file(&day.join("_SUCCESS"))["version"], 2);
    let manifest = json_file(&day.join("_manifest-v2.json"));
    assert_eq!((&manifest["rows"], &manifest["voided"]), (&json!(501), &json!([])));
    logs.extend(late);
    let Some(found) = lake.rows() else { return };
    assert_same(&found, &expected(&logs));
    bench.drop_it().await;
}

/// The rows with their metadata as values: jsonb keeps no spelling.
fn without_spelling(rows: Vec<Value>) -> Vec<Value> {
    let parse = |mut row: Value| {
        let parsed = row[9].as_str().map(|text| serde_json::from_str(text).expect("JSON"));
        row[9] = parsed.unwrap_or(Value::Null);
        row
    };
    rows.into_iter().map(parse).collect()
}

async fn a_generation_replaces_a_day_and_what_is_streamed_meanwhile_stays(bench: Bench) {
    let mut random = StdRng::seed_from_u64(6);
    let lake = Lake::new();
    let logs = of_one_day(&mut random, 0, 900);
    let (half, end) = (logs[600].offset, logs[899].offset + 1);
    // The store has everything, the files two thirds of it.
    let mut store = bench.logs();
    store.resume(&[source(0)]).await.expect("claimed");
    store.write(&[batch(&logs, end)], DAY0).await.expect("stored");
    lake.take(&bench, batch(&logs[..600], half), DAY0).await;
    let streamed = lake.names("2026-01-15");
    let anew = Anew { streamed: true, ..lake.anew(&bench) };
    let done = export_day(&anew, &mut |_, _| {}).await.expect("exported");
    assert_eq!((done.generation, done.rows, done.replaced_files, done.replaced_rows), (1, 600, 1, 600));
    assert_eq!(verify_day(&anew, &mut |_, _| {}).await.expect("read").differences, [""; 0]);
    assert!(!lake.names("2026-01-15").contains(&streamed[0]), "the old file is gone");
    let manifest = json_file(&lake.folder.path().join("logs/date=2026-01-15/_manifest-v1.json"));
    assert_eq!((&manifest["voided"], &manifest["closed"]), (&json!(streamed), &json!(false)));
    // The stream goes on where it was.
    let mut sink = lake.sink(&bench);
    assert_eq!(sink.resume(&[source(0)]).await.expect("claimed")[&source(0)], half);
    sink.write(&[batch(&logs[600..], end)], DAY0).await.expect("buffered");
    sink.finish().await.expect("finished");
    keep(&lake, &bench).await;
    let verified = verify_day(&anew, &mut |_, _| {}).await.expect("read");
    assert_eq!((verified.stored, verified.exported, &verified.differences[..]), (900, 900, &[][..]));
    let Some(found) = lake.rows() else { return };
    assert_same(&without_spelling(found), &without_spelling(expected(&logs)));
    // A second time: the first generation and the stream's file are both replaced.
    let done = export_day(&anew, &mut |_, _| {}).await.expect("exported");
    assert_eq!((done.generation, done.rows, done.replaced_files, done.replaced_rows), (2, 900, 2, 900));
    let Some(found) = lake.rows() else { return };
    assert_same(&without_spelling(found), &without_spelling(expected(&logs)));
    refuse_fewer_and_find_damage(&bench, &lake, &anew).await;
    bench.drop_it().await;
}

async fn refuse_fewer_and_find_damage(bench: &Bench, lake: &Lake, anew: &Anew) {
    bench.execute("DELETE FROM logs WHERE kafka_offset < 100").await;
    let error = export_day(anew, &mut |_, _| {}).await.expect_err("fewer logs than files hold").to_string();
    assert!(error.contains("--force"), "{error}");
    let found = verify_day(anew, &mut |_, _| {}).await.expect("read");
    assert!(
        found.differences.iter().any(|told| told.contains("logs in the store, 900 in the files")),
        "{found:?}"
    );
    let names = lake.names("2026-01-15");
    let file = names.iter().find(|name| name.ends_with(".parquet")).expect("a file");
    std::fs::remove_file(lake.folder.path().join("logs/date=2026-01-15").join(file)).expect("deleted");
    let found = verify_day(anew, &mut |_, _| {}).await.expect("read");
    assert!(found.differences.contains(&format!("{file} is missing")), "{found:?}");
}

/// As left by a kill between the objects of a generation and their exchange.
async fn what_a_killed_generation_left_is_voided_after_an_hour(bench: Bench) {
    let mut random = StdRng::seed_from_u64(10);
    let lake = Lake::new();
    let logs = of_one_day(&mut random, 0, 200);
    lake.take(&bench, batch(&logs, logs[199].offset + 1), DAY0 + DAY + 16 * MINUTE).await;
    keep(&lake, &bench).await;
    let closed = lake.names("2026-01-15");
    let (day, left) = (lake.folder.path().join("logs/date=2026-01-15"), "export-g0001-00000.parquet");
    std::fs::copy(day.join(&closed[2]), day.join(left)).expect("copied");
    bench
        .execute(&format!(
            "INSERT INTO export_files (target, date, name, status, generation, rows, bytes, row_checksum, \
             min_timestamp_us, max_timestamp_us, created_us) SELECT target, date, '{left}', 'intended', 1, rows, bytes, \
             row_checksum, min_timestamp_us, max_timestamp_us, created_us FROM export_files"
        ))
        .await;
    keep(&lake, &bench).await;
    assert!(lake.names("2026-01-15").contains(&left.to_owned()), "one that is under way is left alone");
    bench.execute("UPDATE export_files SET created_us = created_us - 3600000000 WHERE generation = 1").await;
    keep(&lake, &bench).await;
    let manifest = json_file(&day.join("_manifest-v2.json"));
    assert_eq!((&manifest["rows"], &manifest["voided"]), (&json!(200), &json!([left])));
    assert_eq!(json_file(&day.join("_SUCCESS"))["version"], 2);
    assert!(!lake.names("2026-01-15").contains(&left.to_owned()), "its object is gone");
    assert_eq!(bench.number("SELECT count(*) FROM export_files WHERE status = 'intended'").await, 0);
    let Some(found) = lake.rows() else { return };
    assert_same(&found, &expected(&logs));
    bench.drop_it().await;
}

/// One that lives after all: it was voided and swept up before its objects were there.
#[tokio::test]
async fn a_generation_that_was_given_up_meanwhile_fails_and_leaves_nothing() {
    let bench = Bench::sqlite().await;
    let mut random = StdRng::seed_from_u64(11);
    let lake = Lake::new();
    let logs = of_one_day(&mut random, 0, 50);
    let mut store = bench.logs();
    store.resume(&[source(0)]).await.expect("claimed");
    store.write(&[batch(&logs, logs[49].offset + 1)], DAY0).await.expect("stored");
    bench
        .execute(
            "CREATE TRIGGER swept AFTER INSERT ON export_files BEGIN \
             UPDATE export_files SET status = 'voided', deleted_us = 1; END",
        )
        .await;
    let anew = lake.anew(&bench);
    let error = export_day(&anew, &mut |_, _| {}).await.expect_err("given up").to_string();
    assert!(error.contains("within an hour"), "{error}");
    assert_eq!(lake.names("2026-01-15"), ["export-g0001-00000.parquet"]);
    keep(&lake, &bench).await;
    assert_eq!(lake.names("2026-01-15"), [""; 0]);
}

/// What was exported by hand before the stream first came by is not written again.
async fn a_stream_that_comes_later_leaves_out_what_a_generation_holds(bench: Bench) {
    let mut random = StdRng::seed_from_u64(7);
    let lake = Lake::new();
    let logs = of_one_day(&mut random, 0, 300);
    let (some, end) = (logs[200].offset, logs[299].offset + 1);
    let mut store = bench.logs();
    store.resume(&[source(0)]).await.expect("claimed");
    store.write(&[batch(&logs[..200], some)], DAY0).await.expect("stored");
    let anew = lake.anew(&bench);
    assert_eq!(export_day(&anew, &mut |_, _| {}).await.expect("exported").rows, 200);
    lake.take(&bench, batch(&logs, end), DAY0).await;
    let Some(found) = lake.rows() else { return };
    assert_same(&without_spelling(found), &without_spelling(expected(&logs)));
    bench.drop_it().await;
}
