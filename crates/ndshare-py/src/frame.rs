//! Frames of a ring as arrays. A frame's array is of the class `ndshare.Frame`; at its base is a `FrameHold`, which
//! keeps the library's frame and knows its number, time and meta.

use std::sync::Arc;
use std::time::Duration;

use ndshare::arena::{Deadline, Hold};
use ndshare::array::{Description, Layout};
use ndshare::element::{Element, Number};
use ndshare::prim::{AtomicBool, AtomicU64, Ordering::Relaxed};
use ndshare::ring::{self, Content, Format, Geometry, Published};
use numpy::PyUntypedArray;
use numpy::npyffi::npy_intp;
use pyo3::PyTypeInfo;
use pyo3::exceptions::{PyAttributeError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PySlice, PyString, PyTuple, PyType};

use crate::dtype::Dtype;
use crate::error::to_python;
use crate::guard::{Guarded, Once};
use crate::ndarray::{Facts, Order, array_of_subclass, base_of, described, make_readonly};
use crate::shape::Shape;
use crate::wait::{at_once, interruptible_for};

/// What every frame of a ring is unless it says otherwise.
pub(crate) struct Own {
    pub(crate) shape: Option<Box<[npy_intp]>>,
    pub(crate) dtype: Py<PyAny>,
    /// Whether the dtype was chosen, by itself or by a shape; else frames of any dtype are as good.
    pub(crate) is_typed: bool,
    pub(crate) len_bytes: usize,
    pub(crate) meta: Option<Meta>,
}

/// The dtype of a ring's meta: a structured one, whose items are records.
pub(crate) struct Meta {
    /// As it was given.
    given: Py<PyAny>,
    /// Of records that cannot be written to, and of those that take only what fits.
    dtype: Py<PyAny>,
    checked: Py<PyAny>,
    /// Python's `Meta`, which packs them.
    packer: Py<PyAny>,
    itemsize: usize,
}

impl Own {
    pub(crate) fn new(
        py: Python<'_>,
        shape: Option<&Bound<'_, PyAny>>,
        dtype: Option<&Bound<'_, PyAny>>,
        meta: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let is_typed = shape.is_some() || dtype.is_some();
        let dtype = Dtype::of_new(py, dtype)?;
        if dtype.is_subarray() {
            return Err(PyTypeError::new_err("expected a dtype that is no subarray: put its shape into shape="));
        }
        let shape = shape.map(Shape::of).transpose()?;
        let len_bytes = shape.as_ref().map_or(Ok(0), |shape| shape.len_bytes(dtype.itemsize()))?;
        let shape = shape.map(|shape| shape.lengths().into());
        let meta = meta.map(|meta| Meta::of(py, meta)).transpose()?;
        Ok(Self { shape, dtype: dtype.as_any().clone().unbind(), is_typed, len_bytes, meta })
    }

    /// What a ring's head says; dtypes that it cannot keep whole come beside it.
    pub(crate) fn of(
        py: Python<'_>,
        format: &Format,
        dtype: Option<&Bound<'_, PyAny>>,
        meta: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let shape = format.shape.as_ref().map(|shape| PyTuple::new(py, shape)).transpose()?;
        let [dtype, meta] = [(dtype, &format.element), (meta, &format.meta)].map(|(beside, element)| {
            let said = || element.as_ref().map(|element| Dtype::of_element(py, element)).transpose();
            let said = || said().map(|dtype| dtype.map(|dtype| dtype.as_any().clone()));
            beside.map_or_else(said, |beside| Ok(Some(beside.clone())))
        });
        let shape = shape.as_ref().map(|shape| shape.as_any());
        Self::new(py, shape, dtype?.as_ref(), meta?.as_ref())
    }

    /// What a ring's head is to say. Of a dtype that it cannot keep whole it says the size.
    pub(crate) fn format(&self, py: Python<'_>, name: Option<String>, spin_s: Option<f64>) -> PyResult<Format> {
        let lengths = |shape: &[npy_intp]| shape.iter().map(|length| length.unsigned_abs()).collect();
        let element = if self.is_typed { Some(said(&self.dtype(py))?) } else { None };
        let meta = self.meta.as_ref().map(|meta| said(&Dtype::known(meta.given.bind(py).clone()))).transpose()?;
        Ok(Format { shape: self.shape.as_deref().map(lengths), element, meta, name, spin_s })
    }

    /// The dtypes of frames and meta that a head cannot keep whole.
    pub(crate) fn beside<'py>(&self, py: Python<'py>) -> PyResult<[Option<Bound<'py, PyAny>>; 2]> {
        let beside = |dtype: &Py<PyAny>| -> PyResult<Option<Bound<'py, PyAny>>> {
            let dtype = dtype.bind(py);
            Ok(Dtype::known(dtype.clone()).element()?.is_none().then(|| dtype.clone()))
        };
        let dtype = if self.is_typed { beside(&self.dtype)? } else { None };
        Ok([dtype, self.meta.as_ref().map(|meta| beside(&meta.given)).transpose()?.flatten()])
    }

    /// Whether frames and meta have the sizes that a head says.
    pub(crate) fn fits(&self, geometry: &Geometry) -> bool {
        let frame_bytes = if self.shape.is_some() { self.len_bytes.max(1) } else { 0 };
        let meta_bytes = self.meta.as_ref().map_or(0, |meta| meta.itemsize);
        (geometry.frame_bytes, geometry.meta_bytes as usize) == (frame_bytes as u64, meta_bytes)
    }

    fn dtype<'py>(&self, py: Python<'py>) -> Dtype<'py> {
        Dtype::known(self.dtype.bind(py).clone())
    }

    /// The dtype of every frame that is put; none when frames have any.
    pub(crate) fn chosen_dtype<'py>(&self, py: Python<'py>) -> Option<&Bound<'py, PyAny>> {
        self.is_typed.then(|| self.dtype.bind(py))
    }

    /// Refuses an array that would not be the same in the ring's dtype; says whether it has another one.
    pub(crate) fn check_cast(&self, py: Python<'_>, dtype: &Dtype<'_>) -> PyResult<bool> {
        if !self.is_typed || self.has_dtype(py, dtype)? {
            return Ok(false);
        }
        static CAN_CAST: Once<Py<PyAny>> = Once::new();
        let own = self.dtype.bind(py);
        // `same_kind` would cut texts. A bfloat16 is a number, whatever its kind says.
        let is_number = Dtype::known(own.clone()).element()? == Some(Element::of(Number::Bf16));
        let is_text = !is_number && matches!(own.getattr(intern!(py, "kind"))?.extract::<char>()?, 'S' | 'U' | 'V');
        let casting = if is_text { "safe" } else { "same_kind" };
        let can_cast = CAN_CAST.import(py, "numpy", "can_cast")?.call1((dtype.as_any(), own, casting))?;
        if can_cast.is_truthy()? {
            return Ok(true);
        }
        Err(PyTypeError::new_err(format!(
            "expected an array that casts to {own}, the dtype of the ring, by the rule {casting:?}, got {}: convert it \
             with astype({:?}), or make the ring with its dtype",
            dtype.as_any().str()?,
            own.str()?.to_string(),
        )))
    }

    /// Whether an array is what every frame is, so that nothing needs to be said of it.
    pub(crate) fn is_like(&self, py: Python<'_>, facts: &Facts<'_>, dtype: &Dtype<'_>) -> PyResult<bool> {
        let Some(shape) = &self.shape else { return Ok(false) };
        let lengths = facts.shape.iter().map(|&length| length as npy_intp);
        Ok(lengths.eq(shape.iter().copied()) && facts.is_c && self.has_dtype(py, dtype)?)
    }

    fn has_dtype(&self, py: Python<'_>, dtype: &Dtype<'_>) -> PyResult<bool> {
        let own = self.dtype.bind(py);
        Ok(own.is(dtype.as_any()) || own.eq(dtype.as_any())?)
    }

    /// What a frame says of its dtype: nothing when it is the ring's.
    pub(crate) fn element_beside(&self, py: Python<'_>, dtype: &Dtype<'_>) -> PyResult<Option<Element>> {
        if self.has_dtype(py, dtype)? { Ok(None) } else { dtype.stored_element().map(Some) }
    }

    fn dtype_of<'py>(&self, py: Python<'py>, element: Option<&Element>) -> PyResult<Dtype<'py>> {
        element.map_or_else(|| Ok(self.dtype(py)), |element| Dtype::of_element(py, element))
    }
}

/// What a head says of a dtype.
fn said(dtype: &Dtype<'_>) -> PyResult<Element> {
    let size = u32::try_from(dtype.itemsize()).unwrap_or(u32::MAX);
    Ok(dtype.element()?.unwrap_or(Element::Void(size)))
}

impl Meta {
    fn of(py: Python<'_>, meta: &Bound<'_, PyAny>) -> PyResult<Self> {
        static META: Once<Py<PyAny>> = Once::new();
        let dtype = Dtype::of(py, Some(meta))?;
        let packer = META.import(py, "ndshare._meta", "Meta")?.call1((dtype.as_any(),))?;
        let (plain, checked) = (packer.getattr("dtype")?.unbind(), packer.getattr("checked")?.unbind());
        let given = dtype.as_any().clone().unbind();
        Ok(Self { given, dtype: plain, checked, packer: packer.unbind(), itemsize: dtype.itemsize() })
    }

    pub(crate) fn dtype<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.dtype.bind(py).clone()
    }

    /// The record in a buffer: of bytes, which cannot be written to, or of a bytearray, which takes only what fits.
    fn record<'py>(&self, py: Python<'py>, buffer: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        static FROM_BUFFER: Once<Py<PyAny>> = Once::new();
        let dtype = if buffer.is_instance_of::<PyByteArray>() { &self.checked } else { &self.dtype };
        FROM_BUFFER.import(py, "numpy", "frombuffer")?.call1((buffer, dtype.bind(py)))?.get_item(0)
    }

    /// The bytes of a record with what fits of `carried`, then `meta`, then `fields`, the others zero.
    pub(crate) fn packed(
        &self,
        py: Python<'_>,
        carried: Option<Bound<'_, PyAny>>,
        meta: Option<&Bound<'_, PyAny>>,
        fields: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Vec<u8>> {
        self.packer.bind(py).call_method1(intern!(py, "packed"), (carried, meta, fields))?.extract()
    }
}

/// The record of a frame, or of a view of one, that is passed on to another ring; none when it has none.
pub(crate) fn carried<'py>(array: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let hold = base_of(array).and_then(|base| base.cast_into::<FrameHold>().ok());
    match hold {
        Some(hold) if hold.get().own.meta.is_some() => hold.get().record(array.py()).map(Some),
        _ => Ok(None),
    }
}

/// What keeps a frame: the base of its array.
#[pyclass(frozen, module = "ndshare._native")]
pub(crate) struct FrameHold {
    source: Source,
    own: Arc<Own>,
    record: Once<Py<PyAny>>,
}

/// In place of a number.
const UNPUBLISHED: u64 = u64::MAX;

enum Source {
    Received(ring::Frame),
    Written(Written),
}

/// A frame as its writer has it.
struct Written {
    /// None while it is being published, and afterwards if nobody looks at it any more.
    writing: Guarded<Option<ring::Writing>>,
    /// [`UNPUBLISHED`], or its number.
    seq: AtomicU64,
    meta: Once<Py<PyByteArray>>,
    /// Whether its writing has ended, in whatever way: nothing that is written to the meta would be seen.
    is_over: AtomicBool,
}

impl FrameHold {
    pub(crate) fn received(own: &Arc<Own>, frame: ring::Frame) -> Self {
        let source = Source::Received(frame);
        Self { source, own: own.clone(), record: Once::new() }
    }

    fn written(own: &Arc<Own>, writing: ring::Writing) -> Self {
        let (writing, seq, meta) = (Guarded::new(Some(writing)), AtomicU64::new(UNPUBLISHED), Once::new());
        let source = Source::Written(Written { writing, seq, meta, is_over: AtomicBool::new(false) });
        Self { source, own: own.clone(), record: Once::new() }
    }

    fn look<T: Send>(&self, look: impl FnOnce(&Hold) -> T + Send) -> Option<T> {
        match &self.source {
            Source::Received(frame) => Some(look(frame.hold())),
            Source::Written(written) => {
                written.writing.look(|writing| writing.as_ref().and_then(|writing| writing.hold().ok()).map(look))
            }
        }
    }

    /// The block of a frame that came out of a ring: nobody writes to it any more.
    pub(crate) fn published(&self) -> Option<&Hold> {
        match &self.source {
            Source::Received(frame) => Some(frame.hold()),
            Source::Written(_) => None,
        }
    }

    /// What the writer put into the meta; none if it never asked for it.
    pub(crate) fn meta_bytes(&self, py: Python<'_>) -> Option<Vec<u8>> {
        match &self.source {
            Source::Written(written) => written.meta.get().map(|meta| meta.bind(py).to_vec()),
            Source::Received(_) => None,
        }
    }

    /// Publishes a written frame, and returns its number; none when it was dropped.
    pub(crate) fn publish(
        slf: Py<Self>,
        py: Python<'_>,
        content: Content<'_>,
        timeout: Option<Duration>,
    ) -> PyResult<Option<u64>> {
        let Source::Written(written) = &slf.get().source else { return Ok(None) };
        let Some(mut writing) = written.writing.take() else { return Ok(None) };
        // SAFETY: attached, and the object lives.
        let is_alone = unsafe { ffi::Py_REFCNT(slf.as_ptr()) } == 1;
        // Nobody but this call has it: there is no array over the frame any more.
        if is_alone {
            return publish(py, &mut writing, content, timeout);
        }
        writing.keep();
        let seq = publish(py, &mut writing, content, timeout);
        drop(written.writing.replace(Some(writing)));
        written.seq.store(seq.as_ref().ok().copied().flatten().unwrap_or(UNPUBLISHED), Relaxed);
        seq
    }

    /// Has whoever still writes to the meta hear that it is too late.
    pub(crate) fn end_meta(&self, py: Python<'_>) -> PyResult<()> {
        let Source::Written(written) = &self.source else { return Ok(()) };
        written.is_over.store(true, Relaxed);
        match self.record.get() {
            Some(record) if !record.is_none(py) => record.bind(py).call_method0(intern!(py, "_end")).map(drop),
            _ => Ok(()),
        }
    }

    fn set_meta(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let Some(meta) = &self.own.meta else {
            return Err(PyTypeError::new_err(
                "expected a frame of a ring with meta, but the ring was made without meta=",
            ));
        };
        let written = match &self.source {
            Source::Written(written) if !written.is_over.load(Relaxed) => written,
            _ => return Err(PyValueError::new_err("expected a frame that is being written: this one is read-only")),
        };
        // Before anything changes.
        let bytes = meta.packed(py, None, Some(value), None)?;
        self.record(py)?;
        let Some(buffer) = written.meta.get() else { return Ok(()) };
        buffer.bind(py).set_item(PySlice::full(py), PyBytes::new(py, &bytes))
    }

    fn record<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let Some(meta) = &self.own.meta else { return Ok(py.None().into_bound(py)) };
        let make = || {
            let buffer = match &self.source {
                Source::Received(frame) => PyBytes::new(py, frame.meta()).into_any(),
                Source::Written(written) => {
                    let fresh = || Ok(PyByteArray::new(py, &vec![0; meta.itemsize]).unbind());
                    written.meta.get_or_make(fresh)?.bind(py).clone().into_any()
                }
            };
            meta.record(py, buffer).map(Bound::unbind)
        };
        self.record.get_or_make(make).map(|record| record.bind(py).clone())
    }
}

#[pymethods]
impl FrameHold {
    fn __repr__(&self) -> String {
        let what = match &self.source {
            Source::Received(frame) => format!("frame {}", frame.seq),
            Source::Written(_) => "a frame being written".to_owned(),
        };
        let block = self.look(|hold| format!(", block {}", hold.block().index)).unwrap_or_default();
        format!("<FrameHold of {what}{block}>")
    }

    fn __len__(&self) -> usize {
        self.look(Hold::len_bytes).unwrap_or(0)
    }
}

#[inline]
fn publish(
    py: Python<'_>,
    writing: &mut ring::Writing,
    content: Content<'_>,
    timeout: Option<Duration>,
) -> PyResult<Option<u64>> {
    let published = match at_once(py, || writing.publish(content, &Deadline::now()))? {
        Published::Busy => interruptible_for(py, timeout, |deadline| writing.publish(content, deadline))?,
        published => published,
    };
    Ok(published.seq())
}

/// The number of a frame; None while it is being written, or when it was dropped.
#[pyfunction]
pub(crate) fn frame_seq(frame: &Bound<'_, PyAny>) -> PyResult<Option<u64>> {
    Ok(match &hold_of(frame)?.get().source {
        Source::Received(frame) => Some(frame.seq),
        Source::Written(written) => Some(written.seq.load(Relaxed)).filter(|&seq| seq != UNPUBLISHED),
    })
}

/// When a frame was published; None for its writer.
#[pyfunction]
pub(crate) fn frame_time_ns(frame: &Bound<'_, PyAny>) -> PyResult<Option<u64>> {
    Ok(match &hold_of(frame)?.get().source {
        Source::Received(frame) => Some(frame.time_ns),
        Source::Written(_) => None,
    })
}

/// The meta of a frame as a record; None when its ring has none.
#[pyfunction]
pub(crate) fn frame_meta<'py>(frame: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    hold_of(frame)?.get().record(frame.py())
}

/// Sets the meta of a frame that is being written, as a whole: a mapping, a record, or another frame's meta.
#[pyfunction]
pub(crate) fn set_frame_meta(frame: &Bound<'_, PyAny>, meta: &Bound<'_, PyAny>) -> PyResult<()> {
    hold_of(frame)?.get().set_meta(frame.py(), meta)
}

fn hold_of<'py>(frame: &Bound<'py, PyAny>) -> PyResult<Bound<'py, FrameHold>> {
    let hold = base_of(frame).and_then(|base| base.cast_into::<FrameHold>().ok());
    hold.ok_or_else(|| {
        PyAttributeError::new_err("expected a frame of a ring or a view of it, got a copy, which has no number")
    })
}

/// An array as it is: what arithmetic on frames gives is an ordinary array.
#[pyfunction]
#[pyo3(signature = (array, context=None, return_scalar=false))]
pub(crate) fn unwrapped<'py>(
    array: Bound<'py, PyAny>,
    context: Option<&Bound<'py, PyAny>>,
    return_scalar: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let _ = context;
    if return_scalar { array.get_item(()) } else { Ok(array) }
}

// ---- arrays

fn class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static FRAME: Once<Py<PyType>> = Once::new();
    FRAME.import(py, "ndshare._ring", "Frame")
}

/// A layout that arrived with a frame, and what it was made into, for the next frame that says the same.
pub(crate) struct Seen {
    bytes: Vec<u8>,
    layout: Layout,
    dtype: Py<PyAny>,
}

impl Seen {
    fn of(py: Python<'_>, own: &Own, bytes: &[u8]) -> PyResult<Self> {
        let Description { layout, element } = Description::decode(bytes).map_err(|e| to_python(py, &e))?;
        let dtype = own.dtype_of(py, element.as_ref())?.as_any().clone().unbind();
        Ok(Self { bytes: bytes.to_vec(), layout, dtype })
    }
}

/// The array of a received frame.
#[inline]
pub(crate) fn received<'py>(
    py: Python<'py>,
    own: &Arc<Own>,
    seen: &Guarded<Option<Arc<Seen>>>,
    frame: ring::Frame,
) -> PyResult<Bound<'py, PyAny>> {
    if !frame.view().is_empty() {
        return received_otherwise(py, own, seen, frame);
    }
    let Some(shape) = &own.shape else { return Err(bad_frame("it says nothing of its shape")) };
    let offset = usize::try_from(frame.offset).map_err(|_| bad_frame("its offset is too large"))?;
    if offset.checked_add(own.len_bytes).is_none_or(|end| end > frame.hold().len_bytes()) {
        return Err(bad_frame("it is shorter than its shape"));
    }
    let data = frame.hold().as_ptr().wrapping_add(offset);
    let owner = Py::new(py, FrameHold::received(own, frame))?.into_any();
    // SAFETY: the items lie inside the block, which the owner keeps, and no length of the ring's shape is negative;
    // `Frame` adds no fields.
    unsafe { array_of_subclass(class(py)?, owner, data, own.dtype(py), shape, &Order::C, false) }
}

#[cold]
fn received_otherwise<'py>(
    py: Python<'py>,
    own: &Arc<Own>,
    seen: &Guarded<Option<Arc<Seen>>>,
    frame: ring::Frame,
) -> PyResult<Bound<'py, PyAny>> {
    let said = match seen.get().filter(|seen| seen.bytes == frame.view()) {
        Some(said) => said,
        None => {
            let fresh = Arc::new(Seen::of(py, own, frame.view())?);
            // What it replaces may end a dtype, which is Python's affair.
            drop(seen.replace(Some(fresh.clone())));
            fresh
        }
    };
    let Seen { layout, dtype, .. } = &*said;
    let dtype = Dtype::known(dtype.bind(py).clone());
    let checked = layout.check_inside(frame.offset, dtype.itemsize(), frame.hold().len_bytes());
    checked.map_err(|e| to_python(py, &e))?;
    let lengths: Result<Vec<_>, _> = layout.shape().iter().map(|&length| npy_intp::try_from(length)).collect();
    let lengths = lengths.map_err(|_| bad_frame("a length is too large"))?;
    let data = frame.hold().as_ptr().wrapping_add(frame.offset as usize);
    let owner = Py::new(py, FrameHold::received(own, frame))?.into_any();
    // SAFETY: `check` has bounded every item by the block, which the owner keeps, and no length is negative.
    unsafe { array_of_subclass(class(py)?, owner, data, dtype, &lengths, &Order::Strides(layout.strides()), false) }
}

#[cold]
fn bad_frame(why: &str) -> PyErr {
    PyValueError::new_err(format!("expected a frame of this ring, got one that contradicts it: {why}"))
}

/// What a writer wants to fill.
pub(crate) struct Wanted {
    /// None: what every frame of the ring is.
    special: Option<Box<Special>>,
    pub(crate) len_bytes: usize,
}

struct Special {
    lengths: Box<[npy_intp]>,
    dtype: Py<PyAny>,
    fortran: bool,
    view: Vec<u8>,
}

impl Wanted {
    /// From the arguments of `write`.
    #[inline]
    pub(crate) fn of(
        py: Python<'_>,
        own: &Own,
        shape: Option<&Bound<'_, PyAny>>,
        dtype: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        if shape.is_none() && dtype.is_none() && own.shape.is_some() {
            return Ok(Self { special: None, len_bytes: own.len_bytes });
        }
        let dtype = dtype.map_or_else(|| Ok(own.dtype(py)), |dtype| Dtype::of_new(py, Some(dtype)))?;
        let lengths: Box<[npy_intp]> = match (shape, &own.shape) {
            (Some(shape), _) => Shape::of(shape)?.lengths().into(),
            (None, Some(shape)) => shape.clone(),
            (None, None) => {
                return Err(PyTypeError::new_err(
                    "expected a shape, because this ring takes any: ring.write((1080, 1920), np.uint16)",
                ));
            }
        };
        Self::special(py, own, lengths, dtype, false)
    }

    /// For a copy of an array.
    pub(crate) fn like(py: Python<'_>, own: &Own, facts: &Facts<'_>, dtype: Dtype<'_>) -> PyResult<Self> {
        let lengths: Box<[npy_intp]> = facts.shape.iter().map(|&length| length as npy_intp).collect();
        if own.shape.as_deref() == Some(&*lengths) && own.has_dtype(py, &dtype)? {
            return Ok(Self { special: None, len_bytes: own.len_bytes });
        }
        Self::special(py, own, lengths, dtype, !facts.is_c && facts.is_f)
    }

    fn special(py: Python<'_>, own: &Own, lengths: Box<[npy_intp]>, dtype: Dtype<'_>, fortran: bool) -> PyResult<Self> {
        if dtype.is_subarray() {
            return Err(PyTypeError::new_err("expected a dtype that is no subarray: put its shape into shape="));
        }
        let shape: Vec<usize> = lengths.iter().map(|length| length.unsigned_abs()).collect();
        let made = ndshare::layout::contiguous(&shape, dtype.itemsize(), fortran);
        let (strides, len_bytes) = made.map_err(|e| to_python(py, &e))?;
        let view = described(&shape, &strides, own.element_beside(py, &dtype)?).encode();
        let dtype = dtype.as_any().clone().unbind();
        Ok(Self { special: Some(Box::new(Special { lengths, dtype, fortran, view })), len_bytes })
    }

    /// What is published of its layout.
    pub(crate) fn view(&self) -> &[u8] {
        self.special.as_ref().map_or(&[], |special| &special.view)
    }

    /// A writable array over a frame that has room for it, and what keeps it.
    #[inline]
    pub(crate) fn array<'py>(
        &self,
        py: Python<'py>,
        own: &Arc<Own>,
        writing: ring::Writing,
    ) -> PyResult<(Bound<'py, PyAny>, Py<FrameHold>)> {
        self.array_of(class(py)?, own, writing)
    }

    /// The same as a plain array, for a copy that nobody else sees.
    pub(crate) fn plain_array<'py>(
        &self,
        py: Python<'py>,
        own: &Arc<Own>,
        writing: ring::Writing,
    ) -> PyResult<(Bound<'py, PyAny>, Py<FrameHold>)> {
        self.array_of(&PyUntypedArray::type_object(py), own, writing)
    }

    #[inline]
    fn array_of<'py>(
        &self,
        class: &Bound<'py, PyType>,
        own: &Arc<Own>,
        writing: ring::Writing,
    ) -> PyResult<(Bound<'py, PyAny>, Py<FrameHold>)> {
        let py = class.py();
        let hold = writing.hold().map_err(|e| to_python(py, &e))?;
        let data = hold.as_ptr();
        if hold.len_bytes() < self.len_bytes {
            return Err(bad_frame("its block is shorter than its shape"));
        }
        let owner = Py::new(py, FrameHold::written(own, writing))?;
        let base = owner.clone_ref(py).into_any();
        // SAFETY: the block has room for a contiguous array of this shape, the owner keeps it, and no length is
        // negative; the class adds no fields.
        let array = unsafe {
            match self.special.as_deref() {
                None => {
                    let shape = own.shape.as_deref().unwrap_or(&[]);
                    array_of_subclass(class, base, data, own.dtype(py), shape, &Order::C, true)
                }
                Some(Special { lengths, dtype, fortran, .. }) => {
                    let order = if *fortran { Order::Fortran } else { Order::C };
                    let dtype = Dtype::known(dtype.bind(py).clone());
                    array_of_subclass(class, base, data, dtype, lengths, &order, true)
                }
            }
        }?;
        Ok((array, owner))
    }
}

/// The layout of an array that is published as it is; none when every frame is so.
pub(crate) fn view_of(py: Python<'_>, own: &Own, facts: &Facts<'_>, dtype: &Dtype<'_>) -> PyResult<Vec<u8>> {
    if own.is_like(py, facts, dtype)? {
        return Ok(Vec::new());
    }
    Ok(described(facts.shape, facts.strides, own.element_beside(py, dtype)?).encode())
}

/// Ends the writing of a frame: its array is read-only from now on.
pub(crate) fn end_writing(array: &Bound<'_, PyAny>) {
    make_readonly(array);
}

/// A name for messages: the repr of a str, or nothing.
pub(crate) fn quoted(py: Python<'_>, name: Option<&str>) -> PyResult<String> {
    let Some(name) = name else { return Ok(String::new()) };
    Ok(format!(" {}", PyString::new(py, name).repr()?))
}
