//! Patterns, as the stores keep them: which shape of message belongs to which, and how many logs there are of it.

use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The shape under which the logs of all patterns are counted that were forgotten; no message has it.
pub const OTHER_SHAPE: i64 = 0;

/// Which pattern a shape belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatternShape {
    pub shape: i64,
    pub template_id: i64,
    pub template: String,
    /// A message of that shape; `None`: as it is stored.
    pub example: Option<String>,
}

/// Logs of a shape and service, to be added to those that are stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatternCount {
    pub shape: i64,
    pub service: CompactString,
    pub logs: i64,
    /// Those at ERROR and above.
    pub errors: i64,
    /// Event times of the first and last of them, microseconds.
    pub first_us: i64,
    pub last_us: i64,
}

impl PatternCount {
    fn add(&mut self, other: &PatternCount) {
        self.logs += other.logs;
        self.errors += other.errors;
        self.first_us = self.first_us.min(other.first_us);
        self.last_us = self.last_us.max(other.last_us);
    }
}

/// What became of the patterns. Applied in this order: what is forgotten, the shapes, the counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatternChanges {
    /// Shapes that are forgotten, and those that their counts go to.
    pub forgotten: Vec<(i64, i64)>,
    pub shapes: Vec<PatternShape>,
    pub counts: Vec<PatternCount>,
}

impl PatternChanges {
    pub fn is_empty(&self) -> bool {
        self.forgotten.is_empty() && self.shapes.is_empty() && self.counts.is_empty()
    }

    /// Memory, roughly, bytes.
    pub fn bytes(&self) -> usize {
        let text =
            |shape: &PatternShape| shape.template.len() + shape.example.as_ref().map_or(0, String::len);
        self.forgotten.len() * 16
            + self.counts.len() * 96
            + self.shapes.iter().map(|s| text(s) + 64).sum::<usize>()
    }

    /// Makes one of this and what came after it.
    pub fn merge(&mut self, later: PatternChanges) {
        if !later.forgotten.is_empty() {
            let into: BTreeMap<i64, i64> = later.forgotten.iter().copied().collect();
            let heir = |shape: i64| into.get(&shape).copied().unwrap_or(shape);
            self.forgotten.iter_mut().for_each(|(_, to)| *to = heir(*to));
            self.counts.iter_mut().for_each(|count| count.shape = heir(count.shape));
            self.shapes.retain(|shape| !into.contains_key(&shape.shape));
            self.forgotten.extend(later.forgotten);
        }
        self.shapes.extend(later.shapes);
        self.counts.extend(later.counts);
    }

    /// Each row once.
    pub fn consolidate(&mut self) {
        let newest: BTreeMap<i64, i64> = self.forgotten.drain(..).collect();
        self.forgotten = newest.into_iter().collect();
        let mut shapes: BTreeMap<i64, PatternShape> = BTreeMap::new();
        for mut shape in self.shapes.drain(..) {
            let before = shapes.remove(&shape.shape);
            shape.example = shape.example.or(before.and_then(|before| before.example));
            shapes.insert(shape.shape, shape);
        }
        self.shapes = shapes.into_values().collect();
        let mut counts: BTreeMap<(i64, CompactString), PatternCount> = BTreeMap::new();
        for count in self.counts.drain(..) {
            let key = (count.shape, count.service.clone());
            counts.entry(key).and_modify(|known| known.add(&count)).or_insert(count);
        }
        self.counts = counts.into_values().collect();
    }
}

/// A shape that is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownShape {
    pub shape: i64,
    pub template_id: i64,
    pub template: String,
    pub example: String,
    /// Event time of its last log, microseconds.
    pub last_us: i64,
    /// Services that it is counted for, and the event time of its first log there, microseconds.
    pub services: Vec<(CompactString, i64)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(shape: i64, logs: i64) -> PatternCount {
        PatternCount { shape, service: "a".into(), logs, errors: 0, first_us: 5 - logs, last_us: logs }
    }

    fn shape(shape: i64, template_id: i64, example: Option<&str>) -> PatternShape {
        PatternShape { shape, template_id, template: String::new(), example: example.map(str::to_owned) }
    }

    #[test]
    fn merged_changes_come_to_what_they_do_one_by_one() {
        let mut changes = PatternChanges {
            forgotten: vec![(1, 2)],
            shapes: vec![shape(3, 30, Some("m")), shape(4, 40, Some("n"))],
            counts: vec![count(3, 1), count(4, 1)],
        };
        changes.merge(PatternChanges {
            forgotten: vec![(2, 4), (3, 4)],
            shapes: vec![shape(4, 41, None)],
            counts: vec![count(4, 2)],
        });
        changes.merge(PatternChanges {
            forgotten: vec![],
            shapes: vec![shape(3, 31, Some("o"))],
            counts: vec![count(3, 9)],
        });
        changes.consolidate();
        assert_eq!(changes.forgotten, [(1, 4), (2, 4), (3, 4)]);
        assert_eq!(changes.shapes, [shape(3, 31, Some("o")), shape(4, 41, Some("n"))]);
        let counts: Vec<_> =
            changes.counts.iter().map(|c| (c.shape, c.logs, c.first_us, c.last_us)).collect();
        assert_eq!(counts, [(3, 9, -4, 9), (4, 4, 3, 2)]);
    }
}
