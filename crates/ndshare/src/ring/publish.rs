//! Publishing a frame: a seqlock write of one entry under the head's lock. The entry is marked busy, filled, and bears its
//! number last. Numbers are given at publication, so they are dense whatever writers do or die of.

use super::claim::FrameClaim;
use super::full::as_full;
use super::note::{Beside, MOST_VIEW_BYTES, Note};
use super::policy::WhenFull;
use super::protocol::{self, BUSY, MOST_WRITTEN};
use super::state::Ring;
use super::table::{DROPPED, EVENT, HEAD};
use super::time::{self, Times};
use super::writers::Pen;
use crate::arena::{BlockId, Deadline, Hold};
use crate::error::{Error, Kind, Result};
use crate::os::kill::{Point, point};
use crate::prim::{
    Ordering::{Relaxed, SeqCst},
    fetch_to_write, set, store_bytes,
};

/// What is published of a frame beside its bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Content<'a> {
    /// Where in the block the first item is.
    pub offset: u64,
    /// The words of the caller for dtype, shape and strides; empty for the ring's own.
    pub view: &'a [u8],
    /// The meta of the frame.
    pub meta: &'a [u8],
    /// When the frame was made, where its maker knows better than the ring: of one writer, no earlier than the frame
    /// before. None: when it is published, on the monotonic clock.
    pub time_ns: Option<u64>,
    /// Text, JSON or bytes of any length beside the frame.
    pub note: Option<&'a Note<'a>>,
}

impl Content<'_> {
    pub(super) fn beside(&self) -> Beside<'_> {
        Beside { view: self.view, note: self.note }
    }

    /// Bytes that stand in the frame's block behind its items, because they are too long for the ring's head: of the note,
    /// and of the view. A frame that is to take them is begun with room for so many.
    pub fn tail_bytes(&self) -> usize {
        self.beside().tail_bytes()
    }
}

/// Where a frame that is being filled stands among the ring's frames.
#[derive(Debug, Clone, Copy)]
pub(super) struct FrameSlot {
    pub frame: u32,
    pub block: BlockId,
    /// The process that began it.
    pub writer: u64,
}

/// What became of a frame that was to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// Readers get it, under this number.
    Seq(u64),
    /// The ring is full, and drops the newest.
    Dropped,
    /// It takes a wait, and the deadline was [`Deadline::now`]. The frame can still be published.
    Busy,
}

impl Published {
    /// The number of a frame that readers get.
    pub fn seq(self) -> Option<u64> {
        match self {
            Published::Seq(seq) => Some(seq),
            Published::Dropped | Published::Busy => None,
        }
    }
}

/// A frame on its way into the ring.
pub(super) struct Publication<'a> {
    pub pen: Pen,
    /// The number at which there was room for it; none when nobody looked.
    pub room_at: Option<u64>,
    /// Names the frame and block, under the lock; none when there is none now.
    pub supply: &'a dyn Fn() -> Result<Option<(u32, BlockId)>>,
    /// A hold that is let go of as the frame is published.
    pub hold: &'a mut Option<Hold>,
    pub content: Content<'a>,
    /// Where in the block its tail begins.
    pub tail_at: u64,
}

enum Outcome {
    Published(u64),
    Full,
    NoneIdle,
}

impl Ring {
    pub(super) fn check_content(&self, content: Content<'_>) -> Result<()> {
        let (view, meta) = (content.view.len(), content.meta.len());
        if view > MOST_VIEW_BYTES {
            return Err(Error::value(format!(
                "expected a frame whose shape, strides and dtype are told in {MOST_VIEW_BYTES} bytes, got {view}: make \
                 the ring with this dtype, or choose shorter names of fields"
            )));
        }
        let most = self.table.geometry.meta_bytes;
        if meta > most as usize {
            return Err(Error::value(format!("expected at most {most} bytes of meta, got {meta}")));
        }
        time::check(content.time_ns)
    }

    /// The one way to publish: once there is room, or at once if at all where `deadline` is [`Deadline::now`].
    #[inline]
    pub(super) fn publish(&self, publication: &mut Publication<'_>, deadline: &Deadline) -> Result<Published> {
        if deadline.waits() { self.publish_by(publication, deadline) } else { self.publish_at_once(publication) }
    }

    fn publish_at_once(&self, publication: &mut Publication<'_>) -> Result<Published> {
        match self.locked_quick(|| self.publish_under_lock(publication)) {
            Ok(Some(Outcome::Published(seq))) => self.tell(seq),
            Ok(Some(Outcome::Full)) => {
                self.ask_members();
                Ok(Published::Busy)
            }
            Ok(_) => Ok(Published::Busy),
            // What `supply` asks for may take a wait, too. Nothing has changed then.
            Err(error) if error.kind() == Kind::Timeout => Ok(Published::Busy),
            Err(error) => Err(error),
        }
    }

    fn publish_by(&self, publication: &mut Publication<'_>, deadline: &Deadline) -> Result<Published> {
        let mut pruned = false;
        // BOUND: the caller's deadline, looked at by each wait; the others come once.
        loop {
            let outcome = self.locked(deadline, || self.publish_under_lock(publication));
            match outcome.map_err(as_full)? {
                Outcome::Published(seq) => return self.tell(seq),
                Outcome::NoneIdle => self.wait_for_idle(deadline)?,
                Outcome::Full => match self.when_full {
                    WhenFull::Wait | WhenFull::DropOldest => self.wait_for_space(deadline)?,
                    // It may be full only for the sake of a reader that died, or that has done with what it has.
                    WhenFull::DropNewest if !pruned => {
                        self.prune(deadline).map_err(as_full)?;
                        self.ask_members();
                    }
                    WhenFull::DropNewest => {
                        self.table.word(DROPPED).fetch_add(1, SeqCst);
                        point(Point::RingMoved);
                        return Ok(Published::Dropped);
                    }
                },
            }
            pruned = true;
        }
    }

    /// Names a frame that is being filled, for publication.
    pub(super) fn supply(&self, place: FrameSlot) -> Result<Option<(u32, BlockId)>> {
        let words = self.table.frame(place.frame);
        if self.arena().identity()? != place.writer {
            return Err(Error::new(
                Kind::Misuse,
                "a frame is published by the process that began it: begin another one after a fork",
            ));
        }
        if words.last.load(SeqCst) != BUSY || words.block.load(SeqCst) != place.block.to_word() {
            return Err(was_published());
        }
        Ok(Some((place.frame, place.block)))
    }

    fn publish_under_lock(&self, publication: &mut Publication<'_>) -> Result<Outcome> {
        let Publication { pen, room_at, supply, content, tail_at, .. } = *publication;
        self.check_open()?;
        self.check_pen(pen)?;
        if self.written() >= MOST_WRITTEN {
            return Err(no_number_left());
        }
        let times = self.times(pen, content.time_ns)?;
        // Readers look at it all the time: it is on its way here while the rest is done that comes first.
        fetch_to_write(self.table.entry(self.written()).seq);
        let has_room = room_at == Some(self.written());
        if !has_room && self.is_full(self.least_cursor()) && !self.make_room() {
            return Ok(Outcome::Full);
        }
        let Some((frame, block)) = supply()? else { return Ok(Outcome::NoneIdle) };
        self.table.frame(frame).last.store(self.written(), Relaxed);
        point(Point::RingPicked);
        // The ring's record keeps the block, and nobody takes it for idle under the lock. Now and not later: readers
        // want the block's words as soon as they see the number.
        drop(publication.hold.take());
        self.pass_groups();
        let seq = self.write_entry(frame, block, content, (times, tail_at));
        self.count_frame(pen, times.time_ns);
        Ok(Outcome::Published(seq))
    }

    fn write_entry(&self, frame: u32, block: BlockId, content: Content<'_>, (times, tail_at): (Times, u64)) -> u64 {
        let seq = self.written();
        let entry = self.table.entry(seq);
        // Beforehand: readers look at the entry, and what is written to it in one go travels in one go.
        let place = self.arena().place_to_tell(block);
        protocol::open_entry(entry.seq);
        point(Point::RingBusy);
        entry.block.store(block.to_word(), Relaxed);
        entry.frame.store(frame.into(), Relaxed);
        entry.time_ns.store(times.time_ns, Relaxed);
        entry.published_ns.store(times.published_ns, Relaxed);
        entry.offset.store(content.offset, Relaxed);
        content.beside().write_entry(&entry, tail_at);
        set(entry.place, place);
        // A group comes into use under this lock, and stays so: before that there are no claims.
        if self.groups_in_use().next().is_some() {
            entry.claims.iter().for_each(|claim| claim.store(FrameClaim::nobodys(seq).pack(), Relaxed));
        }
        store_bytes(entry.meta, content.meta);
        entry.meta[content.meta.len().div_ceil(8)..].iter().for_each(|word| word.store(0, Relaxed));
        point(Point::RingFilled);
        protocol::seal_entry(entry.seq, seq);
        point(Point::RingSequenced);
        self.table.word(HEAD).store(seq + 1, SeqCst);
        point(Point::RingHead);
        seq
    }

    /// Tells sleeping readers of a new frame.
    fn tell(&self, seq: u64) -> Result<Published> {
        self.announce_if_awaited(EVENT)?;
        self.tell_wishes();
        Ok(Published::Seq(seq))
    }
}

/// No ring comes to that many frames: all that followed would bear one number, and readers of the newest would see none.
#[cold]
fn no_number_left() -> Error {
    Error::written_over(
        "the ring's head",
        "the ring has no number left for a frame: its head was written over; make a new ring",
    )
}

#[cold]
pub(super) fn was_published() -> Error {
    Error::new(Kind::Misuse, "a frame is published once: begin another one")
}
