//! Figures of a cache.

use super::state::Cache;
use super::table::{Count, EVICTIONS, EXPIRED, FAILURES, GIVEN_WAY, LIVE, LOADS, State, Table, UNCACHED, USED};
use crate::arena::{AnyBlock, BlockId, Deadline, Look};
use crate::error::Result;
use crate::prim::{Ordering::Relaxed, read};

/// A picture of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// Look-ups that found a value.
    pub hits: u64,
    /// Look-ups that found none.
    pub misses: u64,
    /// Values that were loaded.
    pub loads: u64,
    /// Loads that failed.
    pub failures: u64,
    /// Waits for another's load.
    pub waits: u64,
    /// Values that went to make room.
    pub evictions: u64,
    /// Values that were not kept.
    pub uncached: u64,
    /// Values that went because the arena was short of memory; evictions, too.
    pub given_way: u64,
    /// Values that went because they were older than the cache's ttl.
    pub expired: u64,
    /// Values in the cache.
    pub entries: u64,
    /// Values that somebody looks at.
    pub pinned: u64,
    /// Bytes of the values in the cache, as their blocks take them.
    pub bytes: u64,
    /// Bytes that the tables take.
    pub table_bytes: u64,
    /// The most bytes.
    pub maxsize: u64,
}

impl Info {
    /// Each figure by its name.
    pub fn figures(&self) -> [(&'static str, u64); 14] {
        [
            ("hits", self.hits),
            ("misses", self.misses),
            ("loads", self.loads),
            ("failures", self.failures),
            ("waits", self.waits),
            ("evictions", self.evictions),
            ("uncached", self.uncached),
            ("given_way", self.given_way),
            ("expired", self.expired),
            ("entries", self.entries),
            ("pinned", self.pinned),
            ("bytes", self.bytes),
            ("table_bytes", self.table_bytes),
            ("maxsize", self.maxsize),
        ]
    }
}

impl Cache {
    /// A picture of the cache.
    ///
    /// # Errors
    /// `Poisoned`; `Timeout` at `deadline`.
    pub fn info(&self, deadline: &Deadline) -> Result<Info> {
        self.locked(deadline, |_| Ok(self.picture()))
    }

    /// The same without the lock, for a glance that never waits; its figures may be of different instants.
    #[doc(hidden)]
    pub fn glance(&self) -> Info {
        self.picture()
    }

    fn picture(&self) -> Info {
        let is_pinned = |&slot: &u32| self.table.entry(slot).now().state() == State::Live && self.is_pinned(slot);
        let pinned = self.slots().filter(is_pinned).count() as u64;
        Info { entries: self.len() as u64, pinned, ..self.table.figures() }
    }

    /// How many values there are now. Never waits.
    #[allow(clippy::len_without_is_empty, reason = "it is a figure of one moment, not the state of a container")]
    pub fn len(&self) -> usize {
        if self.table.geometry.ttl_ns != 0 {
            return self.slots().filter(|&slot| self.has_value(slot)).count();
        }
        self.table.live() as usize
    }
}

impl<B: AnyBlock + Send + Sync> Table<B> {
    /// How many values there are, those that are too old included.
    fn live(&self) -> u64 {
        read(self.word(LIVE), Relaxed).capped(self.geometry.slots().into())
    }

    /// What the head alone tells; not which values are pinned.
    fn figures(&self) -> Info {
        // RAW: counts, which are told.
        let word = |index| self.word(index).load(Relaxed);
        Info {
            hits: self.total(Count::Hits),
            misses: self.total(Count::Misses),
            waits: self.total(Count::Waits),
            loads: word(LOADS),
            failures: word(FAILURES),
            evictions: word(EVICTIONS),
            uncached: word(UNCACHED),
            given_way: word(GIVEN_WAY),
            expired: word(EXPIRED),
            entries: self.live(),
            pinned: 0,
            bytes: word(USED),
            table_bytes: self.table_bytes(),
            maxsize: self.sizes().maxsize,
        }
    }
}

/// What a look from outside tells of a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glance {
    /// The name that it was made with; empty without one.
    pub name: String,
    /// Its figures. Values that are too old count, and pinned ones are not told.
    pub info: Info,
}

impl Glance {
    /// The cache whose head a block is.
    ///
    /// # Errors
    /// `WrongKind` when the block is no head of a cache; `InvalidValue` for one that contradicts itself, or is gone.
    pub fn of(look: &Look, head: BlockId) -> Result<Self> {
        let table = Table::open(look.living(head)?)?;
        Ok(Self { name: table.name(), info: table.figures() })
    }
}
