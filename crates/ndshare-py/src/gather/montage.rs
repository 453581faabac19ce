//! `Cache.concatenate` onto a canvas: what stands there already is neither loaded nor copied.
//!
//! A tile stands if the last call put the value of the same key of the same cache at the same place, and nobody has
//! stored or deleted that key since, which its generation tells. So nothing need be known of the value itself: it
//! may have been evicted. Where a tile lies depends on the extents of all before it; that of a standing tile is known
//! from its place, that of a missing one only when it has been loaded.

use ::numpy::npyffi::NPY_CASTING::NPY_SAME_KIND_CASTING;
use ndshare::arena::BlockId;
use ndshare::cache::Key;
use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyList, PySlice, PyTuple};
use std::sync::Arc;

use super::canvas::{Canvas, Draft, KeyMark, Sitting, Tile};
use super::job::Job;
use super::numpy;
use super::target::workers_of;
use crate::cache::{Cache, encode};
use crate::guard::Once;
use crate::lock::seconds;
use crate::ndarray::Operand;

/// The values of keys side by side on a canvas.
#[pyclass(frozen, module = "ndshare._native")]
pub(crate) struct Montage {
    canvas: Py<Canvas>,
    /// The keys as the caller gave them, for messages.
    names: Py<PyList>,
    marks: Vec<KeyMark>,
    axis: usize,
    /// The values that were had so far.
    values: Box<[Once<Py<PyAny>>]>,
}

/// One tile of a montage.
enum Part {
    Stands(Arc<Tile>),
    /// To be copied to this place along the axis, in items.
    Comes(usize),
}

/// What a canvas lacks.
struct Plan {
    parts: Vec<Part>,
    /// The keys whose values must be had.
    wanted: Vec<usize>,
    /// How many items all are along the axis, if none is wanted.
    extent: usize,
}

#[pymethods]
impl Montage {
    /// `keys` along `axis`. Their generations are read now, before anybody looks for their values.
    #[new]
    fn new(
        canvas: &Bound<'_, Canvas>,
        cache: &Bound<'_, Cache>,
        keys: &Bound<'_, PyList>,
        axis: isize,
    ) -> PyResult<Self> {
        let ndim = canvas.get().lengths().len();
        let place = if axis < 0 { axis.wrapping_add_unsigned(ndim) } else { axis };
        let axis = usize::try_from(place).ok().filter(|&axis| axis < ndim).ok_or_else(|| {
            PyValueError::new_err(format!("axis {axis} is out of bounds for array of dimension {ndim}"))
        })?;
        let cache = cache.get().inner();
        let id = (cache.head().arena().id(), cache.head().block());
        let mark = |key: Bound<'_, PyAny>| encode(&key).map(|key| mark_of(id, cache.generation(&key), key));
        let marks = keys.iter().map(mark).collect::<PyResult<Vec<_>>>()?;
        let values = marks.iter().map(|_| Once::new()).collect();
        Ok(Self { canvas: canvas.clone().unbind(), names: keys.clone().unbind(), marks, axis, values })
    }

    /// Copies what has changed, and returns no numbers; or the numbers of the keys whose values must be given first.
    #[pyo3(signature = (workers=None, timeout=None))]
    fn paint(&self, py: Python<'_>, workers: Option<&Bound<'_, PyAny>>, timeout: Option<f64>) -> PyResult<Vec<usize>> {
        let workers = workers_of(workers)?;
        let sitting = Canvas::sit(self.canvas.bind(py), seconds(timeout)?)?;
        let values = self.values(py);
        let facts = values.iter().map(|value| value.as_ref().and_then(Operand::of)).collect::<Vec<_>>();
        let plan = self.plan(py, &sitting, &facts)?;
        if plan.wanted.is_empty() {
            self.check_extent(&plan)?;
            self.copy(py, &sitting, &plan, &facts, workers)?;
        }
        sitting.leave(py)?;
        Ok(plan.wanted)
    }

    /// Gives the values of some keys.
    fn give(&self, numbers: Vec<usize>, values: Vec<Bound<'_, PyAny>>) -> PyResult<()> {
        for (number, value) in numbers.into_iter().zip(values) {
            let slot = self.values.get(number).ok_or_else(|| PyIndexError::new_err("no such key"))?;
            slot.first(value.unbind());
        }
        Ok(())
    }
}

fn mark_of(cache: (u64, BlockId), generation: u64, key: Key) -> KeyMark {
    KeyMark { cache, key, generation }
}

impl Montage {
    fn values<'py>(&self, py: Python<'py>) -> Vec<Option<Bound<'py, PyAny>>> {
        self.values.iter().map(|slot| slot.get().map(|value| value.bind(py).clone())).collect()
    }

    /// Finds out what stands, what comes, and what is wanted.
    fn plan(&self, py: Python<'_>, sitting: &Sitting, facts: &[Option<Operand<'_>>]) -> PyResult<Plan> {
        let canvas = self.canvas.get();
        let step = canvas.strides()[self.axis];
        let mut plan = Plan { parts: Vec::with_capacity(facts.len()), wanted: vec![], extent: 0 };
        for (number, value) in facts.iter().enumerate() {
            if let Some(value) = value {
                self.check(py, number, value.shape)?;
                plan.parts.push(Part::Comes(plan.extent));
                plan.extent += value.shape[self.axis];
                continue;
            }
            let offset = plan.extent.cast_signed() * step;
            // Behind a value that is still wanted no place is sure; the next round looks again.
            let is_sure = plan.wanted.is_empty();
            let tile = if is_sure { sitting.old().at(number, offset) } else { sitting.old().nth(number) };
            match tile.filter(|tile| self.is(number, tile)) {
                Some(tile) => {
                    plan.extent += tile.place.shape[self.axis];
                    plan.parts.push(Part::Stands(tile.clone()));
                }
                None => plan.wanted.push(number),
            }
        }
        Ok(plan)
    }

    /// Whether a tile is the value of a key, all across the canvas.
    fn is(&self, number: usize, tile: &Tile) -> bool {
        let canvas = self.canvas.get();
        tile.key.as_ref() == Some(&self.marks[number])
            && *tile.place.strides == *canvas.strides()
            && self.is_across(&tile.place.shape)
    }

    /// Whether a shape is the canvas's, but for the axis.
    fn is_across(&self, shape: &[usize]) -> bool {
        let lengths = self.canvas.get().lengths();
        let same = |(axis, (&a, &b)): (usize, (&usize, &isize))| axis == self.axis || a.cast_signed() == b;
        shape.len() == lengths.len() && shape.iter().zip(lengths).enumerate().all(same)
    }

    fn check(&self, py: Python<'_>, number: usize, shape: &[usize]) -> PyResult<()> {
        if self.is_across(shape) {
            return Ok(());
        }
        let (lengths, name) = (self.canvas.get().lengths(), self.names.bind(py).get_item(number)?);
        Err(PyValueError::new_err(format!(
            "expected values that fit a canvas of shape {lengths:?} in all but axis {}, got {shape:?} for the key {}",
            self.axis,
            name.repr()?
        )))
    }

    fn check_extent(&self, plan: &Plan) -> PyResult<()> {
        let lengths = self.canvas.get().lengths();
        if lengths[self.axis] == plan.extent.cast_signed() {
            return Ok(());
        }
        Err(PyValueError::new_err(format!(
            "Output array is the wrong shape: the values are {} long along axis {}, and the canvas has shape \
             {lengths:?}",
            plan.extent, self.axis
        )))
    }

    fn copy(
        &self,
        py: Python<'_>,
        sitting: &Sitting,
        plan: &Plan,
        facts: &[Option<Operand<'_>>],
        workers: Option<usize>,
    ) -> PyResult<()> {
        let target = sitting.target(py)?;
        let Some(out) = Operand::of(&target) else { return Ok(()) };
        if let Some(mut job) = Job::new(py, &out, NPY_SAME_KIND_CASTING, workers, Some(sitting))?
            && facts.iter().flatten().all(|value| job.admits(value))
            && self.fill(&mut job, &out, plan, facts).is_some()
        {
            // SAFETY: all values were admitted; the callers hold them and the canvas.
            return unsafe { job.run() };
        }
        self.copy_by_numpy(py, &target, sitting, plan, facts)
    }

    fn fill(&self, job: &mut Job<'_, '_>, out: &Operand<'_>, plan: &Plan, facts: &[Option<Operand<'_>>]) -> Option<()> {
        for (number, (part, value)) in plan.parts.iter().zip(facts).enumerate() {
            match (part, value) {
                (Part::Stands(tile), _) => job.draft()?.stands(tile.clone()),
                (Part::Comes(at), Some(value)) => {
                    job.draft()?.name(self.marks[number].clone());
                    let offset = at.cast_signed() * out.strides[self.axis];
                    // SAFETY: all values were admitted, and together they have the shape of the canvas.
                    unsafe { job.add(value, out.strides, offset)? };
                }
                (Part::Comes(_), None) => return None,
            }
        }
        Some(())
    }

    /// The same for dtypes that only NumPy can cast.
    fn copy_by_numpy(
        &self,
        py: Python<'_>,
        target: &Bound<'_, PyAny>,
        sitting: &Sitting,
        plan: &Plan,
        facts: &[Option<Operand<'_>>],
    ) -> PyResult<()> {
        let mut draft = Draft::new(sitting);
        let mut copies = Vec::new();
        let strides = self.canvas.get().strides();
        for (number, (part, value)) in plan.parts.iter().zip(facts).enumerate() {
            match (part, value) {
                (Part::Comes(at), Some(value)) => {
                    draft.name(self.marks[number].clone());
                    let offset = at.cast_signed() * strides[self.axis];
                    if draft.must_copy(py, value, strides, offset) {
                        copies.push((self.part(target, *at, value)?, value.object(py)));
                    }
                }
                (Part::Stands(tile), _) => draft.stands(tile.clone()),
                (Part::Comes(_), None) => {}
            }
        }
        draft.begin();
        let outcome = copies.iter().try_for_each(|(part, value)| numpy::copyto(py, part, value, None, None));
        draft.end(outcome.is_ok());
        outcome
    }

    /// The part of the canvas for a value that begins at `at`.
    fn part<'py>(&self, target: &Bound<'py, PyAny>, at: usize, value: &Operand<'_>) -> PyResult<Bound<'py, PyAny>> {
        let py = target.py();
        let end = at + value.shape[self.axis];
        let full = || PySlice::full(py).into_any();
        let slice = PySlice::new(py, at.cast_signed(), end.cast_signed(), 1).into_any();
        let index = (0..self.axis).map(|_| full()).chain([slice]);
        target.get_item(PyTuple::new(py, index.collect::<Vec<_>>())?)
    }
}
