//! The arrays of a sequence, held for as long as they are read.

use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use crate::ndarray::Operand;

/// The items of a sequence at one moment. Other threads may change a list while its arrays are copied.
pub(super) type Sources<'py> = Vec<Bound<'py, PyAny>>;

/// The items of a list or a tuple proper; None for anything else.
pub(super) fn held<'py>(arrays: &Bound<'py, PyAny>) -> Option<Sources<'py>> {
    if let Ok(list) = arrays.cast_exact::<PyList>() {
        return Some(list.iter().collect());
    }
    Some(arrays.cast_exact::<PyTuple>().ok()?.iter().collect())
}

/// The facts of all sources; None when one is not an ndarray proper.
pub(super) fn facts_of<'a>(sources: &'a Sources<'_>) -> Option<Vec<Operand<'a>>> {
    sources.iter().map(Operand::of).collect()
}
