//! When the stream as a whole went on: what nobody logs is the silence of nobody.
//!
//! ```text
//!   service  ▁▂▁▂▁ · · · · · · · · · ·      silent while the others go on: its own silence
//!   others   ▂▁▂▁▂▁▂▁▂▁ · · · · ▁▂▁▂▁▂      everybody silent: the stream's, and told once, as that
//! ```
//!
//! Time goes on for a service as long as anybody logged within the last `STILL` seconds. Every worker has the same
//! picture: the seconds in which anybody logged, and whether that was one service alone. A service that is the whole
//! stream has no others to go by: there every second counts.
//!
//! A second is forgotten once no late log can have a service judged again that needs it. What must be known of the time
//! before is how the stream's last pause began, however long ago: each service's state says so ([`Past`]).

use std::collections::BTreeMap;

/// Seconds without any log from which on the stream stands still.
const STILL: i64 = 5;
/// Seconds before a pause that tell whether there is more than one service.
const LOOK_BACK: i64 = 60;

/// Who logged in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Who {
    /// One service, by the hash of its name.
    One(u64),
    Many,
}

impl Who {
    #[must_use]
    pub fn and(self, other: Who) -> Who {
        if self == other { self } else { Who::Many }
    }
}

/// The seconds in which anybody logged.
#[derive(Debug, Clone, Default)]
pub struct Flow {
    seconds: BTreeMap<i64, Who>,
}

impl Flow {
    /// Takes a second with logs. Whether it changes what stood still after it.
    pub fn observe(&mut self, second: i64, who: Who) -> bool {
        let before = self.seconds.get(&second).copied();
        let now = before.map_or(who, |before| before.and(who));
        if before == Some(now) {
            return false;
        }
        self.seconds.insert(second, now);
        (before.is_none() && self.is_in_pause(second)) || self.ends_solitude(second, before)
    }

    /// Whether the stream stood still around a second before anybody logged in it.
    fn is_in_pause(&self, second: i64) -> bool {
        let last = self.seconds.range(..second).next_back().map(|(last, _)| *last);
        let next = self.seconds.range(second + 1..).next().map(|(next, _)| *next);
        last.zip(next).is_none_or(|(last, next)| next - last > STILL + 1)
    }

    /// Whether a service went by nobody in a pause after `second`, and does so no more now that more than `before` is
    /// known of that second.
    fn ends_solitude(&self, second: i64, before: Option<Who>) -> bool {
        let was_alone = |pause: i64| {
            let rest = self.seconds.range(pause - LOOK_BACK..=pause).filter(|(at, _)| **at != second);
            let mut known = rest.map(|(_, who)| *who).chain(before);
            let first = known.next().filter(|who| *who != Who::Many);
            first.is_some_and(|first| {
                known.all(|who| who == first) && self.seconds.get(&second) != Some(&first)
            })
        };
        let mut after = self.seconds.range(second..).map(|(second, _)| *second).peekable();
        while let Some(pause) = after.next_if(|pause| *pause <= second + LOOK_BACK) {
            if after.peek().is_none_or(|next| next - pause > STILL + 1) && was_alone(pause) {
                return true;
            }
        }
        false
    }

    /// Forgets what lies before `second`, but for the last of it and what tells who was there then.
    pub fn forget_before(&mut self, second: i64) {
        let last = self.seconds.range(..second).next_back().map_or(second, |(last, _)| *last);
        self.seconds = self.seconds.split_off(&(last - LOOK_BACK));
    }

    /// Whether in the last minute up to `second` nobody else logged.
    fn is_alone(&self, service: u64, second: i64) -> bool {
        self.seconds.range(second - LOOK_BACK..=second).all(|(_, who)| *who == Who::One(service))
    }
}

/// How the stream's last pause before some second began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Past {
    before: i64,
    /// The last second with a log before that.
    last: Option<i64>,
    /// Whether the service had the stream for itself then.
    alone: bool,
}

impl Default for Past {
    fn default() -> Self {
        Past { before: i64::MIN, last: None, alone: false }
    }
}

/// The stream, as one service sees it.
#[derive(Debug, Clone, Copy)]
pub struct Others<'a> {
    flow: &'a Flow,
    service: u64,
    past: Past,
}

impl<'a> Others<'a> {
    pub fn of(service: &str, flow: &'a Flow) -> Self {
        Others { flow, service: hash(service), past: Past::default() }
    }

    /// With what the service's state says of the time that is forgotten.
    #[must_use]
    pub fn since(self, past: Past) -> Self {
        Others { past, ..self }
    }

    /// How the last pause before `second` began.
    pub fn past(&self, second: i64) -> Past {
        let last = self.last_before(second);
        Past { before: second, last, alone: last.is_some_and(|last| self.is_alone(last)) }
    }

    /// Seconds in `[from, to)` in which the stream stood still.
    pub fn still(&self, from: i64, to: i64) -> i64 {
        if to <= from {
            return 0;
        }
        let mut last = self.last_before(from);
        let mut still = 0;
        for (&second, _) in self.flow.seconds.range(from..to) {
            still += self.pause(last, second, from);
            last = Some(second);
        }
        still + self.pause(last, to, from)
    }

    fn last_before(&self, second: i64) -> Option<i64> {
        let known = self.flow.seconds.range(self.past.before.min(second)..second).next_back();
        known.map(|(last, _)| *last).or(self.past.last)
    }

    /// Seconds of `[from, to)` that lie too far behind `last`, the last second with a log.
    fn pause(&self, last: Option<i64>, to: i64, from: i64) -> i64 {
        let begins = last.map_or(from, |last| from.max(last + STILL + 1));
        if begins >= to || last.is_some_and(|last| self.is_alone(last)) { 0 } else { to - begins }
    }

    /// Whether in the minute up to `second`, in which anybody logged, nobody else did.
    fn is_alone(&self, second: i64) -> bool {
        if second < self.past.before { self.past.alone } else { self.flow.is_alone(self.service, second) }
    }
}

/// The same in every process and version.
pub fn hash(service: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(service.as_bytes())
}
