//! The session arena of this process. `ndshare._session` decides which one it is; here it is kept where the fast
//! path finds it with one load.

use std::ops::Deref;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use ndshare::arena::{Arena, Locator, Options};
use ndshare::{Kind, Result, layout};
use pyo3::exceptions::{PyPermissionError, PyRuntimeError};
use pyo3::prelude::*;

use crate::error::to_python;
use crate::guard::Once;
use crate::wait::detached;

/// Null until the session is known; then it points to an `Arc` that is never freed.
static SESSION: AtomicPtr<Arc<Arena>> = AtomicPtr::new(ptr::null_mut());

/// An arena to work in: the session's, which lives as long as the process, or one that was named.
pub(crate) enum Place {
    Session(&'static Arc<Arena>),
    Named(Arc<Arena>),
}

impl Deref for Place {
    type Target = Arc<Arena>;

    #[inline]
    fn deref(&self) -> &Arc<Arena> {
        match self {
            Place::Session(arena) => arena,
            Place::Named(arena) => arena,
        }
    }
}

impl Place {
    /// The arena of an `arena=` argument: `None` is the session's.
    #[inline]
    pub(crate) fn of(py: Python<'_>, arena: Option<&Bound<'_, PyAny>>) -> PyResult<Place> {
        match arena {
            Some(arena) if !arena.is_none() => crate::arena::named(arena).map(Place::Named),
            _ => session(py).map(Place::Session),
        }
    }
}

/// The session arena, if it is known already. Never waits.
#[inline]
pub(crate) fn known() -> Option<&'static Arc<Arena>> {
    // SAFETY: the pointer is null or came from Box::into_raw in `keep`, and that box is never freed.
    unsafe { SESSION.load(Ordering::Acquire).as_ref() }
}

/// The session arena; finds or makes it on the first use.
#[inline]
pub(crate) fn session(py: Python<'_>) -> PyResult<&'static Arc<Arena>> {
    match known() {
        Some(arena) => Ok(arena),
        None => find_session(py),
    }
}

#[cold]
fn find_session(py: Python<'_>) -> PyResult<&'static Arc<Arena>> {
    static ENSURE: Once<Py<PyAny>> = Once::new();
    ENSURE.import(py, "ndshare._session", "ensure")?.call0()?;
    known().ok_or_else(|| PyRuntimeError::new_err("ndshare._session.ensure() returned without a session"))
}

/// Tells Python that an array of `locator`'s session arrived while this process had none of its own.
#[cold]
pub(crate) fn adopt(py: Python<'_>, locator: &Locator) -> PyResult<()> {
    static ADOPT: Once<Py<PyAny>> = Once::new();
    ADOPT.import(py, "ndshare._session", "adopt")?.call1((locator.to_string(),))?;
    Ok(())
}

fn keep(arena: Arc<Arena>) -> String {
    let fresh = Box::into_raw(Box::new(arena));
    if SESSION.compare_exchange(ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire).is_err() {
        // SAFETY: the exchange failed, so the box was never published.
        drop(unsafe { Box::from_raw(fresh) });
    }
    known().map(|arena| arena.locator().to_string()).unwrap_or_default()
}

fn options(budget: Option<&str>) -> Result<Options> {
    let budget_bytes = budget.map(layout::parse_size).transpose()?;
    Ok(Options { budget_bytes, budget_from_environment: budget.is_some() })
}

/// Makes a new arena the session of this process, unless it has one; returns the locator.
///
/// `budget` is a text such as "8 GiB". Raises ValueError when it is none.
#[pyfunction]
#[pyo3(signature = (budget=None))]
pub(crate) fn session_create(py: Python<'_>, budget: Option<&str>) -> PyResult<String> {
    let options = options(budget).map_err(|e| to_python(py, &e))?;
    let arena = detached(py, || Arena::create(&options))?;
    Ok(keep(arena))
}

/// Makes the arena that `locator` names the session of this process, unless it has one; returns its own locator, or
/// None when nobody has that arena any more. AttachError: it is there, and this process cannot take part.
/// PermissionError: it is another user's.
#[pyfunction]
pub(crate) fn session_join(py: Python<'_>, locator: &str) -> PyResult<Option<String>> {
    let locator: Locator = locator.parse().map_err(|e| to_python(py, &e))?;
    match py.detach(|| Arena::attach(&locator)) {
        Ok(arena) => Ok(Some(keep(arena))),
        Err(error) if error.kind() == Kind::Unreachable => Ok(None),
        Err(error) if error.kind() == Kind::Foreign => Err(PyPermissionError::new_err(error.to_string())),
        Err(error) => Err(to_python(py, &error)),
    }
}

/// Why this forked process has no place in arenas that its parent shared with it: a sentence for each.
#[pyfunction]
pub(crate) fn left_out() -> Vec<String> {
    ndshare::arena::left_out().iter().map(ToString::to_string).collect()
}

/// The locator under which others find this process's session, or None while it has none.
#[pyfunction]
pub(crate) fn session_locator() -> Option<String> {
    known().map(|arena| arena.locator().to_string())
}

/// The id of this process's session, or None while it has none.
#[pyfunction]
pub(crate) fn session_id() -> Option<String> {
    known().map(|arena| crate::arena::id_text(arena))
}
