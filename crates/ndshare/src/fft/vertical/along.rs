//! Rows that go along: as many as a vector has lanes are transposed into a strip, and transformed as columns are.
//!
//! Block k of the strip is number k of all these rows. The rows are read and transposed a few columns at a time, so that
//! only the strip goes through the second-level cache. Where each row is two real ones, their spectra come apart before
//! they are transposed back: what is opposite to block k is block n - k, and no lane has to move for that.

use super::columns::Planar;
use super::lanes::{Lanes, Real, Work};
use super::radix::{Ahead, C, Line, Parts};
use super::split::Split;
use std::fmt;
use std::ops::Range;

/// A multiple of every vector, for which the pieces of the rows of a group stay in the first-level cache.
pub(super) const CHUNK: usize = 128;

/// The plan of rows that go along.
pub(super) struct Along<R> {
    split: Split<R>,
    n: usize,
    /// The length with room to the next full vector.
    width: usize,
}

impl<R: Real> Along<R> {
    pub(super) fn new(n: usize, lanes: usize) -> Self {
        Self { split: Split::new(n, lanes), n, width: n.next_multiple_of(lanes) }
    }

    /// Numbers of scratch for a group of rows.
    pub(super) fn scratch(&self, lanes: usize) -> usize {
        4 * lanes * self.width + self.split.strip(lanes) + self.split.scratch(lanes).max(TILES * lanes * lanes)
    }

    /// Transposes some columns of a group of rows into the strip at the beginning of the scratch. Columns beyond n up to
    /// the width are there, too.
    ///
    /// # Safety
    /// The columns of all rows must be readable, and the scratch as large as said above; so for all functions here. The
    /// columns begin and end with a vector.
    #[inline(always)]
    pub(super) unsafe fn read<V: Lanes<Real = R>>(&self, from: Planar<R>, columns: Range<usize>, scratch: *mut R) {
        let block = 2 * V::LANES;
        debug_assert!(columns.end <= self.width && columns.start.is_multiple_of(V::LANES), "{columns:?} of a strip");
        for (place, column) in columns.enumerate().step_by(V::LANES) {
            // SAFETY: as the caller says; the strip has a block for each column up to the width.
            unsafe {
                let (at, tile) = (from.at.add(place), scratch.add(column * block));
                V::transpose(at, from.pitch, tile, block);
                V::transpose(at.add(from.im), from.pitch, tile.add(V::LANES), block);
            }
        }
    }

    /// Transforms the strip, and says where the transform is. Meanwhile it asks for something with each block of the first
    /// step; what is written by the second one is in the cache.
    ///
    /// # Safety
    /// As [`Self::read`], when all columns have been read.
    #[inline(always)]
    pub(super) unsafe fn transform<V: Lanes<Real = R>>(&self, scratch: *mut R, ahead: Ahead) -> *mut R {
        let done = self.done(scratch, V::LANES);
        let to = Line { at: done, step: 2 * V::LANES, next: 0, parts: Parts::Apart(V::LANES) };
        // SAFETY: as the caller says; there is room for a strip.
        unsafe { self.transform_to::<V>(scratch, [ahead, Ahead::NOTHING], to) };
        done
    }

    /// Where a strip that is done is.
    fn done(&self, scratch: *mut R, lanes: usize) -> *mut R {
        scratch.wrapping_add(2 * lanes * self.width + self.split.strip(lanes))
    }

    /// Transforms the strip to the blocks of a line, and asks for something with each block, in the first step and in the
    /// second.
    ///
    /// # Safety
    /// As [`Self::transform`]; and the n blocks must be writable.
    #[inline(always)]
    pub(super) unsafe fn transform_to<V: Lanes<Real = R>>(&self, scratch: *mut R, ahead: [Ahead; 2], to: Line<R>) {
        let (Split { n1, n2, .. }, block) = (&self.split, 2 * V::LANES);
        let (n1, n2) = (*n1, *n2);
        debug_assert!(n1 * n2 == self.n && self.width.is_multiple_of(V::LANES), "a split of the row");
        // SAFETY: scratch holds two strips of `width` blocks, the strip of the split, and what its steps need.
        unsafe {
            let (strip, middle) = (scratch, scratch.add(block * self.width));
            let rest = self.done(scratch, V::LANES).add(block * self.width);
            let middle = if n1 == 1 { strip } else { middle };
            for i2 in (0..n2).step_by(self.split.lines1()).filter(|_| n1 > 1) {
                let line = line::<V>(strip.add(i2 * block), n2 * block);
                self.split.first::<V>(i2..(i2 + self.split.lines1()).min(n2), line, middle, rest, ahead[0]);
            }
            for k1 in (0..n1).step_by(self.split.lines2()) {
                let line = Line { at: to.at.add(k1 * to.step), step: n1 * to.step, next: to.step, ..to };
                self.split.second::<V>(k1..(k1 + self.split.lines2()).min(n1), middle, line, rest, ahead[1]);
            }
        }
    }

    /// Transposes a strip that is done back to rows, which have room up to the width.
    ///
    /// # Safety
    /// As [`Self::read`], with rows that are writable.
    #[inline(always)]
    pub(super) unsafe fn write<V: Lanes<Real = R>>(&self, done: *const R, to: Planar<R>) {
        let block = 2 * V::LANES;
        debug_assert!(!done.is_null() && to.im >= self.width, "the parts of a row are apart");
        for column in (0..self.width).step_by(V::LANES) {
            // SAFETY: as the caller says. Blocks beyond n are never read again, columns beyond n are there in both rows.
            unsafe {
                let tile = done.add(column * block);
                V::transpose(tile, block, to.at.add(column), to.pitch);
                V::transpose(tile.add(V::LANES), block, to.at.add(column + to.im), to.pitch);
            }
        }
    }

    /// Where the tiles of [`Apart`] may be: where the steps had their scratch.
    pub(super) fn tiles(&self, done: *mut R, lanes: usize) -> *mut R {
        done.wrapping_add(2 * lanes * self.width)
    }
}

impl<R: Real> fmt::Display for Along<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "as many rows at once as a vector has lanes: {}", self.split)
    }
}

/// Neighbouring lines of a strip.
#[inline(always)]
fn line<V: Lanes>(at: *mut V::Real, step: usize) -> Line<V::Real> {
    Line { at, step, next: 2 * V::LANES, parts: Parts::Apart(V::LANES) }
}

/// Two tiles for each of two spectra, and one more.
const TILES: usize = 5;

/// Takes the transforms of pairs of real rows apart, as far as the middle, and writes their spectra, times a factor. The
/// last vector overlaps the one before.
pub(super) struct Apart<V: Lanes> {
    /// A strip of n blocks that is done.
    pub done: *const V::Real,
    pub n: usize,
    /// Five tiles.
    pub tiles: *mut V::Real,
    /// For the first rows of the pairs, and for the second ones: where they go, and how many there are.
    pub to: [(Line<V::Real>, usize); 2],
    pub scale: V::Real,
}

impl<V: Lanes> Apart<V> {
    /// Whether this can be done for rows of n numbers.
    pub(super) fn is_possible(n: usize) -> bool {
        n / 2 + 1 >= V::LANES
    }

    /// Writes two tiles to the rows of one half, from number k on.
    ///
    /// # Safety
    /// As [`Work::run`].
    #[inline(always)]
    unsafe fn put(&self, tiles: *const V::Real, (to, rows): &(Line<V::Real>, usize), k: usize) {
        let size = V::LANES * V::LANES;
        for (tile, at) in places::<V>(to, k).into_iter().enumerate() {
            // SAFETY: the caller's; a tile has a vector for each row.
            unsafe {
                let tile = tiles.add(tile * size);
                if *rows == V::LANES {
                    V::transpose(tile, V::LANES, at, to.step);
                } else {
                    let spare = self.tiles.add((TILES - 1) * size);
                    V::transpose(tile, V::LANES, spare, V::LANES);
                    (0..*rows).for_each(|row| V::load(spare.add(row * V::LANES)).store(at.add(row * to.step)));
                }
            }
        }
    }
}

/// Where the two vectors of a row's numbers from k on are.
#[inline(always)]
fn places<V: Lanes>(row: &Line<V::Real>, k: usize) -> [*mut V::Real; 2] {
    match row.parts {
        Parts::Apart(im) => [row.at.wrapping_add(k), row.at.wrapping_add(k + im)],
        _ => [row.at.wrapping_add(2 * k), row.at.wrapping_add(2 * k + V::LANES)],
    }
}

impl<V: Lanes> Work<V> for Apart<V> {
    type Out = ();
    #[inline(always)]
    unsafe fn run(self) {
        let (kept, block, size) = (self.n / 2 + 1, 2 * V::LANES, V::LANES * V::LANES);
        let factor = V::splat(self.scale);
        debug_assert!(Self::is_possible(self.n) && self.to.iter().all(|half| half.1 <= V::LANES), "a vector at least");
        // The two vectors of a row's numbers are two tiles: real parts and imaginary ones, or both by turns.
        let (from_number, from_part) = match self.to[0].0.parts {
            Parts::Apart(_) => (V::LANES, size),
            _ => (2 * V::LANES, V::LANES),
        };
        for k in (0..kept).step_by(V::LANES) {
            let k = k.min(kept - V::LANES);
            for number in 0..V::LANES {
                // SAFETY: the strip has n blocks, and the tiles a vector for each part of each number.
                unsafe {
                    let at = |k: usize| C::<V>::load(self.done.add(k * block), V::LANES);
                    let opposite = if k + number == 0 { 0 } else { self.n - k - number };
                    let (a, b) = at(k + number).untangled(at(opposite));
                    a.scale(factor).store(self.tiles.add(number * from_number), from_part);
                    b.scale(factor).store(self.tiles.add(2 * size + number * from_number), from_part);
                }
            }
            // SAFETY: the caller's: the rows have room for `kept` numbers, and k is a vector before their end at most.
            unsafe {
                self.put(self.tiles, &self.to[0], k);
                self.put(self.tiles.add(2 * size), &self.to[1], k);
            }
        }
    }
}
