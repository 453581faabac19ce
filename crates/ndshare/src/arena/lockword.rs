//! The word of a lock that outlives its holder: who owns it, whether somebody sleeps, and whether an owner died.
//!
//! ```text
//! bit 31 waiters   somebody sleeps on the word
//! bit 30 dirty     an owner died inside; the next taker is told
//! bit 29 handoff   somebody has waited long: only who has slept may take it next
//! bits 0-15        the owner's slot + 1, or 0
//! ```
//!
//! The functions take the word by reference, so that a loom model runs the same code. Only the end of the owner's
//! address space lets somebody else free the word; a stopped owner is alive.

use crate::prim::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};

const WAITERS: u32 = 1 << 31;
const DIRTY: u32 = 1 << 30;
const HANDOFF: u32 = 1 << 29;
const OWNER: u32 = 0xffff;

/// A lock's word.
#[derive(Clone, Copy)]
pub(super) struct LockWord<'a>(pub &'a AtomicU32);

/// What a look at a word that could not be taken says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Busy {
    /// The word to sleep on.
    pub seen: u32,
}

impl Busy {
    /// The slot of the owner; none when the lock is free but kept for a sleeper.
    pub(super) fn owner(self) -> Option<u32> {
        (self.seen & OWNER).checked_sub(1)
    }
}

/// How a taker comes: what it may do depends on how long it has waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taker {
    pub slot: u32,
    /// It has slept at least once, and may take a lock that is handed off.
    pub slept: bool,
    /// It has waited so long that nobody may overtake it any more.
    pub starving: bool,
}

impl LockWord<'_> {
    /// Takes a free, clean lock that nobody waits for.
    #[inline]
    pub(super) fn take_fast(self, slot: u32) -> bool {
        // Acquire pairs with the Release in `free`: the taker sees what the last owner wrote.
        self.0.compare_exchange(0, slot + 1, Acquire, Relaxed).is_ok()
    }

    /// One attempt to take the lock, without a mark in the word when it fails. Ok says whether it is dirty.
    pub(super) fn take_once(self, taker: Taker) -> Result<bool, Busy> {
        // BOUND: a round is lost only when somebody else has changed the word.
        loop {
            let seen = self.0.load(Relaxed);
            if seen & OWNER != 0 || (seen & HANDOFF != 0 && !taker.slept) {
                return Err(Busy { seen });
            }
            // Whoever slept leaves the waiters' bit standing, because there may be other sleepers.
            let waiters = if taker.slept { WAITERS } else { seen & WAITERS };
            let taken = (taker.slot + 1) | waiters | seen & DIRTY;
            if self.0.compare_exchange(seen, taken, Acquire, Relaxed).is_ok() {
                return Ok(seen & DIRTY != 0);
            }
        }
    }

    /// Takes the lock if it is free, for somebody who will not wait, and therefore may overtake. The handoff stands,
    /// so that the sleeper it is meant for comes next.
    pub(super) fn take_now(self, slot: u32) -> Result<bool, Busy> {
        // BOUND: a round is lost only when somebody else has changed the word.
        loop {
            let seen = self.0.load(Relaxed);
            if seen & OWNER != 0 {
                return Err(Busy { seen });
            }
            if self.0.compare_exchange(seen, (slot + 1) | seen, Acquire, Relaxed).is_ok() {
                return Ok(seen & DIRTY != 0);
            }
        }
    }

    /// Takes the handoff back, for a taker that stops waiting. Who else starves will ask for it again. True: sleepers
    /// are to be woken, because they may have held back for it.
    pub(super) fn forgo(self) -> bool {
        // Relaxed: nothing is published; the exchange keeps the order of those around it.
        self.0.fetch_and(!HANDOFF, Relaxed) & (HANDOFF | WAITERS) == HANDOFF | WAITERS
    }

    /// Takes the lock, or marks in the word that somebody is about to sleep on it.
    pub(super) fn take_or_mark(self, taker: Taker) -> Result<bool, Busy> {
        // BOUND: a round is lost only when somebody else has changed the word.
        loop {
            let busy = match self.take_once(taker) {
                Ok(dirty) => return Ok(dirty),
                Err(busy) => busy,
            };
            let wanted = busy.seen | WAITERS | if taker.starving { HANDOFF } else { 0 };
            let marked = wanted == busy.seen;
            // Relaxed: the mark carries nothing; the kernel compares the word again before it sleeps.
            if marked || self.0.compare_exchange(busy.seen, wanted, Relaxed, Relaxed).is_ok() {
                return Err(Busy { seen: wanted });
            }
        }
    }

    /// Frees the lock of `slot`. `clean` takes the mark of a dead owner away. Ok: whether to wake a sleeper;
    /// error: it is not this participant's.
    #[inline]
    pub(super) fn free(self, slot: u32, clean: bool) -> Result<bool, Busy> {
        let mut seen = slot + 1;
        // BOUND: a round is lost only when somebody else has changed the word.
        loop {
            let left = if clean { 0 } else { seen & DIRTY } | seen & HANDOFF;
            // Release pairs with the Acquire of the next taker.
            match self.0.compare_exchange(seen, left, Release, Relaxed) {
                Ok(_) => return Ok(seen & WAITERS != 0),
                Err(now) if now & OWNER != slot + 1 => return Err(Busy { seen: now }),
                Err(now) => seen = now,
            }
        }
    }

    /// Frees the lock of the dead `slot` and marks it dirty. True: it was its, and sleepers are to be woken.
    pub(super) fn free_of_the_dead(self, slot: u32) -> bool {
        // BOUND: a round is lost only when somebody else has changed the word.
        loop {
            let seen = self.0.load(Acquire);
            if seen & OWNER != slot + 1 {
                return false;
            }
            if self.0.compare_exchange(seen, seen & HANDOFF | DIRTY, Release, Relaxed).is_ok() {
                return true;
            }
        }
    }

    /// Makes `heir` the owner in place of the dead `slot`.
    pub(super) fn inherit(self, slot: u32, heir: u32) -> bool {
        // BOUND: a round is lost only when somebody else has changed the word.
        loop {
            let seen = self.0.load(Acquire);
            if seen & OWNER != slot + 1 {
                return false;
            }
            if self.0.compare_exchange(seen, seen & !OWNER | (heir + 1), Acquire, Relaxed).is_ok() {
                return true;
            }
        }
    }

    /// Whether nobody has the lock, and nobody has died in it since it was put in order.
    pub(super) fn is_clean_and_free(self) -> bool {
        self.0.load(Acquire) & (OWNER | DIRTY) == 0
    }

    /// The slot of the owner, if there is one.
    pub(super) fn owner(self) -> Option<u32> {
        Busy { seen: self.0.load(Relaxed) }.owner()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const FIRST: Taker = Taker { slot: 3, slept: false, starving: false };

    #[test]
    fn a_death_is_told_until_somebody_recovers() {
        let word = AtomicU32::new(0);
        let lock = LockWord(&word);
        assert_eq!(lock.take_once(FIRST), Ok(false));
        assert!(!lock.free_of_the_dead(4) && lock.free_of_the_dead(3));
        assert!(!lock.take_fast(5), "the fast path must not miss the mark");
        for _ in 0..2 {
            assert_eq!(lock.take_once(FIRST), Ok(true));
            assert_eq!(lock.free(3, false), Ok(false));
        }
        assert_eq!(lock.take_once(FIRST), Ok(true));
        assert_eq!(lock.free(3, true), Ok(false));
        assert!(lock.take_fast(5));
    }

    #[test]
    fn a_handed_off_lock_waits_for_a_sleeper() {
        let word = AtomicU32::new(0);
        let lock = LockWord(&word);
        assert!(lock.take_fast(1));
        assert!(lock.take_or_mark(Taker { starving: true, ..FIRST }).is_err());
        assert_eq!(lock.free(1, true), Ok(true));
        assert_eq!(lock.take_once(Taker { slot: 8, ..FIRST }).unwrap_err().owner(), None);
        assert_eq!(lock.take_once(Taker { slept: true, ..FIRST }), Ok(false));
        assert_eq!(lock.owner(), Some(3));
    }

    #[test]
    fn a_handoff_ends_with_the_one_who_asked_for_it() {
        let word = AtomicU32::new(0);
        let lock = LockWord(&word);
        assert!(lock.take_fast(1));
        assert!(lock.take_or_mark(Taker { starving: true, ..FIRST }).is_err());
        assert_eq!(lock.free(1, true), Ok(true));
        assert!(!lock.forgo(), "nobody sleeps since it was freed");
        assert!(lock.take_fast(1));
        assert!(!lock.forgo());
    }

    #[test]
    fn who_will_not_wait_takes_what_is_free() {
        let word = AtomicU32::new(HANDOFF);
        let lock = LockWord(&word);
        assert!(lock.take_once(FIRST).is_err());
        assert_eq!(lock.take_now(3), Ok(false));
        assert!(lock.take_now(4).is_err());
        assert_eq!(lock.free(3, true), Ok(false));
        assert!(lock.take_once(FIRST).is_err(), "the handoff stands");
        assert!(lock.free_of_the_dead(3) || lock.take_once(Taker { slept: true, ..FIRST }).is_ok());
    }

    #[test]
    fn only_the_owner_frees() {
        let word = AtomicU32::new(0);
        let lock = LockWord(&word);
        assert!(lock.free(2, true).is_err());
        assert!(lock.take_fast(1));
        assert_eq!(lock.free(2, true).unwrap_err().owner(), Some(1));
    }
}

/// Models of takers, an owner that dies anywhere, and the sweep, run by loom over all interleavings.
#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::models::check;
    use crate::prim::AtomicBool;
    use loom::cell::UnsafeCell;
    use loom::sync::{Arc, Condvar, Mutex};
    use loom::thread;

    struct Guarded {
        word: AtomicU32,
        value: UnsafeCell<u32>,
    }

    fn guarded() -> Arc<Guarded> {
        Arc::new(Guarded { word: AtomicU32::new(0), value: UnsafeCell::new(0) })
    }

    impl Guarded {
        /// Takes the lock as a sleeper would, spinning where it would sleep, and says whether it was dirty.
        fn enter(&self, slot: u32) -> bool {
            let mut taker = Taker { slot, slept: false, starving: false };
            loop {
                match LockWord(&self.word).take_or_mark(taker) {
                    Ok(dirty) => return dirty,
                    Err(_) => taker = Taker { slept: true, starving: true, ..taker },
                }
                thread::yield_now();
            }
        }

        /// loom faults when two threads are inside.
        fn count(&self) {
            self.value.with_mut(|value| unsafe_count(value));
        }
    }

    fn unsafe_count(value: *mut u32) {
        // SAFETY: loom checks that no other access to the cell is going on.
        unsafe { *value += 1 };
    }

    /// A thread that takes the lock, counts inside, and leaves.
    fn counts_once(lock: &Arc<Guarded>) -> thread::JoinHandle<()> {
        let lock = lock.clone();
        thread::spawn(move || {
            lock.enter(1);
            lock.count();
            LockWord(&lock.word).free(1, true).unwrap();
        })
    }

    #[test]
    fn takers_exclude_each_other() {
        check(|| {
            let lock = guarded();
            let thread = counts_once(&lock);
            if LockWord(&lock.word).take_fast(0) || !lock.enter(0) {
                lock.count();
                LockWord(&lock.word).free(0, true).unwrap();
            }
            thread.join().unwrap();
            assert_eq!(lock.value.with(|value| unsafe_read(value)), 2);
            assert_eq!(LockWord(&lock.word).owner(), None);
        });
    }

    /// After which step a victim stops for good: it took the lock or marked it, went to work, or left.
    #[derive(Clone, Copy, PartialEq)]
    enum Stop {
        Tried,
        Counted,
        Freed,
    }

    /// A thread that enters as slot 1 and stops for good after a step. What it leaves is what a killed process leaves.
    fn go_until(lock: &Guarded, stop: Stop, dead: &AtomicBool) {
        let taker = Taker { slot: 1, slept: false, starving: true };
        let inside = LockWord(&lock.word).take_or_mark(taker) == Ok(false);
        if inside && stop != Stop::Tried {
            lock.count();
        }
        if inside && stop == Stop::Freed {
            LockWord(&lock.word).free(1, true).unwrap();
        }
        dead.store(true, Release);
    }

    impl Guarded {
        /// Enters as a waiter does, which sweeps a dead owner; says whether the lock was dirty.
        fn enter_and_sweep(&self, slot: u32, dead: &AtomicBool) -> bool {
            let mut taker = Taker { slot, slept: false, starving: false };
            loop {
                let busy = match LockWord(&self.word).take_or_mark(taker) {
                    Ok(dirty) => return dirty,
                    Err(busy) => busy,
                };
                if busy.owner() == Some(1) && dead.load(Acquire) {
                    LockWord(&self.word).free_of_the_dead(1);
                }
                taker.slept = true;
                thread::yield_now();
            }
        }
    }

    fn an_owner_stops(stop: Stop) {
        check(move || {
            let (lock, dead) = (guarded(), Arc::new(AtomicBool::new(false)));
            let (theirs, flag) = (lock.clone(), dead.clone());
            let victim = thread::spawn(move || go_until(&theirs, stop, &flag));
            let (theirs, flag) = (lock.clone(), dead.clone());
            let waiting = thread::spawn(move || {
                let dirty = theirs.enter_and_sweep(2, &flag);
                theirs.count();
                LockWord(&theirs.word).free(2, !dirty).unwrap();
            });
            victim.join().unwrap();
            let died_inside = lock.enter_and_sweep(3, &dead);
            lock.count();
            LockWord(&lock.word).free(3, true).unwrap();
            waiting.join().unwrap();
            assert!(!died_inside || stop != Stop::Freed, "who has left did not die inside");
            assert_eq!(LockWord(&lock.word).owner(), None);
        });
    }

    #[test]
    fn an_owner_stops_anywhere() {
        [Stop::Tried, Stop::Counted, Stop::Freed].into_iter().for_each(an_owner_stops);
    }

    #[test]
    fn a_taker_gives_up() {
        check(|| {
            let lock = guarded();
            assert!(LockWord(&lock.word).take_fast(0));
            let (impatient, patient) = (lock.clone(), lock.clone());
            let impatient = thread::spawn(move || {
                let taker = Taker { slot: 1, slept: true, starving: true };
                match LockWord(&impatient.word).take_or_mark(taker) {
                    Ok(_) => LockWord(&impatient.word).free(1, true).map(drop).unwrap(),
                    Err(_) => drop(LockWord(&impatient.word).forgo()),
                }
            });
            let patient = thread::spawn(move || {
                patient.enter(2);
                patient.count();
                LockWord(&patient.word).free(2, true).unwrap();
            });
            lock.count();
            LockWord(&lock.word).free(0, true).unwrap();
            impatient.join().unwrap();
            patient.join().unwrap();
            assert!(LockWord(&lock.word).take_now(3).is_ok());
        });
    }

    #[test]
    fn who_will_not_wait_sees_what_the_last_owner_wrote() {
        check(|| {
            let lock = guarded();
            let thread = counts_once(&lock);
            if LockWord(&lock.word).take_now(0).is_ok() {
                lock.count();
                LockWord(&lock.word).free(0, true).unwrap();
            } else if LockWord(&lock.word).is_clean_and_free() {
                assert_eq!(lock.value.with(|value| unsafe_read(value)), 1);
            }
            thread.join().unwrap();
        });
    }

    /// What the kernel keeps of a word's sleepers. loom faults when nobody can go on.
    struct Sleepers {
        asleep: Mutex<u32>,
        bell: Condvar,
    }

    impl Sleepers {
        /// Sleeps while the word is what it was, as a futex does.
        fn sleep(&self, word: &AtomicU32, seen: u32) {
            let mut asleep = self.asleep.lock().unwrap();
            if word.load(Relaxed) == seen {
                *asleep += 1;
                drop(self.bell.wait(asleep).unwrap());
            }
        }

        fn wake_one(&self) {
            let mut asleep = self.asleep.lock().unwrap();
            if *asleep > 0 {
                *asleep -= 1;
                self.bell.notify_one();
            }
        }
    }

    #[test]
    fn nobody_sleeps_on_a_lock_that_is_free() {
        check(|| {
            let shared = Arc::new((guarded(), Sleepers { asleep: Mutex::new(0), bell: Condvar::new() }));
            let leave = |shared: &(Arc<Guarded>, Sleepers), slot: u32| {
                if LockWord(&shared.0.word).free(slot, true).unwrap() {
                    shared.1.wake_one();
                }
            };
            assert!(LockWord(&shared.0.word).take_fast(0));
            let others = [1, 2].map(|slot| {
                let shared = shared.clone();
                thread::spawn(move || {
                    let mut taker = Taker { slot, slept: false, starving: false };
                    while let Err(busy) = LockWord(&shared.0.word).take_or_mark(taker) {
                        shared.1.sleep(&shared.0.word, busy.seen);
                        taker.slept = true;
                    }
                    leave(&shared, slot);
                })
            });
            leave(&shared, 0);
            others.into_iter().for_each(|other| other.join().unwrap());
        });
    }

    /// Who clears up after a death has the lock of the dead, and nobody else has it.
    #[test]
    fn a_lock_is_inherited_once() {
        check(|| {
            let lock = guarded();
            lock.enter(1);
            lock.count();
            let others = [2, 3].map(|heir| {
                let lock = lock.clone();
                thread::spawn(move || {
                    let inherits = LockWord(&lock.word).inherit(1, heir);
                    if inherits {
                        lock.count();
                        LockWord(&lock.word).free(heir, true).unwrap();
                    }
                    inherits
                })
            });
            let heirs = others.map(|other| other.join().unwrap());
            assert_eq!(heirs.iter().filter(|&&inherits| inherits).count(), 1);
            assert!(LockWord(&lock.word).is_clean_and_free());
        });
    }

    fn unsafe_read(value: *const u32) -> u32 {
        // SAFETY: loom checks that nobody writes the cell meanwhile.
        unsafe { *value }
    }

    #[test]
    fn the_death_of_an_owner_is_told_to_the_next_taker() {
        check(|| {
            let lock = guarded();
            let (victim, taker) = (lock.clone(), lock.clone());
            let victim = thread::spawn(move || {
                victim.enter(1);
                victim.count();
            });
            let sweeper_side = lock.clone();
            let sweeper = thread::spawn(move || {
                victim.join().unwrap();
                assert!(LockWord(&sweeper_side.word).free_of_the_dead(1));
            });
            let waiting = thread::spawn(move || {
                let dirty = taker.enter(2);
                taker.count();
                LockWord(&taker.word).free(2, !dirty).unwrap();
                dirty
            });
            let told = waiting.join().unwrap();
            sweeper.join().unwrap();
            // Whoever came before the victim was not told; then the mark still stands.
            assert_eq!(lock.enter(3), true, "told before: {told}");
        });
    }
}
