//! What one process keeps of an arena for itself: how many references it has to each block, where the blocks it
//! holds lie, and a few small blocks ready for the next small array.
//!
//! The mutex around this covers each change between no reference and one. Under it there is no system call, no
//! wait for a shared lock and no Python.
//!
//! Blocks that could not be given back at once, because somebody had the arena lock, stand in a list until somebody
//! in this process finds the lock free. Its links are a table that exists from the start, so a drop never allocates.

use super::control::Span;
use std::collections::BTreeMap;

/// The largest block that is kept ready, in granules.
const QUICK_GRANULES: u32 = 64;
/// How many granules are kept ready at most: 1 MiB.
const QUICK_TOTAL: u32 = 1024;
/// How many blocks without a reference are remembered: as many values of a cache as a program goes round at a time.
const REMEMBERED: usize = 1024;

/// A block that this process holds, or keeps ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mine {
    pub index: u32,
    pub span: Span,
}

/// What is left to do about a block that could not be given back at once. Later ones are stricter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Deferred {
    /// It may be live and kept by nobody: whoever comes first frees it, also another process.
    Unkept,
    /// The same, and its pages go at once.
    UnkeptOfTheDead,
    /// This participant owns it as `Freeing`.
    Freeing,
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
    /// {first granule: 32, granules: 32} of each block that this process has references to: a peer may write over the
    /// shared one at any time.
    spans: Vec<u64>,
    /// By first granule. Some may have no reference: those kept ready, and those remembered.
    blocks: BTreeMap<u32, Mine>,
    /// Blocks whose last reference went while a record kept them, as a ring's frames: they stay in `blocks`, because they
    /// come back soon. By index; a block that has references again stays here.
    remembered: Vec<Option<Mine>>,
    /// Reserved blocks by granules, ready for reuse.
    quick: Vec<Vec<Mine>>,
    quick_total: u32,
    /// By index.
    watched: BTreeMap<u32, Watch>,
    /// By index: {index of the next one + 1: 30, what is left to do + 1: 2}; 0: not in the list.
    deferred: Vec<u32>,
    /// The first one's index + 1; 0: the list is empty.
    first_deferred: u32,
    /// Blocks that guests may still use, by index, and for how many parties of them: these keep their holds.
    lent: BTreeMap<u32, u32>,
}

impl Private {
    pub(super) fn new(blocks: u32) -> Self {
        Self {
            // Zeroed memory that the system maps page by page as it is used.
            counts: vec![0; blocks as usize],
            spans: vec![0; blocks as usize],
            blocks: BTreeMap::new(),
            remembered: vec![None; REMEMBERED],
            quick: vec![Vec::new(); QUICK_GRANULES as usize + 1],
            quick_total: 0,
            watched: BTreeMap::new(),
            deferred: vec![0; blocks as usize],
            first_deferred: 0,
            lent: BTreeMap::new(),
        }
    }

    /// A block that this process has references to.
    pub(super) fn mine(&self, index: u32) -> Mine {
        let bits = self.spans[index as usize];
        Mine { index, span: Span { start: (bits >> 32) as u32, granules: bits as u32 } }
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

    /// The first reference to a block that came from the arena. False: this process has it, or one that lies under it,
    /// already, so a peer wrote over one of them; nothing changes.
    #[inline]
    #[must_use]
    pub(super) fn insert(&mut self, mine: Mine, generation: u32) -> bool {
        let is_taken = self.references(mine.index) > 0;
        if is_taken || (self.remembered[remembered_at(mine.index)] != Some(mine) && !self.insert_new(mine)) {
            return false;
        }
        self.set_first(mine, generation);
        true
    }

    fn insert_new(&mut self, mine: Mine) -> bool {
        // What is remembered may be gone by now: its place in the table has another block, or its bytes do.
        if let Some(old) = self.remembered[remembered_at(mine.index)]
            && old.index == mine.index
        {
            self.forget(old);
        }
        // They lie apart, so only the last one that starts before the end can reach into it.
        // BOUND: each round takes one block out of a private list.
        while let Some((_, &last)) = self.blocks.range(..mine.span.end()).next_back()
            && last.span.overlaps(mine.span)
        {
            if self.references(last.index) > 0 || self.remembered[remembered_at(last.index)] != Some(last) {
                return false;
            }
            self.forget(last);
        }
        self.blocks.insert(mine.span.start, mine);
        true
    }

    /// Notes that the last reference to a block went, which a record still keeps.
    #[inline]
    pub(super) fn remember(&mut self, mine: Mine) {
        let old = self.remembered[remembered_at(mine.index)].replace(mine);
        if let Some(old) = old
            && old != mine
            && self.references(old.index) == 0
        {
            self.blocks.remove(&old.span.start);
        }
    }

    /// The first reference to a block that was kept ready.
    pub(super) fn set_first(&mut self, mine: Mine, generation: u32) {
        self.counts[mine.index as usize] = u64::from(generation) << 32 | 1;
        self.spans[mine.index as usize] = u64::from(mine.span.start) << 32 | u64::from(mine.span.granules);
    }

    /// Notes that a block is none of this process's any more.
    pub(super) fn forget(&mut self, mine: Mine) {
        self.unremember(mine);
        self.blocks.remove(&mine.span.start);
    }

    fn unremember(&mut self, mine: Mine) {
        let remembered = &mut self.remembered[remembered_at(mine.index)];
        if *remembered == Some(mine) {
            *remembered = None;
        }
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

    // ---- blocks that guests may use

    /// Lends a block to one more party of guests.
    pub(super) fn lend(&mut self, index: u32) {
        *self.lent.entry(index).or_insert(0) += 1;
    }

    #[inline]
    pub(super) fn is_lent(&self, index: u32) -> bool {
        !self.lent.is_empty() && self.lent.contains_key(&index)
    }

    /// Takes a block back from one party. True: that was the last one, and this process has no reference either.
    pub(super) fn take_back(&mut self, index: u32) -> bool {
        let Some(parties) = self.lent.get_mut(&index) else { return false };
        *parties -= 1;
        if *parties > 0 {
            return false;
        }
        self.lent.remove(&index);
        self.references(index) == 0
    }

    pub(super) fn has_lent(&self) -> bool {
        !self.lent.is_empty()
    }

    /// What the parent lent is the parent's.
    pub(super) fn forget_lent(&mut self) {
        self.lent.clear();
    }

    // ---- blocks kept ready

    pub(super) fn has_quick_room(&self, span: Span) -> bool {
        span.granules <= QUICK_GRANULES && self.quick_total + span.granules <= QUICK_TOTAL
    }

    pub(super) fn push_quick(&mut self, mine: Mine) {
        // It stays in `blocks` whatever is remembered.
        self.unremember(mine);
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
        all.iter().for_each(|&mine| self.forget(mine));
        all
    }

    // ---- blocks to be given back later

    /// Puts a block into the list, once; what is stricter counts.
    pub(super) fn defer(&mut self, index: u32, what: Deferred) {
        let link = &mut self.deferred[index as usize];
        if *link == 0 {
            *link = self.first_deferred << 2 | pack_deferred(what);
            self.first_deferred = index + 1;
        } else {
            *link = *link & !3 | (*link & 3).max(pack_deferred(what));
        }
    }

    /// Takes one block out of the list.
    pub(super) fn next_deferred(&mut self) -> Option<(u32, Deferred)> {
        let index = self.first_deferred.checked_sub(1)?;
        let link = std::mem::take(&mut self.deferred[index as usize]);
        self.first_deferred = link >> 2;
        let what = match link & 3 {
            1 => Deferred::Unkept,
            2 => Deferred::UnkeptOfTheDead,
            _ => Deferred::Freeing,
        };
        Some((index, what))
    }

    #[inline]
    pub(super) fn has_deferred(&self) -> bool {
        self.first_deferred != 0
    }

    /// Empties the list: in a forked child all of it is the parent's.
    pub(super) fn forget_deferred(&mut self) {
        // BOUND: each round takes one block out of a private list.
        while self.next_deferred().is_some() {}
    }
}

/// Two bits that are never 0.
fn pack_deferred(what: Deferred) -> u32 {
    what as u32 + 1
}

/// Where a block is remembered.
fn remembered_at(index: u32) -> usize {
    index as usize % REMEMBERED
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn block(index: u32, start: u32, end: u32) -> Mine {
        Mine { index, span: Span::new(start, end) }
    }

    /// Takes and drops a block that a record keeps.
    fn visit(private: &mut Private, mine: Mine) {
        assert!(private.insert(mine, 1));
        assert_eq!(private.find(mine.span.start, mine.span.start), Some(mine));
        assert_eq!(private.remove_reference(mine.index), 0);
        private.remember(mine);
        assert_eq!(private.find(mine.span.start, mine.span.start), None);
    }

    #[test]
    fn what_is_remembered_gives_way_to_what_takes_its_bytes_or_its_place() {
        let mut private = Private::new(64);
        let old = [block(3, 100, 200), block(4, 200, 300), block(5, 300, 400)];
        old.into_iter().for_each(|mine| visit(&mut private, mine));
        visit(&mut private, old[0]);
        // It has the bytes of the second and some of the first; the third's place has other bytes.
        let (wide, moved) = (block(9, 150, 290), block(5, 500, 600));
        assert!(private.insert(wide, 1) && private.insert(moved, 1));
        assert!(!private.insert(block(10, 280, 320), 1) && !private.insert(block(11, 100, 700), 1));
        assert_eq!((private.references(10), private.find(280, 280)), (0, Some(wide)));
        assert_eq!(private.find(250, 289), Some(wide));
        assert_eq!(private.find(500, 599), Some(moved));
        assert_eq!([100, 299, 350].map(|granule| private.find(granule, granule)), [None; 3]);
        assert_eq!(private.blocks.len(), 2);
    }

    #[test]
    fn what_is_deferred_comes_once_and_as_what_is_stricter() {
        let mut private = Private::new(1 << 10);
        private.defer(5, Deferred::Freeing);
        private.defer(0, Deferred::Unkept);
        private.defer(1023, Deferred::UnkeptOfTheDead);
        private.defer(0, Deferred::UnkeptOfTheDead);
        private.defer(5, Deferred::Unkept);
        let all: Vec<_> = std::iter::from_fn(|| private.next_deferred()).collect();
        assert_eq!(all, [(1023, Deferred::UnkeptOfTheDead), (0, Deferred::UnkeptOfTheDead), (5, Deferred::Freeing)]);
        private.defer(7, Deferred::Unkept);
        private.forget_deferred();
        assert!(!private.has_deferred() && private.next_deferred().is_none());
    }

    #[test]
    fn few_are_remembered() {
        let mut private = Private::new(4096);
        (0..4000).for_each(|index| visit(&mut private, block(index, 10 * index, 10 * index + 10)));
        assert_eq!(private.blocks.len(), REMEMBERED);
        let held = block(7, 50, 60);
        assert!(private.insert(held, 2));
        assert!(private.insert(block(7 + REMEMBERED as u32, 70_000, 70_010), 1));
        private.remember(block(7 + REMEMBERED as u32, 70_000, 70_010));
        assert_eq!(private.find(50, 59), Some(held), "what is held stays, whoever is remembered in its place");
    }
}
