//! Issuing tickets: for whoever comes, or for the process that is being started right now.

use std::cell::RefCell;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ndshare::Kind;
use ndshare::arena::{self as library, Arena, Hold, Patience, TicketId};
use pyo3::prelude::*;

use crate::guard::Once;
use crate::wait::patiently_for;

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

/// What was issued for one message.
type Issued = Vec<(Weak<Arena>, TicketId)>;

thread_local! {
    /// What was issued for each message that this thread is pickling; the innermost is the last.
    static MESSAGES: RefCell<Vec<Issued>> = const { RefCell::new(Vec::new()) };
}

/// How long what nobody has asked for may wait for the arena's lock: a failed message, an arena on its way.
pub(crate) const BRIEFLY: Duration = Duration::from_millis(50);

/// Notes that this thread begins to pickle a message.
#[pyfunction]
pub(crate) fn begin_message() {
    MESSAGES.with_borrow_mut(|messages| messages.push(Vec::new()));
}

/// Notes that it has done so. What was issued for a message that failed is taken back: nobody will read it.
#[pyfunction]
pub(crate) fn end_message(py: Python<'_>, failed: bool) {
    let issued = MESSAGES.with_borrow_mut(Vec::pop).unwrap_or_default();
    if !failed {
        return;
    }
    py.detach(|| {
        let briefly = Patience::new(Some(BRIEFLY), &|| Ok(()));
        for (arena, ticket) in issued {
            // What cannot be taken back now is listed as undelivered.
            let _ = arena.upgrade().map(|arena| arena.withdraw(&[ticket], &briefly));
        }
    });
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
    let receiver = being_started(py)?;
    let ticket = patiently_for(py, timeout, |patience| match hold.issue(patience) {
        Err(error) if error.kind() == Kind::Timeout => Ok(None),
        other => other,
    })?;
    if let Some(ticket) = ticket {
        let note = (Arc::downgrade(hold.arena()), ticket);
        MESSAGES.with_borrow_mut(|messages| messages.last_mut().map(|message| message.push(note)));
        if let Some(receiver) = receiver {
            receiver.get().outgoing.add(hold.arena(), ticket);
        }
    }
    Ok(ticket)
}

/// What is being pickled for a process that this thread starts, if it does so.
fn being_started(py: Python<'_>) -> PyResult<Option<Bound<'_, Outgoing>>> {
    static POPEN: Once<Py<PyAny>> = Once::new();
    static OUTGOING: Once<Py<PyAny>> = Once::new();
    // A message that is pickled while another one is, by a reducer that sends, is for somebody else.
    if MESSAGES.with_borrow(|messages| messages.len() > 1) {
        return Ok(None);
    }
    let popen = POPEN.import(py, "multiprocessing.context", "get_spawning_popen")?.call0()?;
    if popen.is_none() {
        return Ok(None);
    }
    let outgoing = OUTGOING.import(py, "ndshare._started", "outgoing")?.call1((popen,))?;
    Ok(outgoing.cast_into::<Outgoing>().ok())
}
