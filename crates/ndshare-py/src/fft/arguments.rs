//! The arguments of a call, as far as they are ordinary.

use std::ptr::NonNull;

use ndshare::fft::{Element, Family, Spec};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use super::element::element_of;
use super::run::{Target, transform};
use crate::dtype::Dtype;
use crate::ndarray::Operand;

/// Which function was called.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) family: Family,
    pub(super) forward: bool,
    /// One axis, which must be given.
    pub(super) is_single: bool,
}

impl Kind {
    /// 0 and 1 for complex, 2 and 3 for real to half, 4 and 5 for half to real, the even ones forward; 8 more for the
    /// functions of one axis.
    pub(super) fn of(code: u8) -> Option<Self> {
        let family = match code & 7 {
            0 | 1 => Family::Complex,
            2 | 3 => Family::ToHalf,
            4 | 5 => Family::ToReal,
            _ => return None,
        };
        Some(Self { family, forward: code & 1 == 0, is_single: code & 8 != 0 })
    }
}

/// Whether a result of this family may consist of such items; Some(true) for double precision.
pub(super) fn precision(family: Family, element: Element) -> Option<bool> {
    match (family == Family::ToReal, element) {
        (true, Element::F32) | (false, Element::C64) => Some(false),
        (true, Element::F64) | (false, Element::C128) => Some(true),
        _ => None,
    }
}

/// How results are scaled.
pub(super) fn scale_of(norm: &str, forward: bool, lengths: &[usize]) -> Option<f64> {
    let points = lengths.iter().map(|&length| length as f64).product::<f64>();
    match (norm, forward) {
        ("backward", true) | ("forward", false) => Some(1.0),
        ("backward", false) | ("forward", true) => Some(1.0 / points),
        ("ortho", _) => Some(1.0 / points.sqrt()),
        _ => None,
    }
}

/// A call of one of the functions.
pub(super) struct Call<'a, 'py> {
    pub(super) kind: Kind,
    pub(super) x: &'a Bound<'py, PyAny>,
    pub(super) s: Option<&'a Bound<'py, PyAny>>,
    pub(super) axes: Option<&'a Bound<'py, PyAny>>,
    pub(super) norm: Option<&'a Bound<'py, PyAny>>,
    pub(super) workers: Option<&'a Bound<'py, PyAny>>,
    pub(super) out: Option<&'a Bound<'py, PyAny>>,
    pub(super) dtype: Option<&'a Bound<'py, PyAny>>,
}

/// An argument that may be left out: None within None is a value that Python must look at.
pub(super) type Maybe<T> = Option<Option<T>>;

impl<'py> Call<'_, 'py> {
    /// Does what is asked for; None where Python must prepare the call.
    pub(super) fn go(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(x) = Operand::of_any(self.x) else { return Ok(None) };
        let Some((spec, scale, workers)) = self.read(py, &x) else { return Ok(None) };
        let Some(target) = Target::of(py, self.out, &spec.result_shape(), spec.output()) else { return Ok(None) };
        transform(py, &x, spec, scale, workers, target).map(Some)
    }

    fn read(&self, py: Python<'py>, x: &Operand<'_>) -> Option<(Spec, f64, Option<usize>)> {
        let Kind { family, forward, .. } = self.kind;
        let input = element_of(py, x.descr)?;
        let axes = self.axes(x.shape.len())?;
        let lengths = self.lengths(x.shape, &axes)?;
        let double = self.double(py, input)?;
        let scale = self.scale(&lengths)?.unwrap_or(if forward { 1.0 } else { scale_of("backward", false, &lengths)? });
        let spec = Spec { family, forward, input, double, shape: x.shape.to_vec(), axes, lengths };
        Some((spec, scale, self.workers()?))
    }

    /// The axes counted from 0, each once.
    fn axes(&self, ndim: usize) -> Option<Vec<usize>> {
        let axes = match (self.axes, self.s) {
            (Some(axes), _) => {
                let inside =
                    |axis: isize| if axis < 0 { axis.checked_add_unsigned(ndim)? } else { axis }.try_into().ok();
                ints(axes)?.into_iter().map(inside).collect::<Option<Vec<usize>>>()?
            }
            (None, _) if self.kind.is_single => return None,
            (None, None) => (0..ndim).collect(),
            (None, Some(s)) => (ndim.checked_sub(ints(s)?.len())?..ndim).collect(),
        };
        let is_good = |(i, axis): (usize, &usize)| *axis < ndim && !axes[..i].contains(axis);
        (!axes.is_empty() && axes.iter().enumerate().all(is_good)).then_some(axes)
    }

    /// The lengths that are asked for; None as a whole where there are none.
    pub(super) fn given_lengths(&self) -> Maybe<Vec<usize>> {
        let Some(s) = self.s else { return Some(None) };
        let lengths = ints(s)?.into_iter().map(|length| usize::try_from(length).ok().filter(|&length| length > 0));
        lengths.collect::<Option<Vec<usize>>>().map(Some)
    }

    fn lengths(&self, shape: &[usize], axes: &[usize]) -> Option<Vec<usize>> {
        let lengths = match self.given_lengths()? {
            Some(lengths) => lengths,
            None => {
                let mut lengths: Vec<usize> = axes.iter().map(|&axis| shape[axis]).collect();
                if let (Family::ToReal, Some(last)) = (self.kind.family, lengths.last_mut()) {
                    *last = last.checked_sub(1)? * 2;
                }
                lengths
            }
        };
        (lengths.len() == axes.len() && !lengths.contains(&0)).then_some(lengths)
    }

    /// The axes as they are given, for a comparison.
    pub(super) fn given_axes(&self, ndim: usize) -> Maybe<Vec<usize>> {
        if self.axes.is_none() { Some(None) } else { self.axes(ndim).map(Some) }
    }

    /// The precision of the result: what `out` or `dtype` say, else that of the input.
    pub(super) fn double(&self, py: Python<'py>, input: Element) -> Option<bool> {
        let element = match (self.out, self.dtype) {
            (None, None) => return Some(!matches!(input, Element::F32 | Element::C64)),
            (Some(out), None) => element_of(py, Operand::of_any(out)?.descr)?,
            (None, Some(dtype)) => element_of(py, NonNull::new(Dtype::of(py, Some(dtype)).ok()?.as_ptr())?)?,
            (Some(_), Some(_)) => return None,
        };
        precision(self.kind.family, element)
    }

    pub(super) fn scale(&self, lengths: &[usize]) -> Maybe<f64> {
        let Some(norm) = self.norm else { return Some(None) };
        let norm: &str = norm.extract().ok()?;
        scale_of(norm, self.kind.forward, lengths).map(Some)
    }

    pub(super) fn workers(&self) -> Maybe<usize> {
        let Some(workers) = self.workers else { return Some(None) };
        workers.extract::<usize>().ok().filter(|&workers| workers > 0).map(Some)
    }
}

/// An int, or a tuple or list of ints.
fn ints(object: &Bound<'_, PyAny>) -> Option<Vec<isize>> {
    if let Ok(tuple) = object.cast::<PyTuple>() {
        return tuple.iter_borrowed().map(|item| item.extract().ok()).collect();
    }
    if let Ok(list) = object.cast::<PyList>() {
        return list.iter().map(|item| item.extract().ok()).collect();
    }
    object.extract().ok().map(|one| vec![one])
}
