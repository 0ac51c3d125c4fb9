//! Where the strings of a JSON text begin and end, found sixteen or thirty-two bytes at a time.
//!
//! Per block of 64 bytes: a bit for each quote, less those that a backslash escapes, and a check that no control
//! character stands inside a string. (Langdale and Lemire, "Parsing Gigabytes of JSON per Second", section 3.1.)
//! What is found holds as long as quotes and backslashes outside strings are faults, which the reader of the
//! grammar sees to.

#![expect(
    unsafe_code,
    reason = "a processor's wider instructions, and text known to be ASCII; each block says why it is sound"
)]

use wide::u8x16;

const BLOCK: usize = 64;

/// The quotes of one text, each bit a byte of it.
#[derive(Debug, Default)]
pub(super) struct Quotes {
    blocks: Vec<u64>,
    /// Whether there is a backslash anywhere.
    pub any_backslash: bool,
}

/// What a first look at a payload tells besides its quotes.
pub(super) struct Look<'a> {
    /// Whether no control character stands inside a string.
    pub strings_are_clean: bool,
    /// The payload as text, when all of it is ASCII; otherwise it is still to be checked.
    pub ascii: Option<&'a str>,
}

/// What the bytes of one block are, a bit for each.
#[derive(Clone, Copy)]
struct Block {
    quotes: u64,
    backslashes: u64,
    /// Control characters.
    controls: u64,
    /// Bytes that are no ASCII.
    high: u64,
}

impl Quotes {
    /// Finds the quotes of `bytes`.
    #[inline]
    pub(super) fn find<'a>(&mut self, bytes: &'a [u8]) -> Look<'a> {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi1") {
            // SAFETY: the processor has both features, as was just asked.
            return unsafe { self.find_avx2(bytes) };
        }
        self.find_by(bytes, portable)
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1")]
    fn find_avx2<'a>(&mut self, bytes: &'a [u8]) -> Look<'a> {
        self.find_by(bytes, |block| avx2(block))
    }

    #[inline(always)]
    fn find_by<'a>(&mut self, bytes: &'a [u8], look: impl Fn(&[u8; BLOCK]) -> Block) -> Look<'a> {
        self.blocks.clear();
        self.blocks.reserve(bytes.len() / BLOCK + 1);
        self.any_backslash = false;
        let (mut controls, mut high, mut first_is_escaped) = (0, 0, 0);
        let (whole, rest) = bytes.as_chunks();
        for block in whole {
            let block = look(block);
            (controls, high) = (controls | block.controls, high | block.high);
            self.add(block, 0, &mut first_is_escaped);
        }
        if !rest.is_empty() {
            // The last block overlaps the one before, which spares a copy; what was seen already is shifted out.
            let block = bytes.last_chunk().map_or_else(|| look(&padded(rest)), &look);
            let known = if whole.is_empty() { 0 } else { BLOCK - rest.len() };
            (controls, high) = (controls | block.controls, high | block.high);
            self.add(block, known, &mut first_is_escaped);
        }
        Look {
            strings_are_clean: controls == 0 || self.strings_are_free_of_controls(bytes),
            // SAFETY: no byte has its highest bit set, so all are ASCII, which is UTF-8.
            ascii: (high == 0).then(|| unsafe { std::str::from_utf8_unchecked(bytes) }),
        }
    }

    #[inline(always)]
    fn add(&mut self, block: Block, known: usize, first_is_escaped: &mut u64) {
        let mut quotes = block.quotes >> known;
        if *first_is_escaped | block.backslashes != 0 {
            self.any_backslash = true;
            quotes &= !escaped(block.backslashes >> known, first_is_escaped);
        }
        self.blocks.push(quotes);
    }

    /// White space between tokens is made of control characters too, so where they stand has to be looked at.
    #[cold]
    fn strings_are_free_of_controls(&self, bytes: &[u8]) -> bool {
        let mut in_string = 0;
        bytes.chunks(BLOCK).zip(&self.blocks).all(|(block, quotes)| {
            let controls = portable(&padded(block)).controls;
            let inside = within(*quotes) ^ in_string;
            in_string = ((inside as i64) >> 63) as u64;
            controls & inside == 0
        })
    }

    /// The quotes in order.
    pub(super) fn cursor(&self) -> Cursor<'_> {
        Cursor { bits: 0, base: 0usize.wrapping_sub(BLOCK), later: self.blocks.iter() }
    }
}

#[inline]
fn padded(bytes: &[u8]) -> [u8; BLOCK] {
    let mut block = [b' '; BLOCK];
    block[..bytes.len()].copy_from_slice(bytes);
    block
}

/// Goes through the quotes.
pub(super) struct Cursor<'q> {
    bits: u64,
    base: usize,
    later: std::slice::Iter<'q, u64>,
}

impl Cursor<'_> {
    /// Position of the next quote.
    #[inline(always)]
    pub(super) fn next(&mut self) -> Option<usize> {
        while self.bits == 0 {
            self.bits = *self.later.next()?;
            self.base = self.base.wrapping_add(BLOCK);
        }
        let at = self.base + self.bits.trailing_zeros() as usize;
        self.bits &= self.bits - 1;
        Some(at)
    }
}

/// Looks at a block sixteen bytes at a time.
#[inline(always)]
fn portable(block: &[u8; BLOCK]) -> Block {
    let (lanes, _) = block.as_chunks::<16>();
    let lanes = [0, 1, 2, 3].map(|index| u8x16::new(lanes[index]));
    let bits = |holds: fn(u8x16) -> u8x16| {
        let [a, b, c, d] = lanes.map(|lane| u64::from(holds(lane).to_bitmask()));
        a | b << 16 | c << 32 | d << 48
    };
    Block {
        quotes: bits(|lane| lane.simd_eq(u8x16::splat(b'"'))),
        backslashes: bits(|lane| lane.simd_eq(u8x16::splat(b'\\'))),
        controls: bits(|lane| lane.min(u8x16::splat(0x1F)).simd_eq(lane)),
        high: bits(|lane| lane),
    }
}

/// The same, 32 bytes at a time.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn avx2(block: &[u8; BLOCK]) -> Block {
    use std::arch::x86_64::{
        __m256i, _mm256_cmpeq_epi8, _mm256_min_epu8, _mm256_movemask_epi8, _mm256_set1_epi8,
    };
    let (lanes, _) = block.as_chunks::<32>();
    let [low, high]: [__m256i; 2] = [bytemuck::cast(lanes[0]), bytemuck::cast(lanes[1])];
    let bits = |low, high| {
        let [low, high] = [low, high].map(|mask| u64::from(_mm256_movemask_epi8(mask).cast_unsigned()));
        low | high << 32
    };
    let equal = |byte: u8| {
        let byte = _mm256_set1_epi8(byte.cast_signed());
        bits(_mm256_cmpeq_epi8(low, byte), _mm256_cmpeq_epi8(high, byte))
    };
    let is_control = |lane| _mm256_cmpeq_epi8(_mm256_min_epu8(lane, _mm256_set1_epi8(0x1F)), lane);
    Block {
        quotes: equal(b'"'),
        backslashes: equal(b'\\'),
        controls: bits(is_control(low), is_control(high)),
        high: bits(low, high),
    }
}

/// The bytes that a backslash escapes: every second one of a run of backslashes, and what follows an odd run.
#[inline]
fn escaped(backslashes: u64, carry: &mut u64) -> u64 {
    const EVEN: u64 = 0x5555_5555_5555_5555;
    let backslashes = backslashes & !*carry;
    let follows = backslashes << 1 | *carry;
    let odd_starts = backslashes & !EVEN & !follows;
    let (runs_from_odd, overflow) = odd_starts.overflowing_add(backslashes);
    *carry = u64::from(overflow);
    (EVEN ^ runs_from_odd << 1) & follows
}

/// From each opening quote up to its closing one: the parity of the quotes so far.
#[inline]
fn within(quotes: u64) -> u64 {
    [1, 2, 4, 8, 16, 32].into_iter().fold(quotes, |parity, shift| parity ^ parity << shift)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_way_sees_the_same(
            bytes in prop::collection::vec(
                prop_oneof![Just(b'"'), Just(b'\\'), Just(b'\n'), b' '..b'~', any::<u8>()],
                0..300,
            ),
        ) {
            let (mut wide, mut narrow) = (Quotes::default(), Quotes::default());
            let found = wide.find(&bytes);
            let expected = narrow.find_by(&bytes, portable);
            prop_assert_eq!(found.strings_are_clean, expected.strings_are_clean);
            prop_assert_eq!(found.ascii.is_some(), bytes.is_ascii());
            prop_assert_eq!(expected.ascii.is_some(), bytes.is_ascii());
            prop_assert_eq!(&wide.blocks, &narrow.blocks);
            prop_assert_eq!(wide.any_backslash, narrow.any_backslash);
        }
    }
}
