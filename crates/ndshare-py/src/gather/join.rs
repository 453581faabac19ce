//! The arrays of a call, and how the library joins them. What it does not join is NumPy's affair.

use ndshare::gather::{Joint, Nested, Placement};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use super::copying::Copying;
use super::target::{Outcome, Wanted, reach};
use crate::ndarray::Operand;

/// How arrays are joined.
#[derive(Clone, Copy)]
pub(super) enum How {
    /// Along an axis that they have; without one flat.
    Along(Option<isize>),
    /// Along a new axis.
    New(isize),
}

/// The items of a list or a tuple at one moment: other threads may change a list while its arrays are copied. None for
/// anything else.
fn held<'py>(arrays: &Bound<'py, PyAny>) -> Option<Vec<Bound<'py, PyAny>>> {
    items(arrays).or_else(|| Some(arrays.cast_exact::<PyTuple>().ok()?.iter().collect()))
}

fn items<'py>(list: &Bound<'py, PyAny>) -> Option<Vec<Bound<'py, PyAny>>> {
    Some(list.cast_exact::<PyList>().ok()?.iter().collect())
}

/// All sources as operands; None when one is not an ndarray proper.
fn operands<'a>(sources: &'a [Bound<'_, PyAny>]) -> Option<Vec<Operand<'a>>> {
    sources.iter().map(Operand::of).collect()
}

/// Joins ordinary arrays.
pub(super) fn join<'py>(
    py: Python<'py>,
    arrays: &Bound<'py, PyAny>,
    how: How,
    wanted: &Wanted<'_, 'py>,
) -> PyResult<Outcome<'py>> {
    let Some(sources) = held(arrays) else { return Ok(Outcome::Unusual) };
    let Some(operands) = operands(&sources) else { return Ok(Outcome::Unusual) };
    let joint = match how {
        How::New(axis) => Joint::stack(&operands, axis),
        How::Along(axis) => Joint::concatenate(&operands, axis),
    };
    joint.map_or(Ok(Outcome::Unusual), |joint| run(py, &joint, &operands, wanted))
}

/// Joins ordinary arrays as nested lists have them.
pub(super) fn join_nested<'py>(
    py: Python<'py>,
    arrays: &Bound<'py, PyAny>,
    axes: Option<&[isize]>,
    wanted: &Wanted<'_, 'py>,
) -> PyResult<Outcome<'py>> {
    let Ok(nested) = Nested::of(arrays.clone(), items) else { return Ok(Outcome::Unusual) };
    let Some(operands) = operands(nested.leaves()).filter(|_| nested.depth() > 0) else { return Ok(Outcome::Unusual) };
    let joint = match axes {
        None => Joint::block(&nested, &operands),
        Some(axes) => Joint::block_along(&nested, &operands, axes),
    };
    joint.map_or(Ok(Outcome::Unusual), |joint| run(py, &joint, &operands, wanted))
}

fn run<'py>(
    py: Python<'py>,
    joint: &Joint,
    operands: &[Operand<'_>],
    wanted: &Wanted<'_, 'py>,
) -> PyResult<Outcome<'py>> {
    let fill = |copying: &mut Copying<'_, '_>, out: &Operand<'_>| {
        // SAFETY: `into` has admitted all sources, and the joint was made of them.
        let add = |source: &Operand<'_>, at: Placement<'_>| unsafe { copying.add(source, at) };
        joint.each(operands, out.strides, add).ok()
    };
    reach(py, joint, operands, wanted, fill)
}
