//! Allocating blocks and giving them back.
//!
//! A block is reserved under the arena lock, committed outside it, and comes to life with its first hold. A free
//! goes the same way back. What a death leaves half-way is `Reserved` or `Freeing` with the dead one's slot, and
//! the sweep finishes it.
//!
//! Giving back never waits, because the owner of the arena lock may be stopped, for hours. A block that nobody keeps
//! stays live while the lock is taken: this process has it in a private list, and frees it when it finds the lock
//! free; before the arena is full, and for a report, everybody looks for such blocks.

use super::control::{GRANULE_BYTES, Span, is_whole_pages};
use super::deadline::Deadline;
use super::hold::Hold;
use super::ids::BlockId;
use super::lock::ArenaLock;
use super::private::{Deferred, Mine};
use super::spans::{Need, Outcome, Spans};
use super::state::Arena;
use super::word::State;
use crate::error::{ArenaFull, Error, Kind, Result};
use crate::layout::human;
use crate::os::HUGE_BYTES;
use crate::os::kill::{Point, point};
use crate::prim::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::ops::Range;
use std::sync::Arc;

/// The largest alignment of a block.
pub const MAX_ALIGN: usize = HUGE_BYTES as usize;
/// The table of blocks is committed in steps of so many.
const TABLE_STEP: u32 = 512;
/// How many deferred blocks are looked at on the way of something else.
const DEFERRED_LOOKS: usize = 8;
/// How often the pages of a block can grow while it is given back: into a gap before it, and into one behind it.
const PAGE_ROUNDS: u32 = 4;
/// How often others may be faster in making the root.
const ROOT_ROUNDS: u32 = 1000;

/// Whether a freed block's pages may be kept for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    Warm,
    /// A device of the dead may still be writing: the pages go at once.
    Nothing,
}

/// A block that this participant has reserved.
struct Reserved {
    mine: Mine,
    warm: bool,
}

impl Arena {
    /// A new block of at least `len_bytes` at a multiple of `align`, with its memory committed. With `zero` its
    /// first `len_bytes` are zeros, otherwise they are what the last user left.
    ///
    /// # Errors
    /// `InvalidValue` for an alignment that is no power of two up to 2 MiB; `ArenaFull` with the limit and the
    /// largest holders; `ReadOnly` in an arena that this process joined to read only; `Timeout` at `deadline`.
    pub fn alloc(self: &Arc<Self>, len_bytes: usize, align: usize, zero: bool, deadline: &Deadline) -> Result<Hold> {
        self.check_writable("a new block")?;
        self.alloc_words(len_bytes, align, zero, deadline)
    }

    /// The same of words that say who takes part in what, such as a reader's token; also where this process may only read
    /// arrays.
    ///
    /// # Errors
    /// As [`Self::alloc`], but for `ReadOnly`.
    #[doc(hidden)]
    pub fn alloc_words(
        self: &Arc<Self>,
        len_bytes: usize,
        align: usize,
        zero: bool,
        deadline: &Deadline,
    ) -> Result<Hold> {
        let need = self.parse_need(len_bytes, align)?;
        if let Some(hold) = self.take_quick(need) {
            return Ok(hold.zeroed(zero.then_some(len_bytes)));
        }
        self.backing.check_len()?;
        self.sweep_now_and_then()?;
        self.work_off(DEFERRED_LOOKS, &Deadline::now())?;
        let Reserved { mine, warm } = match self.reserve_and_commit(need, deadline) {
            Err(error) if error.kind() == Kind::ArenaFull => {
                // Committing may fail although the arena has warm blocks, which the same limit pays for.
                self.make_room(u64::MAX, deadline)?;
                let again = self.reserve_and_commit(need, deadline);
                again
                    .or_else(|error| self.reserve_relieved(error, need, deadline))
                    .map_err(|error| self.explain(error, len_bytes))?
            }
            other => other?,
        };
        let dirty = warm || !is_whole_pages(mine.span);
        let hold = self.make_live(mine)?;
        Ok(hold.zeroed((zero && dirty).then_some(len_bytes)))
    }

    /// A small block that this process kept ready, or none. Never waits and makes no system call.
    #[inline]
    #[doc(hidden)]
    pub fn alloc_quick(self: &Arc<Self>, len_bytes: usize, align: usize) -> Option<Hold> {
        if self.is_readonly() {
            return None;
        }
        self.take_quick(self.parse_need(len_bytes, align).ok()?)
    }

    /// The same with `len_bytes` zeros.
    #[inline]
    #[doc(hidden)]
    pub fn alloc_quick_zeros(self: &Arc<Self>, len_bytes: usize, align: usize) -> Option<Hold> {
        self.alloc_quick(len_bytes, align).map(|hold| hold.zeroed(Some(len_bytes)))
    }

    fn parse_need(self: &Arc<Self>, len_bytes: usize, align: usize) -> Result<Need> {
        if !align.is_power_of_two() || align > MAX_ALIGN {
            return Err(Error::value(format!(
                "expected an alignment that is a power of two up to {MAX_ALIGN} bytes, got {align}"
            )));
        }
        let fits = |need: &Need| need.len_bytes() <= self.budget_bytes();
        Need::new(len_bytes as u64, align as u64).filter(fits).ok_or_else(|| {
            let text = format!("{} is more than the whole budget of {}", human(len_bytes as u64), self.named_budget());
            self.explain(self.full(text, len_bytes as u64), len_bytes)
        })
    }

    fn take_quick(self: &Arc<Self>, need: Need) -> Option<Hold> {
        let slot = self.slot().ok()?;
        let mut private = self.private.lock();
        let mine = private.pop_quick(need.granules, need.align_granules)?;
        if private.references(mine.index) > 0 {
            self.control.poison("a block that is kept ready was taken");
            return None;
        }
        let block = self.control.block(mine.index).ok()?;
        block.lock.store(0, Relaxed);
        block.mark.store(0, Relaxed);
        let generation = block.words().bring_to_life(slot, Point::QuickHeld);
        point(Point::QuickLive);
        private.set_first(mine, generation);
        drop(private);
        Some(self.hold(mine, generation))
    }

    fn reserve_and_commit(&self, need: Need, deadline: &Deadline) -> Result<Reserved> {
        let reserved = self.reserve(need, deadline)?;
        if !reserved.warm {
            point(Point::AllocCommitting);
            if let Err(error) = self.backing.commit(self.file_range(reserved.mine.span)) {
                self.abandon(reserved.mine.index)?;
                return Err(error);
            }
        }
        point(Point::AllocCommitted);
        Ok(reserved)
    }

    /// Has memory given up by those who can spare it, until `need` fits or nothing is left: as much as is needed, then
    /// more, for what came free may lie in pieces.
    fn reserve_relieved(self: &Arc<Self>, mut error: Error, need: Need, deadline: &Deadline) -> Result<Reserved> {
        let mut wanted = need.len_bytes();
        // BOUND: each round frees something that was there before, and asks for twice as much.
        while error.kind() == Kind::ArenaFull && self.ask_for(wanted, deadline)? > 0 {
            match self.reserve_and_commit(need, deadline) {
                Err(again) => error = again,
                reserved => return reserved,
            }
            wanted = wanted.saturating_mul(2);
        }
        Err(error)
    }

    fn make_live(self: &Arc<Self>, mine: Mine) -> Result<Hold> {
        let slot = self.slot()?;
        let mut private = self.private.lock();
        let block = self.control.block(mine.index)?;
        block.lock.store(0, Relaxed);
        block.mark.store(0, Relaxed);
        let generation = block.words().bring_to_life(slot, Point::AllocHeld);
        point(Point::AllocLive);
        let is_apart = private.insert(mine, generation);
        drop(private);
        if is_apart { Ok(self.hold(mine, generation)) } else { Err(self.refuse_overlap(mine, slot)) }
    }

    /// Gives up a block whose span lies over one that this process has.
    #[cold]
    pub(super) fn refuse_overlap(&self, mine: Mine, slot: u32) -> Error {
        if let Ok(block) = self.control.block(mine.index) {
            // NO POINT: the arena is poisoned for good, whoever dies.
            block.words().clear_bit(slot);
        }
        self.control.poison("two blocks lie over each other")
    }

    /// The block that others are found by, made with `len_bytes` zeros if nobody keeps one. That of a lasting arena keeps
    /// itself, by a record.
    ///
    /// # Errors
    /// As [`Self::alloc`].
    #[doc(hidden)]
    pub fn root(self: &Arc<Self>, len_bytes: usize, deadline: &Deadline) -> Result<Hold> {
        let root = self.find_or_make_root(len_bytes, deadline)?;
        if self.is_lasting() && !self.control.block(root.block().index)?.words().is_recorded() {
            // Two of these do no harm.
            root.adopt(&root, deadline)?;
        }
        Ok(root)
    }

    fn find_or_make_root(self: &Arc<Self>, len_bytes: usize, deadline: &Deadline) -> Result<Hold> {
        let root = &self.control.header().root;
        for _ in 0..ROOT_ROUNDS {
            // RAW: a name, which is looked up.
            let seen = root.load(Acquire);
            if let Some(block) = BlockId::from_word(seen) {
                // Sweeps the dead; what they alone held is gone then.
                let _ = self.is_kept_by_others(block)?;
                match self.take(block) {
                    Err(error) if error.kind() == Kind::Stale => {}
                    Ok(hold) if hold.len_bytes() < len_bytes => {
                        return Err(self.control.poison("the root names a block that is none"));
                    }
                    taken => return taken,
                }
            }
            let fresh = self.alloc_words(len_bytes, 64, true, deadline)?;
            // Release, read by the Acquire above: who sees the name sees the zeros.
            if root.compare_exchange(seen, fresh.block().to_word(), Release, Relaxed).is_ok() {
                point(Point::RootMade);
                return Ok(fresh);
            }
        }
        Err(self.control.poison("the root changes all the time"))
    }

    // ---- reserving

    fn reserve(&self, need: Need, deadline: &Deadline) -> Result<Reserved> {
        for made_room in [false, true] {
            let lacking = match self.try_reserve(need, deadline)? {
                Outcome::Got { index, span, warm } => return Ok(Reserved { mine: Mine { index, span }, warm }),
                Outcome::OverBudget { by_bytes } => by_bytes,
                Outcome::NoGap | Outcome::NeedsTable => u64::MAX,
            };
            if made_room {
                break;
            }
            self.make_room(lacking, deadline)?;
        }
        let text = format!(
            "{} of {} are in use, and {} more do not fit",
            human(self.used_bytes()),
            self.named_budget(),
            human(need.len_bytes())
        );
        Err(self.full(text, need.len_bytes()))
    }

    /// The error of an arena whose budget has no room for `needed` bytes.
    fn full(&self, text: String, needed: u64) -> Error {
        let (budget, used) = (self.budget_bytes(), self.used_bytes());
        let (limit_bytes, free_bytes) = (Some(budget), Some(budget.saturating_sub(used)));
        let (needed_bytes, limit) = (Some(needed), self.limit_name());
        ArenaFull { needed_bytes, free_bytes, limit_bytes, limit, ..ArenaFull::saying(text) }.into()
    }

    fn try_reserve(&self, need: Need, deadline: &Deadline) -> Result<Outcome> {
        // BOUND: each round commits a step of the table, which has an end.
        loop {
            let lock = self.lock(deadline)?;
            let outcome = Spans::new(&self.control).reserve(need, self.slot()?)?;
            drop(lock);
            if outcome != Outcome::NeedsTable || !self.grow_table(deadline)? {
                return Ok(outcome);
            }
        }
    }

    /// Commits more of the table of blocks. False: it is at its end.
    fn grow_table(&self, deadline: &Deadline) -> Result<bool> {
        let geometry = self.control.geometry();
        let from = self.control.blocks_ready();
        let to = (from + TABLE_STEP).min(geometry.blocks);
        if from == to {
            return Ok(false);
        }
        let entry = |index: u32| geometry.blocks_at() + u64::from(index) * size_of::<super::control::Block>() as u64;
        self.backing.commit(entry(from)..entry(to))?;
        point(Point::GrowCommitted);
        let lock = self.lock(deadline)?;
        // Two processes may have committed the same step; the table only ever grows.
        if self.control.blocks_ready() < to {
            self.control.span_header().ready.store(to, Release);
        }
        point(Point::GrowReady);
        drop(lock);
        Ok(true)
    }

    /// Gives warm blocks back; then what nobody keeps and the dead held; then what the dead sent and nobody claimed.
    /// Stops when `bytes` came free.
    pub(super) fn make_room(&self, bytes: u64, deadline: &Deadline) -> Result<()> {
        let mut freed = self.trim(bytes, deadline)?;
        if freed < bytes {
            self.flush_quick()?;
            self.sweep_all()?;
            self.work_off(usize::MAX, deadline)?;
            self.free_unkept_ones(deadline)?;
            freed = freed.saturating_add(self.trim(bytes - freed, deadline)?);
        }
        if self.used_bytes() > 0 && freed < bytes {
            self.reclaim_undeliverable(deadline)?;
            self.reclaim_from_the_dead(deadline)?;
            self.trim(bytes - freed, deadline)?;
        }
        Ok(())
    }

    pub(super) fn trim(&self, bytes: u64, deadline: &Deadline) -> Result<u64> {
        let mut freed = 0_u64;
        for _ in 0..self.control.geometry().blocks {
            if freed >= bytes {
                break;
            }
            let lock = self.lock(deadline)?;
            let warm = Spans::new(&self.control).trim(self.slot()?)?;
            let Some(Mine { index, span }) = warm else { break };
            freed = freed.saturating_add(span.len_bytes());
            self.retire(index, Keep::Nothing, Some(lock), deadline)?;
        }
        Ok(freed)
    }

    // ---- giving back

    /// Gives one reference of this process to `index` back; with the last one the hold, and perhaps the block. Never
    /// waits for a lock that another process can have.
    pub(super) fn release(&self, mine: Mine) {
        let (index, span) = (mine.index, mine.span);
        // A guest's memory is its parent's to give back; after a raw clone even the mutex may be one that nobody will
        // open.
        let (Ok(slot), Ok(block)) = (self.slot(), self.control.block(index)) else { return };
        let words = block.words();
        let mut private = self.private.lock();
        if private.remove_reference(index) > 0 {
            return;
        }
        // While the bit stands: afterwards somebody else may free the block, and its place gets another span.
        if !self.control.has_span(block, span) {
            self.control.poison("the span of a held block was written over");
            private.forget(mine);
            return;
        }
        if private.unwatch(index) {
            private.forget(mine);
            drop(private);
            // Without its own pages the block is of no use to anybody in this process, so it stays ours.
            if self.backing.rejoin(self.file_range(span)).is_ok() {
                words.clear_bit(slot);
                point(Point::DropCleared);
                self.let_go(mine);
            }
            return;
        }
        if private.is_lent(index) {
            // The hold stays until the guests are gone; see `guests`.
            private.forget(mine);
            return;
        }
        words.clear_bit(slot);
        point(Point::QuickCleared);
        if words.is_recorded() {
            // Whoever ends the last record looks whether anybody holds the block, and frees it.
            private.remember(mine);
            return;
        }
        let is_plain = || block.is_parent.load(SeqCst) == 0;
        let generation = private.generation(index);
        if private.has_quick_room(span) && words.claim_to_reuse(slot, generation, is_plain) {
            point(Point::QuickKept);
            private.push_quick(mine);
            return;
        }
        private.forget(mine);
        drop(private);
        point(Point::DropCleared);
        self.let_go(mine);
    }

    /// Frees a block that this process held to the last, and others that it could not free before. A poisoned arena
    /// keeps them; there is nobody here to tell.
    fn let_go(&self, mine: Mine) {
        let _ = self.try_free(mine.index, Keep::Warm);
        let _ = self.work_off(DEFERRED_LOOKS, &Deadline::now());
    }

    /// Frees a block if nobody keeps it. False: somebody does, or somebody else frees it, or the arena lock is taken and
    /// it is freed later. Never waits.
    pub(super) fn try_free(&self, index: u32, keep: Keep) -> Result<bool> {
        match self.free(index, keep, &Deadline::now()) {
            Err(error) if error.kind() == Kind::Timeout => Ok(false),
            other => other,
        }
    }

    /// Frees a block if nobody keeps it, and then its children. When the wait for the arena lock ends early, that is done
    /// later.
    pub(super) fn free(&self, index: u32, keep: Keep, deadline: &Deadline) -> Result<bool> {
        let is_parent = self.control.block(index)?.is_parent.load(SeqCst) != 0;
        let is_free = self.free_alone(index, keep, deadline)?;
        if is_free && is_parent {
            self.work_off(usize::MAX, deadline)?;
        }
        Ok(is_free)
    }

    fn free_alone(&self, index: u32, keep: Keep, deadline: &Deadline) -> Result<bool> {
        let (words, slot) = (self.control.block(index)?.words(), self.slot()?);
        if words.load().state != State::Live || words.is_kept() {
            return Ok(false);
        }
        let lock = self.lock(deadline).inspect_err(|_| self.defer_unkept(index, keep))?;
        if !words.claim_to_free(slot) {
            return Ok(false);
        }
        point(Point::FreeClaimed);
        self.retire(index, keep, Some(lock), deadline).map(|()| true)
    }

    /// Ends a block that this participant owns as `Freeing`: `keep` says whether it may become a warm one. When the wait
    /// for the arena lock ends early, the rest is done later.
    fn retire(&self, index: u32, keep: Keep, lock: Option<ArenaLock<'_>>, deadline: &Deadline) -> Result<()> {
        self.end_block(index, keep, lock, deadline).inspect_err(|_| self.defer(index, Deferred::Freeing))
    }

    /// As [`Self::retire`], as far as it goes without a wait.
    pub(super) fn retire_soon(&self, index: u32, keep: Keep) -> Result<()> {
        let now = Deadline::now();
        let done = self.retire(index, keep, None, &now).and_then(|()| self.work_off(usize::MAX, &now));
        done.or_else(|error| if error.kind() == Kind::Timeout { Ok(()) } else { Err(error) })
    }

    /// Gives the pages of a block that this participant owns as `Freeing` back, then its span; as far as it goes without
    /// a wait.
    pub(super) fn give_back(&self, index: u32) -> Result<()> {
        self.retire_soon(index, Keep::Nothing)
    }

    /// A page shared with a neighbour goes back with the later of the two. The neighbour may become a gap while
    /// this one's pages are on their way, so the look is repeated until nothing is left to do.
    fn end_block(&self, index: u32, keep: Keep, lock: Option<ArenaLock<'_>>, deadline: &Deadline) -> Result<()> {
        let mut held = lock;
        if self.control.block(index)?.is_parent.load(SeqCst) != 0 {
            // Its records go under the same lock, one batch at a time.
            drop(held.take());
            self.leave_children(index, deadline)?;
        }
        let (mut done, mut keep) = (Span::default(), keep);
        for _ in 0..PAGE_ROUNDS {
            let lock = held.take().map_or_else(|| self.lock(deadline), Ok)?;
            let spans = Spans::new(&self.control);
            if keep == Keep::Warm && spans.keep_warm(index)? {
                return Ok(());
            }
            keep = Keep::Nothing;
            let pages = spans.grow_to_pages(index)?;
            if pages == done || pages.granules == 0 {
                return spans.release(index);
            }
            drop(lock);
            self.backing.decommit(self.file_range(pages));
            point(Point::FreePunched);
            done = pages;
        }
        Err(self.control.poison("the span of a block that is going grows"))
    }

    // ---- giving back later

    fn defer(&self, index: u32, what: Deferred) {
        self.private.lock().defer(index, what);
    }

    /// Puts a child of a block that is going where [`Self::work_off`] finds it.
    pub(super) fn defer_child(&self, index: u32) {
        self.defer(index, Deferred::Unkept);
    }

    fn defer_unkept(&self, index: u32, keep: Keep) {
        let what = if keep == Keep::Warm { Deferred::Unkept } else { Deferred::UnkeptOfTheDead };
        self.defer(index, what);
        self.note_unkept();
    }

    /// Only a hint for others: after a death here the sweep looks at every live block.
    fn note_unkept(&self) {
        self.control.header().unkept.store(1, SeqCst);
        point(Point::DropCleared);
    }

    /// Looks at up to `most` blocks that this process could not give back before.
    ///
    /// # Errors
    /// `Poisoned`; `Timeout` at `deadline`, but none of one that does not wait.
    pub(super) fn work_off(&self, most: usize, deadline: &Deadline) -> Result<()> {
        for _ in 0..most.min(self.control.geometry().blocks as usize) {
            let Some((index, what)) = self.private.lock().next_deferred() else { break };
            let outcome = match what {
                Deferred::Unkept => self.free_alone(index, Keep::Warm, deadline).map(drop),
                Deferred::UnkeptOfTheDead => self.free_alone(index, Keep::Nothing, deadline).map(drop),
                Deferred::Freeing => self.retire(index, Keep::Nothing, None, deadline),
            };
            // It stands in the list again, perhaps with others.
            let outcome = outcome.inspect_err(|_| self.note_unkept());
            match outcome {
                Err(error) if error.kind() == Kind::Timeout && !deadline.waits() => break,
                other => other?,
            }
        }
        Ok(())
    }

    /// Frees every block that nobody keeps, whoever left it so because the arena lock was taken.
    pub(super) fn free_unkept_ones(&self, deadline: &Deadline) -> Result<()> {
        if self.control.header().unkept.swap(0, SeqCst) == 0 {
            return Ok(());
        }
        point(Point::DropCleared);
        for index in 0..self.control.high() {
            // A device of its last holder may still be writing.
            self.free_alone(index, Keep::Nothing, deadline).inspect_err(|_| self.note_unkept())?;
        }
        Ok(())
    }

    /// Undoes a reservation whose memory could not be had.
    fn abandon(&self, index: u32) -> Result<()> {
        let slot = self.slot()?;
        self.control.block(index)?.words().inherit(slot, slot);
        point(Point::FreeClaimed);
        self.give_back(index)
    }

    // ---- small things

    pub(super) fn file_range(&self, span: Span) -> Range<u64> {
        self.control.file_offset(span.start)..self.control.file_offset(span.end())
    }

    fn used_bytes(&self) -> u64 {
        self.control.sum(&self.control.span_header().used).saturating_mul(GRANULE_BYTES)
    }

    /// Memory kept for reuse.
    #[doc(hidden)]
    pub fn warm_bytes(&self) -> u64 {
        self.control.sum(&self.control.span_header().warm).saturating_mul(GRANULE_BYTES)
    }

    fn named_budget(&self) -> String {
        format!("{} ({})", human(self.budget_bytes()), self.limit_name())
    }

    /// The error with the largest holders added, so that the reader knows whom to ask.
    fn explain(self: &Arc<Self>, error: Error, len_bytes: usize) -> Error {
        let holders = self.holders();
        let text = format!(
            "no room for {}: {error}. {}{}. Drop arrays, take undelivered ones back with reclaim(), or raise the limit",
            human(len_bytes as u64),
            self.largest_holders(&holders),
            self.unrelieved()
        );
        let mut error = error.saying(text);
        if let Error::ArenaFull(full) = &mut error {
            (full.needed_bytes, full.holders) = (Some(len_bytes as u64), holders);
        }
        error
    }
}
