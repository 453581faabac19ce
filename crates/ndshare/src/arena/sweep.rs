//! Participants: joining, leaving, and sweeping up after the dead.
//!
//! Whoever has the sign of life of a slot owns that slot. A sweep takes the sign of a dead participant, finishes or
//! undoes what it was doing, clears its holds and frees the slot. Every step is idempotent: a sweeper may die, too.
//! Invariant: nothing names a slot when it is used again.

use super::backing::Sign;
use super::control::Span;
use super::lockword::LockWord;
use super::records::is_ticket;
use super::spans::Spans;
use super::word::State;
use super::{Arena, BlockId, Keep, NO_SLOT};
use crate::error::{Error, Result};
use crate::os::kill::{Point, point};
use crate::os::monotonic;
use crate::prim::Ordering::{Relaxed, SeqCst};

/// Deaths are looked for at most this often in paths that need not know of them.
const SWEEP_EVERY_MS: u64 = 10;

impl Arena {
    /// Finds a free slot and takes its sign of life; sweeps a dead one where none is free.
    ///
    /// # Errors
    /// `Attach` when all slots are taken by living processes.
    pub(super) fn settle(&self) -> Result<(u32, Sign)> {
        let slots = self.control.geometry().participants;
        for slot in 0..slots {
            // Looked at again with the sign in hand: somebody may have come and died in between, and the slot would
            // want a sweep first.
            let free = |slot| Ok::<_, Error>(self.control.participant(slot)?.state.load(SeqCst) == 0);
            if free(slot)?
                && let Some(sign) = self.backing.sign(slot)?
                && free(slot)?
            {
                return Ok((slot, sign));
            }
        }
        for slot in 0..slots {
            if let Some(sign) = self.backing.sign(slot)? {
                // A process without a slot of its own acts as the one whose sign it has; nobody else knows of it.
                let _ = self.slot.compare_exchange(NO_SLOT, slot, SeqCst, SeqCst);
                self.clear_up(slot, self.slot()?)?;
                return Ok((slot, sign));
            }
        }
        Err(Error::attach(format!(
            "expected a free slot in arena {:016x}, but {slots} living processes take part: end some of them",
            self.id()
        )))
    }

    /// Enters the tenant of a slot whose sign of life the caller has. `pid` 0: a child that is being forked.
    pub(super) fn name_participant(&self, slot: u32, pid: u32) -> Result<()> {
        point(Point::JoinLocked);
        let participant = self.control.participant(slot)?;
        participant.generation.fetch_add(1, SeqCst);
        participant.pid.store(pid, Relaxed);
        participant.descriptor.store(self.backing.descriptor(), Relaxed);
        point(Point::JoinNamed);
        participant.state.store(1, SeqCst);
        point(Point::JoinDone);
        Ok(())
    }

    /// Sweeps every dead participant, and says how many there were.
    pub(super) fn sweep_all(&self) -> Result<u32> {
        let me = self.slot()?;
        let mut swept = 0;
        for slot in 0..self.control.geometry().participants {
            let used = self.control.participant(slot)?.state.load(SeqCst) != 0;
            if used && slot != me && !self.backing.is_alive(slot) && self.sweep(slot)? {
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// Sweeps every dead participant.
    ///
    /// # Errors
    /// `Poisoned`; `Attach` in a process without a slot.
    pub fn sweep_the_dead(&self) -> Result<()> {
        self.sweep_all().map(drop)
    }

    /// Sweeps if nobody in this process did so lately.
    pub(super) fn sweep_now_and_then(&self) -> Result<()> {
        let now = monotonic().as_millis() as u64;
        let last = self.swept_ms.load(Relaxed);
        if now.wrapping_sub(last) < SWEEP_EVERY_MS
            || self.swept_ms.compare_exchange(last, now, Relaxed, Relaxed).is_err()
        {
            return Ok(());
        }
        super::fork::let_go();
        self.sweep_all().map(drop)
    }

    /// Sweeps the dead among the holders of a block, and says whether anybody alive beside this process holds it.
    pub(super) fn has_other_holders(&self, index: u32) -> Result<bool> {
        let (me, words) = (self.slot()?, self.control.block(index)?.words());
        let mut others = false;
        for slot in (0..self.control.geometry().participants).filter(|&slot| slot != me && words.has_bit(slot)) {
            if self.backing.is_alive(slot) {
                others = true;
            } else {
                self.sweep(slot)?;
            }
        }
        Ok(others)
    }

    /// Whether a block is alive for somebody else's sake, after sweeping the dead among its holders.
    ///
    /// # Errors
    /// `Poisoned`; `Attach` in a process without a slot.
    pub fn is_kept_by_others(&self, block: BlockId) -> Result<bool> {
        if !self.is_live(block) {
            return Ok(false);
        }
        self.has_other_holders(block.index)
    }

    /// Sweeps `dead`. False: it lives, or is being swept by somebody, or is gone already.
    pub(super) fn sweep(&self, dead: u32) -> Result<bool> {
        let me = self.slot()?;
        let Some(sign) = self.backing.sign(dead)? else { return Ok(false) };
        if self.control.participant(dead)?.state.load(SeqCst) == 0 {
            return Ok(false);
        }
        point(Point::SweepLocked);
        self.clear_up(dead, me)?;
        drop(sign);
        Ok(true)
    }

    /// Clears everything that names `dead`, as `me`, who has its sign of life. The two may be equal: a new tenant
    /// sweeps its own slot.
    fn clear_up(&self, dead: u32, me: u32) -> Result<()> {
        self.recover_tables(dead)?;
        for index in 0..self.control.high() {
            self.clear_block(index, dead, me)?;
        }
        self.control.participant(dead)?.state.store(0, SeqCst);
        point(Point::SweepSlot);
        Ok(())
    }

    fn clear_block(&self, index: u32, dead: u32, me: u32) -> Result<()> {
        let block = self.control.block(index)?;
        let words = block.words();
        // Before the hold goes: once it is gone the block may get a new tenant, whose lock starts clean.
        if LockWord(&block.lock).free_of_the_dead(dead) {
            point(Point::SweepUnlocked);
            self.backing.wake(&block.lock);
        }
        // Before the block changes hands: one that was just coming to life bears the bit already.
        if words.has_bit(dead) {
            words.clear_bit(dead);
            point(Point::SweepBit);
        }
        if words.inherit(dead, me) {
            point(Point::SweepOwned);
            return self.give_back(index);
        }
        // Every live block is tried, not only those with its bit: it may have died just after clearing one.
        if words.load().state == State::Live {
            self.try_free(index, Keep::Nothing)?;
            point(Point::SweepFreed);
        }
        Ok(())
    }

    /// Makes the derived tables anew if `dead` held the arena lock.
    fn recover_tables(&self, dead: u32) -> Result<()> {
        // Room for all of it beforehand, so that nothing is allocated under the lock.
        let mut used: Vec<(Span, u32)> = Vec::with_capacity(self.control.high() as usize + 64);
        let mut records: Vec<u32> = Vec::with_capacity(self.control.high() as usize + 64);
        let Some(lock) = self.inherit_lock(dead) else { return Ok(()) };
        point(Point::SweepTakenOver);
        Spans::new(&self.control).rebuild(&mut used)?;
        point(Point::SweepRebuilding);
        self.recount_records(&mut records)?;
        point(Point::SweepRebuilt);
        drop(lock);
        Ok(())
    }

    /// Gives everything up that this process has, as its death would, but in order.
    pub(super) fn leave(&self) {
        let Ok(me) = self.slot() else { return };
        let _ = self.flush_quick();
        let Ok(participant) = self.control.participant(me) else { return };
        // References that other threads dropped late, or never: a sweep of this slot clears their bits.
        if self.private.lock().held().next().is_none() {
            participant.state.store(0, SeqCst);
            point(Point::LeaveUnnamed);
        }
    }

    /// Frees the blocks that this process keeps ready.
    pub(super) fn flush_quick(&self) -> Result<()> {
        let ready = self.private.lock().take_quick();
        for mine in ready {
            self.control.block(mine.index)?.words().inherit(self.slot()?, self.slot()?);
            self.retire(mine.index, Keep::Warm)?;
        }
        Ok(())
    }

    /// Counts the records of every block anew. The caller holds the arena lock.
    fn recount_records(&self, counts: &mut Vec<u32>) -> Result<()> {
        counts.clear();
        counts.resize(self.control.high() as usize, 0);
        let mut tickets = 0;
        for index in 0..self.control.records_ready() {
            let record = self.control.record(index)?;
            if record.nonce.load(SeqCst) == 0 {
                continue;
            }
            tickets += u32::from(is_ticket(record));
            let block = record.block.load(Relaxed) as usize;
            *counts.get_mut(block).ok_or_else(|| self.control.poison("a record names no block"))? += 1;
        }
        for (index, &count) in counts.iter().enumerate() {
            // One store from too high to right: it is never too low in between, when a free might look.
            self.control.block(index as u32)?.records.store(count, SeqCst);
        }
        self.control.header().ticket_count.store(tickets, Relaxed);
        self.control.header().record_hint.store(0, Relaxed);
        Ok(())
    }
}
