//! `Canvas`: the library's surface as an array of NumPy's.
//!
//! Only sources that nobody writes to any more can be recognised: values of caches and received frames, by the name of
//! their block. What stands where, and since when, is the library's affair.

use std::time::Duration;

use ::numpy::PyArrayDescr;
use ndshare::arena::{BlockId, Hold};
use ndshare::gather::{self, Draft, Mark, Placement, Rows, Strip, Surface};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::arena::{new_block, work_arena};
use crate::described::Described;
use crate::dtype::Dtype;
use crate::guard::Once;
use crate::ndarray::Operand;
use crate::shape::{MIN_ALIGN, Shape};
use crate::shared::final_block;
use crate::wait::{at_once, interruptible, interruptible_for};

/// An array to put many others into, over and over: ``canvas = Canvas((1024, 102400, 4), np.uint8)``.
///
/// Give it as `out` to `concatenate`, `stack`, `block` or `Cache.concatenate`, or as the target to `copyto`. Values of
/// caches and frames of rings that stand where they belong already are not copied again.
///
/// ``canvas.array`` is the result, a read-only shared array that can be sent to other processes. It is filled under
/// its lock: whoever reads it under ``nds.locked(canvas.array)`` sees no half of a change. After an exception in the
/// middle of a copy its parts are of before and after.
///
/// Raises what `zeros` raises.
///
/// >>> import ndshare as nds, numpy as np
/// >>> canvas = nds.Canvas((2, 4), np.uint8)
/// >>> nds.concatenate([np.ones((2, 1)), np.zeros((2, 3))], axis=1, out=canvas, casting="unsafe")
/// <Canvas (2, 4) uint8>
/// >>> canvas.array
/// array([[1, 0, 0, 0],
///        [1, 0, 0, 0]], dtype=uint8)
#[pyclass(frozen, weakref, module = "ndshare")]
pub(crate) struct Canvas {
    /// What says that it is a canvas, and of what.
    _head: Hold,
    surface: Surface<Source>,
    described: Described,
    /// What users see.
    array: Once<Py<PyAny>>,
}

/// A call that fills a canvas, under its lock.
pub(super) type Filling<'a> = gather::Filling<'a, Source>;

/// An array whose bytes never change any more.
pub(super) struct Source {
    arena: u64,
    block: BlockId,
    /// The address of its first item: while the arena is mapped, that of the same byte of the block.
    data: usize,
    strides: Box<[isize]>,
    /// Kept, so that its address is nobody else's.
    dtype: Py<PyArrayDescr>,
}

impl Source {
    /// None for an array that somebody may still write to.
    fn of(py: Python<'_>, array: &Operand<'_>) -> Option<Self> {
        let (arena, block) = final_block(&array.object(py), |hold| (hold.arena().id(), hold.block()))?;
        let dtype = Dtype::borrowed(py, array.descr).unbind();
        Some(Self { arena, block, data: array.data, strides: array.strides.into(), dtype })
    }

    fn is(&self, py: Python<'_>, array: &Operand<'_>) -> bool {
        let same = self.data == array.data && *self.strides == *array.strides;
        same && std::ptr::eq(self.dtype.as_ptr().cast(), array.descr.as_ptr())
            && final_block(&array.object(py), |hold| (hold.arena().id(), hold.block()))
                == Some((self.arena, self.block))
    }

    /// Notes an array and its place. False: it stands there already.
    pub(super) fn must_copy(
        py: Python<'_>,
        draft: &mut Draft<'_, Self>,
        array: &Operand<'_>,
        at: Placement<'_>,
        mark: Option<Mark>,
    ) -> bool {
        draft.must_copy(array.shape, at, mark, |known| known.is(py, array), || Self::of(py, array))
    }
}

impl Canvas {
    /// The canvas as the array to write to, and as the one that users see.
    pub(super) fn array_as<'py>(&self, py: Python<'py>, writable: bool) -> PyResult<Bound<'py, PyAny>> {
        self.described.over(py, self.surface.hold().clone(), writable)
    }

    /// Its shape, with values side by side along `axis`, in rows if so.
    pub(super) fn strip<'a>(&'a self, axis: usize, rows: Option<Rows<'a>>) -> Strip<'a> {
        Strip { shape: self.described.shape(), strides: self.described.strides(), axis, rows }
    }

    /// Waits for the canvas's lock, and takes up what stands in it.
    pub(super) fn begin(&self, py: Python<'_>, timeout: Option<Duration>) -> PyResult<Filling<'_>> {
        interruptible_for(py, timeout, |deadline| self.surface.begin(deadline))
    }
}

#[pymethods]
impl Canvas {
    #[new]
    #[pyo3(signature = (shape, dtype=None, *, arena=None))]
    fn new(
        py: Python<'_>,
        shape: &Bound<'_, PyAny>,
        dtype: Option<&Bound<'_, PyAny>>,
        arena: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let dtype = Dtype::of_new(py, dtype)?.refuse_subarray()?;
        let described = Shape::of(shape)?.contiguous(dtype)?;
        let len_bytes = described.len_bytes();
        let with_epoch = Surface::<Source>::block_bytes(len_bytes).unwrap_or(usize::MAX);
        let hold = new_block(py, &work_arena(py, arena)?, with_epoch, MIN_ALIGN, true)?;
        let description = described.description(py)?;
        let head = interruptible(py, |deadline| gather::head_of(&hold, &description, deadline))?;
        let surface = at_once(py, || Surface::new(hold, len_bytes))?;
        Ok(Self { _head: head, surface, described, array: Once::new() })
    }

    /// The canvas as a read-only shared array.
    #[getter]
    fn array(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let make = || self.array_as(py, false).map(Bound::unbind);
        self.array.get_or_make(make).map(|array| array.clone_ref(py))
    }

    /// The shape of the array.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.described.shape())
    }

    /// Its dtype.
    #[getter]
    fn dtype<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.described.dtype(py).as_any().clone()
    }

    /// Its length in bytes.
    #[getter]
    fn nbytes(&self) -> usize {
        self.surface.len_bytes()
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "cannot pickle an ndshare.Canvas, which belongs to the process that fills it: send canvas.array, and read \
             it under nds.locked(array)",
        ))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("<Canvas {} {}>", self.shape(py)?.repr()?, self.dtype(py).str()?))
    }
}

/// Gives the lock of a canvas back.
pub(super) fn end(py: Python<'_>, filling: Filling<'_>) -> PyResult<()> {
    at_once(py, || filling.end())
}

/// Fills `out` if it is a canvas; then `work` gets the array behind it, and the canvas is the result.
pub(super) fn onto<'py>(
    py: Python<'py>,
    out: Option<&Bound<'py, PyAny>>,
    work: impl FnOnce(Option<&Bound<'py, PyAny>>, Option<&Filling<'_>>) -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let Some(canvas) = out.and_then(|out| out.cast::<Canvas>().ok()) else { return work(out, None) };
    let filling = canvas.get().begin(py, None)?;
    let target = canvas.get().array_as(py, true)?;
    work(Some(&target), Some(&filling))?;
    end(py, filling)?;
    Ok(canvas.clone().into_any())
}
