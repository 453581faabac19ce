//! What the tables of an arena say. Read without a lock: each number is right, their sum may be a moment old.

use super::control::{Block, Control, GRANULE_BYTES};
use super::records::{is_sender_alive, is_ticket};
use super::state::limit_name;
use super::word::State;
use crate::error::{Process, Result};
use crate::os::monotonic;
use crate::prim::Ordering::{Relaxed, SeqCst};

/// A picture of an arena.
#[derive(Debug, Clone, PartialEq)]
pub struct Stats {
    /// The arena's id.
    pub id: u64,
    /// Bytes that may be in blocks.
    pub budget_bytes: u64,
    /// Address space of the data part.
    pub capacity_bytes: u64,
    /// Bytes in live blocks, as rounded up at allocation.
    pub used_bytes: u64,
    /// Bytes kept for reuse, by the arena or by a process.
    pub warm_bytes: u64,
    /// Bytes of the memory file that are in memory, tables included.
    pub committed_bytes: u64,
    /// Live blocks.
    pub blocks: u32,
    /// The processes that take part.
    pub participants: Vec<ParticipantStats>,
    /// References in flight.
    pub tickets: Vec<TicketStats>,
    /// How many references may be in flight at a time.
    pub ticket_budget: u32,
    /// What set the budget.
    pub limit: String,
    /// Who has the arena lock, if it was taken for longer than a look: allocations and hand-overs wait for it.
    pub lock_owner: Option<Process>,
}

/// One process that takes part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParticipantStats {
    /// Its process id.
    pub pid: u32,
    /// Bytes in blocks that it holds; shared ones count for each holder.
    pub bytes: u64,
    /// Blocks that it holds.
    pub blocks: u32,
    /// Whether it lives; a dead one is swept soon.
    pub alive: bool,
    /// Whether it is the caller.
    pub me: bool,
}

/// One reference in flight.
#[derive(Debug, Clone, PartialEq)]
pub struct TicketStats {
    /// Bytes of its block.
    pub bytes: u64,
    /// The process that sent it.
    pub sender_pid: u32,
    /// Whether that process lives.
    pub sender_alive: bool,
    /// The process that it is for, where that is known.
    pub receiver_pid: Option<u32>,
    /// Seconds since it was sent.
    pub age_s: f64,
}

/// Tables, and who looks at them.
pub(super) struct Tables<'a> {
    pub(super) control: &'a Control,
    /// The slot of whoever looks, if it takes part.
    pub(super) me: Option<u32>,
    /// Whether the tenant of a slot lives, or may live.
    pub(super) is_alive: &'a dyn Fn(u32) -> bool,
}

impl Tables<'_> {
    /// All of it.
    pub(super) fn stats(&self, id: u64, committed_bytes: u64, lock_owner: Option<Process>) -> Result<Stats> {
        let (control, geometry) = (self.control, self.control.geometry());
        let (used_bytes, blocks) = self.live_blocks(&|_| true)?;
        let head = control.span_header();
        let kept = control.sum(&head.used).saturating_add(control.sum(&head.warm)).saturating_mul(GRANULE_BYTES);
        Ok(Stats {
            id,
            budget_bytes: geometry.budget,
            capacity_bytes: geometry.data_len,
            used_bytes,
            warm_bytes: kept.saturating_sub(used_bytes),
            committed_bytes,
            blocks,
            participants: self.participants()?,
            tickets: self.tickets()?,
            ticket_budget: geometry.ticket_budget,
            limit: limit_name(control),
            lock_owner,
        })
    }

    /// Bytes and number of the live blocks among these.
    fn live_blocks(&self, is_meant: &dyn Fn(&Block) -> bool) -> Result<(u64, u32)> {
        let (mut bytes, mut blocks) = (0_u64, 0);
        for index in 0..self.control.high() {
            let block = self.control.block(index)?;
            if is_meant(block) && block.words().load().state == State::Live {
                bytes = bytes.saturating_add(len_bytes(self.control, block));
                blocks += 1;
            }
        }
        Ok((bytes, blocks))
    }

    fn lives(&self, slot: u32) -> bool {
        self.me == Some(slot) || (self.is_alive)(slot)
    }

    pub(super) fn participants(&self) -> Result<Vec<ParticipantStats>> {
        let mut all = Vec::new();
        for slot in 0..self.control.geometry().participants {
            if self.control.participant(slot)?.state.load(SeqCst) == 0 {
                continue;
            }
            let (bytes, blocks) = self.live_blocks(&|block| block.words().has_bit(slot))?;
            let (pid, alive) = (self.control.pid(slot)?, self.lives(slot));
            all.push(ParticipantStats { pid, bytes, blocks, alive, me: self.me == Some(slot) });
        }
        Ok(all)
    }

    pub(super) fn tickets(&self) -> Result<Vec<TicketStats>> {
        let now = monotonic().as_nanos() as u64;
        let mut all = Vec::new();
        for index in 0..self.control.records_ready() {
            let ticket = self.control.record(index)?;
            if ticket.nonce.load(SeqCst) == 0 || !is_ticket(ticket) {
                continue;
            }
            let block = self.control.block(self.control.block_of(ticket)?)?;
            all.push(TicketStats {
                bytes: len_bytes(self.control, block),
                // RAW: only told.
                sender_pid: ticket.origin.load(Relaxed),
                sender_alive: is_sender_alive(self.control, ticket, &|slot| self.lives(slot)),
                // RAW: only told.
                receiver_pid: Some(ticket.receiver.load(Relaxed)).filter(|&pid| pid != 0),
                // RAW: only told.
                age_s: now.saturating_sub(ticket.stamp.load(Relaxed)) as f64 * 1e-9,
            });
        }
        Ok(all)
    }
}

/// The length of a block that may be going at this moment.
pub(super) fn len_bytes(control: &Control, block: &Block) -> u64 {
    control.sane_span(block).map_or(0, |span| span.len_bytes())
}
