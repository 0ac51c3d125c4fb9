//! Pages of a list: by number while that is cheap, by an opaque cursor however far.
//!
//! An offset makes the store walk over everything before it, so pages by number end at [`MAX_OFFSET_ROWS`]; a cursor
//! names the last row that was seen and goes on right behind it, also while rows are added.

use crate::params::{Kind, Param, Params};
use crate::problem::Problem;
use crate::store::{Arg, Sql};
use crate::time;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use std::hash::{DefaultHasher, Hash, Hasher};

/// How deep pages by number go, rows.
pub const MAX_OFFSET_ROWS: i64 = 10_000;

pub const PAGE: Param = Param {
    name: "page",
    kind: Kind::Integer { min: 1, max: MAX_OFFSET_ROWS, default: Some(1) },
    about: "Page number from 1; pages by number end at row 10,000, `cursor` goes on and takes precedence",
    example: "1",
};
pub const PER_PAGE: Param = Param {
    name: "per_page",
    kind: Kind::Integer { min: 1, max: 1_000, default: Some(50) },
    about: "Rows on a page",
    example: "50",
};
pub const CURSOR: Param = Param {
    name: "cursor",
    kind: Kind::Text { max_chars: 200 },
    about: "`next_cursor` of the page before; keep the filters and the sort",
    example: "",
};

/// Where a list goes on: behind the row with this sort key and id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cursor {
    /// The row's sort key; microseconds for times.
    key: i64,
    id: i64,
    /// The number of the page that follows.
    page: i64,
    /// Of the filters and the sort that the cursor belongs to.
    selection: u64,
}

impl Cursor {
    const BYTES: usize = 32;

    fn encode(self) -> String {
        let parts = [
            self.key.to_be_bytes(),
            self.id.to_be_bytes(),
            self.page.to_be_bytes(),
            self.selection.to_be_bytes(),
        ];
        BASE64_URL_SAFE_NO_PAD.encode(parts.concat())
    }

    fn decode(text: &str) -> Option<Cursor> {
        let bytes: [u8; Self::BYTES] = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let part = |i: usize| -> Option<[u8; 8]> { bytes.get(i * 8..i * 8 + 8)?.try_into().ok() };
        Some(Cursor {
            key: i64::from_be_bytes(part(0)?),
            id: i64::from_be_bytes(part(1)?),
            page: i64::from_be_bytes(part(2)?),
            selection: u64::from_be_bytes(part(3)?),
        })
    }
}

/// What a list is ordered by.
#[derive(Debug, Clone, Copy)]
pub struct Order {
    /// The column of the sort key.
    pub column: &'static str,
    pub key: KeyKind,
    pub descending: bool,
}

/// What the sort key is to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    Time,
    Number,
    /// The id itself.
    Id,
}

/// The page that a request asks for.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    pub number: i64,
    pub per_page: i64,
    after: Option<Cursor>,
    selection: u64,
}

impl Page {
    /// Reads [`PAGE`], [`PER_PAGE`] and [`CURSOR`].
    pub fn of(params: &Params) -> Result<Page, Problem> {
        let per_page = params.integer(&PER_PAGE).unwrap_or(50);
        let mut hasher = DefaultHasher::new();
        params.selection().hash(&mut hasher);
        let selection = hasher.finish();
        let after = params.text(&CURSOR).map(|text| cursor(text, selection)).transpose()?;
        let number = after.map(|cursor| cursor.page).or(params.integer(&PAGE)).unwrap_or(1);
        if after.is_none() && number * per_page > MAX_OFFSET_ROWS {
            let detail = format!(
                "page {number} of {per_page} rows ends behind row {MAX_OFFSET_ROWS}: follow next_cursor instead"
            );
            return Err(Problem::not_found(detail).about(PAGE.name));
        }
        Ok(Page { number, per_page, after, selection })
    }

    /// Reads [`PAGE`] and [`PER_PAGE`] for a list that is cut in memory: it has no cursor and any depth.
    pub fn in_memory(params: &Params) -> Page {
        let number = params.integer(&PAGE).unwrap_or(1);
        Page { number, per_page: params.integer(&PER_PAGE).unwrap_or(50), after: None, selection: 0 }
    }

    /// Rows before this page, for [`Page::in_memory`].
    pub fn offset(&self) -> usize {
        usize::try_from((self.number - 1) * self.per_page).unwrap_or(usize::MAX)
    }

    /// Appends what selects and orders the page's rows, and one more that tells whether another page follows. The
    /// statement must end in a `where` clause.
    pub fn select(&self, sql: &mut Sql, order: Order) {
        if let Some(after) = self.after {
            self.select_behind(sql, order, after);
        }
        let direction = if order.descending { "desc" } else { "asc" };
        match order.key {
            KeyKind::Id => sql.push(&format!(" order by id {direction}")),
            KeyKind::Time | KeyKind::Number => {
                sql.push(&format!(" order by {} {direction}, id {direction}", order.column))
            }
        };
        sql.push(" limit ").arg(Arg::Int(self.per_page + 1));
        if self.after.is_none() && self.number > 1 {
            sql.push(" offset ").arg(Arg::Int((self.number - 1) * self.per_page));
        }
    }

    fn select_behind(&self, sql: &mut Sql, order: Order, after: Cursor) {
        let side = if order.descending { "<" } else { ">" };
        let key = match order.key {
            KeyKind::Time => Arg::Time(time::from_micros(after.key).unwrap_or_default()),
            KeyKind::Number => Arg::Int(after.key),
            KeyKind::Id => {
                sql.push(&format!(" and id {side} ")).arg(Arg::Int(after.id));
                return;
            }
        };
        // The first comparison says nothing new; it is there for the index.
        sql.push(&format!(" and {} {side}= ", order.column)).arg(key.clone());
        sql.push(&format!(" and ({}, id) {side} (", order.column)).arg(key);
        sql.push(", ").arg(Arg::Int(after.id)).push(")");
    }

    /// Drops the row that only told of another page, and names where that page begins. `key` gives a row's sort key
    /// and id.
    pub fn cut<T>(&self, rows: &mut Vec<T>, key: impl Fn(&T) -> (i64, i64)) -> Option<String> {
        let per_page = usize::try_from(self.per_page).unwrap_or(usize::MAX);
        if rows.len() <= per_page {
            return None;
        }
        rows.truncate(per_page);
        rows.last().map(key).map(|(key, id)| {
            Cursor { key, id, page: self.number.saturating_add(1), selection: self.selection }.encode()
        })
    }
}

fn cursor(text: &str, selection: u64) -> Result<Cursor, Problem> {
    // A time key must be a time: a forged one may be anything.
    let is_sound = |cursor: &Cursor| {
        time::from_micros(cursor.key).is_some() && cursor.page > 1 && cursor.selection == selection
    };
    Cursor::decode(text).filter(is_sound).ok_or_else(|| {
        let detail = "no page of this list begins at the cursor: take the next_cursor of an answer unchanged, \
                      and keep its filters and sort";
        Problem::not_found(detail).about(CURSOR.name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn cursors_survive_the_way_out_and_back(key: i64, id: i64, page: i64, selection: u64) {
            let cursor = Cursor { key, id, page, selection };
            prop_assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor));
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = cursor(&text, 7);
        }
    }
}
