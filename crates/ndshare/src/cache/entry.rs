//! The life of an entry, under the lock: it is occupied, filled, settled in its queue, and vacated.
//!
//! Each store that leaves the tables in a state of their own is followed by a kill point; `recover` puts in order what a
//! death leaves.

use super::hash::seal_of;
use super::key::Key;
use super::look::now_ns;
use super::protocol;
use super::room::Attempt;
use super::state::Cache;
use super::table::{Child, DISORDER, Entry, FREE, LINK, LIVE, LOADING, OWED, State, Text, USED, Word, add, subtract};
use super::turn::Turn;
use super::value::{Stored, Value, cost};
use crate::arena::{Hold, TicketId};
use crate::error::{Kind, Result};
use crate::os::kill::{Point, point};
use crate::prim::{
    Ordering::{Relaxed, Release, SeqCst},
    store_bytes,
};

impl Cache {
    /// A slot that bears the key, in the given state; `Loading` by the calling thread, or `Empty` to be filled at once.
    pub(super) fn occupy(
        &self,
        key: &Key,
        annex: Option<&Hold>,
        state: State,
        turn: &mut Turn,
    ) -> Result<Attempt<u32>> {
        let slot = match self.find_slot(turn)? {
            Attempt::Done(slot) => slot,
            other => return Ok(other),
        };
        let entry = self.table.entry(slot);
        // Anew, so that nobody takes what follows for what was here.
        self.change(entry, State::Empty);
        entry.hash().store(key.hash(), Relaxed);
        entry.lens().store((key.bytes().len() as u64) << 32, Relaxed);
        entry.uses().store(0, Relaxed);
        entry.order().store(0, Relaxed);
        entry.bytes().store(annex.map_or(0, |annex| annex.len_bytes() as u64), Relaxed);
        if let Err(error) = self.set_text(entry.key(), key.bytes(), annex, turn) {
            self.free_slot(slot);
            return Err(error);
        }
        entry.loader().store(self.arena().identity()?, Relaxed);
        entry.thread().store(self.arena().thread()?, Relaxed);
        point(Point::CacheOccupied);
        // Before it is chained: no chain has an empty entry.
        if state == State::Loading {
            add(self.table.word(LOADING), 1);
            self.change(entry, State::Loading);
            point(Point::CacheLoading);
            self.chain(slot);
            point(Point::CacheChained);
        }
        Ok(Attempt::Done(slot))
    }

    fn set_text(&self, text: Text<'_>, bytes: &[u8], annex: Option<&Hold>, turn: &mut Turn) -> Result<()> {
        match annex {
            Some(annex) => self.adopt(text.annex, annex, turn),
            None => {
                store_bytes(text.words, bytes);
                point(Point::CacheAdopted);
                Ok(())
            }
        }
    }

    /// Keeps a block for an entry. A death on the way leaves a record too many, which `recover` ends.
    pub(super) fn adopt(&self, child: Child<'_>, hold: &Hold, turn: &mut Turn) -> Result<()> {
        let adopted = self.table.head.adopt(hold, &turn.deadline());
        let record = adopted.inspect_err(|error| turn.put_off(error))?;
        point(Point::CacheAdopted);
        child.record.store(record.index.into(), Relaxed);
        child.nonce.store(record.nonce, Relaxed);
        // Release: who reads the name of a segment sees what the segment begins with.
        child.block.store(hold.block().to_word(), Release);
        point(Point::CacheAdopted);
        Ok(())
    }

    /// Gives an occupied slot its value. It is live from here on.
    pub(super) fn fill(&self, slot: u32, value: Value<'_>, annex: Option<&Hold>, turn: &mut Turn) -> Result<Stored> {
        let entry = self.table.entry(slot);
        let adopted = self
            .adopt(entry.value(), value.hold, turn)
            .and_then(|()| self.set_text(entry.view(), value.view, annex, turn));
        if let Err(error) = adopted {
            if turn.is_put_off && entry.now().state() == State::Loading {
                // It begins again as the load that it is.
                self.release_children(&[entry.value(), entry.view().annex], turn)?;
            } else {
                self.vacate(slot, turn)?;
            }
            return Err(error);
        }
        // RAW: added to without an overflow; who uses it caps it.
        let (key_len, key_bytes) = (entry.lengths().0 as u64, entry.bytes().load(Relaxed));
        entry.lens().store(key_len << 32 | value.view.len() as u64, Relaxed);
        entry.offset().store(value.offset, Relaxed);
        entry.bytes().store(key_bytes.saturating_add(cost(value, [annex, None])), Relaxed);
        let stored = now_ns();
        // RAW: any number is a hash.
        let seal = seal_of(entry.hash().load(Relaxed), value.hold.block(), value.offset, stored, value.view);
        entry.stored().store(stored, Relaxed);
        entry.seal().store(seal, Relaxed);
        point(Point::CacheFilled);
        self.settle(slot, State::Live);
        Ok(Stored::Cached)
    }

    /// Brings a filled entry to life and into its queue.
    pub(super) fn settle(&self, slot: u32, state: State) {
        let entry = self.table.entry(slot);
        let was_loading = entry.now().state() == State::Loading;
        if was_loading {
            subtract(self.table.word(LOADING), 1);
        }
        // RAW: any number is a hash.
        let tag = self.table.queue_for(entry.hash().load(Relaxed));
        point(Point::CacheFilled);
        self.change(entry, state);
        point(Point::CacheLive);
        if !was_loading {
            self.chain(slot);
        }
        self.table.enqueue(slot, tag);
        point(Point::CacheQueued);
        add(self.table.word(USED), entry.counted());
        if state == State::Live {
            add(self.table.word(LIVE), 1);
        }
        point(Point::CacheCounted);
    }

    /// Gives an entry another state.
    pub(super) fn change(&self, entry: Entry<'_>, state: State) -> Word {
        let word = entry.now().next(state);
        protocol::change(entry.word(), word.0);
        word
    }

    /// Whether an entry waits for a load whose loader has died, or has given up where it could not end it.
    pub(super) fn is_load_of_the_dead(&self, slot: u32) -> Result<bool> {
        let entry = self.table.entry(slot);
        // RAW: a name, which is looked up.
        Ok(entry.now().state() == State::Loading && !self.arena().is_identity_alive(entry.loader().load(SeqCst))?)
    }

    /// Ends an entry, whatever it is, and wakes who waits for it.
    pub(super) fn vacate(&self, slot: u32, turn: &mut Turn) -> Result<()> {
        let entry = self.table.entry(slot);
        let was = entry.now().state();
        self.change(entry, State::Empty);
        point(Point::CacheEmptied);
        self.release_children(&entry.children(), turn)?;
        point(Point::CacheReleased);
        if was != State::Empty {
            self.table.unlink(slot);
            self.unchain(slot);
        }
        match was {
            State::Live => {
                subtract(self.table.word(USED), entry.counted());
                subtract(self.table.word(LIVE), 1);
            }
            State::Failed => subtract(self.table.word(USED), entry.counted()),
            State::Loading => subtract(self.table.word(LOADING), 1),
            State::Empty => {}
        }
        self.free_slot(slot);
        point(Point::CacheFreed);
        if was == State::Loading { self.wake(slot) } else { Ok(()) }
    }

    pub(super) fn wake(&self, slot: u32) -> Result<()> {
        let (segment, at) = self.table.word_at(slot);
        segment.wake(at)
    }

    fn release_children(&self, children: &[Child<'_>], turn: &mut Turn) -> Result<()> {
        for child in children {
            // RAW: a name, which is looked up.
            let nonce = child.nonce.load(Relaxed);
            if nonce != 0 {
                // RAW: a name, which is looked up.
                let record = TicketId { index: child.record.load(Relaxed) as u32, nonce };
                self.end_record(record, turn)?;
            }
            child.nonce.store(0, Relaxed);
            child.block.store(0, Relaxed);
            point(Point::CacheReleased);
        }
        Ok(())
    }

    /// Ends a record, now or when the arena's lock is to be had again.
    pub(super) fn end_record(&self, record: TicketId, turn: &mut Turn) -> Result<()> {
        match self.table.head.end_record(record, &turn.deadline()) {
            Ok(block) => turn.blocks.extend(block),
            Err(error) if error.kind() == Kind::Timeout => {
                turn.is_late = true;
                self.table.word(OWED).store(1, Relaxed);
                point(Point::CacheReleased);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    pub(super) fn free_slot(&self, slot: u32) {
        let free = self.table.word(FREE);
        // RAW: a link, which is checked by who follows it.
        self.table.entry(slot).chain().store(free.load(Relaxed), Relaxed);
        free.store(u64::from(slot) + 1, Relaxed);
        point(Point::CacheFreed);
    }

    pub(super) fn chain(&self, slot: u32) {
        let entry = self.table.entry(slot);
        // RAW: any number is a hash.
        let bucket = self.table.bucket(entry.hash().load(Relaxed));
        // RAW: a link, which is checked by who follows it.
        let word = bucket.load(Relaxed);
        entry.chain().store(word & LINK, Release);
        point(Point::CacheChained);
        bucket.store(word & !LINK | (u64::from(slot) + 1), Release);
        point(Point::CacheChained);
    }

    /// Takes an entry out of the chain of its bucket. Where it is not in it, all is put in order before the lock opens.
    fn unchain(&self, slot: u32) {
        let entry = self.table.entry(slot);
        // RAW: any number is a hash.
        let bucket = self.table.bucket(entry.hash().load(Relaxed));
        // RAW: a link, which is checked by who follows it.
        let behind = entry.chain().load(Relaxed) & LINK;
        // RAW: checked by `slot`.
        if self.table.slot(bucket.load(Relaxed)) == Some(slot) {
            // RAW: half of it stays as it is.
            bucket.store(bucket.load(Relaxed) & !LINK | behind, Release);
            point(Point::CacheChained);
            return;
        }
        // RAW: checked by `slot`.
        let mut link = bucket.load(Relaxed);
        // BOUND: no chain is longer than there are slots.
        for _ in 0..self.table.geometry.slots() {
            let Some(ahead) = self.table.slot(link) else { break };
            let chain = self.table.entry(ahead).chain();
            // RAW: checked by `slot`.
            link = chain.load(Relaxed);
            if self.table.slot(link) == Some(slot) {
                chain.store(behind, Release);
                return point(Point::CacheChained);
            }
        }
        self.table.word(DISORDER).store(1, Relaxed);
        point(Point::CacheChained);
    }
}
