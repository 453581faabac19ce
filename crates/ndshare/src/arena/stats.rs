//! What an arena holds, and who holds it. Read without a lock: each number is right, their sum may be a moment old.

use super::control::{Block, GRANULE_BYTES};
use super::deadline::Deadline;
use super::fork;
use super::records::is_ticket;
use super::state::Arena;
use super::word::State;
use crate::error::{Holder, Kind, Process, Result};
use crate::layout::human;
use crate::os::monotonic;
use crate::prim::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

/// How long a look may wait for the arena lock, to take back what nobody will receive.
const BRIEFLY: Duration = Duration::from_millis(20);
/// How many of each kind an error names.
const NAMED: usize = 3;

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

impl Arena {
    /// A picture of the arena, after sweeping the dead and freeing what nobody keeps. Never waits: where somebody has
    /// the arena lock, it says so.
    ///
    /// # Errors
    /// `Poisoned`; `Attach` in a process that has no slot.
    pub fn stats(&self) -> Result<Stats> {
        self.sweep_all()?;
        self.tidy_up()?;
        fork::let_go();
        // Whoever asks why something waits must not wait for it, too.
        let _ = self.reclaim_undeliverable(&Deadline::new(Some(BRIEFLY), &|| Ok(())));
        let (mut used_bytes, mut blocks) = (0_u64, 0);
        for index in 0..self.control.high() {
            let block = self.control.block(index)?;
            if block.words().load().state == State::Live {
                used_bytes = used_bytes.saturating_add(self.len_bytes(block));
                blocks += 1;
            }
        }
        let head = self.control.span_header();
        let kept = self.control.sum(&head.used).saturating_add(self.control.sum(&head.warm));
        let kept = kept.saturating_mul(GRANULE_BYTES);
        Ok(Stats {
            id: self.id(),
            budget_bytes: self.budget_bytes(),
            capacity_bytes: self.control.geometry().data_len,
            used_bytes,
            warm_bytes: kept.saturating_sub(used_bytes),
            committed_bytes: self.backing.committed_bytes().unwrap_or(0),
            blocks,
            participants: self.participant_stats()?,
            tickets: self.ticket_stats()?,
            ticket_budget: self.control.geometry().ticket_budget,
            limit: self.limit_name(),
            lock_owner: self.lock_owner()?,
        })
    }

    /// Frees what was let go of while somebody had the arena lock, if that is free now.
    fn tidy_up(&self) -> Result<()> {
        let now = Deadline::now();
        let done = self.work_off(usize::MAX, &now).and_then(|()| self.free_unkept_ones(&now));
        done.or_else(|error| if error.kind() == Kind::Timeout { Ok(()) } else { Err(error) })
    }

    /// The length of a block that may be going at this moment.
    pub(super) fn len_bytes(&self, block: &Block) -> u64 {
        self.control.sane_span(block).map_or(0, |span| span.len_bytes())
    }

    fn participant_stats(&self) -> Result<Vec<ParticipantStats>> {
        let me = self.slot()?;
        let mut all = Vec::new();
        for slot in 0..self.control.geometry().participants {
            let participant = self.control.participant(slot)?;
            if participant.state.load(SeqCst) == 0 {
                continue;
            }
            let (bytes, blocks) = self.held_by(slot)?;
            let alive = slot == me || self.is_alive(slot);
            let pid = self.control.pid(slot)?;
            all.push(ParticipantStats { pid, bytes, blocks, alive, me: slot == me });
        }
        Ok(all)
    }

    fn held_by(&self, slot: u32) -> Result<(u64, u32)> {
        let (mut bytes, mut blocks) = (0_u64, 0);
        for index in 0..self.control.high() {
            let block = self.control.block(index)?;
            if block.words().has_bit(slot) && block.words().load().state == State::Live {
                bytes = bytes.saturating_add(self.len_bytes(block));
                blocks += 1;
            }
        }
        Ok((bytes, blocks))
    }

    fn ticket_stats(&self) -> Result<Vec<TicketStats>> {
        let now = monotonic().as_nanos() as u64;
        let mut all = Vec::new();
        for index in 0..self.control.records_ready() {
            let ticket = self.control.record(index)?;
            if ticket.nonce.load(SeqCst) == 0 || !is_ticket(ticket) {
                continue;
            }
            let block = self.control.block(self.control.block_of(ticket)?)?;
            all.push(TicketStats {
                bytes: self.len_bytes(block),
                // RAW: only told.
                sender_pid: ticket.origin.load(Relaxed),
                sender_alive: self.is_sender_alive(ticket),
                // RAW: only told.
                receiver_pid: Some(ticket.receiver.load(Relaxed)).filter(|&pid| pid != 0),
                // RAW: only told.
                age_s: now.saturating_sub(ticket.stamp.load(Relaxed)) as f64 * 1e-9,
            });
        }
        Ok(all)
    }

    /// Who holds how much, the largest first.
    pub(super) fn holders(&self) -> Vec<Holder> {
        let mut holders = self.participant_stats().unwrap_or_default();
        holders.sort_by_key(|holder| std::cmp::Reverse(holder.bytes));
        let holder =
            |one: ParticipantStats| Holder { pid: one.pid, bytes: one.bytes, blocks: one.blocks, is_me: one.me };
        holders.into_iter().map(holder).collect()
    }

    /// A sentence that names the largest holders by pid, for an error.
    pub(super) fn largest_holders(&self, holders: &[Holder]) -> String {
        let line = |holder: &Holder| {
            let you = if holder.is_me { ", this process" } else { "" };
            format!("pid {}{you}: {} in {} blocks", holder.pid, human(holder.bytes), holder.blocks)
        };
        let named: Vec<String> = holders.iter().take(NAMED).map(line).collect();
        format!("Largest holders: {}; {}", named.join("; "), self.largest_undelivered())
    }

    /// What is in flight, and the largest of it by sender and age.
    fn largest_undelivered(&self) -> String {
        let mut tickets = self.ticket_stats().unwrap_or_default();
        // Two tickets for one block keep it once; nobody can say which of them counts, so the sum is at most this.
        let in_flight: u64 = tickets.iter().map(|ticket| ticket.bytes).sum();
        tickets.sort_by_key(|ticket| std::cmp::Reverse(ticket.bytes));
        let me = self.pid.load(Relaxed);
        let line = |ticket: &TicketStats| {
            let you = if ticket.sender_pid == me { ", this process" } else { "" };
            let dead = if ticket.sender_alive { "" } else { ", dead" };
            let to = ticket.receiver_pid.map_or(String::new(), |pid| format!(" to pid {pid}"));
            let (bytes, pid, age_s) = (human(ticket.bytes), ticket.sender_pid, ticket.age_s);
            format!("{bytes} from pid {pid}{you}{dead}{to}, {age_s:.1} s ago")
        };
        let named: Vec<String> = tickets.iter().take(NAMED).map(line).collect();
        let sum = format!("{} undelivered hand-overs keep {}", tickets.len(), human(in_flight));
        if named.is_empty() { sum } else { format!("{sum}: {}", named.join("; ")) }
    }
}
