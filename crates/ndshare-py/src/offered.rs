//! What another user offers, as Python has it: arrays over memory that can only be read, and rings whose frames are copies.

use std::ffi::c_int;
use std::sync::Arc;
use std::time::Duration;

use ndshare::names::{Offered, OfferedArray, attach_offered as attach};
use ndshare::ring::{self as library, OfferedFrame};
use numpy::PyArrayDescr;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::closable::Closable;
use crate::described::Descriptions;
use crate::error::is_ours;
use crate::frame::{Own, copied};
use crate::lock::seconds;
use crate::ndarray::plain_class;
use crate::owner::fill_buffer;
use crate::wait::{at_once, interruptible_for};

/// What a user offers under a name. See `ndshare.attach`.
#[pyfunction]
#[pyo3(signature = (name, user, timeout=None))]
pub(crate) fn attach_offered<'py>(
    py: Python<'py>,
    name: &str,
    user: u32,
    timeout: Option<f64>,
) -> PyResult<Bound<'py, PyAny>> {
    match interruptible_for(py, seconds(timeout)?, |deadline| attach(name, user, deadline))? {
        Offered::Array(array) => array_of(py, array),
        Offered::Ring(ring) => Ok(Bound::new(py, OfferedRing::over(py, ring)?)?.into_any()),
    }
}

fn array_of(py: Python<'_>, array: OfferedArray) -> PyResult<Bound<'_, PyAny>> {
    let described = Descriptions::new().of(py, &array.description().encode(), None)?;
    let (first, len) = array.block();
    let data = described.place_in(py, (first.cast_mut(), len), array.offset())?;
    let owner = Py::new(py, OfferedHold { array })?.into_any();
    // SAFETY: every item lies in the block, as `place_in` has seen, and the owner keeps that mapped; NumPy's own class.
    unsafe { described.array(&plain_class(py), owner, data, false) }
}

/// Keeps the memory of an array of another user's mapped; the base of that array. As a buffer it can only be read.
#[pyclass(frozen, module = "ndshare._native")]
pub(crate) struct OfferedHold {
    array: OfferedArray,
}

#[pymethods]
impl OfferedHold {
    /// Whether the array is still offered. If not, anything may stand in its memory by now.
    #[getter]
    fn offered(&self, py: Python<'_>) -> bool {
        py.detach(|| self.array.is_offered())
    }

    fn __repr__(&self) -> String {
        format!("<OfferedHold of {} bytes, read-only>", self.array.block().1)
    }

    fn __len__(&self) -> usize {
        self.array.block().1
    }

    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let (first, len) = slf.get().array.block();
        // SAFETY: the view is the caller's; the memory is mapped as long as `slf` lives.
        unsafe { fill_buffer(&slf, (first.cast_mut(), len), false, view, flags) }
    }
}

/// A ring of another user's, as `attach(name, user=..., readonly=True)` gives it: frames can be read, and nothing else.
///
/// It begins with the next frame that is published. Each frame is a copy. Nobody waits for this reader: what was overwritten
/// before it came is missed.
///
/// >>> import ndshare as nds, os
/// >>> ring = nds.Ring(2, "uint8", slots=4, arena=nds.Arena("4 MiB", mode=0o640))
/// >>> nds.publish("an offered ring", ring, mode=0o640)
/// >>> seen = nds.attach("an offered ring", user=os.getuid(), readonly=True)
/// >>> ring.put([1, 2]), seen.get(timeout=1)
/// (0, Frame([1, 2], dtype=uint8))
/// >>> ring.put([3, 4]), seen.latest(timeout=1).seq, seen.stats()["written"], seen.close()
/// (1, 1, 2, None)
/// >>> nds.unpublish("an offered ring")
/// True
#[pyclass(frozen, module = "ndshare")]
pub(crate) struct OfferedRing {
    ring: Closable<library::OfferedRing>,
    own: Arc<Own>,
    known: Descriptions,
    slots: u32,
}

impl OfferedRing {
    fn over(py: Python<'_>, ring: library::OfferedRing) -> PyResult<Self> {
        let own = Arc::new(Own::of(py, ring.format(), None, None)?);
        let slots = ring.geometry().slots;
        Ok(Self { ring: Closable::new(Arc::new(ring)), own, known: Descriptions::new(), slots })
    }

    fn next<'py>(&self, py: Python<'py>, timeout: Option<Duration>, newest: bool) -> PyResult<Bound<'py, PyAny>> {
        let ring = self.ring.open(py, "ring")?;
        let frame: OfferedFrame = interruptible_for(py, timeout, |deadline| match newest {
            true => ring.latest(deadline),
            false => ring.get(deadline),
        })?;
        copied(py, &self.own, &self.known, frame)
    }
}

#[pymethods]
impl OfferedRing {
    /// The next frame, as a read-only array with `.seq`, `.time_ns` and `.meta`: a copy.
    ///
    /// Raises Empty when none came for `timeout` seconds (None: wait for ever), Closed when the ring was closed and all was
    /// read, or when it is not offered any more, and WriterDied when the process that offers it has ended.
    #[pyo3(signature = (timeout=None))]
    fn get<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        self.next(py, seconds(timeout)?, false)
    }

    /// The newest frame, if it is newer than the last one that was given; else the next one. `get` goes on behind it.
    ///
    /// Raises as `get`.
    #[pyo3(signature = (timeout=None))]
    fn latest<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        self.next(py, seconds(timeout)?, true)
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.next(py, None, false) {
            Err(error) if is_ours(py, "Closed", &error) => Ok(None),
            other => other.map(Some),
        }
    }

    /// A dict of "written" (frames published), "missed" (overwritten before this reader got them), "lag" (published and not
    /// yet given by `get`) and "closed".
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let ring = self.ring.open(py, "ring")?;
        let stats = at_once(py, || Ok(ring.stats()))?;
        dict!(py, {
            "written": stats.written, "missed": stats.missed, "lag": stats.lag, "closed": stats.closed,
        })
    }

    /// The shape of its frames, or None when it takes any.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        self.own.shape().map(|shape| PyTuple::new(py, shape)).transpose()
    }

    /// The dtype of its frames, or None when it takes any.
    #[getter]
    fn dtype(&self, py: Python<'_>) -> Option<Py<PyArrayDescr>> {
        self.own.is_typed.then(|| self.own.dtype.clone_ref(py))
    }

    /// How many frames wait for its readers at the most.
    #[getter]
    fn slots(&self) -> u32 {
        self.slots
    }

    /// Whether this object was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.ring.is_closed()
    }

    /// Ends reading, and unmaps the memory; frames that it gave stay.
    fn close(&self, py: Python<'_>) {
        let ring = self.ring.take();
        py.detach(|| drop(ring));
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exc_info))]
    fn __exit__(&self, py: Python<'_>, _exc_info: &Bound<'_, PyTuple>) {
        self.close(py);
    }

    fn __repr__(&self) -> String {
        let closed = if self.closed() { ", closed" } else { "" };
        format!("<OfferedRing of {} slots{closed}>", self.slots)
    }
}
