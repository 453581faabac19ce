//! Locks for Python: of arrays (`locked`), and one for its own sake (`Lock`).

use std::time::Duration;

use ndshare::arena::Hold;
use ndshare::lock::{self, Death, Locked};
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::arena::work_arena;
use crate::error::to_python;
use crate::guard::Guarded;
use crate::ndarray::Operand;
use crate::shared::block_under;
use crate::travel::{opened, ticketed};
use crate::wait::{at_once, interruptible, interruptible_for, quick};

/// What `threading.TIMEOUT_MAX` is, in seconds.
const MAX_TIMEOUT: f64 = 9_223_372_036.0;

/// Holds the locks of some shared arrays: `with nds.locked(a, b, timeout=1):`.
///
/// Each block has one lock, so all views of an array share it, in every process. Several are taken in one order
/// everywhere, the same one once; all or none. It may be used again, and from any thread.
///
/// `timeout` is in seconds: None waits for ever, 0 tries once. When a process died inside, entering raises
/// `OwnerDied` and holds nothing, until somebody enters with `recover=True` and leaves without an exception.
///
/// Raises TypeError for what is no array, ValueError for arrays that are not shared, and on entry Timeout,
/// OwnerDied, or RuntimeError when this thread is inside already.
///
/// >>> import ndshare as nds
/// >>> a, b = nds.zeros(3), nds.zeros(3)
/// >>> with nds.locked(a, b, timeout=1):
/// ...     a += 1
/// ...     b -= a
/// >>> b.sum()
/// np.float64(-3.0)
#[pyclass(frozen, weakref, name = "locked", module = "ndshare")]
pub(crate) struct LockedArrays {
    holds: Vec<Hold>,
    death: Death,
    timeout: Option<Duration>,
    locked: Guarded<Option<Locked>>,
}

#[pymethods]
impl LockedArrays {
    #[new]
    #[pyo3(signature = (*arrays, timeout=None, recover=false))]
    fn new(arrays: &Bound<'_, PyTuple>, timeout: Option<f64>, recover: bool) -> PyResult<Self> {
        if arrays.is_empty() {
            return Err(PyValueError::new_err("expected at least one shared array to lock, got none"));
        }
        let holds = arrays.iter().map(|array| hold_of(&array)).collect::<PyResult<_>>()?;
        let death = if recover { Death::Recover } else { Death::Report };
        Ok(Self { holds, death, timeout: seconds(timeout)?, locked: Guarded::new(None) })
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<()> {
        let locked =
            interruptible_for(py, self.timeout, |deadline| Locked::acquire(self.holds.clone(), self.death, deadline))?;
        let before = self.locked.replace(Some(locked));
        py.detach(|| drop(before));
        Ok(())
    }

    #[pyo3(signature = (*exc_info))]
    fn __exit__(&self, py: Python<'_>, exc_info: &Bound<'_, PyTuple>) -> PyResult<()> {
        let is_ordinary = exc_info.iter().next().is_none_or(|kind| kind.is_none());
        let taken = self.locked.take();
        let release = || taken.ok_or_else(lock::not_entered).and_then(|locked| locked.release(is_ordinary));
        let freed = at_once(py, release);
        // The user's exception is the one to see.
        if is_ordinary { freed } else { Ok(()) }
    }

    fn __repr__(&self) -> String {
        let state = if self.locked.is_some() { "locked" } else { "unlocked" };
        format!("<{state} ndshare.locked of {} arrays>", self.holds.len())
    }
}

fn hold_of(array: &Bound<'_, PyAny>) -> PyResult<Hold> {
    let Some(facts) = Operand::of_any(array) else {
        let got = array.get_type();
        return Err(PyTypeError::new_err(format!(
            "expected shared arrays to lock, as in locked(a, b, timeout=1), got {got}"
        )));
    };
    block_under(array.py(), &facts)?.ok_or_else(|| {
        PyValueError::new_err(format!(
            "expected shared arrays to lock, got one of shape {:?} in this process's own memory: pass \
             nds.asarray(a), and keep the result",
            facts.shape
        ))
    })
}

/// A timeout in seconds, 0 or more; None, and what no clock holds, is for ever.
pub(crate) fn seconds(timeout: Option<f64>) -> PyResult<Option<Duration>> {
    match timeout {
        None => Ok(None),
        Some(seconds) if seconds >= 0.0 => Ok(Duration::try_from_secs_f64(seconds).ok()),
        Some(seconds) => {
            Err(PyValueError::new_err(format!("expected a timeout in seconds, 0 or more, or None, got {seconds}")))
        }
    }
}

/// `threading.Lock`'s `blocking`: anything, by its truth.
pub(crate) struct Truth(bool);

impl<'py> FromPyObject<'_, 'py> for Truth {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        object.is_truthy().map(Self)
    }
}

/// A lock that every process can use, and that outlives its holder; otherwise `threading.Lock`.
///
/// Any thread of the process that acquired it may release it. Send it through multiprocessing, in whatever way; a
/// plain pickle raises TypeError. With `name`, all processes of the session that give the same name have the same lock,
/// for as long as one has it. With `loop.run_in_executor(None, lock.acquire)` it serves asyncio.
///
/// When a process dies holding it, `acquire` raises `OwnerDied` and holds nothing, until somebody passes
/// `recover=True`, puts in order what the lock guards, and releases it.
///
/// >>> import ndshare as nds
/// >>> lock = nds.Lock()
/// >>> with lock:
/// ...     lock.locked(), lock.acquire(blocking=False)
/// (True, False)
#[pyclass(frozen, weakref, module = "ndshare")]
pub(crate) struct Lock {
    pub(crate) lock: lock::Lock,
}

#[pymethods]
impl Lock {
    #[new]
    #[pyo3(signature = (*, name=None, arena=None))]
    fn new(py: Python<'_>, name: Option<&str>, arena: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let arena = work_arena(py, arena)?;
        let lock = interruptible(py, |deadline| match name {
            None => lock::Lock::new(&arena, deadline),
            Some(name) => lock::Lock::named(&arena, name, deadline),
        })?;
        Ok(Self { lock })
    }

    /// Waits for the lock and takes it; False when that failed, at once or within `timeout` seconds.
    ///
    /// `blocking`, `timeout` and their errors are `threading.Lock`'s. Raises OwnerDied, holding nothing, when the
    /// last holder died; with `recover` it takes the lock all the same, and `release` takes the mark away.
    ///
    /// >>> import ndshare as nds
    /// >>> lock = nds.Lock()
    /// >>> lock.acquire(timeout=1), lock.acquire(blocking=False)
    /// (True, False)
    #[pyo3(
        signature = (blocking=Truth(true), timeout=-1.0, *, recover=Truth(false)),
        text_signature = "($self, blocking=True, timeout=-1, *, recover=False)"
    )]
    #[inline]
    fn acquire(&self, py: Python<'_>, blocking: Truth, timeout: f64, recover: Truth) -> PyResult<bool> {
        let timeout = wait_time(blocking.0, timeout)?;
        if self.acquire_quick(py)? {
            return Ok(true);
        }
        let death = if recover.0 { Death::Recover } else { Death::Report };
        self.acquire_by(py, blocking.0, timeout, death)
    }

    /// Frees the lock. RuntimeError when this process does not hold it.
    ///
    /// >>> import ndshare as nds
    /// >>> lock = nds.Lock()
    /// >>> lock.acquire(), lock.release(), lock.locked()
    /// (True, None, False)
    #[inline]
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        at_once(py, || lock::release(self.lock.head()))
    }

    /// Whether somebody alive, in whatever process, holds the lock.
    ///
    /// >>> import ndshare as nds
    /// >>> nds.Lock().locked()
    /// False
    fn locked(&self, py: Python<'_>) -> PyResult<bool> {
        interruptible(py, |_| self.lock.is_locked())
    }

    #[inline]
    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        if self.acquire_quick(py)? { Ok(true) } else { self.acquire_by(py, true, None, Death::Report) }
    }

    #[pyo3(signature = (kind=None, error=None, traceback=None))]
    fn __exit__(
        &self,
        py: Python<'_>,
        kind: Option<&Bound<'_, PyAny>>,
        error: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (_, _) = (error, traceback);
        let freed = self.release(py);
        // The user's exception is the one to see.
        if kind.is_some() { Ok(()) } else { freed }
    }

    /// Makes the lock free if this process has it; a parent's lock stays the parent's. `threading` calls this.
    fn _at_fork_reinit(&self, py: Python<'_>) -> PyResult<()> {
        quick(py, || drop(lock::release(self.lock.head())))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let locked = quick(slf.py(), || lock::looks_locked(slf.get().lock.head()))?;
        let state = if locked == Ok(true) { "locked" } else { "unlocked" };
        Ok(format!("<{state} ndshare.Lock object at {:#x}>", slf.as_ptr() as usize))
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(only_multiprocessing("Lock"))
    }
}

/// Other picklers would make a copy of what is one thing.
#[cold]
pub(crate) fn only_multiprocessing(class: &str) -> PyErr {
    PyTypeError::new_err(format!(
        "cannot pickle an ndshare.{class}: expected multiprocessing to send it (a Process's argument, a Queue, a Pipe, a \
         pool), got another pickler"
    ))
}

impl Lock {
    #[inline]
    fn acquire_quick(&self, py: Python<'_>) -> PyResult<bool> {
        at_once(py, || lock::acquire_quick(self.lock.head()))
    }

    #[cold]
    fn acquire_by(&self, py: Python<'_>, blocking: bool, timeout: Option<Duration>, death: Death) -> PyResult<bool> {
        interruptible_for(py, timeout, |deadline| match blocking {
            true => lock::acquire_in_time(self.lock.head(), death, deadline),
            false => lock::try_acquire(self.lock.head(), death),
        })
    }
}

/// How long `acquire` waits; None is for ever. The errors are `threading.Lock`'s.
#[inline]
fn wait_time(blocking: bool, timeout: f64) -> PyResult<Option<Duration>> {
    if timeout == -1.0 { Ok(None) } else { limited(blocking, timeout).map(Some) }
}

#[cold]
fn limited(blocking: bool, timeout: f64) -> PyResult<Duration> {
    let bad = match timeout {
        _ if !blocking => PyValueError::new_err("can't specify a timeout for a non-blocking call"),
        nan if nan.is_nan() => PyValueError::new_err("Invalid value NaN (not a number)"),
        ..0.0 => PyValueError::new_err("timeout value must be a non-negative number"),
        0.0..=MAX_TIMEOUT => return Ok(Duration::from_secs_f64(timeout)),
        _ => PyOverflowError::new_err("timeout value is too large"),
    };
    Err(bad)
}

/// The token of a `Lock` for another process, with a ticket while there are any.
#[pyfunction]
pub(crate) fn lock_token<'py>(py: Python<'py>, lock: &Bound<'py, Lock>) -> PyResult<Bound<'py, PyBytes>> {
    ticketed(py, lock.get().lock.head())
}

/// The `Lock` of a token. Raises Stale when nobody held it any more, AttachError when it cannot be reached, and ValueError
/// when it is something else.
#[pyfunction]
pub(crate) fn open_lock(py: Python<'_>, token: &[u8]) -> PyResult<Lock> {
    let head = opened(py, token)?;
    lock::Lock::open(head).map(|lock| Lock { lock }).map_err(|e| to_python(py, &e))
}
