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
//! `table`: where each word lies. `policy`: who goes. `load`: one loads, the others wait. `recover`: after a death.
//! `shortage`: giving way.

mod load;
mod policy;
mod recover;
mod shortage;
mod table;

#[cfg(all(test, not(loom)))]
mod tests;

pub use load::{Fetch, Loading};
pub use shortage::give_way_when_short;
pub use table::{Geometry, MAX_TEXT_BYTES};

use crate::arena::{Arena, BlockId, Hold, Patience, TicketId};
use crate::error::{Error, Kind, Result};
use crate::lock::Entered;
use crate::os::kill::{Point, point};
use crate::os::monotonic;
use crate::prim::{
    Ordering::{Acquire, Relaxed, Release},
    equal_bytes, fence, load_bytes, read, store_bytes,
};
use policy::{MOST_USES, add, subtract};
use std::sync::Arc;
use std::time::Duration;
use table::{
    Child, Count, DISORDER, EPOCH, EVICTIONS, EXPIRED, Entry, FAILURES, FREE, GIVEN_WAY, HIGH, KEY_BYTES, LIVE,
    LOADING, LOADS, MOST_BYTES, OWED, SEGMENTS, State, Table, Text, UNCACHED, USED, VIEW_BYTES, Word,
};

/// The half of a word that names a place.
const LINK: u64 = 0xffff_ffff;
/// How many entries of a chain a look-up without the lock follows; it may be led astray.
const CHAIN_LOOKS: u32 = 64;

/// A key: its bytes, and what they hash to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    bytes: Vec<u8>,
    hash: u64,
}

impl Key {
    /// The key with these bytes.
    ///
    /// # Errors
    /// `InvalidValue` beyond [`MAX_TEXT_BYTES`].
    pub fn new(bytes: Vec<u8>) -> Result<Self> {
        if bytes.len() > MAX_TEXT_BYTES {
            return Err(Error::value(format!(
                "expected a key of at most {MAX_TEXT_BYTES} bytes, got {}: use a digest of it",
                bytes.len()
            )));
        }
        Ok(Self { hash: hash_of(&bytes), bytes })
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A hash of bytes that is the same in every process and every build.
///
/// Each word is multiplied in as by Fx; the end is the finalizer of MurmurHash3 (Appleby, public domain).
fn hash_of(bytes: &[u8]) -> u64 {
    let mut hash = bytes.len() as u64;
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash.rotate_left(23) ^ u64::from_le_bytes(word)).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
    hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

/// A value that was found. It never changes while the hold lives.
#[derive(Debug)]
pub struct Found {
    /// The value's block.
    pub hold: Hold,
    /// Where in the block the first item is.
    pub offset: u64,
    /// The words of whoever stored it for dtype, shape and strides.
    pub view: Vec<u8>,
}

/// A value to be stored: a block that nobody writes to any more.
#[derive(Debug, Clone, Copy)]
pub struct Value<'a> {
    /// The block; of the cache's own arena.
    pub hold: &'a Hold,
    /// Where in the block the first item is.
    pub offset: u64,
    /// The words of the caller for dtype, shape and strides.
    pub view: &'a [u8],
}

/// What became of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// The cache keeps it.
    Cached,
    /// It does not: all else is pinned, or the value is larger than the cache, or its key was stored or deleted
    /// meanwhile.
    Uncached,
}

/// A picture of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// Look-ups that found a value.
    pub hits: u64,
    /// Look-ups that found none.
    pub misses: u64,
    /// Values that were loaded.
    pub loads: u64,
    /// Loads that failed.
    pub failures: u64,
    /// Waits for another's load.
    pub waits: u64,
    /// Values that went to make room.
    pub evictions: u64,
    /// Values that were not kept.
    pub uncached: u64,
    /// Values that went because the arena was short of memory; evictions, too.
    pub given_way: u64,
    /// Values that went because they were older than the cache's ttl.
    pub expired: u64,
    /// Values in the cache.
    pub entries: u64,
    /// Values that somebody looks at.
    pub pinned: u64,
    /// Bytes of the values in the cache, as their blocks take them.
    pub bytes: u64,
    /// Bytes that the tables take.
    pub table_bytes: u64,
    /// The most bytes.
    pub maxsize: u64,
}

/// A cache, as one process has it.
#[derive(Debug)]
pub struct Cache {
    table: Table,
}

/// What one turn under the lock leaves to do.
///
/// The arena's lock is needed there to keep a block and to let go of one, and its owner may be stopped. Nobody waits for
/// that long under the cache's lock, where no signal is answered and others wait behind. Who can't keep a block leaves,
/// waits outside, and begins again. A record that can't end is owed: whoever has the cache's lock later ends it.
#[derive(Default)]
struct Gone {
    /// Places of blocks whose record has ended: to be freed once the lock is open.
    blocks: Vec<u32>,
    /// The arena's lock could not be had: there is no use in asking for it again.
    is_late: bool,
    /// What was to be kept was not, for that reason.
    is_put_off: bool,
}

/// What became of work that needs room, or a place.
enum Attempt<T> {
    Done(T),
    /// All that could go is pinned.
    Pinned,
    /// All places beyond the entries have loads under way.
    NoPlace,
    /// The table has to grow first, which happens without the lock.
    NeedsTable,
}

/// Memory of values that went is kept for reuse while less than this part of the cache is.
const WARM_PART: u64 = 64;
/// How long the arena's lock is waited for under the cache's. It is meant to be held for less than a microsecond.
const RECORD_WAIT: Duration = Duration::from_millis(20);

impl Cache {
    /// A new cache in `arena`.
    ///
    /// # Errors
    /// `ArenaFull`; what `patience` says.
    pub fn create(arena: &Arc<Arena>, geometry: Geometry, patience: &Patience) -> Result<Arc<Self>> {
        Self::create_named(arena, geometry, "", patience)
    }

    /// The same, with a name for errors to speak of.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn create_named(arena: &Arc<Arena>, geometry: Geometry, name: &str, patience: &Patience) -> Result<Arc<Self>> {
        give_way_when_short();
        let head = arena.alloc(geometry.head_bytes(), 64, true, patience)?;
        let cache = Self { table: Table::format(head, geometry, name) };
        // The first places: with them it can always load, however full the arena will be.
        cache.extend_by(&cache.new_segment(patience)?, patience)?;
        shortage::mark(cache.head())?;
        Ok(Arc::new(cache))
    }

    /// The cache whose head this is.
    ///
    /// # Errors
    /// `InvalidValue` when the block is no head of a cache.
    pub fn open(head: Hold) -> Result<Arc<Self>> {
        give_way_when_short();
        Table::open(head).map(|table| Arc::new(Self { table }))
    }

    /// The block that names the cache.
    pub fn head(&self) -> &Hold {
        &self.table.head
    }

    /// Its sizes.
    pub fn geometry(&self) -> &Geometry {
        &self.table.geometry
    }

    fn arena(&self) -> &Arc<Arena> {
        self.table.head.arena()
    }

    // ---- looking

    /// The value of a key, without a lock and without a wait; counts a hit. None says that a closer look is needed.
    ///
    /// # Errors
    /// `Poisoned`; `Attach` in a process without a slot.
    #[inline]
    pub fn find(&self, key: &Key) -> Result<Option<Found>> {
        // RAW: checked by `place`.
        let mut link = self.table.bucket(key.hash).load(Acquire);
        // BOUND: so many looks, wherever the links lead.
        for _ in 0..CHAIN_LOOKS {
            let Some(place) = self.table.place(link) else { return Ok(None) };
            let entry = self.table.entry(place);
            if entry.hash().load(Relaxed) == key.hash {
                return self.open_entry(place, key);
            }
            // RAW: checked by `place`.
            link = entry.chain().load(Acquire);
        }
        Ok(None)
    }

    /// The value of an entry, if it is the live one of this key.
    fn open_entry(&self, place: u32, key: &Key) -> Result<Option<Found>> {
        let entry = self.table.entry(place);
        let seen = entry.now();
        if seen.state() != State::Live || !self.has_key(entry, key) || self.is_expired(entry) {
            return Ok(None);
        }
        let Some(found) = self.take_value(entry, key.hash)? else { return Ok(None) };
        // Pairs with the fence in `change`: had a word been of another value, the entry's own would differ, too. The
        // hold is in hand: from here on the block stays what it is.
        fence(Acquire);
        if entry.word().load(Relaxed) != seen.0 {
            return Ok(None);
        }
        // RAW: compared before it is counted up.
        let uses = entry.uses().load(Relaxed);
        if uses < MOST_USES {
            entry.uses().store(uses + 1, Relaxed);
        }
        self.table.count(Count::Hits, self.arena().identity()?);
        Ok(Some(found))
    }

    /// The value of an entry, if all that was read of it fits the seal that it got when it was stored.
    fn take_value(&self, entry: Entry<'_>, hash: u64) -> Result<Option<Found>> {
        let Some(hold) = self.take_block(entry.value())? else { return Ok(None) };
        let Some(view) = self.text(entry.view(), entry.lengths().1)? else { return Ok(None) };
        // RAW: sealed with the rest, and checked against the block when an array is made of it.
        let offset = entry.offset().load(Relaxed);
        // RAW: sealed with the rest.
        let seal = seal_of(hash, hold.block(), offset, entry.stored().load(Relaxed), &view);
        Ok((entry.seal().load(Relaxed) == seal).then_some(Found { hold, offset, view }))
    }

    fn is_expired(&self, entry: Entry<'_>) -> bool {
        let ttl_ns = self.table.geometry.ttl_ns;
        ttl_ns != 0 && age_ns(entry) >= ttl_ns
    }

    /// Whether a place has a value that counts.
    fn has_value(&self, place: u32) -> bool {
        let entry = self.table.entry(place);
        entry.now().state() == State::Live && !self.is_expired(entry)
    }

    /// How long ago the value of a key was stored or loaded; none without one.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn age(&self, key: &Key, patience: &Patience) -> Result<Option<Duration>> {
        self.locked(patience, |gone| {
            let place = self.place_of(key, gone)?.filter(|&place| self.has_value(place));
            Ok(place.map(|place| Duration::from_nanos(age_ns(self.table.entry(place)))))
        })
    }

    fn take_block(&self, child: Child<'_>) -> Result<Option<Hold>> {
        // RAW: a name, which is looked up.
        let Some(block) = BlockId::from_word(child.block.load(Relaxed)) else { return Ok(None) };
        match self.arena().take(block) {
            Err(error) if error.kind() != Kind::Stale => Err(error),
            other => Ok(other.ok()),
        }
    }

    fn has_key(&self, entry: Entry<'_>, key: &Key) -> bool {
        let (len, text) = (entry.lengths().0, entry.key());
        if len != key.bytes.len() {
            return false;
        }
        if text.fits(len) {
            return equal_bytes(text.words, &key.bytes);
        }
        // A long key has a block of its own, which may be gone by now.
        let annex = self.take_block(text.annex).ok().flatten();
        annex.is_some_and(|annex| equal_bytes(annex.words(), &key.bytes))
    }

    /// Bytes of an entry; none when they are gone.
    fn text(&self, text: Text<'_>, len: usize) -> Result<Option<Vec<u8>>> {
        if text.fits(len) {
            return Ok(Some(load_bytes(text.words, len)));
        }
        let annex = self.take_block(text.annex)?;
        Ok(annex.map(|annex| load_bytes(annex.words(), len)))
    }

    /// The value of a key, if it is there. Never loads.
    ///
    /// # Errors
    /// `Poisoned`; what `patience` says.
    pub fn get(&self, key: &Key, patience: &Patience) -> Result<Option<Found>> {
        if let Some(found) = self.find(key)? {
            return Ok(Some(found));
        }
        let found = self.locked(patience, |gone| self.find_under_lock(key, gone))?;
        if found.is_none() {
            self.table.count(Count::Misses, self.arena().identity()?);
        }
        Ok(found)
    }

    fn find_under_lock(&self, key: &Key, gone: &mut Gone) -> Result<Option<Found>> {
        self.place_of(key, gone)?.map_or(Ok(None), |place| self.open_entry(place, key))
    }

    /// Whether a key has a value now.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn contains(&self, key: &Key, patience: &Patience) -> Result<bool> {
        self.locked(patience, |gone| Ok(self.place_of(key, gone)?.is_some_and(|place| self.has_value(place))))
    }

    /// Which making of the key's value is current: storing and deleting begin a new one, eviction and loading do
    /// not. Now and then a new one begins for the sake of another key. Where values have a ttl, each that is stored or
    /// loaded has its own, for as long as it counts.
    pub fn generation(&self, key: &Key) -> u64 {
        // RAW: half of it is only compared by callers, the other is checked by `place`.
        let bucket = self.table.bucket(key.hash).load(Acquire);
        // RAW: only compared by callers.
        let made = self.table.word(EPOCH).load(Acquire) << 32 | bucket >> 32;
        if self.table.geometry.ttl_ns == 0 { made } else { seal_word(made, self.stored_at(key, bucket)) }
    }

    /// When the value of a key was stored; 0 for none that counts.
    fn stored_at(&self, key: &Key, bucket: u64) -> u64 {
        let mut link = bucket;
        // BOUND: as in `find`.
        for _ in 0..CHAIN_LOOKS {
            let Some(place) = self.table.place(link) else { return 0 };
            let entry = self.table.entry(place);
            if entry.hash().load(Relaxed) == key.hash {
                // RAW: a time, which is only compared.
                return if self.has_value(place) { entry.stored().load(Relaxed) } else { 0 };
            }
            // RAW: checked by `place`.
            link = entry.chain().load(Acquire);
        }
        0
    }

    /// The keys that have values now, in no order.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn keys(&self, patience: &Patience) -> Result<Vec<Vec<u8>>> {
        self.locked(patience, |_| {
            let live = self.places().filter(|&place| self.has_value(place));
            let key = |place| {
                let entry = self.table.entry(place);
                self.text(entry.key(), entry.lengths().0)
            };
            live.filter_map(|place| key(place).transpose()).collect()
        })
    }

    /// A picture of the cache.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn info(&self, patience: &Patience) -> Result<Info> {
        self.locked(patience, |_| Ok(self.picture()))
    }

    /// The same without the lock, for a glance that never waits; its figures may be of different instants.
    pub fn glance(&self) -> Info {
        self.picture()
    }

    fn picture(&self) -> Info {
        // RAW: counts, which are told.
        let word = |index| self.table.word(index).load(Relaxed);
        let is_pinned = |&place: &u32| self.table.entry(place).now().state() == State::Live && self.is_pinned(place);
        Info {
            hits: self.table.total(Count::Hits),
            misses: self.table.total(Count::Misses),
            waits: self.table.total(Count::Waits),
            loads: word(LOADS),
            failures: word(FAILURES),
            evictions: word(EVICTIONS),
            uncached: word(UNCACHED),
            given_way: word(GIVEN_WAY),
            expired: word(EXPIRED),
            entries: self.len() as u64,
            pinned: self.places().filter(is_pinned).count() as u64,
            bytes: word(USED),
            table_bytes: self.table.table_bytes(),
            maxsize: self.table.geometry.maxsize,
        }
    }

    fn is_pinned(&self, place: u32) -> bool {
        // RAW: a name, which is looked up.
        let block = BlockId::from_word(self.table.entry(place).value().block.load(Relaxed));
        block.is_some_and(|block| Hold::is_held(self.arena(), block))
    }

    /// How many values there are now. Never waits.
    #[allow(clippy::len_without_is_empty, reason = "it is a figure of one moment, not the state of a container")]
    pub fn len(&self) -> usize {
        if self.table.geometry.ttl_ns != 0 {
            return self.places().filter(|&place| self.has_value(place)).count();
        }
        read(self.table.word(LIVE), Relaxed).capped(self.table.geometry.places().into()) as usize
    }

    // ---- storing and deleting

    /// Makes `value` the key's value.
    ///
    /// # Errors
    /// `ArenaFull` when there is no room for a long key or view; `InvalidValue` for a block of another arena; what
    /// `patience` says. The cache is as before then.
    pub fn store(&self, key: &Key, value: Value<'_>, patience: &Patience) -> Result<Stored> {
        self.check(value)?;
        let key_annex = self.annex(&key.bytes, KEY_BYTES, patience)?;
        let view_annex = self.annex(value.view, VIEW_BYTES, patience)?;
        self.with_room(patience, |gone| {
            self.end_generation(key, gone)?;
            if !self.make_room(cost(value, [&key_annex, &view_annex]), gone)? {
                return Ok(Attempt::Pinned);
            }
            match self.occupy(key, key_annex.as_ref(), State::Empty, gone)? {
                Attempt::Done(place) => self.fill(place, value, view_annex.as_ref(), gone).map(Attempt::Done),
                Attempt::Pinned => Ok(Attempt::Pinned),
                Attempt::NoPlace => Ok(Attempt::NoPlace),
                Attempt::NeedsTable => Ok(Attempt::NeedsTable),
            }
        })
    }

    /// Runs `work` under the lock; once more after a sweep of the dead if it finds no room, for they may pin values,
    /// and again whenever the tables have grown.
    fn with_room(&self, patience: &Patience, work: impl Fn(&mut Gone) -> Result<Attempt<Stored>>) -> Result<Stored> {
        let mut swept = false;
        // BOUND: each round but two adds a segment, or finds that another has, and there are not many.
        loop {
            match self.locked(patience, &work)? {
                Attempt::Done(stored) => return Ok(stored),
                Attempt::NeedsTable if self.grow(patience)? => {}
                Attempt::Pinned | Attempt::NoPlace if !swept => {
                    swept = true;
                    self.arena().sweep_the_dead()?;
                    self.locked(patience, |gone| self.check_totals(gone))?;
                }
                _ => break,
            }
        }
        self.locked(patience, |_| {
            add(self.table.word(UNCACHED), 1);
            Ok(Stored::Uncached)
        })
    }

    /// Ends the value of a key, and says whether there was one.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn remove(&self, key: &Key, patience: &Patience) -> Result<bool> {
        self.locked(patience, |gone| self.end_generation(key, gone))
    }

    /// Ends all values.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn clear(&self, patience: &Patience) -> Result<()> {
        self.locked(patience, |gone| {
            self.table.word(EPOCH).fetch_add(1, Release);
            for place in self.places() {
                if self.table.entry(place).now().state() != State::Empty {
                    self.vacate(place, gone)?;
                }
            }
            // As in `end_generation`.
            self.table.word(EPOCH).fetch_add(1, Release);
            Ok(())
        })
    }

    fn check(&self, value: Value<'_>) -> Result<()> {
        if !Arc::ptr_eq(value.hold.arena(), self.arena()) {
            return Err(Error::value("expected a block of the cache's own arena: copy the value into one"));
        }
        if value.view.len() > MAX_TEXT_BYTES {
            return Err(Error::value(format!(
                "expected a dtype and shape of at most {MAX_TEXT_BYTES} bytes, got {}",
                value.view.len()
            )));
        }
        Ok(())
    }

    /// A block for bytes that do not fit into an entry, which has room for `most`; none for those that do.
    fn annex(&self, bytes: &[u8], most: usize, patience: &Patience) -> Result<Option<Hold>> {
        if bytes.len() <= most {
            return Ok(None);
        }
        let annex = self.arena().alloc(bytes.len().next_multiple_of(8), 64, true, patience)?;
        store_bytes(annex.words(), bytes);
        Ok(Some(annex))
    }

    /// Ends the value of a key and its generation; says whether there was a value.
    ///
    /// The generation changes before, because this process may die before it changes after; and after, because who
    /// reads it in between may still find the old value without the lock.
    fn end_generation(&self, key: &Key, gone: &mut Gone) -> Result<bool> {
        self.begin_generation(key.hash);
        let was_live = self.forget(key, gone)?;
        self.begin_generation(key.hash);
        Ok(was_live)
    }

    fn begin_generation(&self, hash: u64) {
        // The low half, the chain, stays as it is.
        self.table.bucket(hash).fetch_add(1 << 32, Release);
    }

    // ---- under the lock

    /// Runs `work` under the head's lock, after putting things in order if an owner of it died or the tables contradict
    /// themselves; frees afterwards what came free.
    fn locked<T>(&self, patience: &Patience, mut work: impl FnMut(&mut Gone) -> Result<T>) -> Result<T> {
        // BOUND: the patience of the caller, which is asked in each round.
        loop {
            let mut gone = Gone::default();
            match self.locked_once(patience, &mut gone, &mut work) {
                Err(error) if gone.is_put_off && error.kind() == Kind::Timeout => {
                    patience.go_on("the arena lock")?;
                    self.arena().await_lock(patience)?;
                }
                other => return other,
            }
        }
    }

    fn locked_once<T>(
        &self,
        patience: &Patience,
        gone: &mut Gone,
        work: impl FnMut(&mut Gone) -> Result<T>,
    ) -> Result<T> {
        let (lock, dirty) = Entered::enter(&self.table.head, patience)?;
        let outcome = self.in_order(dirty, gone, work);
        let left = lock.leave();
        for &block in &gone.blocks {
            // What is kept for the next loads is small beside the cache.
            self.arena().free_unkept_beyond(block, self.table.geometry.maxsize / WARM_PART)?;
        }
        left.and(outcome)
    }

    fn in_order<T>(&self, dirty: bool, gone: &mut Gone, mut work: impl FnMut(&mut Gone) -> Result<T>) -> Result<T> {
        if dirty || !self.looks_orderly() {
            self.table.word(DISORDER).store(1, Relaxed);
            self.recover(gone)?;
        }
        self.end_owed(gone)?;
        let outcome = work(gone)?;
        if !self.looks_orderly() {
            self.recover(gone)?;
        }
        Ok(outcome)
    }

    /// Whether the totals agree, as far as a few words say.
    fn looks_orderly(&self) -> bool {
        let word = |index| read(self.table.word(index), Relaxed);
        word(DISORDER).is(0)
            && word(USED).is(self.table.queued_bytes())
            && word(LIVE).at_most(self.table.queued()).is_some()
    }

    /// Puts things in order if the entries do not come to the bytes that are counted.
    fn check_totals(&self, gone: &mut Gone) -> Result<()> {
        let counts = |&place: &u32| matches!(self.table.entry(place).now().state(), State::Live | State::Failed);
        let bytes: u64 = self.places().filter(counts).map(|place| self.table.entry(place).counted()).sum();
        if read(self.table.word(USED), Relaxed).is(bytes) { Ok(()) } else { self.recover(gone) }
    }

    fn used(&self) -> u64 {
        read(self.table.word(USED), Relaxed).capped(MOST_BYTES)
    }

    /// All places that were ever in use.
    fn places(&self) -> impl Iterator<Item = u32> + '_ {
        let high = read(self.table.word(HIGH), Relaxed).capped(self.table.geometry.places().into());
        // BOUND: there are not more places.
        (1..=high).map_while(|link| self.table.place(link))
    }

    /// The place of a key's entry, in whatever state. A chain that leads astray is put in order first.
    fn place_of(&self, key: &Key, gone: &mut Gone) -> Result<Option<u32>> {
        if let Some(found) = self.walk(key) {
            return Ok(found);
        }
        self.recover(gone)?;
        self.walk(key).ok_or_else(scribbled)
    }

    /// Follows the chain of a key's bucket; none when it contradicts itself.
    fn walk(&self, key: &Key) -> Option<Option<u32>> {
        // RAW: checked by `place`.
        let mut link = self.table.bucket(key.hash).load(Relaxed) & LINK;
        // BOUND: no chain is longer than there are places.
        for _ in 0..=self.table.geometry.places() {
            if link == 0 {
                return Some(None);
            }
            let place = self.table.place(link)?;
            let entry = self.table.entry(place);
            let state = entry.now().state();
            if state == State::Empty {
                return None;
            }
            if entry.hash().load(Relaxed) == key.hash && self.has_key(entry, key) {
                return Some(Some(place));
            }
            // RAW: checked by `place`.
            link = entry.chain().load(Relaxed) & LINK;
        }
        None
    }

    /// Gives an entry another state.
    fn change(&self, entry: Entry<'_>, state: State) -> Word {
        let word = entry.now().next(state);
        // Release: who sees the state sees the words that belong to it.
        entry.word().store(word.0, Release);
        // Pairs with the fence in `open_entry`: who reads a word that is written from here on sees the new state.
        fence(Release);
        word
    }

    /// Ends the entry of a key; says whether it was a live one.
    fn forget(&self, key: &Key, gone: &mut Gone) -> Result<bool> {
        let Some(place) = self.place_of(key, gone)? else { return Ok(false) };
        let was_live = self.has_value(place);
        self.vacate(place, gone)?;
        Ok(was_live)
    }

    /// Ends an entry, whatever it is, and wakes who waits for it.
    fn vacate(&self, place: u32, gone: &mut Gone) -> Result<()> {
        let entry = self.table.entry(place);
        let was = entry.now().state();
        self.change(entry, State::Empty);
        point(Point::CacheEmptied);
        self.release_children(&entry.children(), gone)?;
        point(Point::CacheReleased);
        if was != State::Empty {
            self.table.unlink(place);
            self.unchain(place);
        }
        match was {
            State::Live => {
                subtract(self.table.word(USED), entry.counted());
                subtract(self.table.word(LIVE), 1);
            }
            State::Failed => subtract(self.table.word(USED), entry.counted()),
            State::Loading => subtract(self.table.word(LOADING), 1),
            State::Empty => {}
        }
        self.free_place(place);
        point(Point::CacheFreed);
        if was == State::Loading { self.wake(place) } else { Ok(()) }
    }

    fn wake(&self, place: u32) -> Result<()> {
        let (segment, at) = self.table.word_at(place);
        segment.wake(at)
    }

    fn release_children(&self, children: &[Child<'_>], gone: &mut Gone) -> Result<()> {
        for child in children {
            // RAW: a name, which is looked up.
            let nonce = child.nonce.load(Relaxed);
            if nonce != 0 {
                // RAW: a name, which is looked up.
                let record = TicketId { index: child.record.load(Relaxed) as u32, nonce };
                self.end_record(record, gone)?;
            }
            child.nonce.store(0, Relaxed);
            child.block.store(0, Relaxed);
        }
        Ok(())
    }

    /// Ends a record, now or when the arena's lock is to be had again.
    fn end_record(&self, record: TicketId, gone: &mut Gone) -> Result<()> {
        match self.table.head.end_record(record, &gone.patience()) {
            Ok(block) => gone.blocks.extend(block),
            Err(error) if error.kind() == Kind::Timeout => {
                gone.is_late = true;
                self.table.word(OWED).store(1, Relaxed);
                point(Point::CacheReleased);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn free_place(&self, place: u32) {
        let free = self.table.word(FREE);
        // RAW: a link, which is checked by who follows it.
        self.table.entry(place).chain().store(free.load(Relaxed), Relaxed);
        free.store(u64::from(place) + 1, Relaxed);
    }

    /// Takes an entry out of the chain of its bucket. Where it is not in it, all is put in order before the lock opens.
    fn unchain(&self, place: u32) {
        let entry = self.table.entry(place);
        // RAW: any number is a hash.
        let bucket = self.table.bucket(entry.hash().load(Relaxed));
        // RAW: a link, which is checked by who follows it.
        let behind = entry.chain().load(Relaxed) & LINK;
        // RAW: checked by `place`.
        if self.table.place(bucket.load(Relaxed)) == Some(place) {
            // RAW: half of it stays as it is.
            bucket.store(bucket.load(Relaxed) & !LINK | behind, Release);
            return;
        }
        // RAW: checked by `place`.
        let mut link = bucket.load(Relaxed);
        // BOUND: no chain is longer than there are places.
        for _ in 0..self.table.geometry.places() {
            let Some(ahead) = self.table.place(link) else { break };
            let chain = self.table.entry(ahead).chain();
            // RAW: checked by `place`.
            link = chain.load(Relaxed);
            if self.table.place(link) == Some(place) {
                return chain.store(behind, Release);
            }
        }
        self.table.word(DISORDER).store(1, Relaxed);
    }

    fn chain(&self, place: u32) {
        let entry = self.table.entry(place);
        // RAW: any number is a hash.
        let bucket = self.table.bucket(entry.hash().load(Relaxed));
        // RAW: a link, which is checked by who follows it.
        let word = bucket.load(Relaxed);
        entry.chain().store(word & LINK, Release);
        bucket.store(word & !LINK | (u64::from(place) + 1), Release);
    }

    /// Evicts until `bytes` more fit. False: all that is left is pinned, or the bytes never fit.
    fn make_room(&self, bytes: u64, gone: &mut Gone) -> Result<bool> {
        let most = self.table.value_bytes();
        if bytes > most {
            return Ok(false);
        }
        if self.under_way() > 0 {
            self.bury_the_latest(gone)?;
        }
        let best = most - self.under_way().min(most - bytes);
        // BOUND: each round ends an entry.
        while self.used().saturating_add(bytes) > best {
            if !self.evict(gone)? {
                break;
            }
        }
        Ok(self.used().saturating_add(bytes) <= most)
    }

    /// What the values that others are loading will come to: their memory is taken already. Each counts as one of the
    /// usual size; all together as an eighth of the cache at the most.
    fn under_way(&self) -> u64 {
        let others =
            read(self.table.word(LOADING), Relaxed).capped(self.table.geometry.places().into()).saturating_sub(1);
        let usual = self.table.queued_bytes() / self.table.queued().max(1);
        others.saturating_mul(usual).min(self.table.geometry.maxsize / 8)
    }

    /// Ends the entry that the policy names. False: it names none.
    fn evict(&self, gone: &mut Gone) -> Result<bool> {
        let Some(place) = self.table.next_victim(&|place| self.is_pinned(place)) else { return Ok(false) };
        point(Point::CacheChosen);
        if self.table.entry(place).now().state() == State::Live {
            add(self.table.word(EVICTIONS), 1);
        }
        self.vacate(place, gone).map(|()| true)
    }

    /// A free place; entries are evicted when there are more than the cache may have.
    fn find_place(&self, gone: &mut Gone) -> Result<Attempt<u32>> {
        let geometry = self.table.geometry;
        // BOUND: each round ends an entry.
        while self.table.queued() >= u64::from(geometry.entries) {
            if !self.evict(gone)? {
                return Ok(Attempt::Pinned);
            }
        }
        if let Some(place) = self.pop_free(gone)? {
            return Ok(Attempt::Done(place));
        }
        let high = read(self.table.word(HIGH), Relaxed).capped(geometry.places().into());
        if high == u64::from(geometry.places()) {
            return Ok(Attempt::NoPlace);
        }
        if let Some(place) = self.table.place(high + 1) {
            self.table.word(HIGH).store(high + 1, Relaxed);
            return Ok(Attempt::Done(place));
        }
        // A larger table takes its bytes from the values, unless one of them goes and leaves its place.
        let larger = geometry.table_bytes(self.table.segment_count() as u64 + 1);
        if self.used().saturating_add(geometry.overhead(larger)) <= geometry.maxsize || !self.evict(gone)? {
            return Ok(Attempt::NeedsTable);
        }
        Ok(self.pop_free(gone)?.map_or(Attempt::NeedsTable, Attempt::Done))
    }

    /// The first of the free places.
    fn pop_free(&self, gone: &mut Gone) -> Result<Option<u32>> {
        for _ in 0..2 {
            // RAW: checked by `place`.
            let link = self.table.word(FREE).load(Relaxed) & LINK;
            if link == 0 {
                return Ok(None);
            }
            let is_free = |&place: &u32| self.table.entry(place).now().state() == State::Empty;
            if let Some(place) = self.table.place(link).filter(is_free) {
                // RAW: a link, which is checked by who follows it.
                let behind = self.table.entry(place).chain().load(Relaxed) & LINK;
                self.table.word(FREE).store(behind, Relaxed);
                return Ok(Some(place));
            }
            self.recover(gone)?;
        }
        Err(scribbled())
    }

    // ---- growing

    fn new_segment(&self, patience: &Patience) -> Result<Hold> {
        self.arena().alloc(self.table.geometry.segment_bytes(), 64, true, patience)
    }

    /// Makes places: more tables, or, without memory for them, those of values that go. False: neither can be had.
    fn grow(&self, patience: &Patience) -> Result<bool> {
        match self.new_segment(patience) {
            Ok(block) => self.extend_by(&block, patience).map(|()| true),
            Err(error) if error.kind() == Kind::ArenaFull => self.locked(patience, |gone| self.evict(gone)),
            Err(error) => Err(error),
        }
    }

    /// Makes a zeroed block the next segment, unless another was faster.
    fn extend_by(&self, block: &Hold, patience: &Patience) -> Result<()> {
        self.locked(patience, |gone| {
            let high = read(self.table.word(HIGH), Relaxed).capped(self.table.geometry.places().into());
            if high == u64::from(self.table.geometry.places()) || self.table.place(high + 1).is_some() {
                return Ok(());
            }
            if self.table.segment_count() == self.table.geometry.segments()
                || self.table.directory(self.table.segment_count()).block.load(Relaxed) != 0
            {
                self.recover(gone)?;
            }
            self.extend(block, gone)
        })
    }

    fn extend(&self, block: &Hold, gone: &mut Gone) -> Result<()> {
        let segment = self.table.segment_count();
        if segment == self.table.geometry.segments() {
            return Err(scribbled());
        }
        self.table.format_segment(segment, block);
        self.adopt(self.table.directory(segment), block, gone)?;
        point(Point::CacheGrown);
        self.table.open_own(segment, block.clone());
        self.table.word(SEGMENTS).store(segment as u64 + 1, Release);
        point(Point::CacheExtended);
        Ok(())
    }

    /// A place that bears the key, in the given state; `Loading` by the calling thread, or `Empty` to be filled at once.
    fn occupy(&self, key: &Key, annex: Option<&Hold>, state: State, gone: &mut Gone) -> Result<Attempt<u32>> {
        let place = match self.find_place(gone)? {
            Attempt::Done(place) => place,
            other => return Ok(other),
        };
        let entry = self.table.entry(place);
        // Anew, so that nobody takes what follows for what was here.
        self.change(entry, State::Empty);
        entry.hash().store(key.hash, Relaxed);
        entry.lens().store((key.bytes.len() as u64) << 32, Relaxed);
        entry.uses().store(0, Relaxed);
        entry.order().store(0, Relaxed);
        entry.bytes().store(annex.map_or(0, |annex| annex.len_bytes() as u64), Relaxed);
        if let Err(error) = self.set_text(entry.key(), &key.bytes, annex, gone) {
            self.free_place(place);
            return Err(error);
        }
        entry.loader().store(self.arena().identity()?, Relaxed);
        entry.thread().store(self.arena().thread()?, Relaxed);
        point(Point::CacheOccupied);
        // Before it is chained: no chain has an empty entry.
        if state == State::Loading {
            add(self.table.word(LOADING), 1);
            self.change(entry, State::Loading);
            point(Point::CacheLoading);
            self.chain(place);
            point(Point::CacheChained);
        }
        Ok(Attempt::Done(place))
    }

    fn set_text(&self, text: Text<'_>, bytes: &[u8], annex: Option<&Hold>, gone: &mut Gone) -> Result<()> {
        match annex {
            Some(annex) => self.adopt(text.annex, annex, gone),
            None => {
                store_bytes(text.words, bytes);
                Ok(())
            }
        }
    }

    /// Keeps a block for an entry. A death on the way leaves a record too many, which `recover` ends.
    fn adopt(&self, child: Child<'_>, hold: &Hold, gone: &mut Gone) -> Result<()> {
        let adopted = self.table.head.adopt(hold, &gone.patience());
        let record = adopted.inspect_err(|error| gone.put_off(error))?;
        point(Point::CacheAdopted);
        child.record.store(record.index.into(), Relaxed);
        child.nonce.store(record.nonce, Relaxed);
        // Release: who reads the name of a segment sees what the segment begins with.
        child.block.store(hold.block().to_word(), Release);
        Ok(())
    }

    /// Gives an occupied place its value. It is live from here on.
    fn fill(&self, place: u32, value: Value<'_>, annex: Option<&Hold>, gone: &mut Gone) -> Result<Stored> {
        let entry = self.table.entry(place);
        let adopted = self
            .adopt(entry.value(), value.hold, gone)
            .and_then(|()| self.set_text(entry.view(), value.view, annex, gone));
        if let Err(error) = adopted {
            if gone.is_put_off && entry.now().state() == State::Loading {
                // It begins again as the load that it is.
                self.release_children(&[entry.value(), entry.view().annex], gone)?;
            } else {
                self.vacate(place, gone)?;
            }
            return Err(error);
        }
        // RAW: added to without an overflow; who uses it caps it.
        let (key_len, key_bytes) = (entry.lengths().0 as u64, entry.bytes().load(Relaxed));
        entry.lens().store(key_len << 32 | value.view.len() as u64, Relaxed);
        entry.offset().store(value.offset, Relaxed);
        entry.bytes().store(key_bytes.saturating_add(cost(value, [&annex.cloned(), &None])), Relaxed);
        let stored = now_ns();
        // RAW: any number is a hash.
        let seal = seal_of(entry.hash().load(Relaxed), value.hold.block(), value.offset, stored, value.view);
        entry.stored().store(stored, Relaxed);
        entry.seal().store(seal, Relaxed);
        self.settle(place, State::Live);
        Ok(Stored::Cached)
    }

    /// Brings a filled entry to life and into its queue.
    fn settle(&self, place: u32, state: State) {
        let entry = self.table.entry(place);
        let was_loading = entry.now().state() == State::Loading;
        if was_loading {
            subtract(self.table.word(LOADING), 1);
        }
        // RAW: any number is a hash.
        let tag = self.table.queue_for(entry.hash().load(Relaxed));
        point(Point::CacheFilled);
        self.change(entry, state);
        point(Point::CacheLive);
        if !was_loading {
            self.chain(place);
        }
        self.table.enqueue(place, tag);
        point(Point::CacheQueued);
        add(self.table.word(USED), entry.counted());
        if state == State::Live {
            add(self.table.word(LIVE), 1);
        }
        point(Point::CacheCounted);
    }
}

impl Gone {
    /// How long the arena's lock is waited for in this turn.
    fn patience(&self) -> Patience<'static> {
        if self.is_late { Patience::none() } else { Patience::new(Some(RECORD_WAIT), &|| Ok(())) }
    }

    fn put_off(&mut self, error: &Error) {
        if error.kind() == Kind::Timeout {
            (self.is_late, self.is_put_off) = (true, true);
        }
    }
}

/// When it is now, on the clock of all processes; never 0.
fn now_ns() -> u64 {
    u64::try_from(monotonic().as_nanos()).unwrap_or(u64::MAX).max(1)
}

fn age_ns(entry: Entry<'_>) -> u64 {
    // RAW: only taken from the time, and not below nothing.
    now_ns().saturating_sub(entry.stored().load(Relaxed))
}

/// What the words of a live entry come to. An entry whose words give another number was written over.
fn seal_of(hash: u64, block: BlockId, offset: u64, stored: u64, view: &[u8]) -> u64 {
    [block.to_word(), offset, stored, hash_of(view)].into_iter().fold(hash, seal_word)
}

fn seal_word(seal: u64, word: u64) -> u64 {
    let mixed = (seal.rotate_left(23) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    mixed ^ mixed >> 32
}

#[cold]
fn scribbled() -> Error {
    Error::new(
        Kind::Poisoned,
        "the cache's tables contradict themselves, also after they were put in order: something writes over its \
         memory; make a new cache",
    )
}

/// What a value counts for: its block, and the blocks of a long key or view.
fn cost(value: Value<'_>, annexes: [&Option<Hold>; 2]) -> u64 {
    let annex_bytes: usize = annexes.into_iter().flatten().map(Hold::len_bytes).sum();
    (value.hold.len_bytes() + annex_bytes) as u64
}
