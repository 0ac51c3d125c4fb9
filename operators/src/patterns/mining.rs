//! Patterns of a running stream: what one worker learns of the shapes that all workers see, and what of it is news.
//!
//! ```text
//!   Gathered ──▶ counts by (shape, service) ─┐
//!     └ messages of shapes that are new ─────┼─ Mining::take ─▶ PatternChanges: what the store adds, moves and forgets
//!   KnownShape, from the store ──────────────┘              └─▶ Named: which pattern a shape belongs to, for everybody
//! ```
//!
//! The counts of a shape are a row a service in the store, and which pattern it belongs to is a row of its own. So when a
//! template generalises, its shapes move to the new one and their counts with them, without a count being written.

use super::miner::{Miner, Settings};
use super::shape::{MAX_BYTES, Shape};
use super::stats::Stats;
use super::template::PatternId;
use crate::breakdown::{Gathered, Tally};
use crate::novelty::FirstSeen;
use crate::record::{OVERFLOW, WHOLE_STREAM};
use compact_str::CompactString;
use foldhash::{HashMap, HashSet};
use serde::{Deserialize, Serialize};
use smartlog_schema::pattern::{KnownShape, OTHER_SHAPE, PatternChanges, PatternCount, PatternShape};
use smartlog_schema::window::{MICROS, MINUTE};
use std::collections::BTreeMap;

/// Rows of counts for each shape that may be, on average; beyond them the services of a shape are counted together.
const SERVICES_PER_SHAPE: usize = 4;

/// Which pattern a shape belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    pub shape: u64,
    /// With its text; `None`: it was forgotten.
    pub pattern: Option<(PatternId, String)>,
}

/// The part of a message that its shape is made of, and no more.
pub fn exemplar(message: &str) -> &str {
    let line = message.trim_start_matches(|sign: char| sign <= ' ' || sign == '\u{7f}');
    let line = line.split(['\n', '\r']).next().unwrap_or_default();
    // A little more than is read, so that it still shows to have been longer.
    let mut end = line.len().min(MAX_BYTES + 8);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    &line[..end]
}

/// What the mining worker knows.
#[derive(Debug, Default)]
pub struct Mining {
    settings: Settings,
    miner: Miner,
    /// The pattern of each shape, as it is stored.
    stored: HashMap<u64, PatternId>,
    texts: HashMap<PatternId, Box<str>>,
    /// Shapes and services (hashed) that have a row of counts.
    counted: HashSet<(u64, u64)>,
    /// What was stored of when services logged shapes first, until it is told.
    first_seen: Vec<FirstSeen>,
    scratch: Shape,
}

impl Mining {
    /// Goes on with what is stored.
    pub fn new(settings: Settings, known: Vec<KnownShape>) -> Self {
        let mut mining = Mining { settings, miner: Miner::new(settings), ..Mining::default() };
        for known in known {
            let shape = known.shape.cast_unsigned();
            let stats =
                Stats { logs: 1, first_us: known.last_us, last_us: known.last_us, ..Stats::default() };
            mining.scratch.read(&known.example);
            mining.miner.add(shape, &mining.scratch, &known.example, &stats);
            mining.stored.insert(shape, PatternId(known.template_id.cast_unsigned()));
            mining.texts.insert(PatternId(known.template_id.cast_unsigned()), known.template.into());
            let minute_of = |first_us: i64| first_us.div_euclid(MINUTE * MICROS) * MINUTE;
            let of_stream = known.services.iter().map(|(_, first_us)| minute_of(*first_us)).min();
            let of_stream =
                of_stream.map(|minute| FirstSeen { service: WHOLE_STREAM.clone(), shape, minute });
            mining.first_seen.extend(of_stream);
            for (service, first_us) in known.services {
                mining.counted.insert((shape, crate::flow::hash(&service)));
                mining.first_seen.push(FirstSeen { service, shape, minute: minute_of(first_us) });
            }
        }
        mining
    }

    /// What was stored of when services logged shapes first, the first time that it is asked for.
    ///
    /// Nothing where services were counted together: then nobody knows which of them logged what, and each warms up again.
    pub fn first_seen(&mut self) -> Vec<FirstSeen> {
        let known = std::mem::take(&mut self.first_seen);
        if known.iter().any(|known| known.service == OVERFLOW) { Vec::new() } else { known }
    }

    /// The pattern of every shape.
    pub fn names(&self) -> impl Iterator<Item = Named> + '_ {
        self.stored.keys().map(|shape| self.named(*shape))
    }

    fn named(&self, shape: u64) -> Named {
        let text = |id: &PatternId| Some((*id, self.texts.get(id)?.to_string()));
        Named { shape, pattern: self.stored.get(&shape).and_then(text) }
    }

    /// Patterns, and shapes, that are remembered.
    pub fn len(&self) -> (usize, usize) {
        (self.texts.len(), self.stored.len())
    }

    /// Patterns that may be.
    pub fn limit(&self) -> usize {
        self.settings.max_patterns
    }

    /// Takes what one epoch gathered, from all workers. What comes of it does not depend on its order.
    pub fn take(&mut self, gathered: Vec<Gathered>) -> (PatternChanges, Vec<Named>) {
        let mut tallies: BTreeMap<(u64, CompactString), Tally> = BTreeMap::new();
        let mut messages: BTreeMap<u64, String> = BTreeMap::new();
        for Gathered { service, shapes, messages: new, .. } in gathered {
            for (shape, tally) in shapes {
                let key = (shape, service.clone());
                tallies.entry(key).and_modify(|known| known.add(&tally)).or_insert(tally);
            }
            for (shape, message) in new {
                let earlier = messages.entry(shape).or_insert_with(|| message.clone());
                if message < *earlier {
                    *earlier = message;
                }
            }
        }
        for ((shape, _), tally) in &tallies {
            self.learn(*shape, messages.get(shape).map(String::as_str), tally);
        }
        let mut changes = PatternChanges::default();
        let mut names = self.settle(&messages, &mut changes);
        self.forget(&mut changes, &mut names);
        changes.counts = self.count(tallies);
        (changes, names)
    }

    fn learn(&mut self, shape: u64, message: Option<&str>, tally: &Tally) {
        let Tally { counts, first_us, last_us } = *tally;
        let stats = Stats { logs: counts.logs, first_us, last_us, ..Stats::default() };
        if let (false, Some(message)) = (self.miner.add_known(shape, &stats), message) {
            self.scratch.read(message);
            self.miner.add(shape, &self.scratch, message, &stats);
        }
    }

    /// Makes patterns of what is new; which shapes belong to another pattern than before, or to one that reads otherwise.
    fn settle(&mut self, messages: &BTreeMap<u64, String>, changes: &mut PatternChanges) -> Vec<Named> {
        let moves = self.miner.settle();
        if moves.is_empty() {
            return Vec::new();
        }
        let texts: HashMap<PatternId, Box<str>> =
            self.miner.templates().map(|(id, text)| (id, text.into())).collect();
        let reads_otherwise = |id: &PatternId| {
            self.texts.get(id).is_some_and(|known| texts.get(id).is_some_and(|now| now != known))
        };
        let mut moved: Vec<u64> =
            (self.stored.iter()).filter(|(_, id)| reads_otherwise(id)).map(|(shape, _)| *shape).collect();
        for (shape, to) in moves.iter().filter_map(|moved| Some((moved.shape, moved.to?))) {
            if self.stored.insert(shape, to) != Some(to) {
                moved.push(shape);
            }
        }
        self.texts = texts;
        moved.sort_unstable();
        moved.dedup();
        let names: Vec<Named> = moved.into_iter().map(|shape| self.named(shape)).collect();
        changes.shapes = names.iter().filter_map(|named| row(named, messages)).collect();
        names
    }

    /// What the miner forgot: the counts of such a shape go to another of its pattern, or to "other".
    fn forget(&mut self, changes: &mut PatternChanges, names: &mut Vec<Named>) {
        if self.stored.len() == self.miner.shapes() {
            return;
        }
        let (mut kept, mut forgotten): (BTreeMap<PatternId, u64>, Vec<(u64, PatternId)>) = Default::default();
        for (&shape, &id) in &self.stored {
            match self.miner.pattern_of(shape) {
                Some(_) => {
                    let least = kept.entry(id).or_insert(shape);
                    *least = shape.min(*least);
                }
                None => forgotten.push((shape, id)),
            }
        }
        forgotten.sort_unstable();
        for (shape, id) in forgotten {
            self.stored.remove(&shape);
            let into = kept.get(&id).map_or(OTHER_SHAPE, |heir| heir.cast_signed());
            changes.forgotten.push((shape.cast_signed(), into));
            names.push(Named { shape, pattern: None });
        }
        changes.shapes.retain(|row| self.stored.contains_key(&row.shape.cast_unsigned()));
        self.counted.retain(|(shape, _)| self.stored.contains_key(shape));
    }

    fn count(&mut self, tallies: BTreeMap<(u64, CompactString), Tally>) -> Vec<PatternCount> {
        let most = self.settings.max_patterns.saturating_mul(SERVICES_PER_SHAPE);
        let mut counts: BTreeMap<(i64, CompactString), Tally> = BTreeMap::new();
        for ((shape, service), tally) in tallies {
            let shape = if self.stored.contains_key(&shape) { shape } else { OTHER_SHAPE.cast_unsigned() };
            let row = (shape, crate::flow::hash(&service));
            let has_row =
                self.counted.contains(&row) || self.counted.len() < most && self.counted.insert(row);
            let service = if has_row { service } else { OVERFLOW };
            let key = (shape.cast_signed(), service);
            counts.entry(key).and_modify(|known| known.add(&tally)).or_insert(tally);
        }
        let row = |((shape, service), Tally { counts, first_us, last_us }): (_, Tally)| PatternCount {
            shape,
            service,
            logs: counts.logs.cast_signed(),
            errors: counts.errors.cast_signed(),
            first_us,
            last_us,
        };
        counts.into_iter().map(row).collect()
    }
}

fn row(named: &Named, messages: &BTreeMap<u64, String>) -> Option<PatternShape> {
    let (id, text) = named.pattern.as_ref()?;
    Some(PatternShape {
        shape: named.shape.cast_signed(),
        template_id: id.0.cast_signed(),
        template: text.clone(),
        example: messages.get(&named.shape).cloned(),
    })
}
