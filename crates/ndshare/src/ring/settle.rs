//! When a stream ends. It ends when the last made or entered writer ends in order; an entered one ends it only if no loose
//! one is left either; and when somebody closes the ring.
//!
//! A slot is given up in two steps, so that no death leaves a stream without its end: its writer marks it as ended,
//! without a lock; whoever settles, under the ring's lock, frees what is marked, counts the dead, and ends the stream
//! if nobody is left. Readers that wait settle now and then.

use super::claim::Role;
use super::state::Ring;
use super::table::{CLOSED, DEATHS, EVENT, LAST_LOST, SPACE, WRITERS, WRITERS_ENDED, WRITERS_LOST, WriterWords};
use super::writers::Pen;
use crate::arena::{BlockId, Deadline};
use crate::error::Result;
use crate::os::kill::{Point, point};
use crate::prim::Ordering::SeqCst;

/// A writer that is gone: its slot, and which of the slot's writers it was.
struct Gone {
    index: usize,
    incarnation: u64,
}

impl Ring {
    /// Ends the stream: writers get `Closed`, readers too once they have drained it.
    ///
    /// # Errors
    /// `Poisoned`; `ReadOnly` where this process may only read; `Timeout` at `deadline`.
    pub fn close(&self, deadline: &Deadline) -> Result<()> {
        self.check_writable()?;
        self.locked(deadline, || {
            self.table.word(CLOSED).store(1, SeqCst);
            point(Point::RingOver);
            Ok(())
        })?;
        self.tell_end(true)
    }

    /// Whether a writer has ended in order and nobody has settled that yet.
    pub(super) fn is_to_settle(&self) -> bool {
        (0..WRITERS).any(|index| self.table.writer(index).look().is_to_settle())
    }

    /// Frees the slots of writers that are gone, ends the stream if the last of them ended in order, and says whether
    /// one is left.
    pub(super) fn settle_writers(&self, deadline: &Deadline) -> Result<bool> {
        let (gone, left) = self.gone_writers(true)?;
        if !gone.is_empty() {
            let over = self.locked(deadline, || Ok(self.free_writers(&gone)))?;
            self.tell_end(over)?;
        }
        Ok(left)
    }

    /// Frees the slot of a writer of this process as if it had died; which process it was in truth is not known.
    pub(super) fn bury(&self, pen: Pen, deadline: &Deadline) -> Result<()> {
        self.locked(deadline, || {
            self.check_pen(pen)?;
            // Before it is counted: nobody is told of this process.
            self.table.writer(pen.index).user.store(0, SeqCst);
            point(Point::RingSettled);
            self.count_gone(pen.index);
            self.free_writer(pen.index);
            Ok(())
        })?;
        self.tell_end(true)
    }

    /// The same for those that ended in order, if that needs no waiting. Otherwise a reader that waits does it.
    pub(super) fn settle_quick(&self) -> Result<()> {
        let (gone, _) = self.gone_writers(false)?;
        if gone.is_empty() {
            return Ok(());
        }
        match self.locked_quick(|| Ok(self.free_writers(&gone)))? {
            Some(over) => self.tell_end(over)?,
            None => self.tell_wishes(),
        }
        Ok(())
    }

    /// The slots whose writers are gone, and whether another one is left.
    fn gone_writers(&self, with_the_dead: bool) -> Result<(Vec<Gone>, bool)> {
        let (mut gone, mut left) = (Vec::new(), false);
        for index in 0..WRITERS {
            let words = self.table.writer(index);
            // First of all: a writer that takes the slot meanwhile has another incarnation.
            let state = words.look();
            if state.role.is_none() {
                continue;
            }
            let is_gone = state.has_ended || with_the_dead && !self.is_writer_alive(words)?;
            if is_gone { gone.push(Gone { index, incarnation: state.incarnation }) } else { left = true }
        }
        Ok((gone, left))
    }

    fn is_writer_alive(&self, words: WriterWords<'_>) -> Result<bool> {
        // RAW: a name, which is looked up.
        let user = words.user.load(SeqCst);
        if user != 0 {
            return self.arena().is_identity_alive(user);
        }
        // RAW: a name, which is looked up.
        let Some(token) = BlockId::from_word(words.token.load(SeqCst)) else { return Ok(false) };
        // On its way: its ticket is all that is left if its sender died, and keeps it.
        let _ = self.arena().is_kept_by_others(token)?;
        if self.arena().is_live(token) || words.user.load(SeqCst) != 0 {
            return Ok(true);
        }
        // The process that let go of it last is about to mark it as ended.
        // RAW: a name, which is looked up.
        let leaver = words.leaver.load(SeqCst);
        Ok(leaver != 0 && self.arena().is_identity_alive(leaver)?)
    }

    /// Frees slots, under the lock; says whether the stream ended by that. Whoever takes over from a death in here finds
    /// the same slots gone, and decides the same.
    fn free_writers(&self, gone: &[Gone]) -> bool {
        // Again under the lock: one may have been settled by another process meanwhile, or have ended after all.
        let is_there = |one: &&Gone| {
            let state = self.table.writer(one.index).look();
            state.incarnation == one.incarnation && state.role.is_some()
        };
        let gone: Vec<&Gone> = gone.iter().filter(is_there).collect();
        let ends_now = self.is_last(&gone) && !self.is_closed();
        gone.iter().for_each(|one| self.count_gone(one.index));
        if ends_now {
            // Before the slots are free: a death in between leaves them to be settled again.
            self.table.word(CLOSED).store(1, SeqCst);
            point(Point::RingOver);
        }
        gone.iter().for_each(|one| self.free_writer(one.index));
        ends_now
    }

    /// Whether the stream ends with these writers.
    fn is_last(&self, gone: &[&Gone]) -> bool {
        let states = (0..WRITERS).map(|index| (index, self.table.writer(index).look()));
        let (went, stay): (Vec<_>, Vec<_>) = states.partition(|&(index, state)| {
            gone.iter().any(|one| (one.index, one.incarnation) == (index, state.incarnation))
        });
        let ended = |role| went.iter().any(|(_, state)| state.role == Some(role) && state.has_ended);
        let stays = |role| stay.iter().any(|(_, state)| state.role == Some(role));
        let by_whom = ended(Role::Made) || ended(Role::Entered) && !stays(Role::Loose);
        by_whom && !stays(Role::Made) && !stays(Role::Entered)
    }

    /// Counts a writer that is gone. Should this process die before it has freed the slot, it is counted once more:
    /// better told twice of a death than never.
    fn count_gone(&self, index: usize) {
        let state = self.table.writer(index).look();
        if !state.has_ended {
            // RAW: a name, which is looked up.
            let user = self.table.writer(index).user.load(SeqCst);
            // Before the count: who sees the death sees whose it was.
            self.table.word(LAST_LOST).store(self.arena().last_pid_of(user).map_or(0, u64::from), SeqCst);
            point(Point::RingSettled);
            self.table.word(DEATHS).fetch_add(1, SeqCst);
            point(Point::RingSettled);
        }
        if state.role == Some(Role::Made) {
            self.table.word(if state.has_ended { WRITERS_ENDED } else { WRITERS_LOST }).fetch_add(1, SeqCst);
            point(Point::RingSettled);
        }
    }

    fn free_writer(&self, index: usize) {
        let words = self.table.writer(index);
        for word in [words.token, words.user] {
            word.store(0, SeqCst);
            point(Point::RingSettled);
        }
        words.state.store(words.look().freed().pack(), SeqCst);
        point(Point::RingSettled);
    }

    fn tell_end(&self, is_over: bool) -> Result<()> {
        if is_over {
            self.announce(EVENT)?;
            self.announce(SPACE)?;
            self.tell_pipes();
        }
        Ok(())
    }
}
