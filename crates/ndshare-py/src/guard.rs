//! The only door to locks in this crate. What is in a [`Guarded`] cannot meet Python while its lock is held.
//!
//! A thread that holds a lock of ours and runs Python, or waits for the interpreter, may let in another thread that
//! waits for this very lock while it is attached: then both wait for ever. Python runs in more places than one sees:
//! the last reference to an object runs its destructor, and a new object may begin a garbage collection, which runs
//! anybody's. So the closures here must be `Send`, which no token of the interpreter and no `Bound` is, and nothing
//! can be dropped in them: a value that is not plain is only looked at, or goes out as a whole. For what the types
//! cannot see, debug builds count the locks that a thread holds, and all our ways into Python look at the count.
//!
//! What is made once is made first and set then, and the first wins ([`Once`]). Nobody waits for whom is making it:
//! that one may be running Python, which may come back to the same place.

use std::sync::{Arc, OnceLock};

use ndshare::prim::SpinLock;
use pyo3::PyTypeCheck;
use pyo3::prelude::*;

/// A value for many threads.
pub(crate) struct Guarded<T>(SpinLock<T>);

impl<T: Send> Guarded<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(SpinLock::new(value))
    }

    /// Runs `look` under the lock.
    #[inline]
    pub(crate) fn look<R: Send>(&self, look: impl FnOnce(&T) -> R + Send) -> R {
        let (_count, value) = (held::Count::new(), self.0.lock());
        look(&value)
    }

    /// Puts a value into the place of another, which is the caller's then: it ends outside the lock.
    #[inline]
    #[must_use = "what was there ends where this is dropped: say where"]
    pub(crate) fn replace(&self, value: T) -> T {
        let _count = held::Count::new();
        std::mem::replace(&mut *self.0.lock(), value)
    }
}

impl<T: Send> Guarded<Option<T>> {
    /// Takes the value out.
    #[inline]
    pub(crate) fn take(&self) -> Option<T> {
        self.replace(None)
    }

    /// Puts a value in where there is none; else it comes back.
    #[inline]
    pub(crate) fn fill(&self, value: T) -> Option<T> {
        let (_count, mut slot) = (held::Count::new(), self.0.lock());
        if slot.is_some() {
            return Some(value);
        }
        *slot = Some(value);
        None
    }

    #[inline]
    pub(crate) fn is_some(&self) -> bool {
        self.look(Option::is_some)
    }
}

impl<T: Send + Sync> Guarded<Option<Arc<T>>> {
    /// The value, to be used outside the lock.
    #[inline]
    pub(crate) fn get(&self) -> Option<Arc<T>> {
        self.look(Option::clone)
    }
}

/// What is made once, with the help of Python.
#[derive(Default)]
pub(crate) struct Once<T>(OnceLock<T>);

impl<T> Once<T> {
    pub(crate) const fn new() -> Self {
        Self(OnceLock::new())
    }

    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        self.0.get()
    }

    /// The value, made now if there is none. Several threads may make one at once; all get the first.
    #[inline]
    pub(crate) fn get_or_make(&self, make: impl FnOnce() -> PyResult<T>) -> PyResult<&T> {
        match self.0.get() {
            Some(value) => Ok(value),
            None => self.make(make),
        }
    }

    #[cold]
    fn make(&self, make: impl FnOnce() -> PyResult<T>) -> PyResult<&T> {
        held::assert_none();
        let made = make()?;
        Ok(self.first(made))
    }

    /// The value, which is this one if there was none.
    pub(crate) fn first(&self, made: T) -> &T {
        let mut made = Some(made);
        // Nothing of Python happens in here: it moves a value. One that came too late ends below.
        self.0.get_or_init(|| made.take().unwrap_or_else(|| unreachable!("it was made above")))
    }
}

impl<T: PyTypeCheck> Once<Py<T>> {
    /// An attribute of a module, looked up once.
    #[inline]
    pub(crate) fn import<'py>(&self, py: Python<'py>, module: &str, name: &str) -> PyResult<&Bound<'py, T>> {
        let find = || Ok(py.import(module)?.getattr(name)?.cast_into::<T>()?.unbind());
        self.get_or_make(find).map(|found| found.bind(py))
    }
}

/// Runs `work` with the interpreter; none when it is shutting down.
pub(crate) fn attached<T>(work: impl FnOnce(Python<'_>) -> T) -> Option<T> {
    held::assert_none();
    Python::try_attach(work)
}

pub(crate) use held::assert_none;

/// How many locks this thread holds. Release builds do not count.
mod held {
    use std::cell::Cell;

    thread_local! {
        static HELD: Cell<u32> = const { Cell::new(0) };
    }

    pub(super) struct Count(());

    impl Count {
        #[inline]
        pub(super) fn new() -> Self {
            if cfg!(debug_assertions) {
                HELD.set(HELD.get() + 1);
            }
            Self(())
        }
    }

    impl Drop for Count {
        #[inline]
        fn drop(&mut self) {
            if cfg!(debug_assertions) {
                HELD.set(HELD.get() - 1);
            }
        }
    }

    /// Python is about to run, or to be waited for.
    #[inline]
    #[track_caller]
    pub(crate) fn assert_none() {
        debug_assert_eq!(HELD.get(), 0, "expected no lock to be held on the way into Python: let go of it first");
    }
}
