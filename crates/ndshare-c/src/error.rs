//! What went wrong, as C has it: a number to decide by, and a sentence for people, which each thread has of its own.

use ndshare::error::guarded;
use ndshare::{Error, Kind, Result};
use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::thread::LocalKey;

/// What a function says of how it went. The numbers stay what they are; later versions may add some.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum nds_code {
    /// It is done.
    NDS_OK = 0,
    /// The arena, or a limit under it, has no room.
    NDS_ARENA_FULL = 1,
    /// What a reference names is gone.
    NDS_STALE = 2,
    /// This process cannot take part in the arena.
    NDS_ATTACH = 3,
    /// Nobody that this process may look into has the arena.
    NDS_UNREACHABLE = 4,
    /// The arena is another user's.
    NDS_FOREIGN = 5,
    /// A wait reached its timeout.
    NDS_TIMEOUT = 6,
    /// A wait was ended early.
    NDS_INTERRUPTED = 7,
    /// The holder of a lock died in it, and nobody has put things in order since.
    NDS_OWNER_DIED = 8,
    /// No frame came before the timeout.
    NDS_EMPTY = 9,
    /// No frame could be written before the timeout.
    NDS_FULL = 10,
    /// The ring was closed, and all frames were read.
    NDS_CLOSED = 11,
    /// The last writer of a ring died without closing it.
    NDS_WRITER_DIED = 12,
    /// Another process failed to load a value.
    NDS_LOAD_FAILED = 13,
    /// The call cannot work in this state: a handle that was freed, a lock that this thread has already.
    NDS_MISUSE = 14,
    /// Something wrote over the arena's tables; it is not used any more.
    NDS_POISONED = 15,
    /// An argument has a value that cannot work, such as NULL.
    NDS_INVALID_VALUE = 16,
    /// An argument is of a type that cannot work.
    NDS_INVALID_TYPE = 17,
    /// The operating system refused.
    NDS_OS = 18,
    /// This process has the object to read only.
    NDS_READ_ONLY = 19,
    /// Another user offers the object, and does not let this one read it.
    NDS_REFUSED = 20,
    /// Something that this version has no number for.
    NDS_OTHER = 99,
}

use nds_code::*;

thread_local! {
    static ERROR: RefCell<CString> = RefCell::default();
    static TEXT: RefCell<CString> = RefCell::default();
}

/// The sentence of the last error of this thread; "" if there was none. It stays until this thread has its next error.
#[unsafe(no_mangle)]
pub extern "C" fn nds_error() -> *const c_char {
    ERROR.try_with(|text| text.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

/// The version of the library: "0.1.0".
#[unsafe(no_mangle)]
pub extern "C" fn nds_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Runs a function of the library: its error, or a panic, becomes the number that the caller gets.
pub(crate) fn call(work: impl FnOnce() -> Result<()>) -> nds_code {
    guarded(work).map_or_else(|error| fail(&error), |()| NDS_OK)
}

/// The same for a text, which stays until this thread asks for its next one; null for an error.
pub(crate) fn call_for_text(work: impl FnOnce() -> Result<String>) -> *const c_char {
    match guarded(work) {
        Ok(text) => keep(&TEXT, &text),
        Err(error) => {
            fail(&error);
            std::ptr::null()
        }
    }
}

#[cold]
fn fail(error: &Error) -> nds_code {
    keep(&ERROR, &error.to_string());
    code_of(error.kind())
}

/// `text` as a C string; where a zero is in it, up to that.
pub(crate) fn c_text(text: &str) -> CString {
    CString::new(text.split('\0').next().unwrap_or_default()).unwrap_or_default()
}

/// A thread that is ending may have no place for a text any more.
fn keep(place: &'static LocalKey<RefCell<CString>>, text: &str) -> *const c_char {
    let set = |place: &RefCell<CString>| {
        let _before = place.replace(c_text(text));
        place.borrow().as_ptr()
    };
    place.try_with(set).unwrap_or(std::ptr::null())
}

fn code_of(kind: Kind) -> nds_code {
    match kind {
        Kind::ArenaFull => NDS_ARENA_FULL,
        Kind::Stale => NDS_STALE,
        Kind::Attach => NDS_ATTACH,
        Kind::Unreachable => NDS_UNREACHABLE,
        Kind::Foreign => NDS_FOREIGN,
        Kind::Timeout => NDS_TIMEOUT,
        Kind::Interrupted => NDS_INTERRUPTED,
        Kind::OwnerDied => NDS_OWNER_DIED,
        Kind::Empty => NDS_EMPTY,
        Kind::Full => NDS_FULL,
        Kind::Closed => NDS_CLOSED,
        Kind::WriterDied => NDS_WRITER_DIED,
        Kind::LoadFailed => NDS_LOAD_FAILED,
        Kind::Misuse => NDS_MISUSE,
        Kind::Poisoned => NDS_POISONED,
        Kind::InvalidValue => NDS_INVALID_VALUE,
        Kind::InvalidType => NDS_INVALID_TYPE,
        Kind::Os => NDS_OS,
        Kind::ReadOnly => NDS_READ_ONLY,
        Kind::Refused => NDS_REFUSED,
        _ => NDS_OTHER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    #[test]
    fn an_error_is_a_number_and_a_sentence_of_its_thread() {
        let failed = call(|| Err(Error::new(Kind::Stale, "expected a, got b\0c")));
        // SAFETY: a C string of this thread, which has no other error meanwhile.
        let text = || unsafe { CStr::from_ptr(nds_error()) }.to_str().unwrap().to_owned();
        assert_eq!((failed, text().as_str()), (NDS_STALE, "expected a, got b"));
        assert_eq!(std::thread::scope(|scope| scope.spawn(text).join().unwrap()), "");
        assert_eq!(call(|| Ok(())), NDS_OK);
        assert_eq!(text(), "expected a, got b", "it stays until the next error");
    }

    #[test]
    fn each_kind_has_a_number_of_its_own() {
        assert_eq!(code_of(Kind::Refused), NDS_REFUSED);
        assert_eq!((NDS_REFUSED as i32, NDS_READ_ONLY as i32), (20, 19));
    }

    #[test]
    fn a_panic_is_an_error() {
        assert_eq!(call(|| panic!("a bug")), NDS_POISONED);
        assert!(call_for_text(|| panic!("a bug")).is_null());
    }
}
