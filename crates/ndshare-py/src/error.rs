//! Library errors as Python exceptions. The classes live in `ndshare._errors`, where they also inherit the
//! built-in that fits.

use ndshare::cache::Failure;
use ndshare::{Error, Kind};
use pyo3::PyErrArguments;
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};

use crate::guard::Once;

/// What an object is, for an error that says what was got.
pub(crate) fn class_name(given: &Bound<'_, PyAny>) -> String {
    given.get_type().name().map_or_else(|_| String::new(), |name| name.to_string())
}

/// The exception that stands for `error`.
pub(crate) fn to_python(py: Python<'_>, error: &Error) -> PyErr {
    let message = error.to_string();
    let name = match error.kind() {
        Kind::InvalidValue | Kind::WrongKind => return PyValueError::new_err(message),
        Kind::InvalidType => return PyTypeError::new_err(message),
        Kind::Misuse => return PyRuntimeError::new_err(message),
        Kind::LoadFailed => return not_loaded(py, error),
        Kind::OwnerDied => return of_process(py, "OwnerDied", format!("{message}: pass recover=True"), pid_of(error)),
        Kind::WriterDied => return of_process(py, "WriterDied", message, pid_of(error)),
        Kind::Attach | Kind::Unreachable | Kind::Foreign => "AttachError",
        // An interrupted wait raises what its check found; see `wait`.
        Kind::Interrupted | Kind::Os => "Error",
        kind => kind.name(),
    };
    ours(py, name, message)
}

/// The exception for a load of somebody else that failed.
pub(crate) fn load_failed(py: Python<'_>, failure: Failure) -> PyErr {
    of_process(py, "LoadError", (failure.type_name, failure.text), failure.pid)
}

/// The process that an error is about, where the error knows it.
fn pid_of(error: &Error) -> Option<u32> {
    match error {
        Error::OwnerDied(died) => died.pid,
        Error::WriterDied(died) => died.pid,
        Error::LoadFailed(failed) => failed.pid,
        _ => None,
    }
}

/// An exception whose `pid` says whose doing it is.
fn of_process(py: Python<'_>, name: &str, said: impl PyErrArguments + 'static, pid: Option<u32>) -> PyErr {
    let raised = ours(py, name, said);
    match raised.value(py).setattr(intern!(py, "pid"), pid) {
        Ok(()) => raised,
        Err(error) => error,
    }
}

/// Whether an exception is one of ours, by its name.
pub(crate) fn is_ours(py: Python<'_>, name: &str, error: &PyErr) -> bool {
    class_of(py, name).is_ok_and(|class| error.is_instance(py, &class))
}

/// The one way to our classes. They are looked up once, for the end of the interpreter, when nothing can be imported.
fn class_of<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyType>> {
    static CLASSES: Once<Py<PyDict>> = Once::new();
    let classes = CLASSES.get_or_make(|| Ok(py.import("ndshare._errors")?.dict().copy()?.unbind()))?.bind(py);
    let class = classes.get_item(name)?.ok_or_else(|| PyRuntimeError::new_err(name.to_owned()))?;
    Ok(class.cast_into()?)
}

fn ours(py: Python<'_>, name: &str, said: impl PyErrArguments + 'static) -> PyErr {
    match class_of(py, name) {
        Ok(class) => PyErr::from_type(class, said),
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
        other => (format!("ndshare::Kind::{}", other.kind().name()), other.to_string()),
    };
    load_failed(py, Failure { pid: pid_of(error), type_name, text })
}
