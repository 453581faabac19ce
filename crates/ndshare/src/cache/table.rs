//! Where each word of a cache's head lies.
//!
//! ```text
//! words   0..8      geometry
//!         8..40     what changes under the lock: clock, bytes, free places, the two queues, counters
//!         40..64    epoch
//!         64..      counters that many count at once: 64 lines of 8 words
//!         then      buckets {generation: 32, place + 1: 32}; ghosts {fingerprint: 32, stamp: 32}
//!         then      entries, 56 words each
//! ```
//!
//! The words of an entry that a hit reads lie in its first line. Everything is an atomic; what is read from here is
//! bounded before it is used.

use crate::arena::Hold;
use crate::error::{Error, Result};
use crate::prim::{
    AtomicU64,
    Ordering::{Acquire, Relaxed},
};

const MAGIC: u64 = u64::from_le_bytes(*b"ndscache");

/// Places of single words.
pub(super) const CLOCK: usize = 8;
pub(super) const USED: usize = 9;
pub(super) const LIVE: usize = 10;
pub(super) const FREE: usize = 11;
/// Entries that were ever in use.
pub(super) const HIGH: usize = 12;
/// Keys put among the ghosts so far.
pub(super) const GHOSTS: usize = 13;
pub(super) const LOADS: usize = 14;
pub(super) const EVICTIONS: usize = 15;
pub(super) const UNCACHED: usize = 16;
pub(super) const FAILURES: usize = 17;
/// Entries beyond the free places that loads have.
pub(super) const LOADING: usize = 18;
/// {head, tail, bytes, count} of each queue.
const QUEUES: usize = 24;
const QUEUE_WORDS: usize = 4;
/// How often the cache was cleared; read by every look-up of a generation.
pub(super) const EPOCH: usize = 40;
const LINES_AT: usize = 64;
const LINES: usize = 64;
const LINE_WORDS: usize = 8;
const BUCKETS_AT: usize = LINES_AT + LINES * LINE_WORDS;

/// Words of an entry.
const ENTRY_WORDS: usize = 56;
const KEY_AT: usize = 20;
const KEY_WORDS: usize = 20;
const VIEW_AT: usize = KEY_AT + KEY_WORDS;

/// The longest key and view, in bytes.
pub const MAX_TEXT_BYTES: usize = 1 << 16;
const LEAST_ENTRIES: usize = 256;
const MOST_ENTRIES: usize = 1 << 17;
/// By default there is a place for an entry for each so many bytes.
const BYTES_PER_ENTRY: u64 = 16 << 10;
/// The ways of a set of ghosts.
pub(super) const GHOST_WAYS: usize = 8;

/// Sizes of a cache, as plain data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// How many bytes its values may take.
    pub maxsize: u64,
    /// How many values it may have.
    pub entries: u32,
}

impl Geometry {
    /// Parses the wish of a user. Without `entries` there is a place for each 16 KiB, at most 65536.
    ///
    /// # Errors
    /// `InvalidValue` for no bytes, or for no entries or too many.
    pub fn new(maxsize: u64, entries: Option<usize>) -> Result<Self> {
        if maxsize == 0 {
            return Err(Error::value("expected a cache of at least one byte, got 0: name a size such as \"1 GiB\""));
        }
        let default = (maxsize / BYTES_PER_ENTRY).clamp(LEAST_ENTRIES as u64, MOST_ENTRIES as u64 / 2) as usize;
        let entries = entries.unwrap_or(default);
        if !(1..=MOST_ENTRIES).contains(&entries) {
            return Err(Error::value(format!("expected 1 to {MOST_ENTRIES} entries, got {entries}")));
        }
        Ok(Self { maxsize, entries: entries as u32 })
    }

    /// Places: a few more than entries, for what is being loaded.
    pub(super) fn places(&self) -> u32 {
        self.entries + 64
    }

    pub(super) fn buckets(&self) -> usize {
        (self.places() as usize).next_power_of_two()
    }

    pub(super) fn ghost_words(&self) -> usize {
        (self.entries as usize * 2).next_power_of_two().max(GHOST_WAYS)
    }

    fn ghosts_at(&self) -> usize {
        BUCKETS_AT + self.buckets()
    }

    fn entries_at(&self) -> usize {
        (self.ghosts_at() + self.ghost_words()).next_multiple_of(8)
    }

    /// Bytes of the head.
    pub fn head_bytes(&self) -> usize {
        (self.entries_at() + self.places() as usize * ENTRY_WORDS) * 8
    }
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Empty,
    /// Somebody loads its value.
    Loading,
    Live,
    /// The load failed; the value is the text of the failure.
    Failed,
}

/// The word of an entry: {version: 62, state: 2}. The version grows with each change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word(pub u64);

impl Word {
    pub(super) fn state(self) -> State {
        [State::Empty, State::Loading, State::Live, State::Failed][(self.0 & 3) as usize]
    }

    pub(super) fn next(self, state: State) -> Self {
        Self(((self.0 >> 2) + 1) << 2 | state as u64)
    }
}

/// A block that an entry keeps.
#[derive(Clone, Copy)]
pub(super) struct Child<'a> {
    /// Its name; 0: there is none.
    pub block: &'a AtomicU64,
    /// The record by which the head keeps it.
    pub record: &'a AtomicU64,
    pub nonce: &'a AtomicU64,
}

/// One entry.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a>(&'a [AtomicU64; ENTRY_WORDS]);

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident = $at:literal,)*) => {
        impl<'a> Entry<'a> {
            $($(#[$doc])* #[inline] pub(super) fn $name(self) -> &'a AtomicU64 { &self.0[$at] })*
        }
    };
}

words! {
    word = 0,
    hash = 1,
    /// {key: 32, view: 32} in bytes.
    lens = 3,
    /// Where in its block the first item is.
    offset = 4,
    /// Uses since it was last looked at by the policy, up to 3.
    uses = 5,
    /// The next place + 1 in the chain of its bucket, or in the list of free places.
    chain = 6,
    /// What it counts for.
    bytes = 7,
    /// Who loads it: the identity of the participant, and its thread.
    loader = 8,
    thread = 9,
    /// {stamp: 62, queue: 2}: since when it is in which queue.
    order = 10,
    /// {towards the head + 1: 32, towards the tail + 1: 32}.
    links = 11,
}

impl<'a> Entry<'a> {
    /// The block of the value.
    pub(super) fn value(self) -> Child<'a> {
        Child { block: &self.0[2], record: &self.0[12], nonce: &self.0[13] }
    }

    /// The block of a long key.
    pub(super) fn key_annex(self) -> Child<'a> {
        Child { block: &self.0[14], record: &self.0[15], nonce: &self.0[16] }
    }

    /// The block of a long view.
    pub(super) fn view_annex(self) -> Child<'a> {
        Child { block: &self.0[17], record: &self.0[18], nonce: &self.0[19] }
    }

    pub(super) fn children(self) -> [Child<'a>; 3] {
        [self.value(), self.key_annex(), self.view_annex()]
    }

    pub(super) fn key(self) -> Text<'a> {
        Text { words: &self.0[KEY_AT..VIEW_AT], annex: self.key_annex() }
    }

    pub(super) fn view(self) -> Text<'a> {
        Text { words: &self.0[VIEW_AT..], annex: self.view_annex() }
    }

    #[inline]
    pub(super) fn now(self) -> Word {
        Word(self.word().load(Acquire))
    }

    pub(super) fn lengths(self) -> (usize, usize) {
        let lens = self.lens().load(Relaxed);
        ((lens >> 32) as usize, lens as u32 as usize)
    }
}

/// Bytes of an entry: in its own words if they fit, else in a block of their own.
#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    pub words: &'a [AtomicU64],
    pub annex: Child<'a>,
}

impl Text<'_> {
    #[inline]
    pub(super) fn fits(&self, len: usize) -> bool {
        len <= self.words.len() * 8
    }
}

/// One of the two queues.
#[derive(Clone, Copy)]
pub(super) struct Queue<'a> {
    pub tag: u64,
    pub head: &'a AtomicU64,
    pub tail: &'a AtomicU64,
    pub bytes: &'a AtomicU64,
    pub count: &'a AtomicU64,
}

/// A counter that many count at once, each in its own line.
#[derive(Debug, Clone, Copy)]
pub(super) enum Count {
    Hits,
    Misses,
    Waits,
}

/// The words of one cache.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub head: Hold,
    pub geometry: Geometry,
}

impl Table {
    /// Writes the geometry of a new cache into its zeroed head.
    pub(super) fn format(head: Hold, geometry: Geometry) -> Self {
        let table = Self { head, geometry };
        let words = [MAGIC, geometry.maxsize, geometry.entries.into()];
        words.into_iter().enumerate().for_each(|(index, value)| table.word(index).store(value, Relaxed));
        table
    }

    /// Reads and checks the geometry of somebody else's cache.
    pub(super) fn open(head: Hold) -> Result<Self> {
        let word = |index: usize| head.words()[index].load(Acquire);
        let (magic, maxsize, entries) = (word(0), word(1), word(2));
        let geometry = usize::try_from(entries).ok().and_then(|entries| Geometry::new(maxsize, Some(entries)).ok());
        match geometry {
            Some(geometry) if magic == MAGIC && geometry.head_bytes() <= head.len_bytes() => {
                Ok(Self { head, geometry })
            }
            _ => Err(Error::value(format!(
                "expected the head of a cache in {} bytes, got sizes {maxsize} and {entries}",
                head.len_bytes()
            ))),
        }
    }

    #[inline]
    pub(super) fn word(&self, index: usize) -> &AtomicU64 {
        &self.head.words()[index]
    }

    /// The place of an entry's word in the head, to sleep on.
    pub(super) fn word_at(&self, place: u32) -> usize {
        self.geometry.entries_at() + place as usize * ENTRY_WORDS
    }

    /// `place` is below the geometry's places.
    #[inline]
    pub(super) fn entry(&self, place: u32) -> Entry<'_> {
        let words = &self.head.words()[self.word_at(place)..][..ENTRY_WORDS];
        Entry(words.try_into().expect("the slice has just this length"))
    }

    /// The place that a link names; none for 0 and for what is no place.
    #[inline]
    pub(super) fn place(&self, link: u64) -> Option<u32> {
        (link as u32).checked_sub(1).filter(|&place| place < self.geometry.places())
    }

    #[inline]
    pub(super) fn bucket(&self, hash: u64) -> &AtomicU64 {
        self.word(BUCKETS_AT + (hash as usize & (self.geometry.buckets() - 1)))
    }

    pub(super) fn buckets(&self) -> &[AtomicU64] {
        &self.head.words()[BUCKETS_AT..][..self.geometry.buckets()]
    }

    /// The set of ghosts that a hash belongs to.
    pub(super) fn ghosts(&self, hash: u64) -> &[AtomicU64] {
        let sets = self.geometry.ghost_words() / GHOST_WAYS;
        let set = (hash >> 16) as usize & (sets - 1);
        &self.head.words()[self.geometry.ghosts_at() + set * GHOST_WAYS..][..GHOST_WAYS]
    }

    /// `tag` is 1 (small) or 2 (main).
    pub(super) fn queue(&self, tag: u64) -> Queue<'_> {
        let at = QUEUES + (tag as usize & 1) * QUEUE_WORDS;
        let word = |index| self.word(at + index);
        Queue { tag, head: word(0), tail: word(1), bytes: word(2), count: word(3) }
    }

    /// Counts for the participant with this identity.
    #[inline]
    pub(super) fn count(&self, what: Count, identity: u64) {
        let line = identity as usize & (LINES - 1);
        self.word(LINES_AT + line * LINE_WORDS + what as usize).fetch_add(1, Relaxed);
    }

    pub(super) fn total(&self, what: Count) -> u64 {
        let of = |line| self.word(LINES_AT + line * LINE_WORDS + what as usize).load(Relaxed);
        (0..LINES).map(of).fold(0, u64::wrapping_add)
    }
}
