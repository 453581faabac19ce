//! `concatenate`, `stack`, `block` and `copyto`: the ordinary cases natively, everything else by NumPy.
//!
//! Ordinary are ndarrays proper whose items are plain bytes of one dtype, or numbers that there is a kernel for, and
//! a destination that shares no bytes with them. For those nothing can fail but memory. Whatever is unusual or wrong
//! goes to NumPy, which decides, and words the errors; what it makes is then shared, if it can be.

mod canvas;
mod copying;
mod join;
mod montage;
mod numpy;
mod target;

use ndshare::gather::{self, Placement, broadcast};
use ndshare::kernel::{self, Cpu};
use ndshare::layout;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt, PyList, PyTuple};

use crate::dtype::{Dtype, Meaning};
use crate::error::to_python;
use crate::make::empty_for;
use crate::ndarray::Operand;
use crate::shape::Shape;
pub(crate) use canvas::Canvas;
use canvas::{Filling, onto};
use join::{How, join, join_nested};
pub(crate) use montage::Montage;
pub(crate) use numpy::bind;
use numpy::{Arguments, Function};
use target::{Outcome, Wanted, into};

/// An argument that may be left out. None is not the same: it is a value, and often a wrong one.
pub(crate) struct Given<'py>(pub(crate) Option<Bound<'py, PyAny>>);

impl<'py> FromPyObject<'_, 'py> for Given<'py> {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self(Some(object.to_owned())))
    }
}

impl<'py> Given<'py> {
    fn get(&self) -> Option<&Bound<'py, PyAny>> {
        self.0.as_ref()
    }
}

/// What an `axis=` argument says: none for a flat result. None for what NumPy must look at.
fn axis_of(axis: &Given<'_>) -> Option<Option<isize>> {
    match axis.get() {
        None => Some(Some(0)),
        Some(object) if object.is_none() => Some(None),
        Some(object) if object.is_exact_instance_of::<PyInt>() => object.extract().ok().map(Some),
        Some(_) => None,
    }
}

/// Join a sequence of arrays along an existing axis; NumPy's `concatenate`, and `workers`.
///
/// Without `out` the result is a shared array; where its dtype can't be shared (objects, StringDType), or an input is
/// of a subclass, it is what NumPy makes. `workers` is the number of threads that copy; None picks by size and CPUs.
///
/// Raises what NumPy raises; ValueError for `workers` below 1; ArenaFull when a limit leaves no room.
///
/// >>> import ndshare as nds, numpy as np
/// >>> a = nds.concatenate([np.zeros((2, 3)), np.ones((1, 3))])
/// >>> a.shape, nds.is_shared(a)
/// ((3, 3), True)
#[pyfunction]
#[pyo3(
    signature = (arrays, /, axis=Given(None), out=None, *, dtype=None, casting=Given(None), workers=None),
    text_signature = "(arrays, /, axis=0, out=None, *, dtype=None, casting='same_kind', workers=None)"
)]
pub(crate) fn concatenate<'py>(
    py: Python<'py>,
    arrays: &Bound<'py, PyAny>,
    axis: Given<'py>,
    out: Option<&Bound<'py, PyAny>>,
    dtype: Option<&Bound<'py, PyAny>>,
    casting: Given<'py>,
    workers: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let how = axis_of(&axis).map(How::Along);
    let arguments = Arguments { axis: axis.get(), out, dtype, casting: casting.get() };
    joined(py, arrays, how, Function::Concatenate, &arguments, workers)
}

/// Join a sequence of arrays of one shape along a new axis; NumPy's `stack`, and `workers`.
///
/// Results, `workers` and errors are as in `concatenate`.
///
/// >>> import ndshare as nds, numpy as np
/// >>> nds.stack([np.zeros(3), np.ones(3)], axis=1).shape
/// (3, 2)
#[pyfunction]
#[pyo3(
    signature = (arrays, axis=Given(None), out=None, *, dtype=None, casting=Given(None), workers=None),
    text_signature = "(arrays, axis=0, out=None, *, dtype=None, casting='same_kind', workers=None)"
)]
pub(crate) fn stack<'py>(
    py: Python<'py>,
    arrays: &Bound<'py, PyAny>,
    axis: Given<'py>,
    out: Option<&Bound<'py, PyAny>>,
    dtype: Option<&Bound<'py, PyAny>>,
    casting: Given<'py>,
    workers: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let how = axis_of(&axis).flatten().map(How::New);
    let arguments = Arguments { axis: axis.get(), out, dtype, casting: casting.get() };
    joined(py, arrays, how, Function::Stack, &arguments, workers)
}

/// `concatenate` and `stack`. Without `how`, and for what is not done here, it is NumPy's affair.
fn joined<'py>(
    py: Python<'py>,
    arrays: &Bound<'py, PyAny>,
    how: Option<How>,
    function: Function,
    arguments: &Arguments<'_, 'py>,
    workers: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    onto(py, arguments.out, |out, filling| {
        let arguments = Arguments { out, ..*arguments };
        let wanted = Wanted::new(py, out, arguments.dtype, arguments.casting, workers)?.at(filling);
        match how.map_or(Ok(Outcome::Unusual), |how| join(py, arrays, how, &wanted))? {
            Outcome::Done(out) => Ok(out),
            // NumPy has the casts, and there is room for the result already.
            Outcome::Room(out) => {
                function.call(py, arrays, &Arguments { out: Some(&out), dtype: None, ..arguments })?;
                Ok(out)
            }
            Outcome::Unusual => {
                filling.into_iter().for_each(Filling::touch);
                let result = function.call(py, arrays, &arguments)?;
                if out.is_none() { share(py, result) } else { Ok(result) }
            }
        }
    })
}

/// Assemble an array from nested lists of blocks; NumPy's `block`, with `axes`, `out` and `workers`.
///
/// The innermost lists go along the last axis, those around them along the one before. With `axes` the outermost list goes
/// along the first of them, and so on: ``axes=(0, 1)`` joins images with channels, (rows, columns, channels), in a grid.
///
/// `out` must have the shape of the result; its dtype may be any that the result's casts to by "same_kind". Results,
/// `workers` and errors are otherwise as in `concatenate`; ValueError where there are not as many axes as lists are nested.
///
/// >>> import ndshare as nds, numpy as np
/// >>> tile = np.ones((2, 2), "uint8")
/// >>> nds.block([[tile, 2 * tile], [3 * tile, 4 * tile]])
/// array([[1, 1, 2, 2],
///        [1, 1, 2, 2],
///        [3, 3, 4, 4],
///        [3, 3, 4, 4]], dtype=uint8)
#[pyfunction]
#[pyo3(signature = (arrays, *, axes=None, out=None, workers=None))]
pub(crate) fn block<'py>(
    py: Python<'py>,
    arrays: &Bound<'py, PyAny>,
    axes: Option<Vec<isize>>,
    out: Option<&Bound<'py, PyAny>>,
    workers: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    onto(py, out, |out, filling| {
        let wanted = Wanted::new(py, out, None, None, workers)?.at(filling);
        let room = match join_nested(py, arrays, axes.as_deref(), &wanted)? {
            Outcome::Done(done) => return Ok(done),
            Outcome::Room(room) => Some(room),
            Outcome::Unusual => None,
        };
        let result = match &axes {
            None => Function::Block.call(py, arrays, &Arguments::default())?,
            Some(axes) => by_levels(py, arrays, axes)?,
        };
        let Some(out) = out.or(room.as_ref()) else { return share(py, result) };
        fits(&result, out)?;
        filling.into_iter().for_each(Filling::touch);
        copyto(py, out, &result, Given(None), Given(None), workers)?;
        Ok(out.clone())
    })
}

/// What NumPy makes of nested lists along these axes.
fn by_levels<'py>(py: Python<'py>, arrays: &Bound<'py, PyAny>, axes: &[isize]) -> PyResult<Bound<'py, PyAny>> {
    let Ok(list) = arrays.cast_exact::<PyList>() else {
        let expected = axes.is_empty();
        return if expected { Ok(arrays.clone()) } else { Err(not_so_deep(axes.len())) };
    };
    let Some((axis, inner)) = axes.split_first() else { return Err(not_so_deep(0)) };
    let parts = list.iter().map(|part| by_levels(py, &part, inner)).collect::<PyResult<Vec<_>>>()?;
    let axis = axis.into_pyobject(py)?.into_any();
    Function::Concatenate.call(
        py,
        PyList::new(py, parts)?.as_any(),
        &Arguments { axis: Some(&axis), ..Arguments::default() },
    )
}

#[cold]
fn not_so_deep(left: usize) -> PyErr {
    PyValueError::new_err(match left {
        0 => {
            "expected lists that are as deep as there are axes, got deeper ones: give an axis for each level".to_owned()
        }
        left => format!(
            "expected lists that are as deep as there are axes, got some {left} less deep: give an axis for each level"
        ),
    })
}

/// Complains about an `out` that is not an array of the result's shape.
fn fits(result: &Bound<'_, PyAny>, out: &Bound<'_, PyAny>) -> PyResult<()> {
    let Some(target) = Operand::of_any(out) else {
        let message = format!("expected out to be an ndarray, got {}", out.get_type().name()?);
        return Err(PyTypeError::new_err(message));
    };
    if Operand::of_any(result).is_some_and(|result| result.shape == target.shape) {
        return Ok(());
    }
    let (expected, got) = (result.getattr("shape")?, out.getattr("shape")?);
    Err(PyValueError::new_err(format!("Output array is the wrong shape: expected {expected}, got {got}")))
}

/// Copy `src` into `dst`, broadcasting it; NumPy's `copyto`, and `workers`.
///
/// `workers` is the number of threads that copy; None picks by size and CPUs. With `where` NumPy does the copy.
///
/// Raises what NumPy raises; ValueError for `workers` below 1.
///
/// >>> import ndshare as nds, numpy as np
/// >>> a = nds.zeros((2, 3))
/// >>> nds.copyto(a, np.arange(3))
/// >>> a[1]
/// array([0., 1., 2.])
#[pyfunction]
#[pyo3(
    signature = (dst, src, casting=Given(None), r#where=Given(None), *, workers=None),
    text_signature = "(dst, src, casting='same_kind', where=True, *, workers=None)"
)]
pub(crate) fn copyto<'py>(
    py: Python<'py>,
    dst: &Bound<'py, PyAny>,
    src: &Bound<'py, PyAny>,
    casting: Given<'py>,
    r#where: Given<'py>,
    workers: Option<&Bound<'py, PyAny>>,
) -> PyResult<()> {
    let to = |dst: Option<&Bound<'py, PyAny>>, filling: Option<&Filling<'_>>| {
        let dst = dst.ok_or_else(|| PyTypeError::new_err("expected an array to copy to"))?;
        let wanted = Wanted::new(py, None, None, casting.get(), workers)?.at(filling);
        let everywhere = r#where.get().is_none_or(|r#where| r#where.is(PyBool::new(py, true)));
        if !(everywhere && copy(py, dst, src, &wanted)?) {
            filling.into_iter().for_each(Filling::touch);
            numpy::copyto(py, dst, src, casting.get(), r#where.get())?;
        }
        Ok(dst.clone())
    };
    onto(py, Some(dst), to).map(drop)
}

/// `copyto` for ordinary arrays; false, and nothing done, for others.
fn copy<'py>(
    py: Python<'py>,
    dst: &Bound<'py, PyAny>,
    src: &Bound<'py, PyAny>,
    wanted: &Wanted<'_, 'py>,
) -> PyResult<bool> {
    let (Some(from), Some(to)) = (Operand::of(src), Operand::of(dst)) else { return Ok(false) };
    let mut strides = Vec::new();
    let from = if from.shape == to.shape {
        from
    } else {
        let Ok(stretched) = broadcast(&from, to.shape) else { return Ok(false) };
        strides.extend(stretched);
        from.stretched(to.shape, &strides)
    };
    into(py, dst, &[from], wanted, |copying, out| {
        // SAFETY: `into` has admitted the source; it has the shape of the destination.
        unsafe { copying.add(&from, Placement { number: 0, offset: 0, strides: out.strides }).ok() }
    })
}

/// Fills an array over memory of ours with the items of another one of its shape. One thread does it: whoever looks at
/// such an array next has the other processor.
pub(crate) fn fill(py: Python<'_>, out: &Bound<'_, PyAny>, from: &Bound<'_, PyAny>) -> PyResult<()> {
    let one = 1_usize.into_pyobject(py)?;
    let wanted = Wanted::new(py, None, None, None, Some(&one))?;
    if copy(py, out, from, &wanted)? { Ok(()) } else { numpy::copyto(py, out, from, None, None) }
}

/// A shared copy of an array in its own memory order; the array itself where its dtype can't be shared, or where it
/// is no ndarray proper.
fn share<'py>(py: Python<'py>, array: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let Some(facts) = Operand::of(&array) else { return Ok(array) };
    let dtype = Dtype::borrowed(py, facts.descr);
    if !Meaning::of(py, facts.descr).is_plain && Dtype::of(py, Some(dtype.as_any())).is_err() {
        return Ok(array);
    }
    let Some(shape) = Shape::known(facts.shape) else { return Ok(array) };
    let order = || layout::common_order(facts.shape.len(), std::iter::once((facts.shape, facts.strides)));
    let order = (!facts.is_c).then(order);
    let out = empty_for(py, &shape, dtype, order.as_deref())?;
    copyto(py, &out, &array, Given(None), Given(None), None)?;
    Ok(out)
}

/// Makes this process use one kind of kernels; None for what it would use by itself. For tests.
///
/// Raises ValueError when this machine is not of that kind.
#[pyfunction]
#[pyo3(signature = (name=None))]
pub(crate) fn force_cpu(py: Python<'_>, name: Option<&str>) -> PyResult<()> {
    kernel::force(name).map_err(|error| to_python(py, &error))
}

/// The kinds of kernels that this machine has, the best last.
#[pyfunction]
pub(crate) fn cpus(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
    PyTuple::new(py, Cpu::all().iter().map(|cpu| cpu.level().name()))
}

/// From how many bytes of output on streaming stores are used.
///
/// Raises ValueError when NDSHARE_STREAM_FROM is no size.
#[pyfunction]
pub(crate) fn stream_from(py: Python<'_>) -> PyResult<usize> {
    gather::stream_from().map_err(|error| to_python(py, &error))
}

/// Sets the bytes of output from which on streaming stores are used; None for three quarters of the last cache, or
/// what NDSHARE_STREAM_FROM says.
#[pyfunction]
#[pyo3(signature = (size=None))]
pub(crate) fn set_stream_from(size: Option<u64>) {
    gather::set_stream_from(size);
}
