//! What derives from the entries is made anew: after a death under the lock, and when it contradicts itself.

use super::state::Cache;
use super::table::{CLOCK, Child, DISORDER, FREE, HIGH, LIVE, LOADING, OWED, SEGMENTS, State, USED, add};
use super::turn::Turn;
use crate::arena::{BlockId, TicketId};
use crate::error::Result;
use crate::os::kill::{Point, point};
use crate::prim::Ordering::{Relaxed, Release};
use std::collections::{HashMap, HashSet};

/// The records by which the head keeps its blocks.
type Kept = [(TicketId, BlockId)];

/// What the words of an entry say of a record.
fn name_of(record: &TicketId) -> (u64, u64) {
    (record.index.into(), record.nonce)
}

impl Cache {
    /// Puts the cache in order, under the lock. Idempotent: whoever does it may die as well.
    ///
    /// # Errors
    /// `Poisoned` when a segment cannot be found any more.
    pub(super) fn recover(&self, turn: &mut Turn) -> Result<()> {
        let kept = self.table.head.children()?;
        self.mend_directory(&kept);
        self.table.check_segments()?;
        self.find_the_last_slot();
        self.end_loads_of_the_dead()?;
        point(Point::CacheEnded);
        self.forget_derived();
        point(Point::CacheForgotten);
        let mut queued = self.list_slots();
        queued.sort_unstable();
        // Stamps begin anew. None is larger than it was, so whoever begins again finds the same order.
        self.table.word(CLOCK).store(0, Relaxed);
        point(Point::CacheForgotten);
        for (order, slot) in queued {
            self.requeue(order, slot);
        }
        point(Point::CacheRequeued);
        self.end_unnamed_records(&kept, turn)?;
        self.table.word(DISORDER).store(0, Relaxed);
        point(Point::CacheRequeued);
        Ok(())
    }

    /// Makes the words of the directory fit the records that there are: each segment is named by its block and by its
    /// record, and one of the two is enough to find the other.
    fn mend_directory(&self, kept: &Kept) {
        let by_record: HashMap<(u64, u64), usize> = kept.iter().map(|(record, _)| name_of(record)).zip(0..).collect();
        let by_block: HashMap<u64, usize> = kept.iter().map(|(_, child)| child.to_word()).zip(0..).collect();
        let mut count = 0;
        for segment in 0..self.table.geometry.segments() {
            let named = self.table.directory(segment);
            // RAW: names, which are looked up among the records that there are.
            let [block, index, nonce] = [named.block, named.record, named.nonce].map(|word| word.load(Relaxed));
            let found = by_block.get(&block).or_else(|| by_record.get(&(index, nonce)));
            let (index, nonce, block) = found.map_or((0, 0, 0), |&at| {
                let (record, child) = kept[at];
                count = segment + 1;
                (record.index, record.nonce, child.to_word())
            });
            named.record.store(index.into(), Relaxed);
            named.nonce.store(nonce, Relaxed);
            named.block.store(block, Release);
            point(Point::CacheForgotten);
        }
        self.table.word(SEGMENTS).store(count as u64, Release);
        point(Point::CacheForgotten);
    }

    /// Counts the slots that were ever in use: their words are not 0 any more.
    fn find_the_last_slot(&self) {
        let geometry = self.table.geometry;
        let slots = (self.table.segment_count() * geometry.segment_entries()).min(geometry.slots() as usize);
        let is_used = |&link: &u64| self.table.slot(link).is_some_and(|slot| self.table.entry(slot).now().0 != 0);
        let high = (1..=slots as u64).rev().find(is_used);
        self.table.word(HIGH).store(high.unwrap_or(0), Relaxed);
        point(Point::CacheForgotten);
    }

    fn end_loads_of_the_dead(&self) -> Result<()> {
        for slot in self.slots() {
            if self.is_load_of_the_dead(slot)? {
                self.change(self.table.entry(slot), State::Empty);
                point(Point::CacheEnded);
                self.wake(slot)?;
            }
        }
        Ok(())
    }

    /// Empties index, queues, list of free slots and totals.
    fn forget_derived(&self) {
        for bucket in self.table.buckets() {
            bucket.fetch_and(!0xffff_ffff, Relaxed);
            point(Point::CacheForgotten);
        }
        self.table.forget_queues();
        [FREE, USED, LIVE, LOADING].iter().for_each(|&index| self.table.word(index).store(0, Relaxed));
        point(Point::CacheForgotten);
    }

    /// Puts every slot where it belongs, except into the queues: returns who goes there, and since when.
    fn list_slots(&self) -> Vec<(u64, u32)> {
        let twice = self.older_twins();
        let mut queued = Vec::new();
        for slot in self.slots() {
            let entry = self.table.entry(slot);
            if twice.contains(&slot) {
                self.change(entry, State::Empty);
                point(Point::CacheForgotten);
            }
            match entry.now().state() {
                State::Empty => {
                    // Records that it may still name are ended with all that nobody names.
                    entry.children().iter().for_each(|child| child.nonce.store(0, Relaxed));
                    entry.order().store(0, Relaxed);
                    point(Point::CacheForgotten);
                    self.free_slot(slot);
                }
                State::Loading => {
                    self.chain(slot);
                    add(self.table.word(LOADING), 1);
                    point(Point::CacheForgotten);
                }
                State::Live | State::Failed => {
                    self.chain(slot);
                    // RAW: only its order among others counts, and a tag that is matched.
                    queued.push((entry.order().load(Relaxed), slot));
                }
            }
        }
        queued
    }

    /// Places of values whose key has a younger one: a chain that was cut hid them when the key was stored again.
    fn older_twins(&self) -> HashSet<u32> {
        let mut newest: HashMap<u64, (u64, u32)> = HashMap::new();
        let mut older = HashSet::new();
        for slot in self.slots() {
            let entry = self.table.entry(slot);
            if entry.now().state() != State::Live {
                continue;
            }
            // RAW: only compared with others.
            let mine = (entry.stored().load(Relaxed), slot);
            // RAW: a key of a map of our own.
            let before = newest.entry(entry.hash().load(Relaxed)).or_insert(mine);
            if *before != mine {
                older.insert((*before).min(mine).1);
                *before = (*before).max(mine);
            }
        }
        older
    }

    fn requeue(&self, order: u64, slot: u32) {
        let entry = self.table.entry(slot);
        self.table.requeue(slot, order);
        add(self.table.word(USED), entry.counted());
        if entry.now().state() == State::Live {
            add(self.table.word(LIVE), 1);
        }
        point(Point::CacheRequeued);
    }

    /// Ends the records that could not end before, once the arena's lock is to be had.
    pub(super) fn end_owed(&self, turn: &mut Turn) -> Result<()> {
        if self.table.word(OWED).load(Relaxed) == 0 || self.arena().looks_busy() {
            return Ok(());
        }
        let kept = self.table.head.children()?;
        self.table.word(OWED).store(0, Relaxed);
        point(Point::CacheReleased);
        self.end_unnamed_records(&kept, turn)
    }

    /// Ends the records of the head that no entry names: their making or ending died half-way.
    fn end_unnamed_records(&self, kept: &Kept, turn: &mut Turn) -> Result<()> {
        let of_entries = self.slots().flat_map(|slot| self.table.entry(slot).children());
        let of_segments = (0..self.table.segment_count()).map(|segment| self.table.directory(segment));
        // RAW: names, which are looked up.
        let name = |child: Child<'_>| (child.record.load(Relaxed), child.nonce.load(Relaxed));
        let named: HashSet<(u64, u64)> = of_entries.chain(of_segments).map(name).collect();
        for (record, _) in kept {
            if !named.contains(&name_of(record)) {
                self.end_record(*record, turn)?;
            }
        }
        Ok(())
    }
}
