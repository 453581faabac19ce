//! What is in an arena, and taking back what nobody fetched.

use std::borrow::Cow;
use std::time::Duration;

use ndshare::arena::{Arena, ParticipantStats, TicketStats};
use ndshare::error::Process;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arena::work_arena;
use crate::travel::copied_by_bound;
use crate::wait::{detached, interruptible};

/// The state of an arena (None: the session's) as a plain dict.
///
/// Keys: "id", "budget", "capacity", "bytes" (held, rounded up to blocks), "warm" (kept for reuse), "blocks",
/// "participants" (dicts with "pid", "bytes", "blocks", "alive", "me"), "tickets" (hand-overs that nobody has
/// fetched: dicts with "bytes", "sender", "sender_alive", "age_s", and "receiver": the pid of the process they are for,
/// or None), "ticket_budget", "copied_by_bound" (how many arrays this process sent as copies because that many
/// hand-overs were in flight), "limit" (the name of the limit that set the budget), "lock" (None, or a dict with "pid",
/// "name" and "stopped" of the process that has the arena's lock at the moment: allocations and hand-overs wait for
/// it). All sizes are bytes.
///
/// It never waits long, whatever other processes do.
///
/// >>> import ndshare as nds
/// >>> a = nds.zeros(1000)
/// >>> nds.stats()["bytes"] >= a.nbytes
/// True
#[pyfunction]
#[pyo3(signature = (arena=None))]
pub(crate) fn stats<'py>(py: Python<'py>, arena: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyDict>> {
    let arena = work_arena(py, arena)?;
    let stats = detached(py, || arena.stats())?;
    let process = |seen: &Process| dict!(py, { "pid": seen.pid, "name": &seen.name, "stopped": seen.is_stopped });
    dict!(py, {
        "id": format!("{:016x}", stats.id), "budget": stats.budget_bytes, "capacity": stats.capacity_bytes,
        "bytes": stats.used_bytes, "warm": stats.warm_bytes, "blocks": stats.blocks,
        "participants": stats.participants.iter().map(|one| participant(py, one)).collect::<PyResult<Vec<_>>>()?,
        "tickets": stats.tickets.iter().map(|one| ticket(py, one)).collect::<PyResult<Vec<_>>>()?,
        "ticket_budget": stats.ticket_budget, "copied_by_bound": copied_by_bound(), "limit": stats.limit,
        "lock": stats.lock_owner.as_ref().map(process).transpose()?,
    })
}

/// Takes back hand-overs that nobody has fetched for `older_than` seconds; returns the bytes this freed.
///
/// `arena` says in which arena; None: in the session's, and in those of which this process has nothing left but
/// hand-overs that it sent. A receiver that comes later gets `Stale`, unless somebody still holds the array. Raises ValueError for a
/// negative or infinite age.
///
/// >>> import ndshare as nds
/// >>> nds.reclaim(older_than=60.0)
/// 0
#[pyfunction]
#[pyo3(signature = (older_than=0.0, arena=None))]
pub(crate) fn reclaim(py: Python<'_>, older_than: f64, arena: Option<&Bound<'_, PyAny>>) -> PyResult<u64> {
    let age = Duration::try_from_secs_f64(older_than).map_err(|_| {
        PyValueError::new_err(format!("expected older_than to be seconds, 0 or more, got {older_than}"))
    })?;
    let arena = work_arena(py, arena)?;
    interruptible(py, |deadline| {
        let freed = arena.reclaim(age, deadline)?;
        let is_session = matches!(arena, Cow::Borrowed(_));
        Ok(freed + if is_session { Arena::reclaim_kept(age, deadline)? } else { 0 })
    })
}

fn participant<'py>(py: Python<'py>, one: &ParticipantStats) -> PyResult<Bound<'py, PyDict>> {
    dict!(py, { "pid": one.pid, "bytes": one.bytes, "blocks": one.blocks, "alive": one.alive, "me": one.me })
}

fn ticket<'py>(py: Python<'py>, one: &TicketStats) -> PyResult<Bound<'py, PyDict>> {
    dict!(py, {
        "bytes": one.bytes, "sender": one.sender_pid, "sender_alive": one.sender_alive,
        "receiver": one.receiver_pid, "age_s": one.age_s,
    })
}
