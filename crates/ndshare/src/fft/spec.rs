//! What is asked for.

use super::convert;
use super::transform::{Axes, Family, Norm, Transform};
use crate::element::Number;
use crate::error::{Error, Kind, Result};

/// What may be said of a transform beside its name; the default is what SciPy does without arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options<'a> {
    /// Which axes are transformed.
    pub axes: Axes<'a>,
    /// The length of the transform along each of them. Input is cropped or padded with zeros, at its end, to that. Where
    /// the result is real it is, for the last axis, the length of the result. -1 is what the array has.
    pub lengths: Option<&'a [isize]>,
    /// How results are scaled.
    pub norm: Norm,
    /// The items of the result: `C64` or `C128`, or `F32` or `F64` where it is real. None is single precision for input
    /// in single precision, and double for all other.
    pub result: Option<Number>,
}

/// A transform as plain data. Two are equal when they do the same.
///
/// ```
/// use ndshare::element::Number;
/// use ndshare::fft::{Axes, Norm, Options, Spec, Transform};
///
/// # fn main() -> ndshare::Result<()> {
/// let spec = Spec::new(Transform::Rfft2, &[1080, 1920], Number::U16, &Options::default())?;
/// assert_eq!((spec.result_shape(), spec.output()), (vec![1080, 961], Number::C128));
/// // As `irfft(x, n=100, axis=0, norm="ortho")` in Python, and in single precision:
/// let options = Options {
///     axes: Axes::These(&[0]),
///     lengths: Some(&[100]),
///     norm: "ortho".parse()?,
///     result: Some(Number::F32),
/// };
/// let spec = Spec::new(Transform::Irfft, &[51, 3], Number::C128, &options)?;
/// assert_eq!((spec.result_shape(), spec.norm()), (vec![100, 3], Norm::Ortho));
/// // Errors are SciPy's:
/// let error = Spec::new(Transform::Rfft, &[8], Number::C64, &Options::default()).unwrap_err();
/// assert_eq!(error.to_string(), "x must be a real sequence");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Spec {
    pub(super) family: Family,
    /// The sign of the exponent is negative.
    pub(super) forward: bool,
    /// The items of the input.
    pub(super) input: Number,
    /// Whether the result has double precision.
    pub(super) double: bool,
    /// The shape of the input.
    pub(super) shape: Vec<usize>,
    /// The axes to be transformed, each once, at least one. The last is the one that is halved.
    pub(super) axes: Vec<usize>,
    /// The length of the transform along each of them, 1 or more.
    pub(super) lengths: Vec<usize>,
    pub(super) norm: Norm,
}

impl Spec {
    /// The transform of arrays of a shape and type.
    ///
    /// # Errors
    /// `InvalidValue` as [`Transform::extent`], and where there is no axis; `InvalidType` for complex input where it must
    /// be real, for input that no transform reads, and for a result that the transform does not have.
    pub fn new(transform: Transform, shape: &[usize], input: Number, options: &Options<'_>) -> Result<Self> {
        let family = transform.family();
        if !convert::is_readable(input) {
            return Err(Error::new(
                Kind::InvalidType,
                format!(
                    "expected integers, or numbers of single or double precision, got {}: convert them first",
                    input.name()
                ),
            ));
        }
        if family == Family::ToHalf && input.is_complex() {
            return Err(Error::new(Kind::InvalidType, "x must be a real sequence"));
        }
        let (axes, lengths) = transform.extent(shape, options.axes, options.lengths)?;
        if axes.is_empty() {
            return Err(Error::value("at least 1 axis must be transformed"));
        }
        let double = is_double(transform, input, options.result)?;
        let (forward, norm) = (transform.is_forward(), options.norm);
        Ok(Self { family, forward, input, double, shape: shape.to_vec(), axes, lengths, norm })
    }

    /// The items of the input.
    pub fn input(&self) -> Number {
        self.input
    }

    /// Whether it reads such items; booleans are read as bytes.
    pub fn reads(&self, number: Number) -> bool {
        let plain = |number| if number == Number::Bool { Number::U8 } else { number };
        plain(number) == plain(self.input)
    }

    /// Whether it does the same as another: booleans are read as bytes.
    pub fn does_as(&self, other: &Self) -> bool {
        self.reads(other.input) && Self { input: other.input, ..self.clone() } == *other
    }

    /// The items of the result.
    pub fn output(&self) -> Number {
        result_number(self.family != Family::ToReal, self.double)
    }

    /// The shape of the input.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The axes that are transformed, counted from 0.
    pub fn axes(&self) -> &[usize] {
        &self.axes
    }

    /// The length of the transform along each of them.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// How results are scaled.
    pub fn norm(&self) -> Norm {
        self.norm
    }

    /// The shape of the result.
    pub fn result_shape(&self) -> Vec<usize> {
        self.family.result_shape(&self.shape, &self.axes, &self.lengths)
    }

    /// Points of the transform: how much work it is.
    pub fn points(&self) -> usize {
        let of_axis = |axis| {
            let found = self.axes.iter().position(|&other| other == axis);
            found.map_or(self.shape[axis], |found| self.lengths[found])
        };
        (0..self.shape.len()).map(of_axis).fold(1, usize::saturating_mul)
    }

    /// What results are multiplied by.
    pub(super) fn scale(&self) -> f64 {
        self.norm.scale(self.forward, self.lengths.iter().map(|&length| length as f64).product())
    }
}

/// What a result of such a kind consists of.
pub(super) fn result_number(is_complex: bool, is_double: bool) -> Number {
    match (is_complex, is_double) {
        (false, false) => Number::F32,
        (false, true) => Number::F64,
        (true, false) => Number::C64,
        (true, true) => Number::C128,
    }
}

fn is_double(transform: Transform, input: Number, result: Option<Number>) -> Result<bool> {
    let Some(result) = result else { return Ok(!matches!(input, Number::F32 | Number::C64)) };
    let possible = [false, true].map(|double| result_number(transform.family() != Family::ToReal, double));
    let found = possible.iter().position(|&number| number == result);
    found.map(|found| found == 1).ok_or_else(|| {
        let (names, got) = (possible.map(Number::name).join(" or "), result.name());
        Error::new(
            Kind::InvalidType,
            format!("expected the dtype of the result of {transform} to be {names}, got {got}"),
        )
    })
}
