//! Fourier transforms of strided arrays: any rank, any axes, any lengths, single and double precision.
//!
//! The functions have SciPy's names and give new arrays. A [`Spec`] says what is asked for, as SciPy's arguments do, and
//! can be compared. A [`Plan`] is a spec with the engines it needs, which come from a bounded cache; it transforms many
//! arrays of one shape, without allocating. A [`Filter`] is a transform, a product and the way back in one go.
//!
//! A plan is a list of passes: one for the last two axes by the vertical engine where that knows their lengths, else one
//! for each axis. A pass reads lines into private scratch memory, converts and pads them there, transforms them, and
//! writes them where they belong. So the input may be of any type and layout, and is never changed or copied as a whole.
//!
//! ```
//! use ndshare::arena::{Arena, Options};
//! use ndshare::array::Array;
//! use ndshare::element::Number;
//! use ndshare::fft::{self, Axes, Transform};
//!
//! # fn main() -> ndshare::Result<()> {
//! let arena = Arena::create(&Options { budget_bytes: Some(1 << 20), ..Options::default() })?;
//! let frame = Array::zeros(&arena, &[12, 20], Number::U16)?;
//! frame.fill(3_u16)?;
//! assert_eq!(fft::rfft2(&frame)?.shape(), [12, 11]);
//! // With what SciPy has arguments for:
//! let options = fft::Options { axes: Axes::These(&[0]), result: Some(Number::C64), ..fft::Options::default() };
//! let spectrum = options.transform(Transform::Fft, &frame)?;
//! assert_eq!((spectrum.shape(), spectrum.element().name().as_str()), (&[12, 20][..], "complex64"));
//! # Ok(())
//! # }
//! ```

mod arrays;
mod cache;
mod convert;
mod engines;
mod fast;
mod filter;
mod line;
mod pass;
mod plan;
mod short;
mod spec;
#[cfg(test)]
mod tests;
mod transform;
#[cfg(feature = "internals")]
pub mod vertical;
#[cfg(not(feature = "internals"))]
mod vertical;

pub use arrays::{
    fft, fft2, fftn, hfft, hfft2, hfftn, ifft, ifft2, ifftn, ihfft, ihfft2, ihfftn, irfft, irfft2, irfftn, rfft, rfft2,
    rfftn,
};
pub use convert::is_readable;
pub use filter::Filter;
pub use plan::{Plan, RawArray};
pub use spec::{Options, Spec};
pub use transform::{Axes, Family, Norm, Transform};

use crate::os::cpu;

/// Looks now at what is looked at once in a process, and registers what is done at forks. A variable that says nonsense is
/// an error of the first transform.
pub(crate) fn warm_up() {
    engines::watch_forks();
    let _ = vertical::AxisOrder::asked();
    let _ = (cpu::first_cache_bytes(), cpu::second_cache_bytes());
}
