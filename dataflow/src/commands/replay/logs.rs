//! The logs that a decision was made on: of the store, or of Kafka where the store keeps none.

use crate::commands::job;
use crate::config::Config;
use crate::coordinator::offset_at;
use crate::sources::kafka::{KafkaReader, describe};
use crate::sources::kafka_client::client;
use crate::sources::{Assignment, Reader, wall_us};
use anyhow::Context as _;
use jiff::Timestamp;
use smartlog_operators::breakdown::Counts;
use smartlog_operators::evidence::Stretch;
use smartlog_operators::parse::{Parser, Scratch};
use smartlog_operators::patterns::Shaper;
use smartlog_operators::record::Records;
use smartlog_operators::stretch::{Counted, Reading, count};
use smartlog_schema::position::{Positions, TopicPartition};
use smartlog_schema::sums::Sums;
use smartlog_schema::window::{MICROS, bucket_of};
use smartlog_sinks::EvidenceReader;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Records taken in one go.
const MOST: usize = 4_096;
/// Between two looks for what Kafka has sent, and how long nothing may come.
const PAUSE: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(60);

/// Logs, and in words what is not there any more, or not yet.
#[derive(Default)]
pub struct Logs {
    pub stretch: Stretch,
    pub missing: Vec<String>,
    /// What is not there, or never was: no matter where the decision is the same without it.
    pub doubtful: Option<String>,
}

/// Those of `seconds` before `offsets` that the store has; `shapes_of`: the service whose shapes count, too.
///
/// # Errors
/// As any question to the store.
pub async fn of_store(
    reader: &mut EvidenceReader,
    seconds: Range<i64>,
    offsets: &Positions,
    shapes_of: Option<&str>,
) -> anyhow::Result<Logs> {
    let mut logs = Logs::default();
    if let Some(service) = shapes_of {
        for (minute, shape, logs_of, errors) in reader.shapes(service, seconds.clone(), offsets).await? {
            let counts = Counts { logs: logs_of.unsigned_abs(), errors: errors.unsigned_abs() };
            logs.stretch.add_shape(minute, shape.cast_unsigned(), counts);
        }
    }
    for (service, second, sums) in reader.sums(seconds.clone(), offsets).await? {
        logs.stretch.add(&service, second, sums);
    }
    let (oldest, behind) = reader.kept(offsets).await?;
    let start_us = seconds.start.saturating_mul(MICROS);
    logs.doubtful = oldest.filter(|oldest| *oldest > start_us).map(|oldest| {
        format!(
            "logs from {} on are needed, and the store begins at {}: what was before is past the retention, or never was",
            time(start_us),
            time(oldest)
        )
    });
    logs.missing.extend(behind.iter().map(|partition| format!("not all logs of {partition} are stored yet")));
    if logs.stretch.logs() == 0 {
        let advice =
            "no log of the stretch is in the store; --from kafka reads the topics, if they still have them";
        logs.missing.push(advice.to_owned());
    }
    Ok(logs)
}

/// As [`of_store`], those that Kafka still has.
///
/// # Errors
/// Brokers that do not answer.
pub fn of_kafka(
    config: &Config,
    seconds: &Range<i64>,
    offsets: &Positions,
    shapes_of: Option<&str>,
) -> anyhow::Result<Logs> {
    let settings = Arc::new(job::kafka_settings(config));
    let skew_us = i64::try_from(config.time.max_future_skew.as_micros()).unwrap_or(i64::MAX);
    // A log lies no further after the time of its record than that, or it was none.
    let begin_ms = seconds.start.saturating_mul(MICROS).saturating_sub(skew_us).div_euclid(1_000).max(0);
    let asked = client(&settings).with_context(|| format!("Kafka at {}", settings.brokers))?;
    let mut logs = Logs::default();
    let mut assignments = Vec::new();
    for topic in offsets.keys().map(|partition| &partition.topic).collect::<BTreeSet<_>>() {
        let known = describe(&asked, topic).with_context(|| format!("looking topic {topic} up"))?;
        for (source, low, high) in known {
            let Some(end) = offsets.get(&source).copied().filter(|end| *end > 0) else { continue };
            let start = offset_at(&asked, &source, begin_ms)?.unwrap_or(high).max(low);
            logs.missing.extend(missing(&source, (low, high), start, end));
            assignments.extend((start < end.min(high)).then(|| up_to(source, start, end.min(high))));
        }
    }
    let parser = job::parser(config)?.with_shapes(shapes_of.is_some());
    read(&parser, settings, &assignments, |service, second, sums, shape| {
        if !seconds.contains(&second) {
            return;
        }
        logs.stretch.add(service, second, sums);
        if shapes_of == Some(service) {
            let counts = Counts { logs: 1, errors: sums.errors.unsigned_abs() };
            logs.stretch.add_shape(second, shape, counts);
        }
    })?;
    Ok(logs)
}

/// What Kafka does not have any more of the records before `end`.
fn missing(source: &TopicPartition, (low, high): (i64, i64), start: i64, end: i64) -> Option<String> {
    if high < end {
        Some(format!("{source} ends at offset {high}, and was read up to {end}: it was made anew"))
    } else if start == low && low > 0 {
        Some(format!("{source} begins at offset {low}: what was before is past Kafka's retention"))
    } else {
        None
    }
}

fn up_to(source: TopicPartition, start: i64, end: i64) -> Assignment {
    Assignment { source, start, end: Some(end), attached: 0, time_us: None, clock_us: 0 }
}

/// Reads all of `assignments`; `visit` is told of every log: service, second, sums and shape (0: none).
fn read(
    parser: &Parser,
    settings: Arc<crate::sources::kafka::Settings>,
    assignments: &[Assignment],
    mut visit: impl FnMut(&str, i64, Sums, u64),
) -> anyhow::Result<()> {
    if assignments.is_empty() {
        return Ok(());
    }
    let (mut scratch, mut shaper) = (Scratch::default(), parser.shaper());
    let mut reader = KafkaReader::new(settings)?;
    reader.assign(assignments)?;
    let mut heard = Instant::now();
    while reader.partitions().iter().any(|partition| !partition.ended) {
        match reader.poll(MOST)? {
            Some(records) => {
                each_log(&*records, parser, (&mut scratch, &mut shaper), &mut visit);
                heard = Instant::now();
            }
            None => {
                anyhow::ensure!(heard.elapsed() < PATIENCE, "Kafka sent nothing for {PATIENCE:?}");
                thread::sleep(PAUSE);
            }
        }
    }
    Ok(())
}

fn each_log(
    records: &dyn Records,
    parser: &Parser,
    (scratch, shaper): (&mut Scratch, &mut Shaper),
    visit: &mut impl FnMut(&str, i64, Sums, u64),
) {
    // What was too old has a place in no stretch.
    let reading = Reading { parser, wall_us: wall_us(), before_us: i64::MIN };
    for record in (0..records.len()).map(|index| records.get(index)) {
        // What is no log was none then.
        if let Ok(Counted { core, shape, .. }) = count(&record, &reading, scratch, shaper) {
            let sums = Sums::one(core.level.is_error(), i64::from(core.message_chars));
            visit(core.service, bucket_of(core.timestamp_us), sums, shape);
        }
    }
}

pub fn time(us: i64) -> String {
    Timestamp::from_microsecond(us).map_or_else(|_| us.to_string(), |time| time.to_string())
}
