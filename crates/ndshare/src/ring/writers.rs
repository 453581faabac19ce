//! Who writes to a ring, and when its stream ends.
//!
//! A place in the table of writers has one of three kinds. *Made*: a [`Writer`], which counts from its creation on,
//! whether somebody uses it yet or not. *Entered*: a process that says when it is done. *Loose*: a process that has
//! merely written through the ring itself; of it only the end is noticed. The stream ends when the last made or entered
//! writer ends in order; an entered one ends it only if no loose one is left either.
//!
//! A place is given up in two steps, so that no death leaves a stream without its end: its writer marks it as ended,
//! without a lock; whoever settles, under the ring's lock, frees what is marked, counts the dead, and ends the stream
//! if nobody is left. Readers that wait settle now and then.

use super::table::{CLOSED, DEATHS, EVENT, SPACE, WRITERS, WRITERS_ENDED, WRITERS_LOST, WRITERS_MADE, WriterWords};
use super::{Content, Process, Ring, WriterStats, Writing};
use crate::arena::{BlockId, Hold, Patience};
use crate::error::{Error, Kind, Result};
use crate::os::kill::{Point, point};
use crate::prim::{
    AtomicBool,
    Ordering::{Relaxed, SeqCst},
    SpinLock, read,
};
use std::sync::Arc;

/// What kind of writer has a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Made = 1,
    Loose = 2,
    Entered = 3,
}

/// What a place says: {incarnation: 48, ended: 8, role: 8}. Role 0: it is free; the incarnation stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    incarnation: u64,
    role: Option<Role>,
    has_ended: bool,
}

impl State {
    fn pack(self) -> u64 {
        self.incarnation << 16 | u64::from(self.has_ended) << 8 | self.role.map_or(0, |role| role as u64)
    }

    /// What no writer puts there reads as free.
    #[inline]
    fn unpack(bits: u64) -> Self {
        let role = match bits & 0xff {
            1 => Some(Role::Made),
            2 => Some(Role::Loose),
            3 => Some(Role::Entered),
            _ => None,
        };
        Self { incarnation: bits >> 16, role, has_ended: bits >> 8 & 0xff != 0 }
    }

    /// Whether a writer has the place and goes on.
    fn writes(self) -> bool {
        self.role.is_some() && !self.has_ended
    }

    fn is_to_settle(self) -> bool {
        self.role.is_some() && self.has_ended
    }
}

impl WriterWords<'_> {
    #[inline]
    fn look(&self) -> State {
        // RAW: matched, whatever it is, and compared.
        State::unpack(self.state.load(SeqCst))
    }

    /// Marks the writer of one incarnation as ended; who settles does the rest.
    fn mark_ended(&self, incarnation: u64) {
        let seen = self.look();
        if seen.incarnation == incarnation && seen.writes() {
            let ended = State { has_ended: true, ..seen };
            let _ = self.state.compare_exchange(seen.pack(), ended.pack(), SeqCst, SeqCst);
            point(Point::RingEnded);
        }
    }
}

/// Names the writer that publishes a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pen {
    pub index: usize,
    incarnation: u64,
    /// Whether it is a made one, which publishes nothing any more once it was closed.
    is_made: bool,
}

/// A writer of a ring, made beforehand: the stream does not end before it was closed.
///
/// It belongs to the process that uses it first. It lives as long as that process, or as its token while nobody has used
/// it.
pub struct Writer {
    ring: Arc<Ring>,
    pen: Pen,
    /// None once this process has let go of it.
    token: SpinLock<Option<Hold>>,
    name: BlockId,
    is_closed: AtomicBool,
}

/// A writer that is gone: its place, and which of the place's writers it was.
struct Gone {
    index: usize,
    incarnation: u64,
}

/// How many writers a ring has and had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriterCounts {
    /// Made ones, over the ring's life.
    pub made: u64,
    /// Made ones that were closed, or whose process ended in order.
    pub ended: u64,
    /// Made ones that died.
    pub lost: u64,
    /// Made ones that nobody has used yet.
    pub unused: u64,
    /// Those that a process has now, and processes that write through the ring itself.
    pub writing: u64,
}

impl std::fmt::Display for WriterCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { made, ended, lost, unused, writing } = *self;
        match (writing, unused) {
            (0, 0) => write!(f, "no writer is there")?,
            (1, 0) => write!(f, "one writer is there")?,
            (_, 0) => write!(f, "{writing} writers are there")?,
            _ => write!(f, "{writing} writers are there, and {unused} that no process has used yet")?,
        }
        if made > 0 {
            write!(f, " (of {made} that were made, {ended} were closed and {lost} died)")?;
        }
        Ok(())
    }
}

impl Ring {
    /// A new writer. It counts from now on: the stream does not end before it was closed.
    ///
    /// # Errors
    /// `Closed` when the ring was closed; `Misuse` when all places are taken; `ArenaFull`; what `patience` says.
    pub fn writer(self: &Arc<Self>, patience: &Patience) -> Result<Writer> {
        let token = self.arena().alloc(1, 64, false, patience)?;
        self.settle_writers(patience)?;
        let pen = self.locked(patience, || {
            self.check_open()?;
            self.take_place(Role::Made, token.block().to_word(), 0)
        })?;
        self.tell_wishes();
        Ok(Writer::new(self.clone(), pen, token))
    }

    /// Enters this process among the writers until [`Self::leave_writers`]: readers are told when the last of them
    /// dies.
    ///
    /// # Errors
    /// `Misuse` when all places are taken; `Attach` in a process without a slot; what `patience` says.
    pub fn enter_writers(&self, patience: &Patience) -> Result<()> {
        let pen = self.own_pen(Role::Entered, patience)?;
        let words = self.table.writer(pen.index);
        let seen = words.look();
        if seen.incarnation == pen.incarnation && seen.role == Some(Role::Loose) {
            let entered = State { role: Some(Role::Entered), ..seen };
            let _ = words.state.compare_exchange(seen.pack(), entered.pack(), SeqCst, SeqCst);
        }
        Ok(())
    }

    /// Takes this process from the writers. The stream ends if it was the last.
    ///
    /// # Errors
    /// `Poisoned`; `Attach` in a process without a slot; what `patience` says.
    pub fn leave_writers(&self, patience: &Patience) -> Result<()> {
        self.mark_left()?;
        self.settle_writers(patience).map(drop)
    }

    /// The same at the end of a process, which may have left already: who has merely written through the ring itself
    /// has not said that the stream ends.
    ///
    /// # Errors
    /// As [`Self::leave_writers`].
    pub fn leave_entered(&self, patience: &Patience) -> Result<()> {
        let entered =
            self.find_pen()?.is_some_and(|pen| self.table.writer(pen.index).look().role == Some(Role::Entered));
        if entered { self.leave_writers(patience) } else { Ok(()) }
    }

    fn mark_left(&self) -> Result<()> {
        if let Some(pen) = self.find_pen()? {
            self.table.writer(pen.index).mark_ended(pen.incarnation);
        }
        Ok(())
    }

    /// How many writers there are and were.
    pub fn writer_counts(&self) -> WriterCounts {
        // RAW: counts, which are told.
        let count = |index| self.table.word(index).load(SeqCst);
        let (made, ended, lost) = (count(WRITERS_MADE), count(WRITERS_ENDED), count(WRITERS_LOST));
        let mut counts = WriterCounts { made, ended, lost, ..WriterCounts::default() };
        for words in (0..WRITERS).map(|index| self.table.writer(index)) {
            let is_used = words.user.load(SeqCst) != 0;
            counts.writing += u64::from(words.look().writes() && is_used);
            counts.unused += u64::from(words.look().writes() && !is_used);
        }
        counts
    }

    // ---- places

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
    pub(super) fn own_pen(&self, role: Role, patience: &Patience) -> Result<Pen> {
        if let Some(pen) = self.find_pen()? {
            return Ok(pen);
        }
        self.settle_writers(patience)?;
        let me = self.arena().identity()?;
        let pen = self.locked(patience, || {
            // Another thread may have been faster.
            self.find_pen()?.map_or_else(|| self.take_place(role, 0, me), Ok)
        })?;
        // Who waits on a descriptor is to watch this process, too. Not under the lock: it makes system calls.
        self.tell_wishes();
        Ok(pen)
    }

    /// Takes a free place, under the lock.
    fn take_place(&self, role: Role, token: u64, user: u64) -> Result<Pen> {
        let free = (0..WRITERS).find(|&index| self.table.writer(index).look().role.is_none());
        let index = free.ok_or_else(|| {
            Error::new(Kind::Misuse, format!("expected at most {WRITERS} writers at a time, got one more"))
        })?;
        // First of all, so that there are never more that ended than were made.
        self.table.word(WRITERS_MADE).fetch_add(u64::from(role == Role::Made), SeqCst);
        let words = self.table.writer(index);
        words.written.store(0, Relaxed);
        words.leaver.store(0, Relaxed);
        words.user.store(user, SeqCst);
        words.token.store(token, SeqCst);
        let incarnation = words.look().incarnation.wrapping_add(1) & (u64::MAX >> 16);
        words.state.store(State { incarnation, role: Some(role), has_ended: false }.pack(), SeqCst);
        point(Point::RingEntered);
        Ok(Pen { index, incarnation, is_made: role == Role::Made })
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

    /// Whether a writer has ended in order and nobody has settled that yet.
    pub(super) fn is_to_settle(&self) -> bool {
        (0..WRITERS).any(|index| self.table.writer(index).look().is_to_settle())
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
    pub(super) fn count_frame(&self, pen: Pen) {
        let words = self.table.writer(pen.index);
        if words.look().incarnation == pen.incarnation {
            // RAW: counted up from whatever it is, and capped by who tells it.
            words.written.store(words.written.load(Relaxed).wrapping_add(1), Relaxed);
        }
    }

    /// The writers that there are, as one look sees them.
    pub(super) fn writer_stats(&self, is_alive: &dyn Fn(u64) -> Result<bool>) -> Result<Vec<WriterStats>> {
        let live = (0..WRITERS).map(|index| self.table.writer(index)).filter(|words| words.look().writes());
        let stats = live.map(|words| {
            // RAW: a name, which is looked up.
            let user = words.user.load(SeqCst);
            let written = read(words.written, SeqCst).capped(self.written());
            Ok(WriterStats { user: Process::of(self.arena(), user), written, alive: user == 0 || is_alive(user)? })
        });
        stats.collect()
    }

    // ---- settling

    /// Frees the places of writers that are gone, ends the stream if the last of them ended in order, and says whether
    /// one is left.
    pub(super) fn settle_writers(&self, patience: &Patience) -> Result<bool> {
        let (gone, left) = self.gone_writers(true)?;
        if !gone.is_empty() {
            let over = self.locked(patience, || Ok(self.free_writers(&gone)))?;
            self.tell_end(over)?;
        }
        Ok(left)
    }

    /// The same for those that ended in order, if that needs no waiting. Otherwise a reader that waits does it.
    fn settle_quick(&self) -> Result<()> {
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

    /// The places whose writers are gone, and whether another one is left.
    fn gone_writers(&self, with_the_dead: bool) -> Result<(Vec<Gone>, bool)> {
        let (mut gone, mut left) = (Vec::new(), false);
        for index in 0..WRITERS {
            let words = self.table.writer(index);
            // First of all: a writer that takes the place meanwhile has another incarnation.
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

    /// Frees places, under the lock; says whether the stream ended by that. Whoever takes over from a death in here finds
    /// the same places gone, and decides the same.
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
            // Before the places are free: a death in between leaves them to be settled again.
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

    /// Counts a writer that is gone. Should this process die before it has freed the place, it is counted once more:
    /// better told twice of a death than never.
    fn count_gone(&self, index: usize) {
        let state = self.table.writer(index).look();
        if !state.has_ended {
            self.table.word(DEATHS).fetch_add(1, SeqCst);
        }
        if state.role == Some(Role::Made) {
            self.table.word(if state.has_ended { WRITERS_ENDED } else { WRITERS_LOST }).fetch_add(1, SeqCst);
        }
    }

    fn free_writer(&self, index: usize) {
        let words = self.table.writer(index);
        words.token.store(0, SeqCst);
        words.user.store(0, SeqCst);
        words.state.store(State { role: None, has_ended: false, ..words.look() }.pack(), SeqCst);
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

impl Writer {
    fn new(ring: Arc<Ring>, pen: Pen, token: Hold) -> Self {
        let name = token.block();
        Self { ring, pen, token: SpinLock::new(Some(token)), name, is_closed: AtomicBool::new(false) }
    }

    /// The writer at a place of a ring, whose token this process holds.
    ///
    /// # Errors
    /// `Stale` when the place has another writer by now.
    pub fn open(ring: Arc<Ring>, index: usize, token: Hold) -> Result<Self> {
        let is_there = index < WRITERS && ring.table.writer(index).token.load(SeqCst) == token.block().to_word();
        if !is_there {
            return Err(Error::new(
                Kind::Stale,
                "expected a writer of this ring, got one that is gone: make a new one",
            ));
        }
        let incarnation = ring.table.writer(index).look().incarnation;
        Ok(Self::new(ring, Pen { index, incarnation, is_made: true }, token))
    }

    /// The ring.
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// Its place among the ring's writers, by which another process opens it.
    pub fn index(&self) -> usize {
        self.pen.index
    }

    /// The block that keeps it while nobody uses it; none once it was closed here.
    pub fn token(&self) -> Option<Hold> {
        self.token.lock().clone()
    }

    /// Whether some process has used it.
    pub fn is_used(&self) -> bool {
        self.is_current() && self.words().user.load(SeqCst) != 0
    }

    /// How many frames it has published.
    pub fn written(&self) -> u64 {
        if self.is_current() { read(self.words().written, SeqCst).capped(self.ring.written()) } else { 0 }
    }

    fn words(&self) -> WriterWords<'_> {
        self.ring.table.writer(self.pen.index)
    }

    /// Whether the place is still this writer's.
    fn is_current(&self) -> bool {
        self.words().look().incarnation == self.pen.incarnation
    }

    /// Makes it this process's, if nobody has used it before.
    ///
    /// # Errors
    /// `Closed` when it was closed; `Misuse` when another process uses it; `Attach` in a process without a slot.
    #[inline]
    pub fn own(&self) -> Result<()> {
        let me = self.ring.arena().identity()?;
        let words = self.words();
        // RAW: a word of this process alone.
        if self.is_closed.load(Relaxed) || words.token.load(Relaxed) != self.name.to_word() {
            return Err(was_closed());
        }
        if words.user.load(Relaxed) == me {
            return self.ring.check_pen(self.pen);
        }
        if words.user.compare_exchange(0, me, SeqCst, SeqCst).is_ok() {
            // Who waits on a descriptor is to watch this process, too.
            self.ring.tell_wishes();
            return self.ring.check_pen(self.pen);
        }
        Err(Error::new(
            Kind::Misuse,
            "the writer belongs to another process, which used it first: make one for each process",
        ))
    }

    /// Whether it has not ended, here or elsewhere.
    ///
    /// # Errors
    /// `Closed`.
    pub fn check(&self) -> Result<()> {
        self.ring.check_pen(self.pen)
    }

    /// A frame of at least `len_bytes` to fill.
    ///
    /// # Errors
    /// As [`Ring::begin`]; `Closed` when the writer was closed; `Misuse` when another process uses it.
    pub fn begin(&self, len_bytes: u64, patience: &Patience) -> Result<Writing> {
        self.own()?;
        self.ring.begin_as(self.pen, len_bytes, patience)
    }

    /// The same if that needs no waiting; else none.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn begin_quick(&self, len_bytes: u64) -> Result<Option<Writing>> {
        self.own()?;
        self.ring.begin_quick_as(self.pen, len_bytes)
    }

    /// Publishes a block that exists, as [`Ring::publish_block`] does.
    ///
    /// # Errors
    /// As there; `Closed` when the writer was closed; `Misuse` when another process uses it.
    pub fn publish_block(
        &self,
        hold: &Hold,
        len_bytes: u64,
        content: Content<'_>,
        patience: &Patience,
    ) -> Result<Option<u64>> {
        self.own()?;
        self.ring.publish_block_as(self.pen, hold, len_bytes, content, patience)
    }

    /// Ends it in order. The stream ends if it was the last. One that was sent to another process lives on there.
    ///
    /// # Errors
    /// `Poisoned`; what `patience` says: it has ended all the same, and whoever reads settles the rest.
    pub fn close(&self, patience: &Patience) -> Result<()> {
        if self.is_closed.swap(true, SeqCst) || !self.end(false) {
            return Ok(());
        }
        self.ring.settle_writers(patience).map(drop)
    }

    /// Lets go of it, and marks it as ended if that is for this process to do; says whether. `is_dropped`: another object
    /// of this process may still have it.
    fn end(&self, is_dropped: bool) -> bool {
        let Ok(me) = self.ring.arena().identity() else { return false };
        let words = self.words();
        // RAW: a name, which is compared.
        let user = if self.is_current() { words.user.load(SeqCst) } else { 0 };
        if user == me && !is_dropped {
            words.mark_ended(self.pen.incarnation);
        }
        // From here on nobody who finds the token gone takes it for dead.
        words.leaver.store(me, SeqCst);
        point(Point::RingLetGo);
        let token = self.token.lock().take();
        drop(token);
        let arena = self.ring.arena();
        let is_last = if user == me { !arena.has(self.name) } else { !arena.is_live(self.name) };
        if is_last && (user == me || self.is_unused()) {
            words.mark_ended(self.pen.incarnation);
        }
        let _ = words.leaver.compare_exchange(me, 0, SeqCst, SeqCst);
        !words.look().writes()
    }

    fn is_unused(&self) -> bool {
        self.is_current() && self.words().user.load(SeqCst) == 0
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "<Writer {} of {:?}>", self.pen.index, self.ring.head())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // No wait: whoever reads settles what is left.
        // RAW: a word of this process alone.
        if !self.is_closed.load(SeqCst) && self.end(true) {
            let _ = self.ring.settle_quick();
        }
    }
}

#[cold]
fn was_closed() -> Error {
    Error::new(Kind::Closed, "the writer was closed: expected an open one; make a new one")
}
