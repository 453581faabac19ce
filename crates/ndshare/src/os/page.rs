//! The sizes of pages, and one page of a file that keeps the description it was mapped through.

use super::last_errno;
use crate::error::{Error, Result};
use std::ops::Range;
use std::os::fd::RawFd;
use std::ptr::NonNull;

/// The size of the small pages that everything here is a multiple of.
pub const PAGE_BYTES: u64 = 4096;
/// The size of a huge page, and the step in which memory is committed.
pub const HUGE_BYTES: u64 = 2 << 20;

/// Whether the pages of this machine have the size that the layout assumes.
pub fn page_size_is_supported() -> bool {
    // SAFETY: sysconf reads a constant of the system.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(bytes) == Ok(PAGE_BYTES)
}

/// The whole pages that a range of bytes touches.
pub(super) fn whole_pages(range: &Range<u64>) -> Range<u64> {
    range.start / PAGE_BYTES * PAGE_BYTES..range.end.next_multiple_of(PAGE_BYTES)
}

/// One read-only page of a memory file, which keeps the description that it was mapped through.
#[derive(Debug)]
pub struct Page(NonNull<libc::c_void>);

// SAFETY: the page is never accessed, only kept.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    /// The page at an address that [`map_page`] returned, which nobody else has.
    pub(super) fn of(address: usize) -> Self {
        Self(NonNull::new(std::ptr::with_exposed_provenance_mut(address)).expect("no page is mapped at 0"))
    }

    /// Whether a child that is forked from now on gets the page, too.
    pub(super) fn pass_to_children(&self, pass: bool) -> Result<()> {
        let (advice, name) =
            if pass { (libc::MADV_DOFORK, "MADV_DOFORK") } else { (libc::MADV_DONTFORK, "MADV_DONTFORK") };
        // SAFETY: the page is mapped and ours; the advice changes only what a fork does.
        if unsafe { libc::madvise(self.0.as_ptr(), PAGE_BYTES as usize, advice) } == 0 {
            return Ok(());
        }
        Err(Error::last_os(name))
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: the page was mapped by `map_page`, and nobody accesses it.
        unsafe { libc::munmap(self.0.as_ptr(), PAGE_BYTES as usize) };
    }
}

/// Maps the first page of a file, read-only. The address, or below 0 an error number. Only system calls.
pub(super) fn map_page(fd: RawFd, for_children: bool) -> i64 {
    let len = PAGE_BYTES as usize;
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, fd, 0) };
    if page == libc::MAP_FAILED {
        return -last_errno();
    }
    // SAFETY: the page was just mapped; the advice changes only what a fork does.
    if !for_children && unsafe { libc::madvise(page, len, libc::MADV_DONTFORK) } != 0 {
        let errno = last_errno();
        // SAFETY: as above, and nobody knows of the page yet.
        unsafe { libc::munmap(page, len) };
        return -errno;
    }
    page.expose_provenance() as i64
}

/// A sign of life could not be made.
pub(super) fn no_page(cause: std::io::Error) -> Error {
    let text = match cause.raw_os_error() {
        Some(libc::ENOMEM) => {
            format!("no address space for a sign of life ({cause}): raise RLIMIT_AS (ulimit -v) or vm.max_map_count")
        }
        _ => format!(
            "making a sign of life in the memory file failed ({cause}): expected fcntl, mmap and madvise to work; a filter of \
             system calls (seccomp) may keep them out"
        ),
    };
    Error::attach_by(cause, text)
}
