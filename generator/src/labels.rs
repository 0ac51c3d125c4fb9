//! The labels: what was planned, and what was really written, as one JSON document.
//!
//! An evaluation needs only `evaluate_from`, `services`, `incidents` (`id`, `service`, `type`, `start`, `end`),
//! `excused` (`service`, `start`, `end`) and `facts.end`; the rest says how the traffic came about.

use crate::config::GeneratorConfig;
use crate::incidents::{Incident, IncidentKind};
use crate::line::{Form, Line};
use crate::malformed::{MalformedKind, OddKind};
use crate::model::Model;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The whole document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Labels {
    /// What this is, for people.
    pub name: String,
    pub seed: u64,
    /// Alarms before this moment count for nothing.
    pub evaluate_from: Timestamp,
    /// Names of all services.
    pub services: Vec<String>,
    /// What a detector must find.
    pub incidents: Vec<Label>,
    /// What a detector must not report.
    pub benign: Vec<Label>,
    /// Times in which alarms count neither way: the change of a level, which may look like anything.
    pub excused: Vec<Label>,
    /// What was written.
    pub facts: Facts,
    /// The settings, from which the same traffic can be made again.
    pub config: GeneratorConfig,
}

/// One incident or disturbance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Label {
    pub id: u32,
    /// Name of the service.
    pub service: String,
    /// Anomaly type, or name of the scenario where several types are right.
    #[serde(rename = "type")]
    pub type_name: String,
    pub kind: IncidentKind,
    /// Anomaly types that name it rightly.
    pub accepts: Vec<String>,
    /// First event second that is bent.
    pub start: Timestamp,
    /// First event second that no longer is (of a level shift: the end of the change; the level stays).
    pub end: Timestamp,
    /// Whether a detector should report it.
    pub expected: bool,
    /// How far: see [`IncidentKind`].
    pub magnitude: f64,
    /// The same in words.
    pub how: String,
}

/// What was written so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Logs by service, without those of a wrong clock.
    pub per_service: BTreeMap<String, ServiceFacts>,
    /// Lines that are no logs, by kind.
    pub malformed: BTreeMap<MalformedKind, u64>,
    /// Logs in an unusual form, by kind.
    pub odd: BTreeMap<OddKind, u64>,
    /// Logs that arrived more than 60 s after they happened.
    pub late_over_60s: u64,
    /// Logs that arrived more than 5 min after they happened.
    pub late_over_5min: u64,
    /// Logs of a clock that is ahead, in no service's counts. Whether they are stored or refused rests with the reader:
    /// they lie hours after their Kafka record time, but perhaps not after today.
    pub future_clock: u64,
    /// Logs of a clock that is behind: always 0, there for readers of the format.
    pub past_clock: u64,
    /// Logs with a credible time.
    pub valid: u64,
    /// All lines.
    pub lines: u64,
    /// All bytes, without line breaks.
    pub bytes: u64,
    /// When the traffic begins.
    pub first_event: Timestamp,
    /// When it ends, or as far as it got.
    pub end: Timestamp,
}

/// Totals of one service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceFacts {
    /// Logs.
    pub events: u64,
    /// Logs of level ERROR or FATAL.
    pub errors: u64,
    /// Characters of all messages.
    pub message_chars: u64,
}

impl Label {
    pub(crate) fn new(incident: &Incident, model: &Model) -> Self {
        Label {
            id: incident.id,
            service: model.services[incident.service].config.name.clone(),
            type_name: incident.kind.label().to_owned(),
            kind: incident.kind,
            accepts: incident.kind.accepts().iter().map(|&name| name.to_owned()).collect(),
            start: incident.start,
            end: incident.end,
            expected: incident.kind.expected(),
            magnitude: incident.magnitude,
            how: incident.note.clone(),
        }
    }
}

impl Labels {
    /// Labels of the incidents that began before `tally`'s end, each cut there.
    pub(crate) fn new(model: &Model, tally: &Tally, end: Timestamp) -> Self {
        let config = &model.config;
        let first_event = Timestamp::from_second(config.seconds().0).unwrap_or(config.start);
        let begun = model.incidents.iter().filter(|incident| incident.start < end);
        let labels = begun.map(|incident| Label::new(incident, model));
        let labels = labels.map(|label| Label { end: label.end.min(end), ..label });
        let (incidents, benign): (Vec<Label>, Vec<Label>) = labels.partition(|label| label.expected);
        let is_shift = |label: &&Label| label.kind == IncidentKind::LevelShift;
        Labels {
            name: format!("generated, seed {}", config.seed),
            seed: config.seed,
            evaluate_from: first_event.saturating_add(config.learn).unwrap_or(first_event),
            services: model.services.iter().map(|service| service.config.name.clone()).collect(),
            excused: benign.iter().filter(is_shift).cloned().collect(),
            incidents,
            benign,
            facts: tally.facts(model, first_event, end),
            config: config.clone(),
        }
    }

    /// The document as JSON, one field a line.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("labels hold nothing that JSON cannot");
        text.push('\n');
        text
    }
}

/// Counts what is written, line by line.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    services: Vec<ServiceFacts>,
    facts: Facts,
}

impl Tally {
    pub(crate) fn new(services: usize) -> Self {
        Tally { services: vec![ServiceFacts::default(); services], facts: Facts::default() }
    }

    pub(crate) fn count(&mut self, line: &Line, message_chars: u32, bytes: usize) {
        let facts = &mut self.facts;
        facts.lines += 1;
        facts.bytes += bytes as u64;
        if let Form::Malformed(kind) = line.form {
            *facts.malformed.entry(kind).or_default() += 1;
            return;
        }
        if let Form::Odd(kind) = line.form {
            *facts.odd.entry(kind).or_default() += 1;
        }
        if line.event_us != line.true_us {
            facts.future_clock += 1;
            return;
        }
        let late = line.arrival_us - line.true_us;
        facts.late_over_60s += u64::from(late > 60_000_000);
        facts.late_over_5min += u64::from(late > 300_000_000);
        facts.valid += 1;
        let service = &mut self.services[usize::from(line.service)];
        service.events += 1;
        service.errors += u64::from(line.level.is_error());
        service.message_chars += u64::from(message_chars);
    }

    fn facts(&self, model: &Model, first_event: Timestamp, end: Timestamp) -> Facts {
        let named = model.services.iter().map(|service| service.config.name.clone());
        let per_service = named.zip(self.services.iter().copied()).collect();
        Facts { per_service, first_event, end, ..self.facts.clone() }
    }
}
