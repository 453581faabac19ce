//! What happens to each row around its transform: how it is read, and what its spectrum is turned into.

use super::across::Room;
use super::along::{self, Along};
use super::columns::Planar;
use super::halves::{Apart, ByTurns, Tangle, Untangle, mirrored};
use super::lanes::{Lanes, Real, Work};
use super::problem::Plane;
use super::radix::{Ahead, C, Line, Parts};
use super::rows::Row;
use super::runs::{Mirror, Read, Rows, Write};
use super::steps::root;
use crate::element::Number;
use crate::kernel::LINE;

/// Where rows come from. Inverse transforms are forward ones with real and imaginary part exchanged.
#[derive(Clone, Copy)]
pub(super) enum Source<R> {
    Planar(Planar<R>),
    /// Complex rows; exchanged or not.
    Complex(Plane, Number, bool),
    /// Real rows as complex ones.
    Real(Plane, Number),
    /// Two real rows as one complex row.
    Two(Plane, Number),
    /// Two half-spectra as the whole row of two real rows, exchanged.
    Halves(Planar<R>),
    /// Real rows of twice the length, two neighbours as one complex number.
    Pairs(Plane, Number),
    /// From rows k and `height - k` of a half-spectrum the whole row k, exchanged.
    Unfold(Plane, Number, usize),
    /// From the half-spectrum of a real row of twice the length that of its pairs, exchanged.
    Pack(Plane, Number),
}

/// Where their transforms go.
#[derive(Clone, Copy)]
pub(super) enum Target<R> {
    Planar(Planar<R>),
    /// Complex rows; exchanged or not.
    Complex(Plane, bool),
    /// The whole row k as rows k and `height - k` of a half-spectrum.
    Fold(Plane, usize),
    /// The half-spectra of two real rows, twice as large: complex numbers one after another, or with their parts apart.
    Halves(Plane),
    PlanarHalves(Planar<R>),
    /// Two real rows, from exchanged parts.
    Two(Plane),
    /// The first half of the row.
    Half(Plane),
    /// From the transform of pairs the half-spectrum of the real row.
    Unpack(Plane),
    /// Pairs, exchanged, as a real row.
    Pairs(Plane),
    /// The real part, exchanged.
    Real(Plane),
    /// Times the whole row k from a half-spectrum of so many rows, and transformed back, exchanged.
    Filter(Planar<R>, Plane, Number, usize),
}

/// The plan of rows with what happens around them.
pub(super) struct Lines<R> {
    pub row: Row<R>,
    /// `exp(-2 pi i k / (2 n))` for each k, real parts and then imaginary parts, where pairs are transformed.
    halves: Vec<R>,
}

impl<R: Real> Lines<R> {
    /// Lines of n elements; with what pairs need, or without.
    pub(super) fn new(n: usize, lanes: usize, pairs: bool) -> Self {
        let row = Row::new(n, lanes);
        let mut halves = Vec::new();
        if pairs {
            halves = vec![R::ZERO; 2 * row.width];
            for k in 0..n {
                let (re, im) = root(k, 2 * n);
                (halves[k], halves[row.width + k]) = (R::of(re), R::of(im));
            }
        }
        Self { row, halves }
    }

    /// Numbers of one staged row, both parts; room for a vector beyond either end of each.
    fn staged(&self, lanes: usize) -> usize {
        2 * (self.row.width + 2 * lanes)
    }

    /// Numbers of scratch for a group.
    pub(super) fn scratch(&self, lanes: usize) -> usize {
        self.row.scratch(lanes) + (self.row.group(lanes) + 3) * self.staged(lanes)
    }
}

/// The transform of one group of rows.
pub(super) struct Group<'a, V: Lanes> {
    pub lines: &'a Lines<V::Real>,
    pub source: Source<V::Real>,
    pub target: Target<V::Real>,
    pub first: usize,
    /// One past the last row of all.
    pub end: usize,
    /// How many rows the plane has.
    pub rows: usize,
    pub scale: V::Real,
    pub scratch: *mut V::Real,
}

impl<V: Lanes> Work<V> for Group<'_, V> {
    type Out = ();
    #[inline(always)]
    unsafe fn run(self) {
        let row = &self.lines.row;
        let staged = self.lines.staged(V::LANES);
        debug_assert!(self.first < self.end && !self.scratch.is_null(), "rows {} to {}", self.first, self.end);
        let count = row.group(V::LANES).min(self.end - self.first);
        // SAFETY: the scratch holds a group of staged rows, two more, and what the transform needs.
        unsafe {
            let stage = Planar { at: self.scratch.add(V::LANES), im: staged / 2, pitch: staged };
            let spare = self.scratch.add(row.group(V::LANES) * staged + V::LANES);
            let from = match self.source {
                Source::Planar(from) => Planar { at: from.row(self.first), ..from },
                _ => stage,
            };
            if let (Some(along), Source::Two(..) | Source::Complex(..)) = (row.along(), self.source) {
                return self.run_along(along, stage, count, spare);
            }
            let (ahead, readable) = (self.ahead(self.first), self.readable());
            if readable.is_none() {
                self.bring(stage, count, spare);
            }
            let from = readable.unwrap_or(from.line::<V>());
            let may_spoil = readable.is_none() && !matches!(self.source, Source::Planar(_));
            let room = Room { scratch: spare.add(3 * staged - V::LANES), ahead: &ahead, may_spoil };
            if let Target::Planar(to) = self.target {
                row.run::<V>(from, Planar { at: to.row(self.first), ..to }, room);
                return self.clear_rest(to, count);
            }
            if let Some(to) = self.direct() {
                return row.run_to_complex::<V>(from, to, self.scale, room);
            }
            if let Target::Filter(to, spectrum, number, height) = self.target {
                row.run::<V>(from, stage, room);
                for i in 0..count {
                    let filter = spare.add(2 * staged);
                    self.unfold(&spectrum, number, self.first + i, height, filter, stage.im, spare);
                    self.filter(stage.row(i), filter, stage.im);
                }
                row.run::<V>(stage.line::<V>(), Planar { at: to.row(self.first), ..to }, room);
                return self.clear_rest(to, count);
            }
            let done = row.run_somewhere::<V>(from, stage, room);
            (0..count).for_each(|i| self.emit(self.first + i, done.row(i), done.im, spare));
        }
    }
}

impl<V: Lanes> Group<'_, V> {
    /// Reads the rows of the group into the stage, as the transform wants them, unless they are transformed where they are.
    ///
    /// # Safety
    /// As [`Work::run`], with a stage and spare memory as said there.
    #[inline(always)]
    unsafe fn bring(&self, stage: Planar<V::Real>, count: usize, spare: *mut V::Real) {
        if let Source::Planar(all) = self.source {
            return self.prefetch_rows(all);
        }
        let row = &self.lines.row;
        for i in 0..count {
            // SAFETY: as the caller says.
            unsafe { self.fetch(self.first + i, stage.row(i), stage.im, spare) };
            // Rows that go across ask while they are transformed.
            if !row.is_across() {
                let blocks = row.n.div_ceil(V::LANES);
                self.ahead(self.first + i).iter().for_each(|ahead| ahead.ask::<V>(blocks));
            }
        }
    }

    /// Transforms rows that go along, and are read a few columns at a time.
    ///
    /// # Safety
    /// As [`Self::bring`].
    #[inline(always)]
    unsafe fn run_along(&self, along: &Along<V::Real>, stage: Planar<V::Real>, count: usize, spare: *mut V::Real) {
        // SAFETY: as the caller says; behind the spare rows is what the transform needs.
        unsafe {
            let scratch = spare.add(3 * self.lines.staged(V::LANES) - V::LANES);
            self.read_along(along, stage, count, scratch);
            let done = along.transform::<V>(scratch, self.region(count));
            if let Some(to) = self.halves(count) {
                let tiles = along.tiles(done, V::LANES);
                // Planar rows are on their way to the columns, which come to the factor later.
                let is_planar = matches!(self.target, Target::PlanarHalves(_));
                let scale = if is_planar { V::Real::of(1.0) } else { self.scale };
                V::shell(along::Apart::<V> { done, n: self.lines.row.n, tiles, to, scale });
                return self.clear_halves(count);
            }
            if let Target::Planar(to) = self.target {
                along.write::<V>(done, Planar { at: to.row(self.first), ..to });
                return self.clear_rest(to, count);
            }
            along.write::<V>(done, stage);
            (0..count).for_each(|i| self.emit(self.first + i, stage.row(i), stage.im, spare));
        }
    }

    /// Reads rows that go along into a strip, and asks for those of the next group meanwhile.
    ///
    /// # Safety
    /// As [`Self::run_along`]; the strip is the beginning of the scratch.
    #[inline(always)]
    unsafe fn read_along(&self, along: &Along<V::Real>, stage: Planar<V::Real>, rows: usize, scratch: *mut V::Real) {
        let (n, width) = (self.lines.row.n, self.lines.row.width);
        // An odd number of lines of the cache from row to row, so that the pieces do not fall on the same ones.
        let im = along::CHUNK.min(width);
        let piece = Planar { im, pitch: 2 * im + LINE / size_of::<V::Real>(), ..stage };
        for column in (0..width).step_by(im) {
            let columns = column..(column + im).min(width);
            let count = n.min(columns.end) - column;
            let read = |plane: &Plane, number, row, step, re, im| {
                let from = Rows { plane, row, step, rows, column, count };
                let ahead = step * V::LANES;
                // SAFETY: the caller's; the stage has room for a piece of each row.
                unsafe { V::shell(Read::<V> { from, number, re, im, to_step: piece.pitch, ahead }) }
            };
            let (re, im) = (piece.at, piece.at.wrapping_add(im));
            match self.source {
                Source::Two(ref plane, number) => {
                    read(plane, number, 2 * self.first, 2, re, None);
                    read(plane, number, 2 * self.first + 1, 2, im, None);
                }
                Source::Complex(ref plane, number, false) => read(plane, number, self.first, 1, re, Some(im)),
                Source::Complex(ref plane, number, true) => read(plane, number, self.first, 1, im, Some(re)),
                _ => unreachable!("other rows are staged whole"),
            }
            // SAFETY: as the caller says.
            unsafe { along.read::<V>(piece, columns, scratch) };
        }
    }

    /// The two rows of spectra that pairs of real rows become, if they can be written by vectors, and how many there are.
    #[inline(always)]
    fn halves(&self, count: usize) -> Option<[(Line<V::Real>, usize); 2]> {
        let size = size_of::<V::Real>();
        let [a, b] = match self.target {
            _ if !along::Apart::<V>::is_possible(self.lines.row.n) => return None,
            Target::Halves(ref to) => {
                let pitch = usize::try_from(to.row_stride).ok().filter(|stride| stride.is_multiple_of(size))? / size;
                let line = |at: *mut u8| Line { at: at.cast(), step: 2 * pitch, next: pitch, parts: Parts::ByTurns };
                [line(to.at(2 * self.first, 0)), line(to.at(2 * self.first + 1, 0))]
            }
            Target::PlanarHalves(to) => {
                let line = |at| Line { at, step: 2 * to.pitch, next: to.pitch, parts: Parts::Apart(to.im) };
                [line(to.row(2 * self.first)), line(to.row(2 * self.first + 1))]
            }
            _ => return None,
        };
        // The second of the last pair may not be there.
        Some([(a, count), (b, count.min(self.rows / 2 - self.first.min(self.rows / 2)))])
    }

    /// What to ask for while rows that go along are transformed: half of where they will be written, so much with each block
    /// of the first step. To ask for the other half in the second step is no quicker.
    #[inline(always)]
    fn region(&self, count: usize) -> Ahead {
        let size = size_of::<V::Real>();
        let planar = |rows: Planar<V::Real>, row: usize| (rows.row(row).cast::<u8>(), (rows.pitch * size) as isize);
        let ((at, stride), rows) = match self.target {
            Target::Halves(ref to) => ((to.at(2 * self.first, 0), to.row_stride), 2 * count),
            Target::PlanarHalves(to) => (planar(to, 2 * self.first), 2 * count),
            Target::Complex(ref to, _) => ((to.at(self.first, 0), to.row_stride), count),
            Target::Planar(to) => (planar(to, self.first), count),
            _ => return Ahead::NOTHING,
        };
        let half = stride * rows as isize / 2;
        Ahead { at, step: half / self.lines.row.n as isize, gap: 0 }
    }

    /// A row that goes across, or two real ones, where the first pass can read them as they are.
    #[inline(always)]
    fn readable(&self) -> Option<Line<V::Real>> {
        let (plane, number, row, rows) = match self.source {
            _ if !self.lines.row.is_across() => return None,
            Source::Two(plane, number) => (plane, number, 2 * self.first, 2),
            Source::Complex(plane, number, _) => (plane, number, self.first, 1),
            _ => return None,
        };
        let (size, item) = (size_of::<V::Real>(), number.size());
        if row + rows > plane.rows || self.lines.row.n > plane.cols || plane.col_stride != item as isize {
            return None;
        }
        // How far apart two real rows are, which do not overlap.
        let gap = usize::try_from(plane.row_stride).ok().filter(|&gap| gap >= self.lines.row.n * item);
        let is_same = item == if number.is_complex() { 2 * size } else { size };
        let parts = match self.source {
            Source::Complex(_, _, exchanged) if number.is_complex() && is_same => Parts::of_turns(exchanged),
            Source::Two(_, Number::F32 | Number::F64) if is_same && gap?.is_multiple_of(size) => {
                Parts::Apart(gap? / size)
            }
            Source::Two(_, Number::U16) if (V::LANES * item).is_multiple_of(size) => Parts::Integers(gap?),
            _ => return None,
        };
        Some(Line { at: plane.at(row, 0).cast(), step: V::LANES * item / size, next: 0, parts })
    }

    /// Asks for the next rows.
    #[inline(always)]
    fn prefetch_rows(&self, all: Planar<V::Real>) {
        let group = self.lines.row.group(V::LANES);
        for row in (self.first + group..self.first + 2 * group).take_while(|&row| row < self.end) {
            let at = all.row(row).cast::<u8>();
            (0..all.pitch * size_of::<V::Real>()).step_by(LINE).for_each(|byte| V::prefetch(at.wrapping_add(byte)));
        }
    }

    /// What to ask for while a row, or a pair, is transformed, so much with each vector of it: where its results go, in
    /// two halves, and what will be read next.
    #[inline(always)]
    fn ahead(&self, row: usize) -> [Ahead; 4] {
        let bytes = V::LANES * size_of::<V::Real>();
        let pair = |at: [*mut u8; 2], step: usize| at.map(|at| Ahead { at, step: step as isize, gap: 0 });
        let two = |plane: &Plane, row: usize| [plane.at(2 * row, 0), plane.at(2 * row + 1, 0)];
        let planar = |rows: Planar<V::Real>, row: usize| [rows.row(2 * row).cast(), rows.row(2 * row + 1).cast()];
        let halves = |at: *mut u8, step: usize| pair([at, at.wrapping_add(step / 2)], step);
        let [a, b] = match self.target {
            Target::Halves(ref to) | Target::Two(ref to) => pair(two(to, row), bytes),
            Target::PlanarHalves(to) => pair(planar(to, row), bytes),
            Target::Complex(ref to, _) => halves(to.at(row, 0), 2 * bytes),
            Target::Planar(to) => pair([0, to.im].map(|im| to.row(row).wrapping_add(im).cast()), bytes),
            _ => [Ahead::NOTHING; 2],
        };
        let group = self.lines.row.group(V::LANES);
        let [c, d] = match self.source {
            Source::Two(ref from, number) => pair(two(from, row + group), V::LANES * number.size()),
            Source::Halves(from) => pair(planar(from, row + group), bytes),
            Source::Complex(ref from, number, _) => halves(from.at(row + group, 0), V::LANES * number.size()),
            _ => [Ahead::NOTHING; 2],
        };
        [a, b, c, d]
    }

    /// Where a row, and its mirror image, can be written without a stage in between.
    #[inline(always)]
    fn direct(&self) -> Option<(*mut V::Real, Option<*mut V::Real>)> {
        let is_packed = |plane: &Plane| plane.col_stride == 2 * size_of::<V::Real>() as isize;
        let start = |plane: &Plane, row: usize| plane.at(row, 0).cast::<V::Real>();
        match self.target {
            _ if !self.lines.row.is_across() => None,
            Target::Complex(ref plane, false) if is_packed(plane) => Some((start(plane, self.first), None)),
            Target::Fold(ref plane, height) if is_packed(plane) => {
                let mirror = mirror_of(self.first, height);
                (mirror != self.first).then(|| (start(plane, self.first), Some(start(plane, mirror))))
            }
            _ => None,
        }
    }

    /// Multiplies a row by a filter whose parts are exchanged, and exchanges its own.
    ///
    /// # Safety
    /// Both must be staged rows.
    #[inline(always)]
    unsafe fn filter(&self, row: *mut V::Real, filter: *const V::Real, im: usize) {
        for k in (0..self.lines.row.n).step_by(V::LANES) {
            // SAFETY: as the caller says.
            unsafe {
                let f = C::<V>::load(filter.add(k), im);
                C::<V>::load(row.add(k), im).mul(f.exchanged()).exchanged().store(row.add(k), im);
            }
        }
    }

    /// Zeros behind the planar halves of a group.
    ///
    /// # Safety
    /// As [`Self::clear`].
    #[inline(always)]
    unsafe fn clear_halves(&self, count: usize) {
        if let Target::PlanarHalves(to) = self.target {
            let rows = 2 * self.first..(2 * (self.first + count)).min(self.rows);
            // SAFETY: as the caller says.
            rows.for_each(|row| unsafe { self.clear(to.row(row), self.lines.row.n / 2 + 1, to.im) });
        }
    }

    /// Where two rows go; the second of the last pair, if it is not there, to memory that nobody reads.
    #[inline(always)]
    fn two(&self, row: usize, spare: *mut V::Real, at: impl Fn(usize) -> *mut V::Real) -> [*mut V::Real; 2] {
        [at(2 * row), if 2 * row + 1 < self.rows { at(2 * row + 1) } else { spare }]
    }

    /// Zeros behind the planar rows of a group: the columns there may be the other half of columns that count.
    ///
    /// # Safety
    /// As [`Self::clear`].
    #[inline(always)]
    unsafe fn clear_rest(&self, to: Planar<V::Real>, count: usize) {
        // SAFETY: as the caller says.
        (0..count).for_each(|i| unsafe { self.clear(to.row(self.first + i), self.lines.row.n, to.im) });
    }

    /// Zeros behind the first n numbers of a planar row.
    ///
    /// # Safety
    /// Planar rows have room to the next pair of vectors.
    #[inline(always)]
    unsafe fn clear(&self, row: *mut V::Real, n: usize, im: usize) {
        for k in n..n.next_multiple_of(2 * V::LANES) {
            // SAFETY: as the caller says.
            unsafe { (*row.add(k), *row.add(im + k)) = (V::Real::ZERO, V::Real::ZERO) };
        }
    }

    /// Reads a row as the transform wants it.
    ///
    /// # Safety
    /// As [`Work::run`]; `to` must have room for a row whose imaginary part is `im` numbers behind, and so must
    /// `spare`, for two real parts.
    #[inline(always)]
    unsafe fn fetch(&self, row: usize, to: *mut V::Real, im: usize, spare: *mut V::Real) {
        let n = self.lines.row.n;
        debug_assert!(row < self.end && im >= self.lines.row.width, "row {row} of {}", self.end);
        // SAFETY: as the caller says.
        unsafe {
            match self.source {
                Source::Planar(_) => unreachable!("planar rows are not staged"),
                Source::Complex(plane, number, exchanged) => {
                    let (re, im) = if exchanged { (to.add(im), to) } else { (to, to.add(im)) };
                    self.read(&plane, number, row, n, re, Some(im));
                }
                Source::Real(plane, number) => {
                    self.read(&plane, number, row, n, to, None);
                    (0..n).for_each(|k| *to.add(im + k) = V::Real::ZERO);
                }
                Source::Two(plane, number) => {
                    self.read(&plane, number, 2 * row, n, to, None);
                    self.read(&plane, number, 2 * row + 1, n, to.add(im), None);
                }
                Source::Halves(from) => {
                    // The last of an odd number of rows stands in for the one that is not there.
                    let second = (2 * row + 1).min(self.rows - 1);
                    let [a, b] = [2 * row, second].map(|row| from.row(row).cast_const());
                    V::shell(Tangle::<V> { a, b, from_im: from.im, to, im, n });
                }
                Source::Pairs(plane, number) => {
                    self.read(&plane, number, row, 2 * n, spare, None);
                    for k in (0..n).step_by(V::LANES) {
                        C::<V>::load_by_turns(spare.add(2 * k)).store(to.add(k), im);
                    }
                }
                Source::Unfold(plane, number, height) => self.unfold(&plane, number, row, height, to, im, spare),
                Source::Pack(plane, number) => self.pack(&plane, number, row, to, im, spare),
            }
        }
    }

    /// Reads the first `count` numbers of a row.
    ///
    /// # Safety
    /// As [`Read`].
    #[inline(always)]
    unsafe fn read(
        &self,
        plane: &Plane,
        number: Number,
        row: usize,
        count: usize,
        re: *mut V::Real,
        im: Option<*mut V::Real>,
    ) {
        // SAFETY: as the caller says.
        unsafe { V::shell(Read::<V> { from: Rows::one(plane, row, count), number, re, im, to_step: 0, ahead: 0 }) }
    }

    /// Writes the first `count` numbers of a row.
    ///
    /// # Safety
    /// As [`Write`].
    #[inline(always)]
    unsafe fn write(&self, plane: &Plane, row: usize, count: usize, re: *const V::Real, im: Option<*const V::Real>) {
        let to = Rows::one(plane, row, count);
        // SAFETY: as the caller says.
        unsafe { V::shell(Write::<V> { to, re, im, from_step: 0, scale: self.scale }) }
    }

    /// # Safety
    /// As [`Self::fetch`].
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    unsafe fn unfold(
        &self,
        plane: &Plane,
        number: Number,
        row: usize,
        height: usize,
        to: *mut V::Real,
        im: usize,
        spare: *mut V::Real,
    ) {
        let n = self.lines.row.n;
        let (count, mirror) = (n / 2 + 1, mirror_of(row, height));
        debug_assert!(im >= n.max(count), "the parts of a row are apart");
        // SAFETY: as the caller says; `re` and `im` are exchanged in the target.
        unsafe {
            let (re2, im2) = (spare, spare.add(im));
            self.read(plane, number, row, count, to.add(im), Some(to));
            self.read(plane, number, mirror, count, re2, Some(im2));
            // What is its own mirror image in a real row has a real transform along the columns.
            for k in [0, n / 2].into_iter().skip(usize::from(n == 1)).filter(|k| 2 * k % n == 0) {
                let half = V::Real::of(0.5);
                *to.add(im + k) = (*to.add(im + k)).plus(*re2.add(k)).times(half);
                *to.add(k) = (*to.add(k)).minus(*im2.add(k)).times(half);
            }
            let mut k = n / 2 + 1;
            while k < n {
                // Column n - k of the mirror row, and those before it, in reverse.
                if k + V::LANES <= n {
                    let from = n - k + 1 - V::LANES;
                    V::load(re2.add(from)).reverse().store(to.add(im + k));
                    V::splat(V::Real::ZERO).sub(V::load(im2.add(from)).reverse()).store(to.add(k));
                    k += V::LANES;
                } else {
                    *to.add(im + k) = *re2.add(n - k);
                    *to.add(k) = V::Real::ZERO.minus(*im2.add(n - k));
                    k += 1;
                }
            }
        }
    }

    /// # Safety
    /// As [`Self::fetch`].
    #[inline(always)]
    unsafe fn pack(&self, plane: &Plane, number: Number, row: usize, to: *mut V::Real, im: usize, spare: *mut V::Real) {
        let (n, width) = (self.lines.row.n, self.lines.row.width);
        let halves = self.lines.halves.as_ptr();
        // SAFETY: as the caller says. A staged row has room for one number more than n, and for a vector before its
        // beginning and beyond its end.
        unsafe {
            let (re, im2) = (spare, spare.add(im));
            self.read(plane, number, row, n + 1, re, Some(im2));
            (*im2, *im2.add(n)) = (V::Real::ZERO, V::Real::ZERO);
            for k in (0..n).step_by(V::LANES) {
                let x = C::<V>::load(re.add(k), im);
                let y = mirrored::<V>(re, im, n, k);
                let even = C { re: x.re.add(y.re), im: x.im.sub(y.im) };
                let odd = C { re: x.re.sub(y.re), im: x.im.add(y.im) };
                // Times the conjugate root, and i.
                let w = C::<V>::load(halves.add(k), width);
                let odd = C { re: odd.re.mul_add(w.re, odd.im.mul(w.im)), im: odd.im.mul_sub(w.re, odd.re.mul(w.im)) };
                C { re: even.im.add(odd.re), im: even.re.sub(odd.im) }.store(to.add(k), im);
            }
        }
    }

    /// Writes the transform of a row.
    ///
    /// # Safety
    /// As [`Self::fetch`], with `from` for `to`.
    #[inline(always)]
    unsafe fn emit(&self, row: usize, from: *mut V::Real, im: usize, spare: *mut V::Real) {
        let (n, scale) = (self.lines.row.n, self.scale);
        // SAFETY: as the caller says; the planes have the rows and columns of the problem.
        unsafe {
            match self.target {
                Target::Planar(_) | Target::Filter(..) => unreachable!("planar rows are not staged"),
                Target::Complex(plane, exchanged) => {
                    let (re, im) = if exchanged { (from.add(im), from) } else { (from, from.add(im)) };
                    self.write(&plane, row, n, re, Some(im));
                }
                Target::Halves(plane) => {
                    let [a, b] = self.two(row, spare, |row| plane.at(row, 0).cast());
                    V::shell(Untangle { row: from, im, n, to: &ByTurns { a, b, scale } });
                }
                Target::PlanarHalves(to) => {
                    let [a, b] = self.two(row, spare, |row| to.row(row));
                    V::shell(Untangle { row: from, im, n, to: &Apart { a, b, im: to.im } });
                    [a, b].into_iter().for_each(|row| self.clear(row, n / 2 + 1, to.im));
                }
                Target::Two(plane) => {
                    self.write(&plane, 2 * row, n, from.add(im), None);
                    if 2 * row + 1 < self.rows {
                        self.write(&plane, 2 * row + 1, n, from, None);
                    }
                }
                Target::Half(plane) => self.write(&plane, row, n / 2 + 1, from, Some(from.add(im))),
                Target::Real(plane) => self.write(&plane, row, n, from.add(im), None),
                Target::Fold(plane, height) => self.fold(&plane, height, row, from, im),
                Target::Unpack(plane) => {
                    self.unpack(from, im, spare);
                    self.write(&plane, row, n + 1, spare, Some(spare.add(im)));
                }
                Target::Pairs(plane) => {
                    self.pairs(from, im, spare);
                    self.write(&plane, row, 2 * n, spare, None);
                }
            }
        }
    }

    /// Writes the whole row k as rows k and `height - k` of a half-spectrum.
    ///
    /// # Safety
    /// As [`Self::emit`].
    #[inline(always)]
    unsafe fn fold(&self, plane: &Plane, height: usize, row: usize, from: *mut V::Real, im: usize) {
        let (n, scale, mirror) = (self.lines.row.n, self.scale, mirror_of(row, height));
        // SAFETY: as the caller says.
        unsafe {
            self.write(plane, row, n / 2 + 1, from, Some(from.add(im)));
            if mirror != row {
                let second = from.add(n - n / 2);
                let part = |column: usize, count: usize, re: *mut V::Real| {
                    let im = re.wrapping_add(im);
                    Mirror::<V> { plane, row: mirror, column, count, re, im, scale }
                };
                V::shell(part(0, 1, from));
                V::shell(part(1, n / 2, second));
            }
        }
    }

    /// Puts the exchanged parts of pairs side by side, as a real row.
    ///
    /// # Safety
    /// As [`Self::emit`].
    #[inline(always)]
    unsafe fn pairs(&self, from: *const V::Real, im: usize, to: *mut V::Real) {
        for k in (0..self.lines.row.n).step_by(V::LANES) {
            // SAFETY: as the caller says.
            unsafe {
                C::<V>::load(from.add(k), im).exchanged().store_by_turns(to.add(2 * k));
            }
        }
    }

    /// Turns the transform of pairs into twice the half-spectrum of the real row.
    ///
    /// # Safety
    /// As [`Self::emit`].
    #[inline(always)]
    unsafe fn unpack(&self, from: *mut V::Real, im: usize, to: *mut V::Real) {
        let (n, width) = (self.lines.row.n, self.lines.row.width);
        let halves = self.lines.halves.as_ptr();
        // SAFETY: as for `pack`. The row goes on periodically, so element n is element 0.
        unsafe {
            (*from.add(n), *from.add(im + n)) = (*from, *from.add(im));
            for k in (0..n).step_by(V::LANES) {
                let (even, odd) = C::<V>::load(from.add(k), im).untangled(mirrored(from, im, n, k));
                let odd = odd.mul(C::load(halves.add(k), width));
                even.add(odd).store(to.add(k), im);
            }
            let (two, zero) = (V::Real::of(2.0), V::Real::ZERO);
            *to.add(n) = (*from).minus(*from.add(im)).times(two);
            *to.add(im + n) = zero;
        }
    }
}

/// The row opposite to a row; with a height of 0, which stands for rows on their own, the row itself.
#[inline(always)]
fn mirror_of(row: usize, height: usize) -> usize {
    if height == 0 || row == 0 { row } else { height - row }
}
