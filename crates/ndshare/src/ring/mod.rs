//! A ring: frames from any number of writers to any number of readers, in one order.
//!
//! A frame is a block of the arena. The ring's head keeps it by a record; a writer and each reader that looks at it
//! hold it like any array. Published frames wait in the window, from the least cursor of the readers on; a frame that
//! all have consumed is the next to be written again, so that a few frames stay in the processor's cache. A frame
//! that somebody still looks at is never written: the ring takes another block for its place.
//!
//! Writers go through the head's lock, a few dozen nanoseconds a frame. Readers take no lock: they read an entry
//! and take a hold. A reader lives as long as its token, a small block that its process holds or that is on its way to
//! another one; so a reader that is dropped or killed holds the ring back no longer.
//!
//! From below:
//!
//! - `leave`: what a process ends in order when it ends. `claim`: who has a frame or a slot, as one word. `protocol`:
//!   the steps that several processes take at once. `passing`: moving on those that are behind. `format`: what a ring
//!   says of its frames. `table`: where each word lies. `policy`: what users choose.
//! - `note`: what is said beside the items of a frame, and where it stands. `idle`: which frames may be idle. `state`:
//!   the [`Ring`] itself. `recover`: its lock, and order after a death. `notify`: waking who waits. `group`, `readers`,
//!   `writers`: who takes part. `settle`: when the stream ends. `missed`: what readers miss. `window`: which frames
//!   stay. `sizes`: which blocks are too large. `time`: when frames were made, and what that is in UTC. `stats`: what
//!   is told. `glance`: the same from outside. `audit`: the invariants. `token`: what keeps a reader or a writer on its
//!   way. `named`: rings by name.
//! - Writing: `full`: waiting for room. `pick`: a frame to fill. `publish`: its entry. `write`: [`Writing`]. `writer`:
//!   [`Writer`].
//! - Reading: `frame`: [`Frame`]. `pace`: when the next frame is expected. `selector`: what selectors wait on.
//!   `reader`: [`Reader`]. `look`: one look, `member`: that of a group's member. `offered`: another user's ring, read
//!   without any of this. `wait`: a spin, then a futex. `newest`: the newest frame, again and again. `descriptor`: the
//!   reader's side of a selector. `doze`: long waits, on that.
//! - Both: `many`: many frames in one call.
//!
//! A file names only files below it; this one only declares.

mod audit;
mod claim;
mod descriptor;
mod doze;
mod format;
mod frame;
mod full;
mod glance;
mod group;
mod idle;
mod leave;
mod look;
mod many;
mod member;
mod missed;
mod named;
mod newest;
mod note;
mod notify;
mod offered;
mod pace;
mod passing;
mod pick;
mod policy;
mod protocol;
mod publish;
mod reader;
mod readers;
mod recover;
mod selector;
mod settle;
mod sizes;
mod state;
mod stats;
mod table;
mod time;
mod token;
mod wait;
mod window;
mod write;
mod writer;
mod writers;

#[cfg(all(test, not(loom)))]
mod scribble;
#[cfg(all(test, not(loom)))]
mod tests;

pub use format::{Format, MOST_NAME_BYTES, Spin};
pub use frame::Frame;
pub use leave::leave_all;
pub use many::{Many, PublishedMany, publish_many};
pub use note::{MOST_VIEW_BYTES, Note};
pub use offered::{OfferedFrame, OfferedRing, OfferedStats};
pub use policy::{Mode, RingOptions, Start, WhenFull};
pub use publish::{Content, Published};
pub use reader::Reader;
pub use state::Ring;
pub use stats::{Process, ReaderStats, Stats, WriterCounts, WriterStats};
pub use table::{GROUPS, READERS, RingSizes, WRITERS};
pub use time::Clock;
pub use write::{Sink, Writing};
pub use writer::Writer;

/// What the bindings call beside the public face.
mod internals {
    pub use super::audit::audit;
    pub use super::glance::{Glance, SeenFrame, SeenNote};
    pub use super::table::VIEW_BYTES;
    pub use super::time::age_of;
}
#[cfg(not(feature = "internals"))]
pub(crate) use internals::*;
#[cfg(feature = "internals")]
pub use internals::*;
