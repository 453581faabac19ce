//! A turn: what happens while the head's lock is taken, and what is left to do when it is open again.
//!
//! A turn begins with order: after a death under the lock, and where the totals contradict each other, what derives from
//! the entries is made anew.

use super::state::Cache;
use super::table::{DISORDER, HIGH, KEPT, LIVE, MOST_BYTES, State, USED};
use crate::arena::Deadline;
use crate::error::{Error, Kind, Result};
use crate::lock::Entered;
use crate::os::kill::{Point, point};
use crate::prim::{Ordering::Relaxed, read};
use std::time::Duration;

/// Memory of values that went is kept for reuse while less than this part of the cache is, or than its values leave.
const WARM_PART: u64 = 64;
/// How long the arena's lock is waited for under the cache's. It is meant to be held for less than a microsecond.
const RECORD_WAIT: Duration = Duration::from_millis(20);

/// What one turn under the lock leaves to do.
///
/// The arena's lock is needed there to keep a block and to let go of one, and its owner may be stopped. Nobody waits for
/// that long under the cache's lock, where no signal is answered and others wait behind. Who can't keep a block leaves,
/// waits outside, and begins again. A record that can't end is owed: whoever has the cache's lock later ends it.
#[derive(Default)]
pub(super) struct Turn {
    /// Places of blocks whose record has ended: to be freed once the lock is open.
    pub(super) blocks: Vec<u32>,
    /// The arena's lock could not be had: there is no use in asking for it again.
    pub(super) is_late: bool,
    /// What was to be kept was not, for that reason.
    pub(super) is_put_off: bool,
    /// The memory of what ends shall go back to the machine.
    pub(super) gives_back: bool,
}

impl Turn {
    /// How long the arena's lock is waited for in this turn.
    pub(super) fn deadline(&self) -> Deadline<'static> {
        if self.is_late { Deadline::now() } else { Deadline::new(Some(RECORD_WAIT), &|| Ok(())) }
    }

    pub(super) fn put_off(&mut self, error: &Error) {
        if error.kind() == Kind::Timeout {
            (self.is_late, self.is_put_off) = (true, true);
        }
    }
}

impl Cache {
    /// Runs `work` under the head's lock, after putting things in order if an owner of it died or the tables contradict
    /// themselves; frees afterwards what came free.
    pub(super) fn locked<T>(&self, deadline: &Deadline, mut work: impl FnMut(&mut Turn) -> Result<T>) -> Result<T> {
        // BOUND: the caller's deadline, which is looked at in each round.
        loop {
            let mut turn = Turn::default();
            match self.locked_once(deadline, &mut turn, &mut work) {
                Err(error) if turn.is_put_off && error.kind() == Kind::Timeout => {
                    // First, for its error says who has that lock.
                    self.arena().await_lock(deadline)?;
                    deadline.go_on("the arena lock")?;
                }
                other => return other,
            }
        }
    }

    fn locked_once<T>(
        &self,
        deadline: &Deadline,
        turn: &mut Turn,
        work: impl FnMut(&mut Turn) -> Result<T>,
    ) -> Result<T> {
        let (lock, dirty) = Entered::enter(&self.table.head, deadline)?;
        let outcome = self.in_order(dirty, turn, work);
        let left = lock.leave();
        self.free(turn)?;
        left.and(outcome)
    }

    /// Frees what came free in a turn. Its memory is kept for the next loads as far as the cache has no values in its place:
    /// memory that goes back to the machine is dear to have again. Once there are values, it goes.
    fn free(&self, turn: &Turn) -> Result<()> {
        let (least, kept) = (self.maxsize() / WARM_PART, self.table.word(KEPT));
        let is_kept = !read(kept, Relaxed).is(0);
        if turn.blocks.is_empty() && !is_kept {
            return Ok(());
        }
        let room = if turn.gives_back { 0 } else { self.table.value_bytes().saturating_sub(self.used()) };
        let (most, before) = (least.max(room), self.arena().warm_bytes());
        for &block in &turn.blocks {
            self.arena().free_unkept_beyond(block, most)?;
        }
        if is_kept {
            self.arena().trim_warm(most)?;
        }
        // What others keep in this arena is counted, too, and is none of this cache's.
        let now = self.arena().warm_bytes();
        let is_more = now > least && (is_kept || now > before);
        if is_more != is_kept {
            kept.store(is_more.into(), Relaxed);
            point(Point::CacheReleased);
        }
        Ok(())
    }

    fn in_order<T>(&self, dirty: bool, turn: &mut Turn, mut work: impl FnMut(&mut Turn) -> Result<T>) -> Result<T> {
        if dirty || !self.looks_orderly() {
            self.table.word(DISORDER).store(1, Relaxed);
            point(Point::CacheEnded);
            self.recover(turn)?;
        }
        self.end_owed(turn)?;
        let outcome = work(turn)?;
        if !self.looks_orderly() {
            self.recover(turn)?;
        }
        Ok(outcome)
    }

    /// Whether the totals agree, as far as a few words say.
    fn looks_orderly(&self) -> bool {
        let word = |index| read(self.table.word(index), Relaxed);
        word(DISORDER).is(0)
            && word(USED).is(self.table.queued_bytes())
            && word(LIVE).at_most(self.table.queued()).is_some()
    }

    /// Puts things in order if the entries do not come to the bytes that are counted.
    pub(super) fn check_totals(&self, turn: &mut Turn) -> Result<()> {
        let counts = |&slot: &u32| matches!(self.table.entry(slot).now().state(), State::Live | State::Failed);
        let bytes: u64 = self.slots().filter(counts).map(|slot| self.table.entry(slot).counted()).sum();
        if read(self.table.word(USED), Relaxed).is(bytes) { Ok(()) } else { self.recover(turn) }
    }

    pub(super) fn used(&self) -> u64 {
        read(self.table.word(USED), Relaxed).capped(MOST_BYTES)
    }

    /// All slots that were ever in use.
    pub(super) fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        let high = read(self.table.word(HIGH), Relaxed).capped(self.table.geometry.slots().into());
        // BOUND: there are not more slots.
        (1..=high).map_while(|link| self.table.slot(link))
    }
}

#[cold]
pub(super) fn scribbled() -> Error {
    Error::written_over(
        "the cache's tables",
        "the cache's tables contradict themselves, also after they were put in order: something writes over its \
         memory; make a new cache",
    )
}
