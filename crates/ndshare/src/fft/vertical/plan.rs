//! The phases of a transform, and their pieces for the workers.

use super::columns::{self, Emit, Fetch, Planar, Strip};
use super::lanes::{Lanes, Real};
use super::lines::{Group, Lines, Source, Target};
use super::long::{Long, Second};
use super::order::{AxisOrder, is_whole_pages};
use super::problem::{Plane, Problem, Transform, Vector};
use super::scratch::Scratch;
use super::split::Split;
use super::stage::{Stage, stage_bytes, strips_at_once};
use crate::element::Number;
use crate::error::Result;
use crate::kernel::LINE;
use crate::pool::{self, Check};
use crate::prim::{AtomicU64, Ordering};
use std::fmt;
use std::ops::Range;

/// A piece of rows is about so many elements.
const PIECE: usize = 1 << 14;
/// Workers beyond so many find no scratch.
const MOST_WORKERS: usize = 64;

/// So many neighbouring strips are one piece at the most: rows are no whole lines of the cache, so neighbours share some,
/// and each strip asks for what the next one will read.
const STRIPS_OF_PIECE: usize = 8;
/// Each worker gets so many pieces of a phase, if there are enough.
const PIECES_OF_WORKER: usize = 4;

/// The plan of a problem in one precision.
pub(super) struct Plan<R> {
    problem: Problem,
    pub vector: Vector,
    order: AxisOrder,
    columns: Option<Split<R>>,
    lines: Lines<R>,
    /// Where the plane is one line.
    long: Option<Long<R>>,
}

/// One phase: strips of columns, or groups of rows.
#[derive(Clone, Copy)]
enum Phase<R> {
    Columns(Fetch<R>, Emit<R>),
    /// Strips of complex columns, exchanged or not, to where they come from, by way of a stage.
    Staged(Plane, bool),
    Rows(Source<R>, Target<R>),
    /// The rows of one long line, to where each is a column; exchanged or not.
    LongRows(Planar<R>, Plane, bool),
}

impl Vector {
    pub(super) fn lanes(self, double: bool) -> usize {
        match self {
            Self::Scalar => 4,
            Self::Neon => 4 >> usize::from(double),
            Self::Avx2 => 8 >> usize::from(double),
            Self::Avx512 => 16 >> usize::from(double),
        }
    }
}

impl<R: Real> Plan<R> {
    pub(super) fn new(problem: &Problem, vector: Vector, order: AxisOrder) -> Self {
        let lanes = vector.lanes(problem.double);
        let order = if problem.half_first { AxisOrder::ColumnsFirst } else { order };
        let pairs = is_in_pairs(problem);
        let long = Long::of(problem, lanes);
        let as_plane = |long: &Long<R>| Problem { rows: long.n1, cols: long.n2, both_axes: true, ..*problem };
        let problem = long.as_ref().map_or(*problem, as_plane);
        let columns = problem.both_axes.then(|| Split::new(problem.rows, lanes));
        Self { problem, vector, order, columns, lines: Lines::new(row_length(&problem), lanes, pairs), long }
    }

    /// Whether columns are transformed where the rows have been written: in the output.
    fn is_in_place(&self, into: &Plane, lanes: usize) -> bool {
        let is_forward = self.problem.both_axes && self.problem.transform != Transform::C2R;
        let is_packed = into.col_stride == 2 * size_of::<R>() as isize && into.cols >= lanes;
        self.order == AxisOrder::RowsFirst && is_forward && is_packed
    }

    /// Whether the columns of a half of the first axis are written to the output, where their rows are transformed.
    fn is_half_in_place(&self, into: &Plane) -> bool {
        let is_half = self.problem.half_first && self.problem.transform == Transform::R2C;
        is_half && into.col_stride == 2 * size_of::<R>() as isize
    }

    /// The rows of the output as the rows between the phases, real and imaginary parts apart. That saves a third of the
    /// memory that is moved, where columns come first and rows go across, and so are read before they are written.
    fn middle_in(&self, into: &Plane) -> Option<Planar<R>> {
        let size = size_of::<R>();
        let pitch = usize::try_from(into.row_stride).ok()?;
        let complex = self.problem.both_axes && !is_real(self.problem.transform);
        let before = self.order == AxisOrder::ColumnsFirst && self.lines.row.is_across();
        let packed =
            into.col_stride == 2 * size as isize && pitch >= 2 * size * into.cols && pitch.is_multiple_of(size);
        let suitable = complex && before && packed && !is_whole_pages(into.row_stride);
        let suitable = suitable && into.data.addr().is_multiple_of(size);
        suitable.then(|| Planar { at: into.data.cast(), im: into.cols, pitch: pitch / size })
    }

    /// The rows between the phases: how many numbers, and where.
    fn middle<V: Lanes<Real = R>>(&self) -> (usize, Planar<R>) {
        let Problem { rows, cols, transform, both_axes, .. } = self.problem;
        if !both_axes {
            return (0, Planar::NOWHERE);
        }
        let (rows, cols) = match self.order {
            AxisOrder::ColumnsFirst if is_real(transform) => (rows / 2 + 1, cols),
            AxisOrder::RowsFirst if is_real(transform) => (rows, cols / 2 + 1),
            _ => (rows, cols),
        };
        let line = LINE / size_of::<R>();
        // One line more, so that real and imaginary parts do not fall on the same lines of the cache, and an odd number
        // of lines for each row, so that a column does not either.
        let im = cols.next_multiple_of(2 * V::LANES).next_multiple_of(line) + line;
        let pitch = 2 * im + line;
        (rows.next_multiple_of(V::LANES) * pitch, Planar { im, pitch, ..Planar::NOWHERE })
    }

    /// What is done, in order.
    fn phases(&self, from: Plane, into: Plane, scale: R, middle: Planar<R>, in_place: bool) -> Vec<Phase<R>> {
        let Problem { input, both_axes, transform, .. } = self.problem;
        let inverse = transform == Transform::Inverse;
        let columns = |exchanged| match is_whole_pages(into.row_stride) {
            true => Phase::Staged(into, exchanged),
            false => {
                let (fetch, emit) = self.in_place(into, exchanged);
                Phase::Columns(fetch, emit)
            }
        };
        match (self.order, transform) {
            (AxisOrder::RowsFirst, Transform::R2C) if in_place => {
                vec![Phase::Rows(self.two_rows(from), Target::Halves(into)), columns(false)]
            }
            (AxisOrder::RowsFirst, Transform::R2C) if both_axes => vec![
                Phase::Rows(self.two_rows(from), Target::PlanarHalves(middle)),
                Phase::Columns(Fetch::Planar(middle), Emit::Complex(into, false, Some(scale))),
            ],
            (AxisOrder::RowsFirst, Transform::C2R) if both_axes => vec![
                Phase::Columns(Fetch::Complex(from, input, true), Emit::Planar(middle)),
                Phase::Rows(Source::Halves(middle), Target::Two(into)),
            ],
            (AxisOrder::RowsFirst, Transform::Forward | Transform::Inverse) if in_place => {
                vec![Phase::Rows(Source::Complex(from, input, inverse), Target::Complex(into, false)), columns(inverse)]
            }
            (AxisOrder::RowsFirst, Transform::Forward | Transform::Inverse) if both_axes => vec![
                Phase::Rows(Source::Complex(from, input, inverse), Target::Planar(middle)),
                Phase::Columns(Fetch::Planar(middle), Emit::Complex(into, inverse, Some(scale))),
            ],
            _ if both_axes => self.columns_first(from, into, scale, middle),
            _ => vec![self.rows_alone(from, into)],
        }
    }

    /// Complex columns, exchanged or not, to where they come from.
    fn in_place(&self, plane: Plane, exchanged: bool) -> (Fetch<R>, Emit<R>) {
        (Fetch::Complex(plane, self.spectrum(), false), Emit::Complex(plane, exchanged, None))
    }

    /// How many strips are on the stage at once, and of how many bytes its rows are.
    fn on_stage(&self, lanes: usize) -> (usize, usize) {
        let strip_bytes = lanes * self.spectrum().size();
        let strips = strips_at_once(self.problem.rows, strip_bytes);
        (strips, strips * strip_bytes)
    }

    /// The numbers of a spectrum.
    fn spectrum(&self) -> Number {
        if self.problem.double { Number::C128 } else { Number::C64 }
    }

    /// Two real rows at a time; rows beyond those of the problem are not there.
    fn two_rows(&self, from: Plane) -> Source<R> {
        Source::Two(Plane { rows: from.rows.min(self.problem.rows), ..from }, self.problem.input)
    }

    /// What is done, in order, with columns first.
    fn columns_first(&self, from: Plane, into: Plane, scale: R, middle: Planar<R>) -> Vec<Phase<R>> {
        let Problem { rows, input, transform, half_first, .. } = self.problem;
        let inverse = transform == Transform::Inverse;
        match transform {
            Transform::R2C if self.is_half_in_place(&into) => vec![
                Phase::Columns(Fetch::Real(from, input), Emit::HalfByTurns(into)),
                Phase::Rows(Source::Complex(into, self.spectrum(), false), Target::Complex(into, false)),
            ],
            Transform::R2C if half_first => vec![
                Phase::Columns(Fetch::Real(from, input), Emit::Half(middle)),
                Phase::Rows(Source::Planar(middle), Target::Complex(into, false)),
            ],
            Transform::C2R if half_first => vec![
                Phase::Rows(Source::Complex(from, input, true), Target::Planar(middle)),
                Phase::Columns(Fetch::Half(middle), Emit::Real(into, scale)),
            ],
            Transform::R2C => vec![
                Phase::Columns(Fetch::Real(from, input), Emit::Half(middle)),
                Phase::Rows(Source::Planar(middle), Target::Fold(into, rows)),
            ],
            Transform::C2R => vec![
                Phase::Rows(Source::Unfold(from, input, rows), Target::Planar(middle)),
                Phase::Columns(Fetch::Half(middle), Emit::Real(into, scale)),
            ],
            Transform::Forward | Transform::Inverse => vec![
                Phase::Columns(Fetch::Complex(from, input, inverse), Emit::Planar(middle)),
                Phase::Rows(Source::Planar(middle), Target::Complex(into, inverse)),
            ],
        }
    }

    /// The only phase of a transform along the rows.
    fn rows_alone(&self, from: Plane, into: Plane) -> Phase<R> {
        let (Problem { input, transform, .. }, pairs) = (self.problem, is_in_pairs(&self.problem));
        let inverse = transform == Transform::Inverse;
        let (source, target) = match transform {
            Transform::R2C if pairs => (Source::Pairs(from, input), Target::Unpack(into)),
            Transform::R2C => (Source::Real(from, input), Target::Half(into)),
            Transform::C2R if pairs => (Source::Pack(from, input), Target::Pairs(into)),
            // A height of one: the mirror image of a row is in the row itself.
            Transform::C2R => (Source::Unfold(from, input, 0), Target::Real(into)),
            _ => (Source::Complex(from, input, inverse), Target::Complex(into, inverse)),
        };
        Phase::Rows(source, target)
    }

    /// See [`super::Vertical::run`].
    ///
    /// # Safety
    /// As there; and the CPU must have the vector.
    pub(super) unsafe fn run<V: Lanes<Real = R>>(
        &self,
        from: Plane,
        into: Plane,
        scale: f64,
        workers: usize,
        check: Check<'_>,
    ) -> Result<()> {
        let halved = self.problem.transform == Transform::R2C && (self.problem.both_axes || is_in_pairs(&self.problem));
        let scale = R::of(if halved { scale / 2.0 } else { scale });
        if let Some(long) = &self.long {
            // SAFETY: as the caller says.
            return unsafe { self.run_long::<V>(long, &from, &into, scale, workers, check) };
        }
        let in_place = self.is_in_place(&into, V::LANES);
        let phases = |middle| self.phases(from, into, scale, middle, in_place);
        let middle =
            if in_place || self.is_half_in_place(&into) { Some(Planar::NOWHERE) } else { self.middle_in(&into) };
        // SAFETY: as the caller says.
        unsafe { self.execute::<V>(&phases, middle, scale, workers, check) }
    }

    /// Transforms one long line.
    ///
    /// # Safety
    /// As [`Self::run`].
    unsafe fn run_long<V: Lanes<Real = R>>(
        &self,
        long: &Long<R>,
        from: &Plane,
        into: &Plane,
        scale: R,
        workers: usize,
        check: Check<'_>,
    ) -> Result<()> {
        let (Problem { input, transform, .. }, whole) = (self.problem, long.padded(from, self.problem.input)?);
        let from = long.read_from(whole.as_ref().map_or(from, |whole| &whole.line));
        let (into, inverse) = (long.written_to(into), transform == Transform::Inverse);
        let phases = |middle| {
            let columns = Phase::Columns(Fetch::Complex(from, input, inverse), Emit::Planar(middle));
            vec![columns, Phase::LongRows(middle, into, inverse)]
        };
        // SAFETY: as the caller says; all of the line is there.
        unsafe { self.execute::<V>(&phases, None, scale, workers, check) }
    }

    /// Whether the rows are transformed before the columns.
    pub(super) fn is_rows_first(&self) -> bool {
        self.order == AxisOrder::RowsFirst
    }

    /// See [`super::Convolution::run`].
    ///
    /// # Safety
    /// As there; and the CPU must have the vector.
    pub(super) unsafe fn convolve<V: Lanes<Real = R>>(
        &self,
        from: Plane,
        (spectrum, kept): (Plane, Option<Plane>),
        into: Plane,
        scale: f64,
        workers: usize,
        check: Check<'_>,
    ) -> Result<()> {
        let (Problem { rows, input, .. }, number) = (self.problem, self.spectrum());
        debug_assert!(kept.is_none() || self.order == AxisOrder::RowsFirst, "only columns at the end are whole");
        // The transform of real columns is twice as large.
        let scale = R::of(scale / 2.0);
        let phases = |middle| match self.order {
            AxisOrder::RowsFirst => vec![
                Phase::Rows(self.two_rows(from), Target::PlanarHalves(middle)),
                Phase::Columns(Fetch::Planar(middle), Emit::Filtered(spectrum, number, middle, kept)),
                Phase::Rows(Source::Halves(middle), Target::Two(into)),
            ],
            AxisOrder::ColumnsFirst => vec![
                Phase::Columns(Fetch::Real(from, input), Emit::Half(middle)),
                Phase::Rows(Source::Planar(middle), Target::Filter(middle, spectrum, number, rows)),
                Phase::Columns(Fetch::Half(middle), Emit::Real(into, scale)),
            ],
        };
        // SAFETY: as the caller says.
        unsafe { self.execute::<V>(&phases, None, scale, workers, check) }
    }

    /// Runs phases one after another, with scratch for them; `middle` is where the rows between them are, if not there.
    ///
    /// # Safety
    /// What the phases read and write must be as they say; and the CPU must have the vector.
    unsafe fn execute<V: Lanes<Real = R>>(
        &self,
        phases: &dyn Fn(Planar<R>) -> Vec<Phase<R>>,
        middle: Option<Planar<R>>,
        scale: R,
        workers: usize,
        check: Check<'_>,
    ) -> Result<()> {
        let workers = workers.clamp(1, MOST_WORKERS);
        let (numbers, own) = self.middle::<V>();
        let numbers = if middle.is_some() { 0 } else { numbers.next_multiple_of(LINE) };
        let stage =
            if phases(own).iter().any(|phase| matches!(phase, Phase::Staged(..))) { self.stage(V::LANES) } else { 0 };
        let of_worker = (self.scratch(V::LANES) + stage).next_multiple_of(LINE);
        let scratch = Scratch::of((numbers + workers * of_worker) * size_of::<R>())?;
        debug_assert!(scratch.at().cast::<R>().is_aligned() && self.vector.is_present(), "what the phases work with");
        let at = scratch.at().cast::<R>();
        let phases = phases(middle.unwrap_or(Planar { at, ..own }));
        let run = Run::<V> {
            plan: self,
            phases: &phases,
            scale,
            workers,
            free: AtomicU64::new(u64::MAX >> (64 - workers)),
            scratch: at.wrapping_add(numbers),
            of_worker,
            done: AtomicU64::new(0),
        };
        let pieces: usize = phases.iter().map(|phase| run.pieces(phase)).sum();
        // SAFETY: as the caller says; the pool runs each piece once.
        pool::run(workers, pieces, &|piece| unsafe { run.piece(piece) }, &|| (), check)
    }

    /// Numbers of a stage.
    fn stage(&self, lanes: usize) -> usize {
        stage_bytes(self.problem.rows, self.on_stage(lanes).1) / size_of::<R>()
    }

    /// Numbers of scratch for one worker, up to where its stage begins.
    fn scratch(&self, lanes: usize) -> usize {
        let columns = self.columns.as_ref().map_or(0, |split| columns::scratch(split, lanes));
        let long = self.long.as_ref().map_or(0, |long| long.scratch(lanes));
        columns.max(self.lines.scratch(lanes)).max(long).next_multiple_of(LINE)
    }
}

impl<R: Real> fmt::Display for Plan<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = &self.lines.row;
        if let (Some(long), Some(columns)) = (&self.long, &self.columns) {
            return write!(f, "{}, one long line as a plane; columns: {columns}; rows: {long}", self.vector);
        }
        let Some(columns) = &self.columns else { return write!(f, "{}, rows: {rows}", self.vector) };
        let (order, strips) = match self.order {
            AxisOrder::RowsFirst => ("rows first", STRIPS_OF_PIECE),
            AxisOrder::ColumnsFirst => ("columns first", 1),
        };
        let lanes = self.vector.lanes(self.problem.double);
        write!(
            f,
            "{}, {order}; rows: {rows}; columns, {lanes} in a vector and {strips} strips a piece: {columns}",
            self.vector
        )
    }
}

fn is_real(transform: Transform) -> bool {
    matches!(transform, Transform::R2C | Transform::C2R)
}

/// Whether neighbours of a real row are transformed as one complex number. Two rows as one would let the one spoil the
/// other, if only by rounding, and rows of one-dimensional transforms have nothing to do with each other.
fn is_in_pairs(problem: &Problem) -> bool {
    is_real(problem.transform) && !problem.both_axes && problem.cols.is_multiple_of(2)
}

/// How many complex numbers a row is transformed as.
pub(super) fn row_length(problem: &Problem) -> usize {
    if is_in_pairs(problem) { problem.cols / 2 } else { problem.cols }
}

/// A transform that is running.
struct Run<'a, V: Lanes> {
    plan: &'a Plan<V::Real>,
    phases: &'a [Phase<V::Real>],
    scale: V::Real,
    workers: usize,
    /// A bit for each worker's scratch that nobody uses.
    free: AtomicU64,
    scratch: *mut V::Real,
    of_worker: usize,
    /// How many pieces are done.
    done: AtomicU64,
}

// SAFETY: workers write to different strips or rows, each with a scratch of its own, and start a phase when the one
// before is done.
unsafe impl<V: Lanes> Sync for Run<'_, V> {}

impl<V: Lanes> Run<'_, V> {
    /// Rows of one piece: whole groups.
    fn rows_of_piece(&self) -> usize {
        (PIECE / self.plan.lines.row.n).max(1).next_multiple_of(self.group())
    }

    /// How many rows are done at once.
    fn group(&self) -> usize {
        if self.plan.long.is_some() { V::LANES } else { self.plan.lines.row.group(V::LANES) }
    }

    /// How many rows the phase of rows has.
    fn rows(&self) -> usize {
        let Problem { rows, both_axes, transform, .. } = self.plan.problem;
        match self.plan.order {
            _ if !both_axes || !is_real(transform) => rows,
            AxisOrder::RowsFirst => rows.div_ceil(2),
            AxisOrder::ColumnsFirst => rows / 2 + 1,
        }
    }

    /// How many strips of so many columns there are.
    fn strips(&self, width: usize) -> usize {
        let Problem { cols, transform, .. } = self.plan.problem;
        let is_half = self.plan.order == AxisOrder::RowsFirst && is_real(transform);
        if is_half { cols / 2 + 1 } else { cols }.div_ceil(width)
    }

    fn strips_of_piece(&self, width: usize) -> usize {
        let most = if self.plan.order == AxisOrder::RowsFirst { STRIPS_OF_PIECE } else { 1 };
        (self.strips(width) / (PIECES_OF_WORKER * self.workers)).clamp(1, most)
    }

    /// The strips of a piece of columns.
    fn strips_of(&self, number: usize, width: usize) -> Range<usize> {
        let each = self.strips_of_piece(width);
        number * each..((number + 1) * each).min(self.strips(width))
    }

    fn pieces(&self, phase: &Phase<V::Real>) -> usize {
        match phase {
            Phase::Columns(fetch, _) => self.pieces_of_columns(fetch.width(V::LANES)),
            Phase::Staged(..) => self.pieces_of_columns(V::LANES),
            Phase::Rows(..) | Phase::LongRows(..) => self.rows().div_ceil(self.rows_of_piece()),
        }
    }

    fn pieces_of_columns(&self, width: usize) -> usize {
        self.strips(width).div_ceil(self.strips_of_piece(width))
    }

    /// # Safety
    /// As [`Plan::run`]; each piece once.
    unsafe fn piece(&self, number: usize) {
        debug_assert!(number < self.phases.iter().map(|phase| self.pieces(phase)).sum(), "piece {number}");
        let mut before = 0;
        for phase in self.phases {
            let pieces = self.pieces(phase);
            if number < before + pieces {
                self.await_done(before);
                let (slot, scratch) = self.take();
                let _done = Done { run: self, slot };
                // SAFETY: what the phase reads is done, and the scratch is this worker's.
                return unsafe { self.part(phase, number - before, scratch) };
            }
            before += pieces;
        }
    }

    /// # Safety
    /// As [`Self::piece`].
    unsafe fn part(&self, phase: &Phase<V::Real>, number: usize, scratch: *mut V::Real) {
        match *phase {
            Phase::Columns(fetch, emit) => {
                let strips = self.strips_of(number, fetch.width(V::LANES));
                for number in strips.clone() {
                    let (next, asked) = (number + 1 < strips.end, number > strips.start);
                    // SAFETY: as the caller says.
                    unsafe { self.strip((fetch, emit), number, (next, asked), scratch) }
                }
            }
            // SAFETY: as the caller says.
            Phase::Staged(ref plane, exchanged) => unsafe {
                self.staged(plane, exchanged, self.strips_of(number, V::LANES), scratch);
            },
            Phase::Rows(source, target) => {
                let (lines, scale, rows) = (&self.plan.lines, self.scale, self.plan.problem.rows);
                let piece = self.rows_of(number);
                for first in piece.clone().step_by(self.group()) {
                    let end = piece.end;
                    // SAFETY: as the caller says.
                    unsafe { V::shell(Group::<V> { lines, source, target, first, end, rows, scale, scratch }) }
                }
            }
            Phase::LongRows(from, ref into, exchanged) => {
                let (Some(long), scale, piece) = (&self.plan.long, self.scale, self.rows_of(number)) else { return };
                for first in piece.clone().step_by(self.group()) {
                    let end = piece.end;
                    // SAFETY: as the caller says.
                    unsafe { V::shell(Second::<V> { long, from, into, exchanged, first, end, scale, scratch }) }
                }
            }
        }
    }

    /// Transforms a strip; whether the next one follows, and whether the one before has asked for this one.
    ///
    /// # Safety
    /// As [`Self::piece`].
    unsafe fn strip(
        &self,
        (fetch, emit): (Fetch<V::Real>, Emit<V::Real>),
        number: usize,
        (next, asked): (bool, bool),
        scratch: *mut V::Real,
    ) {
        let (Some(split), n) = (&self.plan.columns, self.plan.problem.rows) else { return };
        debug_assert!(number < self.strips(fetch.width(V::LANES)) && !scratch.is_null(), "strip {number}");
        // SAFETY: as the caller says.
        unsafe { V::shell(Strip::<V> { split, n, fetch, emit, number, next, asked, scratch }) }
    }

    /// Transforms strips where they are, as many at once as the stage has room for. It is the end of the scratch.
    ///
    /// # Safety
    /// As [`Self::piece`].
    unsafe fn staged(&self, plane: &Plane, exchanged: bool, strips: Range<usize>, scratch: *mut V::Real) {
        let (at_once, row_bytes) = self.plan.on_stage(V::LANES);
        debug_assert!(strips.end <= self.strips(V::LANES), "{strips:?} of a piece");
        let at = scratch.wrapping_add(self.plan.scratch(V::LANES)).cast::<u8>();
        let stage = Stage::new(Plane { rows: self.plan.problem.rows, ..*plane }, at, row_bytes);
        let mut done = 0..0;
        for first in strips.clone().step_by(at_once) {
            let end = (first + at_once).min(strips.end);
            let columns = first * V::LANES..(end * V::LANES).min(plane.cols);
            // SAFETY: as the caller says: each worker has strips and a stage of its own.
            unsafe { stage.exchange::<V>(done, columns.clone()) };
            let ends = self.plan.in_place(stage.plane(columns.start), exchanged);
            for number in first..end {
                // SAFETY: as above; what is on the stage stands in the place of its plane.
                unsafe { self.strip(ends, number, (false, false), scratch) }
            }
            done = columns;
        }
        // SAFETY: as above.
        unsafe { stage.exchange::<V>(done, 0..0) };
    }

    /// The rows of a piece.
    fn rows_of(&self, number: usize) -> Range<usize> {
        let first = number * self.rows_of_piece();
        first..(first + self.rows_of_piece()).min(self.rows())
    }

    /// Waits until the pieces before a phase are done. All of them have been taken, by threads that are at work on
    /// them and wait for nothing, because pieces are taken in order: so this takes no longer than the piece at hand.
    fn await_done(&self, before: usize) {
        let mut looks = 0_u32;
        // Acquire: what other workers have written in the phase before is seen in this one.
        while self.done.load(Ordering::Acquire) < before as u64 {
            looks += 1;
            if looks.is_multiple_of(1000) { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
    }

    /// A scratch that nobody uses. There are as many as workers.
    fn take(&self) -> (u32, *mut V::Real) {
        loop {
            let free = self.free.load(Ordering::Relaxed);
            let slot = free.trailing_zeros();
            let rest = free & free.wrapping_sub(1);
            if free != 0 && self.free.compare_exchange(free, rest, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                return (slot, self.scratch.wrapping_add(slot as usize * self.of_worker));
            }
            std::hint::spin_loop();
        }
    }
}

/// Ends a piece, also when it panics, so that nobody waits for it for ever.
struct Done<'a, 'b, V: Lanes> {
    run: &'a Run<'b, V>,
    slot: u32,
}

impl<V: Lanes> Drop for Done<'_, '_, V> {
    fn drop(&mut self) {
        self.run.free.fetch_or(1 << self.slot, Ordering::Release);
        self.run.done.fetch_add(1, Ordering::Release);
    }
}
