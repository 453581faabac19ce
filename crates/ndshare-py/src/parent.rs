//! Workers of a pool end with the process that has the pool.

use std::ffi::{c_int, c_void};
use std::ptr;

use ndshare::os::parent;
use pyo3::ffi;
use pyo3::prelude::*;

use crate::error::to_python;

/// From now on this process is killed as soon as process `pid` has ended; `sentinel` is multiprocessing's descriptor that
/// becomes readable then, too. Raises Error when there is no descriptor or no thread to be had.
#[pyfunction]
pub(crate) fn end_with(py: Python<'_>, pid: u32, sentinel: i32) -> PyResult<()> {
    parent::end_with(pid, sentinel).map_err(|e| to_python(py, &e))
}

/// After a fork of this process: goes on watching, as soon as the fork is done. Python counts threads until then.
#[pyfunction]
pub(crate) fn watch_again() {
    // SAFETY: attached; the function below needs no argument.
    let _ = unsafe { ffi::Py_AddPendingCall(Some(resume), ptr::null_mut()) };
}

extern "C" fn resume(_: *mut c_void) -> c_int {
    // Without a thread to be had now, the next fork tries again.
    let _ = parent::resume();
    0
}
