//! Mapping the memory file, committing its pages before anybody writes them, and giving them back.
//!
//! Commit: one page in every 2 MiB is populated, then that chunk is collapsed into a huge page, which zeroes it in
//! one go: eight times faster than 512 faults. `MADV_POPULATE_WRITE` reports what a touch would answer with a
//! signal. Where a chunk can't be collapsed, its small pages are populated. The limits are read first.

use super::file::MemFile;
use super::limits::{self, Room};
use super::monotonic;
use super::page::{HUGE_BYTES, PAGE_BYTES, whole_pages};
use crate::error::{ArenaFull, Error, Result};
use crate::layout::human;
use crate::prim::{AtomicU64, Ordering};
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr::NonNull;
use std::sync::OnceLock;

/// How much is committed between two looks at the limits.
const STEP_BYTES: u64 = 64 << 20;

/// The whole memory file in this process, at a multiple of 2 MiB.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    len_bytes: u64,
}

// SAFETY: a mapping is an address and a length; all access to its bytes is by atomics or raw pointers.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the whole file, shared.
    ///
    /// # Errors
    /// `ArenaFull` when the address space has no room for it, naming the limit.
    pub fn map(file: &MemFile) -> Result<Self> {
        Self::map_file(file, (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED))
    }

    /// Maps the whole file, shared, to be read only. Nobody in this process can make it writable: it is mapped through a
    /// description that may only read, and the kernel refuses `mprotect` for that.
    ///
    /// # Errors
    /// As [`Self::map`]; `Attach` when the file can't be opened anew.
    pub fn readonly(file: &MemFile) -> Result<Self> {
        let opened =
            file.pieces().map(|piece| Ok((piece.open_to_read()?, piece.own_len()))).collect::<Result<Vec<_>>>()?;
        let pieces: Vec<_> = opened.iter().map(|(fd, len)| (fd.as_raw_fd(), *len)).collect();
        Self::map_pieces(&pieces, (libc::PROT_READ, libc::MAP_SHARED))
    }

    /// Maps all of a file that is open to be read, shared. It has this many bytes, and is sealed so that it keeps them.
    ///
    /// # Errors
    /// `ArenaFull` when the address space has no room for it.
    pub(crate) fn of_offered(fd: BorrowedFd<'_>, len_bytes: u64) -> Result<Self> {
        Self::map_pieces(&[(fd.as_raw_fd(), len_bytes)], (libc::PROT_READ, libc::MAP_SHARED))
    }

    /// Maps the whole file for a look: what this process writes nobody else sees.
    ///
    /// # Errors
    /// As [`Self::map`].
    pub fn private(file: &MemFile) -> Result<Self> {
        let access = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_NORESERVE);
        Self::map_file(file, access)
    }

    fn map_file(file: &MemFile, access: (libc::c_int, libc::c_int)) -> Result<Self> {
        let pieces = file.pieces().map(|piece| Ok((piece.valid()?, piece.own_len()))).collect::<Result<Vec<_>>>()?;
        Self::map_pieces(&pieces, access)
    }

    /// Maps whole files, each with its length, one behind the other.
    fn map_pieces(pieces: &[(RawFd, u64)], (protection, sharing): (libc::c_int, libc::c_int)) -> Result<Self> {
        let len_bytes = pieces.iter().map(|(_, len)| len).sum();
        // From here on it unmaps what it has, whatever happens.
        let mapping = Self { base: reserve(len_bytes)?, len_bytes };
        let (flags, mut start) = (sharing | libc::MAP_FIXED, 0);
        for &(fd, len) in pieces {
            let address = mapping.address(&(start..start + len));
            // SAFETY: the fixed address is inside a reservation made just now for all pieces, which nobody else uses.
            if unsafe { libc::mmap(address, len as usize, protection, flags, fd, 0) } == libc::MAP_FAILED {
                return Err(no_address_space(len_bytes));
            }
            start += len;
        }
        Ok(mapping)
    }

    /// The first byte.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// The length in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn address(&self, range: &Range<u64>) -> *mut libc::c_void {
        assert!(range.start <= range.end && range.end <= self.len_bytes, "a range outside its mapping");
        // SAFETY: the offset is inside the mapping, as just checked.
        unsafe { self.base.as_ptr().add(range.start as usize) }.cast()
    }

    fn advise(&self, range: &Range<u64>, advice: libc::c_int) -> std::io::Result<()> {
        let len = (range.end - range.start) as usize;
        // SAFETY: the range is inside this mapping of shared memory; the advices used here (populate, collapse,
        // remove) keep it mapped, and `remove` is given only ranges that nobody holds.
        if unsafe { libc::madvise(self.address(range), len, advice) } == 0 {
            return Ok(());
        }
        Err(std::io::Error::last_os_error())
    }

    /// Makes every page that `range` touches present, or says which limit forbids it. Content is kept. Of a file on a disk
    /// space is set aside: its pages are not memory that has to be there.
    ///
    /// # Errors
    /// `ArenaFull` with the limit's name; pages committed before that stay, for the caller to give back. `Poisoned` when the
    /// file, which has a path, was cut.
    pub fn commit(&self, file: &MemFile, range: Range<u64>) -> Result<()> {
        let pages = whole_pages(&range);
        check_process_limits(pages.end)?;
        file.check_len()?;
        if !file.is_in_memory() {
            return file.reserve(&pages);
        }
        let mut start = pages.start;
        // BOUND: each step commits a page at least. All but the last end with a whole huge page, if they have one.
        while start < pages.end {
            let end = (start + STEP_BYTES).min(pages.end);
            let step = start..end / HUGE_BYTES * HUGE_BYTES;
            let step = if step.end > start && end < pages.end { step } else { start..end };
            spend(step.end - step.start)?;
            self.commit_step(step.clone()).map_err(|error| file.explained(error, step.end - step.start))?;
            start = step.end;
        }
        Ok(())
    }

    fn commit_step(&self, range: Range<u64>) -> Result<()> {
        let first_chunk = range.start.next_multiple_of(HUGE_BYTES);
        let last_chunk = range.end / HUGE_BYTES * HUGE_BYTES;
        if first_chunk >= last_chunk || !collapse_is_allowed() {
            return self.populate(range);
        }
        self.populate(range.start..first_chunk)?;
        for chunk in (first_chunk..last_chunk).step_by(HUGE_BYTES as usize) {
            self.commit_chunk(chunk..chunk + HUGE_BYTES)?;
        }
        self.populate(last_chunk..range.end)
    }

    fn commit_chunk(&self, chunk: Range<u64>) -> Result<()> {
        self.populate(chunk.start..chunk.start + PAGE_BYTES)?;
        if self.advise(&chunk, libc::MADV_COLLAPSE).is_ok() {
            return Ok(());
        }
        // No huge page to be had: at a limit the small ones would end in the OOM killer, so look again.
        demand(HUGE_BYTES, limits::room())?;
        self.populate(chunk)
    }

    fn populate(&self, range: Range<u64>) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        // BOUND: each round was interrupted by a signal, or the kernel asks for another try.
        loop {
            let Err(error) = self.advise(&range, libc::MADV_POPULATE_WRITE) else { return Ok(()) };
            match error.raw_os_error() {
                Some(libc::EAGAIN | libc::EINTR) => continue,
                _ => return Err(not_populated(range.end - range.start, error)),
            }
        }
    }

    /// Gives the pages of `range` back to the machine; they read as zeros from then on. Whole pages only.
    pub fn decommit(&self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        // A refusal leaves the pages committed, which costs memory and nothing else: the span's next user
        // writes over them. `alloc` never takes pages for zeroed because of a call to this function alone.
        let _ = self.advise(&range, libc::MADV_REMOVE);
    }

    /// Puts a private copy of whole pages in their place; from then on this process has them for itself, and a forked
    /// child has its own.
    ///
    /// # Errors
    /// `ArenaFull` when there is no memory for the copy; then nothing has changed.
    pub fn part(&self, range: Range<u64>) -> Result<()> {
        let full = || {
            let message = "no memory for a private copy: free memory on this machine";
            Error::from(ArenaFull { needed_bytes: Some(range.end - range.start), ..ArenaFull::saying(message) })
        };
        let (copy, pages) = self.private_copy(&range).ok_or_else(full)?;
        let len = (pages.end - pages.start) as usize;
        // SAFETY: the copy is a whole private mapping of `len` bytes; it moves over pages of our own range, with the
        // same bytes. If it cannot, it is unmapped, and nobody else knows of it.
        unsafe {
            let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
            if libc::mremap(copy, len, len, flags, self.address(&pages)) == libc::MAP_FAILED {
                libc::munmap(copy, len);
                return Err(full());
            }
        }
        Ok(())
    }

    /// Puts the file's own pages back where [`Self::part`] put a copy, which is lost.
    ///
    /// # Errors
    /// `Os` when the kernel refuses; then nothing has changed.
    pub fn rejoin(&self, file: &MemFile, range: Range<u64>) -> Result<()> {
        let (piece, at) = file.piece_at(range.start);
        let (fd, len) = (piece.valid()?, (range.end - range.start) as usize);
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_FIXED);
        // SAFETY: the range is inside this mapping, and its caller has the only reference to these bytes.
        let pages = unsafe { libc::mmap(self.address(&range), len, protection, flags, fd, at.cast_signed()) };
        if pages == libc::MAP_FAILED { Err(Error::last_os("mmap of an arena's pages")) } else { Ok(()) }
    }

    fn private_copy(&self, range: &Range<u64>) -> Option<(*mut libc::c_void, Range<u64>)> {
        let pages = whole_pages(range);
        let len = (pages.end - pages.start) as usize;
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing that exists.
        let copy = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0) };
        if copy == libc::MAP_FAILED {
            return None;
        }
        // SAFETY: both ranges are `len` mapped bytes, and they are different mappings.
        unsafe { std::ptr::copy_nonoverlapping(self.address(&pages).cast::<u8>(), copy.cast::<u8>(), len) };
        Some((copy, pages))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `map`; every view holds the arena that owns this mapping.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len_bytes as usize) };
    }
}

/// Address space of `len_bytes` at a multiple of 2 MiB, so that huge pages fit the file's own.
fn reserve(len_bytes: u64) -> Result<NonNull<u8>> {
    let padded = (len_bytes + HUGE_BYTES) as usize;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing that exists.
    let raw = unsafe { libc::mmap(std::ptr::null_mut(), padded, libc::PROT_NONE, flags, -1, 0) };
    if raw == libc::MAP_FAILED {
        return Err(no_address_space(len_bytes));
    }
    let front = (raw as u64).next_multiple_of(HUGE_BYTES) - raw as u64;
    let back = HUGE_BYTES - front;
    // SAFETY: both trimmed ranges are ends of the reservation made just now; nothing lives there.
    unsafe {
        let base = raw.cast::<u8>().add(front as usize);
        if front > 0 {
            libc::munmap(raw, front as usize);
        }
        if back > 0 {
            libc::munmap(base.add(len_bytes as usize).cast(), back as usize);
        }
        Ok(NonNull::new_unchecked(base))
    }
}

/// What the kernel's refusal to make pages present means: it has no memory, or does not know the call.
#[cold]
fn not_populated(need: u64, cause: std::io::Error) -> Error {
    if matches!(cause.raw_os_error(), Some(libc::ENOSYS | libc::EPERM | libc::EACCES | libc::EINVAL)) {
        let error = Error::os("madvise(MADV_POPULATE_WRITE)", cause);
        let message = format!(
            "{error}: expected Linux 5.14 or later, and no filter of system calls (seccomp) that keeps madvise out"
        );
        return error.saying(message);
    }
    let counted = if limits::promises_are_counted() { format!(", {}", limits::STRICT) } else { String::new() };
    let message = format!(
        "the kernel gave no memory for {} ({cause}{counted}): free memory on this machine and try again",
        human(need)
    );
    ArenaFull { needed_bytes: Some(need), ..ArenaFull::saying(message) }.into()
}

fn no_address_space(len_bytes: u64) -> Error {
    let refusal = std::io::Error::last_os_error();
    let cause = match limits::address_space_limit() {
        Some(limit) => format!("RLIMIT_AS is {}", human(limit)),
        None if limits::promises_are_counted() => format!("{refusal}, {}", limits::STRICT),
        None => refusal.to_string(),
    };
    let len = human(len_bytes);
    let message = format!("no address space for an arena of {len}: {cause}; raise the limit (ulimit -v)");
    let (limit_bytes, limit) = (limits::address_space_limit(), "RLIMIT_AS".to_owned());
    ArenaFull { needed_bytes: Some(len_bytes), limit_bytes, limit, ..ArenaFull::saying(message) }.into()
}

/// Whether chunks may be collapsed; `NDSHARE_NO_COLLAPSE=1` switches that off, as an older kernel would.
fn collapse_is_allowed() -> bool {
    static ALLOWED: OnceLock<bool> = OnceLock::new();
    *ALLOWED
        .get_or_init(|| std::env::var_os("NDSHARE_NO_COLLAPSE").is_none_or(|value| value.is_empty() || value == "0"))
}

/// Limits that a program set for itself, and that a memory file would pass by.
fn check_process_limits(file_end: u64) -> Result<()> {
    if let Some(limit) = limits::file_size_limit().filter(|&limit| file_end > limit) {
        return Err(over("RLIMIT_FSIZE", limit, file_end, "ulimit -f"));
    }
    if let Some(limit) = limits::address_space_limit() {
        let mapped = limits::mapped_bytes();
        if mapped > limit {
            return Err(over("RLIMIT_AS", limit, mapped, "ulimit -v"));
        }
    }
    Ok(())
}

fn over(name: &str, limit: u64, got: u64, how: &str) -> Error {
    let (most, need) = (human(limit), human(got));
    let message = format!("{name} is {most}, and the arena would need {need} of it: raise it ({how})");
    let (needed_bytes, limit_bytes, limit) = (Some(got), Some(limit), name.to_owned());
    ArenaFull { needed_bytes, limit_bytes, limit, ..ArenaFull::saying(message) }.into()
}

/// Bytes that may be committed before the limits are read again, and until when (monotonic milliseconds).
static CREDIT: AtomicU64 = AtomicU64::new(0);
static CREDIT_UNTIL: AtomicU64 = AtomicU64::new(0);
const CREDIT_BYTES: u64 = 4 << 20;
const CREDIT_MS: u64 = 20;

/// Takes `bytes` from what the limits allow. Small commits are paid from a small credit, because reading the
/// limits costs more than committing a page.
fn spend(bytes: u64) -> Result<()> {
    let now = monotonic().as_millis() as u64;
    let fresh = now < CREDIT_UNTIL.load(Ordering::Relaxed);
    let take = |left: u64| left.checked_sub(bytes);
    if fresh && CREDIT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
        return Ok(());
    }
    let room = limits::room();
    let credit = CREDIT_BYTES.min(room.bytes.saturating_sub(bytes) / 64);
    demand(bytes, room)?;
    CREDIT.store(credit, Ordering::Relaxed);
    CREDIT_UNTIL.store(now + CREDIT_MS, Ordering::Relaxed);
    Ok(())
}

fn demand(bytes: u64, room: Room) -> Result<()> {
    if bytes <= room.bytes {
        return Ok(());
    }
    let (need, left) = (human(bytes), human(room.bytes));
    let message = format!("{} leaves {left}, and {need} more must be committed: free memory, or raise it", room.limit);
    let (needed_bytes, free_bytes, limit) = (Some(bytes), Some(room.bytes), room.limit);
    Err(ArenaFull { needed_bytes, free_bytes, limit, ..ArenaFull::saying(message) }.into())
}

/// Gives the pages of private memory back; they are zeros for whoever looks at them again.
///
/// # Safety
/// The memory is whole pages of an allocation of the caller's, and nobody looks at what stands there any more.
pub(crate) unsafe fn discard(at: NonNull<u8>, len_bytes: usize) {
    // SAFETY: as the caller says. An error leaves the pages as they are.
    let _ = unsafe { libc::madvise(at.as_ptr().cast(), len_bytes, libc::MADV_DONTNEED) };
}

/// Lets nobody touch whole pages of private memory, for tests: a read or a write there is a SIGSEGV; or lets everybody again.
///
/// # Safety
/// The memory is whole pages of an allocation of the caller's, and nobody needs what stands there.
#[cfg(any(test, feature = "internals"))]
pub(crate) unsafe fn guard(at: NonNull<u8>, len_bytes: usize, is_closed: bool) {
    let access = if is_closed { libc::PROT_NONE } else { libc::PROT_READ | libc::PROT_WRITE };
    // SAFETY: as the caller says. An error leaves the pages as they are.
    let _ = unsafe { libc::mprotect(at.as_ptr().cast(), len_bytes, access) };
}

/// Asks for huge pages under memory of this process; what the system does not have it need not give.
pub fn advise_huge_pages(at: NonNull<u8>, len_bytes: usize) {
    // SAFETY: advice about huge pages changes no byte, wherever it is given.
    let _ = unsafe { libc::madvise(at.as_ptr().cast(), len_bytes, libc::MADV_HUGEPAGE) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(len: u64) -> (MemFile, Mapping) {
        let file = MemFile::create("ndshare:test-memory", len).unwrap();
        let mapping = Mapping::map(&file).unwrap();
        (file, mapping)
    }

    #[test]
    fn commit_makes_pages_present_and_decommit_gives_them_back() {
        let (file, mapping) = mapping(64 << 20);
        assert_eq!(mapping.base().as_ptr() as u64 % HUGE_BYTES, 0);
        mapping.commit(&file, HUGE_BYTES + 5..4 * HUGE_BYTES + 9).unwrap();
        let committed = file.committed_bytes().unwrap();
        assert!((3 * HUGE_BYTES + PAGE_BYTES..=4 * HUGE_BYTES).contains(&committed), "{committed}");
        mapping.decommit(HUGE_BYTES..4 * HUGE_BYTES + PAGE_BYTES);
        assert_eq!(file.committed_bytes().unwrap(), 0);
    }

    #[test]
    fn commit_keeps_content() {
        let (file, mapping) = mapping(8 << 20);
        mapping.commit(&file, 0..PAGE_BYTES).unwrap();
        // SAFETY: the first page is committed and nobody else has it.
        unsafe { mapping.base().as_ptr().add(17).write(42) };
        mapping.commit(&file, 0..8 << 20).unwrap();
        // SAFETY: as above.
        assert_eq!(unsafe { mapping.base().as_ptr().add(17).read() }, 42);
    }

    #[test]
    fn a_readonly_mapping_shows_what_others_write_and_cannot_be_made_writable() {
        let (file, mapping) = mapping(8 << 20);
        let view = Mapping::readonly(&file).unwrap();
        mapping.commit(&file, 0..PAGE_BYTES).unwrap();
        // SAFETY: the first page is committed and mapped in both.
        unsafe {
            mapping.base().as_ptr().write(42);
            assert_eq!(view.base().as_ptr().read_volatile(), 42);
            let refused = libc::mprotect(view.base().as_ptr().cast(), 4096, libc::PROT_READ | libc::PROT_WRITE);
            assert_eq!((refused, std::io::Error::last_os_error().raw_os_error()), (-1, Some(libc::EACCES)));
        }
    }

    #[test]
    fn a_part_is_private_until_it_rejoins() {
        let (file, mapping) = mapping(8 << 20);
        let other = Mapping::map(&file).unwrap();
        mapping.commit(&file, 0..HUGE_BYTES).unwrap();
        let at = |mapping: &Mapping, offset: usize| mapping.base().as_ptr().wrapping_add(offset);
        // SAFETY: the first 2 MiB are committed and mapped in both, whatever is shared of them.
        unsafe {
            at(&mapping, 4096).write(1);
            mapping.part(4096..8192).unwrap();
            assert_eq!(at(&mapping, 4096).read(), 1);
            at(&mapping, 4096).write(2);
            at(&mapping, 8192).write(3);
            assert_eq!((at(&other, 4096).read(), at(&other, 8192).read()), (1, 3));
            mapping.rejoin(&file, 4096..8192).unwrap();
            assert_eq!(at(&mapping, 4096).read(), 1);
            at(&mapping, 4096).write(4);
            assert_eq!(at(&other, 4096).read(), 4);
        }
    }

    #[test]
    fn a_call_that_is_refused_is_told_from_memory_that_there_is_not() {
        let refused = |errno| not_populated(4096, std::io::Error::from_raw_os_error(errno));
        for errno in [libc::ENOSYS, libc::EPERM, libc::EINVAL] {
            let error = refused(errno);
            assert!(matches!(&error, Error::Os(_)) && error.to_string().contains("keeps madvise out"), "{error}");
        }
        for errno in [libc::ENOMEM, libc::EFAULT] {
            assert!(matches!(refused(errno), Error::ArenaFull(full) if full.needed_bytes == Some(4096)));
        }
    }

    #[test]
    fn too_little_room_is_an_error_that_names_the_limit() {
        let error = demand(2 << 20, Room { bytes: 1 << 20, limit: "the limit of a test".into() }).unwrap_err();
        assert!(error.to_string().contains("the limit of a test leaves 1 MiB"), "{error}");
        let Error::ArenaFull(full) = error else { panic!("{error:?}") };
        assert_eq!((full.needed_bytes, full.free_bytes), (Some(2 << 20), Some(1 << 20)));
        assert_eq!(full.limit, "the limit of a test");
    }
}
