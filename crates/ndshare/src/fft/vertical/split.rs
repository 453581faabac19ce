//! A long line in two steps that each stay in the first-level cache.
//!
//! With n = n1 * n2, element `i2 + n2 * i1` goes first through n2 transforms of length n1, then, turned by
//! `exp(-2 pi i i2 k1 / n)`, through n1 transforms of length n2, and ends as element `k1 + n1 * k2`. So the line is
//! read once and written once, and in between it passes once through a strip in the second-level cache.

use super::lanes::{Lanes, Real};
use super::radix::{Ahead, Io, Line, Parts};
use super::steps::{Steps, radices, root};
use crate::os::cpu::first_cache_bytes;
use std::fmt;
use std::ops::Range;

/// Lines of at most so many elements are done in one step.
const FLAT: usize = 32;
/// Lines that go through a step together are this part of the first-level cache: they are there three times.
const PART_OF_CACHE: usize = 3;
const MOST_LINES: usize = 16;

/// The plan of a line.
pub(super) struct Split<R> {
    pub n1: usize,
    pub n2: usize,
    /// Blocks from k1 to k1 of the strip. Odd, so that they do not all fall on the same lines of the cache.
    pitch: usize,
    /// So many blocks are a good part of the first-level cache.
    some: usize,
    first: Steps<R>,
    second: Steps<R>,
    /// For each k1 the factors of all i2.
    factors: Vec<R>,
}

impl<R: Real> Split<R> {
    pub(super) fn new(n: usize, lanes: usize) -> Self {
        let n1 = if n <= FLAT { 1 } else { best_divisor(n) };
        let n2 = n / n1;
        let factor = |place: usize| root(place / n2 * (place % n2), n);
        let factors = (0..n1 * n2).map(factor).flat_map(|(re, im)| [R::of(re), R::of(im)]).collect();
        let some = first_cache_bytes() / PART_OF_CACHE / (2 * lanes * size_of::<R>());
        Self { n1, n2, pitch: n2 | 1, some, first: Steps::new(n1), second: Steps::new(n2), factors }
    }

    /// Numbers of the strip.
    pub(super) fn strip(&self, lanes: usize) -> usize {
        2 * lanes * self.n1 * self.pitch
    }

    /// How many lines go through the first step together.
    pub(super) fn lines1(&self) -> usize {
        (self.some / self.n1).clamp(1, MOST_LINES.min(self.n2))
    }

    /// How many lines go through the second step together.
    pub(super) fn lines2(&self) -> usize {
        (self.some / self.n2).clamp(1, MOST_LINES.min(self.n1))
    }

    /// The most blocks that go through either step together.
    pub(super) fn blocks(&self) -> usize {
        (self.lines1() * self.n1).max(self.lines2() * self.n2)
    }

    /// Numbers of scratch that either step needs.
    pub(super) fn scratch(&self, lanes: usize) -> usize {
        self.first.scratch(lanes, self.lines1()).max(self.second.scratch(lanes, self.lines2()))
    }

    /// The first step for some i2: from the n1 elements of each line into the strip. `ahead` is for all blocks.
    ///
    /// # Safety
    /// `from` must be n1 readable blocks a line, `strip` and `scratch` as large as said above.
    #[inline(always)]
    pub(super) unsafe fn first<V: Lanes<Real = R>>(
        &self,
        i2: Range<usize>,
        from: Line<R>,
        strip: *mut R,
        scratch: *mut R,
        ahead: Ahead,
    ) {
        let block = 2 * V::LANES;
        debug_assert!(i2.end <= self.n2 && i2.len() <= self.lines1(), "{i2:?} of {}", self.n2);
        debug_assert!(self.n2 <= self.pitch, "the strip has a place for each block");
        // SAFETY: block i2 of each k1 is inside of the strip.
        unsafe {
            let to = Line {
                at: strip.add(i2.start * block),
                step: self.pitch * block,
                next: block,
                parts: Parts::Apart(V::LANES),
            };
            let ahead = [ahead.after(i2.start * self.n1), Ahead::NOTHING];
            self.first.run::<V>(Io { ahead, ..Io::of(from, to, i2.len()) }, scratch);
        }
    }

    /// The second step for some k1: from the strip to the n2 elements of each line. `ahead` is for all blocks.
    ///
    /// # Safety
    /// `to` must be n2 writable blocks a line, `strip` and `scratch` as large as said above.
    #[inline(always)]
    pub(super) unsafe fn second<V: Lanes<Real = R>>(
        &self,
        k1: Range<usize>,
        strip: *mut R,
        to: Line<R>,
        scratch: *mut R,
        ahead: Ahead,
    ) {
        let (block, lines) = (2 * V::LANES, k1.len());
        debug_assert!(k1.end <= self.n1 && lines <= self.lines2(), "{k1:?} of {}", self.n1);
        debug_assert!(2 * k1.end * self.n2 <= self.factors.len(), "factors for each block");
        // SAFETY: the blocks of k1 are inside of the strip, its factors inside of their table.
        unsafe {
            let at = strip.add(k1.start * self.pitch * block);
            let from = Line { at, step: block, next: self.pitch * block, parts: Parts::Apart(V::LANES) };
            let ahead = [ahead.after(k1.start * self.n2), Ahead::NOTHING];
            let mut io = Io { next_factors: 2 * self.n2, ahead, ..Io::of(from, to, lines) };
            if k1 != (0..1) {
                io.factors = self.factors.as_ptr().add(2 * k1.start * self.n2);
            }
            self.second.run::<V>(io, scratch);
        }
    }
}

impl<R: Real> fmt::Display for Split<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.n1 == 1 {
            return write!(f, "{} (radices {})", self.n2, self.second.radices());
        }
        write!(f, "{} x {} (radices {}, {})", self.n1, self.n2, self.first.radices(), self.second.radices())
    }
}

/// The n1 for which both steps together are cheapest and neither is long.
fn best_divisor(n: usize) -> usize {
    let price = |n1: usize| {
        let longest = n1.max(n / n1) as f64;
        radices(n1).0 + radices(n / n1).0 + longest / 128.0 + (longest / 128.0).powi(3)
    };
    let divisors = (1..=n).filter(|&n1| n.is_multiple_of(n1));
    divisors.min_by(|&a, &b| price(a).total_cmp(&price(b))).unwrap_or(1)
}
