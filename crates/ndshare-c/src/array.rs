//! Arrays: made, opened, described, handed on.

use crate::error::{call, call_for_text, nds_code};
use crate::handle::{find, free, keep};
use crate::info::{Described, nds_array_info};
use crate::raw::{deadline, items, place, text};
use crate::session::arena;
use ndshare::array::{Array, Element};
use std::ffi::c_char;

/// An array in shared memory. Its bytes stay as long as anybody has it.
pub struct nds_array {
    pub(crate) array: Array,
    described: Described,
}

pub(crate) fn keep_array(array: Array) -> *mut nds_array {
    keep(nds_array { described: Described::of(&array), array })
}

/// A new array of zeros, contiguous and aligned to 64 bytes, in the session. `dtype` is NumPy's text of what an item is,
/// such as "uint16" or "<f4"; `shape` has `ndim` lengths.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nds_array_make(
    dtype: *const c_char,
    ndim: usize,
    shape: *const usize,
    array: *mut *mut nds_array,
) -> nds_code {
    call(|| {
        // SAFETY: the caller gives a C string, `ndim` lengths and a place for a handle, or null for any of them.
        let (dtype, shape, out) = unsafe {
            (text("a dtype", dtype)?, items("a shape", shape, ndim)?, place("a place for the array", array)?)
        };
        out.set(keep_array(Array::zeros(&arena()?, shape, dtype.parse::<Element>()?)?));
        Ok(())
    })
}

/// Opens the array of a reference: the text that `nds_array_reference`, or `str(nds.ref(array))` in Python, gives.
/// NDS_STALE when nobody has the array any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nds_array_open(
    reference: *const c_char,
    timeout: f64,
    array: *mut *mut nds_array,
) -> nds_code {
    call(|| {
        // SAFETY: the caller gives a C string and a place for a handle, or null for any of them.
        let (reference, out) = unsafe { (text("a reference", reference)?, place("a place for the array", array)?) };
        out.set(keep_array(Array::open_reference(&reference.parse()?, &deadline(timeout)?)?));
        Ok(())
    })
}

/// Where its items are, and what. Who writes to an array that is readonly ends by a signal or harms others.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nds_array_get_info(array: *const nds_array, info: *mut nds_array_info) -> nds_code {
    call(|| {
        // SAFETY: the caller gives a place for the info, or null.
        let (found, out) = (find(array)?, unsafe { place("a place for the info", info) }?);
        out.set(found.described.info(found.array.as_ptr(), found.array.is_readonly()));
        Ok(())
    })
}

/// A text that names the array for other processes, in C, Rust or Python (`nds.ref(text).open()`). It opens as long as
/// anybody has the array. NULL for an error. It stays until this thread asks for its next text.
#[unsafe(no_mangle)]
pub extern "C" fn nds_array_reference(array: *const nds_array) -> *const c_char {
    call_for_text(|| Ok(find(array)?.array.reference().to_string()))
}

/// Lets go of the array. NULL is none.
#[unsafe(no_mangle)]
pub extern "C" fn nds_array_free(array: *mut nds_array) -> nds_code {
    call(|| free(array))
}
