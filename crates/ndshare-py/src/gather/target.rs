//! The array that a call writes to: the one it was given, or a new one.

use std::ptr::{self, NonNull};

use ::numpy::npyffi::{NPY_CASTING, PY_ARRAY_API, PyArray_Descr, npy_intp};
use ndshare::gather::Joint;
use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;

use super::canvas::Filling;
use super::copying::Copying;
use crate::dtype::{Dtype, Meaning};
use crate::make::empty_for;
use crate::ndarray::Operand;
use crate::shape::Shape;

/// How the caller wants the result.
pub(super) struct Wanted<'a, 'py> {
    pub(super) out: Option<&'a Bound<'py, PyAny>>,
    pub(super) dtype: Option<&'a Bound<'py, PyAny>>,
    pub(super) rule: NPY_CASTING,
    pub(super) workers: Option<usize>,
    /// The call's turn at the canvas, if `out` is the array behind one.
    pub(super) filling: Option<&'a Filling<'a>>,
}

impl<'a, 'py> Wanted<'a, 'py> {
    /// Checks `casting` and `workers`.
    pub(super) fn new(
        py: Python<'py>,
        out: Option<&'a Bound<'py, PyAny>>,
        dtype: Option<&'a Bound<'py, PyAny>>,
        casting: Option<&Bound<'py, PyAny>>,
        workers: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Self> {
        Ok(Self { out, dtype, rule: casting_of(py, casting)?, workers: workers_of(workers)?, filling: None })
    }

    /// The same for the array behind a canvas.
    pub(super) fn at(self, filling: Option<&'a Filling<'a>>) -> Self {
        Self { filling, ..self }
    }
}

/// A `workers=` argument: None, or a number from 1 on.
pub(super) fn workers_of(workers: Option<&Bound<'_, PyAny>>) -> PyResult<Option<usize>> {
    let Some(workers) = workers else { return Ok(None) };
    match workers.extract::<isize>() {
        Ok(count) if count >= 1 => Ok(Some(count.unsigned_abs())),
        Err(error) if !error.is_instance_of::<PyOverflowError>(workers.py()) => Err(error),
        _ => Err(PyValueError::new_err(format!(
            "expected workers to be at least 1, got {workers}; leave it out to have them picked by size and CPUs"
        ))),
    }
}

/// A `casting=` argument; NumPy's error for what is none.
fn casting_of(py: Python<'_>, casting: Option<&Bound<'_, PyAny>>) -> PyResult<NPY_CASTING> {
    let mut rule = NPY_CASTING::NPY_SAME_KIND_CASTING;
    let Some(casting) = casting else { return Ok(rule) };
    // SAFETY: attached; the converter writes one of the enum's values, or fails.
    if unsafe { PY_ARRAY_API.PyArray_CastingConverter(py, casting.as_ptr(), &mut rule) } == 0 {
        return Err(PyErr::fetch(py));
    }
    Ok(rule)
}

/// How far a call has come.
pub(super) enum Outcome<'py> {
    /// This is the result.
    Done(Bound<'py, PyAny>),
    /// This is a new array for the result, which NumPy must fill.
    Room(Bound<'py, PyAny>),
    /// Nothing is done; it is NumPy's affair.
    Unusual,
}

/// Finds or makes a target for a joint of `sources`, and runs the copies that `fill` adds.
pub(super) fn reach<'py>(
    py: Python<'py>,
    joint: &Joint,
    sources: &[Operand<'_>],
    wanted: &Wanted<'_, 'py>,
    fill: impl FnOnce(&mut Copying<'_, '_>, &Operand<'_>) -> Option<()>,
) -> PyResult<Outcome<'py>> {
    if let Some(out) = wanted.out {
        let fits = wanted.dtype.is_none() && Operand::of(out).is_some_and(|facts| facts.shape == joint.shape());
        let done = fits && into(py, out, sources, wanted, fill)?;
        return Ok(if done { Outcome::Done(out.clone()) } else { Outcome::Unusual });
    }
    let Some(dtype) = result_dtype(py, sources, wanted.dtype) else { return Ok(Outcome::Unusual) };
    let Some(shape) = Shape::known(joint.shape()) else { return Ok(Outcome::Unusual) };
    let out = empty_for(py, &shape, dtype, joint.order(sources).as_deref())?;
    let done = into(py, &out, sources, wanted, fill)?;
    Ok(if done { Outcome::Done(out) } else { Outcome::Room(out) })
}

/// Runs the copies of `sources` into `out` that `fill` adds; false where it is NumPy's affair.
pub(super) fn into<'py>(
    py: Python<'py>,
    out: &Bound<'py, PyAny>,
    sources: &[Operand<'_>],
    wanted: &Wanted<'_, 'py>,
    fill: impl FnOnce(&mut Copying<'_, '_>, &Operand<'_>) -> Option<()>,
) -> PyResult<bool> {
    let Some(facts) = Operand::of(out) else { return Ok(false) };
    let Some(mut copying) = Copying::new(py, &facts, wanted.rule, wanted.workers, wanted.filling)? else {
        return Ok(false);
    };
    if !sources.iter().all(|source| copying.admits(source)) || fill(&mut copying, &facts).is_none() {
        return Ok(false);
    }
    // SAFETY: all sources were admitted; the callers hold them and `out`.
    unsafe { copying.run()? };
    Ok(true)
}

/// Lists of more different dtypes than this are NumPy's affair.
const MOST_KINDS: usize = 8;

/// What the dtype of the result is by NumPy's rules; None where it depends on more than dtypes, cannot be shared, or
/// there is an error to be raised.
fn result_dtype<'py>(
    py: Python<'py>,
    sources: &[Operand<'_>],
    dtype: Option<&Bound<'py, PyAny>>,
) -> Option<Dtype<'py>> {
    let mut kinds: Vec<NonNull<PyArray_Descr>> = vec![sources.first()?.descr];
    for source in sources {
        if kinds.last() != Some(&source.descr) && !kinds.contains(&source.descr) {
            kinds.push(source.descr);
        }
        if kinds.len() > MOST_KINDS {
            return None;
        }
    }
    if !kinds.iter().all(|&kind| Meaning::of(py, kind).is_plain) {
        return None;
    }
    if dtype.is_some() {
        // Strings and dates take their length or unit from the inputs.
        let found = Dtype::of(py, dtype).ok()?;
        let meaning = Meaning::of(py, NonNull::new(found.as_ptr())?);
        return (meaning.is_simple && b"biufc".contains(&meaning.kind)).then_some(found);
    }
    common_dtype(py, kinds, sources.len()).filter(|found| found.itemsize() > 0)
}

/// What NumPy promotes `count` arrays of these dtypes to.
fn common_dtype(py: Python<'_>, mut kinds: Vec<NonNull<PyArray_Descr>>, count: usize) -> Option<Dtype<'_>> {
    if let [only] = kinds[..] {
        if Meaning::of(py, only).is_simple {
            return Some(Dtype::borrowed(py, only));
        }
        // Two of a kind are promoted, too: to this machine's order, and without padding.
        kinds.extend((count > 1).then_some(only));
    }
    let count = npy_intp::try_from(kinds.len()).ok()?;
    // SAFETY: attached; `kinds` is as long as it says, a `NonNull` is a pointer, and arrays keep the dtypes.
    let found = unsafe { PY_ARRAY_API.PyArray_ResultType(py, 0, ptr::null_mut(), count, kinds.as_mut_ptr().cast()) };
    // SAFETY: a new reference, or null with an error, which is dropped: NumPy will find it again.
    let found = unsafe { Bound::from_owned_ptr_or_err(py, found.cast::<ffi::PyObject>()) };
    found.and_then(|found| Dtype::of(py, Some(&found))).ok()
}
