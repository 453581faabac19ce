//! The only door to the operating system, and the only user of `libc`.
//!
//! Linux 5.16 or later on x86-64 and aarch64. A newer call is tried first, and its fallback can be forced by an
//! environment variable, so that tests run both.

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
compile_error!("ndshare runs on Linux (x86-64 and aarch64): sealed memory files, OFD locks and futexes are its ground");

pub mod cpu;
pub mod file;
pub mod fork;
pub mod futex;
pub mod kill;
pub mod limits;
pub mod memory;
pub mod pipe;
pub mod process;
pub mod thread;

use std::time::Duration;

/// The size of the small pages that everything here is a multiple of.
pub const PAGE_BYTES: u64 = 4096;
/// The size of a huge page, and the step in which memory is committed.
pub const HUGE_BYTES: u64 = 2 << 20;

/// The page size must be the one that the layout assumes.
pub fn page_size_is_supported() -> bool {
    // SAFETY: sysconf reads a constant of the system.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(bytes) == Ok(PAGE_BYTES)
}

/// How many processors are online, whichever of them this process may use: its peers may use others.
pub fn processors() -> usize {
    // SAFETY: sysconf asks the system for a number.
    let count = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    usize::try_from(count).unwrap_or(1).max(1)
}

/// Time since the machine started, on the monotonic clock that all processes share.
pub fn monotonic() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a live timespec of this frame, which the call fills.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// 64 bits that nobody can guess, for ids and nonces.
pub fn random_u64() -> u64 {
    let mut bytes = [0_u8; 8];
    // SAFETY: the buffer is 8 live bytes of this frame.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if got == 8 {
        return u64::from_ne_bytes(bytes);
    }
    // Early in boot, or in a sandbox: time and pid still tell two processes apart.
    (monotonic().as_nanos() as u64).rotate_left(17) ^ u64::from(std::process::id())
}
