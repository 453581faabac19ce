//! Library errors as Python exceptions. The classes live in `ndshare._errors`, where they also inherit the
//! built-in that fits; each is looked up once.

use ndshare::cache::Failure;
use ndshare::{Error, Kind};
use pyo3::PyErrArguments;
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::guard::Once;

type Class = Once<Py<PyType>>;

static BASE: Class = Once::new();
static ARENA_FULL: Class = Once::new();
static STALE: Class = Once::new();
static ATTACH: Class = Once::new();
static TIMEOUT: Class = Once::new();
static OWNER_DIED: Class = Once::new();
static EMPTY: Class = Once::new();
static FULL: Class = Once::new();
static CLOSED: Class = Once::new();
static WRITER_DIED: Class = Once::new();
static POISONED: Class = Once::new();
static LOAD_ERROR: Class = Once::new();

/// The exception that stands for `error`.
pub(crate) fn to_python(py: Python<'_>, error: &Error) -> PyErr {
    let message = error.to_string();
    match error.kind() {
        Kind::InvalidValue => PyValueError::new_err(message),
        Kind::InvalidType => PyTypeError::new_err(message),
        Kind::ArenaFull => ours(py, &ARENA_FULL, "ArenaFull", message),
        Kind::Stale => ours(py, &STALE, "Stale", message),
        Kind::Attach | Kind::Unreachable | Kind::Foreign => ours(py, &ATTACH, "AttachError", message),
        Kind::Timeout => ours(py, &TIMEOUT, "Timeout", message),
        Kind::LoadFailed => not_loaded(py, error),
        Kind::OwnerDied => ours(py, &OWNER_DIED, "OwnerDied", message),
        Kind::Empty => ours(py, &EMPTY, "Empty", message),
        Kind::Full => ours(py, &FULL, "Full", message),
        Kind::Closed => ours(py, &CLOSED, "Closed", message),
        Kind::WriterDied => ours(py, &WRITER_DIED, "WriterDied", message),
        Kind::Misuse => PyRuntimeError::new_err(message),
        Kind::Poisoned => ours(py, &POISONED, "Poisoned", message),
        // An interrupted wait raises what its check found; see `wait`.
        _ => ours(py, &BASE, "Error", message),
    }
}

/// The exception for a load of somebody else that failed.
pub(crate) fn load_failed(py: Python<'_>, failure: Failure) -> PyErr {
    ours(py, &LOAD_ERROR, "LoadError", (failure.type_name, failure.text))
}

/// Whether an exception is `Closed`.
pub(crate) fn is_closed(py: Python<'_>, error: &PyErr) -> bool {
    class_of(py, &CLOSED, "Closed").is_ok_and(|class| error.is_instance(py, class))
}

/// The one way to our classes.
fn class_of<'a, 'py>(py: Python<'py>, class: &'a Class, name: &str) -> PyResult<&'a Bound<'py, PyType>> {
    class.import(py, "ndshare._errors", name)
}

fn ours(py: Python<'_>, class: &'static Class, name: &str, said: impl PyErrArguments + 'static) -> PyErr {
    match class_of(py, class, name) {
        Ok(class) => PyErr::from_type(class.clone(), said),
        Err(error) => {
            // The package itself cannot be imported any more: at interpreter exit, for one.
            let fallback = PyRuntimeError::new_err(said);
            fallback.set_cause(py, Some(error));
            fallback
        }
    }
}

/// The `LoadError` of an error whose data say why.
fn not_loaded(py: Python<'_>, error: &Error) -> PyErr {
    let (type_name, text) = match error {
        Error::LoadFailed(failed) if !failed.type_name.is_empty() => (failed.type_name.clone(), failed.text.clone()),
        other => (format!("ndshare::Kind::{:?}", other.kind()), other.to_string()),
    };
    load_failed(py, Failure { type_name, text })
}
