//! The writing side as users have it: a frame to fill, and a block that exists as a frame.

use super::claim::Role;
use super::full::as_full;
use super::pick::{Pick, Picked};
use super::publish::{Content, Place};
use super::state::Ring;
use super::writers::Pen;
use crate::arena::{Hold, Patience};
use crate::array::Array;
use crate::error::{Error, Result};
use crate::os::kill::{Point, point};
use std::sync::Arc;

/// A frame being filled. Dropping it throws the content away.
#[derive(Debug)]
pub struct Writing {
    ring: Arc<Ring>,
    hold: Hold,
    place: Place,
    pen: Pen,
    /// The number at which there was room for the frame; none when nobody looked.
    room_at: Option<u64>,
}

impl Writing {
    /// Its items in the ring's own shape. Write to them before the frame is published, and not after.
    ///
    /// # Errors
    /// `InvalidValue` when the ring has no shape of its own.
    pub fn array(&self) -> Result<Array> {
        let description = self.ring.format().description().ok_or_else(|| {
            Error::value("expected a ring whose frames have a shape, got one of any: describe the array in the content")
        })?;
        Array::of_parts(self.hold.clone(), 0, description, false)
    }

    /// The frame's block, for the writer to fill.
    pub fn hold(&self) -> &Hold {
        &self.hold
    }

    /// Publishes the frame and returns its number; none when it was dropped because the ring is full.
    ///
    /// # Errors
    /// `Full` at the timeout, `Closed`; the frame is thrown away then. `InvalidValue` for too long a view or meta.
    pub fn publish(self, content: Content<'_>, patience: &Patience) -> Result<Option<u64>> {
        let Self { ring, hold, place, pen, room_at } = self;
        ring.check_content(content)?;
        let mut hold = Some(hold);
        ring.publish(patience, pen, room_at, &|| ring.supply(place), &mut hold, content)
    }

    /// The same for who goes on looking at the frame.
    ///
    /// # Errors
    /// As [`Self::publish`]; then the frame can still be published.
    pub fn publish_kept(&self, content: Content<'_>, patience: &Patience) -> Result<Option<u64>> {
        self.ring.check_content(content)?;
        let supply = || self.ring.supply(self.place);
        self.ring.publish(patience, self.pen, self.room_at, &supply, &mut None, content)
    }

    /// The same if that needs no waiting; else none.
    ///
    /// # Errors
    /// As [`Self::publish_kept`].
    pub fn publish_kept_quick(&self, content: Content<'_>) -> Result<Option<Option<u64>>> {
        self.ring.publish_quick(self.pen, self.room_at, self.place, &mut None, content)
    }

    /// As [`Self::publish`] if that needs no waiting; else the frame itself, to be published by that.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub fn publish_quick(self, content: Content<'_>) -> Result<std::result::Result<Option<u64>, Self>> {
        let Self { ring, hold, place, pen, room_at } = self;
        let mut hold = Some(hold);
        let outcome = ring.publish_quick(pen, room_at, place, &mut hold, content)?;
        match (outcome, hold) {
            (None, Some(hold)) => Ok(Err(Self { ring, hold, place, pen, room_at })),
            (outcome, _) => Ok(Ok(outcome.flatten())),
        }
    }
}

impl Ring {
    /// A frame to fill, of the ring's own shape.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn begin_own(self: &Arc<Self>, patience: &Patience) -> Result<Writing> {
        self.begin(self.geometry().frame_bytes, patience)
    }

    /// A frame of at least `len_bytes` to fill.
    ///
    /// # Errors
    /// `Full` at the timeout, `Closed`, `ArenaFull`; `InvalidValue` when the ring's frames are smaller.
    pub fn begin(self: &Arc<Self>, len_bytes: u64, patience: &Patience) -> Result<Writing> {
        self.parse_need(len_bytes)?;
        let pen = self.own_pen(Role::Loose, patience).map_err(as_full)?;
        self.begin_as(pen, len_bytes, patience)
    }

    pub(super) fn begin_as(self: &Arc<Self>, pen: Pen, len_bytes: u64, patience: &Patience) -> Result<Writing> {
        let need = self.parse_need(len_bytes)?;
        self.turn_period(patience).map_err(as_full)?;
        let mut spare = None;
        // BOUND: the caller's patience, asked by each wait; a spare block is asked for once between two of them.
        loop {
            let picked = self.locked(patience, || self.pick_under_lock(pen, need, spare.take(), patience));
            let picked = picked.map_err(as_full)?;
            match picked {
                Pick::Got(picked) => return self.writing(pen, picked),
                // Nothing is allocated under the lock.
                Pick::NeedsBlock => spare = Some(self.arena().alloc(need, 64, false, patience).map_err(as_full)?),
                Pick::Full => self.wait_for_space(patience)?,
                Pick::NoneIdle => self.wait_for_idle(patience)?,
            }
        }
    }

    /// The same if that needs no waiting; else none.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn begin_quick(self: &Arc<Self>, len_bytes: u64) -> Result<Option<Writing>> {
        self.parse_need(len_bytes)?;
        match self.find_pen()? {
            Some(pen) => self.begin_quick_as(pen, len_bytes),
            None => Ok(None),
        }
    }

    #[inline]
    pub(super) fn begin_quick_as(self: &Arc<Self>, pen: Pen, len_bytes: u64) -> Result<Option<Writing>> {
        let need = self.parse_need(len_bytes)?;
        if self.is_period_over() {
            return Ok(None);
        }
        match self.locked_quick(|| self.pick_under_lock(pen, need, None, &Patience::none()))? {
            Some(Pick::Got(picked)) => self.writing(pen, picked).map(Some),
            _ => Ok(None),
        }
    }

    fn writing(self: &Arc<Self>, pen: Pen, (hold, frame, room_at): Picked) -> Result<Writing> {
        point(Point::RingPicked);
        let place = Place { frame, block: hold.block(), writer: self.arena().identity()? };
        Ok(Writing { ring: self.clone(), hold, place, pen, room_at })
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
        patience: &Patience,
    ) -> Result<Option<u64>> {
        self.check_block(hold, len_bytes, content)?;
        let pen = self.own_pen(Role::Loose, patience).map_err(as_full)?;
        self.publish_block_as(pen, hold, len_bytes, content, patience)
    }

    pub(super) fn publish_block_as(
        &self,
        pen: Pen,
        hold: &Hold,
        len_bytes: u64,
        content: Content<'_>,
        patience: &Patience,
    ) -> Result<Option<u64>> {
        self.check_block(hold, len_bytes, content)?;
        self.turn_period(patience).map_err(as_full)?;
        let supply = || {
            self.note_size(usize::try_from(len_bytes).unwrap_or(usize::MAX));
            let floors = self.floors(self.least_cursor());
            let victim = self.victim(floors.wished).or_else(|| self.victim(floors.firm));
            let Some(victim) = victim else { return Ok(None) };
            self.replace(victim, hold, patience)?;
            Ok(Some((victim, hold.block())))
        };
        self.publish(patience, pen, None, &supply, &mut None, content)
    }

    fn check_block(&self, hold: &Hold, len_bytes: u64, content: Content<'_>) -> Result<()> {
        self.parse_need(len_bytes)?;
        self.check_content(content)?;
        if !Arc::ptr_eq(hold.arena(), self.arena()) {
            return Err(Error::value("expected a block of the ring's own arena: copy it into a frame instead"));
        }
        Ok(())
    }

    fn parse_need(&self, len_bytes: u64) -> Result<usize> {
        let most = self.table.geometry.frame_bytes;
        if most > 0 && len_bytes > most {
            return Err(Error::value(format!(
                "expected a frame of at most {most} bytes, got {len_bytes}: make the ring with a larger shape, or \
                 without one"
            )));
        }
        usize::try_from(len_bytes.max(most).max(1)).map_err(|_| Error::value("a frame is too large"))
    }
}
