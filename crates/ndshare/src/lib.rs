//! Memory that processes share: blocks of one arena, held by whoever uses them.
//!
//! The modules stand on floors, and a module names only modules of lower floors:
//!
//! ```text
//! error  prim      words: one error type with kinds; the only door to atomics
//! layout  varint   pure arithmetic of shape, strides and sizes; numbers as bytes
//! element          what an item is
//! kernel           byte movers on raw pointers
//! os               the only libc
//! arena  pool      header, participants, blocks, holds, tickets, sweep; threads that share a job
//! array  lock      an array inside a block, and its form on the way; locks that outlive their holder
//! session          which arena the processes of a program share
//! ring             frames from writers to readers, in one order
//! overlay          one block, several meanings, one at a time
//! registry         names for blocks
//! gather           many strided arrays into one
//! fft              Fourier transforms of strided arrays
//! cache            values by key, in a bounded memory
//! ```
//!
//! Nothing in shared memory is trusted: geometry is copied to private memory once and checked, and every index
//! read later is bounded where it is used.

#[cfg(not(loom))]
pub mod arena;
#[cfg(not(loom))]
pub mod array;
#[cfg(not(loom))]
pub mod cache;
#[cfg(all(test, not(loom)))]
mod dice;
pub mod element;
pub mod error;
#[cfg(not(loom))]
pub mod fft;
#[cfg(not(loom))]
pub mod gather;
pub mod head;
#[cfg(not(loom))]
pub mod kernel;
pub mod layout;
#[cfg(not(loom))]
pub mod lock;
#[cfg(not(loom))]
pub mod os;
#[cfg(not(loom))]
pub mod overlay;
#[cfg(not(loom))]
pub mod pool;
pub mod prim;
#[cfg(not(loom))]
pub mod registry;
#[cfg(not(loom))]
pub mod ring;
#[cfg(not(loom))]
pub mod session;
pub mod varint;

pub use error::{Error, Kind, Result};
pub use os::kill::{KILL_POINTS, kill_at, stop_at};
#[cfg(not(loom))]
pub use session::session;

/// Computes now what is computed once in a process and then kept.
///
/// Otherwise the first call does so; and where another thread forks just then, the child has a computation that nobody
/// will end, and waits for it.
#[cfg(not(loom))]
pub fn warm_up() {
    kernel::warm_up();
    // A variable that says nonsense is an error of the first call that needs it.
    let _ = gather::stream_from();
    let _ = os::cpu::last_cache_bytes();
    let _ = os::limits::memory_limit();
    // What fails here is an error of the first call that needs a session.
    let _ = session::warm_up();
}

// A model needs only the algorithms: what maps memory or calls the system has no place in it.
#[cfg(loom)]
mod arena {
    mod lockword;
    mod word;
}
#[cfg(loom)]
mod os {
    pub mod kill;
}
#[cfg(loom)]
mod ring {
    mod protocol;
}
