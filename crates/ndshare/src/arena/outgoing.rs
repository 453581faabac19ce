//! What was pickled for one process that is being started.
//!
//! Such references are for that process and for nobody else. As soon as it has a number they bear it, so that every
//! process can judge them; when it is over, what it did not claim is taken back.

use super::deadline::Deadline;
use super::ids::TicketId;
use super::state::Arena;
use crate::os::process::is_over;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// How long a call may wait for the arena's lock on behalf of what is on its way. Nobody who starts a process, or looks
/// whether one is over, has asked for a wait; what is not done now is done at the next look.
pub const BRIEFLY: Duration = Duration::from_millis(50);

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
    /// Whether the tickets bear the receiver's number.
    is_named: bool,
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
    pub fn name_receiver(&self, pid: u32) {
        self.lock().receiver = Some(pid);
        self.settle();
    }

    /// Looks at the process: if it is over, or never was, what it did not claim is taken back. Returns the bytes that came
    /// free. It waits briefly at most; what could not be done is done at another look, or by whoever is short of memory.
    pub fn settle(&self) -> u64 {
        if self.sender != std::process::id() {
            // The lock may be one that a thread of the parent has.
            return 0;
        }
        let (receiver, is_named, tickets) = {
            let state = self.lock();
            (state.receiver, state.is_named, state.tickets.clone())
        };
        match receiver {
            // Whoever looks for an end may be told of one too early: a forkserver has died, and the process lives.
            Some(pid) if !is_over(pid) => {
                if !is_named {
                    self.name(&tickets, pid);
                }
                0
            }
            _ => self.take_back(&tickets),
        }
    }

    fn name(&self, tickets: &[(Weak<Arena>, TicketId)], pid: u32) {
        let name = |(arena, ids): (Arc<Arena>, Vec<TicketId>)| arena.name_receiver(&ids, pid, &briefly());
        let is_named = by_arena(tickets).into_iter().try_for_each(name).is_ok();
        self.lock().is_named = is_named;
    }

    fn take_back(&self, tickets: &[(Weak<Arena>, TicketId)]) -> u64 {
        let (freed, withdrawn) = withdraw_soon(tickets);
        self.lock().tickets.retain(|(_, ticket)| !withdrawn.contains(ticket));
        freed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        // A process that runs may still claim them, and they bear its number. One that was never started will not.
        self.settle();
    }
}

/// Takes tickets back that nobody will claim; what cannot be taken back soon stays listed as undelivered. Returns the
/// bytes that came free, and which are taken back.
pub fn withdraw_soon(tickets: &[(Weak<Arena>, TicketId)]) -> (u64, Vec<TicketId>) {
    let (mut freed, mut withdrawn) = (0, Vec::new());
    for (arena, ids) in by_arena(tickets) {
        let Ok(bytes) = arena.withdraw(&ids, &briefly()) else { continue };
        freed += bytes;
        withdrawn.extend(ids);
    }
    (freed, withdrawn)
}

fn briefly() -> Deadline<'static> {
    Deadline::new(Some(BRIEFLY), &|| Ok(()))
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
