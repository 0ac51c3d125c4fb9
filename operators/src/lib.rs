//! The pure part of the product: what logs mean. No I/O, no wall clock, no tokio.
//!
//! In the order in which a log goes through them:
//!
//! | module | what it does |
//! |---|---|
//! | [`parse`] | payload bytes → a log, or why not |
//! | [`fold`] | logs → one partial sum per service, second and epoch |
//! | [`stretch`] | the logs themselves, for the log sinks |
//! | [`clock`] | event times → the clock and the watermark |
//! | [`admit`] | which services have state of their own |
//! | [`window`] | partial sums → rolling 5-minute windows |
//! | [`hourly`] | partial sums → hourly counts |
//! | [`baseline`], [`dispersion`], [`chance`], [`rules`], [`detector`] | what is normal, what is not, and for how long |
//! | [`peak`] | the worst window of an episode, feature by feature |
//! | [`flow`] | when the stream as a whole went on |
//! | [`detect`], [`episodes`] | findings → what is published, corrected, retracted |
//! | [`evidence`] | what a decision rested on, and the decision made again |
//! | [`expected`] | retracts what people say was to be expected, and brings it back |
//! | [`features`], [`feature_rows`], [`pattern_window`], [`score`] | final windows as a model sees them, and what it says of them |
//! | [`outliers`] | episodes that scores alone raise, where that is wanted |
//! | [`patterns`] | messages → shapes → templates |
//! | [`breakdown`] | what the logs of a service are made of, by host and by shape |
//! | [`top_services`] | the open windows of the largest services, to be watched |
//! | [`window_rows`] | final windows as rows |

pub mod admit;
pub mod baseline;
pub mod breakdown;
pub mod chance;
pub mod clock;
mod closed_epochs;
mod closed_ticks;
pub mod detect;
pub mod detector;
pub mod dispersion;
pub mod episodes;
pub mod evidence;
pub mod expected;
pub mod explain;
pub mod feature_rows;
pub mod features;
pub mod flow;
pub mod fold;
pub mod hourly;
pub mod novelty;
pub mod outliers;
pub mod parse;
mod partials;
pub mod pattern_window;
pub mod patterns;
pub mod peak;
pub mod record;
pub mod rules;
pub mod score;
mod seconds;
pub mod settings;
pub mod stretch;
pub mod sums;
pub mod top_services;
pub mod window;
pub mod window_rows;
