//! Patterns: the kinds of messages that a stream is made of, mined from the messages themselves.
//!
//! ```text
//!   message ──shape──▶ shape hash ──table──▶ pattern                  at every log: one pass over its text, one look-up
//!                          │ new
//!                          ▼
//!                        cells ──bucket──▶ group ──▶ templates ──absorb──▶ patterns         only when a shape is new
//!                     (what each word  (same        (which columns    (values of more
//!                      is likely to be) separators)  hold values)      than one word)
//! ```
//!
//! Two steps, so that what is stored with a log never has to change: a log carries its **shape**, which is a function
//! of its message alone. Which **pattern** a shape belongs to is learnt, and may change when more shapes are seen; then
//! the counts of the shapes move ([`Move`]), the logs stay as they are.
//!
//! What is taken from whom is said in the modules; docs/PATTERNS.md has the whole, with figures.

mod absorb;
mod bucket;
mod cells;
mod group;
mod lists;
mod miner;
mod mining;
mod operator;
mod shape;
mod shaper;
mod stats;
mod template;
mod values;
mod words;

pub use miner::{Miner, Move, Pattern, Settings};
pub use mining::{Mining, Named, exemplar};
pub use operator::{Learned, Size, patterns};
pub use shape::{Kind, Shape, Token, WILDCARD};
pub use shaper::Shaper;
pub use stats::Stats;
pub use template::PatternId;
