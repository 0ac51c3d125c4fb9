//! A template: the shapes of one kind of message, and what they have in common.

use super::cells::{Cell, Class};
use super::shape::{Token, WILDCARD};
use super::stats::Stats;
use serde::{Deserialize, Serialize};
use std::fmt;
use xxhash_rust::xxh3::Xxh3;

/// Names a template by its words and its values' places: the same on every worker and after every restart. A template
/// that generalises is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PatternId(pub u64);

impl fmt::Display for PatternId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Shapes that are one template.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Template {
    pub id: PatternId,
    pub cells: Vec<Cell>,
    /// For people.
    pub text: String,
    /// Hashes of its shapes, ascending. The first is the one whose spacing the text has.
    pub shapes: Vec<u64>,
    /// Logs of shapes that were forgotten.
    pub forgotten: Stats,
    /// Whether the cells stand for all shapes, whose own were given up.
    pub condensed: bool,
    /// The pattern that it counts for: itself, or one that covers it.
    pub counts_for: PatternId,
}

pub(super) fn id_of(cells: &[Cell]) -> PatternId {
    let mut hasher = Xxh3::new();
    cells.iter().for_each(|cell| hasher.update(&cell.word.to_le_bytes()));
    PatternId(hasher.digest())
}

/// The text of a shape with the template's values masked.
pub(super) fn render(text: &str, tokens: &[Token], cells: &[Cell]) -> String {
    let mut rendered = String::with_capacity(text.len());
    let mut end = 0;
    for (token, cell) in tokens.iter().zip(cells) {
        let (from, to) = (token.start as usize, token.end as usize);
        rendered.push_str(text.get(end..from).unwrap_or_default());
        match cell.class {
            Class::Star | Class::Learned => rendered.push_str(WILDCARD),
            _ => rendered.push_str(text.get(from..to).unwrap_or_default()),
        }
        end = to;
    }
    rendered
}
