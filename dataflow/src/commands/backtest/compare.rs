//! Which episodes of two runs over the same logs are the same.

use serde::Serialize;
use smartlog_schema::anomaly::{AnomalyType, Episode, Severity};

/// An episode, as far as runs are compared.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Raised {
    /// `None`: the whole stream.
    pub service: Option<String>,
    #[serde(rename = "type")]
    pub anomaly_type: AnomalyType,
    pub severity: Severity,
    /// Epoch seconds of event time.
    pub started_at: i64,
    pub ended_at: Option<i64>,
    /// When it was raised, in the metric's unit.
    pub value: f64,
    pub threshold: f64,
}

impl Raised {
    pub fn of(episode: &Episode) -> Self {
        Raised {
            service: episode.key.service.as_ref().map(ToString::to_string),
            anomaly_type: episode.key.anomaly_type,
            severity: episode.severity,
            started_at: episode.started_at,
            ended_at: episode.ended_at,
            value: episode.metric_value,
            threshold: episode.threshold,
        }
    }

    fn is_of(&self, other: &Raised) -> bool {
        (&self.service, self.anomaly_type) == (&other.service, other.anomaly_type)
    }

    fn starts_with(&self, other: &Raised) -> bool {
        self.started_at == other.started_at
    }

    fn overlaps(&self, other: &Raised) -> bool {
        let end = |raised: &Raised| raised.ended_at.unwrap_or(i64::MAX);
        self.started_at <= end(other) && other.started_at <= end(self)
    }

    /// Whether a reader would see no difference in when it was.
    fn is_as(&self, other: &Raised) -> bool {
        (self.started_at, self.ended_at, self.severity) == (other.started_at, other.ended_at, other.severity)
    }
}

/// Whether two episodes of one service and type may be the same.
type Belongs = fn(&Raised, &Raised) -> bool;

/// What became of an episode from one run to the other.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    Added(Raised),
    Removed(Raised),
    Changed(Raised, Raised),
    Unchanged(Raised, Raised),
}

impl Change {
    pub fn kind(&self) -> &'static str {
        match self {
            Change::Added(_) => "added",
            Change::Removed(_) => "removed",
            Change::Changed(..) => "changed",
            Change::Unchanged(..) => "unchanged",
        }
    }

    pub fn before(&self) -> Option<&Raised> {
        match self {
            Change::Added(_) => None,
            Change::Removed(before) | Change::Changed(before, _) | Change::Unchanged(before, _) => {
                Some(before)
            }
        }
    }

    pub fn after(&self) -> Option<&Raised> {
        match self {
            Change::Removed(_) => None,
            Change::Added(after) | Change::Changed(_, after) | Change::Unchanged(_, after) => Some(after),
        }
    }

    /// As it is after, or was before where it is no more.
    pub fn newest(&self) -> &Raised {
        match self {
            Change::Removed(raised) | Change::Added(raised) => raised,
            Change::Changed(_, after) | Change::Unchanged(_, after) => after,
        }
    }
}

/// Every episode of either run once, in order of time. Those of one service and type are the same when they start
/// together, else when they overlap.
pub fn compare(mut before: Vec<Raised>, mut after: Vec<Raised>) -> Vec<Change> {
    let order = |a: &Raised, b: &Raised| (a.started_at, &a.service).cmp(&(b.started_at, &b.service));
    before.sort_by(order);
    after.sort_by(order);
    let mut partners: Vec<Option<Raised>> = vec![None; after.len()];
    for belongs in [Raised::starts_with as Belongs, Raised::overlaps] {
        for (partner, after) in partners.iter_mut().zip(&after).filter(|(partner, _)| partner.is_none()) {
            let found = before.iter().position(|before| before.is_of(after) && belongs(before, after));
            *partner = found.map(|at| before.remove(at));
        }
    }
    let matched = after.into_iter().zip(partners).map(|(after, partner)| match partner {
        None => Change::Added(after),
        Some(before) if before.is_as(&after) => Change::Unchanged(before, after),
        Some(before) => Change::Changed(before, after),
    });
    let mut changes: Vec<Change> = matched.chain(before.into_iter().map(Change::Removed)).collect();
    changes.sort_by(|a, b| order(a.newest(), b.newest()));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raised(service: &str, started_at: i64, ended_at: Option<i64>) -> Raised {
        Raised {
            service: Some(service.to_owned()),
            anomaly_type: AnomalyType::ErrorRateSpike,
            severity: Severity::High,
            started_at,
            ended_at,
            value: 1.0,
            threshold: 0.5,
        }
    }

    fn kinds(before: &[Raised], after: &[Raised]) -> Vec<(&'static str, i64)> {
        let changes = compare(before.to_vec(), after.to_vec());
        changes.iter().map(|change| (change.kind(), change.newest().started_at)).collect()
    }

    #[test]
    fn each_episode_is_told_once_and_the_same_one_is_found_again() {
        let before = [raised("a", 10, Some(20)), raised("a", 50, Some(60)), raised("b", 10, None)];
        let after = [raised("a", 10, Some(20)), raised("a", 55, Some(70)), raised("c", 12, None)];
        assert_eq!(
            kinds(&before, &after),
            [("unchanged", 10), ("removed", 10), ("added", 12), ("changed", 55)]
        );
        assert_eq!(kinds(&before, &before).iter().filter(|(kind, _)| *kind != "unchanged").count(), 0);
        assert_eq!(kinds(&[], &[]), []);
    }

    #[test]
    fn a_common_start_counts_before_an_overlap() {
        let before = [raised("a", 10, Some(100)), raised("a", 40, Some(50))];
        assert_eq!(kinds(&before, &[raised("a", 40, Some(50))]), [("removed", 10), ("unchanged", 40)]);
        let other = Raised { anomaly_type: AnomalyType::LogVolumeDrop, ..raised("a", 40, Some(50)) };
        assert_eq!(kinds(&before[1..], &[other]).len(), 2, "of another type");
    }

    #[test]
    fn another_end_or_severity_is_a_change_and_another_number_is_none() {
        let one = raised("a", 10, Some(20));
        for (other, kind) in [
            (Raised { ended_at: None, ..one.clone() }, "changed"),
            (Raised { severity: Severity::Low, ..one.clone() }, "changed"),
            (Raised { value: 2.0, ..one.clone() }, "unchanged"),
        ] {
            assert_eq!(kinds(std::slice::from_ref(&one), &[other]), [(kind, 10)]);
        }
    }
}
