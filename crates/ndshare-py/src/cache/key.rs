//! Keys: Python's objects as the library's keys, and back. Which bytes a key has is the library's affair.

use ndshare::cache::{Key, KeyValue, KeyWriter, Text};
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyBytes, PyDict, PyEllipsis, PyFloat, PyInt, PySlice, PyString, PyTuple, PyType};

use crate::error::to_python;
use crate::guard::Once;

/// Kinds of keys that `ndshare._cache` takes apart and puts together.
const POSIX_PATH: u8 = b'p';
const WINDOWS_PATH: u8 = b'w';
const ENUM: u8 = b'e';
const UUID: u8 = b'u';

/// The key that an object is.
#[inline]
pub(crate) fn encode(key: &Bound<'_, PyAny>) -> PyResult<Key> {
    let mut writer = KeyWriter::new();
    push(&mut writer, key)?;
    checked(key.py(), writer.finish())
}

#[inline]
fn checked<T>(py: Python<'_>, outcome: ndshare::Result<T>) -> PyResult<T> {
    outcome.map_err(|error| to_python(py, &error))
}

#[inline]
fn push(writer: &mut KeyWriter, key: &Bound<'_, PyAny>) -> PyResult<()> {
    if let Ok(text) = key.cast::<PyString>() {
        writer.text(text_of(text)?);
        return Ok(());
    }
    if key.is_instance_of::<PyInt>() {
        return push_int(writer, key);
    }
    if let Ok(bytes) = key.cast::<PyBytes>() {
        writer.bytes(bytes.as_bytes());
        return Ok(());
    }
    match key.cast::<PyTuple>() {
        Ok(tuple) => push_tuple(writer, tuple),
        Err(_) => push_other(writer, key),
    }
}

#[inline]
fn text_of<'a>(text: &'a Bound<'_, PyString>) -> PyResult<Text<'a>> {
    match text.to_str() {
        Ok(utf8) => Ok(utf8.into()),
        Err(_) => surrogates_of(text),
    }
}

/// Halves of surrogate pairs, which file names may have.
#[cold]
fn surrogates_of(text: &Bound<'_, PyString>) -> PyResult<Text<'static>> {
    let encoded = text.call_method1(intern!(text.py(), "encode"), ("utf-8", "surrogatepass"))?;
    checked(text.py(), Text::with_surrogates(encoded.cast::<PyBytes>()?.as_bytes().to_vec()))
}

#[inline]
fn push_int(writer: &mut KeyWriter, key: &Bound<'_, PyAny>) -> PyResult<()> {
    match key.extract::<i64>() {
        Ok(number) => writer.int(number),
        Err(_) => push_large(writer, key)?,
    }
    Ok(())
}

#[cold]
fn push_large(writer: &mut KeyWriter, key: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = key.py();
    // NumPy's spans of time pass for integers, and are none: that is a TypeError here.
    let number = py.import("operator")?.call_method1(intern!(py, "index"), (key,))?;
    let bits: usize = number.call_method0(intern!(py, "bit_length"))?.extract()?;
    let bytes = number.call_method(intern!(py, "to_bytes"), (bits / 8 + 1, "little"), Some(&signed(py)?))?;
    writer.large_int(bytes.cast::<PyBytes>()?.as_bytes());
    Ok(())
}

fn signed(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    [(intern!(py, "signed"), true)].into_py_dict(py)
}

fn push_tuple(writer: &mut KeyWriter, tuple: &Bound<'_, PyTuple>) -> PyResult<()> {
    checked(tuple.py(), writer.begin_tuple(tuple.len()))?;
    tuple.iter().try_for_each(|item| push(writer, &item))?;
    writer.end();
    Ok(())
}

/// Everything that is neither text, bytes, int nor tuple.
fn push_other(writer: &mut KeyWriter, key: &Bound<'_, PyAny>) -> PyResult<()> {
    if let Ok(float) = key.cast::<PyFloat>() {
        return push_float(writer, float);
    }
    if key.is_none() {
        writer.none();
        return Ok(());
    }
    if key.is_instance_of::<PyEllipsis>() {
        writer.ellipsis();
        return Ok(());
    }
    if let Ok(slice) = key.cast::<PySlice>() {
        return push_slice(writer, slice);
    }
    if push_numpy(writer, key)? || push_named(writer, key)? {
        return Ok(());
    }
    Err(PyTypeError::new_err(format!(
        "expected a key of str, bytes, int, float, bool, None, slice, pathlib path, enum or UUID, or a tuple of these, \
         got {} of {}",
        key.repr()?,
        key.get_type()
    )))
}

fn push_float(writer: &mut KeyWriter, float: &Bound<'_, PyFloat>) -> PyResult<()> {
    checked(float.py(), writer.float(float.extract()?))
}

fn push_slice(writer: &mut KeyWriter, slice: &Bound<'_, PySlice>) -> PyResult<()> {
    let py = slice.py();
    checked(py, writer.begin_slice())?;
    [intern!(py, "start"), intern!(py, "stop"), intern!(py, "step")]
        .into_iter()
        .try_for_each(|name| push(writer, &slice.getattr(name)?))?;
    writer.end();
    Ok(())
}

/// NumPy's scalars that a dict takes for numbers of Python. False: it is none.
fn push_numpy(writer: &mut KeyWriter, key: &Bound<'_, PyAny>) -> PyResult<bool> {
    static INTEGER: Once<Py<PyType>> = Once::new();
    static BOOLEAN: Once<Py<PyType>> = Once::new();
    static HALF: Once<Py<PyType>> = Once::new();
    static SINGLE: Once<Py<PyType>> = Once::new();
    let py = key.py();
    if key.is_instance(INTEGER.import(py, "numpy", "integer")?)? {
        return push_int(writer, key).map(|()| true);
    }
    if key.is_instance(BOOLEAN.import(py, "numpy", "bool")?)? {
        writer.int(key.is_truthy()?.into());
        return Ok(true);
    }
    if key.is_instance(HALF.import(py, "numpy", "float16")?)?
        || key.is_instance(SINGLE.import(py, "numpy", "float32")?)?
    {
        let float = key.call_method0(intern!(py, "__float__"))?;
        return push_float(writer, float.cast::<PyFloat>()?).map(|()| true);
    }
    Ok(false)
}

/// Paths, enums and UUIDs: `ndshare._cache` says what they are by name. False: it is none.
fn push_named(writer: &mut KeyWriter, key: &Bound<'_, PyAny>) -> PyResult<bool> {
    static PARTS: Once<Py<PyAny>> = Once::new();
    let py = key.py();
    let parts = PARTS.import(py, "ndshare._cache", "key_parts")?.call1((key,))?;
    if parts.is_none() {
        return Ok(false);
    }
    let (kind, what) = parts.extract::<(u8, Bound<'_, PyAny>)>()?;
    match kind {
        UUID => writer.uuid(&what.extract()?),
        ENUM => {
            checked(py, writer.begin_enum())?;
            what.cast::<PyTuple>()?.iter().try_for_each(|part| push(writer, &part))?;
            writer.end();
        }
        WINDOWS_PATH => writer.windows_path(text_of(what.cast::<PyString>()?)?),
        _ => writer.posix_path(text_of(what.cast::<PyString>()?)?),
    }
    Ok(true)
}

/// The object that a key in shared memory stands for. `key_of` makes paths, enums and UUIDs of their parts.
pub(super) fn decode<'py>(key_of: &Bound<'py, PyAny>, key: &Key) -> PyResult<Bound<'py, PyAny>> {
    object(key_of, &checked(key_of.py(), key.value())?)
}

/// The key in these bytes.
pub(super) fn decode_bytes<'py>(key_of: &Bound<'py, PyAny>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    object(key_of, &checked(key_of.py(), KeyValue::decode(bytes))?)
}

fn object<'py>(key_of: &Bound<'py, PyAny>, value: &KeyValue) -> PyResult<Bound<'py, PyAny>> {
    let py = key_of.py();
    match value {
        KeyValue::None => Ok(py.None().into_bound(py)),
        KeyValue::Ellipsis => Ok(py.Ellipsis().into_bound(py)),
        KeyValue::Int(number) => Ok(PyInt::new(py, *number).into_any()),
        KeyValue::LargeInt(bytes) => {
            let class = py.get_type::<PyInt>();
            class.call_method(intern!(py, "from_bytes"), (PyBytes::new(py, bytes), "little"), Some(&signed(py)?))
        }
        KeyValue::Float(number) => Ok(PyFloat::new(py, *number).into_any()),
        KeyValue::Text(text) => text_object(py, text),
        KeyValue::Bytes(bytes) => Ok(PyBytes::new(py, bytes).into_any()),
        KeyValue::Tuple(items) => Ok(tuple(key_of, items)?.into_any()),
        KeyValue::Slice(parts) => py.get_type::<PySlice>().call1(tuple(key_of, &parts[..])?),
        KeyValue::PosixPath(text) => key_of.call1((POSIX_PATH, text_object(py, text)?)),
        KeyValue::WindowsPath(text) => key_of.call1((WINDOWS_PATH, text_object(py, text)?)),
        KeyValue::Uuid(bytes) => key_of.call1((UUID, PyBytes::new(py, bytes))),
        KeyValue::Enum { module, class, member } => {
            let parts = (text_object(py, module)?, text_object(py, class)?, object(key_of, member)?);
            key_of.call1((ENUM, parts))
        }
    }
}

fn tuple<'py>(key_of: &Bound<'py, PyAny>, items: &[KeyValue]) -> PyResult<Bound<'py, PyTuple>> {
    let items = items.iter().map(|item| object(key_of, item)).collect::<PyResult<Vec<_>>>()?;
    PyTuple::new(key_of.py(), items)
}

fn text_object<'py>(py: Python<'py>, text: &Text<'_>) -> PyResult<Bound<'py, PyAny>> {
    match text.as_str() {
        Some(text) => Ok(PyString::new(py, text).into_any()),
        None => PyBytes::new(py, text.as_bytes()).call_method1(intern!(py, "decode"), ("utf-8", "surrogatepass")),
    }
}
