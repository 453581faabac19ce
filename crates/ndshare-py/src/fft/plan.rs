//! Plans as objects: made once, called often, compared, and sent to other processes as what they are made from.

use ndshare::element::Number;
use ndshare::fft::{Axes, Options, Plan, Spec, is_readable};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::arguments::{Call, number_named};
use super::run::{Target, carry_out};
use super::transform::FftTransform;
use crate::dtype::{Dtype, number_of};
use crate::error::to_python;
use crate::ndarray::Operand;

/// A transform of arrays of one shape and dtype. Made by `plan_rfft2` and its kin in `ndshare.fft`.
#[pyclass(frozen, subclass, module = "ndshare._native")]
pub(crate) struct FftPlan {
    pub(super) plan: Plan,
    pub(super) workers: Option<usize>,
}

#[pymethods]
impl FftPlan {
    #[new]
    #[pyo3(signature = (transform, shape, dtype, result_dtype, lengths, norm, workers, /))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        transform: &Bound<'_, FftTransform>,
        shape: Vec<usize>,
        dtype: &Bound<'_, PyAny>,
        result_dtype: &Bound<'_, PyAny>,
        lengths: Vec<isize>,
        norm: &str,
        workers: Option<usize>,
    ) -> PyResult<Self> {
        let number = |object, what: &str| {
            let refusal = || PyTypeError::new_err(format!("expected the dtype of {what} to be a number, got {object}"));
            number_named(py, object)?.ok_or_else(refusal)
        };
        let (input, result) = (number(dtype, "frames")?, Some(number(result_dtype, "the result")?));
        let transform = transform.get().0;
        let make = || {
            let options = Options { axes: Axes::Usual, lengths: Some(&lengths), norm: norm.parse()?, result };
            Spec::new(transform, &shape, input, &options).map(Plan::new)
        };
        Ok(Self { plan: py.detach(make).map_err(|error| to_python(py, &error))?, workers })
    }

    /// Transforms one frame, into `out` if that is given.
    #[pyo3(signature = (frame, /, out=None, *, workers=None))]
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        frame: &Bound<'py, PyAny>,
        out: Option<&Bound<'py, PyAny>>,
        workers: Option<usize>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.follow(py, &self.operand(py, frame)?, out, workers)
    }

    /// Returns what is done, a line for each pass: vectors, order of axes, and how each length is factored.
    fn explain(&self) -> String {
        self.plan.to_string()
    }

    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.plan.spec().shape())
    }

    #[getter]
    fn result_shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.plan.spec().result_shape())
    }
}

impl FftPlan {
    pub(super) fn operand<'a>(&self, py: Python<'_>, frame: &'a Bound<'_, PyAny>) -> PyResult<Operand<'a>> {
        let (shape, number) = (self.plan.spec().shape(), self.plan.spec().input().name());
        let Some(x) = Operand::of_any(frame) else {
            let message = format!("expected an ndarray of shape {shape:?}, got {}", frame.get_type().name()?);
            return Err(PyTypeError::new_err(message));
        };
        if x.shape != shape || !number_of(py, x.descr).is_some_and(|number| self.plan.spec().reads(number)) {
            let got = describe(py, frame);
            let message = format!("expected a frame of shape {shape:?}, {number}, got {got}: make a plan for those");
            return Err(PyValueError::new_err(message));
        }
        Ok(x)
    }

    fn follow<'py>(
        &self,
        py: Python<'py>,
        x: &Operand<'_>,
        out: Option<&Bound<'py, PyAny>>,
        workers: Option<usize>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (spec, workers) = (self.plan.spec(), workers.or(self.workers));
        let (shape, number) = (spec.result_shape(), spec.output());
        let target =
            Target::of(py, out, &shape, number).ok_or_else(|| self.bad_out(py, "output array", out, &shape, number))?;
        carry_out(py, x, &shape, number, spec.points(), target, |from, into, check| {
            // SAFETY: `carry_out` hands over arrays of these shapes and items, which share no bytes.
            unsafe { self.plan.run_raw(from, into, workers, check) }
        })
    }

    #[cold]
    pub(super) fn bad_out(
        &self,
        py: Python<'_>,
        what: &str,
        out: Option<&Bound<'_, PyAny>>,
        shape: &[usize],
        number: Number,
    ) -> PyErr {
        let (number, got) = (number.name(), out.map_or_else(String::new, |out| describe(py, out)));
        PyValueError::new_err(format!(
            "{what} has wrong shape, dtype or layout: expected a writable array of shape {shape:?}, {number}, got {got}"
        ))
    }

    /// The answer to a call of a function with `plan=` this.
    pub(super) fn answer<'py>(&self, py: Python<'py>, call: &Call<'_, 'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let is_number = |x: &Operand<'_>| number_of(py, x.descr).is_some_and(is_readable);
        if !Operand::of_any(call.x).as_ref().is_some_and(is_number) {
            return Ok(None);
        }
        let x = self.operand(py, call.x)?;
        let (Some(spec), Some(workers)) = (call.spec(py, &x, Some(self.plan.spec())), call.workers()) else {
            return Ok(None);
        };
        if !spec.does_as(self.plan.spec()) {
            let message = "the plan is for another transform, or other lengths, axes, norm or dtype";
            return Err(PyValueError::new_err(message));
        }
        self.follow(py, &x, call.out, workers).map(Some)
    }
}

fn describe(py: Python<'_>, array: &Bound<'_, PyAny>) -> String {
    match Operand::of_any(array) {
        Some(facts) => {
            let access = if facts.readonly { "read-only " } else { "" };
            let dtype = Dtype::borrowed(py, facts.descr);
            format!("{access}shape {:?}, {}", facts.shape, dtype.as_any())
        }
        None => array.get_type().name().map_or_else(|_| "something else".into(), |name| name.to_string()),
    }
}
