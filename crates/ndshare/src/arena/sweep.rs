//! Participants: joining, leaving, and sweeping up after the dead.
//!
//! Whoever has the sign of life of a slot owns that slot. A sweep takes the sign of a dead participant, finishes or
//! undoes what it was doing, clears its holds and frees the slot. Every step is idempotent: a sweeper may die, too.
//! Invariant: nothing names a slot when it is used again. Holds of a dead participant whose guests live stay, and the
//! slot with them.
//!
//! Whether somebody lives is asked of its sign of life. A process that has lost its descriptor cannot ask; then it knows
//! of a death only when no process has the dead one's number any more. What it cannot tell is unknown, and neither taken
//! for life nor for death for ever: who waits for such a peer gets an error that says why. A sweep that this process
//! cannot do is somebody else's.

use super::alloc::Keep;
use super::backing::Sign;
use super::control::{LENT, Participant, Span, TAKEN};
use super::deadline::Deadline;
use super::fork;
use super::ids::BlockId;
use super::lockword::LockWord;
use super::records::is_ticket;
use super::spans::Spans;
use super::state::{Arena, NO_SLOT};
use super::word::{HOLDER_WORDS, State};
use crate::error::{Error, Result};
use crate::os::fork::between_forks;
use crate::os::kill::{Point, point};
use crate::os::{monotonic, proc};
use crate::prim::Ordering::{Relaxed, SeqCst};

/// Deaths are looked for at most this often in paths that need not know of them.
const SWEEP_EVERY_MS: u64 = 10;
/// Who has waited so long for somebody of whom it can't tell whether it lives, waits no longer.
const DOUBT_MS: u64 = 10_000;
/// Waits ask about every 20 ms. Who asks after a longer pause has begun anew.
const DOUBT_PAUSE_MS: u64 = 250;

/// Whether the tenant of a slot lives.
pub(super) enum Life {
    Alive,
    Dead,
    /// It can't be found out, and why.
    Unknown(Error),
}

/// Dead participants that are swept together. The sweeper has their signs of life, so nobody else sweeps them meanwhile.
#[derive(Default)]
struct Gone {
    those: Vec<(u32, HasGuests)>,
    /// Their bits among the holders of a block.
    all: [u64; HOLDER_WORDS],
    /// The bits of those who have no guests.
    without_guests: [u64; HOLDER_WORDS],
}

type HasGuests = bool;

impl Gone {
    fn add(&mut self, slot: u32, has_guests: HasGuests) {
        let (word, bit) = (slot as usize / 64, 1 << (slot % 64));
        self.all[word] |= bit;
        self.without_guests[word] |= if has_guests { 0 } else { bit };
        self.those.push((slot, has_guests));
    }

    /// Whether a slot is one of theirs. The number may be scribble.
    fn has(&self, slot: u32) -> bool {
        self.all.get(slot as usize / 64).is_some_and(|bits| bits >> (slot % 64) & 1 == 1)
    }
}

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
            // A tenant that lives has its own sign of guests; the place of a dead one with guests is not free yet.
            if !self.backing.has_guests(slot)?
                && let Some(sign) = self.backing.sign(slot)?
            {
                // A process without a slot of its own acts as the one whose sign it has; nobody else knows of it.
                let _ = self.slot.compare_exchange(NO_SLOT, slot, SeqCst, SeqCst);
                let mut gone = Gone::default();
                gone.add(slot, false);
                self.clear_up(&gone, self.slot()?)?;
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
        // Cleared first: whoever sees the new generation must not take the last tenant's number for the new one's.
        participant.pid.store(0, SeqCst);
        point(Point::JoinNamed);
        participant.generation.fetch_add(1, SeqCst);
        point(Point::JoinNamed);
        self.name_process(participant, pid);
        participant.descriptor.store(self.backing.descriptor(), Relaxed);
        point(Point::JoinNamed);
        participant.state.store(TAKEN, SeqCst);
        point(Point::JoinDone);
        Ok(())
    }

    /// Enters a process and where its number counts.
    pub(super) fn name_process(&self, participant: &Participant, pid: u32) {
        let namespace = if pid == 0 { None } else { proc::pid_namespace() };
        participant.pid_namespace.store(namespace.unwrap_or(0), SeqCst);
        point(Point::JoinNamed);
        participant.pid.store(pid, SeqCst);
        point(Point::JoinNamed);
    }

    // ---- who lives

    /// Whether the tenant of `slot` lives.
    pub(super) fn life(&self, slot: u32) -> Life {
        match self.backing.has_sign(slot) {
            Ok(true) => Life::Alive,
            Ok(false) => Life::Dead,
            Err(_) if self.has_lost_its_process(slot) => Life::Dead,
            Err(error) => Life::Unknown(error),
        }
    }

    /// Whether the tenant of `slot` lives, or may live.
    pub(super) fn is_alive(&self, slot: u32) -> bool {
        !matches!(self.life(slot), Life::Dead)
    }

    /// Whether no process has the number of the tenant of `slot` any more. It needs no descriptor, and says nothing where
    /// one has: that may be another process, or the same after an exec.
    fn has_lost_its_process(&self, slot: u32) -> bool {
        let Ok(tenant) = self.control.participant(slot) else { return false };
        // RAW: numbers that the kernel is asked about, and that are compared.
        let generation = tenant.generation.load(SeqCst);
        // RAW: as above.
        let (pid, namespace) = (tenant.pid.load(SeqCst), tenant.pid_namespace.load(SeqCst));
        pid != 0
            && namespace != 0
            && proc::pid_namespace() == Some(namespace)
            && proc::is_unused(pid)
            && tenant.generation.load(SeqCst) == generation
    }

    /// For a wait on the tenant of `slot`: sweeps it if it is dead, and says whether it did. False: it lives, or it may
    /// live, or somebody else sweeps it; an error when the wait has lasted long and this process cannot know.
    pub(super) fn sweep_if_dead(&self, slot: u32) -> Result<bool> {
        match self.life(slot) {
            Life::Alive => Ok(false),
            Life::Unknown(cause) => self.be_unsure(slot, &cause),
            Life::Dead => match self.take_sign_of(slot) {
                Ok(sign) => self.sweep_with(slot, sign),
                Err(cause) => self.be_unsure(slot, &cause),
            },
        }
    }

    /// False, or an error when that has been said for long.
    pub(super) fn be_unsure(&self, slot: u32, cause: &Error) -> Result<bool> {
        if self.has_doubted_long() { Err(self.unsure(slot, cause)) } else { Ok(false) }
    }

    /// Why this process cannot tell whether the tenant of `slot` lives, or cannot sweep it if not; none where it can.
    pub(super) fn doubt(&self, slot: u32) -> Option<Error> {
        match self.life(slot) {
            Life::Alive => None,
            Life::Unknown(cause) => Some(self.unsure(slot, &cause)),
            Life::Dead => self.take_sign_of(slot).err().map(|cause| self.unsure(slot, &cause)),
        }
    }

    fn unsure(&self, slot: u32, cause: &Error) -> Error {
        let pid = self.control.participant(slot).map_or(0, |tenant| tenant.pid.load(Relaxed));
        Error::attach(format!(
            "process {pid} is waited for, and this process cannot tell whether it lives, or cannot clear up after it: \
             {cause}"
        ))
    }

    fn has_doubted_long(&self) -> bool {
        let now = monotonic().as_millis() as u64;
        let last = self.doubted_ms.swap(now, Relaxed);
        if now.saturating_sub(last) > DOUBT_PAUSE_MS {
            self.doubts_since_ms.store(now, Relaxed);
        }
        // RAW: this process's own word.
        now.saturating_sub(self.doubts_since_ms.load(Relaxed)) > DOUBT_MS
    }

    // ---- sweeping

    /// Sweeps every dead participant, and says how many there were.
    pub(super) fn sweep_all(&self) -> Result<u32> {
        let me = self.slot()?;
        let mut dead = Vec::new();
        for slot in (0..self.control.geometry().participants).filter(|&slot| slot != me) {
            if self.control.participant(slot)?.state.load(SeqCst) != 0 && !self.is_alive(slot) {
                dead.push(slot);
            }
        }
        let swept = self.sweep_these(dead)?;
        self.look_after_guests()?;
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
        fork::let_go();
        self.sweep_all().map(drop)
    }

    /// Sweeps the dead among the holders of a block, and says whether anybody alive beside this process holds it.
    pub(super) fn has_other_holders(&self, index: u32) -> Result<bool> {
        let (me, words) = (self.slot()?, self.control.block(index)?.words());
        let others = || (0..self.control.geometry().participants).filter(|&slot| slot != me && words.has_bit(slot));
        self.sweep_these(others().filter(|&slot| !self.is_alive(slot)))?;
        // What guests of the dead use stays.
        Ok(others().next().is_some())
    }

    /// Whether a block is alive for somebody else's sake, after sweeping the dead among its holders.
    ///
    /// # Errors
    /// `Poisoned`; `Attach` in a process without a slot.
    #[doc(hidden)]
    pub fn is_kept_by_others(&self, block: BlockId) -> Result<bool> {
        if !self.is_live(block) {
            return Ok(false);
        }
        self.has_other_holders(block.index)
    }

    /// Sweeps `dead`. False: it lives, is being swept by somebody, is gone already, or this process cannot do it.
    pub(super) fn sweep(&self, dead: u32) -> Result<bool> {
        self.take_sign_of(dead).map_or(Ok(false), |sign| self.sweep_with(dead, sign))
    }

    fn take_sign_of(&self, dead: u32) -> Result<Option<Sign>> {
        self.slot()?;
        self.backing.sign(dead)
    }

    fn sweep_with(&self, dead: u32, sign: Option<Sign>) -> Result<bool> {
        let mut gone = Gone::default();
        let _sign = self.take_in(&mut gone, dead, sign)?;
        Ok(self.sweep_gone(&gone)? == 1)
    }

    /// Sweeps those of some dead participants that nobody else sweeps, and says how many. All of them together cost one
    /// look at each block: a table of participants full of the dead, or of noise, costs no more than one death.
    fn sweep_these(&self, dead: impl IntoIterator<Item = u32>) -> Result<u32> {
        let (mut gone, mut signs) = (Gone::default(), Vec::new());
        for slot in dead {
            let sign = self.take_sign_of(slot).ok().flatten();
            signs.extend(self.take_in(&mut gone, slot, sign)?);
        }
        self.sweep_gone(&gone)
    }

    /// Adds a dead participant to those who are swept together, and keeps its sign; none: there is nothing to sweep.
    fn take_in(&self, gone: &mut Gone, dead: u32, sign: Option<Sign>) -> Result<Option<Sign>> {
        let Some(sign) = sign else { return Ok(None) };
        // RAW: it is compared below.
        let state = self.control.participant(dead)?.state.load(SeqCst);
        let has_guests = self.backing.has_guests(dead).unwrap_or(true);
        if state == 0 || state == LENT && has_guests {
            return Ok(None);
        }
        point(Point::SweepLocked);
        gone.add(dead, has_guests);
        Ok(Some(sign))
    }

    fn sweep_gone(&self, gone: &Gone) -> Result<u32> {
        let me = self.slot()?;
        if !gone.those.is_empty() {
            self.clear_up(gone, me)?;
        }
        Ok(gone.those.len() as u32)
    }

    /// Clears everything that names those who are gone, as `me`, who has their signs of life. `me` may be among them: a new
    /// tenant sweeps its own slot. Where one has guests its holds stay, and with them the slot.
    fn clear_up(&self, gone: &Gone, me: u32) -> Result<()> {
        gone.those.iter().try_for_each(|&(slot, _)| self.recover_tables(slot))?;
        for index in 0..self.control.high() {
            self.clear_block(index, gone, me)?;
        }
        for &(slot, has_guests) in &gone.those {
            self.control.participant(slot)?.state.store(if has_guests { LENT } else { 0 }, SeqCst);
            point(Point::SweepSlot);
            self.control.header().departures.fetch_add(1, SeqCst);
            point(Point::SweepSlot);
        }
        Ok(())
    }

    fn clear_block(&self, index: u32, gone: &Gone, me: u32) -> Result<()> {
        let block = self.control.block(index)?;
        let words = block.words();
        // Before the hold goes: once it is gone the block may get a new tenant, whose lock starts clean.
        let lock = LockWord(&block.lock);
        if let Some(dead) = lock.owner().filter(|&owner| gone.has(owner)) {
            // Before the mark: who sees that somebody died in the lock sees who. Nobody else frees it for the dead one.
            block.lost_owner.store(self.control.pid(dead)?, Relaxed);
            point(Point::SweepNamed);
            if lock.free_of_the_dead(dead) {
                point(Point::SweepUnlocked);
                self.backing.wake(&block.lock);
            }
        }
        // Before the block changes hands: one that was just coming to life bears the bit already. Of a live block those stay
        // whose guests use it.
        let bits = if words.load().state == State::Live { &gone.without_guests } else { &gone.all };
        if words.clear_bits(bits) {
            point(Point::SweepBit);
        }
        let owner = words.load().low;
        if gone.has(owner) && words.inherit(owner, me) {
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
        if self.arena_word().owner() != Some(dead) {
            return Ok(());
        }
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
        let _ = self.work_off(usize::MAX, &Deadline::now());
        if self.is_lasting() && self.is_last(me) {
            // Nobody is there to reuse it, and the file stays.
            let _ = self.trim(u64::MAX, &Deadline::now());
        }
        let Ok(participant) = self.control.participant(me) else { return };
        // What guests use stays held until they are gone.
        let _ = self.look_after_guests();
        // References that other threads dropped late, or never, and blocks that could not be given back because
        // somebody has the arena lock: a sweep of this slot sees to them.
        let private = self.private.lock();
        let is_done = private.held().next().is_none() && !private.has_deferred() && !private.has_lent();
        drop(private);
        if is_done {
            participant.state.store(0, SeqCst);
            point(Point::LeaveUnnamed);
            self.control.header().departures.fetch_add(1, SeqCst);
            point(Point::LeaveUnnamed);
        }
    }

    fn is_last(&self, me: u32) -> bool {
        let is_free = |slot| self.control.participant(slot).is_ok_and(|other| other.state.load(SeqCst) == 0);
        (0..self.control.geometry().participants).all(|slot| slot == me || is_free(slot))
    }

    /// Frees the blocks that this process keeps ready.
    pub(super) fn flush_quick(&self) -> Result<()> {
        let ready = self.private.lock().take_quick();
        let me = self.slot()?;
        for mine in ready {
            self.control.block(mine.index)?.words().inherit(me, me);
            point(Point::FreeClaimed);
            self.retire_soon(mine.index, Keep::Warm)?;
        }
        Ok(())
    }

    /// Counts the records of every block anew. The caller holds the arena lock, or is alone.
    pub(super) fn recount_records(&self, counts: &mut Vec<u32>) -> Result<()> {
        counts.clear();
        counts.resize(self.control.high() as usize, 0);
        let mut tickets = 0;
        for index in 0..self.control.records_ready() {
            let record = self.control.record(index)?;
            if record.nonce.load(SeqCst) == 0 {
                continue;
            }
            tickets += u32::from(is_ticket(record));
            let block = self.control.block_of(record)? as usize;
            *counts.get_mut(block).ok_or_else(|| self.control.poison("a record names no block"))? += 1;
        }
        for (index, &count) in counts.iter().enumerate() {
            // One store from too high to right: it is never too low in between, when a free might look.
            self.control.block(index as u32)?.records.store(count, SeqCst);
        }
        self.control.header().ticket_count.store(tickets, Relaxed);
        self.control.header().record_hint.store(0, Relaxed);
        point(Point::SweepRebuilding);
        Ok(())
    }

    /// How many participants have left or were swept so far. It wraps.
    pub(crate) fn departures(&self) -> u32 {
        // RAW: it is only compared with what it was.
        self.control.header().departures.load(SeqCst)
    }

    /// Whether the participant with this identity lives, or may live. A dead one is swept.
    ///
    /// # Errors
    /// `Poisoned`; `Attach` in a process without a slot, and in one that has asked for ten seconds and cannot know.
    #[doc(hidden)]
    pub fn is_identity_alive(&self, identity: u64) -> Result<bool> {
        if self.identity()? == identity {
            return Ok(true);
        }
        let Some(slot) = self.slot_of(identity)? else { return Ok(false) };
        match self.life(slot) {
            Life::Alive => Ok(true),
            Life::Dead => self.sweep(slot).map(|_| false),
            Life::Unknown(cause) => self.be_unsure(slot, &cause).map(|_| true),
        }
    }

    /// The slot of the participant with this identity, alive or dead; none when it was given up or has another tenant.
    pub(super) fn slot_of(&self, identity: u64) -> Result<Option<u32>> {
        // Beyond the participants it is scribble, for no arena gives such a name: nobody lives by it.
        let slot = (identity as u32).checked_sub(1).filter(|&slot| slot < self.control.geometry().participants);
        let Some(slot) = slot else { return Ok(None) };
        let tenant = self.control.participant(slot)?;
        let same = tenant.generation.load(SeqCst) == (identity >> 32) as u32 && tenant.state.load(SeqCst) != 0;
        Ok(same.then_some(slot))
    }

    /// Takes back what was lent to guests of which none lives any more. Not for fast paths.
    pub(super) fn look_after_guests(&self) -> Result<()> {
        let slot = self.slot()?;
        if !self.private.lock().has_lent() {
            return Ok(());
        }
        // A fork in here would give the child a sign that is on its way out.
        let gone = between_forks(|| {
            let mut guests = self.guests.lock();
            guests.part_company(&self.backing, slot);
            guests.gone(&self.backing, slot)
        });
        for index in gone {
            let block = self.control.block(index)?;
            let mut private = self.private.lock();
            // Under the lock, so that nobody takes the block for this process in between.
            let unused = private.take_back(index);
            if unused {
                block.words().clear_bit(slot);
            }
            drop(private);
            point(Point::DropCleared);
            if unused {
                self.try_free(index, Keep::Warm)?;
            }
        }
        Ok(())
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // After a raw clone the registry's lock may be one that nobody will open.
        if crate::os::fork::is_known() {
            fork::forget(self.id);
            self.leave();
        }
    }
}
