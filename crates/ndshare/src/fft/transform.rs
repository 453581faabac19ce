//! The transforms by name, and SciPy's rules for their axes and lengths.
//!
//! Errors are in SciPy's words: Python's users look for those.

use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

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

impl Family {
    /// What it does, in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Complex => "complex",
            Self::ToHalf => "to half",
            Self::ToReal => "to real",
        }
    }

    /// The shape of a result, from the shape of the input, and axes and lengths as [`Transform::extent`] gives them.
    pub fn result_shape(self, shape: &[usize], axes: &[usize], lengths: &[usize]) -> Vec<usize> {
        let mut shape = shape.to_vec();
        axes.iter().zip(lengths).for_each(|(&axis, &length)| shape[axis] = length);
        if let (Self::ToHalf, Some(&last)) = (self, axes.last()) {
            shape[last] = shape[last] / 2 + 1;
        }
        shape
    }
}

/// How many axes a transform has by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Rank {
    One,
    Two,
    Any,
}

/// The table of transforms: everything that is said of one is said here.
macro_rules! transforms {
    ($($(#[$doc:meta])* $name:ident $text:literal $family:ident $forward:literal $rank:ident;)*) => {
        /// Which transform, by SciPy's names.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Transform {
            $($(#[$doc])* $name,)*
        }

        impl Transform {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// SciPy's name: `"rfft2"`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// From what to what.
            pub const fn family(self) -> Family {
                match self { $(Self::$name => Family::$family),* }
            }

            /// Whether the sign of the exponent is negative.
            pub const fn is_forward(self) -> bool {
                match self { $(Self::$name => $forward),* }
            }

            const fn rank(self) -> Rank {
                match self { $(Self::$name => Rank::$rank),* }
            }
        }
    };
}

transforms! {
    /// Complex to complex along one axis.
    Fft "fft" Complex true One;
    /// The inverse of `Fft`.
    Ifft "ifft" Complex false One;
    /// Real to the half of its spectrum along one axis.
    Rfft "rfft" ToHalf true One;
    /// The inverse of `Rfft`.
    Irfft "irfft" ToReal false One;
    /// From the half of what has Hermitian symmetry to its real spectrum, along one axis.
    Hfft "hfft" ToReal true One;
    /// The inverse of `Hfft`.
    Ihfft "ihfft" ToHalf false One;
    /// As `Fft`, along two axes.
    Fft2 "fft2" Complex true Two;
    /// As `Ifft`, along two axes.
    Ifft2 "ifft2" Complex false Two;
    /// As `Rfft`, along two axes, of which the last is halved.
    Rfft2 "rfft2" ToHalf true Two;
    /// As `Irfft`, along two axes, of which the last is halved.
    Irfft2 "irfft2" ToReal false Two;
    /// As `Hfft`, along two axes, of which the last is halved.
    Hfft2 "hfft2" ToReal true Two;
    /// As `Ihfft`, along two axes, of which the last is halved.
    Ihfft2 "ihfft2" ToHalf false Two;
    /// As `Fft`, along any axes.
    Fftn "fftn" Complex true Any;
    /// As `Ifft`, along any axes.
    Ifftn "ifftn" Complex false Any;
    /// As `Rfft`, along any axes, of which the last is halved.
    Rfftn "rfftn" ToHalf true Any;
    /// As `Irfft`, along any axes, of which the last is halved.
    Irfftn "irfftn" ToReal false Any;
    /// As `Hfft`, along any axes, of which the last is halved.
    Hfftn "hfftn" ToReal true Any;
    /// As `Ihfft`, along any axes, of which the last is halved.
    Ihfftn "ihfftn" ToHalf false Any;
}

/// Which axes are transformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Axes<'a> {
    /// Those of the transform's name: the last, the last two, or all.
    #[default]
    Usual,
    /// All, or as many of the last ones as lengths are given: what `axes=None` means in Python.
    All,
    /// These, each once; negative numbers count from the end. The last is the one that is halved.
    These(&'a [isize]),
}

/// How results are scaled, for n points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Norm {
    /// Inverse transforms by 1/n.
    #[default]
    Backward,
    /// All by 1/sqrt(n).
    Ortho,
    /// Forward transforms by 1/n.
    Forward,
}

impl Norm {
    /// SciPy's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Backward => "backward",
            Self::Ortho => "ortho",
            Self::Forward => "forward",
        }
    }

    /// What the results of a transform of so many points are multiplied by.
    pub(super) fn scale(self, is_forward: bool, points: f64) -> f64 {
        match (self, is_forward) {
            (Self::Backward, true) | (Self::Forward, false) => 1.0,
            (Self::Backward, false) | (Self::Forward, true) => 1.0 / points,
            (Self::Ortho, _) => 1.0 / points.sqrt(),
        }
    }
}

impl FromStr for Norm {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "backward" => Ok(Self::Backward),
            "ortho" => Ok(Self::Ortho),
            "forward" => Ok(Self::Forward),
            _ => Err(Error::value(format!(
                "Invalid norm value {text:?}, should be \"backward\", \"ortho\" or \"forward\""
            ))),
        }
    }
}

impl FromStr for Transform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.iter().copied().find(|transform| transform.name() == text);
        found.ok_or_else(|| Error::value(format!("expected the name of a transform such as \"rfft2\", got {text:?}")))
    }
}

impl fmt::Display for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Transform {
    /// Whether it has one axis, as `fft` has.
    pub fn is_single(self) -> bool {
        self.rank() == Rank::One
    }

    /// The axes that are transformed, counted from 0, and the length of the transform along each, by SciPy's rules:
    ///
    /// - without lengths, an axis is as long as it is, and the halved axis of a real result twice that less 2;
    /// - with `Axes::All`, lengths are those of the last axes;
    /// - a length of -1 is that of the array, where a transform may have several axes.
    ///
    /// No axes are possible where the transform may have several.
    ///
    /// # Errors
    /// `InvalidValue`, in SciPy's words, for axes that are not there or there twice, for too many lengths, and for
    /// lengths below 1.
    pub fn extent(
        self,
        shape: &[usize],
        axes: Axes<'_>,
        lengths: Option<&[isize]>,
    ) -> Result<(Vec<usize>, Vec<usize>)> {
        let axes = match (axes, self.rank()) {
            (Axes::These(axes), _) => Some(axes),
            (_, Rank::One) => Some(&[-1][..]),
            (Axes::Usual, Rank::Two) => Some(&[-2, -1][..]),
            (Axes::All, _) | (_, Rank::Any) => None,
        };
        match axes {
            Some(&[axis]) if self.is_single() => self.one_axis(shape, axis, lengths),
            Some(axes) if self.is_single() => Err(Error::value(format!("expected one axis for {self}, got {axes:?}"))),
            axes => self.several_axes(shape, axes, lengths),
        }
    }

    fn one_axis(self, shape: &[usize], axis: isize, lengths: Option<&[isize]>) -> Result<(Vec<usize>, Vec<usize>)> {
        let is_real = self.family() == Family::ToReal;
        let given = match lengths {
            None => None,
            Some(&[length]) => Some(length),
            Some(lengths) => return Err(Error::value(format!("expected one length for {self}, got {lengths:?}"))),
        };
        if let Some(length) = given {
            // A half-spectrum of n / 2 + 1 numbers. One number alone, for n = 0, is that of a single point.
            let taken = if is_real { length.div_euclid(2) + 1 } else { length };
            if taken < 1 {
                return Err(Error::value(format!("invalid number of data points ({taken}) specified")));
            }
        }
        let axis = place(axis, shape.len())?;
        let there = shape[axis].cast_signed();
        let length = given.unwrap_or(if is_real { 2 * (there - 1) } else { there });
        if given.is_none() && length < 1 {
            let word = if is_real { "Invalid" } else { "invalid" };
            return Err(Error::value(format!("{word} number of data points ({length}) specified")));
        }
        Ok((vec![axis], vec![length.max(1).unsigned_abs()]))
    }

    fn several_axes(
        self,
        shape: &[usize],
        axes: Option<&[isize]>,
        lengths: Option<&[isize]>,
    ) -> Result<(Vec<usize>, Vec<usize>)> {
        let ndim = shape.len();
        let mut places = match axes {
            None => (0..ndim).collect(),
            Some(axes) => axes.iter().map(|&axis| place(axis, ndim)).collect::<Result<Vec<usize>>>()?,
        };
        if places.iter().enumerate().any(|(i, axis)| places[..i].contains(axis)) {
            return Err(Error::value("all axes must be unique"));
        }
        let Some(given) = lengths else {
            let mut lengths: Vec<usize> = places.iter().map(|&axis| shape[axis]).collect();
            check_lengths(&lengths, |&length| length > 0)?;
            if let (Family::ToReal, Some(last)) = (self.family(), lengths.last_mut()) {
                // One number alone is the half-spectrum of a single point.
                *last = (2 * (*last - 1)).max(1);
            }
            return Ok((places, lengths));
        };
        if axes.is_some() && !places.is_empty() && places.len() != given.len() {
            return Err(Error::value("when given, axes and shape arguments have to be of the same length"));
        }
        if axes.is_none() && given.len() > ndim {
            return Err(Error::value("shape requires more axes than are present"));
        }
        places.drain(..places.len().saturating_sub(given.len()));
        // With axes that are none, no length counts.
        let of_array = |axis: usize| shape[axis].cast_signed();
        let whole = |(&axis, &length): (&usize, &isize)| if length == -1 { of_array(axis) } else { length };
        let lengths: Vec<isize> = places.iter().zip(given).map(whole).collect();
        check_lengths(&lengths, |&length| length > 0)?;
        Ok((places, lengths.into_iter().map(isize::unsigned_abs).collect()))
    }
}

fn check_lengths<T: fmt::Debug>(lengths: &[T], is_good: impl Fn(&T) -> bool) -> Result<()> {
    if lengths.iter().all(is_good) {
        return Ok(());
    }
    Err(Error::value(format!("invalid number of data points ({lengths:?}) specified")))
}

/// An axis counted from 0.
fn place(axis: isize, ndim: usize) -> Result<usize> {
    let from_start = if axis < 0 { axis.checked_add_unsigned(ndim) } else { Some(axis) };
    let place = from_start.and_then(|axis| usize::try_from(axis).ok()).filter(|&axis| axis < ndim);
    place.ok_or_else(|| Error::value("axes exceeds dimensionality of input"))
}
