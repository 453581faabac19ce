//! Which blocks are far larger than what a ring carries now, and letting go of them.
//!
//! A ring counts publications in periods and remembers the largest frame of this one and of the last. At the turn of a
//! period it gives back each block that nobody waits for or looks at and that is larger than [`TOO_LARGE`] times that
//! and than [`SMALL`]. So a frame that comes once in a period, however large, keeps its block, and sizes that alternate
//! cost nothing; a block that was wanted once is gone after two periods. What is too large and still wanted at the turn,
//! as the newest frame is, is looked at again after one publication more, then after two, four and so on.

use super::protocol::BUSY;
use super::state::Ring;
use super::table::{LARGEST_BEFORE, LARGEST_NOW, LOOK_AT, NEVER, PERIOD};
use crate::arena::{BlockId, Deadline, Hold, TicketId};
use crate::error::Result;
use crate::os::kill::{Point, point};
use crate::prim::Ordering::{Relaxed, SeqCst};
use crate::prim::read;

/// How many times larger than the largest frame of late a block is too large.
const TOO_LARGE: u64 = 4;
/// Blocks up to so many bytes are never too large.
const SMALL: u64 = 64 << 10;
/// A period has so many publications, or as many as the ring has frames if those are more.
const PERIOD_FRAMES: u64 = 64;

impl Ring {
    fn period_frames(&self) -> u64 {
        PERIOD_FRAMES.max(self.table.geometry.frames.into())
    }

    fn is_new_period(&self) -> bool {
        !read(self.table.word(PERIOD), Relaxed).is(self.written() / self.period_frames())
    }

    /// Whether a new period has begun that nobody has looked at yet, or it is time for another look at what was left.
    #[inline]
    pub(super) fn is_period_over(&self) -> bool {
        let look_at = read(self.table.word(LOOK_AT), Relaxed).capped(u64::MAX);
        self.is_new_period() || look_at != 0 && self.written() >= look_at
    }

    /// Remembers the size of a frame, under the lock.
    #[inline]
    pub(super) fn note_size(&self, need: usize) {
        let largest = self.table.word(LARGEST_NOW);
        if largest.load(Relaxed) < need as u64 {
            largest.store(need as u64, Relaxed);
            point(Point::RingTurned);
        }
    }

    /// Begins a new period, if it is time: lets go of what is too large. Never where a wait is unwelcome: it gives memory
    /// back to the arena.
    pub(super) fn turn_period(&self, deadline: &Deadline) -> Result<()> {
        if !self.is_period_over() {
            return Ok(());
        }
        let ended = self.locked(deadline, || self.turn_under_lock(deadline))?;
        ended.into_iter().try_for_each(|block| self.arena().free_unkept(block))
    }

    fn turn_under_lock(&self, deadline: &Deadline) -> Result<Vec<u32>> {
        // Another writer may have been faster.
        if !self.is_period_over() {
            return Ok(Vec::new());
        }
        let largest = if self.is_new_period() { self.begin_period() } else { self.largest_of_late() };
        let limit = largest.saturating_mul(TOO_LARGE).max(SMALL);
        let (floor, mut ended) = (self.wished_floor(), Vec::new());
        for frame in 0..self.table.geometry.frames {
            ended.extend(self.let_go_if_larger(frame, limit, floor, deadline)?);
        }
        let is_left = (0..self.table.geometry.frames).any(|frame| self.is_larger(frame, limit));
        // Twice as far from the beginning of the period each time, until the next one begins.
        let passed = self.written() % self.period_frames();
        let look_at = if is_left { self.written() + passed + 1 } else { 0 };
        self.table.word(LOOK_AT).store(look_at, Relaxed);
        point(Point::RingTurned);
        Ok(ended)
    }

    fn largest_of_late(&self) -> u64 {
        let most = self.arena().budget_bytes();
        let [now, before] = [LARGEST_NOW, LARGEST_BEFORE].map(|word| read(self.table.word(word), Relaxed).capped(most));
        now.max(before)
    }

    /// Begins a new period; returns the largest frame of the last two.
    fn begin_period(&self) -> u64 {
        let largest = self.largest_of_late();
        let now = read(self.table.word(LARGEST_NOW), Relaxed).capped(self.arena().budget_bytes());
        self.table.word(PERIOD).store(self.written() / self.period_frames(), Relaxed);
        self.table.word(LARGEST_BEFORE).store(now, Relaxed);
        self.table.word(LARGEST_NOW).store(0, Relaxed);
        point(Point::RingTurned);
        largest
    }

    fn is_larger(&self, frame: u32, limit: u64) -> bool {
        // RAW: a name, which is looked up.
        let block = BlockId::from_word(self.table.frame(frame).block.load(SeqCst));
        block.is_some_and(|block| self.arena().claimed_bytes(block) > limit)
    }

    /// Takes the block of a frame from the ring if it is larger than `limit` and nobody wants it; the block is to be
    /// freed then. A death on the way leaves a record too many, which `recover` ends.
    fn let_go_if_larger(&self, frame: u32, limit: u64, floor: u64, deadline: &Deadline) -> Result<Option<u32>> {
        let words = self.table.frame(frame);
        // RAW: a name, which is looked up, and a number that is only compared.
        let (name, last) = (words.block.load(SeqCst), words.last.load(SeqCst));
        let Some(block) = BlockId::from_word(name) else { return Ok(None) };
        let is_wanted = last < BUSY && last >= floor;
        if is_wanted || self.arena().claimed_bytes(block) <= limit || Hold::is_held(self.arena(), block) {
            return Ok(None);
        }
        // From here on no reader can take it.
        let Some(hold) = Hold::recycle(self.arena(), block)? else { return Ok(None) };
        // RAW: names, which are looked up.
        let record = TicketId { index: words.record.load(SeqCst) as u32, nonce: words.nonce.load(SeqCst) };
        for (word, value) in [(words.last, NEVER), (words.block, 0), (words.record, 0), (words.nonce, 0)] {
            word.store(value, SeqCst);
            point(Point::RingTurned);
        }
        drop(hold);
        if record.nonce == 0 { Ok(None) } else { self.end_record(record, deadline) }
    }
}
