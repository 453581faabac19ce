//! What the models share: a block, and how a model is run by loom over all interleavings.

use crate::prim::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
};

/// Who holds a block, as bits.
pub(crate) const READER: u64 = 1;
pub(crate) const WRITER: u64 = 2;
/// Somebody who has nothing else to do with it.
pub(crate) const OTHER: u64 = 4;

/// Runs a model over the interleavings with at most three preemptions, in a thread of its own: loom hardly interrupts the
/// first thread, so that a model in which that took part came to few orders, one of them to a single one, and wrong orderings
/// were not noticed. A model that comes to a single order proves nothing, and fails.
pub(crate) fn check(model: impl Fn() + Sync + Send + 'static) {
    let runs = std::sync::Arc::new(std::sync::Mutex::new(0));
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    let counted = runs.clone();
    let model = std::sync::Arc::new(model);
    builder.check(move || {
        *counted.lock().expect("a count") += 1;
        let model = model.clone();
        loom::thread::spawn(move || model()).join().expect("a model");
    });
    assert!(*runs.lock().expect("a count") > 1, "loom found one order only");
}

/// A block as the arena keeps it, with one reader and the writer: who holds it, and its generation above a
/// sequence number. Its bytes are relaxed, so that whoever comes too early finds others.
pub(crate) struct Block {
    word: AtomicU64,
    holders: AtomicU64,
    pub bytes: AtomicU64,
}

/// A block that the reader holds, until this goes.
pub(crate) struct Held<'a>(&'a Block);

impl Block {
    pub(crate) fn new() -> Self {
        let [word, holders, bytes] = [0, 0, 0].map(AtomicU64::new);
        Self { word, holders, bytes }
    }

    /// Holds it for the reader, if it is of this generation.
    pub(crate) fn hold(&self, generation: u64) -> Option<Held<'_>> {
        self.take(generation).then_some(Held(self))
    }

    pub(crate) fn take(&self, generation: u64) -> bool {
        self.holders.fetch_or(READER, SeqCst);
        loop {
            let word = self.word.load(SeqCst);
            if word >> 32 != generation {
                self.release(READER);
                return false;
            }
            if self.word.compare_exchange(word, word + 1, SeqCst, SeqCst).is_ok() {
                return true;
            }
        }
    }

    /// The next generation, for the writer; none while the reader holds the block.
    pub(crate) fn renew(&self) -> Option<u64> {
        self.holders.fetch_or(WRITER, SeqCst);
        loop {
            let word = self.word.load(SeqCst);
            if self.holders.load(SeqCst) != WRITER {
                self.release(WRITER);
                return None;
            }
            let generation = (word >> 32) + 1;
            if self.word.compare_exchange(word, generation << 32, SeqCst, SeqCst).is_ok() {
                return Some(generation);
            }
        }
    }

    /// Keeps it as it is, whatever its generation.
    pub(crate) fn keep(&self, who: u64) {
        self.holders.fetch_or(who, SeqCst);
    }

    pub(crate) fn release(&self, who: u64) {
        self.holders.fetch_and(!who, SeqCst);
    }
}

impl Held<'_> {
    pub(crate) fn bytes(&self) -> u64 {
        self.0.bytes.load(Relaxed)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.release(READER);
    }
}
