//! From what detection finds to what people see: matches findings and alarms with the episodes already published, and
//! says what changed.
//!
//! ```text
//!   final windows ──▶ findings ─┐
//!                               ├─ reconcile ──▶ raised, opened, updated, resolved, expired, retracted, reopened
//!   open window ────▶ alarms ───┘      ▲ │
//!                                      │ ▼
//!                              published episodes
//! ```

use crate::detector::{Alarm, Finding};
use crate::explain::text;
use crate::explain::words::{describe, of_numbers};
use crate::novelty;
use crate::peak::Peak;
use crate::rules::{self, RULES, Rule, Verdict};
use compact_str::CompactString;
use smartlog_schema::anomaly::{AnomalyType, ChangeKind, Episode, EpisodeChange, EpisodeKey, Status};

/// An open episode is republished when its peak grew by this share …
const NOTABLE_GROWTH: f64 = 0.1;
/// … or after this many seconds.
const REFRESH_SECONDS: i64 = 60;

/// What the evaluation of one service came to.
#[derive(Debug, Clone)]
pub struct Evaluation<'a> {
    pub service: Option<&'a CompactString>,
    /// Episodes in the final windows, in order of their start; those that ended too long ago to change are left out.
    pub findings: &'a [Finding],
    /// Rules beyond their threshold in the open window.
    pub alarms: &'a [Alarm],
    /// Windows that end at or before this are final.
    pub final_through: i64,
    /// End of the open window.
    pub provisional_end: i64,
    pub clock_us: i64,
    /// Publish every number, however little changed: nothing will come after.
    pub last: bool,
}

/// Brings `published` in line with `evaluation` and returns what changed.
pub fn reconcile(published: &mut Vec<Episode>, evaluation: &Evaluation<'_>) -> Vec<EpisodeChange> {
    let mut changes = Vec::new();
    let (matches, mut matched) = match_up(published, evaluation.findings);
    for (finding, index) in evaluation.findings.iter().zip(matches) {
        match index {
            Some(index) => changes.extend(follow(&mut published[index], finding, evaluation)),
            None => {
                let episode = published_from(finding, evaluation);
                changes.push(EpisodeChange {
                    kind: ChangeKind::Opened,
                    episode: episode.clone(),
                    reason: None,
                });
                published.push(episode);
                matched.push(true);
            }
        }
    }
    for (episode, _) in published.iter_mut().zip(&matched).filter(|(_, matched)| !**matched) {
        changes.extend(follow_without_finding(episode, evaluation));
    }
    for alarm in evaluation.alarms {
        let known = |e: &Episode| e.key.anomaly_type == alarm.anomaly_type && !e.status.is_closed();
        if !published.iter().any(known) {
            changes.extend(raise(published, alarm, evaluation));
        }
    }
    changes
}

/// Forgets the episodes that no late log can change, now that all up to `reach` is behind. One whose calm is not over
/// there may still go on.
pub fn forget_settled(published: &mut Vec<Episode>, reach: i64, calm: i64) {
    published.retain(|episode| match episode.status {
        Status::Provisional | Status::Open => true,
        Status::Resolved => episode.ended_at.is_some_and(|ended_at| ended_at + calm > reach),
        Status::Expired => episode.ended_at > Some(reach),
        Status::Retracted => episode.key.first_raised_at > reach,
    });
}

/// Which published episode each finding is about, and which episodes any is about: of the same type, and either raised
/// at the finding's very start or overlapping it in time; one that was not retracted before one that was.
///
/// Same starts are matched before overlaps: a finding left over becomes an episode that is named by its start, and that
/// name must be free.
fn match_up(published: &[Episode], findings: &[Finding]) -> (Vec<Option<usize>>, Vec<bool>) {
    let mut matches = vec![None; findings.len()];
    let mut matched = vec![false; published.len()];
    let preference: [(bool, Belongs); 4] =
        [(false, same_start), (false, overlaps), (true, same_start), (true, overlaps)];
    for (retracted, belongs) in preference {
        for (slot, finding) in matches.iter_mut().zip(findings).filter(|(slot, _)| slot.is_none()) {
            *slot = published.iter().zip(&matched).position(|(episode, matched)| {
                !matched
                    && episode.key.anomaly_type == finding.anomaly_type
                    && (episode.status == Status::Retracted) == retracted
                    && belongs(episode, finding)
            });
            if let Some(index) = *slot {
                matched[index] = true;
            }
        }
    }
    (matches, matched)
}

/// Whether a finding may be what an episode is about.
type Belongs = fn(&Episode, &Finding) -> bool;

fn same_start(episode: &Episode, finding: &Finding) -> bool {
    episode.key.first_raised_at == finding.started_at
}

fn overlaps(episode: &Episode, finding: &Finding) -> bool {
    let start = episode.started_at.min(episode.key.first_raised_at);
    let end = episode.ended_at.unwrap_or(i64::MAX);
    start <= finding.ended_at.unwrap_or(i64::MAX) && finding.started_at <= end
}

fn follow(episode: &mut Episode, finding: &Finding, evaluation: &Evaluation<'_>) -> Option<EpisodeChange> {
    let target = Episode {
        key: episode.key.clone(),
        revision: episode.revision,
        detected_at_us: episode.detected_at_us,
        provenance: episode.provenance.clone(),
        // What the logs and a model say is put beside the episode later on its way.
        explanation: episode.explanation.clone(),
        score: episode.score,
        model_version: episode.model_version.clone(),
        ..published_from(finding, evaluation)
    };
    if *episode == target {
        return None;
    }
    let kind = match (episode.status, target.status) {
        (Status::Retracted | Status::Resolved | Status::Expired, Status::Open) => ChangeKind::Reopened,
        (before, Status::Resolved) if before != Status::Resolved => ChangeKind::Resolved,
        (before, Status::Expired) if before != Status::Expired => ChangeKind::Expired,
        (Status::Provisional, Status::Open) => ChangeKind::Opened,
        _ => ChangeKind::Updated,
    };
    let quiet = kind == ChangeKind::Updated && target.status == Status::Open && !evaluation.last;
    if quiet && !is_notable(episode, &target) {
        return None;
    }
    let explanation = explanation_of(finding);
    *episode = Episode { revision: episode.revision + 1, explanation, ..target };
    Some(EpisodeChange { kind, episode: episode.clone(), reason: None })
}

fn is_notable(before: &Episode, after: &Episode) -> bool {
    let grown = (after.peak_value - before.peak_value).abs() > NOTABLE_GROWTH * before.peak_value.abs();
    grown || before.started_at != after.started_at || after.last_seen - before.last_seen >= REFRESH_SECONDS
}

fn follow_without_finding(episode: &mut Episode, evaluation: &Evaluation<'_>) -> Option<EpisodeChange> {
    let still_alarmed =
        || evaluation.alarms.iter().any(|alarm| alarm.anomaly_type == episode.key.anomaly_type);
    let reason = match episode.status {
        Status::Retracted => return None,
        Status::Provisional if episode.key.first_raised_at > evaluation.final_through || still_alarmed() => {
            return None;
        }
        Status::Provisional => "the complete windows do not cross the threshold",
        Status::Open | Status::Resolved | Status::Expired => {
            "late logs brought the metric back within the threshold"
        }
    };
    episode.status = Status::Retracted;
    episode.revision += 1;
    let reason = Some(reason.to_owned());
    Some(EpisodeChange { kind: ChangeKind::Retracted, episode: episode.clone(), reason })
}

fn raise(published: &mut Vec<Episode>, alarm: &Alarm, evaluation: &Evaluation<'_>) -> Option<EpisodeChange> {
    let rule = rule_of(alarm.anomaly_type)?;
    let key = key(alarm.anomaly_type, evaluation.provisional_end, evaluation);
    let Verdict { value, threshold, baseline, .. } = alarm.verdict;
    let at = evaluation.provisional_end;
    // The same window end may have raised and retracted it before: that row comes back to life.
    let again = published.iter().position(|e| e.key == key);
    let episode = Episode {
        status: Status::Provisional,
        severity: rule.severity_at(value, threshold),
        revision: again.map_or(1, |index| published[index].revision + 1),
        detected_at_us: evaluation.clock_us,
        started_at: at,
        last_seen: at,
        ended_at: None,
        metric_value: value,
        threshold,
        baseline,
        peak_value: value,
        score: None,
        model_version: None,
        description: describe(rule, &alarm.verdict, at),
        explanation: explanation(rule, &alarm.verdict, &alarm.peak),
        provenance: provenance(rule, threshold, evaluation),
        expected: None,
        key,
    };
    match again {
        Some(index) => published[index] = episode.clone(),
        None => published.push(episode.clone()),
    }
    Some(EpisodeChange { kind: ChangeKind::Raised, episode, reason: None })
}

fn published_from(finding: &Finding, evaluation: &Evaluation<'_>) -> Episode {
    let rule = rule_of(finding.anomaly_type).unwrap_or(&RULES[0]);
    let Finding { started_at, last_seen, ended_at, expired, verdict, peak, .. } = *finding;
    let Verdict { value, threshold, baseline, .. } = verdict;
    Episode {
        key: key(finding.anomaly_type, started_at, evaluation),
        status: match (ended_at, expired) {
            (None, _) => Status::Open,
            (Some(_), true) => Status::Expired,
            (Some(_), false) => Status::Resolved,
        },
        severity: rule.severity_at(peak.value, threshold),
        revision: 1,
        detected_at_us: evaluation.clock_us,
        started_at,
        last_seen,
        ended_at,
        metric_value: value,
        threshold,
        baseline,
        peak_value: peak.value,
        score: None,
        model_version: None,
        description: describe(rule, &verdict, started_at),
        explanation: explanation_of(finding),
        provenance: provenance(rule, threshold, evaluation),
        expected: None,
    }
}

fn key(anomaly_type: AnomalyType, first_raised_at: i64, evaluation: &Evaluation<'_>) -> EpisodeKey {
    EpisodeKey { service: evaluation.service.cloned(), anomaly_type, first_raised_at }
}

/// How episodes of a type are spoken of; `None`: they are not made of findings.
fn rule_of(anomaly_type: AnomalyType) -> Option<&'static Rule> {
    let new_pattern = (anomaly_type == AnomalyType::NewPattern).then_some(&novelty::RULE);
    rules::of(anomaly_type).or(new_pattern)
}

fn explanation_of(finding: &Finding) -> String {
    let rule = rule_of(finding.anomaly_type).unwrap_or(&RULES[0]);
    explanation(rule, &finding.verdict, &finding.peak)
}

fn explanation(rule: &Rule, verdict: &Verdict, peak: &Peak) -> String {
    text(&of_numbers(rule, verdict, peak))
}

fn provenance(rule: &Rule, threshold: f64, evaluation: &Evaluation<'_>) -> String {
    serde_json::json!({
        "rule": rule.anomaly_type.as_str(),
        "threshold": threshold,
        "clock_us": evaluation.clock_us,
    })
    .to_string()
}
