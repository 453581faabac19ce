//! How a hit comes about without a lock, in two functions of plain words.
//!
//! Whoever has the cache's lock gives an entry another word before it changes what the entry says, and once more when all
//! is in place. Who looks reads the word, then what the entry says, then the word again: the same word means that all of
//! it is of one value. So it takes a hold of the value's block in between, and the block is that value's.

use crate::prim::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};

/// Gives an entry another word. What it says may change from here on.
#[inline]
pub(super) fn change(word: &AtomicU64, next: u64) {
    // Release: who sees the word sees what the entry said before.
    word.store(next, Release);
    // Pairs with the fence in `unchanged`: who reads something that is written from here on sees the new word.
    fence(Release);
}

/// What `read` finds in an entry whose word was `seen`, by an Acquire; none when the word was another meanwhile.
#[inline]
pub(super) fn unchanged<T>(word: &AtomicU64, seen: u64, read: impl FnOnce() -> T) -> Option<T> {
    let found = read();
    // Pairs with the fence in `change`: had something been of another value, this would not be `seen`.
    fence(Acquire);
    (word.load(Relaxed) == seen).then_some(found)
}

/// A model of an entry that gets another value while somebody looks, run by loom over all interleavings.
#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::models::{Block, OTHER, WRITER, check};
    use loom::sync::Arc;
    use loom::thread;

    const LIVE: u64 = 1;

    /// An entry, and two blocks. The value of key 1 is in the first, and the second is idle.
    struct Model {
        word: AtomicU64,
        key: AtomicU64,
        block: AtomicU64,
        generation: AtomicU64,
        blocks: [Block; 2],
    }

    impl Model {
        /// With `is_kept` somebody else looks at the value of key 1, so its block stays, and another one is filled.
        fn new(is_kept: bool) -> Arc<Self> {
            let [word, key, block, generation] = [LIVE, 1, 0, 0].map(AtomicU64::new);
            let blocks = [Block::new(), Block::new()];
            blocks[0].bytes.store(101, Relaxed);
            if is_kept {
                blocks[0].keep(OTHER);
            }
            Arc::new(Self { word, key, block, generation, blocks })
        }

        /// Key 2 gets the entry, by somebody who dies after so many steps. A block is filled anew if nobody holds it.
        /// The block of key 1 is not asked where somebody keeps it: then nothing but the entry tells of the change.
        fn replace(&self, steps: usize, is_kept: bool) {
            let (mut filled, first) = (None, usize::from(is_kept));
            for step in 0..steps {
                match step {
                    0 => change(&self.word, 2),
                    1 => filled = (first..2).find_map(|index| Some((index, self.blocks[index].renew()?))),
                    2 => self.fill(filled),
                    3 => self.key.store(2, Relaxed),
                    4 => self.block.store(filled.map_or(0, |(index, _)| index as u64), Relaxed),
                    5 => self.generation.store(filled.map_or(u64::MAX, |(_, generation)| generation), Relaxed),
                    _ => change(&self.word, 4 | LIVE),
                }
            }
        }

        fn fill(&self, filled: Option<(usize, u64)>) {
            let Some((index, _)) = filled else { return };
            self.blocks[index].bytes.store(102, Relaxed);
            self.blocks[index].release(WRITER);
        }

        /// Looks for a key, and at its value.
        fn look(&self, key: u64) {
            let seen = self.word.load(Acquire);
            if seen & LIVE == 0 {
                return;
            }
            let found = unchanged(&self.word, seen, || {
                let (block, generation) = (self.block.load(Relaxed), self.generation.load(Relaxed));
                (self.key.load(Relaxed) == key).then(|| self.blocks[block as usize].hold(generation)).flatten()
            });
            if let Some(held) = found.flatten() {
                assert_eq!(held.bytes(), 100 + key, "another key's value");
            }
        }
    }

    #[test]
    fn a_hit_is_the_value_of_its_key_whenever_the_writer_dies() {
        for (steps, is_kept) in (1..=7).flat_map(|steps| [(steps, false), (steps, true)]) {
            check(move || {
                let model = Model::new(is_kept);
                let cache = model.clone();
                let writer = thread::spawn(move || cache.replace(steps, is_kept));
                model.look(1);
                model.look(2);
                writer.join().unwrap();
            });
        }
    }
}
