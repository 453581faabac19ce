//! Where each word of a cache's tables lies.
//!
//! ```text
//! head      words   0         what it is, in which version: see `crate::head`
//!                   1..8      geometry
//!                   8..40     what changes under the lock: clock, bytes, free slots, the two queues, counters
//!                   40..64    epoch
//!                   64..      counters that many count at once: 64 lines of 8 words
//!                   then      its name: length, 31 words
//!                   then      buckets {generation: 32, slot + 1: 32}
//!                   then      the directory: {block, record, nonce} of each segment
//! segment   words   0..8      whose it is
//!                   then      ghosts {fingerprint: 32, stamp: 32}, two for each entry
//!                   then      entries, 56 words each
//! ```
//!
//! The head is made with the cache. Segments are blocks of their own, which the head keeps: there is one more whenever
//! all slots are taken, so that bytes bound a cache, not slots. A segment never goes while the cache lives, and never
//! gives its place in the directory to another; so each process opens it once, and a hit needs no lock to reach it.
//!
//! The words of an entry that a hit reads first lie in its first line. Everything is an atomic; what is read from here
//! is bounded before it is used. A slot is named by a number that [`Table::slot`] has checked: below the geometry's
//! slots, in a segment that this process has open.

use crate::arena::{AnyBlock, BlockId, Hold};
use crate::error::{Error, Result};
use crate::head::HeadKind;
use crate::os::kill::{Point, point};
use crate::prim::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    SetOnce, Unchecked, load_bytes, read, store_bytes,
};
use std::fmt;
use std::time::Duration;

/// The version of this layout.
const VERSION: u32 = 1;
const SEGMENT_MAGIC: u64 = u64::from_le_bytes(*b"ndscsegm");

/// The half of a word that names a slot.
pub(super) const LINK: u64 = 0xffff_ffff;

/// Places of single words. The size changes when the cache is resized.
const MAXSIZE: usize = 1;
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
/// Entries beyond the free slots that loads have.
pub(super) const LOADING: usize = 18;
/// Segments that there are.
pub(super) const SEGMENTS: usize = 19;
/// Values that went because the arena was short of memory.
pub(super) const GIVEN_WAY: usize = 20;
/// Values that went because they were too old.
pub(super) const EXPIRED: usize = 21;
/// Not 0: links contradicted each other; whoever has the lock puts all in order.
pub(super) const DISORDER: usize = 22;
/// Not 0: records that no entry names could not end, because the arena's lock was not to be had.
pub(super) const OWED: usize = 23;
/// {head, tail, bytes, count} of each queue.
const QUEUES: usize = 24;
const QUEUE_WORDS: usize = 4;
/// How often the cache was cleared; read by every look-up of a generation.
pub(super) const EPOCH: usize = 40;
/// How many had left the arena when the loads of the dead were last ended; [`LOOK`]: one was given up since.
pub(super) const DEPARTURES: usize = 41;
pub(super) const LOOK: u64 = u64::MAX;
/// Not 0: more memory than usual was kept for reuse, because the values left room for it.
pub(super) const KEPT: usize = 43;
/// The size that a cache was made with which was resized since; 0: it never was.
const MADE_WITH: usize = 42;
const LINES_AT: usize = 64;
const LINES: usize = 64;
const LINE_WORDS: usize = 8;
const NAME_AT: usize = LINES_AT + LINES * LINE_WORDS;
const NAME_WORDS: usize = 31;
const BUCKETS_AT: usize = NAME_AT + 1 + NAME_WORDS;
const DIRECTORY_WORDS: usize = 3;

const SEGMENT_HEAD_WORDS: usize = 8;
/// Words of an entry.
const ENTRY_WORDS: usize = 56;
const KEY_AT: usize = 22;
const KEY_WORDS: usize = 20;
const VIEW_AT: usize = KEY_AT + KEY_WORDS;
/// Bytes of a key and of a view that fit into an entry.
pub(super) const KEY_BYTES: usize = KEY_WORDS * 8;
pub(super) const VIEW_BYTES: usize = (ENTRY_WORDS - VIEW_AT) * 8;

/// The longest key and view, in bytes.
pub const MAX_TEXT_BYTES: usize = 1 << 16;
/// Half as many as an arena has slots for blocks and for records.
const MOST_ENTRIES: usize = 1 << 17;
/// The least that a value counts for.
const BYTES_PER_ENTRY: u64 = 1 << 10;
/// Places beyond the entries, for what is being loaded.
const LOADING_PLACES: usize = 64;
const MOST_SEGMENTS: usize = 512;
const LEAST_SEGMENT: usize = 64;
/// Entries for each bucket, at the most.
const ENTRIES_PER_BUCKET: usize = 4;
const LEAST_BUCKETS: usize = 64;
/// The ways of a set of ghosts.
pub(super) const GHOST_WAYS: usize = 8;
const GHOSTS_PER_ENTRY: usize = 2;
/// Tables up to this, or up to a sixty-fourth of the bytes of the cache, do not count as bytes of the cache.
const FREE_TABLE_BYTES: u64 = 128 << 10;
const FREE_TABLE_PART: u64 = 64;

/// Sizes of a cache, as plain data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// How many bytes its values may take.
    pub maxsize: u64,
    /// How many values it may have.
    pub entries: u32,
    /// How long a value counts, in nanoseconds; 0: for ever.
    pub ttl_ns: u64,
}

impl Geometry {
    /// Parses the wish of a user. Without `entries` there are as many as the bytes have room for, at most 131072.
    ///
    /// # Errors
    /// `InvalidValue` for no bytes, or for no entries or too many.
    pub fn new(maxsize: u64, entries: Option<usize>) -> Result<Self> {
        if maxsize == 0 {
            return Err(Error::value("expected a cache of at least one byte, got 0: name a size such as \"1 GiB\""));
        }
        let entries = entries.unwrap_or(usual_entries(maxsize));
        if !(1..=MOST_ENTRIES).contains(&entries) {
            return Err(Error::value(format!("expected 1 to {MOST_ENTRIES} entries, got {entries}")));
        }
        Ok(Self { maxsize, entries: entries as u32, ttl_ns: 0 })
    }

    /// The same for a cache whose values count for no longer than `ttl`.
    ///
    /// # Errors
    /// `InvalidValue` for no time at all.
    pub fn with_ttl(self, ttl: Option<Duration>) -> Result<Self> {
        let Some(ttl) = ttl else { return Ok(Self { ttl_ns: 0, ..self }) };
        // Longer than any clock runs is for ever.
        match u64::try_from(ttl.as_nanos()) {
            Ok(0) => Err(Error::value("expected a ttl of more than 0 seconds, got 0: leave it out for no limit")),
            Ok(ttl_ns) => Ok(Self { ttl_ns, ..self }),
            Err(_) => Ok(Self { ttl_ns: 0, ..self }),
        }
    }

    /// The same in seconds, as other languages say it. Less than the clock can tell is its least step.
    ///
    /// # Errors
    /// As [`Self::with_ttl`], also for a negative number and for one that is none.
    pub fn with_ttl_s(self, ttl_s: Option<f64>) -> Result<Self> {
        let Some(ttl_s) = ttl_s else { return self.with_ttl(None) };
        if ttl_s.is_nan() || ttl_s <= 0.0 {
            return Err(Error::value(format!("expected ttl in seconds, more than 0, or None, got {ttl_s}")));
        }
        let ttl = Duration::try_from_secs_f64(ttl_s).ok();
        self.with_ttl(ttl.map(|ttl| ttl.max(Duration::from_nanos(1))))
    }

    /// How long a value counts; none: for ever.
    pub fn ttl(&self) -> Option<Duration> {
        (self.ttl_ns != 0).then(|| Duration::from_nanos(self.ttl_ns))
    }

    /// Places: a few more than entries, for what is being loaded.
    pub(super) fn slots(&self) -> u32 {
        self.entries + LOADING_PLACES as u32
    }

    /// Entries of a segment; a power of two.
    pub(super) fn segment_entries(&self) -> usize {
        (self.slots() as usize).div_ceil(MOST_SEGMENTS).next_power_of_two().max(LEAST_SEGMENT)
    }

    /// Segments, at the most.
    pub(super) fn segments(&self) -> usize {
        (self.slots() as usize).div_ceil(self.segment_entries())
    }

    /// Buckets. Their number is for the most entries that there may be, so that no index is ever made anew.
    pub(super) fn buckets(&self) -> usize {
        (self.entries as usize).div_ceil(ENTRIES_PER_BUCKET).next_power_of_two().max(LEAST_BUCKETS)
    }

    fn directory_at(&self) -> usize {
        BUCKETS_AT + self.buckets()
    }

    fn segment_ghosts(&self) -> usize {
        self.segment_entries() * GHOSTS_PER_ENTRY
    }

    /// Bytes of the head.
    #[doc(hidden)]
    pub fn head_bytes(&self) -> usize {
        (self.directory_at() + self.segments() * DIRECTORY_WORDS) * 8
    }

    /// Bytes of a segment.
    pub(super) fn segment_bytes(&self) -> usize {
        (SEGMENT_HEAD_WORDS + self.segment_ghosts() + self.segment_entries() * ENTRY_WORDS) * 8
    }

    /// Bytes of tables with so many segments, as their blocks take them.
    pub(super) fn table_bytes(&self, segments: u64) -> u64 {
        let block = |bytes: usize| (bytes as u64).next_multiple_of(BYTES_PER_ENTRY);
        block(self.head_bytes()) + segments * block(self.segment_bytes())
    }

    /// What tables of so many bytes take from the values.
    pub(super) fn overhead(&self, table_bytes: u64) -> u64 {
        table_bytes.saturating_sub(FREE_TABLE_BYTES.max(self.maxsize / FREE_TABLE_PART))
    }
}

/// As many entries as the bytes have room for.
fn usual_entries(maxsize: u64) -> usize {
    (maxsize / BYTES_PER_ENTRY).clamp(1, MOST_ENTRIES as u64) as usize
}

/// The sizes as an error says them.
impl fmt::Display for Geometry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, {} entries and a ttl of ", self.maxsize, self.entries)?;
        match self.ttl() {
            Some(ttl) => write!(f, "{} s", ttl.as_secs_f64()),
            None => f.write_str("None"),
        }
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
    /// The next slot + 1 in the chain of its bucket, or in the list of free slots.
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
    /// When its value was stored, in nanoseconds of the monotonic clock.
    stored = 20,
    /// What its other words come to; see `hash::seal_of`.
    seal = 21,
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
        // RAW: two bits of it are a state whatever they are; the rest is compared, and counted up with room to spare.
        Word(self.word().load(Acquire))
    }

    /// Bytes of key and view. What is too long for either is none, which no key and no view is.
    pub(super) fn lengths(self) -> (usize, usize) {
        // RAW: each half of it is checked right below.
        let lens = self.lens().load(Relaxed);
        let bounded = |len: u64| Unchecked::new(len).index(MAX_TEXT_BYTES + 1).unwrap_or(0);
        (bounded(lens >> 32), bounded(lens & 0xffff_ffff))
    }

    /// What it counts for; no more than an arena has.
    pub(super) fn counted(self) -> u64 {
        read(self.bytes(), Relaxed).capped(MOST_BYTES)
    }
}

/// More than any block has, and little enough to be summed up.
pub(super) const MOST_BYTES: u64 = 1 << 44;

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
#[derive(Debug)]
pub(super) struct Table<B = Hold> {
    pub head: B,
    pub geometry: Geometry,
    /// The segments, as this process has opened them.
    segments: Box<[SetOnce<B>]>,
    segment_shift: u32,
    buckets_mask: usize,
}

impl<B: AnyBlock + Send + Sync> Table<B> {
    fn over(head: B, geometry: Geometry) -> Self {
        let segments = (0..geometry.segments()).map(|_| SetOnce::new()).collect();
        let (entries, buckets) = (geometry.segment_entries(), geometry.buckets());
        Self { head, geometry, segments, segment_shift: entries.trailing_zeros(), buckets_mask: buckets - 1 }
    }

    /// Writes the geometry of a new cache, and its name, into its zeroed head.
    pub(super) fn format(head: B, geometry: Geometry, name: &str) -> Self {
        let table = Self::over(head, geometry);
        let name = &name.as_bytes()[..name.len().min(NAME_WORDS * 8)];
        // NO POINT: nobody else has the name of this block yet; with its maker it goes.
        table.word(NAME_AT).store(name.len() as u64, Relaxed);
        store_bytes(&table.head.words()[NAME_AT + 1..][..NAME_WORDS], name);
        let words = [HeadKind::Cache.signature(VERSION), geometry.maxsize, geometry.entries.into(), geometry.ttl_ns];
        words.into_iter().enumerate().for_each(|(index, value)| table.word(index).store(value, Relaxed));
        table
    }

    /// Reads and checks the geometry of somebody else's cache.
    ///
    /// # Errors
    /// `WrongKind`; `InvalidValue` for sizes that no cache has.
    pub(super) fn open(head: B) -> Result<Self> {
        // RAW: checked as a whole.
        let word = |index: usize| head.words()[index].load(Acquire);
        HeadKind::Cache.check(VERSION, word(0))?;
        let (maxsize, entries, ttl_ns) = (word(1), word(2), word(3));
        let geometry = usize::try_from(entries).ok().and_then(|entries| Geometry::new(maxsize, Some(entries)).ok());
        match geometry.map(|geometry| Geometry { ttl_ns, ..geometry }) {
            Some(geometry) if geometry.head_bytes() <= head.words().len() * 8 => Ok(Self::over(head, geometry)),
            _ => Err(Error::value(format!(
                "expected the head of a cache in {} bytes, got sizes {maxsize} and {entries}",
                head.words().len() * 8
            ))),
        }
    }

    /// The name that the cache was made with; empty without one.
    pub(super) fn name(&self) -> String {
        let len = read(self.word(NAME_AT), Relaxed).index(NAME_WORDS * 8 + 1).unwrap_or(0);
        String::from_utf8_lossy(&load_bytes(&self.head.words()[NAME_AT + 1..], len)).into_owned()
    }

    #[inline]
    pub(super) fn word(&self, index: usize) -> &AtomicU64 {
        &self.head.words()[index]
    }

    // ---- segments

    /// The words of the directory for a segment.
    pub(super) fn directory(&self, segment: usize) -> Child<'_> {
        let at = self.geometry.directory_at() + segment * DIRECTORY_WORDS;
        Child { block: self.word(at), record: self.word(at + 1), nonce: self.word(at + 2) }
    }

    /// How many segments there are.
    pub(super) fn segment_count(&self) -> usize {
        read(self.word(SEGMENTS), Acquire).capped(self.segments.len() as u64) as usize
    }

    /// Bytes that the tables take.
    pub(super) fn table_bytes(&self) -> u64 {
        self.geometry.table_bytes(self.segment_count() as u64)
    }

    /// Its sizes now.
    pub(super) fn sizes(&self) -> Geometry {
        let maxsize = read(self.word(MAXSIZE), Relaxed).capped(u64::MAX).max(1);
        Geometry { maxsize, ..self.geometry }
    }

    fn made_with(&self) -> u64 {
        read(self.word(MADE_WITH), Relaxed).capped(u64::MAX)
    }

    /// Writes another size down.
    pub(super) fn set_maxsize(&self, maxsize: u64) {
        let made_with = match self.made_with() {
            0 => self.sizes().maxsize,
            known => known,
        };
        self.word(MADE_WITH).store(made_with, Relaxed);
        point(Point::CacheResizing);
        self.word(MAXSIZE).store(maxsize, Relaxed);
        point(Point::CacheResized);
    }

    /// Whether it has the sizes that somebody asks for. One that was resized keeps its number of entries, which is no
    /// difference for who asked for none.
    pub(super) fn agrees(&self, asked: &Geometry) -> bool {
        let sizes = self.sizes();
        let made_with = self.made_with();
        let is_usual = |maxsize: u64, entries: u32| usual_entries(maxsize) == entries as usize;
        let is_free = made_with != 0 && is_usual(made_with, sizes.entries) && is_usual(asked.maxsize, asked.entries);
        sizes == *asked || (is_free && Geometry { entries: asked.entries, ..sizes } == *asked)
    }

    /// Bytes that the values may take: what the tables leave.
    pub(super) fn value_bytes(&self) -> u64 {
        let sizes = self.sizes();
        sizes.maxsize.saturating_sub(sizes.overhead(self.table_bytes()))
    }

    #[inline]
    fn segment(&self, segment: usize) -> Option<&B> {
        let slot = self.segments.get(segment)?;
        slot.get().or_else(|| self.open_segment(segment))
    }

    #[cold]
    fn open_segment(&self, segment: usize) -> Option<&B> {
        // Acquire: who sees the block in the directory sees what it begins with.
        // RAW: a name, which is looked up.
        let block = BlockId::from_word(self.directory(segment).block.load(Acquire))?;
        let found = self.head.sibling(block)?;
        let is_it = found.words().len() * 8 >= self.geometry.segment_bytes()
            && self.segment_words(segment).iter().zip(found.words()).all(|(&is, word)| word.load(Acquire) == is);
        is_it.then(|| self.segments[segment].set(found))
    }

    /// What a segment begins with, so that no other block is ever taken for it.
    fn segment_words(&self, segment: usize) -> [u64; 3] {
        [SEGMENT_MAGIC, self.head.block().to_word(), segment as u64]
    }

    /// Makes a zeroed block what the segment of this number begins as.
    pub(super) fn format_segment(&self, segment: usize, block: &B) {
        // NO POINT: nobody else has the name of this block yet; it is adopted when this is done.
        block.words().iter().zip(self.segment_words(segment)).for_each(|(word, is)| word.store(is, Release));
    }

    /// Opens a segment that this process has made.
    pub(super) fn open_own(&self, segment: usize, block: B) {
        self.segments[segment].set(block);
    }

    /// Ends with an error where a segment that there is cannot be opened.
    pub(super) fn check_segments(&self) -> Result<()> {
        match (0..self.segment_count()).find(|&segment| self.segment(segment).is_none()) {
            None => Ok(()),
            Some(segment) => Err(Error::written_over(
                "the cache's directory",
                format!(
                    "the cache's directory contradicts itself: expected segment {segment} of its tables, got no such \
                     block; something wrote over its memory: make a new cache"
                ),
            )),
        }
    }

    // ---- entries

    /// The block with an entry's word, and the word's offset in it, to sleep on.
    pub(super) fn word_at(&self, slot: u32) -> (&B, usize) {
        let entries = self.geometry.segment_entries();
        let segment = self.segment(slot as usize >> self.segment_shift).expect("slots are checked by `slot`");
        let at = SEGMENT_HEAD_WORDS + self.geometry.segment_ghosts() + (slot as usize & (entries - 1)) * ENTRY_WORDS;
        (segment, at)
    }

    /// `slot` was checked by [`Self::slot`].
    #[inline]
    pub(super) fn entry(&self, slot: u32) -> Entry<'_> {
        let (segment, at) = self.word_at(slot);
        let words = &segment.words()[at..][..ENTRY_WORDS];
        Entry(words.try_into().expect("the slice has just this length"))
    }

    /// The slot that a link names; none for 0 and for what is no slot.
    #[inline]
    pub(super) fn slot(&self, link: u64) -> Option<u32> {
        let slot = Unchecked::new(u64::from((link as u32).wrapping_sub(1)));
        let slot = slot.index(self.geometry.slots() as usize)?;
        self.segment(slot >> self.segment_shift).map(|_| slot as u32)
    }

    #[inline]
    pub(super) fn bucket(&self, hash: u64) -> &AtomicU64 {
        self.word(BUCKETS_AT + (hash as usize & self.buckets_mask))
    }

    pub(super) fn buckets(&self) -> &[AtomicU64] {
        &self.head.words()[BUCKETS_AT..][..self.geometry.buckets()]
    }

    /// The set of ghosts that a fingerprint belongs to; none while there is no segment. It is another one once there
    /// are more segments: a few are forgotten then.
    pub(super) fn ghosts(&self, fingerprint: u64) -> Option<&[AtomicU64]> {
        let sets = self.geometry.segment_ghosts() / GHOST_WAYS;
        let set = (fingerprint as usize).checked_rem(sets * self.segment_count())?;
        let at = SEGMENT_HEAD_WORDS + set % sets * GHOST_WAYS;
        self.segment(set / sets).map(|segment| &segment.words()[at..][..GHOST_WAYS])
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
        point(Point::CacheCounted);
    }

    pub(super) fn total(&self, what: Count) -> u64 {
        // RAW: counts, which are summed up in a circle and told.
        let of = |line| self.word(LINES_AT + line * LINE_WORDS + what as usize).load(Relaxed);
        (0..LINES).map(of).fold(0, u64::wrapping_add)
    }
}

/// Counts that only change under the lock.
pub(super) fn add(word: &AtomicU64, amount: u64) {
    // RAW: counted on from whatever it is; who uses it caps it.
    word.store(word.load(Relaxed).wrapping_add(amount), Relaxed);
}

pub(super) fn subtract(word: &AtomicU64, amount: u64) {
    // RAW: counted down from whatever it is, not below nothing; who uses it caps it.
    word.store(word.load(Relaxed).saturating_sub(amount), Relaxed);
}
