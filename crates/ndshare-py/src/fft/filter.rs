//! Filters as objects.

use ndshare::fft::Filter;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::plan::FftPlan;
use super::run::{Target, array, carry_out};
use crate::dtype::number_of;
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
        let half = half.filter(|half| number_of(py, half.descr) == Some(spec.output()));
        let refusal = || PyValueError::new_err("expected a half-spectrum of the plan's result's shape and dtype");
        let half = array(&half.ok_or_else(refusal)?);
        let (shape, number, workers) = (spec.shape(), self.filter.output(), workers.or(plan.workers));
        let target = Target::of(py, out, shape, number).ok_or_else(|| plan.bad_out(py, out, shape, number))?;
        carry_out(py, &x, shape, number, spec.points(), target, move |from, into, check| {
            // SAFETY: `carry_out` hands over arrays of these shapes, which share no bytes; the spectrum was looked at
            // above, and lives in a read-only array of its own.
            unsafe { self.filter.run_raw(from, half, into, workers, check) }
        })
    }
}
