//! Issuing tickets: for whoever comes, or for the process that is being started right now.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ndshare::Kind;
use ndshare::arena::{self as library, Arena, BRIEFLY, BlockId, Hold, TicketId, withdraw_soon};
use pyo3::prelude::*;

use crate::wait::interruptible_for;

/// What was pickled for one process. It is taken back when the process is over and did not claim it, and when this
/// object goes while there is no such process.
#[pyclass(frozen, module = "ndshare._native")]
#[derive(Default)]
pub(crate) struct Outgoing {
    outgoing: library::Outgoing,
}

#[pymethods]
impl Outgoing {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Says that the process was started, and has this number.
    fn name_receiver(&self, py: Python<'_>, pid: u32) {
        py.detach(|| self.outgoing.name_receiver(pid));
    }

    /// Looks at the process, and takes back what it did not claim if it is over; returns the bytes that came free.
    fn settle(&self, py: Python<'_>) -> u64 {
        py.detach(|| self.outgoing.settle())
    }
}

/// A message that a thread is pickling.
struct Message {
    /// The address of its pickler.
    pickler: usize,
    /// What is pickled for the process that is being started, if it is for one.
    receiver: Option<Py<Outgoing>>,
    issued: Vec<(Weak<Arena>, TicketId)>,
    /// By arena and block: all views of a block go by one ticket. The receiver's first view claims it. The others find
    /// the block held by that one, which the unpickler keeps until it has read the whole message.
    tickets: HashMap<(u64, BlockId), TicketId>,
}

thread_local! {
    /// The messages that this thread is pickling; the innermost is the last.
    static MESSAGES: RefCell<Vec<Message>> = const { RefCell::new(Vec::new()) };
}

/// Notes that this thread begins to pickle a message with `pickler`, for a process that is being started if there is a
/// `receiver`.
#[pyfunction]
#[pyo3(signature = (pickler, receiver=None))]
pub(crate) fn begin_message(pickler: &Bound<'_, PyAny>, receiver: Option<Py<Outgoing>>) {
    let message = Message { pickler: pickler.as_ptr().addr(), receiver, issued: Vec::new(), tickets: HashMap::new() };
    MESSAGES.with_borrow_mut(|messages| messages.push(message));
}

/// Notes that it has done so, or never began. What was issued for a message that failed is taken back: nobody will read
/// it.
#[pyfunction]
pub(crate) fn end_message(py: Python<'_>, pickler: &Bound<'_, PyAny>, failed: bool) {
    let ended = MESSAGES.with_borrow_mut(|messages| {
        let at = messages.iter().rposition(|message| message.pickler == pickler.as_ptr().addr());
        at.map_or_else(Vec::new, |at| messages.split_off(at))
    });
    if !failed {
        return;
    }
    let issued: Vec<_> = ended.into_iter().flat_map(|message| message.issued).collect();
    py.detach(|| withdraw_soon(&issued));
}

/// The ticket for the block of `hold` in the message that this thread is pickling, or a new one; none when all are in
/// flight.
pub(crate) fn issue_once(py: Python<'_>, hold: &Hold) -> PyResult<Option<TicketId>> {
    let name = (hold.arena().id(), hold.block());
    let known = MESSAGES.with_borrow(|messages| messages.last()?.tickets.get(&name).copied());
    if known.is_some() {
        return Ok(known);
    }
    let ticket = issue(py, hold)?;
    if let Some(ticket) = ticket {
        MESSAGES.with_borrow_mut(|messages| messages.last_mut().map(|message| message.tickets.insert(name, ticket)));
    }
    Ok(ticket)
}

/// A ticket for the block of `hold`; none when all are in flight.
pub(crate) fn issue(py: Python<'_>, hold: &Hold) -> PyResult<Option<TicketId>> {
    issue_within(py, hold, None)
}

/// The same; none also when the arena's lock is not free soon.
pub(crate) fn issue_soon(py: Python<'_>, hold: &Hold) -> PyResult<Option<TicketId>> {
    issue_within(py, hold, Some(BRIEFLY))
}

fn issue_within(py: Python<'_>, hold: &Hold, timeout: Option<Duration>) -> PyResult<Option<TicketId>> {
    // A message that is pickled while another one is, by a reducer that sends, is for somebody else.
    let receiver = MESSAGES.with_borrow(|messages| match messages.as_slice() {
        [only] => only.receiver.as_ref().map(|receiver| receiver.clone_ref(py)),
        _ => None,
    });
    let ticket = interruptible_for(py, timeout, |deadline| match hold.issue(deadline) {
        Err(error) if error.kind() == Kind::Timeout => Ok(None),
        other => other,
    })?;
    if let Some(ticket) = ticket {
        let note = (Arc::downgrade(hold.arena()), ticket);
        MESSAGES.with_borrow_mut(|messages| messages.last_mut().map(|message| message.issued.push(note)));
        if let Some(receiver) = receiver {
            receiver.get().outgoing.add(hold.arena(), ticket);
        }
    }
    Ok(ticket)
}
