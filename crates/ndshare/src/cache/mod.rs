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
//! derive from the entries, and are made anew when a process died under the lock.
//!
//! `table`: where each word lies. `policy`: who goes. `load`: one loads, the others wait. `recover`: after a death.

mod load;
mod policy;
mod recover;
mod table;

#[cfg(all(test, not(loom)))]
mod tests;

pub use load::{Fetch, Loading};
pub use table::{Geometry, MAX_TEXT_BYTES};

use crate::arena::{Arena, BlockId, Hold, Patience, TicketId};
use crate::error::{Error, Kind, Result};
use crate::lock::Entered;
use crate::os::kill::{Point, point};
use crate::prim::{
    Ordering::{Acquire, Relaxed, Release},
    equal_bytes, fence, load_bytes, store_bytes,
};
use policy::{MOST_USES, add, subtract};
use std::sync::Arc;
use table::{
    Child, Count, EPOCH, EVICTIONS, Entry, FAILURES, FREE, HIGH, LIVE, LOADING, LOADS, State, Table, Text, UNCACHED,
    USED, Word,
};

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
    /// Values in the cache.
    pub entries: u64,
    /// Values that somebody looks at.
    pub pinned: u64,
    /// Bytes of the values in the cache, as their blocks take them.
    pub bytes: u64,
    /// The most bytes.
    pub maxsize: u64,
}

/// A cache, as one process has it.
#[derive(Debug)]
pub struct Cache {
    table: Table,
}

/// Places of blocks whose record has ended: to be freed once the lock is open.
type Gone = Vec<u32>;

const FOREVER: Patience<'static> = Patience::forever();

impl Cache {
    /// A new cache in `arena`.
    ///
    /// # Errors
    /// `ArenaFull`; what `patience` says.
    pub fn create(arena: &Arc<Arena>, geometry: Geometry, patience: &Patience) -> Result<Arc<Self>> {
        let head = arena.alloc(geometry.head_bytes(), 64, true, patience)?;
        Ok(Arc::new(Self { table: Table::format(head, geometry) }))
    }

    /// The cache whose head this is.
    ///
    /// # Errors
    /// `InvalidValue` when the block is no head of a cache.
    pub fn open(head: Hold) -> Result<Arc<Self>> {
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
        let mut link = self.table.bucket(key.hash).load(Acquire);
        for _ in 0..CHAIN_LOOKS {
            let Some(place) = self.table.place(link) else { return Ok(None) };
            let entry = self.table.entry(place);
            if entry.hash().load(Relaxed) == key.hash {
                return self.open_entry(place, key);
            }
            link = entry.chain().load(Acquire);
        }
        Ok(None)
    }

    /// The value of an entry, if it is the live one of this key.
    fn open_entry(&self, place: u32, key: &Key) -> Result<Option<Found>> {
        let entry = self.table.entry(place);
        let seen = entry.now();
        if seen.state() != State::Live || !self.has_key(entry, key) {
            return Ok(None);
        }
        let Some(found) = self.take_value(entry)? else { return Ok(None) };
        // Pairs with the fence in `change`: had a word been of another value, the entry's own would differ, too. The
        // hold is in hand: from here on the block stays what it is.
        fence(Acquire);
        if entry.word().load(Relaxed) != seen.0 {
            return Ok(None);
        }
        let uses = entry.uses().load(Relaxed);
        if uses < MOST_USES {
            entry.uses().store(uses + 1, Relaxed);
        }
        self.table.count(Count::Hits, self.arena().identity()?);
        Ok(Some(found))
    }

    fn take_value(&self, entry: Entry<'_>) -> Result<Option<Found>> {
        let Some(hold) = self.take_block(entry.value())? else { return Ok(None) };
        let view = self.text(entry.view(), entry.lengths().1)?;
        Ok(view.map(|view| Found { hold, offset: entry.offset().load(Relaxed), view }))
    }

    fn take_block(&self, child: Child<'_>) -> Result<Option<Hold>> {
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
        let found = self.locked(patience, |_| self.find_under_lock(key))?;
        if found.is_none() {
            self.table.count(Count::Misses, self.arena().identity()?);
        }
        Ok(found)
    }

    fn find_under_lock(&self, key: &Key) -> Result<Option<Found>> {
        self.place_of(key).map_or(Ok(None), |place| self.open_entry(place, key))
    }

    /// Whether a key has a value now.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn contains(&self, key: &Key, patience: &Patience) -> Result<bool> {
        let is_live = |place| self.table.entry(place).now().state() == State::Live;
        self.locked(patience, |_| Ok(self.place_of(key).is_some_and(is_live)))
    }

    /// Which making of the key's value is current: storing and deleting begin a new one, eviction and loading do
    /// not. Now and then a new one begins for the sake of another key.
    pub fn generation(&self, key: &Key) -> u64 {
        let bucket = self.table.bucket(key.hash).load(Acquire) >> 32;
        self.table.word(EPOCH).load(Acquire) << 32 | bucket
    }

    /// The keys that have values now, in no order.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn keys(&self, patience: &Patience) -> Result<Vec<Vec<u8>>> {
        self.locked(patience, |_| {
            let live = self.places().filter(|&place| self.table.entry(place).now().state() == State::Live);
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
            entries: word(LIVE),
            pinned: self.places().filter(is_pinned).count() as u64,
            bytes: word(USED),
            maxsize: self.table.geometry.maxsize,
        }
    }

    fn is_pinned(&self, place: u32) -> bool {
        let block = BlockId::from_word(self.table.entry(place).value().block.load(Relaxed));
        block.is_some_and(|block| Hold::is_held(self.arena(), block))
    }

    /// How many values there are now. Never waits.
    #[allow(clippy::len_without_is_empty, reason = "it is a figure of one moment, not the state of a container")]
    pub fn len(&self) -> usize {
        self.table.word(LIVE).load(Relaxed) as usize
    }

    // ---- storing and deleting

    /// Makes `value` the key's value.
    ///
    /// # Errors
    /// `ArenaFull` when there is no room for a long key or view; `InvalidValue` for a block of another arena; what
    /// `patience` says. The cache is as before then.
    pub fn store(&self, key: &Key, value: Value<'_>, patience: &Patience) -> Result<Stored> {
        self.check(value)?;
        let key_annex = self.annex(&key.bytes, |entry| entry.key(), patience)?;
        let view_annex = self.annex(value.view, |entry| entry.view(), patience)?;
        self.with_room(patience, |gone| {
            self.end_generation(key, gone)?;
            if !self.make_room(cost(value, [&key_annex, &view_annex]), gone)? {
                return Ok(None);
            }
            let Some(place) = self.occupy(key, key_annex.as_ref(), State::Empty, gone)? else { return Ok(None) };
            self.fill(place, value, view_annex.as_ref(), gone).map(Some)
        })
    }

    /// Runs `work` under the lock; once more after a sweep of the dead if it finds no room, for they may pin values.
    fn with_room(&self, patience: &Patience, work: impl Fn(&mut Gone) -> Result<Option<Stored>>) -> Result<Stored> {
        if let Some(stored) = self.locked(patience, &work)? {
            return Ok(stored);
        }
        self.arena().sweep_the_dead()?;
        let again = self.locked(patience, |gone| {
            let stored = work(gone)?;
            if stored.is_none() {
                add(self.table.word(UNCACHED), 1);
            }
            Ok(stored)
        })?;
        Ok(again.unwrap_or(Stored::Uncached))
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

    /// A block for bytes that do not fit into an entry; none for those that do.
    fn annex(&self, bytes: &[u8], text: impl Fn(Entry<'_>) -> Text<'_>, patience: &Patience) -> Result<Option<Hold>> {
        if text(self.table.entry(0)).fits(bytes.len()) {
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

    /// Runs `work` under the head's lock, after putting things in order if an owner of it died; frees afterwards
    /// what came free.
    fn locked<T>(&self, patience: &Patience, work: impl FnOnce(&mut Gone) -> Result<T>) -> Result<T> {
        let (lock, dirty) = Entered::enter(&self.table.head, patience)?;
        let mut gone = Gone::new();
        if dirty {
            self.recover(&mut gone)?;
        }
        let outcome = work(&mut gone);
        lock.leave()?;
        for block in gone {
            self.arena().free_unkept(block)?;
        }
        outcome
    }

    /// All places that were ever in use.
    fn places(&self) -> impl Iterator<Item = u32> + use<> {
        let high = self.table.word(HIGH).load(Relaxed);
        0..u32::try_from(high).unwrap_or(u32::MAX).min(self.table.geometry.places())
    }

    /// The place of a key's entry, in whatever state.
    fn place_of(&self, key: &Key) -> Option<u32> {
        let mut link = self.table.bucket(key.hash).load(Relaxed);
        for _ in 0..self.table.geometry.places() {
            let place = self.table.place(link)?;
            let entry = self.table.entry(place);
            if entry.hash().load(Relaxed) == key.hash && entry.now().state() != State::Empty && self.has_key(entry, key)
            {
                return Some(place);
            }
            link = entry.chain().load(Relaxed);
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
        let Some(place) = self.place_of(key) else { return Ok(false) };
        let was_live = self.table.entry(place).now().state() == State::Live;
        self.vacate(place, gone)?;
        Ok(was_live)
    }

    /// Ends an entry, whatever it is, and wakes who waits for it.
    fn vacate(&self, place: u32, gone: &mut Gone) -> Result<()> {
        let entry = self.table.entry(place);
        let was = entry.now().state();
        self.change(entry, State::Empty);
        point(Point::CacheEmptied);
        self.release_children(entry, gone)?;
        point(Point::CacheReleased);
        self.table.unlink(place);
        self.unchain(place);
        match was {
            State::Live => {
                subtract(self.table.word(USED), entry.bytes().load(Relaxed));
                subtract(self.table.word(LIVE), 1);
            }
            State::Failed => subtract(self.table.word(USED), entry.bytes().load(Relaxed)),
            State::Loading => subtract(self.table.word(LOADING), 1),
            State::Empty => {}
        }
        self.free_place(place);
        point(Point::CacheFreed);
        if was == State::Loading { self.wake(place) } else { Ok(()) }
    }

    fn wake(&self, place: u32) -> Result<()> {
        self.table.head.wake(self.table.word_at(place))
    }

    fn release_children(&self, entry: Entry<'_>, gone: &mut Gone) -> Result<()> {
        for child in entry.children() {
            let nonce = child.nonce.load(Relaxed);
            if nonce != 0 {
                let record = TicketId { index: child.record.load(Relaxed) as u32, nonce };
                gone.extend(self.table.head.end_record(record, &FOREVER)?);
            }
            child.nonce.store(0, Relaxed);
            child.block.store(0, Relaxed);
        }
        Ok(())
    }

    fn free_place(&self, place: u32) {
        let free = self.table.word(FREE);
        self.table.entry(place).chain().store(free.load(Relaxed), Relaxed);
        free.store(u64::from(place) + 1, Relaxed);
    }

    fn unchain(&self, place: u32) {
        let entry = self.table.entry(place);
        let bucket = self.table.bucket(entry.hash().load(Relaxed));
        let behind = entry.chain().load(Relaxed) & 0xffff_ffff;
        if self.table.place(bucket.load(Relaxed)) == Some(place) {
            bucket.store(bucket.load(Relaxed) & !0xffff_ffff | behind, Release);
            return;
        }
        let mut link = bucket.load(Relaxed);
        for _ in 0..self.table.geometry.places() {
            let Some(ahead) = self.table.place(link) else { return };
            let chain = self.table.entry(ahead).chain();
            link = chain.load(Relaxed);
            if self.table.place(link) == Some(place) {
                return chain.store(behind, Release);
            }
        }
    }

    fn chain(&self, place: u32) {
        let entry = self.table.entry(place);
        let bucket = self.table.bucket(entry.hash().load(Relaxed));
        let word = bucket.load(Relaxed);
        entry.chain().store(word & 0xffff_ffff, Release);
        bucket.store(word & !0xffff_ffff | (u64::from(place) + 1), Release);
    }

    /// Evicts until `bytes` more fit. False: all that is left is pinned, or the bytes never fit.
    fn make_room(&self, bytes: u64, gone: &mut Gone) -> Result<bool> {
        if bytes > self.table.geometry.maxsize {
            return Ok(false);
        }
        while self.table.word(USED).load(Relaxed).saturating_add(bytes) > self.table.geometry.maxsize {
            if !self.evict(gone)? {
                return Ok(false);
            }
        }
        Ok(true)
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

    /// A free place; entries are evicted when there are more than the cache may have. None: no place comes free.
    fn find_place(&self, gone: &mut Gone) -> Result<Option<u32>> {
        let geometry = &self.table.geometry;
        while self.table.queued() >= u64::from(geometry.entries) {
            if !self.evict(gone)? {
                return Ok(None);
            }
        }
        if let Some(place) = self.table.place(self.table.word(FREE).load(Relaxed)) {
            let behind = self.table.entry(place).chain().load(Relaxed) & 0xffff_ffff;
            self.table.word(FREE).store(behind, Relaxed);
            return Ok(Some(place));
        }
        let high = self.table.word(HIGH).load(Relaxed);
        if high >= u64::from(geometry.places()) {
            return Ok(None);
        }
        self.table.word(HIGH).store(high + 1, Relaxed);
        Ok(Some(high as u32))
    }

    /// A place that bears the key, in the given state; `Loading` by the calling thread, or `Empty` to be filled at once.
    fn occupy(&self, key: &Key, annex: Option<&Hold>, state: State, gone: &mut Gone) -> Result<Option<u32>> {
        let Some(place) = self.find_place(gone)? else { return Ok(None) };
        let entry = self.table.entry(place);
        // Anew, so that nobody takes what follows for what was here.
        self.change(entry, State::Empty);
        entry.hash().store(key.hash, Relaxed);
        entry.lens().store((key.bytes.len() as u64) << 32, Relaxed);
        entry.uses().store(0, Relaxed);
        entry.order().store(0, Relaxed);
        entry.bytes().store(annex.map_or(0, |annex| annex.len_bytes() as u64), Relaxed);
        if let Err(error) = self.set_text(entry.key(), &key.bytes, annex) {
            self.free_place(place);
            return Err(error);
        }
        entry.loader().store(self.arena().identity()?, Relaxed);
        entry.thread().store(self.arena().thread()?, Relaxed);
        point(Point::CacheOccupied);
        if state == State::Loading {
            add(self.table.word(LOADING), 1);
            self.change(entry, State::Loading);
            point(Point::CacheLoading);
        }
        self.chain(place);
        point(Point::CacheChained);
        Ok(Some(place))
    }

    fn set_text(&self, text: Text<'_>, bytes: &[u8], annex: Option<&Hold>) -> Result<()> {
        match annex {
            Some(annex) => self.adopt(text.annex, annex),
            None => {
                store_bytes(text.words, bytes);
                Ok(())
            }
        }
    }

    /// Keeps a block for an entry. A death on the way leaves a record too many, which `recover` ends.
    fn adopt(&self, child: Child<'_>, hold: &Hold) -> Result<()> {
        let record = self.table.head.adopt(hold, &FOREVER)?;
        point(Point::CacheAdopted);
        child.record.store(record.index.into(), Relaxed);
        child.nonce.store(record.nonce, Relaxed);
        child.block.store(hold.block().to_word(), Relaxed);
        Ok(())
    }

    /// Gives an occupied place its value. It is live from here on.
    fn fill(&self, place: u32, value: Value<'_>, annex: Option<&Hold>, gone: &mut Gone) -> Result<Stored> {
        let entry = self.table.entry(place);
        let adopted =
            self.adopt(entry.value(), value.hold).and_then(|()| self.set_text(entry.view(), value.view, annex));
        if let Err(error) = adopted {
            self.vacate(place, gone)?;
            return Err(error);
        }
        let (key_len, key_bytes) = (entry.lengths().0 as u64, entry.bytes().load(Relaxed));
        entry.lens().store(key_len << 32 | value.view.len() as u64, Relaxed);
        entry.offset().store(value.offset, Relaxed);
        entry.bytes().store(key_bytes + cost(value, [&annex.cloned(), &None]), Relaxed);
        self.settle(place, State::Live);
        Ok(Stored::Cached)
    }

    /// Brings a filled entry to life and into its queue.
    fn settle(&self, place: u32, state: State) {
        let entry = self.table.entry(place);
        if entry.now().state() == State::Loading {
            subtract(self.table.word(LOADING), 1);
        }
        let tag = self.table.queue_for(entry.hash().load(Relaxed));
        point(Point::CacheFilled);
        self.change(entry, state);
        point(Point::CacheLive);
        self.table.enqueue(place, tag);
        point(Point::CacheQueued);
        add(self.table.word(USED), entry.bytes().load(Relaxed));
        if state == State::Live {
            add(self.table.word(LIVE), 1);
        }
        point(Point::CacheCounted);
    }
}

/// What a value counts for: its block, and the blocks of a long key or view.
fn cost(value: Value<'_>, annexes: [&Option<Hold>; 2]) -> u64 {
    let annex_bytes: usize = annexes.into_iter().flatten().map(Hold::len_bytes).sum();
    (value.hold.len_bytes() + annex_bytes) as u64
}
