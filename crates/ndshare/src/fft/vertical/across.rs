//! One row by its own vectors.
//!
//! With n = m * lanes, element `j * lanes + l` lies in lane l of vector j. So the vectors of the row are a line of length
//! m; then come one transposition of tiles, the roots, and transforms of length `lanes`.
//!
//! A row of which two copies fit into the first-level cache never leaves it. Of a longer one the last pass is *joined* to
//! the tiles: as many of its butterflies as a vector has lanes give a tile for each number below its radix, and these are
//! done at once. So the row goes once less through the second-level cache.

use super::columns::Planar;
use super::lanes::{Lanes, Real};
use super::radix::{Ahead, C, Ends, Io, Line, Parts, dft_of_lanes};
use super::steps::{Steps, root};
use crate::os::cpu::first_cache_bytes;
use std::fmt;

/// The transform of rows that are whole vectors.
pub(super) struct Across<R> {
    n: usize,
    steps: Steps<R>,
    /// Whether the last pass is done with the tiles.
    is_joined: bool,
    /// For each tile, and each lane: the root of each vector, real parts and imaginary parts.
    roots: Vec<R>,
}

/// Whether rows of a length are whole vectors, and as many as a vector has lanes.
pub(super) fn is_in_vectors(n: usize, lanes: usize) -> bool {
    n.is_multiple_of(lanes) && n / lanes >= lanes
}

impl<R: Real> Across<R> {
    /// Rows of n numbers, which [`is_in_vectors`] takes.
    pub(super) fn new(n: usize, lanes: usize) -> Self {
        Self::with_cache(n, lanes, first_cache_bytes())
    }

    /// The same with a first-level cache of so many bytes.
    fn with_cache(n: usize, lanes: usize, cache_bytes: usize) -> Self {
        let steps = Steps::new(n / lanes);
        let is_long = 4 * n * size_of::<R>() > cache_bytes;
        let (butterflies, radix) = steps.last_pass();
        let is_joined = is_long && butterflies > 0 && butterflies.is_multiple_of(lanes);
        let tiles_of = |j: usize| (0..radix).map(move |k| j + butterflies * k);
        let roots = match is_joined {
            true => roots(n, lanes, firsts(butterflies, lanes).flat_map(tiles_of)),
            false => roots(n, lanes, firsts(n / lanes, lanes)),
        };
        Self { n, steps, is_joined, roots }
    }

    /// Numbers of scratch that [`Self::run`] needs.
    pub(super) fn scratch(&self, lanes: usize) -> usize {
        let (results, steps) = (2 * (self.n + 2 * lanes), self.steps.scratch(lanes, 1));
        self.before_results(lanes) + if self.is_joined { results + steps } else { results.max(steps) }
    }

    /// The numbers of the row and of a tile, which the results stand behind.
    fn before_results(&self, lanes: usize) -> usize {
        2 * self.n + 2 * lanes * lanes
    }

    /// Where the passes have their scratch. Where all of them are done before the first result, the results go there, too.
    fn scratch_of_passes(&self, scratch: *mut R, lanes: usize) -> *mut R {
        let results = if self.is_joined { 2 * (self.n + 2 * lanes) } else { 0 };
        scratch.wrapping_add(self.before_results(lanes) + results)
    }

    /// Where the results of a row fit into the scratch, with room for a vector before and behind either part.
    pub(super) fn results(&self, scratch: *mut R, lanes: usize) -> Planar<R> {
        Planar { at: scratch.wrapping_add(self.before_results(lanes) + lanes), im: self.n + 2 * lanes, pitch: 0 }
    }

    /// Transforms one row. The results may go where it comes from: of several passes the first one has read all of it.
    ///
    /// # Safety
    /// `from` must be a row, and the scratch as large as said above; there must be room for the results.
    #[inline(always)]
    pub(super) unsafe fn run<V: Lanes<Real = R>>(&self, from: Line<R>, room: Room<'_, R>, to: &impl Results<V>) {
        let m = self.steps.len;
        debug_assert!(m >= V::LANES && m * V::LANES == self.n, "a row of {} in vectors of {}", self.n, V::LANES);
        debug_assert!(!room.scratch.is_null() && from.is_in_vectors::<V>(), "one row that goes across");
        let [first_pass, second_pass, ..] = *room.ahead;
        let ahead = [first_pass, second_pass];
        let (line, part) = match from.parts {
            Parts::Apart(part) if room.may_spoil && !self.is_joined => (from, part),
            _ => (Line::packed::<V>(room.scratch, 1), V::LANES),
        };
        let (groups, tiles) = if self.is_joined { self.steps.last_pass() } else { (m, 1) };
        // SAFETY: as the caller says. Of a joined pass a few butterflies' results are where the row would be: there are no
        // more of them than it has vectors.
        unsafe {
            let (io, scratch) = (Io { ahead, ..Io::of(from, line, 1) }, self.scratch_of_passes(room.scratch, V::LANES));
            let done = self.steps.run_but::<V>(usize::from(self.is_joined), io, scratch);
            for (group, j) in firsts(groups, V::LANES).enumerate() {
                if self.is_joined {
                    self.steps.run_some_of_last::<V>(&done, j, line.at);
                }
                for k in 0..tiles {
                    let place = if self.is_joined { k * V::LANES } else { j };
                    let at = line.at.add(place * line.step);
                    self.tile::<V>(group * tiles + k, j + groups * k, (at, line.step, part), &room, to);
                }
            }
        }
    }

    /// Transposes and transforms a tile: as many vectors as there are lanes, from a place on, so many numbers apart, and
    /// so many numbers from real to imaginary parts.
    ///
    /// # Safety
    /// As [`Self::run`]; the vectors must be there, and `number` be the tile's.
    #[inline(always)]
    unsafe fn tile<V: Lanes<Real = R>>(
        &self,
        number: usize,
        first: usize,
        (at, step, part): (*const R, usize, usize),
        room: &Room<'_, R>,
        to: &impl Results<V>,
    ) {
        let im = V::LANES * V::LANES;
        let [_, _, tiles @ ..] = room.ahead;
        tiles.iter().for_each(|ahead| ahead.after(first).ask::<V>(V::LANES));
        debug_assert!((number + 1) * 2 * im <= self.roots.len(), "tile {number}");
        // SAFETY: as the caller says; behind the row the scratch has a tile of both parts.
        unsafe {
            let tile = room.scratch.add(2 * self.n);
            V::transpose(at, step, tile, V::LANES);
            V::transpose(at.add(part), step, tile.add(im), V::LANES);
            dft_of_lanes(&Tile { tile, roots: self.roots.as_ptr().add(number * 2 * im), to, first, m: self.steps.len });
        }
    }
}

impl<R: Real> fmt::Display for Across<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (vectors, joined) = (self.steps.len, if self.is_joined { ", the last one joined" } else { "" });
        let lanes = self.n / vectors;
        write!(f, "one row at once: {vectors} x {lanes} (radices {}{joined})", self.steps.radices())
    }
}

/// What the transform of a group of rows may use.
#[derive(Clone, Copy)]
pub(super) struct Room<'a, R> {
    pub scratch: *mut R,
    /// What to ask for with each vector of a row that goes across: in the first two passes, and with the tiles.
    pub ahead: &'a [Ahead; 4],
    /// Whether the rows that are read may be written to.
    pub may_spoil: bool,
}

/// Where the results of a row that goes across are put.
pub(super) trait Results<V: Lanes> {
    /// Takes a vector of results from number k on, which are in the upper half or not.
    ///
    /// # Safety
    /// There must be room for the row.
    unsafe fn put(&self, k: usize, upper: bool, x: C<V>);
}

/// Real and imaginary parts apart.
pub(super) struct Apart<R>(pub Planar<R>);

impl<V: Lanes> Results<V> for Apart<V::Real> {
    #[inline(always)]
    unsafe fn put(&self, k: usize, _: bool, x: C<V>) {
        // SAFETY: as the caller says.
        unsafe { x.store(self.0.at.add(k), self.0.im) }
    }
}

/// As [`super::rows::Row::run_to_complex`] says.
pub(super) struct ByTurns<R> {
    pub row: *mut R,
    pub mirror: Option<*mut R>,
    pub n: usize,
    pub scale: R,
}

impl<V: Lanes> Results<V> for ByTurns<V::Real> {
    #[inline(always)]
    unsafe fn put(&self, k: usize, upper: bool, x: C<V>) {
        let plus = V::splat(self.scale);
        let (at, (first, second)) = match self.mirror {
            Some(mirror) if upper => {
                let minus = V::splat(V::Real::ZERO.minus(self.scale));
                let both = x.re.mul(plus).interleave_reversed(x.im.mul(minus));
                (mirror.wrapping_add(2 * (self.n + 1 - V::LANES - k)), both)
            }
            _ => (self.row.wrapping_add(2 * k), x.re.mul(plus).interleave(x.im.mul(plus))),
        };
        // SAFETY: as the caller says.
        unsafe {
            first.store(at);
            second.store(at.add(V::LANES));
        }
    }
}

/// A transposed tile, its roots, and where the results go.
struct Tile<'a, R, T> {
    tile: *const R,
    roots: *const R,
    to: &'a T,
    first: usize,
    m: usize,
}

impl<V: Lanes, T: Results<V>> Ends<V> for Tile<'_, V::Real, T> {
    #[inline(always)]
    unsafe fn load(&self, lane: usize) -> C<V> {
        // SAFETY: as the caller says; a tile has as many rows as lanes, and each has its roots.
        unsafe {
            let x = C::<V>::load(self.tile.add(lane * V::LANES), V::LANES * V::LANES);
            if lane == 0 { x } else { x.mul(C::load(self.roots.add(lane * 2 * V::LANES), V::LANES)) }
        }
    }

    #[inline(always)]
    unsafe fn store(&self, k: usize, x: C<V>) {
        // SAFETY: as the caller says.
        unsafe { self.to.put(self.first + self.m * k, 2 * k >= V::LANES, x) }
    }
}

/// Where groups of as many neighbours as a vector has lanes begin. The last one overlaps the one before where there are no
/// whole groups.
#[inline(always)]
fn firsts(count: usize, lanes: usize) -> impl Iterator<Item = usize> {
    (0..count).step_by(lanes).map(move |first| first.min(count - lanes))
}

/// The roots between the vectors' line and the lanes: for vector k of a tile and lane l `exp(-2 pi i l k / n)`.
fn roots<R: Real>(n: usize, lanes: usize, tiles: impl Iterator<Item = usize>) -> Vec<R> {
    let mut table = Vec::new();
    for first in tiles {
        for lane in 0..lanes {
            table.extend((first..first + lanes).map(|k| R::of(root(lane * k, n).0)));
            table.extend((first..first + lanes).map(|k| R::of(root(lane * k, n).1)));
        }
    }
    table
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::lanes::Plain;
    use super::*;
    use crate::dice::Dice;

    const LANES: usize = <Plain<f64> as Lanes>::LANES;

    fn transformed(across: &Across<f64>, row: &mut [f64]) -> Vec<f64> {
        let n = row.len() / 2;
        let (mut scratch, mut results) = (vec![0.0; across.scratch(LANES)], vec![0.0; 2 * n]);
        let room = Room { scratch: scratch.as_mut_ptr(), ahead: &[Ahead::NOTHING; 4], may_spoil: false };
        let from = Line { at: row.as_mut_ptr(), step: LANES, next: 0, parts: Parts::Apart(n) };
        let to = Apart(Planar { at: results.as_mut_ptr(), im: n, pitch: 0 });
        // SAFETY: row, results and scratch are as large as said above; every CPU has plain vectors.
        unsafe { across.run::<Plain<f64>>(from, room, &to) };
        results
    }

    #[test]
    fn a_joined_pass_does_what_a_pass_and_tiles_do() {
        let mut dice = Dice(1);
        for n in [64, 96, 240, 256, 480].map(|m| m * LANES) {
            let (joined, apart) = (Across::with_cache(n, LANES, 0), Across::with_cache(n, LANES, usize::MAX));
            assert!(joined.is_joined && !apart.is_joined, "{joined}");
            let mut row: Vec<f64> = (0..2 * n).map(|_| dice.below(1 << 20) as f64).collect();
            assert_eq!(transformed(&joined, &mut row), transformed(&apart, &mut row), "{joined}");
        }
    }
}
