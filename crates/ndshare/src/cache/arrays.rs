//! Values as arrays.
//!
//! A value is a block that nobody writes to any more. An array that nobody else has, and that fills its block of the
//! cache's arena, becomes one as it is; everything else is copied into a block of its own. What is found may only be read.

use super::key::Key;
use super::load::{Failure, Fetch, Loading};
use super::state::Cache;
use super::value::{Found, Stored, Value, Writers};
use crate::arena::{Deadline, Hold};
use crate::array::{ALIGN, Array, Description};
use crate::error::{Error, Kind, LoadFailed, Result};
use crate::layout::Layout;
use std::sync::Arc;

/// An array as a value; `view` is its description as bytes.
fn value_of<'a>(array: &'a Array, view: &'a [u8]) -> Value<'a> {
    Value { hold: array.hold(), offset: array.offset() as u64, view }
}

impl Cache {
    /// The value of a key, if it is there. Never loads. It may only be read, and stays as it is while anybody has it, also
    /// when it has been evicted.
    ///
    /// # Errors
    /// `Poisoned`; `InvalidValue` for a value that contradicts itself; `Timeout` at `deadline`.
    pub fn get(&self, key: &Key, deadline: &Deadline) -> Result<Option<Array>> {
        self.get_block(key, deadline)?.map(array_of).transpose()
    }

    /// Makes an array the key's value. It is copied, unless nobody else has it and it fills its block of the cache's arena.
    ///
    /// A load of the key that is under way does not replace it.
    ///
    /// # Errors
    /// `ArenaFull` without room for a long key; `Poisoned`; `Timeout` at `deadline`. Without room for the value itself that is
    /// [`Stored::Uncached`], and the old one is gone.
    pub fn store(&self, key: &Key, array: Array, deadline: &Deadline) -> Result<Stored> {
        match self.kept(array, deadline)? {
            Ok(kept) => {
                let view = kept.description().encode();
                self.store_block(key, value_of(&kept, &view), deadline)
            }
            Err(_) => self.forgo(key, deadline).map(|()| Stored::Uncached),
        }
    }

    /// The value of a key, loaded by `load` if it is not there. While another thread or process loads it, this waits.
    ///
    /// What `load` returns becomes the value as with [`Self::store`]. Where it cannot be kept, because all else is in use
    /// or it is too large, the caller gets it nevertheless. An error of `load` is returned as it is; those who were waiting
    /// get it as `LoadFailed`, and the next call tries again. When it is `Interrupted`, and when this process dies, one of
    /// those who wait loads the key.
    ///
    /// # Errors
    /// What `load` says; `LoadFailed` when another's load failed; `Misuse` when this very thread is loading the key;
    /// `ArenaFull` without room for a long key; `Poisoned`; `Timeout` at `deadline`.
    pub fn fetch(
        self: &Arc<Self>,
        key: &Key,
        deadline: &Deadline,
        load: impl FnOnce(&Key) -> Result<Array>,
    ) -> Result<Array> {
        match self.fetch_block(key, deadline)? {
            Fetch::Found(found) => array_of(found),
            Fetch::Failed(failure) => Err(failed(key, failure)),
            Fetch::Unkept => Ok(load(key)?.readonly()),
            Fetch::Load(loading) => match load(key) {
                Ok(array) => self.finish(loading, array, deadline),
                Err(error) => Err(give_up(loading, error, deadline)),
            },
        }
    }

    fn finish(&self, loading: Loading, array: Array, deadline: &Deadline) -> Result<Array> {
        let kept = match self.kept(array, deadline)? {
            Ok(kept) => kept,
            Err(array) => {
                loading.forgo(deadline)?;
                return Ok(array.readonly());
            }
        };
        let view = kept.description().encode();
        loading.finish_in_room(value_of(&kept, &view), deadline)?;
        Ok(kept.readonly())
    }

    /// An array that nobody writes to any more: the given one, or a copy; the given one as an error when the arena has no
    /// room for a copy.
    fn kept(&self, array: Array, deadline: &Deadline) -> Result<std::result::Result<Array, Array>> {
        if self.may_keep(&array)? {
            return Ok(Ok(array));
        }
        let (layout, len_bytes) = Layout::contiguous(array.shape(), array.element().size())?;
        let Some(hold) = self.room_for(len_bytes, deadline)? else { return Ok(Err(array)) };
        let description = Description { layout, element: Some(array.element().clone()) };
        let copy = Array::of_parts(hold, 0, description, false)?;
        copy.copy_from(&array)?;
        Ok(Ok(copy))
    }

    fn may_keep(&self, array: &Array) -> Result<bool> {
        let len_bytes = array.len().saturating_mul(array.element().size());
        self.adopts(array.hold(), len_bytes, Writers::Anybody)
    }

    /// Whether an array of `len_bytes` becomes a value as it lies in its block: nobody can write to it any more, and the
    /// block has little beside it, which would be kept for nothing.
    ///
    /// # Errors
    /// `Poisoned`; `Attach` in a process without a slot.
    pub fn adopts(&self, hold: &Hold, len_bytes: usize, writers: Writers) -> Result<bool> {
        let is_filled = len_bytes >= hold.len_bytes() / 4 * 3;
        if !is_filled || !Arc::ptr_eq(hold.arena(), self.arena()) {
            return Ok(false);
        }
        match writers {
            Writers::Nobody => Ok(true),
            Writers::Elsewhere => hold.is_private(),
            Writers::Anybody => hold.is_only_reference(),
        }
    }

    /// A block for a value of `len_bytes`; none when the arena has no room, though its caches gave way.
    ///
    /// # Errors
    /// `Poisoned`; `ReadOnly` where this process may only read; `Timeout` at `deadline`.
    pub fn room_for(&self, len_bytes: usize, deadline: &Deadline) -> Result<Option<Hold>> {
        self.check_writable()?;
        in_room(self.arena().alloc(len_bytes.max(1), ALIGN, false, deadline))
    }
}

/// A full arena is no error here.
fn in_room<T>(outcome: Result<T>) -> Result<Option<T>> {
    match outcome {
        Err(error) if error.kind() == Kind::ArenaFull => Ok(None),
        other => other.map(Some),
    }
}

impl Loading {
    /// Ends the load with this value. Without room for what describes the value, it is the caller's alone.
    ///
    /// # Errors
    /// As [`Self::finish`], but for `ArenaFull`.
    pub fn finish_in_room(self, value: Value<'_>, deadline: &Deadline) -> Result<()> {
        in_room(self.finish(value, deadline)).map(drop)
    }
}

/// The array of a value. Whether its bytes lie in the block is checked here.
fn array_of(found: Found) -> Result<Array> {
    Array::of_parts(found.hold, found.offset, Description::decode(&found.view)?, true)
}

/// The error of those who waited for another's load.
fn failed(key: &Key, Failure { pid, type_name, text }: Failure) -> Error {
    let message = format!("the key {key} could not be loaded by another: {type_name}: {text}").into();
    LoadFailed { pid, key: key.to_string(), type_name, text, message }.into()
}

/// Ends a load that failed, and returns the error to be told.
fn give_up(loading: Loading, error: Error, deadline: &Deadline) -> Error {
    if error.kind() == Kind::Interrupted {
        // It says nothing about the key.
        return error;
    }
    // Who waits tries for itself where it cannot be told.
    let _ = loading.fail(&format!("ndshare::Kind::{:?}", error.kind()), &error.to_string(), deadline);
    error
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::arena::{Arena, Heap};
    use crate::cache::Geometry;
    use crate::cache::tests::{FOREVER, elsewhere};
    use crate::element::Number;

    fn cache(maxsize: u64) -> (Arc<Cache>, Arc<Heap>) {
        let (arena, heap) = Arena::create_on_heap(16 << 20).unwrap();
        (Cache::create(&arena, Geometry::new(maxsize, None).unwrap(), &FOREVER).unwrap(), heap)
    }

    fn key(number: u64) -> Key {
        Key::of(&("tile", number)).unwrap()
    }

    /// A kilobyte of a number.
    fn tile(cache: &Cache, number: u64) -> Array {
        let array = Array::zeros(cache.arena(), &[8, 16], Number::U64).unwrap();
        array.fill(number).unwrap();
        array
    }

    fn number(array: &Array) -> u64 {
        let items = array.to_vec::<u64>().unwrap();
        assert!(items.iter().all(|&item| item == items[0]), "a value is whole");
        items[0]
    }

    fn failed(_: &Key) -> Result<Array> {
        Err(Error::value("no such tile"))
    }

    #[test]
    fn arrays_come_and_go_by_key() {
        let (mine, heap) = cache(1 << 20);
        let theirs = elsewhere(&mine, &heap);
        assert!(theirs.get(&key(1), &FOREVER).unwrap().is_none());
        let array = tile(&mine, 7).view(&[(1..7).into(), (0..8).into()]).unwrap();
        assert_eq!(mine.store(&key(1), array.transpose(&[1, 0]).unwrap(), &FOREVER).unwrap(), Stored::Cached);
        let found = theirs.get(&key(1), &FOREVER).unwrap().unwrap();
        assert_eq!((found.shape(), found.element().name().to_string().as_str()), (&[8, 6][..], "uint64"));
        assert_eq!((number(&found), found.is_readonly()), (7, true));
        assert_eq!(found.write(&[0, 0], 1_u64).unwrap_err().kind(), Kind::Misuse);
        assert!(theirs.remove(&key(1), &FOREVER).unwrap() && mine.get(&key(1), &FOREVER).unwrap().is_none());
        assert_eq!(number(&found), 7, "it stays as long as somebody has it");
    }

    /// A value never changes: what somebody may still write to is copied, also when it is this very process.
    #[test]
    fn only_what_nobody_else_has_becomes_a_value_as_it_is() {
        let (mine, heap) = cache(1 << 20);
        let block_of = |number| mine.get(&key(number), &FOREVER).unwrap().unwrap().hold().block();
        let alone = tile(&mine, 1);
        let block = alone.hold().block();
        mine.store(&key(1), alone, &FOREVER).unwrap();
        assert_eq!(block_of(1), block, "nobody has it: no copy");
        let ours = tile(&mine, 2);
        mine.store(&key(2), ours.clone(), &FOREVER).unwrap();
        ours.fill(3_u64).unwrap();
        assert_eq!(number(&mine.get(&key(2), &FOREVER).unwrap().unwrap()), 2, "this process may still write to it");
        let theirs = tile(&mine, 4);
        let other = Arena::join_on_heap(&heap).unwrap();
        let peer = other.take(theirs.hold().block()).unwrap();
        let taken = theirs.hold().block();
        mine.store(&key(4), theirs, &FOREVER).unwrap();
        assert_ne!(block_of(4), taken, "another process may still write to it");
        drop(peer);
        let part = tile(&mine, 5).view(&[(0..2).into()]).unwrap();
        let whole = part.hold().block();
        mine.store(&key(5), part, &FOREVER).unwrap();
        assert_ne!(block_of(5), whole, "the rest would be kept for nothing");
        let sent = tile(&mine, 6);
        let (taken, _token) = (sent.hold().block(), sent.token(&FOREVER).unwrap());
        mine.store(&key(6), sent, &FOREVER).unwrap();
        assert_ne!(block_of(6), taken, "it is on its way to somebody");
        let (foreign, _its_heap) = cache(1 << 20);
        mine.store(&key(7), tile(&foreign, 7), &FOREVER).unwrap();
        let found = mine.get(&key(7), &FOREVER).unwrap().unwrap();
        assert_eq!((number(&found), found.hold().arena().id()), (7, mine.arena().id()));
    }

    /// Who may still write decides what must be looked for: references here, holders elsewhere, or nothing.
    #[test]
    fn what_the_caller_says_of_writers_is_believed_and_no_more() {
        let (mine, heap) = cache(1 << 20);
        let array = tile(&mine, 1);
        let len_bytes = array.len() * 8;
        let adopts = |len_bytes, writers| mine.adopts(array.hold(), len_bytes, writers).unwrap();
        let ways = || [Writers::Anybody, Writers::Elsewhere, Writers::Nobody];
        assert_eq!(ways().map(|writers| adopts(len_bytes, writers)), [true, true, true]);
        assert_eq!(ways().map(|writers| adopts(len_bytes / 2, writers)), [false; 3], "much of its block is beside it");
        let here = array.clone();
        assert_eq!(ways().map(|writers| adopts(len_bytes, writers)), [false, true, true]);
        let there = Arena::join_on_heap(&heap).unwrap().take(array.hold().block()).unwrap();
        assert_eq!(ways().map(|writers| adopts(len_bytes, writers)), [false, false, true]);
        drop((here, there));
        let (foreign, _its_heap) = cache(1 << 20);
        assert_eq!(ways().map(|writers| foreign.adopts(array.hold(), len_bytes, writers).unwrap()), [false; 3]);
    }

    #[test]
    fn a_value_is_loaded_once_and_what_a_loader_returns_is_the_value() {
        let (mine, heap) = cache(1 << 20);
        let theirs = elsewhere(&mine, &heap);
        let mut block = None;
        let made = mine.fetch(&key(1), &FOREVER, |asked| {
            assert_eq!(asked.to_string(), r#"("tile", 1)"#);
            let array = tile(&mine, 1);
            block = Some(array.hold().block());
            Ok(array)
        });
        assert_eq!((Some(made.unwrap().hold().block()), mine.info(&FOREVER).unwrap().loads), (block, 1));
        let again = theirs.fetch(&key(1), &FOREVER, |_| panic!("it is there")).unwrap();
        assert_eq!((Some(again.hold().block()), again.is_readonly()), (block, true));
        let inside = mine.fetch(&key(2), &FOREVER, |key| mine.fetch(key, &FOREVER, failed));
        assert_eq!(inside.unwrap_err().kind(), Kind::Misuse);
    }

    #[test]
    fn a_loader_that_fails_is_told_to_those_who_wait_and_the_next_tries_again() {
        let (mine, heap) = cache(1 << 20);
        let theirs = elsewhere(&mine, &heap);
        let waits = || mine.info(&FOREVER).unwrap().waits;
        let waited = std::thread::scope(|scope| {
            let mut waiter = None;
            let refused = mine.fetch(&key(1), &FOREVER, |asked| {
                waiter = Some(scope.spawn(|| theirs.fetch(&key(1), &FOREVER, failed)));
                // BOUND: the waiter looks once and waits.
                while waits() == 0 {
                    std::thread::yield_now();
                }
                failed(asked)
            });
            assert_eq!(refused.unwrap_err(), Error::value("no such tile"), "the loader's own error");
            waiter.unwrap().join().unwrap().unwrap_err()
        });
        assert_eq!(waited.kind(), Kind::LoadFailed);
        let text = r#"the key ("tile", 1) could not be loaded by another: ndshare::Kind::InvalidValue: no such tile"#;
        assert_eq!(waited.to_string(), text);
        let Error::LoadFailed(failure) = waited else { panic!("{waited:?}") };
        assert_eq!((failure.pid, failure.key.as_str()), (Some(std::process::id()), r#"("tile", 1)"#));
        assert_eq!(
            (failure.type_name.as_str(), failure.text.as_str()),
            ("ndshare::Kind::InvalidValue", "no such tile")
        );
        assert_eq!(number(&theirs.fetch(&key(1), &FOREVER, |_| Ok(tile(&theirs, 1))).unwrap()), 1);
        assert_eq!(mine.info(&FOREVER).unwrap().failures, 1);
    }

    #[test]
    fn an_interrupted_loader_says_nothing_about_the_key() {
        let (mine, _heap) = cache(1 << 20);
        let ended = mine.fetch(&key(1), &FOREVER, |_| Err(Error::new(Kind::Interrupted, "a signal")));
        assert_eq!(ended.unwrap_err().kind(), Kind::Interrupted);
        let info = mine.info(&FOREVER).unwrap();
        assert_eq!((info.failures, info.entries), (0, 0));
        assert_eq!(number(&mine.fetch(&key(1), &FOREVER, |_| Ok(tile(&mine, 2))).unwrap()), 2);
    }

    #[test]
    fn what_cannot_be_kept_is_the_callers_all_the_same() {
        let (mine, _heap) = cache(4 << 10);
        let large = || Array::from_slice(mine.arena(), &[1000], &[7_u64; 1000]).unwrap();
        assert_eq!(mine.store(&key(1), large(), &FOREVER).unwrap(), Stored::Uncached);
        let given = mine.fetch(&key(1), &FOREVER, |_| Ok(large())).unwrap();
        assert_eq!((number(&given), given.is_readonly()), (7, true));
        assert!(mine.get(&key(1), &FOREVER).unwrap().is_none());
        assert_eq!(mine.info(&FOREVER).unwrap().uncached, 2);
    }

    /// Without room for a copy a value is not kept, and the old one does not stay in its place.
    #[test]
    fn a_full_arena_is_no_error() {
        let (arena, _heap) = Arena::create_on_heap(4 << 20).unwrap();
        let (foreign, _its_heap) = cache(1 << 20);
        let cache = Cache::create(&arena, Geometry::new(3 << 20, None).unwrap(), &FOREVER).unwrap();
        cache.store(&key(1), tile(&cache, 1), &FOREVER).unwrap();
        let free_bytes = arena.budget_bytes() as usize - arena.stats().unwrap().used_bytes as usize;
        let mut rest = Vec::new();
        for len_bytes in [free_bytes / 2, free_bytes / 4, 64 << 10, 4 << 10, 1 << 10].into_iter() {
            // BOUND: each round takes memory of a bounded arena.
            while let Ok(hold) = arena.alloc(len_bytes, 64, false, &FOREVER) {
                rest.push(hold);
            }
        }
        let outside = || Ok(tile(&foreign, 2));
        assert_eq!(cache.store(&key(1), outside().unwrap(), &FOREVER).unwrap(), Stored::Uncached);
        assert!(cache.get(&key(1), &FOREVER).unwrap().is_none());
        assert_eq!(number(&cache.fetch(&key(1), &FOREVER, |_| outside()).unwrap()), 2);
        drop(rest);
        assert_eq!(cache.store(&key(1), outside().unwrap(), &FOREVER).unwrap(), Stored::Cached);
    }

    #[test]
    fn a_name_finds_the_cache_of_its_sizes() {
        let (arena, heap) = Arena::create_on_heap(16 << 20).unwrap();
        let other = Arena::join_on_heap(&heap).unwrap();
        let sizes = Geometry::new(1 << 20, None).unwrap();
        assert!(Cache::find_named(&arena, "tiles", &FOREVER).unwrap().is_none());
        let mine = Cache::named(&arena, "tiles", sizes, &FOREVER).unwrap();
        mine.store(&key(1), tile(&mine, 1), &FOREVER).unwrap();
        for theirs in [
            Cache::named(&other, "tiles", sizes, &FOREVER).unwrap(),
            Cache::find_named(&other, "tiles", &FOREVER).unwrap().unwrap(),
        ] {
            assert_eq!(number(&theirs.get(&key(1), &FOREVER).unwrap().unwrap()), 1);
        }
        let aged = sizes.with_ttl(Some(std::time::Duration::from_millis(1500))).unwrap();
        let refused = Cache::named(&other, "tiles", aged, &FOREVER).unwrap_err();
        assert_eq!(refused.kind(), Kind::InvalidValue);
        let text = "\"tiles\" that is there already, 1048576 bytes, 1024 entries and a ttl of None, got 1048576 bytes, \
                    1024 entries and a ttl of 1.5 s";
        assert!(refused.to_string().contains(text), "{refused}");
        drop(mine);
        assert!(Cache::find_named(&other, "tiles", &FOREVER).unwrap().is_none(), "nobody has it any more");
    }
}
