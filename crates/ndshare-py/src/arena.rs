//! `Arena`: one that a program makes and hands on, beside the session's; the `arena=` argument, and new blocks there.

use std::ops::Deref;
use std::sync::Arc;

use ndshare::arena::{self as library, Hold, Options};
use ndshare::registry::find_or_make_arena;
use ndshare::session::reference_to;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::closable::Closable;
use crate::session::session;
use crate::shape::size_of;
use crate::wait::{detached, interruptible, quick};

/// An arena of its own: `Arena("8 GiB")`, or a budget in bytes as an int.
///
/// Pass it as `arena=` to the functions that make arrays. It can be sent to other processes with any pickler,
/// while a process that uses it lives. Closing it, or leaving its `with` block, ends allocations through this
/// object; arrays stay valid.
///
/// With `name`, all processes of the session that give the same name have the same arena, for as long as one has it open.
///
/// Raises ValueError for a budget that is no size, or not that of a named arena that is there; ArenaFull when a limit of the system forbids it.
///
/// >>> import ndshare as nds
/// >>> with nds.Arena("64 MiB") as arena:
/// ...     a = nds.zeros((2, 3), arena=arena)
/// >>> a.sum(), arena.closed
/// (np.float64(0.0), True)
#[pyclass(frozen, module = "ndshare")]
pub(crate) struct Arena {
    open: Closable<Open>,
    id: String,
    budget: u64,
}

/// What an arena is until it is closed. The arena goes before its card: whoever finds the card finds the arena.
pub(crate) struct Open {
    pub(crate) arena: Arc<library::Arena>,
    /// The block of the session that has its name.
    pub(crate) card: Option<Hold>,
}

impl Arena {
    pub(crate) fn over(arena: Arc<library::Arena>) -> Self {
        Self::named(arena, None)
    }

    pub(crate) fn named(arena: Arc<library::Arena>, card: Option<Hold>) -> Self {
        Self { id: id_text(&arena), budget: arena.budget_bytes(), open: Closable::new(Arc::new(Open { arena, card })) }
    }

    /// The library's arena. Raises ValueError when this one is closed.
    pub(crate) fn arena(&self) -> PyResult<Arc<library::Arena>> {
        self.opened().map(|open| open.arena.clone())
    }

    /// The arena, with what gives it a name. Raises ValueError when this one is closed.
    pub(crate) fn opened(&self) -> PyResult<Arc<Open>> {
        self.open.get().ok_or_else(|| {
            PyValueError::new_err(format!("expected an open arena, got {}, which is closed; make a new one", self.id))
        })
    }
}

#[pymethods]
impl Arena {
    #[new]
    #[pyo3(signature = (budget, *, name=None))]
    fn new(py: Python<'_>, budget: &Bound<'_, PyAny>, name: Option<&str>) -> PyResult<Self> {
        let budget_bytes = size_of(budget, "a budget", "8 GiB", 1, "of at least 1 byte, below 2**63")?;
        let options = Options { budget_bytes: Some(budget_bytes), ..Options::default() };
        let Some(name) = name else { return detached(py, || library::Arena::create(&options)).map(Self::over) };
        let session = session(py)?;
        let (arena, card) = interruptible(py, |deadline| find_or_make_arena(session, name, &options, deadline))?;
        Ok(Self::named(arena, Some(card)))
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
    fn __exit__(&self, py: Python<'_>, _exc_info: &Bound<'_, PyTuple>) {
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

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let open = self.opened()?;
        let locator = open.arena.locator().to_string();
        let open_arena = py.import("ndshare._native")?.getattr("open_arena")?;
        let Some(card) = &open.card else { return Ok((open_arena, (locator,).into_pyobject(py)?)) };
        let card = PyBytes::new(py, &reference_to(card).encode());
        Ok((open_arena, (locator, py.None(), card).into_pyobject(py)?))
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

/// An arena to work in: the session's, which lives as long as the process, or one that was named.
pub(crate) enum WorkArena {
    Session(&'static Arc<library::Arena>),
    Named(Arc<library::Arena>),
}

impl Deref for WorkArena {
    type Target = Arc<library::Arena>;

    #[inline]
    fn deref(&self) -> &Arc<library::Arena> {
        match self {
            WorkArena::Session(arena) => arena,
            WorkArena::Named(arena) => arena,
        }
    }
}

impl WorkArena {
    /// The arena of an `arena=` argument: `None` is the session's.
    #[inline]
    pub(crate) fn of(py: Python<'_>, arena: Option<&Bound<'_, PyAny>>) -> PyResult<WorkArena> {
        match arena {
            Some(arena) if !arena.is_none() => named(arena).map(WorkArena::Named),
            _ => session(py).map(WorkArena::Session),
        }
    }

    /// A new block of so many bytes, or one.
    #[inline]
    pub(crate) fn block(&self, py: Python<'_>, len_bytes: usize, align: usize, zero: bool) -> PyResult<Hold> {
        let len_bytes = len_bytes.max(1);
        let found = match zero {
            true if len_bytes > QUICK_ZEROS => None,
            true => quick(py, || self.alloc_quick_zeros(len_bytes, align))?,
            false => quick(py, || self.alloc_quick(len_bytes, align))?,
        };
        if let Some(hold) = found {
            return Ok(hold);
        }
        interruptible(py, |deadline| self.alloc(len_bytes, align, zero, deadline))
    }
}

/// Zeroing more than this takes longer than letting another thread have the interpreter.
const QUICK_ZEROS: usize = 64 << 10;

/// An id as users see it.
pub(crate) fn id_text(arena: &library::Arena) -> String {
    format!("{:016x}", arena.id())
}
