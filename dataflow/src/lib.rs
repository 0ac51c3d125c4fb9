//! The program `smartlog`: sources, the dataflow, its bridges to the stores, and the command line.
//!
//! Begin with [`pipeline`]: it is the dataflow, top to bottom.

pub mod cli;
pub mod commands;
mod committer;
pub mod config;
mod coordinator;
mod demo;
pub mod engine;
mod feedback;
mod followers;
pub mod history;
mod labelled;
mod lanes;
pub mod logging;
mod metrics;
pub mod models;
pub mod pipeline;
mod retention;
mod rows;
mod set;
pub mod sources;
mod status;
mod telemetry;
mod top;
mod training;
