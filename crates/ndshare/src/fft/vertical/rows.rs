//! The transform along the rows.
//!
//! A row whose length is a multiple of the vector goes *across*: with n = m * lanes, element `j * lanes + l` lies in
//! lane l of vector j. So the vectors of the row are a line of length m; then come the roots, one transposition of
//! tiles, and transforms of length `lanes`. The row never leaves the first-level cache. Any other length goes *along*:
//! as many rows as lanes are transposed into a strip, transformed as columns are, and transposed back.

use super::columns::Planar;
use super::lanes::{Lanes, Real};
use super::radix::{C, Line};
use super::split::Split;
use super::steps::{Steps, root};

/// How rows of one length are transformed.
pub(super) struct Row<R> {
    pub n: usize,
    /// The length with room to the next full vector.
    pub width: usize,
    kind: Kind<R>,
}

enum Kind<R> {
    Across {
        steps: Steps<R>,
        /// For each of the m vectors: the root of each lane, real parts and imaginary parts.
        roots: Vec<R>,
        last: Steps<R>,
    },
    Along(Split<R>),
}

impl<R: Real> Row<R> {
    pub(super) fn new(n: usize, lanes: usize) -> Self {
        let m = n / lanes;
        let kind = if n % lanes == 0 && m >= lanes {
            Kind::Across { steps: Steps::new(m), roots: roots(n, lanes), last: Steps::new(lanes) }
        } else {
            Kind::Along(Split::new(n))
        };
        Self { n, width: n.next_multiple_of(lanes), kind }
    }

    /// How many rows are done at once.
    pub(super) fn group(&self, lanes: usize) -> usize {
        if matches!(self.kind, Kind::Across { .. }) { 1 } else { lanes }
    }

    /// Numbers of scratch that [`Self::run`] needs.
    pub(super) fn scratch(&self, lanes: usize) -> usize {
        match &self.kind {
            Kind::Across { steps, last, .. } => {
                2 * self.n + steps.scratch(lanes) + 4 * lanes * lanes + last.scratch(lanes)
            }
            Kind::Along(split) => 4 * lanes * self.width + split.strip(lanes) + split.scratch(lanes),
        }
    }

    /// Transforms a group of rows. `to` may be `from`.
    ///
    /// # Safety
    /// Both must be a group of rows of `width` complex numbers, and scratch as large as said above.
    #[inline(always)]
    pub(super) unsafe fn run<V: Lanes<Real = R>>(&self, from: Planar<R>, to: Planar<R>, scratch: *mut R) {
        match &self.kind {
            // SAFETY: as the caller says.
            Kind::Across { steps, roots, last } => unsafe { self.across::<V>(steps, roots, last, from, to, scratch) },
            // SAFETY: as the caller says.
            Kind::Along(split) => unsafe { self.along::<V>(split, from, to, scratch) },
        }
    }

    /// # Safety
    /// As [`Self::run`].
    #[inline(always)]
    unsafe fn across<V: Lanes<Real = R>>(
        &self,
        steps: &Steps<R>,
        roots: &[R],
        last: &Steps<R>,
        from: Planar<R>,
        to: Planar<R>,
        scratch: *mut R,
    ) {
        let m = steps.len;
        // SAFETY: scratch holds the row, two tiles of both parts, and what the steps need.
        unsafe {
            let (row, tile) = (scratch, scratch.add(2 * self.n));
            let tile2 = tile.add(2 * V::LANES * V::LANES);
            let rest = tile2.add(2 * V::LANES * V::LANES);
            let source = Line { at: from.at, step: V::LANES, im: from.im };
            steps.run::<V>(source, Line::packed::<V>(row), rest, std::ptr::null());
            // The last group overlaps the one before where m is no multiple of the lanes.
            for group in 0..m.div_ceil(V::LANES) {
                let first = (group * V::LANES).min(m - V::LANES);
                for k in 0..V::LANES {
                    let place = (first + k) * 2 * V::LANES;
                    let x = C::<V>::load(row.add(place), V::LANES).mul(C::load(roots.as_ptr().add(place), V::LANES));
                    x.store(tile.add(k * V::LANES), V::LANES * V::LANES);
                }
                V::transpose(tile, V::LANES, tile2, V::LANES);
                let im = V::LANES * V::LANES;
                V::transpose(tile.add(im), V::LANES, tile2.add(im), V::LANES);
                let lines = Line { at: tile2, step: V::LANES, im };
                last.run::<V>(lines, Line { at: to.at.add(first), step: m, im: to.im }, rest, std::ptr::null());
            }
        }
    }

    /// # Safety
    /// As [`Self::run`].
    #[inline(always)]
    unsafe fn along<V: Lanes<Real = R>>(&self, split: &Split<R>, from: Planar<R>, to: Planar<R>, scratch: *mut R) {
        let block = 2 * V::LANES;
        // SAFETY: scratch holds two strips of `width` blocks, the strip of the split, and what its steps need. Blocks
        // beyond n are never read, columns beyond n are there in both rows.
        unsafe {
            let (strip, middle) = (scratch, scratch.add(block * self.width));
            let (done, rest) =
                (middle.add(split.strip(V::LANES)), middle.add(split.strip(V::LANES) + block * self.width));
            for column in (0..self.width).step_by(V::LANES) {
                let tile = strip.add(column * block);
                V::transpose(from.at.add(column), from.pitch, tile, block);
                V::transpose(from.at.add(column + from.im), from.pitch, tile.add(V::LANES), block);
            }
            let Split { n1, n2, .. } = *split;
            let middle = if n1 == 1 { strip } else { middle };
            for i2 in (0..n2).filter(|_| n1 > 1) {
                let line = Line { at: strip.add(i2 * block), step: n2 * block, im: V::LANES };
                split.first::<V>(i2, line, middle, rest);
            }
            for k1 in 0..n1 {
                let line = Line { at: done.add(k1 * block), step: n1 * block, im: V::LANES };
                split.second::<V>(k1, middle, line, rest);
            }
            for column in (0..self.width).step_by(V::LANES) {
                let tile = done.add(column * block);
                V::transpose(tile, block, to.at.add(column), to.pitch);
                V::transpose(tile.add(V::LANES), block, to.at.add(column + to.im), to.pitch);
            }
        }
    }
}

/// The roots between the vectors' line and the lanes: for each vector k, `exp(-2 pi i l k / n)` of each lane l.
fn roots<R: Real>(n: usize, lanes: usize) -> Vec<R> {
    let mut table = Vec::with_capacity(2 * n);
    for k in 0..n / lanes {
        table.extend((0..lanes).map(|lane| R::of(root(lane * k, n).0)));
        table.extend((0..lanes).map(|lane| R::of(root(lane * k, n).1)));
    }
    table
}
