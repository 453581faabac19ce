//! Frames of a ring as arrays. A frame's array is of the class `ndshare.Frame`; at its base is a `FrameHold`, which
//! keeps the library's frame and knows its number, time and meta.

use std::sync::Arc;
use std::time::Duration;

use ndshare::arena::{Deadline, Hold};
use ndshare::element::Element;
use ndshare::prim::{AtomicBool, AtomicU64, Ordering::Relaxed};
use ndshare::ring::{self, Content, Format, Note, Published, RingSizes, Spin};
use numpy::PyArrayDescr;
use pyo3::exceptions::{PyAttributeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PySlice, PyString, PyTuple, PyType};

use crate::built::{Plans, built};
use crate::described::{Described, Descriptions};
use crate::dtype::{Dtype, casts};
use crate::error::{class_name, to_python};
use crate::guard::{Guarded, Once};
use crate::ndarray::{Operand, base_of, check_items, plain_class};
use crate::shape::Shape;
use crate::tree::Tree;
use crate::variables::references;
use crate::wait::{at_once, interruptible_for};

/// What every frame of a ring is unless it says otherwise.
pub(crate) struct Own {
    /// None: frames have any shape.
    pub(crate) frame: Option<Arc<Described>>,
    pub(crate) dtype: Py<PyArrayDescr>,
    /// Whether the dtype was chosen, by itself or by a shape; else frames of any dtype are as good.
    pub(crate) is_typed: bool,
    pub(crate) meta: Option<Meta>,
    /// What is put into a ring whose frames have fields.
    tree: Option<Arc<Tree>>,
    /// The last tree that was put into a ring that takes any.
    last_tree: Guarded<Option<Arc<Tree>>>,
    /// How frames become trees.
    plans: Plans,
}

/// The dtype of a ring's meta: a structured one, whose items are records.
pub(crate) struct Meta {
    /// As it was given.
    given: Py<PyArrayDescr>,
    /// Of records that cannot be written to, and of those that take only what fits.
    dtype: Py<PyAny>,
    checked: Py<PyAny>,
    /// Python's `Meta`, which packs them.
    packer: Py<PyAny>,
    itemsize: usize,
}

/// What no frame may have for its time.
const NO_TIME: u64 = u64::MAX;

impl Own {
    pub(crate) fn new(
        py: Python<'_>,
        shape: Option<&Bound<'_, PyAny>>,
        dtype: Option<&Bound<'_, PyAny>>,
        meta: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let is_typed = shape.is_some() || dtype.is_some();
        let dtype = Dtype::of_new(py, dtype)?.refuse_subarray()?;
        let frame = shape.map(|shape| Shape::of(shape)?.contiguous(dtype.clone())).transpose()?;
        let meta = meta.map(|meta| Meta::of(py, meta)).transpose()?;
        let frame = frame.map(Arc::new);
        let tree = frame.as_ref().map(|frame| Tree::of(py, frame, true)).transpose()?.flatten().map(Arc::new);
        Ok(Self {
            frame,
            dtype: dtype.unbind(),
            is_typed,
            meta,
            tree,
            last_tree: Guarded::new(None),
            plans: Plans::new(),
        })
    }

    /// Whether the meta says where frames were made: on another machine.
    pub(crate) fn is_from_afar(&self, py: Python<'_>) -> PyResult<bool> {
        let Some(meta) = &self.meta else { return Ok(false) };
        let is_there = py.import("ndshare._origin")?.getattr("is_there")?;
        is_there.call1((&meta.given,))?.is_truthy()
    }

    /// Frames of several arrays, as a user names them.
    pub(crate) fn of_fields(
        py: Python<'_>,
        fields: &Bound<'_, PyAny>,
        has_more: bool,
        meta: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        static DTYPE_OF_FIELDS: Once<Py<PyAny>> = Once::new();
        if has_more {
            return Err(PyTypeError::new_err(
                "expected fields=, or shape and dtype, got both: fields say all of a frame",
            ));
        }
        let dtype = DTYPE_OF_FIELDS.import(py, "ndshare._fields", "dtype_of_fields")?.call1((fields,))?;
        Self::new(py, Some(&PyTuple::empty(py)), Some(&dtype), meta)
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
    pub(crate) fn format(&self, py: Python<'_>, name: Option<String>, spin: Option<Spin>) -> PyResult<Format> {
        let element = if self.is_typed { Some(said(&self.dtype(py))?) } else { None };
        let meta = self.meta.as_ref().map(|meta| said(&Dtype::known(meta.given.bind(py).clone()))).transpose()?;
        Ok(Format { shape: self.shape().map(<[usize]>::to_vec), element, meta, name, spin })
    }

    /// The dtypes of frames and meta that a head cannot keep whole.
    pub(crate) fn beside<'py>(&self, py: Python<'py>) -> PyResult<[Option<Bound<'py, PyAny>>; 2]> {
        let beside = |dtype: &Py<PyArrayDescr>| -> PyResult<Option<Bound<'py, PyAny>>> {
            let dtype = dtype.bind(py);
            Ok(Dtype::known(dtype.clone()).element()?.is_none().then(|| dtype.as_any().clone()))
        };
        let dtype = if self.is_typed { beside(&self.dtype)? } else { None };
        Ok([dtype, self.meta.as_ref().map(|meta| beside(&meta.given)).transpose()?.flatten()])
    }

    /// Refuses dtypes that a head cannot keep whole: nothing else goes with a reference.
    pub(crate) fn check_known(&self, py: Python<'_>) -> PyResult<()> {
        if self.beside(py)?.iter().all(Option::is_none) {
            return Ok(());
        }
        Err(PyTypeError::new_err(
            "expected a ring whose dtypes NumPy knows, got one with metadata or of a library's own: send it through \
             multiprocessing",
        ))
    }

    /// Whether frames and meta have the sizes that a head says.
    pub(crate) fn fits(&self, geometry: &RingSizes) -> bool {
        let frame_bytes = self.frame.as_ref().map_or(0, |frame| frame.len_bytes().max(1));
        let meta_bytes = self.meta.as_ref().map_or(0, |meta| meta.itemsize);
        (geometry.frame_bytes, geometry.meta_bytes as usize) == (frame_bytes as u64, meta_bytes)
    }

    fn dtype<'py>(&self, py: Python<'py>) -> Dtype<'py> {
        Dtype::known(self.dtype.bind(py).clone())
    }

    /// Refuses an array that would not be the same in the ring's dtype; says whether it has another one.
    pub(crate) fn check_cast(&self, py: Python<'_>, dtype: &Dtype<'_>) -> PyResult<bool> {
        if !self.is_typed || self.has_dtype(py, dtype)? {
            return Ok(false);
        }
        let own = self.dtype(py);
        let Err(casting) = casts(py, dtype, &own)? else { return Ok(true) };
        let own = own.as_any();
        Err(PyTypeError::new_err(format!(
            "expected an array that casts to {own}, the dtype of the ring, by the rule {casting:?}, got {}: convert it \
             with astype({:?}), or make the ring with its dtype",
            dtype.as_any().str()?,
            own.str()?.to_string(),
        )))
    }

    /// What a ring made with fields wants.
    pub(crate) fn tree(&self) -> Option<&Arc<Tree>> {
        self.tree.as_ref()
    }

    /// Whether frames are of any shape and dtype, so that each may be a tree.
    pub(crate) fn takes_trees(&self) -> bool {
        self.frame.is_none() && !self.is_typed
    }

    /// The last tree that was put into a ring that takes any.
    pub(crate) fn last_tree(&self) -> Option<Arc<Tree>> {
        self.last_tree.get()
    }

    /// The tree of what is put into a ring that takes any; it is remembered.
    pub(crate) fn new_tree(&self, py: Python<'_>, x: &Bound<'_, PyAny>) -> PyResult<Arc<Tree>> {
        let dtype = Tree::dtype_of(x)?;
        let element = self.element_beside(py, &dtype)?;
        let frame = Arc::new(Described::contiguous(dtype, &[], false)?.saying(element));
        let tree = Tree::of(py, &frame, false)?.map(Arc::new);
        let tree = tree.ok_or_else(|| PyTypeError::new_err("expected a tree of arrays, got one without any"))?;
        drop(self.last_tree.replace(Some(tree.clone())));
        Ok(tree)
    }

    fn has_dtype(&self, py: Python<'_>, dtype: &Dtype<'_>) -> PyResult<bool> {
        self.dtype(py).is_like(dtype)
    }

    /// The dtype of an array that is put.
    ///
    /// # Errors
    /// TypeError for one whose items are no plain bytes.
    #[inline]
    pub(crate) fn dtype_of<'py>(&self, py: Python<'py>, facts: &Operand<'_>) -> PyResult<Dtype<'py>> {
        let dtype = Dtype::borrowed(py, facts.descr);
        // The ring's own was looked at when the ring was made.
        if dtype.as_any().is(&self.dtype) { Ok(dtype) } else { Dtype::of(py, Some(dtype.as_any())) }
    }

    /// The shape of every frame, if they have one.
    pub(crate) fn shape(&self) -> Option<&[usize]> {
        self.frame.as_ref().map(|frame| frame.shape())
    }

    /// What a frame says of its dtype: nothing when it is the one that the ring's head says.
    fn element_beside(&self, py: Python<'_>, dtype: &Dtype<'_>) -> PyResult<Option<Element>> {
        if self.is_typed && self.has_dtype(py, dtype)? { Ok(None) } else { dtype.stored_element().map(Some) }
    }

    /// What is put, as an array. A list or a scalar becomes what NumPy makes of it, or what fits the ring's dtype.
    pub(crate) fn as_array<'py>(&self, x: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        static AS_ARRAY: Once<Py<PyAny>> = Once::new();
        let py = x.py();
        if Operand::of_any(x).is_some() {
            // A frame that is passed on has nothing beside its items that is not asked for elsewhere.
            if !x.get_type().is(class(py)?) {
                check_items(x)?;
            }
            return Ok(x.clone());
        }
        AS_ARRAY.import(py, "ndshare._ring", "as_array")?.call1((x, self.is_typed.then_some(&self.dtype)))
    }

    /// What is said of an array that is published as it is; nothing when every frame is so.
    pub(crate) fn view_of(&self, py: Python<'_>, facts: &Operand<'_>, dtype: &Dtype<'_>) -> PyResult<Vec<u8>> {
        let element = self.element_beside(py, dtype)?;
        let is_like_all = self.shape() == Some(facts.shape) && facts.is_c && element.is_none();
        Ok(if is_like_all { Vec::new() } else { facts.described(element).encode() })
    }

    /// What the arguments of `write` ask for.
    #[inline]
    pub(crate) fn wanted(
        &self,
        py: Python<'_>,
        shape: Option<&Bound<'_, PyAny>>,
        dtype: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Arc<Described>> {
        if let (None, None, Some(frame)) = (shape, dtype, &self.frame) {
            return Ok(frame.clone());
        }
        let dtype = dtype.map_or_else(|| Ok(self.dtype(py)), |dtype| Dtype::of_new(py, Some(dtype)))?;
        let dtype = dtype.refuse_subarray()?;
        let element = self.element_beside(py, &dtype)?;
        let described = match (shape, &self.frame) {
            (Some(shape), _) => Shape::of(shape)?.contiguous(dtype)?,
            (None, Some(frame)) => Described::contiguous(dtype, frame.shape(), false)?,
            (None, None) => {
                return Err(PyTypeError::new_err(
                    "expected a shape, because this ring takes any: ring.write((1080, 1920), np.uint16)",
                ));
            }
        };
        Ok(Arc::new(described.saying(element)))
    }

    /// What a copy of an array is.
    pub(crate) fn like(&self, py: Python<'_>, facts: &Operand<'_>, dtype: Dtype<'_>) -> PyResult<Arc<Described>> {
        let element = self.element_beside(py, &dtype)?;
        match &self.frame {
            Some(frame) if frame.shape() == facts.shape && element.is_none() => Ok(frame.clone()),
            _ => {
                let is_fortran = !facts.is_c && facts.is_f;
                Ok(Arc::new(Described::contiguous(dtype, facts.shape, is_fortran)?.saying(element)))
            }
        }
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
        let itemsize = dtype.itemsize();
        Ok(Self { given: dtype.unbind(), dtype: plain, checked, packer: packer.unbind(), itemsize })
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

    /// The bytes of each record of an array of this very dtype; none for anything else.
    pub(crate) fn plain_records(&self, records: &Bound<'_, PyAny>) -> PyResult<Option<Vec<Vec<u8>>>> {
        let py = records.py();
        let Some(facts) = Operand::of_any(records) else { return Ok(None) };
        let is_plain = facts.shape.len() == 1 && facts.itemsize == self.itemsize && self.itemsize > 0;
        if !is_plain || !Dtype::borrowed(py, facts.descr).is_like(&Dtype::known(self.given.bind(py).clone()))? {
            return Ok(None);
        }
        let bytes = records.call_method0(intern!(py, "tobytes"))?.cast_into::<PyBytes>()?;
        Ok(Some(bytes.as_bytes().chunks(self.itemsize).map(<[u8]>::to_vec).collect()))
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

enum Source {
    Received(ring::Frame),
    /// Of another user's ring, in memory of this process.
    Copied(ring::OfferedFrame),
    /// As another process got it, which keeps it until this one has it.
    Passed(Passed),
    Written(Written),
}

/// A frame that another process got from a ring and passed on.
pub(crate) struct Passed {
    pub(crate) hold: Hold,
    /// Where in the block the first item is.
    pub(crate) offset: u64,
    pub(crate) seq: u64,
    pub(crate) time_ns: u64,
    pub(crate) published_ns: u64,
    pub(crate) meta: Vec<u8>,
    pub(crate) note: Option<Arc<Note<'static>>>,
}

/// A frame as its writer has it.
struct Written {
    /// None while it is being published, and afterwards if nobody looks at it any more.
    writing: Guarded<Option<ring::Writing>>,
    meta: Once<Py<PyByteArray>>,
    note: Guarded<Option<Arc<Note<'static>>>>,
    /// What is said of the frame.
    described: Arc<Described>,
    /// Whether its writing has ended, in whatever way: nothing that is written to the meta would be seen.
    is_over: AtomicBool,
    /// When the frame was made, if the writer has said so; else [`NO_TIME`].
    time_ns: AtomicU64,
}

impl FrameHold {
    fn of(own: &Arc<Own>, source: Source) -> Self {
        Self { source, own: own.clone(), record: Once::new() }
    }

    fn written(own: &Arc<Own>, described: &Arc<Described>, writing: ring::Writing) -> Self {
        let (writing, meta, note) = (Guarded::new(Some(writing)), Once::new(), Guarded::new(None));
        let (described, is_over, time_ns) = (described.clone(), AtomicBool::new(false), AtomicU64::new(NO_TIME));
        Self::of(own, Source::Written(Written { writing, meta, note, described, is_over, time_ns }))
    }

    /// What keeps a frame that is to be filled part by part.
    pub(crate) fn begun(
        py: Python<'_>,
        own: &Arc<Own>,
        described: &Arc<Described>,
        writing: ring::Writing,
    ) -> PyResult<Py<Self>> {
        Py::new(py, Self::written(own, described, writing))
    }

    /// A writable array over a part of a frame that is being written, from a byte of it on.
    pub(crate) fn part<'py>(
        slf: &Py<Self>,
        py: Python<'py>,
        described: &Described,
        offset: u64,
    ) -> PyResult<Bound<'py, PyAny>> {
        let block = slf.get().look(|hold| (hold.as_ptr() as usize, hold.len_bytes()));
        let (first, room) = block.ok_or_else(|| PyValueError::new_err("expected a frame that is being written"))?;
        let data = described.place_in(py, (first as *mut u8, room), offset)?;
        // SAFETY: the owner keeps the frame's block, inside which the array lies; NumPy's own class.
        unsafe { described.array(&plain_class(py), slf.clone_ref(py).into_any(), data, true) }
    }

    fn look<T: Send>(&self, look: impl FnOnce(&Hold) -> T + Send) -> Option<T> {
        match &self.source {
            Source::Received(frame) => Some(look(frame.hold())),
            Source::Passed(frame) => Some(look(&frame.hold)),
            Source::Copied(_) => None,
            Source::Written(written) => {
                written.writing.look(|writing| writing.as_ref().and_then(|writing| writing.hold().ok()).map(look))
            }
        }
    }

    /// The block of a frame that came out of a ring: nobody writes to it any more.
    pub(crate) fn published(&self) -> Option<&Hold> {
        match &self.source {
            Source::Received(frame) => Some(frame.hold()),
            Source::Passed(frame) => Some(&frame.hold),
            Source::Copied(_) | Source::Written(_) => None,
        }
    }

    /// When the frame was made, if its writer says so.
    pub(crate) fn time_ns(&self) -> Option<u64> {
        match &self.source {
            Source::Received(frame) => Some(frame.time_ns),
            Source::Copied(frame) => Some(frame.time_ns),
            Source::Passed(frame) => Some(frame.time_ns),
            Source::Written(written) => Some(written.time_ns.load(Relaxed)).filter(|&time_ns| time_ns != NO_TIME),
        }
    }

    fn published_ns(&self) -> Option<u64> {
        match &self.source {
            Source::Received(frame) => Some(frame.published_ns),
            Source::Copied(frame) => Some(frame.published_ns),
            Source::Passed(frame) => Some(frame.published_ns),
            Source::Written(_) => None,
        }
    }

    fn set_time_ns(&self, time_ns: u64) -> PyResult<()> {
        match &self.source {
            Source::Written(written) if !written.is_over.load(Relaxed) => written.time_ns.store(time_ns, Relaxed),
            _ => return Err(is_read_only()),
        }
        Ok(())
    }

    /// What the writer put into the meta; none if it never asked for it.
    pub(crate) fn meta_bytes(&self, py: Python<'_>) -> Option<Vec<u8>> {
        match &self.source {
            Source::Written(written) => written.meta.get().map(|meta| meta.bind(py).to_vec()),
            Source::Received(_) | Source::Copied(_) | Source::Passed(_) => None,
        }
    }

    /// The note that the writer gave.
    pub(crate) fn written_note(&self) -> Option<Arc<Note<'static>>> {
        match &self.source {
            Source::Written(written) => written.note.get(),
            Source::Received(_) | Source::Copied(_) | Source::Passed(_) => None,
        }
    }

    fn note(&self, py: Python<'_>) -> PyResult<Option<Arc<Note<'static>>>> {
        let note = match &self.source {
            Source::Received(frame) => at_once(py, || frame.note())?,
            Source::Copied(frame) => at_once(py, || frame.note())?,
            Source::Passed(frame) => return Ok(frame.note.clone()),
            Source::Written(written) => return Ok(written.note.get()),
        };
        Ok(note.map(Arc::new))
    }

    fn set_note(&self, py: Python<'_>, note: impl FnOnce() -> PyResult<Option<Note<'static>>>) -> PyResult<()> {
        let written = self.still_written()?;
        let note = note()?;
        let content = Content { view: written.described.said(), note: note.as_ref(), ..Content::default() };
        let room = written.writing.look(|writing| writing.as_ref().map_or(Ok(0), ring::Writing::tail_room));
        if content.tail_bytes() > room.map_err(|e| to_python(py, &e))? {
            let len = note.as_ref().map_or(0, |note| note.as_bytes().len());
            return Err(PyValueError::new_err(format!(
                "expected a note that has room in this frame, got one of {len} bytes: begin the frame with room for it, by \
                 write(note_bytes={len}) or more"
            )));
        }
        drop(written.note.replace(note.map(Arc::new)));
        Ok(())
    }

    fn still_written(&self) -> PyResult<&Written> {
        match &self.source {
            Source::Written(written) if !written.is_over.load(Relaxed) => Ok(written),
            _ => Err(PyValueError::new_err("expected a frame that is being written: this one is read-only")),
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
        let is_alone = references(slf.bind(py)) == 1;
        // Nobody but this call has it: there is no array over the frame any more.
        if is_alone {
            return publish(py, &mut writing, content, timeout);
        }
        writing.keep();
        let seq = publish(py, &mut writing, content, timeout);
        drop(written.writing.replace(Some(writing)));
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
        let written = self.still_written()?;
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
                Source::Copied(frame) => PyBytes::new(py, frame.meta()).into_any(),
                Source::Passed(frame) => PyBytes::new(py, &frame.meta).into_any(),
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
            Source::Copied(frame) => format!("a copy of frame {}", frame.seq),
            Source::Passed(frame) => format!("frame {}", frame.seq),
            Source::Written(_) => "a frame being written".to_owned(),
        };
        let block = self.look(|hold| format!(", block {}", hold.block().index)).unwrap_or_default();
        format!("<FrameHold of {what}{block}>")
    }

    fn __len__(&self) -> usize {
        self.look(Hold::len_bytes).unwrap_or(0)
    }
}

/// Publishes a frame, and returns its number; none when it was dropped.
#[inline]
pub(crate) fn publish(
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
        Source::Copied(frame) => Some(frame.seq),
        Source::Passed(frame) => Some(frame.seq),
        Source::Written(written) => written.writing.look(|writing| writing.as_ref().and_then(ring::Writing::seq)),
    })
}

#[cold]
fn is_read_only() -> PyErr {
    PyValueError::new_err("expected a frame that is being written: this one is read-only")
}

/// When a frame was made: what its writer says, or else when it was published; None for a writer that says nothing.
#[pyfunction]
pub(crate) fn frame_time_ns(frame: &Bound<'_, PyAny>) -> PyResult<Option<u64>> {
    Ok(hold_of(frame)?.get().time_ns())
}

/// Says when a frame was made that is being written.
#[pyfunction]
pub(crate) fn set_frame_time_ns(frame: &Bound<'_, PyAny>, time_ns: &Bound<'_, PyAny>) -> PyResult<()> {
    let time_ns = parsed_time(time_ns)?;
    hold_of(frame)?.get().set_time_ns(time_ns)
}

/// When a frame was published, on the monotonic clock; None while it is written.
#[pyfunction]
pub(crate) fn frame_published_ns(frame: &Bound<'_, PyAny>) -> PyResult<Option<u64>> {
    Ok(hold_of(frame)?.get().published_ns())
}

/// How many seconds ago a frame was published; None while it is written.
#[pyfunction]
pub(crate) fn frame_age(frame: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
    let published_ns = hold_of(frame)?.get().published_ns();
    Ok(published_ns.map(|published_ns| ring::age_of(published_ns).as_secs_f64()))
}

/// A time that a user gives, in nanoseconds.
pub(crate) fn parsed_time(given: &Bound<'_, PyAny>) -> PyResult<u64> {
    let not_whole = |_| {
        let got = class_name(given);
        PyTypeError::new_err(format!("expected time_ns to be whole nanoseconds, an int, got {got}"))
    };
    let number = given.call_method0(intern!(given.py(), "__index__")).map_err(not_whole)?;
    let time_ns = number.extract::<i64>().ok().and_then(|number| u64::try_from(number).ok());
    time_ns.ok_or_else(|| {
        PyValueError::new_err(format!("expected time_ns to be nanoseconds from 0 to 2**63 - 1, got {number}"))
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

/// What goes with a frame as text, bytes or a value that was JSON; None without any.
#[pyfunction]
pub(crate) fn frame_note<'py>(frame: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = frame.py();
    let note = hold_of(frame)?.get().note(py)?;
    note.map(|note| value_of_note(py, &note)).transpose()
}

/// Sets the note of a frame that is being written: a text, bytes, or a value that JSON can write; None for none.
#[pyfunction]
pub(crate) fn set_frame_note(frame: &Bound<'_, PyAny>, note: &Bound<'_, PyAny>) -> PyResult<()> {
    hold_of(frame)?.get().set_note(frame.py(), || note_of(note))
}

/// The note of a frame as it is kept: what it is ("text", "json" or "bytes"), and its bytes; None without any.
#[pyfunction]
pub(crate) fn frame_note_parts<'py>(
    frame: &Bound<'py, PyAny>,
) -> PyResult<Option<(&'static str, Bound<'py, PyBytes>)>> {
    let py = frame.py();
    let note = hold_of(frame)?.get().note(py)?;
    Ok(note.map(|note| {
        let kind = match &*note {
            Note::Text(_) => "text",
            Note::Json(_) => "json",
            Note::Bytes(_) => "bytes",
        };
        (kind, PyBytes::new(py, note.as_bytes()))
    }))
}

/// Sets the note of a frame that is being written by such parts, which anybody may have made. ValueError for text or JSON
/// that is no UTF-8; nobody looks whether JSON is any.
#[pyfunction]
pub(crate) fn set_frame_note_parts(frame: &Bound<'_, PyAny>, kind: &str, data: &[u8]) -> PyResult<()> {
    let text = || {
        let text = std::str::from_utf8(data).map(str::to_owned);
        text.map_err(|error| PyValueError::new_err(format!("expected a note in UTF-8, got other bytes: {error}")))
    };
    let note = || match kind {
        "text" => text().map(Note::text).map(Some),
        "json" => text().map(Note::json).map(Some),
        "bytes" => Ok(Some(Note::bytes(data.to_vec()))),
        _ => Err(PyValueError::new_err(format!("expected a note of kind text, json or bytes, got {kind:?}"))),
    };
    hold_of(frame)?.get().set_note(frame.py(), note)
}

/// A note as the library has it; none for None.
pub(crate) fn note_of(value: &Bound<'_, PyAny>) -> PyResult<Option<Note<'static>>> {
    static JSON_OF: Once<Py<PyAny>> = Once::new();
    if value.is_none() {
        return Ok(None);
    }
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(Some(Note::text(text.to_str()?.to_owned())));
    }
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Some(Note::bytes(bytes.as_bytes().to_vec())));
    }
    let json = JSON_OF.import(value.py(), "ndshare._fields", "json_of")?.call1((value,))?;
    Ok(Some(Note::json(json.cast::<PyString>()?.to_str()?.to_owned())))
}

fn value_of_note<'py>(py: Python<'py>, note: &Note<'_>) -> PyResult<Bound<'py, PyAny>> {
    static JSON_IN: Once<Py<PyAny>> = Once::new();
    match note {
        Note::Text(text) => Ok(PyString::new(py, text).into_any()),
        Note::Bytes(bytes) => Ok(PyBytes::new(py, bytes).into_any()),
        Note::Json(text) => JSON_IN.import(py, "ndshare._fields", "json_in")?.call1((&**text,)),
    }
}

/// The note of a frame, or of a view of one, that is passed on to another ring; none when it has none.
pub(crate) fn carried_note(array: &Bound<'_, PyAny>) -> PyResult<Option<Arc<Note<'static>>>> {
    let hold = base_of(array).and_then(|base| base.cast_into::<FrameHold>().ok());
    hold.map_or(Ok(None), |hold| hold.get().note(array.py()))
}

/// The arrays of a frame of several as they were put: dicts and tuples of views; or those of a class. An array is itself.
#[pyfunction]
#[pyo3(signature = (frame, kind=None))]
pub(crate) fn frame_tree<'py>(
    frame: &Bound<'py, PyAny>,
    kind: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let facts = Operand::of_any(frame).ok_or_else(|| PyTypeError::new_err("expected an array"))?;
    let hold = base_of(frame).and_then(|base| base.cast_into::<FrameHold>().ok());
    built(frame, facts, kind, hold.as_ref().map(|hold| &hold.get().own.plans))
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

/// The array of a received frame.
#[inline]
pub(crate) fn received<'py>(
    py: Python<'py>,
    own: &Arc<Own>,
    known: &Descriptions,
    frame: ring::Frame,
) -> PyResult<Bound<'py, PyAny>> {
    let said;
    let described = match &own.frame {
        Some(own) if frame.view().is_empty() => own,
        None if frame.view().is_empty() => return Err(bad_frame("it says nothing of its shape")),
        _ => {
            said = known.of(py, frame.view(), Some(&own.dtype))?;
            &said
        }
    };
    let data = described.place(py, frame.hold(), frame.offset)?;
    let owner = Py::new(py, FrameHold::of(own, Source::Received(frame)))?.into_any();
    // SAFETY: the owner keeps the frame's block; `Frame` adds no fields.
    unsafe { described.array(class(py)?, owner, data, false) }
}

/// The array of a frame of another user's ring, which is a copy.
pub(crate) fn copied<'py>(
    py: Python<'py>,
    own: &Arc<Own>,
    known: &Descriptions,
    frame: ring::OfferedFrame,
) -> PyResult<Bound<'py, PyAny>> {
    let described = known.of(py, &frame.description().encode(), Some(&own.dtype))?;
    let (bytes, first) = frame.bytes();
    let data = described.place_in(py, (bytes.as_ptr().cast_mut(), bytes.len()), first as u64)?;
    let owner = Py::new(py, FrameHold::of(own, Source::Copied(frame)))?.into_any();
    // SAFETY: every item lies in the copy, as `place_in` has seen, which stays where it is in the owner; `Frame` adds no
    // fields.
    unsafe { described.array(class(py)?, owner, data, false) }
}

/// The array of a frame that another process passed on.
pub(crate) fn passed<'py>(
    py: Python<'py>,
    own: &Arc<Own>,
    described: &Described,
    frame: Passed,
) -> PyResult<Bound<'py, PyAny>> {
    if frame.meta.len() != own.meta.as_ref().map_or(0, |meta| meta.itemsize) {
        return Err(bad_frame("its meta has another size"));
    }
    let data = described.place(py, &frame.hold, frame.offset)?;
    let owner = Py::new(py, FrameHold::of(own, Source::Passed(frame)))?.into_any();
    // SAFETY: the owner keeps the frame's block; `Frame` adds no fields.
    unsafe { described.array(class(py)?, owner, data, false) }
}

#[cold]
fn bad_frame(why: &str) -> PyErr {
    PyValueError::new_err(format!("expected a frame of this ring, got one that contradicts it: {why}"))
}

/// A writable array over a frame that has room for it, and what keeps it. One that `is_plain` is for a copy that nobody
/// else sees.
#[inline]
pub(crate) fn written<'py>(
    py: Python<'py>,
    own: &Arc<Own>,
    described: &Arc<Described>,
    writing: ring::Writing,
    is_plain: bool,
) -> PyResult<(Bound<'py, PyAny>, Py<FrameHold>)> {
    let data = described.place(py, writing.hold().map_err(|e| to_python(py, &e))?, 0)?;
    let owner = Py::new(py, FrameHold::written(own, described, writing))?;
    let base = owner.clone_ref(py).into_any();
    // SAFETY: the owner keeps the frame's block, and none of the classes adds fields.
    let array = unsafe {
        match is_plain {
            true => described.array(&plain_class(py), base, data, true),
            false => described.array(class(py)?, base, data, true),
        }
    };
    Ok((array?, owner))
}

/// A name for messages: the repr of a str, or nothing.
pub(crate) fn quoted(py: Python<'_>, name: Option<&str>) -> PyResult<String> {
    let Some(name) = name else { return Ok(String::new()) };
    Ok(format!(" {}", PyString::new(py, name).repr()?))
}
