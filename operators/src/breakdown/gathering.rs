//! Counts by part as they grow log by log, until they are sent.

use super::seen::{Seeing, Source};
use super::{Counts, Place, Seen};
use crate::partials::Service;
use crate::patterns::exemplar;
use crate::record::WHOLE_STREAM;
use crate::stretch::Counted;
use compact_str::CompactString;
use foldhash::{HashMap, HashSet};
use serde::{Deserialize, Serialize};
use smartlog_schema::position::TopicPartition;
use smartlog_schema::window::{MICROS, MINUTE};
use std::collections::BTreeMap;
use std::collections::hash_map::Entry::{Occupied, Vacant};

/// Counts are sent before the epoch ends once there are this many: bounds memory when every log is of another part.
const MAX_COUNTS: usize = 1 << 16;
/// After so many epochs messages of all shapes are told again: the miner may have forgotten some.
const TELL_AGAIN: u32 = 4096;
/// Host names and shapes that are remembered; the memory starts over when it is full (hostile input).
const MAX_INTERNED: usize = 1 << 17;

/// What is counted of a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub counts: Counts,
    /// Event times of its first and last log, microseconds.
    pub first_us: i64,
    pub last_us: i64,
}

impl Tally {
    fn one(is_error: bool, at_us: i64) -> Self {
        Tally { counts: Counts { logs: 1, errors: u64::from(is_error) }, first_us: at_us, last_us: at_us }
    }

    pub fn add(&mut self, other: &Tally) {
        self.counts += other.counts;
        self.first_us = self.first_us.min(other.first_us);
        self.last_us = self.last_us.max(other.last_us);
    }
}

/// The counts of one service over one minute, as far as one worker saw them in one epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gathered {
    pub service: CompactString,
    /// Where the minute begins, epoch seconds.
    pub minute: i64,
    pub hosts: Vec<(CompactString, Counts)>,
    pub shapes: Vec<(u64, Tally)>,
    /// A message of each shape that is new to the worker.
    pub messages: Vec<(u64, String)>,
    pub seen: Seen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    Host(u32),
    Shape(u64),
}

/// All counts of one worker that were not sent yet.
#[derive(Debug, Default)]
pub struct Gathering {
    numbers: HashMap<CompactString, u32>,
    names: Vec<CompactString>,
    counts: HashMap<(Service, i64, Part), Tally>,
    /// Shapes of which a message was told.
    told: HashSet<u64>,
    messages: Vec<((Service, i64), (u64, String))>,
    takes: u32,
    /// By slot.
    sources: Vec<Source>,
    seen: HashMap<(Service, i64), Seeing>,
}

impl Gathering {
    /// Takes note of the partition of the next slot.
    pub fn partition(&mut self, partition: &TopicPartition) {
        self.sources.push(Source::new(partition));
    }

    /// Adds a log of `service`.
    #[inline]
    pub fn add(&mut self, service: Service, log: &Counted<'_>, place: Place) {
        let at_us = log.core.timestamp_us;
        let minute = at_us.div_euclid(MINUTE * MICROS) * MINUTE;
        let one = Tally::one(log.core.level.is_error(), at_us);
        if let Some(source) = self.sources.get(place.slot as usize) {
            let seen = self.seen.entry((service, minute)).or_default();
            seen.add(source, place, at_us, log.core.level.is_error());
        }
        if self.count((service, minute, Part::Shape(log.shape)), &one) && self.told.insert(log.shape) {
            self.messages.push(((service, minute), (log.shape, exemplar(log.message).to_owned())));
        }
        if let Some(host) = log.host {
            let number = match self.numbers.get(host) {
                Some(&number) => number,
                None => {
                    self.names.push(CompactString::new(host));
                    let number = self.names.len() as u32 - 1;
                    self.numbers.insert(CompactString::new(host), number);
                    number
                }
            };
            self.count((service, minute, Part::Host(number)), &one);
        }
    }

    /// Whether it is the first of its part.
    #[inline]
    fn count(&mut self, part: (Service, i64, Part), one: &Tally) -> bool {
        match self.counts.entry(part) {
            Occupied(mut known) => {
                known.get_mut().add(one);
                false
            }
            Vacant(place) => {
                place.insert(*one);
                true
            }
        }
    }

    /// Whether they should be sent before the epoch ends.
    pub fn is_full(&self) -> bool {
        self.counts.len() >= MAX_COUNTS
    }

    /// The counts so far, and those of the whole stream. `name`: of a service's number.
    pub fn take(&mut self, name: impl Fn(Service) -> CompactString) -> Vec<Gathered> {
        let mut of_services: BTreeMap<(Option<Service>, i64), Parts> = BTreeMap::new();
        for ((service, minute, part), tally) in self.counts.drain() {
            for of in [Some(service), None] {
                of_services.entry((of, minute)).or_default().add(part, &tally);
            }
        }
        for ((service, minute), message) in self.messages.drain(..) {
            of_services.entry((Some(service), minute)).or_default().messages.push(message);
        }
        for ((service, minute), seeing) in self.seen.drain() {
            let seen = seeing.close(&self.sources);
            let of_stream = seen.of_stream(name(service));
            for (of, seen) in [(Some(service), &seen), (None, &of_stream)] {
                of_services.entry((of, minute)).or_default().seen.merge(seen);
            }
        }
        let gathered = |((service, minute), parts): (_, Parts)| {
            let service = Option::map_or(service, WHOLE_STREAM.clone(), &name);
            let host = |(number, counts): (u32, Counts)| (self.names[number as usize].clone(), counts);
            let hosts = parts.hosts.into_iter().map(host).collect();
            let shapes = parts.shapes.into_iter().collect();
            Gathered { service, minute, hosts, shapes, messages: parts.messages, seen: parts.seen }
        };
        let gathered = of_services.into_iter().map(gathered).collect();
        self.takes += 1;
        if self.names.len().max(self.told.len()) >= MAX_INTERNED {
            *self = Gathering { sources: std::mem::take(&mut self.sources), ..Gathering::default() };
        } else if self.takes.is_multiple_of(TELL_AGAIN) {
            self.told.clear();
        }
        gathered
    }
}

#[derive(Default)]
struct Parts {
    hosts: BTreeMap<u32, Counts>,
    shapes: BTreeMap<u64, Tally>,
    messages: Vec<(u64, String)>,
    seen: Seen,
}

impl Parts {
    fn add(&mut self, part: Part, tally: &Tally) {
        match part {
            Part::Host(number) => *self.hosts.entry(number).or_default() += tally.counts,
            Part::Shape(shape) => {
                self.shapes.entry(shape).and_modify(|known| known.add(tally)).or_insert(*tally);
            }
        }
    }
}
