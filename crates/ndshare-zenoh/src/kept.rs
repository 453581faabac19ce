//! How this crate calls Zenoh, and is called by it: never with the lock of the interpreter, and never with a panic.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
};

use pyo3::{IntoPyObjectExt, create_exception, exceptions::PyException, prelude::*};

create_exception!(ndshare_zenoh, ZError, PyException, "What Zenoh says went wrong.");

/// Return what a call of Zenoh returns; other threads of Python go on meanwhile.
pub(crate) fn asked<T: Send>(py: Python<'_>, call: impl FnOnce() -> zenoh::Result<T> + Send) -> PyResult<T> {
    let outcome = py.detach(|| catch_unwind(AssertUnwindSafe(call)));
    outcome
        .map_err(|_| ZError::new_err("expected an answer of Zenoh, got a panic, which is a bug: please report it"))?
        .map_err(|error| ZError::new_err(error.to_string()))
}

/// Drop what Zenoh gave; that may call Zenoh.
pub(crate) fn dropped<T: Send>(py: Python<'_>, thing: T) -> PyResult<()> {
    asked(py, move || {
        drop(thing);
        Ok(())
    })
}

/// Give something back with the lock of the interpreter. An interpreter that ends takes nothing back.
pub(crate) fn give_back<T>(thing: T, how: impl FnOnce(Python<'_>, T)) {
    let mut thing = Some(thing);
    Python::try_attach(|py| {
        if let Some(thing) = thing.take() {
            how(py, thing);
        }
    });
    std::mem::forget(thing);
}

/// What Zenoh gave, until it is given back. No lock is held while Zenoh is called.
pub(crate) struct Kept<T: Send>(Mutex<Option<T>>);

impl<T: Send> Kept<T> {
    pub(crate) fn new(thing: T) -> Self {
        Self(Mutex::new(Some(thing)))
    }

    pub(crate) fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Look at it; that calls neither Zenoh nor Python. Raises ZError when it was given back.
    pub(crate) fn look<R>(&self, see: impl FnOnce(&T) -> R) -> PyResult<R> {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(see);
        found
            .ok_or_else(|| ZError::new_err("expected an object that is in use, got one that was dropped or undeclared"))
    }
}

impl<T: Send + Clone> Kept<T> {
    /// Return another handle of it, for a call by `asked`, which ends with that.
    pub(crate) fn get(&self) -> PyResult<T> {
        self.look(T::clone)
    }
}

impl<T: Send> Drop for Kept<T> {
    /// Its end may wait for threads of Zenoh that wait for Python.
    fn drop(&mut self) {
        if let Some(thing) = self.take() {
            give_back(thing, |py, thing| drop(dropped(py, thing)));
        }
    }
}

/// What was declared with a callback, which stays as long as the session, whoever keeps the object.
#[derive(Default)]
pub(crate) struct Keeper(Mutex<Vec<Arc<Kept<Undeclare>>>>);

pub(crate) type Undeclare = Box<dyn FnOnce() -> zenoh::Result<()> + Send>;

impl Keeper {
    pub(crate) fn keep(&self, undeclare: Undeclare) -> Arc<Kept<Undeclare>> {
        let kept = Arc::new(Kept::new(undeclare));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&kept));
        kept
    }

    /// Keep nothing any more.
    pub(crate) fn take(&self) -> Vec<Arc<Kept<Undeclare>>> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What Python wants to have called, and what after the last time.
#[pyclass(frozen, module = "ndshare_zenoh.handlers")]
pub(crate) struct Callback {
    call: Py<PyAny>,
    at_end: Option<Py<PyAny>>,
}

#[pymethods]
impl Callback {
    /// `indirect` is there for the sake of eclipse-zenoh: what is called is always called by Zenoh's own thread.
    #[new]
    #[pyo3(signature = (callback, drop=None, *, indirect=false))]
    fn new(callback: Py<PyAny>, drop: Option<Py<PyAny>>, indirect: bool) -> Self {
        let _ = indirect;
        Self { call: callback, at_end: drop }
    }
}

/// A callback as Zenoh's threads have it.
pub(crate) struct Handler(Option<Callback>);

impl Handler {
    /// Return the handler that Python passes: a `Callback`, or what can be called.
    pub(crate) fn of(given: &Bound<'_, PyAny>) -> Self {
        let py = given.py();
        let callback = match given.cast::<Callback>() {
            Ok(found) => {
                let Callback { call, at_end } = found.get();
                Callback { call: call.clone_ref(py), at_end: at_end.as_ref().map(|end| end.clone_ref(py)) }
            }
            Err(_) => Callback { call: given.clone().unbind(), at_end: None },
        };
        Self(Some(callback))
    }

    /// Call it. What it raises goes where Python puts what nobody can catch.
    pub(crate) fn call<T: for<'py> IntoPyObjectExt<'py>>(&self, argument: T) {
        let Some(callback) = &self.0 else { return };
        Python::try_attach(|py| {
            let called = argument.into_bound_py_any(py).and_then(|argument| callback.call.call1(py, (argument,)));
            if let Err(error) = called {
                error.write_unraisable(py, Some(callback.call.bind(py)));
            }
        });
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        let Some(callback) = self.0.take() else { return };
        give_back(callback, |py, Callback { at_end, .. }| {
            if let Some(end) = at_end
                && let Err(error) = end.call0(py)
            {
                error.write_unraisable(py, Some(end.bind(py)));
            }
        });
    }
}
