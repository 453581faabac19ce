//! The references that go with a message: once for each block, for whoever comes or for the process that is being started
//! right now.
//!
//! A message is written by one thread, and may be written while another one is.

use super::deadline::Deadline;
use super::hold::Hold;
use super::ids::{BlockId, TicketId};
use super::outgoing::{Outgoing, withdraw_soon};
use super::state::Arena;
use crate::error::{Kind, Result};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

struct Message {
    /// What writes it.
    writer: usize,
    /// What is on its way to the process that is being started, if the message is for one.
    receiver: Option<Arc<Outgoing>>,
    issued: Vec<(Weak<Arena>, TicketId)>,
    /// By arena and block: all views of a block go by one ticket. The receiver's first view claims it. The others find
    /// the block held by that one, which whoever reads keeps until it has read the whole message.
    tickets: HashMap<(u64, BlockId), TicketId>,
}

thread_local! {
    /// The messages that this thread is writing; the innermost is the last.
    static MESSAGES: RefCell<Vec<Message>> = const { RefCell::new(Vec::new()) };
}

/// Notes that `writer` (an address, or another number of its own) begins to write a message in this thread; for a process
/// that is being started if there is a `receiver`.
pub fn begin_message(writer: usize, receiver: Option<Arc<Outgoing>>) {
    let message = Message { writer, receiver, issued: Vec::new(), tickets: HashMap::new() };
    MESSAGES.with_borrow_mut(|messages| messages.push(message));
}

/// Notes that it has done so, or never began. What was issued for a message that failed is taken back: nobody will read it.
pub fn end_message(writer: usize, failed: bool) {
    let ended = MESSAGES.with_borrow_mut(|messages| {
        let at = messages.iter().rposition(|message| message.writer == writer);
        at.map_or_else(Vec::new, |at| messages.split_off(at))
    });
    if failed {
        let issued: Vec<_> = ended.into_iter().flat_map(|message| message.issued).collect();
        withdraw_soon(&issued);
    }
}

impl Hold {
    /// The ticket for this block in the message that this thread is writing, if there is one already.
    pub fn ticket_in_message(&self) -> Option<TicketId> {
        MESSAGES.with_borrow(|messages| messages.last()?.tickets.get(&self.name()).copied())
    }

    /// That ticket, or a new one; none when all are in flight, and at `deadline`.
    ///
    /// # Errors
    /// As [`Hold::issue`].
    pub fn issue_once(&self, deadline: &Deadline<'_>) -> Result<Option<TicketId>> {
        if let Some(known) = self.ticket_in_message() {
            return Ok(Some(known));
        }
        let ticket = self.issue_in_message(deadline)?;
        let note = |message: &mut Message| ticket.map(|ticket| message.tickets.insert(self.name(), ticket));
        MESSAGES.with_borrow_mut(|messages| messages.last_mut().map(note));
        Ok(ticket)
    }

    /// A new ticket for the message that this thread is writing, if it is writing one; none when all are in flight, and at
    /// `deadline`.
    ///
    /// # Errors
    /// As [`Hold::issue`].
    pub fn issue_in_message(&self, deadline: &Deadline<'_>) -> Result<Option<TicketId>> {
        // A message that is written while another one is, by what sends on the way, is for somebody else.
        let receiver = MESSAGES.with_borrow(|messages| match messages.as_slice() {
            [only] => only.receiver.clone(),
            _ => None,
        });
        let ticket = match self.issue(deadline) {
            Err(error) if error.kind() == Kind::Timeout => None,
            other => other?,
        };
        if let Some(ticket) = ticket {
            let note = (Arc::downgrade(self.arena()), ticket);
            MESSAGES.with_borrow_mut(|messages| messages.last_mut().map(|message| message.issued.push(note)));
            receiver.inspect(|receiver| receiver.add(self.arena(), ticket));
        }
        Ok(ticket)
    }

    fn name(&self) -> (u64, BlockId) {
        (self.arena().id(), self.block())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const FOREVER: Deadline<'static> = Deadline::never();

    fn in_flight(arena: &Arc<Arena>) -> usize {
        arena.stats().unwrap().tickets.len()
    }

    #[test]
    fn a_block_has_one_ticket_in_a_message_and_a_failed_one_takes_them_back() {
        let (arena, _heap) = Arena::create_on_heap(1 << 20).unwrap();
        let holds = [1, 2].map(|_| arena.alloc(64, 64, false, &FOREVER).unwrap());
        begin_message(1, None);
        let first = holds[0].issue_once(&FOREVER).unwrap();
        assert_eq!(holds[0].issue_once(&FOREVER).unwrap(), first);
        assert_eq!((holds[0].ticket_in_message(), holds[1].ticket_in_message()), (first, None));
        assert_ne!(holds[1].issue_once(&FOREVER).unwrap(), first);
        // A message within the message knows nothing of the other's tickets, and ends alone.
        begin_message(2, None);
        assert_ne!(holds[0].issue_once(&FOREVER).unwrap(), first);
        assert_eq!(in_flight(&arena), 3);
        end_message(2, true);
        assert_eq!((in_flight(&arena), holds[0].ticket_in_message()), (2, first));
        end_message(1, true);
        assert_eq!((in_flight(&arena), holds[0].ticket_in_message()), (0, None));
        assert_ne!(
            holds[0].issue_once(&FOREVER).unwrap(),
            holds[0].issue_once(&FOREVER).unwrap(),
            "outside of messages"
        );
    }

    #[test]
    fn what_goes_to_a_process_that_never_was_is_taken_back() {
        let (arena, _heap) = Arena::create_on_heap(1 << 20).unwrap();
        let hold = arena.alloc(64, 64, false, &FOREVER).unwrap();
        let outgoing = Arc::<Outgoing>::default();
        begin_message(1, Some(outgoing.clone()));
        hold.issue_once(&FOREVER).unwrap();
        begin_message(2, None);
        hold.issue_in_message(&FOREVER).unwrap();
        end_message(1, false);
        assert_eq!(in_flight(&arena), 2);
        outgoing.settle();
        assert_eq!(in_flight(&arena), 1, "that of the inner message is for somebody else");
    }
}
