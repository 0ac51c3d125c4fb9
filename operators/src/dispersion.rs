//! How bursty a service is: the squared relative spread of its level, learned from how far past blocks of time came out
//! from what was expected of them.
//!
//! A block with `n` logs where `m` were expected has `E(n − m)² = m + φ·m²`: the first term is chance, the second the
//! level's own spread. `φ` is the moment estimate `Σ w·((n − m)² − m)/m² / Σ w`, where
//! - `(n − m)²` is cut at `CUT` times what is expected, so that one incident does not make a service deaf (Huber's
//!   proposal 2: Winsorised squares);
//! - `w = m/(m + 10)`: blocks with few logs say little;
//! - older blocks fade, and a prior takes the place of blocks that are not there yet.
//!
//! The error of the forecast itself is in it, too: that is what an observation is compared with.

use serde::{Deserialize, Serialize};

/// Squared deviations beyond this multiple of what is expected count as this multiple.
const CUT: f64 = 4.0;
/// Expected logs of a block at which it weighs half.
const HALF_WEIGHT: f64 = 10.0;

/// What is assumed, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prior {
    pub spread: f64,
    /// Blocks that it is worth.
    pub blocks: f64,
    /// Blocks that are remembered.
    pub memory: f64,
}

/// Running sums of one length of block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Dispersion {
    weighted: f64,
    weight: f64,
}

impl Dispersion {
    /// Takes a block with `n` where `m` were expected.
    pub fn observe(&mut self, n: f64, m: f64, prior: &Prior) {
        if m <= 0.0 {
            return;
        }
        let usual = m + self.spread(prior) * m * m;
        let squared = ((n - m) * (n - m)).min(CUT * usual);
        let weight = m / (m + HALF_WEIGHT);
        let keep = 1.0 - 1.0 / prior.memory;
        self.weighted = self.weighted * keep + weight * (squared - m) / (m * m);
        self.weight = self.weight * keep + weight;
    }

    /// The squared relative spread of the level.
    pub fn spread(&self, prior: &Prior) -> f64 {
        let sum = self.weighted + prior.blocks * prior.spread;
        (sum / (self.weight + prior.blocks)).max(LEAST)
    }
}

/// No traffic is steadier than this: a spread of zero would make any change significant.
const LEAST: f64 = 0.0025;
