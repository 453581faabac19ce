//! What gives memory of an arena up before an allocation fails: modules of higher floors, which say so here once.

use super::deadline::Deadline;
use super::hold::Hold;
use super::ids::BlockId;
use super::state::Arena;
use super::word::State;
use crate::error::Result;
use crate::prim::{Ordering::Relaxed, SetOnce};
use std::sync::{Arc, LazyLock};

/// The mark of a block that is the head of a cache.
pub const MARK_CACHE: u32 = 1;

/// Who gives memory up.
#[derive(Debug, Clone, Copy)]
pub struct Shortage {
    /// Gives up about so many bytes, without the arena lock; says how many it gave up.
    pub relieve: fn(&Arc<Arena>, u64, &Deadline) -> Result<u64>,
    /// What it has not given up, for the error; empty for nothing.
    pub describe: fn(&Arc<Arena>) -> String,
}

static SHORTAGE: LazyLock<SetOnce<Shortage>> = LazyLock::new(SetOnce::new);

/// From now on, whoever finds an arena full in this process asks `shortage` first. The first one counts.
pub fn on_shortage(shortage: Shortage) {
    SHORTAGE.set(shortage);
}

impl Arena {
    /// Asks for memory when nothing else is left; says how many bytes were given up.
    pub(super) fn ask_for(self: &Arc<Self>, bytes: u64, deadline: &Deadline) -> Result<u64> {
        SHORTAGE.get().map_or(Ok(0), |shortage| (shortage.relieve)(self, bytes, deadline))
    }

    /// What was not given up, as a part of an error's text.
    pub(super) fn unrelieved(self: &Arc<Self>) -> String {
        SHORTAGE.get().map_or_else(String::new, |shortage| (shortage.describe)(self))
    }

    /// The live blocks with a mark.
    #[doc(hidden)]
    pub fn marked(&self, mark: u32) -> Vec<BlockId> {
        let block = |index| {
            let block = self.control.block_quietly(index).filter(|block| block.mark.load(Relaxed) == mark)?;
            let word = block.words().load();
            (word.state == State::Live).then_some(BlockId { index, generation: word.generation })
        };
        (0..self.control.high()).filter_map(block).collect()
    }

    /// The slots of the participants that hold a block.
    #[doc(hidden)]
    pub fn holders_of(&self, block: BlockId) -> Vec<u32> {
        let Some(shared) = self.control.block_quietly(block.index) else { return Vec::new() };
        (0..self.control.geometry().participants).filter(|&slot| shared.words().has_bit(slot)).collect()
    }
}

impl Hold {
    /// Marks the block, until it is freed.
    ///
    /// # Errors
    /// `Poisoned`.
    #[doc(hidden)]
    pub fn mark(&self, mark: u32) -> Result<()> {
        // NO POINT: who marks a block has just made it, and nobody else has its name; with its maker it goes.
        self.arena.control.block(self.mine.index)?.mark.store(mark, Relaxed);
        Ok(())
    }
}
