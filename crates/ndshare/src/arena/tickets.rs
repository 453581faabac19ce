//! Tickets: references in flight. A ticket keeps its block until the first receiver claims it, so that a worker
//! may put an array in a queue and exit at once.
//!
//! A ticket is a record: issuing one raises the block's count of records, then fills the record in; removing one
//! empties the record, then lowers the count. A death in between leaves the count too high, never too low, and
//! the sweep of the dead counts anew. All of it happens under the arena lock.

use super::control::Ticket;
use super::lock::{ArenaLock, Patience};
use super::private::Mine;
use super::{Arena, BlockId, Hold, Keep, TicketId};
use crate::error::{Error, Kind, Result};
use crate::os::kill::{Point, point};
use crate::os::{monotonic, random_u64};
use crate::prim::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::Arc;
use std::time::Duration;

/// The table of tickets is committed in steps of so many.
const TABLE_STEP: u32 = 2048;
/// How many tickets one hold of the arena lock takes back at most.
const BATCH: usize = 64;

impl Arena {
    /// Takes a reference to a block that somebody else keeps, without a ticket.
    ///
    /// # Errors
    /// `Stale` when the block is gone.
    pub fn take(self: &Arc<Self>, block: BlockId) -> Result<Hold> {
        let slot = self.slot()?;
        let shared = self.control.block(block.index).map_err(|_| stale(block))?;
        let mut private = self.private.lock();
        if private.references(block.index) > 0 {
            if private.generation(block.index) != block.generation {
                return Err(stale(block));
            }
            private.add_reference(block.index);
            let mine = Mine { index: block.index, span: shared.span() };
            drop(private);
            return Ok(self.hold(mine, block.generation));
        }
        if !shared.words().take(slot, block.generation) {
            drop(private);
            self.try_free(block.index, Keep::Warm)?;
            return Err(stale(block));
        }
        let mine = Mine { index: block.index, span: self.control.checked_span(shared)? };
        private.insert(mine, block.generation);
        drop(private);
        Ok(self.hold(mine, block.generation))
    }

    /// Takes the block of a ticket and removes the ticket. A ticket that is gone already is no error as long as
    /// somebody keeps the block.
    ///
    /// # Errors
    /// `Stale` when the block is gone.
    pub fn claim(self: &Arc<Self>, block: BlockId, ticket: TicketId, patience: &Patience) -> Result<Hold> {
        let hold = self.take(block)?;
        point(Point::ClaimTaken);
        let Ok(record) = self.control.ticket(ticket.index) else { return Err(stale(block)) };
        if record.nonce.load(SeqCst) == ticket.nonce {
            let lock = self.lock(patience)?;
            if record.nonce.load(SeqCst) == ticket.nonce && block_of(record) == block {
                self.remove(&lock, ticket.index)?;
            }
        }
        Ok(hold)
    }

    /// A ticket for a block that the caller holds; none when the ticket budget is used up.
    pub(super) fn issue(&self, block: BlockId, patience: &Patience) -> Result<Option<TicketId>> {
        loop {
            let lock = self.lock(patience)?;
            if let Some(index) = self.find_free_ticket()? {
                return self.fill_in(&lock, index, block).map(Some);
            }
            drop(lock);
            if !self.grow_tickets(patience) {
                return Ok(None);
            }
        }
    }

    fn find_free_ticket(&self) -> Result<Option<u32>> {
        let header = self.control.header();
        let ready = self.control.tickets_ready();
        if header.ticket_count.load(Relaxed) >= ready {
            return Ok(None);
        }
        for index in header.ticket_hint.load(Relaxed)..ready {
            if self.control.ticket(index)?.nonce.load(SeqCst) == 0 {
                header.ticket_hint.store(index, Relaxed);
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    fn fill_in(&self, _lock: &ArenaLock, index: u32, block: BlockId) -> Result<TicketId> {
        let me = self.slot()?;
        let shared = self.control.block(block.index)?;
        shared.records.fetch_add(1, SeqCst);
        point(Point::IssueExt);
        // The bump makes a free that looked before this record existed fail.
        shared.words().bump();
        point(Point::IssueBumped);
        let ticket = self.control.ticket(index)?;
        ticket.block.store(block.index, Relaxed);
        ticket.generation.store(block.generation, Relaxed);
        ticket.sender.store(me | self.control.participant(me)?.generation.load(Relaxed) << 16, Relaxed);
        ticket.sender_pid.store(std::process::id(), Relaxed);
        ticket.issued_ns.store(monotonic().as_nanos() as u64, Relaxed);
        point(Point::IssueWritten);
        let nonce = self.next_nonce();
        ticket.nonce.store(nonce, SeqCst);
        point(Point::IssueLive);
        self.control.header().ticket_count.fetch_add(1, Relaxed);
        point(Point::IssueCounted);
        Ok(TicketId { index, nonce })
    }

    /// Different for each ticket of this process, and not to be guessed by another.
    fn next_nonce(&self) -> u64 {
        static SEED: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
        let count = self.nonces.fetch_add(1, Relaxed);
        let pid = u64::from(std::process::id());
        let mixed = (SEED.get_or_init(random_u64) ^ pid.rotate_left(40)).wrapping_add(count);
        mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15).max(1)
    }

    /// Removes a ticket, under the lock. The caller tries to free its block after the lock is open.
    fn remove(&self, _lock: &ArenaLock, index: u32) -> Result<()> {
        let ticket = self.control.ticket(index)?;
        let block = self.control.block(ticket.block.load(Relaxed))?;
        ticket.nonce.store(0, SeqCst);
        point(Point::RemoveFree);
        if block.records.load(SeqCst) == 0 {
            return Err(self.control.poison("a ticket's block has no record"));
        }
        block.records.fetch_sub(1, SeqCst);
        point(Point::RemoveExt);
        let header = self.control.header();
        header.ticket_count.fetch_sub(1, Relaxed);
        header.ticket_hint.fetch_min(index, Relaxed);
        point(Point::RemoveCounted);
        Ok(())
    }

    /// Commits more of the table of tickets. False: it is at its end, or there is no memory.
    fn grow_tickets(&self, patience: &Patience) -> bool {
        let geometry = self.control.geometry();
        let from = self.control.tickets_ready();
        let to = (from + TABLE_STEP).min(geometry.tickets);
        let entry = |index: u32| geometry.tickets_at() + u64::from(index) * size_of::<Ticket>() as u64;
        if from == to || self.backing.commit(entry(from)..entry(to)).is_err() {
            return false;
        }
        point(Point::GrowCommitted);
        let Ok(lock) = self.lock(patience) else { return false };
        if self.control.tickets_ready() < to {
            self.control.header().tickets_ready.store(to, Release);
        }
        point(Point::GrowReady);
        drop(lock);
        true
    }

    /// Takes back every ticket issued at least `older_than` ago, and returns the bytes of the blocks that came
    /// free by it. A receiver that comes later gets `Stale`.
    ///
    /// # Errors
    /// `Poisoned`; what `patience` says.
    pub fn reclaim(&self, older_than: Duration, patience: &Patience) -> Result<u64> {
        self.sweep_all()?;
        let latest = monotonic().saturating_sub(older_than).as_nanos() as u64;
        self.reclaim_where(&|ticket| ticket.issued_ns.load(Relaxed) <= latest, patience)
    }

    /// Takes back what dead processes sent and nobody claimed.
    pub(super) fn reclaim_from_the_dead(&self, patience: &Patience) -> Result<u64> {
        self.reclaim_where(&|ticket| !self.is_sender_alive(ticket), patience)
    }

    pub(super) fn is_sender_alive(&self, ticket: &Ticket) -> bool {
        let sender = ticket.sender.load(Relaxed);
        let (slot, generation) = (sender & 0xffff, sender >> 16);
        let Ok(tenant) = self.control.participant(slot) else { return false };
        tenant.state.load(Acquire) != 0
            && tenant.generation.load(Relaxed) & 0xffff == generation
            && (self.slot() == Ok(slot) || self.backing.is_alive(slot))
    }

    fn reclaim_where(&self, wanted: &dyn Fn(&Ticket) -> bool, patience: &Patience) -> Result<u64> {
        let (mut next, mut freed) = (0, 0);
        while next < self.control.tickets_ready() {
            // Looked up without the lock, because asking who is alive is a system call; checked again under it.
            let found = self.tickets_where(&mut next, wanted)?;
            let lock = self.lock(patience)?;
            let mut blocks = Vec::with_capacity(BATCH);
            for (index, nonce) in found {
                let ticket = self.control.ticket(index)?;
                if ticket.nonce.load(SeqCst) == nonce {
                    blocks.push(ticket.block.load(Relaxed));
                    self.remove(&lock, index)?;
                }
            }
            drop(lock);
            for index in blocks {
                let bytes = self.control.block(index)?.span().len_bytes();
                freed += if self.try_free(index, Keep::Warm)? { bytes } else { 0 };
            }
        }
        Ok(freed)
    }

    fn tickets_where(&self, next: &mut u32, wanted: &dyn Fn(&Ticket) -> bool) -> Result<Vec<(u32, u64)>> {
        let mut found = Vec::with_capacity(BATCH);
        while *next < self.control.tickets_ready() && found.len() < BATCH {
            let ticket = self.control.ticket(*next)?;
            let nonce = ticket.nonce.load(SeqCst);
            if nonce != 0 && wanted(ticket) {
                found.push((*next, nonce));
            }
            *next += 1;
        }
        Ok(found)
    }
}

pub(super) fn block_of(ticket: &Ticket) -> BlockId {
    BlockId { index: ticket.block.load(Relaxed), generation: ticket.generation.load(Relaxed) }
}

fn stale(block: BlockId) -> Error {
    Error::new(
        Kind::Stale,
        format!(
            "expected block {} of generation {} to be alive, but its last holder dropped it: keep the array, or its \
             Ref, until the receiver has opened it",
            block.index, block.generation
        ),
    )
}
