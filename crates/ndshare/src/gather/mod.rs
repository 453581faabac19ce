//! Many strided arrays into one: concatenate, stack, block and copyto are lists of pairs of equal shape.
//!
//! A [`Plan`] is plain data. It says for each pair which bytes go together, and for all of them which kernel moves
//! them, with which stores, cut into which pieces for how many workers. It knows no addresses, so it can be compared,
//! tested, and used again. [`execute`] takes a plan and the addresses. The order is tile by tile: measured better
//! than row by row, because the source is then read from its beginning to its end.

mod execute;
mod plan;
mod recent;
mod settings;
mod small;

#[cfg(all(test, not(loom)))]
mod tests;

pub use execute::{Ends, execute};
pub use plan::{Axis, Block, Mover, Nest, Plan, Planner};
pub use settings::{Settings, set_stream_from, stream_from};
pub use small::{Pair, SMALL_BYTES};
