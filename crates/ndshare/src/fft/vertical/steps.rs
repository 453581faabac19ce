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
        15 => 8.0,
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
        Self { from, to, lines, twiddles, factors, next_factors: 0, first_j: 0, ahead: [Ahead::NOTHING; 2] }
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
    pub(super) unsafe fn run<V: Lanes<Real = R>>(&self, io: Io<R>, scratch: *mut R) {
        debug_assert!(io.lines > 0 && !io.from.at.is_null() && !io.to.at.is_null(), "there are lines");
        // SAFETY: the caller's.
        unsafe { self.run_but::<V>(0, io, scratch) };
    }

    /// Does all passes but the last ones, so many, and says what the next one reads. Only the last of all writes to `to`.
    ///
    /// # Safety
    /// As [`Self::run`].
    #[inline(never)]
    pub(super) unsafe fn run_but<V: Lanes<Real = R>>(&self, left: usize, io: Io<R>, scratch: *mut R) -> Io<R> {
        debug_assert!(self.passes.len() < 2 || !scratch.is_null(), "two passes or more need scratch");
        let half = 2 * V::LANES * self.len * io.lines;
        let halves = [scratch, scratch.wrapping_add(half)].map(|at| Line::packed::<V>(at, io.lines));
        let mut this = io;
        // SAFETY: two halves of scratch take turns; each pass reads what the one before has written.
        unsafe {
            if self.passes.is_empty() {
                copy_blocks::<V>(io);
            }
            for (number, step) in self.passes.iter().enumerate().take(self.passes.len() - left) {
                this.to = if number + 1 == self.passes.len() { io.to } else { halves[number % 2] };
                this.twiddles = self.twiddles.as_ptr().add(step.twiddles);
                pass::<V>(step, &this);
                (this.from, this.factors, this.ahead) = (this.to, std::ptr::null(), [this.ahead[1], Ahead::NOTHING]);
            }
        }
        this
    }

    /// How many butterflies the last pass has, and its radix: result k of butterfly j is number `j + butterflies * k`.
    pub(super) fn last_pass(&self) -> (usize, usize) {
        self.passes.last().map_or((0, 0), |pass| (pass.s, pass.radix))
    }

    /// Does as many butterflies of the last pass as a vector has lanes, of one line, from j on. Result k of butterfly j + i
    /// is block `k * lanes + i` at `to`.
    ///
    /// # Safety
    /// `io` must be what [`Self::run_but`] one pass has returned, and `to` have room for the blocks.
    #[inline(always)]
    pub(super) unsafe fn run_some_of_last<V: Lanes<Real = R>>(&self, io: &Io<R>, j: usize, to: *mut R) {
        let Some(&last) = self.passes.last() else { return };
        debug_assert!(io.lines == 1 && last.m == 1 && j + V::LANES <= last.s, "butterflies from {j} on");
        let from = Line { at: io.from.at.wrapping_add(j * last.radix * io.from.step), ..io.from };
        let (to, ahead) = (Line::packed::<V>(to, 1), [io.ahead[0].after(j * last.radix), Ahead::NOTHING]);
        let twiddles = self.twiddles.as_ptr().wrapping_add(last.twiddles);
        // SAFETY: the caller's.
        unsafe { pass::<V>(&Pass { s: V::LANES, ..last }, &Io { from, to, ahead, twiddles, first_j: j, ..*io }) }
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
