//! Random numbers that depend on what they are for, never on the order in which they are drawn.
//!
//! Every draw of the model comes from a generator keyed by (seed, purpose, two coordinates), e.g. the counts of one
//! service in one second. So any stretch of time can be made without the time before it, and the text mode and the
//! history of sums draw the very same counts.

use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

/// The one algorithm used, named so that its output never changes with a library's default.
pub(crate) type Rng = Xoshiro256PlusPlus;

/// What a keyed generator is for.
#[derive(Debug, Clone, Copy)]
#[repr(u64)]
pub(crate) enum Purpose {
    Counts = 1,
    Knot,
    Lines,
    Malformed,
    Plan,
    Deploy,
    History,
    Lengths,
    Estate,
}

/// A generator for `purpose` at the coordinates `(a, b)`.
pub(crate) fn keyed(seed: u64, purpose: Purpose, a: u64, b: u64) -> Rng {
    Rng::seed_from_u64(hash(seed, purpose, a, b))
}

/// A well-mixed number for `purpose` at the coordinates `(a, b)`.
pub(crate) fn hash(seed: u64, purpose: Purpose, a: u64, b: u64) -> u64 {
    [purpose as u64, a, b].iter().fold(mix(seed), |state, &word| mix(state ^ mix(word)))
}

/// The finaliser of splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn neighbouring_coordinates_never_share_a_stream() {
        let mut seen = HashSet::new();
        for purpose in [Purpose::Counts, Purpose::Knot, Purpose::Lines] {
            for a in 0..40 {
                for b in 0..40 {
                    assert!(seen.insert(hash(7, purpose, a, b)), "{purpose:?} {a} {b} repeats");
                }
            }
        }
    }
}
