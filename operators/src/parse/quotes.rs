//! Where the strings of a JSON text begin and end, found sixteen bytes at a time.
//!
//! Per block of 64 bytes: a bit for each quote, less those that a backslash escapes, and a check that no control
//! character stands inside a string. (Langdale and Lemire, "Parsing Gigabytes of JSON per Second", section 3.1.)
//! What is found holds as long as quotes and backslashes outside strings are faults, which the reader of the
//! grammar sees to.

use wide::u8x16;

const BLOCK: usize = 64;

/// The quotes of one text, each bit a byte of it.
#[derive(Debug, Default)]
pub(super) struct Quotes {
    blocks: Vec<u64>,
    /// Whether there is a backslash anywhere.
    pub any_backslash: bool,
}

impl Quotes {
    /// Finds the quotes of `bytes`; `false` when a control character stands inside a string.
    pub(super) fn find(&mut self, bytes: &[u8]) -> bool {
        self.blocks.clear();
        self.blocks.reserve(bytes.len() / BLOCK + 1);
        self.any_backslash = false;
        let mut controls = u8x16::ZERO;
        let mut first_is_escaped = 0;
        let (whole, rest) = bytes.as_chunks();
        for block in whole {
            let lanes = Lanes::of(block);
            controls |= lanes.map(is_control).any();
            self.add(lanes, 0, &mut first_is_escaped);
        }
        if !rest.is_empty() {
            // The last block overlaps the one before, which spares a copy; what was seen already is shifted out.
            let lanes = bytes.last_chunk().map_or_else(|| Lanes::of(&padded(rest)), Lanes::of);
            let known = if whole.is_empty() { 0 } else { BLOCK - rest.len() };
            controls |= lanes.map(is_control).any();
            self.add(lanes, known, &mut first_is_escaped);
        }
        !controls.any() || self.strings_are_free_of_controls(bytes)
    }

    #[inline(always)]
    fn add(&mut self, lanes: Lanes, known: usize, first_is_escaped: &mut u64) {
        let backslash = lanes.map(|lane| lane.simd_eq(u8x16::splat(b'\\')));
        let mut quotes = lanes.map(|lane| lane.simd_eq(u8x16::splat(b'"'))).bits() >> known;
        if *first_is_escaped != 0 || backslash.any().any() {
            self.any_backslash = true;
            quotes &= !escaped(backslash.bits() >> known, first_is_escaped);
        }
        self.blocks.push(quotes);
    }

    /// White space between tokens is made of control characters too, so where they stand has to be looked at.
    #[cold]
    fn strings_are_free_of_controls(&self, bytes: &[u8]) -> bool {
        let mut in_string = 0;
        bytes.chunks(BLOCK).zip(&self.blocks).all(|(block, quotes)| {
            let controls = Lanes::of(&padded(block)).map(is_control).bits();
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

/// One block, or what holds for each of its bytes.
#[derive(Clone, Copy)]
struct Lanes([u8x16; 4]);

impl Lanes {
    #[inline]
    fn of(block: &[u8; BLOCK]) -> Lanes {
        let (lanes, _) = block.as_chunks::<16>();
        Lanes([0, 1, 2, 3].map(|index| u8x16::new(lanes[index])))
    }

    #[inline]
    fn map(self, each: impl Fn(u8x16) -> u8x16) -> Lanes {
        Lanes(self.0.map(each))
    }

    /// One bit for each byte for which it holds.
    #[inline]
    fn bits(self) -> u64 {
        let [a, b, c, d] = self.0.map(|lane| u64::from(lane.to_bitmask()));
        a | b << 16 | c << 32 | d << 48
    }

    /// In which of the sixteen columns it holds for any byte.
    #[inline]
    fn any(self) -> u8x16 {
        let [a, b, c, d] = self.0;
        (a | b) | (c | d)
    }
}

#[inline]
fn is_control(lane: u8x16) -> u8x16 {
    lane.min(u8x16::splat(0x1F)).simd_eq(lane)
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
