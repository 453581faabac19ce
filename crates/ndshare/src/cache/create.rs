//! Making caches, opening those of others, and finding them by name.

use super::shortage;
use super::state::Cache;
use super::table::{Geometry, Table};
use crate::arena::{Arena, Deadline, Hold};
use crate::error::{Error, Result};
use crate::registry::{self, ObjectKind, Wanted};
use crate::session::by_reference;
use std::sync::Arc;

fn wanted(name: &str) -> Wanted<'_> {
    Wanted::new(ObjectKind::Cache, name)
}

by_reference!(Cache, Cache, "cache", Arc<Self>);

impl Cache {
    /// A new cache in `arena`.
    ///
    /// # Errors
    /// `ArenaFull`; `Timeout` at `deadline`.
    pub fn create(arena: &Arc<Arena>, geometry: Geometry, deadline: &Deadline) -> Result<Arc<Self>> {
        Self::make(arena, geometry, "", deadline)
    }

    /// The cache of this name and these sizes, which all processes of the arena share that ask for it; made if there is
    /// none. It lasts as long as somebody has it.
    ///
    /// # Errors
    /// `InvalidValue` when the cache of this name has other sizes, and for a name that is empty or too long; `Misuse` when
    /// all names are taken; as [`Self::create`].
    pub fn named(arena: &Arc<Arena>, name: &str, geometry: Geometry, deadline: &Deadline) -> Result<Arc<Self>> {
        let mut make = || Self::make(arena, geometry, name, deadline).map(|cache| cache.head().clone());
        let cache = Self::open(registry::find_or_make(arena, &wanted(name), &mut make, deadline)?)?;
        if cache.table.agrees(&geometry) {
            return Ok(cache);
        }
        Err(Error::value(format!(
            "expected the sizes of the cache {name:?} that is there already, {}, got {geometry}: give the same, or choose another name",
            cache.table.sizes()
        )))
    }

    /// The cache of this name, whatever its sizes are; none when nobody has one.
    ///
    /// # Errors
    /// `Poisoned`; `Timeout` at `deadline`.
    pub fn find_named(arena: &Arc<Arena>, name: &str, deadline: &Deadline) -> Result<Option<Arc<Self>>> {
        registry::find(arena, &wanted(name), deadline)?.map(Self::open).transpose()
    }

    /// A new cache, with a name for errors to speak of.
    pub(super) fn make(arena: &Arc<Arena>, geometry: Geometry, name: &str, deadline: &Deadline) -> Result<Arc<Self>> {
        shortage::give_way_when_short();
        let head = arena.alloc(geometry.head_bytes(), 64, true, deadline)?;
        let cache = Self { table: Table::format(head, geometry, name) };
        // The first slots: with them it can always load, however full the arena will be.
        cache.extend_by(&cache.new_segment(deadline)?, deadline)?;
        shortage::mark(cache.head())?;
        Ok(Arc::new(cache))
    }

    /// The cache whose head this is.
    ///
    /// # Errors
    /// `WrongKind` when the block is no head of a cache, or one of another version; `InvalidValue` for one that contradicts
    /// itself.
    pub fn open(head: Hold) -> Result<Arc<Self>> {
        shortage::give_way_when_short();
        Table::open(head).map(|table| Arc::new(Self { table }))
    }
}
