//! Issuing tickets: for whoever comes, or for the process that is being started right now.

use ndshare::arena::{self as library, Hold, TicketId};
use pyo3::prelude::*;

use crate::guard::Once;
use crate::wait::patiently;

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
    fn name_receiver(&self, py: Python<'_>, pid: u32) -> PyResult<()> {
        patiently(py, |patience| self.outgoing.name_receiver(pid, patience))
    }

    /// Takes back what the process, which is over, did not claim; returns the bytes that came free.
    fn take_back(&self, py: Python<'_>) -> PyResult<u64> {
        patiently(py, |patience| self.outgoing.take_back(patience))
    }
}

/// A ticket for the block of `hold`; none when all are in flight.
pub(crate) fn issue(py: Python<'_>, hold: &Hold) -> PyResult<Option<TicketId>> {
    let receiver = being_started(py)?;
    let ticket = patiently(py, |patience| hold.issue(patience))?;
    if let (Some(receiver), Some(ticket)) = (receiver, ticket) {
        receiver.get().outgoing.add(hold.arena(), ticket);
    }
    Ok(ticket)
}

/// What is being pickled for a process that this thread starts, if it does so.
fn being_started(py: Python<'_>) -> PyResult<Option<Bound<'_, Outgoing>>> {
    static POPEN: Once<Py<PyAny>> = Once::new();
    static OUTGOING: Once<Py<PyAny>> = Once::new();
    let popen = POPEN.import(py, "multiprocessing.context", "get_spawning_popen")?.call0()?;
    if popen.is_none() {
        return Ok(None);
    }
    let outgoing = OUTGOING.import(py, "ndshare._started", "outgoing")?.call1((popen,))?;
    Ok(outgoing.cast_into::<Outgoing>().ok())
}
