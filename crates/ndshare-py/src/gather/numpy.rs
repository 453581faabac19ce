//! NumPy's own functions, bound when the module is loaded: a program that puts ours in their place gets no circle.

use ::numpy::npyffi::{NpyTypes, get_type_object, is_numpy_2};
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::guard::Once;

/// `concatenate`, `stack`, `block`, `copyto`.
static FUNCTIONS: Once<[Py<PyAny>; 4]> = Once::new();

/// Binds NumPy's functions, and the C interface that is otherwise bound by the first call: a child that is forked while
/// another thread makes that call would wait for the end of it for ever.
pub(crate) fn bind(py: Python<'_>) -> PyResult<()> {
    let numpy = py.import("numpy")?;
    is_numpy_2(py);
    // SAFETY: attached.
    unsafe { get_type_object(py, NpyTypes::PyArray_Type) };
    let find = |name| numpy.getattr(name).map(Bound::unbind);
    let found = [find("concatenate")?, find("stack")?, find("block")?, find("copyto")?];
    // A second import of the module finds the same functions.
    FUNCTIONS.first(found);
    Ok(())
}

fn bound(py: Python<'_>, place: usize) -> PyResult<&Bound<'_, PyAny>> {
    let functions = FUNCTIONS.get().ok_or_else(|| PyRuntimeError::new_err("ndshare._native was not initialised"))?;
    Ok(functions[place].bind(py))
}

/// One of the functions that make an array.
#[derive(Clone, Copy)]
pub(super) enum Function {
    Concatenate,
    Stack,
    Block,
}

/// Arguments as the caller gave them; what was left out stays so.
#[derive(Clone, Copy, Default)]
pub(super) struct Arguments<'a, 'py> {
    pub(super) axis: Option<&'a Bound<'py, PyAny>>,
    pub(super) out: Option<&'a Bound<'py, PyAny>>,
    pub(super) dtype: Option<&'a Bound<'py, PyAny>>,
    pub(super) casting: Option<&'a Bound<'py, PyAny>>,
}

impl Function {
    pub(super) fn call<'py>(
        self,
        py: Python<'py>,
        arrays: &Bound<'py, PyAny>,
        arguments: &Arguments<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let function = bound(py, self as usize)?;
        let Arguments { axis, out, dtype, casting } = *arguments;
        let named = [
            (intern!(py, "axis"), axis),
            (intern!(py, "out"), out),
            (intern!(py, "dtype"), dtype),
            (intern!(py, "casting"), casting),
        ];
        if named.iter().all(|(_, value)| value.is_none()) {
            return function.call1((arrays,));
        }
        let given = PyDict::new(py);
        for (name, value) in named {
            value.map_or(Ok(()), |value| given.set_item(name, value))?;
        }
        function.call((arrays,), Some(&given))
    }
}

pub(super) fn copyto<'py>(
    py: Python<'py>,
    dst: &Bound<'py, PyAny>,
    src: &Bound<'py, PyAny>,
    casting: Option<&Bound<'py, PyAny>>,
    r#where: Option<&Bound<'py, PyAny>>,
) -> PyResult<()> {
    let function = bound(py, 3)?;
    let same_kind = intern!(py, "same_kind").as_any();
    let done = match (casting, r#where) {
        (None, None) => function.call1((dst, src)),
        (casting, None) => function.call1((dst, src, casting.unwrap_or(same_kind))),
        (casting, Some(r#where)) => function.call1((dst, src, casting.unwrap_or(same_kind), r#where)),
    };
    done.map(drop)
}
