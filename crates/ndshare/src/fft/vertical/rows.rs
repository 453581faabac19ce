//! The transform along the rows.
//!
//! A row whose length is a multiple of the vector goes *across*: with n = m * lanes, element `j * lanes + l` lies in
//! lane l of vector j. So the vectors of the row are a line of length m; then come one transposition of tiles, the
//! roots, and transforms of length `lanes`. The row never leaves the first-level cache. Any other length goes *along*, see
//! [`super::along`].

use super::along::Along;
use super::columns::Planar;
use super::lanes::{Lanes, Real, Work};
use super::radix::{Ahead, C, Ends, Io, Line, Parts, dft_of_lanes};
use super::steps::{Steps, root};
use std::fmt;

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
        /// For each group of vectors, and each lane: the root of each vector, real parts and imaginary parts.
        roots: Vec<R>,
    },
    Along(Along<R>),
}

/// Whether rows of a length go across.
pub(super) fn goes_across(n: usize, lanes: usize) -> bool {
    n.is_multiple_of(lanes) && n / lanes >= lanes
}

impl<R: Real> Row<R> {
    pub(super) fn new(n: usize, lanes: usize) -> Self {
        let kind = if goes_across(n, lanes) {
            Kind::Across { steps: Steps::new(n / lanes), roots: roots(n, lanes) }
        } else {
            Kind::Along(Along::new(n, lanes))
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
            Kind::Across { steps, .. } => {
                2 * self.n + 2 * lanes * lanes + steps.scratch(lanes, 1).max(2 * (self.n + 2 * lanes))
            }
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
            Kind::Across { steps, roots } => unsafe { self.across::<V>(steps, roots, from, room, &Apart(to)) },
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
        let to = self.results::<V>(&room).unwrap_or(rows);
        // SAFETY: as the caller says. What the steps have left in the scratch is of no use when results are written there.
        unsafe { self.run::<V>(from, to, room) };
        to
    }

    /// Where the results of a row that goes across fit into the scratch: where its passes have had theirs.
    #[inline(always)]
    fn results<V: Lanes<Real = R>>(&self, room: &Room<'_, R>) -> Option<Planar<R>> {
        let after_tile = room.scratch.wrapping_add(2 * self.n + 2 * V::LANES * V::LANES);
        let to = Planar { at: after_tile.wrapping_add(V::LANES), im: self.n + 2 * V::LANES, pitch: 0 };
        self.is_across().then_some(to)
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
        debug_assert!(self.is_across() && from.is_in_vectors::<V>(), "one row that goes across");
        let Kind::Across { steps, roots } = &self.kind else { return };
        let by_turns = ByTurns { row, mirror, n: self.n, scale };
        // SAFETY: as the caller says. The two numbers that both rows have are there once, and then twice.
        unsafe {
            self.across::<V>(steps, roots, from, room, &by_turns);
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

    /// # Safety
    /// As [`Self::run`].
    #[inline(always)]
    unsafe fn across<V: Lanes<Real = R>>(
        &self,
        steps: &Steps<R>,
        roots: &[R],
        from: Line<R>,
        room: Room<'_, R>,
        to: &impl Results<V>,
    ) {
        let (m, im) = (steps.len, V::LANES * V::LANES);
        debug_assert!(m >= V::LANES && m * V::LANES == self.n, "a row of {} in vectors of {}", self.n, V::LANES);
        debug_assert_eq!(roots.len(), m.div_ceil(V::LANES) * 2 * im, "roots for each tile");
        let [first_pass, second_pass, tiles @ ..] = room.ahead;
        // SAFETY: scratch holds the row, a tile of both parts, and what the steps need.
        unsafe {
            let (row, tile) = (room.scratch, room.scratch.add(2 * self.n));
            let (line, part) = match from.parts {
                Parts::Apart(part) if room.may_spoil => (from, part),
                _ => (Line::packed::<V>(row, 1), V::LANES),
            };
            let ahead = [*first_pass, *second_pass];
            steps.run::<V>(Io { ahead, ..Io::of(from, line, 1) }, tile.add(2 * im));
            for group in 0..m.div_ceil(V::LANES) {
                let (first, roots) = (first_of(group, m, V::LANES), roots.as_ptr().add(group * 2 * im));
                tiles.iter().for_each(|ahead| ahead.after(first).ask::<V>(V::LANES));
                let at = line.at.add(first * line.step);
                V::transpose(at, line.step, tile, V::LANES);
                V::transpose(at.add(part), line.step, tile.add(im), V::LANES);
                dft_of_lanes(&Tile { tile, roots, to, first, m });
            }
        }
    }
}

impl<R: Real> fmt::Display for Row<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Across { steps, .. } => {
                write!(f, "one row at once: {} x {} (radices {})", steps.len, self.n / steps.len, steps.radices())
            }
            Kind::Along(along) => along.fmt(f),
        }
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

/// Where the results of a row that goes across are put.
trait Results<V: Lanes> {
    /// Takes a vector of results from number k on, which are in the upper half or not.
    ///
    /// # Safety
    /// There must be room for the row.
    unsafe fn put(&self, k: usize, upper: bool, x: C<V>);
}

/// Real and imaginary parts apart.
struct Apart<R>(Planar<R>);

impl<V: Lanes> Results<V> for Apart<V::Real> {
    #[inline(always)]
    unsafe fn put(&self, k: usize, _: bool, x: C<V>) {
        // SAFETY: as the caller says.
        unsafe { x.store(self.0.at.add(k), self.0.im) }
    }
}

/// As [`Row::run_to_complex`] says.
struct ByTurns<R> {
    row: *mut R,
    mirror: Option<*mut R>,
    n: usize,
    scale: R,
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

/// The first vector of a group. The last group overlaps the one before where m is no multiple of the lanes.
#[inline(always)]
fn first_of(group: usize, m: usize, lanes: usize) -> usize {
    (group * lanes).min(m - lanes)
}

/// The roots between the vectors' line and the lanes: for vector k and lane l `exp(-2 pi i l k / n)`.
fn roots<R: Real>(n: usize, lanes: usize) -> Vec<R> {
    let (m, mut table) = (n / lanes, Vec::new());
    for group in 0..m.div_ceil(lanes) {
        let first = first_of(group, m, lanes);
        for lane in 0..lanes {
            table.extend((first..first + lanes).map(|k| R::of(root(lane * k, n).0)));
            table.extend((first..first + lanes).map(|k| R::of(root(lane * k, n).1)));
        }
    }
    table
}
