//! Knowing that the process was forked.
//!
//! `pthread_atfork` sees every fork of the C library. A raw `clone` passes it by; a page that the kernel wipes in
//! the child (`MADV_WIPEONFORK`) still tells.

use super::page::PAGE_BYTES;
use crate::error::{Error, Result};
use crate::prim::{AtomicU32, Ordering, SpinLock};
use std::sync::OnceLock;

struct Mark(*mut libc::c_void);

// SAFETY: the page is mapped for the life of the process and read only through atomics.
unsafe impl Send for Mark {}
// SAFETY: as above.
unsafe impl Sync for Mark {}

static MARK: OnceLock<Option<Mark>> = OnceLock::new();

fn word() -> Option<&'static AtomicU32> {
    let mark = MARK.get_or_init(map_mark).as_ref()?;
    // SAFETY: the page is mapped, aligned and never unmapped; atomics are its only accesses.
    Some(unsafe { AtomicU32::from_ptr(mark.0.cast()) })
}

fn map_mark() -> Option<Mark> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing that exists.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), PAGE_BYTES as usize, protection, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return None;
    }
    // SAFETY: the page was just mapped, and is ours alone.
    if unsafe { libc::madvise(page, PAGE_BYTES as usize, libc::MADV_WIPEONFORK) } != 0 {
        return None;
    }
    // SAFETY: as above; mapped pages are aligned for any atomic.
    unsafe { AtomicU32::from_ptr(page.cast()) }.store(1, Ordering::Relaxed);
    Some(Mark(page))
}

/// Notes that this process is known: at start, and by the fork handler in a child.
pub fn set_known() {
    if let Some(word) = word() {
        word.store(1, Ordering::Relaxed);
    }
}

/// Whether this process is one that [`set_known`] ran in, not the child of a raw `clone`.
#[inline]
pub fn is_known() -> bool {
    word().is_none_or(|word| word.load(Ordering::Relaxed) == 1)
}

/// Taken while something is made that a forked child must not get, and across each fork. Its holders make a handful
/// of quick system calls, so it is not for fast paths.
static FORKING: SpinLock<()> = SpinLock::new(());

/// Runs `work` at a time when no other thread of this process is forking.
pub fn between_forks<T>(work: impl FnOnce() -> T) -> T {
    let _guard = FORKING.lock();
    work()
}

/// The last thing before a fork: waits until no thread is inside [`between_forks`], and keeps all out.
pub fn begin_fork() {
    FORKING.lock_across_fork();
}

/// After the fork, in both processes: lets threads into [`between_forks`] again.
pub fn end_fork() {
    FORKING.unlock_after_fork();
}

/// Runs `prepare` before each fork, and `parent` and `child` after it in the two processes. The last that registered
/// prepares first; afterwards the first comes first.
///
/// # Errors
/// `Os` when the C library has no memory for the handlers.
pub fn at_fork(prepare: extern "C" fn(), parent: extern "C" fn(), child: extern "C" fn()) -> Result<()> {
    // SAFETY: the handlers are functions of this library, which is never unloaded.
    match unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) } {
        0 => Ok(()),
        code => Err(Error::os("pthread_atfork", std::io::Error::from_raw_os_error(code))),
    }
}
