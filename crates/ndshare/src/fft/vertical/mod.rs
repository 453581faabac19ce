//! The fast engine: one vector holds as many lines as it has lanes, so no radix needs a shuffle.
//!
//! A two-dimensional transform is a pass over the rows and a pass over strips of columns, in one of two orders.
//!
//! Rows first, two real rows make one complex row; after its transform they come apart and are written to the output, and
//! the columns are transformed there, in place. Each pass asks for the memory that comes next while it computes. A
//! transform to real numbers goes the other way: columns, then rows, two at a time. Columns first, two real columns make
//! one complex column, and only the upper half of the rows is kept between the passes: the whole transform of such a row
//! is a row of the result and, mirrored, the row opposite to it. Where the half of a spectrum is that of the first axis,
//! these rows are the result themselves.
//!
//! Inverse transforms are forward transforms of numbers whose real and imaginary parts are exchanged at the first reading
//! and the last writing.
//!
//! ```text
//! problem  order     what is asked for; which axis comes first
//! lanes  x86  arm    vectors
//! radix  steps  split          passes; a short line; a long line
//! across  along  rows          one row by its own vectors; rows of any length, as many as a vector has lanes
//! halves                       two real rows as one complex row
//! runs   columns  lines        conversion; strips of columns; rows with what is around them
//! long                         one long line as a plane
//! stage                        columns of rows that are whole pages apart
//! scratch  plan                memory that is kept; the phases of a transform and their pieces
//! ```

mod across;
mod along;
#[cfg(target_arch = "aarch64")]
mod arm;
mod columns;
mod halves;
mod lanes;
mod lines;
mod long;
mod order;
mod plan;
mod problem;
mod radix;
mod rows;
mod runs;
mod scratch;
mod split;
mod stage;
mod steps;
#[cfg(all(target_arch = "x86_64", not(fuzzing)))]
mod x86;

#[cfg(all(test, not(loom)))]
mod tests;

pub use order::AxisOrder;
pub use problem::{Plane, Problem, Transform, Vector};
pub(super) use runs::is_input;

use crate::error::{Error, Result};
use crate::pool::Check;
use plan::Plan;
use std::fmt;

/// A plan: plain data, which any number of threads may use at once.
pub struct Vertical {
    problem: Problem,
    plan: Typed,
}

/// A plan in either precision.
enum Typed {
    Single(Plan<f32>),
    Double(Plan<f64>),
}

/// Calls a method of a plan with the vector type that it was made for. Fuzzers do without those of x86-64, whose optimisation
/// with a sanitizer takes ten minutes.
macro_rules! with_vector {
    ($vector:expr, $plan:expr, $method:ident($($argument:expr),*)) => {
        match ($vector, $plan) {
            #[cfg(all(target_arch = "x86_64", not(fuzzing)))]
            (Vector::Avx512, Typed::Single(plan)) => plan.$method::<x86::F32x16>($($argument),*),
            #[cfg(all(target_arch = "x86_64", not(fuzzing)))]
            (Vector::Avx512, Typed::Double(plan)) => plan.$method::<x86::F64x8>($($argument),*),
            #[cfg(all(target_arch = "x86_64", not(fuzzing)))]
            (Vector::Avx2, Typed::Single(plan)) => plan.$method::<x86::F32x8>($($argument),*),
            #[cfg(all(target_arch = "x86_64", not(fuzzing)))]
            (Vector::Avx2, Typed::Double(plan)) => plan.$method::<x86::F64x4>($($argument),*),
            #[cfg(target_arch = "aarch64")]
            (Vector::Neon, Typed::Single(plan)) => plan.$method::<arm::F32x4>($($argument),*),
            #[cfg(target_arch = "aarch64")]
            (Vector::Neon, Typed::Double(plan)) => plan.$method::<arm::F64x2>($($argument),*),
            (_, Typed::Single(plan)) => plan.$method::<lanes::Plain<f32>>($($argument),*),
            (_, Typed::Double(plan)) => plan.$method::<lanes::Plain<f64>>($($argument),*),
        }
    };
}

impl Vertical {
    /// A plan for this CPU; none for a length with a factor that there is no pass for.
    pub fn new(problem: &Problem) -> Option<Self> {
        Self::with_vector(problem, Vector::chosen())
    }

    /// A plan for one kind of vector; none, also, when this CPU does not have it.
    pub fn with_vector(problem: &Problem, vector: Vector) -> Option<Self> {
        Self::with_order(problem, vector, AxisOrder::chosen(problem))
    }

    /// The same, with one of the two axes first.
    pub fn with_order(problem: &Problem, vector: Vector, order: AxisOrder) -> Option<Self> {
        if !vector.is_present() || !is_possible(problem) {
            return None;
        }
        let plan = match problem.double {
            false => Typed::Single(Plan::new(problem, vector, order)),
            true => Typed::Double(Plan::new(problem, vector, order)),
        };
        Some(Self { problem: *problem, plan })
    }

    /// Writes the transform of `from`, times `scale`, to `into`, on up to `workers` threads. `into` must have exactly
    /// the shape of the result.
    ///
    /// # Errors
    /// `InvalidValue` when `into` has another shape, and when `NDSHARE_FFT` names no order; `ArenaFull` when there is no
    /// memory for its scratch; what `check` says.
    ///
    /// # Safety
    /// All elements of `from` must be readable as the problem's input, all of `into` writable as its output, and
    /// the two must not overlap.
    pub unsafe fn run(&self, from: Plane, into: Plane, scale: f64, workers: usize, check: Check<'_>) -> Result<()> {
        AxisOrder::asked()?;
        expect_shape(&into, output_shape(&self.problem))?;
        // SAFETY: the caller vouches for the planes; the CPU had the vector when the plan was made.
        unsafe { with_vector!(self.plan.vector(), &self.plan, run(from, into, scale, workers, check)) }
    }
}

impl fmt::Display for Vertical {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.plan {
            Typed::Single(plan) => plan.fmt(f),
            Typed::Double(plan) => plan.fmt(f),
        }
    }
}

/// A filter: the transform of a real plane, times a half-spectrum, and back, without leaving the cache in between.
pub struct Convolution {
    problem: Problem,
    plan: Typed,
}

impl Convolution {
    /// A plan for the input of `problem`, which must be [`Transform::R2C`] along both axes; else, and where
    /// [`Vertical::with_vector`] has none, none.
    pub fn new(problem: &Problem, vector: Vector) -> Option<Self> {
        Self::with_order(problem, vector, AxisOrder::chosen(problem))
    }

    /// The same, with one of the two axes first.
    pub fn with_order(problem: &Problem, vector: Vector, order: AxisOrder) -> Option<Self> {
        if problem.transform != Transform::R2C || !problem.both_axes || problem.half_first {
            return None;
        }
        Vertical::with_order(problem, vector, order).map(|Vertical { problem, plan }| Self { problem, plan })
    }

    /// Whether the transform that it makes on its way is whole at some moment, so that it can be kept.
    pub fn keeps(&self) -> bool {
        match &self.plan {
            Typed::Single(plan) => plan.is_rows_first(),
            Typed::Double(plan) => plan.is_rows_first(),
        }
    }

    /// Writes to `into` what the inverse transform makes of the transform of `from` times `spectrum` and `scale`; with
    /// a scale of one over the number of elements that is the circular convolution of `from` with the inverse
    /// transform of `spectrum`. The spectrum is complex and the output real, in the precision of the problem.
    ///
    /// With `kept`, which takes a plan of rows first ([`Self::keeps`]), the transform of `from` is written there.
    ///
    /// # Errors
    /// `InvalidValue` when `spectrum`, `into` or `kept` has another shape, when this is no plan that can keep, and when
    /// `NDSHARE_FFT` names no order; `ArenaFull` when there is no memory for its scratch; what `check` says.
    ///
    /// # Safety
    /// All elements of `from` and of `spectrum` must be readable and all of `into` and of `kept` writable, and these two must
    /// overlap neither the other two nor each other.
    pub unsafe fn run(
        &self,
        from: Plane,
        (spectrum, kept): (Plane, Option<Plane>),
        into: Plane,
        scale: f64,
        workers: usize,
        check: Check<'_>,
    ) -> Result<()> {
        AxisOrder::asked()?;
        expect_shape(&spectrum, output_shape(&self.problem))?;
        kept.as_ref().map_or(Ok(()), |kept| expect_shape(kept, output_shape(&self.problem)))?;
        if kept.is_some() && !self.keeps() {
            return Err(Error::value("expected a plan of rows first to keep a spectrum, got one of columns first"));
        }
        expect_shape(&into, (self.problem.rows, self.problem.cols))?;
        // SAFETY: as for `Vertical::run`.
        unsafe {
            with_vector!(self.plan.vector(), &self.plan, convolve(from, (spectrum, kept), into, scale, workers, check))
        }
    }
}

impl Typed {
    fn vector(&self) -> Vector {
        match self {
            Self::Single(plan) => plan.vector,
            Self::Double(plan) => plan.vector,
        }
    }
}

/// Whether a line alone is transformed as a plane.
pub(super) fn is_long_line(line: &Problem) -> bool {
    is_possible(line) && long::is_long(line, Vector::chosen().lanes(line.double))
}

/// Whether lines are quick also when they are too few for the lanes of a vector.
pub(super) fn suits_few_lines(lines: &Problem) -> bool {
    across::is_in_vectors(plan::row_length(lines), Vector::chosen().lanes(lines.double))
}

/// Whether there are passes for a problem's lengths, and its input is of a kind that the transform takes.
fn is_possible(problem: &Problem) -> bool {
    let lengths = problem.rows > 0 && problem.cols > 0 && problem.rows.checked_mul(problem.cols).is_some();
    let smooth = steps::is_smooth(problem.cols) && (!problem.both_axes || steps::is_smooth(problem.rows));
    lengths && smooth && is_input(problem.input) && !(problem.transform == Transform::R2C && problem.input.is_complex())
}

/// Rows and columns of the result.
fn output_shape(problem: &Problem) -> (usize, usize) {
    match problem.transform {
        Transform::R2C if problem.half_first => (problem.rows / 2 + 1, problem.cols),
        Transform::R2C => (problem.rows, problem.cols / 2 + 1),
        _ => (problem.rows, problem.cols),
    }
}

fn expect_shape(plane: &Plane, shape: (usize, usize)) -> Result<()> {
    if (plane.rows, plane.cols) == shape {
        return Ok(());
    }
    let got = (plane.rows, plane.cols);
    Err(Error::value(format!("expected a plane of shape {shape:?}, got {got:?}; give it the shape of the transform")))
}
