//! The arguments of a call, as far as they are ordinary; what they mean together is the library's to say.

use std::ptr::NonNull;

use ndshare::element::Number;
use ndshare::fft::{Axes, Options, Plan, Spec, Transform};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use super::run::{Target, carry_out};
use crate::dtype::{Dtype, number_of};
use crate::ndarray::Operand;

/// A call of one of the functions.
pub(super) struct Call<'a, 'py> {
    pub(super) transform: Transform,
    pub(super) x: &'a Bound<'py, PyAny>,
    pub(super) s: Option<&'a Bound<'py, PyAny>>,
    pub(super) axes: Option<&'a Bound<'py, PyAny>>,
    pub(super) norm: Option<&'a Bound<'py, PyAny>>,
    pub(super) workers: Option<&'a Bound<'py, PyAny>>,
    pub(super) out: Option<&'a Bound<'py, PyAny>>,
    pub(super) dtype: Option<&'a Bound<'py, PyAny>>,
}

impl<'py> Call<'_, 'py> {
    /// Does what is asked for; None where Python must prepare the call.
    pub(super) fn go(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(x) = Operand::of_any(self.x) else { return Ok(None) };
        let (Some(spec), Some(workers)) = (self.spec(py, &x, None), self.workers()) else { return Ok(None) };
        let (shape, number, points) = (spec.result_shape(), spec.output(), spec.points());
        let Some(target) = Target::of(py, self.out, &shape, number) else { return Ok(None) };
        let done = carry_out(py, &x, &shape, number, points, target, |from, into, check| {
            // SAFETY: `carry_out` hands over arrays of these shapes and items, which share no bytes.
            unsafe { Plan::new(spec).run_raw(from, into, workers, check) }
        });
        done.map(Some)
    }

    /// What is asked for. What is left out is as in `plan`, if there is one.
    pub(super) fn spec(&self, py: Python<'py>, x: &Operand<'_>, plan: Option<&Spec>) -> Option<Spec> {
        let signed = |list: &[usize]| list.iter().map(|item| item.cast_signed()).collect::<Vec<_>>();
        let axes = match (self.axes, plan) {
            (Some(axes), _) => Some(ints(axes)?),
            (None, Some(plan)) => Some(signed(plan.axes())),
            (None, None) if self.transform.is_single() => return None,
            (None, None) => None,
        };
        let lengths = match (self.s, plan) {
            (Some(lengths), _) => Some(ints(lengths)?),
            (None, plan) => plan.map(|plan| signed(plan.lengths())),
        };
        let norm = match (self.norm, plan) {
            (Some(norm), _) => norm.extract::<&str>().ok()?.parse().ok()?,
            (None, plan) => plan.map(Spec::norm).unwrap_or_default(),
        };
        let result = match (self.out, self.dtype, plan) {
            (_, Some(dtype), Some(_)) | (None, Some(dtype), None) => Some(number_named(py, dtype).ok()??),
            // An `out` for a plan is looked at by itself.
            (_, None, Some(plan)) => Some(plan.output()),
            (Some(out), None, None) => Some(number_of(py, Operand::of_any(out)?.descr)?),
            (Some(_), Some(_), None) => return None,
            (None, None, None) => None,
        };
        let axes = axes.as_deref().map_or(Axes::All, Axes::These);
        let options = Options { axes, lengths: lengths.as_deref(), norm, result };
        Spec::new(self.transform, x.shape, number_of(py, x.descr)?, &options).ok()
    }

    /// None within None is a value that Python must look at.
    pub(super) fn workers(&self) -> Option<Option<usize>> {
        let Some(workers) = self.workers else { return Some(None) };
        workers.extract::<usize>().ok().filter(|&workers| workers > 0).map(Some)
    }
}

/// The number that a dtype is, whatever Python has for it.
pub(super) fn number_named(py: Python<'_>, dtype: &Bound<'_, PyAny>) -> PyResult<Option<Number>> {
    let dtype = Dtype::of(py, Some(dtype))?;
    Ok(NonNull::new(dtype.as_ptr()).and_then(|descr| number_of(py, descr)))
}

/// An int, or a tuple or list of ints.
fn ints(object: &Bound<'_, PyAny>) -> Option<Vec<isize>> {
    if let Ok(tuple) = object.cast::<PyTuple>() {
        return tuple.iter_borrowed().map(|item| item.extract().ok()).collect();
    }
    if let Ok(list) = object.cast::<PyList>() {
        return list.iter().map(|item| item.extract().ok()).collect();
    }
    object.extract().ok().map(|one| vec![one])
}
