//! Where a result goes, and the transform itself, without the interpreter where it takes long.

use ndshare::fft::{Array, Element, Plan, Spec};
use ndshare::layout;
use numpy::npyffi::{NPY_TYPES, PY_ARRAY_API};
use pyo3::prelude::*;

use super::element::{TypeNumber, element_of};
use crate::dtype::Dtype;
use crate::error::to_python;
use crate::make::empty_for;
use crate::ndarray::{Operand, copy_into, reach};
use crate::shape::Shape;
use crate::wait::{moving, quick};

/// Transforming more points than this takes longer than letting another thread have the interpreter.
const QUICK_POINTS: usize = 1 << 12;

/// The array for a result.
pub(super) enum Target<'a, 'py> {
    Given(&'a Bound<'py, PyAny>),
    New,
}

impl<'a, 'py> Target<'a, 'py> {
    /// None for an `out` that is not just an array for this result: Python finds what is wrong with it.
    pub(super) fn of(
        py: Python<'py>,
        out: Option<&'a Bound<'py, PyAny>>,
        shape: &[usize],
        element: Element,
    ) -> Option<Self> {
        let Some(out) = out else { return Some(Self::New) };
        let facts = Operand::of_any(out)?;
        let is_apart = facts.is_c || layout::is_apart(facts.shape, facts.strides, facts.itemsize);
        let fits = element_of(py, facts.descr) == Some(element) && facts.shape == shape;
        (fits && is_apart && !facts.readonly).then_some(Self::Given(out))
    }
}

/// Plans and runs a transform; returns the array with the result.
pub(super) fn transform<'py>(
    py: Python<'py>,
    x: &Operand<'_>,
    spec: Spec,
    scale: f64,
    workers: Option<usize>,
    target: Target<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let points = spec.points();
    carry_out(py, x, &spec.result_shape(), spec.output().number(), points, target, |from, into, check| {
        let plan = Plan::new(spec)?;
        // SAFETY: `carry_out` hands over arrays of these shapes, which share no bytes.
        unsafe { plan.run(from, into, scale, workers, check) }
    })
}

/// The same with a plan that is there.
pub(super) fn follow<'py>(
    py: Python<'py>,
    x: &Operand<'_>,
    plan: &Plan,
    scale: f64,
    workers: Option<usize>,
    target: Target<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let spec = plan.spec();
    carry_out(py, x, &spec.result_shape(), spec.output().number(), spec.points(), target, |from, into, check| {
        // SAFETY: as above.
        unsafe { plan.run(from, into, scale, workers, check) }
    })
}

/// Finds room for the result and does the work there.
pub(super) fn carry_out<'py>(
    py: Python<'py>,
    x: &Operand<'_>,
    shape: &[usize],
    number: NPY_TYPES,
    points: usize,
    target: Target<'_, 'py>,
    work: impl FnOnce(Array<'_>, Array<'_>, &dyn Fn() -> ndshare::Result<()>) -> ndshare::Result<()> + Send,
) -> PyResult<Bound<'py, PyAny>> {
    let (out, copy_to) = match target {
        Target::Given(out) if !overlap(x, out) => (out.clone(), None),
        Target::Given(out) => (room(py, shape, number)?, Some(out)),
        Target::New => (room(py, shape, number)?, None),
    };
    let into = Operand::of_any(&out).map(|facts| array(&facts));
    if let Some(into) = into {
        let from = array(x);
        if points <= QUICK_POINTS {
            quick(py, || work(from, into, &|| Ok(())))?.map_err(|error| to_python(py, &error))?;
        } else {
            moving(py, move |check| work(from, into, check))?;
        }
    }
    let Some(target) = copy_to else { return Ok(out) };
    copy_into(target, &out)?;
    Ok(target.clone())
}

fn array<'a>(facts: &Operand<'a>) -> Array<'a> {
    Array { data: facts.data as *mut u8, strides: facts.strides }
}

fn overlap(x: &Operand<'_>, out: &Bound<'_, PyAny>) -> bool {
    let Some(out) = Operand::of_any(out) else { return true };
    let span = |facts: &Operand<'_>| reach(facts.data, facts.shape, facts.strides, facts.itemsize);
    match (span(x), span(&out)) {
        (Some((a, a_length)), Some((b, b_length))) => a < b.saturating_add(b_length) && b < a.saturating_add(a_length),
        _ => true,
    }
}

/// A new shared array.
fn room<'py>(py: Python<'py>, shape: &[usize], number: NPY_TYPES) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: attached; a new reference to the dtype of a C type, which always is there.
    let dtype = unsafe {
        let descr = PY_ARRAY_API.PyArray_DescrFromType(py, number as i32);
        Bound::from_owned_ptr_or_err(py, descr.cast())?
    };
    let too_many = || pyo3::exceptions::PyValueError::new_err("array is too big.");
    let mut shape = Shape::known(shape).ok_or_else(too_many)?;
    empty_for(py, &mut shape, Dtype::known(dtype), None)
}
