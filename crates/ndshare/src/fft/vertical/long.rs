//! One long line, as a plane of n1 rows and n2 columns.
//!
//! Element `i2 + n2 * i1` of the line is in row i1 and column i2. The columns are transformed as those of planes are, a
//! strip of one vector's width at a time. Of the rows that this gives as many as a vector has lanes are transposed, turned
//! by `exp(-2 pi i k1 i2 / n)`, and transformed; element k2 of row k1 is element `k1 + n1 * k2` of the result, so
//! neighbouring rows give neighbours. So the line is read once and written once, in vectors, and passes once through
//! memory in between, and every transform is one that stays in the second-level cache.

use super::across::is_in_vectors;
use super::along::{self, Along};
use super::columns::Planar;
use super::lanes::{Lanes, Real, Work};
use super::problem::{Plane, Problem, Transform};
use super::radix::{Ahead, C, Line, Parts};
use super::runs::{Rows, Write};
use super::scratch::Scratch;
use super::steps::{radices, root};
use crate::element::Number;
use crate::error::Result;
use crate::kernel::LINE;
use std::fmt;

/// Lines of fewer bytes are transformed whole where that can be done by vectors.
const WHOLE_BYTES: usize = 1 << 19;
/// No shorter line is done in this way. From here on a length without a factor beyond 17 has divisors for any vector: the
/// product of its least factors that reaches 16 is below 16 * 17.
const LEAST: usize = 16 * 16 * 17;

/// The rows and columns of a line, and what stands between their transforms.
pub(super) struct Long<R> {
    pub n1: usize,
    pub n2: usize,
    rows: Along<R>,
    /// For each column the roots of the first rows, as many as a vector has lanes: real parts, then imaginary ones.
    of_lanes: Vec<R>,
    /// For each group of so many rows, and each column, the root of the group's first row.
    of_groups: Vec<R>,
}

/// A line in memory of its own.
pub(super) struct Padded {
    pub line: Plane,
    _memory: Scratch,
}

/// Whether a problem is one line that is transformed as a plane. A line that has vectors in itself is better transformed
/// whole, as long as it stays in a part of the second-level cache; a shorter one is not worth the way. Each call asks this.
pub(super) fn is_long(problem: &Problem, lanes: usize) -> bool {
    let is_complex = matches!(problem.transform, Transform::Forward | Transform::Inverse);
    let item = if problem.double { 16 } else { 8 };
    let least = if is_in_vectors(problem.cols, lanes) { WHOLE_BYTES / item } else { LEAST };
    is_complex && !problem.both_axes && problem.rows == 1 && problem.cols >= least
}

impl<R: Real> Long<R> {
    /// For a problem that is one long line of complex numbers.
    pub(super) fn of(problem: &Problem, lanes: usize) -> Option<Self> {
        if !is_long(problem, lanes) {
            return None;
        }
        let n = problem.cols;
        let n1 = best_rows(n, lanes)?;
        let n2 = n / n1;
        let numbers = |(re, im): (f64, f64)| [R::of(re), R::of(im)];
        let column = |i2: usize| {
            let roots = move || (0..lanes).map(move |lane| root(lane * i2, n));
            roots().map(|root| R::of(root.0)).chain(roots().map(|root| R::of(root.1))).collect::<Vec<_>>()
        };
        let group = |first: usize| (0..n2).flat_map(move |i2| numbers(root(first * i2, n)));
        let of_lanes = (0..n2).flat_map(column).collect();
        let of_groups = (0..n1).step_by(lanes).flat_map(group).collect();
        Some(Self { n1, n2, rows: Along::new(n2, lanes), of_lanes, of_groups })
    }

    /// A line that is shorter than the transform, with zeros behind it; none where it is long enough.
    ///
    /// # Errors
    /// As [`Scratch::of`].
    pub(super) fn padded(&self, line: &Plane, number: Number) -> Result<Option<Padded>> {
        let (whole, item) = (self.n1 * self.n2, number.size());
        let there = if line.rows == 0 { 0 } else { line.cols };
        if there >= whole {
            return Ok(None);
        }
        let memory = Scratch::of(whole * item)?;
        let at = |place: usize| memory.at().wrapping_add(place * item);
        // SAFETY: the memory is as long as the whole line, and all elements of the line are readable.
        unsafe {
            (0..there).for_each(|place| line.at(0, place).copy_to_nonoverlapping(at(place), item));
            at(there).write_bytes(0, (whole - there) * item);
        }
        let line = Plane { data: memory.at(), rows: 1, cols: whole, row_stride: 0, col_stride: item as isize };
        Ok(Some(Padded { line, _memory: memory }))
    }

    /// A line as such a plane.
    pub(super) fn read_from(&self, line: &Plane) -> Plane {
        self.plane(line, self.n1, self.n2)
    }

    /// The plane in which the result of a row is a column.
    pub(super) fn written_to(&self, line: &Plane) -> Plane {
        self.plane(line, self.n2, self.n1)
    }

    fn plane(&self, line: &Plane, rows: usize, cols: usize) -> Plane {
        Plane { rows, cols, row_stride: line.col_stride * cols as isize, ..*line }
    }

    /// Numbers of scratch for a group of rows.
    pub(super) fn scratch(&self, lanes: usize) -> usize {
        self.rows.scratch(lanes)
    }

    /// Turns blocks of a strip, from column `first` on, and multiplies them by a factor.
    ///
    /// # Safety
    /// The strip must have so many blocks; `group` must be one of the line.
    #[inline(always)]
    unsafe fn turn<V: Lanes<Real = R>>(&self, group: usize, first: usize, count: usize, strip: *mut R, scale: R) {
        let block = 2 * V::LANES;
        debug_assert!(first + count <= self.n2 && (group * self.n2 + first + count) * 2 <= self.of_groups.len());
        // SAFETY: the tables have a root for each column of each group, and a block of them for each column.
        unsafe {
            let groups = self.of_groups.as_ptr().add(2 * group * self.n2);
            for i2 in first..first + count {
                let root = C {
                    re: V::splat((*groups.add(2 * i2)).times(scale)),
                    im: V::splat((*groups.add(2 * i2 + 1)).times(scale)),
                };
                let root = root.mul(C::load(self.of_lanes.as_ptr().add(i2 * block), V::LANES));
                let at = strip.add(i2 * block);
                C::load(at, V::LANES).mul(root).store(at, V::LANES);
            }
        }
    }
}

impl<R: Real> fmt::Display for Long<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows.fmt(f)
    }
}

/// The transform of a group of rows.
pub(super) struct Second<'a, V: Lanes> {
    pub long: &'a Long<V::Real>,
    pub from: Planar<V::Real>,
    /// Where the results of the rows are columns, exchanged or not.
    pub into: &'a Plane,
    pub exchanged: bool,
    /// The first row, and one past the last one of the piece.
    pub first: usize,
    pub end: usize,
    pub scale: V::Real,
    pub scratch: *mut V::Real,
}

impl<V: Lanes> Work<V> for Second<'_, V> {
    type Out = ();
    #[inline(always)]
    unsafe fn run(self) {
        let Long { n2, ref rows, .. } = *self.long;
        let from = Planar { at: self.from.row(self.first), ..self.from };
        debug_assert!(self.first.is_multiple_of(V::LANES) && self.first < self.end, "whole groups");
        // SAFETY: the caller's; rows between phases have room to the next vector, and there are whole groups of them.
        unsafe {
            for column in (0..n2).step_by(along::CHUNK) {
                let (end, width) = ((column + along::CHUNK).min(n2), n2.next_multiple_of(V::LANES));
                let piece = Planar { at: from.at.add(column), ..from };
                rows.read::<V>(piece, column..end.next_multiple_of(V::LANES).min(width), self.scratch);
                let group = self.first / V::LANES;
                self.long.turn::<V>(group, column, end - column, self.scratch, self.scale);
            }
            if let Some(to) = self.target() {
                rows.transform_to::<V>(self.scratch, self.ahead(), to);
            } else {
                self.write(rows.transform::<V>(self.scratch, self.ahead()[0]));
            }
        }
    }
}

impl<V: Lanes> Second<'_, V> {
    /// The place of each block where all of them can be written as they are to be.
    #[inline(always)]
    fn target(&self) -> Option<Line<V::Real>> {
        let size = size_of::<V::Real>();
        let step = usize::try_from(self.into.row_stride).ok().filter(|stride| stride.is_multiple_of(size))? / size;
        let is_whole = self.first + V::LANES <= self.long.n1;
        let is_packed = self.into.col_stride == 2 * size as isize && self.into.data.addr().is_multiple_of(size);
        let at = self.into.at(0, self.first).cast();
        (is_whole && is_packed).then_some(Line { at, step, next: 0, parts: Parts::of_turns(self.exchanged) })
    }

    /// What is asked for: where the results go, and then the next rows.
    #[inline(always)]
    fn ahead(&self) -> [Ahead; 2] {
        let to = self.into.at(0, self.first).wrapping_add(LINE - 1);
        let to = Ahead { at: to, step: self.into.row_stride, gap: -(LINE as isize) };
        let next = self.first + V::LANES;
        if next >= self.end {
            return [to, Ahead::NOTHING];
        }
        let bytes = V::LANES * self.from.pitch * size_of::<V::Real>();
        let step = (bytes / self.long.n2) as isize;
        [to, Ahead { at: self.from.row(next).cast(), step, gap: step / 2 }]
    }

    /// Writes a strip that is done.
    ///
    /// # Safety
    /// As [`Work::run`].
    unsafe fn write(&self, done: *const V::Real) {
        let count = V::LANES.min(self.long.n1 - self.first);
        let to = Rows { plane: self.into, row: 0, step: 1, rows: self.long.n2, column: self.first, count };
        let other = done.wrapping_add(V::LANES);
        let (re, im) = if self.exchanged { (other, done) } else { (done, other) };
        // SAFETY: the caller's; the factor has come with the roots.
        unsafe { V::shell(Write::<V> { to, re, im: Some(im), from_step: 2 * V::LANES, scale: V::Real::of(1.0) }) }
    }
}

/// The number of rows with which the transforms of both kinds are cheapest, no strip is long, and few lanes are idle. It is
/// looked for where there always is one: 17 times around the square root.
fn best_rows(n: usize, lanes: usize) -> Option<usize> {
    let padded = |n: usize| n.next_multiple_of(lanes) as f64 / n as f64;
    let price = |n1: usize| {
        let (n2, longest) = (n / n1, n1.max(n / n1) as f64);
        radices(n1).0 * padded(n2) + (radices(n2).0 + 4.0) * padded(n1) + (longest / 1024.0).powi(2)
    };
    let range = lanes.max(n.isqrt() / 17)..=(n / lanes).min(17 * n.isqrt());
    let divisors = range.filter(|&n1| n.is_multiple_of(n1));
    divisors.min_by(|&a, &b| price(a).total_cmp(&price(b)))
}
