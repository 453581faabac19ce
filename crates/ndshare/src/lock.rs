//! Locks that outlive their holder: several blocks at once, or one lock for its own sake.
//!
//! Each block has one lock, so all views of an array share it. Several are taken in one order everywhere (arena,
//! then place in the table), so that two callers that name them in different orders never wait for each other.

use crate::arena::{Arena, Deadline, Hold, Reentry};
use crate::error::{Error, Kind, OwnerDied, Result};
use crate::head::HeadKind;
use crate::os::monotonic;
use crate::prim::Ordering::{Acquire, Release};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

/// The version of a lock's head.
const VERSION: u32 = 1;
/// Bytes of the block behind a lock for its own sake, which say that it is one.
const HEAD_BYTES: usize = 8;

/// A lock for its own sake: it guards what its users say it guards, in every process that has it.
///
/// ```
/// use ndshare::lock::Death;
/// use ndshare::{Deadline, Kind, Lock};
///
/// let forever = Deadline::never();
/// let lock = Lock::new(ndshare::session()?, &forever)?;
/// // A text for another process, in Rust or Python (`nds.ref(text).open()`):
/// let same = Lock::open_reference(&lock.reference().to_string().parse()?, &forever)?;
/// let locked = lock.acquire(Death::Report, &forever)?;
/// assert!(same.is_locked()? && same.try_acquire(Death::Report)?.is_none());
/// locked.release(true)?; // what it guards is in order
/// # Ok::<(), ndshare::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Lock {
    head: Hold,
}

impl Lock {
    /// A new one, unlocked.
    ///
    /// # Errors
    /// `ArenaFull`; `Timeout` at `deadline`.
    pub fn new(arena: &Arc<Arena>, deadline: &Deadline) -> Result<Self> {
        let head = arena.alloc(HEAD_BYTES, 64, false, deadline)?;
        // NO POINT: nobody else has the name of this block yet; with its maker it goes.
        head.word(0)?.store(HeadKind::Lock.signature(VERSION), Release);
        Ok(Self { head })
    }

    /// The lock whose head this is, as another process made it.
    ///
    /// # Errors
    /// `WrongKind` when the block is no head of a lock, or one of another version.
    pub fn open(head: Hold) -> Result<Self> {
        // RAW: compared.
        HeadKind::Lock.check(VERSION, head.word(0)?.load(Acquire))?;
        Ok(Self { head })
    }

    /// The block that says what it is, and whose own lock it is.
    pub fn head(&self) -> &Hold {
        &self.head
    }

    /// Waits for the lock and takes it.
    ///
    /// # Errors
    /// As [`Locked::acquire`].
    pub fn acquire(&self, death: Death, deadline: &Deadline) -> Result<Locked> {
        Locked::acquire(vec![self.head.clone()], death, deadline)
    }

    /// Takes the lock if it is free now; none when it is not, also when this thread has it.
    ///
    /// # Errors
    /// `OwnerDied` under [`Death::Report`].
    pub fn try_acquire(&self, death: Death) -> Result<Option<Locked>> {
        let head = &self.head;
        Ok(try_acquire(head, death)?.then(|| Locked { holds: vec![head.clone()], pid: process_of(head) }))
    }

    /// Whether somebody alive, in whatever process, has the lock.
    ///
    /// # Errors
    /// `Poisoned` when the arena is.
    pub fn is_locked(&self) -> Result<bool> {
        is_locked(&self.head)
    }
}

/// What a taker does about a lock whose owner died in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// It gets `OwnerDied`, and the lock stays free and marked.
    Report,
    /// It enters; leaving in order takes the mark away.
    Recover,
}

/// The locks of some blocks, held. Dropping it frees them, and leaves the marks of dead owners standing.
///
/// ```
/// use ndshare::lock::{Death, Locked};
/// use ndshare::{Array, Deadline, Kind, Number};
///
/// let (arena, forever) = (ndshare::session()?, Deadline::never());
/// let (image, mask) = (Array::zeros(&arena, &[4], Number::U8)?, Array::zeros(&arena, &[4], Number::U8)?);
/// let both = vec![image.hold().clone(), mask.hold().clone()];
/// let locked = Locked::acquire(both.clone(), Death::Report, &forever)?;
/// image.fill(7_u8)?;
/// // The same thread again would wait for itself, so it is an error at once.
/// assert_eq!(Locked::acquire(both, Death::Report, &forever).unwrap_err().kind(), Kind::Misuse);
/// // True: the content is in order. After a death inside others get `OwnerDied` until somebody says so.
/// locked.release(true)?;
/// # Ok::<(), ndshare::Error>(())
/// ```
#[derive(Debug)]
pub struct Locked {
    /// In the order of locking; emptied when they are freed.
    holds: Vec<Hold>,
    /// The process that took them: a forked child has a copy of this, and may have taken the same locks since.
    pid: u32,
}

impl Locked {
    /// Takes the locks of all these blocks, each once, in the one order. All or none.
    ///
    /// # Errors
    /// `OwnerDied`, with the process that died, under [`Death::Report`]; `Misuse` when this thread has one of them already;
    /// `Timeout` at `deadline`.
    pub fn acquire(blocks: Vec<Hold>, death: Death, deadline: &Deadline) -> Result<Self> {
        let mut wanted = blocks;
        wanted.sort_by_key(place);
        wanted.dedup_by_key(|hold| place(hold));
        let pid = wanted.first().map_or(0, process_of);
        let mut locked = Self { holds: Vec::with_capacity(wanted.len()), pid };
        for hold in wanted {
            let dirty = hold.arena().lock_block(&hold, Reentry::Refuse, deadline)?;
            let died = (dirty && death == Death::Report).then(|| owner_died(&hold));
            locked.holds.push(hold);
            if let Some(error) = died {
                return Err(error);
            }
        }
        Ok(locked)
    }

    /// Frees the locks. `clean`: the content is in order, and the marks of dead owners go.
    ///
    /// # Errors
    /// `Misuse` in another process than the one that took them.
    pub fn release(mut self, clean: bool) -> Result<()> {
        self.free(clean)
    }

    fn free(&mut self, clean: bool) -> Result<()> {
        let mut outcome = Ok(());
        // BOUND: each round takes one out of a private list.
        while let Some(hold) = self.holds.pop() {
            let freed = if process_of(&hold) == self.pid {
                hold.arena().unlock_block(&hold, clean)
            } else {
                Err(Error::new(
                    Kind::Misuse,
                    "release of a lock: expected the process that took it, got its forked child",
                ))
            };
            outcome = outcome.and(freed);
        }
        outcome
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // In a forked child they are the parent's, which is an error that nobody here can use.
        let _ = self.free(false);
    }
}

fn process_of(hold: &Hold) -> u32 {
    hold.arena().locator().pid
}

fn place(hold: &Hold) -> (u64, u32) {
    (hold.arena().id(), hold.block().index)
}

/// Waits for the lock of one block and takes it.
///
/// # Errors
/// As [`Locked::acquire`], but a second entry by the same thread waits like anybody else.
#[inline]
pub fn acquire(hold: &Hold, death: Death, deadline: &Deadline) -> Result<()> {
    let dirty = hold.arena().lock_block(hold, Reentry::Wait, deadline)?;
    enter(hold, dirty, death)
}

/// Takes the lock of one block if it is free, clean and nobody waits for it; says whether it did. Never a system
/// call: `false` says only that [`acquire`] or [`try_acquire`] has to look closer.
///
/// # Errors
/// `Attach` in a process without a slot.
#[inline]
#[doc(hidden)]
pub fn acquire_quick(hold: &Hold) -> Result<bool> {
    hold.arena().lock_block_quick(hold)
}

/// Takes the lock of one block if it is free now; says whether it did.
///
/// # Errors
/// `OwnerDied` under [`Death::Report`].
pub fn try_acquire(hold: &Hold, death: Death) -> Result<bool> {
    let Some(dirty) = hold.arena().try_lock_block(hold)? else { return Ok(false) };
    enter(hold, dirty, death).map(|()| true)
}

/// Waits for the lock of one block until `deadline`; says whether it was to be had.
///
/// # Errors
/// As [`acquire`], but for `Timeout`.
pub fn acquire_in_time(hold: &Hold, death: Death, deadline: &Deadline) -> Result<bool> {
    match acquire(hold, death, deadline) {
        Err(error) if error.kind() == Kind::Timeout => Ok(false),
        other => other.map(|()| true),
    }
}

#[inline]
fn enter(hold: &Hold, dirty: bool, death: Death) -> Result<()> {
    if dirty && death == Death::Report {
        // While it is taken nobody else can die in it.
        let error = owner_died(hold);
        hold.arena().unlock_block(hold, false)?;
        return Err(error);
    }
    Ok(())
}

thread_local! {
    /// How many locks that keep content in order this thread holds.
    static QUIET: Cell<u32> = const { Cell::new(0) };
}

/// While one lives, a wait's check must not run code of users, because this thread holds a lock of ours: a signal
/// handler that came to the same object would wait for itself.
pub(crate) struct Quiet(());

impl Quiet {
    #[inline]
    pub(crate) fn begin() -> Self {
        QUIET.set(QUIET.get() + 1);
        Self(())
    }
}

impl Drop for Quiet {
    #[inline]
    fn drop(&mut self) {
        QUIET.set(QUIET.get() - 1);
    }
}

/// Whether this thread holds a lock under which no code of users may run.
#[inline]
pub(crate) fn is_quiet() -> bool {
    QUIET.get() > 0
}

/// Longer than this nobody waits for a second lock while it holds one, deaf to signals.
const MOST_QUIET: Duration = Duration::from_secs(10);

/// One wait, as its check sees it: whether code of users may run in it, and for how long none could.
#[derive(Debug, Default)]
#[doc(hidden)]
pub struct QuietWait {
    since: Cell<Option<Duration>>,
}

impl QuietWait {
    /// Whether code of users, such as the handlers of signals, may run now.
    ///
    /// # Errors
    /// `Timeout` when none could for ten seconds: such a wait does not last.
    pub fn may_run_code(&self) -> Result<bool> {
        if !is_quiet() {
            self.since.set(None);
            return Ok(true);
        }
        let now = monotonic();
        let began = self.since.get().unwrap_or(now);
        self.since.set(Some(began));
        if now.saturating_sub(began) < MOST_QUIET {
            return Ok(false);
        }
        Err(Error::new(
            Kind::Timeout,
            "the lock of the arena was not free for 10 seconds, while this call held another one: expected its holder to \
             go on, which may be a process that was stopped; let it go on, or end it, and try again",
        ))
    }
}

/// The lock of a block whose content one module keeps in order, held. Dropping it, in a panic or after an error, leaves
/// the mark of a dead owner standing: whoever comes next puts the content in order.
pub(crate) struct Entered<'a>(&'a Hold, #[allow(dead_code)] Quiet);

impl<'a> Entered<'a> {
    /// Waits for the lock. True: an owner died in it, and the content has to be put in order first.
    pub(crate) fn enter(hold: &'a Hold, deadline: &Deadline) -> Result<(Self, bool)> {
        let dirty = hold.arena().lock_block(hold, Reentry::Wait, deadline)?;
        Ok((Self(hold, Quiet::begin()), dirty))
    }

    /// The same if the lock is free, clean and nobody waits for it; else none. Never a system call.
    pub(crate) fn enter_quick(hold: &'a Hold) -> Result<Option<Self>> {
        // Made only when it was taken: dropping it frees the lock, whichever thread has it.
        Ok(hold.arena().lock_block_quick(hold)?.then(|| Self(hold, Quiet::begin())))
    }

    /// Frees the lock; the content is in order.
    pub(crate) fn leave(self) -> Result<()> {
        let hold = self.0;
        std::mem::forget(self);
        QUIET.set(QUIET.get() - 1);
        hold.arena().unlock_block(hold, true)
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let _ = self.0.arena().unlock_block(self.0, false);
    }
}

/// Frees the lock of one block, whichever thread of this process took it, and takes the mark of a dead owner away.
///
/// # Errors
/// `Misuse` when this process does not have it.
#[inline]
pub fn release(hold: &Hold) -> Result<()> {
    hold.arena().unlock_block(hold, true)
}

/// Whether the lock of a block is taken, by anybody alive.
///
/// # Errors
/// `Poisoned` when the arena is.
pub fn is_locked(hold: &Hold) -> Result<bool> {
    hold.arena().is_block_locked(hold)
}

/// The same without a look at whether its owner lives. Never waits.
///
/// # Errors
/// As [`is_locked`].
#[doc(hidden)]
pub fn looks_locked(hold: &Hold) -> Result<bool> {
    hold.arena().looks_locked(hold)
}

/// What leaving a lock that was not entered gives.
#[doc(hidden)]
pub fn not_entered() -> Error {
    Error::new(Kind::Misuse, "exit of a lock: expected it to be entered, but it is not, or was left already")
}

/// Of a lock that this process has, marked with a death.
#[cold]
fn owner_died(hold: &Hold) -> Error {
    let pid = hold.arena().lost_owner(hold);
    let owner = pid.map_or("the lock's last owner".to_owned(), |pid| format!("process {pid}, the lock's last owner,"));
    let message = format!(
        "{owner} died inside: expected consistent content, got what it left half-way; enter to recover it, put the \
         content in order, and leave"
    );
    OwnerDied { pid, ..OwnerDied::saying(message) }.into()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const FOREVER: Deadline<'static> = Deadline::never();

    /// A wait inside ran signal handlers, which could come to the same lock in the same thread.
    #[test]
    fn who_keeps_content_in_order_is_quiet() {
        let (arena, _heap) = Arena::create_on_heap(1 << 21).unwrap();
        let head = arena.alloc(100, 64, false, &FOREVER).unwrap();
        let (entered, _) = Entered::enter(&head, &FOREVER).unwrap();
        assert!(is_quiet());
        let wait = QuietWait::default();
        assert!(!wait.may_run_code().unwrap());
        wait.since.set(monotonic().checked_sub(MOST_QUIET));
        assert_eq!(wait.may_run_code().unwrap_err().kind(), Kind::Timeout);
        assert!(!std::thread::scope(|scope| scope.spawn(is_quiet).join().unwrap()));
        entered.leave().unwrap();
        assert!(!is_quiet());
        drop(Entered::enter_quick(&head).unwrap());
        assert!(!is_quiet());
        acquire(&head, Death::Recover, &FOREVER).unwrap();
        assert!(wait.may_run_code().unwrap() && wait.since.get().is_none());
        assert!(!is_quiet(), "what users lock is theirs");
        release(&head).unwrap();
    }

    #[test]
    fn several_locks_are_taken_once_each_and_all_or_none() {
        let (arena, heap) = Arena::create_on_heap(1 << 21).unwrap();
        let other = Arena::join_on_heap(&heap).unwrap();
        let blocks: Vec<Hold> = (0..4).map(|_| arena.alloc(100, 64, false, &FOREVER).unwrap()).collect();
        let theirs = other.take(blocks[2].block()).unwrap();
        assert!(try_acquire(&theirs, Death::Report).unwrap());
        let twice = [&blocks[3], &blocks[0], &blocks[3], &blocks[2]].map(Hold::clone).to_vec();
        let short = Deadline::new(Some(Duration::from_millis(10)), &|| Ok(()));
        assert_eq!(Locked::acquire(twice.clone(), Death::Report, &short).unwrap_err().kind(), Kind::Timeout);
        assert!(!is_locked(&blocks[0]).unwrap(), "none is kept after a failure");
        release(&theirs).unwrap();
        let locked = Locked::acquire(twice.clone(), Death::Report, &FOREVER).unwrap();
        assert_eq!(Locked::acquire(twice, Death::Report, &FOREVER).unwrap_err().kind(), Kind::Misuse);
        assert!(!try_acquire(&theirs, Death::Report).unwrap());
        locked.release(true).unwrap();
        assert!(blocks.iter().all(|hold| !is_locked(hold).unwrap()));
    }

    /// One that was not to be had was once made and dropped all the same, which freed the lock of another thread.
    #[test]
    fn who_does_not_enter_frees_nothing() {
        let (arena, _heap) = Arena::create_on_heap(1 << 21).unwrap();
        let hold = arena.alloc(100, 64, false, &FOREVER).unwrap();
        let (entered, dirty) = Entered::enter(&hold, &FOREVER).unwrap();
        assert!(!dirty && Entered::enter_quick(&hold).unwrap().is_none());
        assert!(is_locked(&hold).unwrap());
        entered.leave().unwrap();
        Entered::enter_quick(&hold).unwrap().unwrap().leave().unwrap();
        assert!(!is_locked(&hold).unwrap());
    }

    #[test]
    fn a_lock_for_its_own_sake_says_that_it_is_one() {
        let (arena, _heap) = Arena::create_on_heap(1 << 21).unwrap();
        let block = arena.alloc(8, 64, true, &FOREVER).unwrap();
        assert_eq!(Lock::open(block.clone()).unwrap_err().kind(), Kind::WrongKind);
        let lock = Lock::new(&arena, &FOREVER).unwrap();
        assert_eq!(Lock::open(lock.head().clone()).unwrap().head().block(), lock.head().block());
        lock.head().words()[0].store(HeadKind::Ring.signature(1), Release);
        let error = Lock::open(lock.head().clone()).unwrap_err().to_string();
        assert!(error.contains("expected a lock") && error.contains("got a ring"), "{error}");
    }

    #[test]
    fn a_lock_is_had_by_one_in_all_processes() {
        let (arena, heap) = Arena::create_on_heap(1 << 21).unwrap();
        let other = Arena::join_on_heap(&heap).unwrap();
        let lock = Lock::new(&arena, &FOREVER).unwrap();
        let theirs = Lock::open(other.take(lock.head().block()).unwrap()).unwrap();
        let locked = theirs.try_acquire(Death::Report).unwrap().expect("a free lock");
        assert!(lock.is_locked().unwrap() && lock.try_acquire(Death::Report).unwrap().is_none());
        let short = Deadline::new(Some(Duration::from_millis(10)), &|| Ok(()));
        assert_eq!(lock.acquire(Death::Report, &short).unwrap_err().kind(), Kind::Timeout);
        locked.release(true).unwrap();
        lock.acquire(Death::Report, &FOREVER).unwrap().release(true).unwrap();
        assert!(!lock.is_locked().unwrap());
    }

    #[test]
    fn a_death_is_reported_until_a_clean_exit() {
        let (arena, heap) = Arena::create_on_heap(1 << 21).unwrap();
        let victim = Arena::join_on_heap(&heap).unwrap();
        let hold = arena.alloc(100, 64, false, &FOREVER).unwrap();
        let theirs = victim.take(hold.block()).unwrap();
        acquire(&theirs, Death::Report, &FOREVER).unwrap();
        heap.declare_dead(victim.participant_slot());
        std::mem::forget((theirs, victim));
        let enter = |death| Locked::acquire(vec![hold.clone()], death, &FOREVER);
        let told = |error| match error {
            Error::OwnerDied(died) => died.pid,
            other => panic!("{other:?}"),
        };
        let error = enter(Death::Report).unwrap_err();
        assert!(error.to_string().starts_with(&format!("process {}, the lock's last", std::process::id())), "{error}");
        assert_eq!(told(error), Some(std::process::id()));
        assert_eq!(told(try_acquire(&hold, Death::Report).unwrap_err()), Some(std::process::id()));
        drop(enter(Death::Recover).unwrap());
        assert_eq!(enter(Death::Report).unwrap_err().kind(), Kind::OwnerDied, "an exception inside heals nothing");
        enter(Death::Recover).unwrap().release(true).unwrap();
        enter(Death::Report).unwrap().release(true).unwrap();
    }
}
