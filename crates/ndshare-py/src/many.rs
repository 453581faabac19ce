//! Many frames in one call. All of them are parsed before the first is published; then they are copied and published
//! detached from the interpreter.

use std::sync::Arc;
use std::time::Duration;

use ndshare::ring::{self, Content, Many, Note, Sink, publish_many};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::described::Described;
use crate::dtype::{Dtype, Meaning};
use crate::error::{class_name, to_python};
use crate::frame::{Own, carried, carried_note, parsed_time};
use crate::guard::Once;
use crate::ndarray::{Items, Operand, check_items};
use crate::tree::{check_fits, is_tree};
use crate::wait::interruptible_for;

/// What goes with each of the frames.
#[derive(Clone, Copy)]
pub(crate) struct Said<'a, 'py> {
    pub(crate) meta: Option<&'a Bound<'py, PyAny>>,
    pub(crate) time_ns: Option<&'a Bound<'py, PyAny>>,
}

/// Arrays that keep what is copied.
enum Given<'py> {
    /// Its rows are the frames.
    Whole(Bound<'py, PyAny>),
    /// Each frame as it was given, and as it is copied.
    Each(Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)>),
}

/// One frame: its items, what it is, and what goes with it.
struct Frame<'a> {
    items: Items<'a>,
    described: Arc<Described>,
    meta: Vec<u8>,
    note: Option<Arc<Note<'static>>>,
    time_ns: Option<u64>,
}

impl Frame<'_> {
    fn plan(&self) -> Many<'_> {
        let (note, time_ns) = (self.note.as_deref(), self.time_ns);
        let content = Content { offset: 0, view: self.described.said(), meta: &self.meta, note, time_ns };
        Many { len_bytes: self.described.len_bytes() as u64, content }
    }
}

/// Publishes arrays one after another, and returns their numbers; none for one that was dropped.
pub(crate) fn put_many<'py>(
    py: Python<'py>,
    own: &Own,
    (ring, by): (&ring::Ring, &dyn Sink),
    frames: &Bound<'py, PyAny>,
    timeout: Option<Duration>,
    said: Said<'_, 'py>,
) -> PyResult<Vec<Option<u64>>> {
    let given = Given::of(own, frames)?;
    let frames = given.frames(py, own, said)?;
    let check = |frame: &Frame<'_>| ring.check_planned(&frame.plan());
    frames.iter().try_for_each(check).map_err(|error| to_python(py, &error))?;
    let mut numbers = Vec::new();
    let outcome = interruptible_for(py, timeout, |deadline| {
        let fill = |index: usize, writing: &ring::Writing| frames[index].items.copy_to(writing);
        let done = publish_many(by, frames.iter().map(Frame::plan), fill, deadline);
        numbers = done.numbers;
        done.error.map_or(Ok(()), Err)
    });
    match outcome {
        Ok(()) => Ok(numbers),
        Err(error) => Err(telling(py, error, numbers, frames.len())),
    }
}

/// An exception that says which frames were published before it was raised.
fn telling(py: Python<'_>, error: PyErr, numbers: Vec<Option<u64>>, wanted: usize) -> PyErr {
    let dropped = numbers.iter().filter(|number| number.is_none()).count();
    let mut text = format!("{} of {wanted} frames were published before", numbers.len() - dropped);
    if dropped > 0 {
        text += &format!(", and {dropped} dropped");
    }
    let value = error.value(py);
    // An exception that takes neither is as good without one: a signal handler may raise anything.
    let _ = value.setattr(intern!(py, "published"), numbers);
    let _ = value.call_method1(intern!(py, "add_note"), (text,));
    error
}

impl<'py> Given<'py> {
    fn of(own: &Own, frames: &Bound<'py, PyAny>) -> PyResult<Self> {
        if let Some(facts) = Operand::of_any(frames) {
            if facts.shape.is_empty() {
                return Err(no_frames(frames));
            }
            check_items(frames)?;
            return own.with_plain_rows(frames).map(Self::Whole);
        }
        if frames.is_instance_of::<PyString>() {
            return Err(no_frames(frames));
        }
        let each = frames.try_iter().map_err(|_| no_frames(frames))?;
        let parsed = |x: Bound<'py, PyAny>| own.one(&x).map(|array| (x, array));
        each.map(|x| parsed(x?)).collect::<PyResult<_>>().map(Self::Each)
    }

    fn frames(&self, py: Python<'py>, own: &Own, said: Said<'_, 'py>) -> PyResult<Vec<Frame<'_>>> {
        let frames = match self {
            Self::Whole(whole) => rows(py, own, whole)?,
            Self::Each(each) => each.iter().map(|(x, array)| one(py, own, x, array)).collect::<PyResult<_>>()?,
        };
        let metas = metas(py, own, self.carried()?, said.meta, frames.len())?;
        let times = times(said.time_ns, frames.len())?;
        let with = |((items, described, note), (meta, time_ns))| Frame { items, described, meta, note, time_ns };
        Ok(frames.into_iter().zip(metas.into_iter().zip(times)).map(with).collect())
    }

    /// The meta of those that are frames of another ring.
    fn carried(&self) -> PyResult<Vec<Option<Bound<'py, PyAny>>>> {
        match self {
            Self::Whole(_) => Ok(Vec::new()),
            Self::Each(each) => each.iter().map(|(x, _)| carried(x)).collect(),
        }
    }
}

/// Items, what they are, and a note.
type Part<'a> = (Items<'a>, Arc<Described>, Option<Arc<Note<'static>>>);

fn rows<'a>(py: Python<'_>, own: &Own, whole: &'a Bound<'_, PyAny>) -> PyResult<Vec<Part<'a>>> {
    let facts = Operand::of_any(whole).ok_or_else(|| no_frames(whole))?;
    let (row, items) = facts.rows().ok_or_else(|| no_frames(whole))?;
    let described = own.like(py, &row, own.dtype_of(py, &facts)?)?;
    Ok(items.map(|items| (items, described.clone(), None)).collect())
}

fn one<'a>(py: Python<'_>, own: &Own, x: &Bound<'_, PyAny>, array: &'a Bound<'_, PyAny>) -> PyResult<Part<'a>> {
    let facts = Operand::of_any(array).ok_or_else(|| no_frames(array))?;
    let items = facts.items().ok_or_else(|| no_frames(array))?;
    Ok((items, own.like(py, &facts, own.dtype_of(py, &facts)?)?, carried_note(x)?))
}

#[cold]
fn no_frames(given: &Bound<'_, PyAny>) -> PyErr {
    let got = class_name(given);
    PyTypeError::new_err(format!(
        "expected frames: an array with one axis more than a frame has, or a sequence of arrays, got {got}"
    ))
}

impl Own {
    /// What is put, one of many, as an array in the ring's dtype whose items lie as they will in the frame.
    fn one<'py>(&self, x: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        if (self.takes_trees() || self.tree().is_some()) && is_tree(x)? {
            let got = class_name(x);
            return Err(PyTypeError::new_err(format!(
                "expected arrays, got {got}: put trees of arrays one by one, by put"
            )));
        }
        let array = self.as_array(x)?;
        let facts = Operand::of_any(&array).ok_or_else(|| no_frames(&array))?;
        if self.must_cast(&array, &facts)? || !facts.is_c || has_holes(&array) { self.plain(&array) } else { Ok(array) }
    }

    /// An array in the ring's dtype, the items of each row of which lie as they will in a frame.
    fn with_plain_rows<'py>(&self, array: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let facts = Operand::of_any(array).ok_or_else(|| no_frames(array))?;
        let is_plain = !self.must_cast(array, &facts)? && facts.rows().is_some() && !has_holes(array);
        if is_plain { Ok(array.clone()) } else { self.plain(array) }
    }

    /// Whether an array has another dtype than the ring.
    ///
    /// # Errors
    /// TypeError, OverflowError where its items would be others.
    fn must_cast(&self, array: &Bound<'_, PyAny>, facts: &Operand<'_>) -> PyResult<bool> {
        let py = array.py();
        let is_cast = self.check_cast(py, &self.dtype_of(py, facts)?)?;
        if is_cast {
            check_fits(array, &Dtype::known(self.dtype.bind(py).clone()))?;
        }
        Ok(is_cast)
    }

    /// A copy, in the ring's dtype if it has one. Its holes are zero: what was there before is nobody's business.
    fn plain<'py>(&self, array: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        static ZEROS: Once<Py<PyAny>> = Once::new();
        let py = array.py();
        let (shape, own) = (array.getattr(intern!(py, "shape"))?, array.getattr(intern!(py, "dtype"))?);
        let dtype = if self.is_typed { self.dtype.bind(py).as_any().clone() } else { own };
        let plain = ZEROS.import(py, "numpy", "zeros")?.call1((shape, dtype))?;
        plain.set_item(py.Ellipsis(), array)?;
        Ok(plain)
    }
}

/// Whether bytes of its items belong to no field.
fn has_holes(array: &Bound<'_, PyAny>) -> bool {
    Operand::of_any(array).is_some_and(|facts| !Meaning::of(array.py(), facts.descr).is_solid)
}

/// The bytes of the meta of each frame.
fn metas<'py>(
    py: Python<'py>,
    own: &Own,
    carried: Vec<Option<Bound<'py, PyAny>>>,
    given: Option<&Bound<'py, PyAny>>,
    count: usize,
) -> PyResult<Vec<Vec<u8>>> {
    let Some(own) = &own.meta else {
        let text = "expected no meta=, because the ring was made without meta=: make it with one, or leave it out";
        return given.map_or_else(|| Ok(vec![Vec::new(); count]), |_| Err(PyTypeError::new_err(text)));
    };
    if let Some(given) = given
        && carried.iter().all(Option::is_none)
        && let Some(plain) = own.plain_records(given)?
    {
        return of_count("meta", plain, count);
    }
    let each = |given: &Bound<'py, PyAny>| of_count("meta", given.try_iter()?.collect::<PyResult<Vec<_>>>()?, count);
    let given = given.map(each).transpose()?.unwrap_or_default();
    let packed = |index: usize| match (carried.get(index).cloned().flatten(), given.get(index)) {
        (None, None) => Ok(Vec::new()),
        (carried, given) => own.packed(py, carried, given, None),
    };
    (0..count).map(packed).collect()
}

/// When each frame was made, if that is said: not before the one before it.
fn times(given: Option<&Bound<'_, PyAny>>, count: usize) -> PyResult<Vec<Option<u64>>> {
    let Some(given) = given else { return Ok(vec![None; count]) };
    let times: Vec<u64> = given.try_iter()?.map(|time| parsed_time(&time?)).collect::<PyResult<_>>()?;
    let times = of_count("time_ns", times, count)?;
    if let Some(pair) = times.windows(2).find(|pair| pair[0] > pair[1]) {
        return Err(PyValueError::new_err(format!(
            "expected time_ns that do not go back from frame to frame, got {} after {}",
            pair[1], pair[0]
        )));
    }
    Ok(times.into_iter().map(Some).collect())
}

/// As many as there are frames.
fn of_count<T>(name: &str, given: Vec<T>, count: usize) -> PyResult<Vec<T>> {
    if given.len() == count {
        return Ok(given);
    }
    let got = given.len();
    Err(PyValueError::new_err(format!("expected {name} for each of {count} frames, got {got}")))
}
