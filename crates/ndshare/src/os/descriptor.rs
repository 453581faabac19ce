//! Numbers of descriptors.

use super::limits::open_files_limit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The same description at a number that programs seldom close; the low one where there is no such number.
pub(super) fn move_high(fd: OwnedFd) -> OwnedFd {
    // Not higher than needed: the kernel's table of descriptors grows with the highest, and fork copies it.
    let lowest = (open_files_limit().saturating_mul(3) / 4).min(1000) as libc::c_int;
    // SAFETY: the descriptor is owned by this frame; the call makes another one.
    let high = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, lowest) };
    if high < 0 {
        return fd;
    }
    // SAFETY: a descriptor that was just made belongs to nobody else.
    unsafe { OwnedFd::from_raw_fd(high) }
}
