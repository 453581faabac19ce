//! What is asked for.

use super::convert::Element;
use crate::error::{Error, Kind, Result};

/// From which numbers to which a transform goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Complex to complex; a real input counts as complex.
    Complex,
    /// Real to the half of its spectrum.
    ToHalf,
    /// From the half of a Hermitian spectrum to real.
    ToReal,
}

/// A transform as plain data.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Spec {
    /// From what to what.
    pub family: Family,
    /// The sign of the exponent is negative.
    pub forward: bool,
    /// The items of the input.
    pub input: Element,
    /// Whether the result has double precision.
    pub double: bool,
    /// The shape of the input.
    pub shape: Vec<usize>,
    /// The axes to be transformed, each once. The last is the one that is halved.
    pub axes: Vec<usize>,
    /// The length of the transform along each of them; input is cropped or padded to that. For the last axis of
    /// [`Family::ToReal`] it is the length of the result.
    pub lengths: Vec<usize>,
}

impl Spec {
    /// Looks whether such a transform is possible.
    ///
    /// # Errors
    /// `InvalidValue` for axes that are not there or there twice, and for lengths of 0; `InvalidType` for complex
    /// input where it must be real.
    pub fn check(&self) -> Result<()> {
        let is_axis = |&axis: &usize| axis < self.shape.len();
        let is_single = self.axes.iter().enumerate().all(|(i, axis)| !self.axes[..i].contains(axis));
        if !self.axes.iter().all(is_axis) || !is_single {
            let (axes, ndim) = (&self.axes, self.shape.len());
            return Err(Error::value(format!("expected different axes of {ndim} dimensions, got {axes:?}")));
        }
        if self.axes.is_empty() || self.axes.len() != self.lengths.len() || self.lengths.contains(&0) {
            let (axes, lengths) = (self.axes.len(), &self.lengths);
            return Err(Error::value(format!(
                "expected one length of 1 or more for each of {axes} axes, got {lengths:?}"
            )));
        }
        if self.family == Family::ToHalf && self.input.is_complex() {
            return Err(Error::new(Kind::InvalidType, "x must be a real sequence"));
        }
        Ok(())
    }

    /// The items of the result.
    pub fn output(&self) -> Element {
        Element::of_result(self.family != Family::ToReal, self.double)
    }

    /// The shape of the result.
    pub fn result_shape(&self) -> Vec<usize> {
        let mut shape = self.shape.clone();
        self.axes.iter().zip(&self.lengths).for_each(|(&axis, &length)| shape[axis] = length);
        if let (Family::ToHalf, Some(&last)) = (self.family, self.axes.last()) {
            shape[last] = shape[last] / 2 + 1;
        }
        shape
    }

    /// Points of the transform: how much work it is.
    pub fn points(&self) -> usize {
        let of_axis = |axis| {
            let place = self.axes.iter().position(|&other| other == axis);
            place.map_or(self.shape[axis], |place| self.lengths[place])
        };
        (0..self.shape.len()).map(of_axis).fold(1, usize::saturating_mul)
    }
}
