//! What is moved and how: rows, items, and the kinds of stores.

/// Bytes of a cache line, the unit of streaming stores.
pub const LINE: usize = 64;

/// Bytes of a page, within which CPUs look ahead by themselves.
pub(super) const PAGE: usize = 4096;

/// How bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stores {
    /// By vectors, into the cache.
    Vector,
    /// By the CPU's own string copy, into the cache; vectors where it is slow or missing.
    Text,
    /// Past the cache, in whole lines; vectors at the edges.
    Stream,
}

/// Rows of contiguous bytes, each somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rows {
    /// How many rows.
    pub rows: usize,
    /// Bytes of a row.
    pub run: usize,
    /// Bytes from row to row in the destination.
    pub dst_row: isize,
    /// Bytes from row to row in the source.
    pub src_row: isize,
}

/// Rows of items, each item somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Items {
    /// How many rows.
    pub rows: usize,
    /// How many items in a row.
    pub count: usize,
    /// Bytes of an item.
    pub size: usize,
    /// Bytes from row to row in the destination.
    pub dst_row: isize,
    /// Bytes from row to row in the source.
    pub src_row: isize,
    /// Bytes from item to item in the destination.
    pub dst_step: isize,
    /// Bytes from item to item in the source.
    pub src_step: isize,
}
