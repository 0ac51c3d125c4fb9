//! What crosses a process boundary: the types that Kafka, the stores, the API and the dataflow agree on.
//!
//! Nothing here does I/O, reads a clock or starts a thread, so every other crate can depend on it cheaply.
//!
//! | module | what it owns |
//! |---|---|
//! | [`log`] | one log line as the product stores it, and batches of them |
//! | [`level`] | the six levels and the spellings that map to them |
//! | [`dead_letter`] | a payload that could not become a log, and why |
//! | [`sums`] | the monoid that every aggregate is made of |
//! | [`window`] | 5-minute window arithmetic, the only copy |
//! | [`position`] | where a sink stands in the input |
//! | [`anomaly`] | episodes, their states, and what happened to them |
//! | [`explanation`] | why an episode was raised, in terms of the logs |
//! | [`feedback`] | what people say is expected |
//! | [`model`] | which model was in force, and what it said |
//! | [`commit`] | all that one closed epoch changes, and the snapshot a restart begins with |
//! | [`ssl`] | what a PostgreSQL URL asks of TLS |
//! | [`live`] | names of what is published for readers that follow along |

pub mod anomaly;
pub mod commit;
pub mod dead_letter;
pub mod explanation;
pub mod feedback;
pub mod level;
pub mod live;
pub mod log;
pub mod model;
pub mod pattern;
pub mod position;
pub mod ssl;
pub mod sums;
pub mod window;
