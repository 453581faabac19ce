//! The command `ndshare`, run in this process.

use std::ffi::OsString;

use pyo3::prelude::*;

use crate::wait::detached;

/// Runs the command with these arguments, of which the first is its own name, and returns its exit status.
#[pyfunction]
pub(crate) fn run_command(py: Python<'_>, arguments: Vec<OsString>) -> PyResult<u8> {
    detached(py, || Ok(ndshare_cli::run(arguments)))
}
