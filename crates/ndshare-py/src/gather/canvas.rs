//! `Canvas`: an array that knows what stands where in it, so that what stands there already is not copied again.
//!
//! A call that fills a canvas *sits* at it: it has the canvas's lock, so that whoever reads under that lock sees no
//! half, and it finds the tiles of the call before. Each pair of the call is a tile: a place, and what was copied
//! there. The tiles of one call cover the canvas without overlapping. So a tile of the last call whose place and
//! source are those of a new pair stands, whatever became of the others.
//!
//! Only sources that nobody writes to any more can be recognised: values of caches and received frames, by the name of
//! their block; and keys of caches, by their generation. A word behind the canvas's bytes counts the sittings that
//! wrote. A process that finds it changed by another one, a forked child for instance, forgets its tiles.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ::numpy::npyffi::npy_intp;
use ndshare::arena::{BlockId, Hold};
use ndshare::cache::Key;
use ndshare::lock::{Death, Locked};
use ndshare::prim::{AtomicU64, Ordering::Relaxed};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::dtype::Dtype;
use crate::error::to_python;
use crate::guard::{Guarded, Once};
use crate::ndarray::{Operand, Order, array_over};
use crate::session::Place as Where;
use crate::shape::{MIN_ALIGN, Shape};
use crate::shared::final_block;
use crate::wait::{patiently, patiently_for, quick};

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
    hold: Hold,
    lengths: Box<[npy_intp]>,
    strides: Box<[isize]>,
    len_bytes: usize,
    dtype: Py<PyAny>,
    /// What users see.
    array: Once<Py<PyAny>>,
    /// None while a call sits at it.
    board: Guarded<Option<Board>>,
}

/// What stands in a canvas as far as this process knows.
struct Board {
    tiles: Vec<Arc<Tile>>,
    /// How often the canvas had been written to.
    epoch: u64,
}

/// A part of the canvas, and what was copied there.
pub(crate) struct Tile {
    pub(super) place: Place,
    source: Option<Source>,
    pub(super) key: Option<KeyMark>,
}

/// Where a tile lies in the canvas.
#[derive(PartialEq, Eq)]
pub(super) struct Place {
    /// Bytes from the start of the canvas.
    pub(super) offset: isize,
    pub(super) shape: Box<[usize]>,
    pub(super) strides: Box<[isize]>,
}

/// An array whose bytes never change any more.
struct Source {
    arena: u64,
    block: BlockId,
    /// The address of its first item: while the arena is mapped, that of the same byte of the block.
    data: usize,
    strides: Box<[isize]>,
    /// Kept, so that its address is nobody else's.
    dtype: Py<PyAny>,
}

/// The value of a key of a cache.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct KeyMark {
    pub(super) cache: (u64, BlockId),
    pub(super) key: Key,
    pub(super) generation: u64,
}

impl Source {
    /// None for an array that somebody may still write to.
    fn of(py: Python<'_>, array: &Operand<'_>) -> Option<Self> {
        let (arena, block) = final_block(&array.object(py), |hold| (hold.arena().id(), hold.block()))?;
        let dtype = Dtype::borrowed(py, array.descr).as_any().clone().unbind();
        Some(Self { arena, block, data: array.data, strides: array.strides.into(), dtype })
    }

    fn is(&self, py: Python<'_>, array: &Operand<'_>) -> bool {
        let same = self.data == array.data && *self.strides == *array.strides;
        same && std::ptr::eq(self.dtype.as_ptr().cast(), array.descr.as_ptr())
            && final_block(&array.object(py), |hold| (hold.arena().id(), hold.block()))
                == Some((self.arena, self.block))
    }
}

impl Canvas {
    fn array_as<'py>(&self, py: Python<'py>, writable: bool) -> PyResult<Bound<'py, PyAny>> {
        let dtype = Dtype::known(self.dtype.bind(py).clone());
        // SAFETY: the block has room for a contiguous array of this shape, whose lengths are not negative.
        unsafe { array_over(py, self.hold.clone(), 0, dtype, &self.lengths, &Order::C, writable) }
    }

    pub(super) fn lengths(&self) -> &[npy_intp] {
        &self.lengths
    }

    pub(super) fn strides(&self) -> &[isize] {
        &self.strides
    }

    /// How often the canvas was written to, by whomever. The word lies behind the items.
    fn epoch(&self) -> &AtomicU64 {
        &self.hold.words()[self.len_bytes.div_ceil(8)]
    }

    /// Waits for the canvas's lock, and takes up what stands in it.
    pub(super) fn sit(slf: &Bound<'_, Self>, timeout: Option<Duration>) -> PyResult<Sitting> {
        let (py, this) = (slf.py(), slf.get());
        let wanted = vec![this.hold.clone()];
        // Only fillers write, and a death among them is seen by the epoch.
        let locked = patiently_for(py, timeout, |patience| Locked::acquire(wanted, Death::Recover, patience))?;
        let epoch = this.epoch().load(Relaxed);
        let known = this.board.take().filter(|board| board.epoch == epoch);
        let old = Shelf::new(known.map(|board| board.tiles).unwrap_or_default());
        let (new, touched) = (RefCell::new(None), Cell::new(false));
        Ok(Sitting { canvas: slf.clone().unbind(), locked: Some(locked), old, new, touched })
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
        let dtype = Dtype::of_new(py, dtype)?;
        if dtype.is_subarray() {
            return Err(PyTypeError::new_err("expected a dtype that is no subarray: put its shape into shape"));
        }
        let shape = Shape::of(shape)?;
        let len_bytes = shape.len_bytes(dtype.itemsize())?;
        let place = Where::of(py, arena)?;
        let with_epoch = len_bytes.next_multiple_of(8) + 8;
        let hold = patiently(py, |patience| place.alloc(with_epoch, MIN_ALIGN, true, patience))?;
        let known: Vec<usize> = shape.lengths().iter().map(|length| length.unsigned_abs()).collect();
        let made = ndshare::layout::contiguous(&known, dtype.itemsize(), false);
        let strides = made.map_err(|error| to_python(py, &error))?.0.into();
        let (lengths, dtype) = (shape.lengths().into(), dtype.as_any().clone().unbind());
        Ok(Self { hold, lengths, strides, len_bytes, dtype, array: Once::new(), board: Guarded::new(None) })
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
        PyTuple::new(py, &self.lengths)
    }

    /// Its dtype.
    #[getter]
    fn dtype(&self, py: Python<'_>) -> Py<PyAny> {
        self.dtype.clone_ref(py)
    }

    /// Its length in bytes.
    #[getter]
    fn nbytes(&self) -> usize {
        self.len_bytes
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "cannot pickle an ndshare.Canvas, which belongs to the process that fills it: send canvas.array, and read \
             it under nds.locked(array)",
        ))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("<Canvas {} {}>", self.shape(py)?.repr()?, self.dtype.bind(py).str()?))
    }
}

/// One stay at a canvas, under its lock. Dropping it gives the lock back.
pub(super) struct Sitting {
    canvas: Py<Canvas>,
    locked: Option<Locked>,
    old: Shelf,
    /// What stands there now, if that is known.
    new: RefCell<Option<Vec<Arc<Tile>>>>,
    touched: Cell<bool>,
}

impl Sitting {
    /// The canvas as the array to write to.
    pub(super) fn target<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.canvas.get().array_as(py, true)
    }

    /// What stood there before.
    pub(super) fn old(&self) -> &Shelf {
        &self.old
    }

    /// Says that bytes are about to change. What stands where is unknown then, until [`Self::keep`].
    pub(super) fn touch(&self) {
        if !self.touched.replace(true) {
            // Before the first byte, so that nobody trusts tiles that a death left half-way.
            self.canvas.get().epoch().fetch_add(1, Relaxed);
        }
    }

    /// Says what stands there now.
    pub(super) fn keep(&self, tiles: Vec<Arc<Tile>>) {
        *self.new.borrow_mut() = Some(tiles);
    }

    /// Gives the lock back.
    pub(super) fn leave(mut self, py: Python<'_>) -> PyResult<()> {
        self.hand_back();
        let locked = self.locked.take();
        let freed = quick(py, || locked.map_or(Ok(()), |locked| locked.release(true)))?;
        freed.map_err(|error| to_python(py, &error))
    }

    fn hand_back(&mut self) {
        let old = std::mem::take(&mut self.old.tiles);
        let tiles = self.new.take().unwrap_or(if self.touched.get() { vec![] } else { old });
        let canvas = self.canvas.get();
        let epoch = canvas.epoch().load(Relaxed);
        drop(canvas.board.replace(Some(Board { tiles, epoch })));
    }
}

impl Drop for Sitting {
    fn drop(&mut self) {
        if self.locked.is_some() {
            self.hand_back();
        }
    }
}

/// The tiles of the call before.
pub(super) struct Shelf {
    tiles: Vec<Arc<Tile>>,
    /// Which tile begins at which offset; made when it is needed.
    by_offset: std::cell::OnceCell<HashMap<isize, usize>>,
}

impl Shelf {
    fn new(tiles: Vec<Arc<Tile>>) -> Self {
        Self { tiles, by_offset: std::cell::OnceCell::new() }
    }

    /// The tile with this number.
    pub(super) fn nth(&self, number: usize) -> Option<&Arc<Tile>> {
        self.tiles.get(number)
    }

    /// The tile that begins at an offset; most likely the one with this number.
    pub(super) fn at(&self, number: usize, offset: isize) -> Option<&Arc<Tile>> {
        if let Some(tile) = self.tiles.get(number).filter(|tile| tile.place.offset == offset) {
            return Some(tile);
        }
        let list = || self.tiles.iter().enumerate().map(|(number, tile)| (tile.place.offset, number)).collect();
        self.by_offset.get_or_init(list).get(&offset).map(|&number| &self.tiles[number])
    }
}

/// The tiles of a call in the making.
pub(super) struct Draft<'a> {
    sitting: &'a Sitting,
    /// With each, whether it still has to be copied.
    tiles: Vec<(Arc<Tile>, bool)>,
    /// Of which key the next source is the value.
    key: Option<KeyMark>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(sitting: &'a Sitting) -> Self {
        Self { sitting, tiles: vec![], key: None }
    }

    /// Says of which key the next source is the value.
    pub(super) fn name(&mut self, key: KeyMark) {
        self.key = Some(key);
    }

    /// Notes a tile that stands.
    pub(super) fn stands(&mut self, tile: Arc<Tile>) {
        self.tiles.push((tile, false));
    }

    /// Notes a source and its place. False: it stands there already.
    pub(super) fn must_copy(&mut self, py: Python<'_>, source: &Operand<'_>, strides: &[isize], offset: isize) -> bool {
        let key = self.key.take();
        let same_place = |tile: &&Arc<Tile>| *tile.place.shape == *source.shape && *tile.place.strides == *strides;
        let old = self.sitting.old.at(self.tiles.len(), offset).filter(same_place);
        let same = old.filter(|tile| tile.source.as_ref().is_some_and(|known| known.is(py, source)));
        if let Some(tile) = same.filter(|tile| key.is_none() || tile.key == key) {
            self.tiles.push((tile.clone(), false));
            return false;
        }
        let place = Place { offset, shape: source.shape.into(), strides: strides.into() };
        let is_new = same.is_none();
        self.tiles.push((Arc::new(Tile { place, source: Source::of(py, source), key }), is_new));
        is_new
    }

    /// Says that the copies begin.
    pub(super) fn begin(&self) {
        if self.tiles.iter().any(|(_, is_new)| *is_new) {
            self.sitting.touch();
        }
    }

    /// Says how the copies ended: all tiles stand, or only those that stood before.
    pub(super) fn end(self, is_done: bool) {
        let stands = self.tiles.into_iter().filter(|(_, is_new)| is_done || !is_new);
        self.sitting.keep(stands.map(|(tile, _)| tile).collect());
    }
}

/// Sits at `out` if it is a canvas; then `work` gets the array behind it, and the canvas is the result.
pub(super) fn onto<'py>(
    py: Python<'py>,
    out: Option<&Bound<'py, PyAny>>,
    work: impl FnOnce(Option<&Bound<'py, PyAny>>, Option<&Sitting>) -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let Some(canvas) = out.and_then(|out| out.cast::<Canvas>().ok()) else { return work(out, None) };
    let sitting = Canvas::sit(canvas, None)?;
    let target = sitting.target(py)?;
    work(Some(&target), Some(&sitting))?;
    sitting.leave(py)?;
    Ok(canvas.clone().into_any())
}
