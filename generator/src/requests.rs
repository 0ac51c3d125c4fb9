//! Requests that run through several services: which request a line belongs to.
//!
//! A service's line takes up a request that one of its callers worked on shortly before, so a request id shows up in the
//! gateway, then in a service behind it, then in the database, at times that fit. The counts stay those of the model:
//! lines are given to requests, not requests made into lines.

use crate::rng::Rng;
use rand::Rng as _;

/// Longest time between a caller's line and the line that takes its request up, microseconds.
const REACH_US: i64 = 1_000_000;
/// How many of a caller's latest requests are in question.
const LATEST: usize = 12;
/// Chances that a line takes up a caller's request, or goes on with the service's own last one.
const FROM_CALLER: f64 = 0.85;
const FROM_OWN: f64 = 0.3;

/// The requests of the last second or so, by service.
#[derive(Debug)]
pub(crate) struct Requests {
    /// By service: time and id, in order of time.
    recent: Vec<Vec<(i64, u64)>>,
    /// The service whose lines are being made.
    service: usize,
    /// Its callers, and how far each one's requests have been passed.
    callers: Vec<(usize, usize)>,
}

impl Requests {
    pub(crate) fn new(services: usize) -> Self {
        Requests { recent: vec![Vec::new(); services], service: 0, callers: Vec::new() }
    }

    /// Forgets what is out of reach from `now_us` on.
    pub(crate) fn advance(&mut self, now_us: i64) {
        for recent in &mut self.recent {
            let old = recent.partition_point(|&(at, _)| at < now_us - REACH_US);
            recent.drain(..old);
        }
    }

    /// Begins the lines of `service`, which must come in order of time.
    pub(crate) fn enter(&mut self, service: usize, callers: &[usize]) {
        self.service = service;
        self.callers.clear();
        self.callers.extend(callers.iter().map(|&caller| (caller, 0)));
    }

    /// The request of the line at `at_us`.
    pub(crate) fn of(&mut self, at_us: i64, rng: &mut Rng) -> u64 {
        let chance: f64 = rng.random();
        let taken = if chance < FROM_CALLER { self.take_up(at_us, rng) } else { None };
        let taken = taken.or_else(|| if rng.random_bool(FROM_OWN) { self.go_on(at_us) } else { None });
        let request = taken.unwrap_or_else(|| rng.random());
        self.recent[self.service].push((at_us, request));
        request
    }

    fn take_up(&mut self, at_us: i64, rng: &mut Rng) -> Option<u64> {
        if self.callers.is_empty() {
            return None;
        }
        let chosen = rng.random_range(0..self.callers.len());
        let (caller, passed) = &mut self.callers[chosen];
        let recent = &self.recent[*caller];
        while recent.get(*passed).is_some_and(|&(at, _)| at < at_us) {
            *passed += 1;
        }
        let back = rng.random_range(1..=LATEST.min((*passed).max(1)));
        let &(at, request) = recent.get(passed.checked_sub(back)?)?;
        (at_us - at <= REACH_US).then_some(request)
    }

    fn go_on(&self, at_us: i64) -> Option<u64> {
        let &(at, request) = self.recent[self.service].last()?;
        (at_us - at <= REACH_US).then_some(request)
    }
}
