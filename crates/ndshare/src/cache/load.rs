//! Loading: one process loads a key, the others wait for it.
//!
//! The entry of a key that is being loaded says who loads it. The others sleep on its word, which changes when the
//! load ends, and look at each nap whether the loader lives. Whoever finds it dead empties the entry, and one of those
//! who wait begins the load anew. A failure is kept for those who were waiting; whoever comes later tries again.

use super::key::Key;
use super::room::Attempt;
use super::state::Cache;
use super::table::{
    Count, DEPARTURES, EXPIRED, FAILURES, FREE, KEY_BYTES, LOADS, LOOK, State, UNCACHED, VIEW_BYTES, Word, add,
};
use super::turn::Turn;
use super::value::{Found, Stored, Value, cost};
use crate::arena::{Deadline, Hold};
use crate::error::{Error, Kind, Result};
use crate::os::kill::{Point, point};
use crate::prim::{
    Ordering::{Relaxed, SeqCst},
    load_bytes, read, store_bytes,
};
use std::sync::Arc;

/// How many processes an error names.
const NAMED: usize = 4;
/// Bytes of a failure's text that are kept.
const FAILURE_BYTES: usize = 1016;

/// What asking for a key gives.
#[derive(Debug)]
pub enum Fetch {
    /// Its value.
    Found(Found),
    /// The caller is the one to load it.
    Load(Loading),
    /// Another loaded it while the caller waited, and failed.
    Failed(Failure),
    /// The caller is to load it for itself: all entries that there may be are pinned. It counts as not kept.
    Unkept,
}

/// Why another's load failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The process that was loading; none where that is not known.
    pub pid: Option<u32>,
    /// The name of the exception's type.
    pub type_name: String,
    /// Its text, perhaps cut.
    pub text: String,
}

/// A load that this process has begun. Dropping it ends it without a value: one of those who wait tries next.
#[derive(Debug)]
pub struct Loading {
    cache: Arc<Cache>,
    slot: u32,
    word: Word,
    ended: bool,
}

/// What a look under the lock says.
enum Look {
    Found(Found),
    Begun(u32, Word),
    Failed(Failure),
    Busy(Busy),
    NoPlace,
    Pinned,
    NeedsTable,
}

/// A load by somebody else.
#[derive(Clone, Copy)]
struct Busy {
    slot: u32,
    word: Word,
    loader: u64,
    thread: u64,
}

impl Cache {
    /// The value of a key as a block, or the task to load it. While another loads it, this waits.
    ///
    /// # Errors
    /// `Misuse` when this very thread is loading the key; `ArenaFull` without room for a long key; `Timeout` at
    /// `deadline`.
    pub fn fetch_block(self: &Arc<Self>, key: &Key, deadline: &Deadline) -> Result<Fetch> {
        if let Some(found) = self.find(key)? {
            return Ok(Fetch::Found(found));
        }
        self.check_writable()?;
        let annex = self.annex(key.bytes(), KEY_BYTES, deadline)?;
        let mut waited_for = None;
        let mut swept = false;
        // BOUND: the caller's deadline, which is looked at in each wait.
        loop {
            match self.locked(deadline, |turn| self.look(key, annex.as_ref(), waited_for, turn))? {
                Look::Found(found) => return Ok(Fetch::Found(found)),
                Look::Failed(failure) => return Ok(Fetch::Failed(failure)),
                Look::Begun(slot, word) => {
                    self.table.count(Count::Misses, self.arena().identity()?);
                    return Ok(Fetch::Load(Loading { cache: self.clone(), slot, word, ended: false }));
                }
                Look::Busy(busy) => {
                    if waited_for.is_none() {
                        self.table.count(Count::Waits, self.arena().identity()?);
                    }
                    self.wait_for_load(busy, deadline)?;
                    waited_for = Some((busy.slot, busy.word));
                }
                Look::NoPlace => self.make_slots(deadline)?,
                Look::NeedsTable if self.grow(deadline)? => {}
                Look::Pinned | Look::NeedsTable if !swept => {
                    swept = true;
                    self.sweep_for_room(deadline)?;
                }
                Look::Pinned | Look::NeedsTable => return self.count_unkept(deadline),
            }
        }
    }

    fn count_unkept(&self, deadline: &Deadline) -> Result<Fetch> {
        self.table.count(Count::Misses, self.arena().identity()?);
        self.count_uncached(deadline).map(|()| Fetch::Unkept)
    }

    fn look(&self, key: &Key, annex: Option<&Hold>, waited_for: Option<(u32, Word)>, turn: &mut Turn) -> Result<Look> {
        if let Some(slot) = self.slot_of(key, turn)? {
            let entry = self.table.entry(slot);
            let word = entry.now();
            match word.state() {
                State::Live => {
                    if let Some(found) = self.open_entry(slot, key)? {
                        return Ok(Look::Found(found));
                    }
                }
                State::Loading => {
                    // RAW: names, which are compared and looked up.
                    let (loader, thread) = (entry.loader().load(Relaxed), entry.thread().load(Relaxed));
                    return Ok(Look::Busy(Busy { slot, word, loader, thread }));
                }
                State::Failed
                    if waited_for.is_some_and(|(at, seen)| at == slot && seen.next(State::Failed) == word) =>
                {
                    return self.failure(slot).map(Look::Failed);
                }
                State::Failed | State::Empty => {}
            }
            // A failure that others waited for, a value that is too old or whose block is gone: the next load
            // replaces it.
            if word.state() == State::Live && self.is_expired(entry) {
                add(self.table.word(EXPIRED), 1);
                point(Point::CacheCounted);
            }
            self.vacate(slot, turn)?;
        }
        Ok(match self.occupy(key, annex, State::Loading, turn)? {
            Attempt::Done(slot) => Look::Begun(slot, self.table.entry(slot).now()),
            Attempt::Pinned => Look::Pinned,
            Attempt::NoPlace => Look::NoPlace,
            Attempt::NeedsTable => Look::NeedsTable,
        })
    }

    /// What the block of a failed load says: the process, then the text.
    fn failure(&self, slot: u32) -> Result<Failure> {
        let entry = self.table.entry(slot);
        let len = read(entry.offset(), Relaxed).capped(FAILURE_BYTES as u64) as usize;
        let block = self.take_block(entry.value())?;
        let words = block.as_ref().map_or(&[][..], |hold| hold.words());
        // RAW: a number for people.
        let pid = words.first().and_then(|word| u32::try_from(word.load(Relaxed)).ok()).filter(|&pid| pid != 0);
        let bytes = if words.is_empty() { Vec::new() } else { load_bytes(&words[1..], len) };
        let text = String::from_utf8_lossy(&bytes);
        let (type_name, text) = text.split_once('\0').unwrap_or(("Exception", ""));
        Ok(Failure { pid, type_name: type_name.to_owned(), text: text.to_owned() })
    }

    /// Sleeps until a load has ended, or its loader is found dead.
    fn wait_for_load(&self, busy: Busy, deadline: &Deadline) -> Result<()> {
        self.refuse_recursion(busy)?;
        let (segment, at) = self.table.word_at(busy.slot);
        // BOUND: the caller's deadline, which is looked at in each round.
        while self.table.entry(busy.slot).now() == busy.word {
            // Read anew: who gives a load up while the cache's lock is taken leaves it like a dead one's.
            // RAW: a name, which is looked up.
            let loader = self.table.entry(busy.slot).loader().load(Relaxed);
            if !self.arena().is_identity_alive(loader)? {
                return self.bury(busy, deadline);
            }
            deadline.go_on("the key, which another is loading,").map_err(|error| self.name_loader(error, loader))?;
            segment.nap_on(at, busy.word.0 as u32, deadline)?;
        }
        Ok(())
    }

    /// The error of a wait that has ended, with the process that loads.
    fn name_loader(&self, error: Error, loader: u64) -> Error {
        match self.arena().glimpse_identity(loader).filter(|_| error.kind() == Kind::Timeout) {
            Some(process) => {
                let text = format!("{error}. It is loaded by {process}");
                error.saying(text).waiting_on([process])
            }
            None => error,
        }
    }

    /// The error of a wait for a slot, with processes whose loads have all of them.
    #[cold]
    fn name_loaders(&self, error: Error) -> Error {
        if error.kind() != Kind::Timeout {
            return error;
        }
        let mut loaders = Vec::new();
        for slot in self.slots().filter(|&slot| self.table.entry(slot).now().state() == State::Loading) {
            // RAW: a name, which is looked up.
            let loader = self.table.entry(slot).loader().load(Relaxed);
            if loaders.len() < NAMED && !loaders.contains(&loader) {
                loaders.push(loader);
            }
        }
        let loaders = loaders.into_iter().filter_map(|loader| self.arena().glimpse_identity(loader));
        error.held_by(loaders)
    }

    fn refuse_recursion(&self, busy: Busy) -> Result<()> {
        if busy.loader != self.arena().identity()? || busy.thread != self.arena().thread()? {
            return Ok(());
        }
        Err(Error::new(
            Kind::Misuse,
            "this thread is loading the key already: expected its loader to return the value, but it asked the cache \
             for the same key",
        ))
    }

    /// Empties the entry of a loader that died.
    fn bury(&self, busy: Busy, deadline: &Deadline) -> Result<()> {
        self.locked(deadline, |turn| {
            if self.table.entry(busy.slot).now() == busy.word { self.vacate(busy.slot, turn) } else { Ok(()) }
        })
    }

    /// Ends the loads of those that have died since somebody looked: room is kept for what they would have stored.
    pub(super) fn bury_the_latest(&self, turn: &mut Turn) -> Result<()> {
        let departures = u64::from(self.arena().departures());
        // Before the look, so that whoever dies or gives up during it is looked for the next time.
        // RAW: only told from others.
        if self.table.word(DEPARTURES).swap(departures, SeqCst) != departures {
            point(Point::CacheEnded);
            self.bury_all(turn)?;
        }
        Ok(())
    }

    /// Ends all loads of the dead, under the lock. Says whether there were any.
    fn bury_all(&self, turn: &mut Turn) -> Result<bool> {
        let mut buried = false;
        for slot in self.slots() {
            if self.is_load_of_the_dead(slot)? {
                self.vacate(slot, turn)?;
                buried = true;
            }
        }
        Ok(buried)
    }

    /// Ends the loads of the dead, which hold slots; failing that, waits a nap for others to end theirs.
    fn make_slots(&self, deadline: &Deadline) -> Result<()> {
        if self.locked(deadline, |turn| self.bury_all(turn))? {
            return Ok(());
        }
        self.arena().sweep_the_dead()?;
        deadline.go_on("a slot in the cache").map_err(|error| self.name_loaders(error))?;
        // RAW: only compared with what it is later.
        let word = self.table.word(FREE).load(Relaxed) as u32;
        self.table.head.nap_on(FREE, word, deadline)
    }
}

impl Loading {
    /// Gives the key its value, unless the key was stored or deleted meanwhile, and wakes who waits.
    ///
    /// # Errors
    /// As [`Cache::store_block`]; then the load has ended without a value.
    pub fn finish(mut self, value: Value<'_>, deadline: &Deadline) -> Result<Stored> {
        let cache = self.cache.clone();
        cache.check(value)?;
        let annex = cache.annex(value.view, VIEW_BYTES, deadline)?;
        let stored = cache.with_room(deadline, |turn| self.put(value, annex.as_ref(), turn))?;
        // What was not kept leaves an entry behind, which the drop ends.
        self.ended = stored == Stored::Cached;
        Ok(stored)
    }

    fn put(&self, value: Value<'_>, annex: Option<&Hold>, turn: &mut Turn) -> Result<Attempt<Stored>> {
        let cache = &self.cache;
        if !self.is_mine()? {
            add(cache.table.word(UNCACHED), 1);
            point(Point::CacheCounted);
            return Ok(Attempt::Done(Stored::Uncached));
        }
        if !cache.make_room(cost(value, [annex, None]), turn)? {
            return Ok(Attempt::Pinned);
        }
        let stored = cache.fill(self.slot, value, annex, turn)?;
        add(cache.table.word(LOADS), 1);
        point(Point::CacheCounted);
        cache.wake(self.slot)?;
        Ok(Attempt::Done(stored))
    }

    /// Ends the load with a failure, which those who wait get.
    ///
    /// # Errors
    /// `Poisoned`; `Timeout` at `deadline`.
    pub fn fail(mut self, type_name: &str, text: &str, deadline: &Deadline) -> Result<()> {
        let message = cut(&format!("{type_name}\0{text}"), FAILURE_BYTES).as_bytes().to_vec();
        let cache = self.cache.clone();
        // Without room for a text there is none: those who wait try for themselves.
        let Ok(block) = cache.arena().alloc(FAILURE_BYTES + 8, 64, false, deadline) else { return Ok(()) };
        // NO POINT: nobody else has the name of this block yet; with its maker it goes.
        block.word(0)?.store(cache.arena().locator().pid.into(), Relaxed);
        store_bytes(&block.words()[1..], &message);
        self.ended = cache.locked(deadline, |turn| {
            if !self.is_mine()? || !cache.make_room(block.len_bytes() as u64, turn)? {
                return Ok(false);
            }
            let entry = cache.table.entry(self.slot);
            cache.adopt(entry.value(), &block, turn)?;
            entry.offset().store(message.len() as u64, Relaxed);
            add(entry.bytes(), block.len_bytes() as u64);
            point(Point::CacheFilled);
            cache.settle(self.slot, State::Failed);
            add(cache.table.word(FAILURES), 1);
            point(Point::CacheCounted);
            cache.wake(self.slot).map(|()| true)
        })?;
        Ok(())
    }

    /// Ends the load without a value that could be kept, because the arena had no room for it. Counts it.
    ///
    /// # Errors
    /// `Poisoned`; `Timeout` at `deadline`.
    pub fn forgo(self, deadline: &Deadline) -> Result<()> {
        self.cache.clone().locked(deadline, |turn| {
            add(self.cache.table.word(UNCACHED), 1);
            point(Point::CacheCounted);
            if self.is_mine()? { self.cache.vacate(self.slot, turn) } else { Ok(()) }
        })
    }

    /// Whether the entry still waits for this load. Not in a forked child: the load is its parent's.
    fn is_mine(&self) -> Result<bool> {
        let entry = self.cache.table.entry(self.slot);
        Ok(entry.now() == self.word && entry.loader().load(Relaxed) == self.cache.arena().identity()?)
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        if self.ended || !self.is_mine().unwrap_or(false) {
            return;
        }
        let cache = &self.cache;
        // Nobody is here to be told of an error; a poisoned arena says it to the next caller.
        let empty = |turn: &mut _| if self.is_mine()? { cache.vacate(self.slot, turn) } else { Ok(()) };
        if cache.locked(&Deadline::now(), empty).is_err() && self.is_mine().unwrap_or(false) {
            // The owner of the cache's lock may be stopped, and a drop does not wait: to whoever asks for the key this
            // load is like a dead one's.
            cache.table.entry(self.slot).loader().store(0, SeqCst);
            point(Point::CacheAbandoned);
            cache.table.word(DEPARTURES).store(LOOK, SeqCst);
            let _ = cache.wake(self.slot);
        }
        point(Point::CacheAbandoned);
    }
}

/// The beginning of a text, at most `len` bytes of it.
fn cut(text: &str, len: usize) -> &str {
    let end = (0..=len.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}
