//! Calls into the library. Those that may wait or touch much memory run detached from the interpreter, and every
//! 20 ms of a wait a look at the pending signals decides whether to go on: a handler that raises (Ctrl-C) ends the
//! wait. A panic in the library, which would be a bug, becomes an exception like any other.

use std::time::Duration;

use ndshare::arena::Deadline;
use ndshare::error::guarded;
use ndshare::lock::QuietWait;
use ndshare::{Error, Kind, Result};
use pyo3::prelude::*;

use crate::error::to_python;
use crate::guard::{Guarded, assert_none, attached};

/// What the library hears of a signal handler that raised; it may add to it.
const RAISED: &str = "a signal handler raised";

/// Runs `work` detached and without a time limit; a signal handler that raises ends it.
pub(crate) fn interruptible<T: Send>(
    py: Python<'_>,
    work: impl FnOnce(&Deadline<'_>) -> Result<T> + Send,
) -> PyResult<T> {
    interruptible_for(py, None, work)
}

/// The same with a time limit, from now on.
pub(crate) fn interruptible_for<T: Send>(
    py: Python<'_>,
    timeout: Option<Duration>,
    work: impl FnOnce(&Deadline<'_>) -> Result<T> + Send,
) -> PyResult<T> {
    interruptible_unless(py, timeout, &|| false, work)
}

/// The same, until `is_off` says that nobody wants the result any more.
pub(crate) fn interruptible_unless<T: Send>(
    py: Python<'_>,
    timeout: Option<Duration>,
    is_off: &(dyn Fn() -> bool + Sync),
    work: impl FnOnce(&Deadline<'_>) -> Result<T> + Send,
) -> PyResult<T> {
    let check = |raised: &_, wait: &QuietWait| {
        if is_off() {
            return Err(Error::new(Kind::Interrupted, "the call was called off"));
        }
        // Under a lock of ours no handlers run, which might come to the same lock.
        if wait.may_run_code()? { look_at_signals(raised) } else { Ok(()) }
    };
    checked(py, check, |check| work(&Deadline::new(timeout, check)))
}

/// Runs `work` detached. What it is given to call says what `check` does, which keeps what a signal handler raised.
fn checked<T: Send>(
    py: Python<'_>,
    check: impl Fn(&Guarded<Option<PyErr>>, &QuietWait) -> Result<()> + Sync,
    work: impl FnOnce(&dyn Fn() -> Result<()>) -> Result<T> + Send,
) -> PyResult<T> {
    let raised = Guarded::new(None);
    assert_none();
    let result = py.detach(|| {
        let wait = QuietWait::default();
        guarded(|| work(&|| check(&raised, &wait)))
    });
    result.map_err(|error| match raised.take() {
        Some(raised) => noted(py, raised, &error),
        None => to_python(py, &error),
    })
}

/// The exception of a signal handler, with a note if the library knows who was waited for.
fn noted(py: Python<'_>, raised: PyErr, error: &Error) -> PyErr {
    let text = error.to_string();
    if text != RAISED && error.kind() == Kind::Interrupted {
        // An exception that takes no note is as good without.
        let _ = raised.value(py).call_method1("add_note", (text,));
    }
    raised
}

/// Runs `work` detached. It does not wait for other processes, and is not interrupted.
pub(crate) fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    assert_none();
    py.detach(|| guarded(work)).map_err(|error| to_python(py, &error))
}

/// Runs `work` detached, for as long as it takes to move much memory. About every 50 ms it calls what it is given,
/// so that a signal handler that raises ends it. Handlers run in the main thread alone; other threads need not look.
pub(crate) fn moving(py: Python<'_>, work: impl FnOnce(&dyn Fn() -> Result<()>) -> Result<()> + Send) -> PyResult<()> {
    let is_main = ndshare::os::thread::is_main();
    checked(py, |raised, _| if is_main { look_at_signals(raised) } else { Ok(()) }, work)
}

/// Runs `work` as it is. It never waits and makes no system call.
#[inline]
pub(crate) fn quick<T>(py: Python<'_>, work: impl FnOnce() -> T) -> PyResult<T> {
    guarded(|| Ok(work())).map_err(|error| to_python(py, &error))
}

/// The same, and maps its error.
#[inline]
pub(crate) fn at_once<T>(py: Python<'_>, work: impl FnOnce() -> Result<T>) -> PyResult<T> {
    guarded(work).map_err(|error| to_python(py, &error))
}

fn look_at_signals(raised: &Guarded<Option<PyErr>>) -> Result<()> {
    // An interpreter that is shutting down runs no handlers any more; the wait ends.
    let outcome = attached(|py| py.check_signals());
    match outcome {
        Some(Ok(())) => Ok(()),
        Some(Err(error)) => {
            drop(raised.replace(Some(error)));
            Err(Error::new(Kind::Interrupted, RAISED))
        }
        None => Err(Error::new(Kind::Interrupted, "the interpreter is shutting down")),
    }
}
