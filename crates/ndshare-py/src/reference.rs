//! References: the same tokens for all objects. Of an array the token says what it is; of the others the block itself does.

use ndshare::arena::Hold;
use ndshare::array::Token;
use ndshare::head::HeadKind;
use ndshare::names::{self, Found, Kept, ObjectKind};
use ndshare::prim::Ordering::Acquire;
use ndshare::session::reference_to;
use ndshare::{cache, lock};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::arena::Arena;
use crate::cache::Cache;
use crate::error::to_python;
use crate::lock::Lock;
use crate::ndarray::Operand;
use crate::overlay::{block_of, overlay_of_head};
use crate::ring::{Reader, Ring, Writer};
use crate::travel::{open_token, opened, token_of_array};

/// What a token names; of an overlay its fields, head and bytes.
///
/// Raises as `open_token`.
#[pyfunction]
pub(crate) fn open_reference<'py>(py: Python<'py>, token: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let parsed = Token::decode(token).map_err(|e| to_python(py, &e))?;
    if parsed.description.element.is_some() {
        return open_token(py, token, None);
    }
    let head = opened(py, token)?;
    let first = head.word(0).map_err(|e| to_python(py, &e))?.load(Acquire);
    match HeadKind::of(first) {
        Some((kind, _)) => object_of_head(py, kind, head),
        None => Err(unknown(&format!("{head:?}"))),
    }
}

/// The object whose head this is; of an overlay its fields, head and bytes.
pub(crate) fn object_of_head(py: Python<'_>, kind: HeadKind, head: Hold) -> PyResult<Bound<'_, PyAny>> {
    let fault = |error| to_python(py, &error);
    match kind {
        HeadKind::Ring => Ok(Bound::new(py, Ring::of_head(py, head)?)?.into_any()),
        HeadKind::Reader => Ok(Bound::new(py, Reader::of_token(py, head)?)?.into_any()),
        HeadKind::Writer => Ok(Bound::new(py, Writer::of_token(py, head)?)?.into_any()),
        HeadKind::Cache => {
            let cache = cache::Cache::open(head).map_err(fault)?;
            Ok(Bound::new(py, Cache::over(cache, None, None)?)?.into_any())
        }
        HeadKind::Overlay => Ok(overlay_of_head(py, head)?.into_pyobject(py)?.into_any()),
        HeadKind::Lock => Ok(Bound::new(py, Lock::over(lock::Lock::open(head).map_err(fault)?))?.into_any()),
        HeadKind::Canvas => Err(unknown("a canvas")),
        HeadKind::Array => Err(unknown("the card of an array")),
    }
}

#[cold]
fn unknown(got: &str) -> PyErr {
    PyTypeError::new_err(format!(
        "expected a reference to an array, a ring, a reader, a writer, a cache, an overlay or a lock, got one to {got}"
    ))
}

/// The token of a Ring, a Reader, a Writer, a Cache or a Lock; None for other objects. TypeError for a ring whose dtypes
/// are no text, so that its head cannot say what its frames are.
#[pyfunction]
pub(crate) fn reference_token<'py>(thing: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let py = thing.py();
    let token = if let Ok(reader) = thing.cast::<Reader>() {
        Some(reader.get().reference(py)?)
    } else if let Ok(writer) = thing.cast::<Writer>() {
        Some(writer.get().reference(py)?)
    } else {
        headed(thing)?.map(|(_, token, _)| token)
    };
    Ok(token.map(|token| PyBytes::new(py, &token.encode())))
}

/// The token of the overlay with this head, which is an object of Python's own.
#[pyfunction]
pub(crate) fn overlay_reference<'py>(py: Python<'py>, head: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(py, &reference_to(&block_of(head)?).encode()))
}

/// Kind, token and head of an object that has one head and any number of users.
fn headed(object: &Bound<'_, PyAny>) -> PyResult<Option<(ObjectKind, Token, Hold)>> {
    if let Ok(ring) = object.cast::<Ring>() {
        let (token, head) = ring.get().named(object.py())?;
        return Ok(Some((ObjectKind::Ring, token, head)));
    }
    let (kind, head) = match (object.cast::<Cache>(), object.cast::<Lock>()) {
        (Ok(cache), _) => (ObjectKind::Cache, cache.get().inner().head().clone()),
        (_, Ok(lock)) => (ObjectKind::Lock, lock.get().inner().head().clone()),
        _ => return Ok(None),
    };
    Ok(Some((kind, reference_to(&head), head)))
}

/// What the registry has to know of an object.
pub(crate) fn found(object: &Bound<'_, PyAny>) -> PyResult<Found> {
    if let Ok(arena) = object.cast::<Arena>() {
        return Ok(names::Object::from(arena.get().arena()?).found());
    }
    if let Some((kind, token, head)) = headed(object)? {
        return Ok(Found { kind, token, kept: Kept::Block(head) });
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
