//! Filters: a plane to its half-spectrum, times another, and back, in one go.

use super::fast::problem;
use super::plan::{RawArray, workers_for};
use super::spec::{Spec, result_number};
use super::transform::{Family, Norm};
use super::vertical::{AxisOrder, Convolution, Plane, Problem, Vector};
use crate::element::Number;
use crate::error::Result;
use crate::pool::Check;
use std::sync::OnceLock;

/// The engine for planes of one shape.
///
/// ```
/// use ndshare::arena::{Arena, Options};
/// use ndshare::array::Array;
/// use ndshare::element::Number;
/// use ndshare::fft::{self, Filter, Spec, Transform};
///
/// # fn main() -> ndshare::Result<()> {
/// let arena = Arena::create(&Options { budget_bytes: Some(1 << 20), ..Options::default() })?;
/// let frame = Array::from_slice(&arena, &[4, 6], &(0..24).map(f64::from).collect::<Vec<f64>>())?;
/// // What moves a frame by one column.
/// let kernel = Array::zeros(&arena, &[4, 6], Number::F64)?;
/// kernel.write(&[0, 1], 1.0)?;
/// let spectrum = fft::rfft2(&kernel)?;
/// let spec = Spec::new(Transform::Rfft2, &[4, 6], Number::F64, &fft::Options::default())?;
/// let filter = Filter::new(&spec).expect("lengths of small factors");
/// let moved = Array::empty(&arena, &[4, 6], filter.output())?;
/// filter.run(&frame, &spectrum, &moved)?;
/// let row: Vec<f64> = moved.to_vec::<f64>()?.into_iter().take(6).map(f64::round).collect();
/// assert_eq!(row, [5.0, 0.0, 1.0, 2.0, 3.0, 4.0]);
/// # Ok(())
/// # }
/// ```
pub struct Filter {
    engine: Convolution,
    /// The one that can keep the spectrum of a frame, where the usual one cannot; made when it is asked for.
    keeping: OnceLock<Option<Convolution>>,
    problem: Problem,
    spec: Spec,
}

impl Filter {
    /// For the frames of `spec`; none where the vertical engine does not know their lengths, or `spec` is anything but
    /// the forward transform of a real plane as it is, not scaled.
    pub fn new(spec: &Spec) -> Option<Self> {
        let is_plane = spec.axes == [0, 1] && spec.shape == spec.lengths;
        if !is_plane || spec.family != Family::ToHalf || spec.norm != Norm::Backward {
            return None;
        }
        let problem = problem(spec, spec.lengths[0], spec.lengths[1], true)?;
        let engine = Convolution::new(&problem, Vector::chosen())?;
        Some(Self { engine, keeping: OnceLock::new(), problem, spec: spec.clone() })
    }

    /// The engine for a call that keeps the spectrum, or does not.
    fn engine(&self, keeps: bool) -> &Convolution {
        if !keeps || self.engine.keeps() {
            return &self.engine;
        }
        let make = || Convolution::with_order(&self.problem, Vector::chosen(), AxisOrder::RowsFirst);
        self.keeping.get_or_init(make).as_ref().unwrap_or(&self.engine)
    }

    /// The transform of the frames.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The items of the result.
    pub fn output(&self) -> Number {
        result_number(false, self.spec.double)
    }

    /// Writes `from`, filtered by `spectrum`, to `into`: the circular convolution with what `spectrum` is the transform of;
    /// and the transform of `from` itself to `kept`, if that is given. For arrays that are none of this library's, as the
    /// Python binding has them; all others go by [`Filter::run`].
    ///
    /// # Errors
    /// What `check` says, which runs on the calling thread about every 50 ms; the result is half-made then. `InvalidValue`
    /// when `NDSHARE_FFT` names no order of axes. `ArenaFull` when there is no memory for its scratch.
    ///
    /// # Safety
    /// `from` has the spec's shape and items, `spectrum` those of its result, and `into` its shape and real items of its
    /// precision; `kept` is as the spec's result. All are readable, `into` and `kept` are writable, nobody else uses them
    /// meanwhile, no two items of one share bytes, and they share none with each other and with the other two.
    pub unsafe fn run_raw(
        &self,
        from: RawArray<'_>,
        (spectrum, kept): (RawArray<'_>, Option<RawArray<'_>>),
        into: RawArray<'_>,
        workers: Option<usize>,
        check: Check<'_>,
    ) -> Result<()> {
        debug_assert!([&from, &spectrum, &into].iter().all(|array| array.strides.len() == 2), "planes have two axes");
        let (rows, cols) = (self.spec.lengths[0], self.spec.lengths[1]);
        let scale = 1.0 / (rows as f64 * cols as f64);
        let (from, into) = (plane(from, rows, cols), plane(into, rows, cols));
        let workers = workers_for(&self.spec, workers);
        let halves = (plane(spectrum, rows, cols / 2 + 1), kept.map(|kept| plane(kept, rows, cols / 2 + 1)));
        // SAFETY: the caller's.
        unsafe { self.engine(kept.is_some()).run(from, halves, into, scale, workers, check) }
    }
}

fn plane(array: RawArray<'_>, rows: usize, cols: usize) -> Plane {
    Plane { data: array.data, rows, cols, row_stride: array.strides[0], col_stride: array.strides[1] }
}
