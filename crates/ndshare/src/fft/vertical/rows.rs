//! The transform along the rows.
//!
//! A row that is whole vectors goes *across*, see [`super::across`]. Any other length goes *along*, see [`super::along`].

use super::across::{Across, Apart, ByTurns, Room, is_in_vectors};
use super::along::Along;
use super::columns::Planar;
use super::lanes::{Lanes, Real, Work};
use super::radix::{Ahead, Line, Parts};
use std::fmt;

/// How rows of one length are transformed.
pub(super) struct Row<R> {
    pub n: usize,
    /// The length with room to the next full vector.
    pub width: usize,
    kind: Kind<R>,
}

enum Kind<R> {
    Across(Across<R>),
    Along(Along<R>),
}

impl<R: Real> Row<R> {
    pub(super) fn new(n: usize, lanes: usize) -> Self {
        let kind = match is_in_vectors(n, lanes) {
            true => Kind::Across(Across::new(n, lanes)),
            false => Kind::Along(Along::new(n, lanes)),
        };
        Self { n, width: n.next_multiple_of(lanes), kind }
    }

    /// How many rows are done at once.
    pub(super) fn group(&self, lanes: usize) -> usize {
        if self.is_across() { 1 } else { lanes }
    }

    /// Numbers of scratch that [`Self::run`] needs.
    pub(super) fn scratch(&self, lanes: usize) -> usize {
        match &self.kind {
            Kind::Across(across) => across.scratch(lanes),
            Kind::Along(along) => along.scratch(lanes),
        }
    }

    /// Whether [`Self::run_to_complex`] may be used.
    pub(super) fn is_across(&self) -> bool {
        self.along().is_none()
    }

    /// The plan of rows that go along.
    pub(super) fn along(&self) -> Option<&Along<R>> {
        if let Kind::Along(along) = &self.kind { Some(along) } else { None }
    }

    /// Transforms a group of rows. `to` may be `from`. Rows that go along have their parts apart.
    ///
    /// # Safety
    /// Both must be a group of rows of `width` complex numbers, and the scratch as large as said above.
    #[inline(always)]
    pub(super) unsafe fn run<V: Lanes<Real = R>>(&self, from: Line<R>, to: Planar<R>, room: Room<'_, R>) {
        // SAFETY: as the caller says.
        unsafe { V::shell(Rows { row: self, from, to, room }) }
    }

    /// # Safety
    /// As [`Self::run`].
    #[inline(always)]
    unsafe fn run_here<V: Lanes<Real = R>>(&self, from: Line<R>, to: Planar<R>, room: Room<'_, R>) {
        debug_assert!(to.im >= self.width, "the parts of a row are apart");
        debug_assert!(
            self.group(V::LANES) == 1 || from.next.min(to.pitch) >= self.width,
            "the rows of a group are apart"
        );
        match &self.kind {
            // SAFETY: as the caller says.
            Kind::Across(across) => unsafe { across.run::<V>(from, room, &Apart(to)) },
            // SAFETY: as the caller says.
            Kind::Along(along) => unsafe {
                let Parts::Apart(im) = from.parts else { unreachable!("rows that go along are staged") };
                let from = Planar { at: from.at, im, pitch: from.next };
                along.read::<V>(from, 0..self.width, room.scratch);
                let done = along.transform::<V>(room.scratch, Ahead::NOTHING);
                along.write::<V>(done, to);
            },
        }
    }

    /// Transforms a group of rows, and says where the results are: in the scratch, which is less memory to go through, or
    /// in `rows`. There is room for a vector before and behind either part.
    ///
    /// # Safety
    /// As for [`Self::run`], with `rows` for `to`; and these must have that room.
    #[inline(always)]
    pub(super) unsafe fn run_somewhere<V: Lanes<Real = R>>(
        &self,
        from: Line<R>,
        rows: Planar<R>,
        room: Room<'_, R>,
    ) -> Planar<R> {
        let to = if let Kind::Across(across) = &self.kind { across.results(room.scratch, V::LANES) } else { rows };
        // SAFETY: as the caller says. What the steps have left in the scratch is of no use when results are written there.
        unsafe { self.run::<V>(from, to, room) };
        to
    }

    /// Transforms one row, times a factor, to complex numbers one after another; with a mirror, the upper half in
    /// reverse and conjugate to another row, as [`super::lines::Target::Fold`] has it.
    ///
    /// # Safety
    /// As for [`Self::run`], of a row that goes across; `row` must have room for the results.
    #[inline(always)]
    pub(super) unsafe fn run_to_complex<V: Lanes<Real = R>>(
        &self,
        from: Line<R>,
        (row, mirror): (*mut R, Option<*mut R>),
        scale: R,
        room: Room<'_, R>,
    ) {
        let Kind::Across(across) = &self.kind else { unreachable!("rows that go along have another way") };
        debug_assert!(!row.is_null(), "there is room for the results");
        // SAFETY: as the caller says. The two numbers that both rows have are there once, and then twice.
        unsafe {
            across.run::<V>(from, room, &ByTurns { row, mirror, n: self.n, scale });
            if let Some(mirror) = mirror {
                let copy = |from: *mut R, to: *mut R| {
                    to.write_unaligned(from.read_unaligned());
                    to.add(1).write_unaligned(R::ZERO.minus(from.add(1).read_unaligned()));
                };
                copy(row, mirror);
                copy(mirror.add(self.n), row.add(self.n));
            }
        }
    }
}

impl<R: Real> fmt::Display for Row<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Across(across) => across.fmt(f),
            Kind::Along(along) => along.fmt(f),
        }
    }
}

/// A group of rows to be transformed, in a function of its own.
struct Rows<'a, R> {
    row: &'a Row<R>,
    from: Line<R>,
    to: Planar<R>,
    room: Room<'a, R>,
}

impl<V: Lanes> Work<V> for Rows<'_, V::Real> {
    type Out = ();
    #[inline(always)]
    unsafe fn run(self) {
        // SAFETY: as the caller says.
        unsafe { self.row.run_here::<V>(self.from, self.to, self.room) }
    }
}
