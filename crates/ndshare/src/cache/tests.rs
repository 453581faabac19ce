use super::*;
use crate::arena::Heap;
use crate::prim::AtomicU64;
use std::time::Duration;

const KIB: u64 = 1 << 10;

fn cache(maxsize: u64) -> (Arc<Cache>, Arc<Heap>) {
    let (arena, heap) = Arena::create_on_heap(64 << 20).unwrap();
    let geometry = Geometry::new(maxsize, None).unwrap();
    (Cache::create(&arena, geometry, &FOREVER).unwrap(), heap)
}

/// The cache as another participant has it.
fn elsewhere(cache: &Arc<Cache>, heap: &Arc<Heap>) -> Arc<Cache> {
    let arena = Arena::join_on_heap(heap).unwrap();
    Cache::open(arena.take(cache.head().block()).unwrap()).unwrap()
}

fn key(number: u64) -> Key {
    Key::new(format!("key {number}").into_bytes()).unwrap()
}

/// A block of `len` bytes full of a number.
fn block(cache: &Cache, number: u64, len: u64) -> Hold {
    let hold = cache.arena().alloc(len as usize, 64, false, &FOREVER).unwrap();
    hold.words().iter().for_each(|word| word.store(number, Relaxed));
    hold
}

fn value(hold: &Hold) -> Value<'_> {
    Value { hold, offset: 0, view: b"view" }
}

fn store(cache: &Cache, number: u64, len: u64) -> Stored {
    cache.store(&key(number), value(&block(cache, number, len)), &FOREVER).unwrap()
}

/// The number that a value is full of.
fn number(found: &Found) -> u64 {
    let words = found.hold.words();
    let first = words[0].load(Relaxed);
    assert!(words.iter().all(|word| word.load(Relaxed) == first), "a value is whole");
    first
}

fn load(cache: &Arc<Cache>, wanted: u64, len: u64) -> u64 {
    match cache.fetch(&key(wanted), &FOREVER).unwrap() {
        Fetch::Found(found) => number(&found),
        Fetch::Load(loading) => {
            let hold = block(cache, wanted, len);
            loading.finish(value(&hold), &FOREVER).unwrap();
            number(&Found { hold, offset: 0, view: Vec::new() })
        }
        Fetch::Failed(failure) => panic!("{failure:?}"),
    }
}

fn info(cache: &Cache) -> Info {
    cache.info(&FOREVER).unwrap()
}

/// What must always hold, whatever happened: totals, queues and index say what the entries say.
fn assert_whole(cache: &Cache) {
    let before = (info(cache), keys(cache));
    let queued = |tag| cache.table.queue(tag).count.load(Relaxed);
    let seen = (queued(policy::SMALL) + queued(policy::MAIN), cache.table.word(USED).load(Relaxed));
    cache.locked(&FOREVER, |gone| cache.recover(gone)).unwrap();
    assert_eq!((info(cache), keys(cache)), before);
    assert_eq!((queued(policy::SMALL) + queued(policy::MAIN), cache.table.word(USED).load(Relaxed)), seen);
}

fn keys(cache: &Cache) -> Vec<Vec<u8>> {
    let mut keys = cache.keys(&FOREVER).unwrap();
    keys.sort();
    keys
}

/// Drops the cache and asserts that nothing is left in its arena.
fn end(cache: Arc<Cache>) {
    let arena = cache.arena().clone();
    drop(cache);
    assert_eq!(arena.stats().unwrap().used_bytes, 0);
}

#[test]
fn values_come_and_go_by_key() {
    let (mine, heap) = cache(1 << 20);
    let theirs = elsewhere(&mine, &heap);
    assert!(theirs.get(&key(1), &FOREVER).unwrap().is_none());
    assert_eq!(store(&mine, 1, 100), Stored::Cached);
    let found = theirs.get(&key(1), &FOREVER).unwrap().unwrap();
    assert_eq!((number(&found), found.view.as_slice()), (1, &b"view"[..]));
    assert!(mine.contains(&key(1), &FOREVER).unwrap() && !mine.contains(&key(2), &FOREVER).unwrap());
    assert_eq!((info(&mine).entries, info(&mine).pinned, info(&mine).bytes), (1, 1, KIB));
    assert!(theirs.remove(&key(1), &FOREVER).unwrap() && !theirs.remove(&key(1), &FOREVER).unwrap());
    assert_eq!(number(&found), 1, "a view outlives its entry");
    assert!(mine.find(&key(1)).unwrap().is_none());
    assert_eq!((info(&mine).entries, info(&mine).bytes), (0, 0));
    drop((found, theirs));
    end(mine);
}
