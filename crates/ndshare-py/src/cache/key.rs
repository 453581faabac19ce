//! Keys as bytes: one form for all keys that a dict takes for equal, and no form for two keys that it does not.
//!
//! Each item begins with a letter for its type. Numbers are LEB128 varints; texts, bytes and tuples say their length
//! first. So `True`, `1` and `numpy.int8(1)` are one key, and `"1"` and `b"1"` are two others.

use ndshare::cache::Key;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyInt, PyString, PyTuple, PyType};

use crate::error::to_python;
use crate::guard::Once;

const SMALL: u8 = b'i';
const LARGE: u8 = b'I';
const TEXT: u8 = b's';
const BYTES: u8 = b'b';
const TUPLE: u8 = b't';

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
        Err(_) => push_other(out, key),
    }
}

fn push_text(out: &mut Vec<u8>, text: &Bound<'_, PyString>) -> PyResult<()> {
    if let Ok(utf8) = text.to_str() {
        push_bytes(out, TEXT, utf8.as_bytes());
        return Ok(());
    }
    // Halves of surrogate pairs, which file names may have.
    let encoded = text.call_method1(intern!(text.py(), "encode"), ("utf-8", "surrogatepass"))?;
    push_bytes(out, TEXT, encoded.cast::<PyBytes>()?.as_bytes());
    Ok(())
}

fn push_bytes(out: &mut Vec<u8>, letter: u8, bytes: &[u8]) {
    out.push(letter);
    push_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn push_int(out: &mut Vec<u8>, key: &Bound<'_, PyAny>) -> PyResult<()> {
    match key.extract::<i64>() {
        Ok(number) => {
            out.push(SMALL);
            push_number(out, ((number << 1) ^ (number >> 63)) as u64);
            Ok(())
        }
        Err(_) => push_large(out, key),
    }
}

#[cold]
fn push_large(out: &mut Vec<u8>, key: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = key.py();
    let number = key.call_method0(intern!(py, "__index__"))?;
    // The fewest bytes that have room for the sign, so that a number has one form.
    let bits: usize = number.call_method0(intern!(py, "bit_length"))?.extract()?;
    let signed = PyDict::new(py);
    signed.set_item(intern!(py, "signed"), true)?;
    let bytes = number.call_method(intern!(py, "to_bytes"), (bits / 8 + 1, "little"), Some(&signed))?;
    push_bytes(out, LARGE, bytes.cast::<PyBytes>()?.as_bytes());
    Ok(())
}

fn push_tuple(out: &mut Vec<u8>, tuple: &Bound<'_, PyTuple>, depth: usize) -> PyResult<()> {
    if depth == MAX_DEPTH {
        return Err(PyValueError::new_err(format!(
            "expected a key of at most {MAX_DEPTH} tuples in each other, got more"
        )));
    }
    out.push(TUPLE);
    push_number(out, tuple.len() as u64);
    tuple.iter().try_for_each(|item| push(out, &item, depth + 1))
}

/// NumPy's integers and booleans; everything else is no key.
fn push_other(out: &mut Vec<u8>, key: &Bound<'_, PyAny>) -> PyResult<()> {
    static INTEGER: Once<Py<PyType>> = Once::new();
    static BOOLEAN: Once<Py<PyType>> = Once::new();
    let py = key.py();
    if key.is_instance(INTEGER.import(py, "numpy", "integer")?)? {
        return push_int(out, key);
    }
    if key.is_instance(BOOLEAN.import(py, "numpy", "bool")?)? {
        return push_int(out, PyInt::new(py, i64::from(key.is_truthy()?)).as_any());
    }
    Err(PyTypeError::new_err(format!(
        "expected a key of str, bytes, int, or a tuple of these, got {} of {}",
        key.repr()?,
        key.get_type()
    )))
}

fn push_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// The object that bytes in shared memory stand for.
pub(crate) fn decode<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let mut reader = Reader { py, bytes };
    let key = reader.item(0)?;
    if reader.bytes.is_empty() { Ok(key) } else { Err(bad_key()) }
}

struct Reader<'a, 'py> {
    py: Python<'py>,
    bytes: &'a [u8],
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
            // Each item takes at least two bytes.
            TUPLE if depth < MAX_DEPTH && number <= self.bytes.len() as u64 => {
                let items = (0..number).map(|_| self.item(depth + 1)).collect::<PyResult<Vec<_>>>()?;
                Ok(PyTuple::new(py, items)?.into_any())
            }
            _ => Err(bad_key()),
        }
    }

    fn take(&mut self, len: u64) -> PyResult<&[u8]> {
        let len = usize::try_from(len).ok().filter(|&len| len <= self.bytes.len()).ok_or_else(bad_key)?;
        let (taken, rest) = self.bytes.split_at(len);
        self.bytes = rest;
        Ok(taken)
    }

    fn number(&mut self) -> PyResult<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(bad_key())
    }
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
