//! Picking a frame to fill: one that nobody wants or looks at, or another block in the place of one. All under the lock.

use super::idle::{Idle, Past, Tried};
use super::protocol::{self, BUSY};
use super::state::Ring;
use super::table::NEVER;
use super::window::Floors;
use super::writers::Pen;
use crate::arena::{BlockId, Deadline, Hold, TicketId};
use crate::error::Result;
use crate::os::kill::{Point, point};
use crate::prim::Ordering::{Relaxed, SeqCst};

/// So many frames are looked at in one go for places without content.
const LOOKS: u32 = 64;

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
        // It was thrown away, or is older than what this process remembers.
        if let Some(hold) = self.renew_if_idle(victim, need)? {
            return Ok(Pick::Got((hold, victim, room_at)));
        }
        let Some(hold) = spare else { return Ok(Pick::NeedsBlock) };
        self.replace(victim, &hold, deadline)?;
        point(Point::RingReplaced);
        Ok(Pick::Got((hold, victim, room_at)))
    }

    /// Runs `search` on what this process remembers of idle frames. A forked child whose parent was searching just then
    /// remembers nothing.
    fn remembering<T>(&self, search: impl FnOnce(&mut Idle) -> T) -> T {
        match self.idle.try_lock() {
            Some(mut idle) => search(&mut idle),
            None => search(&mut Idle::default()),
        }
    }

    /// A frame that nobody wants or looks at: with readers that hold the ring back the one consumed last, which is still
    /// in the cache; without any the oldest, so that the window stays for a reader to come.
    fn pick(&self, need: usize, floors: Floors) -> Result<Option<(Hold, u32)>> {
        let limit = if floors.recent_first { floors.firm } else { floors.wished };
        self.remembering(|idle| {
            self.meet(idle, limit);
            let attempt = |past| self.attempt(past, need);
            idle.find(floors.recent_first, attempt)?.map_or_else(|| self.unused(need, idle), |got| Ok(Some(got)))
        })
    }

    fn meet(&self, idle: &mut Idle, limit: u64) {
        let oldest = self.written().saturating_sub(self.table.entries());
        idle.meet(oldest, limit, |seq| self.frame_of(seq));
        idle.tidy(4 * self.table.geometry.frames as usize, |past| self.is_there(past));
    }

    /// The frame that was published under a number, if it still bears that.
    fn frame_of(&self, seq: u64) -> Option<u32> {
        let entry = self.table.entry(seq);
        let frame = self.table.frame_index(&entry)?;
        (entry.seq.load(SeqCst) == seq && self.is_there(Past { seq, frame })).then_some(frame)
    }

    /// Whether a frame still bears the number.
    fn is_there(&self, past: Past) -> bool {
        self.table.frame(past.frame).last.load(SeqCst) == past.seq
    }

    fn attempt(&self, past: Past, need: usize) -> Result<Tried<(Hold, u32)>> {
        if !self.is_there(past) {
            return Ok(Tried::Gone);
        }
        // RAW: a name, which is looked up.
        let Some(block) = BlockId::from_word(self.table.frame(past.frame).block.load(SeqCst)) else {
            return Ok(Tried::Gone);
        };
        // A look at one that is held is cheaper than an attempt.
        if Hold::is_held(self.arena(), block) {
            return Ok(Tried::Held);
        }
        Ok(self.renew(past.frame, need)?.map_or(Tried::Held, |hold| Tried::Got((hold, past.frame))))
    }

    fn first_idle(&self, numbers: impl Iterator<Item = u64>, need: usize) -> Result<Option<(Hold, u32)>> {
        for seq in numbers {
            if let Some(frame) = self.frame_of(seq)
                && let Some(hold) = self.renew(frame, need)?
            {
                return Ok(Some((hold, frame)));
            }
        }
        Ok(None)
    }

    /// Some of the frames, in turn.
    fn some_frames(&self, turn: u32) -> impl Iterator<Item = u32> + use<> {
        let frames = self.table.geometry.frames;
        (0..frames.min(LOOKS)).map(move |step| turn.wrapping_add(step) % frames)
    }

    /// A frame that was never published, or whose writer threw it away or died.
    fn unused(&self, need: usize, idle: &mut Idle) -> Result<Option<(Hold, u32)>> {
        for frame in self.some_frames(idle.turn) {
            if self.table.frame(frame).last.load(SeqCst) >= BUSY
                && let Some(hold) = self.renew(frame, need)?
            {
                return Ok(Some((hold, frame)));
            }
        }
        Ok(None)
    }

    fn renew_if_idle(&self, frame: u32, need: usize) -> Result<Option<Hold>> {
        // RAW: a name, which is looked up.
        let block = BlockId::from_word(self.table.frame(frame).block.load(SeqCst));
        let is_large = |&block: &BlockId| self.arena().claimed_bytes(block) >= need as u64;
        let is_idle = |block: &BlockId| !Hold::is_held(self.arena(), *block);
        if block.filter(is_large).filter(is_idle).is_some() { self.renew(frame, need) } else { Ok(None) }
    }

    fn renew(&self, frame: u32, need: usize) -> Result<Option<Hold>> {
        let words = self.table.frame(frame);
        // RAW: a name, which is looked up.
        let Some(block) = BlockId::from_word(words.block.load(SeqCst)) else { return Ok(None) };
        let Some(hold) = Hold::recycle(self.arena(), block)? else { return Ok(None) };
        // All of a frame's words are read and written under the lock.
        words.block.store(hold.block().to_word(), Relaxed);
        protocol::open_frame(words.last);
        point(Point::RingPicked);
        // Too small a block stays without content until its slot gets another one.
        Ok((hold.len_bytes() >= need).then_some(hold))
    }

    /// A slot among the frames whose block can be replaced: nobody waits for its content, and nobody fills it.
    ///
    /// Places without content come first, then the content published longest ago.
    pub(super) fn victim(&self, floor: u64) -> Option<u32> {
        self.remembering(|idle| {
            let empty = self.some_frames(idle.turn).find(|&frame| self.is_empty(frame));
            // The next one is probably beside it.
            idle.turn = empty.unwrap_or_else(|| idle.turn.wrapping_add(LOOKS) % self.table.geometry.frames);
            empty.or_else(|| self.oldest(idle, floor)).or_else(|| self.victim_of_all(floor))
        })
    }

    /// The slot of the content published longest ago that this process remembers.
    fn oldest(&self, idle: &mut Idle, floor: u64) -> Option<u32> {
        self.meet(idle, floor);
        idle.oldest(|past| self.is_there(past)).map(|past| past.frame)
    }

    /// Whether nobody fills a place without content.
    fn is_empty(&self, frame: u32) -> bool {
        let words = self.table.frame(frame);
        // RAW: only compared.
        match words.last.load(SeqCst) {
            BUSY => {
                // RAW: a name, which is looked up.
                let block = BlockId::from_word(words.block.load(SeqCst));
                block.is_none_or(|block| !Hold::is_held(self.arena(), block))
            }
            last => last == NEVER,
        }
    }

    fn victim_of_all(&self, floor: u64) -> Option<u32> {
        let rank = |frame: u32| {
            // RAW: only compared: with a floor, and then with others below it.
            match self.table.frame(frame).last.load(SeqCst) {
                BUSY | NEVER => self.is_empty(frame).then_some(0),
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
        let [block, record] = [hold.block().to_word(), new.index.into()];
        let now = [(words.last, BUSY), (words.block, block), (words.record, record), (words.nonce, new.nonce)];
        for (word, value) in now {
            word.store(value, SeqCst);
            point(Point::RingAdopted);
        }
        if old.nonce == 0 {
            return Ok(());
        }
        self.end_record(old, deadline)?.map_or(Ok(()), |block| self.arena().free_unkept(block))
    }
}
