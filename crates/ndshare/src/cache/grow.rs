//! Growing: one more segment of tables whenever all slots are taken. It is allocated without the lock.

use super::state::Cache;
use super::table::{HIGH, SEGMENTS};
use super::turn::{Turn, scribbled};
use crate::arena::{Deadline, Hold};
use crate::error::{Kind, Result};
use crate::os::kill::{Point, point};
use crate::prim::{
    Ordering::{Relaxed, Release},
    read,
};

impl Cache {
    pub(super) fn new_segment(&self, deadline: &Deadline) -> Result<Hold> {
        self.arena().alloc(self.table.geometry.segment_bytes(), 64, true, deadline)
    }

    /// Makes slots: more tables, or, without memory for them, those of values that go. False: neither can be had.
    pub(super) fn grow(&self, deadline: &Deadline) -> Result<bool> {
        match self.new_segment(deadline) {
            Ok(block) => self.extend_by(&block, deadline).map(|()| true),
            Err(error) if error.kind() == Kind::ArenaFull => self.locked(deadline, |turn| self.evict(turn)),
            Err(error) => Err(error),
        }
    }

    /// Makes a zeroed block the next segment, unless another was faster.
    pub(super) fn extend_by(&self, block: &Hold, deadline: &Deadline) -> Result<()> {
        self.locked(deadline, |turn| {
            let high = read(self.table.word(HIGH), Relaxed).capped(self.table.geometry.slots().into());
            if high == u64::from(self.table.geometry.slots()) || self.table.slot(high + 1).is_some() {
                return Ok(());
            }
            if self.table.segment_count() == self.table.geometry.segments()
                || self.table.directory(self.table.segment_count()).block.load(Relaxed) != 0
            {
                self.recover(turn)?;
            }
            self.extend(block, turn)
        })
    }

    pub(super) fn extend(&self, block: &Hold, turn: &mut Turn) -> Result<()> {
        let segment = self.table.segment_count();
        if segment == self.table.geometry.segments() {
            return Err(scribbled());
        }
        self.table.format_segment(segment, block);
        self.adopt(self.table.directory(segment), block, turn)?;
        point(Point::CacheGrown);
        self.table.open_own(segment, block.clone());
        self.table.word(SEGMENTS).store(segment as u64 + 1, Release);
        point(Point::CacheExtended);
        Ok(())
    }
}
