//! Templates of different length that are one: a value of several words, or of none.
//!
//! ```text
//!   Invalid user <*> from <*>             the second column was found to be a value by its many words,
//!   Invalid user john smith from <*>   ─▶ so it covers two words,
//!   Invalid user from <*>              ─▶ or none, if the rest is equal
//! ```
//!
//! Only columns found to be values ([`Class::Learned`]) stretch, only within a sentence that goes on with the same words
//! behind them, and never over a word that says how things stand. (Brain and XDrain, Liu et al. 2024, reach such merges
//! by preprocessing or by shifting tokens.)

use super::cells::{Cell, Class};
use foldhash::{HashMap, HashMapExt as _};

/// Words of the longest value that a column stretches over.
const MAX_STRETCH: usize = 4;
/// Words that must be equal around it.
const WORDS_AROUND: usize = 2;

/// For each of `rows`, the place of the row that covers it, if one does. A row that covers others is covered by none.
pub(super) fn covering(rows: &[&[Cell]]) -> Vec<Option<usize>> {
    let elastic = |cells: &[Cell]| cells.iter().any(|cell| cell.class == Class::Learned);
    let mut by_first: HashMap<u64, Vec<usize>> = HashMap::new();
    for (place, cells) in rows.iter().enumerate() {
        if elastic(cells) {
            by_first.entry(cells[0].word).or_default().push(place);
        }
    }
    let best_for = |cells: &&[Cell]| {
        let first = cells.first().filter(|_| !elastic(cells))?;
        let same = by_first.get(&first.word).into_iter().flatten();
        let candidates = same.filter(|&&place| covers(rows[place], cells));
        // The most words in common; rows come in an order of their own, so the first of equals is always the same.
        candidates.copied().max_by_key(|&place| (words(rows[place]), std::cmp::Reverse(place)))
    };
    rows.iter().map(best_for).collect()
}

fn words(cells: &[Cell]) -> usize {
    cells.iter().filter(|cell| matches!(cell.class, Class::Strong | Class::State)).count()
}

fn covers(elastic: &[Cell], row: &[Cell]) -> bool {
    let is_close = row.len() + 1 >= elastic.len() && row.len() < elastic.len() + MAX_STRETCH;
    is_close
        && words(elastic) >= WORDS_AROUND
        && (1..elastic.len().saturating_sub(1))
            .filter(|&column| elastic[column].class == Class::Learned)
            .any(|column| stretches(elastic, row, column))
}

/// Whether `row` is `elastic` with something else than one word in `column`.
fn stretches(elastic: &[Cell], row: &[Cell], column: usize) -> bool {
    let behind = elastic.len() - column - 1;
    if row.len() < column + behind {
        return false;
    }
    let is_equal =
        |(a, b): (&Cell, &Cell)| a.word == b.word || a.class.is_star() && b.class.is_likely_value();
    let within = &row[column..row.len() - behind];
    let is_free = |cell: &Cell| !matches!(cell.class, Class::State);
    let goes_on = matches!(elastic[column + 1].class, Class::Strong | Class::State | Class::Separator);
    goes_on
        && within.iter().all(is_free)
        && within.first().is_none_or(|cell| cell.class != Class::Separator)
        && elastic[..column].iter().zip(row).all(is_equal)
        && elastic[column + 1..].iter().zip(&row[row.len() - behind..]).all(is_equal)
}
