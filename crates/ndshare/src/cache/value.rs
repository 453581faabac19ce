//! Values as blocks: what is stored, what is found, and what a value counts for.

use super::table::VIEW_BYTES;
use crate::arena::Hold;
use crate::prim::{AtomicU64, Ordering::Relaxed, load_bytes};
use std::fmt;
use std::ops::Deref;

/// A value that was found. It never changes while the hold lives.
#[derive(Debug)]
pub struct Found {
    /// The value's block.
    pub hold: Hold,
    /// Where in the block the first item is.
    pub offset: u64,
    /// The words of whoever stored it for dtype, shape and strides.
    pub view: ViewBytes,
}

/// The words for dtype, shape and strides: in place where an entry has room for them, so that a hit allocates nothing.
#[derive(Clone)]
pub struct ViewBytes(Bytes);

#[derive(Clone)]
enum Bytes {
    Short([u8; VIEW_BYTES], usize),
    Long(Vec<u8>),
}

impl ViewBytes {
    /// The first `len` bytes of words; fewer if there are no more.
    #[inline]
    pub(super) fn load(words: &[AtomicU64], len: usize) -> Self {
        // First of all: a length from shared memory may be anything.
        let len = len.min(words.len().saturating_mul(8));
        if len > VIEW_BYTES {
            return Self(Bytes::Long(load_bytes(words, len)));
        }
        let mut short = [0; VIEW_BYTES];
        for (to, word) in short.chunks_exact_mut(8).zip(&words[..len.div_ceil(8)]) {
            // RAW: bytes, which are sealed with the rest of the entry.
            to.copy_from_slice(&word.load(Relaxed).to_le_bytes());
        }
        Self(Bytes::Short(short, len))
    }
}

impl Deref for ViewBytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Short(bytes, len) => &bytes[..*len],
            Bytes::Long(bytes) => bytes,
        }
    }
}

impl fmt::Debug for ViewBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.deref().fmt(f)
    }
}

impl From<Vec<u8>> for ViewBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Bytes::Long(bytes))
    }
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
