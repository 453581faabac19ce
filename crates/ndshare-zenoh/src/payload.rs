//! Payloads: Python's buffers that Zenoh reads in place, and fragments that go into a Python buffer by one copy.

use std::{ptr, slice};

use bytes::Bytes;
use pyo3::{
    buffer::PyUntypedBuffer,
    exceptions::{PyBufferError, PyValueError},
    prelude::*,
    types::{PyBytes, PyList, PyString, PyTuple},
};
use zenoh::bytes::ZBytes as Theirs;

use crate::kept::give_back;

/// Buffers of fewer bytes are copied: to give one back takes the lock of the interpreter.
const LEAST_LENT: usize = 4096;

/// A Python buffer that may only be read, kept until Zenoh has read it.
struct Lent {
    buffer: Option<PyUntypedBuffer>,
    start: *const u8,
    len: usize,
}

// SAFETY: the buffer is `Send` itself. The pointer is into that buffer, which any thread may read.
unsafe impl Send for Lent {}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `start` and `len` are those of a buffer without gaps that `lent` found to be read-only and not empty,
        // and that is exported until `drop`: its exporter neither moves nor frees the memory while it is. Nobody writes
        // there meanwhile as far as exporters keep their word: `bytes` are never written, and a frame or a value that
        // ndshare gives out read-only is not while a view of it lives. This is a promise of those who export, and no
        // check: who passes a read-only view of memory that he writes sends bytes of which nobody knows what they are.
        unsafe { slice::from_raw_parts(self.start, self.len) }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // Zenoh's thread may be the last that has it.
        if let Some(buffer) = self.buffer.take() {
            give_back(buffer, |py, buffer| buffer.release(py));
        }
    }
}

/// Return one buffer as a payload; by a copy if it is short, or somebody may write to it.
fn of_buffer(given: &Bound<'_, PyAny>) -> PyResult<Theirs> {
    let buffer = PyUntypedBuffer::get(given)?;
    if !buffer.is_c_contiguous() {
        return Err(PyBufferError::new_err("expected a buffer without gaps, in C order, got another one: pass a copy"));
    }
    let (start, len) = (buffer.buf_ptr().cast::<u8>().cast_const(), buffer.len_bytes());
    if buffer.readonly() && len >= LEAST_LENT {
        let lent = Lent { buffer: Some(buffer), start, len };
        return Ok(Bytes::from_owner(lent).into());
    }
    let mut copy = Vec::<u8>::with_capacity(len);
    if len > 0 {
        // SAFETY: the buffer is exported, so `len` bytes are at `start`, and the vector has room for as many; its memory
        // is new, so the two do not overlap. The bytes may change meanwhile, by a thread that holds no lock: they are
        // read as plain bytes, of which each value is one, and no reference to them is made.
        unsafe {
            ptr::copy_nonoverlapping(start, copy.as_mut_ptr(), len);
            copy.set_len(len);
        }
    }
    Ok(copy.into())
}

/// Return what Python passes as a payload: a `ZBytes`, a text, a buffer, or a list or tuple of these.
pub(crate) fn of_python(given: &Bound<'_, PyAny>) -> PyResult<Theirs> {
    if let Ok(payload) = given.cast::<ZBytes>() {
        return Ok(payload.get().0.clone());
    }
    if let Ok(text) = given.cast::<PyString>() {
        return Ok(text.to_str()?.into());
    }
    if given.is_instance_of::<PyList>() || given.is_instance_of::<PyTuple>() {
        let mut writer = Theirs::writer();
        for part in given.try_iter()? {
            writer.append(of_python(&part?)?);
        }
        return Ok(writer.finish());
    }
    of_buffer(given)
}

/// Return the same of what may be missing.
pub(crate) fn if_given(given: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Theirs>> {
    given.map(of_python).transpose()
}

/// The bytes of a message: fragments as they came, or buffers as they are to be sent.
#[pyclass(frozen, module = "ndshare_zenoh")]
pub(crate) struct ZBytes(pub(crate) Theirs);

impl ZBytes {
    /// Write the first `len` bytes to an address.
    ///
    /// # Safety
    ///
    /// `len` bytes at `target` may be written, and there are as many in the payload.
    unsafe fn write_to(&self, target: *mut u8, len: usize) {
        let mut done = 0;
        for part in self.0.slices() {
            let size = part.len().min(len - done);
            // SAFETY: `done + size` is at most `len`, and the caller says that these bytes may be written. `copy` allows
            // that a buffer that was lent to this payload and the target are the same memory.
            unsafe { ptr::copy(part.as_ptr(), target.add(done), size) };
            done += size;
        }
    }
}

#[pymethods]
impl ZBytes {
    #[new]
    fn new(given: &Bound<'_, PyAny>) -> PyResult<Self> {
        of_python(given).map(Self)
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn __bool__(&self) -> bool {
        !self.0.is_empty()
    }

    fn __bytes__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let len = self.0.len();
        PyBytes::new_with(py, len, |target| {
            // SAFETY: `target` has `len` bytes of its own.
            unsafe { self.write_to(target.as_mut_ptr(), len) };
            Ok(())
        })
    }

    /// Return the payload as bytes, by a copy.
    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.__bytes__(py)
    }

    /// Tell whether the payload ends with these bytes; nothing else is looked at.
    fn endswith(&self, end: &[u8]) -> bool {
        let Some(mut skipped) = self.0.len().checked_sub(end.len()) else {
            return false;
        };
        let mut rest = end;
        for part in self.0.slices() {
            let tail = &part[skipped.min(part.len())..];
            skipped -= part.len() - tail.len();
            let Some(after) = rest.strip_prefix(tail) else {
                return false;
            };
            rest = after;
        }
        rest.is_empty()
    }

    /// Write the first bytes of the payload into a buffer, as many as it has room for: one copy, without the lock.
    fn copy_into(&self, py: Python<'_>, target: &Bound<'_, PyAny>) -> PyResult<()> {
        let buffer = PyUntypedBuffer::get(target)?;
        if buffer.readonly() || !buffer.is_c_contiguous() {
            return Err(PyBufferError::new_err(
                "expected a buffer that can be written, without gaps, in C order, got another one",
            ));
        }
        let (start, len) = (Address(buffer.buf_ptr().cast::<u8>()), buffer.len_bytes());
        if len > self.0.len() {
            let found = self.0.len();
            return Err(PyValueError::new_err(format!("expected a payload of at least {len} bytes, got {found}")));
        }
        // SAFETY: the buffer is exported until the end of this function, so its memory stays, and may be written: `len`
        // bytes, no more than the payload has. They are written as plain bytes, and no reference to them is made, so
        // a thread that looks at them meanwhile sees some of the old ones and some of the new, as with any memoryview.
        py.detach(move || unsafe { self.write_to(start.get(), len) });
        buffer.release(py);
        Ok(())
    }

    fn __repr__(&self) -> String {
        format!("<ZBytes of {} bytes>", self.0.len())
    }
}

/// An address that goes into a call without the lock.
#[derive(Clone, Copy)]
struct Address(*mut u8);

// SAFETY: an address is a number; who writes there says why he may.
unsafe impl Send for Address {}

impl Address {
    fn get(self) -> *mut u8 {
        self.0
    }
}
