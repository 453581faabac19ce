//! `ndshare.fft`: the ordinary calls natively, everything else by way of Python.
//!
//! Ordinary are arrays of NumPy's numbers in this machine's byte order, ints and tuples for lengths and axes, and an
//! `out` that the result fits. Whatever is unusual or wrong gets no answer here: Python converts it and asks again, or
//! finds SciPy's words for the error. So this half has no errors of its own but those of memory and signals.

mod arguments;
mod filter;
mod plan;
mod run;
mod transform;

use ndshare::prim::{AtomicU64, Ordering::Relaxed};
use pyo3::prelude::*;

use arguments::Call;
pub(crate) use filter::FftFilter;
pub(crate) use plan::FftPlan;
pub(crate) use transform::FftTransform;

/// Results that SciPy's callers got in ordinary memory, and their bytes.
static FALLBACKS: AtomicU64 = AtomicU64::new(0);
static FALLBACK_BYTES: AtomicU64 = AtomicU64::new(0);

/// Counts a result in ordinary memory.
#[pyfunction]
#[pyo3(signature = (len_bytes, /))]
pub(crate) fn fft_fell_back(len_bytes: u64) {
    FALLBACKS.fetch_add(1, Relaxed);
    FALLBACK_BYTES.fetch_add(len_bytes, Relaxed);
}

/// How many results were in ordinary memory, and how many bytes they had.
#[pyfunction]
pub(crate) fn fft_fallbacks() -> (u64, u64) {
    (FALLBACKS.load(Relaxed), FALLBACK_BYTES.load(Relaxed))
}

/// Transforms `x`; None where Python must prepare the call first.
///
/// Beside the transform there are the arguments of the functions.
#[pyfunction]
#[pyo3(signature = (transform, x, s, axes, norm, workers, plan, out, dtype, /))]
#[allow(clippy::too_many_arguments)]
pub(crate) fn fft_transform<'py>(
    py: Python<'py>,
    transform: &Bound<'py, FftTransform>,
    x: &Bound<'py, PyAny>,
    s: Option<&Bound<'py, PyAny>>,
    axes: Option<&Bound<'py, PyAny>>,
    norm: Option<&Bound<'py, PyAny>>,
    workers: Option<&Bound<'py, PyAny>>,
    plan: Option<&Bound<'py, PyAny>>,
    out: Option<&Bound<'py, PyAny>>,
    dtype: Option<&Bound<'py, PyAny>>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let transform = transform.get().0;
    let call = Call { transform, x, s, axes, norm, workers, out, dtype };
    match plan {
        None => call.go(py),
        Some(plan) => match plan.cast::<FftPlan>() {
            Ok(plan) => plan.get().answer(py, &call),
            Err(_) => Ok(None),
        },
    }
}
