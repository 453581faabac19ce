//! What can be done with an `Arena`: making one, the names in it, and how it travels: as a locator, and a token that keeps
//! it until it is received. It stands above all objects, because a name may be that of any.

use std::path::{Path, PathBuf};

use ndshare::Kind;
use ndshare::arena::{self as library, BRIEFLY, Locator, Options};
use ndshare::registry::find_or_make_arena;
use ndshare::session::reference_to;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::arena::Arena;
use crate::error::to_python;
use crate::lock::seconds;
use crate::names::{dict_of, object};
use crate::reference::found;
use crate::session::session;
use crate::shape::size_of;
use crate::travel::{opened, ticketed, ticketed_soon};
use crate::wait::{detached, interruptible, interruptible_for};

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
        match (path, name) {
            (Some(_), Some(_)) => Err(PyValueError::new_err(
                "expected a name or a path, got both: all who open the same path have the same arena",
            )),
            (Some(path), None) => {
                interruptible(py, |deadline| library::Arena::at(&path, &options, deadline)).map(Self::over)
            }
            (None, _) if budget.is_none() => {
                Err(PyTypeError::new_err("expected a budget such as \"8 GiB\", or the path of an arena, got neither"))
            }
            (None, Some(name)) => {
                let session = session(py)?;
                let made = interruptible(py, |deadline| find_or_make_arena(session, name, &options, deadline))?;
                Ok(Self::named(made.0, Some(made.1)))
            }
            (None, None) => detached(py, || library::Arena::create(&options)).map(Self::over),
        }
    }

    /// Where its file is, as it was opened; None for an arena in memory.
    #[getter]
    fn path(&self) -> Option<PathBuf> {
        self.open.get()?.arena.path().map(Path::to_path_buf)
    }

    /// Which other users may be let to read what is published of it, as permission bits; None: nobody.
    #[getter]
    fn mode(&self) -> Option<u32> {
        self.open.get()?.arena.mode()
    }

    /// Give a shared array, a Ring, a Cache, an Overlay or a Lock of this arena, which must be one on a path, a name in it.
    ///
    /// The name keeps the object until `unpublish`, also while no process has the arena. It is the same as that of `name=`
    /// with `arena=`.
    ///
    /// Raises RuntimeError when something else has the name, unless `replace`; ValueError for an object of another arena, for
    /// an arena in memory, and for a name that is empty or longer than 240 bytes; TypeError for other objects; Timeout after
    /// `timeout` seconds (None: never), with the process that has the names locked.
    ///
    /// >>> import ndshare as nds, tempfile
    /// >>> with tempfile.TemporaryDirectory() as folder, nds.Arena("1 MiB", path=f"{folder}/a") as arena:
    /// ...     arena.publish("ones", nds.ones(3, arena=arena))
    /// ...     arena.names()
    /// {'ones': 'array'}
    #[pyo3(
        signature = (name, obj, replace=false, timeout=Some(10.0)),
        text_signature = "($self, name, obj, replace=False, timeout=10.0)"
    )]
    fn publish(
        &self,
        py: Python<'_>,
        name: &str,
        obj: &Bound<'_, PyAny>,
        replace: bool,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        let (arena, timeout, found) = (self.arena()?, seconds(timeout)?, found(obj)?);
        interruptible_for(py, timeout, |deadline| arena.publish_as(name, found, replace, deadline))
    }

    /// Return the object that has a name in this arena, as soon as there is one.
    ///
    /// Raises Timeout after `timeout` seconds (None: never; 0 looks once), with the names that there are; ValueError for an
    /// arena in memory.
    ///
    /// >>> import ndshare as nds, tempfile
    /// >>> with tempfile.TemporaryDirectory() as folder, nds.Arena("1 MiB", path=f"{folder}/a") as arena:
    /// ...     arena.publish("ones", nds.ones(3, arena=arena))
    /// ...     arena.attach("ones", timeout=1)
    /// array([1., 1., 1.])
    #[pyo3(signature = (name, timeout=None))]
    fn attach<'py>(&self, py: Python<'py>, name: &str, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        let (arena, timeout) = (self.arena()?, seconds(timeout)?);
        object(py, interruptible_for(py, timeout, |deadline| arena.wait_for_name(name, deadline))?)
    }

    /// Take a name away, and tell whether there was one. Who has the object keeps it; if nobody has, it is gone. Raises Timeout
    /// as `publish` does.
    ///
    /// >>> import ndshare as nds, tempfile
    /// >>> with tempfile.TemporaryDirectory() as folder, nds.Arena("1 MiB", path=f"{folder}/a") as arena:
    /// ...     arena.publish("ones", nds.ones(3, arena=arena))
    /// ...     arena.unpublish("ones"), arena.unpublish("ones")
    /// (True, False)
    #[pyo3(signature = (name, timeout=Some(10.0)), text_signature = "($self, name, timeout=10.0)")]
    fn unpublish(&self, py: Python<'_>, name: &str, timeout: Option<f64>) -> PyResult<bool> {
        let (arena, timeout) = (self.arena()?, seconds(timeout)?);
        interruptible_for(py, timeout, |deadline| arena.unpublish(name, deadline))
    }

    /// Return the names in this arena, and what each is: "array", "ring", "cache", "overlay" or "lock".
    ///
    /// >>> import ndshare as nds, tempfile
    /// >>> with tempfile.TemporaryDirectory() as folder, nds.Arena("1 MiB", path=f"{folder}/a") as arena:
    /// ...     arena.publish("ones", nds.ones(3, arena=arena))
    /// ...     arena.names()
    /// {'ones': 'array'}
    fn names<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let arena = self.arena()?;
        dict_of(py, interruptible(py, |deadline| arena.names(deadline))?)
    }

    /// Whether this object was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.open.is_closed()
    }

    /// Ends allocations through this object. Arrays, and this arena in other processes, stay as they are.
    ///
    /// >>> import ndshare as nds
    /// >>> arena = nds.Arena("1 MiB")
    /// >>> arena.close()
    /// >>> arena.closed
    /// True
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

/// What multiprocessing's pickler carries of an arena: its locator, a token that keeps it until it is received, and one of
/// what gives it a name, or None.
#[pyfunction]
pub(crate) fn arena_parts<'py>(py: Python<'py>, arena: &Bound<'py, Arena>) -> PyResult<Parts<'py>> {
    let open = arena.get().opened()?;
    let arena = &open.arena;
    let locator = arena.locator().to_string();
    // Something must be in flight that the receiver claims. In a full arena nothing can be, nor while somebody is stopped
    // in its lock: then whoever has an array there keeps it.
    let hold = interruptible_for(py, Some(BRIEFLY), |deadline| match arena.alloc_words(1, 64, false, deadline) {
        Err(error) if matches!(error.kind(), Kind::ArenaFull | Kind::Timeout) => Ok(None),
        other => other.map(Some),
    })?;
    let token = hold.map(|hold| ticketed_soon(py, &hold)).transpose()?.flatten();
    let card = open.card.as_ref().map(|card| ticketed(py, card)).transpose()?;
    Ok((locator, token.unwrap_or_else(|| PyBytes::new(py, b"")), card))
}

type Parts<'py> = (String, Bound<'py, PyBytes>, Option<Bound<'py, PyBytes>>);

/// The arena that a locator names, as `Arena` objects are unpickled. A token keeps it on the way.
#[pyfunction]
#[pyo3(signature = (locator, token=None, card=None))]
pub(crate) fn open_arena(py: Python<'_>, locator: &str, token: Option<&[u8]>, card: Option<&[u8]>) -> PyResult<Arena> {
    let locator: Locator = locator.parse().map_err(|e| to_python(py, &e))?;
    let arena = detached(py, || library::Arena::attach(&locator))?;
    if let Some(token) = token.filter(|token| !token.is_empty()) {
        // Received a second time it is stale, and the arena is here all the same.
        let _ = opened(py, token);
    }
    // In a session of another's, or when it arrives a second time, it has no name here.
    let card = card.and_then(|card| opened(py, card).ok());
    Ok(Arena::named(arena, card))
}
