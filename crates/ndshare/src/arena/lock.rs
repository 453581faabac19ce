//! Waiting for a lock word: of the arena, held for a few hundred nanoseconds and never across a system call, and of
//! blocks, held for as long as users like.
//!
//! A waiter spins a little, then sleeps at most 20 ms at a time and asks whether the owner still lives; a sweep frees
//! the locks of the dead. Who has waited long is not overtaken any more. Threads of one process exclude each
//! other by the same word.

use super::deadline::{Deadline, NAP, busy, is_worth_a_look};
use super::hold::Hold;
use super::ids::BlockId;
use super::lockword::{LockWord, Taker};
use super::state::Arena;
use crate::error::{Error, Kind, Process, Result};
use crate::os::kill::{Point, point};
use crate::os::monotonic;
use crate::prim::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// After this wait nobody overtakes a waiter.
const STARVING: Duration = Duration::from_millis(1);
const SPINS: u32 = 200;
/// How many holders an error names.
const NAMED: usize = 4;

/// What a thread gets that asks for a lock which it has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reentry {
    /// An error, at once.
    Refuse,
    /// It waits like everybody else; another thread may free the lock.
    Wait,
}

/// The arena lock, held. Dropping it frees the lock.
pub(super) struct ArenaLock<'a> {
    arena: &'a Arena,
    slot: u32,
}

impl Arena {
    pub(super) fn arena_word(&self) -> LockWord<'_> {
        LockWord(&self.control.header().lock.0)
    }

    /// Waits for the arena lock and takes it.
    ///
    /// # Errors
    /// `Poisoned`; `Timeout` at `deadline`; `Attach` in a process that has no slot.
    #[inline]
    pub(super) fn lock(&self, deadline: &Deadline) -> Result<ArenaLock<'_>> {
        let slot = self.slot()?;
        if !self.arena_word().take_fast(slot) {
            // The mark of a death is not needed here: the sweep has put the tables in order before it freed the lock.
            self.wait_for(&self.control.header().lock.0, slot, deadline, "the arena lock")?;
        }
        point(Point::LockTaken);
        let lock = ArenaLock { arena: self, slot };
        self.control.check_poison()?;
        Ok(lock)
    }

    /// Waits for a lock word and takes it for `slot`; says whether an owner died in it.
    #[cold]
    fn wait_for(&self, word: &AtomicU32, slot: u32, deadline: &Deadline, what: &str) -> Result<bool> {
        let lock = LockWord(word);
        let mut taker = Taker { slot, slept: false, starving: false };
        for _ in 0..SPINS {
            if let Ok(dirty) = lock.take_once(taker) {
                return Ok(dirty);
            }
            std::hint::spin_loop();
        }
        if !deadline.waits() {
            return Err(busy(what, Some(Duration::ZERO)));
        }
        let start = monotonic();
        self.sleep_for(word, &mut taker, deadline, what).or_else(|error| {
            if taker.starving && lock.forgo() {
                self.backing.wake(word);
            }
            // It may be free, kept for somebody who has died.
            let waited = monotonic() - start;
            if error.kind() != Kind::Timeout {
                return Err(self.name_owner(error, lock, what, waited));
            }
            let told = |owner| self.name_owner(self.say_doubt(error, owner), lock, what, waited);
            lock.take_now(slot).map_err(|busy| told(busy.owner()))
        })
    }

    /// The error with the owner added, after a long wait.
    fn name_owner(&self, error: Error, lock: LockWord<'_>, what: &str, waited: Duration) -> Error {
        let told = matches!(error.kind(), Kind::Timeout | Kind::Interrupted) && is_worth_a_look(Some(waited));
        let owner = lock.owner().filter(|_| told).and_then(|slot| self.glimpse(slot));
        let spent = match waited.as_secs() {
            0 => format!("{} ms", waited.as_millis()),
            _ => format!("{:.1} s", waited.as_secs_f64()),
        };
        error.said_of(&format!("After {spent} {what} is still held"), owner)
    }

    /// The process that has a slot, if any has.
    fn glimpse(&self, slot: u32) -> Option<Process> {
        if slot >= self.control.geometry().participants {
            return None;
        }
        self.control.pid(slot).ok().map(Process::of)
    }

    /// The processes that hold a block, for the error of somebody who waits for them; at most a few. None when the block
    /// is gone.
    pub(crate) fn glimpse_holders(&self, block: BlockId) -> Vec<Process> {
        let slots = if self.is_live(block) { self.holders_of(block) } else { Vec::new() };
        slots.into_iter().take(NAMED).filter_map(|slot| self.glimpse(slot)).collect()
    }

    /// The process with this identity, if it is still the one that has its slot.
    pub(crate) fn glimpse_identity(&self, identity: u64) -> Option<Process> {
        self.slot_of(identity).ok().flatten().and_then(|slot| self.glimpse(slot))
    }

    /// Who has the arena lock, if it is not to be had now. Never waits.
    pub(super) fn lock_owner(&self) -> Result<Option<Process>> {
        match self.lock(&Deadline::now()) {
            Err(error) if error.kind() == Kind::Timeout => {
                Ok(self.arena_word().owner().and_then(|slot| self.glimpse(slot)))
            }
            other => other.map(|_| None),
        }
    }

    /// Waits until the arena lock is free, for those who could not wait where they needed it.
    pub(crate) fn await_lock(&self, deadline: &Deadline) -> Result<()> {
        self.lock(deadline).map(drop)
    }

    /// Whether somebody has the arena lock, as far as one look can tell.
    pub(crate) fn looks_busy(&self) -> bool {
        self.arena_word().owner().is_some()
    }

    fn sleep_for(&self, word: &AtomicU32, taker: &mut Taker, deadline: &Deadline, what: &str) -> Result<bool> {
        let start = monotonic();
        let mut looked = start;
        // BOUND: the caller's deadline, which is looked at in each round that finds the owner alive.
        loop {
            let busy = match LockWord(word).take_or_mark(*taker) {
                Ok(dirty) => return Ok(dirty),
                Err(busy) => busy,
            };
            point(Point::LockMarked);
            // Before the deadline is looked at, so that a timeout never hides a death.
            if self.relieve(busy.owner())? {
                continue;
            }
            deadline.go_on_since(&mut looked, what)?;
            self.backing.wait(word, busy.seen, deadline.nap(NAP));
            *taker = Taker { slept: true, starving: monotonic() - start > STARVING, ..*taker };
        }
    }

    /// Sweeps the owner of a lock if it is dead, which frees the lock. False: it lives, or somebody else sweeps it; an
    /// error when that has been unknown for long.
    fn relieve(&self, owner: Option<u32>) -> Result<bool> {
        let Some(owner) = owner.filter(|&owner| self.slot() != Ok(owner)) else { return Ok(false) };
        if owner >= self.control.geometry().participants {
            return Err(self.control.poison("a lock names no participant"));
        }
        self.sweep_if_dead(owner)
    }

    /// The error of a wait for a lock that ran out; where nobody could tell whether the owner lives, it says so.
    fn say_doubt(&self, error: Error, owner: Option<u32>) -> Error {
        let known = |&owner: &u32| owner < self.control.geometry().participants && self.slot() != Ok(owner);
        match owner.filter(known).and_then(|owner| self.doubt(owner)) {
            Some(doubt) => {
                let text = format!("{error}. {doubt}");
                error.saying(text)
            }
            None => error,
        }
    }

    /// Takes the arena lock over from the dead `from`, if it held it.
    pub(super) fn inherit_lock(&self, from: u32) -> Option<ArenaLock<'_>> {
        let slot = self.slot().ok()?;
        self.arena_word().inherit(from, slot).then(|| ArenaLock { arena: self, slot })
    }

    /// A number for the calling thread that no other living thread of any participant has.
    ///
    /// # Errors
    /// `Attach` in a process without a slot.
    pub fn thread(&self) -> Result<u64> {
        self.slot().map(thread_of)
    }

    // ---- the locks of blocks

    /// Waits for the lock of a block and takes it for this process. True: an owner died in it, and nobody has
    /// recovered it since; it is taken all the same.
    ///
    /// # Errors
    /// `Misuse` when this very thread has it and `reentry` refuses that; `Timeout` at `deadline`;
    /// `Attach` in a process without a slot.
    #[inline]
    #[doc(hidden)]
    pub fn lock_block(&self, hold: &Hold, reentry: Reentry, deadline: &Deadline) -> Result<bool> {
        if self.lock_block_quick(hold)? { Ok(false) } else { self.lock_block_slowly(hold, reentry, deadline) }
    }

    #[cold]
    fn lock_block_slowly(&self, hold: &Hold, reentry: Reentry, deadline: &Deadline) -> Result<bool> {
        let (slot, word) = (self.slot()?, self.block_word(hold)?);
        if reentry == Reentry::Refuse {
            self.refuse_reentry(hold, word, slot)?;
        }
        let dirty = self.wait_for(word, slot, deadline, "the lock")?;
        self.note_owner(hold, slot);
        point(Point::BlockLocked);
        Ok(dirty)
    }

    /// Takes the lock of a block if it is free, clean and nobody waits for it; says whether it did. One exchange:
    /// never a system call, never a sweep.
    ///
    /// # Errors
    /// `Attach` in a process without a slot.
    #[inline]
    #[doc(hidden)]
    pub fn lock_block_quick(&self, hold: &Hold) -> Result<bool> {
        let slot = self.slot()?;
        if !LockWord(self.block_word(hold)?).take_fast(slot) {
            return Ok(false);
        }
        self.note_owner(hold, slot);
        point(Point::BlockLocked);
        Ok(true)
    }

    /// Takes the lock of a block if it is free now: none when it is not, else as [`Self::lock_block`].
    ///
    /// # Errors
    /// `Attach` in a process without a slot.
    pub fn try_lock_block(&self, hold: &Hold) -> Result<Option<bool>> {
        let (slot, word) = (self.slot()?, self.block_word(hold)?);
        let mut taken = LockWord(word).take_now(slot);
        if let Err(busy) = taken
            && self.relieve(busy.owner())?
        {
            taken = LockWord(word).take_now(slot);
        }
        let Ok(dirty) = taken else { return Ok(None) };
        self.note_owner(hold, slot);
        point(Point::BlockLocked);
        Ok(Some(dirty))
    }

    /// Frees the lock of a block. `clean`: the content is in order, and the mark of a dead owner goes.
    ///
    /// # Errors
    /// `Misuse` when this process does not have it.
    #[inline]
    #[doc(hidden)]
    pub fn unlock_block(&self, hold: &Hold, clean: bool) -> Result<()> {
        let (slot, word) = (self.slot()?, self.block_word(hold)?);
        // If it is not ours, no thread here has a note that matters.
        self.owners[hold.block().index as usize].store(0, Relaxed);
        let wake = LockWord(word).free(slot, clean).map_err(|busy| not_yours(busy.owner()))?;
        point(Point::BlockFreed);
        if wake {
            self.backing.wake(word);
        }
        Ok(())
    }

    /// Whether the lock of a block is taken, by anybody alive.
    ///
    /// # Errors
    /// `Poisoned` when the block's name is out of its table.
    #[doc(hidden)]
    pub fn is_block_locked(&self, hold: &Hold) -> Result<bool> {
        self.relieve(LockWord(self.block_word(hold)?).owner())?;
        self.looks_locked(hold)
    }

    /// The process that died in the lock of a block, which is marked with that; none where it is not known.
    pub(crate) fn lost_owner(&self, hold: &Hold) -> Option<u32> {
        // RAW: a number for people.
        let pid = self.control.block(hold.block().index).ok()?.lost_owner.load(Relaxed);
        (pid != 0).then_some(pid)
    }

    /// The same without a look at whether the owner lives. Never waits.
    ///
    /// # Errors
    /// As [`Self::is_block_locked`].
    #[doc(hidden)]
    pub fn looks_locked(&self, hold: &Hold) -> Result<bool> {
        Ok(LockWord(self.block_word(hold)?).owner().is_some())
    }

    #[inline]
    fn block_word(&self, hold: &Hold) -> Result<&AtomicU32> {
        Ok(&self.control.block(hold.block().index)?.lock)
    }

    #[inline]
    fn note_owner(&self, hold: &Hold, slot: u32) {
        self.owners[hold.block().index as usize].store(thread_of(slot), Relaxed);
    }

    fn refuse_reentry(&self, hold: &Hold, word: &AtomicU32, slot: u32) -> Result<()> {
        let mine = self.owners[hold.block().index as usize].load(Relaxed) == thread_of(slot);
        if mine && LockWord(word).owner() == Some(slot) {
            return Err(Error::new(
                Kind::Misuse,
                "this thread holds the lock already: expected to enter once, got a second time; leave it first, or \
                 pass the arrays together",
            ));
        }
        Ok(())
    }
}

#[cold]
fn not_yours(owner: Option<u32>) -> Error {
    let got = match owner {
        Some(_) => "another process holds it, or the parent of this fork",
        None => "nobody holds it",
    };
    Error::new(Kind::Misuse, format!("release of a lock: expected this process to hold it, but {got}"))
}

/// A number that no other living thread of the participants of one process has; never 0. The slot is in it because
/// a forked child has its parent's addresses, and must not take the parent's notes for its own.
#[inline]
fn thread_of(slot: u32) -> u64 {
    thread_local!(static ANCHOR: u8 = const { 0 });
    // User addresses end below 2^48.
    ANCHOR.with(|anchor| std::ptr::from_ref(anchor).addr() as u64) | u64::from(slot) << 48
}

impl Drop for ArenaLock<'_> {
    #[inline]
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A bug of ours stopped half-way; nobody may build on these tables.
            self.arena.control.poison("a panic under the arena lock");
        }
        if self.arena.arena_word().free(self.slot, true) == Ok(true) {
            self.arena.backing.wake(&self.arena.control.header().lock.0);
        }
        point(Point::LockFreed);
    }
}
