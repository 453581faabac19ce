//! How a length becomes passes, and the numbers that these need.

use super::lanes::{Lanes, Real};
use super::radix::{Io, Line, Pass, RADICES, has_angles, pass};
use std::f64::consts::PI;

/// What one element costs in a pass of a radix, relative to the others; found by measuring.
fn cost(radix: usize) -> f64 {
    match radix {
        2 => 4.0,
        3 => 4.4,
        4 => 4.4,
        5 => 5.2,
        6 => 5.0,
        7 => 7.0,
        8 => 5.2,
        11 => 10.0,
        13 => 12.0,
        16 => 8.0,
        _ => 15.0,
    }
}

/// Whether a length has only factors that there are passes for.
pub(super) fn is_smooth(mut n: usize) -> bool {
    for factor in [2, 3, 5, 7, 11, 13, 17] {
        while n > 0 && n % factor == 0 {
            n /= factor;
        }
    }
    n == 1
}

/// The cheapest radices for a length, and what an element costs with them.
pub(super) fn radices(n: usize) -> (f64, Vec<usize>) {
    fn best(n: usize, most: usize) -> (f64, Vec<usize>) {
        if n == 1 {
            return (0.0, Vec::new());
        }
        let mut found = (f64::INFINITY, Vec::new());
        // In falling order, so that no set of radices is looked at twice.
        for &radix in RADICES.iter().rev().filter(|&&radix| radix <= most && n % radix == 0) {
            let (rest, mut radices) = best(n / radix, radix);
            if rest + cost(radix) < found.0 {
                radices.insert(0, radix);
                found = (rest + cost(radix), radices);
            }
        }
        found
    }
    best(n, usize::MAX)
}

/// `exp(-2 pi i k / n)`, exact but for one rounding in the last place: the angle is brought into the first octant.
pub(super) fn root(k: usize, n: usize) -> (f64, f64) {
    let k = k % n;
    // In eighths of a turn, and what is left beyond.
    let (octant, rest) = (8 * k / n, 8 * k % n);
    let angle = |eighths: usize| eighths as f64 * (PI / 4.0) / n as f64;
    let (cos, sin) = match octant % 2 {
        0 => (angle(rest).cos(), angle(rest).sin()),
        _ => (angle(n - rest).sin(), angle(n - rest).cos()),
    };
    let (cos, sin) = match octant / 2 {
        0 => (cos, sin),
        1 => (-sin, cos),
        2 => (-cos, -sin),
        _ => (sin, -cos),
    };
    (cos, -sin)
}

/// The passes for lines of one length.
pub(super) struct Steps<R> {
    pub len: usize,
    passes: Vec<Pass>,
    twiddles: Vec<R>,
}

impl<R: Real> Steps<R> {
    pub(super) fn new(len: usize) -> Self {
        let (mut passes, mut twiddles, mut s) = (Vec::new(), Vec::new(), 1);
        for radix in radices(len).1 {
            passes.push(Pass { radix, s, m: len / (s * radix), twiddles: twiddles.len() });
            let mut push = |(re, im): (f64, f64)| twiddles.extend([R::of(re), R::of(im)]);
            if has_angles(radix) {
                (0..radix).map(|k| root(k, radix)).for_each(|(cos, sin)| push((cos, -sin)));
            }
            for j in 1..s {
                (1..radix).for_each(|r| push(root(j * r, s * radix)));
            }
            s *= radix;
        }
        Self { len, passes, twiddles }
    }

    /// Numbers of scratch that [`Self::run`] needs.
    pub(super) fn scratch(&self, lanes: usize) -> usize {
        match self.passes.len() {
            0 | 1 => 0,
            2 => 2 * lanes * self.len,
            _ => 4 * lanes * self.len,
        }
    }

    /// Transforms a line. `to` may be `from` where there are two passes or more, or none or one with all elements.
    ///
    /// # Safety
    /// Both lines must have `len` blocks, scratch as many numbers as [`Self::scratch`] says and no byte of the lines;
    /// factors, if not null, two numbers for each block.
    #[inline(never)]
    pub(super) unsafe fn run<V: Lanes<Real = R>>(
        &self,
        from: Line<R>,
        to: Line<R>,
        scratch: *mut R,
        factors: *const R,
    ) {
        // SAFETY: two halves of scratch take turns; each pass reads what the one before has written.
        unsafe {
            if self.passes.is_empty() {
                return copy_block::<V>(from, to);
            }
            let halves = [scratch, scratch.wrapping_add(2 * V::LANES * self.len)].map(Line::packed::<V>);
            let (mut from, mut factors) = (from, factors);
            for (number, step) in self.passes.iter().enumerate() {
                let last = number + 1 == self.passes.len();
                let target = if last { to } else { halves[number % 2] };
                let twiddles = self.twiddles.as_ptr().add(step.twiddles);
                pass::<V>(step, &Io { from, to: target, twiddles, factors });
                (from, factors) = (target, std::ptr::null());
            }
        }
    }
}

/// A line of one element is its own transform.
///
/// # Safety
/// One block must be readable and writable on each line.
unsafe fn copy_block<V: Lanes>(from: Line<V::Real>, to: Line<V::Real>) {
    for lane in 0..V::LANES {
        // SAFETY: inside of the blocks.
        unsafe {
            *to.at.add(lane) = *from.at.add(lane);
            *to.at.add(to.im + lane) = *from.at.add(from.im + lane);
        }
    }
}
