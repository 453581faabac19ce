//! How arenas travel: as a locator, and a token that keeps the arena until it is received.

use ndshare::Kind;
use ndshare::arena::{self as library, BRIEFLY, Locator};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::arena::Arena;
use crate::error::to_python;
use crate::travel::{opened, ticketed, ticketed_soon};
use crate::wait::{detached, interruptible_for};

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
