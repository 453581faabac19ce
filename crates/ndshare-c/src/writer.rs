//! Writing to a ring: a frame is begun, filled where it is, and published.

use crate::error::{call, nds_code};
use crate::handle::{consume, find, free, keep, take};
use crate::info::{Described, nds_array_info};
use crate::note::{nds_note, note_or_none};
use crate::raw::{deadline, element_or_none, items, place};
use crate::ring::nds_ring;
use ndshare::array::{Array, Description, Layout};
use ndshare::prim::{AtomicU64, Ordering::Relaxed};
use ndshare::ring::{Content, Writer, Writing};
use ndshare::{Error, Kind, Result};
use std::ffi::{c_char, c_void};
use std::sync::Arc;

/// What stands for the number of a frame that was dropped, because the ring is full and drops the newest.
pub const NDS_DROPPED: u64 = u64::MAX;

/// A writer of a ring. The stream does not end before it was closed; if its process dies, readers are told.
pub struct nds_writer {
    writer: Arc<Writer>,
    /// What its frames have room for behind their items.
    note_bytes: AtomicU64,
}

/// A frame that is being filled. A process may fill several at once.
pub struct nds_writing {
    writing: Writing,
    described: Described,
    /// What the frame says of itself; nothing where the ring says it.
    view: Vec<u8>,
    /// When the frame was made; [`NO_TIME`]: when it is published.
    time_ns: AtomicU64,
}

/// What no frame may have for its time.
const NO_TIME: u64 = u64::MAX;

impl nds_writer {
    /// A frame with room for its items, and for what goes behind them: a long view, and a note.
    fn begin(&self, len_bytes: u64, view: &[u8], timeout: f64) -> Result<Writing> {
        let tail_bytes = Content { view, ..Content::default() }.tail_bytes() as u64;
        let behind = self.note_bytes.load(Relaxed).saturating_add(tail_bytes);
        self.writer.begin_with_note(len_bytes, behind, &deadline(timeout)?)
    }
}

/// A new writer, for this process.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nds_writer_make(ring: *mut nds_ring, timeout: f64, writer: *mut *mut nds_writer) -> nds_code {
    call(|| {
        // SAFETY: the caller gives a place for a handle, or null.
        let (found, out) = (find(ring.cast_const())?, unsafe { place("a place for the writer", writer) }?);
        let writer = found.ring.writer(&deadline(timeout)?)?;
        out.set(keep(nds_writer { writer, note_bytes: AtomicU64::new(0) }));
        Ok(())
    })
}

/// Has the frames that are begun from now on have room for a note of so many bytes, by `nds_writing_publish_with_note`. A
/// short note, up to some 400 bytes, needs no room.
#[unsafe(no_mangle)]
pub extern "C" fn nds_writer_reserve_note(writer: *mut nds_writer, note_bytes: usize) -> nds_code {
    call(|| {
        find(writer.cast_const())?.note_bytes.store(note_bytes as u64, Relaxed);
        Ok(())
    })
}

/// Begins a frame of the ring's own shape: waits for room for it, and gives memory to fill. NDS_FULL at the timeout.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nds_writer_begin(
    writer: *mut nds_writer,
    timeout: f64,
    writing: *mut *mut nds_writing,
) -> nds_code {
    call(|| {
        // SAFETY: the caller gives a place for a handle, or null.
        let (found, out) = (find(writer.cast_const())?, unsafe { place("a place for the frame", writing) }?);
        let len_bytes = found.writer.ring().geometry().frame_bytes;
        let writing = found.begin(len_bytes, &[], timeout)?;
        let described = Described::of(&writing.array()?);
        out.set(keep(nds_writing { writing, described, view: Vec::new(), time_ns: AtomicU64::new(NO_TIME) }));
        Ok(())
    })
}

/// Begins a frame of another shape and dtype, which must not need more bytes than those of the ring. `dtype` may be NULL
/// for the ring's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nds_writer_begin_shaped(
    writer: *mut nds_writer,
    dtype: *const c_char,
    ndim: usize,
    shape: *const usize,
    timeout: f64,
    writing: *mut *mut nds_writing,
) -> nds_code {
    call(|| {
        let found = find(writer.cast_const())?;
        // SAFETY: the caller gives a C string, `ndim` lengths and a place for a handle, or null for any of them.
        let (element, shape, out) = unsafe {
            (
                element_or_none("a dtype", dtype)?,
                items("a shape", shape, ndim)?,
                place("a place for the frame", writing)?,
            )
        };
        let element = element.or_else(|| found.writer.ring().format().element.clone());
        let element = element
            .ok_or_else(|| Error::new(Kind::InvalidValue, "expected a dtype, got NULL, and the ring has none"))?;
        let (layout, len_bytes) = Layout::contiguous(shape, element.size())?;
        let description = Description { layout, element: Some(element) };
        let view = description.encode();
        let writing = found.begin(len_bytes as u64, &view, timeout)?;
        let described = Described::of(&Array::of_parts(writing.hold()?.clone(), 0, description, false)?);
        out.set(keep(nds_writing { writing, described, view, time_ns: AtomicU64::new(NO_TIME) }));
        Ok(())
    })
}

/// Where the frame is to be filled. What stands there before is any bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nds_writing_get_info(writing: *const nds_writing, info: *mut nds_array_info) -> nds_code {
    call(|| {
        // SAFETY: the caller gives a place for the info, or null.
        let (found, out) = (find(writing)?, unsafe { place("a place for the info", info) }?);
        out.set(found.described.info(found.writing.hold()?.as_ptr(), false));
        Ok(())
    })
}

/// Says when the frame was made, in nanoseconds, where the program knows better than the ring: a stamp of the camera, say.
/// Readers get it as the frame's `time_ns`; without it they get the time of publication. The stamps of one writer do not go
/// back: publishing an earlier one is NDS_INVALID_VALUE.
#[unsafe(no_mangle)]
pub extern "C" fn nds_writing_set_time_ns(writing: *mut nds_writing, time_ns: u64) -> nds_code {
    call(|| {
        let found = find(writing.cast_const())?;
        if i64::try_from(time_ns).is_err() {
            return Err(Error::new(
                Kind::InvalidValue,
                format!("expected time_ns to be nanoseconds below 2**63, got {time_ns}"),
            ));
        }
        found.time_ns.store(time_ns, Relaxed);
        Ok(())
    })
}

/// Publishes the frame, with `meta_bytes` bytes of meta, and frees the handle; nobody may write to the frame any more.
///
/// `seq` (or NULL) gets the number of the frame, or NDS_DROPPED. NDS_FULL when there was no room before the timeout: then
/// the handle stays, and may be published again or discarded; so it does after other errors.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nds_writing_publish(
    writing: *mut nds_writing,
    meta: *const c_void,
    meta_bytes: usize,
    timeout: f64,
    seq: *mut u64,
) -> nds_code {
    // SAFETY: as the caller says; no note.
    unsafe { nds_writing_publish_with_note(writing, meta, meta_bytes, std::ptr::null(), timeout, seq) }
}

/// The same with a note (NULL: none), which is copied. NDS_INVALID_VALUE when the frame has no room for it:
/// `nds_writer_reserve_note` makes room in those that are begun later.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nds_writing_publish_with_note(
    writing: *mut nds_writing,
    meta: *const c_void,
    meta_bytes: usize,
    note: *const nds_note,
    timeout: f64,
    seq: *mut u64,
) -> nds_code {
    call(|| {
        // SAFETY: the caller gives `meta_bytes` bytes, a note and a place for a number, or null for any of them.
        let (meta, note, seq) = unsafe {
            (items("meta", meta.cast(), meta_bytes)?, note_or_none(note)?, place("a place for the number", seq).ok())
        };
        let deadline = deadline(timeout)?;
        consume(writing, |it| {
            let time_ns = Some(it.time_ns.load(Relaxed)).filter(|&time_ns| time_ns != NO_TIME);
            let content = Content { view: &it.view, meta, time_ns, note: note.as_ref(), ..Content::default() };
            let published = it.writing.publish(content, &deadline)?;
            if let Some(seq) = seq {
                seq.set(published.seq().unwrap_or(NDS_DROPPED));
            }
            Ok(())
        })
    })
}

/// Throws the frame away. NULL is none.
#[unsafe(no_mangle)]
pub extern "C" fn nds_writing_discard(writing: *mut nds_writing) -> nds_code {
    call(|| free(writing))
}

/// Ends the writer in order, and frees the handle. If it was the last, the stream ends: readers get NDS_CLOSED when they
/// have read all. Close writers before the program ends, or readers take the end for a death. The handle is freed whatever
/// comes of it, also at NDS_TIMEOUT: then the stream ends when somebody next looks at its writers.
#[unsafe(no_mangle)]
pub extern "C" fn nds_writer_close(writer: *mut nds_writer, timeout: f64) -> nds_code {
    call(|| {
        let deadline = deadline(timeout)?;
        take(writer)?.writer.close(&deadline)
    })
}
