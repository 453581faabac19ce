//! Where a result goes, and the transform itself, without the interpreter where it takes long.

use ndshare::element::{Element, Number};
use ndshare::fft::RawArray;
use ndshare::layout;
use pyo3::prelude::*;

use crate::dtype::{Dtype, number_of};
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
        number: Number,
    ) -> Option<Self> {
        let Some(out) = out else { return Some(Self::New) };
        let facts = Operand::of_any(out)?;
        let is_apart = facts.is_c || layout::is_apart(facts.shape, facts.strides, facts.itemsize);
        let fits = number_of(py, facts.descr) == Some(number) && facts.shape == shape;
        (fits && is_apart && !facts.readonly).then_some(Self::Given(out))
    }
}

/// Finds room for the result and does the work there.
pub(super) fn carry_out<'py>(
    py: Python<'py>,
    x: &Operand<'_>,
    shape: &[usize],
    number: Number,
    points: usize,
    target: Target<'_, 'py>,
    work: impl FnOnce(RawArray<'_>, RawArray<'_>, &dyn Fn() -> ndshare::Result<()>) -> ndshare::Result<()> + Send,
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

pub(super) fn array<'a>(facts: &Operand<'a>) -> RawArray<'a> {
    RawArray { data: facts.data as *mut u8, strides: facts.strides }
}

pub(super) fn overlap(x: &Operand<'_>, out: &Bound<'_, PyAny>) -> bool {
    let Some(out) = Operand::of_any(out) else { return true };
    let span = |facts: &Operand<'_>| reach(facts.data, facts.shape, facts.strides, facts.itemsize);
    match (span(x), span(&out)) {
        (Some((a, a_length)), Some((b, b_length))) => a < b.saturating_add(b_length) && b < a.saturating_add(a_length),
        _ => true,
    }
}

/// A new shared array.
fn room<'py>(py: Python<'py>, shape: &[usize], number: Number) -> PyResult<Bound<'py, PyAny>> {
    let too_many = || pyo3::exceptions::PyValueError::new_err("array is too big.");
    let shape = Shape::known(shape).ok_or_else(too_many)?;
    empty_for(py, &shape, Dtype::of_element(py, &Element::of(number))?, None)
}
