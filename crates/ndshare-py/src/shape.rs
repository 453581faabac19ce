//! Shapes, orders, alignments and sizes as Python gives them. Errors are NumPy's own, or worded like them.

use std::ffi::c_void;
use std::{ptr, slice};

use ndshare::layout::{MAX_DIMS, parse_size};
use numpy::npyffi::{NPY_ORDER, PY_ARRAY_API, PyArray_Dims, npy_intp};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt, PyString, PyTuple};

use crate::described::Described;
use crate::dtype::Dtype;
use crate::wait::at_once;

unsafe extern "C" {
    /// In the stable ABI since 3.13, and in every Python that is older: those do not change any more.
    fn PyMem_RawFree(memory: *mut c_void);
}

/// The smallest alignment of an array's first byte, one cache line.
pub(crate) const MIN_ALIGN: usize = 64;
/// The largest, one huge page.
const MAX_ALIGN: usize = 2 << 20;

/// The lengths of an array's axes, on the stack.
pub(crate) struct Shape {
    lengths: [npy_intp; MAX_DIMS],
    ndim: usize,
}

impl Shape {
    /// An int, or any sequence of things with `__index__`.
    #[inline]
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<Shape> {
        let mut shape = Shape { lengths: [0; MAX_DIMS], ndim: 0 };
        if !shape.read_fast(object) {
            shape.read_any(object)?;
        }
        if shape.lengths().iter().any(|&length| length < 0) {
            return Err(PyValueError::new_err("negative dimensions are not allowed"));
        }
        Ok(shape)
    }

    /// Lengths that are known already; None for more axes than an array can have.
    pub(crate) fn known(lengths: &[usize]) -> Option<Shape> {
        let mut shape = Shape { lengths: [0; MAX_DIMS], ndim: lengths.len() };
        let slots = shape.lengths.get_mut(..lengths.len())?;
        slots.iter_mut().zip(lengths).for_each(|(slot, &length)| *slot = length.cast_signed());
        shape.lengths().iter().all(|&length| length >= 0).then_some(shape)
    }

    /// Reads an exact int or a tuple of exact ints; false leaves the rest to NumPy's converter.
    #[inline]
    fn read_fast(&mut self, object: &Bound<'_, PyAny>) -> bool {
        if let Some(length) = small_int(object) {
            self.lengths[0] = length;
            self.ndim = 1;
            return true;
        }
        let Ok(tuple) = object.cast_exact::<PyTuple>() else { return false };
        if tuple.len() > MAX_DIMS {
            return false;
        }
        self.ndim = tuple.len();
        let mut items = tuple.iter_borrowed();
        self.lengths.iter_mut().zip(&mut items).all(|(slot, item)| small_int(&item).map(|v| *slot = v).is_some())
    }

    fn read_any(&mut self, object: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut dims = PyArray_Dims { ptr: ptr::null_mut(), len: 0 };
        // SAFETY: attached; on success `dims` owns `len` lengths, or a null pointer for none.
        let read = unsafe { PY_ARRAY_API.PyArray_IntpConverter(object.py(), object.as_ptr(), &mut dims) };
        if read == 0 {
            return Err(PyErr::fetch(object.py()));
        }
        self.ndim = usize::try_from(dims.len).unwrap_or(0).min(MAX_DIMS);
        if !dims.ptr.is_null() {
            // SAFETY: NumPy wrote `len` lengths there, at most as many as an array may have.
            unsafe { ptr::copy_nonoverlapping(dims.ptr, self.lengths.as_mut_ptr(), self.ndim) };
            // SAFETY: this is what NumPy's macro PyDimMem_FREE does.
            unsafe { PyMem_RawFree(dims.ptr.cast()) };
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn lengths(&self) -> &[npy_intp] {
        &self.lengths[..self.ndim]
    }

    /// The same for the library; no length is negative.
    pub(crate) fn unsigned(&self) -> &[usize] {
        // SAFETY: both are integers of one size, of which any bytes are one.
        unsafe { slice::from_raw_parts(self.lengths.as_ptr().cast(), self.ndim) }
    }

    /// Bytes of a contiguous array of this shape. Like NumPy, it skips zeros when it looks for an overflow.
    #[inline]
    pub(crate) fn len_bytes(&self, itemsize: usize) -> PyResult<usize> {
        let mut bytes = itemsize.cast_signed();
        let mut empty = false;
        for &length in self.lengths() {
            empty |= length == 0;
            bytes = bytes.checked_mul(length.max(1)).ok_or_else(too_big)?;
        }
        Ok(if empty { 0 } else { bytes.unsigned_abs() })
    }

    /// What a contiguous array of this shape is.
    pub(crate) fn contiguous(&self, dtype: Dtype<'_>) -> PyResult<Described> {
        self.len_bytes(dtype.itemsize())?;
        Described::contiguous(dtype, self.unsigned(), false)
    }
}

#[cold]
fn too_big() -> PyErr {
    PyValueError::new_err("array is too big; `arr.size * arr.dtype.itemsize` is larger than the maximum possible size.")
}

/// An exact int that fits; None for everything else, without an error pending.
#[inline]
fn small_int(object: &Bound<'_, PyAny>) -> Option<npy_intp> {
    let int = object.cast_exact::<PyInt>().ok()?;
    let mut overflow = 0;
    // SAFETY: attached; an exact int raises nothing here, it only reports an overflow.
    let value = unsafe { ffi::PyLong_AsLongAndOverflow(int.as_ptr(), &mut overflow) };
    (overflow == 0).then_some(value as npy_intp)
}

/// Whether an `order=` argument asks for Fortran order; only 'C' and 'F' make sense for a new array.
#[inline]
pub(crate) fn is_fortran(py: Python<'_>, order: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
    let Some(order) = order else { return Ok(false) };
    let mut value = NPY_ORDER::NPY_CORDER;
    // SAFETY: attached; the converter writes one of the enum's values, or fails.
    if unsafe { PY_ARRAY_API.PyArray_OrderConverter(py, order.as_ptr(), &mut value) } == 0 {
        return Err(PyErr::fetch(py));
    }
    match value {
        NPY_ORDER::NPY_CORDER => Ok(false),
        NPY_ORDER::NPY_FORTRANORDER => Ok(true),
        _ => Err(PyValueError::new_err("only 'C' or 'F' order is permitted")),
    }
}

/// The bytes of an `align=` argument: a power of two up to 2 MiB, at least 64.
#[inline]
pub(crate) fn alignment(align: Option<&Bound<'_, PyAny>>) -> PyResult<usize> {
    let Some(align) = align else { return Ok(MIN_ALIGN) };
    match align.extract::<i64>() {
        Ok(bytes) if bytes > 0 && bytes as u64 <= MAX_ALIGN as u64 && (bytes as u64).is_power_of_two() => {
            Ok((bytes as usize).max(MIN_ALIGN))
        }
        Err(error) if !error.is_instance_of::<pyo3::exceptions::PyOverflowError>(align.py()) => Err(error),
        _ => Err(PyValueError::new_err(format!(
            "expected align to be a power of two up to {MAX_ALIGN} (bytes), got {align}; leave it out for 64"
        ))),
    }
}

/// `what` a size is for: a text such as `sample`, or a number of bytes from `least` on; less than none is none. `range`
/// says which, for the error.
pub(crate) fn size_of(object: &Bound<'_, PyAny>, what: &str, sample: &str, least: i64, range: &str) -> PyResult<u64> {
    let py = object.py();
    if let Ok(text) = object.cast::<PyString>() {
        let text = text.to_str()?;
        return at_once(py, || parse_size(text));
    }
    // A bool is an int to Python, and no size to anybody.
    let number =
        if object.is_instance_of::<PyBool>() { Err(PyTypeError::new_err("a bool")) } else { object.extract::<i64>() };
    match number {
        Ok(bytes) if bytes >= least => Ok(bytes.max(0).unsigned_abs()),
        Err(error) if error.is_instance_of::<PyTypeError>(py) => {
            let got = object.get_type();
            Err(PyTypeError::new_err(format!("expected {what} such as {sample:?} or a number of bytes, got {got}")))
        }
        _ => Err(PyValueError::new_err(format!("expected {what} {range}, got {object}"))),
    }
}
