//! The vertical engine where it has passes for the lengths: planes of two axes, and many lines along one.

use super::engines;
use super::pass::Side;
use super::spec::{Spec, result_number};
use super::transform::Family;
use super::vertical::{self, Plane, Problem, Transform, Vertical};
use crate::element::Number;
use crate::error::Result;
use crate::pool::{self, Check};
use crate::prim::SpinLock;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Fewer points in a plane are transformed quicker line by line.
const PLANE_POINTS: usize = 256;
/// Fewer lines leave most of a vector idle, if one line alone does not fill it.
const LINES: usize = 8;
/// Shorter lines are transformed quicker one by one.
const LINE_POINTS: usize = 96;
/// Smaller parts are shared out whole to the workers; larger ones are cut themselves.
const WHOLE_POINTS: usize = 1 << 17;

/// A pass of the vertical engine.
pub(super) struct Fast {
    engine: Arc<Vertical>,
    problem: Problem,
    /// The same for planes whose columns are the closer neighbours, made when there is such a one.
    transposed: OnceLock<Option<Arc<Vertical>>>,
    /// The two axes of a part: across and along its rows. None where an array has only one.
    rows: Option<usize>,
    cols: usize,
    /// Whether both are transformed, or the rows only.
    both_axes: bool,
    /// Rows and columns that are there, and that the result has.
    there: [usize; 2],
    result: [usize; 2],
    /// How many parts there are along each axis; 1 along the two of a part.
    extents: Vec<usize>,
    points: usize,
}

/// One run: where the parts are.
struct Run<'a> {
    fast: &'a Fast,
    /// The engine for the planes with their axes exchanged, where that is better.
    transposed: Option<&'a Vertical>,
    from: Side<'a>,
    into: Side<'a>,
    scale: f64,
}

// SAFETY: parts are apart on the side that is written, and the caller keeps both arrays; see `Fast::run`.
unsafe impl Sync for Run<'_> {}

impl Fast {
    /// The last two of the axes at once; `extents` is what is there of each axis before.
    pub(super) fn plane(spec: &Spec, extents: &[usize]) -> Option<Self> {
        let row_place = spec.axes.len().checked_sub(2)?;
        let col_place = row_place + 1;
        // The last one is that of the half-spectrum; the last of the memory had better be transformed as rows.
        let is_swapped = spec.axes[row_place] > spec.axes[col_place];
        let (row_place, col_place) = if is_swapped { (col_place, row_place) } else { (row_place, col_place) };
        let (rows, cols) = (spec.lengths[row_place], spec.lengths[col_place]);
        if rows.saturating_mul(cols) < PLANE_POINTS || rows < 2 || cols < 2 {
            return None;
        }
        let half_first = is_swapped && spec.family != Family::Complex;
        let problem = Problem { half_first, ..problem(spec, rows, cols, true)? };
        Self::new(spec, problem, Some(spec.axes[row_place]), spec.axes[col_place], extents)
    }

    /// The only axis: many lines at once, a few that have vectors in themselves, or each long one by itself.
    pub(super) fn lines(spec: &Spec, extents: &[usize]) -> Option<Self> {
        let [axis] = *spec.axes.as_slice() else { return None };
        let length = spec.lengths[0];
        let is_innermost = extents[axis + 1..].iter().all(|&extent| extent == 1);
        let one = problem(spec, 1, length, false)?;
        if is_innermost && vertical::is_long_line(&one) {
            return Self::new(spec, one, None, axis, extents);
        }
        let rows = (0..extents.len()).filter(|&other| other != axis).max_by_key(|&other| extents[other]);
        let count = rows.map_or(1, |rows| extents[rows]);
        // Across the memory, items of a line whose distance is a power of two share few places of the cache.
        let is_crowded = axis + 1 < extents.len() && length.is_multiple_of(64);
        let are_enough = count >= LINES || is_innermost && vertical::suits_few_lines(&one);
        if count == 0 || !are_enough || length < LINE_POINTS || is_crowded {
            return None;
        }
        Self::new(spec, problem(spec, count, length, false)?, rows, axis, extents)
    }

    fn new(spec: &Spec, problem: Problem, rows: Option<usize>, cols: usize, extents: &[usize]) -> Option<Self> {
        let engine = engines::vertical(problem)?;
        let mut parts = extents.to_vec();
        let there = [rows.map_or(1, |rows| parts[rows]), parts[cols]];
        rows.into_iter().chain([cols]).for_each(|axis| parts[axis] = 1);
        let mut result = [problem.rows, problem.cols];
        if spec.family == Family::ToHalf {
            let half = &mut result[usize::from(!problem.half_first)];
            *half = *half / 2 + 1;
        }
        let (points, both_axes, transposed) = (problem.rows * problem.cols, problem.both_axes, OnceLock::new());
        Some(Self { engine, problem, transposed, rows, cols, both_axes, there, result, extents: parts, points })
    }

    /// The engine for planes in Fortran's order on both sides, where neighbours in memory are neighbours in a column.
    fn transposed(&self, from: &Side<'_>, into: &Side<'_>) -> Option<&Vertical> {
        let rows = self.rows.filter(|_| self.both_axes)?;
        let is_tall = |side: &Side<'_>| side.strides[rows].unsigned_abs() < side.strides[self.cols].unsigned_abs();
        let is_better = is_tall(from) && is_tall(into);
        let engine = || self.transposed.get_or_init(|| engines::vertical(self.problem.transposed())).as_deref();
        is_better.then(engine).flatten()
    }

    /// Notes in `extents` what is there of its axes afterwards.
    pub(super) fn leave(&self, extents: &mut [usize]) {
        extents[self.cols] = self.result[1];
        if let Some(rows) = self.rows {
            extents[rows] = self.result[0];
        }
    }

    /// Runs the pass.
    ///
    /// # Safety
    /// All items that the pass names are readable and writable on their sides, nobody else uses them meanwhile, and
    /// the sides share no bytes.
    pub(super) unsafe fn run(
        &self,
        from: Side<'_>,
        into: Side<'_>,
        scale: f64,
        workers: usize,
        check: Check<'_>,
    ) -> Result<()> {
        let run = Run { fast: self, from, into, scale, transposed: self.transposed(&from, &into) };
        let parts = self.extents.iter().product();
        if parts == 1 || self.points > WHOLE_POINTS {
            // SAFETY: the caller's.
            return (0..parts).try_for_each(|part| unsafe { run.run(part, workers, check) });
        }
        let each = (WHOLE_POINTS / 4 / self.points).max(1);
        let failed = SpinLock::new(None);
        let work = |piece: usize| {
            let mut parts = piece * each..((piece + 1) * each).min(parts);
            // SAFETY: the caller's; each part is in one piece.
            if let Err(error) = parts.try_for_each(|part| unsafe { run.run(part, 1, &|| Ok(())) }) {
                failed.lock().get_or_insert(error);
            }
        };
        pool::run(workers, parts.div_ceil(each), &work, &|| (), check)?;
        failed.lock().take().map_or(Ok(()), Err)
    }
}

impl fmt::Display for Fast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rows {
            Some(rows) if self.both_axes => write!(f, "axes {rows} and {}: {}", self.cols, self.engine),
            _ => write!(f, "axis {}: {}", self.cols, self.engine),
        }
    }
}

impl Run<'_> {
    /// Transforms one part.
    ///
    /// # Safety
    /// As [`Fast::run`], for this part.
    unsafe fn run(&self, part: usize, workers: usize, check: Check<'_>) -> Result<()> {
        let (mut from, mut into, mut rest) = (0, 0, part);
        for axis in (0..self.fast.extents.len()).rev() {
            let index = (rest % self.fast.extents[axis]) as isize;
            rest /= self.fast.extents[axis];
            from += index * self.from.strides[axis];
            into += index * self.into.strides[axis];
        }
        let from = self.plane(&self.from, from, self.fast.there);
        let into = self.plane(&self.into, into, self.fast.result);
        // SAFETY: the caller's.
        unsafe {
            match self.transposed {
                Some(engine) => engine.run(from.transposed(), into.transposed(), self.scale, workers, check),
                None => self.fast.engine.run(from, into, self.scale, workers, check),
            }
        }
    }

    fn plane(&self, side: &Side<'_>, offset: isize, [rows, cols]: [usize; 2]) -> Plane {
        let row_stride = self.fast.rows.map_or(0, |axis| side.strides[axis]);
        let data = side.data.wrapping_offset(offset);
        Plane { data, rows, cols, row_stride, col_stride: side.strides[self.fast.cols] }
    }
}

/// What the vertical engine would have to do; none for what it does not take.
pub(super) fn problem(spec: &Spec, rows: usize, cols: usize, both_axes: bool) -> Option<Problem> {
    let transform = match (spec.family, spec.forward) {
        (Family::Complex, true) => Transform::Forward,
        (Family::Complex, false) => Transform::Inverse,
        (Family::ToHalf, true) => Transform::R2C,
        (Family::ToReal, false) => Transform::C2R,
        _ => return None,
    };
    Some(Problem { transform, input: number(spec)?, double: spec.double, rows, cols, both_axes, half_first: false })
}

/// The items that are read, if the engine reads such: in a plane after other passes, what those have written.
fn number(spec: &Spec) -> Option<Number> {
    if spec.family == Family::ToReal && spec.axes.len() > 2 {
        return Some(result_number(true, spec.double));
    }
    vertical::is_input(spec.input).then_some(spec.input)
}
