//! `Arena` as an object: one beside the session's. The `arena=` argument, and new blocks there.

use std::borrow::Cow;
use std::sync::Arc;

use ndshare::arena::{self as library, Hold};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::closable::Closable;
use crate::session::session;
use crate::wait::{interruptible, quick};

/// An arena of its own: `Arena("8 GiB")`, or a budget in bytes as an int.
///
/// Pass it as `arena=` to the functions that make arrays. It can be sent to other processes with any pickler,
/// while a process that uses it lives. Closing it, or leaving its `with` block, ends allocations through this
/// object; arrays stay valid.
///
/// With `name`, all processes of the session that give the same name have the same arena, for as long as one has it open.
/// With `path` it is a file on a RAM drive or a disk, made if there is none, and outlives all processes; so does what has a
/// name in it. The budget of one that is there may be left out. With `mode` other users may be let to read what is published
/// of it: 0o640 the group, 0o604 all who are not in the group, 0o644 both.
///
/// Raises ValueError for a budget that is no size, or not that of an arena that is there, for another mode, and for a file of something else or
/// of another version; ArenaFull when a limit of the system or a full file system forbids it; Poisoned for a file that was cut
/// or written over; AttachError for one that is not this user's, or cannot be opened.
///
/// >>> import ndshare as nds
/// >>> with nds.Arena("64 MiB") as arena:
/// ...     a = nds.zeros((2, 3), arena=arena)
/// >>> a.sum(), arena.closed
/// (np.float64(0.0), True)
#[pyclass(frozen, module = "ndshare")]
pub(crate) struct Arena {
    pub(crate) open: Closable<Open>,
    /// The arena's id, the same in every process (16 hexadecimal digits).
    #[pyo3(get)]
    pub(crate) id: String,
    /// The most bytes that may be held at one time.
    #[pyo3(get)]
    pub(crate) budget: u64,
}

/// What an arena is until it is closed. The arena goes before its card: whoever finds the card finds the arena.
pub(crate) struct Open {
    pub(crate) arena: Arc<library::Arena>,
    /// The block of the session that has its name.
    pub(crate) card: Option<Hold>,
}

impl Arena {
    pub(crate) fn over(arena: Arc<library::Arena>) -> Self {
        Self::named(arena, None)
    }

    pub(crate) fn named(arena: Arc<library::Arena>, card: Option<Hold>) -> Self {
        Self { id: id_text(&arena), budget: arena.budget_bytes(), open: Closable::new(Arc::new(Open { arena, card })) }
    }

    /// The library's arena. Raises ValueError when this one is closed.
    pub(crate) fn arena(&self) -> PyResult<Arc<library::Arena>> {
        self.opened().map(|open| open.arena.clone())
    }

    /// The arena, with what gives it a name. Raises ValueError when this one is closed.
    pub(crate) fn opened(&self) -> PyResult<Arc<Open>> {
        self.open.get().ok_or_else(|| {
            PyValueError::new_err(format!("expected an open arena, got {}, which is closed; make a new one", self.id))
        })
    }
}

/// The arena of an `arena=` argument that is not None.
pub(crate) fn named(arena: &Bound<'_, PyAny>) -> PyResult<Arc<library::Arena>> {
    let Ok(arena) = arena.cast::<Arena>() else {
        let got = arena.get_type();
        return Err(PyTypeError::new_err(format!("expected arena to be an ndshare.Arena or None, got {got}")));
    };
    arena.get().arena()
}

/// An arena to work in: the session's, which lives as long as the process and is borrowed, or one that was named.
pub(crate) type WorkArena = Cow<'static, Arc<library::Arena>>;

/// The arena of an `arena=` argument: `None` is the session's.
#[inline]
pub(crate) fn work_arena(py: Python<'_>, arena: Option<&Bound<'_, PyAny>>) -> PyResult<WorkArena> {
    match arena {
        Some(arena) if !arena.is_none() => named(arena).map(Cow::Owned),
        _ => session(py).map(Cow::Borrowed),
    }
}

/// A new block of so many bytes, or one.
#[inline]
pub(crate) fn new_block(
    py: Python<'_>,
    arena: &WorkArena,
    len_bytes: usize,
    align: usize,
    zero: bool,
) -> PyResult<Hold> {
    let len_bytes = len_bytes.max(1);
    let found = match zero {
        true if len_bytes > QUICK_ZEROS => None,
        true => quick(py, || arena.alloc_quick_zeros(len_bytes, align))?,
        false => quick(py, || arena.alloc_quick(len_bytes, align))?,
    };
    match found {
        Some(hold) => Ok(hold),
        None => interruptible(py, |deadline| arena.alloc(len_bytes, align, zero, deadline)),
    }
}

/// Zeroing more than this takes longer than letting another thread have the interpreter.
const QUICK_ZEROS: usize = 64 << 10;

/// An id as users see it.
pub(crate) fn id_text(arena: &library::Arena) -> String {
    format!("{:016x}", arena.id())
}
