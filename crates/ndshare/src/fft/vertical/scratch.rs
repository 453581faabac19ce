//! Scratch memory that is kept from call to call.
//!
//! A transform needs a few megabytes for a millisecond, and to get them from the system costs as much as to use them.
//! So a few allocations wait in a fixed number of places, each an exchange of one word: no lock that a forked child
//! could find taken, and never more than [`KEPT_BYTES`] in all.

use crate::error::{Error, Kind, Result};
use crate::layout::human;
use crate::os::memory::advise_huge_pages;
use crate::os::{HUGE_BYTES, PAGE_BYTES};
use crate::prim::{AtomicU64, Ordering};
use std::alloc::{Layout, alloc, dealloc};
use std::ptr::NonNull;

/// The most that is kept for later.
const KEPT_BYTES: u64 = 256 << 20;
const PLACES: usize = 8;
/// Allocations begin at a page.
const PAGE: usize = PAGE_BYTES as usize;
const HUGE_PAGE: usize = HUGE_BYTES as usize;

static KEPT: [AtomicU64; PLACES] = [const { AtomicU64::new(0) }; PLACES];
static KEPT_TOTAL: AtomicU64 = AtomicU64::new(0);

/// Memory of one's own, full of what the last user has left.
pub(super) struct Scratch {
    /// The first bytes hold the length while nobody uses it.
    at: NonNull<u8>,
    len: usize,
}

impl Scratch {
    /// At least `len` bytes.
    ///
    /// # Errors
    /// `ArenaFull` when the system has no such memory.
    pub(super) fn of(len: usize) -> Result<Self> {
        let len = len.max(1).checked_next_multiple_of(align_of_len(len)).ok_or_else(|| no_memory(len))?;
        for scratch in KEPT.iter().filter_map(Self::take) {
            if scratch.len >= len {
                return Ok(scratch);
            }
            // What is too small now is likely to stay so.
            scratch.free();
        }
        Self::new(len).ok_or_else(|| no_memory(len))
    }

    fn free(self) {
        let this = std::mem::ManuallyDrop::new(self);
        // SAFETY: allocated with this layout, and nobody else has it.
        unsafe { dealloc(this.at.as_ptr(), Self::layout(this.len)) };
    }

    pub(super) fn at(&self) -> *mut u8 {
        self.at.as_ptr()
    }

    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len, align_of_len(len)).expect("a length that was allocated before")
    }

    fn new(len: usize) -> Option<Self> {
        let layout = Layout::from_size_align(len, align_of_len(len)).ok()?;
        // SAFETY: the length is not 0.
        let at = NonNull::new(unsafe { alloc(layout) })?;
        advise_huge_pages(at, len);
        // SAFETY: ours alone, and so long. Rows and lanes that nobody needs are read, and must be numbers.
        unsafe { at.write_bytes(0, len) };
        Some(Self { at, len })
    }

    fn take(place: &AtomicU64) -> Option<Self> {
        let at = NonNull::new(std::ptr::with_exposed_provenance_mut::<u8>(place.swap(0, Ordering::Acquire) as usize))?;
        // SAFETY: whoever is in a place was put there by `keep`, with its length in its first bytes, and is now ours.
        let len = unsafe { at.cast::<usize>().read() };
        KEPT_TOTAL.fetch_sub(len as u64, Ordering::Relaxed);
        Some(Self { at, len })
    }

    /// Whether it found a place.
    fn keep(&self) -> bool {
        let len = self.len as u64;
        if KEPT_TOTAL.fetch_add(len, Ordering::Relaxed) + len <= KEPT_BYTES {
            // SAFETY: ours, and longer than a length.
            unsafe { self.at.cast::<usize>().write(self.len) };
            let word = self.at.as_ptr().expose_provenance() as u64;
            let free =
                |place: &&AtomicU64| place.compare_exchange(0, word, Ordering::Release, Ordering::Relaxed).is_ok();
            if KEPT.iter().find(free).is_some() {
                return true;
            }
        }
        KEPT_TOTAL.fetch_sub(len, Ordering::Relaxed);
        false
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.keep() {
            // SAFETY: allocated with this layout, and nobody else has it.
            unsafe { dealloc(self.at.as_ptr(), Self::layout(self.len)) };
        }
    }
}

#[cold]
fn no_memory(len: usize) -> Error {
    let message = format!("no memory for {} beside a transform: transform fewer planes at a time", human(len as u64));
    Error::new(Kind::ArenaFull, message)
}

/// Large ones begin at a huge page and are whole ones, because columns are many pages apart.
fn align_of_len(len: usize) -> usize {
    if len >= HUGE_PAGE { HUGE_PAGE } else { PAGE }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// The allocator's answer was the end of the process.
    #[test]
    #[cfg_attr(miri, ignore = "Miri ends when there is no memory")]
    fn memory_that_there_is_not_is_an_error() {
        for len in [1 << 60, usize::MAX >> 1, usize::MAX] {
            let error = Scratch::of(len).err().expect("no such memory");
            assert!(error.kind() == Kind::ArenaFull && error.to_string().contains("TiB"), "{error}");
        }
        assert!(Scratch::of(100).unwrap().len >= 100);
    }
}
