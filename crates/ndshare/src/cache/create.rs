//! Making caches, and opening those of others.

use super::shortage;
use super::state::Cache;
use super::table::{Geometry, Table};
use crate::arena::{Arena, Hold, Patience};
use crate::error::Result;
use std::sync::Arc;

impl Cache {
    /// A new cache in `arena`.
    ///
    /// # Errors
    /// `ArenaFull`; what `patience` says.
    pub fn create(arena: &Arc<Arena>, geometry: Geometry, patience: &Patience) -> Result<Arc<Self>> {
        Self::create_named(arena, geometry, "", patience)
    }

    /// The same, with a name for errors to speak of.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn create_named(arena: &Arc<Arena>, geometry: Geometry, name: &str, patience: &Patience) -> Result<Arc<Self>> {
        shortage::give_way_when_short();
        let head = arena.alloc(geometry.head_bytes(), 64, true, patience)?;
        let cache = Self { table: Table::format(head, geometry, name) };
        // The first places: with them it can always load, however full the arena will be.
        cache.extend_by(&cache.new_segment(patience)?, patience)?;
        shortage::mark(cache.head())?;
        Ok(Arc::new(cache))
    }

    /// The cache whose head this is.
    ///
    /// # Errors
    /// `InvalidValue` when the block is no head of a cache.
    pub fn open(head: Hold) -> Result<Arc<Self>> {
        shortage::give_way_when_short();
        Table::open(head).map(|table| Arc::new(Self { table }))
    }
}
