//! Frames that one process reads from a ring and passes on to others, which work on them: what a pipe does. They get the
//! array by its token, and beside it the number, the time and the meta.

use std::sync::Arc;

use numpy::PyArrayDescr;
use pyo3::prelude::*;

use crate::described::Descriptions;
use crate::dtype::Dtype;
use crate::frame::{Own, Passed, note_of, passed};
use crate::travel::borrowed;

/// Makes frames here of those that another process has: all of one ring, with the same meta.
#[pyclass(frozen, module = "ndshare._native")]
pub(crate) struct PassedFrames {
    own: Arc<Own>,
    known: Descriptions,
}

#[pymethods]
impl PassedFrames {
    #[new]
    #[pyo3(signature = (meta=None))]
    fn new(py: Python<'_>, meta: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        Ok(Self { own: Arc::new(Own::new(py, None, None, meta)?), known: Descriptions::new() })
    }

    /// The frame whose array a token names: when it was made and published, its meta and its note. A dtype that the token does not say whole comes beside it.
    ///
    /// Raises Stale when nobody has it any more.
    #[pyo3(signature = (token, seq, times, meta, note, dtype=None))]
    #[expect(clippy::too_many_arguments, reason = "a signature of Python's")]
    fn open<'py>(
        &self,
        py: Python<'py>,
        token: &[u8],
        seq: u64,
        times: (u64, u64),
        meta: &[u8],
        note: &Bound<'py, PyAny>,
        dtype: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (token, hold) = borrowed(py, token)?;
        let dtype: Option<Py<PyArrayDescr>> =
            dtype.map(|dtype| Dtype::of(py, Some(dtype))).transpose()?.map(Dtype::unbind);
        let described = self.known.of(py, &token.description.encode(), dtype.as_ref())?;
        let ((time_ns, published_ns), meta, note) = (times, meta.to_vec(), note_of(note)?.map(Arc::new));
        let frame = Passed { hold, offset: token.offset, seq, time_ns, published_ns, meta, note };
        passed(py, &self.own, &described, frame)
    }
}
