//! Which shapes a service has logged, and when each came first.

use compact_str::CompactString;
use foldhash::HashMap;
use serde::{Deserialize, Serialize};
use std::collections::hash_map::Entry::{Occupied, Vacant};

/// How much is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Shapes of all services, on one worker.
    pub shapes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { shapes: 1 << 20 }
    }
}

/// Shapes of one service. One with more never stops making new ones: in it nothing is new.
const MAX_SHAPES: usize = 8192;

/// The minute in which a service logged a shape for the first time, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstSeen {
    pub service: CompactString,
    pub shape: u64,
    /// Where it begins, epoch seconds.
    pub minute: i64,
}

/// What a service has logged.
#[derive(Debug, Default)]
pub struct Known {
    first: HashMap<u64, i64>,
    /// Its first minute with a log that anybody remembers.
    began: Option<i64>,
    /// The last minute in which it logged while this program ran.
    last: Option<i64>,
    /// The latest minute in which a shape came first.
    newest: Option<i64>,
    /// It has more shapes than are remembered.
    is_crowded: bool,
}

impl Known {
    /// Takes note of a minute of its former life.
    pub fn began(&mut self, minute: i64) {
        self.began = Some(self.began.map_or(minute, |began| began.min(minute)));
    }

    /// Takes note of a minute in which it logs.
    pub fn logged(&mut self, minute: i64) {
        self.began(minute);
        self.last = self.last.max(Some(minute));
    }

    /// Takes note of a shape in a minute; whether that is one more. `room`: whether there may be.
    pub fn note(&mut self, shape: u64, minute: i64, room: bool) -> bool {
        let room = room && self.first.len() < MAX_SHAPES;
        match self.first.entry(shape) {
            Occupied(mut first) => {
                *first.get_mut() = minute.min(*first.get());
                return false;
            }
            Vacant(_) if !room => {
                self.is_crowded = true;
                return false;
            }
            Vacant(place) => place.insert(minute),
        };
        self.newest = self.newest.max(Some(minute));
        true
    }

    pub fn len(&self) -> usize {
        self.first.len()
    }

    /// The latest minute in which a shape came first.
    pub fn newest(&self) -> i64 {
        self.newest.unwrap_or(i64::MIN)
    }

    /// Whether it has not logged since `second`, and did before.
    pub fn is_silent_since(&self, second: i64) -> bool {
        self.last.is_some_and(|last| last < second)
    }

    /// The shapes that came first after `second`, and when, of a service that was warm by then.
    pub fn since(&self, second: i64, warm_up: i64) -> impl Iterator<Item = (u64, i64)> {
        let from = self.new_from(second, warm_up);
        let is_new = move |first: i64| from.is_some_and(|from| first >= from);
        self.first.iter().map(|(shape, first)| (*shape, *first)).filter(move |(_, first)| is_new(*first))
    }

    /// Tells which shapes are among [`Known::since`].
    pub fn is_new(&self, second: i64, warm_up: i64) -> impl Fn(u64) -> bool {
        let from = self.new_from(second, warm_up).filter(|from| self.newest() >= *from);
        move |shape| from.is_some_and(|from| self.first.get(&shape).is_some_and(|first| *first >= from))
    }

    /// What came first from this second on is new; `None`: nothing is.
    fn new_from(&self, second: i64, warm_up: i64) -> Option<i64> {
        let warm = self.began.filter(|_| !self.is_crowded)?.saturating_add(warm_up);
        Some(warm.max(second.saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_as_old_as_its_first_log_whenever_that_comes() {
        let mut known = Known::default();
        known.began(0);
        assert!(known.note(1, 7200, true) && !known.note(1, 7260, true));
        assert_eq!(known.since(7000, 3600).collect::<Vec<_>>(), [(1, 7200)]);
        let told = |second, shape| known.is_new(second, 3600)(shape);
        assert!(told(7199, 1) && !told(7200, 1) && !told(7000, 2));
        known.note(1, 3540, true);
        assert_eq!(known.since(3000, 3600).count(), 0, "it came while the service warmed up");
        known.began(-60);
        assert_eq!(known.since(3000, 3600).count(), 1, "which began earlier");
    }

    #[test]
    fn in_a_service_with_more_shapes_than_are_remembered_nothing_is_new() {
        let mut known = Known::default();
        known.began(0);
        let taken = (0..MAX_SHAPES as u64 + 5).filter(|shape| known.note(*shape, 7200, true)).count();
        assert_eq!((taken, known.len()), (MAX_SHAPES, MAX_SHAPES));
        assert_eq!(known.since(0, 0).count(), 0);
        let mut without_room = Known::default();
        without_room.began(0);
        assert!(!without_room.note(1, 7200, false));
        assert_eq!((without_room.len(), without_room.since(0, 0).count()), (0, 0));
    }
}
