//! Numbers of descriptors. A program may close any of them, and its next file gets the number.

use super::limits::open_files_limit;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// A descriptor that is left alone once the program has closed it.
#[derive(Debug)]
pub struct Kept {
    fd: ManuallyDrop<OwnedFd>,
    /// Device and inode of its file.
    file: Option<(u64, u64)>,
}

impl Kept {
    /// Keeps it, at a high number.
    pub fn new(fd: OwnedFd) -> Self {
        Self::where_it_is(move_high(fd))
    }

    /// Keeps it at the number that it has: `select` takes no high ones.
    pub(super) fn where_it_is(fd: OwnedFd) -> Self {
        Self { file: file_of(fd.as_raw_fd()), fd: ManuallyDrop::new(fd) }
    }

    /// Device and inode of its file; none when they could not be asked for.
    pub(super) fn file(&self) -> Option<(u64, u64)> {
        self.file
    }

    /// Whether the number is still that of the same file. The kernel gives one inode to all eventfds, timers and epoll sets,
    /// so it cannot tell these apart.
    pub fn is_ours(&self) -> bool {
        self.file.is_some() && file_of(self.raw()) == self.file
    }

    /// Whether it is, and only reads: the number may be that of another opening of the same file by now.
    pub fn only_reads(&self) -> bool {
        // SAFETY: a command without an argument; a bad descriptor is an error.
        let flags = unsafe { libc::fcntl(self.raw(), libc::F_GETFL) };
        self.is_ours() && flags >= 0 && flags & libc::O_ACCMODE == libc::O_RDONLY
    }

    /// The number.
    pub fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for Kept {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if self.is_ours() {
            // SAFETY: nobody uses the field after drop.
            unsafe { ManuallyDrop::drop(&mut self.fd) };
        }
    }
}

/// Device and inode of an open file; none when the number is nobody's.
pub(super) fn file_of(fd: RawFd) -> Option<(u64, u64)> {
    // SAFETY: all zeros is a valid `stat`, a plain struct of integers.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` is a live struct of this frame; a bad descriptor is an error, not a fault.
    (unsafe { libc::fstat(fd, &mut stat) } == 0).then_some((stat.st_dev, stat.st_ino))
}

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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::os::file::MemFile;

    #[test]
    fn a_number_that_is_another_files_is_left_alone_and_one_that_writes_does_not_read() {
        let [file, other] =
            ["ndshare:test-kept", "ndshare:test-other"].map(|name| MemFile::create(name, 1 << 20).unwrap());
        let put = |from: RawFd, to: &Kept| {
            // SAFETY: the test plays the program that uses a number which is not its own.
            assert!(unsafe { libc::dup2(from, to.raw()) } >= 0);
        };
        let kept = Kept::new(file.open_to_read().unwrap());
        assert!(kept.is_ours() && kept.only_reads());
        put(file.descriptor(), &kept);
        assert!(kept.is_ours() && !kept.only_reads(), "the same file, opened to be written");
        put(other.descriptor(), &kept);
        assert!(!kept.is_ours() && !kept.only_reads());
        let number = kept.raw();
        drop(kept);
        // SAFETY: the number is the test's own since it was put there.
        let left = unsafe { OwnedFd::from_raw_fd(number) };
        assert!(Kept::new(left).is_ours(), "it is open still");
    }
}
