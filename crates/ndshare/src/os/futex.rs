//! Waiting on a word of shared memory. The futexes are shared ones: the waiters are in several processes.

use crate::prim::AtomicU32;
use std::time::Duration;

/// Sleeps while `word` is `expected`, at most `timeout`. May return early; the caller looks again.
pub fn wait(word: &AtomicU32, expected: u32, timeout: Duration) {
    let time = libc::timespec { tv_sec: timeout.as_secs() as libc::time_t, tv_nsec: timeout.subsec_nanos().into() };
    let address = std::ptr::from_ref(word).cast::<u32>();
    // SAFETY: `word` outlives the call; the kernel only reads it, and compares before it sleeps.
    unsafe { libc::syscall(libc::SYS_futex, address, libc::FUTEX_WAIT, expected, &time) };
}

/// Wakes everybody who sleeps on `word`.
pub fn wake_all(word: &AtomicU32) {
    wake(word, i32::MAX);
}

/// Wakes `count` of those who sleep on `word`.
pub fn wake(word: &AtomicU32, count: i32) {
    let address = std::ptr::from_ref(word).cast::<u32>();
    // SAFETY: the kernel uses the address only as a key.
    unsafe { libc::syscall(libc::SYS_futex, address, libc::FUTEX_WAKE, count) };
}
