//! One process's share of a cache.

use super::table::{Geometry, Table};
use crate::arena::{Arena, Hold};
use std::sync::Arc;

/// A cache, as one process has it.
#[derive(Debug)]
pub struct Cache {
    pub(super) table: Table,
}

impl Cache {
    /// The block that names the cache.
    #[inline]
    pub fn head(&self) -> &Hold {
        &self.table.head
    }

    /// Its sizes.
    pub fn geometry(&self) -> &Geometry {
        &self.table.geometry
    }

    #[inline]
    pub(super) fn arena(&self) -> &Arc<Arena> {
        self.table.head.arena()
    }
}
