//! The transform along the columns: a vector holds neighbouring columns.
//!
//! Two real columns are the real and the imaginary part of a complex one, and come apart after the transform, because
//! the spectrum of a real column is its own mirror image. So only the rows up to the middle are kept.
//!
//! A strip is read as a whole before any of it is written, so its transform may go where it came from.

use super::lanes::{Lanes, MOST_LANES, Real, Work};
use super::problem::Plane;
use super::radix::{Ahead, C, Line, Parts};
use super::runs::{Read, Rows, Write};
use super::split::Split;
use crate::element::Number;
use crate::kernel::LINE;
use std::ops::Range;

/// Complex rows between the two passes: real and imaginary parts apart, in rows with room to the next full vector.
#[derive(Clone, Copy)]
pub(super) struct Planar<R> {
    pub at: *mut R,
    /// From a real part to its imaginary part.
    pub im: usize,
    /// From row to row.
    pub pitch: usize,
}

impl<R> Planar<R> {
    /// Where nothing is between two phases.
    pub(super) const NOWHERE: Self = Self { at: std::ptr::null_mut(), im: 0, pitch: 0 };

    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> *mut R {
        self.at.wrapping_add(row * self.pitch)
    }

    /// The vectors of each row as the blocks of a line.
    #[inline(always)]
    pub(super) fn line<V: Lanes<Real = R>>(&self) -> Line<R> {
        Line { at: self.at, step: V::LANES, next: self.pitch, parts: Parts::Apart(self.im) }
    }
}

/// Where the columns come from.
#[derive(Clone, Copy)]
pub(super) enum Fetch<R> {
    /// Real columns, two vectors of them at once.
    Real(Plane, Number),
    /// Complex columns; with real and imaginary part exchanged when it is an inverse transform.
    Complex(Plane, Number, bool),
    /// Complex columns of rows between two phases.
    Planar(Planar<R>),
    /// The upper half of the transform of real columns, exchanged.
    Half(Planar<R>),
}

/// Where their transforms go.
#[derive(Clone, Copy)]
pub(super) enum Emit<R> {
    /// The upper half of the transforms of real columns, twice as large.
    Half(Planar<R>),
    /// The same as complex numbers one after another.
    HalfByTurns(Plane),
    Planar(Planar<R>),
    /// Complex columns, exchanged or not, times a factor if there is one.
    Complex(Plane, bool, Option<R>),
    /// Times a spectrum, and transformed back, exchanged; what it is before that goes to a plane of its own, if there is one.
    Filtered(Plane, Number, Planar<R>, Option<Plane>),
    /// Real columns from exchanged parts, times a factor.
    Real(Plane, R),
}

/// The transform of one strip of columns.
pub(super) struct Strip<'a, V: Lanes> {
    pub split: &'a Split<V::Real>,
    pub n: usize,
    pub fetch: Fetch<V::Real>,
    pub emit: Emit<V::Real>,
    /// Which strip; each is `width` columns.
    pub number: usize,
    /// Whether the next strip follows, and is to be asked for meanwhile.
    pub next: bool,
    /// Whether the strip before has asked for this one.
    pub asked: bool,
    pub scratch: *mut V::Real,
}

impl<R> Fetch<R> {
    /// How many columns one strip has.
    pub(super) fn width(&self, lanes: usize) -> usize {
        if matches!(self, Self::Complex(..) | Self::Planar(_)) { lanes } else { 2 * lanes }
    }
}

/// Numbers of scratch that a strip needs.
pub(super) fn scratch<R: super::lanes::Real>(split: &Split<R>, lanes: usize) -> usize {
    split.strip(lanes) + 2 * line(split, lanes) + split.scratch(lanes) + product(split, lanes)
}

/// Numbers of a whole strip in the order of its rows.
fn product<R: super::lanes::Real>(split: &Split<R>, lanes: usize) -> usize {
    2 * lanes * split.n1 * split.n2
}

/// Numbers of the lines that go through either step together.
fn line<R: super::lanes::Real>(split: &Split<R>, lanes: usize) -> usize {
    2 * lanes * split.blocks()
}

impl<V: Lanes> Work<V> for Strip<'_, V> {
    type Out = ();
    #[inline(always)]
    unsafe fn run(self) {
        let size = line(self.split, V::LANES);
        let strip = self.scratch;
        debug_assert!(self.split.n1 * self.split.n2 == self.n && !strip.is_null(), "a split of the column");
        // SAFETY: the scratch is as large as said above: the strip, lines for either step twice, and their scratch.
        unsafe {
            let line = strip.add(self.split.strip(V::LANES));
            let product = line.add(2 * size);
            let scratch = product.add(self::product(self.split, V::LANES));
            let room = Room { strip, line, line2: line.add(size), product, scratch, ahead: self.ahead() };
            self.all_first(&room);
            match self.emit {
                Emit::Half(_) | Emit::HalfByTurns(_) => return self.all_pairs(&room),
                Emit::Filtered(ref spectrum, number, _, ref kept) => self.filter(spectrum, number, kept, &room),
                _ => (),
            }
            self.all_second(&room);
        }
    }
}

/// The lines of the cache behind that of the first number of each row from `column` on, and the next ones.
#[inline(always)]
fn ahead_of(plane: &Plane, column: usize) -> Ahead {
    Ahead { at: plane.at(0, column).wrapping_add(LINE - 1), step: plane.row_stride, gap: LINE as isize }
}

/// The parts of the scratch.
struct Room<R> {
    strip: *mut R,
    line: *mut R,
    line2: *mut R,
    /// The strip times a spectrum.
    product: *mut R,
    scratch: *mut R,
    /// What is asked for in the first step and in the second.
    ahead: [Ahead; 2],
}

impl<V: Lanes> Strip<'_, V> {
    /// The first step for all lines.
    ///
    /// # Safety
    /// As [`Work::run`]; so for all functions here.
    #[inline(always)]
    unsafe fn all_first(&self, room: &Room<V::Real>) {
        let Split { n1, n2, .. } = *self.split;
        // SAFETY: as the caller says.
        unsafe {
            if n1 == 1 {
                return self.fetch(0, 1, n2, room.strip, 1);
            }
            for i2 in (0..n2).step_by(self.split.lines1()) {
                let range = i2..(i2 + self.split.lines1()).min(n2);
                let lines = self.source(i2).unwrap_or_else(|| {
                    self.fetch_lines(&range, room.line);
                    Line::packed::<V>(room.line, range.len())
                });
                self.split.first::<V>(range, lines, room.strip, room.scratch, room.ahead[0]);
            }
        }
    }

    /// What is asked for in the first step and in the second, a row with each block. In place, the two lines behind those
    /// of this strip, one in either step. Else where this strip goes, and then what the next one reads.
    #[inline(always)]
    fn ahead(&self) -> [Ahead; 2] {
        let (column, size) = (self.number * V::LANES, size_of::<V::Real>());
        let of_planar = |rows: Planar<V::Real>, column: usize| {
            let (step, gap) = ((rows.pitch * size) as isize, (rows.im * size) as isize);
            Ahead { at: rows.at.wrapping_add(column).cast(), step, gap }
        };
        let next = match self.fetch {
            Fetch::Complex(ref plane, ..) if self.next => ahead_of(plane, column + V::LANES),
            Fetch::Planar(from) if self.next => of_planar(from, column + V::LANES),
            _ => Ahead::NOTHING,
        };
        match (self.fetch, self.emit) {
            (Fetch::Complex(from, ..), Emit::Complex(to, ..)) if from.data == to.data => next.split(),
            (_, Emit::Complex(ref to, ..) | Emit::Filtered(_, _, _, Some(ref to))) => [ahead_of(to, column), next],
            (_, Emit::Planar(to)) => [of_planar(to, column), next],
            _ => [Ahead::NOTHING, next],
        }
    }

    /// The second step for all lines.
    ///
    /// # Safety
    /// As above.
    #[inline(always)]
    unsafe fn all_second(&self, room: &Room<V::Real>) {
        let n1 = self.split.n1;
        for k1 in (0..n1).step_by(self.split.lines2()) {
            let range = k1..(k1 + self.split.lines2()).min(n1);
            // SAFETY: as the caller says.
            unsafe {
                if let Some(lines) = self.target(k1) {
                    self.split.second::<V>(range, room.strip, lines, room.scratch, room.ahead[1]);
                } else {
                    self.second(range.clone(), room, room.line);
                    self.emit(range, room.line);
                }
            }
        }
    }

    /// The lines from i2 on where the first pass can read them as they are.
    #[inline(always)]
    fn source(&self, i2: usize) -> Option<Line<V::Real>> {
        match self.fetch {
            Fetch::Planar(from) => Some(self.lines_of(from, i2, self.split.n2)),
            Fetch::Complex(ref plane, number, exchanged)
                if number.is_complex() && number.size() == 2 * size_of::<V::Real>() =>
            {
                self.lines_of_plane(plane, i2, self.split.n2, exchanged)
            }
            _ => None,
        }
    }

    /// The lines from k1 on where the last pass can write them as they are to be.
    #[inline(always)]
    fn target(&self, k1: usize) -> Option<Line<V::Real>> {
        match self.emit {
            Emit::Planar(to) | Emit::Filtered(_, _, to, _) => Some(self.lines_of(to, k1, self.split.n1)),
            Emit::Complex(ref plane, exchanged, None) => self.lines_of_plane(plane, k1, self.split.n1, exchanged),
            _ => None,
        }
    }

    /// Lines of the strip whose elements are `step` rows apart, neighbours one.
    #[inline(always)]
    fn lines_of(&self, rows: Planar<V::Real>, row: usize, step: usize) -> Line<V::Real> {
        let at = rows.row(row).wrapping_add(self.number * V::LANES);
        Line { at, step: step * rows.pitch, next: rows.pitch, parts: Parts::Apart(rows.im) }
    }

    /// The same in a plane of complex numbers, if all of the strip is inside, and neighbours lie side by side.
    #[inline(always)]
    fn lines_of_plane(&self, plane: &Plane, row: usize, step: usize, exchanged: bool) -> Option<Line<V::Real>> {
        let (column, size) = (self.number * V::LANES, size_of::<V::Real>());
        let next = usize::try_from(plane.row_stride).ok().filter(|stride| stride.is_multiple_of(size))? / size;
        let is_inside = plane.rows >= self.n && column + V::LANES <= plane.cols;
        let is_packed = plane.col_stride == 2 * size as isize && plane.data.addr().is_multiple_of(size);
        let parts = Parts::of_turns(exchanged);
        let at = plane.at(row, column).cast();
        (is_inside && is_packed).then_some(Line { at, step: step * next, next, parts })
    }

    /// Transforms the strip, multiplies it by a spectrum, and begins to transform it back: with its parts exchanged.
    ///
    /// # Safety
    /// As above.
    #[inline(always)]
    unsafe fn filter(&self, spectrum: &Plane, number: Number, kept: &Option<Plane>, room: &Room<V::Real>) {
        let (n1, n2, block) = (self.split.n1, self.split.n2, 2 * V::LANES);
        let next = (self.number + 1) * V::LANES;
        let ahead = if self.next { ahead_of(spectrum, next) } else { Ahead::NOTHING };
        // A line that is done in one step is read as a whole before it is written.
        let product = if n1 == 1 { room.strip } else { room.product };
        // SAFETY: as the caller says; element i of the product is its block i.
        unsafe {
            for k1 in (0..n1).step_by(self.split.lines2()) {
                let range = k1..(k1 + self.split.lines2()).min(n1);
                self.second(range.clone(), room, room.line);
                if let Some(kept) = kept {
                    self.keep(range.clone(), kept, room);
                }
                self.multiply(range, spectrum, number, room, product);
            }
            for i2 in (0..n2).step_by(self.split.lines1()).filter(|_| n1 > 1) {
                let range = i2..(i2 + self.split.lines1()).min(n2);
                let lines =
                    Line { at: product.add(i2 * block), step: n2 * block, next: block, parts: Parts::Apart(V::LANES) };
                self.split.first::<V>(range, lines, room.strip, room.scratch, ahead);
            }
        }
    }

    /// Writes the lines of some k1 to a plane, as the transform alone would be there: half as large as they are, as those of two
    /// real rows at once come twice as large.
    ///
    /// # Safety
    /// As above.
    #[inline(always)]
    unsafe fn keep(&self, range: Range<usize>, kept: &Plane, room: &Room<V::Real>) {
        let (n1, n2, block, count) = (self.split.n1, self.split.n2, 2 * V::LANES, range.len());
        let column = self.number * V::LANES;
        for (i, k1) in range.enumerate() {
            let to = Rows { plane: kept, row: k1, step: n1, rows: n2, column, count: V::LANES };
            let re = room.line.wrapping_add(i * block);
            let im = Some(re.wrapping_add(V::LANES).cast_const());
            // SAFETY: as the caller says; a line has n2 blocks, as many rows of the plane.
            unsafe { V::shell(Write::<V> { to, re, im, from_step: block * count, scale: V::Real::of(0.5) }) }
        }
    }

    /// Multiplies the lines of some k1 by their rows of a spectrum, and exchanges their parts.
    ///
    /// # Safety
    /// As above.
    #[inline(always)]
    unsafe fn multiply(
        &self,
        range: Range<usize>,
        spectrum: &Plane,
        number: Number,
        room: &Room<V::Real>,
        product: *mut V::Real,
    ) {
        let (n1, n2, block, count) = (self.split.n1, self.split.n2, 2 * V::LANES, range.len());
        let column = self.number * V::LANES;
        for (i, k1) in range.enumerate() {
            let from = Rows { plane: spectrum, row: k1, step: n1, rows: n2, column, count: V::LANES };
            let (re, im) = (room.line2, room.line2.wrapping_add(V::LANES));
            // SAFETY: as the caller says; a line has room for n2 blocks.
            unsafe {
                V::shell(Read::<V> { from, number, re, im: Some(im), to_step: block, ahead: 0 });
                for k2 in 0..n2 {
                    let x = C::<V>::load(room.line.add((k2 * count + i) * block), V::LANES);
                    let x = x.mul(C::load(room.line2.add(k2 * block), V::LANES));
                    x.exchanged().store(product.add((k1 + n1 * k2) * block), V::LANES);
                }
            }
        }
    }

    /// # Safety
    /// As above.
    #[inline(always)]
    unsafe fn second(&self, range: Range<usize>, room: &Room<V::Real>, to: *mut V::Real) {
        let lines = Line::packed::<V>(to, range.len());
        // SAFETY: as the caller says.
        unsafe { self.split.second::<V>(range, room.strip, lines, room.scratch, room.ahead[1]) }
    }

    /// The second step for real columns, each k1 with its mirror image n1 - k1.
    ///
    /// # Safety
    /// As above.
    #[inline(always)]
    unsafe fn all_pairs(&self, room: &Room<V::Real>) {
        let (n1, half) = (self.split.n1, self.split.n1.div_ceil(2));
        // SAFETY: as the caller says.
        unsafe {
            // These are their own mirror images.
            for k1 in [0, n1 / 2].into_iter().take(if n1 % 2 == 0 { 2 } else { 1 }) {
                self.second(k1..k1 + 1, room, room.line);
                self.emit_half(k1, (room.line, 1), room.line);
            }
            for k1 in (1..half).step_by(self.split.lines2()) {
                let range = k1..(k1 + self.split.lines2()).min(half);
                let mirror = n1 + 1 - range.end..n1 + 1 - range.start;
                self.second(range.clone(), room, room.line);
                self.second(mirror, room, room.line2);
                for (i, k1) in range.clone().enumerate() {
                    let count = range.len();
                    let at = room.line.add(i * 2 * V::LANES);
                    let mirrored = room.line2.add((count - 1 - i) * 2 * V::LANES);
                    self.emit_half(k1, (at, count), mirrored);
                    self.emit_half(n1 - k1, (mirrored, count), at);
                }
            }
        }
    }

    /// Brings the lines of some i2 side by side, by as few readings as there are.
    ///
    /// # Safety
    /// As above.
    #[inline(always)]
    unsafe fn fetch_lines(&self, range: &Range<usize>, to: *mut V::Real) {
        let (n1, n2, count, block) = (self.split.n1, self.split.n2, range.len(), 2 * V::LANES);
        // SAFETY: as the caller says; element i1 of line i is block `i1 * count + i`.
        unsafe {
            if count < n1 {
                return (0..count).for_each(|i| self.fetch(range.start + i, n2, n1, to.add(i * block), count));
            }
            (0..n1).for_each(|i1| self.fetch(range.start + n2 * i1, 1, count, to.add(i1 * count * block), 1));
        }
    }

    /// Brings `count` elements of the columns, from `first` on and `step` apart, into blocks.
    ///
    /// # Safety
    /// As [`Work::run`]; `to` must have room, for every block so many blocks.
    #[inline(always)]
    unsafe fn fetch(&self, first: usize, step: usize, count: usize, to: *mut V::Real, blocks: usize) {
        let ahead = if self.asked { 0 } else { blocks.max(if step == 1 { count } else { 1 }) };
        let to_step = 2 * V::LANES * blocks;
        let column = self.number * self.fetch.width(V::LANES);
        debug_assert!(count > 0 && first + (count - 1) * step < self.n, "{count} from {first} on of {}", self.n);
        // SAFETY: the source is readable; each block is two vectors.
        unsafe {
            match self.fetch {
                Fetch::Real(ref plane, number) => {
                    let from = Rows { plane, row: first, step, rows: count, column, count: 2 * V::LANES };
                    V::shell(Read::<V> { from, number, re: to, im: None, to_step, ahead });
                }
                Fetch::Complex(ref plane, number, exchanged) => {
                    let from = Rows { plane, row: first, step, rows: count, column, count: V::LANES };
                    let other = to.add(V::LANES);
                    let (re, im) = if exchanged { (other, to) } else { (to, other) };
                    V::shell(Read::<V> { from, number, re, im: Some(im), to_step, ahead });
                }
                Fetch::Planar(from) => {
                    for i in 0..count {
                        let at = from.row(first + i * step).add(column);
                        C::<V>::load(at, from.im).store(to.add(i * to_step), V::LANES);
                    }
                }
                Fetch::Half(from) => {
                    for i in 0..count {
                        self.fetch_half(from, column, first + i * step, to.add(i * to_step));
                    }
                }
            }
        }
    }

    /// Makes one element of a complex column of the elements of two real ones.
    ///
    /// # Safety
    /// As above.
    #[inline(always)]
    unsafe fn fetch_half(&self, from: Planar<V::Real>, column: usize, row: usize, to: *mut V::Real) {
        debug_assert!(row < self.n && column + 2 * V::LANES <= from.im, "row {row}, column {column}");
        // SAFETY: the rows up to the middle are there, with room for two vectors from `column` on.
        unsafe {
            let mirrored = row > self.n / 2;
            let at = from.row(if mirrored { self.n - row } else { row }).add(column);
            let (mut a, mut b) = (C::<V>::load(at, from.im), C::<V>::load(at.add(V::LANES), from.im));
            // What is its own mirror image in a real column is real.
            if (2 * row).is_multiple_of(self.n) {
                (a.re, b.re) = (V::splat(V::Real::ZERO), V::splat(V::Real::ZERO));
            }
            // Exchanged, so what is called `im` here is the real part: a + i b, or of their conjugates.
            let z = if mirrored {
                C { re: b.im.sub(a.re), im: a.im.add(b.re) }
            } else {
                C { re: a.re.add(b.im), im: a.im.sub(b.re) }
            };
            z.store(to, V::LANES);
        }
    }

    /// Takes two real columns apart, as far as the rows `k1 + n1 * k2` are in the upper half.
    ///
    /// # Safety
    /// The line, of one block in so many, must be the transforms of k1, and `mirror`, likewise, those of n1 - k1.
    #[inline(always)]
    unsafe fn emit_half(&self, k1: usize, line: (*const V::Real, usize), mirror: *const V::Real) {
        let Split { n1, n2, .. } = *self.split;
        let (column, step) = (self.number * 2 * V::LANES, line.1 * 2 * V::LANES);
        debug_assert!(k1 < n1 && line.1 > 0, "line {k1} of {n1}");
        for k2 in (0..n2).take_while(|k2| k1 + n1 * k2 <= self.n / 2) {
            let other = if k1 == 0 { (n2 - k2) % n2 } else { n2 - 1 - k2 };
            // SAFETY: both blocks are inside of their lines; the row is one that is kept.
            unsafe {
                let z = C::<V>::load(line.0.add(k2 * step), V::LANES);
                let y = C::<V>::load(mirror.add(other * step), V::LANES);
                self.put_halves(k1 + n1 * k2, column, z.untangled(y));
            }
        }
    }

    /// Writes two vectors of neighbours in a row of halves.
    ///
    /// # Safety
    /// The row must be one that is kept.
    #[inline(always)]
    unsafe fn put_halves(&self, row: usize, column: usize, (first, second): (C<V>, C<V>)) {
        debug_assert!(row <= self.n / 2, "row {row} of {}", self.n);
        // SAFETY: as the caller says. Rows between phases have room to the next pair of vectors, planes have not.
        unsafe {
            match self.emit {
                Emit::Half(to) => {
                    let at = to.row(row).add(column);
                    first.store(at, to.im);
                    second.store(at.add(V::LANES), to.im);
                }
                Emit::HalfByTurns(ref to) if column + 2 * V::LANES <= to.cols => {
                    first.store_by_turns(to.at(row, column).cast());
                    second.store_by_turns(to.at(row, column + V::LANES).cast());
                }
                Emit::HalfByTurns(ref to) => {
                    let mut both = [[V::Real::ZERO; 2]; 2 * MOST_LANES];
                    first.store_by_turns(both.as_mut_ptr().cast());
                    second.store_by_turns(both[V::LANES..].as_mut_ptr().cast());
                    let there = to.cols - column;
                    both.as_ptr().copy_to_nonoverlapping(to.at(row, column).cast(), there);
                }
                _ => unreachable!("whole columns"),
            }
        }
    }

    /// Writes the transforms of some k1.
    ///
    /// # Safety
    /// As above.
    #[inline(always)]
    unsafe fn emit(&self, range: Range<usize>, lines: *const V::Real) {
        let Split { n1, n2, .. } = *self.split;
        let column = self.number * self.fetch.width(V::LANES);
        let from_step = 2 * V::LANES * range.len();
        debug_assert!(range.end <= n1, "{range:?} of {n1}");
        for (i, k1) in range.enumerate() {
            let line = lines.wrapping_add(i * 2 * V::LANES);
            match self.emit {
                Emit::Half(_) | Emit::HalfByTurns(_) => unreachable!("halves come in pairs"),
                Emit::Planar(_) | Emit::Filtered(..) => {
                    unreachable!("rows between phases are written by the last pass")
                }
                Emit::Complex(ref plane, exchanged, scale) => {
                    let to = Rows { plane, row: k1, step: n1, rows: n2, column, count: V::LANES };
                    let other = line.wrapping_add(V::LANES);
                    let (re, im) = if exchanged { (other, line) } else { (line, other) };
                    // SAFETY: as above.
                    unsafe {
                        V::shell(Write::<V> {
                            to,
                            re,
                            im: Some(im),
                            from_step,
                            scale: scale.unwrap_or(V::Real::of(1.0)),
                        })
                    }
                }
                Emit::Real(ref plane, scale) => {
                    let to = Rows { plane, row: k1, step: n1, rows: n2, column, count: V::LANES };
                    let to2 = Rows { column: column + V::LANES, ..to };
                    // SAFETY: as above. The parts are exchanged.
                    unsafe {
                        let (re, im) = (line.add(V::LANES), line);
                        V::shell(Write::<V> { to, re, im: None, from_step, scale });
                        V::shell(Write::<V> { to: to2, re: im, im: None, from_step, scale });
                    }
                }
            }
        }
    }
}
