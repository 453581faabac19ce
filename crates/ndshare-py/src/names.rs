//! Names for strangers: what Python's objects are to the library's registry, and back.

use ndshare::names::{self as library, Audience, Found, Kept, ObjectKind};
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
#[pyo3(signature = (name, thing, replace, mode=None, group=None))]
pub(crate) fn publish_name(
    py: Python<'_>,
    name: &str,
    thing: &Bound<'_, PyAny>,
    replace: bool,
    mode: Option<u32>,
    group: Option<u32>,
) -> PyResult<()> {
    let found = found(thing)?;
    interruptible(py, |deadline| match mode {
        None => library::publish_as(name, found, replace, deadline),
        Some(mode) => library::publish_found_to(name, found, Audience { mode, group }, replace, deadline),
    })
}

/// Publishes the overlay with this head, which is an object of Python's own.
#[pyfunction]
pub(crate) fn publish_overlay(py: Python<'_>, name: &str, head: &Bound<'_, PyAny>, replace: bool) -> PyResult<()> {
    let found = overlay_parts(head)?;
    interruptible(py, |deadline| library::publish_as(name, found, replace, deadline))
}

/// Gives an object a name in an arena. See `Arena.publish`.
#[pyfunction]
pub(crate) fn publish_in_arena(
    py: Python<'_>,
    arena: &Bound<'_, Arena>,
    name: &str,
    thing: &Bound<'_, PyAny>,
    replace: bool,
) -> PyResult<()> {
    let (arena, found) = (arena.get().arena()?, found(thing)?);
    interruptible(py, |deadline| arena.publish_as(name, found, replace, deadline))
}

/// The same for the overlay with this head.
#[pyfunction]
pub(crate) fn publish_overlay_in_arena(
    py: Python<'_>,
    arena: &Bound<'_, Arena>,
    name: &str,
    head: &Bound<'_, PyAny>,
    replace: bool,
) -> PyResult<()> {
    let (arena, found) = (arena.get().arena()?, overlay_parts(head)?);
    interruptible(py, |deadline| arena.publish_as(name, found, replace, deadline))
}

/// The object of a name in an arena; of an overlay its fields, head and bytes. See `Arena.attach`.
#[pyfunction]
#[pyo3(signature = (arena, name, timeout=None))]
pub(crate) fn attach_in_arena<'py>(
    py: Python<'py>,
    arena: &Bound<'py, Arena>,
    name: &str,
    timeout: Option<f64>,
) -> PyResult<Bound<'py, PyAny>> {
    let arena = arena.get().arena()?;
    let found = interruptible_for(py, seconds(timeout)?, |deadline| arena.wait_for_name(name, deadline))?;
    object(py, found)
}

/// Takes a name in an arena away. See `Arena.unpublish`.
#[pyfunction]
pub(crate) fn unpublish_in_arena(py: Python<'_>, arena: &Bound<'_, Arena>, name: &str) -> PyResult<bool> {
    let arena = arena.get().arena()?;
    interruptible(py, |deadline| arena.unpublish(name, deadline))
}

/// The names in an arena, and what they name. See `Arena.names`.
#[pyfunction]
pub(crate) fn list_names_in_arena<'py>(py: Python<'py>, arena: &Bound<'py, Arena>) -> PyResult<Bound<'py, PyDict>> {
    let arena = arena.get().arena()?;
    let names = interruptible(py, |deadline| arena.names(deadline))?;
    dict_of(py, names)
}

fn overlay_parts(head: &Bound<'_, PyAny>) -> PyResult<Found> {
    let head = block_of(head)?;
    Ok(Found { kind: ObjectKind::Overlay, token: reference_to(&head), kept: Kept::Block(head) })
}

/// The object of a name; of an overlay its fields, head and bytes. See `ndshare.attach`.
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
fn object(py: Python<'_>, found: Found) -> PyResult<Bound<'_, PyAny>> {
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
    let names = interruptible(py, |_| library::names())?;
    dict_of(py, names)
}

fn dict_of(py: Python<'_>, names: Vec<(String, ObjectKind)>) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    for (name, kind) in names {
        dict.set_item(name, kind.name())?;
    }
    Ok(dict)
}
