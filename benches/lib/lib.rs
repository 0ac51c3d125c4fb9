//! What several benchmarks share: the logs they measure with, and how they find the program.

pub mod logs;
pub mod program;
pub mod random;
