//! One look of a reader: whether there is something to get, and taking it. No lock is taken, and nobody is waited for: who
//! misses a frame, because a writer or another member was faster, looks again until the caller's deadline.

use super::claim::FrameClaim;
use super::frame::{Frame, Snapshot};
use super::notify::go_on;
use super::policy::Mode;
use super::protocol::{self, MOST_WRITTEN};
use super::reader::Reader;
use super::table::SPACE;
use crate::arena::{Deadline, Hold};
use crate::error::{Empty, Error, Result};
use crate::os::kill::{Point, point};
use crate::prim::{
    Ordering::{Acquire, SeqCst},
    Unchecked, fetch_to_write,
};

/// After so many misses the caller's deadline is looked at, and with it signals.
const ASK_EVERY: u64 = 1024;
/// A frame goes only after the places of those who want it were moved on. So who misses the same one twice in a row has
/// found words that contradict each other; so often leaves no doubt that the head was scribbled on. (A fuzzer, whose every
/// other head is scribbled on, does not look a hundred times as often as it does all else.)
const NEVER_SETTLES: u64 = if cfg!(fuzzing) { 100 } else { 10_000 };

/// The frames that one call has missed.
pub(super) struct Misses<'a> {
    deadline: &'a Deadline<'a>,
    count: u64,
    last: Option<u64>,
    in_a_row: u64,
}

impl<'a> Misses<'a> {
    #[inline]
    pub(super) fn new(deadline: &'a Deadline<'a>) -> Self {
        Self { deadline, count: 0, last: None, in_a_row: 0 }
    }
}

impl Reader {
    #[inline]
    pub(super) fn look(&self, misses: &mut Misses<'_>) -> Result<Option<Frame>> {
        match self.mode {
            Mode::Every => self.look_for_next(misses),
            Mode::Latest => self.look_for_newest(misses),
            Mode::Group(group) => self.look_for_unclaimed(group, misses),
        }
    }

    /// After a miss, of this frame or of one that another member has got. False: who does not wait has looked often
    /// enough.
    ///
    /// # Errors
    /// `Poisoned` for a frame that is always missed; `Empty`; `Timeout` at the deadline.
    #[cold]
    pub(super) fn look_again(&self, misses: &mut Misses<'_>, missed: Option<u64>) -> Result<bool> {
        misses.in_a_row = if missed.is_some() && missed == misses.last { misses.in_a_row + 1 } else { 1 };
        misses.last = missed;
        misses.count += 1;
        if misses.in_a_row >= NEVER_SETTLES {
            return Err(self.never_settles());
        }
        std::hint::spin_loop();
        if !misses.count.is_multiple_of(ASK_EVERY) {
            return Ok(true);
        }
        if misses.deadline.waits() { self.go_on(misses.deadline).map(|()| true) } else { Ok(misses.in_a_row > 1) }
    }

    /// Asks whether the caller still waits.
    pub(super) fn go_on(&self, deadline: &Deadline) -> Result<()> {
        go_on(deadline, |waited| {
            let (counts, who) = (self.ring.writer_counts(), self.ring.writers_in_words(waited));
            let writers = counts.writing + counts.unused;
            let advice = if writers == 0 { "start one, or wait longer" } else { "wait longer, or see what they do" };
            let message = format!("no frame came: expected one before the timeout, but {counts}{who}; {advice}");
            Empty { waited, writers, ..Empty::saying(message) }.into()
        })
    }

    fn look_for_next(&self, misses: &mut Misses<'_>) -> Result<Option<Frame>> {
        let cursor = self.words().cursor;
        // BOUND: `look_again`.
        loop {
            // What no frame was ever published under: nothing would come, or an entry that is just being written.
            // RAW: its number is checked at once, and all of it is only compared.
            let seen = cursor.load(SeqCst);
            let seq = Unchecked::new(protocol::place(seen)).at_most(MOST_WRITTEN);
            let seq = seq.ok_or_else(|| self.never_settles())?;
            if self.is_to_come(seq) {
                return Ok(None);
            }
            // Both lines are on their way together: a writer that looked at the cursor has that in its cache, too.
            fetch_to_write(cursor);
            self.ring.fetch_block(seq);
            // A writer that drops the oldest moves the cursor; then this look begins again.
            if let Some(found) = self.ring.take(seq)?
                && protocol::advance(cursor, seen)
            {
                point(Point::RingTaken);
                self.ring.announce_if_awaited(SPACE)?;
                return Ok(Some(self.frame(seq, found, None)));
            }
            if !self.look_again(misses, Some(seq))? {
                return Ok(None);
            }
        }
    }

    fn look_for_newest(&self, misses: &mut Misses<'_>) -> Result<Option<Frame>> {
        let cursor = self.words().cursor;
        // BOUND: `look_again`.
        loop {
            let mut head = self.ring.written();
            // RAW: only compared.
            let seen = cursor.load(SeqCst);
            if seen >= head {
                // Asked only where there is nothing else: the next publication needs the entry.
                head = self.published();
            }
            if seen >= head {
                return Ok(None);
            }
            if let Some(found) = self.ring.take(head - 1)? {
                cursor.store(head, SeqCst);
                point(Point::RingTaken);
                return Ok(Some(self.frame(head - 1, found, None)));
            }
            if !self.look_again(misses, Some(head - 1))? {
                return Ok(None);
            }
        }
    }

    /// The frame of `seq`, for this reader.
    #[inline]
    pub(super) fn frame(&self, seq: u64, found: (Hold, Snapshot), claim: Option<(usize, FrameClaim)>) -> Frame {
        Frame::new(&self.ring, (self.index, self.incarnation), seq, found, claim)
    }

    /// Whether a look would find something.
    pub fn is_ready(&self) -> bool {
        match self.mode {
            Mode::Every | Mode::Latest => self.place() < self.ring.written(),
            Mode::Group(group) => self.unclaimed(group).is_some(),
        }
    }

    /// Ends with an error where the place in the stream that this reader has, or its group, is one to which the stream
    /// has not come, or one whose entry says that it is another's: it would wait for ever, or skip what it never saw.
    /// Asked whenever a look finds nothing and there is time: the head is in a line that the next publication needs.
    pub(super) fn check_place(&self) -> Result<()> {
        // The place first: the head only goes on. A frame can be taken before the head counts it, one at the most.
        let (seen, head) = (self.place(), self.ring.written());
        let place = Unchecked::new(seen).at_most(head + 1).ok_or_else(|| self.never_settles())?;
        // The place again, last of all: before an entry is written anew, those who still want it are moved on.
        let is_lost = self.mode != Mode::Latest
            && place < head
            && self.ring.table.entry(place).seq.load(SeqCst) != place
            && self.place() == place;
        if is_lost { Err(self.never_settles()) } else { Ok(()) }
    }

    /// The next number that this reader, or its group, wants.
    fn place(&self) -> u64 {
        self.ring.table.place_of(self.index, self.mode)
    }

    /// How many frames were published. One that bears its number is, though its writer died before the head counted it.
    #[inline]
    pub(super) fn published(&self) -> u64 {
        let head = self.ring.written();
        head + u64::from(self.is_there(head))
    }

    /// Whether the frame of `seq` is in its entry. It counts as published from then on.
    #[inline]
    fn is_there(&self, seq: u64) -> bool {
        self.ring.table.entry(seq).seq.load(Acquire) == seq
    }

    /// Whether nothing was published under `seq` yet. The head is in a line that the next publication needs: it is asked
    /// only when the entry of `seq` does not say that it still has an older number.
    #[inline]
    fn is_to_come(&self, seq: u64) -> bool {
        // RAW: only compared.
        let number = self.ring.table.entry(seq).seq.load(Acquire);
        number != seq && (number < seq || seq >= self.ring.written())
    }

    /// As [`Self::has_news`], by the words that a look needs anyway. Not to fall asleep by.
    #[inline]
    pub(super) fn has_news_soon(&self) -> bool {
        match self.mode {
            // RAW: a mask makes the number an index, and all of it is compared.
            Mode::Every => self.is_there(protocol::place(self.words().cursor.load(Acquire))) || self.ring.is_closed(),
            Mode::Latest | Mode::Group(_) => self.has_news(),
        }
    }

    /// Whether there is something to get, be it the end.
    pub(super) fn has_news(&self) -> bool {
        self.is_ready() || self.is_over()
    }

    /// Whether no frame comes any more. In a group one does if the process dies that has it.
    pub(super) fn is_over(&self) -> bool {
        self.ring.is_closed()
            && match self.mode {
                Mode::Every | Mode::Latest => true,
                Mode::Group(group) => !self.others_have_some(group),
            }
    }

    #[cold]
    fn never_settles(&self) -> Error {
        let name = self.ring.format().name.as_ref().map_or(String::new(), |name| format!(" {name:?}"));
        Error::written_over(
            "the ring's head",
            format!(
                "an entry of the ring{name} never settles: its head, or what kept a frame, was written over; make a new ring"
            ),
        )
    }
}
