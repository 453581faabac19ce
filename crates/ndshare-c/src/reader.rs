//! Reading from a ring: a frame is got, looked at, and released.

use crate::error::{call, nds_code};
use crate::handle::{find, free, keep, take};
use crate::info::{Described, nds_array_info};
use crate::note::{KeptNote, nds_note};
use crate::raw::{deadline, place, text_or_none};
use crate::ring::nds_ring;
use ndshare::ring::{Frame, Mode, Reader, Start};
use ndshare::{Error, Kind, Result};
use std::ffi::{c_char, c_void};

/// A reader of a ring: one place in the stream.
pub struct nds_reader {
    reader: Reader,
}

/// A frame that was got. Its bytes do not change until it is released.
pub struct nds_frame {
    frame: Frame,
    described: Described,
    /// Read with the frame, so that what it leads to stays; an error is for who asks for it.
    note: Result<KeptNote>,
}

/// What a frame is. It stays until the frame is released.
#[repr(C)]
pub struct nds_frame_info {
    /// Its items, which may only be read.
    pub array: nds_array_info,
    /// Its number in the stream, from 0 on.
    pub seq: u64,
    /// When it was made, in nanoseconds: what its writer says; else when it was published.
    pub time_ns: u64,
    /// When it was published, in nanoseconds of the monotonic clock (CLOCK_MONOTONIC), whatever its writer says.
    pub published_ns: u64,
    /// What goes with it, as the ring's format says; NULL if nothing does.
    pub meta: *const c_void,
    /// Bytes of that.
    pub meta_bytes: usize,
}

fn mode(ring: &nds_ring, latest: bool, group: Option<&str>, timeout: f64) -> Result<Mode> {
    match (latest, group) {
        (true, Some(_)) => Err(Error::new(Kind::InvalidValue, "expected the latest frames or a group, got both")),
        (true, None) => Ok(Mode::Latest),
        (false, None) => Ok(Mode::Every),
        (false, Some(name)) => Ok(Mode::Group(ring.ring.group(name, &deadline(timeout)?)?)),
    }
}

/// A new reader, for this process: of every frame; or of the newest only, which holds nobody back (`latest`); or of
/// those that a group, if it is not NULL, has for it. `start`: from the "next" frame on (also NULL), or from the "oldest".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nds_reader_make(
    ring: *mut nds_ring,
    latest: bool,
    group: *const c_char,
    start: *const c_char,
    timeout: f64,
    reader: *mut *mut nds_reader,
) -> nds_code {
    call(|| {
        let found = find(ring.cast_const())?;
        // SAFETY: the caller gives C strings and a place for a handle, or null for any of them.
        let (group, start, out) = unsafe {
            (text_or_none("a group", group)?, text_or_none("start", start)?, place("a place for the reader", reader)?)
        };
        let start = start.map_or(Ok(Start::Next), str::parse)?;
        let mode = mode(&found, latest, group, timeout)?;
        out.set(keep(nds_reader { reader: found.ring.reader(mode, start, &deadline(timeout)?)? }));
        Ok(())
    })
}

/// The next frame. NDS_EMPTY at the timeout; NDS_CLOSED when the stream has ended and all was read; NDS_WRITER_DIED, once,
/// when a writer died without closing: a later call goes on, should others write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nds_reader_get(reader: *mut nds_reader, timeout: f64, frame: *mut *mut nds_frame) -> nds_code {
    call(|| {
        // SAFETY: the caller gives a place for a handle, or null.
        let (found, out) = (find(reader.cast_const())?, unsafe { place("a place for the frame", frame) }?);
        let frame = found.reader.get(&deadline(timeout)?)?;
        let described = Described::of(&frame.array()?);
        let note = frame.note().map(KeptNote::of);
        out.set(keep(nds_frame { frame, described, note }));
        Ok(())
    })
}

/// Where the items of a frame are, its number, its time, and its meta.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nds_frame_get_info(frame: *const nds_frame, info: *mut nds_frame_info) -> nds_code {
    call(|| {
        // SAFETY: the caller gives a place for the info, or null.
        let (found, out) = (find(frame)?, unsafe { place("a place for the info", info) }?);
        let (it, meta) = (&found.frame, found.frame.meta());
        // Inside the block, as was checked when the frame was made an array.
        let data = it.hold().as_ptr().wrapping_add(it.offset as usize);
        out.set(nds_frame_info {
            array: found.described.info(data, true),
            seq: it.seq,
            time_ns: it.time_ns,
            published_ns: it.published_ns,
            meta: if meta.is_empty() { std::ptr::null() } else { meta.as_ptr().cast() },
            meta_bytes: meta.len(),
        });
        Ok(())
    })
}

/// The note that goes with a frame: text, JSON or bytes of any length, or none. NDS_INVALID_VALUE for one that contradicts
/// itself. It stays until the frame is released.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nds_frame_get_note(frame: *const nds_frame, note: *mut nds_note) -> nds_code {
    call(|| {
        // SAFETY: the caller gives a place for the note, or null.
        let (found, out) = (find(frame)?, unsafe { place("a place for the note", note) }?);
        out.set(found.note.as_ref().map_err(Clone::clone)?.info());
        Ok(())
    })
}

/// Lets go of a frame: its memory may become another one. NULL is none.
#[unsafe(no_mangle)]
pub extern "C" fn nds_frame_release(frame: *mut nds_frame) -> nds_code {
    call(|| free(frame))
}

/// Ends the reader, and frees the handle: it holds no writer back any more. A thread that waits in it gets NDS_CLOSED.
#[unsafe(no_mangle)]
pub extern "C" fn nds_reader_close(reader: *mut nds_reader) -> nds_code {
    call(|| take(reader)?.reader.close())
}
