//! Items of NumPy's dtypes as the library names them, and back.

use std::ptr::NonNull;

use ndshare::element::Number;
use ndshare::fft::Element;
use numpy::npyffi::{NPY_TYPES, PyArray_Descr};
use pyo3::prelude::*;

use crate::dtype::number_of;

/// What an item of a dtype is; None for what Python must convert.
pub(super) fn element_of(py: Python<'_>, descr: NonNull<PyArray_Descr>) -> Option<Element> {
    Some(match number_of(py, descr)? {
        Number::Bool | Number::U8 => Element::U8,
        Number::I8 => Element::I8,
        Number::U16 => Element::U16,
        Number::I16 => Element::I16,
        Number::U32 => Element::U32,
        Number::I32 => Element::I32,
        Number::U64 => Element::U64,
        Number::I64 => Element::I64,
        Number::F32 => Element::F32,
        Number::F64 => Element::F64,
        Number::C64 => Element::C64,
        Number::C128 => Element::C128,
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
