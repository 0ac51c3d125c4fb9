//! The episodes of a commit, their events, and the hours where they are counted.

use super::state::drop_empty_hour;
use crate::episode::{
    MODEL_VERSION_CHARS, SERVICE_CHARS, event_json, json_or_string, micros, seconds, storable,
};
use crate::evidence::write_offsets;
use crate::plan::StatePlan;
use rusqlite::types::Value;
use rusqlite::{OptionalExtension, Transaction, params};
use smartlog_schema::anomaly::{Episode, EpisodeKey};
use smartlog_schema::commit::Evidence;
use smartlog_schema::window::HOUR;
use std::collections::BTreeMap;

pub(super) fn write_episodes(transaction: &Transaction<'_>, plan: &StatePlan) -> rusqlite::Result<()> {
    let mut started_before = Vec::new();
    let mut ids: BTreeMap<&EpisodeKey, i64> = BTreeMap::new();
    for (key, episode) in plan.episodes() {
        let stored = stored_episode(transaction, key)?;
        if let Some((_, started_at)) = stored {
            started_before.push((key.clone(), seconds(started_at)));
        }
        ids.insert(key, write_episode(transaction, stored.map(|(id, _)| id), episode)?);
    }
    append_events(transaction, plan, &ids)?;
    keep_evidence(transaction, plan)?;
    for (hour, service) in plan.recounts(&started_before) {
        recount_hour(transaction, hour, &storable(&service, SERVICE_CHARS))?;
    }
    Ok(())
}

/// Id and `started_at` (microseconds) of an episode that is stored already.
fn stored_episode(transaction: &Transaction<'_>, key: &EpisodeKey) -> rusqlite::Result<Option<(i64, i64)>> {
    let mut statement = transaction.prepare_cached(
        "SELECT id, started_at FROM anomalies
         WHERE coalesce(service, '') = ?1 AND anomaly_type = ?2 AND first_raised_at = ?3",
    )?;
    let service = storable(key.service.as_deref().unwrap_or_default(), SERVICE_CHARS);
    let key = params![service, key.anomaly_type.as_str(), micros(key.first_raised_at)];
    statement.query_row(key, |row| Ok((row.get(0)?, row.get(1)?))).optional()
}

/// Inserts the episode, or updates the row `id`; gives the row's id.
fn write_episode(transaction: &Transaction<'_>, id: Option<i64>, episode: &Episode) -> rusqlite::Result<i64> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO anomalies (id, service, anomaly_type, first_raised_at, status, severity, revision, detected_at,
                started_at, last_seen, ended_at, metric_value, threshold, baseline, peak_value, score, model_version,
                description, explanation, provenance, expected_by, expected_status)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22)
         ON CONFLICT (id) DO UPDATE SET status = excluded.status, severity = excluded.severity,
                revision = excluded.revision, detected_at = excluded.detected_at, started_at = excluded.started_at,
                last_seen = excluded.last_seen, ended_at = excluded.ended_at, metric_value = excluded.metric_value,
                threshold = excluded.threshold, baseline = excluded.baseline, peak_value = excluded.peak_value,
                score = excluded.score, model_version = excluded.model_version, description = excluded.description,
                explanation = excluded.explanation, provenance = excluded.provenance,
                expected_by = excluded.expected_by, expected_status = excluded.expected_status,
                updated_at = CAST(unixepoch('subsec') * 1000000 AS INTEGER)
         RETURNING id",
    )?;
    let key = &episode.key;
    let text = |text: &str| Value::Text(storable(text, usize::MAX).into_owned());
    let values: [Value; 22] = [
        id.into(),
        key.service.as_deref().map(|s| storable(s, SERVICE_CHARS).into_owned()).into(),
        text(key.anomaly_type.as_str()),
        micros(key.first_raised_at).into(),
        text(episode.status.as_str()),
        text(episode.severity.as_str()),
        i64::from(episode.revision).into(),
        episode.detected_at_us.into(),
        micros(episode.started_at).into(),
        micros(episode.last_seen).into(),
        episode.ended_at.map(micros).into(),
        number(episode.metric_value),
        number(episode.threshold),
        number(episode.baseline),
        number(episode.peak_value),
        episode.score.map_or(Value::Null, number),
        episode.model_version.as_deref().map(|v| storable(v, MODEL_VERSION_CHARS).into_owned()).into(),
        text(&episode.description),
        text(&json_or_string(&episode.explanation)),
        text(&json_or_string(&episode.provenance)),
        episode.expected.map(|expected| expected.by).into(),
        episode.expected.map(|expected| expected.status.as_str().to_owned()).into(),
    ];
    statement.query_row(rusqlite::params_from_iter(values), |row| row.get(0))
}

/// SQLite knows no NaN.
fn number(value: f64) -> Value {
    if value.is_nan() { Value::Null } else { Value::Real(value) }
}

fn append_events(
    transaction: &Transaction<'_>,
    plan: &StatePlan,
    ids: &BTreeMap<&EpisodeKey, i64>,
) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO anomaly_events (seq, anomaly_id, kind, revision, status, reason, clock, episode)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    for (seq, change) in (plan.before.event_seq + 1..).zip(&plan.changes) {
        let episode = &change.episode;
        statement.execute(params![
            seq,
            ids[&episode.key],
            change.kind.as_str(),
            episode.revision,
            episode.status.as_str(),
            change.reason.as_deref().map(|reason| storable(reason, usize::MAX)),
            plan.clock.clock_us,
            event_json(change),
        ])?;
    }
    Ok(())
}

fn keep_evidence(transaction: &Transaction<'_>, plan: &StatePlan) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO anomaly_evidence (anomaly_id, decision, inputs, detector, offsets, feedback_seq)
         SELECT id, ?4, ?5, ?6, ?7, ?8 FROM anomalies
         WHERE coalesce(service, '') = ?1 AND anomaly_type = ?2 AND first_raised_at = ?3
         ON CONFLICT (anomaly_id) DO UPDATE SET decision = excluded.decision, inputs = excluded.inputs,
                detector = excluded.detector, offsets = excluded.offsets, feedback_seq = excluded.feedback_seq",
    )?;
    for Evidence { key, decision, inputs, detector, offsets, feedback_seq } in &plan.evidence {
        let service = storable(key.service.as_deref().unwrap_or_default(), SERVICE_CHARS);
        let (anomaly_type, raised) = (key.anomaly_type.as_str(), micros(key.first_raised_at));
        let (detector, offsets) = (hex::encode(detector), write_offsets(offsets));
        statement.execute(params![
            service,
            anomaly_type,
            raised,
            decision,
            inputs,
            detector,
            offsets,
            feedback_seq
        ])?;
    }
    Ok(())
}

fn recount_hour(transaction: &Transaction<'_>, hour: i64, service: &str) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO hourly_metrics (hour, service, anomaly_count)
         SELECT ?1, ?2, count(*) FROM anomalies
         WHERE service = ?2 AND started_at >= ?1 AND started_at < ?3 AND status <> 'retracted'
         ON CONFLICT (hour, service) DO UPDATE SET anomaly_count = excluded.anomaly_count",
    )?;
    statement.execute(params![micros(hour), service, micros(hour + HOUR)])?;
    drop_empty_hour(transaction, hour, service)
}
