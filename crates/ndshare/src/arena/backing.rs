//! Where an arena's memory and its participants' signs of life come from: the operating system, or the heap.
//!
//! The heap twin lets many participants of one process share an arena, so that models, Miri and fuzzers reach all
//! of its code without files, locks or signals. A participant of it dies by being declared dead.

use crate::error::Result;
use crate::os::file::{Anchor, MemFile};
#[cfg(any(test, feature = "internals"))]
use crate::os::memory::guard;
use crate::os::memory::{Mapping, discard};
use crate::os::{HUGE_BYTES, PAGE_BYTES, futex, has_mapped};
use crate::prim::{AtomicBool, AtomicU32, Ordering};
use std::alloc::Layout;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

/// The memory of an arena, and who lives on it.
pub(super) enum Backing {
    Os {
        file: MemFile,
        mapping: Mapping,
        /// Where arrays are, in a process that may only read them; none: in `mapping`, too.
        view: Option<Mapping>,
    },
    Heap(Arc<Heap>),
}

/// The sign of life of one participant; dropping it is an orderly end.
pub(super) enum Sign {
    Os(Anchor),
    Heap(#[allow(dead_code, reason = "kept for its drop")] HeapSign),
    /// A sign of guests on the heap, where tests say who lives.
    Guests,
}

/// No sleep on a word that others can reach lasts longer.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);

/// How many signs of guests a slot may have.
pub(super) const GUEST_SIGNS: u64 = 1 << 16;

/// The byte that stands for the door of a file with a path: beyond all signs.
pub(super) const DOOR: u64 = 1 << 32;

/// The byte of a sign of guests: beyond the bytes of all slots' signs of life.
fn guest_byte(slot: u32, nth: u64) -> u64 {
    GUEST_SIGNS * (u64::from(slot) + 1) + nth % GUEST_SIGNS
}

impl Backing {
    /// Where all words are that processes share.
    pub(super) fn base(&self) -> NonNull<u8> {
        match self {
            Backing::Os { mapping, .. } => mapping.base(),
            Backing::Heap(heap) => heap.base,
        }
    }

    /// Where arrays are.
    pub(super) fn view_base(&self) -> NonNull<u8> {
        match self {
            Backing::Os { view: Some(view), .. } => view.base(),
            _ => self.base(),
        }
    }

    /// Whether this process may only read arrays.
    pub(super) fn is_readonly(&self) -> bool {
        matches!(self, Backing::Os { view: Some(_), .. })
    }

    /// Whether other processes can reach it.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self, Backing::Os { .. })
    }

    pub(super) fn len_bytes(&self) -> u64 {
        match self {
            Backing::Os { mapping, .. } => mapping.len_bytes(),
            Backing::Heap(heap) => heap.len_bytes,
        }
    }

    /// Takes the sign of life of `slot`; none while somebody alive has it. No child gets it.
    pub(super) fn sign(&self, slot: u32) -> Result<Option<Sign>> {
        match self {
            Backing::Os { file, .. } => Ok(file.anchor(slot.into(), false)?.map(Sign::Os)),
            Backing::Heap(heap) => Ok(heap.sign(slot).map(Sign::Heap)),
        }
    }

    /// Takes the `nth` sign of guests of `slot`, which every child gets; none while somebody alive has it. The caller
    /// keeps forks out.
    pub(super) fn guest_sign(&self, slot: u32, nth: u64) -> Result<Option<Sign>> {
        match self {
            Backing::Os { file, .. } => Ok(file.anchor_now(guest_byte(slot, nth), true)?.map(Sign::Os)),
            Backing::Heap(_) => Ok(Some(Sign::Guests)),
        }
    }

    /// Whether the tenant of `slot` lives, as far as its sign of life tells.
    pub(super) fn has_sign(&self, slot: u32) -> Result<bool> {
        match self {
            Backing::Os { file, .. } => file.is_locked(slot.into()..u64::from(slot) + 1),
            Backing::Heap(heap) => Ok(heap.alive[slot as usize].load(Ordering::SeqCst)),
        }
    }

    /// Whether anybody has the `nth` sign of guests of `slot`.
    pub(super) fn has_guest_sign(&self, slot: u32, nth: u64) -> Result<bool> {
        match self {
            Backing::Os { file, .. } => file.is_locked(guest_byte(slot, nth)..guest_byte(slot, nth) + 1),
            // RAW: a word of this process.
            Backing::Heap(heap) => Ok(heap.guests[slot as usize].load(Ordering::SeqCst)),
        }
    }

    /// Whether anybody has any sign of guests of `slot`: the tenant itself, or a guest of it.
    pub(super) fn has_guests(&self, slot: u32) -> Result<bool> {
        match self {
            Backing::Os { file, .. } => file.is_locked(guest_byte(slot, 0)..guest_byte(slot + 1, 0)),
            // RAW: a word of this process.
            Backing::Heap(heap) => Ok(heap.guests[slot as usize].load(Ordering::SeqCst)),
        }
    }

    /// Makes the pages of `range` (file offsets) present.
    pub(super) fn commit(&self, range: Range<u64>) -> Result<()> {
        match self {
            Backing::Os { file, mapping, .. } => mapping.commit(file, range),
            Backing::Heap(_) => Ok(()),
        }
    }

    /// Sets space aside for `range` (file offsets) again, wherever a copy of the file or a cut has left a hole.
    pub(super) fn fill_holes(&self, range: Range<u64>) -> Result<()> {
        match self {
            Backing::Os { file, .. } => file.reserve(&range),
            Backing::Heap(_) => Ok(()),
        }
    }

    /// Whether it outlives the processes that have it, as a file with a path does. So do names in it, and what has one.
    pub(super) fn is_lasting(&self) -> bool {
        match self {
            Backing::Os { file, .. } => file.path().is_some(),
            Backing::Heap(heap) => heap.is_lasting,
        }
    }

    /// Checks that all of it is still there, as far as that can change.
    pub(super) fn check_len(&self) -> Result<()> {
        match self {
            Backing::Os { file, .. } => file.check_len(),
            Backing::Heap(_) => Ok(()),
        }
    }

    /// Whether the process that is `pid` to this one has its file mapped.
    pub(super) fn is_mapped_by(&self, pid: u32) -> bool {
        matches!(self, Backing::Os { .. }) && has_mapped(pid, self.base().addr().get())
    }

    /// Whether anybody takes part in the arena of a file, or is a guest there.
    pub(super) fn has_anybody_in(file: &MemFile, participants: u32) -> Result<bool> {
        file.is_locked(0..guest_byte(participants, 0))
    }

    /// The file of the data, if those have one of their own.
    pub(super) fn data_file(&self) -> Option<&MemFile> {
        match self {
            Backing::Os { file, .. } => file.rest(),
            Backing::Heap(_) => None,
        }
    }

    /// Whether it lies in this file.
    pub(super) fn is_file(&self, other: &MemFile) -> bool {
        matches!(self, Backing::Os { file, .. } if file.is_same_as(other))
    }

    /// Gives whole pages of `range` (file offsets) back. They read as zeros afterwards.
    pub(super) fn decommit(&self, range: Range<u64>) {
        debug_assert!(range.start.is_multiple_of(PAGE_BYTES) && range.end.is_multiple_of(PAGE_BYTES));
        match self {
            Backing::Os { mapping, .. } => mapping.decommit(range),
            Backing::Heap(heap) => heap.zero(range),
        }
    }

    /// Sleeps while `word` is `expected`, at most `timeout`, and never for long: who may only read the word can still have
    /// its sleepers moved to another one, where nobody wakes them.
    pub(super) fn wait(&self, word: &AtomicU32, expected: u32, timeout: Duration) {
        match self {
            Backing::Os { .. } => futex::wait(word, expected, timeout.min(LONGEST_SLEEP)),
            Backing::Heap(_) => std::thread::yield_now(),
        }
    }

    pub(super) fn wake(&self, word: &AtomicU32) {
        if let Backing::Os { .. } = self {
            futex::wake_all(word);
        }
    }

    /// The descriptor that siblings can open in `/proc`.
    pub(super) fn descriptor(&self) -> i32 {
        match self {
            Backing::Os { file, .. } => file.descriptor(),
            Backing::Heap(_) => -1,
        }
    }

    /// Gives this process the whole pages of `range` for itself, and a forked child its own.
    pub(super) fn part(&self, range: Range<u64>) -> Result<()> {
        match self {
            Backing::Os { mapping, .. } => mapping.part(range),
            Backing::Heap(_) => Ok(()),
        }
    }

    /// Ends what `part` began.
    pub(super) fn rejoin(&self, range: Range<u64>) -> Result<()> {
        match self {
            Backing::Os { file, mapping, .. } => mapping.rejoin(file, range),
            Backing::Heap(_) => Ok(()),
        }
    }

    /// Bytes in memory now, control part included.
    pub(super) fn committed_bytes(&self) -> Result<u64> {
        match self {
            Backing::Os { file, .. } => file.committed_bytes(),
            Backing::Heap(heap) => Ok(heap.len_bytes),
        }
    }
}

impl Sign {
    /// Whether a child that is forked from now on gets this sign, too. At first it does not.
    pub(super) fn pass_to_children(&self, pass: bool) -> Result<()> {
        match self {
            Sign::Os(anchor) => anchor.pass_to_children(pass),
            Sign::Heap(_) | Sign::Guests => Ok(()),
        }
    }
}

/// An arena's memory on the heap of one process.
pub struct Heap {
    /// The first multiple of 2 MiB in the allocation: a plainly aligned one is zeroed lazily by the system.
    base: NonNull<u8>,
    len_bytes: u64,
    allocation: NonNull<u8>,
    layout: Layout,
    alive: Vec<AtomicBool>,
    guests: Vec<AtomicBool>,
    is_lasting: bool,
}

// SAFETY: the memory is reached by atomics and raw pointers only, as in a shared mapping.
unsafe impl Send for Heap {}
// SAFETY: as above.
unsafe impl Sync for Heap {}

impl Heap {
    pub(super) fn new(len_bytes: u64, participants: u32, is_lasting: bool) -> Arc<Self> {
        let padded = (len_bytes + HUGE_BYTES) as usize;
        let layout = Layout::from_size_align(padded, 16).expect("an arena's length fits the address space");
        // SAFETY: the layout has a size that is not 0.
        let allocation = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) });
        let allocation = allocation.unwrap_or_else(|| std::alloc::handle_alloc_error(layout));
        let front = allocation.as_ptr().align_offset(HUGE_BYTES as usize);
        // SAFETY: the next multiple of 2 MiB is inside the allocation, which is 2 MiB longer than needed.
        let base = unsafe { allocation.add(front) };
        let [alive, guests] = [(); 2].map(|()| (0..participants).map(|_| AtomicBool::new(false)).collect());
        let heap = Self { base, len_bytes, allocation, layout, alive, guests, is_lasting };
        heap.guard_ends(true);
        Arc::new(heap)
    }

    /// Whoever reads or writes before or behind the arena gets a signal, so that tests see it.
    fn guard_ends(&self, is_closed: bool) {
        #[cfg(any(test, feature = "internals"))]
        if !cfg!(miri) {
            let first =
                self.allocation.as_ptr().wrapping_add(self.allocation.as_ptr().align_offset(PAGE_BYTES as usize));
            let last = self.allocation.as_ptr().wrapping_add(self.layout.size());
            let end = self.base.as_ptr().wrapping_add(self.len_bytes as usize);
            let behind = (last.addr() - end.addr()) / PAGE_BYTES as usize * PAGE_BYTES as usize;
            for (at, len) in [(first, self.base.as_ptr().addr() - first.addr()), (end, behind)] {
                let at = NonNull::new(at).expect("an address inside an allocation");
                // SAFETY: whole pages of this allocation before and behind the arena, which nobody uses.
                unsafe { guard(at, len, is_closed) };
            }
        }
        #[cfg(not(any(test, feature = "internals")))]
        let _ = is_closed;
    }

    /// Declares the participant of `slot` dead, as the kernel would at the end of a process.
    pub fn declare_dead(&self, slot: u32) {
        self.alive[slot as usize].store(false, Ordering::SeqCst);
    }

    /// Declares that the participant of `slot` has guests, or none any more.
    pub fn declare_guests(&self, slot: u32, live: bool) {
        self.guests[slot as usize].store(live, Ordering::SeqCst);
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn is_lasting(&self) -> bool {
        self.is_lasting
    }

    /// The pages right before and right behind the arena.
    #[cfg(test)]
    pub(super) fn guarded_pages(&self) -> [usize; 2] {
        [self.base.addr().get() - PAGE_BYTES as usize, self.base.addr().get() + self.len_bytes as usize]
    }

    /// Gives the pages of a lasting one back, as the file is removed at the end of a test: participants that the test has let
    /// die never leave, and keep the rest.
    #[cfg(test)]
    pub(super) fn remove(&self) {
        // SAFETY: the memory is whole pages; the test has dropped its participants, and the dead never go on.
        unsafe { discard(self.base, self.len_bytes as usize) };
    }

    /// Whether anybody takes part, or is a guest.
    #[cfg(test)]
    pub(super) fn has_anybody(&self) -> bool {
        // RAW: flags of this process.
        self.alive.iter().chain(&self.guests).any(|one| one.load(Ordering::SeqCst))
    }

    fn sign(self: &Arc<Self>, slot: u32) -> Option<HeapSign> {
        let taken = self.alive[slot as usize].swap(true, Ordering::SeqCst);
        (!taken).then(|| HeapSign { heap: self.clone(), slot })
    }

    fn zero(&self, range: Range<u64>) {
        assert!(range.start <= range.end && range.end <= self.len_bytes);
        let len_bytes = (range.end - range.start) as usize;
        // SAFETY: the range lies inside the memory.
        let start = unsafe { self.base.add(range.start as usize) };
        if cfg!(miri) {
            // SAFETY: as above, and the caller gives back only what nobody holds.
            unsafe { start.write_bytes(0, len_bytes) };
        } else {
            // SAFETY: as above; the range is whole pages. To write over them would bring in all that were never touched.
            unsafe { discard(start, len_bytes) };
        }
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        self.guard_ends(false);
        // SAFETY: the memory came from this allocator with this layout, and all arenas on it are gone.
        unsafe { std::alloc::dealloc(self.allocation.as_ptr(), self.layout) };
    }
}

/// The sign of life of a participant on the heap.
pub struct HeapSign {
    heap: Arc<Heap>,
    slot: u32,
}

impl Drop for HeapSign {
    /// When the last one leaves, the pages go: participants that a test has let die never leave, and would keep them.
    fn drop(&mut self) {
        self.heap.declare_dead(self.slot);
        // RAW: flags of this process alone.
        let is_last = self.heap.alive.iter().all(|alive| !alive.load(Ordering::SeqCst));
        if is_last && !self.heap.is_lasting && !cfg!(miri) {
            // SAFETY: the memory is whole pages; who leaves has used it for the last time, and the dead never go on.
            unsafe { discard(self.heap.base, self.heap.len_bytes as usize) };
        }
    }
}
