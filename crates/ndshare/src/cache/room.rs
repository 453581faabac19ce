//! Room: bytes for a value and a slot for its entry. What the policy names goes, unless somebody looks at it.

use super::state::Cache;
use super::table::{EVICTIONS, FREE, Geometry, HIGH, LINK, LOADING, State, add};
use super::turn::{Turn, scribbled};
use crate::arena::{BlockId, Deadline, Hold};
use crate::error::Result;
use crate::os::kill::{Point, point};
use crate::prim::{Ordering::Relaxed, read};

/// What became of work that needs room, or a slot.
pub(super) enum Attempt<T> {
    Done(T),
    /// All that could go is pinned.
    Pinned,
    /// All slots beyond the entries have loads under way.
    NoPlace,
    /// The table has to grow first, which happens without the lock.
    NeedsTable,
}

impl Cache {
    /// Changes how many bytes the values may take, for all processes at once. What is too much now goes, but for what
    /// somebody looks at, which goes with the next that needs room. How many entries there may be stays as it was.
    ///
    /// # Errors
    /// `InvalidValue` for no bytes; `Timeout` at `deadline`.
    pub fn resize(&self, maxsize: u64, deadline: &Deadline) -> Result<()> {
        self.check_writable()?;
        let entries = self.table.geometry.entries as usize;
        let Geometry { maxsize, .. } = Geometry::new(maxsize, Some(entries))?;
        self.locked(deadline, |turn| {
            self.table.set_maxsize(maxsize);
            self.make_room(0, turn).map(drop)
        })
    }

    /// How many bytes the values may take now.
    pub fn maxsize(&self) -> u64 {
        self.table.sizes().maxsize
    }

    /// Evicts until `bytes` more fit. False: all that is left is pinned, or the bytes never fit.
    pub(super) fn make_room(&self, bytes: u64, turn: &mut Turn) -> Result<bool> {
        let most = self.table.value_bytes();
        if bytes > most {
            return Ok(false);
        }
        if self.under_way() > 0 {
            self.bury_the_latest(turn)?;
        }
        let best = most - self.under_way().min(most - bytes);
        // BOUND: each round ends an entry.
        while self.used().saturating_add(bytes) > best {
            if !self.evict(turn)? {
                break;
            }
        }
        Ok(self.used().saturating_add(bytes) <= most)
    }

    /// What the values that others are loading will come to: their memory is taken already. Each counts as one of the
    /// usual size; all together as an eighth of the cache at the most.
    fn under_way(&self) -> u64 {
        let others =
            read(self.table.word(LOADING), Relaxed).capped(self.table.geometry.slots().into()).saturating_sub(1);
        let usual = self.table.queued_bytes() / self.table.queued().max(1);
        others.saturating_mul(usual).min(self.table.sizes().maxsize / 8)
    }

    /// Ends the entry that the policy names. False: it names none.
    pub(super) fn evict(&self, turn: &mut Turn) -> Result<bool> {
        let Some(slot) = self.table.next_victim(&|slot| self.is_pinned(slot)) else { return Ok(false) };
        point(Point::CacheChosen);
        if self.table.entry(slot).now().state() == State::Live {
            add(self.table.word(EVICTIONS), 1);
            point(Point::CacheChosen);
        }
        self.vacate(slot, turn).map(|()| true)
    }

    pub(super) fn is_pinned(&self, slot: u32) -> bool {
        // RAW: a name, which is looked up.
        let block = BlockId::from_word(self.table.entry(slot).value().block.load(Relaxed));
        block.is_some_and(|block| Hold::is_held(self.arena(), block))
    }

    /// A free slot; entries are evicted when there are more than the cache may have.
    pub(super) fn find_slot(&self, turn: &mut Turn) -> Result<Attempt<u32>> {
        let geometry = self.table.sizes();
        // BOUND: each round ends an entry.
        while self.table.queued() >= u64::from(geometry.entries) {
            if !self.evict(turn)? {
                return Ok(Attempt::Pinned);
            }
        }
        if let Some(slot) = self.pop_free(turn)? {
            return Ok(Attempt::Done(slot));
        }
        let high = read(self.table.word(HIGH), Relaxed).capped(geometry.slots().into());
        if high == u64::from(geometry.slots()) {
            return Ok(Attempt::NoPlace);
        }
        if let Some(slot) = self.table.slot(high + 1) {
            self.table.word(HIGH).store(high + 1, Relaxed);
            point(Point::CacheChosen);
            return Ok(Attempt::Done(slot));
        }
        // A larger table takes its bytes from the values, unless one of them goes and leaves its slot.
        let larger = geometry.table_bytes(self.table.segment_count() as u64 + 1);
        if self.used().saturating_add(geometry.overhead(larger)) <= geometry.maxsize || !self.evict(turn)? {
            return Ok(Attempt::NeedsTable);
        }
        Ok(self.pop_free(turn)?.map_or(Attempt::NeedsTable, Attempt::Done))
    }

    /// The first of the free slots.
    fn pop_free(&self, turn: &mut Turn) -> Result<Option<u32>> {
        for _ in 0..2 {
            // RAW: checked by `slot`.
            let link = self.table.word(FREE).load(Relaxed) & LINK;
            if link == 0 {
                return Ok(None);
            }
            let is_free = |&slot: &u32| self.table.entry(slot).now().state() == State::Empty;
            if let Some(slot) = self.table.slot(link).filter(is_free) {
                // RAW: a link, which is checked by who follows it.
                let behind = self.table.entry(slot).chain().load(Relaxed) & LINK;
                self.table.word(FREE).store(behind, Relaxed);
                point(Point::CacheChosen);
                return Ok(Some(slot));
            }
            self.recover(turn)?;
        }
        Err(scribbled())
    }
}
