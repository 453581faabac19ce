//! Is this memory in an arena? The address decides, so every kind of view counts.

use std::mem::MaybeUninit;

use ndshare::arena::{Hold, find};
use pyo3::ffi;
use pyo3::prelude::*;

use crate::frame::FrameHold;
use crate::ndarray::{Operand, base_of, reach};
use crate::owner;
use crate::shape::alignment;
use crate::wait::quick;

/// Whether the bytes of an ndarray or of any object with a buffer lie in one block that this process holds.
///
/// With `arena`, only a block of that one counts. False for objects without a buffer, and for arrays of objects, which
/// mean nothing to another process; never copies.
#[pyfunction]
#[pyo3(signature = (array, arena=None))]
pub(crate) fn is_shared(array: &Bound<'_, PyAny>, arena: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
    let reach = |facts: Operand<'_>| if facts.has_pointers(array.py()) { None } else { facts.reach() };
    let range = Operand::of_any(array).map_or_else(|| buffer_reach(array), reach);
    range.map_or(Ok(false), |(first, length)| is_shared_at(array.py(), first, length, arena))
}

/// The same for `length` bytes from the address `first` on.
#[pyfunction]
#[pyo3(signature = (first, length, arena=None))]
pub(crate) fn is_shared_at(
    py: Python<'_>,
    first: usize,
    length: usize,
    arena: Option<&Bound<'_, PyAny>>,
) -> PyResult<bool> {
    let wanted = arena.filter(|arena| !arena.is_none()).map(crate::arena::named).transpose()?;
    let hold = find_block(py, first, length)?;
    Ok(hold.is_some_and(|hold| wanted.is_none_or(|arena| arena.id() == hold.arena().id())))
}

/// Whether an array is shared, in `arena` if one is given, and its first item lies at a multiple of `align` bytes.
#[pyfunction]
#[pyo3(signature = (array, align, arena=None))]
pub(crate) fn is_placed(
    array: &Bound<'_, PyAny>,
    align: &Bound<'_, PyAny>,
    arena: Option<&Bound<'_, PyAny>>,
) -> PyResult<bool> {
    let align = alignment(Some(align))?;
    let aligned = Operand::of_any(array).is_some_and(|facts| facts.data % align == 0);
    Ok(aligned && is_shared(array, arena)?)
}

/// The block under an array; None when it is not shared, its items lie in more than one block, or they are pointers.
pub(crate) fn block_under(py: Python<'_>, facts: &Operand<'_>) -> PyResult<Option<Hold>> {
    if facts.has_pointers(py) {
        return Ok(None);
    }
    facts.reach().map_or(Ok(None), |(first, length)| find_block(py, first, length))
}

/// Runs `look` on the block under an array if nobody writes to it any more: of a cache's value, or a received frame.
pub(crate) fn final_block<T>(array: &Bound<'_, PyAny>, look: impl FnOnce(&Hold) -> T) -> Option<T> {
    let base = base_of(array)?;
    if let Ok(hold) = base.cast::<owner::Hold>() {
        let hold = hold.get();
        return hold.is_final().then(|| look(hold.inner()));
    }
    base.cast::<FrameHold>().ok()?.get().published().map(look)
}

fn find_block(py: Python<'_>, first: usize, length: usize) -> PyResult<Option<Hold>> {
    quick(py, || find(first, length.max(1)))
}

/// What the buffer of `object` reaches; None without a buffer, or when it is not one strided piece of memory.
fn buffer_reach(object: &Bound<'_, PyAny>) -> Option<(usize, usize)> {
    let mut view = MaybeUninit::<ffi::Py_buffer>::uninit();
    // SAFETY: attached; the view is filled when the result is 0, and released below.
    let view = unsafe {
        if ffi::PyObject_CheckBuffer(object.as_ptr()) == 0 {
            return None;
        }
        if ffi::PyObject_GetBuffer(object.as_ptr(), view.as_mut_ptr(), ffi::PyBUF_FULL_RO) != 0 {
            drop(PyErr::take(object.py()));
            return None;
        }
        view.assume_init_mut()
    };
    let range = view_reach(view);
    // SAFETY: filled above, released once.
    unsafe { ffi::PyBuffer_Release(view) };
    range
}

fn view_reach(view: &ffi::Py_buffer) -> Option<(usize, usize)> {
    let (data, ndim) = (view.buf as usize, usize::try_from(view.ndim).ok()?);
    if !view.suboffsets.is_null() {
        return None;
    }
    if ndim == 0 || view.shape.is_null() || view.strides.is_null() {
        return Some((data, usize::try_from(view.len).ok()?));
    }
    // SAFETY: the exporter filled `ndim` lengths and strides; lengths are not negative.
    let (shape, strides) = unsafe {
        let shape = std::slice::from_raw_parts(view.shape.cast::<usize>(), ndim);
        (shape, std::slice::from_raw_parts(view.strides, ndim))
    };
    reach(data, shape, strides, usize::try_from(view.itemsize).ok()?)
}
