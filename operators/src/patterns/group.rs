//! Shapes of one skeleton into templates: which columns hold a value.
//!
//! The shapes of a bucket have the same separators in the same places, so they line up in columns. A column whose
//! words differ is either a value or tells templates apart. What decides is how many different words stand in it while
//! all else is equal, and how likely its words are values to begin with:
//!
//! ```text
//!   session opened for user cyrus by (uid=<*>)      `user` announces a name: 3 different ones are enough
//!   session opened for user news  by (uid=<*>)   ─▶ session opened for user <*> by (uid=<*>)
//!   session opened for user test  by (uid=<*>)
//!   session closed for user test  by (uid=<*>)      `closed`, `opened` say how things stand: never a value
//! ```
//!
//! The outcome depends on the set of shapes alone, neither on their order nor on their counts. That is the difference to
//! Drain (He et al., ICWS 2017), which takes the first words of a message for constant and compares it with the groups
//! that exist when it comes. Judging a column by its number of different words is from IPLoM (Makanju et al., KDD 2009)
//! and Brain (Yu et al., IEEE TSC 2023); here each is judged with all other columns held fast.

use super::cells::{Cell, Class};
use foldhash::{HashMap, HashMapExt as _};
use std::collections::BTreeSet;

/// Different words that make a column a value, by what its words look like: [`Class::Named`], [`Class::Cued`],
/// [`Class::Weak`], [`Class::Strong`]. Grouping accuracy is the same for 4 to 6 and 3 to 8 in place of the last two
/// (docs/PATTERNS.md): not tuned to a system.
const NAMED: usize = 2;
const CUED: usize = 3;
const WEAK: usize = 4;
const STRONG: usize = 5;
/// Words that must be equal around a column of plain words before it is judged: `cron started` and `sshd started`
/// are no template `<*> started`.
const WORDS_AROUND: usize = 2;
/// With fewer (but one at the least) it takes this many times the evidence: `upgrade <*>` after twenty packages.
const FEW_WORDS_AROUND: usize = 4;
/// A message's first word is rarely a value: it takes this many times the evidence, and one more word around.
const FIRST_WORD: usize = 2;
/// Sets of columns with values, of one skeleton, that longer rows are compared by.
const MAX_STAR_SETS: usize = 64;
/// Rounds until columns of plain words no longer change; each but the last merges something.
const ROUNDS: usize = 8;

/// Rows that are one template.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub cells: Vec<Cell>,
    /// Places in what was grouped, ascending.
    pub rows: Vec<usize>,
}

/// The templates of rows with one skeleton, in the order of their first rows.
pub(super) fn group(rows: &[Vec<Cell>]) -> Vec<Group> {
    let single = |(place, cells): (usize, &Vec<Cell>)| Group { cells: cells.clone(), rows: vec![place] };
    let mut groups = merge_likely_values(merge_equal(rows.iter().enumerate().map(single).collect()));
    for _ in 0..ROUNDS {
        let before = groups.len();
        groups = merge_covered(merge_words(groups));
        if groups.len() == before {
            break;
        }
    }
    groups
}

fn words_of(cells: &[Cell]) -> Vec<u64> {
    cells.iter().map(|cell| cell.word).collect()
}

/// Groups with the same words, as one.
fn merge_equal(groups: Vec<Group>) -> Vec<Group> {
    let mut place_of: HashMap<Vec<u64>, usize> = HashMap::new();
    let mut merged: Vec<Group> = Vec::new();
    for group in groups {
        let place = *place_of.entry(words_of(&group.cells)).or_insert(merged.len());
        match merged.get_mut(place) {
            Some(target) => target.join(group),
            None => merged.push(group),
        }
    }
    in_order(merged)
}

fn in_order(mut groups: Vec<Group>) -> Vec<Group> {
    groups.iter_mut().for_each(|group| group.rows.sort_unstable());
    groups.sort_by_key(|group| group.rows.first().copied());
    groups
}

impl Group {
    fn join(&mut self, other: Group) {
        for (mine, its) in self.cells.iter_mut().zip(&other.cells) {
            *mine = if mine.word == its.word { (*mine).max(*its) } else { Cell::LEARNED };
        }
        self.rows.extend(other.rows);
    }
}

/// All columns whose words look like values, at once: what differs in nothing else is judged together.
fn merge_likely_values(groups: Vec<Group>) -> Vec<Group> {
    let masked = |cell: &Cell| if cell.class.is_likely_value() { (true, 0) } else { (false, cell.word) };
    let mut alike: HashMap<Vec<(bool, u64)>, Vec<usize>> = HashMap::new();
    for (place, group) in groups.iter().enumerate() {
        alike.entry(group.cells.iter().map(masked).collect()).or_default().push(place);
    }
    let mut groups = groups;
    for places in alike.into_values().filter(|places| places.len() > 1) {
        let columns = groups[places[0]].cells.len();
        let values: Vec<usize> = (0..columns).filter(|&column| is_value(&groups, &places, column)).collect();
        for &place in &places {
            values.iter().for_each(|&column| groups[place].cells[column] = Cell::LEARNED);
        }
    }
    merge_equal(groups)
}

/// Whether a column of likely values has different words enough.
fn is_value(groups: &[Group], places: &[usize], column: usize) -> bool {
    let cells = || places.iter().map(|&place| groups[place].cells[column]);
    if !cells().all(|cell| cell.class.is_likely_value()) {
        return false;
    }
    let words: BTreeSet<u64> = cells().map(|cell| cell.word).collect();
    let class = cells().map(|cell| cell.class).filter(|class| !class.is_star()).min();
    words.len() > 1
        && (words.contains(&Cell::STAR_WORD) || class.is_some_and(|class| words.len() >= enough(class)))
}

fn enough(class: Class) -> usize {
    match class {
        Class::Named => NAMED,
        Class::Cued => CUED,
        Class::Weak => WEAK,
        _ => STRONG,
    }
}

/// A hash of a row in which any column can be masked afterwards.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowHash(u64);

impl RowHash {
    pub fn of(cells: &[Cell]) -> Self {
        RowHash(
            cells.iter().enumerate().fold(0, |sum, (at, cell)| sum.wrapping_add(Self::part(at, cell.word))),
        )
    }

    /// With a value in place of `word`.
    pub fn starred(self, at: usize, word: u64) -> Self {
        RowHash(self.0.wrapping_sub(Self::part(at, word)).wrapping_add(Self::part(at, Cell::STAR_WORD)))
    }

    pub fn value(self) -> u64 {
        self.0
    }

    /// The mixer of splitmix64 (Steele, Lea, Flood 2014).
    fn part(at: usize, word: u64) -> u64 {
        let mixed = word ^ (at as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// One column of words at a time: groups that differ in it alone.
fn merge_words(groups: Vec<Group>) -> Vec<Group> {
    let mut contexts: HashMap<(usize, u64), Vec<usize>> = HashMap::new();
    for (place, group) in groups.iter().enumerate() {
        let hash = RowHash::of(&group.cells);
        for (column, cell) in group.cells.iter().enumerate() {
            if !matches!(cell.class, Class::Separator | Class::State) {
                contexts.entry((column, hash.starred(column, cell.word).value())).or_default().push(place);
            }
        }
    }
    let mut union = Union::new(groups.len());
    for ((column, _), places) in contexts {
        if places.len() > 1
            && differ_in(&groups, &places, column)
            && is_value_among_words(&groups, &places, column)
        {
            places.iter().for_each(|&place| union.join(places[0], place));
        }
    }
    joined(groups, union)
}

/// What a template with values found in several columns covers: rows that differ from it in more than one of them.
fn merge_covered(groups: Vec<Group>) -> Vec<Group> {
    let mut tables: HashMap<Vec<usize>, HashMap<u64, usize>> = HashMap::new();
    for (place, group) in groups.iter().enumerate() {
        let stars: Vec<usize> =
            (0..group.cells.len()).filter(|&at| group.cells[at].class.is_star()).collect();
        if group.cells.iter().any(|cell| cell.class == Class::Learned) {
            tables.entry(stars).or_default().insert(RowHash::of(&group.cells).value(), place);
        }
    }
    // Those with the fewest values are the most telling; hostile input makes as many sets of columns as it likes.
    let mut tables: Vec<(Vec<usize>, HashMap<u64, usize>)> = tables.into_iter().collect();
    tables.sort_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
    tables.truncate(MAX_STAR_SETS);
    let mut union = Union::new(groups.len());
    for (place, group) in groups.iter().enumerate() {
        let hash = RowHash::of(&group.cells);
        for (stars, place_of) in &tables {
            let starred = stars.iter().fold(hash, |hash, &at| hash.starred(at, group.cells[at].word));
            let covering =
                place_of.get(&starred.value()).filter(|&&covering| covers(&groups[covering], group));
            covering.into_iter().for_each(|&covering| union.join(covering, place));
        }
    }
    joined(groups, union)
}

fn covers(covering: &Group, group: &Group) -> bool {
    let is_word = |cell: &&Cell| matches!(cell.class, Class::Strong | Class::State);
    let around = covering.cells.iter().filter(is_word).count();
    around > 0
        && covering.cells.iter().zip(&group.cells).all(|(own, its)| match own.class {
            Class::Star | Class::Learned => !matches!(its.class, Class::State | Class::Separator),
            _ => own.word == its.word,
        })
}

fn joined(groups: Vec<Group>, mut union: Union) -> Vec<Group> {
    let mut merged: Vec<Option<Group>> = vec![None; groups.len()];
    for (place, group) in groups.into_iter().enumerate() {
        match &mut merged[union.root(place)] {
            Some(target) => target.join(group),
            empty => *empty = Some(group),
        }
    }
    merge_equal(merged.into_iter().flatten().collect())
}

/// Equal hashes are not yet equal rows.
fn differ_in(groups: &[Group], places: &[usize], column: usize) -> bool {
    let first = &groups[places[0]].cells;
    places.iter().all(|&place| {
        let pairs = first.iter().zip(&groups[place].cells).enumerate();
        pairs.into_iter().all(|(at, (a, b))| at == column || a.word == b.word)
    })
}

fn is_value_among_words(groups: &[Group], places: &[usize], column: usize) -> bool {
    let cells = &groups[places[0]].cells;
    let classes = || places.iter().map(|&place| groups[place].cells[column].class);
    let is_word =
        |(at, cell): &(usize, &Cell)| *at != column && matches!(cell.class, Class::Strong | Class::State);
    let around = cells.iter().enumerate().filter(is_word).count();
    let least = classes().filter(|class| !class.is_star()).map(enough).max().unwrap_or(STRONG);
    let is_known = classes().any(Class::is_star);
    let least = match (column, around) {
        (_, 0) | (0, 1..=WORDS_AROUND) => return false,
        // It was found before, with evidence enough.
        _ if is_known => 2,
        (0, _) => least * FIRST_WORD,
        (_, 1..WORDS_AROUND) => least * FEW_WORDS_AROUND,
        _ => least,
    };
    places.len() >= least
}

/// Sets that join (Tarjan 1975), each known by its smallest member.
struct Union(Vec<usize>);

impl Union {
    fn new(count: usize) -> Self {
        Union((0..count).collect())
    }

    fn root(&mut self, mut of: usize) -> usize {
        while self.0[of] != of {
            self.0[of] = self.0[self.0[of]];
            of = self.0[of];
        }
        of
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b)] = a.min(b);
    }
}
