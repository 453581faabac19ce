//! Threads of our own: deaf to signals, and gone for certain when they have been joined.
//!
//! A signal that one of them took would not wake the thread that Python sleeps in. And Python (3.12 and later) counts
//! the threads of a process at each fork and warns of more than one; a thread that has been joined is still counted
//! for a moment, until the kernel has unlisted it.

use crate::error::{Error, Result};
use crate::prim::{AtomicI32, Ordering};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// Address space for a thread's stack; memory is used only as far as the stack reaches. Without optimisation a transform
/// keeps every vector that it makes on the stack.
const STACK_BYTES: usize = if cfg!(debug_assertions) { 4 << 20 } else { 1 << 20 };
/// How long a join waits for the kernel to unlist a thread that has ended.
const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// Runs `work`, whose sleeps end when they should and not up to 50 us later, which the system else allows itself.
pub fn on_time<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: integers only. Where it is refused, sleeps end as usual.
    let usual = unsafe { libc::prctl(libc::PR_GET_TIMERSLACK, 0, 0, 0, 0) };
    let set = |nanoseconds: libc::c_int| {
        // SAFETY: as above.
        unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, libc::c_ulong::from(nanoseconds.unsigned_abs()), 0, 0, 0) }
    };
    set(1);
    let outcome = work();
    set(usual.max(0));
    outcome
}

/// A running thread of ours.
#[derive(Debug)]
pub struct Thread {
    handle: JoinHandle<()>,
    id: Arc<AtomicI32>,
}

impl Thread {
    /// Starts `work` on a new thread.
    ///
    /// # Errors
    /// `Os` when the system gives no thread.
    pub fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<Self> {
        let id = Arc::new(AtomicI32::new(0));
        let mine = id.clone();
        let run = move || {
            mine.store(own_id(), Ordering::Release);
            work();
        };
        let builder = Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
        let started = with_signals_blocked(|| builder.spawn(run));
        let handle = started.map_err(|error| Error::os("starting a thread", error))?;
        Ok(Self { handle, id })
    }

    /// Waits until the thread has ended and the kernel has unlisted it.
    pub fn join(self) {
        // A thread that panicked has ended as well.
        let _ = self.handle.join();
        let id = self.id.load(Ordering::Acquire);
        let start = super::monotonic();
        // BOUND: that wait. A thread that is listed still is only counted once too often.
        while id != 0 && is_listed(id) && super::monotonic() - start < LONGEST_WAIT {
            std::thread::yield_now();
        }
    }

    /// Forgets a thread that a fork left behind in the parent.
    pub fn forget(self) {
        std::mem::forget(self);
    }
}

/// Runs `work` while this thread, and so every thread that it starts, takes no signals.
pub(super) fn with_signals_blocked<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: sets of plain bits, which the calls fill.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let result = work();
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
        result
    }
}

/// How much later than others a thread is served that gives way, in steps of `nice`.
const STEPS: i32 = 10;

/// From now on this thread, and each that it starts, works where others leave it a processor: who only looks on takes none from
/// who writes.
pub fn give_way() {
    // SAFETY: a number. On Linux it is of the calling thread alone; at the lowest priority nothing changes.
    unsafe { libc::nice(STEPS) };
}

fn own_id() -> libc::pid_t {
    // SAFETY: a question without arguments.
    unsafe { libc::gettid() }
}

/// Whether the calling thread is the one that the process began with.
pub fn is_main() -> bool {
    i64::from(own_id()) == i64::from(std::process::id())
}

fn is_listed(id: libc::pid_t) -> bool {
    // SAFETY: signal 0 is only a question.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), id, 0) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gives_way_is_served_later_and_so_are_threads_that_it_starts() {
        // The 19th field of its own `stat`, of which the second, a name, may have spaces.
        let nice = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            stat.rsplit_once(") ").unwrap().1.split(' ').nth(16).unwrap().parse::<i32>().unwrap()
        };
        let (before, started) = std::thread::scope(|scope| {
            let giving = || {
                let before = nice();
                give_way();
                assert_eq!(nice(), (before + STEPS).min(19));
                (before, std::thread::spawn(nice).join().unwrap())
            };
            scope.spawn(giving).join().unwrap()
        });
        assert_eq!(started, (before + STEPS).min(19));
        assert_eq!(nice(), before, "other threads of the process are served as before");
    }

    #[test]
    fn a_joined_thread_is_not_listed() {
        for _ in 0..200 {
            let thread = Thread::start("ndshare-test", || {}).unwrap();
            let id = thread.id.clone();
            thread.join();
            assert!(!is_listed(id.load(Ordering::Relaxed)));
        }
    }
}
