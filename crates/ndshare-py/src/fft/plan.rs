//! Plans as objects: made once, called often, compared, and sent to other processes as what they are made from.

use std::ptr::NonNull;

use ndshare::fft::{Element, Plan, Spec};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::arguments::{Call, Kind, precision, scale_of};
use super::element::element_of;
use super::run::{Target, follow};
use crate::dtype::Dtype;
use crate::error::to_python;
use crate::ndarray::Operand;

/// A transform of arrays of one shape and dtype. Made by `plan_rfft2` and its kin in `ndshare.fft`.
#[pyclass(frozen, subclass, module = "ndshare._native")]
pub(crate) struct FftPlan {
    pub(super) kind: Kind,
    pub(super) plan: Plan,
    pub(super) scale: f64,
    pub(super) workers: Option<usize>,
}

#[pymethods]
impl FftPlan {
    #[new]
    #[pyo3(signature = (kind, shape, dtype, result_dtype, axes, lengths, norm, workers, /))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        kind: u8,
        shape: Vec<usize>,
        dtype: &Bound<'_, PyAny>,
        result_dtype: &Bound<'_, PyAny>,
        axes: Vec<usize>,
        lengths: Vec<usize>,
        norm: &str,
        workers: Option<usize>,
    ) -> PyResult<Self> {
        let refused = |what: &str, object: &Bound<'_, PyAny>| PyTypeError::new_err(format!("{what}, got {object}"));
        let element = |object: &Bound<'_, PyAny>| {
            let dtype = Dtype::of(py, Some(object))?;
            PyResult::Ok(NonNull::new(dtype.as_ptr()).and_then(|descr| element_of(py, descr)))
        };
        let kind = Kind::of(kind).ok_or_else(|| PyValueError::new_err("expected a kind of transform"))?;
        let input = element(dtype)?.ok_or_else(|| refused("expected the dtype of frames to be a number", dtype))?;
        let result = element(result_dtype)?.and_then(|element| precision(kind.family, element));
        let double = result.ok_or_else(|| refused("expected the dtype of such a transform's result", result_dtype))?;
        let scale = scale_of(norm, kind.forward, &lengths).ok_or_else(|| PyValueError::new_err("bad norm"))?;
        let spec = Spec { family: kind.family, forward: kind.forward, input, double, shape, axes, lengths };
        let plan = py.detach(|| Plan::new(spec)).map_err(|error| to_python(py, &error))?;
        Ok(Self { kind, plan, scale, workers })
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
        let x = self.operand(py, frame)?;
        let target = self.target(py, out)?;
        follow(py, &x, &self.plan, self.scale, workers.or(self.workers), target)
    }

    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.plan.spec().shape)
    }

    #[getter]
    fn result_shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.plan.spec().result_shape())
    }
}

impl FftPlan {
    pub(super) fn operand<'a>(&self, py: Python<'_>, frame: &'a Bound<'_, PyAny>) -> PyResult<Operand<'a>> {
        let spec = self.plan.spec();
        let Some(x) = Operand::of_any(frame) else {
            let message = format!("expected an ndarray of shape {:?}, got {}", spec.shape, frame.get_type().name()?);
            return Err(PyTypeError::new_err(message));
        };
        if x.shape != spec.shape || element_of(py, x.descr) != Some(spec.input) {
            let (expected, dtype) = (&spec.shape, frame.getattr("dtype")?);
            let message = format!(
                "expected a frame of shape {expected:?} and {:?} items, got shape {:?} and dtype {dtype}: make a plan for those",
                spec.input, x.shape
            );
            return Err(PyValueError::new_err(message));
        }
        Ok(x)
    }

    fn target<'a, 'py>(&self, py: Python<'py>, out: Option<&'a Bound<'py, PyAny>>) -> PyResult<Target<'a, 'py>> {
        let (shape, element) = (self.plan.spec().result_shape(), self.plan.spec().output());
        Target::of(py, out, &shape, element).ok_or_else(|| self.bad_out(py, out, &shape, element))
    }

    #[cold]
    pub(super) fn bad_out(
        &self,
        py: Python<'_>,
        out: Option<&Bound<'_, PyAny>>,
        shape: &[usize],
        element: Element,
    ) -> PyErr {
        let got = out.map_or_else(String::new, |out| describe(py, out));
        PyValueError::new_err(format!(
            "output array has wrong shape, dtype or layout: expected a writable array of shape {:?} and {:?} items, got {got}",
            shape, element,
        ))
    }

    /// The answer to a call of a function with `plan=` this.
    pub(super) fn answer<'py>(&self, py: Python<'py>, call: &Call<'_, 'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(x) = Operand::of_any(call.x) else { return Ok(None) };
        if element_of(py, x.descr).is_none() {
            return Ok(None);
        }
        let x = self.operand(py, call.x)?;
        let spec = self.plan.spec();
        let is_same_kind = (call.kind.family, call.kind.forward) == (self.kind.family, self.kind.forward);
        let (Some(lengths), Some(axes)) = (call.given_lengths(), call.given_axes(x.shape.len())) else {
            return Ok(None);
        };
        let (Some(scale), Some(workers)) = (call.scale(&spec.lengths), call.workers()) else { return Ok(None) };
        let fits = is_same_kind
            && lengths.is_none_or(|lengths| lengths == spec.lengths)
            && axes.is_none_or(|axes| axes == spec.axes)
            && scale.is_none_or(|scale| scale == self.scale)
            && (call.dtype.is_none() || call.double(py, spec.input) == Some(spec.double));
        if !fits {
            return Err(PyValueError::new_err(
                "the plan is for another transform, or other lengths, axes, norm or dtype",
            ));
        }
        let target = self.target(py, call.out)?;
        follow(py, &x, &self.plan, self.scale, workers.or(self.workers), target).map(Some)
    }
}

fn describe(py: Python<'_>, out: &Bound<'_, PyAny>) -> String {
    match Operand::of_any(out) {
        Some(facts) => {
            let access = if facts.readonly { "read-only " } else { "" };
            let dtype = Dtype::borrowed(py, facts.descr);
            format!("{access}shape {:?}, {}", facts.shape, dtype.as_any())
        }
        None => out.get_type().name().map_or_else(|_| "something else".into(), |name| name.to_string()),
    }
}
