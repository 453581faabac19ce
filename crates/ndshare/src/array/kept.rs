//! Heads that keep one block, and say what is in it: that of an overlay, and of a canvas. They begin alike.
//!
//! ```text
//! word 0       what it is, in which version: see `crate::head`
//!      1       the block {index + 1: 32, generation: 32}
//!      2       length of the description in bytes
//!      3..     words of the kind's own, then the description
//! ```
//!
//! All of it but the kind's own is written before anybody else can have the head. The block goes with the head.

use crate::arena::{AnyBlock, Arena, BlockId, Deadline, Hold};
use crate::error::{Error, Result};
use crate::head::{HeadKind, KEPT_AT as BLOCK};
use crate::prim::{
    Ordering::{Acquire, Relaxed, Release},
    load_bytes, read, store_bytes,
};
use std::sync::Arc;

const LENGTH: usize = 2;
/// Where the words of the kind's own begin.
pub(crate) const OWN_WORDS_AT: usize = 3;

/// A kind of such heads: its name, the version of its layout, and where its description begins, in words.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeptKind {
    pub kind: HeadKind,
    pub version: u32,
    pub description_at: usize,
}

impl KeptKind {
    /// A new head, whose own words are zero, of a block of the same arena.
    pub(crate) fn make(self, arena: &Arc<Arena>, kept: &Hold, description: &[u8], deadline: &Deadline) -> Result<Hold> {
        let len_bytes = self.description_at * 8 + description.len().next_multiple_of(8);
        let head = arena.alloc(len_bytes, 64, true, deadline)?;
        head.adopt(kept, deadline)?;
        let words = head.words();
        // NO POINT: nobody else has the name of this block yet; with its maker it goes.
        words[BLOCK].store(kept.block().to_word(), Relaxed);
        words[LENGTH].store(description.len() as u64, Relaxed);
        store_bytes(&words[self.description_at..], description);
        words[0].store(self.kind.signature(self.version), Release);
        Ok(head)
    }

    /// The block of somebody else's head, and its description.
    ///
    /// # Errors
    /// `WrongKind` when the block is no such head, or one of another version; `Poisoned` when it contradicts itself.
    pub(crate) fn open(self, head: &Hold) -> Result<(Hold, Vec<u8>)> {
        let (block, description) = self.read(head)?;
        Ok((head.arena().take(block)?, description))
    }

    /// The same, but the block is only named.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn read<B: AnyBlock>(self, head: &B) -> Result<(BlockId, Vec<u8>)> {
        let words = head.words();
        let [first, block, len, ..] = words else { return Err(self.contradicts()) };
        // RAW: checked as a whole.
        self.kind.check(self.version, first.load(Acquire))?;
        let rest = words.get(self.description_at..).unwrap_or_default();
        let len = read(len, Relaxed).at_most(rest.len() as u64 * 8);
        // RAW: a name, which is looked up.
        let block = BlockId::from_word(block.load(Relaxed));
        let (Some(len), Some(block)) = (len, block) else { return Err(self.contradicts()) };
        Ok((block, load_bytes(rest, len as usize)))
    }

    #[cold]
    pub(crate) fn contradicts(self) -> Error {
        let kind = self.kind;
        Error::written_over(
            &format!("the {kind}'s head"),
            format!("the {kind} contradicts itself: its head was written over; make another one"),
        )
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::prim::Ordering::SeqCst;

    const FOREVER: Deadline<'static> = Deadline::never();
    const KEPT: KeptKind = KeptKind { kind: HeadKind::Canvas, version: 3, description_at: 5 };

    #[test]
    fn a_head_keeps_its_block_and_goes_with_it() {
        let (arena, _heap) = Arena::create_on_heap(1 << 21).unwrap();
        let kept = arena.alloc(5000, 64, true, &FOREVER).unwrap();
        let (block, head) = (kept.block(), KEPT.make(&arena, &kept, b"what it is", &FOREVER).unwrap());
        drop(kept);
        let (again, description) = KEPT.open(&head).unwrap();
        assert_eq!((again.block(), &description[..]), (block, &b"what it is"[..]));
        drop((again, head));
        assert_eq!(arena.take(block).unwrap_err().kind(), Kind::Stale);
        assert_eq!(arena.stats().unwrap().used_bytes, 0);
    }

    #[test]
    fn whatever_stands_in_a_head_is_an_error_or_a_block() {
        let (arena, _heap) = Arena::create_on_heap(1 << 21).unwrap();
        let kept = arena.alloc(5000, 64, true, &FOREVER).unwrap();
        let head = KEPT.make(&arena, &kept, b"what it is", &FOREVER).unwrap();
        let kind = |at: usize, value: u64| {
            let before = head.words()[at].swap(value, SeqCst);
            let kind = KEPT.open(&head).map(drop).map_err(|error| error.kind());
            head.words()[at].store(before, SeqCst);
            kind
        };
        assert_eq!(kind(0, HeadKind::Ring.signature(3)), Err(Kind::WrongKind));
        assert_eq!(kind(0, HeadKind::Canvas.signature(2)), Err(Kind::WrongKind));
        assert_eq!(kind(BLOCK, 0), Err(Kind::Poisoned));
        assert_eq!(kind(BLOCK, u64::MAX), Err(Kind::Stale));
        assert_eq!(kind(LENGTH, u64::MAX), Err(Kind::Poisoned));
        assert_eq!(kind(LENGTH, 3), Ok(()));
    }
}
