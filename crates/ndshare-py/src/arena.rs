//! `Arena`: one that a program makes and hands on, beside the session's.

use std::sync::Arc;

use ndshare::arena::{self as library, Options};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::closable::Closable;
use crate::shape::size_of;
use crate::wait::detached;

/// An arena of its own: `Arena("8 GiB")`, or a budget in bytes as an int.
///
/// Pass it as `arena=` to the functions that make arrays. It can be sent to other processes with any pickler,
/// while a process that uses it lives. Closing it, or leaving its `with` block, ends allocations through this
/// object; arrays stay valid.
///
/// Raises ValueError for a budget that is no size, and ArenaFull when a limit of the system forbids it.
///
/// >>> import ndshare as nds
/// >>> with nds.Arena("64 MiB") as arena:
/// ...     a = nds.zeros((2, 3), arena=arena)
/// >>> a.sum(), arena.closed
/// (np.float64(0.0), True)
#[pyclass(frozen, module = "ndshare")]
pub(crate) struct Arena {
    open: Closable<library::Arena>,
    id: String,
    budget: u64,
}

impl Arena {
    pub(crate) fn over(arena: Arc<library::Arena>) -> Self {
        Self { id: id_text(&arena), budget: arena.budget_bytes(), open: Closable::new(arena) }
    }

    /// The library's arena. Raises ValueError when this one is closed.
    pub(crate) fn arena(&self) -> PyResult<Arc<library::Arena>> {
        self.open.get().ok_or_else(|| {
            PyValueError::new_err(format!("expected an open arena, got {}, which is closed; make a new one", self.id))
        })
    }
}

#[pymethods]
impl Arena {
    #[new]
    #[pyo3(signature = (budget))]
    fn new(py: Python<'_>, budget: &Bound<'_, PyAny>) -> PyResult<Self> {
        let budget_bytes = size_of(budget, "a budget", "8 GiB", 1, "of at least 1 byte, below 2**63")?;
        let options = Options { budget_bytes: Some(budget_bytes), ..Options::default() };
        detached(py, || library::Arena::create(&options)).map(Self::over)
    }

    /// The arena's id, the same in every process (16 hexadecimal digits).
    #[getter]
    fn id(&self) -> &str {
        &self.id
    }

    /// The most bytes that may be held at one time.
    #[getter]
    fn budget(&self) -> u64 {
        self.budget
    }

    /// Whether this object was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.open.is_closed()
    }

    /// Ends allocations through this object. Arrays, and this arena in other processes, stay as they are.
    fn close(&self, py: Python<'_>) {
        let arena = self.open.take();
        py.detach(|| drop(arena));
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exc_info))]
    fn __exit__(&self, py: Python<'_>, _exc_info: &Bound<'_, pyo3::types::PyTuple>) {
        self.close(py);
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<Arena>().is_ok_and(|other| other.get().id == self.id)
    }

    fn __hash__(&self) -> isize {
        isize::from_str_radix(self.id.get(1..).unwrap_or("0"), 16).unwrap_or(0)
    }

    fn __repr__(&self) -> String {
        let closed = if self.closed() { ", closed" } else { "" };
        format!("<Arena {}, budget {} bytes{closed}>", self.id, self.budget)
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, (String,))> {
        let locator = self.arena()?.locator().to_string();
        Ok((py.import("ndshare._native")?.getattr("open_arena")?, (locator,)))
    }
}

/// The arena of an `arena=` argument that is not None.
pub(crate) fn named(arena: &Bound<'_, PyAny>) -> PyResult<Arc<library::Arena>> {
    let Ok(arena) = arena.cast::<Arena>() else {
        let got = arena.get_type();
        return Err(PyTypeError::new_err(format!("expected arena to be an ndshare.Arena or None, got {got}")));
    };
    arena.get().arena()
}

/// An id as users see it.
pub(crate) fn id_text(arena: &library::Arena) -> String {
    format!("{:016x}", arena.id())
}
