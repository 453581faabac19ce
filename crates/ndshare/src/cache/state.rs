//! One process's share of a cache.

use super::table::{Geometry, Table};
use crate::arena::{Arena, Hold};
use std::sync::Arc;

/// Arrays by key, in a bounded memory, shared by all processes that have the cache.
///
/// One process loads a key, the others wait and get the same memory. What is not used goes when there are more bytes than
/// the cache may have, or when its arena is short of memory; who has a value keeps it as it is.
///
/// ```
/// use ndshare::arena::Deadline;
/// use ndshare::array::Array;
/// use ndshare::cache::{Cache, Geometry, Key};
///
/// # fn main() -> ndshare::Result<()> {
/// let (arena, forever) = (ndshare::session()?, Deadline::never());
/// // Every process of the session that asks for this name and these sizes has the same cache; in Python that is
/// // nds.Cache("64 MiB", name="tiles").
/// let cache = Cache::named(&arena, "tiles", Geometry::new(64 << 20, None)?, &forever)?;
/// let key = Key::of(&("tile", 3, 4))?; // in Python ("tile", 3, 4)
/// let tile = cache.fetch(&key, &forever, |_| Array::from_slice(&arena, &[2, 2], &[1_u16, 2, 3, 4]))?;
/// assert_eq!(tile.to_vec::<u16>()?, [1, 2, 3, 4]);
/// assert_eq!(cache.get(&key, &forever)?.unwrap().as_ptr(), tile.as_ptr()); // the same memory
/// cache.store(&key, Array::from_slice(&arena, &[1], &[0.5_f64])?, &forever)?;
/// assert!(cache.remove(&key, &forever)?);
/// assert!(cache.get(&key, &forever)?.is_none());
/// assert_eq!(tile.read::<u16>(&[1, 1])?, 4); // it stays as long as somebody has it
/// # Ok(())
/// # }
/// ```
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

    /// Its sizes when this process opened it; [`Self::maxsize`] may have changed since.
    pub fn geometry(&self) -> &Geometry {
        &self.table.geometry
    }

    #[inline]
    pub(super) fn arena(&self) -> &Arc<Arena> {
        self.table.head.arena()
    }

    /// The blocks of its tables, for tests that write over them: the head, and the segments.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn table_blocks(&self) -> Vec<Hold> {
        let first_slot = |segment: usize| (segment * self.geometry().segment_entries()) as u32;
        let segments = (0..self.table.segment_count()).map(|segment| self.table.word_at(first_slot(segment)).0);
        [self.head()].into_iter().chain(segments).cloned().collect()
    }
}
