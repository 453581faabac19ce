//! What an object has until it is closed. Another thread may close it while this one uses it.

use std::sync::Arc;

use ndshare::{Error, Kind};
use pyo3::prelude::*;

use crate::error::to_python;
use crate::guard::Guarded;

/// The one reference of an object to what it has; whoever uses that takes another.
pub(crate) struct Closable<T>(Guarded<Option<Arc<T>>>);

impl<T: Send + Sync> Closable<T> {
    pub(crate) fn new(value: Arc<T>) -> Self {
        Self(Guarded::new(Some(value)))
    }

    /// The value, to be used outside the lock; none once it was closed.
    #[inline]
    pub(crate) fn get(&self) -> Option<Arc<T>> {
        self.0.get()
    }

    /// The same; `Closed` once `what` it is was closed.
    #[inline]
    pub(crate) fn open(&self, py: Python<'_>, what: &str) -> PyResult<Arc<T>> {
        self.get().ok_or_else(|| closed(py, what))
    }

    /// Closes it: the value is the caller's to end.
    pub(crate) fn take(&self) -> Option<Arc<T>> {
        self.0.take()
    }

    pub(crate) fn is_closed(&self) -> bool {
        !self.0.is_some()
    }
}

/// The exception of who uses what was closed.
#[cold]
pub(crate) fn closed(py: Python<'_>, what: &str) -> PyErr {
    let text = format!("the {what} was closed: expected an open one; make a new one");
    to_python(py, &Error::new(Kind::Closed, text))
}
