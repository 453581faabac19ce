//! Values as blocks: what is stored, what is found, and what a value counts for.

use crate::arena::Hold;

/// A value that was found. It never changes while the hold lives.
#[derive(Debug)]
pub struct Found {
    /// The value's block.
    pub hold: Hold,
    /// Where in the block the first item is.
    pub offset: u64,
    /// The words of whoever stored it for dtype, shape and strides.
    pub view: Vec<u8>,
}

impl Found {
    /// The same, to be stored.
    pub fn value(&self) -> Value<'_> {
        Value { hold: &self.hold, offset: self.offset, view: &self.view }
    }
}

/// What is known of those who may still write to an array that becomes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// There are none, in any process: it is a frame or a value already.
    Nobody,
    /// The caller sees to it that this process does not write any more.
    Elsewhere,
    /// Whoever has another reference.
    Anybody,
}

/// A value to be stored: a block that nobody writes to any more.
#[derive(Debug, Clone, Copy)]
pub struct Value<'a> {
    /// The block; of the cache's own arena.
    pub hold: &'a Hold,
    /// Where in the block the first item is.
    pub offset: u64,
    /// The words of the caller for dtype, shape and strides.
    pub view: &'a [u8],
}

/// What became of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// The cache keeps it.
    Cached,
    /// It does not: all else is pinned, or the value is larger than the cache, or its key was stored or deleted
    /// meanwhile.
    Uncached,
}

/// What a value counts for: its block, and the blocks of a long key or view.
pub(super) fn cost(value: Value<'_>, annexes: [Option<&Hold>; 2]) -> u64 {
    let annex_bytes: usize = annexes.into_iter().flatten().map(Hold::len_bytes).sum();
    (value.hold.len_bytes() + annex_bytes) as u64
}
