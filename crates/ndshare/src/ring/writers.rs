//! Who writes to a ring, as all of its processes see them: a slot of the head for each writer.
//!
//! A slot has a writer of one of three kinds. *Made*: a `Writer`, which counts from its creation on, whether somebody uses
//! it yet or not. *Entered*: a process that says when it is done. *Loose*: a process that has merely written through the
//! ring itself; of it only the end is noticed. How a slot is given up, and the stream ends by that: `settle`.

use super::claim::{Role, SlotClaim};
use super::leave::{Open, remember};
use super::state::Ring;
use super::table::{WRITERS, WRITERS_MADE, WriterWords};
use crate::arena::Deadline;
use crate::error::{Error, Kind, Result};
use crate::os::kill::{Point, point};
use crate::prim::Ordering::{Relaxed, SeqCst};
use std::sync::Arc;

impl Open for Ring {
    /// The process may have left already: who has merely written through the ring itself has not said that the stream ends.
    fn end_in_order(&self, deadline: &Deadline) -> Result<()> {
        let entered =
            self.find_pen()?.is_some_and(|pen| self.table.writer(pen.index).look().role == Some(Role::Entered));
        if entered { self.leave_at_once(deadline) } else { Ok(()) }
    }
}

impl WriterWords<'_> {
    #[inline]
    pub(super) fn look(&self) -> SlotClaim {
        SlotClaim::read(self.state)
    }

    /// Marks the writer of one incarnation as ended; who settles does the rest.
    pub(super) fn mark_ended(&self, incarnation: u64) {
        if SlotClaim::end(self.state, incarnation) {
            point(Point::RingEnded);
        }
    }
}

/// Names the writer that publishes a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pen {
    pub index: usize,
    pub incarnation: u64,
    /// Whether it is a made one, which publishes nothing any more once it was closed.
    pub is_made: bool,
}

impl Ring {
    /// Enters this process among the writers, until it has left as often as it entered: readers are told when the last of
    /// them dies.
    ///
    /// # Errors
    /// `Misuse` when all slots are taken; `Attach` in a process without a slot; `Timeout` at `deadline`.
    #[doc(hidden)]
    pub fn enter_writers(self: &Arc<Self>, deadline: &Deadline) -> Result<()> {
        let pen = self.own_pen(Role::Entered, deadline)?;
        let words = self.table.writer(pen.index);
        let seen = words.look();
        if seen.incarnation == pen.incarnation && seen.role == Some(Role::Loose) {
            let _ = seen.replace(words.state, SlotClaim { role: Some(Role::Entered), ..seen });
            point(Point::RingEntered);
        }
        remember(self);
        self.count_entered(|depth| depth + 1);
        Ok(())
    }

    /// Takes this process from the writers, if it has now left as often as it entered. The stream ends if it was the last.
    ///
    /// # Errors
    /// `Poisoned`; `Attach` in a process without a slot; `Timeout` at `deadline`.
    #[doc(hidden)]
    pub fn leave_writers(&self, deadline: &Deadline) -> Result<()> {
        if self.count_entered(|depth| depth.saturating_sub(1)) > 0 { Ok(()) } else { self.leave_at_once(deadline) }
    }

    /// Changes how often this process has entered, and returns it. In a forked child it begins anew.
    fn count_entered(&self, change: impl Fn(u32) -> u32) -> u32 {
        let me = u64::from(std::process::id()) << 32;
        let depth = |word: u64| change(if word & !u64::from(u32::MAX) == me { word as u32 } else { 0 });
        // BOUND: a round is lost to a thread of this process that enters or leaves.
        let before = self.entered.fetch_update(SeqCst, SeqCst, |word| Some(me | u64::from(depth(word))));
        before.map_or(0, depth)
    }

    fn leave_at_once(&self, deadline: &Deadline) -> Result<()> {
        self.mark_left()?;
        self.settle_writers(deadline).map(drop)
    }

    fn mark_left(&self) -> Result<()> {
        if let Some(pen) = self.find_pen()? {
            self.table.writer(pen.index).mark_ended(pen.incarnation);
        }
        Ok(())
    }

    /// The pen of this process as one that writes through the ring itself, if it has one.
    #[inline]
    pub(super) fn find_pen(&self) -> Result<Option<Pen>> {
        let me = self.arena().identity()?;
        // RAW: a word of this process alone.
        let known = self.own_writer.load(Relaxed) as usize;
        if let Some(pen) = known.checked_sub(1).and_then(|index| self.pen_of(index, me)) {
            return Ok(Some(pen));
        }
        let found = (0..WRITERS).find_map(|index| self.pen_of(index, me));
        if let Some(pen) = found {
            self.own_writer.store(pen.index as u64 + 1, Relaxed);
        }
        Ok(found)
    }

    #[inline]
    fn pen_of(&self, index: usize, me: u64) -> Option<Pen> {
        let words = self.table.writer(index);
        let state = words.look();
        let is_mine = words.user.load(Relaxed) == me && state.writes() && state.role != Some(Role::Made);
        is_mine.then_some(Pen { index, incarnation: state.incarnation, is_made: false })
    }

    /// The same, after entering it as `role` if it has none.
    pub(super) fn own_pen(&self, role: Role, deadline: &Deadline) -> Result<Pen> {
        self.check_writable()?;
        if let Some(pen) = self.find_pen()? {
            return Ok(pen);
        }
        self.settle_writers(deadline)?;
        let me = self.arena().identity()?;
        let pen = self.locked(deadline, || {
            // Another thread may have been faster.
            self.find_pen()?.map_or_else(|| self.take_place(role, 0, me), Ok)
        })?;
        // Who waits on a descriptor is to watch this process, too. Not under the lock: it makes system calls.
        self.tell_wishes();
        Ok(pen)
    }

    /// Takes a free slot, under the lock.
    pub(super) fn take_place(&self, role: Role, token: u64, user: u64) -> Result<Pen> {
        let free = (0..WRITERS).find(|&index| self.table.writer(index).look().role.is_none());
        let index = free.ok_or_else(|| {
            Error::new(Kind::Misuse, format!("expected at most {WRITERS} writers at a time, got one more: close one"))
        })?;
        // First of all, so that there are never more that ended than were made.
        self.table.word(WRITERS_MADE).fetch_add(u64::from(role == Role::Made), SeqCst);
        point(Point::RingEntered);
        let words = self.table.writer(index);
        words.written.store(0, Relaxed);
        words.leaver.store(0, Relaxed);
        words.last_time_ns.store(0, Relaxed);
        for (word, value) in [(words.user, user), (words.token, token)] {
            word.store(value, SeqCst);
            point(Point::RingEntered);
        }
        let claim = words.look().next(role);
        words.state.store(claim.pack(), SeqCst);
        point(Point::RingEntered);
        Ok(Pen { index, incarnation: claim.incarnation, is_made: role == Role::Made })
    }

    /// The processes that write.
    pub(super) fn writing_identities(&self) -> impl Iterator<Item = u64> {
        let writing = (0..WRITERS).map(|index| self.table.writer(index)).filter(|words| words.look().writes());
        // RAW: names, which are looked up.
        writing.map(|words| words.user.load(SeqCst)).filter(|&user| user != 0)
    }

    /// Whether anybody writes or is to write, as far as one look can tell.
    pub(super) fn has_writers(&self) -> bool {
        (0..WRITERS).any(|index| self.table.writer(index).look().writes())
    }

    /// Whether a writer may still publish.
    ///
    /// # Errors
    /// `Closed` for a made one that was closed.
    #[inline]
    pub(super) fn check_pen(&self, pen: Pen) -> Result<()> {
        let state = self.table.writer(pen.index).look();
        let writes = state.incarnation == pen.incarnation && state.writes();
        if pen.is_made && !writes { Err(was_closed()) } else { Ok(()) }
    }

    /// Counts a frame for its writer, under the lock.
    #[inline]
    pub(super) fn count_frame(&self, pen: Pen, time_ns: u64) {
        let words = self.table.writer(pen.index);
        if words.look().incarnation == pen.incarnation {
            // RAW: counted up from whatever it is, and capped by who tells it.
            words.written.store(words.written.load(Relaxed).wrapping_add(1), Relaxed);
            words.last_time_ns.store(time_ns, Relaxed);
            point(Point::RingHead);
        }
    }
}

#[cold]
pub(super) fn was_closed() -> Error {
    Error::new(Kind::Closed, "the writer was closed: expected an open one; make a new one")
}

#[cold]
pub(super) fn is_somebodys(what: &str) -> Error {
    Error::new(
        Kind::Misuse,
        format!(
            "expected a {what} that nobody has used yet, got one that belongs to a process: make one for each process"
        ),
    )
}
