//! Items of NumPy's dtypes as the library names them, and back.

use std::ptr::NonNull;

use ndshare::fft::Element;
use numpy::npyffi::{NPY_TYPES, PyArray_Descr};
use pyo3::prelude::*;

use crate::dtype::kind_and_size;

/// What an item of a dtype is; None for what Python must convert.
pub(super) fn element_of(py: Python<'_>, descr: NonNull<PyArray_Descr>) -> Option<Element> {
    Some(match kind_and_size(py, descr)? {
        (b'b' | b'u', 1) => Element::U8,
        (b'i', 1) => Element::I8,
        (b'u', 2) => Element::U16,
        (b'i', 2) => Element::I16,
        (b'u', 4) => Element::U32,
        (b'i', 4) => Element::I32,
        (b'u', 8) => Element::U64,
        (b'i', 8) => Element::I64,
        (b'f', 4) => Element::F32,
        (b'f', 8) => Element::F64,
        (b'c', 8) => Element::C64,
        (b'c', 16) => Element::C128,
        _ => return None,
    })
}

/// NumPy's number for what items are.
pub(super) trait TypeNumber {
    fn number(self) -> NPY_TYPES;
}

impl TypeNumber for Element {
    fn number(self) -> NPY_TYPES {
        match (self.is_complex(), self.size()) {
            (false, 4) => NPY_TYPES::NPY_FLOAT,
            (false, _) => NPY_TYPES::NPY_DOUBLE,
            (true, 8) => NPY_TYPES::NPY_CFLOAT,
            (true, _) => NPY_TYPES::NPY_CDOUBLE,
        }
    }
}
