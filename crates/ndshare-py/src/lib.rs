//! `ndshare._native`: the library's nouns for Python. It converts, checks, detaches from the interpreter where a
//! call may wait or touch much memory, and maps errors. Decisions are made in the library or in Python.

/// A dict of these keys and values; a `PyResult`.
macro_rules! dict {
    ($py:expr, { $($key:literal: $value:expr),+ $(,)? }) => {
        (|| {
            let dict = pyo3::types::PyDict::new($py);
            $(dict.set_item($key, $value)?;)+
            PyResult::Ok(dict)
        })()
    };
}

mod allocating;
mod arena;
mod arena_methods;
mod built;
mod cache;
mod closable;
mod command;
mod described;
mod dtype;
mod error;
mod fft;
mod frame;
mod gather;
mod guard;
mod lock;
mod make;
mod many;
mod names;
mod ndarray;
mod objects;
mod offered;
mod outgoing;
mod overlay;
mod owner;
mod parent;
mod passed;
mod reference;
mod ring;
mod session;
mod shape;
mod shared;
mod stats;
mod travel;
mod tree;
mod variables;
mod wait;

use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// Arms a kill point: this process gets SIGKILL when it passes `label` for the `nth` time from now.
///
/// Raises ValueError for an unknown label, and always in builds without kill points.
#[pyfunction]
#[pyo3(signature = (label, nth=1))]
fn kill_at(py: Python<'_>, label: &str, nth: u32) -> PyResult<()> {
    ndshare::kill_at(label, nth).map_err(|e| error::to_python(py, &e))
}

/// Arms a kill point to stop: this process gets SIGSTOP when it passes `label` for the `nth` time from now, once.
///
/// Raises ValueError as `kill_at` does.
#[pyfunction]
#[pyo3(signature = (label, nth=1))]
fn stop_at(py: Python<'_>, label: &str, nth: u32) -> PyResult<()> {
    ndshare::stop_at(label, nth).map_err(|e| error::to_python(py, &e))
}

#[pymodule(gil_used = false, name = "_native")]
mod native {
    use super::*;

    #[pymodule_export]
    use super::{
        allocating::Allocating,
        arena::Arena,
        arena_methods::{arena_parts, open_arena},
        cache::{Cache, Stop, key_bytes, key_of_bytes, open_cache},
        command::{findings, ring_in_session, run_command},
        dtype::{dtype_of_text, dtype_text},
        fft::{FftFilter, FftPlan, FftTransform, fft_fallbacks, fft_fell_back, fft_transform},
        frame::{
            FrameHold, frame_meta, frame_note, frame_seq, frame_time_ns, frame_tree, set_frame_meta, set_frame_note,
            unwrapped,
        },
        frame::{frame_age, frame_note_parts, frame_published_ns, set_frame_note_parts, set_frame_time_ns},
        gather::{Canvas, Montage, block, concatenate, copyto, stack},
        gather::{cpus, force_cpu, set_stream_from, stream_from},
        kill_at,
        lock::{Lock, LockedArrays, lock_token, open_lock},
        make::{empty, empty_in_order, zeros},
        names::{attach_name, list_names, publish_name, unpublish_name},
        offered::{OfferedHold, OfferedRing, attach_offered},
        outgoing::{Outgoing, begin_message, end_message},
        overlay::{
            Field, Inside, Overlay, field_under, first_referent, forget_reference, is_gone, is_left_behind, let_go,
            let_go_of_left, open_overlay, overlay_parts,
        },
        owner::Hold,
        parent::{end_with, watch_again},
        passed::PassedFrames,
        reference::{open_reference, reference_token},
        ring::{Alarm, Reader, Ring, Writer, Writing, leave_rings},
        ring::{end_key, open_reader, open_ring, open_writer, reader_parts, ring_parts, writer_parts},
        session::{left_out, session_find, session_locators, session_named},
        shared::{is_placed, is_shared, is_shared_at},
        stats::{reclaim, stats},
        stop_at,
        travel::{describe, from_text, lend, open_arrays_with, open_token, reduce, ticket, to_text},
    };

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        // NumPy's functions are looked up once, now: a first array may be made while the interpreter shuts down, when
        // nothing can be imported any more.
        // The import comes first: where NumPy refuses (in a subinterpreter) this is its ImportError, and no panic.
        py.import("numpy")?;
        let _ = numpy::dtype::<f64>(py);
        module.add("MAX_USES", ndshare::overlay::MAX_USES)?;
        module.add("KILL_POINTS", PyTuple::new(py, ndshare::KILL_POINTS)?)?;
        gather::bind(py)?;
        variables::bind(py)?;
        ndshare::warm_up();
        // Also in a process that never has a cache: others may have filled the arena with theirs.
        ndshare::cache::give_way_when_short();
        ndshare::arm_from_environment().map_err(|e| error::to_python(py, &e))
    }
}
