//! Arrays that processes share: aligned, in memory that outlives any of them, without a daemon.
//!
//! A process makes an array and hands it to any other by reference: a few dozen bytes, however large it is. Nothing is
//! copied, nothing is left behind when processes are killed, and Python's `ndshare` package is on the same bytes.
//!
//! ```
//! use ndshare::arena::Deadline;
//! use ndshare::array::{Array, Token};
//! use ndshare::element::Number;
//! use ndshare::ring::{Content, Format, Mode, Ring, Start, WhenFull};
//!
//! # fn main() -> ndshare::Result<()> {
//! let forever = Deadline::never();
//! // The memory of this program and of all that it starts; see `session` for how others join.
//! let arena = ndshare::session()?;
//! let image = Array::zeros(&arena, &[1080, 1920], Number::U16)?;
//! image.view(&[(10..20).into()])?.fill(500_u16)?;
//! // A text for another process, in Rust (`session::open`) or Python (`nds.ref(text).open()`):
//! let text = ndshare::session::reference(&image).to_string();
//! let same = ndshare::session::open(&text.parse::<Token>()?, &forever)?;
//! assert_eq!(same.read::<u16>(&[15, 7])?, 500);
//! // Frames from any number of writers to any number of readers, in one order:
//! let ring = Ring::new(&arena, Format::new(&[1080, 1920], Number::U16), 4, 0, WhenFull::Wait, &forever)?;
//! let reader = ring.reader(Mode::Every, Start::Next, &forever)?;
//! let mut frame = ring.begin_own(&forever)?;
//! frame.array()?.copy_from(&image)?;
//! frame.publish(Content::default(), &forever)?;
//! assert_eq!(reader.get(&forever)?.array()?.shape(), [1080, 1920]);
//! # Ok(())
//! # }
//! ```
//!
//! # Start here
//!
//! - [`array::Array`]: what most programs want; [`element::Element`]: what its items are.
//! - [`session()`]: the memory that a program and its children share; [`arena::Arena`]: memory of one's own.
//! - [`ring::Ring`]: frames from a camera to whoever looks. [`cache::Cache`]: values by key, bounded.
//! - [`gather::concatenate`]: many arrays into one; [`gather::Canvas`]: over and over, and only what changed.
//! - Programs to run: `examples/camera.rs` writes frames that Python reads, `examples/viewer.rs` reads those of Python,
//!   `examples/session.rs` shares an array with it, `examples/tiles.rs` a cache, `examples/montage.rs` copies a hundred
//!   images into one.
//!
//! Linux on x86-64 and aarch64. Any process may be killed at any instant; others of the same user are trusted not to mean
//! harm, but not to be without faults: numbers in shared memory are checked, and a peer that writes over it makes errors.
//!
//! # How it is built
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
//! malloc           blocks for code that keeps addresses
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
pub mod malloc;
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
    mod claim;
    mod protocol;
}
