//! How a length becomes passes, and the numbers that these need.

use super::lanes::{Lanes, Real};
use super::radix::{Ahead, Io, Line, Pass, RADICES, has_angles, pass};
use std::f64::consts::PI;

/// What one element costs in a pass of a radix, relative to the others: its arithmetic, and one load and store. An
/// estimate that prefers few passes.
fn cost(radix: usize) -> f64 {
    match radix {
        2 => 4.0,
        3 => 4.4,
        4 => 4.4,
        5 => 5.2,
        6 => 5.0,
        7 => 7.0,
        8 => 5.2,
        9 => 6.0,
        10 => 6.2,
        12 => 6.6,
        11 => 10.0,
        13 => 12.0,
        16 => 8.0,
        _ => 15.0,
    }
}

/// Whether a length has only factors that there are passes for.
pub(super) fn is_smooth(mut n: usize) -> bool {
    for factor in [2, 3, 5, 7, 11, 13, 17] {
        while n > 0 && n.is_multiple_of(factor) {
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
        for &radix in RADICES.iter().rev().filter(|&&radix| radix <= most && n.is_multiple_of(radix)) {
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

impl<R> Io<R> {
    /// Lines from and to, without factors.
    #[inline(always)]
    pub(super) fn of(from: Line<R>, to: Line<R>, lines: usize) -> Self {
        let (twiddles, factors) = (std::ptr::null(), std::ptr::null());
        Self { from, to, lines, twiddles, factors, next_factors: 0, ahead: [Ahead::NOTHING; 2] }
    }
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

    /// The radices of the passes, in order.
    pub(super) fn radices(&self) -> String {
        self.passes.iter().map(|pass| pass.radix.to_string()).collect::<Vec<_>>().join(" ")
    }

    /// Numbers of scratch that [`Self::run`] needs for so many lines.
    pub(super) fn scratch(&self, lanes: usize, lines: usize) -> usize {
        match self.passes.len() {
            0 | 1 => 0,
            2 => 2 * lanes * self.len * lines,
            _ => 4 * lanes * self.len * lines,
        }
    }

    /// Transforms lines. `to` may be `from`: a single pass reads all of a line before it writes any of it, and of several
    /// the first one writes to the scratch.
    ///
    /// # Safety
    /// All lines must have `len` blocks, scratch as many numbers as [`Self::scratch`] says and no byte of the lines;
    /// factors, if not null, two numbers for each block.
    #[inline(never)]
    pub(super) unsafe fn run<V: Lanes<Real = R>>(&self, io: Io<R>, scratch: *mut R) {
        debug_assert!(io.lines > 0 && !io.from.at.is_null() && !io.to.at.is_null(), "there are lines");
        debug_assert!(self.passes.len() < 2 || !scratch.is_null(), "two passes or more need scratch");
        // SAFETY: two halves of scratch take turns; each pass reads what the one before has written.
        unsafe {
            if self.passes.is_empty() {
                return copy_blocks::<V>(io);
            }
            let half = 2 * V::LANES * self.len * io.lines;
            let halves = [scratch, scratch.wrapping_add(half)].map(|at| Line::packed::<V>(at, io.lines));
            let mut this = io;
            for (number, step) in self.passes.iter().enumerate() {
                this.to = if number + 1 == self.passes.len() { io.to } else { halves[number % 2] };
                this.twiddles = self.twiddles.as_ptr().add(step.twiddles);
                pass::<V>(step, &this);
                (this.from, this.factors, this.ahead) = (this.to, std::ptr::null(), [this.ahead[1], Ahead::NOTHING]);
            }
        }
    }
}

/// Lines of one element are their own transforms.
///
/// # Safety
/// One block must be readable and writable on each line.
unsafe fn copy_blocks<V: Lanes>(io: Io<V::Real>) {
    debug_assert!([io.from, io.to].iter().all(Line::is_in_vectors::<V>), "the parts of a block are vectors");
    for line in 0..io.lines {
        let (from, to) = (io.from.at.wrapping_add(line * io.from.next), io.to.at.wrapping_add(line * io.to.next));
        // SAFETY: a block of each.
        unsafe { io.to.store::<V>(to, io.from.load::<V>(from)) };
    }
}
