//! Storing and deleting. Both begin a new generation of their key, so they win over a load that is under way.

use super::key::Key;
use super::room::Attempt;
use super::state::Cache;
use super::table::{EPOCH, KEY_BYTES, MAX_TEXT_BYTES, State, UNCACHED, VIEW_BYTES, add};
use super::turn::Turn;
use super::value::{Stored, Value, cost};
use crate::arena::{Deadline, Hold};
use crate::error::{Error, Result};
use crate::os::kill::{Point, point};
use crate::prim::{Ordering::Release, store_bytes};
use std::sync::Arc;

impl Cache {
    /// Makes a block the key's value.
    ///
    /// # Errors
    /// `ReadOnly` where this process may only read; `ArenaFull` when there is no room for a long key or view; `InvalidValue` for
    /// a block of another arena: the cache is as before then. `Timeout` at `deadline`: the key may have lost its old value.
    pub fn store_block(&self, key: &Key, value: Value<'_>, deadline: &Deadline) -> Result<Stored> {
        self.check_writable()?;
        self.check(value)?;
        let key_annex = self.annex(key.bytes(), KEY_BYTES, deadline)?;
        let view_annex = self.annex(value.view, VIEW_BYTES, deadline)?;
        self.with_room(deadline, |turn| {
            self.end_generation(key, turn)?;
            if !self.make_room(cost(value, [key_annex.as_ref(), view_annex.as_ref()]), turn)? {
                return Ok(Attempt::Pinned);
            }
            match self.occupy(key, key_annex.as_ref(), State::Empty, turn)? {
                Attempt::Done(slot) => self.fill(slot, value, view_annex.as_ref(), turn).map(Attempt::Done),
                Attempt::Pinned => Ok(Attempt::Pinned),
                Attempt::NoPlace => Ok(Attempt::NoPlace),
                Attempt::NeedsTable => Ok(Attempt::NeedsTable),
            }
        })
    }

    /// Runs `work` under the lock; once more after a sweep of the dead if it finds no room, for they may pin values,
    /// and again whenever the tables have grown.
    pub(super) fn with_room(
        &self,
        deadline: &Deadline,
        work: impl Fn(&mut Turn) -> Result<Attempt<Stored>>,
    ) -> Result<Stored> {
        let mut swept = false;
        // BOUND: each round but two adds a segment, or finds that another has, and there are not many.
        loop {
            match self.locked(deadline, &work)? {
                Attempt::Done(stored) => return Ok(stored),
                Attempt::NeedsTable if self.grow(deadline)? => {}
                Attempt::Pinned | Attempt::NoPlace if !swept => {
                    swept = true;
                    self.sweep_for_room(deadline)?;
                }
                _ => break,
            }
        }
        self.count_uncached(deadline).map(|()| Stored::Uncached)
    }

    /// What may help where no room was found: the dead may pin values, and the totals may be wrong.
    pub(super) fn sweep_for_room(&self, deadline: &Deadline) -> Result<()> {
        self.arena().sweep_the_dead()?;
        self.locked(deadline, |turn| self.check_totals(turn))
    }

    /// Counts a value that was not kept.
    pub(super) fn count_uncached(&self, deadline: &Deadline) -> Result<()> {
        self.locked(deadline, |_| {
            add(self.table.word(UNCACHED), 1);
            point(Point::CacheCounted);
            Ok(())
        })
    }

    /// Ends the value of a key, and says whether there was one.
    ///
    /// # Errors
    /// `Poisoned`; `Timeout` at `deadline`.
    pub fn remove(&self, key: &Key, deadline: &Deadline) -> Result<bool> {
        self.check_writable()?;
        self.locked(deadline, |turn| self.end_generation(key, turn))
    }

    /// Ends the value of a key, as storing one does, because the arena had no room for the new one. Counts it.
    ///
    /// # Errors
    /// `Poisoned`; `Timeout` at `deadline`.
    pub fn forgo(&self, key: &Key, deadline: &Deadline) -> Result<()> {
        self.remove(key, deadline)?;
        self.count_uncached(deadline)
    }

    /// Ends all values.
    ///
    /// # Errors
    /// `Poisoned`; `Timeout` at `deadline`.
    pub fn clear(&self, deadline: &Deadline) -> Result<()> {
        self.check_writable()?;
        self.locked(deadline, |turn| {
            turn.gives_back = true;
            self.table.word(EPOCH).fetch_add(1, Release);
            point(Point::CacheGeneration);
            for slot in self.slots() {
                if self.table.entry(slot).now().state() != State::Empty {
                    self.vacate(slot, turn)?;
                }
            }
            // As in `end_generation`.
            self.table.word(EPOCH).fetch_add(1, Release);
            point(Point::CacheGeneration);
            Ok(())
        })
    }

    /// # Errors
    /// `ReadOnly` where this process may only read.
    pub(super) fn check_writable(&self) -> Result<()> {
        self.arena().check_writable("the cache")
    }

    pub(super) fn check(&self, value: Value<'_>) -> Result<()> {
        if !Arc::ptr_eq(value.hold.arena(), self.arena()) {
            return Err(Error::value("expected a block of the cache's own arena: copy the value into one"));
        }
        if value.view.len() > MAX_TEXT_BYTES {
            return Err(Error::value(format!(
                "expected a dtype and shape of at most {MAX_TEXT_BYTES} bytes, got {}",
                value.view.len()
            )));
        }
        Ok(())
    }

    /// A block for bytes that do not fit into an entry, which has room for `most`; none for those that do.
    pub(super) fn annex(&self, bytes: &[u8], most: usize, deadline: &Deadline) -> Result<Option<Hold>> {
        if bytes.len() <= most {
            return Ok(None);
        }
        let annex = self.arena().alloc(bytes.len().next_multiple_of(8), 64, true, deadline)?;
        // NO POINT: nobody else has the name of this block yet; with its maker it goes.
        store_bytes(annex.words(), bytes);
        Ok(Some(annex))
    }

    /// Ends the entry of a key; says whether it was a live one.
    pub(super) fn forget(&self, key: &Key, turn: &mut Turn) -> Result<bool> {
        let Some(slot) = self.slot_of(key, turn)? else { return Ok(false) };
        let was_live = self.has_value(slot);
        self.vacate(slot, turn)?;
        Ok(was_live)
    }

    /// Ends the value of a key and its generation; says whether there was a value.
    ///
    /// The generation changes before, because this process may die before it changes after; and after, because who
    /// reads it in between may still find the old value without the lock.
    fn end_generation(&self, key: &Key, turn: &mut Turn) -> Result<bool> {
        self.begin_generation(key.hash());
        let was_live = self.forget(key, turn)?;
        self.begin_generation(key.hash());
        Ok(was_live)
    }

    fn begin_generation(&self, hash: u64) {
        // The low half, the chain, stays as it is.
        self.table.bucket(hash).fetch_add(1 << 32, Release);
        point(Point::CacheGeneration);
    }
}
