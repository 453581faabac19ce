//! A cache: values by key, in a bounded memory, shared by all processes that have it.
//!
//! A value is a block of the arena that the cache's head keeps by a record. A hit takes no lock: it reads an entry,
//! takes a hold of the value's block, and looks again whether the entry is still the same; so what a caller gets can
//! be evicted, and lives until its last view dies. Everything else happens under the head's lock: entries come and
//! go, and the policy decides who goes.
//!
//! A key is loaded by one process at a time. Its entry says who loads it; the others sleep on the entry's word and
//! look now and then whether the loader lives.
//!
//! What an entry says of itself is what counts. The chains of the index, the queues of the policy and all totals
//! derive from the entries, and are made anew when a process died under the lock, and when they contradict each other.
//! A value is found only by its whole key, and only if the entry's seal fits what was read: so scribble over the tables
//! makes misses and errors, no wrong values.
//!
//! When its arena is short of memory, a cache gives way: whoever needs room ends values that nobody looks at, also of
//! caches that it has never opened.
//!
//! From below:
//!
//! - `protocol`: how a hit comes about without a lock. `hash`: hashes of keys, and seals. `table`: where each word lies.
//!   `policy`: which entry goes. `key`: bytes and their hash. `key_form`: the bytes of keys. `key_value`: what may be a key. `value`: values as blocks.
//! - `state`: the [`Cache`] itself, one process's share. `turn`: what happens while the lock is taken.
//! - `room`: bytes and slots, by eviction. `look`: hits, and whatever else only looks. `entry`: the life of an entry.
//!   `grow`: more tables. `info`: figures. `audit`: the invariants. `recover`: order after a
//!   death.
//! - `store`: storing and deleting. `load`: one loads, the others wait. `shortage`: giving way. `create`: making caches,
//!   opening them, finding them by name. `arrays`: values as arrays.
//!
//! A file names only files below it; this one only declares.

mod arrays;
mod audit;
mod create;
mod entry;
mod grow;
mod hash;
mod info;
mod key;
mod key_form;
mod key_value;
mod load;
mod look;
mod policy;
mod protocol;
mod recover;
mod room;
mod shortage;
mod state;
mod store;
mod table;
mod turn;
mod value;

#[cfg(all(test, not(loom)))]
mod tests;

pub use info::Info;
pub use key::Key;
pub use key_form::{KeyWriter, Text};
pub use key_value::{KeyValue, ToKey};
pub use load::{Failure, Fetch, Loading};
pub use state::Cache;
pub use table::{Geometry, MAX_TEXT_BYTES};
pub use value::{Found, Stored, Value, ViewBytes, Writers};

/// What the bindings call beside the public face.
mod internals {
    pub use super::audit::audit;
    pub use super::info::Glance;
    pub use super::shortage::give_way_when_short;
}
#[cfg(not(feature = "internals"))]
pub(crate) use internals::*;
#[cfg(feature = "internals")]
pub use internals::*;
