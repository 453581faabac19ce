//! One look of a reader: whether there is something to get, and taking it. Nobody is waited for, and no lock is taken.

use super::claim::FrameClaim;
use super::frame::{Frame, Snapshot};
use super::policy::Mode;
use super::protocol::{self, MOST_WRITTEN};
use super::reader::Reader;
use super::table::SPACE;
use crate::arena::Hold;
use crate::error::{Error, Kind, Result};
use crate::os::kill::{Point, point};
use crate::prim::{
    Ordering::{Acquire, SeqCst},
    read,
};

/// So many looks at one entry that never settles mean that the head was scribbled on.
pub(super) const PATIENT_LOOKS: u32 = 1_000_000;

impl Reader {
    pub(super) fn look(&self) -> Result<Option<Frame>> {
        match self.mode {
            Mode::Every => self.look_for_next(),
            Mode::Latest => self.look_for_newest(),
            Mode::Group(group) => self.look_for_unclaimed(group),
        }
    }

    fn look_for_next(&self) -> Result<Option<Frame>> {
        let cursor = self.words().cursor;
        for _ in 0..PATIENT_LOOKS {
            // What no frame was ever published under: nothing would come, or an entry that is just being written.
            let Some(seq) = read(cursor, SeqCst).at_most(MOST_WRITTEN) else { break };
            if self.is_to_come(seq) {
                return Ok(None);
            }
            // A writer that drops the oldest moves the cursor; then this look begins again.
            if let Some((hold, snapshot)) = self.ring.take(seq)?
                && protocol::advance(cursor, seq)
            {
                point(Point::RingTaken);
                self.ring.announce_if_awaited(SPACE)?;
                return Ok(Some(self.frame(seq, (hold, snapshot), None)));
            }
            std::hint::spin_loop();
        }
        Err(self.never_settles())
    }

    fn look_for_newest(&self) -> Result<Option<Frame>> {
        let cursor = self.words().cursor;
        for _ in 0..PATIENT_LOOKS {
            let head = self.ring.written();
            if cursor.load(SeqCst) >= head {
                return Ok(None);
            }
            if let Some((hold, snapshot)) = self.ring.take(head - 1)? {
                cursor.store(head, SeqCst);
                point(Point::RingTaken);
                return Ok(Some(self.frame(head - 1, (hold, snapshot), None)));
            }
            std::hint::spin_loop();
        }
        Err(self.never_settles())
    }

    /// The frame of `seq`, for this reader.
    #[inline]
    pub(super) fn frame(&self, seq: u64, found: (Hold, Snapshot), claim: Option<(usize, FrameClaim)>) -> Frame {
        Frame::new(&self.ring, (self.index, self.incarnation), seq, found, claim)
    }

    /// Whether a look would find something.
    pub fn is_ready(&self) -> bool {
        match self.mode {
            Mode::Every | Mode::Latest => self.words().cursor.load(SeqCst) < self.ring.written(),
            Mode::Group(group) => self.unclaimed(group).is_some(),
        }
    }

    /// Ends with an error where the place in the stream that this reader has, or its group, is one to which the stream
    /// has not come, or one whose entry says that it is another's: it would wait for ever, or skip what it never saw.
    /// Asked whenever a look finds nothing and there is time: the head is in a line that the next publication needs.
    pub(super) fn check_place(&self) -> Result<()> {
        let cursor = match self.mode {
            Mode::Every | Mode::Latest => self.words().cursor,
            Mode::Group(group) => self.ring.table.group(group).cursor,
        };
        // The cursor first: the head only goes on. A frame can be taken before the head counts it, one at the most.
        let (seen, head) = (read(cursor, SeqCst), self.ring.written());
        let place = seen.at_most(head + 1).ok_or_else(|| self.never_settles())?;
        // The cursor again, last of all: before an entry is written anew, those who still want it are moved on.
        let is_lost = self.mode != Mode::Latest
            && place < head
            && self.ring.table.entry(place).seq.load(SeqCst) != place
            && read(cursor, SeqCst).is(place);
        if is_lost { Err(self.never_settles()) } else { Ok(()) }
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
            Mode::Every => self.is_there(self.words().cursor.load(Acquire)) || self.ring.is_closed(),
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

    pub(super) fn never_settles(&self) -> Error {
        Error::new(Kind::Poisoned, "an entry of the ring never settles: its head was written over; make a new ring")
    }
}
