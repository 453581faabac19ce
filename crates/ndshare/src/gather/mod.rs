//! Many strided arrays into one: `concatenate`, `stack`, `block` and `copy`, and canvases that are filled over and over.
//!
//! A `Joint` says from shapes alone how arrays fit together, and what goes where. A `CopyPlan` says for each pair of
//! source and place which bytes go together, and for all of them which kernel moves them, with which stores, cut into
//! which pieces for how many workers. Both are plain data: they know no addresses, so they can be compared, tested, and
//! used again. `execute` takes a plan and the addresses. The order is tile by tile: measured better than row by row,
//! because the source is then read from its beginning to its end.
//!
//! Users have safe functions on arrays: [`concatenate`], [`stack`], [`block`], [`copy`], and [`Canvas`]. The rest is what
//! they, and the bindings for other languages, are made of.

mod arrays;
mod canvas;
mod casting;
mod copies;
mod execute;
mod joint;
mod montage;
mod nested;
mod plan;
mod recent;
mod settings;
mod small;
mod strided;
mod surface;
mod tiles;

#[cfg(all(test, not(loom)))]
mod array_tests;
#[cfg(all(test, not(loom)))]
mod tests;

pub use arrays::{Blocks, Options, block, block_along, concatenate, copy, stack};
pub use canvas::{Canvas, Source};
pub use casting::Casting;
pub use settings::{set_stream_from, stream_from};

/// What the bindings call beside the public face.
mod internals {
    pub use super::casting::{common_element, conversion, promoted};
    pub use super::copies::{Batch, Copies};
    pub use super::execute::{Ends, execute};
    pub use super::joint::{Joint, Placement, axes_of, axis_of, broadcast};
    pub use super::montage::{Montage, Part, Rows, Start, Strip};
    pub use super::nested::Nested;
    pub use super::plan::{Axis, Block, CopyPlan, Mover, Nest, Planner};
    pub use super::settings::Settings;
    pub use super::small::{Pair, SMALL_BYTES};
    pub use super::strided::{Strided, View};
    pub use super::surface::{Filling, Surface, head_of};
    pub use super::tiles::{Draft, Mark, Tile, Tiles};
}
#[cfg(not(feature = "internals"))]
pub(crate) use internals::*;
#[cfg(feature = "internals")]
pub use internals::*;
