//! Issuing tickets: for whoever comes, or for the process that is being started right now.

use std::sync::Arc;
use std::time::Duration;

use ndshare::arena::{self as library, Hold, TicketId};
use pyo3::prelude::*;

use crate::wait::{interruptible, interruptible_for};

/// What was pickled for one process. It is taken back when the process is over and did not claim it, and when this
/// object goes while there is no such process.
#[pyclass(frozen, module = "ndshare._native")]
#[derive(Default)]
pub(crate) struct Outgoing {
    outgoing: Arc<library::Outgoing>,
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

/// Notes that this thread begins to pickle a message with `pickler`, for a process that is being started if there is a
/// `receiver`.
#[pyfunction]
#[pyo3(signature = (pickler, receiver=None))]
pub(crate) fn begin_message(pickler: &Bound<'_, PyAny>, receiver: Option<&Bound<'_, Outgoing>>) {
    let receiver = receiver.map(|receiver| receiver.get().outgoing.clone());
    library::begin_message(pickler.as_ptr().addr(), receiver);
}

/// Notes that it has done so, or never began. What was issued for a message that failed is taken back: nobody will read
/// it.
#[pyfunction]
pub(crate) fn end_message(py: Python<'_>, pickler: &Bound<'_, PyAny>, failed: bool) {
    let pickler = pickler.as_ptr().addr();
    if failed { py.detach(|| library::end_message(pickler, true)) } else { library::end_message(pickler, false) }
}

/// The ticket for the block of `hold` in the message that this thread is pickling, or a new one; none when all are in
/// flight.
pub(crate) fn issue_once(py: Python<'_>, hold: &Hold) -> PyResult<Option<TicketId>> {
    match hold.ticket_in_message() {
        None => interruptible(py, |deadline| hold.issue_once(deadline)),
        known => Ok(known),
    }
}

/// A ticket for the block of `hold`; none when all are in flight. It waits for the arena's lock at most so long.
pub(crate) fn issue(py: Python<'_>, hold: &Hold, timeout: Option<Duration>) -> PyResult<Option<TicketId>> {
    interruptible_for(py, timeout, |deadline| hold.issue_in_message(deadline))
}
