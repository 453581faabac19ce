//! One reference of this process to a block, and how references are found and made.

use super::control::{GRANULE_BYTES, Span, is_whole_pages};
use super::deadline::Deadline;
use super::ids::{BlockId, TicketId};
use super::private::{Judge, Mine};
use super::state::Arena;
use crate::error::{Error, Kind, Result};
use crate::layout::human;
use crate::prim::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// One reference of this process to a block. A clone is another one; dropping it gives it back.
pub struct Hold {
    pub(super) arena: Arc<Arena>,
    pub(super) mine: Mine,
    generation: u32,
}

impl Hold {
    /// The arena of the block.
    pub fn arena(&self) -> &Arc<Arena> {
        &self.arena
    }

    /// The block's name.
    pub fn block(&self) -> BlockId {
        BlockId { index: self.mine.index, generation: self.generation }
    }

    /// The first byte of the block in this process. To be read only where [`Self::is_readonly`].
    pub fn as_ptr(&self) -> *mut u8 {
        self.arena.address(self.mine.span)
    }

    /// Where the block begins in the data, in bytes.
    pub(crate) fn place(&self) -> u64 {
        u64::from(self.mine.span.start) * GRANULE_BYTES
    }

    /// Whether this process may only read the block: writing at its address ends the process.
    #[inline]
    pub fn is_readonly(&self) -> bool {
        self.arena.is_readonly()
    }

    /// The length of the block in bytes, as rounded up at allocation.
    pub fn len_bytes(&self) -> usize {
        self.mine.span.len_bytes() as usize
    }

    /// A ticket that keeps the block for the receiver of this reference; none when the ticket budget is used up,
    /// and the content must travel instead.
    ///
    /// # Errors
    /// `Poisoned`; `Attach` in a process without a slot; `Timeout` at `deadline`.
    pub fn issue(&self, deadline: &Deadline) -> Result<Option<TicketId>> {
        self.arena.issue(self.block(), deadline)
    }

    /// Makes this block the parent of `child`: it keeps the child until the returned record is given to
    /// [`Self::disown`], or it goes itself.
    ///
    /// # Errors
    /// `ArenaFull` when the table of records is full; as [`Self::issue`].
    #[doc(hidden)]
    pub fn adopt(&self, child: &Hold, deadline: &Deadline) -> Result<TicketId> {
        let record = self.arena.adopt(self.block(), child.block(), deadline)?;
        record.ok_or_else(|| {
            Error::new(
                Kind::ArenaFull,
                "the arena's table of records is full: expected a free one; drop rings or caches",
            )
        })
    }

    /// Ends the record by which a block keeps another one.
    ///
    /// # Errors
    /// As [`Self::issue`].
    #[doc(hidden)]
    pub fn disown(&self, record: TicketId, deadline: &Deadline) -> Result<()> {
        self.arena.disown(record, deadline)
    }

    /// The first half of [`Self::disown`]: ends the record. Whoever calls gives the returned block to
    /// [`Arena::free_unkept`] soon; should it die before, the sweep does that.
    ///
    /// # Errors
    /// As [`Self::issue`].
    #[doc(hidden)]
    pub fn end_record(&self, record: TicketId, deadline: &Deadline) -> Result<Option<u32>> {
        self.arena.end_record(record, deadline)
    }

    /// The records by which this block keeps others, and those others.
    ///
    /// # Errors
    /// `Poisoned`.
    pub fn children(&self) -> Result<Vec<(TicketId, BlockId)>> {
        self.arena.children(self.block())
    }

    /// Whether anybody holds the block, as far as one look can tell.
    pub fn is_held(arena: &Arena, block: BlockId) -> bool {
        arena.control.block_quietly(block.index).is_some_and(|shared| shared.words().is_held())
    }

    /// The whole block as 64-bit words, for protocols that live in a block.
    pub fn words(&self) -> &[AtomicU64] {
        self.arena.words_in(self.mine.span)
    }

    /// The `index`th 64-bit word of the block.
    ///
    /// # Errors
    /// `InvalidValue` beyond the end of the block.
    pub fn word(&self, index: usize) -> Result<&AtomicU64> {
        self.words().get(index).ok_or_else(|| {
            Error::value(format!("expected a word of a block of {} bytes, got {index}", self.len_bytes()))
        })
    }

    /// The low half of a word, as futexes want it.
    ///
    /// # Errors
    /// `InvalidValue` beyond the end of the block.
    #[doc(hidden)]
    pub fn half_word(&self, index: usize) -> Result<&AtomicU32> {
        self.low_half(index)
    }

    /// Waits until somebody calls [`Self::wake`] on the low half of a word that is no longer `seen`, for one nap.
    ///
    /// # Errors
    /// `InvalidValue` beyond the end of the block.
    #[doc(hidden)]
    pub fn nap_on(&self, index: usize, seen: u32, deadline: &Deadline) -> Result<()> {
        self.nap_long_on(index, seen, deadline, Duration::from_millis(20))
    }

    /// As [`Self::nap_on`], for a nap of at most `longest`.
    ///
    /// # Errors
    /// `InvalidValue` beyond the end of the block.
    #[doc(hidden)]
    pub fn nap_long_on(&self, index: usize, seen: u32, deadline: &Deadline, longest: Duration) -> Result<()> {
        self.arena.backing.wait(self.low_half(index)?, seen, deadline.nap(longest));
        Ok(())
    }

    /// Wakes everybody who naps on a word.
    ///
    /// # Errors
    /// `InvalidValue` beyond the end of the block.
    pub fn wake(&self, index: usize) -> Result<()> {
        self.arena.backing.wake(self.low_half(index)?);
        Ok(())
    }

    fn low_half(&self, index: usize) -> Result<&AtomicU32> {
        let word = std::ptr::from_ref(self.word(index)?).cast_mut().cast::<u32>();
        // SAFETY: the low half of a little-endian word is its first 32 bits; it is only ever accessed by atomics.
        Ok(unsafe { AtomicU32::from_ptr(word) })
    }

    /// Makes an idle block of this process's own under a new generation, so that it can be written again: nobody
    /// else holds it, and exactly one record keeps it. None when that is not so.
    ///
    /// # Errors
    /// `Attach` in a process without a slot.
    #[doc(hidden)]
    pub fn recycle(arena: &Arc<Arena>, block: BlockId) -> Result<Option<Self>> {
        arena.recycle(block)
    }

    /// Sweeps the dead among the holders of the block, and says whether anybody else alive holds it.
    ///
    /// # Errors
    /// `Poisoned`; `Attach` in a process without a slot.
    #[doc(hidden)]
    pub fn has_other_holders(&self) -> Result<bool> {
        self.arena.has_other_holders(self.mine.index)
    }

    /// Gives the reference away as the address of the block, for code that keeps nothing but addresses.
    /// [`Arena::take_back`] makes it a hold again.
    pub fn into_address(self) -> *mut u8 {
        std::mem::ManuallyDrop::new(self).as_ptr()
    }

    /// From now on `judge` says before each fork whether the block holds pointers into this process. If so, parent and
    /// child go on with copies of their own, as with ordinary memory; the block is not found by address any more.
    ///
    /// # Errors
    /// `InvalidValue` unless the block has whole pages, and none that others use.
    #[doc(hidden)]
    pub fn watch(&self, judge: Judge) -> Result<()> {
        if !is_whole_pages(self.mine.span) {
            return Err(Error::value("expected a block of whole pages to watch: make it a multiple of 4096 bytes"));
        }
        self.arena.private.lock().watch(self.mine.index, judge);
        Ok(())
    }

    /// Whether nothing but this process keeps the block: no record, and no other holder alive.
    ///
    /// # Errors
    /// As [`Self::has_other_holders`].
    #[doc(hidden)]
    pub fn is_private(&self) -> Result<bool> {
        let records = &self.arena.control.block(self.mine.index)?.records;
        Ok(records.load(SeqCst) == 0 && !self.has_other_holders()?)
    }

    /// Whether nobody else has the block: no other process, no record, and no other reference in this process.
    ///
    /// # Errors
    /// As [`Self::has_other_holders`].
    pub(crate) fn is_only_reference(&self) -> Result<bool> {
        // First, so that nobody else in this process can make another meanwhile: it would have to have one.
        let references = self.arena.private.lock().references(self.mine.index);
        Ok(references == 1 && self.is_private()?)
    }

    pub(super) fn zeroed(self, len_bytes: Option<usize>) -> Self {
        if let Some(len) = len_bytes {
            // SAFETY: the block has at least `len` committed bytes, and nobody else knows of it yet.
            unsafe { self.arena.address_of_words(self.mine.span).write_bytes(0, len) };
        }
        self
    }
}

impl Clone for Hold {
    fn clone(&self) -> Self {
        self.arena.private.lock().add_reference(self.mine.index);
        Self { arena: self.arena.clone(), ..*self }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.arena.release(self.mine);
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Hold block {} {}>", self.mine.index, human(self.len_bytes() as u64))
    }
}

impl Arena {
    /// The words in a span of the data.
    pub(super) fn words_in(&self, span: Span) -> &[AtomicU64] {
        let (first, words) = (self.address_of_words(span), span.len_bytes() as usize / 8);
        // SAFETY: every span was checked to lie inside the data part, all of which is mapped as long as the arena lives; it
        // starts at a multiple of 1 KiB; atomics may be written by anybody at any time, and this address by every participant.
        unsafe { std::slice::from_raw_parts(first.cast::<AtomicU64>(), words) }
    }

    pub(super) fn hold(self: &Arc<Self>, mine: Mine, generation: u32) -> Hold {
        Hold { arena: self.clone(), mine, generation }
    }

    /// A new reference to the block that has all of `len_bytes` at `address`, if this process holds one.
    pub(super) fn find_block(self: &Arc<Self>, address: usize, len_bytes: usize) -> Option<Hold> {
        let first = (address - self.base().addr()) as u64;
        let last = first + (len_bytes as u64).max(1) - 1;
        let granule = |offset: u64| u32::try_from(offset / GRANULE_BYTES).ok();
        let mut private = self.private.lock();
        let mine = private.find(granule(first)?, granule(last)?)?;
        if private.is_parted(mine.index) {
            return None;
        }
        private.add_reference(mine.index);
        let generation = private.generation(mine.index);
        drop(private);
        Some(self.hold(mine, generation))
    }

    /// The reference that [`Hold::into_address`] gave away. None when no block of this process begins at `address`,
    /// and in the child of a raw `clone`, where nobody may look.
    ///
    /// # Safety
    /// If a block of this arena begins at `address`, then a reference to it was given away as this address, and was
    /// not taken back since, in this process or, before a fork, in the parent.
    #[doc(hidden)]
    pub unsafe fn take_back(self: &Arc<Self>, address: usize) -> Option<Hold> {
        if !self.contains(address) || !crate::os::fork::is_known() {
            return None;
        }
        let offset = (address - self.base().addr()) as u64;
        let granule = u32::try_from(offset / GRANULE_BYTES).ok().filter(|_| offset.is_multiple_of(GRANULE_BYTES))?;
        let private = self.private.lock();
        let mine = private.find(granule, granule).filter(|mine| mine.span.start == granule)?;
        let generation = private.generation(mine.index);
        drop(private);
        // SAFETY: the hold that was given away kept a strong reference to the arena, which this one takes over.
        let arena = unsafe { Arc::from_raw(Arc::as_ptr(self)) };
        Some(Hold { arena, mine, generation })
    }
}
