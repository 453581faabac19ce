//! New arrays. The common case (a small shape, memory that this process used before) takes no lock that another
//! process could hold, makes no system call and stays attached to the interpreter.

use ndshare::layout;
use pyo3::prelude::*;

use crate::arena::{WorkArena, new_block, work_arena};
use crate::dtype::Dtype;
use crate::ndarray::{Order, array_over};
use crate::shape::{MIN_ALIGN, Shape, alignment, is_fortran};
use crate::wait::at_once;

/// A new shared array with whatever bytes the memory holds; NumPy's `empty` otherwise.
///
/// `shape` is an int or a sequence of ints; no `dtype` means float64; `order` is 'C' or 'F'. The first byte lies at
/// a multiple of `align`, a power of two up to 2 MiB (64 at least). `arena` is an `Arena`, or None for the session's.
///
/// Raises TypeError for dtypes whose items are not plain bytes (objects, StringDType), ValueError for a shape,
/// order or alignment that cannot work, and ArenaFull when a limit leaves no room.
///
/// >>> import ndshare as nds
/// >>> a = nds.empty((1200, 1600), "uint16")
/// >>> a.shape, a.dtype, nds.is_shared(a)
/// ((1200, 1600), dtype('uint16'), True)
#[pyfunction]
#[pyo3(
    signature = (shape, dtype=None, order=None, *, align=None, arena=None),
    text_signature = "(shape, dtype=None, order='C', *, align=64, arena=None)"
)]
pub(crate) fn empty<'py>(
    py: Python<'py>,
    shape: &Bound<'py, PyAny>,
    dtype: Option<&Bound<'py, PyAny>>,
    order: Option<&Bound<'py, PyAny>>,
    align: Option<&Bound<'py, PyAny>>,
    arena: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    make(py, shape, dtype, order, align, arena, false)
}

/// A new shared array of zeros; NumPy's `zeros` otherwise.
///
/// Arguments and errors are those of `empty`.
///
/// >>> import ndshare as nds
/// >>> nds.zeros(3, "uint8")
/// array([0, 0, 0], dtype=uint8)
#[pyfunction]
#[pyo3(
    signature = (shape, dtype=None, order=None, *, align=None, arena=None),
    text_signature = "(shape, dtype=None, order='C', *, align=64, arena=None)"
)]
pub(crate) fn zeros<'py>(
    py: Python<'py>,
    shape: &Bound<'py, PyAny>,
    dtype: Option<&Bound<'py, PyAny>>,
    order: Option<&Bound<'py, PyAny>>,
    align: Option<&Bound<'py, PyAny>>,
    arena: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    make(py, shape, dtype, order, align, arena, true)
}

#[inline]
fn make<'py>(
    py: Python<'py>,
    shape: &Bound<'py, PyAny>,
    dtype: Option<&Bound<'py, PyAny>>,
    order: Option<&Bound<'py, PyAny>>,
    align: Option<&Bound<'py, PyAny>>,
    arena: Option<&Bound<'py, PyAny>>,
    zero: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let dtype = Dtype::of_new(py, dtype)?;
    let shape = Shape::of(shape)?;
    let order = if is_fortran(py, order)? { Order::Fortran } else { Order::C };
    let align = alignment(align)?;
    let len_bytes = shape.len_bytes(dtype.itemsize())?;
    let hold = new_block(py, &work_arena(py, arena)?, len_bytes, align, zero)?;
    // SAFETY: the block has room for a contiguous array of this shape, and no length is negative.
    unsafe { array_over(py, hold, 0, dtype, shape.lengths(), &order, true) }
}

/// A new shared array whose axes lie in memory as `axes` says, the outermost first (for `order='K'`).
///
/// `axes` is a permutation of `range(len(shape))`; else ValueError.
#[pyfunction]
#[pyo3(signature = (shape, dtype, axes, align=None, arena=None, zero=false))]
pub(crate) fn empty_in_order<'py>(
    py: Python<'py>,
    shape: &Bound<'py, PyAny>,
    dtype: &Bound<'py, PyAny>,
    axes: Vec<usize>,
    align: Option<&Bound<'py, PyAny>>,
    arena: Option<&Bound<'py, PyAny>>,
    zero: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let (dtype, shape, arena) = (Dtype::of_new(py, Some(dtype))?, Shape::of(shape)?, work_arena(py, arena)?);
    in_order(&arena, &shape, dtype, Some(&axes), alignment(align)?, zero)
}

/// The same for other modules of this crate: in the session's arena, and in C order without `axes`.
pub(crate) fn empty_for<'py>(
    py: Python<'py>,
    shape: &Shape,
    dtype: Dtype<'py>,
    axes: Option<&[usize]>,
) -> PyResult<Bound<'py, PyAny>> {
    in_order(&work_arena(py, None)?, shape, dtype, axes, MIN_ALIGN, false)
}

fn in_order<'py>(
    arena: &WorkArena,
    shape: &Shape,
    dtype: Dtype<'py>,
    axes: Option<&[usize]>,
    align: usize,
    zero: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let (py, itemsize) = (dtype.as_any().py(), dtype.itemsize());
    let len_bytes = shape.len_bytes(itemsize)?;
    let strides = axes.map(|axes| at_once(py, || layout::in_order(shape.unsigned(), itemsize, axes))).transpose()?;
    let hold = new_block(py, arena, len_bytes, align, zero)?;
    let order = strides.as_ref().map_or(Order::C, |strides| Order::Strides(strides));
    // SAFETY: the strides are those of a contiguous array, or permute them, and such an array fits the block.
    unsafe { array_over(py, hold, 0, dtype, shape.lengths(), &order, true) }
}
