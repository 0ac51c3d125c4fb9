//! What a decision rested on, small enough to be kept for every episode, and the decision made again from it.
//!
//! ```text
//!   detect ── an episode is raised, opened or reopened ──▶ Evidence: base detector, rules, windows, decision ──▶ store
//!   score  ── a model's scores open one ─────────────────▶ Evidence: model, windows, patterns, decision ─────▶ store
//!   novelty ── a new pattern raises or opens one ────────▶ Evidence: new shapes, rules, windows, decision ───▶ store
//!   store  ── Evidence, sums of the stretch ──▶ decide(), or decide_by_score() ──▶ the same decision, byte for byte
//! ```

use crate::breakdown::Counts;
use crate::detector::{Alarm, Detector, Finding};
use crate::episodes::{Evaluation, reconcile};
use crate::feature_rows::HOP_SECONDS;
use crate::features::{self, Window};
use crate::flow::{Flow, Others, Who, hash};
use crate::novelty;
use crate::outliers::{self, Seen};
use crate::pattern_window::PatternSums;
use crate::record::{Tick, WHOLE_STREAM};
use crate::score::{Best, Model};
use crate::settings::Detection;
use crate::sums::Sums;
use crate::window::kept_seconds;
use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use smartlog_schema::anomaly::{AnomalyType, ChangeKind, Episode, EpisodeChange};
use smartlog_schema::commit::Evidence;
use smartlog_schema::window::{MINUTE, WINDOW_SECONDS, bucket_of, floor_to, provisional_end};
use std::collections::BTreeMap;

/// What decided besides the logs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inputs {
    /// The clock when it was decided, microseconds of event time.
    pub clock_us: i64,
    /// Windows that end at or before this second were final.
    pub final_through: i64,
    /// The end of the window that was open.
    pub provisional_end: i64,
    /// It was decided on the open window.
    pub is_provisional: bool,
    /// The second up to which the detector knew the past; of a score, the end of the first window beyond its threshold; of
    /// a new pattern, the first second that counts.
    pub base: i64,
    /// The rules in force, for people.
    pub rules: serde_json::Value,
    /// The model whose scores decided; `None`: a rule did.
    pub model: Option<ScoredBy>,
    /// Version of the program.
    pub program: String,
}

/// A model, to be known again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScoredBy {
    pub version: String,
    /// Of its stored bytes.
    pub digest: String,
}

impl Inputs {
    /// Of a change that rules decided at a tick.
    pub(crate) fn of_rules(change: &EpisodeChange, base: i64, tick: &Tick, detection: &Detection) -> Self {
        Inputs {
            clock_us: tick.clock.clock_us,
            final_through: tick.final_through(),
            provisional_end: provisional_end(tick.clock_second()),
            is_provisional: change.kind == ChangeKind::Raised,
            base,
            rules: serde_json::to_value(detection).unwrap_or_default(),
            model: None,
            program: PROGRAM.to_owned(),
        }
    }

    /// The seconds whose sums it takes to decide again.
    pub fn stretch(&self) -> std::ops::Range<i64> {
        self.base - kept_seconds(0)..self.final_through.max(self.provisional_end)
    }
}

/// What was decided, as canonical JSON (RFC 8785).
pub fn decision(episode: &Episode) -> String {
    let decided = serde_json::json!({
        "service": episode.key.service,
        "type": episode.key.anomaly_type,
        "severity": episode.severity,
        "started_at": episode.started_at,
        "metric_value": episode.metric_value,
        "threshold": episode.threshold,
        "baseline": episode.baseline,
    });
    serde_json_canonicalizer::to_string(&decided).unwrap_or_default()
}

/// What is to be kept of the decisions among `changes`, which were made on `base`.
pub fn of_changes(
    changes: &[EpisodeChange],
    base: &Detector,
    tick: &Tick,
    detection: &Detection,
) -> Vec<Evidence> {
    let decides = |change: &&EpisodeChange| {
        matches!(change.kind, ChangeKind::Raised | ChangeKind::Opened | ChangeKind::Reopened)
    };
    let made = |change: &EpisodeChange| {
        let inputs = Inputs::of_rules(change, base.at(), tick, detection);
        // JSON does not keep every bit of a number.
        let state = bincode::serialize(&(detection, base.to_bytes().ok()?)).ok()?;
        evidence(&change.episode, &inputs, state)
    };
    changes.iter().filter(decides).filter_map(made).collect()
}

/// What is to be kept of an episode that the scores of windows opened; `first`: the end of the first of them;
/// `patterns`: of the windows since, by their ends, where the model looks at them. What was new then the logs of a stretch
/// do not tell.
pub fn of_scores(
    episode: &Episode,
    first: i64,
    patterns: BTreeMap<i64, PatternSums>,
    model: ScoredBy,
    detection: &Detection,
) -> Option<Evidence> {
    let inputs = Inputs {
        clock_us: episode.detected_at_us,
        final_through: episode.started_at,
        provisional_end: episode.started_at,
        is_provisional: false,
        base: first,
        rules: serde_json::to_value(detection).unwrap_or_default(),
        model: Some(model),
        program: PROGRAM.to_owned(),
    };
    let kept = if patterns.is_empty() { Vec::new() } else { bincode::serialize(&patterns).ok()? };
    evidence(episode, &inputs, kept)
}

const PROGRAM: &str = env!("CARGO_PKG_VERSION");

pub(crate) fn evidence(episode: &Episode, inputs: &Inputs, detector: Vec<u8>) -> Option<Evidence> {
    Some(Evidence {
        key: episode.key.clone(),
        decision: decision(episode),
        inputs: serde_json::to_string(inputs).ok()?,
        detector,
        offsets: Default::default(),
        feedback_seq: 0,
    })
}

/// The logs of a stretch, as sums per service and second, and those of one service by minute and shape.
#[derive(Debug, Default)]
pub struct Stretch {
    services: BTreeMap<CompactString, BTreeMap<i64, Sums>>,
    flow: Flow,
    shapes: BTreeMap<i64, BTreeMap<u64, Counts>>,
}

impl Stretch {
    /// Adds what `service` logged in `second`.
    pub fn add(&mut self, service: &str, second: i64, sums: Sums) {
        self.flow.observe(second, Who::One(hash(service)));
        match self.services.get_mut(service) {
            Some(seconds) => *seconds.entry(second).or_default() += sums,
            None => drop(self.services.insert(service.into(), BTreeMap::from([(second, sums)]))),
        }
    }

    /// Adds what the service that is decided on logged of a shape in the minute of `second`.
    pub fn add_shape(&mut self, second: i64, shape: u64, counts: Counts) {
        *self.shapes.entry(floor_to(second, MINUTE)).or_default().entry(shape).or_default() += counts;
    }

    /// The logs of `of` by minute, and those that have a shape by that.
    fn minutes(&self, of: &str) -> BTreeMap<i64, (u64, BTreeMap<u64, Counts>)> {
        let mut minutes = BTreeMap::<i64, (u64, BTreeMap<u64, Counts>)>::new();
        for (second, sums) in self.seconds(of) {
            let logs = &mut minutes.entry(floor_to(second, MINUTE)).or_default().0;
            *logs = logs.saturating_add_signed(sums.logs);
        }
        for (minute, shapes) in &self.shapes {
            minutes.entry(*minute).or_default().1.clone_from(shapes);
        }
        minutes
    }

    /// Logs of all services.
    pub fn logs(&self) -> i64 {
        self.services.values().flat_map(BTreeMap::values).map(|sums| sums.logs).sum()
    }

    /// The sums of `of`, empty for the whole stream, by second.
    fn seconds(&self, of: &str) -> Vec<(i64, Sums)> {
        let mut seconds = BTreeMap::<i64, Sums>::new();
        let is_in = |name: &CompactString| of == name || of == WHOLE_STREAM;
        for (second, sums) in self.services.iter().filter(|(name, _)| is_in(name)).flat_map(|(_, s)| s) {
            *seconds.entry(*second).or_default() += *sums;
        }
        seconds.into_iter().collect()
    }

    /// How many services have a log in the window that ends at `end`.
    fn unique_services(&self, end: i64) -> i64 {
        let logs = |seconds: &&BTreeMap<i64, Sums>| seconds.range(end - WINDOW_SECONDS..end).next().is_some();
        self.services.values().filter(logs).count() as i64
    }
}

/// The sums over the `length` seconds before `end`.
fn total(seconds: &[(i64, Sums)], end: i64, length: i64) -> Sums {
    let from = |second: i64| seconds.partition_point(|(s, _)| *s < second);
    seconds[from(end - length)..from(end)].iter().fold(Sums::default(), |sum, (_, sums)| sum + *sums)
}

/// Decides again; `None`: nothing of that type is raised.
///
/// # Errors
/// A state that this version cannot read.
pub fn decide(
    service: &str,
    anomaly_type: AnomalyType,
    started_at: i64,
    detector: &[u8],
    inputs: &Inputs,
    stretch: &Stretch,
) -> Result<Option<String>, bincode::Error> {
    let name = CompactString::from(service);
    if anomaly_type == AnomalyType::NewPattern {
        return novelty::decide(&name, started_at, detector, inputs, &stretch.minutes(service));
    }
    let (detection, state): (Detection, Vec<u8>) = bincode::deserialize(detector)?;
    let detection = &detection;
    let mut head = Detector::from_bytes(&state, detection)?;
    let seconds = stretch.seconds(service);
    let others = (name != WHOLE_STREAM).then(|| Others::of(&name, &stretch.flow));
    let mut findings = head.fold(&seconds, others, inputs.final_through, detection);
    findings.extend(head.open());
    let end = inputs.provisional_end;
    let alarms = if inputs.is_provisional {
        let so_far = &seconds[..seconds.partition_point(|(second, _)| *second < end)];
        let last_seen = so_far.last().map_or(head.last_seen(), |(s, _)| head.last_seen().max(*s));
        let open = [total(so_far, end, MINUTE), total(so_far, end, WINDOW_SECONDS)];
        head.peek(open, last_seen, others, end, detection)
    } else {
        Vec::new()
    };
    findings.retain(|finding| !inputs.is_provisional && finding.started_at == started_at);
    Ok(decided(&name, anomaly_type, &findings, &alarms, inputs))
}

/// The decision that findings and alarms lead to where nothing was published before; `None`: no episode of that type.
pub(crate) fn decided(
    service: &CompactString,
    anomaly_type: AnomalyType,
    findings: &[Finding],
    alarms: &[Alarm],
    inputs: &Inputs,
) -> Option<String> {
    let evaluation = Evaluation {
        service: Some(service).filter(|name| **name != WHOLE_STREAM),
        findings,
        alarms,
        final_through: inputs.final_through,
        provisional_end: provisional_end(bucket_of(inputs.clock_us)),
        clock_us: inputs.clock_us,
        last: false,
    };
    let changes = reconcile(&mut Vec::new(), &evaluation);
    let decided = changes.iter().find(|change| change.episode.key.anomaly_type == anomaly_type)?;
    Some(decision(&decided.episode))
}

/// Decides again what scores decided; `None`: they raise nothing at that window. `kept`: what [`of_scores`] kept of the
/// windows' patterns.
///
/// # Errors
/// Patterns that this version cannot read.
pub fn decide_by_score(
    service: &str,
    model: &dyn Model,
    version: &str,
    kept: &[u8],
    inputs: &Inputs,
    stretch: &Stretch,
) -> Result<Option<String>, bincode::Error> {
    let patterns: BTreeMap<i64, PatternSums> =
        if kept.is_empty() { BTreeMap::new() } else { bincode::deserialize(kept)? };
    let seconds = stretch.seconds(service);
    let mut best = Best::new(inputs.base);
    let mut last = None;
    for end in (inputs.base..=inputs.final_through).step_by(HOP_SECONDS as usize) {
        let sums = total(&seconds, end, WINDOW_SECONDS);
        let (unique_services, patterns) = (stretch.unique_services(end), patterns.get(&end).copied());
        let window = Window { end, sums, unique_services, patterns: patterns.unwrap_or_default() };
        let scored = model.score(service, &features::values(&window)).filter(|_| !sums.is_empty());
        if let Some(scored) = scored {
            best.take(end, &scored, model.hold());
        }
        last = scored.map(|scored| (window, scored));
    }
    let Some((window, scored)) = last.filter(|_| best.is_held()) else { return Ok(None) };
    let (columns, clock_us) = (model.columns(), inputs.clock_us);
    let seen = Seen { window, columns, scored, held: true, model_version: version, clock_us };
    Ok(Some(decision(&outliers::raised(&CompactString::from(service), &seen))))
}
