//! The counts of the last minutes of every service, and what of a service lies between two times.

use super::{Counts, Fill, Gathered, Seen};
use crate::patterns::{Named, PatternId};
use crate::record::OVERFLOW;
use bincode::Options;
use compact_str::CompactString;
use foldhash::HashMap;
use serde::{Deserialize, Serialize};
use smartlog_schema::window::MINUTE;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::hash_map::Entry;

/// How much is counted by name; the rest is "other".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Services on one worker; those beyond are counted together.
    pub services: usize,
    /// Hosts of a service in a minute.
    pub hosts: usize,
    /// Shapes of a service in a minute.
    pub shapes: usize,
    /// Hosts and shapes of all services and minutes together, on one worker.
    pub parts: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { services: 50_000, hosts: 256, shapes: 256, parts: 1 << 20 }
    }
}

/// Counts by part. The hosts and `other_hosts` are all logs that name a host; the shapes and `other_shapes` are all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Parts {
    pub hosts: BTreeMap<CompactString, Counts>,
    pub shapes: BTreeMap<u64, Counts>,
    pub other_hosts: Counts,
    pub other_shapes: Counts,
    pub seen: Seen,
}

impl Parts {
    fn len(&self) -> usize {
        self.hosts.len() + self.shapes.len()
    }

    /// How many hosts and shapes there are.
    fn width(&self) -> (usize, usize) {
        (self.hosts.len(), self.shapes.len())
    }

    fn add(&mut self, other: &Parts) {
        add_all(&mut self.hosts, &other.hosts);
        add_all(&mut self.shapes, &other.shapes);
        self.other_hosts += other.other_hosts;
        self.other_shapes += other.other_shapes;
        self.seen.merge(&other.seen);
    }
}

fn add_all<K: Ord + Clone>(to: &mut BTreeMap<K, Counts>, from: &BTreeMap<K, Counts>) {
    for (key, counts) in from {
        match to.get_mut(key) {
            Some(known) => *known += *counts,
            None => drop(to.insert(key.clone(), *counts)),
        }
    }
}

/// What is known of one minute of a service.
pub type Minute = Parts;

/// The last minutes of the services of one worker.
#[derive(Debug, Default)]
pub struct Breakdown {
    limits: Limits,
    services: BTreeMap<CompactString, BTreeMap<i64, Minute>>,
    parts: usize,
    /// By minute: the most hosts, and the most shapes, that a service had.
    widest: BTreeMap<i64, (usize, usize)>,
    /// The pattern of each shape.
    patterns: HashMap<u64, PatternId>,
    /// Their texts, and how many shapes of each there are.
    texts: HashMap<PatternId, (String, usize)>,
    /// Minutes before this are forgotten.
    forgotten_before: i64,
}

fn stored() -> impl Options {
    bincode::DefaultOptions::new()
}

impl Breakdown {
    pub fn new(limits: Limits) -> Self {
        Breakdown { limits, forgotten_before: i64::MIN, ..Breakdown::default() }
    }

    /// Takes in what was gathered; the service that it is counted for, or `None` where it is too old.
    pub fn add(&mut self, gathered: &Gathered) -> Option<CompactString> {
        if gathered.minute < self.forgotten_before {
            return None;
        }
        let has_room =
            self.services.len() < self.limits.services || self.services.contains_key(&gathered.service);
        let service = if has_room { gathered.service.clone() } else { OVERFLOW };
        let of_service = self.services.entry(service.clone()).or_default();
        let minute = of_service.entry(gathered.minute).or_default();
        let room = self.limits.parts.saturating_sub(self.parts);
        let before = minute.len();
        let hosts = gathered.hosts.iter().map(|(host, counts)| (host, *counts)).collect();
        let rest = count(&mut minute.hosts, hosts, self.limits.hosts, room);
        minute.other_hosts += rest;
        let room = room.saturating_sub(minute.len() - before);
        let shapes = gathered.shapes.iter().map(|(shape, tally)| (shape, tally.counts)).collect();
        let rest = count(&mut minute.shapes, shapes, self.limits.shapes, room);
        minute.other_shapes += rest;
        minute.seen.merge(&gathered.seen);
        self.parts += minute.len() - before;
        widen(&mut self.widest, gathered.minute, minute.width());
        Some(service)
    }

    /// The counts of `service` over the minutes that begin in `[from, to)`, epoch seconds.
    pub fn parts(&self, service: &str, from: i64, to: i64) -> Parts {
        let mut parts = Parts::default();
        self.minutes(service, from, to).for_each(|(_, minute)| parts.add(minute));
        parts
    }

    /// Takes note of which pattern a shape belongs to.
    pub fn name(&mut self, Named { shape, pattern }: Named) {
        if let Some(before) = self.patterns.remove(&shape)
            && let Entry::Occupied(mut text) = self.texts.entry(before)
        {
            text.get_mut().1 -= 1;
            if text.get().1 == 0 {
                text.remove();
            }
        }
        if let Some((id, text)) = pattern {
            self.patterns.insert(shape, id);
            let known = self.texts.entry(id).or_default();
            *known = (text, known.1 + 1);
        }
    }

    /// The pattern that a shape belongs to, and its text; `None` where it is not known: "other".
    pub fn pattern_of(&self, shape: u64) -> Option<(PatternId, &str)> {
        let id = self.patterns.get(&shape)?;
        self.texts.get(id).map(|(text, _)| (*id, text.as_str()))
    }

    /// The minutes of `service` that begin in `[from, to)`, epoch seconds.
    pub fn minutes(&self, service: &str, from: i64, to: i64) -> impl Iterator<Item = (i64, &Minute)> {
        let minutes = self.services.get(service).filter(|_| from < to).into_iter();
        minutes.flat_map(move |minutes| minutes.range(from..to)).map(|(minute, parts)| (*minute, parts))
    }

    /// Whether everything is known that was logged from `second` on.
    pub fn reaches(&self, second: i64) -> bool {
        second >= self.forgotten_before
    }

    /// Forgets the minutes that begin before `second`.
    pub fn forget_before(&mut self, second: i64) {
        if second < self.forgotten_before + MINUTE {
            return;
        }
        self.forgotten_before = second;
        let mut forgotten = 0;
        self.services.retain(|_, minutes| {
            let kept = minutes.split_off(&second);
            forgotten += minutes.values().map(Minute::len).sum::<usize>();
            *minutes = kept;
            !minutes.is_empty()
        });
        self.parts -= forgotten;
        self.widest = self.widest.split_off(&second);
    }

    /// How much is counted by name.
    pub fn fill(&self) -> Fill {
        let (hosts, shapes) =
            self.widest.values().fold((0, 0), |most, of| (most.0.max(of.0), most.1.max(of.1)));
        Fill { services: self.services.len(), parts: self.parts, hosts, shapes }
    }

    /// How a minute is stored; `None` where nothing is known of it.
    pub fn to_bytes(&self, service: &str, minute: i64) -> Option<Vec<u8>> {
        stored().serialize(self.services.get(service)?.get(&minute)?).ok()
    }

    /// Takes what [`Breakdown::to_bytes`] wrote.
    ///
    /// # Errors
    /// When it is of another version.
    pub fn restore(
        &mut self,
        service: &CompactString,
        minute: i64,
        bytes: &[u8],
    ) -> Result<(), bincode::Error> {
        let read: Minute = stored().deserialize(bytes)?;
        self.parts += read.len();
        widen(&mut self.widest, minute, read.width());
        let before = self.services.entry(service.clone()).or_default().insert(minute, read);
        self.parts -= before.as_ref().map_or(0, Minute::len);
        Ok(())
    }
}

fn widen(widest: &mut BTreeMap<i64, (usize, usize)>, minute: i64, (hosts, shapes): (usize, usize)) {
    let most = widest.entry(minute).or_default();
    *most = (most.0.max(hosts), most.1.max(shapes));
}

/// Adds to the counts of what has a name already, or gets one; what is left over, summed. The largest get a name first,
/// so that it does not matter in which order a batch has them.
fn count<K: Ord + Clone>(
    known: &mut BTreeMap<K, Counts>,
    mut found: Vec<(&K, Counts)>,
    limit: usize,
    mut room: usize,
) -> Counts {
    let mut rest = Counts::default();
    found.sort_by_key(|(key, counts)| (Reverse(counts.logs), *key));
    for (key, counts) in found {
        if let Some(known) = known.get_mut(key) {
            *known += counts;
        } else if known.len() < limit && room > 0 {
            known.insert(key.clone(), counts);
            room -= 1;
        } else {
            rest += counts;
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breakdown::Tally;

    fn gathered(minute: i64, hosts: std::ops::Range<u64>) -> Gathered {
        let counts = |n: u64| Counts { logs: n % 5 + 1, errors: n % 2 };
        let host = |n: u64| (CompactString::from(format!("host-{n}")), counts(n));
        let shape = |n: u64| (n, Tally { counts: counts(n), first_us: 0, last_us: 0 });
        let shapes = hosts.clone().map(shape).collect();
        let hosts = hosts.map(host).collect();
        let (messages, seen) = (Vec::new(), Seen::default());
        Gathered { service: "a".into(), minute, hosts, shapes, messages, seen }
    }

    fn logs<'a>(counts: impl Iterator<Item = &'a Counts>) -> u64 {
        counts.map(|counts| counts.logs).sum()
    }

    #[test]
    fn ten_thousand_hosts_are_counted_whole_and_kept_within_the_limits() {
        let limits = Limits { services: 1, hosts: 100, shapes: 50, parts: 400 };
        let mut breakdown = Breakdown::new(limits);
        let mut all = 0;
        for minute in (0..600).step_by(60) {
            for from in (0..10_000).step_by(2_500) {
                let batch = gathered(minute, from..from + 2_500);
                all += logs(batch.hosts.iter().map(|(_, counts)| counts));
                breakdown.add(&batch);
            }
        }
        let Parts { hosts, shapes, other_hosts, other_shapes, .. } = breakdown.parts("a", 0, 600);
        assert_eq!(logs(hosts.values()) + other_hosts.logs, all);
        assert_eq!(logs(shapes.values()) + other_shapes.logs, all);
        assert!(hosts.len() <= 100 && shapes.len() <= 50, "{} hosts, {} shapes", hosts.len(), shapes.len());
        assert_eq!(breakdown.fill(), Fill { services: 1, parts: 400, hosts: 100, shapes: 50 });
        // Of the later minutes there was no room for all.
        breakdown.forget_before(120);
        assert_eq!(breakdown.fill(), Fill { services: 1, parts: 100, hosts: 100, shapes: 0 });
        breakdown.forget_before(600);
        assert_eq!(breakdown.fill(), Fill::default());
        assert_eq!(breakdown.add(&gathered(540, 0..1)), None, "what is forgotten does not come back");
    }

    #[test]
    fn the_order_within_a_batch_does_not_decide_who_is_counted_by_name() {
        let limits = Limits { services: 1, hosts: 10, shapes: 10, parts: 1000 };
        let (mut batch, mut first, mut second) =
            (gathered(0, 0..500), Breakdown::new(limits), Breakdown::new(limits));
        first.add(&batch);
        batch.hosts.reverse();
        batch.shapes.reverse();
        second.add(&batch);
        assert_eq!(first.parts("a", 0, 60), second.parts("a", 0, 60));
    }

    #[test]
    fn services_beyond_the_limit_are_counted_together() {
        let mut breakdown = Breakdown::new(Limits { services: 2, ..Limits::default() });
        let of = |service: &str| Gathered { service: service.into(), ..gathered(0, 0..3) };
        let counted = ["a", "b", "c", "d", "a"].map(|service| breakdown.add(&of(service)).expect("young"));
        assert_eq!(counted, ["a", "b", "__overflow__", "__overflow__", "a"]);
        assert_eq!(breakdown.parts("__overflow__", 0, 60), breakdown.parts("a", 0, 60));
    }

    #[test]
    fn what_is_stored_comes_back() {
        let mut breakdown = Breakdown::new(Limits::default());
        breakdown.add(&gathered(60, 0..20));
        let bytes = breakdown.to_bytes("a", 60).expect("it is known");
        let mut restored = Breakdown::new(Limits::default());
        for _ in 0..2 {
            restored.restore(&"a".into(), 60, &bytes).expect("it can be read");
        }
        assert_eq!(restored.parts("a", 0, 120), breakdown.parts("a", 0, 120));
        assert_eq!(restored.fill(), Fill { services: 1, parts: 40, hosts: 20, shapes: 20 });
        assert_eq!(restored.fill(), breakdown.fill());
        assert!(restored.restore(&"a".into(), 60, b"?").is_err());
    }
}
