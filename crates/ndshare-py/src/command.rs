//! The command `ndshare`, run in this process, and what its verbs in Python ask for.

use std::ffi::OsString;

use ndshare::head::HeadKind;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::arena::work_arena;
use crate::reference::object_of_head;
use crate::wait::{detached, interruptible};

/// Runs the command with these arguments, of which the first is its own name, and returns its exit status.
#[pyfunction]
pub(crate) fn run_command(py: Python<'_>, arguments: Vec<OsString>) -> PyResult<u8> {
    detached(py, || Ok(ndshare_cli::run(arguments)))
}

/// What `ndshare check` finds in an arena of this process (None: the session's), a line each; empty where it is whole.
///
/// Raises RuntimeError when nobody can look into it.
#[pyfunction]
#[pyo3(signature = (arena=None))]
pub(crate) fn findings(py: Python<'_>, arena: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<String>> {
    let arena = work_arena(py, arena)?;
    detached(py, || Ok(ndshare_cli::findings(&arena.locator())))?.map_err(PyRuntimeError::new_err)
}

/// The ring of a name in the session of a name, to be read; None where there is none. This process does not belong to that
/// session.
#[pyfunction]
pub(crate) fn ring_in_session<'py>(py: Python<'py>, session: &str, ring: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
    let found = interruptible(py, |_| ndshare_cli::ring_in_session(session, ring))?;
    found.map(|ring| object_of_head(py, HeadKind::Ring, ring.head().clone())).transpose()
}
