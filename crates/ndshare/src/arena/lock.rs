//! The arena lock: one futex word with the owner's slot, which a sweep takes over when the owner dies.
//!
//! It is held for a few hundred nanoseconds and never across a system call. A waiter sleeps at most 20 ms, then
//! asks whether the owner still lives. Threads of one process exclude each other by the same word.

use super::Arena;
use crate::error::{Error, Kind, Result};
use crate::os::kill::{Point, point};
use crate::os::monotonic;
use crate::prim::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

/// Somebody sleeps on the word.
const WAITERS: u32 = 1 << 31;
/// How long a waiter sleeps before it asks whether the owner lives.
const NAP: Duration = Duration::from_millis(20);
const SPINS: u32 = 200;

/// How a wait behaves: how long it lasts, and what may end it early.
#[derive(Clone, Copy)]
pub struct Patience<'a> {
    deadline: Option<Duration>,
    check: Option<&'a dyn Fn() -> Result<()>>,
}

impl<'a> Patience<'a> {
    /// Waits at most `timeout` (none: for ever), and runs `check` about every 20 ms; its error ends the wait.
    pub fn new(timeout: Option<Duration>, check: &'a dyn Fn() -> Result<()>) -> Self {
        // A timeout beyond what the clock holds is no timeout.
        let deadline = timeout.and_then(|timeout| monotonic().checked_add(timeout));
        Self { deadline, check: Some(check) }
    }

    /// Waits for ever, without a check.
    pub const fn forever() -> Self {
        Self { deadline: None, check: None }
    }

    /// Runs the check and looks at the clock.
    fn go_on(&self) -> Result<()> {
        self.check.map_or(Ok(()), |check| check())?;
        match self.deadline {
            Some(deadline) if monotonic() >= deadline => Err(Error::new(
                Kind::Timeout,
                "the arena lock was not free before the timeout: its holder is stopped or very slow; try again",
            )),
            _ => Ok(()),
        }
    }
}

/// The arena lock, held. Dropping it frees the lock.
pub(super) struct ArenaLock<'a> {
    arena: &'a Arena,
}

impl Arena {
    /// Waits for the arena lock and takes it.
    ///
    /// # Errors
    /// `Poisoned`; what `patience` says; `Attach` in a process that has no slot.
    #[inline]
    pub(super) fn lock(&self, patience: &Patience) -> Result<ArenaLock<'_>> {
        let mine = self.slot()? + 1;
        let word = &self.control.header().lock.0;
        // Acquire pairs with the Release of `unlock`: the tables are as the last owner left them.
        if word.compare_exchange(0, mine, Acquire, Relaxed).is_err() {
            self.lock_slow(mine, patience)?;
        }
        point(Point::LockTaken);
        let lock = ArenaLock { arena: self };
        self.control.check_poison()?;
        Ok(lock)
    }

    #[cold]
    fn lock_slow(&self, mine: u32, patience: &Patience) -> Result<()> {
        let word = &self.control.header().lock.0;
        for _ in 0..SPINS {
            if word.load(Relaxed) == 0 && word.compare_exchange(0, mine, Acquire, Relaxed).is_ok() {
                return Ok(());
            }
            std::hint::spin_loop();
        }
        loop {
            let seen = word.load(Relaxed);
            if seen & !WAITERS == 0 {
                // Whoever slept takes the lock with the bit set: there may be other sleepers.
                if word.compare_exchange(seen, mine | WAITERS, Acquire, Relaxed).is_ok() {
                    return Ok(());
                }
                continue;
            }
            if seen & WAITERS == 0 && word.compare_exchange(seen, seen | WAITERS, Relaxed, Relaxed).is_err() {
                continue;
            }
            self.backing.wait(word, seen | WAITERS, NAP);
            patience.go_on()?;
            self.relieve((seen & !WAITERS) - 1)?;
        }
    }

    /// Sweeps the owner of the lock if it is dead; that frees the lock.
    fn relieve(&self, owner: u32) -> Result<()> {
        if owner >= self.control.geometry().participants {
            return Err(self.control.poison("the arena lock names no participant"));
        }
        if !self.backing.is_alive(owner) {
            self.sweep(owner)?;
        }
        Ok(())
    }

    /// Takes the lock over from the dead `from`, if it held it.
    pub(super) fn inherit_lock(&self, from: u32) -> Option<ArenaLock<'_>> {
        let word = &self.control.header().lock.0;
        let mine = self.slot().ok()? + 1;
        loop {
            let seen = word.load(Acquire);
            if seen & !WAITERS != from + 1 {
                return None;
            }
            if word.compare_exchange(seen, mine | seen & WAITERS, Acquire, Relaxed).is_ok() {
                return Some(ArenaLock { arena: self });
            }
        }
    }
}

impl Drop for ArenaLock<'_> {
    #[inline]
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A bug of ours stopped half-way; nobody may build on these tables.
            self.arena.control.poison("a panic under the arena lock");
        }
        let word = &self.arena.control.header().lock.0;
        // Release pairs with the Acquire of the next owner.
        if word.swap(0, Release) & WAITERS != 0 {
            self.arena.backing.wake(word);
        }
        point(Point::LockFreed);
    }
}
