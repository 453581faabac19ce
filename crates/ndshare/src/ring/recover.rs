//! The lock of a ring's head, and what a death under it leaves. Whoever takes the lock next puts the head in order: each
//! step can be done twice, because who does it may die, too.

use super::protocol::BUSY;
use super::state::Ring;
use super::table::{EVENT, HEAD, NEVER, READERS, READERS_IN_USE, SPACE, UNTIDY};
use crate::arena::{BlockId, Deadline, TicketId};
use crate::error::{Kind, Result};
use crate::lock::Entered;
use crate::os::kill::{Point, point};
use crate::prim::Ordering::{Relaxed, SeqCst};
use std::collections::{HashMap, HashSet};

impl Ring {
    /// Runs `work` under the head's lock, after putting things in order if an owner of it died.
    pub(super) fn locked<T>(&self, deadline: &Deadline, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let (lock, dirty) = Entered::enter(&self.table.head, deadline)?;
        if dirty || self.table.word(UNTIDY).load(Relaxed) != 0 {
            self.recover(deadline)?;
        }
        let outcome = work();
        lock.leave()?;
        outcome
    }

    /// As [`Self::locked`] if the lock is free, clean and nobody waits for it; else none. It never waits.
    pub(super) fn locked_quick<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
        let Some(lock) = Entered::enter_quick(&self.table.head)? else { return Ok(None) };
        let outcome = work();
        lock.leave()?;
        outcome.map(Some)
    }

    /// Puts the head in order after a death under its lock. Idempotent.
    fn recover(&self, deadline: &Deadline) -> Result<()> {
        let head = self.written();
        // A publication counts from the moment its entry bears its number.
        if self.table.entry(head).seq.load(SeqCst) == head {
            self.table.word(HEAD).store(head + 1, SeqCst);
            point(Point::RingReplaced);
        }
        self.finish_passing();
        let head = self.written();
        for index in 0..self.table.geometry.frames {
            let last = self.table.frame(index).last;
            // RAW: only compared.
            let number = last.load(SeqCst);
            if number >= head && number != BUSY {
                last.store(NEVER, SeqCst);
                point(Point::RingReplaced);
            }
        }
        self.give_up_lost_blocks()?;
        self.reconcile_records(deadline)?;
        self.table.word(UNTIDY).store(0, Relaxed);
        point(Point::RingReplaced);
        let live = (0..READERS).filter(|&index| self.is_reader_live(index)).fold(0, |bits, index| bits | 1 << index);
        self.table.word(READERS_IN_USE).store(live, SeqCst);
        point(Point::RingReplaced);
        self.announce(EVENT)?;
        self.announce(SPACE)
    }

    /// Empties frames of which whoever renewed or replaced their block died before it had said all of it: the block lives under
    /// another name, so that nobody could write to it again, or the frame names the record of the block before. The record
    /// goes with those that no frame names, and the frame gets another block when it is needed.
    fn give_up_lost_blocks(&self) -> Result<()> {
        let kept: HashMap<TicketId, BlockId> = self.table.head.children()?.into_iter().collect();
        for index in 0..self.table.geometry.frames {
            let words = self.table.frame(index);
            // RAW: names, which are looked up and compared.
            let [block, record, nonce] = [words.block, words.record, words.nonce].map(|word| word.load(SeqCst));
            let Some(block) = BlockId::from_word(block) else { continue };
            let record = TicketId { index: record as u32, nonce };
            let is_kept = kept.get(&record).is_some_and(|child| child.index == block.index);
            if is_kept && self.arena().is_live(block) {
                continue;
            }
            for (word, value) in [(words.last, NEVER), (words.block, 0), (words.record, 0), (words.nonce, 0)] {
                word.store(value, SeqCst);
                point(Point::RingReplaced);
            }
        }
        Ok(())
    }

    /// Ends the records of blocks that no frame names: their adoption died half-way.
    fn reconcile_records(&self, deadline: &Deadline) -> Result<()> {
        let named: HashSet<u64> =
            // RAW: names, which are compared.
            (0..self.table.geometry.frames).map(|index| self.table.frame(index).nonce.load(SeqCst)).collect();
        for (record, _) in self.table.head.children()? {
            if !named.contains(&record.nonce) {
                self.table.head.disown(record, deadline)?;
            }
        }
        Ok(())
    }

    /// Ends a record that no frame names any more, under the lock; the block it kept is to be freed then. A wait that is
    /// cut short, because who has the arena lock was stopped, leaves the record to who has the ring's lock next.
    pub(super) fn end_record(&self, record: TicketId, deadline: &Deadline) -> Result<Option<u32>> {
        match self.table.head.end_record(record, deadline) {
            Err(error) if matches!(error.kind(), Kind::Timeout | Kind::Interrupted) => {
                self.table.word(UNTIDY).store(1, Relaxed);
                point(Point::RingReplaced);
                Ok(None)
            }
            outcome => outcome,
        }
    }
}
