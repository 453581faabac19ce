//! Filters: a plane to its half-spectrum, times another, and back, in one go.

use super::convert::Element;
use super::fast::problem;
use super::plan::{Array, workers_for};
use super::spec::{Family, Spec};
use super::vertical::{Convolution, Plane, Vector};
use crate::error::Result;
use crate::pool::Check;

/// The engine for planes of one shape.
pub struct Filter {
    engine: Convolution,
    spec: Spec,
}

impl Filter {
    /// For the frames of `spec`; none where the vertical engine does not know their lengths, or `spec` is anything but
    /// the forward transform of a real plane as it is.
    pub fn new(spec: &Spec) -> Option<Self> {
        let is_plane = spec.axes == [0, 1] && spec.shape == spec.lengths;
        if !is_plane || spec.family != Family::ToHalf {
            return None;
        }
        let problem = problem(spec, spec.lengths[0], spec.lengths[1], true)?;
        Some(Self { engine: Convolution::new(&problem, Vector::chosen())?, spec: spec.clone() })
    }

    /// The items of the result.
    pub fn output(&self) -> Element {
        Element::of_result(false, self.spec.double)
    }

    /// Writes `from`, filtered by `spectrum`, to `into`: the circular convolution with what `spectrum` is the transform of.
    ///
    /// # Errors
    /// What `check` says, which runs on the calling thread about every 50 ms; the result is half-made then.
    ///
    /// # Safety
    /// `from` has the spec's shape and items, `spectrum` those of its result, and `into` its shape and real items of its
    /// precision. All are readable, `into` is writable, nobody else uses it meanwhile, no two of its items share bytes,
    /// and it shares none with the other two.
    pub unsafe fn run(
        &self,
        from: Array<'_>,
        spectrum: Array<'_>,
        into: Array<'_>,
        workers: Option<usize>,
        check: Check<'_>,
    ) -> Result<()> {
        let (rows, cols) = (self.spec.lengths[0], self.spec.lengths[1]);
        let scale = 1.0 / (rows as f64 * cols as f64);
        let (from, into) = (plane(from, rows, cols), plane(into, rows, cols));
        let workers = workers_for(&self.spec, workers);
        // SAFETY: the caller's.
        unsafe { self.engine.run(from, plane(spectrum, rows, cols / 2 + 1), into, scale, workers, check) }
    }
}

fn plane(array: Array<'_>, rows: usize, cols: usize) -> Plane {
    Plane { data: array.data, rows, cols, row_stride: array.strides[0], col_stride: array.strides[1] }
}
