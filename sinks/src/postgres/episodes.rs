//! The episodes of a commit, their events, and the hours where they are counted.

use super::session::root_cause;
use super::statements::Statements;
use super::types::Micros;
use crate::episode::{
    MODEL_VERSION_CHARS, SERVICE_CHARS, event_json, json_or_string, micros, seconds, storable,
};
use crate::evidence::write_offsets;
use crate::plan::StatePlan;
use smartlog_schema::anomaly::{Episode, EpisodeKey};
use smartlog_schema::commit::Evidence;
use smartlog_schema::window::HOUR;
use std::borrow::Cow;
use std::collections::BTreeMap;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row};

/// Rare beside the sums, hence one statement an episode; but sent together.
pub(super) async fn write_episodes(
    client: &Client,
    statements: &Statements,
    plan: &StatePlan,
) -> Result<(), Error> {
    let episodes = plan.episodes();
    let stored = stored_episodes(client, statements, &episodes).await?;
    let rows: Vec<EpisodeColumns<'_>> =
        episodes.iter().map(|(key, e)| EpisodeColumns::of(stored.get(key).map(|s| s.0), e)).collect();
    let written = futures_util::future::join_all(
        rows.iter().map(|row| async { client.query_one(&statements.write_episode, &row.values()).await }),
    )
    .await;
    let mut ids: BTreeMap<&EpisodeKey, i64> = BTreeMap::new();
    let mut errors = Vec::new();
    for (key, answer) in episodes.keys().zip(written) {
        match answer {
            Ok(row) => drop(ids.insert(key, row.get(0))),
            Err(error) => errors.push(error),
        }
    }
    if let Some(error) = root_cause(errors) {
        return Err(error);
    }
    let started_before: Vec<(EpisodeKey, i64)> =
        stored.iter().map(|(key, (_, started_at))| ((*key).clone(), *started_at)).collect();
    append_events(client, statements, plan, &ids).await?;
    keep_evidence(client, statements, plan).await?;
    recount_hours(client, statements, plan, &started_before).await
}

/// Id and `started_at` (seconds) of those that are stored already.
async fn stored_episodes<'a>(
    client: &Client,
    statements: &Statements,
    episodes: &BTreeMap<&'a EpisodeKey, &Episode>,
) -> Result<BTreeMap<&'a EpisodeKey, (i64, i64)>, Error> {
    let keys: Vec<&EpisodeKey> = episodes.keys().copied().collect();
    let services: Vec<_> =
        keys.iter().map(|k| storable(k.service.as_deref().unwrap_or_default(), SERVICE_CHARS)).collect();
    let types: Vec<&str> = keys.iter().map(|k| k.anomaly_type.as_str()).collect();
    let raised: Vec<Micros> = keys.iter().map(|k| Micros(micros(k.first_raised_at))).collect();
    let rows = client.query(&statements.stored_episodes, &[&services, &types, &raised]).await?;
    let read = |row: &Row| {
        let at = usize::try_from(row.get::<_, i64>(0) - 1).ok()?;
        Some((*keys.get(at)?, (row.get(1), seconds(row.get::<_, Micros>(2).0))))
    };
    Ok(rows.iter().filter_map(read).collect())
}

/// The values of [`WRITE_EPISODE`].
struct EpisodeColumns<'a> {
    id: Option<i64>,
    service: Option<Cow<'a, str>>,
    model_version: Option<Cow<'a, str>>,
    words: [&'static str; 3],
    revision: i32,
    first_raised_at: Micros,
    times: [Micros; 3],
    ended_at: Option<Micros>,
    numbers: [f64; 4],
    score: Option<f64>,
    texts: [Cow<'a, str>; 3],
    expected: (Option<i64>, Option<&'static str>),
}

impl<'a> EpisodeColumns<'a> {
    fn of(id: Option<i64>, episode: &'a Episode) -> Self {
        let key = &episode.key;
        let at = |second| Micros(micros(second));
        EpisodeColumns {
            id,
            service: key.service.as_deref().map(|s| storable(s, SERVICE_CHARS)),
            model_version: episode.model_version.as_deref().map(|v| storable(v, MODEL_VERSION_CHARS)),
            words: [key.anomaly_type.as_str(), episode.status.as_str(), episode.severity.as_str()],
            revision: episode.revision,
            first_raised_at: at(key.first_raised_at),
            times: [Micros(episode.detected_at_us), at(episode.started_at), at(episode.last_seen)],
            ended_at: episode.ended_at.map(at),
            numbers: [episode.metric_value, episode.threshold, episode.baseline, episode.peak_value],
            score: episode.score,
            texts: [
                storable(&episode.description, usize::MAX),
                json_or_string(&episode.explanation),
                json_or_string(&episode.provenance),
            ],
            expected: episode.expected.map(|expected| (expected.by, expected.status.as_str())).unzip(),
        }
    }

    fn values(&self) -> [&(dyn ToSql + Sync); 22] {
        let [anomaly_type, status, severity] = &self.words;
        let [detected_at, started_at, last_seen] = &self.times;
        let [metric_value, threshold, baseline, peak_value] = &self.numbers;
        let [description, explanation, provenance] = &self.texts;
        [
            &self.id,
            &self.service,
            anomaly_type,
            &self.first_raised_at,
            status,
            severity,
            &self.revision,
            detected_at,
            started_at,
            last_seen,
            &self.ended_at,
            metric_value,
            threshold,
            baseline,
            peak_value,
            &self.score,
            &self.model_version,
            description,
            explanation,
            provenance,
            &self.expected.0,
            &self.expected.1,
        ]
    }
}

async fn append_events(
    client: &Client,
    statements: &Statements,
    plan: &StatePlan,
    ids: &BTreeMap<&EpisodeKey, i64>,
) -> Result<(), Error> {
    let changes = &plan.changes;
    let seqs: Vec<i64> = (plan.before.event_seq + 1..).take(changes.len()).collect();
    let anomalies: Vec<i64> = changes.iter().map(|c| ids[&c.episode.key]).collect();
    let kinds: Vec<&str> = changes.iter().map(|c| c.kind.as_str()).collect();
    let revisions: Vec<i32> = changes.iter().map(|c| c.episode.revision).collect();
    let statuses: Vec<&str> = changes.iter().map(|c| c.episode.status.as_str()).collect();
    let reasons: Vec<_> =
        changes.iter().map(|c| c.reason.as_deref().map(|r| storable(r, usize::MAX))).collect();
    let episodes: Vec<String> = changes.iter().map(event_json).collect();
    let clock = Micros(plan.clock.clock_us);
    client
        .execute(
            &statements.append_events,
            &[&seqs, &anomalies, &kinds, &revisions, &statuses, &reasons, &clock, &episodes],
        )
        .await?;
    Ok(())
}

async fn keep_evidence(client: &Client, statements: &Statements, plan: &StatePlan) -> Result<(), Error> {
    for Evidence { key, decision, inputs, detector, offsets, feedback_seq } in &plan.evidence {
        let service = storable(key.service.as_deref().unwrap_or_default(), SERVICE_CHARS);
        let (anomaly_type, raised) = (key.anomaly_type.as_str(), Micros(micros(key.first_raised_at)));
        let (detector, offsets) = (hex::encode(detector), write_offsets(offsets));
        let values: [&(dyn ToSql + Sync); 8] =
            [&service, &anomaly_type, &raised, decision, inputs, &detector, &offsets, feedback_seq];
        client.execute(&statements.keep_evidence, &values).await?;
    }
    Ok(())
}

async fn recount_hours(
    client: &Client,
    statements: &Statements,
    plan: &StatePlan,
    started_before: &[(EpisodeKey, i64)],
) -> Result<(), Error> {
    let affected = plan.recounts(started_before);
    if affected.is_empty() {
        return Ok(());
    }
    let hours: Vec<Micros> = affected.iter().map(|(hour, _)| Micros(micros(*hour))).collect();
    let ends: Vec<Micros> = affected.iter().map(|(hour, _)| Micros(micros(hour + HOUR))).collect();
    let services: Vec<_> = affected.iter().map(|(_, service)| storable(service, SERVICE_CHARS)).collect();
    client.execute(&statements.recount, &[&hours, &services, &ends]).await?;
    client.execute(&statements.drop_empty_hours, &[&hours, &services]).await?;
    Ok(())
}
