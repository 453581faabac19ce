//! Fourier transforms of strided arrays: any rank, any axes, any lengths, single and double precision.
//!
//! A [`Spec`] says what is asked for and can be compared. A [`Plan`] is a spec with the engines it needs, which come
//! from a bounded cache. A plan is a list of passes: one for the last two axes by the vertical engine where that knows
//! their lengths, else one for each axis. A pass reads lines into private scratch memory, converts and pads them there,
//! transforms them, and writes them where they belong. So the input may be of any type and layout, and is never changed
//! or copied as a whole.

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
#[cfg(feature = "internals")]
pub mod vertical;
#[cfg(not(feature = "internals"))]
mod vertical;

pub use convert::Element;
pub use filter::Filter;
pub use plan::{Array, Plan};
pub use spec::{Family, Spec};
