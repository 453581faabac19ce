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
use crate::ndarray::{Operand, check_items};
use crate::overlay::Overlay;
use crate::ring::{Reader, Ring, Writer};
use crate::travel::{open_token, opened, token_of_array};

/// What a token names.
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

/// The object whose head this is.
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
        HeadKind::Overlay => Ok(Bound::new(py, Overlay::of_head(py, head)?)?.into_any()),
        HeadKind::Lock => Ok(Bound::new(py, Lock { lock: lock::Lock::open(head).map_err(fault)? })?.into_any()),
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

/// The token of a Ring, a Reader, a Writer, a Cache, an Overlay or a Lock; None for other objects. TypeError for a ring whose
/// dtypes are no text, so that its head cannot say what its frames are.
#[pyfunction]
pub(crate) fn reference_token<'py>(thing: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let py = thing.py();
    let token = if let Ok(reader) = thing.cast::<Reader>() {
        Some(reader.get().reference(py)?)
    } else if let Ok(writer) = thing.cast::<Writer>() {
        Some(writer.get().reference(py)?)
    } else {
        headed(thing)?.map(|(_, head)| reference_to(&head))
    };
    Ok(token.map(|token| PyBytes::new(py, &token.encode())))
}

/// Kind and head of an object that has one head and any number of users.
fn headed(object: &Bound<'_, PyAny>) -> PyResult<Option<(ObjectKind, Hold)>> {
    Ok(Some(if let Ok(ring) = object.cast::<Ring>() {
        (ObjectKind::Ring, ring.get().known_head(object.py())?)
    } else if let Ok(cache) = object.cast::<Cache>() {
        (ObjectKind::Cache, cache.get().cache.head().clone())
    } else if let Ok(overlay) = object.cast::<Overlay>() {
        (ObjectKind::Overlay, overlay.get().overlay.head().clone())
    } else if let Ok(lock) = object.cast::<Lock>() {
        (ObjectKind::Lock, lock.get().lock.head().clone())
    } else {
        return Ok(None);
    }))
}

/// What the registry has to know of an object.
pub(crate) fn found(object: &Bound<'_, PyAny>) -> PyResult<Found> {
    if let Ok(arena) = object.cast::<Arena>() {
        return Ok(names::Object::from(arena.get().arena()?).found());
    }
    if let Some((kind, head)) = headed(object)? {
        return Ok(Found { kind, token: reference_to(&head), kept: Kept::Block(head) });
    }
    let Some(facts) = Operand::of_any(object) else {
        let got = object.get_type();
        return Err(PyTypeError::new_err(format!(
            "expected a shared array, a Ring, a Cache, an Overlay, a Lock or an Arena to publish, got {got}"
        )));
    };
    check_items(object)?;
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
