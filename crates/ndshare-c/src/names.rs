//! Names, by which programs that nobody started together find arrays and rings.

use crate::array::{keep_array, nds_array};
use crate::error::{call, nds_code};
use crate::handle::find;
use crate::raw::{deadline, place, text};
use crate::ring::{keep_ring, nds_ring};
use ndshare::cache::give_way_when_short;
use ndshare::names::{Object, attach, attach_readonly, publish, unpublish};
use ndshare::{Deadline, Result};
use std::ffi::c_char;

/// Offers an array to all programs of this user under a name, also to those in Python (`nds.attach(name)`) and Rust. This
/// process keeps the array until the name is taken back or replaced, or the process ends; whoever attached keeps it as well.
/// NDS_MISUSE when another object that lives has the name, unless `replace` says that it loses it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nds_publish_array(
    name: *const c_char,
    array: *const nds_array,
    replace: bool,
    timeout: f64,
) -> nds_code {
    call(|| {
        // SAFETY: the caller gives null or a C string.
        let name = unsafe { text("a name", name) }?;
        publish(name, &find(array)?.array, replace, &deadline(timeout)?)
    })
}

/// The same for a ring.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nds_publish_ring(
    name: *const c_char,
    ring: *const nds_ring,
    replace: bool,
    timeout: f64,
) -> nds_code {
    call(|| {
        // SAFETY: the caller gives null or a C string.
        let name = unsafe { text("a name", name) }?;
        publish(name, &find(ring)?.ring, replace, &deadline(timeout)?)
    })
}

/// Opens the array that a program has published under a name, in whatever language; waits for it up to the timeout (0 looks
/// once), then NDS_TIMEOUT. NDS_INVALID_TYPE when the name stands for something else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nds_attach_array(name: *const c_char, timeout: f64, array: *mut *mut nds_array) -> nds_code {
    // SAFETY: the caller gives a C string and a place for a handle, or null for any of them.
    unsafe { array_by(attach, name, timeout, array) }
}

/// The same to read only: `readonly` of its info is true, and its memory has no write permission in this process, which
/// ends by a signal if it writes there. What would change its arena, such as a new array in it, is NDS_READ_ONLY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nds_attach_array_readonly(
    name: *const c_char,
    timeout: f64,
    array: *mut *mut nds_array,
) -> nds_code {
    // SAFETY: as above.
    unsafe { array_by(attach_readonly, name, timeout, array) }
}

/// Opens the ring that a program has published under a name, as nds_attach_array does for an array.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nds_attach_ring(name: *const c_char, timeout: f64, ring: *mut *mut nds_ring) -> nds_code {
    // SAFETY: the caller gives a C string and a place for a handle, or null for any of them.
    unsafe { ring_by(attach, name, timeout, ring) }
}

/// The same to read only: it has readers, and no writers (NDS_READ_ONLY). Frames have no write permission in this process.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nds_attach_ring_readonly(
    name: *const c_char,
    timeout: f64,
    ring: *mut *mut nds_ring,
) -> nds_code {
    // SAFETY: as above.
    unsafe { ring_by(attach_readonly, name, timeout, ring) }
}

/// How an object is opened by its name.
type Attach = fn(&str, &Deadline) -> Result<Object>;

/// # Safety
/// Each pointer is null, or leads to what its type says.
unsafe fn array_by(attach: Attach, name: *const c_char, timeout: f64, array: *mut *mut nds_array) -> nds_code {
    call(|| {
        // SAFETY: as the caller says.
        let (name, out) = unsafe { (text("a name", name)?, place("a place for the array", array)?) };
        out.set(keep_array(attach(name, &deadline(timeout)?)?.try_into()?));
        Ok(())
    })
}

/// # Safety
/// As [`array_by`].
unsafe fn ring_by(attach: Attach, name: *const c_char, timeout: f64, ring: *mut *mut nds_ring) -> nds_code {
    call(|| {
        // SAFETY: as the caller says.
        let (name, out) = unsafe { (text("a name", name)?, place("a place for the ring", ring)?) };
        // Its writers need memory, which others may have filled with values of caches.
        give_way_when_short();
        out.set(keep_ring(attach(name, &deadline(timeout)?)?.try_into()?));
        Ok(())
    })
}

/// Takes a name away, whoever published it; those who have the object keep it. `removed` (or NULL) gets whether there was
/// such a name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nds_unpublish(name: *const c_char, timeout: f64, removed: *mut bool) -> nds_code {
    call(|| {
        // SAFETY: the caller gives a C string and a place for an answer, or null for any of them.
        let (name, out) = unsafe { (text("a name", name)?, place("a place for an answer", removed).ok()) };
        let was_there = unpublish(name, &deadline(timeout)?)?;
        if let Some(out) = out {
            out.set(was_there);
        }
        Ok(())
    })
}
