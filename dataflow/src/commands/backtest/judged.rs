//! How well labelled incidents were found.

use super::compare::Raised;
use crate::labelled::overlaps;
use serde::Serialize;
use smartlog_generator::{Label, Labels};

/// Incidents found, and episodes that belong to one or to none. Those of the whole stream count neither way, as do those
/// from before the labels say that it counts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Judged {
    pub incidents: usize,
    pub found: usize,
    pub right: usize,
    pub wrong: usize,
    /// Share of the episodes that is right; `None` without any.
    pub precision: Option<f64>,
    /// Share of the incidents that was found; `None` without any.
    pub recall: Option<f64>,
}

impl Judged {
    /// `interval`: incidents that lie outside, epoch seconds, could not be found.
    pub fn new<'a>(
        labels: &Labels,
        raised: impl Iterator<Item = &'a Raised>,
        (since, until): (i64, i64),
    ) -> Self {
        let from = labels.evaluate_from.as_second().max(since);
        let counts = |raised: &&Raised| raised.service.is_some() && raised.started_at >= from;
        let raised: Vec<&Raised> = raised.filter(counts).collect();
        let is_of = |raised: &Raised, label: &Label| {
            overlaps(label, raised.service.as_deref(), raised.started_at, raised.ended_at)
        };
        let in_time = |label: &&Label| label.end.as_second() > from && label.start.as_second() < until;
        let incidents: Vec<&Label> = labels.incidents.iter().filter(in_time).collect();
        let names = |raised: &Raised, label: &Label| {
            is_of(raised, label) && label.accepts.iter().any(|name| name == raised.anomaly_type.as_str())
        };
        let found = incidents.iter().filter(|label| raised.iter().any(|raised| names(raised, label))).count();
        let right = raised.iter().filter(|raised| labels.incidents.iter().any(|label| is_of(raised, label)));
        let right = right.count();
        let explained = labels.incidents.iter().chain(&labels.excused);
        let wrong =
            raised.iter().filter(|raised| !explained.clone().any(|label| is_of(raised, label))).count();
        let share = |part: usize, whole: usize| (whole > 0).then(|| part as f64 / whole as f64);
        Judged {
            incidents: incidents.len(),
            found,
            right,
            wrong,
            precision: share(right, right + wrong),
            recall: share(found, incidents.len()),
        }
    }
}
