//! References to rings, readers and writers: the same tokens as those of arrays, but the block itself says what it is.

use ndshare::array::Token;
use ndshare::head::HeadKind;
use ndshare::prim::Ordering::Acquire;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::to_python;
use crate::ring::{Reader, Ring, Writer};
use crate::travel::{open_token, opened};

/// What a token names: an array, a ring, or a reader or a writer of one.
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
        Some((HeadKind::Ring, _)) => Ok(Bound::new(py, Ring::of_head(py, head)?)?.into_any()),
        Some((HeadKind::Reader, _)) => Ok(Bound::new(py, Reader::of_token(py, head)?)?.into_any()),
        Some((HeadKind::Writer, _)) => Ok(Bound::new(py, Writer::of_token(py, head)?)?.into_any()),
        Some((other, _)) => Err(unknown(&format!("a {other}"))),
        None => Err(unknown(&format!("{head:?}"))),
    }
}

#[cold]
fn unknown(got: &str) -> PyErr {
    let text = "expected a reference to an array, a ring, a reader or a writer, got one to";
    PyTypeError::new_err(format!("{text} {got}"))
}

/// The token of a ring; TypeError when its dtypes are no text, so that its head cannot say what its frames are.
#[pyfunction]
pub(crate) fn ring_token<'py>(py: Python<'py>, ring: &Bound<'py, Ring>) -> PyResult<Bound<'py, PyBytes>> {
    let token = ring.get().reference(py)?;
    Ok(PyBytes::new(py, &token.encode()))
}
