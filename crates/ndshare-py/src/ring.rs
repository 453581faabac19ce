//! `Ring` and `Reader`: the library's, with frames as arrays. What is there at once is had attached to the
//! interpreter; every wait is detached.

use std::sync::Arc;
use std::time::Duration;

use ndshare::arena::{Deadline, Hold};
use ndshare::array::Token;
use ndshare::os::watch::Ticks;
use ndshare::ring::{self as library, Content, Mode, Note, RingOptions, Sink, Spin, Start};
use numpy::PyArrayDescr;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};

use crate::arena::work_arena;
use crate::closable::{Closable, closed};
use crate::described::{Described, Descriptions};
use crate::dtype::{Dtype, Meaning};
use crate::error::{class_name, is_ours, to_python};
use crate::frame::{FrameHold, Own, carried, carried_note, note_of, parsed_time, publish, quoted, received, written};
use crate::gather::fill;
use crate::guard::{Guarded, Once};
use crate::lock::seconds;
use crate::many::{Said as SaidOfMany, put_many};
use crate::ndarray::{Operand, make_readonly};
use crate::shared::block_under;
use crate::travel::{opened, ticketed};
use crate::tree::{Fitting, Tree, check_fits, is_tree};
use crate::wait::{at_once, detached, interruptible, interruptible_for};

/// Frames from any number of writers to any number of readers, in one order:
/// ``Ring(shape=None, dtype=None, *, slots, ...)``.
///
/// `slots` frames wait for readers at the most. Each is an array of `shape` and `dtype` (float64 by default), or of
/// another shape and dtype with no more bytes; without a shape a ring takes any size. With `fields` each frame has several
/// arrays: ``fields={"rgb": ((1080, 1920, 3), "u1"), "depth": ((1080, 1920), "u2")}``. `when_full` says what a writer
/// does while the slowest reader keeps all slots: "wait" for it, "drop_oldest" (the slowest readers lose frames), or
/// "drop_newest" (the new frame is dropped, and counted). `meta` is a structured dtype of what goes with each frame.
/// `spin` is how many seconds readers look before they sleep: 20 µs by default where there are two processors. With
/// "auto" they sleep until shortly before a steady camera's next frame, and look then, for at most 4 % of the time.
///
/// ``with ring.write() as frame`` publishes on exit; ``ring.put(array)`` copies, or publishes a shared array as it is.
/// ``ring.reader()`` gives frames from here on. ``with ring`` ends the stream when the only writer leaves it; where
/// several processes write, make a ``ring.writer()`` for each beforehand. The last `keep` frames stay whatever readers
/// do, for one that comes late: ``ring.reader(start="oldest")``.
/// A ring goes to other processes through multiprocessing, by reference. With `name`, all processes of the session that
/// give the same name have the same ring, for as long as one has it and it is not closed.
///
/// Raises ValueError for a shape, number of slots or policy that cannot work, and for a named ring that differs; TypeError for dtypes whose items are
/// not plain bytes, and ArenaFull when there is no room.
///
/// >>> import ndshare as nds
/// >>> ring = nds.Ring((2, 3), "uint16", slots=4)
/// >>> with ring.reader() as frames:
/// ...     with ring.write() as frame:
/// ...         frame[:] = 7
/// ...     got = frames.get()
/// >>> got.sum(), got.seq, ring.stats()["written"]
/// (np.uint64(42), 0, 1)
#[pyclass(frozen, weakref, module = "ndshare")]
pub(crate) struct Ring {
    ring: Arc<library::Ring>,
    own: Arc<Own>,
}

/// What goes with an array that is put: meta, note, when it was made, and single fields of meta.
type Beside<'a, 'py> = (
    Option<&'a Bound<'py, PyAny>>,
    Option<&'a Bound<'py, PyAny>>,
    Option<&'a Bound<'py, PyAny>>,
    Option<&'a Bound<'py, PyDict>>,
);
/// The same, parsed: meta, a note, and when the frame was made.
type Said<'a> = (&'a [u8], Option<&'a Note<'a>>, Option<u64>);

/// Other picklers would make a copy of what is one thing.
#[cold]
fn only_multiprocessing(what: &str) -> PyErr {
    PyTypeError::new_err(format!(
        "a {what} lives in shared memory: expected multiprocessing (a Process's arguments, a Queue, a Pipe) to send it, got \
         another pickler"
    ))
}

/// The text of an argument; an error names the argument.
fn text_of(name: &str, given: &Bound<'_, PyAny>) -> PyResult<String> {
    given.extract().map_err(|_| {
        let got = class_name(given);
        PyTypeError::new_err(format!("expected {name} to be a str, got {got}"))
    })
}

impl Ring {
    /// The ring whose head this is, as its head says.
    pub(crate) fn of_head(py: Python<'_>, head: Hold) -> PyResult<Self> {
        let ring = library::Ring::open(head).map_err(|e| to_python(py, &e))?;
        let own = Own::of(py, ring.format(), None, None)?;
        Ok(Self::over(ring, own))
    }

    /// Its head, which says what its frames are; TypeError where it cannot.
    pub(crate) fn known_head(&self, py: Python<'_>) -> PyResult<Hold> {
        self.own.check_known(py)?;
        Ok(self.ring.head().clone())
    }

    fn over(ring: Arc<library::Ring>, own: Own) -> Self {
        Self { ring, own: Arc::new(own) }
    }

    /// What goes with an array that is put: of the frame that it is, if it is one, then what was given.
    fn meta(
        &self,
        x: &Bound<'_, PyAny>,
        meta: Option<&Bound<'_, PyAny>>,
        fields: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Vec<u8>> {
        let fields = fields.filter(|fields| !fields.is_empty());
        let Some(own) = &self.own.meta else {
            let given = fields.map(|fields| fields.keys().to_string());
            let given = given.or_else(|| meta.map(|meta| format!("meta={meta}")));
            return given.map_or(Ok(Vec::new()), |given| {
                let text = "expected no fields of meta, because the ring was made without meta=, got";
                Err(PyTypeError::new_err(format!("{text} {given}")))
            });
        };
        let carried = carried(x)?;
        if carried.is_none() && meta.is_none() && fields.is_none() {
            return Ok(Vec::new());
        }
        own.packed(x.py(), carried, meta, fields)
    }

    /// Publishes a shared array of the ring's arena as it is; none for any other array.
    fn put_as_is(
        &self,
        py: Python<'_>,
        by: &dyn Sink,
        facts: &Operand<'_>,
        dtype: &Dtype<'_>,
        timeout: Option<Duration>,
        (meta, note, time_ns): Said<'_>,
    ) -> PyResult<Option<Option<u64>>> {
        let arena = self.ring.head().arena();
        let Some(hold) = block_under(py, facts)?.filter(|hold| Arc::ptr_eq(hold.arena(), arena)) else {
            return Ok(None);
        };
        let view = self.own.view_of(py, facts, dtype)?;
        let content = Content { offset: facts.offset_in(&hold), view: &view, meta, note, time_ns };
        // What goes behind the items has no room in a block that has others behind them.
        if content.tail_bytes() > 0 {
            return Ok(None);
        }
        let len_bytes = facts.nbytes() as u64;
        let publish = |deadline: &Deadline<'_>| by.publish_block(&hold, len_bytes, content, deadline);
        interruptible_for(py, timeout, publish).map(|published| Some(published.seq()))
    }
}

/// How readers look before they sleep: seconds, or "auto".
fn spin_of(given: &Bound<'_, PyAny>) -> PyResult<Spin> {
    let refuse = |given: &str| {
        PyValueError::new_err(format!("expected spin in seconds, 0 or more, or \"auto\", or None, got {given}"))
    };
    match given.cast::<PyString>() {
        Ok(text) if text.to_cow()? == "auto" => Ok(Spin::Auto),
        Ok(text) => Err(refuse(&text.repr()?.to_cow()?)),
        Err(_) => {
            let seconds: f64 = given.extract().map_err(|_| {
                let got = class_name(given);
                PyTypeError::new_err(format!("expected spin in seconds, or \"auto\", or None, got {got}"))
            })?;
            if seconds >= 0.0 { Ok(Spin::For(seconds)) } else { Err(refuse(&seconds.to_string())) }
        }
    }
}

#[pymethods]
impl Ring {
    #[new]
    #[pyo3(signature = (shape=None, dtype=None, *, slots, when_full="wait", meta=None, name=None, arena=None, spin=None, keep=0, fields=None))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        shape: Option<&Bound<'_, PyAny>>,
        dtype: Option<&Bound<'_, PyAny>>,
        slots: i64,
        when_full: &str,
        meta: Option<&Bound<'_, PyAny>>,
        name: Option<String>,
        arena: Option<&Bound<'_, PyAny>>,
        spin: Option<&Bound<'_, PyAny>>,
        keep: i64,
        fields: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let own = match fields {
            Some(fields) => Own::of_fields(py, fields, shape.or(dtype).is_some(), meta)?,
            None => Own::new(py, shape, dtype, meta)?,
        };
        let when_full = when_full.parse().map_err(|e| to_python(py, &e))?;
        let bad = |text, given| PyValueError::new_err(format!("{text}, got {given}"));
        let slots = usize::try_from(slots).map_err(|_| bad("expected at least one slot", slots))?;
        let keep = usize::try_from(keep)
            .map_err(|_| bad("expected to keep at most as many frames as there are slots, and 0 or more", keep))?;
        let options = RingOptions { slots, keep, when_full };
        let (format, arena) = (own.format(py, name, spin.map(spin_of).transpose()?)?, work_arena(py, arena)?);
        let ring = interruptible(py, |deadline| match format.name {
            Some(_) => library::Ring::named(&arena, format, options, deadline),
            None => library::Ring::new(&arena, format, options, deadline),
        })?;
        Ok(Self::over(ring, own))
    }

    /// A frame to fill: ``with ring.write() as frame``. Leaving the block publishes it; an exception throws it away.
    ///
    /// `shape` and `dtype` are the ring's unless given; the frame must not need more bytes than those of the ring.
    /// `frame.meta` can be written to, and `frame.note` set: one of more than a few hundred bytes needs room behind the items,
    /// `note_bytes`. Afterwards the array is read-only, and `frame.seq` is its number, or None when
    /// it was dropped by "drop_newest". Raises Full when there was no room for `timeout` seconds (None: wait for
    /// ever), and Closed when the ring was closed.
    ///
    /// >>> import ndshare as nds
    /// >>> ring = nds.Ring(2, "uint8", slots=4)
    /// >>> with ring.write() as frame:
    /// ...     frame[:] = 7
    /// >>> frame, frame.seq
    /// (Frame([7, 7], dtype=uint8), 0)
    #[pyo3(signature = (shape=None, dtype=None, timeout=None, *, note_bytes=0))]
    fn write(
        slf: Py<Self>,
        py: Python<'_>,
        shape: Option<&Bound<'_, PyAny>>,
        dtype: Option<&Bound<'_, PyAny>>,
        timeout: Option<f64>,
        note_bytes: u64,
    ) -> PyResult<Writing> {
        let wanted = slf.get().own.wanted(py, shape, dtype)?;
        Ok(Writing { ring: slf, by: None, wanted, note_bytes, timeout: seconds(timeout)?, inside: Guarded::new(None) })
    }

    /// Publish an array, and return its number; None when it was dropped by "drop_newest".
    ///
    /// A shared array of the ring's arena, or a view of one, is published as it is, and `x` is read-only from then on;
    /// other views of its memory must not be written to any more. A received frame goes so, too. Everything else is copied, and cast to the dtype of a ring that was made with one:
    /// within its kind (NumPy's "same_kind"), else TypeError.
    ///
    /// A ring with fields takes a mapping, a dataclass, or an item with these; a ring of any frames takes dicts, tuples and
    /// dataclasses of arrays, which `frame.tree()` gives back. Their arrays are copied. `note` is a text, bytes or a value for
    /// JSON, of any length, that goes beside the frame.
    ///
    /// `time_ns` says when the frame was made, in nanoseconds, where its writer knows better: a stamp of the camera. Without
    /// it that is when it is published, on the monotonic clock. The times of one writer do not go back: an earlier one than
    /// the last is a ValueError, and nothing is published.
    ///
    /// `meta` is a mapping or a record, as `frame.meta` is; further arguments are single fields of it. A frame of
    /// another ring takes its meta along where this ring has the same fields; what is given here wins. A value that
    /// does not fit its field raises ValueError or OverflowError, one of another kind TypeError, and an unknown field
    /// TypeError. Else raises what `write` does.
    ///
    /// >>> import ndshare as nds
    /// >>> ring = nds.Ring(2, "uint8", slots=4, meta=[("gain", "f4")])
    /// >>> ring.put([1, 2], gain=0.5), ring.put([3, 4], timeout=1)
    /// (0, 1)
    #[pyo3(signature = (x, /, timeout=None, *, meta=None, note=None, time_ns=None, **fields))]
    #[expect(clippy::too_many_arguments, reason = "a signature of Python's")]
    fn put(
        &self,
        py: Python<'_>,
        x: &Bound<'_, PyAny>,
        timeout: Option<f64>,
        meta: Option<&Bound<'_, PyAny>>,
        note: Option<&Bound<'_, PyAny>>,
        time_ns: Option<&Bound<'_, PyAny>>,
        fields: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Option<u64>> {
        self.put_by(py, &self.ring, x, timeout, (meta, note, time_ns, fields))
    }

    /// Publish many arrays in one call, and return their numbers, as `put` returns each; for small frames at high rates.
    ///
    /// `frames` is an array of one axis more than a frame, or a sequence of arrays. All are looked at before the first is
    /// published, so what cannot be put raises what `put` raises, and nothing is published then. Each is copied, also a
    /// shared array, and cast by the rules of `put`. A ring with fields takes structured arrays here.
    ///
    /// `meta` has a mapping or a record for each frame: a structured array, or a sequence; `time_ns` a time for each. The
    /// `timeout` is for all of them together.
    ///
    /// A call that ends half-way (Full at the timeout, Closed, ArenaFull, a signal handler that raises, as by Ctrl-C) says in a
    /// note how many frames were published, and its exception has their numbers in `published`: go on with the others.
    ///
    /// >>> import ndshare as nds, numpy as np
    /// >>> ring = nds.Ring(3, "uint8", slots=4)
    /// >>> frames = ring.reader()
    /// >>> ring.put_many(np.arange(6, dtype="uint8").reshape(2, 3))
    /// [0, 1]
    /// >>> lines = [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    /// >>> try:
    /// ...     ring.put_many(lines, timeout=0)
    /// ... except nds.Full as full:
    /// ...     full.published, lines[len(full.published):]
    /// ([2, 3], [[6, 7, 8]])
    #[pyo3(signature = (frames, /, timeout=None, *, meta=None, time_ns=None))]
    fn put_many(
        &self,
        py: Python<'_>,
        frames: &Bound<'_, PyAny>,
        timeout: Option<f64>,
        meta: Option<&Bound<'_, PyAny>>,
        time_ns: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<Option<u64>>> {
        put_many(
            py,
            &self.own,
            (&*self.ring, &self.ring as &dyn Sink),
            frames,
            seconds(timeout)?,
            SaidOfMany { meta, time_ns },
        )
    }

    /// A writer, made beforehand: the stream does not end before all that were made are closed.
    ///
    /// Make one for each process that is to write, and send it there; from then on it counts, whether it is used yet or
    /// not. It belongs to the process that uses it first. Raises Closed when the ring was closed, and RuntimeError when it
    /// has 64 writers already.
    ///
    /// >>> import ndshare as nds
    /// >>> ring = nds.Ring(2, "uint8", slots=4)
    /// >>> frames, writers = ring.reader(), [ring.writer(), ring.writer()]
    /// >>> for number, writer in enumerate(writers):
    /// ...     with writer:
    /// ...         seq = writer.put([number, number])
    /// >>> [int(frame[0]) for frame in frames]
    /// [0, 1]
    fn writer(slf: Py<Self>, py: Python<'_>) -> PyResult<Writer> {
        let writer = interruptible(py, |deadline| slf.get().ring.writer(deadline))?;
        Ok(Writer::over(slf, writer))
    }

    /// A new reader, which gives the frames that are published from now on.
    ///
    /// With ``start="oldest"`` it begins with the oldest that is still there: the last `keep`, what some reader has yet to
    /// take, and, while no reader holds the ring back, the last `slots`. ``latest=True`` gives the newest only and holds
    /// nobody back. The readers of one `group` (a name) share the frames: each goes to one of them, and again to another
    /// if that one dies or is closed holding it. A member that has to wait for its next frame has done with those it got
    /// before. `start` counts for the first member of a group. A later one goes on where the group is, also when it had no
    /// member for a while; what fell out of the window since was missed. Any other reader gets every frame.
    ///
    /// It can be sent to another process until it is used, and then belongs to that. Raises RuntimeError when the
    /// ring has 64 readers or 8 groups already.
    ///
    /// >>> import ndshare as nds
    /// >>> ring = nds.Ring(2, "uint8", slots=4, keep=1)
    /// >>> ring.put([1, 2]), ring.reader(start="oldest").get()
    /// (0, Frame([1, 2], dtype=uint8))
    #[pyo3(signature = (latest=false, group=None, start=None), text_signature = "($self, latest=False, group=None, start='next')")]
    fn reader(
        &self,
        py: Python<'_>,
        latest: bool,
        group: Option<&Bound<'_, PyAny>>,
        start: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Reader> {
        let group = group.map(|group| text_of("group", group)).transpose()?;
        let start = start.map(|start| text_of("start", start)).transpose()?;
        let start = start.map_or(Ok(Start::Next), |start| start.parse()).map_err(|e| to_python(py, &e))?;
        if latest && group.is_some() {
            return Err(PyValueError::new_err("expected latest=True or a group, got both: choose one"));
        }
        let reader = interruptible(py, |deadline| {
            let mode = match &group {
                Some(name) => Mode::Group(self.ring.group(name, deadline)?),
                None if latest => Mode::Latest,
                None => Mode::Every,
            };
            self.ring.reader(mode, start, deadline)
        })?;
        Ok(Reader::over(reader, self.own.clone()))
    }

    /// End the stream: readers get what is there, then iteration stops; who writes gets Closed.
    ///
    /// >>> import ndshare as nds
    /// >>> ring = nds.Ring(2, "uint8", slots=4)
    /// >>> frames = ring.reader()
    /// >>> ring.put([1, 2]), ring.close(), [frame.seq for frame in frames]
    /// (0, None, [0])
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        interruptible(py, |deadline| self.ring.close(deadline))
    }

    /// What the ring holds, as a plain dict: "written" frames, "dropped" ones (by "drop_newest"), "missed" ones (by
    /// readers that were lapped, those that are gone included), "lost" ones (on their way from another machine, of a
    /// ring that `ndshare.net` fills), "readers" and "writers".
    ///
    /// "readers" is a list of dicts with "lag" (frames waiting), "missed", "held", "alive", "pid" and "name" of the
    /// process (None while nobody has used it), "mode" ("every", "latest" or "group") and "group" (its name or None). Lag
    /// and missed frames of a group are those of all its members together. "writers" is a list of dicts with "pid",
    /// "name", "alive" and "written".
    ///
    /// >>> import ndshare as nds
    /// >>> ring = nds.Ring(2, "uint8", slots=4)
    /// >>> ring.put([1, 2]), ring.stats()["written"], ring.stats()["readers"]
    /// (0, 1, [])
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = interruptible(py, |deadline| self.ring.stats(deadline))?;
        dict!(py, {
            "written": stats.written, "dropped": stats.dropped, "missed": stats.missed,
            "lost": stats.lost,
            "readers": stats.readers.iter().map(|reader| reader_dict(py, reader)).collect::<PyResult<Vec<_>>>()?,
            "writers": stats.writers.iter().map(|writer| writer_dict(py, writer)).collect::<PyResult<Vec<_>>>()?,
        })
    }

    /// Counts frames that were lost on their way here from another machine.
    fn _count_lost(&self, py: Python<'_>, frames: u64) -> PyResult<()> {
        self.ring.count_lost(frames).map_err(|e| to_python(py, &e))
    }

    /// Entering makes this process one of the ring's writers; leaving ends that, and ends the stream if it was the last
    /// one: no `writer()` is open, and no other process writes.
    fn __enter__(slf: Py<Self>, py: Python<'_>) -> PyResult<Py<Self>> {
        interruptible(py, |deadline| slf.get().ring.enter_writers(deadline))?;
        Ok(slf)
    }

    #[pyo3(signature = (*_exc_info))]
    fn __exit__(&self, py: Python<'_>, _exc_info: &Bound<'_, PyTuple>) -> PyResult<()> {
        interruptible(py, |deadline| self.ring.leave_writers(deadline))
    }

    /// The shape of its frames, or None when it takes any.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        self.own.shape().map(|shape| PyTuple::new(py, shape)).transpose()
    }

    /// The dtype of its frames.
    #[getter]
    fn dtype(&self, py: Python<'_>) -> Py<PyArrayDescr> {
        self.own.dtype.clone_ref(py)
    }

    /// The dtype of their meta, or None.
    #[getter(meta)]
    fn meta_dtype<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.own.meta.as_ref().map(|meta| meta.dtype(py))
    }

    /// How many frames wait for readers at the most.
    #[getter]
    fn slots(&self) -> u32 {
        self.ring.geometry().slots
    }

    /// How many frames stay whatever readers do.
    #[getter]
    fn keep(&self) -> u32 {
        self.ring.geometry().keep
    }

    /// What a writer does when it is full.
    #[getter]
    fn when_full(&self) -> &'static str {
        self.ring.when_full().name()
    }

    /// The name it was given, or None.
    #[getter]
    fn name(&self) -> Option<&str> {
        self.ring.format().name.as_deref()
    }

    /// Whether it was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.ring.is_closed()
    }

    /// The offset between the clock of frames and UTC, measured now: ``ring.clock.datetime(frame.time_ns)``.
    #[getter]
    fn clock<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        static CLOCK: Once<Py<PyAny>> = Once::new();
        let clock = self.ring.clock();
        CLOCK.import(py, "ndshare._clock", "Clock")?.call1((clock.offset_ns, clock.uncertainty_ns))
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(only_multiprocessing("ring"))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let (count, lag, held) = at_once(py, || Ok(self.ring.glance()))?;
        let readers = match count {
            0 => "no readers".to_owned(),
            1 => format!("1 reader, lag {lag}"),
            _ => format!("{count} readers, lag {lag}"),
        };
        let shape = match self.shape(py)? {
            Some(shape) => format!("{} {}", shape.repr()?, self.own.dtype.bind(py).str()?),
            None => "any shape".to_owned(),
        };
        let slots = u64::from(self.slots());
        let used = self.ring.waiting().saturating_add(held).min(slots);
        let closed = if self.ring.is_closed() { ", closed" } else { "" };
        Ok(format!("<Ring{} {shape} {used}/{slots} slots, {readers}{closed}>", quoted(py, self.name())?))
    }
}

// ---- writing

/// A frame to fill; what is there at once is had attached.
fn begin(
    py: Python<'_>,
    by: &dyn Sink,
    (len_bytes, note_bytes): (usize, u64),
    timeout: Option<Duration>,
) -> PyResult<library::Writing> {
    let len_bytes = len_bytes as u64;
    match at_once(py, || by.begin_quick(len_bytes, note_bytes))? {
        Some(writing) => Ok(writing),
        None => interruptible_for(py, timeout, |deadline| by.begin_with_note(len_bytes, note_bytes, deadline)),
    }
}

/// A frame being written: the context manager that `Ring.write` returns.
#[pyclass(frozen, module = "ndshare._native")]
pub(crate) struct Writing {
    ring: Py<Ring>,
    by: Option<Arc<library::Writer>>,
    wanted: Arc<Described>,
    note_bytes: u64,
    timeout: Option<Duration>,
    inside: Guarded<Option<Entered>>,
}

struct Entered {
    array: Py<PyAny>,
    hold: Py<FrameHold>,
}

#[pymethods]
impl Writing {
    fn __enter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let ring = self.ring.get();
        let by = self.by.as_deref().map_or(&ring.ring as &dyn Sink, |writer| writer);
        let need = (self.wanted.len_bytes(), self.tail_bytes());
        let writing = begin(py, by, need, self.timeout)?;
        let (array, hold) = written(py, &ring.own, &self.wanted, writing, false)?;
        match self.inside.fill(Entered { array: array.clone().unbind(), hold }) {
            None => Ok(array),
            Some(_) => Err(PyRuntimeError::new_err(
                "expected each with block to take a ring.write() of its own, got one that is entered already",
            )),
        }
    }

    #[pyo3(signature = (kind=None, _error=None, _traceback=None))]
    fn __exit__(
        &self,
        py: Python<'_>,
        kind: Option<&Bound<'_, PyAny>>,
        _error: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let Some(Entered { array, hold }) = self.inside.take() else { return Ok(()) };
        make_readonly(array.bind(py));
        hold.get().end_meta(py)?;
        if kind.is_some() {
            return Ok(());
        }
        drop(array);
        let (meta, note) = (hold.get().meta_bytes(py).unwrap_or_default(), hold.get().written_note());
        let time_ns = hold.get().time_ns();
        let content = Content { offset: 0, view: self.wanted.said(), meta: &meta, note: note.as_deref(), time_ns };
        FrameHold::publish(hold, py, content, self.timeout)?;
        Ok(())
    }
}

impl Writing {
    /// Bytes behind the items: of a note that was announced, and of a long description.
    fn tail_bytes(&self) -> u64 {
        let content = Content { view: self.wanted.said(), ..Content::default() };
        self.note_bytes.saturating_add(content.tail_bytes() as u64)
    }
}

/// So many bytes are copied at once, attached: an array over the frame takes longer than that.
const QUICK_BYTES: usize = 64 << 10;

impl Ring {
    fn put_by(
        &self,
        py: Python<'_>,
        by: &dyn Sink,
        x: &Bound<'_, PyAny>,
        timeout: Option<f64>,
        (meta, note, time_ns, fields): Beside<'_, '_>,
    ) -> PyResult<Option<u64>> {
        let (timeout, time_ns) = (seconds(timeout)?, time_ns.map(parsed_time).transpose()?);
        let note = note.map(note_of).transpose()?.flatten().map(Arc::new);
        let note = note.map_or_else(|| carried_note(x), |given| Ok(Some(given)))?;
        let note = note.as_deref();
        if self.has_tree(py, x)? {
            let meta = self.meta(x, meta, fields)?;
            return self.put_tree(py, by, x, timeout, (&meta, note, time_ns));
        }
        let array = self.own.as_array(x)?;
        let facts = Operand::of_any(&array).ok_or_else(|| PyTypeError::new_err("expected something like an array"))?;
        let dtype = self.own.dtype_of(py, &facts)?;
        let is_cast = self.own.check_cast(py, &dtype)?;
        if is_cast {
            check_fits(&array, &Dtype::known(self.own.dtype.bind(py).clone()))?;
        }
        let meta = self.meta(x, meta, fields)?;
        if !is_cast && let Some(seq) = self.put_as_is(py, by, &facts, &dtype, timeout, (&meta, note, time_ns))? {
            // A loop that fills one array again and again would change frames that readers have.
            if seq.is_some() {
                make_readonly(&array);
            }
            return Ok(seq);
        }
        if self.own.tree().is_some() {
            return self.put_tree(py, by, x, timeout, (&meta, note, time_ns));
        }
        let dtype = if is_cast { Dtype::known(self.own.dtype.bind(py).clone()) } else { dtype };
        let wanted = self.own.like(py, &facts, dtype)?;
        let content = Content { offset: 0, view: wanted.said(), meta: &meta, note, time_ns };
        let mut writing = begin(py, by, (wanted.len_bytes(), content.tail_bytes() as u64), timeout)?;
        if !is_cast
            && let Some(items) = facts.items().filter(|items| wanted.takes(&facts) && items.len() <= QUICK_BYTES)
            && Meaning::of(py, facts.descr).is_solid
        {
            at_once(py, || items.copy_to(&writing))?;
            return publish(py, &mut writing, content, timeout);
        }
        let (frame, hold) = written(py, &self.own, &wanted, writing, true)?;
        fill(py, &frame, &array)?;
        drop(frame);
        FrameHold::publish(hold, py, content, timeout)
    }

    /// Whether what is put is a tree of arrays, and no array. A frame of the ring's own fields may go as it is.
    fn has_tree(&self, py: Python<'_>, x: &Bound<'_, PyAny>) -> PyResult<bool> {
        if self.own.tree().is_none() {
            return Ok(self.own.takes_trees() && is_tree(x)?);
        }
        let Some(facts) = Operand::of_any(x) else { return Ok(true) };
        let (dtype, own) = (Dtype::borrowed(py, facts.descr), Dtype::known(self.own.dtype.bind(py).clone()));
        Ok(!facts.shape.is_empty() || !dtype.is_like(&own)?)
    }

    /// Copies the arrays of a tree into a frame, and publishes it.
    fn put_tree(
        &self,
        py: Python<'_>,
        by: &dyn Sink,
        x: &Bound<'_, PyAny>,
        timeout: Option<Duration>,
        said: Said<'_>,
    ) -> PyResult<Option<u64>> {
        if let Some(tree) = self.own.tree().cloned().or_else(|| self.own.last_tree())
            && let Some(fitting) = tree.fitting(x)?
        {
            return self.put_fitting(py, by, (&tree, &fitting), timeout, said);
        }
        let tree = self.own.new_tree(py, x)?;
        let fitting = tree.fitting(x)?;
        let fitting = fitting.ok_or_else(|| PyTypeError::new_err("expected a tree of arrays that stays as it is"))?;
        self.put_fitting(py, by, (&tree, &fitting), timeout, said)
    }

    fn put_fitting(
        &self,
        py: Python<'_>,
        by: &dyn Sink,
        (tree, fitting): (&Tree, &Fitting<'_, '_>),
        timeout: Option<Duration>,
        (meta, note, time_ns): Said<'_>,
    ) -> PyResult<Option<u64>> {
        let content = Content { offset: 0, view: tree.frame.said(), meta, note, time_ns };
        let writing = begin(py, by, (tree.frame.len_bytes(), content.tail_bytes() as u64), timeout)?;
        let hold = FrameHold::begun(py, &self.own, &tree.frame, writing)?;
        fitting.each(|described, offset, array| fill(py, &FrameHold::part(&hold, py, described, offset)?, array))?;
        FrameHold::publish(hold, py, content, timeout)
    }
}

fn reader_dict<'py>(py: Python<'py>, reader: &library::ReaderStats) -> PyResult<Bound<'py, PyDict>> {
    let (pid, name) = of_process(reader.user.as_ref());
    dict!(py, {
        "lag": reader.lag, "missed": reader.missed, "held": reader.held, "alive": reader.alive,
        "pid": pid, "name": name, "mode": reader.mode.name(), "group": reader.group.as_deref(),
    })
}

fn writer_dict<'py>(py: Python<'py>, writer: &library::WriterStats) -> PyResult<Bound<'py, PyDict>> {
    let (pid, name) = of_process(writer.user.as_ref());
    dict!(py, { "pid": pid, "name": name, "alive": writer.alive, "written": writer.written })
}

fn of_process(process: Option<&library::Process>) -> (Option<u32>, Option<&str>) {
    (process.map(|process| process.pid), process.map(|process| process.name.as_str()))
}

/// One of the writers of a ring. Made by `Ring.writer`, and sent to the process that is to write.
///
/// It counts from its creation: the stream ends when all that were made are closed, whichever comes or ends first. It
/// belongs to the process that uses it first. Leaving ``with writer``, `close`, and the ordinary end of its process close
/// it; if its process is killed, readers get WriterDied, once.
///
/// >>> import ndshare as nds
/// >>> ring = nds.Ring(2, "uint8", slots=4)
/// >>> with ring.writer() as writer:
/// ...     writer.put([1, 2])
/// 0
#[pyclass(frozen, weakref, module = "ndshare")]
pub(crate) struct Writer {
    /// None once it was closed.
    writer: Closable<library::Writer>,
    /// Its ring.
    #[pyo3(get)]
    ring: Py<Ring>,
}

impl Writer {
    /// As [`Reader::of_token`].
    pub(crate) fn of_token(py: Python<'_>, token: Hold) -> PyResult<Self> {
        let writer = library::Writer::of_token(token).map_err(|e| to_python(py, &e))?;
        let own = Own::of(py, writer.ring().format(), None, None)?;
        let ring = Py::new(py, Ring::over(writer.ring().clone(), own))?;
        Ok(Self::over(ring, writer))
    }

    /// As [`Reader::reference`].
    pub(crate) fn reference(&self, py: Python<'_>) -> PyResult<Token> {
        self.ring.get().own.check_known(py)?;
        let writer = self.writer.open(py, "writer")?;
        at_once(py, || writer.reference())
    }

    fn over(ring: Py<Ring>, writer: Arc<library::Writer>) -> Self {
        Self { writer: Closable::new(writer), ring }
    }
}

#[pymethods]
impl Writer {
    /// A frame to fill, as `Ring.write` gives it: ``with writer.write() as frame``.
    ///
    /// Raises what that does, Closed also when this writer was closed, and RuntimeError when another process uses it.
    ///
    /// >>> import ndshare as nds
    /// >>> ring = nds.Ring(2, "uint8", slots=4)
    /// >>> with ring.writer() as writer, writer.write() as frame:
    /// ...     frame[:] = 7
    /// >>> frame.seq
    /// 0
    #[pyo3(signature = (shape=None, dtype=None, timeout=None, *, note_bytes=0))]
    fn write(
        &self,
        py: Python<'_>,
        shape: Option<&Bound<'_, PyAny>>,
        dtype: Option<&Bound<'_, PyAny>>,
        timeout: Option<f64>,
        note_bytes: u64,
    ) -> PyResult<Writing> {
        let by = Some(self.writer.open(py, "writer")?);
        let wanted = self.ring.get().own.wanted(py, shape, dtype)?;
        let (ring, timeout) = (self.ring.clone_ref(py), seconds(timeout)?);
        Ok(Writing { ring, by, wanted, note_bytes, timeout, inside: Guarded::new(None) })
    }

    /// Publish an array, as `Ring.put` does, and return its number.
    ///
    /// Raises what that does, Closed also when this writer was closed, and RuntimeError when another process uses it.
    ///
    /// >>> import ndshare as nds
    /// >>> ring = nds.Ring(2, "uint8", slots=4)
    /// >>> writer = ring.writer()
    /// >>> writer.put([1, 2]), writer.put([3, 4])
    /// (0, 1)
    #[pyo3(signature = (x, /, timeout=None, *, meta=None, note=None, time_ns=None, **fields))]
    #[expect(clippy::too_many_arguments, reason = "a signature of Python's")]
    fn put(
        &self,
        py: Python<'_>,
        x: &Bound<'_, PyAny>,
        timeout: Option<f64>,
        meta: Option<&Bound<'_, PyAny>>,
        note: Option<&Bound<'_, PyAny>>,
        time_ns: Option<&Bound<'_, PyAny>>,
        fields: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Option<u64>> {
        let writer = self.writer.open(py, "writer")?;
        self.ring.get().put_by(py, &*writer, x, timeout, (meta, note, time_ns, fields))
    }

    /// Publish many arrays in one call, as `Ring.put_many` does, and return their numbers.
    ///
    /// Raises what that does, Closed also when this writer was closed, and RuntimeError when another process uses it.
    ///
    /// >>> import ndshare as nds
    /// >>> ring = nds.Ring(2, "uint8", slots=4)
    /// >>> writer = ring.writer()
    /// >>> writer.put_many([[1, 2], [3, 4]])
    /// [0, 1]
    #[pyo3(signature = (frames, /, timeout=None, *, meta=None, time_ns=None))]
    fn put_many(
        &self,
        py: Python<'_>,
        frames: &Bound<'_, PyAny>,
        timeout: Option<f64>,
        meta: Option<&Bound<'_, PyAny>>,
        time_ns: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<Option<u64>>> {
        let (writer, ring) = (self.writer.open(py, "writer")?, self.ring.get());
        put_many(
            py,
            &ring.own,
            (&*ring.ring, &*writer as &dyn Sink),
            frames,
            seconds(timeout)?,
            SaidOfMany { meta, time_ns },
        )
    }

    /// End this writer. The stream ends if it was the last one. A writer that was sent to another process lives on there.
    ///
    /// >>> import ndshare as nds
    /// >>> ring = nds.Ring(2, "uint8", slots=4)
    /// >>> writer = ring.writer()
    /// >>> writer.close(), writer.closed, ring.closed
    /// (None, True, True)
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let writer = self.writer.take();
        writer.map_or(Ok(()), |writer| interruptible(py, move |deadline| writer.close(deadline)))
    }

    /// End this writer as a death: readers get WriterDied, once, and the stream goes on with the next writer.
    fn _die(&self, py: Python<'_>) -> PyResult<()> {
        let writer = self.writer.take();
        writer.map_or(Ok(()), |writer| interruptible(py, move |deadline| writer.die(deadline)))
    }

    /// Entering takes it for this process.
    fn __enter__(slf: Py<Self>, py: Python<'_>) -> PyResult<Py<Self>> {
        let writer = slf.get().writer.open(py, "writer")?;
        at_once(py, || writer.own())?;
        Ok(slf)
    }

    #[pyo3(signature = (*_exc_info))]
    fn __exit__(&self, py: Python<'_>, _exc_info: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py)
    }

    /// Whether this object was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.writer.is_closed()
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(only_multiprocessing("writer"))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let Some(writer) = self.writer.get() else { return Ok("<Writer, closed>".to_owned()) };
        let name = quoted(py, self.ring.get().name())?;
        Ok(format!("<Writer of ring{name}, {} written>", writer.written()))
    }
}

/// Closes the writers that this process has, and leaves the rings that it has entered: it ends in order.
#[pyfunction]
pub(crate) fn leave_rings(py: Python<'_>) {
    py.detach(|| library::leave_all(&Deadline::new(Some(LEAVE), &|| Ok(()))));
}

/// How long the end of a process waits for the lock of a ring.
const LEAVE: Duration = Duration::from_secs(1);

// ---- reading

/// The frames of a ring as one reader gets them: iterate over it, or call `get`. Made by `Ring.reader`.
///
/// It counts from its creation, and holds writers back until it is closed or dropped, or its process ends. It can be
/// sent to another process through multiprocessing until it is used; then it belongs to the receiver.
///
/// >>> import ndshare as nds
/// >>> ring = nds.Ring(2, "uint8", slots=4)
/// >>> with ring.reader() as frames:
/// ...     ring.put([1, 2]), frames.lag, frames.get(timeout=1), frames.missed
/// (0, 1, Frame([1, 2], dtype=uint8), 0)
#[pyclass(frozen, weakref, module = "ndshare")]
pub(crate) struct Reader {
    /// None once it was closed.
    reader: Closable<library::Reader>,
    own: Arc<Own>,
    known: Descriptions,
    /// What went wrong with a frame that was taken together with others, to be told by the next call.
    untold: Guarded<Option<PyErr>>,
}

/// Looking for so long attached to the interpreter is cheaper than to let go of it and to come back.
const SOON: Duration = Duration::from_micros(3);

impl Reader {
    /// The reader that a token keeps, whose ring's head says what its frames are.
    pub(crate) fn of_token(py: Python<'_>, token: Hold) -> PyResult<Self> {
        let reader = library::Reader::of_token(token).map_err(|e| to_python(py, &e))?;
        let own = Own::of(py, reader.ring().format(), None, None)?;
        Ok(Self::over(reader, Arc::new(own)))
    }

    /// A reference for the process that is to use it.
    pub(crate) fn reference(&self, py: Python<'_>) -> PyResult<Token> {
        self.own.check_known(py)?;
        self.reader.open(py, "reader")?.reference().map_err(|e| to_python(py, &e))
    }

    fn over(reader: library::Reader, own: Arc<Own>) -> Self {
        let (reader, known, untold) = (Closable::new(Arc::new(reader)), Descriptions::new(), Guarded::new(None));
        Self { reader, own, known, untold }
    }

    #[inline]
    fn next<'py>(&self, py: Python<'py>, timeout: Option<Duration>) -> PyResult<Bound<'py, PyAny>> {
        let reader = self.reader.open(py, "reader")?;
        let frame = self.first(py, &reader, timeout)?;
        received(py, &self.own, &self.known, frame)
    }

    /// The next frame. The reader is a reference of the caller's own, because another thread may close it meanwhile.
    #[inline]
    fn first(&self, py: Python<'_>, reader: &library::Reader, timeout: Option<Duration>) -> PyResult<library::Frame> {
        if let Some(untold) = self.untold.take() {
            return Err(untold);
        }
        let soon = if timeout == Some(Duration::ZERO) { Duration::ZERO } else { SOON };
        let mut found = at_once(py, || reader.get_soon(Duration::ZERO))?;
        if found.is_none() {
            found = at_once(py, || reader.get_soon(soon))?;
        }
        let wait = || self.waited(py, interruptible_for(py, timeout, |deadline| reader.get(deadline)));
        found.map_or_else(wait, Ok)
    }

    /// The next frame and those after it that are there, as arrays.
    fn many<'py>(&self, py: Python<'py>, most: usize, timeout: Option<Duration>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let reader = self.reader.open(py, "reader")?;
        let mut frames = vec![self.first(py, &reader, timeout)?];
        at_once(py, || {
            reader.take_more(&mut frames, most);
            Ok(())
        })?;
        let mut arrays = Vec::with_capacity(frames.len());
        for frame in frames {
            match received(py, &self.own, &self.known, frame) {
                Ok(array) => arrays.push(array),
                Err(error) if arrays.is_empty() => return Err(error),
                // Those that are whole are not lost for the sake of one that is not.
                Err(error) => drop(self.untold.replace(Some(error))),
            }
        }
        Ok(arrays)
    }

    /// What a wait gave; where frames come from another machine, an `Empty` says how to see what becomes of them there.
    fn waited<T>(&self, py: Python<'_>, outcome: PyResult<T>) -> PyResult<T> {
        outcome.inspect_err(|raised| {
            if is_ours(py, "Empty", raised) && self.own.is_from_afar(py).is_ok_and(|is_far| is_far) {
                let text = "its frames come from another machine: far.stats(), and ndshare.net.bridge_of(ring), say \
                            whether there is a link, and a server";
                // An exception that takes no note is as good without.
                let _ = raised.value(py).call_method1(intern!(py, "add_note"), (text,));
            }
        })
    }
}

#[pymethods]
impl Reader {
    /// The next frame, as a read-only array with `.seq`, `.time_ns` and `.meta`.
    ///
    /// Raises Empty when none came for `timeout` seconds (None: wait for ever), Closed when the ring was closed and
    /// all was read, WriterDied, once, when the last writer ended without closing it, and RuntimeError when another
    /// process has used this reader.
    ///
    /// >>> import ndshare as nds
    /// >>> ring = nds.Ring(2, "uint8", slots=4)
    /// >>> frames = ring.reader()
    /// >>> ring.put([1, 2]), frames.get(timeout=1).seq
    /// (0, 0)
    #[pyo3(signature = (timeout=None))]
    fn get<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        self.next(py, seconds(timeout)?)
    }

    /// The next frame, once there is one, and those after it that are there by then: a list of `n` at the most.
    ///
    /// It is for small frames at high rates, where a call for each takes longer than the frame. The frames are those that
    /// `get` would give one by one, and it raises what `get` raises if there is not one. The end and the death of a writer
    /// come after the last frame, from the next call. While the list lives, writers need other blocks for these
    /// frames: let `n` be a part of the ring's slots, and drop the list before the next call. A member of a group has all
    /// of them in hand, and the others get none of them; so a small `n` shares better.
    ///
    /// Raises ValueError for an `n` below 1.
    ///
    /// >>> import ndshare as nds
    /// >>> ring = nds.Ring(2, "uint8", slots=4)
    /// >>> frames = ring.reader()
    /// >>> ring.put_many([[1, 2], [3, 4], [5, 6]])
    /// [0, 1, 2]
    /// >>> [frame.seq for frame in frames.get_many(2)], [frame.seq for frame in frames.get_many(2, timeout=1)]
    /// ([0, 1], [2])
    #[pyo3(signature = (n, /, timeout=None))]
    fn get_many<'py>(&self, py: Python<'py>, n: isize, timeout: Option<f64>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let most = usize::try_from(n).ok().filter(|&most| most > 0);
        let most = most.ok_or_else(|| {
            PyValueError::new_err(format!("expected n to be how many frames to get at the most, 1 or more, got {n}"))
        })?;
        self.many(py, most, seconds(timeout)?)
    }

    /// The newest frame of the ring, which is not taken: the next call may give it again, and `get` gives what it would.
    ///
    /// It is for displays and control loops, and goes with every kind of reader; ``ring.reader(latest=True)`` holds no
    /// writer back. If the newest was published longer than `max_age` seconds ago (None: any age will do), it waits for a
    /// newer one. ``frame.age`` tells how old it is.
    ///
    /// Raises Empty when there was none so young for `timeout` seconds (None: wait for ever), which says how old the newest
    /// is; Closed when the ring was closed and has none; WriterDied, once, when the last writer died and it would have to
    /// wait; and RuntimeError when another process has used this reader.
    ///
    /// >>> import ndshare as nds
    /// >>> ring = nds.Ring(2, "uint8", slots=4)
    /// >>> frames = ring.reader(latest=True)
    /// >>> ring.put([1, 2]), ring.put([3, 4])
    /// (0, 1)
    /// >>> frames.newest(max_age=60).seq, frames.newest().seq, frames.newest().age < 60
    /// (1, 1, True)
    #[pyo3(signature = (max_age=None, timeout=None))]
    fn newest<'py>(&self, py: Python<'py>, max_age: Option<f64>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        let refuse = |age| PyValueError::new_err(format!("expected max_age in seconds, 0 or more, or None, got {age}"));
        let max_age = seconds(max_age).map_err(|_| refuse(max_age.unwrap_or_default()))?;
        let (reader, timeout) = (self.reader.open(py, "reader")?, seconds(timeout)?);
        let found = at_once(py, || reader.newest_now(max_age))?;
        let wait = || self.waited(py, interruptible_for(py, timeout, |deadline| reader.newest(max_age, deadline)));
        received(py, &self.own, &self.known, found.map_or_else(wait, Ok)?)
    }

    /// The next frame if there is one now; None also at the end, which only `get` tells.
    fn _soon<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let reader = self.reader.open(py, "reader")?;
        let found = at_once(py, || reader.get_soon(Duration::ZERO))?;
        found.map(|frame| received(py, &self.own, &self.known, frame)).transpose()
    }

    /// Its mode ("every", "latest" or "group"), the name of its ring, and the dtype of the meta there.
    fn _facts<'py>(&self, py: Python<'py>) -> PyResult<ReaderFacts<'py>> {
        let reader = self.reader.open(py, "reader")?;
        let meta = self.own.meta.as_ref().map(|meta| meta.dtype(py));
        Ok((reader.mode().name(), reader.ring().format().name.clone(), meta))
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.next(py, None) {
            Err(error) if is_ours(py, "Closed", &error) => Ok(None),
            other => other.map(Some),
        }
    }

    /// A descriptor for selectors, Qt and asyncio: readable while there is something to get, be it the end.
    ///
    /// That is a frame, the end, or the death of the last writer without a close, which `get` then raises. Now and then
    /// it is readable for nothing, when a writer comes or goes, so use ``get(timeout=0)`` and expect Empty. So it is when
    /// a writer waits for a frame that this member of a group has in hand: by that `get` it has done with it. Where the
    /// system has no pidfds for the writers (Linux before 5.3, another pid namespace, no descriptor left) that is four
    /// times a second. It belongs to the reader: do not close it.
    ///
    /// >>> import ndshare as nds, select
    /// >>> ring = nds.Ring(2, "uint8", slots=4)
    /// >>> frames = ring.reader()
    /// >>> ring.put([1, 2]), select.select([frames], [], [], 1)[0] == [frames]
    /// (0, True)
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        let reader = self.reader.open(py, "reader")?;
        detached(py, || reader.descriptor())
    }

    /// Give the reader up: it holds nobody back from now on. Frames that it gave stay valid.
    ///
    /// A reader that was sent to another process lives on there.
    ///
    /// >>> import ndshare as nds
    /// >>> ring = nds.Ring(2, "uint8", slots=4)
    /// >>> frames = ring.reader()
    /// >>> frames.close(), frames.closed
    /// (None, True)
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let Some(reader) = self.reader.take() else { return Ok(()) };
        // Another thread may be waiting in `get`, and lets go of it when it has heard.
        detached(py, || {
            let closed = reader.close();
            drop(reader);
            closed
        })
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exc_info))]
    fn __exit__(&self, py: Python<'_>, _exc_info: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py)
    }

    /// How many published frames it has not taken yet; of a group, what all its members have not. Raises Closed once it
    /// was closed.
    #[getter]
    fn lag(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.reader.open(py, "reader")?.lag())
    }

    /// How many frames it never got, because it was lapped; of a group, what none of its members got. A reader of the latest
    /// frame skips others on purpose, and counts none. Raises Closed once it was closed: `Ring.stats` counts on.
    #[getter]
    fn missed(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.reader.open(py, "reader")?.missed())
    }

    /// Whether this object was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.reader.is_closed()
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(only_multiprocessing("reader"))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let Some(reader) = self.reader.get() else { return Ok("<Reader, closed>".to_owned()) };
        let (name, mode) = (quoted(py, reader.ring().format().name.as_deref())?, reader.mode());
        Ok(format!("<Reader of ring{name}, {mode}, lag {}>", reader.lag()))
    }
}

/// A timer whose descriptor is readable when it is time, for what waits on several rings at once.
#[pyclass(frozen, module = "ndshare._native")]
pub(crate) struct Alarm {
    ticks: Ticks,
}

#[pymethods]
impl Alarm {
    #[new]
    fn new() -> PyResult<Self> {
        let none = || PyOSError::new_err("expected a free descriptor for a timer, got none: close some");
        Ticks::new().map(|ticks| Self { ticks }).ok_or_else(none)
    }

    /// Rings after so many seconds, and then again and again; never for None. It is quiet at once.
    fn set(&self, after: Option<f64>) -> PyResult<()> {
        // A timer of no time at all would be none.
        let after = seconds(after)?.map_or(Duration::ZERO, |after| after.max(Duration::from_micros(1)));
        self.ticks.set(after);
        Ok(())
    }

    fn fileno(&self) -> i32 {
        self.ticks.descriptor()
    }
}

// ---- travel

/// What multiprocessing sends of a ring: (token, dtype, meta). The token has a ticket; the ring's head says the rest,
/// dtypes too, where it can keep them whole: they are None then.
#[pyfunction]
pub(crate) fn ring_parts<'py>(py: Python<'py>, ring: &Bound<'py, Ring>) -> PyResult<Bound<'py, PyTuple>> {
    let ring = ring.get();
    parts(py, &ring.ring, &ring.own)
}

fn parts<'py>(py: Python<'py>, ring: &library::Ring, own: &Own) -> PyResult<Bound<'py, PyTuple>> {
    let [dtype, meta] = own.beside(py)?;
    (ticketed(py, ring.head())?, dtype, meta).into_pyobject(py)
}

/// The ring of such parts.
#[pyfunction]
pub(crate) fn open_ring(
    py: Python<'_>,
    token: &[u8],
    dtype: Option<&Bound<'_, PyAny>>,
    meta: Option<&Bound<'_, PyAny>>,
) -> PyResult<Ring> {
    let ring = library::Ring::open(opened(py, token)?).map_err(|e| to_python(py, &e))?;
    let own = Own::of(py, ring.format(), dtype, meta)?;
    if !own.fits(ring.geometry()) {
        return Err(PyValueError::new_err("expected the dtypes of this ring, got others: the pickle is damaged"));
    }
    Ok(Ring::over(ring, own))
}

/// What a reader says of itself: its mode, the name of its ring, the dtype of the meta there.
type ReaderFacts<'py> = (&'static str, Option<String>, Option<Bound<'py, PyAny>>);

/// What is sent of a reader or a writer: its ring's parts, its token, its slot.
type EndParts<'py> = (Bound<'py, PyTuple>, Bound<'py, PyBytes>, usize);

/// What multiprocessing sends of a reader beside its ring's parts: (parts, token, slot).
///
/// Raises RuntimeError when it was used, and Closed when it was closed.
#[pyfunction]
pub(crate) fn reader_parts<'py>(py: Python<'py>, reader: &Bound<'py, Reader>) -> PyResult<EndParts<'py>> {
    let (own, reader) = (&reader.get().own, reader.get().reader.open(py, "reader")?);
    let token = reader.sendable().map_err(|e| to_python(py, &e))?;
    Ok((parts(py, reader.ring(), own)?, ticketed(py, token)?, reader.index()))
}

/// What tells a reader or a writer from all others: arena, block and generation of its token. Raises Closed when it was
/// closed.
#[pyfunction]
pub(crate) fn end_key(py: Python<'_>, end: &Bound<'_, PyAny>) -> PyResult<(u64, u32, u32)> {
    let token = match end.cast::<Writer>() {
        Ok(writer) => writer.get().writer.open(py, "writer")?.token(),
        Err(_) => Some(end.cast::<Reader>()?.get().reader.open(py, "reader")?.token().clone()),
    };
    let token = token.ok_or_else(|| closed(py, "writer"))?;
    Ok((token.arena().id(), token.block().index, token.block().generation))
}

/// The reader of such parts.
#[pyfunction]
pub(crate) fn open_reader(py: Python<'_>, ring: &Bound<'_, Ring>, token: &[u8], slot: usize) -> PyResult<Reader> {
    let token = opened(py, token)?;
    let ring = ring.get();
    let reader = library::Reader::open(ring.ring.clone(), slot, token).map_err(|e| to_python(py, &e))?;
    Ok(Reader::over(reader, ring.own.clone()))
}

/// What multiprocessing sends of a writer: its ring's parts, its token, its slot.
///
/// Raises RuntimeError when it was used, and Closed when it was closed.
#[pyfunction]
pub(crate) fn writer_parts<'py>(py: Python<'py>, writer: &Bound<'py, Writer>) -> PyResult<EndParts<'py>> {
    let (ring, writer) = (writer.get().ring.get(), writer.get().writer.open(py, "writer")?);
    let token = at_once(py, || writer.sendable())?;
    Ok((parts(py, &ring.ring, &ring.own)?, ticketed(py, &token)?, writer.index()))
}

/// The writer of such parts.
#[pyfunction]
pub(crate) fn open_writer(py: Python<'_>, ring: Py<Ring>, token: &[u8], slot: usize) -> PyResult<Writer> {
    let token = opened(py, token)?;
    let writer = library::Writer::open(ring.get().ring.clone(), slot, token).map_err(|e| to_python(py, &e))?;
    Ok(Writer::over(ring, writer))
}
