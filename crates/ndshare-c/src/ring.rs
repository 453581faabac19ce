//! Rings: made, opened, described, handed on.

use crate::error::{c_text, call, call_for_text, nds_code};
use crate::handle::{find, free, keep};
use crate::raw::{deadline, element_or_none, items, place, text, text_or_none, the};
use crate::session::arena;
use ndshare::cache::give_way_when_short;
use ndshare::ring::{Format, Ring, RingOptions, WhenFull};
use ndshare::{Deadline, Result};
use std::ffi::{CString, c_char};
use std::sync::Arc;

/// What a ring is. Begin with zeros (`nds_ring_format format = {0};`) and set what you want.
#[repr(C)]
pub struct nds_ring_format {
    /// What the items of each frame are, such as "uint16"; NULL: frames have any shape, and each says what it is.
    pub dtype: *const c_char,
    /// How many axes each frame has.
    pub ndim: usize,
    /// Items along each axis.
    pub shape: *const usize,
    /// The dtype of what goes with each frame, as NumPy writes a structure: "[('exposure', '<f8')]". NULL: nothing does.
    pub meta: *const c_char,
    /// The ring's name, for people; or NULL.
    pub name: *const c_char,
    /// What a writer does while the slowest reader keeps all slots: "wait" for it (also NULL), "drop_oldest" or
    /// "drop_newest".
    pub when_full: *const c_char,
    /// How many frames wait for readers at the most.
    pub slots: usize,
    /// How many of the last frames stay whatever readers do, for one that comes late.
    pub keep: usize,
}

/// A ring: frames from any number of writers to any number of readers, in one order.
pub struct nds_ring {
    pub(crate) ring: Arc<Ring>,
    dtype: Option<CString>,
    meta: Option<CString>,
    name: Option<CString>,
    when_full: CString,
}

pub(crate) fn keep_ring(ring: Arc<Ring>) -> *mut nds_ring {
    let format = ring.format();
    let [dtype, meta] = [&format.element, &format.meta].map(|it| it.as_ref().map(|it| c_text(&it.to_string())));
    let (name, when_full) = (format.name.as_deref().map(c_text), c_text(ring.when_full().name()));
    keep(nds_ring { ring, dtype, meta, name, when_full })
}

/// # Safety
/// The pointers of `format` are null, or C strings and `ndim` lengths.
unsafe fn read_format(format: &nds_ring_format) -> Result<(Format, WhenFull)> {
    // SAFETY: as the caller says.
    unsafe {
        let element = element_or_none("a dtype", format.dtype)?;
        let shape = items("a shape", format.shape, format.ndim)?;
        // Without a dtype a shape is an error, which the library tells.
        let shape = (element.is_some() || !shape.is_empty()).then(|| shape.to_vec());
        let meta = element_or_none("a dtype of meta", format.meta)?;
        let name = text_or_none("a name", format.name)?.map(str::to_owned);
        let when_full = text_or_none("when_full", format.when_full)?.map_or(Ok(WhenFull::Wait), str::parse)?;
        Ok((Format { shape, element, meta, name, spin: None }, when_full))
    }
}

/// A new ring in the session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nds_ring_make(format: *const nds_ring_format, ring: *mut *mut nds_ring) -> nds_code {
    call(|| {
        // SAFETY: the caller gives a format, whose pointers are as its fields say, and a place for a handle, or null.
        let (format, out) = unsafe { (the("a format", format)?, place("a place for the ring", ring)?) };
        // SAFETY: as above.
        let (what, when_full) = unsafe { read_format(format) }?;
        let options = RingOptions { slots: format.slots, keep: format.keep, when_full };
        out.set(keep_ring(Ring::new(&arena()?, what, options, &Deadline::never())?));
        Ok(())
    })
}

/// Opens the ring of a reference: the text that `nds_ring_reference`, or `str(nds.ref(ring))` in Python, gives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nds_ring_open(reference: *const c_char, timeout: f64, ring: *mut *mut nds_ring) -> nds_code {
    call(|| {
        // SAFETY: the caller gives a C string and a place for a handle, or null for any of them.
        let (reference, out) = unsafe { (text("a reference", reference)?, place("a place for the ring", ring)?) };
        // Its writers need memory, which others may have filled with values of caches.
        give_way_when_short();
        out.set(keep_ring(Ring::open_reference(&reference.parse()?, &deadline(timeout)?)?));
        Ok(())
    })
}

/// What the ring is, as it was made. The texts stay as long as the handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nds_ring_get_format(ring: *const nds_ring, format: *mut nds_ring_format) -> nds_code {
    call(|| {
        // SAFETY: the caller gives a place for the format, or null.
        let (found, out) = (find(ring)?, unsafe { place("a place for the format", format) }?);
        let shape = found.ring.format().shape.as_deref().unwrap_or_default();
        let or_null = |text: &Option<CString>| text.as_ref().map_or(std::ptr::null(), |text| text.as_ptr());
        out.set(nds_ring_format {
            dtype: or_null(&found.dtype),
            ndim: shape.len(),
            shape: shape.as_ptr(),
            meta: or_null(&found.meta),
            name: or_null(&found.name),
            when_full: found.when_full.as_ptr(),
            slots: found.ring.geometry().slots as usize,
            keep: found.ring.geometry().keep as usize,
        });
        Ok(())
    })
}

/// A text that names the ring for other processes, in C, Rust or Python (`nds.ref(text).open()`). It opens as long as
/// anybody has the ring. NULL for an error. It stays until this thread asks for its next text.
#[unsafe(no_mangle)]
pub extern "C" fn nds_ring_reference(ring: *const nds_ring) -> *const c_char {
    call_for_text(|| Ok(find(ring)?.ring.reference().to_string()))
}

/// Ends the stream: readers get what is there, then NDS_CLOSED, and nobody can write any more.
#[unsafe(no_mangle)]
pub extern "C" fn nds_ring_close(ring: *mut nds_ring, timeout: f64) -> nds_code {
    call(|| find(ring.cast_const())?.ring.close(&deadline(timeout)?))
}

/// Lets go of the ring; its writers, readers and frames go on. NULL is none.
#[unsafe(no_mangle)]
pub extern "C" fn nds_ring_free(ring: *mut nds_ring) -> nds_code {
    call(|| free(ring))
}
