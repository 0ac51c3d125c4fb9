//! A shape as grouping sees it: a row of cells, each a word and what to think of it.

use super::shape::{Kind, Shape, Token};
use super::words;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// How likely a cell is a value. The order is that of evidence needed among likely values: the least sure first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Class {
    /// No letter, no digit.
    Separator,
    /// Says how things stand: never a value.
    State,
    /// A word like any other.
    Strong,
    /// Looks like a name (dotted, a lone letter), stands next to a key or after a preposition.
    Weak,
    /// A word after a noun that announces a name, as `user root`; or letters with digits, as `node-<*>`.
    Cued,
    /// Letters with digits where a name may stand: `on node-<*>`.
    Named,
    /// Masked.
    Star,
    /// Found to be a value by its many words.
    Learned,
}

impl Class {
    pub fn is_star(self) -> bool {
        matches!(self, Class::Star | Class::Learned)
    }

    pub fn is_likely_value(self) -> bool {
        !matches!(self, Class::Separator | Class::State | Class::Strong)
    }
}

/// One column of a shape: the hash of its text, which is the same everywhere and always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Cell {
    pub class: Class,
    pub word: u64,
}

impl Cell {
    /// The word of every value.
    pub const STAR_WORD: u64 = 0;
    pub const LEARNED: Cell = Cell { class: Class::Learned, word: Cell::STAR_WORD };
}

/// What the word before says about the next.
#[derive(Clone, Copy, PartialEq)]
enum Before {
    Nothing,
    /// `for cyrus`, but rather `for user cyrus`.
    Preposition,
    Noun,
}

/// The words of a shape, each only as a value, a separator or a word: enough to look it up.
pub(super) fn bare_cells_of(shape: &Shape) -> Vec<Cell> {
    let class = |kind: Kind| match kind {
        Kind::Value => Class::Star,
        Kind::Punct => Class::Separator,
        Kind::Word | Kind::Mixed => Class::Strong,
    };
    let cell =
        |token: &Token| Cell { class: class(token.kind), word: word_of(shape.bytes_of(token), token.kind) };
    shape.tokens().iter().map(cell).collect()
}

fn word_of(text: &[u8], kind: Kind) -> u64 {
    if kind == Kind::Value { Cell::STAR_WORD } else { xxh3_64(text) }
}

/// The row of a shape.
pub(super) fn cells_of(shape: &Shape) -> Vec<Cell> {
    let mut before = Before::Nothing;
    shape.tokens().iter().map(|token| cell_of(shape, token, &mut before)).collect()
}

fn cell_of(shape: &Shape, token: &Token, before: &mut Before) -> Cell {
    let text = shape.text_of(token);
    let class = match token.kind {
        Kind::Value => Class::Star,
        Kind::Punct => Class::Separator,
        Kind::Word if words::is_state(text) => Class::State,
        // `error404`; but `login-<*>` is a name.
        Kind::Mixed if !text.contains(['-', '_', '.', '/', ':']) && words::is_state(text) => Class::State,
        // `on en0` is a name; `ipv6` need not be one.
        Kind::Mixed if token.assigned || *before != Before::Nothing => Class::Named,
        Kind::Mixed => Class::Cued,
        Kind::Word => class_of_word(text, token.assigned, *before),
    };
    *before = match token.kind {
        // An opening quote stands between `service` and its name.
        Kind::Punct if matches!(text, "'" | "\"" | "`") => *before,
        Kind::Word if class == Class::Cued => Before::Nothing,
        Kind::Word if words::is_cue(text) => Before::Noun,
        Kind::Word if words::is_preposition(text) => Before::Preposition,
        _ => Before::Nothing,
    };
    Cell { class, word: word_of(text.as_bytes(), token.kind) }
}

fn class_of_word(word: &str, assigned: bool, before: Before) -> Class {
    let may_be_named = || before == Before::Preposition && !words::is_cue(word);
    let is_letter = || word.chars().filter(|sign| sign.is_alphanumeric()).nth(1).is_none();
    if words::is_function(word) {
        Class::Strong
    } else if before == Before::Noun {
        Class::Cued
    } else if assigned || words::is_identifier(word) || is_letter() || may_be_named() {
        Class::Weak
    } else {
        Class::Strong
    }
}

/// What shapes must share to be compared: the number of cells and the separators in their places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Skeleton {
    cells: usize,
    separators: u64,
}

pub(super) fn skeleton(cells: &[Cell]) -> Skeleton {
    let separator = |cell: &Cell| if cell.class == Class::Separator { cell.word } else { 0 };
    let mut hasher = Xxh3::new();
    cells.iter().for_each(|cell| hasher.update(&separator(cell).to_le_bytes()));
    Skeleton { cells: cells.len(), separators: hasher.digest() }
}
