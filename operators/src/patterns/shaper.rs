//! Shapes of a stream of messages, most of which were seen before word for word.

use super::shape::Shape;
use xxhash_rust::xxh3::xxh3_64;

/// Messages whose shapes are at hand; a power of two.
const RECENT: usize = 4096;

/// Gives messages their shapes. A message that came before, letter by letter, costs one hash of it.
#[derive(Debug, Clone, Default)]
pub struct Shaper {
    shape: Shape,
    /// Hash of a message, and its shape, in the place that the hash says. Empty while shapes are off.
    recent: Vec<(u64, u64)>,
}

impl Shaper {
    /// Where shapes are off, it gives none.
    pub fn new(is_on: bool) -> Self {
        let places = if is_on { RECENT } else { 0 };
        Shaper { shape: Shape::default(), recent: vec![(0, 0); places] }
    }

    pub fn is_on(&self) -> bool {
        !self.recent.is_empty()
    }

    /// The shape of `message`; never 0, which stands for none: where shapes are off.
    pub fn shape_of(&mut self, message: &str) -> u64 {
        if !self.is_on() {
            return 0;
        }
        let hash = xxh3_64(message.as_bytes());
        let (known, shape) = &mut self.recent[hash as usize % RECENT];
        if *known != hash || *shape == 0 {
            (*known, *shape) = (hash, self.shape.read(message).max(1));
        }
        *shape
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remembered_shape_is_the_one_that_would_be_made() {
        let (mut shaper, mut shape) = (Shaper::new(true), Shape::default());
        for round in 0..3 {
            for number in 0..3 * RECENT {
                let message = format!("job {number} took {round} ms on part{}", number % 7);
                assert_eq!(shaper.shape_of(&message), shape.read(&message), "{message}");
            }
        }
        assert_eq!(Shaper::new(false).shape_of("job 1"), 0);
    }
}
