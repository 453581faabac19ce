//! Filters as objects.

use ndshare::fft::Filter;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::plan::FftPlan;
use super::run::{Target, array, carry_out, overlap};
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

    /// Filters a frame by a half-spectrum, into `out` if that is given; the frame's own spectrum goes to `kept`, if that is.
    #[pyo3(signature = (frame, spectrum, out, workers, kept=None))]
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        frame: &Bound<'py, PyAny>,
        spectrum: &Bound<'py, PyAny>,
        out: Option<&Bound<'py, PyAny>>,
        workers: Option<usize>,
        kept: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let plan = self.plan.get();
        let x = plan.operand(py, frame)?;
        let spec = plan.plan.spec();
        let half = Operand::of_any(spectrum).filter(|half| half.shape == spec.result_shape());
        let half = half.filter(|half| number_of(py, half.descr) == Some(spec.output()));
        let refusal = || PyValueError::new_err("expected a half-spectrum of the plan's result's shape and dtype");
        let half = array(&half.ok_or_else(refusal)?);
        let kept = kept.map(|kept| self.room_for_spectrum(py, kept, frame, out)).transpose()?;
        let kept = kept.as_ref().map(array);
        let (shape, number, workers) = (spec.shape(), self.filter.output(), workers.or(plan.workers));
        let target =
            Target::of(py, out, shape, number).ok_or_else(|| plan.bad_out(py, "output array", out, shape, number))?;
        carry_out(py, &x, shape, number, spec.points(), target, move |from, into, check| {
            // SAFETY: `carry_out` hands over arrays of these shapes, which share no bytes; the spectrum was looked at
            // above, and lives in a read-only array of its own; so was the room for the frame's, which shares no bytes with
            // frame and `out`, and none with a new array.
            unsafe { self.filter.run_raw(from, (half, kept), into, workers, check) }
        })
    }
}

impl FftFilter {
    /// An array for the spectrum of a frame.
    fn room_for_spectrum<'a>(
        &self,
        py: Python<'_>,
        kept: &'a Bound<'_, PyAny>,
        frame: &Bound<'_, PyAny>,
        out: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Operand<'a>> {
        let (plan, spec) = (self.plan.get(), self.filter.spec());
        let (shape, number) = (spec.result_shape(), spec.output());
        let fits = Target::of(py, Some(kept), &shape, number).is_some();
        let room = Operand::of_any(kept).filter(|_| fits);
        let room = room.ok_or_else(|| plan.bad_out(py, "spectrum_out", Some(kept), &shape, number))?;
        if overlap(&room, frame) || out.is_some_and(|out| overlap(&room, out)) {
            return Err(PyValueError::new_err(
                "expected a spectrum_out that shares no memory with the frame and with out: give it memory of its own",
            ));
        }
        Ok(room)
    }
}
