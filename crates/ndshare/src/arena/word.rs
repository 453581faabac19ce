//! The life of one block: its word, its holders, and who may free it.
//!
//! The functions take the words by reference, so that a loom model runs the same code. `SeqCst` on all of them:
//! each side first writes its own word and then reads the other's, and one order of all these steps is what the
//! proof rests on. A take happens at its exchange of the sequence number, a free at its exchange to `Freeing`.
//!
//! Invariant: after a completed take of generation g the block is `Live(g)` until that holder's clear, because
//! every acquisition bumps the sequence number, so that a free which looked earlier fails its exchange.

use crate::os::kill::{Point, point};
use crate::prim::{
    AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};

/// Words of holder bits in a block: one bit for each possible participant.
pub(super) const HOLDER_WORDS: usize = 8;

/// What a block is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// A gap between blocks, or a descriptor that nobody uses.
    Free,
    /// Owned by one participant that is making it, or keeps it for reuse.
    Reserved,
    /// Alive; references may name it.
    Live,
    /// Owned by one participant that is giving it back.
    Freeing,
    /// Nobody's, with its pages kept for reuse.
    Warm,
}

/// The unpacked word: generation, then the sequence number (`Live`) or the owner's slot, then the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word {
    pub generation: u32,
    /// Sequence number of a live block, slot of a reserved or freeing one; 28 bits.
    pub low: u32,
    pub state: State,
}

const LOW_MASK: u64 = (1 << 28) - 1;

impl Word {
    pub(super) fn new(generation: u32, low: u32, state: State) -> Self {
        Self { generation, low, state }
    }

    pub(super) fn pack(self) -> u64 {
        u64::from(self.generation) << 32 | (u64::from(self.low) & LOW_MASK) << 4 | self.state as u64
    }

    /// The word in `bits`; an unknown state, which only a scribbler writes, reads as `Free`.
    pub(super) fn unpack(bits: u64) -> Self {
        let state = match bits & 15 {
            1 => State::Reserved,
            2 => State::Live,
            3 => State::Freeing,
            4 => State::Warm,
            _ => State::Free,
        };
        Self { generation: (bits >> 32) as u32, low: (bits >> 4 & LOW_MASK) as u32, state }
    }

    pub(super) fn is_live(self, generation: u32) -> bool {
        self.state == State::Live && self.generation == generation
    }

    /// Whether `slot` owns the block, making it or giving it back.
    pub(super) fn is_owned_by(self, slot: u32) -> bool {
        matches!(self.state, State::Reserved | State::Freeing) && self.low == slot
    }

    fn bumped(self) -> Self {
        Self { low: self.low.wrapping_add(1), ..self }
    }
}

/// The shared words that the protocol of one block works on.
#[derive(Clone, Copy)]
pub(super) struct Words<'a> {
    pub word: &'a AtomicU64,
    pub records: &'a AtomicU32,
    pub holders: &'a [AtomicU64; HOLDER_WORDS],
}

impl Words<'_> {
    pub(super) fn load(&self) -> Word {
        Word::unpack(self.word.load(SeqCst))
    }

    fn exchange(&self, from: Word, to: Word) -> bool {
        self.word.compare_exchange(from.pack(), to.pack(), SeqCst, Relaxed).is_ok()
    }

    /// Sets the bit of `slot`. Never a blind store: a stale taker's bit may stand beside it.
    pub(super) fn set_bit(&self, slot: u32) {
        self.holders[slot as usize / 64].fetch_or(1 << (slot % 64), SeqCst);
    }

    pub(super) fn clear_bit(&self, slot: u32) {
        self.holders[slot as usize / 64].fetch_and(!(1 << (slot % 64)), SeqCst);
    }

    /// Clears all of these bits that are set, and says whether any was.
    pub(super) fn clear_bits(&self, bits: &[u64; HOLDER_WORDS]) -> bool {
        let clear = |(word, &bits): (&AtomicU64, &u64)| {
            let is_set = bits != 0 && word.load(SeqCst) & bits != 0;
            if is_set {
                word.fetch_and(!bits, SeqCst);
                point(Point::SweepBit);
            }
            is_set
        };
        self.holders.iter().zip(bits).filter(|&pair| clear(pair)).count() > 0
    }

    pub(super) fn has_bit(&self, slot: u32) -> bool {
        self.holders[slot as usize / 64].load(SeqCst) >> (slot % 64) & 1 == 1
    }

    pub(super) fn is_kept(&self) -> bool {
        self.is_recorded() || self.is_held()
    }

    /// Whether records keep the block.
    pub(super) fn is_recorded(&self) -> bool {
        self.records.load(SeqCst) > 0
    }

    /// Whether anybody holds the block now.
    pub(super) fn is_held(&self) -> bool {
        self.holders.iter().any(|bits| bits.load(SeqCst) != 0)
    }

    /// Takes a hold for `slot` if the block is `Live(generation)`. On false, the caller must try to free the
    /// block: this bit may have been what kept somebody else from doing so.
    pub(super) fn take(&self, slot: u32, generation: u32) -> bool {
        self.set_bit(slot);
        point(Point::TakeBit);
        // BOUND: a round is lost only when somebody else has changed the word.
        loop {
            let word = self.load();
            if !word.is_live(generation) {
                self.clear_bit(slot);
                point(Point::TakeUndone);
                return false;
            }
            if self.exchange(word, word.bumped()) {
                point(Point::TakeDone);
                return true;
            }
        }
    }

    /// Bumps the sequence number of a live block that the caller keeps alive.
    pub(super) fn bump(&self) {
        // BOUND: a round is lost only when somebody else has changed the word.
        loop {
            let word = self.load();
            if word.state != State::Live || self.exchange(word, word.bumped()) {
                return;
            }
        }
    }

    /// Makes an unkept live block the property of `slot`, as `Freeing`. False: it is kept, or not live.
    pub(super) fn claim_to_free(&self, slot: u32) -> bool {
        self.claim(|word| Some(Word::new(word.generation, slot, State::Freeing)))
    }

    /// Makes the unkept block `Live(generation)` the property of `slot`, `Reserved` under its next generation.
    ///
    /// The caller means the block that it held. Between its clear and its claim somebody else may have freed that one;
    /// another, with another span, may have come and gone in its place, and be unkept, too. Or another holder may have
    /// made the block a parent before it let go: so `is_plain` is asked when the block is seen unkept, not before.
    pub(super) fn claim_to_reuse(&self, slot: u32, generation: u32, is_plain: impl Fn() -> bool) -> bool {
        let next = Word::new(generation.wrapping_add(1), slot, State::Reserved);
        self.claim(|word| (word.generation == generation && is_plain()).then_some(next))
    }

    /// Changes an unkept live block to what `to` says; none: it is another block.
    fn claim(&self, to: impl Fn(Word) -> Option<Word>) -> bool {
        // BOUND: a round is lost only when somebody else has changed the word.
        loop {
            let word = self.load();
            if word.state != State::Live || self.is_kept() {
                return false;
            }
            let Some(next) = to(word) else { return false };
            if self.exchange(word, next) {
                return true;
            }
        }
    }

    /// Brings a live block that nobody holds, and exactly one record keeps, to its next generation, held by `slot`.
    /// A reference to the old generation is stale from then on.
    pub(super) fn renew(&self, slot: u32, generation: u32) -> bool {
        self.set_bit(slot);
        point(Point::RenewBit);
        // BOUND: a round is lost only when somebody else has changed the word.
        loop {
            let word = self.load();
            if !word.is_live(generation) || self.records.load(SeqCst) != 1 || !self.is_only_holder(slot) {
                // The record keeps the block, so there is nothing to free.
                self.clear_bit(slot);
                point(Point::RenewBit);
                return false;
            }
            if self.exchange(word, Word::new(generation.wrapping_add(1), 0, State::Live)) {
                point(Point::RenewDone);
                return true;
            }
        }
    }

    fn is_only_holder(&self, slot: u32) -> bool {
        let own = |index: usize| if index == slot as usize / 64 { 1 << (slot % 64) } else { 0 };
        self.holders.iter().enumerate().all(|(index, bits)| bits.load(SeqCst) == own(index))
    }

    /// Takes over a block that the dead `from` owned, as `Freeing(to)`. False: it owned no such block.
    pub(super) fn inherit(&self, from: u32, to: u32) -> bool {
        let word = self.load();
        word.is_owned_by(from) && self.exchange(word, Word::new(word.generation, to, State::Freeing))
    }

    /// Brings a block that `slot` has reserved to life, held by `slot`.
    pub(super) fn bring_to_life(&self, slot: u32, after_bit: Point) -> u32 {
        self.set_bit(slot);
        point(after_bit);
        let generation = self.load().generation;
        // Only the owner changes a reserved word. Who takes the block sees by it what was written, and the bit.
        self.word.store(Word::new(generation, 0, State::Live).pack(), SeqCst);
        generation
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn words_pack_and_unpack() {
        for state in [State::Free, State::Reserved, State::Live, State::Freeing, State::Warm] {
            let word = Word::new(u32::MAX - 3, 511, state);
            assert_eq!(Word::unpack(word.pack()), word);
        }
        assert_eq!(Word::unpack(0), Word::new(0, 0, State::Free));
    }

    #[test]
    fn who_held_one_block_does_not_reuse_the_next_in_its_place() {
        let (word, records, holders) = (AtomicU64::new(0), AtomicU32::new(0), Default::default());
        let words = Words { word: &word, records: &records, holders: &holders };
        word.store(Word::new(8, 5, State::Live).pack(), SeqCst);
        assert!(!words.claim_to_reuse(3, 7, || true) && !words.claim_to_reuse(3, 8, || false));
        assert_eq!(words.load(), Word::new(8, 5, State::Live));
        assert!(words.claim_to_reuse(3, 8, || true));
        assert_eq!(words.load(), Word::new(9, 3, State::Reserved));
    }

    #[test]
    fn the_sequence_number_wraps_without_touching_the_generation() {
        let word = Word::new(7, LOW_MASK as u32, State::Live);
        assert_eq!(Word::unpack(word.bumped().pack()), Word::new(7, 0, State::Live));
    }
}

/// Models of take, drop and free on one block, run by loom over all interleavings.
#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::models::check;
    use crate::prim::Watched;
    use loom::sync::Arc;
    use loom::thread;

    struct Block {
        word: AtomicU64,
        records: AtomicU32,
        holders: [AtomicU64; HOLDER_WORDS],
        bytes: Watched,
        freed: AtomicU32,
    }

    impl Block {
        fn held_by(slot: u32) -> Arc<Self> {
            let block = Block {
                word: AtomicU64::new(Word::new(1, 0, State::Live).pack()),
                records: AtomicU32::new(0),
                holders: Default::default(),
                bytes: Watched::default(),
                freed: AtomicU32::new(0),
            };
            block.words().set_bit(slot);
            Arc::new(block)
        }

        fn words(&self) -> Words<'_> {
            Words { word: &self.word, records: &self.records, holders: &self.holders }
        }

        fn try_free(&self, slot: u32) {
            if self.words().claim_to_free(slot) {
                self.freed.fetch_add(1, Relaxed);
                self.bytes.write();
                self.word.store(Word::new(2, 0, State::Free).pack(), SeqCst);
            }
        }

        fn release(&self, slot: u32) {
            self.words().clear_bit(slot);
            self.try_free(slot);
        }

        /// Takes, checks that the block stays alive while held, and drops.
        fn visit(&self, slot: u32) {
            if self.words().take(slot, 1) {
                assert!(self.words().load().is_live(1), "freed under a holder");
                self.bytes.read();
                self.release(slot);
            } else {
                self.try_free(slot);
            }
        }
    }

    fn check_all(threads: impl Fn(&Arc<Block>) -> Vec<thread::JoinHandle<()>> + Sync + Send + 'static) {
        check(move || {
            let block = Block::held_by(0);
            for thread in threads(&block) {
                thread.join().unwrap();
            }
            assert_eq!(block.freed.load(Relaxed), 1, "freed exactly once");
        });
    }

    #[test]
    fn a_take_and_a_drop_meet() {
        check_all(|block| {
            let (a, b) = (block.clone(), block.clone());
            vec![thread::spawn(move || a.release(0)), thread::spawn(move || b.visit(1))]
        });
    }

    #[test]
    fn two_takers_and_a_drop_meet() {
        check_all(|block| {
            let (a, b, c) = (block.clone(), block.clone(), block.clone());
            vec![
                thread::spawn(move || a.release(0)),
                thread::spawn(move || b.visit(1)),
                thread::spawn(move || c.visit(2)),
            ]
        });
    }

    /// Their bits are in different words.
    #[test]
    fn holders_who_are_far_apart_drop_at_once() {
        check_all(|block| {
            block.words().set_bit(64);
            let (a, b) = (block.clone(), block.clone());
            vec![thread::spawn(move || a.release(0)), thread::spawn(move || b.release(64))]
        });
    }

    #[test]
    fn a_record_ends_while_a_holder_drops() {
        check_all(|block| {
            block.records.fetch_add(1, SeqCst);
            let (a, b) = (block.clone(), block.clone());
            let record = thread::spawn(move || {
                a.records.fetch_sub(1, SeqCst);
                a.try_free(1);
            });
            vec![record, thread::spawn(move || b.release(0))]
        });
    }

    /// A block that a record keeps gets its next content while somebody looks at the one before.
    #[test]
    fn a_block_is_renewed_when_nobody_looks() {
        for looker in [1, 64] {
            check(move || {
                let block = Block::held_by(0);
                block.records.fetch_add(1, SeqCst);
                block.words().clear_bit(0);
                let there = block.clone();
                let reader = thread::spawn(move || {
                    if there.words().take(looker, 1) {
                        there.bytes.read();
                        there.words().clear_bit(looker);
                    }
                });
                if block.words().renew(0, 1) {
                    block.bytes.write();
                }
                reader.join().unwrap();
            });
        }
    }

    /// A block that a record keeps is not renewed while a reference to it is on its way.
    #[test]
    fn a_ticket_is_issued_while_a_block_is_renewed() {
        check(|| {
            let block = Block::held_by(1);
            block.records.fetch_add(1, SeqCst);
            let there = block.clone();
            let sender = thread::spawn(move || {
                there.records.fetch_add(1, SeqCst);
                there.words().bump();
                there.words().clear_bit(1);
                assert!(there.words().take(2, 1), "the ticket keeps the content");
                there.bytes.read();
                there.records.fetch_sub(1, SeqCst);
                there.words().clear_bit(2);
            });
            if block.words().renew(0, 1) {
                block.bytes.write();
            }
            sender.join().unwrap();
        });
    }

    /// What a maker writes, whoever takes the block sees: its word is all that tells of it.
    #[test]
    fn a_taker_sees_what_the_maker_wrote() {
        check(|| {
            let block = Block::held_by(64);
            block.word.store(Word::new(1, 64, State::Reserved).pack(), SeqCst);
            let there = block.clone();
            let maker = thread::spawn(move || {
                there.bytes.write();
                // Its bit is in another word than the taker's.
                there.words().bring_to_life(64, Point::AllocHeld);
            });
            let taker = thread::spawn(move || block.visit(1));
            maker.join().unwrap();
            taker.join().unwrap();
        });
    }

    /// The sender issues a ticket and drops, while another holder drops: the ticket must keep the block, although
    /// the other's look may have come before the record and its exchange after.
    #[test]
    fn a_ticket_is_issued_while_holders_drop() {
        check_all(|block| {
            block.words().set_bit(1);
            let (a, b) = (block.clone(), block.clone());
            let sender = thread::spawn(move || {
                a.records.fetch_add(1, SeqCst);
                a.words().bump();
                a.release(0);
                assert!(a.words().take(2, 1), "the ticket keeps the block");
                a.records.fetch_sub(1, SeqCst);
                a.release(2);
            });
            vec![sender, thread::spawn(move || b.release(1))]
        });
    }

    /// A holder drops its block to keep it for reuse, slowly, while another one frees it and makes, holds and drops the
    /// next block in its place: the slow one must not get that, of which it knows nothing.
    #[test]
    fn a_slow_drop_meets_the_next_block_in_the_place() {
        check(|| {
            let block = Block::held_by(0);
            block.words().set_bit(1);
            let (a, b) = (block.clone(), block.clone());
            let slow = thread::spawn(move || {
                a.words().clear_bit(0);
                if a.words().claim_to_reuse(0, 1, || true) {
                    assert_eq!(a.words().load(), Word::new(2, 0, State::Reserved), "it was another block");
                    return true;
                }
                false
            });
            let fast = thread::spawn(move || {
                b.words().clear_bit(1);
                if !b.words().claim_to_free(1) {
                    return false;
                }
                b.word.store(Word::new(2, 1, State::Reserved).pack(), SeqCst);
                b.words().bring_to_life(1, Point::AllocHeld);
                b.words().clear_bit(1);
                assert!(b.words().claim_to_free(1), "nobody else may have the next block");
                true
            });
            assert_ne!(slow.join().unwrap(), fast.join().unwrap(), "one of the two ends the block");
        });
    }

    /// A holder stops for good after any step; the sweep clears its bit and the block is freed once.
    #[test]
    fn a_taker_stops_anywhere() {
        for steps in 0..3 {
            check_all(move |block| {
                let (a, b) = (block.clone(), block.clone());
                let dying = thread::spawn(move || match steps {
                    0 => a.words().set_bit(1),
                    1 => drop(a.words().take(1, 1)),
                    _ => {
                        a.words().take(1, 1);
                        a.words().clear_bit(1);
                    }
                });
                let other = thread::spawn(move || {
                    b.release(0);
                    dying.join().unwrap();
                    b.release(1);
                });
                vec![other]
            });
        }
    }
}
