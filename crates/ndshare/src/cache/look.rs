//! Looking: the entry of a key, and its value, with and without the lock.
//!
//! A hit takes no lock: it reads the entry, takes a hold of the value's block, and looks again whether the entry is still
//! the same. It writes its process's count of hits, and a use that the entry counts up to three.

use super::hash::{seal_of, seal_word};
use super::key::Key;
use super::policy::count_use;
use super::protocol::unchanged;
use super::state::Cache;
use super::table::{Child, Count, EPOCH, Entry, LINK, State, Text};
use super::turn::{Turn, scribbled};
use super::value::{Found, ViewBytes};
use crate::arena::{BlockId, Deadline, Hold};
use crate::error::{Kind, Result};
use crate::os::monotonic;
use crate::prim::{
    Ordering::{Acquire, Relaxed},
    equal_bytes, load_bytes,
};
use std::time::Duration;

/// How many entries of a chain a look-up without the lock follows; it may be led astray.
const CHAIN_LOOKS: u32 = 64;

impl Cache {
    /// The value of a key as a block, without a lock and without a wait; counts a hit. None says that a closer look is needed.
    ///
    /// # Errors
    /// `Poisoned`; `Attach` in a process without a slot.
    #[inline]
    pub fn find(&self, key: &Key) -> Result<Option<Found>> {
        // RAW: checked by `slot`.
        let mut link = self.table.bucket(key.hash()).load(Acquire);
        // BOUND: so many looks, wherever the links lead.
        for _ in 0..CHAIN_LOOKS {
            let Some(slot) = self.table.slot(link) else { return Ok(None) };
            let entry = self.table.entry(slot);
            if entry.hash().load(Relaxed) == key.hash() {
                return self.open_entry(slot, key);
            }
            // RAW: checked by `slot`.
            link = entry.chain().load(Acquire);
        }
        Ok(None)
    }

    /// The value of an entry, if it is the live one of this key.
    pub(super) fn open_entry(&self, slot: u32, key: &Key) -> Result<Option<Found>> {
        let entry = self.table.entry(slot);
        let seen = entry.now();
        if seen.state() != State::Live {
            return Ok(None);
        }
        let found = unchanged(entry.word(), seen.0, || {
            if self.has_key(entry, key) && !self.is_expired(entry) {
                self.take_value(entry, key.hash())
            } else {
                Ok(None)
            }
        });
        // The hold is in hand: from here on the block stays what it is.
        let Some(found) = found.transpose()?.flatten() else { return Ok(None) };
        count_use(entry);
        self.table.count(Count::Hits, self.arena().identity()?);
        Ok(Some(found))
    }

    /// The value of an entry, if all that was read of it fits the seal that it got when it was stored.
    fn take_value(&self, entry: Entry<'_>, hash: u64) -> Result<Option<Found>> {
        let Some(hold) = self.take_block(entry.value())? else { return Ok(None) };
        let Some(view) = self.view_of(entry)? else { return Ok(None) };
        // RAW: sealed with the rest, and checked against the block when an array is made of it.
        let offset = entry.offset().load(Relaxed);
        // RAW: sealed with the rest.
        let seal = seal_of(hash, hold.block(), offset, entry.stored().load(Relaxed), &view);
        Ok((entry.seal().load(Relaxed) == seal).then_some(Found { hold, offset, view }))
    }

    fn view_of(&self, entry: Entry<'_>) -> Result<Option<ViewBytes>> {
        let (text, len) = (entry.view(), entry.lengths().1);
        if text.fits(len) {
            return Ok(Some(ViewBytes::load(text.words, len)));
        }
        let annex = self.take_block(text.annex)?;
        Ok(annex.map(|annex| ViewBytes::load(annex.words(), len)))
    }

    pub(super) fn is_expired(&self, entry: Entry<'_>) -> bool {
        let ttl_ns = self.table.geometry.ttl_ns;
        ttl_ns != 0 && age_ns(entry) >= ttl_ns
    }

    /// Whether a slot has a value that counts.
    pub(super) fn has_value(&self, slot: u32) -> bool {
        let entry = self.table.entry(slot);
        entry.now().state() == State::Live && !self.is_expired(entry)
    }

    /// How long ago the value of a key was stored or loaded; none without one.
    ///
    /// # Errors
    /// `Poisoned`; `Timeout` at `deadline`.
    pub fn age(&self, key: &Key, deadline: &Deadline) -> Result<Option<Duration>> {
        self.locked(deadline, |turn| {
            let slot = self.slot_of(key, turn)?.filter(|&slot| self.has_value(slot));
            Ok(slot.map(|slot| Duration::from_nanos(age_ns(self.table.entry(slot)))))
        })
    }

    pub(super) fn take_block(&self, child: Child<'_>) -> Result<Option<Hold>> {
        // RAW: a name, which is looked up.
        let Some(block) = BlockId::from_word(child.block.load(Relaxed)) else { return Ok(None) };
        match self.arena().take(block) {
            Err(error) if error.kind() != Kind::Stale => Err(error),
            other => Ok(other.ok()),
        }
    }

    fn has_key(&self, entry: Entry<'_>, key: &Key) -> bool {
        let (len, text) = (entry.lengths().0, entry.key());
        if len != key.bytes().len() {
            return false;
        }
        if text.fits(len) {
            return equal_bytes(text.words, key.bytes());
        }
        // A long key has a block of its own, which may be gone by now.
        let annex = self.take_block(text.annex).ok().flatten();
        annex.is_some_and(|annex| equal_bytes(annex.words(), key.bytes()))
    }

    /// Bytes of an entry; none when they are gone.
    pub(super) fn text(&self, text: Text<'_>, len: usize) -> Result<Option<Vec<u8>>> {
        if text.fits(len) {
            return Ok(Some(load_bytes(text.words, len)));
        }
        let annex = self.take_block(text.annex)?;
        Ok(annex.map(|annex| load_bytes(annex.words(), len)))
    }

    /// The value of a key as a block, if it is there. Never loads.
    ///
    /// # Errors
    /// `Poisoned`; `Timeout` at `deadline`.
    #[doc(hidden)]
    pub fn get_block(&self, key: &Key, deadline: &Deadline) -> Result<Option<Found>> {
        if let Some(found) = self.find(key)? {
            return Ok(Some(found));
        }
        let found = self.locked(deadline, |turn| self.find_under_lock(key, turn))?;
        if found.is_none() {
            self.table.count(Count::Misses, self.arena().identity()?);
        }
        Ok(found)
    }

    fn find_under_lock(&self, key: &Key, turn: &mut Turn) -> Result<Option<Found>> {
        self.slot_of(key, turn)?.map_or(Ok(None), |slot| self.open_entry(slot, key))
    }

    /// Whether a key has a value now.
    ///
    /// # Errors
    /// `Poisoned`; `Timeout` at `deadline`.
    pub fn contains(&self, key: &Key, deadline: &Deadline) -> Result<bool> {
        self.locked(deadline, |turn| Ok(self.slot_of(key, turn)?.is_some_and(|slot| self.has_value(slot))))
    }

    /// Which making of the key's value is current: storing and deleting begin a new one, eviction and loading do
    /// not. Now and then a new one begins for the sake of another key. Where values have a ttl, each that is stored or
    /// loaded has its own, for as long as it counts.
    pub fn generation(&self, key: &Key) -> u64 {
        // RAW: half of it is only compared by callers, the other is checked by `slot`.
        let bucket = self.table.bucket(key.hash()).load(Acquire);
        // RAW: only compared by callers.
        let made = self.table.word(EPOCH).load(Acquire) << 32 | bucket >> 32;
        if self.table.geometry.ttl_ns == 0 { made } else { seal_word(made, self.stored_at(key, bucket)) }
    }

    /// When the value of a key was stored; 0 for none that counts.
    fn stored_at(&self, key: &Key, bucket: u64) -> u64 {
        let mut link = bucket;
        // BOUND: as in `find`.
        for _ in 0..CHAIN_LOOKS {
            let Some(slot) = self.table.slot(link) else { return 0 };
            let entry = self.table.entry(slot);
            if entry.hash().load(Relaxed) == key.hash() {
                // RAW: a time, which is only compared.
                return if self.has_value(slot) { entry.stored().load(Relaxed) } else { 0 };
            }
            // RAW: checked by `slot`.
            link = entry.chain().load(Acquire);
        }
        0
    }

    /// The keys that have values now, in no order.
    ///
    /// # Errors
    /// `Poisoned`; `Timeout` at `deadline`.
    pub fn keys(&self, deadline: &Deadline) -> Result<Vec<Key>> {
        self.locked(deadline, |_| {
            let live = self.slots().filter(|&slot| self.has_value(slot));
            let key = |slot| {
                let entry = self.table.entry(slot);
                self.text(entry.key(), entry.lengths().0)?.map(|bytes| Key::of_bytes(&bytes)).transpose()
            };
            live.filter_map(|slot| key(slot).transpose()).collect()
        })
    }

    /// The slot of a key's entry, in whatever state. A chain that leads astray is put in order first.
    pub(super) fn slot_of(&self, key: &Key, turn: &mut Turn) -> Result<Option<u32>> {
        if let Some(found) = self.walk(key) {
            return Ok(found);
        }
        self.recover(turn)?;
        self.walk(key).ok_or_else(scribbled)
    }

    /// Follows the chain of a key's bucket; none when it contradicts itself.
    pub(super) fn walk(&self, key: &Key) -> Option<Option<u32>> {
        // RAW: checked by `slot`.
        let mut link = self.table.bucket(key.hash()).load(Relaxed) & LINK;
        // BOUND: no chain is longer than there are slots.
        for _ in 0..=self.table.geometry.slots() {
            if link == 0 {
                return Some(None);
            }
            let slot = self.table.slot(link)?;
            let entry = self.table.entry(slot);
            let state = entry.now().state();
            if state == State::Empty {
                return None;
            }
            if entry.hash().load(Relaxed) == key.hash() && self.has_key(entry, key) {
                return Some(Some(slot));
            }
            // RAW: checked by `slot`.
            link = entry.chain().load(Relaxed) & LINK;
        }
        None
    }
}

/// When it is now, on the clock of all processes; never 0.
pub(super) fn now_ns() -> u64 {
    u64::try_from(monotonic().as_nanos()).unwrap_or(u64::MAX).max(1)
}

/// What was stored so far in the future was stored before the machine started, in an arena that lasts.
const SURELY_LATER_NS: u64 = 1_000_000_000;

fn age_ns(entry: Entry<'_>) -> u64 {
    // RAW: only taken from the time, and not below nothing.
    let (now, stored) = (now_ns(), entry.stored().load(Relaxed));
    if stored > now.saturating_add(SURELY_LATER_NS) { u64::MAX } else { now.saturating_sub(stored) }
}
