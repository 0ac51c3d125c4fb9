//! All of a commit but its episodes, in one round trip.

use super::patterns::PatternColumns;
use super::session::{Answer, begin, execute, send_together};
use super::statements::Statements;
use super::types::Micros;
use crate::AGGREGATES;
use crate::episode::micros;
use crate::plan::{Move, StatePlan, write_partition_clocks};
use std::collections::BTreeMap;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error};

/// How many rows the guarded statements changed.
pub(super) struct Changed {
    pub state: u64,
    pub grown: u64,
    pub new: u64,
}

/// The columns of moved positions.
#[derive(Default)]
struct MoveColumns<'a> {
    topics: Vec<&'a str>,
    partitions: Vec<i32>,
    next: Vec<i64>,
    times: Vec<Option<i64>>,
    hashes: Vec<Option<i64>>,
    expected: Vec<i64>,
}

impl<'a> MoveColumns<'a> {
    fn of(moves: impl Iterator<Item = &'a Move>) -> Self {
        let mut columns = MoveColumns::default();
        for step in moves {
            columns.topics.push(step.partition.topic.as_str());
            columns.partitions.push(step.partition.partition);
            columns.next.push(step.next);
            columns.times.push(step.fingerprint.map(|f| f.record_time_ms));
            columns.hashes.push(step.fingerprint.map(|f| f.payload_hash));
            columns.expected.extend(step.expected);
        }
        columns
    }
}

impl MoveColumns<'_> {
    /// As the statements take them; `expected` only where there is one.
    fn values(&self, expected: bool) -> Vec<&(dyn ToSql + Sync)> {
        let mut values: Vec<&(dyn ToSql + Sync)> =
            vec![&AGGREGATES, &self.topics, &self.partitions, &self.next, &self.times, &self.hashes];
        if expected {
            values.push(&self.expected);
        }
        values
    }
}

/// The columns of cuts.
#[derive(Default)]
struct CutColumns<'a> {
    topics: Vec<&'a str>,
    partitions: Vec<i32>,
    from: Vec<i64>,
    before: Vec<i64>,
}

impl<'a> CutColumns<'a> {
    fn of(plan: &'a StatePlan) -> Self {
        let mut columns = CutColumns::default();
        // A statement may not touch a row twice: the last of an offset counts.
        let newest: BTreeMap<_, _> =
            plan.cuts.iter().map(|(source, cut)| ((source, cut.from_offset), cut.before_us)).collect();
        for ((source, from), before) in newest {
            columns.topics.push(source.topic.as_str());
            columns.partitions.push(source.partition);
            columns.from.push(from);
            columns.before.push(before);
        }
        columns
    }
}

/// The columns of sums.
#[derive(Default)]
struct SumColumns<'a> {
    services: Vec<&'a str>,
    seconds: Vec<i64>,
    logs: Vec<i64>,
    errors: Vec<i64>,
    chars: Vec<i64>,
}

impl<'a> SumColumns<'a> {
    fn of(plan: &'a StatePlan) -> Self {
        let mut columns = SumColumns::default();
        for (service, second, sums) in &plan.seconds {
            columns.services.push(service);
            columns.seconds.push(*second);
            columns.logs.push(sums.logs);
            columns.errors.push(sums.errors);
            columns.chars.push(sums.message_chars);
        }
        columns
    }
}

/// The columns of hourly numbers.
#[derive(Default)]
struct HourColumns<'a> {
    hours: Vec<Micros>,
    services: Vec<&'a str>,
    logs: Vec<i64>,
    errors: Vec<i64>,
    may_empty: bool,
}

impl<'a> HourColumns<'a> {
    fn of(plan: &'a StatePlan) -> Self {
        let mut columns = HourColumns::default();
        for delta in &plan.hourly {
            columns.hours.push(Micros(micros(delta.hour)));
            columns.services.push(&delta.service);
            columns.logs.push(delta.logs);
            columns.errors.push(delta.errors);
            columns.may_empty |= delta.logs < 0;
        }
        columns
    }
}

/// The columns of detector states.
#[derive(Default)]
struct DetectorColumns<'a> {
    kept: Vec<&'a str>,
    states: Vec<&'a [u8]>,
    given_up: Vec<&'a str>,
}

impl<'a> DetectorColumns<'a> {
    fn of(plan: &'a StatePlan) -> Self {
        let mut columns = DetectorColumns::default();
        for (service, state) in &plan.detectors {
            match state {
                Some(state) => {
                    columns.kept.push(service);
                    columns.states.push(state);
                }
                None => columns.given_up.push(service),
            }
        }
        columns
    }
}

/// The columns of counts by host and shape.
#[derive(Default)]
struct MinuteColumns<'a> {
    services: Vec<&'a str>,
    minutes: Vec<i64>,
    counts: Vec<&'a [u8]>,
}

impl<'a> MinuteColumns<'a> {
    fn of(plan: &'a StatePlan) -> Self {
        let mut columns = MinuteColumns::default();
        for (service, minute, counts) in &plan.minutes {
            columns.services.push(service);
            columns.minutes.push(*minute);
            columns.counts.push(counts);
        }
        columns
    }
}

/// The columns of what baselines know.
#[derive(Default)]
struct WarmthColumns<'a> {
    services: Vec<&'a str>,
    known: Vec<i64>,
    needed: Vec<i64>,
}

impl<'a> WarmthColumns<'a> {
    fn of(plan: &'a StatePlan) -> Self {
        let mut columns = WarmthColumns::default();
        for warmth in &plan.warmth {
            columns.services.push(&warmth.service);
            columns.known.push(warmth.minutes);
            columns.needed.push(warmth.needed);
        }
        columns
    }
}

/// The columns of scores.
#[derive(Default)]
struct ScoreColumns<'a> {
    minutes: Vec<Micros>,
    services: Vec<&'a str>,
    roles: Vec<&'a str>,
    scores: Vec<f64>,
    thresholds: Vec<f64>,
    alert_thresholds: Vec<f64>,
    versions: Vec<&'a str>,
    would_raise: Vec<Option<Micros>>,
}

impl<'a> ScoreColumns<'a> {
    fn of(plan: &'a StatePlan) -> Self {
        let mut columns = ScoreColumns::default();
        for score in &plan.scores {
            columns.minutes.push(Micros(micros(score.minute)));
            columns.services.push(&score.service);
            columns.roles.push(score.role.as_str());
            columns.scores.push(score.score);
            columns.thresholds.push(score.threshold);
            columns.alert_thresholds.push(score.alert_threshold);
            columns.versions.push(&score.model_version);
            columns.would_raise.push(score.would_raise.map(|end| Micros(micros(end))));
        }
        columns
    }

    fn values(&self) -> Vec<&(dyn ToSql + Sync)> {
        vec![
            &self.minutes,
            &self.services,
            &self.roles,
            &self.scores,
            &self.thresholds,
            &self.alert_thresholds,
            &self.versions,
            &self.would_raise,
        ]
    }
}

/// The columns of models that came into force.
#[derive(Default)]
struct ModelColumns<'a> {
    roles: Vec<&'a str>,
    effective: Vec<Micros>,
    versions: Vec<&'a str>,
    digests: Vec<&'a str>,
}

impl<'a> ModelColumns<'a> {
    fn of(plan: &'a StatePlan) -> Self {
        let mut columns = ModelColumns::default();
        for swap in &plan.models {
            columns.roles.push(swap.role.as_str());
            columns.effective.push(Micros(micros(swap.effective)));
            columns.versions.push(&swap.version);
            columns.digests.push(&swap.digest);
        }
        columns
    }

    fn values(&self) -> Vec<&(dyn ToSql + Sync)> {
        vec![&self.roles, &self.effective, &self.versions, &self.digests]
    }
}

/// Begins the transaction and writes all but the episodes, in one round trip.
pub(super) async fn write_aggregates(
    client: &Client,
    statements: &Statements,
    pipeline: &str,
    plan: &StatePlan,
) -> Result<Changed, Error> {
    let clocks = write_partition_clocks(&plan.clock);
    let grown = MoveColumns::of(plan.moves.iter().filter(|m| m.expected.is_some()));
    let new = MoveColumns::of(plan.moves.iter().filter(|m| m.expected.is_none()));
    let cuts = CutColumns::of(plan);
    let sums = SumColumns::of(plan);
    let hours = HourColumns::of(plan);
    let detectors = DetectorColumns::of(plan);
    let minutes = MinuteColumns::of(plan);
    let patterns = PatternColumns::of(&plan.patterns);
    let warmth = WarmthColumns::of(plan);
    let scores = ScoreColumns::of(plan);
    let models = ModelColumns::of(plan);
    let mut answers = vec![begin(client), fence(client, statements, &pipeline, plan, &clocks)];
    let mut add = |statement, values| answers.push(execute(client, statement, values));
    if !grown.topics.is_empty() {
        add(&statements.grow, grown.values(true));
    }
    if !new.topics.is_empty() {
        add(&statements.begin_partition, new.values(false));
    }
    if !cuts.topics.is_empty() {
        add(&statements.keep_cuts, vec![&cuts.topics, &cuts.partitions, &cuts.from, &cuts.before]);
    }
    if !sums.services.is_empty() {
        add(
            &statements.add_seconds,
            vec![&sums.services, &sums.seconds, &sums.logs, &sums.errors, &sums.chars],
        );
    }
    if plan.may_empty {
        add(&statements.drop_empty, vec![&sums.services, &sums.seconds]);
    }
    if let Some(before) = &plan.forget_seconds_before {
        add(&statements.forget, vec![before]);
    }
    if !hours.hours.is_empty() {
        add(&statements.add_hourly, vec![&hours.hours, &hours.services, &hours.logs, &hours.errors]);
    }
    if hours.may_empty {
        add(&statements.drop_empty_hours, vec![&hours.hours, &hours.services]);
    }
    if !detectors.kept.is_empty() {
        add(&statements.keep_detectors, vec![&detectors.kept, &detectors.states]);
    }
    if !detectors.given_up.is_empty() {
        add(&statements.give_up_detectors, vec![&detectors.given_up]);
    }
    if !minutes.services.is_empty() {
        add(&statements.keep_minutes, vec![&minutes.services, &minutes.minutes, &minutes.counts]);
    }
    if let Some(before) = &plan.forget_minutes_before {
        add(&statements.forget_minutes, vec![before]);
    }
    for (statement, values) in patterns.writes(&statements.patterns) {
        add(statement, values);
    }
    if !warmth.services.is_empty() {
        add(&statements.keep_warmth, vec![&warmth.services, &warmth.known, &warmth.needed]);
    }
    if !scores.scores.is_empty() {
        add(&statements.add_scores, scores.values());
    }
    if !models.roles.is_empty() {
        add(&statements.add_models, models.values());
    }
    let mut counts = send_together(answers).await?.into_iter().skip(1);
    let state = counts.next().unwrap_or(0);
    let mut next_if = |sent: bool| if sent { counts.next().unwrap_or(0) } else { 0 };
    Ok(Changed { state, grown: next_if(!grown.topics.is_empty()), new: next_if(!new.topics.is_empty()) })
}

/// Compare-and-set of the commit sequence.
fn fence<'a>(
    client: &'a Client,
    statements: &'a Statements,
    pipeline: &'a &'a str,
    plan: &'a StatePlan,
    clocks: &'a String,
) -> Answer<'a> {
    let (before, after, clock) = (&plan.before, &plan.after, &plan.clock);
    execute(
        client,
        &statements.fence,
        vec![
            &after.sequence,
            &after.event_seq,
            &plan.epoch,
            &clock.clock_us,
            &clock.watermark_us,
            &clock.wall_us,
            clocks,
            pipeline,
            &before.sequence,
            &before.holder,
            &plan.feedback_seq,
        ],
    )
}
