//! `Cache.concatenate` and `Cache.mosaic` onto a canvas: the library says which values are lacking, Python has them made.

use ::numpy::npyffi::NPY_CASTING::NPY_SAME_KIND_CASTING;
use ndshare::gather::{self, Draft, Mark, Nested, Rows, Start, Strip, axes_of, axis_of};
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PySlice, PyTuple};

use super::canvas::{Canvas, Source, end};
use super::copying::Copying;
use super::numpy;
use super::target::workers_of;
use crate::cache::{Cache, encode};
use crate::error::to_python;
use crate::guard::Once;
use crate::lock::seconds;
use crate::ndarray::Operand;

/// The values of keys on a canvas: side by side, or in rows.
#[pyclass(frozen, module = "ndshare._native")]
pub(crate) struct Montage {
    canvas: Py<Canvas>,
    /// The keys as the caller gave them, for messages.
    names: Py<PyList>,
    marks: Vec<Mark>,
    axis: usize,
    /// The axis along which rows follow each other, and how many values each has.
    rows: Option<(usize, Vec<usize>)>,
    /// The values that were had so far.
    values: Box<[Once<Py<PyAny>>]>,
}

#[pymethods]
impl Montage {
    /// `keys` along `axis`; with `rows` in so many rows, one behind the other along `down`, of so many each. The generations
    /// of the keys are read now, before anybody looks for their values.
    #[new]
    #[pyo3(signature = (canvas, cache, keys, axis, down=None, rows=None))]
    fn new(
        canvas: &Bound<'_, Canvas>,
        cache: &Bound<'_, Cache>,
        keys: &Bound<'_, PyList>,
        axis: isize,
        down: Option<isize>,
        rows: Option<Vec<usize>>,
    ) -> PyResult<Self> {
        let raised = |error| to_python(canvas.py(), &error);
        let ndim = canvas.get().strip(0, None).shape.len();
        let (axis, rows) = match down.zip(rows) {
            None => (axis_of(axis, ndim).map_err(raised)?, None),
            Some((down, counts)) => {
                let axes = axes_of(&[down, axis], 2, ndim).map_err(raised)?;
                Nested::rows(&counts).map_err(raised)?;
                (axes[1], Some((axes[0], counts)))
            }
        };
        let inner = &cache.get().cache;
        let cache = (inner.head().arena().id(), inner.head().block());
        let mark = |key: Bound<'_, PyAny>| {
            let key = encode(&key)?;
            Ok(Mark { cache, generation: inner.generation(&key), key: key.bytes().to_vec() })
        };
        let marks = keys.iter().map(mark).collect::<PyResult<Vec<_>>>()?;
        let values = marks.iter().map(|_| Once::new()).collect();
        Ok(Self { canvas: canvas.clone().unbind(), names: keys.clone().unbind(), marks, axis, rows, values })
    }

    /// Copies what has changed, and returns no numbers; or the numbers of the keys whose values must be given first.
    #[pyo3(signature = (workers=None, timeout=None))]
    fn paint(&self, py: Python<'_>, workers: Option<&Bound<'_, PyAny>>, timeout: Option<f64>) -> PyResult<Vec<usize>> {
        let workers = workers_of(workers)?;
        let canvas = self.canvas.get();
        let filling = canvas.begin(py, seconds(timeout)?)?;
        let values: Vec<_> = self.values.iter().map(|value| value.get().map(|value| value.bind(py).clone())).collect();
        let operands: Vec<_> = values.iter().map(|value| value.as_ref().and_then(Operand::of)).collect();
        let (strip, raised) = (self.strip(canvas), |error| to_python(py, &error));
        let shapes = operands.iter().map(|value| value.as_ref().map(|value| value.shape));
        let plan = gather::Montage::of(strip, filling.old(), &self.marks, shapes, |number| self.name(py, number));
        let plan = plan.map_err(raised)?;
        if !plan.wanted.is_empty() {
            end(py, filling)?;
            return Ok(plan.wanted);
        }
        plan.check_extent(strip).map_err(raised)?;
        let mut draft = Draft::new(filling.old());
        let coming = plan.note(strip, &mut draft, |draft, at| {
            let (mark, value) = (self.marks[at.number].clone(), operands[at.number].as_ref());
            value.is_some_and(|value| Source::must_copy(py, draft, value, at, Some(mark)))
        });
        let coming: Vec<_> = coming.iter().filter_map(|&(number, at)| Some((operands[number]?, at))).collect();
        let target = canvas.array_as(py, true)?;
        filling.carry_out(draft, || self.copy(py, &target, strip, &coming, workers))?;
        end(py, filling)?;
        Ok(Vec::new())
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

impl Montage {
    fn strip<'a>(&'a self, canvas: &'a Canvas) -> Strip<'a> {
        canvas.strip(self.axis, self.rows.as_ref().map(|(axis, counts)| Rows { axis: *axis, counts }))
    }

    /// The key with this number, for messages.
    fn name(&self, py: Python<'_>, number: usize) -> String {
        let repr = self.names.bind(py).get_item(number).and_then(|key| key.repr());
        repr.map_or_else(|_| format!("number {number}"), |repr| repr.to_string_lossy().into_owned())
    }

    fn copy(
        &self,
        py: Python<'_>,
        target: &Bound<'_, PyAny>,
        strip: Strip<'_>,
        coming: &[(Operand<'_>, Start)],
        workers: Option<usize>,
    ) -> PyResult<()> {
        let Some(out) = Operand::of(target) else { return Ok(()) };
        if let Some(mut copying) = Copying::new(py, &out, NPY_SAME_KIND_CASTING, workers, None)?
            && coming.iter().all(|(value, _)| copying.admits(value))
        {
            let mut add = |(number, (value, start)): (usize, &(Operand<'_>, Start))| {
                // SAFETY: all values were admitted, and the library has seen that they lie side by side in the canvas.
                unsafe { copying.add(value, strip.placement(number, *start)) }
            };
            if coming.iter().enumerate().try_for_each(&mut add).is_ok() {
                // SAFETY: as above; the callers hold all values and the canvas.
                return unsafe { copying.run() };
            }
        }
        // Some dtypes only NumPy can cast.
        coming.iter().try_for_each(|(value, start)| {
            numpy::copyto(py, &self.part(target, *start, value)?, &value.object(py), None, None)
        })
    }

    /// The part of the canvas for a value that begins there.
    fn part<'py>(&self, target: &Bound<'py, PyAny>, start: Start, value: &Operand<'_>) -> PyResult<Bound<'py, PyAny>> {
        let (py, down) = (target.py(), self.rows.as_ref().map(|(axis, _)| *axis));
        let slice = |axis: usize| {
            let begin = match axis {
                axis if axis == self.axis => start.along,
                axis if Some(axis) == down => start.across,
                _ => return PySlice::full(py).into_any(),
            };
            PySlice::new(py, begin.cast_signed(), (begin + value.shape[axis]).cast_signed(), 1).into_any()
        };
        target.get_item(PyTuple::new(py, (0..value.shape.len()).map(slice))?)
    }
}
