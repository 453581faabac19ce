//! Arenas that fuzzers write over, and their bytes as stores: each is a place and a value.

use crate::arena::{Arena, Heap};
use crate::prim::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::cell::RefCell;
use std::sync::Arc;

thread_local! {
    /// The memory of the arena of the run before: it is cheaper to use it again.
    static HEAP: RefCell<Option<Arc<Heap>>> = const { RefCell::new(None) };
}

/// A new arena, which is the same for each run. The one of the run before is gone.
pub(super) fn arena_on_heap(budget_bytes: u64) -> (Arc<Arena>, Arc<Heap>) {
    let (arena, heap) = Arena::create_small_on_heap(budget_bytes, false, HEAP.take()).expect("an arena");
    HEAP.set(Some(heap.clone()));
    (arena, heap)
}

/// Stores of one run, at the most.
const MOST: usize = 64;

/// Writes over words as the bytes say: a place in two bytes, modulo the words that there are, then a word.
pub(super) fn patch_words(words: &[&[AtomicU64]], data: &[u8]) {
    let count: usize = words.iter().map(|part| part.len()).sum();
    for store in data.chunks_exact(10).take(MOST) {
        let [low, high, value @ ..] = store else { return };
        let mut at = usize::from(u16::from_le_bytes([*low, *high])) % count;
        for part in words {
            if let Some(word) = part.get(at) {
                word.store(value.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte)), SeqCst);
                break;
            }
            at -= part.len();
        }
    }
}

/// The same for half words, in one of several parts: the part in a byte, a place in two bytes, then the value.
pub(super) fn patch_halves(parts: &[&[AtomicU32]], data: &[u8]) {
    for store in data.chunks_exact(7).take(MOST) {
        let [part, low, high, value @ ..] = store else { return };
        let words = parts[usize::from(*part) % parts.len()];
        let at = usize::from(u16::from_le_bytes([*low, *high])) % words.len();
        words[at].store(value.iter().rev().fold(0, |sum, &byte| sum << 8 | u32::from(byte)), SeqCst);
    }
}
