//! A long line in two steps that each stay in the first-level cache.
//!
//! With n = n1 * n2, element `i2 + n2 * i1` goes first through n2 transforms of length n1, then, turned by
//! `exp(-2 pi i i2 k1 / n)`, through n1 transforms of length n2, and ends as element `k1 + n1 * k2`. So the line is
//! read once and written once, and in between it passes once through a strip in the second-level cache.

use super::lanes::{Lanes, Real};
use super::radix::Line;
use super::steps::{Steps, radices, root};

/// Lines of at most so many elements are done in one step.
const FLAT: usize = 32;

/// The plan of a line.
pub(super) struct Split<R> {
    pub n1: usize,
    pub n2: usize,
    /// Blocks from k1 to k1 of the strip. Odd, so that they do not all fall on the same lines of the cache.
    pitch: usize,
    first: Steps<R>,
    second: Steps<R>,
    /// For each k1 the factors of all i2.
    factors: Vec<R>,
}

impl<R: Real> Split<R> {
    pub(super) fn new(n: usize) -> Self {
        let n1 = if n <= FLAT { 1 } else { best_divisor(n) };
        let n2 = n / n1;
        let factor = |place: usize| root(place / n2 * (place % n2), n);
        let factors = (0..n1 * n2).map(factor).flat_map(|(re, im)| [R::of(re), R::of(im)]).collect();
        Self { n1, n2, pitch: n2 | 1, first: Steps::new(n1), second: Steps::new(n2), factors }
    }

    /// Numbers of the strip.
    pub(super) fn strip(&self, lanes: usize) -> usize {
        2 * lanes * self.n1 * self.pitch
    }

    /// Numbers of scratch that either step needs.
    pub(super) fn scratch(&self, lanes: usize) -> usize {
        self.first.scratch(lanes).max(self.second.scratch(lanes))
    }

    /// The first step for one i2: from the n1 elements of a line into the strip.
    ///
    /// # Safety
    /// `from` must be n1 readable blocks, `strip` and `scratch` as large as said above.
    #[inline(always)]
    pub(super) unsafe fn first<V: Lanes<Real = R>>(&self, i2: usize, from: Line<R>, strip: *mut R, scratch: *mut R) {
        // SAFETY: block i2 of each k1 is inside of the strip.
        unsafe {
            let to = Line { at: strip.add(i2 * 2 * V::LANES), step: self.pitch * 2 * V::LANES, im: V::LANES };
            self.first.run::<V>(from, to, scratch, std::ptr::null());
        }
    }

    /// The second step for one k1: from the strip to the n2 elements of a line.
    ///
    /// # Safety
    /// `to` must be n2 writable blocks, `strip` and `scratch` as large as said above.
    #[inline(always)]
    pub(super) unsafe fn second<V: Lanes<Real = R>>(&self, k1: usize, strip: *mut R, to: Line<R>, scratch: *mut R) {
        // SAFETY: the blocks of k1 are inside of the strip, its factors inside of their table.
        unsafe {
            let from = Line::packed::<V>(strip.add(k1 * self.pitch * 2 * V::LANES));
            let factors = if k1 == 0 { std::ptr::null() } else { self.factors.as_ptr().add(2 * k1 * self.n2) };
            self.second.run::<V>(from, to, scratch, factors);
        }
    }
}

/// The n1 for which both steps together are cheapest and neither is long.
fn best_divisor(n: usize) -> usize {
    let price = |n1: usize| {
        let longest = n1.max(n / n1) as f64;
        radices(n1).0 + radices(n / n1).0 + longest / 128.0 + (longest / 128.0).powi(3)
    };
    let divisors = (1..=n).filter(|n1| n % n1 == 0);
    divisors.min_by(|&a, &b| price(a).total_cmp(&price(b))).unwrap_or(1)
}
