//! Arguments as C passes them: read once, each with an error that names it. What a caller owes is said in the header: a
//! pointer is null, or leads to what its type says for as long as the call lasts.

use ndshare::array::Element;
use ndshare::{Deadline, Error, Kind, Result};
use std::ffi::{CStr, c_char};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::time::Duration;

/// Where a caller wants a result.
pub(crate) struct Place<'a, T>(NonNull<T>, PhantomData<&'a mut T>);

impl<T> Place<'_, T> {
    /// Puts it there.
    pub(crate) fn set(self, value: T) {
        // SAFETY: whoever made the place vouched for it, for as long as it is borrowed.
        unsafe { self.0.write(value) };
    }
}

/// Where the caller wants a result.
///
/// # Errors
/// `InvalidValue` for null.
///
/// # Safety
/// `pointer` is null, or leads to room for a `T` that nobody else uses for `'a`.
pub(crate) unsafe fn place<'a, T>(name: &str, pointer: *mut T) -> Result<Place<'a, T>> {
    NonNull::new(pointer).map(|pointer| Place(pointer, PhantomData)).ok_or_else(|| is_null(name))
}

/// What an argument leads to.
///
/// # Errors
/// `InvalidValue` for null.
///
/// # Safety
/// `pointer` is null, or leads to a `T` that stays as it is for `'a`.
pub(crate) unsafe fn the<'a, T>(name: &str, pointer: *const T) -> Result<&'a T> {
    // SAFETY: as the caller says.
    unsafe { pointer.as_ref() }.ok_or_else(|| is_null(name))
}

/// `count` items; none need no pointer.
///
/// # Errors
/// `InvalidValue` for null, and for more than an address space has.
///
/// # Safety
/// `first` is null, or leads to `count` items that stay as they are for `'a`.
pub(crate) unsafe fn items<'a, T>(name: &str, first: *const T, count: usize) -> Result<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    if first.is_null() {
        return Err(is_null(name));
    }
    if count > isize::MAX.cast_unsigned() / size_of::<T>().max(1) {
        return Err(Error::new(Kind::InvalidValue, format!("expected as many {name} as there are, got {count}")));
    }
    // SAFETY: as the caller says; and they are no more than a slice may have.
    Ok(unsafe { std::slice::from_raw_parts(first, count) })
}

/// A text; none for null.
///
/// # Errors
/// `InvalidValue` for bytes that are no UTF-8.
///
/// # Safety
/// `text` is null, or a C string that stays as it is for `'a`.
pub(crate) unsafe fn text_or_none<'a>(name: &str, text: *const c_char) -> Result<Option<&'a str>> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: as the caller says.
    let text = unsafe { CStr::from_ptr(text) }.to_str();
    text.map(Some).map_err(|_| Error::new(Kind::InvalidValue, format!("expected {name} in UTF-8, got other bytes")))
}

/// A text that has to be there.
///
/// # Errors
/// `InvalidValue` for null, and for bytes that are no UTF-8.
///
/// # Safety
/// As [`text_or_none`].
pub(crate) unsafe fn text<'a>(name: &str, text: *const c_char) -> Result<&'a str> {
    // SAFETY: as the caller says.
    unsafe { text_or_none(name, text) }?.ok_or_else(|| is_null(name))
}

/// The element type that a text names; none for null.
///
/// # Errors
/// As [`text_or_none`]; `InvalidValue` for a text that names none.
///
/// # Safety
/// As [`text_or_none`].
pub(crate) unsafe fn element_or_none(name: &str, dtype: *const c_char) -> Result<Option<Element>> {
    // SAFETY: as the caller says.
    unsafe { text_or_none(name, dtype) }?.map(str::parse).transpose()
}

/// The end of a wait of so many seconds; below 0 there is none.
///
/// # Errors
/// `InvalidValue` for what is no number.
pub(crate) fn deadline(timeout: f64) -> Result<Deadline<'static>> {
    match timeout {
        nan if nan.is_nan() => Err(Error::new(Kind::InvalidValue, "expected a timeout in seconds, got NaN")),
        ..0.0 => Ok(Deadline::never()),
        // What no clock holds is no end, either.
        seconds => Ok(Deadline::new(Duration::try_from_secs_f64(seconds).ok(), &|| Ok(()))),
    }
}

#[cold]
fn is_null(name: &str) -> Error {
    Error::new(Kind::InvalidValue, format!("expected {name}, got NULL"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_a_number_of_seconds_and_below_0_there_is_none() {
        assert!(deadline(f64::NAN).is_err());
        let goes_on = |timeout| deadline(timeout).unwrap().go_on("a test").is_ok();
        assert_eq!(
            [-1.0, f64::NEG_INFINITY, f64::INFINITY, 1e300, 60.0, 0.0].map(goes_on),
            [true, true, true, true, true, false]
        );
    }

    #[test]
    fn arguments_that_are_not_there_are_errors_by_name() {
        let null = std::ptr::null_mut::<usize>();
        // SAFETY: null, or no items.
        let (none, some) = unsafe { (items("lengths", null, 0).unwrap(), items("lengths", null, 2).unwrap_err()) };
        assert_eq!((none, some.to_string().as_str()), (&[][..], "expected lengths, got NULL"));
        // SAFETY: null; and one item, of which too many are asked for.
        let errors = unsafe { [place("a", null).err(), the("a", null).err(), items("a", &1_u64, usize::MAX).err()] };
        assert!(errors.iter().all(Option::is_some));
        // SAFETY: null, and C strings.
        unsafe {
            assert_eq!(text_or_none("name", std::ptr::null()).unwrap(), None);
            assert_eq!(text("name", c"\xff".as_ptr()).unwrap_err().kind(), Kind::InvalidValue);
            assert!(text("name", std::ptr::null()).is_err() && element_or_none("dtype", c"q".as_ptr()).is_err());
        }
    }
}
