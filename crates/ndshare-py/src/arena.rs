//! `Arena`: one that a program makes and hands on, beside the session's; the `arena=` argument, and new blocks there.

use std::ops::Deref;
use std::path::PathBuf;
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
/// With `path` it is a file on a RAM drive or a disk, made if there is none, and outlives all processes; so does what has a
/// name in it. The budget of one that is there may be left out. With `mode` other users may be let to read what is published
/// of it: 0o640 the group, 0o604 all who are not in the group, 0o644 both.
///
/// Raises ValueError for a budget that is no size, or not that of an arena that is there, for another mode, and for a file of something else or
/// of another version; ArenaFull when a limit of the system or a full file system forbids it; Poisoned for a file that was cut
/// or written over; AttachError for one that is not this user's, or cannot be opened.
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
    #[pyo3(signature = (budget=None, *, name=None, path=None, mode=None))]
    fn new(
        py: Python<'_>,
        budget: Option<&Bound<'_, PyAny>>,
        name: Option<&str>,
        path: Option<PathBuf>,
        mode: Option<u32>,
    ) -> PyResult<Self> {
        let size = |budget| size_of(budget, "a budget", "8 GiB", 1, "of at least 1 byte, below 2**63");
        let budget_bytes = budget.map(size).transpose()?;
        let options = Options { budget_bytes, mode, ..Options::default() };
        match path {
            Some(_) if name.is_some() => {
                return Err(PyValueError::new_err(
                    "expected a name or a path, got both: all who open the same path have the same arena",
                ));
            }
            Some(path) => {
                let arena = interruptible(py, |deadline| library::Arena::at(&path, &options, deadline))?;
                return Ok(Self::over(arena));
            }
            None if budget.is_none() => {
                return Err(PyTypeError::new_err(
                    "expected a budget such as \"8 GiB\", or the path of an arena, got neither",
                ));
            }
            None => {}
        }
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

    /// Where its file is, as it was opened; None for an arena in memory.
    #[getter]
    fn path(&self) -> Option<PathBuf> {
        self.open.get()?.arena.path().map(std::path::Path::to_path_buf)
    }

    /// Give a shared array, a Ring, a Cache, an Overlay or a Lock of this arena, which must be one on a path, a name in it.
    ///
    /// The name keeps the object until `unpublish`, also while no process has the arena. It is the same as that of `name=`
    /// with `arena=`.
    ///
    /// Raises RuntimeError when something else has the name, unless `replace`; ValueError for an object of another arena, for
    /// an arena in memory, and for a name that is empty or longer than 240 bytes; TypeError for other objects.
    #[pyo3(signature = (name, obj, replace=false))]
    fn publish(slf: &Bound<'_, Self>, name: &str, obj: &Bound<'_, PyAny>, replace: bool) -> PyResult<()> {
        slf.py().import("ndshare._names")?.call_method1("publish_in", (slf, name, obj, replace)).map(drop)
    }

    /// Return the object that has a name in this arena, as soon as there is one.
    ///
    /// Raises Timeout after `timeout` seconds (None: never; 0 looks once), with the names that there are; ValueError for an
    /// arena in memory.
    #[pyo3(signature = (name, timeout=None))]
    fn attach<'py>(slf: &Bound<'py, Self>, name: &str, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("ndshare._names")?.call_method1("attach_in", (slf, name, timeout))
    }

    /// Take a name away, and tell whether there was one. Who has the object keeps it; if nobody has, it is gone.
    fn unpublish(slf: &Bound<'_, Self>, name: &str) -> PyResult<bool> {
        slf.py().import("ndshare._native")?.call_method1("unpublish_in_arena", (slf, name))?.extract()
    }

    /// Return the names in this arena, and what each is: "array", "ring", "cache", "overlay" or "lock".
    fn names<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("ndshare._native")?.call_method1("list_names_in_arena", (slf,))
    }

    /// Which other users may be let to read what is published of it, as permission bits; None: nobody.
    #[getter]
    fn mode(&self) -> Option<u32> {
        self.open.get()?.arena.mode()
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
        let place = self.path().map_or_else(String::new, |path| format!(" at {}", path.display()));
        format!("<Arena {}{place}, budget {} bytes{closed}>", self.id, self.budget)
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
