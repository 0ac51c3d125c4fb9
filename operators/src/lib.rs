//! The pure part of the product: what logs mean. No I/O, no wall clock, no tokio.
pub mod parse;
pub mod settings;
