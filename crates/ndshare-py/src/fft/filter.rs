//! Filters as objects.

use ndshare::fft::{Array, Filter};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::element::{TypeNumber, element_of};
use super::plan::FftPlan;
use super::run::{Target, carry_out};
use crate::ndarray::Operand;

/// The engine of a convolution, for the frames of a plan.
#[pyclass(frozen, module = "ndshare._native")]
pub(crate) struct FftFilter {
    filter: Filter,
    plan: Py<FftPlan>,
}

#[pymethods]
impl FftFilter {
    /// None where there is no engine for such frames.
    #[staticmethod]
    fn of(plan: &Bound<'_, FftPlan>) -> Option<Self> {
        let filter = Filter::new(plan.get().plan.spec())?;
        Some(Self { filter, plan: plan.clone().unbind() })
    }

    /// Filters a frame by a half-spectrum, into `out` if that is given.
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        frame: &Bound<'py, PyAny>,
        spectrum: &Bound<'py, PyAny>,
        out: Option<&Bound<'py, PyAny>>,
        workers: Option<usize>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let plan = self.plan.get();
        let x = plan.operand(py, frame)?;
        let spec = plan.plan.spec();
        let half = Operand::of_any(spectrum).filter(|half| half.shape == spec.result_shape());
        let half = half.filter(|half| element_of(py, half.descr) == Some(spec.output()));
        let refusal = || PyValueError::new_err("expected a half-spectrum of the plan's result's shape and dtype");
        let half = half.ok_or_else(refusal)?;
        let (shape, element) = (&spec.shape, self.filter.output());
        let target = Target::of(py, out, shape, element).ok_or_else(|| plan.bad_out(py, out, shape, element))?;
        let (data, strides, workers) = (half.data, half.strides, workers.or(plan.workers));
        carry_out(py, &x, shape, element.number(), spec.points(), target, move |from, into, check| {
            let spectrum = Array { data: data as *mut u8, strides };
            // SAFETY: `carry_out` hands over arrays of these shapes, which share no bytes; the spectrum was looked at
            // above, and lives in a read-only array of its own.
            unsafe { self.filter.run(from, spectrum, into, workers, check) }
        })
    }
}
