//! Settings: defaults < file < environment < flags.

pub mod secret;
mod settings;
mod units;

pub use settings::*;
pub use units::Start;
