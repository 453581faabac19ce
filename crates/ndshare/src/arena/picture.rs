//! A picture of the tables: a copy of them as they were at one moment, taken by somebody who takes no lock.
//!
//! Others work while it is taken, so a plain copy would be torn. What the arena lock guards is copied between two moments at
//! which nobody has that lock, and counts only if no work went on in between. Whether it did is told by words that each piece
//! of work changes for good: those of the blocks, which count tenants and acquisitions, their spans, and the numbers of the
//! records. They are read before and behind. What is changed without the lock (holds, the locks of blocks) is a moment old.

use super::control::{Block, Control, Record, Span};
use super::lockword::LockWord;
use super::records::is_ticket;
use super::word::{HOLDER_WORDS, State, Word};
use crate::prim::{
    AtomicU32,
    Ordering::{Acquire, Relaxed},
    fence,
};

/// The tables, as plain data. Nothing in it is checked.
pub(super) struct Picture {
    pub blocks: Vec<BlockCopy>,
    pub records: Vec<RecordCopy>,
    /// States of the slots.
    pub slots: Vec<u32>,
    pub used: u64,
    pub warm: u64,
    pub unused: u32,
    pub gap_bins: Vec<u32>,
    pub warm_bins: Vec<u32>,
    pub tickets: u32,
    pub granules: u32,
    /// Whether some process has said that it left blocks that nobody keeps, for whoever needs memory.
    pub is_left_over: bool,
}

/// One descriptor.
pub(super) struct BlockCopy {
    pub bits: u64,
    pub span: Span,
    pub records: u32,
    pub is_parent: bool,
    pub lock_owner: Option<u32>,
    pub holders: [u64; HOLDER_WORDS],
    pub before: u32,
    pub after: u32,
    pub list_before: u32,
    pub list_after: u32,
}

impl BlockCopy {
    fn of(block: &Block) -> Self {
        // RAW: copied as they are; whoever looks at the copy checks them.
        let [records, is_parent, before, after, list_before, list_after] =
            [&block.records, &block.is_parent, &block.before, &block.after, &block.list_before, &block.list_after]
                .map(|word| word.load(Relaxed));
        // RAW: as above.
        let holders = std::array::from_fn(|index| block.holders[index].load(Relaxed));
        // RAW: as above.
        let (bits, lock_owner) = (block.word.load(Relaxed), LockWord(&block.lock).owner());
        let (span, is_parent) = (block.raw_span(), is_parent != 0);
        Self { bits, span, records, is_parent, lock_owner, holders, before, after, list_before, list_after }
    }

    pub(super) fn word(&self) -> Word {
        Word::unpack(self.bits)
    }

    /// Whether nobody uses the descriptor, not even as a gap.
    pub(super) fn is_unused(&self) -> bool {
        self.word().state == State::Free && self.span.granules == 0
    }
}

/// One record that counts.
pub(super) struct RecordCopy {
    pub index: u32,
    pub block: u32,
    /// Index and generation of the parent; none of a ticket.
    pub parent: Option<(u32, u64)>,
}

impl RecordCopy {
    fn of(index: u32, record: &Record) -> Option<Self> {
        // RAW: copied as they are; whoever looks at the copy checks them.
        let [block, origin] = [&record.block, &record.origin].map(|word| word.load(Relaxed));
        // RAW: as above.
        let parent = (!is_ticket(record)).then(|| (origin, record.stamp.load(Relaxed)));
        (record.nonce.load(Relaxed) != 0).then_some(Self { index, block, parent })
    }
}

impl Picture {
    /// A picture, if no work went on meanwhile.
    pub(super) fn take(control: &Control) -> Option<Self> {
        let lock = LockWord(&control.header().lock.0);
        still(lock, || tags(control), || Self::copy(control))
    }

    /// A copy of what is there now: a picture for who has the arena lock.
    pub(super) fn copy(control: &Control) -> Self {
        let (head, geometry) = (control.span_header(), control.geometry());
        // RAW: copied as they are; whoever looks at the copy checks them.
        let all = |words: &[AtomicU32]| words.iter().map(|word| word.load(Relaxed)).collect();
        let records = (0..control.records_ready()).filter_map(|index| Some((index, control.record_quietly(index)?)));
        let slots = (0..geometry.participants).filter_map(|slot| control.participant(slot).ok());
        Self {
            blocks: (0..control.high()).filter_map(|index| control.block_quietly(index)).map(BlockCopy::of).collect(),
            records: records.filter_map(|(index, record)| RecordCopy::of(index, record)).collect(),
            // RAW: as above.
            slots: slots.map(|slot| slot.state.load(Relaxed)).collect(),
            // RAW: as above.
            used: head.used.load(Relaxed),
            // RAW: as above.
            warm: head.warm.load(Relaxed),
            // RAW: as above.
            unused: head.unused.load(Relaxed),
            gap_bins: all(&head.gap_bins),
            warm_bins: all(&head.warm_bins),
            // RAW: as above.
            tickets: control.header().ticket_count.load(Relaxed),
            granules: geometry.data_granules(),
            // RAW: as above.
            is_left_over: control.header().unkept.load(Relaxed) != 0,
        }
    }
}

/// What every piece of work under the arena lock changes for good.
fn tags(control: &Control) -> Vec<u64> {
    let blocks = (0..control.high()).filter_map(|index| control.block_quietly(index));
    // RAW: only compared.
    let of_blocks = blocks.flat_map(|block| [block.word.load(Acquire), block.raw_span().pack()]);
    let records = (0..control.records_ready()).filter_map(|index| control.record_quietly(index));
    // RAW: only compared.
    let of_records = records.map(|record| record.nonce.load(Acquire));
    let slots = (0..control.geometry().participants).filter_map(|slot| control.participant(slot).ok());
    // RAW: only compared.
    let of_slots =
        slots.map(|slot| u64::from(slot.generation.load(Acquire)) << 32 | u64::from(slot.state.load(Acquire)));
    // RAW: only compared.
    let departures = control.header().departures.load(Acquire).into();
    of_blocks.chain(of_records).chain(of_slots).chain([departures]).collect()
}

/// What `read` finds at a moment when nobody has a lock, and nobody had it meanwhile: `tags` gives what all work under it
/// changes for good. None: somebody has it, died in it, or did such work.
pub(super) fn still<T, G: PartialEq>(lock: LockWord<'_>, tags: impl Fn() -> G, read: impl FnOnce() -> T) -> Option<T> {
    let before = tags();
    if !lock.is_clean_and_free() {
        return None;
    }
    let found = read();
    // Pairs with the Release of whoever frees the lock: had a word been of a later owner, what follows would show it.
    fence(Acquire);
    (lock.is_clean_and_free() && tags() == before).then_some(found)
}
