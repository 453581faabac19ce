//! Records: what keeps a block beside its holders.
//!
//! A *ticket* is a reference in flight. It keeps its block until the first receiver claims it, so that a worker may
//! put an array in a queue and exit at once. One that was sent to a process that is over without having claimed it
//! goes, too, once that process's number is known. A *child* record keeps a block for the sake of another one, its
//! parent, and goes with it: a ring keeps its frames so.
//!
//! Adding a record raises the block's count, then fills the record in; removing one empties the record, then lowers
//! the count. A death in between leaves the count too high, never too low, and the sweep of the dead counts
//! anew; so no note of the intent is needed. All of it happens under the arena lock.

use super::alloc::Keep;
use super::control::{Control, PARENT, Record};
use super::deadline::Deadline;
use super::fork;
use super::hold::Hold;
use super::ids::{BlockId, TicketId};
use super::lock::ArenaLock;
use super::private::Mine;
use super::state::Arena;
use crate::error::{Error, Kind, Result, Stale};
use crate::os::kill::{Point, point};
use crate::os::{monotonic, proc, process, random_u64};
use crate::prim::{
    Ordering::{Acquire, Relaxed, Release, SeqCst},
    fetch_to_write,
};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// The table of records is committed in steps of so many.
const TABLE_STEP: u32 = 2048;
/// How many records one hold of the arena lock removes at most.
const BATCH: usize = 64;

impl Arena {
    /// Takes a reference to a block that somebody else keeps, without a ticket.
    ///
    /// # Errors
    /// `Stale` when the block is gone.
    pub fn take(self: &Arc<Self>, block: BlockId) -> Result<Hold> {
        let slot = self.slot()?;
        // The name comes from a pickle or a string; a wrong one is no fault of the arena's.
        let shared = self.control.block_quietly(block.index).ok_or_else(|| stale(block))?;
        let mut private = self.private.lock();
        if private.references(block.index) > 0 {
            if private.generation(block.index) != block.generation {
                return Err(stale(block));
            }
            private.add_reference(block.index);
            let mine = private.mine(block.index);
            drop(private);
            return Ok(self.hold(mine, block.generation));
        }
        if private.is_lent(block.index) && private.generation(block.index) != block.generation {
            // An attempt would end with the bit cleared that keeps the block for guests.
            return Err(stale(block));
        }
        if !shared.words().take(slot, block.generation) {
            drop(private);
            self.try_free(block.index, Keep::Warm)?;
            return Err(stale(block));
        }
        let mine = Mine { index: block.index, span: self.control.checked_span(shared)? };
        let is_apart = private.insert(mine, block.generation);
        drop(private);
        if is_apart { Ok(self.hold(mine, block.generation)) } else { Err(self.refuse_overlap(mine, slot)) }
    }

    /// Makes an idle recorded block new: it comes to life under its next generation, held by this process.
    pub(super) fn recycle(self: &Arc<Self>, block: BlockId) -> Result<Option<Hold>> {
        let slot = self.slot()?;
        let Some(shared) = self.control.block_quietly(block.index) else { return Ok(None) };
        let mut private = self.private.lock();
        if private.references(block.index) > 0 || private.is_lent(block.index) {
            return Ok(None);
        }
        if !shared.words().renew(slot, block.generation) {
            drop(private);
            // This bit may have been what kept somebody else from freeing it.
            self.try_free(block.index, Keep::Warm)?;
            return Ok(None);
        }
        let mine = Mine { index: block.index, span: self.control.checked_span(shared)? };
        let generation = block.generation.wrapping_add(1);
        let is_apart = private.insert(mine, generation);
        drop(private);
        if is_apart { Ok(Some(self.hold(mine, generation))) } else { Err(self.refuse_overlap(mine, slot)) }
    }

    /// Has the processor fetch the line of a block that takes and drops write to. Nothing else happens.
    #[inline]
    pub(crate) fn fetch_to_hold(&self, block: BlockId) {
        if let Some(shared) = self.control.block_quietly(block.index) {
            fetch_to_write(&shared.word);
        }
    }

    /// Whether a block is alive, as far as one look can tell.
    #[inline]
    pub fn is_live(&self, block: BlockId) -> bool {
        self.control.block_quietly(block.index).is_some_and(|shared| shared.words().load().is_live(block.generation))
    }

    /// Takes the block of a ticket and removes the ticket. A ticket that is gone already is no error as long as
    /// somebody keeps the block.
    ///
    /// # Errors
    /// `Stale` when the block is gone.
    pub fn claim(self: &Arc<Self>, block: BlockId, ticket: TicketId, deadline: &Deadline) -> Result<Hold> {
        let hold = self.take(block)?;
        point(Point::ClaimTaken);
        let Some(record) = self.control.record_quietly(ticket.index) else { return Ok(hold) };
        if is_named(record, ticket) {
            let lock = self.lock(deadline)?;
            if is_named(record, ticket) && block_of(record) == block {
                self.remove(&lock, ticket.index)?;
            }
        }
        Ok(hold)
    }

    /// A ticket for a block that the caller holds; none when the ticket budget is used up.
    pub(super) fn issue(self: &Arc<Self>, block: BlockId, deadline: &Deadline) -> Result<Option<TicketId>> {
        let me = self.slot()?;
        // RAW: only told from others.
        let generation = self.control.participant(me)?.generation.load(Relaxed);
        let origin =
            Origin { sender: me | generation << 16, id: self.pid.load(Relaxed), stamp: monotonic().as_nanos() as u64 };
        let budget = self.control.geometry().ticket_budget;
        if self.control.ticket_count() >= budget {
            // Perhaps some are for processes that are over by now.
            self.reclaim_undeliverable(deadline)?;
            if self.control.ticket_count() >= budget {
                return Ok(None);
            }
        }
        let ticket = self.add(block, origin, deadline)?;
        // After the record exists: whoever is about to let the arena go finds one or the other.
        if ticket.is_some() {
            fork::keep_in_flight(self);
        }
        Ok(ticket)
    }

    /// Whether a reference that this process sent may still be in flight.
    pub(super) fn has_own_tickets(&self) -> bool {
        let Ok(me) = self.slot() else { return false };
        let Ok(tenant) = self.control.participant(me) else { return false };
        // RAW: only compared.
        let sender = me | tenant.generation.load(Relaxed) << 16;
        let is_mine = |record: &Record| record.nonce.load(SeqCst) != 0 && record.sender.load(Relaxed) == sender;
        (0..self.control.records_ready()).any(|index| self.control.record_quietly(index).is_some_and(is_mine))
    }

    /// Says for which process tickets of this one are. When it is over, anybody may take them back.
    ///
    /// # Errors
    /// `Poisoned`; `Timeout` at `deadline`.
    pub fn name_receiver(&self, tickets: &[TicketId], pid: u32, deadline: &Deadline) -> Result<()> {
        let numbering = proc::pid_namespace().unwrap_or(0) as u32;
        for some in tickets.chunks(BATCH) {
            let _lock = self.lock(deadline)?;
            for &id in some {
                let Some(record) = self.control.record_quietly(id.index).filter(|record| is_named(record, id)) else {
                    continue;
                };
                record.numbering.store(numbering, Relaxed);
                self.control.header().addressed.store(1, Relaxed);
                record.receiver.store(pid, Release);
                point(Point::IssueAddressed);
            }
        }
        Ok(())
    }

    /// Takes tickets back that nobody has claimed, and returns the bytes of the blocks that came free by it.
    ///
    /// # Errors
    /// `Poisoned`; `Timeout` at `deadline`.
    #[doc(hidden)]
    pub fn withdraw(&self, tickets: &[TicketId], deadline: &Deadline) -> Result<u64> {
        let mut freed = 0;
        for &id in tickets {
            if let Some(index) = self.end_record(id, deadline)? {
                let bytes = self.len_bytes(self.control.block(index)?);
                freed += if self.try_free(index, Keep::Warm)? { bytes } else { 0 };
            }
        }
        Ok(freed)
    }

    /// Takes back what was sent to processes that are over, and was not claimed by them. Returns the bytes that came
    /// free.
    ///
    /// # Errors
    /// `Poisoned`; `Timeout` at `deadline`.
    #[doc(hidden)]
    pub fn reclaim_undeliverable(&self, deadline: &Deadline) -> Result<u64> {
        if self.control.header().addressed.load(Relaxed) == 0 {
            return Ok(0);
        }
        // Many tickets are for one process, and asking is a system call.
        let (numbering, known) = (proc::pid_namespace().unwrap_or(0) as u32, RefCell::new(HashMap::new()));
        let is_over = |pid| *known.borrow_mut().entry(pid).or_insert_with(|| process::is_over(pid));
        let wanted = |record: &Record| {
            // RAW: only asked about; a number that is nobody's is over.
            let receiver = record.receiver.load(Acquire);
            let is_known = receiver != 0 && numbering != 0 && record.numbering.load(Relaxed) == numbering;
            is_ticket(record) && is_known && is_over(receiver)
        };
        self.free_where(&wanted, deadline)
    }

    /// A record by which `parent` keeps `child`; the caller holds both. None when the table is full.
    pub(super) fn adopt(&self, parent: BlockId, child: BlockId, deadline: &Deadline) -> Result<Option<TicketId>> {
        // Set before any record names it: a free that finds it 0 has no child to look for.
        self.control.block(parent.index)?.is_parent.store(1, SeqCst);
        point(Point::AdoptMarked);
        self.add(child, Origin::parent(parent), deadline)
    }

    /// The same in an arena that nobody has, where no lock is to be had and the numbers of records are counted later.
    pub(super) fn restore(&self, parent: BlockId, child: BlockId) -> Result<()> {
        let full =
            || self.control.poison("a record of what has a name was written over, and there is no place for another");
        let index = self.find_free_record()?.ok_or_else(full)?;
        self.control.block(parent.index)?.is_parent.store(1, SeqCst);
        point(Point::MendRecords);
        let record = self.control.record(index)?;
        Origin::parent(parent).write(record, child);
        record.nonce.store(self.next_nonce(), SeqCst);
        point(Point::MendRecords);
        Ok(())
    }

    fn add(&self, block: BlockId, origin: Origin, deadline: &Deadline) -> Result<Option<TicketId>> {
        // BOUND: each round commits a step of the table, which has an end.
        loop {
            let lock = self.lock(deadline)?;
            if let Some(index) = self.find_free_record()? {
                return self.fill_in(&lock, index, block, origin).map(Some);
            }
            drop(lock);
            if !self.grow_records(deadline)? {
                return Ok(None);
            }
        }
    }

    fn find_free_record(&self) -> Result<Option<u32>> {
        let (hint, ready) = (self.control.record_hint(), self.control.records_ready());
        // A hint may be wrong, so the indices below it come last.
        for index in (hint..ready).chain(0..hint.min(ready)) {
            if self.control.record(index)?.nonce.load(SeqCst) == 0 {
                self.control.header().record_hint.store(index, Relaxed);
                point(Point::IssueExt);
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    fn fill_in(&self, _lock: &ArenaLock, index: u32, block: BlockId, origin: Origin) -> Result<TicketId> {
        let shared = self.control.block(block.index)?;
        shared.records.fetch_add(1, SeqCst);
        point(Point::IssueExt);
        // The bump makes a free that looked before this record existed fail.
        shared.words().bump();
        point(Point::IssueBumped);
        let record = self.control.record(index)?;
        origin.write(record, block);
        point(Point::IssueWritten);
        let nonce = self.next_nonce();
        record.nonce.store(nonce, SeqCst);
        point(Point::IssueLive);
        if origin.sender != PARENT {
            self.control.header().ticket_count.store(self.control.ticket_count() + 1, Relaxed);
        }
        point(Point::IssueCounted);
        Ok(TicketId { index, nonce })
    }

    /// Different for each ticket of this process, and not to be guessed by another.
    fn next_nonce(&self) -> u64 {
        static SEED: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
        let count = self.nonces.fetch_add(1, Relaxed);
        let pid = u64::from(self.pid.load(Relaxed));
        let mixed = (SEED.get_or_init(random_u64) ^ pid.rotate_left(40)).wrapping_add(count);
        mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15).max(1)
    }

    /// Removes a record, under the lock. The caller tries to free its block after the lock is open.
    fn remove(&self, _lock: &ArenaLock, index: u32) -> Result<()> {
        let record = self.control.record(index)?;
        let block = self.control.block(self.control.block_of(record)?)?;
        record.nonce.store(0, SeqCst);
        point(Point::RemoveFree);
        // BOUND: who counts records has the lock, so that no round is lost.
        if block.records.fetch_update(SeqCst, SeqCst, |count| count.checked_sub(1)).is_err() {
            return Err(self.control.poison("a recorded block counts no record"));
        }
        point(Point::RemoveExt);
        let header = self.control.header();
        if record.sender.load(Relaxed) != PARENT {
            header.ticket_count.store(self.control.ticket_count().saturating_sub(1), Relaxed);
        }
        header.record_hint.fetch_min(index, Relaxed);
        point(Point::RemoveCounted);
        Ok(())
    }

    /// Removes one record, if it is still the one that `id` names, and frees its block if nothing else keeps it.
    pub(super) fn disown(&self, id: TicketId, deadline: &Deadline) -> Result<()> {
        self.end_record(id, deadline)?.map_or(Ok(()), |block| self.free_unkept(block))
    }

    /// Removes one record, if it is still the one that `id` names; returns the index of its block.
    pub(super) fn end_record(&self, id: TicketId, deadline: &Deadline) -> Result<Option<u32>> {
        let Some(record) = self.control.record_quietly(id.index) else { return Ok(None) };
        let lock = self.lock(deadline)?;
        if !is_named(record, id) {
            return Ok(None);
        }
        let block = self.control.block_of(record)?;
        self.remove(&lock, id.index).map(|()| Some(block))
    }

    /// How many bytes the block of a word that was read from shared memory has, as far as one look can tell: a hint, as
    /// nothing is held.
    #[doc(hidden)]
    pub fn claimed_bytes(&self, block: BlockId) -> u64 {
        let span = self.control.block_quietly(block.index).and_then(|shared| self.control.sane_span(shared));
        span.map_or(0, super::control::Span::len_bytes)
    }

    /// Frees the block of an index if nobody keeps it. Never waits: while somebody has the arena lock, it stays.
    ///
    /// # Errors
    /// `Poisoned`; `Attach` in a process without a slot.
    #[doc(hidden)]
    pub fn free_unkept(&self, block: u32) -> Result<()> {
        self.try_free(block, Keep::Warm).map(drop)
    }

    /// The same, but its memory is kept for reuse only while at most `most_warm` bytes are.
    ///
    /// # Errors
    /// As [`Self::free_unkept`].
    #[doc(hidden)]
    pub fn free_unkept_beyond(&self, block: u32, most_warm: u64) -> Result<()> {
        let keep = if self.warm_bytes() > most_warm { Keep::Nothing } else { Keep::Warm };
        self.try_free(block, keep).map(drop)
    }

    /// Gives memory that is kept for reuse back until at most `most_warm` bytes are, as far as that goes without a wait.
    ///
    /// # Errors
    /// As [`Self::free_unkept`].
    #[doc(hidden)]
    pub fn trim_warm(&self, most_warm: u64) -> Result<()> {
        match self.trim(self.warm_bytes().saturating_sub(most_warm), &Deadline::now()) {
            Err(error) if error.kind() != Kind::Timeout => Err(error),
            _ => Ok(()),
        }
    }

    /// The records by which a parent keeps its children, and the children.
    pub(super) fn children(&self, parent: BlockId) -> Result<Vec<(TicketId, BlockId)>> {
        let mut all = Vec::new();
        for index in 0..self.control.records_ready() {
            let record = self.control.record(index)?;
            // RAW: only told from others.
            let nonce = record.nonce.load(SeqCst);
            if nonce != 0 && is_child(record, parent) {
                all.push((TicketId { index, nonce }, block_of(record)));
            }
        }
        Ok(all)
    }

    /// Removes the records of a parent that is going. Its caller owns it as `Freeing`, and has the children looked at
    /// afterwards, not inside: a peer can write a chain of parents that is longer than the stack.
    pub(super) fn leave_children(&self, index: u32, deadline: &Deadline) -> Result<()> {
        let parent = self.control.block(index)?;
        if parent.is_parent.load(SeqCst) == 0 {
            return Ok(());
        }
        let name = BlockId { index, generation: parent.words().load().generation };
        let defer = |children: &[u32]| {
            children.iter().for_each(|&child| self.defer_child(child));
            Ok(())
        };
        self.remove_where(&|record| is_child(record, name), deadline, defer)?;
        // Only now: whoever inherits a free that died half-way looks again.
        parent.is_parent.store(0, SeqCst);
        point(Point::RemoveChildren);
        Ok(())
    }

    /// Commits more of the table of records. False: it is at its end, or there is no memory.
    fn grow_records(&self, deadline: &Deadline) -> Result<bool> {
        let geometry = self.control.geometry();
        let from = self.control.records_ready();
        let to = (from + TABLE_STEP).min(geometry.records);
        let entry = |index: u32| geometry.records_at() + u64::from(index) * size_of::<Record>() as u64;
        if from == to || self.backing.commit(entry(from)..entry(to)).is_err() {
            return Ok(false);
        }
        point(Point::GrowCommitted);
        let lock = self.lock(deadline)?;
        if self.control.records_ready() < to {
            self.control.header().records_ready.store(to, Release);
        }
        point(Point::GrowReady);
        drop(lock);
        Ok(true)
    }

    /// Takes back every ticket issued at least `older_than` ago, and returns the bytes of the blocks that came
    /// free by it. A receiver that comes later gets `Stale`.
    ///
    /// # Errors
    /// `Poisoned`; `Timeout` at `deadline`.
    pub fn reclaim(&self, older_than: Duration, deadline: &Deadline) -> Result<u64> {
        self.sweep_all()?;
        let latest = monotonic().saturating_sub(older_than).as_nanos() as u64;
        let freed = self.free_where(&|record| is_ticket(record) && record.stamp.load(Relaxed) <= latest, deadline)?;
        fork::let_go();
        Ok(freed)
    }

    /// The same in all arenas of which this process has nothing left but tickets that it issued.
    ///
    /// # Errors
    /// As [`Self::reclaim`].
    #[doc(hidden)]
    pub fn reclaim_kept(older_than: Duration, deadline: &Deadline) -> Result<u64> {
        Self::kept_in_flight().iter().map(|arena| arena.reclaim(older_than, deadline)).sum()
    }

    /// Takes back what dead processes sent and nobody claimed.
    pub(super) fn reclaim_from_the_dead(&self, deadline: &Deadline) -> Result<u64> {
        self.free_where(&|record| is_ticket(record) && !self.is_sender_alive(record), deadline)
    }

    fn is_sender_alive(&self, ticket: &Record) -> bool {
        is_sender_alive(&self.control, ticket, &|slot| self.slot() == Ok(slot) || self.is_alive(slot))
    }

    /// Removes records, and frees what only they kept; says how many bytes that is.
    fn free_where(&self, wanted: &dyn Fn(&Record) -> bool, deadline: &Deadline) -> Result<u64> {
        let mut freed = 0_u64;
        self.remove_where(wanted, deadline, |blocks| {
            freed = freed.saturating_add(self.free_all(blocks, deadline)?);
            Ok(())
        })?;
        Ok(freed)
    }

    /// Removes records, and gives their blocks to `settle` each time the arena lock is free again.
    fn remove_where(
        &self,
        wanted: &dyn Fn(&Record) -> bool,
        deadline: &Deadline,
        mut settle: impl FnMut(&[u32]) -> Result<()>,
    ) -> Result<()> {
        let mut next = 0;
        // BOUND: the table; each round ends behind where it began.
        while next < self.control.records_ready() {
            // Looked up without the lock, because asking who is alive is a system call; checked again under it.
            let found = self.records_where(&mut next, wanted)?;
            if found.is_empty() {
                continue;
            }
            let lock = self.lock(deadline)?;
            let mut blocks = Vec::with_capacity(BATCH);
            for (index, nonce) in found {
                let record = self.control.record(index)?;
                if record.nonce.load(SeqCst) == nonce {
                    blocks.push(self.control.block_of(record)?);
                    self.remove(&lock, index)?;
                }
            }
            drop(lock);
            settle(&blocks)?;
        }
        Ok(())
    }

    /// Frees those of these blocks that nobody keeps; says how many bytes came free. After an error the rest is freed
    /// later.
    fn free_all(&self, blocks: &[u32], deadline: &Deadline) -> Result<u64> {
        let (mut freed, mut outcome, mut deadline) = (0_u64, Ok(()), *deadline);
        for &index in blocks {
            let span = self.control.sane_span(self.control.block(index)?);
            match self.free(index, Keep::Warm, &deadline) {
                Ok(is_free) if is_free => freed = freed.saturating_add(span.map_or(0, |span| span.len_bytes())),
                Ok(_) => {}
                Err(error) => (outcome, deadline) = (outcome.and(Err(error)), Deadline::now()),
            }
        }
        outcome.map(|()| freed)
    }

    fn records_where(&self, next: &mut u32, wanted: &dyn Fn(&Record) -> bool) -> Result<Vec<(u32, u64)>> {
        let mut found = Vec::with_capacity(BATCH);
        // BOUND: the table.
        while *next < self.control.records_ready() && found.len() < BATCH {
            let record = self.control.record(*next)?;
            // RAW: only told from others.
            let nonce = record.nonce.load(SeqCst);
            if nonce != 0 && wanted(record) {
                found.push((*next, nonce));
            }
            *next += 1;
        }
        Ok(found)
    }
}

/// Where a record comes from.
#[derive(Debug, Clone, Copy)]
struct Origin {
    sender: u32,
    /// The sender's process id, or the parent's index.
    id: u32,
    stamp: u64,
}

impl Origin {
    fn parent(parent: BlockId) -> Self {
        Self { sender: PARENT, id: parent.index, stamp: parent.generation.into() }
    }

    /// All of a record that keeps `block`, but for its nonce.
    fn write(self, record: &Record, block: BlockId) {
        record.block.store(block.index, Relaxed);
        record.generation.store(block.generation, Relaxed);
        record.sender.store(self.sender, Relaxed);
        record.origin.store(self.id, Relaxed);
        record.stamp.store(self.stamp, Relaxed);
        record.receiver.store(0, Relaxed);
        record.numbering.store(0, Relaxed);
    }
}

/// Whether a record counts, and is the one that `id` names. A name from outside may have the nonce of no record.
fn is_named(record: &Record, id: TicketId) -> bool {
    id.nonce != 0 && record.nonce.load(SeqCst) == id.nonce
}

pub(super) fn is_ticket(record: &Record) -> bool {
    record.sender.load(Relaxed) != PARENT
}

/// Whether the sender of a ticket still is the tenant of its slot, and lives.
pub(super) fn is_sender_alive(control: &Control, ticket: &Record, is_alive: &dyn Fn(u32) -> bool) -> bool {
    // RAW: the slot in it is looked up.
    let sender = ticket.sender.load(Relaxed);
    let (slot, generation) = (sender & 0xffff, sender >> 16);
    let Ok(tenant) = control.participant(slot) else { return false };
    tenant.state.load(Acquire) != 0 && tenant.generation.load(Relaxed) & 0xffff == generation && is_alive(slot)
}

pub(super) fn is_child(record: &Record, parent: BlockId) -> bool {
    record.sender.load(Relaxed) == PARENT
        && record.origin.load(Relaxed) == parent.index
        && record.stamp.load(Relaxed) == u64::from(parent.generation)
}

fn block_of(record: &Record) -> BlockId {
    // RAW: a name, which is looked up.
    BlockId { index: record.block.load(Relaxed), generation: record.generation.load(Relaxed) }
}

fn stale(block: BlockId) -> Error {
    let BlockId { index, generation } = block;
    let message = format!(
        "expected block {index} of generation {generation} to be alive, but its last holder dropped it: keep what \
         the reference names until the receiver has opened it"
    );
    Stale { index: Some(index), generation: Some(generation), message: message.into() }.into()
}
