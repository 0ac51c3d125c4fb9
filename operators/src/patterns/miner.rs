//! The memory of the miner: every shape with its counts, every template with its shapes, and a bound on both.

use super::absorb;
use super::bucket::{Bucket, Sketch, Sketches};
use super::cells::{Cell, Skeleton, bare_cells_of, cells_of, skeleton};
use super::shape::Shape;
use super::stats::Stats;
use super::template::{PatternId, Template};
use super::words;
use foldhash::{HashMap, HashSet};
use serde::{Deserialize, Serialize};
use smartlog_schema::level::Level;
use std::collections::BTreeMap;
use std::collections::hash_map::Entry::{Occupied, Vacant};

/// Shapes that are remembered for each pattern that may be, on average.
const SHAPES_PER_PATTERN: usize = 8;
/// New shapes that are gathered before templates are made anew, if nobody asks for them earlier.
const MAX_FRESH: usize = 4096;
/// Bytes of a message that is kept as an example.
const MAX_EXAMPLE_BYTES: usize = 512;

/// What bounds the miner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Patterns that are remembered; beyond them the least recently seen count as "other".
    pub max_patterns: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { max_patterns: 10_000 }
    }
}

/// A pattern, as people and stores see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Pattern {
    pub id: PatternId,
    pub template: String,
    pub stats: Stats,
    /// Shapes that are remembered of it.
    pub shapes: usize,
    /// Its first message (of equally early ones the first in the alphabet), cut to 512 bytes.
    pub example: String,
}

/// The logs of a shape count for another pattern than before: retract them there, add them here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    pub shape: u64,
    /// `None`: the shape was new, or forgotten.
    pub from: Option<PatternId>,
    /// `None`: they are "other" from now on.
    pub to: Option<PatternId>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    stats: Stats,
    skeleton: Skeleton,
    example: Box<str>,
    /// What its logs count for; `None` until it is settled.
    pattern: Option<PatternId>,
    /// `None` once its template stands for it.
    sketch: Option<Box<Sketch>>,
}

impl Entry {
    fn join(&mut self, other: Entry) {
        if (other.stats.first_us, &other.example) < (self.stats.first_us, &self.example) {
            self.example = other.example;
        }
        self.stats.add(&other.stats);
        self.sketch = self.sketch.take().or(other.sketch);
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Shapes(HashMap<u64, Entry>);

impl Sketches for Shapes {
    fn sketch(&self, shape: u64) -> Option<&Sketch> {
        self.0.get(&shape)?.sketch.as_deref()
    }
}

/// Mines templates from a stream of messages.
///
/// What it holds after [`Miner::settle`] depends on the set of messages alone: not on their order, on how they were
/// spread over miners that were merged, or on restarts in between. That holds until a bound makes it forget; what it
/// forgets then, it decides by event time and hash, never by chance.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Miner {
    settings: Settings,
    shapes: Shapes,
    buckets: BTreeMap<Skeleton, Bucket>,
    /// Buckets that shapes came to since the last settling.
    touched: Vec<Skeleton>,
    fresh: usize,
    other: Stats,
    /// By shape, since they were last asked for.
    moves: BTreeMap<u64, Move>,
    #[serde(skip)]
    scratch: Shape,
}

impl Miner {
    pub fn new(settings: Settings) -> Self {
        Miner { settings, ..Miner::default() }
    }

    /// Takes in one message and returns its shape's hash.
    pub fn observe(&mut self, message: &str, at_us: i64, level: Option<Level>) -> u64 {
        let mut shape = std::mem::take(&mut self.scratch);
        let hash = shape.read(message);
        self.add(hash, &shape, message, &Stats::one(at_us, level));
        self.scratch = shape;
        hash
    }

    /// Takes in `stats` logs of a shape, the earliest of which is `example`.
    pub fn add(&mut self, hash: u64, shape: &Shape, example: &str, stats: &Stats) {
        match self.shapes.0.get_mut(&hash) {
            Some(entry) => {
                let is_earlier = stats.first_us < entry.stats.first_us
                    || stats.first_us == entry.stats.first_us && cut(example) < &*entry.example;
                if is_earlier {
                    entry.example = cut(example).into();
                }
                entry.stats.add(stats);
            }
            None => self.insert(hash, shape, example, stats),
        }
    }

    /// Adds logs of a shape that is remembered; false: it is not.
    pub fn add_known(&mut self, hash: u64, stats: &Stats) -> bool {
        let known = self.shapes.0.get_mut(&hash);
        known.map(|entry| entry.stats.add(stats)).is_some()
    }

    fn insert(&mut self, hash: u64, shape: &Shape, example: &str, stats: &Stats) {
        let cells = cells_of(shape);
        let skeleton = skeleton(&cells);
        let sketch = Sketch {
            text: shape.text().into(),
            tokens: shape.tokens().into(),
            cells: cells.into_boxed_slice(),
        };
        let sketch = Some(Box::new(sketch));
        let entry = Entry { stats: *stats, skeleton, example: cut(example).into(), pattern: None, sketch };
        self.shapes.0.insert(hash, entry);
        self.touch(hash, skeleton);
        if self.fresh >= MAX_FRESH {
            self.settle_now();
        }
    }

    fn touch(&mut self, hash: u64, skeleton: Skeleton) {
        let bucket = self.buckets.entry(skeleton).or_default();
        if bucket.fresh.is_empty() {
            self.touched.push(skeleton);
        }
        bucket.fresh.push(hash);
        self.fresh += 1;
    }

    /// Adds what another miner remembers, as if its messages had come here.
    pub fn merge(&mut self, other: Miner) {
        self.other.add(&other.other);
        for (hash, entry) in other.shapes.0 {
            match self.shapes.0.entry(hash) {
                Vacant(place) => drop(place.insert(Entry { pattern: None, ..entry })),
                Occupied(place) => place.into_mut().join(entry),
            }
        }
        for (skeleton, bucket) in other.buckets {
            let mine = self.buckets.entry(skeleton).or_default();
            mine.templates.extend(bucket.templates);
            mine.fresh.extend(bucket.fresh);
            self.touched.push(skeleton);
        }
    }

    /// Makes templates of what came, keeps the bounds, and returns which shapes' logs moved to another pattern since the
    /// last call.
    pub fn settle(&mut self) -> Vec<Move> {
        self.settle_now();
        std::mem::take(&mut self.moves).into_values().filter(|moved| moved.from != moved.to).collect()
    }

    fn settle_now(&mut self) {
        if self.touched.is_empty() {
            return;
        }
        let mut given_up = Vec::new();
        self.touched.sort_unstable();
        self.touched.dedup();
        for skeleton in std::mem::take(&mut self.touched) {
            if let Some(bucket) = self.buckets.get_mut(&skeleton) {
                bucket.regroup(&self.shapes, &mut given_up);
            }
        }
        self.fresh = 0;
        for shape in given_up {
            if let Some(entry) = self.shapes.0.get_mut(&shape) {
                entry.sketch = None;
            }
        }
        self.absorb();
        self.assign();
        self.forget();
    }

    /// Decides which pattern each template counts for.
    fn absorb(&mut self) {
        let templates: Vec<&Template> = self.buckets.values().flat_map(|bucket| &bucket.templates).collect();
        let rows: Vec<&[Cell]> = templates.iter().map(|template| &template.cells[..]).collect();
        let covering = absorb::covering(&rows);
        let counts_for: Vec<PatternId> = (covering.iter().zip(&templates))
            .map(|(covering, own)| covering.map_or(own.id, |place| templates[place].id))
            .collect();
        let templates = self.buckets.values_mut().flat_map(|bucket| &mut bucket.templates);
        templates.zip(counts_for).for_each(|(template, counts_for)| template.counts_for = counts_for);
    }

    fn assign(&mut self) {
        for template in self.buckets.values().flat_map(|bucket| &bucket.templates) {
            for shape in &template.shapes {
                let Some(entry) = self.shapes.0.get_mut(shape) else { continue };
                let from = entry.pattern.replace(template.counts_for);
                if from != entry.pattern {
                    note(&mut self.moves, Move { shape: *shape, from, to: entry.pattern });
                }
            }
        }
    }

    /// Keeps the bounds: forgets the patterns, and the shapes, that were not seen for the longest time.
    fn forget(&mut self) {
        let excess = |count: usize, most: usize| count.saturating_sub(most);
        let mut last_seen: BTreeMap<PatternId, i64> = BTreeMap::new();
        for entry in self.shapes.0.values() {
            let Some(pattern) = entry.pattern else { continue };
            let last = last_seen.entry(pattern).or_insert(i64::MIN);
            *last = (*last).max(entry.stats.last_us);
        }
        let too_many = excess(last_seen.len(), self.settings.max_patterns);
        if too_many > 0 {
            let mut by_age: Vec<(i64, PatternId)> =
                last_seen.into_iter().map(|(id, last)| (last, id)).collect();
            by_age.sort_unstable();
            self.forget_patterns(&by_age[..too_many].iter().map(|(_, id)| *id).collect());
        }
        let max_shapes = self.settings.max_patterns.saturating_mul(SHAPES_PER_PATTERN);
        let too_many = excess(self.shapes.0.len(), max_shapes);
        if too_many > 0 {
            let mut by_age: Vec<(i64, u64)> =
                self.shapes.0.iter().map(|(&shape, entry)| (entry.stats.last_us, shape)).collect();
            by_age.sort_unstable();
            // Some more than needed, so that not every new shape has all of them looked at.
            let count = (too_many + max_shapes / 8).min(by_age.len());
            self.forget_shapes(&by_age[..count].iter().map(|(_, shape)| *shape).collect());
        }
    }

    fn forget_patterns(&mut self, patterns: &HashSet<PatternId>) {
        for bucket in self.buckets.values_mut() {
            let before = bucket.templates.len();
            for template in
                bucket.templates.extract_if(.., |template| patterns.contains(&template.counts_for))
            {
                self.other.add(&template.forgotten);
                for shape in template.shapes {
                    let Some(entry) = self.shapes.0.remove(&shape) else { continue };
                    self.other.add(&entry.stats);
                    note(&mut self.moves, Move { shape, from: entry.pattern, to: None });
                }
            }
            if bucket.templates.len() != before {
                bucket.reindex();
            }
        }
        self.buckets.retain(|_, bucket| !bucket.templates.is_empty());
    }

    /// Forgets shapes; their logs still count for their pattern. A pattern keeps the shape that its text is made of.
    fn forget_shapes(&mut self, shapes: &HashSet<u64>) {
        let mut inherited: BTreeMap<PatternId, Stats> = BTreeMap::new();
        for bucket in self.buckets.values_mut() {
            for template in &mut bucket.templates {
                forget_of(template, shapes, &mut self.shapes);
            }
            let is_empty = |template: &mut Template| template.shapes.is_empty();
            let mut emptied = false;
            for template in bucket.templates.extract_if(.., is_empty) {
                inherited.entry(template.counts_for).or_default().add(&template.forgotten);
                emptied = true;
            }
            if emptied {
                bucket.reindex();
            }
        }
        for template in self.buckets.values_mut().flat_map(|bucket| &mut bucket.templates) {
            if let Some(stats) = inherited.remove(&template.id) {
                template.forgotten.add(&stats);
            }
        }
        inherited.values().for_each(|stats| self.other.add(stats));
        self.buckets.retain(|_, bucket| !bucket.templates.is_empty());
    }

    /// The pattern that a shape's logs count for, as of the last settling.
    pub fn pattern_of(&self, shape: u64) -> Option<PatternId> {
        self.shapes.0.get(&shape)?.pattern
    }

    /// The pattern that covers `shape`, by comparing its words: for shapes that were forgotten or never seen.
    pub fn find(&self, shape: &Shape) -> Option<PatternId> {
        let cells = bare_cells_of(shape);
        let bucket = self.buckets.get(&skeleton(&cells))?;
        let is_state = |at: usize| words::is_state(shape.text_of(&shape.tokens()[at]));
        Some(bucket.find(&cells, is_state)?.counts_for)
    }

    /// All patterns, the most frequent first. Their logs and [`Miner::other`] are all logs.
    pub fn patterns(&self) -> Vec<Pattern> {
        let mut patterns: BTreeMap<PatternId, (Pattern, i64)> = BTreeMap::new();
        for template in self.buckets.values().flat_map(|bucket| &bucket.templates) {
            let empty = || Pattern {
                id: template.counts_for,
                template: String::new(),
                stats: Stats::default(),
                shapes: 0,
                example: String::new(),
            };
            let (pattern, example_us) =
                patterns.entry(template.counts_for).or_insert_with(|| (empty(), i64::MAX));
            if template.id == template.counts_for {
                pattern.template.clone_from(&template.text);
            }
            pattern.shapes += template.shapes.len();
            pattern.stats.add(&template.forgotten);
            for entry in template.shapes.iter().filter_map(|shape| self.shapes.0.get(shape)) {
                pattern.stats.add(&entry.stats);
                if (entry.stats.first_us, &*entry.example) < (*example_us, &*pattern.example) {
                    *example_us = entry.stats.first_us;
                    pattern.example = entry.example.to_string();
                }
            }
        }
        let mut patterns: Vec<Pattern> = patterns.into_values().map(|(pattern, _)| pattern).collect();
        patterns.sort_by(|a, b| b.stats.logs.cmp(&a.stats.logs).then(a.id.cmp(&b.id)));
        patterns
    }

    /// The patterns and their texts, in no particular order.
    pub fn templates(&self) -> impl Iterator<Item = (PatternId, &str)> {
        let templates = self.buckets.values().flat_map(|bucket| &bucket.templates);
        let patterns = templates.filter(|template| template.id == template.counts_for);
        patterns.map(|template| (template.id, template.text.as_str()))
    }

    /// Logs of patterns that were forgotten.
    pub fn other(&self) -> &Stats {
        &self.other
    }

    /// Shapes that are remembered.
    pub fn shapes(&self) -> usize {
        self.shapes.0.len()
    }

    /// To be called after a miner was read from where it is stored: what is not stored is made again.
    pub fn restored(mut self) -> Self {
        self.buckets.values_mut().for_each(Bucket::reindex);
        self
    }
}

/// Forgets those of a template's shapes that are in `shapes`, all of them if another template covers it.
fn forget_of(template: &mut Template, shapes: &HashSet<u64>, known: &mut Shapes) {
    let is_pattern = template.id == template.counts_for;
    let kept = template.shapes.iter().copied().find(|&shape| is_pattern && known.sketch(shape).is_some());
    let Template { shapes: own, forgotten, condensed, .. } = template;
    own.retain(|shape| {
        if !shapes.contains(shape) || Some(*shape) == kept {
            return true;
        }
        if let Some(entry) = known.0.remove(shape) {
            forgotten.add(&entry.stats);
        }
        false
    });
    // What it learnt from them must not be lost with them.
    *condensed |= !forgotten.is_empty();
}

/// Two moves of a shape are one, from where it was first to where it is now.
fn note(moves: &mut BTreeMap<u64, Move>, moved: Move) {
    moves
        .entry(moved.shape)
        .and_modify(|earlier| *earlier = Move { from: earlier.from, ..moved })
        .or_insert(moved);
}

fn cut(message: &str) -> &str {
    let mut end = message.len().min(MAX_EXAMPLE_BYTES);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message[..end]
}
