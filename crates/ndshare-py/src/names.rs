//! Names for strangers: what Python's objects are to the library's registry, and back.

use ndshare::names::{self as library, Found, Kept, ObjectKind};
use ndshare::session::reference_to;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arena::Arena;
use crate::lock::seconds;
use crate::overlay::block_of;
use crate::reference::{found, object_of_head};
use crate::travel::array_of_token;
use crate::wait::{interruptible, interruptible_for};

/// Publishes an object under a name. See `ndshare.publish`.
#[pyfunction]
pub(crate) fn publish_name(py: Python<'_>, name: &str, thing: &Bound<'_, PyAny>, replace: bool) -> PyResult<()> {
    let found = found(thing)?;
    interruptible(py, |deadline| library::publish_as(name, found, replace, deadline))
}

/// Publishes the overlay with this head, which is an object of Python's own.
#[pyfunction]
pub(crate) fn publish_overlay(py: Python<'_>, name: &str, head: &Bound<'_, PyAny>, replace: bool) -> PyResult<()> {
    let head = block_of(head)?;
    let found = Found { kind: ObjectKind::Overlay, token: reference_to(&head), kept: Kept::Block(head) };
    interruptible(py, |deadline| library::publish_as(name, found, replace, deadline))
}

/// The object of a name; of an overlay its fields, head and bytes. See `ndshare.attach`.
#[pyfunction]
#[pyo3(signature = (name, timeout=None))]
pub(crate) fn attach_name<'py>(py: Python<'py>, name: &str, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
    let found = interruptible_for(py, seconds(timeout)?, |deadline| library::wait_for(name, deadline))?;
    match (found.kind.head(), found.kept) {
        (Some(kind), Kept::Block(head)) => object_of_head(py, kind, head),
        (None, Kept::Block(hold)) => array_of_token(py, &found.token, hold, None),
        (_, Kept::Arena(arena)) => Ok(Bound::new(py, Arena::over(arena))?.into_any()),
    }
}

/// Takes a name away. See `ndshare.unpublish`.
#[pyfunction]
pub(crate) fn unpublish_name(py: Python<'_>, name: &str) -> PyResult<bool> {
    interruptible(py, |deadline| library::unpublish(name, deadline))
}

/// The names that there are, and what they name. See `ndshare.names`.
#[pyfunction]
pub(crate) fn list_names(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let names = PyDict::new(py);
    for (name, kind) in interruptible(py, |_| library::names())? {
        names.set_item(name, kind.name())?;
    }
    Ok(names)
}
