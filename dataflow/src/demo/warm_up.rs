//! What 24 hours of traffic teach, before the first live log: detectors that know what is normal, and the windows of
//! the last minutes.
//!
//! The history comes as sums per service and second, drawn from the same model as the live lines (the counts are those
//! that the lines would have: 86 million of them at 1,000 logs/s, too many to write and parse at every start), and goes
//! through the same detector as live windows do.

use anyhow::Context;
use smartlog_generator::Demo;
use smartlog_operators::detector::Detector;
use smartlog_operators::record::WHOLE_STREAM;
use smartlog_operators::settings;
use smartlog_operators::window::kept_seconds;
use smartlog_schema::commit::{ClockState, Snapshot};
use smartlog_schema::sums::Sums;
use smartlog_schema::window::{MICROS, MINUTE, floor_to};
use std::collections::BTreeMap;

/// The state in which a pipeline would be that had run through the history.
pub fn snapshot(
    demo: &Demo,
    time: &settings::Time,
    detection: &settings::Detection,
) -> anyhow::Result<Snapshot> {
    let history = demo.history_sums(1).context("making up the history")?;
    let names: Vec<compact_str::CompactString> = history.services().map(Into::into).collect();
    let mut seconds: Vec<Vec<(i64, Sums)>> = vec![Vec::new(); names.len()];
    let mut whole: BTreeMap<i64, Sums> = BTreeMap::new();
    for row in history {
        seconds[row.service].push((row.bucket, row.sums));
        *whole.entry(row.bucket).or_default() += row.sums;
    }
    let now = whole.keys().next_back().copied().context("the history is empty")? + 1;
    let checkpoint = floor_to(now - time.watermark_delay - time.max_lateness, MINUTE);
    let mut snapshot = Snapshot {
        clock: Some(ClockState {
            clock_us: now * MICROS,
            watermark_us: (now - time.watermark_delay) * MICROS,
            wall_us: crate::sources::wall_us(),
            partitions: BTreeMap::new(),
        }),
        ..Snapshot::default()
    };
    let whole: Vec<(i64, Sums)> = whole.into_iter().collect();
    let services = names.into_iter().zip(seconds).chain([(WHOLE_STREAM.clone(), whole)]);
    for (service, sums) in services.filter(|(_, sums)| !sums.is_empty()) {
        let mut detector = Detector::new(sums[0].0);
        // The history is quiet: nobody falls silent in it, and neither do all.
        detector.fold(&sums, None, checkpoint, detection);
        let state = detector.to_bytes().context("keeping what was learnt")?;
        let recent = sums.partition_point(|(second, _)| *second < now - kept_seconds(time.max_lateness));
        snapshot
            .seconds
            .extend(sums[recent..].iter().map(|(second, sums)| (service.clone(), *second, *sums)));
        snapshot.detectors.push((service, state));
    }
    Ok(snapshot)
}
