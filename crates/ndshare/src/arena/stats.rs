//! What an arena holds, and who holds it, told by a process that takes part.

use super::control::Block;
use super::deadline::Deadline;
use super::fork;
use super::state::Arena;
use super::tables::{ParticipantStats, Stats, Tables, TicketStats, len_bytes};
use crate::error::{Holder, Kind, Result};
use crate::layout::human;
use crate::prim::Ordering::Relaxed;
use std::time::Duration;

/// How long a look may wait for the arena lock, to take back what nobody will receive.
const BRIEFLY: Duration = Duration::from_millis(20);
/// How many of each kind an error names.
const NAMED: usize = 3;

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
        let (committed, owner) = (self.backing.committed_bytes().unwrap_or(0), self.lock_owner()?);
        self.slot()?;
        self.tables(|tables| tables.stats(self.id(), committed, owner))
    }

    /// What `look` makes of the tables.
    fn tables<T>(&self, look: impl FnOnce(&Tables<'_>) -> T) -> T {
        look(&Tables { control: &self.control, me: self.slot().ok(), is_alive: &|slot| self.is_alive(slot) })
    }

    /// Frees what was let go of while somebody had the arena lock, if that is free now.
    fn tidy_up(&self) -> Result<()> {
        let now = Deadline::now();
        let done = self.work_off(usize::MAX, &now).and_then(|()| self.free_unkept_ones(&now));
        done.or_else(|error| if error.kind() == Kind::Timeout { Ok(()) } else { Err(error) })
    }

    /// The length of a block that may be going at this moment.
    pub(super) fn len_bytes(&self, block: &Block) -> u64 {
        len_bytes(&self.control, block)
    }

    /// Who holds how much, the largest first.
    pub(super) fn holders(&self) -> Vec<Holder> {
        let mut holders = self.tables(|tables| tables.participants()).unwrap_or_default();
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
        let mut tickets = self.tables(|tables| tables.tickets()).unwrap_or_default();
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
