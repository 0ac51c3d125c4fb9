//! [`Sums`] as a differential difference.

pub use smartlog_schema::sums::Sums;

/// `(logs, errors, message_chars)`: tuples of integers are differences out of the box.
pub type Diff = (i64, i64, i64);

/// The difference that adds `sums`.
pub fn plus(sums: Sums) -> Diff {
    (sums.logs, sums.errors, sums.message_chars)
}

/// The difference that takes `sums` away.
pub fn minus(sums: Sums) -> Diff {
    plus(-sums)
}

/// What a difference adds up to.
pub fn sums(diff: Diff) -> Sums {
    Sums { logs: diff.0, errors: diff.1, message_chars: diff.2 }
}
