//! What one process keeps of an arena for itself: how many references it has to each block, where the blocks it
//! holds lie, and a few small blocks ready for the next small array.
//!
//! The mutex around this covers each change between no reference and one. Under it there is no system call, no
//! wait for a shared lock and no Python.

use super::control::Span;
use std::collections::BTreeMap;

/// The largest block that is kept ready, in granules.
const QUICK_GRANULES: u32 = 64;
/// How many granules are kept ready at most: 1 MiB.
const QUICK_TOTAL: u32 = 1024;

/// A block that this process holds, or keeps ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mine {
    pub index: u32,
    pub span: Span,
}

/// Says whether the bytes from an address on point into this process. It runs before a fork, under the private lock.
pub type Judge = fn(address: usize, len_bytes: usize) -> bool;

/// What a fork does with a block that may hold pointers.
#[derive(Clone, Copy)]
pub(super) enum Watch {
    Ask(Judge),
    /// It held some: since then this process has its bytes for itself.
    Parted,
}

/// The private part of an arena.
pub(super) struct Private {
    /// {generation: 32, references: 32} of each block.
    counts: Vec<u64>,
    /// By first granule.
    blocks: BTreeMap<u32, Mine>,
    /// Reserved blocks by granules, ready for reuse.
    quick: Vec<Vec<Mine>>,
    quick_total: u32,
    /// By index.
    watched: BTreeMap<u32, Watch>,
}

impl Private {
    pub(super) fn new(blocks: u32) -> Self {
        Self {
            // Zeroed memory that the system maps page by page as it is used.
            counts: vec![0; blocks as usize],
            blocks: BTreeMap::new(),
            quick: vec![Vec::new(); QUICK_GRANULES as usize + 1],
            quick_total: 0,
            watched: BTreeMap::new(),
        }
    }

    pub(super) fn references(&self, index: u32) -> u32 {
        self.counts[index as usize] as u32
    }

    pub(super) fn generation(&self, index: u32) -> u32 {
        (self.counts[index as usize] >> 32) as u32
    }

    /// One reference more to a block that has some.
    pub(super) fn add_reference(&mut self, index: u32) {
        self.counts[index as usize] += 1;
    }

    /// One reference less; returns how many are left.
    pub(super) fn remove_reference(&mut self, index: u32) -> u32 {
        self.counts[index as usize] -= 1;
        self.references(index)
    }

    /// The first reference to a block that came from the arena.
    pub(super) fn insert(&mut self, mine: Mine, generation: u32) {
        self.set_first(mine.index, generation);
        self.blocks.insert(mine.span.start, mine);
    }

    /// The first reference to a block that was kept ready.
    pub(super) fn set_first(&mut self, index: u32, generation: u32) {
        self.counts[index as usize] = u64::from(generation) << 32 | 1;
    }

    pub(super) fn forget(&mut self, span: Span) {
        self.blocks.remove(&span.start);
    }

    /// The block of this process that holds the granules `first..=last`, if it has references to it.
    pub(super) fn find(&self, first: u32, last: u32) -> Option<Mine> {
        let (_, mine) = self.blocks.range(..=first).next_back()?;
        (last < mine.span.end() && self.references(mine.index) > 0).then_some(*mine)
    }

    /// All blocks that this process has references to.
    pub(super) fn held(&self) -> impl Iterator<Item = Mine> {
        self.blocks.values().copied().filter(|mine| self.references(mine.index) > 0)
    }

    // ---- blocks that may hold pointers

    pub(super) fn watch(&mut self, index: u32, judge: Judge) {
        self.watched.insert(index, Watch::Ask(judge));
    }

    /// Ends the watch. True: the block is parted.
    pub(super) fn unwatch(&mut self, index: u32) -> bool {
        matches!(self.watched.remove(&index), Some(Watch::Parted))
    }

    pub(super) fn is_parted(&self, index: u32) -> bool {
        matches!(self.watched.get(&index), Some(Watch::Parted))
    }

    /// The blocks about which nothing is known yet.
    pub(super) fn suspects(&self) -> Vec<(Mine, Judge)> {
        let asked = self.watched.iter().filter_map(|(&index, watch)| match *watch {
            Watch::Ask(judge) => Some((index, judge)),
            Watch::Parted => None,
        });
        let asked: BTreeMap<u32, Judge> = asked.collect();
        self.held().filter_map(|mine| Some((mine, *asked.get(&mine.index)?))).collect()
    }

    pub(super) fn set_parted(&mut self, index: u32) {
        self.watched.insert(index, Watch::Parted);
    }

    // ---- blocks kept ready

    pub(super) fn has_quick_room(&self, span: Span) -> bool {
        span.granules <= QUICK_GRANULES && self.quick_total + span.granules <= QUICK_TOTAL
    }

    pub(super) fn push_quick(&mut self, mine: Mine) {
        self.quick_total += mine.span.granules;
        self.quick[mine.span.granules as usize].push(mine);
    }

    /// A ready block of exactly this size and alignment.
    pub(super) fn pop_quick(&mut self, granules: u32, align_granules: u32) -> Option<Mine> {
        let ready = self.quick.get_mut(granules as usize)?;
        if !ready.last()?.span.start.is_multiple_of(align_granules) {
            return None;
        }
        self.quick_total -= granules;
        ready.pop()
    }

    /// Takes all ready blocks out, for the caller to give back.
    pub(super) fn take_quick(&mut self) -> Vec<Mine> {
        self.quick_total = 0;
        let all: Vec<Mine> = self.quick.iter_mut().flat_map(std::mem::take).collect();
        all.iter().for_each(|mine| self.forget(mine.span));
        all
    }
}
