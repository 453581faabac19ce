//! Order in an arena that nobody has: a file with a path, after its last process was killed or the machine stopped.
//!
//! Whoever opens it has its door, so nobody comes meanwhile. First, before anybody has a slot, all that is derived is made
//! anew from the blocks and their records; so the sweep of the dead finds tables that it can work on. Then, with a slot, what
//! no process can have any more is given back. Every step may be repeated: who mends may die, too.

use super::control::{Block, PARENT, Record};
use super::deadline::Deadline;
use super::ids::BlockId;
use super::lockword::LockWord;
use super::spans::Spans;
use super::state::Arena;
use super::word::State;
use crate::error::Result;
use crate::head::{HeadKind, PREFIX_WORDS};
use crate::os::PAGE_BYTES;
use crate::os::kill::{Point, point};
use crate::prim::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::ops::Range;

/// The root is a table of entries of so many words. The first word of each names a block that the root keeps, or is 0.
pub(crate) const ROOT_ENTRY_WORDS: usize = 32;

const FOREVER: Deadline<'static> = Deadline::never();

impl Arena {
    /// Puts an arena in order that nobody has, whose door the caller has. Nobody has a slot, the caller neither.
    ///
    /// # Errors
    /// `Poisoned` when the blocks, or what the root keeps, contradict each other; `ArenaFull` when there is no space for what
    /// they should have.
    pub(super) fn mend(&self) -> Result<()> {
        self.control.check_poison()?;
        // Whoever had it is dead, and all that it guards is made anew.
        self.control.header().lock.0.store(0, SeqCst);
        self.fill_holes()?;
        self.check_root()?;
        self.end_what_keeps_nothing()?;
        self.keep_what_is_named()?;
        point(Point::MendRecords);
        let (mut spans, mut counts) = (Vec::new(), Vec::new());
        Spans::new(&self.control).rebuild(&mut spans)?;
        point(Point::MendTables);
        self.recount_records(&mut counts)?;
        // What nobody keeps any more is looked for when there is a slot to own it.
        self.control.header().unkept.store(1, SeqCst);
        point(Point::MendCounted);
        self.empty_gaps()
    }

    /// Gives back what no process can have any more: the caller is the only one, holds nothing, and has the door.
    pub(super) fn clear_strays(&self) -> Result<()> {
        for index in 0..self.control.high() {
            self.clear_stray(index)?;
        }
        self.trim(u64::MAX, &FOREVER)?;
        self.free_unkept_ones(&FOREVER)
    }

    fn clear_stray(&self, index: u32) -> Result<()> {
        let (block, me) = (self.control.block(index)?, self.slot()?);
        let (words, lock) = (block.words(), LockWord(&block.lock));
        words.holders.iter().for_each(|bits| bits.store(0, SeqCst));
        point(Point::MendTables);
        if let Some(owner) = lock.owner() {
            lock.free_of_the_dead(owner);
            point(Point::MendTables);
        }
        let word = words.load();
        if matches!(word.state, State::Reserved | State::Freeing) && words.inherit(word.low, me) {
            point(Point::MendTables);
            self.give_back(index)?;
        }
        Ok(())
    }

    /// Refuses what no death leaves: the root keeps itself by a record before it keeps others, and never ends; and what it
    /// names and keeps lives. Otherwise the tables were written over, and to mend them would give away what has a name.
    fn check_root(&self) -> Result<()> {
        let Some(root) = self.root_block() else { return Ok(()) };
        let (kept, named) = (self.children(root)?, self.named_by(root)?);
        let keeps_itself = kept.iter().any(|(_, block)| block.index == root.index);
        if !kept.is_empty() && !self.lives(root.index, Some(u64::from(root.generation))) {
            return Err(self.control.poison("the root keeps blocks and is none itself"));
        }
        let keeps_others = !kept.is_empty() || !named.is_empty();
        if keeps_others && !keeps_itself {
            return Err(self.control.poison("the root keeps blocks and not itself"));
        }
        let is_named = |index: u32| named.iter().any(|block| block.index == index);
        match kept.iter().find(|(_, block)| is_named(block.index) && !self.lives(block.index, None)) {
            Some((_, block)) => {
                Err(self.control.poison(&format!("the root keeps block {}, which is none", block.index)))
            }
            None => Ok(()),
        }
    }

    fn root_block(&self) -> Option<BlockId> {
        // RAW: a name, which is looked up.
        BlockId::from_word(self.control.header().root.load(Relaxed))
    }

    /// The blocks that the entries of the root name, whether or not they live; none where the root does not live.
    fn named_by(&self, root: BlockId) -> Result<Vec<BlockId>> {
        let Some(words) = self.words_of(root)? else { return Ok(Vec::new()) };
        // RAW: names, which are looked up.
        let named = words.chunks_exact(ROOT_ENTRY_WORDS).map(|entry| entry[0].load(Relaxed));
        Ok(named.filter_map(BlockId::from_word).collect())
    }

    /// The words of a block, if it lives.
    fn words_of(&self, block: BlockId) -> Result<Option<&[AtomicU64]>> {
        if !self.lives(block.index, Some(u64::from(block.generation))) {
            return Ok(None);
        }
        Ok(Some(self.words_in(self.control.checked_span(self.control.block(block.index)?)?)))
    }

    /// Makes the records anew that were written over: those by which the root keeps what it names, and by which a head keeps
    /// its one block. The names in root and heads say the same as these records, which no death takes away before.
    fn keep_what_is_named(&self) -> Result<()> {
        let Some(root) = self.root_block() else { return Ok(()) };
        let named = self.named_by(root)?;
        if named.is_empty() {
            return Ok(());
        }
        self.keep(root, &[&named[..], &[root]].concat())?;
        for head in named {
            let Some(words) = self.words_of(head)? else { continue };
            // RAW: names, which are looked up.
            let words: Vec<u64> = words.iter().take(PREFIX_WORDS).map(|word| word.load(Relaxed)).collect();
            let kept: Vec<BlockId> = HeadKind::kept_by(&words).and_then(BlockId::from_word).into_iter().collect();
            self.keep(head, &kept)?;
        }
        Ok(())
    }

    /// Sees to it that a record of `parent` is there for each of these that lives.
    fn keep(&self, parent: BlockId, wanted: &[BlockId]) -> Result<()> {
        let mut kept: Vec<BlockId> = self.children(parent)?.into_iter().map(|(_, block)| block).collect();
        for &child in wanted {
            match kept.iter().position(|&one| one == child) {
                Some(at) => drop(kept.swap_remove(at)),
                None if self.lives(child.index, Some(u64::from(child.generation))) => self.restore(parent, child)?,
                None => {}
            }
        }
        Ok(())
    }

    /// Whether a block lives, in its present generation or in one of them.
    fn lives(&self, index: u32, generation: Option<u64>) -> bool {
        self.control.block_quietly(index).is_some_and(|block| {
            let word = block.words().load();
            word.state == State::Live && generation.is_none_or(|generation| u64::from(word.generation) == generation)
        })
    }

    /// References in flight are for processes that are gone, and a record that is left of a parent keeps nothing.
    fn end_what_keeps_nothing(&self) -> Result<()> {
        for index in 0..self.control.records_ready() {
            let record = self.control.record(index)?;
            if !self.is_kept_child(record) {
                record.nonce.store(0, SeqCst);
                point(Point::MendRecords);
            }
        }
        Ok(())
    }

    fn is_kept_child(&self, record: &Record) -> bool {
        // RAW: each is looked up, and may be that of no block.
        let (parent, child) = (record.origin.load(Relaxed), record.block.load(Relaxed));
        // RAW: only compared.
        let generation = record.stamp.load(Relaxed);
        let parent = self.lives(parent, Some(generation));
        // The child may have had another generation since: a ring fills its frames anew.
        let child = self.lives(child, None);
        record.sender.load(Relaxed) == PARENT && parent && child
    }

    /// A copy of the file may have holes where there were zeros, and a write to a hole can end in SIGBUS.
    fn fill_holes(&self) -> Result<()> {
        let geometry = *self.control.geometry();
        let table = |at: u64, entries: u32, size: usize| at..at + u64::from(entries) * size as u64;
        self.backing.fill_holes(0..geometry.records_at())?;
        self.backing.fill_holes(table(geometry.records_at(), self.control.records_ready(), size_of::<Record>()))?;
        self.backing.fill_holes(table(geometry.blocks_at(), self.control.blocks_ready(), size_of::<Block>()))?;
        self.each_span(State::Live, |pages| self.backing.fill_holes(pages))
    }

    /// The whole pages of a gap are not committed, and read as zeros.
    fn empty_gaps(&self) -> Result<()> {
        self.each_span(State::Free, |bytes| {
            let pages = bytes.start.next_multiple_of(PAGE_BYTES)..bytes.end / PAGE_BYTES * PAGE_BYTES;
            if !pages.is_empty() {
                self.backing.decommit(pages);
            }
            Ok(())
        })
    }

    /// Calls `act` with the bytes of the file that each block in this state has.
    fn each_span(&self, state: State, act: impl Fn(Range<u64>) -> Result<()>) -> Result<()> {
        for index in 0..self.control.high() {
            let block = self.control.block(index)?;
            if block.words().load().state == state && !self.control.is_unused(block) {
                act(self.file_range(self.control.checked_span(block)?))?;
            }
        }
        Ok(())
    }
}
