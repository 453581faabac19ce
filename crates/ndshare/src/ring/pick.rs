//! Picking a frame to fill: one that nobody wants or looks at, or another block in the place of one. All under the lock.

use super::protocol::{self, BUSY};
use super::state::Ring;
use super::table::NEVER;
use super::window::Floors;
use super::writers::Pen;
use crate::arena::{BlockId, Deadline, Hold, TicketId};
use crate::error::Result;
use crate::os::kill::{Point, point};
use crate::prim::Ordering::{Relaxed, SeqCst};

/// How many of the frames consumed last are tried before all are.
const LOOKS: u64 = 8;

/// A frame's block, its slot, and the number at which there was room for it.
pub(super) type Picked = (Hold, u32, Option<u64>);

pub(super) enum Pick {
    Got(Picked),
    /// There is an idle slot among the frames, but its block is held or too small.
    NeedsBlock,
    /// The window is full.
    Full,
    /// Every frame waits in the window or is being filled.
    NoneIdle,
}

impl Ring {
    pub(super) fn pick_under_lock(
        &self,
        pen: Pen,
        need: usize,
        spare: Option<Hold>,
        deadline: &Deadline,
    ) -> Result<Pick> {
        self.check_open()?;
        self.check_pen(pen)?;
        self.note_size(need);
        let least = self.least_cursor();
        if self.when_full.begins_with_room() && self.is_full(least) {
            return Ok(Pick::Full);
        }
        // Others may publish meanwhile, and readers only go on.
        let room_at = self.when_full.begins_with_room().then(|| self.written());
        let floors = self.floors(least);
        if let Some((hold, frame)) = self.pick(need, floors)? {
            return Ok(Pick::Got((hold, frame, room_at)));
        }
        let Some(victim) = self.victim(floors.wished) else {
            // Nobody holds the ring back: rather a part of the window than none.
            let found = self.first_idle(floors.wished..floors.firm, need)?;
            return Ok(found.map_or(Pick::NoneIdle, |(hold, frame)| Pick::Got((hold, frame, room_at))));
        };
        let Some(hold) = spare else { return Ok(Pick::NeedsBlock) };
        self.replace(victim, &hold, deadline)?;
        point(Point::RingReplaced);
        Ok(Pick::Got((hold, victim, room_at)))
    }

    /// A frame that nobody wants or looks at: with readers that hold the ring back the one consumed last, which is still
    /// in the cache; without any the oldest, so that the window stays for a reader to come.
    fn pick(&self, need: usize, floors: Floors) -> Result<Option<(Hold, u32)>> {
        let Floors { wished, firm, recent_first } = floors;
        let oldest = self.written().saturating_sub(self.table.entries());
        let found = if recent_first {
            let recent = (oldest..firm).rev();
            let quick = self.first_idle(recent.clone().take(LOOKS as usize), need)?;
            if quick.is_some() {
                return Ok(quick);
            }
            self.unused(need)?.map_or_else(|| self.first_idle(recent.skip(LOOKS as usize), need), |got| Ok(Some(got)))
        } else {
            self.first_idle(oldest..wished, need)
        }?;
        found.map_or_else(|| self.unused(need), |got| Ok(Some(got)))
    }

    fn first_idle(&self, numbers: impl Iterator<Item = u64>, need: usize) -> Result<Option<(Hold, u32)>> {
        for seq in numbers {
            let entry = self.table.entry(seq);
            let Some(frame) = self.table.frame_index(&entry) else { continue };
            let is_its = entry.seq.load(SeqCst) == seq && self.table.frame(frame).last.load(SeqCst) == seq;
            if is_its && let Some(hold) = self.renew(frame, need)? {
                return Ok(Some((hold, frame)));
            }
        }
        Ok(None)
    }

    /// A frame that was never published, or whose writer threw it away or died.
    fn unused(&self, need: usize) -> Result<Option<(Hold, u32)>> {
        for frame in 0..self.table.geometry.frames {
            if self.table.frame(frame).last.load(SeqCst) >= BUSY
                && let Some(hold) = self.renew(frame, need)?
            {
                return Ok(Some((hold, frame)));
            }
        }
        Ok(None)
    }

    fn renew(&self, frame: u32, need: usize) -> Result<Option<Hold>> {
        let words = self.table.frame(frame);
        // RAW: a name, which is looked up.
        let Some(block) = BlockId::from_word(words.block.load(SeqCst)) else { return Ok(None) };
        let Some(hold) = Hold::recycle(self.arena(), block)? else { return Ok(None) };
        // All of a frame's words are read and written under the lock.
        words.block.store(hold.block().to_word(), Relaxed);
        protocol::open_frame(words.last);
        // Too small a block stays without content until its slot gets another one.
        Ok((hold.len_bytes() >= need).then_some(hold))
    }

    /// A slot among the frames whose block can be replaced: nobody waits for its content, and nobody fills it.
    ///
    /// Places without content come first, then the content published longest ago.
    pub(super) fn victim(&self, floor: u64) -> Option<u32> {
        let rank = |frame: u32| {
            let words = self.table.frame(frame);
            let filled_by_nobody = || {
                // RAW: a name, which is looked up.
                let block = BlockId::from_word(words.block.load(SeqCst));
                block.is_none_or(|block| !Hold::is_held(self.arena(), block))
            };
            // RAW: only compared: with a floor, and then with others below it.
            match words.last.load(SeqCst) {
                BUSY => filled_by_nobody().then_some(0),
                NEVER => Some(0),
                last => (last < floor).then_some(last + 1),
            }
        };
        let ranked = (0..self.table.geometry.frames).filter_map(|frame| Some((rank(frame)?, frame)));
        ranked.min().map(|(_, frame)| frame)
    }

    /// Puts another block into a slot among the frames, under the lock. If the wait for the arena lock is cut short,
    /// nothing has changed. A death on the way leaves a record too many, which `recover` ends.
    pub(super) fn replace(&self, frame: u32, hold: &Hold, deadline: &Deadline) -> Result<()> {
        let words = self.table.frame(frame);
        // RAW: names, which are looked up.
        let old = TicketId { index: words.record.load(SeqCst) as u32, nonce: words.nonce.load(SeqCst) };
        let new = self.table.head.adopt(hold, deadline)?;
        point(Point::RingAdopted);
        words.last.store(BUSY, SeqCst);
        words.block.store(hold.block().to_word(), SeqCst);
        words.record.store(new.index.into(), SeqCst);
        words.nonce.store(new.nonce, SeqCst);
        if old.nonce == 0 {
            return Ok(());
        }
        self.end_record(old, deadline)?.map_or(Ok(()), |block| self.arena().free_unkept(block))
    }
}
