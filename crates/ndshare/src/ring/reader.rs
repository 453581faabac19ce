//! [`Reader`]: one place in the stream, which belongs to the process that uses it first. It lives as long as its token.

use super::claim::Member;
use super::format::Spin;
use super::pace::Pace;
use super::policy::{Mode, Start};
use super::selector::{Selector, Watchers};
use super::state::Ring;
use super::table::{DEATHS, EVENT, READERS, ReaderWords, SPACE, WRITERS_LOST};
use super::token::{new_token, read_token, write_token};
use super::writers::is_somebodys;
use crate::arena::{Deadline, Hold};
use crate::array::Token;
use crate::error::{Error, Kind, Result};
use crate::head::HeadKind;
use crate::os::kill::{Point, point};
use crate::prim::{
    AtomicBool, AtomicU64,
    Ordering::{Relaxed, SeqCst},
    SpinLock,
};
use crate::session;
use std::sync::{Arc, OnceLock};

/// One reader of a ring. It lives as long as its token.
///
/// ```
/// use ndshare::ring::{Content, Format, Mode, RingOptions, Start};
/// use ndshare::{Deadline, Number, Ring};
///
/// let forever = Deadline::never();
/// let ring = Ring::new(ndshare::session()?, Format::new(&[4, 6], Number::U16), RingOptions::slots(8), &forever)?;
///
/// let every = ring.reader(Mode::Every, Start::Next, &forever)?;
/// let latest = ring.reader(Mode::Latest, Start::Next, &forever)?;
/// for number in 0..3_u16 {
///     let mut frame = ring.begin_own(&forever)?;
///     frame.array()?.fill(number)?;
///     frame.publish(Content::default(), &forever)?;
/// }
/// assert_eq!(latest.get(&forever)?.seq, 2);
/// assert_eq!((every.get(&forever)?.seq, every.get(&forever)?.seq, every.lag()), (0, 1, 1));
/// # Ok::<(), ndshare::Error>(())
/// ```
#[derive(Debug)]
pub struct Reader {
    pub(super) ring: Arc<Ring>,
    pub(super) index: usize,
    pub(super) incarnation: u64,
    pub(super) mode: Mode,
    token: Option<Hold>,
    /// Deaths of writers that this reader has been told of.
    pub(super) told: AtomicU64,
    /// The same, of made ones.
    pub(super) told_of_made: AtomicU64,
    /// Whether the last wait was a short one.
    pub(super) keen: AtomicBool,
    /// When frames are expected, with `Spin::Auto`. No thread waits for it.
    pub(super) pace: Option<SpinLock<Pace>>,
    /// What selectors wait on, once somebody asked for it.
    pub(super) selector: OnceLock<Selector>,
    /// Who does, and whether anybody does.
    pub(super) watchers: SpinLock<Watchers>,
    pub(super) is_watched: AtomicBool,
    /// Whether it was not woken when it should have been.
    pub(super) is_deaf: AtomicBool,
    /// Whether it is to end: other threads may still wait in it.
    pub(super) is_closing: AtomicBool,
}

impl Ring {
    /// A new reader.
    ///
    /// # Errors
    /// `Misuse` when all slots are taken; `ArenaFull`; `Timeout` at `deadline`.
    pub fn reader(self: &Arc<Self>, mode: Mode, start: Start, deadline: &Deadline) -> Result<Reader> {
        let token = new_token(self.arena(), deadline)?;
        self.prune(deadline)?;
        let index = self.locked(deadline, || self.enter_reader(mode, start, &token))?;
        write_token(&token, HeadKind::Reader, self, index);
        Reader::open(self.clone(), index, token)
    }
}

impl Reader {
    /// The reader at a slot of a ring, whose token this process holds.
    ///
    /// # Errors
    /// `Stale` when the slot has another reader by now.
    pub fn open(ring: Arc<Ring>, index: usize, token: Hold) -> Result<Self> {
        if index >= READERS || ring.table.reader(index).token.load(SeqCst) != token.block().to_word() {
            return Err(Error::new(
                Kind::Stale,
                "expected a reader of this ring, got one that is gone: make a new one",
            ));
        }
        let words = ring.table.reader(index);
        // RAW: a kind that is matched whatever it is, and numbers that are only compared.
        let (mode, incarnation) = (Mode::unpack(words.kind.load(SeqCst)), words.incarnation.load(SeqCst));
        // RAW: only compared with what they are later.
        let [told, told_of_made] =
            [DEATHS, WRITERS_LOST].map(|index| AtomicU64::new(ring.table.word(index).load(SeqCst)));
        let [keen, is_watched, is_deaf, is_closing] = std::array::from_fn(|_| AtomicBool::new(false));
        let (selector, watchers) = (OnceLock::new(), SpinLock::new(Watchers::default()));
        let pace = (ring.format().spin == Some(Spin::Auto)).then(|| SpinLock::new(Pace::default()));
        let token = Some(token);
        Ok(Self {
            ring,
            index,
            incarnation,
            mode,
            token,
            told,
            told_of_made,
            keen,
            pace,
            selector,
            watchers,
            is_watched,
            is_deaf,
            is_closing,
        })
    }

    /// The ring.
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// Its slot among the ring's readers, by which another process opens it.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The block that keeps it.
    pub fn token(&self) -> &Hold {
        self.token.as_ref().expect("a reader has its token until it is dropped")
    }

    /// Which frames it gets.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// How many published frames it has not taken yet.
    pub fn lag(&self) -> u64 {
        self.ring.table.books_of(self.index, self.ring.written()).0
    }

    /// How many frames it never got, because it was lapped; of a group, what none of its members got. A reader of the latest
    /// frame skips others on purpose, and counts none.
    pub fn missed(&self) -> u64 {
        self.ring.table.books_of(self.index, self.ring.written()).1
    }

    #[inline]
    pub(super) fn member(&self) -> Member {
        Member::new(self.index, self.incarnation)
    }

    pub(super) fn words(&self) -> ReaderWords<'_> {
        self.ring.table.reader(self.index)
    }

    /// Whether some process has used it.
    pub fn is_used(&self) -> bool {
        self.words().user.load(SeqCst) != 0
    }

    /// The block that keeps it, to be sent to the process that is to use it.
    ///
    /// # Errors
    /// `Misuse` when a process uses it.
    pub fn sendable(&self) -> Result<&Hold> {
        if self.is_used() { Err(is_somebodys("reader")) } else { Ok(self.token()) }
    }

    /// A reference to it for the process that is to read, as text for a command line. It opens while anybody has the
    /// reader: keep this one until that process has opened it, and drop it then.
    ///
    /// ```
    /// use ndshare::ring::{Format, Mode, Reader, RingOptions, Start};
    /// use ndshare::{Deadline, Number, Ring};
    ///
    /// let forever = Deadline::never();
    /// let ring = Ring::new(ndshare::session()?, Format::new(&[4], Number::U8), RingOptions::slots(4), &forever)?;
    /// let reader = ring.reader(Mode::Every, Start::Next, &forever)?;
    /// let text = reader.reference()?.to_string();
    /// // In the other process, which needs nothing else:
    /// let same = Reader::open_reference(&text.parse()?, &forever)?;
    /// assert!(same.try_get()?.is_none());
    /// assert!(reader.reference().is_err(), "it belongs to a process now");
    /// # Ok::<(), ndshare::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::sendable`].
    pub fn reference(&self) -> Result<Token> {
        self.sendable().map(session::reference_to)
    }

    /// The reader that such a reference names. It belongs to the process that uses it first.
    ///
    /// # Errors
    /// As [`Ring::open_reference`]; `Stale` when nobody has the reader any more.
    pub fn open_reference(reference: &Token, deadline: &Deadline) -> Result<Self> {
        Self::of_token(session::claim_head(reference, HeadKind::Reader, deadline)?)
    }

    /// The reader that this block keeps.
    ///
    /// # Errors
    /// `WrongKind` when the block keeps none; as [`Self::open`].
    #[doc(hidden)]
    pub fn of_token(token: Hold) -> Result<Self> {
        let (ring, slot) = read_token(&token, HeadKind::Reader)?;
        Self::open(ring, slot, token)
    }

    /// Makes it this process's, if nobody has used it before.
    #[inline]
    pub(super) fn own(&self) -> Result<()> {
        let me = self.ring.arena().identity()?;
        let words = self.words();
        self.check_open()?;
        if words.token.load(Relaxed) != self.token().block().to_word() {
            return Err(was_closed());
        }
        if words.user.load(Relaxed) == me {
            return Ok(());
        }
        match words.user.compare_exchange(0, me, SeqCst, SeqCst) {
            Ok(_) => {
                point(Point::RingJoined);
                Ok(())
            }
            Err(_) => Err(Error::new(
                Kind::Misuse,
                "the reader belongs to another process, which used it first: make one for each process",
            )),
        }
    }

    #[inline]
    pub(super) fn check_open(&self) -> Result<()> {
        // RAW: a word of this process alone.
        if self.is_closing.load(SeqCst) { Err(was_closed()) } else { Ok(()) }
    }

    /// Has every thread that waits in this reader, or comes to it, get `Closed`. When all have let go of it, it is
    /// dropped; only then may another reader have its slot.
    ///
    /// # Errors
    /// `Poisoned`.
    pub fn close(&self) -> Result<()> {
        self.is_closing.store(true, SeqCst);
        if let Some(selector) = self.selector.get() {
            selector.pipe.fill();
        }
        self.ring.announce_if_awaited(EVENT)
    }

    /// Gives the slot up if this process uses it: it holds nobody back from now on. One that nobody has used yet lives
    /// on while somebody else has its token.
    fn leave(&mut self) {
        let Some(token) = self.token.take() else { return };
        let (arena, name) = (self.ring.arena().clone(), token.block());
        drop(token);
        let words = self.words();
        let is_mine = arena.identity().is_ok_and(|me| words.user.load(SeqCst) == me);
        // Another object of this process may have it as well: then it lives on in that.
        if is_mine && !arena.has(name) && words.token.load(SeqCst) == name.to_word() {
            // No lock: whoever makes a reader, and writers that wait, tidy up the slot.
            words.pipe.store(0, SeqCst);
            point(Point::RingLeft);
            let _ = words.token.compare_exchange(name.to_word(), 0, SeqCst, SeqCst);
            point(Point::RingLeft);
            if let Mode::Group(group) = self.mode {
                self.ring.hand_over(group, self.member());
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // The last token ends a reader that nobody has used; writers that wait may go on.
        self.leave();
        let _ = self.ring.announce_if_awaited(SPACE);
    }
}

#[cold]
fn was_closed() -> Error {
    Error::new(Kind::Closed, "the reader was closed: expected an open one; make a new one")
}
