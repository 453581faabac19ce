//! Allocating blocks and giving them back.
//!
//! A block is reserved under the arena lock, committed outside it, and comes to life with its first hold. A free
//! goes the same way back. What a death leaves half-way is `Reserved` or `Freeing` with the dead one's slot, and
//! the sweep finishes it.

use super::control::{GRANULE_BYTES, Span};
use super::lock::Patience;
use super::private::Mine;
use super::spans::{Need, Outcome, Spans};
use super::{Arena, BlockId, Hold, Keep};
use crate::error::{Error, Kind, Result};
use crate::layout::human;
use crate::os::kill::{Point, point};
use crate::os::{HUGE_BYTES, PAGE_BYTES};
use crate::prim::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::ops::Range;
use std::sync::Arc;

/// The largest alignment of a block.
pub const MAX_ALIGN: usize = HUGE_BYTES as usize;
/// The table of blocks is committed in steps of so many.
const TABLE_STEP: u32 = 512;

/// A block that this participant has reserved.
struct Reserved {
    index: u32,
    warm: bool,
}

impl Arena {
    /// A new block of at least `len_bytes` at a multiple of `align`, with its memory committed. With `zero` its
    /// first `len_bytes` are zeros, otherwise they are what the last user left.
    ///
    /// # Errors
    /// `InvalidValue` for an alignment that is no power of two up to 2 MiB; `ArenaFull` with the limit and the
    /// largest holders; what `patience` says.
    pub fn alloc(self: &Arc<Self>, len_bytes: usize, align: usize, zero: bool, patience: &Patience) -> Result<Hold> {
        let need = self.parse_need(len_bytes, align)?;
        if let Some(hold) = self.take_quick(need) {
            return Ok(hold.zeroed(zero.then_some(len_bytes)));
        }
        self.sweep_now_and_then()?;
        let (reserved, span) = match self.reserve_and_commit(need, patience) {
            Err(error) if error.kind() == Kind::ArenaFull => {
                // Committing may fail although the arena has warm blocks, which the same limit pays for.
                self.make_room(u64::MAX, patience)?;
                self.reserve_and_commit(need, patience).map_err(|error| self.explain(error, len_bytes))?
            }
            other => other?,
        };
        let dirty = reserved.warm || !is_whole_pages(span);
        let hold = self.publish(Mine { index: reserved.index, span })?;
        Ok(hold.zeroed((zero && dirty).then_some(len_bytes)))
    }

    /// A small block that this process kept ready, or none. Never waits and makes no system call.
    #[inline]
    pub fn alloc_quick(self: &Arc<Self>, len_bytes: usize, align: usize) -> Option<Hold> {
        self.take_quick(self.parse_need(len_bytes, align).ok()?)
    }

    fn parse_need(&self, len_bytes: usize, align: usize) -> Result<Need> {
        if !align.is_power_of_two() || align > MAX_ALIGN {
            return Err(Error::value(format!(
                "expected an alignment that is a power of two up to {MAX_ALIGN} bytes, got {align}"
            )));
        }
        let fits = |need: &Need| need.len_bytes() <= self.budget_bytes();
        Need::new(len_bytes as u64, align as u64).filter(fits).ok_or_else(|| {
            let text = format!("{} is more than the whole budget of {}", human(len_bytes as u64), self.named_budget());
            self.explain(Error::new(Kind::ArenaFull, text), len_bytes)
        })
    }

    fn take_quick(self: &Arc<Self>, need: Need) -> Option<Hold> {
        let slot = self.slot().ok()?;
        let mut private = self.private.lock();
        let mine = private.pop_quick(need.granules, need.align_granules)?;
        let block = self.control.block(mine.index).ok()?;
        block.lock.store(0, Relaxed);
        let generation = block.words().bring_to_life(slot, Point::QuickHeld);
        point(Point::QuickLive);
        private.set_first(mine.index, generation);
        drop(private);
        Some(self.hold(mine, generation))
    }

    fn reserve_and_commit(&self, need: Need, patience: &Patience) -> Result<(Reserved, Span)> {
        let reserved = self.reserve(need, patience)?;
        let span = self.control.checked_span(self.control.block(reserved.index)?)?;
        if !reserved.warm {
            point(Point::AllocCommitting);
            if let Err(error) = self.backing.commit(self.file_range(span)) {
                self.abandon(reserved.index)?;
                return Err(error);
            }
        }
        point(Point::AllocCommitted);
        Ok((reserved, span))
    }

    fn publish(self: &Arc<Self>, mine: Mine) -> Result<Hold> {
        let slot = self.slot()?;
        let mut private = self.private.lock();
        let block = self.control.block(mine.index)?;
        block.lock.store(0, Relaxed);
        let generation = block.words().bring_to_life(slot, Point::AllocHeld);
        point(Point::AllocLive);
        private.insert(mine, generation);
        drop(private);
        Ok(self.hold(mine, generation))
    }

    /// The block that others are found by, made with `len_bytes` zeros if nobody keeps one.
    ///
    /// # Errors
    /// As [`Self::alloc`].
    pub fn root(self: &Arc<Self>, len_bytes: usize, patience: &Patience) -> Result<Hold> {
        let root = &self.control.header().root;
        loop {
            let seen = root.load(Acquire);
            if let Some(block) = BlockId::from_word(seen) {
                // Sweeps the dead; what they alone held is gone then.
                let _ = self.is_kept_by_others(block)?;
                match self.take(block) {
                    Err(error) if error.kind() == Kind::Stale => {}
                    taken => return taken,
                }
            }
            let fresh = self.alloc(len_bytes, 64, true, patience)?;
            // Release, read by the Acquire above: who sees the name sees the zeros.
            if root.compare_exchange(seen, fresh.block().to_word(), Release, Relaxed).is_ok() {
                point(Point::RootMade);
                return Ok(fresh);
            }
        }
    }

    // ---- reserving

    fn reserve(&self, need: Need, patience: &Patience) -> Result<Reserved> {
        for made_room in [false, true] {
            let lacking = match self.try_reserve(need, patience)? {
                Outcome::Got { index, warm } => return Ok(Reserved { index, warm }),
                Outcome::OverBudget { by_bytes } => by_bytes,
                Outcome::NoGap | Outcome::NeedsTable => u64::MAX,
            };
            if made_room {
                break;
            }
            self.make_room(lacking, patience)?;
        }
        let text = format!(
            "{} of {} are in use, and {} more do not fit",
            human(self.used_bytes()),
            self.named_budget(),
            human(need.len_bytes())
        );
        Err(Error::new(Kind::ArenaFull, text))
    }

    fn try_reserve(&self, need: Need, patience: &Patience) -> Result<Outcome> {
        loop {
            let lock = self.lock(patience)?;
            let outcome = Spans::new(&self.control).reserve(need, self.slot()?)?;
            drop(lock);
            if outcome != Outcome::NeedsTable || !self.grow_table(patience)? {
                return Ok(outcome);
            }
        }
    }

    /// Commits more of the table of blocks. False: it is at its end.
    fn grow_table(&self, patience: &Patience) -> Result<bool> {
        let geometry = self.control.geometry();
        let ready = &self.control.span_header().ready;
        let from = ready.load(Acquire).min(geometry.blocks);
        let to = (from + TABLE_STEP).min(geometry.blocks);
        if from == to {
            return Ok(false);
        }
        let entry = |index: u32| geometry.blocks_at() + u64::from(index) * size_of::<super::control::Block>() as u64;
        self.backing.commit(entry(from)..entry(to))?;
        point(Point::GrowCommitted);
        let lock = self.lock(patience)?;
        // Two processes may have committed the same step; the table only ever grows.
        if ready.load(Acquire) < to {
            ready.store(to, Release);
        }
        point(Point::GrowReady);
        drop(lock);
        Ok(true)
    }

    /// Gives warm blocks back; then what the dead held; then what the dead sent and nobody claimed. Stops when
    /// `bytes` came free.
    pub(super) fn make_room(&self, bytes: u64, patience: &Patience) -> Result<()> {
        let mut freed = self.trim(bytes, patience)?;
        if freed < bytes {
            self.flush_quick()?;
            self.sweep_all()?;
            freed += self.trim(bytes - freed, patience)?;
        }
        if self.used_bytes() > 0 && freed < bytes {
            self.reclaim_undeliverable(patience)?;
            self.reclaim_from_the_dead(patience)?;
            self.trim(bytes - freed, patience)?;
        }
        Ok(())
    }

    fn trim(&self, bytes: u64, patience: &Patience) -> Result<u64> {
        let mut freed = 0;
        while freed < bytes {
            let lock = self.lock(patience)?;
            let warm = Spans::new(&self.control).trim(self.slot()?)?;
            drop(lock);
            let Some(index) = warm else { break };
            freed += self.control.block(index)?.span().len_bytes();
            self.give_back(index)?;
        }
        Ok(freed)
    }

    // ---- giving back

    /// Gives one reference of this process to `index` back; with the last one the hold, and perhaps the block.
    pub(super) fn release(&self, mine: Mine) {
        let (index, span) = (mine.index, mine.span);
        // In a child that has no slot the memory is private by now; after a raw clone even the mutex may be one
        // that nobody will open.
        let (Ok(slot), Ok(block)) = (self.slot(), self.control.block(index)) else { return };
        let words = block.words();
        let mut private = self.private.lock();
        if private.remove_reference(index) > 0 {
            return;
        }
        if private.unwatch(index) {
            private.forget(mine);
            drop(private);
            // Without its own pages the block is of no use to anybody in this process, so it stays ours.
            if self.backing.rejoin(self.file_range(span)).is_ok() {
                words.clear_bit(slot);
                point(Point::DropCleared);
                let _ = self.try_free(index, Keep::Warm);
            }
            return;
        }
        words.clear_bit(slot);
        point(Point::QuickCleared);
        if words.records.load(SeqCst) > 0 {
            // Whoever ends the last record looks whether anybody holds the block, and frees it.
            private.remember(mine);
            return;
        }
        let plain = block.is_parent.load(SeqCst) == 0;
        if plain && private.has_quick_room(span) && words.claim_to_reuse(slot) {
            point(Point::QuickKept);
            private.push_quick(mine);
            return;
        }
        private.forget(mine);
        drop(private);
        point(Point::DropCleared);
        // A poisoned arena keeps the block; there is nobody here to tell.
        let _ = self.try_free(index, Keep::Warm);
    }

    /// Frees a block if nobody keeps it. False: somebody does, or somebody else frees it.
    pub(super) fn try_free(&self, index: u32, keep: Keep) -> Result<bool> {
        if !self.control.block(index)?.words().claim_to_free(self.slot()?) {
            return Ok(false);
        }
        point(Point::FreeClaimed);
        self.retire(index, keep)?;
        Ok(true)
    }

    /// Ends a block that this participant owns as `Freeing`.
    pub(super) fn retire(&self, index: u32, keep: Keep) -> Result<()> {
        self.leave_children(index)?;
        if keep == Keep::Warm {
            let lock = self.lock(&Patience::forever())?;
            let kept = Spans::new(&self.control).keep_warm(index)?;
            drop(lock);
            if kept {
                return Ok(());
            }
        }
        self.give_back(index)
    }

    /// Gives the pages of a block that this participant owns as `Freeing` back, then its span.
    ///
    /// A page shared with a neighbour goes back with the later of the two. The neighbour may become a gap while
    /// this one's pages are on their way, so the look is repeated until nothing is left to do.
    pub(super) fn give_back(&self, index: u32) -> Result<()> {
        self.leave_children(index)?;
        let mut done = Span::default();
        loop {
            let lock = self.lock(&Patience::forever())?;
            let spans = Spans::new(&self.control);
            let pages = spans.grow_to_pages(index)?;
            if pages == done || pages.granules == 0 {
                spans.release(index)?;
                drop(lock);
                return Ok(());
            }
            drop(lock);
            self.backing.decommit(self.file_range(pages));
            point(Point::FreePunched);
            done = pages;
        }
    }

    /// Undoes a reservation whose memory could not be had.
    fn abandon(&self, index: u32) -> Result<()> {
        let slot = self.slot()?;
        self.control.block(index)?.words().inherit(slot, slot);
        self.give_back(index)
    }

    // ---- small things

    pub(super) fn file_range(&self, span: Span) -> Range<u64> {
        self.control.file_offset(span.start)..self.control.file_offset(span.end())
    }

    fn used_bytes(&self) -> u64 {
        self.control.span_header().used.load(Relaxed).saturating_mul(GRANULE_BYTES)
    }

    fn named_budget(&self) -> String {
        format!("{} ({})", human(self.budget_bytes()), self.limit_name())
    }

    /// The error with the largest holders added, so that the reader knows whom to ask.
    fn explain(&self, error: Error, len_bytes: usize) -> Error {
        let text = format!(
            "no room for {}: {error}. {}. Drop arrays, take undelivered ones back with reclaim(), or raise the limit",
            human(len_bytes as u64),
            self.largest_holders()
        );
        Error::new(error.kind(), text)
    }

    pub(super) fn hold(self: &Arc<Self>, mine: Mine, generation: u32) -> Hold {
        Hold { arena: self.clone(), mine, generation }
    }
}

pub(super) fn is_whole_pages(span: Span) -> bool {
    let page = (PAGE_BYTES / GRANULE_BYTES) as u32;
    span.start.is_multiple_of(page) && span.end().is_multiple_of(page)
}
