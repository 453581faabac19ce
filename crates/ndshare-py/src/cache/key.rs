//! Keys as bytes: one form for all keys that a dict takes for equal, and no form for two keys that it does not.
//!
//! Each item begins with a letter for its type. Numbers are LEB128 varints; texts, bytes and tuples say their length
//! first. So `True`, `1`, `1.0` and `numpy.int8(1)` are one key, as they are in a dict, and `"1"`, `b"1"` and
//! `Path("1")` are three others.

use ndshare::cache::Key;
use ndshare::varint;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyEllipsis, PyFloat, PyInt, PySlice, PyString, PyTuple, PyType};

use crate::error::to_python;
use crate::guard::Once;

const SMALL: u8 = b'i';
const LARGE: u8 = b'I';
const TEXT: u8 = b's';
const BYTES: u8 = b'b';
const TUPLE: u8 = b't';
const NONE: u8 = b'n';
const ELLIPSIS: u8 = b'.';
const FLOAT: u8 = b'f';
const SLICE: u8 = b'l';
const POSIX_PATH: u8 = b'p';
const WINDOWS_PATH: u8 = b'w';
const ENUM: u8 = b'e';
const UUID: u8 = b'u';

/// Tuples in tuples, at the most.
const MAX_DEPTH: usize = 64;
/// Room for the keys that most programs use.
const USUAL_BYTES: usize = 64;

/// The key that an object is.
#[inline]
pub(crate) fn encode(key: &Bound<'_, PyAny>) -> PyResult<Key> {
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    push(&mut bytes, key, 0)?;
    Key::new(bytes).map_err(|error| to_python(key.py(), &error))
}

#[inline]
fn push(out: &mut Vec<u8>, key: &Bound<'_, PyAny>, depth: usize) -> PyResult<()> {
    if let Ok(text) = key.cast::<PyString>() {
        return push_text(out, text);
    }
    if key.is_instance_of::<PyInt>() {
        return push_int(out, key);
    }
    if let Ok(bytes) = key.cast::<PyBytes>() {
        push_bytes(out, BYTES, bytes.as_bytes());
        return Ok(());
    }
    match key.cast::<PyTuple>() {
        Ok(tuple) => push_tuple(out, tuple, depth),
        Err(_) => push_other(out, key, depth),
    }
}

fn push_text(out: &mut Vec<u8>, text: &Bound<'_, PyString>) -> PyResult<()> {
    push_text_as(out, TEXT, text)
}

fn push_text_as(out: &mut Vec<u8>, letter: u8, text: &Bound<'_, PyString>) -> PyResult<()> {
    if let Ok(utf8) = text.to_str() {
        push_bytes(out, letter, utf8.as_bytes());
        return Ok(());
    }
    // Halves of surrogate pairs, which file names may have.
    let encoded = text.call_method1(intern!(text.py(), "encode"), ("utf-8", "surrogatepass"))?;
    push_bytes(out, letter, encoded.cast::<PyBytes>()?.as_bytes());
    Ok(())
}

fn push_bytes(out: &mut Vec<u8>, letter: u8, bytes: &[u8]) {
    out.push(letter);
    varint::push(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn push_int(out: &mut Vec<u8>, key: &Bound<'_, PyAny>) -> PyResult<()> {
    match key.extract::<i64>() {
        Ok(number) => {
            out.push(SMALL);
            varint::push(out, ((number << 1) ^ (number >> 63)) as u64);
            Ok(())
        }
        Err(_) => push_large(out, key),
    }
}

#[cold]
fn push_large(out: &mut Vec<u8>, key: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = key.py();
    // NumPy's spans of time pass for integers, and are none: that is a TypeError here.
    let number = py.import("operator")?.call_method1(intern!(py, "index"), (key,))?;
    // The fewest bytes that have room for the sign, so that a number has one form.
    let bits: usize = number.call_method0(intern!(py, "bit_length"))?.extract()?;
    let signed = PyDict::new(py);
    signed.set_item(intern!(py, "signed"), true)?;
    let bytes = number.call_method(intern!(py, "to_bytes"), (bits / 8 + 1, "little"), Some(&signed))?;
    push_bytes(out, LARGE, bytes.cast::<PyBytes>()?.as_bytes());
    Ok(())
}

fn push_tuple(out: &mut Vec<u8>, tuple: &Bound<'_, PyTuple>, depth: usize) -> PyResult<()> {
    check_depth(depth)?;
    out.push(TUPLE);
    varint::push(out, tuple.len() as u64);
    tuple.iter().try_for_each(|item| push(out, &item, depth + 1))
}

/// Everything that is neither text, bytes, int nor tuple.
fn push_other(out: &mut Vec<u8>, key: &Bound<'_, PyAny>, depth: usize) -> PyResult<()> {
    if let Ok(float) = key.cast::<PyFloat>() {
        return push_float(out, float);
    }
    if key.is_none() || key.is_instance_of::<PyEllipsis>() {
        out.extend([if key.is_none() { NONE } else { ELLIPSIS }, 0]);
        return Ok(());
    }
    if let Ok(slice) = key.cast::<PySlice>() {
        return push_slice(out, slice, depth);
    }
    if push_numpy(out, key)? || push_named(out, key)? {
        return Ok(());
    }
    Err(PyTypeError::new_err(format!(
        "expected a key of str, bytes, int, float, bool, None, slice, pathlib path, enum or UUID, or a tuple of these, \
         got {} of {}",
        key.repr()?,
        key.get_type()
    )))
}

/// A float that is a whole number is that number, as in a dict.
fn push_float(out: &mut Vec<u8>, float: &Bound<'_, PyFloat>) -> PyResult<()> {
    let number = float.extract::<f64>()?;
    if number.is_nan() {
        return Err(PyValueError::new_err("expected a key that is equal to itself, got NaN: use None, or a text"));
    }
    if number.is_finite() && number.fract() == 0.0 {
        let whole = float.call_method0(intern!(float.py(), "__int__"))?;
        return push_int(out, &whole);
    }
    push_bytes(out, FLOAT, &number.to_le_bytes());
    Ok(())
}

fn push_slice(out: &mut Vec<u8>, slice: &Bound<'_, PySlice>, depth: usize) -> PyResult<()> {
    let py = slice.py();
    check_depth(depth)?;
    out.extend([SLICE, 0]);
    [intern!(py, "start"), intern!(py, "stop"), intern!(py, "step")]
        .into_iter()
        .try_for_each(|name| push(out, &slice.getattr(name)?, depth + 1))
}

fn check_depth(depth: usize) -> PyResult<()> {
    if depth < MAX_DEPTH {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("expected a key of at most {MAX_DEPTH} tuples in each other, got more")))
}

/// NumPy's scalars that a dict takes for numbers of Python. False: it is none.
fn push_numpy(out: &mut Vec<u8>, key: &Bound<'_, PyAny>) -> PyResult<bool> {
    static INTEGER: Once<Py<PyType>> = Once::new();
    static BOOLEAN: Once<Py<PyType>> = Once::new();
    static HALF: Once<Py<PyType>> = Once::new();
    static SINGLE: Once<Py<PyType>> = Once::new();
    let py = key.py();
    if key.is_instance(INTEGER.import(py, "numpy", "integer")?)? {
        return push_int(out, key).map(|()| true);
    }
    if key.is_instance(BOOLEAN.import(py, "numpy", "bool")?)? {
        return push_int(out, PyInt::new(py, i64::from(key.is_truthy()?)).as_any()).map(|()| true);
    }
    if key.is_instance(HALF.import(py, "numpy", "float16")?)?
        || key.is_instance(SINGLE.import(py, "numpy", "float32")?)?
    {
        let float = key.call_method0(intern!(py, "__float__"))?;
        return push_float(out, float.cast::<PyFloat>()?).map(|()| true);
    }
    Ok(false)
}

/// Paths, enums and UUIDs: `ndshare._cache` says what they are by name. False: it is none.
fn push_named(out: &mut Vec<u8>, key: &Bound<'_, PyAny>) -> PyResult<bool> {
    static PARTS: Once<Py<PyAny>> = Once::new();
    let parts = PARTS.import(key.py(), "ndshare._cache", "key_parts")?.call1((key,))?;
    if parts.is_none() {
        return Ok(false);
    }
    let (kind, what) = parts.extract::<(u8, Bound<'_, PyAny>)>()?;
    match kind {
        UUID => push_bytes(out, UUID, what.cast::<PyBytes>()?.as_bytes()),
        ENUM => {
            out.extend([ENUM, 0]);
            push(out, &what, 0)?;
        }
        letter => push_text_as(out, letter, what.cast::<PyString>()?)?,
    }
    Ok(true)
}

/// The object that bytes in shared memory stand for.
pub(crate) fn decode<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let mut reader = Reader { py, rest: varint::Reader::new(bytes) };
    let key = reader.item(0)?;
    if reader.rest.rest().is_empty() { Ok(key) } else { Err(bad_key()) }
}

struct Reader<'a, 'py> {
    py: Python<'py>,
    rest: varint::Reader<'a>,
}

impl<'py> Reader<'_, 'py> {
    fn item(&mut self, depth: usize) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        let letter = self.take(1)?[0];
        let number = self.number()?;
        match letter {
            SMALL => Ok(PyInt::new(py, (number >> 1) as i64 ^ -((number & 1) as i64)).into_any()),
            LARGE => large(py, self.take(number)?),
            TEXT => text(py, self.take(number)?),
            BYTES => Ok(PyBytes::new(py, self.take(number)?).into_any()),
            NONE => Ok(py.None().into_bound(py)),
            ELLIPSIS => Ok(py.Ellipsis().into_bound(py)),
            FLOAT => {
                let bytes: [u8; 8] = self.take(number)?.try_into().map_err(|_| bad_key())?;
                Ok(PyFloat::new(py, f64::from_le_bytes(bytes)).into_any())
            }
            SLICE if depth < MAX_DEPTH => {
                let parts = [self.item(depth + 1)?, self.item(depth + 1)?, self.item(depth + 1)?];
                py.get_type::<PySlice>().call1(PyTuple::new(py, parts)?)
            }
            UUID => {
                let bytes = PyBytes::new(py, self.take(number)?).into_any();
                named(py, letter, &bytes)
            }
            POSIX_PATH | WINDOWS_PATH => {
                let text = text(py, self.take(number)?)?;
                named(py, letter, &text)
            }
            ENUM if depth < MAX_DEPTH => {
                let parts = self.item(depth + 1)?;
                named(py, letter, &parts)
            }
            // Each item takes at least two bytes.
            TUPLE if depth < MAX_DEPTH && number <= self.rest.rest().len() as u64 => {
                let items = (0..number).map(|_| self.item(depth + 1)).collect::<PyResult<Vec<_>>>()?;
                Ok(PyTuple::new(py, items)?.into_any())
            }
            _ => Err(bad_key()),
        }
    }

    fn take(&mut self, len: u64) -> PyResult<&[u8]> {
        usize::try_from(len).ok().and_then(|len| self.rest.take(len)).ok_or_else(bad_key)
    }

    fn number(&mut self) -> PyResult<u64> {
        self.rest.number().ok_or_else(bad_key)
    }
}

/// The path, enum or UUID of such parts.
fn named<'py>(py: Python<'py>, letter: u8, parts: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    static KEY_OF: Once<Py<PyAny>> = Once::new();
    KEY_OF.import(py, "ndshare._cache", "key_of")?.call1((letter, parts))
}

fn large<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let signed = PyDict::new(py);
    signed.set_item(intern!(py, "signed"), true)?;
    let class = py.get_type::<PyInt>();
    class.call_method(intern!(py, "from_bytes"), (PyBytes::new(py, bytes), "little"), Some(&signed))
}

fn text<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(PyString::new(py, text).into_any()),
        Err(_) => PyBytes::new(py, bytes).call_method1(intern!(py, "decode"), ("utf-8", "surrogatepass")),
    }
}

#[cold]
fn bad_key() -> PyErr {
    PyValueError::new_err("expected keys of this cache, got bytes that are none: something wrote over its memory")
}
