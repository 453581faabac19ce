//! The token of a reader or a writer: the block that keeps it. It says of which ring, and in which slot, so that a reference
//! to it is all that another process needs.

use super::state::Ring;
use super::table::{READERS, WRITERS};
use crate::arena::{Arena, BlockId, Deadline, Hold};
use crate::error::{Error, Result};
use crate::head::HeadKind;
use crate::prim::{
    Ordering::{Acquire, Relaxed},
    read,
};
use std::sync::Arc;

/// The version of this layout.
const VERSION: u32 = 1;
/// Places of words.
const RING: usize = 1;
const SLOT: usize = 2;
const TOKEN_BYTES: usize = 24;

/// A new token, which says nothing yet.
pub(super) fn new_token(arena: &Arc<Arena>, deadline: &Deadline) -> Result<Hold> {
    arena.alloc_words(TOKEN_BYTES, 64, false, deadline)
}

/// Has a token say what it is for. Nobody else can have it yet.
pub(super) fn write_token(token: &Hold, kind: HeadKind, ring: &Ring, slot: usize) {
    let words = token.words();
    // NO POINT: others read it only by a reference to it, which its maker gives out later; until then they look only at
    // whether it lives.
    words[RING].store(ring.head().block().to_word(), Relaxed);
    words[SLOT].store(slot as u64, Relaxed);
    words[0].store(kind.signature(VERSION), Relaxed);
}

/// The ring and the slot that a token says. That the slot has that token is for the caller to check.
pub(super) fn read_token(token: &Hold, kind: HeadKind) -> Result<(Arc<Ring>, usize)> {
    // RAW: checked as a whole.
    kind.check(VERSION, token.word(0)?.load(Acquire))?;
    // RAW: a name, which is looked up.
    let ring = BlockId::from_word(token.word(RING)?.load(Relaxed));
    let slot = read(token.word(SLOT)?, Relaxed).index(READERS.max(WRITERS));
    let (Some(ring), Some(slot)) = (ring, slot) else {
        return Err(Error::written_over(
            "a token of a ring",
            format!("the {kind} says nothing of its ring: its token was written over; make a new one"),
        ));
    };
    Ok((Ring::open(token.arena().take(ring)?)?, slot))
}
