//! Names for strangers: what Python's objects are to the library's registry, and back.

use ndshare::names::{self as library, Audience, Found, Kept, ObjectKind};
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict};

use crate::arena::Arena;
use crate::lock::seconds;
use crate::reference::{found, object_of_head};
use crate::travel::array_of_token;
use crate::wait::{interruptible, interruptible_for};

/// Publishes an object under a name. See `ndshare.publish`.
#[pyfunction]
#[pyo3(signature = (name, thing, replace, mode=None, group=None, timeout=None))]
pub(crate) fn publish_name(
    py: Python<'_>,
    name: &str,
    thing: &Bound<'_, PyAny>,
    replace: bool,
    mode: Option<u32>,
    group: Option<u32>,
    timeout: Option<f64>,
) -> PyResult<()> {
    let timeout = seconds(timeout)?;
    let found = found(thing)?;
    interruptible_for(py, timeout, |deadline| match mode {
        None => library::publish_as(name, found, replace, deadline),
        Some(mode) => library::publish_found_to(name, found, Audience { mode, group }, replace, deadline),
    })
}

/// The object of a name. See `ndshare.attach`.
#[pyfunction]
#[pyo3(signature = (name, timeout=None, readonly=false))]
pub(crate) fn attach_name<'py>(
    py: Python<'py>,
    name: &str,
    timeout: Option<f64>,
    readonly: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let found = interruptible_for(py, seconds(timeout)?, |deadline| match readonly {
        true => library::wait_to_read(name, deadline),
        false => library::wait_for(name, deadline),
    })?;
    object(py, found)
}

/// An object that was found, as Python has it.
pub(crate) fn object(py: Python<'_>, found: Found) -> PyResult<Bound<'_, PyAny>> {
    match (found.kind.head(), found.kept) {
        (Some(kind), Kept::Block(head)) => object_of_head(py, kind, head),
        (None, Kept::Block(hold)) => array_of_token(py, &found.token, hold, None),
        (_, Kept::Arena(arena)) => Ok(Bound::new(py, Arena::over(arena))?.into_any()),
    }
}

/// Takes a name away. See `ndshare.unpublish`.
#[pyfunction]
#[pyo3(signature = (name, timeout=None))]
pub(crate) fn unpublish_name(py: Python<'_>, name: &str, timeout: Option<f64>) -> PyResult<bool> {
    interruptible_for(py, seconds(timeout)?, |deadline| library::unpublish(name, deadline))
}

/// The names that there are, and what they name. See `ndshare.names`.
#[pyfunction]
pub(crate) fn list_names(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let names = interruptible(py, |_| library::names())?;
    dict_of(py, names)
}

/// What names there are, by name.
pub(crate) fn dict_of(py: Python<'_>, names: Vec<(String, ObjectKind)>) -> PyResult<Bound<'_, PyDict>> {
    names.into_iter().map(|(name, kind)| (name, kind.name())).into_py_dict(py)
}
