//! Values as arrays, and arrays as values.
//!
//! A value is a whole block that nobody writes to any more. An array that lies alone in a block of the cache's arena
//! becomes one without a copy; everything else is copied into a block of its own.

use ndshare::arena::Hold;
use ndshare::cache::{Cache, Found, Writers};
use ndshare::element::Element;
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;

use crate::described::{Described, Descriptions};
use crate::dtype::Dtype;
use crate::ndarray::{Operand, copy_into, freeze, plain_class, view_base};
use crate::owner;
use crate::shared::{block_under, final_block};
use crate::wait::{detached, interruptible, quick};

/// The array of a value. It is read-only and keeps the value.
#[inline]
pub(super) fn array_of<'py>(py: Python<'py>, known: &Descriptions, found: Found) -> PyResult<Bound<'py, PyAny>> {
    let learned;
    let described = match known.glimpse(&found.view) {
        Some(known) => known,
        None => {
            learned = known.of(py, &found.view, None)?;
            &learned
        }
    };
    let data = described.place(py, &found.hold, found.offset)?;
    let owner = Py::new(py, owner::Hold::of_value(found.hold))?.into_any();
    // SAFETY: the owner keeps the block; NumPy's own class of arrays.
    unsafe { described.array(&plain_class(py), owner, data, false) }
}

/// The value that an array becomes; none when the arena has no room for it.
///
/// `is_given`: the caller has no further use for the array, so it may turn read-only.
pub(super) fn value_of(
    py: Python<'_>,
    cache: &Cache,
    array: &Bound<'_, PyAny>,
    is_given: bool,
) -> PyResult<Option<Found>> {
    let Some(facts) = Operand::of_any(array) else {
        return Err(PyValueError::new_err("expected a value that is an array, got another object"));
    };
    let dtype = Dtype::of(py, Some(Dtype::of_array(array)?.as_any()))?;
    let element = dtype.stored_element()?;
    let Some(hold) = adopted(py, cache, array, &facts, is_given)? else {
        return copied(py, cache, array, dtype, element);
    };
    freeze(array);
    let (offset, view) = (facts.offset_in(&hold), facts.described(Some(element)).encode());
    Ok(Some(Found { hold, offset, view: view.into() }))
}

/// The block of an array that may become a value as it is.
fn adopted(
    py: Python<'_>,
    cache: &Cache,
    array: &Bound<'_, PyAny>,
    facts: &Operand<'_>,
    is_given: bool,
) -> PyResult<Option<Hold>> {
    let Some(hold) = block_under(py, facts)? else { return Ok(None) };
    // A view may be read-only while what it is a view of is not.
    let is_frozen = || facts.readonly && view_base(array).is_none_or(|base| Operand::of_any(&base).is_none());
    let writers = match final_block(array, |_| ()) {
        Some(()) => Writers::Nobody,
        None if is_given || is_frozen() => Writers::Elsewhere,
        None => return Ok(None),
    };
    let len_bytes = facts.nbytes();
    let is_adopted = detached(py, || cache.adopts(&hold, len_bytes, writers))?;
    Ok(is_adopted.then_some(hold))
}

/// The same items in a block of their own.
fn copied(
    py: Python<'_>,
    cache: &Cache,
    array: &Bound<'_, PyAny>,
    dtype: Dtype<'_>,
    element: Element,
) -> PyResult<Option<Found>> {
    let plain = array.call_method1(intern!(py, "view"), (py.import("numpy")?.getattr("ndarray")?,))?;
    let Some(from) = Operand::of(&plain) else { return Ok(None) };
    let described = Described::contiguous(dtype, from.shape, from.is_f && !from.is_c)?.saying(Some(element));
    let len_bytes = described.len_bytes();
    let quickly = quick(py, || cache.head().arena().alloc_quick(len_bytes.max(1), 64))?;
    let hold = match quickly {
        None => interruptible(py, |deadline| cache.room_for(len_bytes, deadline))?,
        found => found,
    };
    let Some(hold) = hold else { return Ok(None) };
    copy_into(&described.over(py, hold.clone(), true)?, &plain)?;
    Ok(Some(Found { hold, offset: 0, view: described.said().to_vec().into() }))
}
