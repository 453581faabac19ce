//! An arena: one sealed memory file, mapped once by each process that takes part, carved into blocks.
//!
//! A block lives as long as somebody holds it. Each participant has one bit for each block, set with the first
//! reference in that process and cleared with the last; references inside one process are counted privately.
//! Whatever else keeps a block is a record (a [`TicketId`] names one). No count exists that a death could leave
//! wrong for good: bits are swept, records are counted anew.
//!
//! From below:
//!
//! - `word`: the protocol of one block. `control`: where every shared word lies. `spans`: the free map. `lockword`: the
//!   word of a lock. `backing`: system or heap. `ids`: names. `budget`: the sizes of a new arena. `deadline`: how long a wait
//!   lasts. `private`: what one process counts for itself. `guests`: children without a slot.
//! - `state`: the [`Arena`] itself, one process's share. `hold`: the [`Hold`], one reference to a block.
//! - `offered`: the data of another user's arena, which has no other side here.
//! - `tables`: what the tables say, for `stats`, and for `look`, a look from outside. `picture`: a copy of them at one moment.
//!   `audit`: the invariants, checked on that. `ground`: all words of the control part, for tests that write over them.
//! - `lock`: waiting for the arena's lock, and for each block's. `fork`: what a child inherits. `alloc`, `records`,
//!   `shortage`, `stats`, `outgoing`, `message`: what users ask for. `sweep`: leaving, and sweeping up after the dead. `mend`: order
//!   where nobody is left. `join`: making an arena and joining one. `lasting`: the same in a file with a path.
//!
//! A file names only files below it; this one only declares.

mod alloc;
mod audit;
mod backing;
mod budget;
mod control;
mod deadline;
mod fork;
#[cfg(any(test, feature = "fuzzing"))]
mod ground;
mod guests;
mod hold;
mod ids;
mod join;
mod lasting;
mod lock;
mod lockword;
mod look;
mod mend;
mod message;
mod offered;
mod outgoing;
mod picture;
mod private;
mod records;
mod shortage;
mod spans;
mod state;
mod stats;
mod sweep;
mod tables;
mod word;

#[cfg(all(test, not(loom)))]
mod lasting_tests;
#[cfg(all(test, not(loom)))]
mod scribble;
#[cfg(all(test, not(loom)))]
mod tests;

pub use alloc::MAX_ALIGN;
pub use budget::Options;
pub(crate) use budget::check_mode;
pub use deadline::Deadline;
pub(crate) use deadline::is_worth_a_look;
pub(crate) use fork::watch as watch_forks;
pub use hold::Hold;
pub use ids::{BlockId, Locator, TicketId};
pub(crate) use look::AnyBlock;
pub(crate) use mend::ROOT_ENTRY_WORDS;
pub(crate) use offered::{Copied, OfferedBlock, OfferedData, no_memory};
pub use state::Arena;
pub use tables::{ParticipantStats, Stats, TicketStats};

/// What the bindings call beside the public face.
mod internals {
    pub use super::audit::{Finding, Rule};
    pub use super::backing::Heap;
    pub use super::fork::{find, is_inside, left_out};
    pub use super::lasting::id_of_file;
    pub use super::lock::Reentry;
    pub use super::look::Look;
    pub use super::message::{begin_message, end_message};
    pub use super::outgoing::{BRIEFLY, Outgoing};
    pub use super::private::Judge;
    pub use super::shortage::{MARK_CACHE, Shortage, on_shortage};
}
#[cfg(not(feature = "internals"))]
pub(crate) use internals::*;
#[cfg(feature = "internals")]
pub use internals::*;
