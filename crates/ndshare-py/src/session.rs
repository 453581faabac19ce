//! The session arena for Python. `ndshare::session` decides which one it is; `ndshare._session` says what this process was
//! told, and names the session for its children.

use std::ops::Deref;
use std::sync::Arc;

use ndshare::arena::{Arena, Locator};
pub(crate) use ndshare::session::known;
use ndshare::session::{self as library, Told};
use ndshare::{Error, Kind};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::error::to_python;
use crate::guard::{Guarded, Once, attached};
use crate::wait::interruptible;

/// The session arena; finds or makes it on the first use.
#[inline]
pub(crate) fn session(py: Python<'_>) -> PyResult<&'static Arc<Arena>> {
    match known() {
        Some(session) => Ok(session),
        None => find_session(py),
    }
}

#[cold]
fn find_session(py: Python<'_>) -> PyResult<&'static Arc<Arena>> {
    ensure(py, None)?;
    known()
        .map(Deref::deref)
        .ok_or_else(|| PyRuntimeError::new_err("ndshare._session.ensure() returned without a session"))
}

/// Before an array of a sender's session is opened: that session is this process's, if it has none and hears of no other.
#[inline]
pub(crate) fn adopt(py: Python<'_>, sender: &Locator) -> PyResult<()> {
    if known().is_some() { Ok(()) } else { ensure(py, Some(sender)) }
}

/// Python knows what this process was told, and comes back by [`session_find`].
#[cold]
fn ensure(py: Python<'_>, sender: Option<&Locator>) -> PyResult<()> {
    static ENSURE: Once<Py<PyAny>> = Once::new();
    let sender = sender.map(ToString::to_string);
    ENSURE.import(py, "ndshare._session", "ensure")?.call1((sender,))?;
    Ok(())
}

/// Joins the session that this process was told of: by its parent, by the environment, by the sender of an array. Without
/// a sender one is made where there is none, within a budget such as "8 GiB".
///
/// `warn` is called with a sentence for what is not followed: a text that says nothing, and each session of another user's.
/// What it raises ends the search. AttachError: the session is there, and this process cannot take part. ValueError: a budget that is none.
#[pyfunction]
pub(crate) fn session_find(
    py: Python<'_>,
    parent: &Bound<'_, PyString>,
    environment: &Bound<'_, PyString>,
    budget: Option<&Bound<'_, PyString>>,
    sender: Option<&str>,
    warn: Py<PyAny>,
) -> PyResult<()> {
    // Bytes of an environment that are no text come to Rust as text that names nothing.
    let text = |text: &Bound<'_, PyString>| text.to_string_lossy().into_owned();
    let sender: Option<Locator> = sender.map(str::parse).transpose().map_err(|e| to_python(py, &e))?;
    let told = Told { parent: text(parent), environment: text(environment), sender, budget: budget.map(text) };
    if let Some(text) = told.unread() {
        warn.call1(py, (text,))?;
    }
    let raised = Guarded::new(None);
    let mut on_foreign = |error: &Error| {
        let told = attached(|py| warn.call1(py, (error.to_string(),)).map(drop));
        let Some(Err(cause)) = told else { return Ok(()) };
        drop(raised.replace(Some(cause)));
        Err(Error::new(Kind::Interrupted, "a warning was raised"))
    };
    let found = interruptible(py, |deadline| match sender {
        Some(_) => library::find(&told, deadline, &mut on_foreign).map(drop),
        None => library::ensure(&told, deadline, &mut on_foreign).map(drop),
    });
    raised.take().map_or(found, Err)
}

/// Puts this process into the session of a name. See `ndshare.session`.
#[pyfunction]
pub(crate) fn session_named(py: Python<'_>, name: &str) -> PyResult<()> {
    interruptible(py, |deadline| library::named(name, deadline)).map(drop)
}

/// Why this forked process has no place in arenas that its parent shared with it: a sentence for each.
#[pyfunction]
pub(crate) fn left_out() -> Vec<String> {
    ndshare::arena::left_out().iter().map(ToString::to_string).collect()
}

/// What children inherit, so that they find this process's session: a text for their environment. None while there is
/// no session.
#[pyfunction]
pub(crate) fn session_locators() -> Option<String> {
    known().map(library::Session::locators)
}
