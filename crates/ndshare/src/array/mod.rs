//! Arrays in shared memory: numbers with a shape, in a block that processes hold together.
//!
//! An [`Array`] is a hold on a block, an offset, a [`Layout`] and an [`Element`]. A [`Token`] is an array on its way to
//! another process.

mod access;
mod card;
mod description;
mod item;
mod kept;
mod ndarray;
mod token;

#[cfg(all(test, not(loom)))]
mod tests;

pub use crate::element::Element;
pub use crate::layout::{Index, Layout};
pub use access::Cells;
pub(crate) use access::items_in;
pub(crate) use card::{make_card, read_card};
pub use item::Item;
pub(crate) use kept::{KeptKind, OWN_WORDS_AT};
pub use ndarray::{ALIGN, Array};
pub use token::Token;

/// What the bindings call beside the public face.
mod internals {
    pub use super::description::Description;
}
#[cfg(not(feature = "internals"))]
pub(crate) use internals::*;
#[cfg(feature = "internals")]
pub use internals::*;
