//! The writing side as users have it: a frame to fill, and a block that exists as a frame.

use super::claim::Role;
use super::full::as_full;
use super::note::tail_at;
use super::pick::{Pick, Picked};
use super::publish::{Content, FrameSlot, Publication, Published, was_published};
use super::state::Ring;
use super::writers::Pen;
use crate::arena::{Deadline, Hold};
use crate::array::Array;
use crate::error::{Error, Result};
use crate::os::kill::{Point, point};
use std::sync::Arc;

/// A frame being filled. Dropping it throws the content away, unless it was published.
#[derive(Debug)]
pub struct Writing {
    ring: Arc<Ring>,
    /// None once it was published and let go of.
    hold: Option<Hold>,
    is_kept: bool,
    /// Its number, once it was published.
    seq: Option<u64>,
    place: FrameSlot,
    pen: Pen,
    /// The number at which there was room for the frame; none when nobody looked.
    room_at: Option<u64>,
    /// Where in the block the items end that it was begun for.
    end: u64,
}

impl Writing {
    /// Its items in the ring's own shape. Write to them before the frame is published, and not after.
    ///
    /// # Errors
    /// `InvalidValue` when the ring has no shape of its own; `Misuse` when it was published.
    pub fn array(&self) -> Result<Array> {
        let description = self.ring.format().description().ok_or_else(|| {
            Error::value("expected a ring whose frames have a shape, got one of any: describe the array in the content")
        })?;
        Array::of_parts(self.hold()?.clone(), 0, description, false)
    }

    /// The frame's block, for the writer to fill.
    ///
    /// # Errors
    /// `Misuse` when it was published, and not [kept](Self::keep).
    #[inline]
    pub fn hold(&self) -> Result<&Hold> {
        self.hold.as_ref().ok_or_else(was_published)
    }

    /// Has this object go on to hold the block once it is published, for who goes on looking at the frame. Otherwise it
    /// lets go of the block just before readers hear of it.
    pub fn keep(&mut self) {
        self.is_kept = true;
    }

    /// Publishes the frame, once there is room; with [`Deadline::now`] at once or not at all.
    ///
    /// # Errors
    /// `Full` at the timeout, `Closed`, `InvalidValue` for too long a view or meta: the frame can still be published, and
    /// is thrown away with this object. `Misuse`, at once, when it was published already.
    #[inline]
    pub fn publish(&mut self, content: Content<'_>, deadline: &Deadline) -> Result<Published> {
        let Self { ring, hold, is_kept, seq, place, pen, room_at, end } = self;
        if seq.is_some() {
            return Err(was_published());
        }
        ring.check_content(content)?;
        let tail_at = content.beside().write_tail(hold.as_ref().ok_or_else(was_published)?, *end)?;
        let supply = || ring.supply(*place);
        let hold = if *is_kept { &mut None } else { hold };
        let mut publication = Publication { pen: *pen, room_at: *room_at, supply: &supply, hold, content, tail_at };
        let published = ring.publish(&mut publication, deadline)?;
        *seq = published.seq();
        Ok(published)
    }

    /// Bytes for a note and a view behind the items that it was begun for.
    ///
    /// # Errors
    /// As [`Self::hold`].
    pub fn tail_room(&self) -> Result<usize> {
        let room = (self.hold()?.len_bytes() as u64).saturating_sub(tail_at(self.end));
        Ok(usize::try_from(room).unwrap_or(usize::MAX))
    }

    /// Its number; none while it is not published, and when it was dropped.
    pub fn seq(&self) -> Option<u64> {
        self.seq
    }
}

/// Where frames go: a ring, or one of its [writers](super::Writer). Code that makes frames need not know which.
///
/// ```
/// use ndshare::ring::{Content, Format, Published, RingOptions, Sink};
/// use ndshare::{Deadline, Number, Result, Ring};
///
/// fn write(sink: &dyn Sink, frame: [u8; 4]) -> Result<Published> {
///     let mut writing = sink.begin(4, &Deadline::never())?;
///     writing.array()?.copy_from_slice(&frame)?;
///     writing.publish(Content::default(), &Deadline::never())
/// }
///
/// let forever = Deadline::never();
/// let ring = Ring::new(ndshare::session()?, Format::new(&[4], Number::U8), RingOptions::slots(4), &forever)?;
/// let writer = ring.writer(&forever)?;
/// assert_eq!(write(&ring, [1; 4])?.seq(), Some(0));
/// assert_eq!(write(&*writer, [2; 4])?.seq(), Some(1));
/// # Ok::<(), ndshare::Error>(())
/// ```
pub trait Sink: Send + Sync {
    /// A frame of at least `len_bytes` to fill.
    ///
    /// # Errors
    /// As [`Ring::begin`], and [`Writer::begin`](super::Writer::begin).
    fn begin(&self, len_bytes: u64, deadline: &Deadline) -> Result<Writing> {
        self.begin_with_note(len_bytes, 0, deadline)
    }

    /// The same with room for so many bytes of note behind the items.
    ///
    /// # Errors
    /// As there.
    fn begin_with_note(&self, len_bytes: u64, note_bytes: u64, deadline: &Deadline) -> Result<Writing>;

    /// The same if that needs no waiting; else none.
    ///
    /// # Errors
    /// As there.
    #[doc(hidden)]
    fn begin_quick(&self, len_bytes: u64, note_bytes: u64) -> Result<Option<Writing>>;

    /// Publishes a block that exists, as [`Ring::publish_block`] does.
    ///
    /// # Errors
    /// As there, and [`Writer::publish_block`](super::Writer::publish_block).
    fn publish_block(
        &self,
        hold: &Hold,
        len_bytes: u64,
        content: Content<'_>,
        deadline: &Deadline,
    ) -> Result<Published>;
}

/// A sink by the methods of the same names that a type has of its own.
macro_rules! sink_by_own_methods {
    ($sink:ty, $own:ident) => {
        impl Sink for $sink {
            fn begin_with_note(&self, len_bytes: u64, note_bytes: u64, deadline: &Deadline) -> Result<Writing> {
                $own::begin_with_note(self, len_bytes, note_bytes, deadline)
            }

            fn begin_quick(&self, len_bytes: u64, note_bytes: u64) -> Result<Option<Writing>> {
                $own::begin_quick(self, len_bytes, note_bytes)
            }

            fn publish_block(
                &self,
                hold: &Hold,
                len_bytes: u64,
                content: Content<'_>,
                deadline: &Deadline,
            ) -> Result<Published> {
                $own::publish_block(self, hold, len_bytes, content, deadline)
            }
        }
    };
}
pub(super) use sink_by_own_methods;

sink_by_own_methods!(Arc<Ring>, Ring);

impl Ring {
    /// A frame to fill, of the ring's own shape.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn begin_own(self: &Arc<Self>, deadline: &Deadline) -> Result<Writing> {
        self.begin(self.geometry().frame_bytes, deadline)
    }

    /// A frame of at least `len_bytes` to fill.
    ///
    /// # Errors
    /// `Full` at the timeout, `Closed`, `ArenaFull`; `InvalidValue` when the ring's frames are smaller.
    pub fn begin(self: &Arc<Self>, len_bytes: u64, deadline: &Deadline) -> Result<Writing> {
        self.begin_with_note(len_bytes, 0, deadline)
    }

    /// The same with room for so many bytes of note behind the items. A short note needs none: it stands in the ring's
    /// head. [`Content::tail_bytes`] says what it takes.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn begin_with_note(self: &Arc<Self>, len_bytes: u64, note_bytes: u64, deadline: &Deadline) -> Result<Writing> {
        let need = self.parse_need(len_bytes, note_bytes)?;
        let pen = self.own_pen(Role::Loose, deadline).map_err(as_full)?;
        self.begin_as(pen, need, deadline)
    }

    pub(super) fn begin_as(self: &Arc<Self>, pen: Pen, need: Need, deadline: &Deadline) -> Result<Writing> {
        self.turn_period(deadline).map_err(as_full)?;
        let mut spare = None;
        // BOUND: the caller's deadline, looked at by each wait; a spare block is asked for once between two of them.
        loop {
            let picked = self.locked(deadline, || self.pick_under_lock(pen, need.bytes, spare.take(), deadline));
            let picked = picked.map_err(as_full)?;
            match picked {
                Pick::Got(picked) => return self.writing(pen, need, picked),
                // Nothing is allocated under the lock.
                Pick::NeedsBlock => spare = Some(self.arena().alloc(need.bytes, 64, false, deadline).map_err(as_full)?),
                Pick::Full => self.wait_for_space(deadline)?,
                Pick::NoneIdle => self.wait_for_idle(deadline)?,
            }
        }
    }

    /// The same if that needs no waiting; else none.
    ///
    /// # Errors
    /// As [`Self::begin`].
    #[doc(hidden)]
    pub fn begin_quick(self: &Arc<Self>, len_bytes: u64, note_bytes: u64) -> Result<Option<Writing>> {
        let need = self.parse_need(len_bytes, note_bytes)?;
        match self.find_pen()? {
            Some(pen) => self.begin_quick_as(pen, need),
            None => Ok(None),
        }
    }

    #[inline]
    pub(super) fn begin_quick_as(self: &Arc<Self>, pen: Pen, need: Need) -> Result<Option<Writing>> {
        if self.is_period_over() {
            return Ok(None);
        }
        match self.locked_quick(|| self.pick_under_lock(pen, need.bytes, None, &Deadline::now()))? {
            Some(Pick::Got(picked)) => self.writing(pen, need, picked).map(Some),
            _ => Ok(None),
        }
    }

    fn writing(self: &Arc<Self>, pen: Pen, need: Need, (hold, frame, room_at): Picked) -> Result<Writing> {
        point(Point::RingPicked);
        let place = FrameSlot { frame, block: hold.block(), writer: self.arena().identity()? };
        let (ring, end) = (self.clone(), need.end);
        Ok(Writing { ring, hold: Some(hold), is_kept: false, seq: None, place, pen, room_at, end })
    }

    /// Publishes a block that exists, of which the frame uses `len_bytes`, without a copy: it takes a place among the
    /// ring's frames.
    ///
    /// # Errors
    /// As [`Self::begin`] and [`Writing::publish`]; `InvalidValue` for a block of another arena.
    pub fn publish_block(
        &self,
        hold: &Hold,
        len_bytes: u64,
        content: Content<'_>,
        deadline: &Deadline,
    ) -> Result<Published> {
        self.check_block(hold, len_bytes, content)?;
        let pen = if deadline.waits() {
            Some(self.own_pen(Role::Loose, deadline).map_err(as_full)?)
        } else {
            self.find_pen()?
        };
        pen.map_or(Ok(Published::Busy), |pen| self.publish_block_as(pen, hold, len_bytes, content, deadline))
    }

    pub(super) fn publish_block_as(
        &self,
        pen: Pen,
        block: &Hold,
        len_bytes: u64,
        content: Content<'_>,
        deadline: &Deadline,
    ) -> Result<Published> {
        self.check_block(block, len_bytes, content)?;
        if deadline.waits() {
            self.turn_period(deadline).map_err(as_full)?;
        }
        let supply = || {
            self.note_size(usize::try_from(len_bytes).unwrap_or(usize::MAX));
            let floors = self.floors(self.least_cursor());
            let victim = self.victim(floors.wished).or_else(|| self.victim(floors.firm));
            let Some(victim) = victim else { return Ok(None) };
            self.replace(victim, block, deadline)?;
            Ok(Some((victim, block.block())))
        };
        self.publish(
            &mut Publication { pen, room_at: None, supply: &supply, hold: &mut None, content, tail_at: 0 },
            deadline,
        )
    }

    fn check_block(&self, hold: &Hold, len_bytes: u64, content: Content<'_>) -> Result<()> {
        self.parse_need(len_bytes, 0)?;
        self.check_content(content)?;
        if content.tail_bytes() > 0 {
            return Err(Error::value(
                "expected a note and a description that are short, of a block that is published as it is, got longer ones: \
                 copy it into a frame instead",
            ));
        }
        if !Arc::ptr_eq(hold.arena(), self.arena()) {
            return Err(Error::value("expected a block of the ring's own arena: copy it into a frame instead"));
        }
        Ok(())
    }

    pub(super) fn parse_need(&self, len_bytes: u64, note_bytes: u64) -> Result<Need> {
        let most = self.table.geometry.frame_bytes;
        if most > 0 && len_bytes > most {
            return Err(Error::value(format!(
                "expected a frame of at most {most} bytes, got {len_bytes}: make the ring with a larger shape, or \
                 without one"
            )));
        }
        let end = len_bytes.max(most).max(1);
        let bytes = if note_bytes == 0 { end } else { tail_at(end).saturating_add(note_bytes) };
        let bytes = usize::try_from(bytes).map_err(|_| Error::value("a frame is too large"))?;
        Ok(Need { bytes, end })
    }
}

/// What is needed of a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Need {
    bytes: usize,
    /// Where the items end.
    end: u64,
}
