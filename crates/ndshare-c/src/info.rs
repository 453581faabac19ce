//! What an array is, with pointers that C can use: kept beside the array, so that they stay as long as its handle.

use crate::error::c_text;
use ndshare::array::{Array, Layout};
use std::ffi::{CString, c_char, c_void};

/// Where the items of an array are, and what. It stays as long as what it was asked of.
#[repr(C)]
pub struct nds_array_info {
    /// The address of the first item in this process.
    pub data: *mut c_void,
    /// What an item is, as NumPy writes it: "<u2" for `uint16_t`, "<f4" for `float`, "|u1" for `uint8_t`.
    pub dtype: *const c_char,
    /// Bytes of one item.
    pub itemsize: usize,
    /// How many items there are.
    pub size: usize,
    /// How many axes.
    pub ndim: usize,
    /// Items along each axis.
    pub shape: *const usize,
    /// Bytes from item to item along each axis.
    pub strides: *const isize,
    /// Whether the items follow each other without gaps, the last axis first.
    pub contiguous: bool,
    /// Whether they may only be read.
    pub readonly: bool,
}

/// Layout and element of an array.
pub(crate) struct Described {
    layout: Layout,
    itemsize: usize,
    dtype: CString,
}

impl Described {
    /// Those of `array`.
    pub(crate) fn of(array: &Array) -> Self {
        let element = array.element();
        Self { layout: array.layout().clone(), itemsize: element.size(), dtype: c_text(&element.to_string()) }
    }

    /// The same for C, with the first item at `data`.
    pub(crate) fn info(&self, data: *mut u8, readonly: bool) -> nds_array_info {
        nds_array_info {
            data: data.cast(),
            dtype: self.dtype.as_ptr(),
            itemsize: self.itemsize,
            size: self.layout.items().unwrap_or(usize::MAX),
            ndim: self.layout.ndim(),
            shape: self.layout.shape().as_ptr(),
            strides: self.layout.strides().as_ptr(),
            contiguous: self.layout.is_contiguous(self.itemsize),
            readonly,
        }
    }
}
