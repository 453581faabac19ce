//! The locks of arrays.

use crate::array::nds_array;
use crate::error::{call, nds_code};
use crate::handle::{consume, find, keep};
use crate::raw::{deadline, items, place};
use ndshare::Result;
use ndshare::lock::{Death, Locked};

/// The locks of some arrays, held.
pub struct nds_lock {
    /// None once they are freed.
    locked: Option<Locked>,
}

/// Takes the locks of `count` arrays, all or none, as `nds.locked` in Python does.
///
/// NDS_OWNER_DIED when the last one inside died; then nothing is held, and with `recover` it is taken all the same: put the
/// content in order. NDS_MISUSE when this thread has one of them already, NDS_TIMEOUT at the timeout.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nds_arrays_lock(
    arrays: *const *mut nds_array,
    count: usize,
    recover: bool,
    timeout: f64,
    lock: *mut *mut nds_lock,
) -> nds_code {
    call(|| {
        // SAFETY: the caller gives `count` handles and a place for another one, or null for any of them.
        let (arrays, out) = unsafe { (items("arrays to lock", arrays, count)?, place("a place for the lock", lock)?) };
        let holds = arrays.iter().map(|&array| Ok(find(array.cast_const())?.array.hold().clone()));
        let death = if recover { Death::Recover } else { Death::Report };
        let locked = Locked::acquire(holds.collect::<Result<_>>()?, death, &deadline(timeout)?)?;
        out.set(keep(nds_lock { locked: Some(locked) }));
        Ok(())
    })
}

/// Frees the locks. `clean`: the content is in order, and others need not be told of a death any more.
#[unsafe(no_mangle)]
pub extern "C" fn nds_unlock(lock: *mut nds_lock, clean: bool) -> nds_code {
    call(|| consume(lock, |lock| lock.locked.take().map_or(Ok(()), |locked| locked.release(clean))))
}
