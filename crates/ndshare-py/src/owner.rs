//! `Hold`: the object at the base of every array. While it lives, its block lives.

use std::ffi::{c_int, c_void};
use std::mem::ManuallyDrop;

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

use crate::guard::attached;

/// Keeps one block of an arena; the base of every array that ndshare makes or opens.
///
/// It offers the bytes of its block as a buffer, read-only when the array was received read-only.
#[pyclass(frozen, module = "ndshare._native")]
pub(crate) struct Hold {
    hold: ManuallyDrop<ndshare::arena::Hold>,
    writable: bool,
    /// Nobody writes to the block any more, in no process.
    is_final: bool,
}

impl Hold {
    #[inline]
    pub(crate) fn new(hold: ndshare::arena::Hold, writable: bool) -> Self {
        let writable = writable && !hold.is_readonly();
        Self { hold: ManuallyDrop::new(hold), writable, is_final: false }
    }

    /// The base of a value of a cache.
    #[inline]
    pub(crate) fn of_value(hold: ndshare::arena::Hold) -> Self {
        Self { hold: ManuallyDrop::new(hold), writable: false, is_final: true }
    }

    /// Whether nobody writes to the block any more, in no process.
    pub(crate) fn is_final(&self) -> bool {
        self.is_final
    }

    pub(crate) fn inner(&self) -> &ndshare::arena::Hold {
        &self.hold
    }
}

/// Giving back more than this may take milliseconds, which other threads can use.
const QUICK_BYTES: usize = 1 << 20;

impl Drop for Hold {
    fn drop(&mut self) {
        // SAFETY: nobody uses the field after drop.
        let hold = unsafe { ManuallyDrop::take(&mut self.hold) };
        if hold.len_bytes() > QUICK_BYTES {
            // Without an interpreter (it is shutting down) there is nobody to make room for.
            attached(|py| py.detach(|| drop(hold)));
        }
    }
}

#[pymethods]
impl Hold {
    fn __repr__(&self) -> String {
        let access = if self.writable { "" } else { ", read-only" };
        format!("<Hold of block {}, {} bytes{access}>", self.hold.block().index, self.hold.len_bytes())
    }

    fn __len__(&self) -> usize {
        self.hold.len_bytes()
    }

    // NumPy asks for a writable buffer before it lets `a.flags.writeable` be turned on again.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let Self { hold, writable, .. } = slf.get();
        // SAFETY: the view is the caller's; the block lives as long as `slf`.
        unsafe { fill_buffer(&slf, (hold.as_ptr(), hold.len_bytes()), *writable, view, flags) }
    }
}

/// Answers a `__getbuffer__` with bytes: their first address, and how many they are.
///
/// # Safety
/// The view is one to be filled, and the bytes live as long as `owner`.
pub(crate) unsafe fn fill_buffer(
    owner: &Bound<'_, PyAny>,
    (first, length): (*mut u8, usize),
    writable: bool,
    view: *mut ffi::Py_buffer,
    flags: c_int,
) -> PyResult<()> {
    let too_large = |_| PyBufferError::new_err("the memory is larger than a buffer can be");
    let length = ffi::Py_ssize_t::try_from(length).map_err(too_large)?;
    let (first, readonly) = (first.cast::<c_void>(), c_int::from(!writable));
    // SAFETY: the caller's; the view keeps the owner.
    let filled = unsafe { ffi::PyBuffer_FillInfo(view, owner.as_ptr(), first, length, readonly, flags) };
    if filled < 0 { Err(PyErr::fetch(owner.py())) } else { Ok(()) }
}
