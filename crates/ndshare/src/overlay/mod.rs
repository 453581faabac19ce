//! One piece of memory that holds one set of arrays at a time, and another set later.
//!
//! - `uses`: which fields each use has, and where: plain data, made from shapes and elements.
//! - `turns`: which use goes on, who is inside, and who waits.
//! - `memory`: [`Overlay`], the bytes under both, and arrays over the fields. `named`: overlays by name. `audit`: the
//!   invariants, from outside.
//!
//! A file names only files below it; this one only declares.

mod audit;
mod memory;
mod named;
mod turns;
mod uses;

pub use memory::{Entered, Overlay};
pub use turns::{Inside, MAX_USES, Turns};
pub use uses::{Field, Use, Uses};

/// What the command calls beside the public face.
mod internals {
    pub use super::audit::audit;
}
#[cfg(not(feature = "internals"))]
#[allow(unused_imports)]
pub(crate) use internals::*;
#[cfg(feature = "internals")]
pub use internals::*;
