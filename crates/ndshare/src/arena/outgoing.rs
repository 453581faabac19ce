//! What was pickled for one process that is being started.
//!
//! Such references are for that process and for nobody else. As soon as it has a number they bear it, so that every
//! process can judge them; when it is over, what it did not claim is taken back.

use super::ids::TicketId;
use super::patience::Patience;
use super::state::Arena;
use crate::error::Result;
use crate::os::process::is_over;
use std::mem::take;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// How long the end of the last reference to a process may wait for the arena's lock.
const AT_THE_END: Duration = Duration::from_millis(50);

/// The references that one process is to claim. In forked children of their sender it does nothing.
#[derive(Debug)]
pub struct Outgoing {
    sender: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    tickets: Vec<(Weak<Arena>, TicketId)>,
    receiver: Option<u32>,
}

impl Default for Outgoing {
    fn default() -> Self {
        Self { sender: std::process::id(), state: Mutex::default() }
    }
}

impl Outgoing {
    /// Notes a ticket that was issued for the process.
    pub fn add(&self, arena: &Arc<Arena>, ticket: TicketId) {
        self.lock().tickets.push((Arc::downgrade(arena), ticket));
    }

    /// Says which process it is, now that it was started.
    ///
    /// # Errors
    /// `Poisoned`; what `patience` says.
    pub fn name_receiver(&self, pid: u32, patience: &Patience) -> Result<()> {
        let tickets = {
            let mut state = self.lock();
            state.receiver = Some(pid);
            state.tickets.clone()
        };
        by_arena(&tickets).into_iter().try_for_each(|(arena, ids)| arena.name_receiver(&ids, pid, patience))
    }

    /// Takes back what the process, which is over, did not claim. Returns the bytes that came free.
    ///
    /// # Errors
    /// `Poisoned`; what `patience` says.
    pub fn take_back(&self, patience: &Patience) -> Result<u64> {
        if self.sender != std::process::id() {
            return Ok(0);
        }
        let tickets = take(&mut self.lock().tickets);
        let mut freed = 0;
        for (arena, ids) in by_arena(&tickets) {
            freed += arena.withdraw(&ids, patience)?;
        }
        Ok(freed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        // A process that runs may still claim them, and they bear its number. One that was never started will not.
        if self.sender != std::process::id() {
            // The lock may be one that a thread of the parent has.
            return;
        }
        let receiver = self.lock().receiver;
        if receiver.is_none_or(is_over) {
            let _ = self.take_back(&Patience::new(Some(AT_THE_END), &|| Ok(())));
        }
    }
}

/// The tickets of each arena that this process still has.
fn by_arena(tickets: &[(Weak<Arena>, TicketId)]) -> Vec<(Arc<Arena>, Vec<TicketId>)> {
    let mut groups: Vec<(Arc<Arena>, Vec<TicketId>)> = Vec::new();
    for (arena, ticket) in tickets {
        let Some(arena) = arena.upgrade() else { continue };
        match groups.iter_mut().find(|(other, _)| Arc::ptr_eq(other, &arena)) {
            Some((_, group)) => group.push(*ticket),
            None => groups.push((arena, vec![*ticket])),
        }
    }
    groups
}
