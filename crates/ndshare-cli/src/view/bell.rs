//! Waking who waits for something new.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A count of what was new, and a way to wait for more.
#[derive(Debug, Default)]
pub(super) struct Bell {
    count: Mutex<u64>,
    rung: Condvar,
}

impl Bell {
    pub(super) fn ring(&self) {
        *locked(&self.count) += 1;
        self.rung.notify_all();
    }

    /// Waits until it is rung more often than `seen`, for some time at the most; how often it was.
    pub(super) fn wait(&self, seen: u64, longest: Duration) -> u64 {
        let count = locked(&self.count);
        let waited = self.rung.wait_timeout_while(count, longest, |count| *count == seen);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// The contents of a lock, also after a panic of another thread: what is in these locks is whole at any time.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
