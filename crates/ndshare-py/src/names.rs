//! Names for strangers: what Python's objects are to the library's registry, and back.

use ndshare::array::Token;
use ndshare::names::{self as library, Found, Kept, ObjectKind};
use ndshare::{Error, cache};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arena::Arena;
use crate::cache::Cache;
use crate::error::to_python;
use crate::lock::{Lock, seconds};
use crate::ndarray::Operand;
use crate::overlay::{block_of, overlay_of_head};
use crate::ring::Ring;
use crate::travel::{array_of_token, token_of_array};
use crate::wait::{interruptible, interruptible_for};

/// Publishes an object under a name. See `ndshare.publish`.
#[pyfunction]
pub(crate) fn publish_name(py: Python<'_>, name: &str, thing: &Bound<'_, PyAny>, replace: bool) -> PyResult<()> {
    let found = parts(thing)?;
    interruptible(py, |deadline| library::publish_as(name, found, replace, deadline))
}

/// Publishes the overlay with this head, which is an object of Python's own.
#[pyfunction]
pub(crate) fn publish_overlay(py: Python<'_>, name: &str, head: &Bound<'_, PyAny>, replace: bool) -> PyResult<()> {
    let head = block_of(head)?;
    let found = Found { kind: ObjectKind::Overlay, token: Token::of(&head), kept: Kept::Block(head) };
    interruptible(py, |deadline| library::publish_as(name, found, replace, deadline))
}

/// What the registry has to know of an object.
fn parts(object: &Bound<'_, PyAny>) -> PyResult<Found> {
    let py = object.py();
    if let Ok(ring) = object.cast::<Ring>() {
        let (token, head) = ring.get().named(py)?;
        return Ok(Found { kind: ObjectKind::Ring, token, kept: Kept::Block(head) });
    }
    if let Ok(arena) = object.cast::<Arena>() {
        let arena = arena.get().arena()?;
        return Ok(library::Object::from(arena).found());
    }
    let block = match (object.cast::<Cache>(), object.cast::<Lock>()) {
        (Ok(cache), _) => Some((ObjectKind::Cache, cache.get().inner().head().clone())),
        (_, Ok(lock)) => Some((ObjectKind::Lock, lock.get().hold().clone())),
        _ => None,
    };
    if let Some((kind, head)) = block {
        return Ok(Found { kind, token: Token::of(&head), kept: Kept::Block(head) });
    }
    let Some(facts) = Operand::of_any(object) else {
        let got = object.get_type();
        return Err(PyTypeError::new_err(format!(
            "expected a shared array, a Ring, a Cache, an Overlay, a Lock or an Arena to publish, got {got}"
        )));
    };
    let found = token_of_array(object)?;
    let (token, hold) = found.ok_or_else(|| {
        let shape = facts.shape;
        PyValueError::new_err(format!(
            "expected a shared array to publish, got one of shape {shape:?} in this process's own memory: pass \
             nds.asarray(a), and keep the result"
        ))
    })?;
    Ok(Found { kind: ObjectKind::Array, token, kept: Kept::Block(hold) })
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
    let fault = |error: Error| to_python(py, &error);
    match (found.kind, found.kept) {
        (ObjectKind::Array, Kept::Block(hold)) => array_of_token(py, &found.token, hold, None),
        (ObjectKind::Ring, Kept::Block(head)) => Ok(Bound::new(py, Ring::of_head(py, head)?)?.into_any()),
        (ObjectKind::Cache, Kept::Block(head)) => {
            let cache = cache::Cache::open(head).map_err(fault)?;
            Ok(Bound::new(py, Cache::over(cache, None, None)?)?.into_any())
        }
        (ObjectKind::Overlay, Kept::Block(head)) => Ok(overlay_of_head(py, head)?.into_pyobject(py)?.into_any()),
        (ObjectKind::Lock, Kept::Block(hold)) => Ok(Bound::new(py, Lock::over(hold))?.into_any()),
        (ObjectKind::Arena, Kept::Arena(arena)) => Ok(Bound::new(py, Arena::over(arena))?.into_any()),
        (kind, _) => {
            Err(PyTypeError::new_err(format!("expected an object that Python can open, got one of kind {kind}")))
        }
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
