//! Episodes as metrics: how many there are now, and what became of them. Follows the commits, as a stream that is durable.

use smartlog_schema::anomaly::{AnomalyType, ChangeKind, Episode, EpisodeKey, Severity, Status};
use smartlog_schema::commit::EpochCommit;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

const KINDS: [ChangeKind; 7] = [
    ChangeKind::Raised,
    ChangeKind::Opened,
    ChangeKind::Updated,
    ChangeKind::Resolved,
    ChangeKind::Expired,
    ChangeKind::Retracted,
    ChangeKind::Reopened,
];

#[derive(Debug, Default)]
struct Inner {
    /// Those that are not closed.
    now: HashMap<EpisodeKey, (Severity, Status)>,
    changes: HashMap<(AnomalyType, &'static str), u64>,
}

/// A cheap handle: clones show the same episodes.
#[derive(Debug, Clone, Default)]
pub struct Episodes(Arc<Mutex<Inner>>);

impl Episodes {
    /// Begins with what a former run left.
    pub fn restore(&self, episodes: &[Episode]) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        episodes.iter().for_each(|episode| inner.put(episode));
    }

    /// Takes note of a commit that is durable.
    pub fn observe(&self, commit: &EpochCommit) {
        if commit.episodes.is_empty() {
            return;
        }
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for change in &commit.episodes {
            let kind = (change.episode.key.anomaly_type, change.kind.as_str());
            *inner.changes.entry(kind).or_default() += 1;
            inner.put(&change.episode);
        }
    }

    /// How many there are now of each type, severity and status that is not closed; also where there are none.
    pub fn now(&self) -> BTreeMap<(&'static str, &'static str, &'static str), u64> {
        let mut counts = BTreeMap::new();
        for anomaly_type in AnomalyType::ALL {
            for severity in Severity::ALL {
                for status in [Status::Provisional, Status::Open] {
                    counts.insert((anomaly_type.as_str(), severity.as_str(), status.as_str()), 0);
                }
            }
        }
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, (severity, status)) in &inner.now {
            *counts.entry((key.anomaly_type.as_str(), severity.as_str(), status.as_str())).or_default() += 1;
        }
        counts
    }

    /// How many changes of each type and kind there were since the start; also where there were none.
    pub fn changes(&self) -> Vec<((&'static str, &'static str), u64)> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |anomaly_type: AnomalyType, kind: ChangeKind| {
            let count = inner.changes.get(&(anomaly_type, kind.as_str())).copied().unwrap_or(0);
            ((anomaly_type.as_str(), kind.as_str()), count)
        };
        let of_type = |anomaly_type| KINDS.into_iter().map(move |kind| (anomaly_type, kind));
        AnomalyType::ALL.into_iter().flat_map(of_type).map(|(a, kind)| count(a, kind)).collect()
    }
}

impl Inner {
    fn put(&mut self, episode: &Episode) {
        if episode.status.is_closed() {
            self.now.remove(&episode.key);
        } else {
            self.now.insert(episode.key.clone(), (episode.severity, episode.status));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smartlog_schema::anomaly::EpisodeChange;

    fn episode(service: &str, status: Status) -> Episode {
        let anomaly_type = AnomalyType::ErrorRateSpike;
        Episode {
            key: EpisodeKey { service: Some(service.into()), anomaly_type, first_raised_at: 7 },
            status,
            severity: Severity::High,
            revision: 1,
            detected_at_us: 0,
            started_at: 0,
            last_seen: 0,
            ended_at: None,
            metric_value: 0.2,
            threshold: 0.1,
            baseline: 0.0,
            peak_value: 0.3,
            score: None,
            model_version: None,
            description: String::new(),
            explanation: "{}".into(),
            provenance: "{}".into(),
            expected: None,
        }
    }

    fn commit(kind: ChangeKind, service: &str, status: Status) -> EpochCommit {
        let change = EpisodeChange { kind, episode: episode(service, status), reason: None };
        EpochCommit { episodes: vec![change], ..EpochCommit::default() }
    }

    #[test]
    fn an_episode_is_counted_where_it_stands_and_leaves_when_it_is_over() {
        let episodes = Episodes::default();
        episodes.restore(&[episode("old", Status::Open), episode("past", Status::Resolved)]);
        episodes.observe(&commit(ChangeKind::Raised, "new", Status::Provisional));
        let count = |status| episodes.now()[&("error_rate_spike", "high", status)];
        assert_eq!((count("provisional"), count("open")), (1, 1));
        episodes.observe(&commit(ChangeKind::Opened, "new", Status::Open));
        assert_eq!((count("provisional"), count("open")), (0, 2));
        episodes.observe(&commit(ChangeKind::Retracted, "new", Status::Retracted));
        assert_eq!((count("provisional"), count("open")), (0, 1));
        assert_eq!(episodes.now().len(), 5 * 4 * 2, "a series for each, also where there is none");
        let changes: BTreeMap<_, _> = episodes.changes().into_iter().collect();
        assert_eq!(changes.len(), 5 * 7);
        let told =
            ["raised", "opened", "retracted", "resolved"].map(|kind| changes[&("error_rate_spike", kind)]);
        assert_eq!(told, [1, 1, 1, 0]);
    }
}
