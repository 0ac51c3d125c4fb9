//! What a new pattern was told by, small enough to be kept, and the decision made again from it.

use super::story::{Minute, REACHES_BACK, Story};
use super::{FRESH, alarm};
use crate::breakdown::Counts;
use crate::detector::{Alarm, Finding};
use crate::evidence::{self, Inputs};
use crate::record::Tick;
use crate::settings::Detection;
use compact_str::CompactString;
use smartlog_schema::anomaly::{AnomalyType, ChangeKind, EpisodeChange};
use smartlog_schema::commit::Evidence;
use smartlog_schema::window::{MINUTE, bucket_of, floor_to};
use std::collections::BTreeMap;

/// What a look at a service decided by, besides the counts.
pub(super) struct Decided<'a> {
    pub detection: &'a Detection,
    /// When each shape that may be new came first.
    pub fresh: &'a BTreeMap<u64, i64>,
    pub tick: &'a Tick,
    /// Windows that end at or before this were final.
    pub through: i64,
}

impl Decided<'_> {
    /// What is to be kept of the decisions among `changes`.
    pub fn evidence(&self, changes: &[EpisodeChange]) -> Vec<Evidence> {
        let decides =
            |change: &&EpisodeChange| matches!(change.kind, ChangeKind::Raised | ChangeKind::Opened);
        changes.iter().filter(decides).filter_map(|change| self.of(change)).collect()
    }

    fn of(&self, change: &EpisodeChange) -> Option<Evidence> {
        let Decided { detection, fresh, tick, through } = *self;
        let is_provisional = change.kind == ChangeKind::Raised;
        let window =
            if is_provisional { open_window(tick.clock_second()) } else { change.episode.started_at };
        let inputs = Inputs::of_rules(change, window - REACHES_BACK, tick, detection);
        // The open window goes on to the end of its minute.
        let provisional_end = inputs.provisional_end.max(window);
        let inputs = Inputs { final_through: through, provisional_end, ..inputs };
        let new: Vec<(u64, i64)> = fresh
            .iter()
            .filter(|(_, first)| **first > window - FRESH)
            .map(|(s, first)| (*s, *first))
            .collect();
        // JSON does not keep every bit of a number.
        evidence::evidence(&change.episode, &inputs, bincode::serialize(&(detection, new)).ok()?)
    }
}

/// The end of the window that a clock at `second` is in.
fn open_window(second: i64) -> i64 {
    floor_to(second, MINUTE) + MINUTE
}

/// Decides again; `None`: nothing is raised. `logs`: of the service by minute, and by shape and minute.
///
/// # Errors
/// A state that this version cannot read.
pub fn decide(
    service: &CompactString,
    started_at: i64,
    state: &[u8],
    inputs: &Inputs,
    logs: &BTreeMap<i64, (u64, BTreeMap<u64, Counts>)>,
) -> Result<Option<String>, bincode::Error> {
    let (detection, new): (Detection, Vec<(u64, i64)>) = bincode::deserialize(state)?;
    let first: BTreeMap<u64, i64> = new.into_iter().collect();
    let minute = |(at, (logs, shapes)): (&i64, &(u64, BTreeMap<u64, Counts>))| {
        let fresh = shapes.iter().filter(|(shape, _)| first.contains_key(shape));
        (*at, Minute { logs: *logs, fresh: fresh.map(|(shape, counts)| (*shape, *counts)).collect() })
    };
    let story = Story::of(logs.iter().map(minute).collect(), &first, &detection);
    let (findings, alarms): (Vec<Finding>, Vec<Alarm>) = if inputs.is_provisional {
        let end = open_window(bucket_of(inputs.clock_us));
        (Vec::new(), story.fresh(end).map(|verdict| alarm(verdict, end)).into_iter().collect())
    } else {
        let mut findings = story.findings(started_at - MINUTE, inputs.final_through, None);
        findings.retain(|finding| finding.started_at == started_at);
        (findings, Vec::new())
    };
    Ok(evidence::decided(service, AnomalyType::NewPattern, &findings, &alarms, inputs))
}
