//! Which blocks are far larger than what a ring carries now, and letting go of them.
//!
//! A ring counts publications in periods and remembers the largest frame of this one and of the last. At the turn of a
//! period it gives back each block that nobody waits for or looks at and that is larger than [`TOO_LARGE`] times that
//! and than [`SMALL`]. So a frame that comes once in a period, however large, keeps its block, and sizes that alternate
//! cost nothing; a block that was wanted once is gone after two periods.

use super::Ring;
use super::protocol::BUSY;
use super::table::{LARGEST_BEFORE, LARGEST_NOW, NEVER, PERIOD};
use crate::arena::{BlockId, Hold, Patience, TicketId};
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
    fn period(&self) -> u64 {
        self.written() / PERIOD_FRAMES.max(self.table.geometry.frames.into())
    }

    /// Whether a new period has begun that nobody has looked at yet.
    #[inline]
    pub(super) fn is_period_over(&self) -> bool {
        self.table.word(PERIOD).load(Relaxed) != self.period()
    }

    /// Remembers the size of a frame, under the lock.
    #[inline]
    pub(super) fn note_size(&self, need: usize) {
        let largest = self.table.word(LARGEST_NOW);
        if largest.load(Relaxed) < need as u64 {
            largest.store(need as u64, Relaxed);
        }
    }

    /// Begins a new period, if it is time: lets go of what is too large. Never where a wait is unwelcome: it gives memory
    /// back to the arena.
    pub(super) fn turn_period(&self, patience: &Patience) -> Result<()> {
        if !self.is_period_over() {
            return Ok(());
        }
        let ended = self.locked(patience, || self.turn_under_lock())?;
        ended.into_iter().try_for_each(|block| self.arena().free_unkept(block))
    }

    fn turn_under_lock(&self) -> Result<Vec<u32>> {
        // Another writer may have been faster.
        if !self.is_period_over() {
            return Ok(Vec::new());
        }
        self.table.word(PERIOD).store(self.period(), Relaxed);
        let most = self.arena().budget_bytes();
        let [now, before] = [LARGEST_NOW, LARGEST_BEFORE].map(|word| read(self.table.word(word), Relaxed).capped(most));
        self.table.word(LARGEST_BEFORE).store(now, Relaxed);
        self.table.word(LARGEST_NOW).store(0, Relaxed);
        point(Point::RingTurned);
        let limit = now.max(before).saturating_mul(TOO_LARGE).max(SMALL);
        let floor = self.wished_floor();
        let mut ended = Vec::new();
        for frame in 0..self.table.geometry.frames {
            ended.extend(self.let_go_if_larger(frame, limit, floor)?);
        }
        Ok(ended)
    }

    /// Takes the block of a frame from the ring if it is larger than `limit` and nobody wants it; the block is to be
    /// freed then. A death on the way leaves a record too many, which `recover` ends.
    fn let_go_if_larger(&self, frame: u32, limit: u64, floor: u64) -> Result<Option<u32>> {
        let words = self.table.frame(frame);
        let Some(block) = BlockId::from_word(words.block.load(SeqCst)) else { return Ok(None) };
        let last = words.last.load(SeqCst);
        let is_wanted = last < BUSY && last >= floor;
        if is_wanted || self.arena().claimed_bytes(block) <= limit || Hold::is_held(self.arena(), block) {
            return Ok(None);
        }
        // From here on no reader can take it.
        let Some(hold) = Hold::recycle(self.arena(), block)? else { return Ok(None) };
        let record = TicketId { index: words.record.load(SeqCst) as u32, nonce: words.nonce.load(SeqCst) };
        words.last.store(NEVER, SeqCst);
        words.block.store(0, SeqCst);
        point(Point::RingTurned);
        words.record.store(0, SeqCst);
        words.nonce.store(0, SeqCst);
        point(Point::RingTurned);
        drop(hold);
        if record.nonce == 0 { Ok(None) } else { self.table.head.end_record(record, &Patience::forever()) }
    }
}
