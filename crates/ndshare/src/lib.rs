//! Arrays that processes share: aligned, in memory that outlives any of them, without a daemon.
//!
//! A process makes an array and hands it to any other by reference: a few dozen bytes, however large it is. Nothing is
//! copied, nothing is left behind when processes are killed, and Python's `ndshare` package is on the same bytes.
//!
//! ```
//! use ndshare::ring::{Content, Format, Mode, RingOptions, Start};
//! use ndshare::{Array, Deadline, Number, Ring, session};
//!
//! # fn main() -> ndshare::Result<()> {
//! let forever = Deadline::never();
//! // The memory of this program and of all that it starts; see `session` for how others join.
//! let arena = session()?;
//! let image = Array::zeros(&arena, &[1080, 1920], Number::U16)?;
//! image.view(&[(10..20).into()])?.fill(500_u16)?;
//! // A text for another process, in Rust or Python (`nds.ref(text).open()`):
//! let text = image.reference().to_string();
//! let same = Array::open_reference(&text.parse()?, &forever)?;
//! assert_eq!(same.read::<u16>(&[15, 7])?, 500);
//! // Frames from any number of writers to any number of readers, in one order:
//! let ring = Ring::new(&arena, Format::new(&[1080, 1920], Number::U16), RingOptions::slots(4), &forever)?;
//! let reader = ring.reader(Mode::Every, Start::Next, &forever)?;
//! let mut frame = ring.begin_own(&forever)?;
//! frame.array()?.copy_from(&image)?;
//! frame.publish(Content::default(), &forever)?;
//! assert_eq!(reader.get(&forever)?.array()?.shape(), [1080, 1920]);
//! # Ok(())
//! # }
//! ```
//!
//! A program depends on this folder by its path in `Cargo.toml`, `ndshare = { path = "ndshare/crates/ndshare" }`.
//!
//! # Start here
//!
//! - [`Array`]: what most programs want; [`Element`]: what its items are.
//! - [`session()`]: the memory that a program and its children share, a [`Session`]; [`Arena`]: memory of one's own.
//! - [`Ring`]: frames from a camera to whoever looks. [`Cache`]: values by key, bounded.
//! - [`gather::concatenate`]: many arrays into one; [`Canvas`]: over and over, and only what changed. [`fft`]:
//!   transforms.
//! - [`Lock`] and [`Locked`]: locks that outlive their holder. [`Overlay`]: one memory, several meanings, one at a time.
//! - [`names`]: what programs without a parent in common publish for each other, and find.
//! - [`Deadline`]: how long a call may wait, and what ends it early. [`Error`]: what went wrong, as data and as a
//!   sentence.
//! - [`Token`]: a reference on its way. What has a `reference()`, an [`Array`], a [`Ring`], a [`Reader`], a
//!   [`Writer`], a [`Cache`], a [`Canvas`], an [`Overlay`] or a [`Lock`], is opened in another process by `open_reference`.
//! - Programs to run: `examples/camera.rs` writes frames that Python reads, `examples/viewer.rs` reads those of Python,
//!   `examples/names.rs` does both with a ring that is found by name, `examples/session.rs` shares an array with
//!   Python, `examples/tiles.rs` a cache, `examples/montage.rs` copies a hundred images into one.
//!
//! Linux on x86-64 and aarch64. Any process may be killed at any instant; others of the same user are trusted not to
//! mean harm, but not to be without faults: numbers in shared memory are checked, and a peer that writes over it makes
//! errors.
//!
//! # Who comes first
//!
//! A ring holds its writers back for the readers that there are, and for nobody else:
//! [`WhenFull::Wait`](ring::WhenFull::Wait) without a reader waits for none, and the frames are gone. A reader counts
//! from its creation. So make it *before* the first frame, and send it to the process that is to read; it need not run
//! yet. A [`Writer`] is sent in the same way, and the stream does not end before it was closed.
//!
//! ```no_run
//! use ndshare::ring::{Content, Format, Mode, RingOptions, Start};
//! use ndshare::{Deadline, Number, Ring, session};
//! use std::process::Command;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let forever = Deadline::never();
//! let ring = Ring::new(session()?, Format::new(&[480, 640], Number::U16), RingOptions::slots(8), &forever)?;
//! let reader = ring.reader(Mode::Every, Start::Next, &forever)?;
//! let (name, value) = session()?.environment();
//! let mut viewer = Command::new("viewer").arg(reader.reference()?.to_string()).env(name, value).spawn()?;
//! for number in 0..100_u16 {
//!     let mut frame = ring.begin_own(&forever)?; // waits when the viewer is eight frames behind
//!     frame.array()?.fill(number)?;
//!     frame.publish(Content::default(), &forever)?;
//! }
//! ring.close(&forever)?; // the viewer gets what is there, and then the end
//! viewer.wait()?;
//! # Ok(())
//! # }
//! ```
//!
//! The other side opens it, and reads until the end, which is an error of its own, [`Kind::Closed`]:
//!
//! ```no_run
//! use ndshare::{Deadline, Kind, Reader};
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let text = std::env::args().nth(1).ok_or("expected a reference")?;
//! let reader = Reader::open_reference(&text.parse()?, &Deadline::never())?;
//! loop {
//!     match reader.get(&Deadline::after(Duration::from_secs(1))) {
//!         Ok(frame) => println!("{} {:?}", frame.seq, frame.array()?.shape()),
//!         Err(error) if error.kind() == Kind::Closed => break, // all was read
//!         Err(error) if error.kind() == Kind::Empty => println!("nothing for a second"),
//!         Err(error) => return Err(error.into()), // `WriterDied`: the writer was killed, and has not closed
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # How it is built
//!
//! The modules stand on floors, and a module names only modules of lower floors:
//!
//! ```text
//! error  prim      one error type, with data; the only door to atomics, and a private lock
//! layout  varint   pure arithmetic of shape, strides and sizes; numbers as bytes
//! element          what an item is
//! kernel           byte movers on raw pointers
//! os               the only libc
//! arena  pool      header, participants, blocks, holds, tickets, sweep; threads that share a job
//! array  lock      an array inside a block, and its form on the way; locks that outlive their holder
//! malloc           blocks for code that keeps addresses
//! session          which arena the processes of a program share
//! registry         names for objects, within an arena
//! ring             frames from writers to readers, in one order
//! overlay          one block, several meanings, one at a time
//! gather           many strided arrays into one
//! fft              Fourier transforms of strided arrays
//! cache            values by key, in a bounded memory
//! names            names for objects, for programs without a parent in common
//! ```
//!
//! What only the bindings for other languages, the command line and the benchmarks call is behind the feature
//! `internals`; it may change with any version.
//!
//! Nothing in shared memory is trusted: geometry is copied to private memory once and checked, and every index
//! read later is bounded where it is used.

// Without the feature `internals` much of what the bindings call is called by nobody. Everything is checked with it.
#![cfg_attr(not(feature = "internals"), allow(dead_code, unused_imports, clippy::wrong_self_convention))]

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
#[cfg(all(any(test, feature = "fuzzing"), not(loom)))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(not(loom))]
pub mod gather;
#[cfg(not(loom))]
pub mod lock;
#[cfg(not(loom))]
pub mod names;
#[cfg(not(loom))]
pub mod overlay;
#[cfg(not(loom))]
pub mod ring;
#[cfg(all(test, not(loom)))]
mod scribble;
#[cfg(not(loom))]
pub mod session;

#[cfg(feature = "internals")]
pub mod head;
#[cfg(not(feature = "internals"))]
mod head;
#[cfg(all(feature = "internals", not(loom)))]
pub mod kernel;
#[cfg(not(any(feature = "internals", loom)))]
mod kernel;
#[cfg(feature = "internals")]
pub mod layout;
#[cfg(not(feature = "internals"))]
mod layout;
#[cfg(all(feature = "internals", not(loom)))]
pub mod malloc;
#[cfg(not(any(feature = "internals", loom)))]
mod malloc;
#[cfg(all(feature = "internals", not(loom)))]
pub mod os;
#[cfg(not(any(feature = "internals", loom)))]
mod os;
#[cfg(all(feature = "internals", not(loom)))]
pub mod pool;
#[cfg(not(any(feature = "internals", loom)))]
mod pool;
#[cfg(feature = "internals")]
pub mod prim;
#[cfg(not(feature = "internals"))]
mod prim;
#[cfg(all(feature = "internals", not(loom)))]
pub mod registry;
#[cfg(not(any(feature = "internals", loom)))]
mod registry;
#[cfg(feature = "internals")]
pub mod varint;
#[cfg(not(feature = "internals"))]
mod varint;

#[cfg(not(loom))]
pub use arena::{Arena, Deadline};
#[cfg(not(loom))]
pub use array::{Array, Token};
#[cfg(not(loom))]
pub use cache::Cache;
pub use element::{Element, Number};
pub use error::{Error, Kind, Result};
#[cfg(not(loom))]
pub use gather::Canvas;
#[cfg(not(loom))]
pub use lock::{Lock, Locked};
#[cfg(feature = "internals")]
pub use os::kill::{KILL_POINTS, arm_from_environment, kill_at, stop_at};
#[cfg(not(loom))]
pub use overlay::Overlay;
#[cfg(not(loom))]
pub use ring::{Frame, Reader, Ring, Writer};
#[cfg(not(loom))]
pub use session::{Session, session};

/// Computes now what is computed once in a process and then kept.
///
/// Otherwise the first call does so; and where another thread forks just then, the child has a computation that nobody
/// will end, and waits for it.
#[cfg(not(loom))]
pub fn warm_up() {
    kernel::warm_up();
    // A variable that says nonsense is an error of the first call that needs it.
    let _ = gather::stream_from();
    fft::warm_up();
    let _ = os::cpu::last_cache_bytes();
    let _ = os::limits::memory_limit();
    // What fails here is an error of the first call that needs a session.
    let _ = session::warm_up();
    // Last: the handlers that are registered last come first before a fork, so helpers end before anything is locked.
    pool::watch_forks();
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
mod cache {
    mod protocol;
}
#[cfg(all(test, loom))]
mod models;
#[cfg(loom)]
mod ring {
    mod claim;
    mod passing;
    mod protocol;
}
