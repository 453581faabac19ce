//! Where each source lies in the result: along an old axis, along a new one, one after the other, or stretched.

use ndshare::layout;
use pyo3::prelude::*;

use super::job::Job;
use super::sources::{facts_of, held};
use super::target::{Outcome, Wanted, reach};
use crate::dtype::Dtype;
use crate::make::empty_for;
use crate::ndarray::Operand;
use crate::shape::Shape;

/// The place of `axis` among `ndim`; None when there is none.
fn axis_place(axis: isize, ndim: usize) -> Option<usize> {
    let place = if axis < 0 { axis.checked_add_unsigned(ndim)? } else { axis };
    usize::try_from(place).ok().filter(|&place| place < ndim)
}

/// How arrays fit together along one axis.
struct Joint {
    axis: usize,
    stacked: bool,
    /// The shape of the result.
    shape: Vec<usize>,
}

impl Joint {
    /// None when they do not fit.
    fn of(facts: &[Operand<'_>], axis: isize, stacked: bool) -> Option<Self> {
        let first = facts.first()?.shape;
        let ndim = first.len() + usize::from(stacked);
        let axis = axis_place(axis, ndim)?;
        let mut shape = first.to_vec();
        if stacked {
            shape.insert(axis, facts.len());
            return (facts.iter().all(|part| part.shape == first)).then_some(Self { axis, stacked, shape });
        }
        let same = |part: &Operand<'_>| {
            part.shape.len() == ndim
                && part.shape[..axis] == first[..axis]
                && part.shape[axis + 1..] == first[axis + 1..]
        };
        if !facts.iter().all(same) {
            return None;
        }
        shape[axis] = facts.iter().try_fold(0_usize, |sum, part| sum.checked_add(part.shape[axis]))?;
        Some(Self { axis, stacked, shape })
    }

    fn room<'py>(
        &self,
        py: Python<'py>,
        facts: &[Operand<'_>],
        dtype: Dtype<'py>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(mut shape) = Shape::known(&self.shape) else { return Ok(None) };
        let order = if facts.iter().all(|part| part.is_c) { None } else { Some(self.order(facts)) };
        empty_for(py, &mut shape, dtype, order.as_deref()).map(Some)
    }

    /// The axes of the result from the outermost to the innermost.
    fn order(&self, facts: &[Operand<'_>]) -> Vec<usize> {
        let ndim = self.shape.len();
        if !self.stacked {
            return layout::common_order(ndim, facts.iter().map(|part| (part.shape, part.strides)));
        }
        // The new axis has one item in each array.
        let longer: Vec<_> =
            facts.iter().map(|part| (with(part.shape, self.axis, 1), with(part.strides, self.axis, 0))).collect();
        layout::common_order(ndim, longer.iter().map(|(shape, strides)| (&shape[..], &strides[..])))
    }

    /// Adds all pairs to a job; None where NumPy must do it.
    fn fill(&self, job: &mut Job<'_, '_>, facts: &[Operand<'_>], strides: &[isize]) -> Option<()> {
        let along = strides[self.axis];
        let shorter: Vec<isize> = if self.stacked { without(strides, self.axis) } else { strides.to_vec() };
        let mut offset = 0_isize;
        for part in facts {
            // SAFETY: `into` has admitted all parts, and together they have the shape of the destination.
            unsafe { job.add(part, &shorter, offset)? };
            let steps = if self.stacked { 1 } else { part.shape[self.axis].cast_signed() };
            offset = offset.checked_add(along.checked_mul(steps)?)?;
        }
        Some(())
    }
}

fn with<T: Copy>(list: &[T], place: usize, value: T) -> Vec<T> {
    let mut longer = list.to_vec();
    longer.insert(place, value);
    longer
}

fn without<T: Copy>(list: &[T], place: usize) -> Vec<T> {
    let mut shorter = list.to_vec();
    shorter.remove(place);
    shorter
}

/// `concatenate` along an axis, or `stack`.
pub(super) fn join<'py>(
    py: Python<'py>,
    arrays: &Bound<'py, PyAny>,
    axis: isize,
    stacked: bool,
    wanted: &Wanted<'_, 'py>,
) -> PyResult<Outcome<'py>> {
    let Some(sources) = held(arrays) else { return Ok(Outcome::Unusual) };
    let Some(facts) = facts_of(&sources) else { return Ok(Outcome::Unusual) };
    let Some(joint) = Joint::of(&facts, axis, stacked) else { return Ok(Outcome::Unusual) };
    let fill = |job: &mut Job<'_, '_>, out: &Operand<'_>| joint.fill(job, &facts, out.strides);
    reach(py, &facts, &joint.shape, wanted, |dtype| joint.room(py, &facts, dtype), fill)
}

/// `concatenate` with `axis=None`.
pub(super) fn join_flat<'py>(
    py: Python<'py>,
    arrays: &Bound<'py, PyAny>,
    wanted: &Wanted<'_, 'py>,
) -> PyResult<Outcome<'py>> {
    let Some(sources) = held(arrays) else { return Ok(Outcome::Unusual) };
    let Some(facts) = facts_of(&sources) else { return Ok(Outcome::Unusual) };
    let shape = [facts.iter().map(Operand::size).sum::<usize>()];
    let make = |dtype| Shape::known(&shape).map(|mut shape| empty_for(py, &mut shape, dtype, None)).transpose();
    let fill = |job: &mut Job<'_, '_>, out: &Operand<'_>| {
        let mut offset = 0;
        for part in &facts {
            // SAFETY: `into` has admitted all parts, and together they are as long as the destination.
            unsafe { job.add(part, &flat_strides(part.shape, out.strides[0]), offset)? };
            offset += part.size().cast_signed() * out.strides[0];
        }
        Some(())
    };
    reach(py, &facts, &shape, wanted, make, fill)
}

/// The strides of an array of this shape whose items follow each other in C order, `step` bytes apart.
fn flat_strides(shape: &[usize], step: isize) -> Vec<isize> {
    let mut strides = vec![0; shape.len()];
    let mut step = step;
    for (stride, &length) in strides.iter_mut().zip(shape).rev() {
        *stride = step;
        step = step.wrapping_mul(length.cast_signed());
    }
    strides
}

/// The strides of an array stretched to `shape`; None when it does not stretch.
pub(super) fn broadcast(part: &Operand<'_>, shape: &[usize]) -> Option<Vec<isize>> {
    // Leading axes of one are left out, as NumPy does for copyto.
    let extra = part.shape.len().saturating_sub(shape.len());
    let missing = shape.len().saturating_sub(part.shape.len());
    if part.shape[..extra].iter().any(|&length| length != 1) {
        return None;
    }
    let own = part.shape[extra..].iter().zip(&part.strides[extra..]);
    let stretched = own.zip(&shape[missing..]).map(|((&length, &stride), &wanted)| match length {
        _ if length == wanted => Some(stride),
        1 => Some(0),
        _ => None,
    });
    std::iter::repeat_n(Some(0), missing).chain(stretched).collect()
}
