//! `smartlog sinks`: shows and changes where each sink stands in its input.

use super::{block_on, store_config};
use crate::cli::SinksAction;
use crate::config::{Config, OutputFormat};
use jiff::Timestamp;
use serde_json::json;
use smartlog_schema::position::{Positions, TopicPartition};
use smartlog_sinks::{AGGREGATES, LaneState, StoredPosition};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;
use std::str::FromStr;

/// Where a sink is to begin in one partition, written `TOPIC:PARTITION=OFFSET`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartAt {
    partition: TopicPartition,
    offset: i64,
}

impl FromStr for StartAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = || {
            let (place, offset) = text.rsplit_once('=')?;
            let (topic, partition) = place.rsplit_once(':')?;
            let (partition, offset) = (partition.parse::<i32>().ok()?, offset.parse::<i64>().ok()?);
            let valid = !topic.is_empty() && partition >= 0 && offset >= 0;
            valid.then(|| StartAt { partition: TopicPartition::new(topic, partition), offset })
        };
        parts().ok_or_else(|| "expected TOPIC:PARTITION=OFFSET, such as logs:0=1200".to_string())
    }
}

pub fn run(config: &Config, action: SinksAction) -> anyhow::Result<ExitCode> {
    let store = store_config(config)?;
    let name = &config.store.url;
    let mut out = io::stdout().lock();
    match action {
        SinksAction::List => {
            let positions = block_on(smartlog_sinks::positions(&store))??;
            match config.output.format {
                OutputFormat::Json => write_json(&positions, &mut out)?,
                OutputFormat::Table => write_table(&positions, &mut out)?,
            }
        }
        SinksAction::Forget { sink } => {
            let dropped = block_on(smartlog_sinks::forget(&store, &sink))??;
            anyhow::ensure!(
                dropped > 0,
                "{name} holds no position of a sink `{sink}`; see smartlog sinks list"
            );
            writeln!(out, "dropped {dropped} positions of {sink}")?;
        }
        SinksAction::SetStart { sink, at } => {
            let start: Positions = at.into_iter().map(|start| (start.partition, start.offset)).collect();
            block_on(smartlog_sinks::set_start(&store, &sink, &start))??;
            writeln!(
                out,
                "{sink} begins at {}; a writer that is running ends now and begins there",
                told(&start)
            )?;
        }
        SinksAction::AcceptTopic { topic } => {
            let dropped = block_on(smartlog_sinks::accept_topic(&store, &topic))??;
            anyhow::ensure!(
                dropped > 0,
                "{name} holds no position in a topic `{topic}`; see smartlog sinks list"
            );
            writeln!(out, "dropped {dropped} positions in {topic}: every sink begins at its start")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn told(start: &Positions) -> String {
    start.iter().map(|(partition, offset)| format!("{partition} {offset}")).collect::<Vec<_>>().join(", ")
}

/// One JSON object per line.
fn write_json(positions: &[StoredPosition], out: &mut impl Write) -> io::Result<()> {
    let front = front(positions);
    positions.iter().try_for_each(|position| {
        let row = json!({
            "sink": position.sink,
            "topic": position.partition.topic.as_str(),
            "partition": position.partition.partition,
            "next_offset": position.next_offset,
            "lane": position.lane.map(LaneState::as_str),
            "behind": behind(position, &front),
            "watermark": position.watermark_us.map(time),
            "updated_at": time(position.updated_at_us),
        });
        writeln!(out, "{row}")
    })
}

fn write_table(positions: &[StoredPosition], out: &mut impl Write) -> io::Result<()> {
    if positions.is_empty() {
        return writeln!(out, "no positions: nothing was stored yet");
    }
    let front = front(positions);
    let header = ["sink", "partition", "next offset", "lane", "behind", "complete through", "changed"]
        .map(String::from);
    let rows = positions.iter().map(|position| {
        [
            position.sink.clone(),
            position.partition.to_string(),
            position.next_offset.map_or("none yet".into(), |offset| offset.to_string()),
            position.lane.map_or("-".into(), |lane| lane.as_str().into()),
            behind(position, &front).map_or("-".into(), |records| records.to_string()),
            position.watermark_us.map_or("-".into(), time),
            time(position.updated_at_us),
        ]
    });
    super::write_columns(std::iter::once(header).chain(rows), out)
}

/// How far the aggregates are: what detection has read.
fn front(positions: &[StoredPosition]) -> BTreeMap<&TopicPartition, i64> {
    let of_aggregates = positions.iter().filter(|position| position.sink == AGGREGATES);
    of_aggregates.filter_map(|position| Some((&position.partition, position.next_offset?))).collect()
}

/// Records that detection has read and this sink has not stored; `None` for detection itself.
fn behind(position: &StoredPosition, front: &BTreeMap<&TopicPartition, i64>) -> Option<i64> {
    let front = front.get(&position.partition).filter(|_| position.sink != AGGREGATES)?;
    Some((front - position.next_offset?).max(0))
}

/// To the second: nobody reads the rest.
fn time(micros: i64) -> String {
    let time = Timestamp::from_second(micros.div_euclid(1_000_000));
    time.map_or_else(|_| format!("{micros} us"), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(sink: &str, partition: i32, next_offset: Option<i64>) -> StoredPosition {
        StoredPosition {
            sink: sink.into(),
            partition: TopicPartition::new("logs", partition),
            next_offset,
            fingerprint: None,
            watermark_us: next_offset.map(|_| 1_768_473_000_500_000),
            lane: (sink != AGGREGATES && next_offset.is_some()).then_some(LaneState::Detached),
            updated_at_us: 1_768_473_001_000_000,
        }
    }

    #[test]
    fn starts_are_read_and_bad_ones_say_how() {
        let start = |text: &str| text.parse::<StartAt>();
        assert_eq!(
            start("a:b.c-1:12=3400"),
            Ok(StartAt { partition: TopicPartition::new("a:b.c-1", 12), offset: 3400 })
        );
        for bad in [
            "",
            "logs",
            "logs:0",
            "logs=3",
            "logs:x=3",
            "logs:0=",
            "logs:-1=3",
            "logs:0=-3",
            ":0=3",
            "logs:0=3x",
        ] {
            assert_eq!(
                start(bad),
                Err("expected TOPIC:PARTITION=OFFSET, such as logs:0=1200".into()),
                "{bad}"
            );
        }
    }

    #[test]
    fn positions_are_listed_for_people_and_for_programs() {
        let positions = [
            position("aggregates", 0, Some(1200)),
            position("logs", 0, Some(1100)),
            position("logs", 11, None),
        ];
        let mut table = Vec::new();
        write_table(&positions, &mut table).expect("a vector takes all");
        assert_eq!(
            String::from_utf8(table).expect("text"),
            "sink        partition  next offset  lane      behind  complete through      changed\n\
             aggregates  logs[0]    1200         -         -       2026-01-15T10:30:00Z  2026-01-15T10:30:01Z\n\
             logs        logs[0]    1100         detached  100     2026-01-15T10:30:00Z  2026-01-15T10:30:01Z\n\
             logs        logs[11]   none yet     -         -       -                     2026-01-15T10:30:01Z\n"
        );
        let mut lines = Vec::new();
        write_json(&positions, &mut lines).expect("a vector takes all");
        let lines = String::from_utf8(lines).expect("text");
        let rows: Vec<serde_json::Value> =
            lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(rows[0]["next_offset"], 1200);
        assert_eq!((&rows[1]["lane"], &rows[1]["behind"]), (&"detached".into(), &100.into()));
        assert_eq!(rows[2]["next_offset"], serde_json::Value::Null);
        assert_eq!(rows[2]["partition"], 11);
    }
}
