//! [`Writer`]: a writer that was made beforehand, and goes to the process that is to write.

use super::claim::Role;
use super::leave::{Open, remember};
use super::publish::{Content, Published};
use super::state::Ring;
use super::table::{WRITERS, WriterWords};
use super::token::{new_token, read_token, write_token};
use super::write::{Sink, Writing, sink_by_own_methods};
use super::writers::{Pen, is_somebodys, was_closed};
use crate::arena::{BlockId, Deadline, Hold};
use crate::array::Token;
use crate::error::{Error, Kind, Result};
use crate::head::HeadKind;
use crate::os::kill::{Point, point};
use crate::prim::{
    AtomicBool,
    Ordering::{Relaxed, SeqCst},
    SpinLock, read,
};
use crate::session;
use std::sync::Arc;

/// A writer of a ring, made beforehand: the stream does not end before it was closed.
///
/// It belongs to the process that uses it first. It lives as long as that process, or as its token while nobody has used
/// it.
///
/// ```
/// use ndshare::ring::{Content, Format, Mode, RingOptions, Start};
/// use ndshare::{Deadline, Kind, Number, Ring};
///
/// let forever = Deadline::never();
/// let ring = Ring::new(ndshare::session()?, Format::new(&[4, 6], Number::U16), RingOptions::slots(8), &forever)?;
///
/// let reader = ring.reader(Mode::Every, Start::Next, &forever)?;
/// let writer = ring.writer(&forever)?;
/// let mut frame = writer.begin(4 * 6 * 2, &forever)?;
/// frame.array()?.fill(7_u16)?;
/// frame.publish(Content::default(), &forever)?;
/// // All that were made are closed: the stream ends when what there is was read.
/// writer.close(&forever)?;
/// assert_eq!(reader.get(&forever)?.seq, 0);
/// assert_eq!(reader.get(&forever).unwrap_err().kind(), Kind::Closed);
/// # Ok::<(), ndshare::Error>(())
/// ```
pub struct Writer {
    ring: Arc<Ring>,
    pen: Pen,
    /// None once this process has let go of it.
    token: SpinLock<Option<Hold>>,
    name: BlockId,
    is_closed: AtomicBool,
}

impl Ring {
    /// A new writer. It counts from now on: the stream does not end before it was closed.
    ///
    /// # Errors
    /// `Closed` when the ring was closed; `Misuse` when all slots are taken; `ArenaFull`; `ReadOnly` where this process may
    /// only read; `Timeout` at `deadline`.
    pub fn writer(self: &Arc<Self>, deadline: &Deadline) -> Result<Arc<Writer>> {
        self.check_writable()?;
        let token = new_token(self.arena(), deadline)?;
        self.settle_writers(deadline)?;
        let pen = self.locked(deadline, || {
            self.check_open()?;
            self.take_place(Role::Made, token.block().to_word(), 0)
        })?;
        write_token(&token, HeadKind::Writer, self, pen.index);
        self.tell_wishes();
        Ok(Writer::new(self.clone(), pen, token))
    }
}

impl Writer {
    fn new(ring: Arc<Ring>, pen: Pen, token: Hold) -> Arc<Self> {
        let (name, is_closed) = (token.block(), AtomicBool::new(false));
        let writer = Arc::new(Self { ring, pen, token: SpinLock::new(Some(token)), name, is_closed });
        remember(&writer);
        writer
    }

    /// The writer at a slot of a ring, whose token this process holds.
    ///
    /// # Errors
    /// `Stale` when the slot has another writer by now; `ReadOnly` where this process may only read.
    pub fn open(ring: Arc<Ring>, index: usize, token: Hold) -> Result<Arc<Self>> {
        ring.check_writable()?;
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

    /// Its slot among the ring's writers, by which another process opens it.
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

    /// The block that keeps it, to be sent to the process that is to use it.
    ///
    /// # Errors
    /// `Misuse` when a process uses it; `Closed`.
    pub fn sendable(&self) -> Result<Hold> {
        if self.is_used() {
            return Err(is_somebodys("writer"));
        }
        self.check()?;
        self.token().ok_or_else(was_closed)
    }

    /// A reference to it for the process that is to write, as text for a command line. It opens while anybody has the
    /// writer; the stream does not end before that process has closed it, or has ended.
    ///
    /// # Errors
    /// As [`Self::sendable`].
    pub fn reference(&self) -> Result<Token> {
        self.sendable().map(|token| session::reference_to(&token))
    }

    /// The writer that such a reference names. It belongs to the process that uses it first.
    ///
    /// # Errors
    /// As [`Ring::open_reference`]; `Stale` when nobody has the writer any more.
    pub fn open_reference(reference: &Token, deadline: &Deadline) -> Result<Arc<Self>> {
        Self::of_token(session::claim_head(reference, HeadKind::Writer, deadline)?)
    }

    /// The writer that this block keeps.
    ///
    /// # Errors
    /// `WrongKind` when the block keeps none; as [`Self::open`].
    #[doc(hidden)]
    pub fn of_token(token: Hold) -> Result<Arc<Self>> {
        let (ring, slot) = read_token(&token, HeadKind::Writer)?;
        Self::open(ring, slot, token)
    }

    /// How many frames it has published.
    pub fn written(&self) -> u64 {
        if self.is_current() { read(self.words().written, SeqCst).capped(self.ring.written()) } else { 0 }
    }

    fn words(&self) -> WriterWords<'_> {
        self.ring.table.writer(self.pen.index)
    }

    /// Whether the slot is still this writer's.
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
            point(Point::RingEntered);
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
    pub fn begin(&self, len_bytes: u64, deadline: &Deadline) -> Result<Writing> {
        self.begin_with_note(len_bytes, 0, deadline)
    }

    /// The same with room for so many bytes of note behind the items, as [`Ring::begin_with_note`] gives it.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn begin_with_note(&self, len_bytes: u64, note_bytes: u64, deadline: &Deadline) -> Result<Writing> {
        self.own()?;
        self.ring.begin_as(self.pen, self.ring.parse_need(len_bytes, note_bytes)?, deadline)
    }

    /// The same if that needs no waiting; else none.
    ///
    /// # Errors
    /// As [`Self::begin`].
    #[doc(hidden)]
    pub fn begin_quick(&self, len_bytes: u64, note_bytes: u64) -> Result<Option<Writing>> {
        self.own()?;
        self.ring.begin_quick_as(self.pen, self.ring.parse_need(len_bytes, note_bytes)?)
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
        deadline: &Deadline,
    ) -> Result<Published> {
        self.own()?;
        self.ring.publish_block_as(self.pen, hold, len_bytes, content, deadline)
    }

    /// Ends it in order. The stream ends if it was the last. One that was sent to another process lives on there.
    ///
    /// # Errors
    /// `Poisoned`; `Timeout` at `deadline`: it has ended all the same, and whoever reads settles the rest.
    pub fn close(&self, deadline: &Deadline) -> Result<()> {
        if self.is_closed.swap(true, SeqCst) || !self.end(false) {
            return Ok(());
        }
        self.ring.settle_writers(deadline).map(drop)
    }

    /// Ends it as a death: readers get `WriterDied`, once, and the stream does not end. So whoever writes in the place of
    /// another, on a machine far away, tells that this one has died. Another writer may go on.
    ///
    /// # Errors
    /// As [`Self::own`]; `Poisoned`; `Timeout` at `deadline`.
    pub fn die(&self, deadline: &Deadline) -> Result<()> {
        self.own()?;
        self.ring.bury(self.pen, deadline)?;
        self.is_closed.store(true, SeqCst);
        drop(self.token.lock().take());
        Ok(())
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
        point(Point::RingLetGo);
        !words.look().writes()
    }

    fn is_unused(&self) -> bool {
        self.is_current() && self.words().user.load(SeqCst) == 0
    }
}

sink_by_own_methods!(Writer, Writer);

impl Open for Writer {
    fn end_in_order(&self, deadline: &Deadline) -> Result<()> {
        self.close(deadline)
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
