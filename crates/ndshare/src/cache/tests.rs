use super::*;
use crate::arena::Heap;
use crate::dice::Dice;
use crate::prim::AtomicU64;
use std::time::Duration;

const KIB: u64 = 1 << 10;

/// A cache with room for as many values of 1 KiB as it has bytes for.
fn cache(maxsize: u64) -> (Arc<Cache>, Arc<Heap>) {
    cache_of(maxsize, (maxsize / KIB) as usize)
}

fn cache_of(maxsize: u64, entries: usize) -> (Arc<Cache>, Arc<Heap>) {
    let (arena, heap) = Arena::create_on_heap(64 << 20).unwrap();
    let geometry = Geometry::new(maxsize, Some(entries)).unwrap();
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
    let totals = || (cache.table.queued(), cache.table.word(USED).load(Relaxed));
    let seen = totals();
    cache.locked(&FOREVER, |gone| cache.recover(gone)).unwrap();
    assert_eq!((info(cache), keys(cache)), before);
    assert_eq!(totals(), seen);
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

#[test]
fn bad_sizes_are_refused_and_geometry_survives() {
    assert_eq!(Geometry::new(1 << 30, None).unwrap().entries, 65536);
    assert!(Geometry::new(0, None).is_err() && Geometry::new(1, Some(0)).is_err());
    assert!(Geometry::new(1, Some(usize::MAX)).is_err());
    let (mine, _heap) = cache(1 << 20);
    assert_eq!(Table::open(mine.head().clone()).unwrap().geometry, *mine.geometry());
    let other = block(&mine, 7, 4096);
    assert_eq!(Cache::open(other).unwrap_err().kind(), Kind::InvalidValue);
    assert_eq!(Key::new(vec![0; MAX_TEXT_BYTES + 1]).unwrap_err().kind(), Kind::InvalidValue);
    let (foreign, _its_heap) = cache(1 << 20);
    let wrong = mine.store(&key(1), value(&block(&foreign, 1, 10)), &FOREVER);
    assert_eq!(wrong.unwrap_err().kind(), Kind::InvalidValue);
    end(mine);
}

#[test]
fn long_keys_and_views_have_blocks_of_their_own() {
    let (mine, heap) = cache(1 << 20);
    let theirs = elsewhere(&mine, &heap);
    for len in [0, 1, 8, 159, 160, 161, 5000, MAX_TEXT_BYTES] {
        let (long, view) = (Key::new(vec![7; len]).unwrap(), vec![8; len]);
        let hold = block(&mine, len as u64, 10);
        assert_eq!(mine.store(&long, Value { hold: &hold, offset: 8, view: &view }, &FOREVER).unwrap(), Stored::Cached);
        let found = theirs.find(&long).unwrap().unwrap();
        assert_eq!((found.view, found.offset), (view, 8));
        assert_eq!(mine.keys(&FOREVER).unwrap(), [vec![7; len]]);
        assert_whole(&mine);
        assert!(theirs.remove(&long, &FOREVER).unwrap());
        assert_eq!(info(&mine).bytes, 0);
    }
    drop(theirs);
    end(mine);
}

#[test]
fn bytes_are_bounded_and_counted_as_blocks_take_them() {
    let (mine, _heap) = cache(64 * KIB);
    for i in 0..200 {
        assert_eq!(store(&mine, i, 3 * KIB), Stored::Cached);
        assert!(info(&mine).bytes <= 64 * KIB);
    }
    assert_eq!(info(&mine).entries, 64 / 3);
    assert_eq!(info(&mine).evictions, 200 - 64 / 3);
    assert_whole(&mine);
    assert_eq!(store(&mine, 999, 65 * KIB), Stored::Uncached, "larger than the cache");
    assert_eq!(info(&mine).uncached, 1);
    mine.clear(&FOREVER).unwrap();
    assert_eq!((info(&mine).entries, info(&mine).bytes), (0, 0));
    end(mine);
}

#[test]
fn a_cache_may_be_bounded_in_entries() {
    let (mine, _heap) = cache_of(1 << 20, 10);
    (0..100).for_each(|i| assert_eq!(store(&mine, i, 10), Stored::Cached));
    assert_eq!(info(&mine).entries, 10);
    assert_whole(&mine);
    end(mine);
}

#[test]
fn a_pinned_value_stays_and_when_all_are_pinned_a_new_one_is_not_kept() {
    let (mine, heap) = cache(8 * KIB);
    let theirs = elsewhere(&mine, &heap);
    (0..8).for_each(|i| assert_eq!(store(&mine, i, KIB), Stored::Cached));
    let views: Vec<Found> = (0..8).map(|i| theirs.find(&key(i)).unwrap().unwrap()).collect();
    assert_eq!(info(&mine).pinned, 8);
    assert_eq!(store(&mine, 8, KIB), Stored::Uncached);
    assert_eq!((info(&mine).uncached, info(&mine).evictions), (1, 0));
    views.iter().zip(0..).for_each(|(view, i)| assert_eq!(number(view), i));
    drop(views);
    assert_eq!(store(&mine, 8, KIB), Stored::Cached);
    assert_whole(&mine);
    drop(theirs);
    end(mine);
}

/// While the small queue was over its share and pinned, the main queue was once never asked.
#[test]
fn pins_in_one_queue_do_not_hold_the_other() {
    let (mine, _heap) = cache(20 * KIB);
    for round in 0..3 {
        (0..16).for_each(|i| assert_eq!(load(&mine, i, KIB), i, "{round}"));
    }
    (100..104).for_each(|i| assert_eq!(load(&mine, i, KIB), i));
    // One more makes the first ones, used often, move to the main queue.
    assert_eq!(load(&mine, 104, KIB), 104);
    let queue = |tag| mine.table.queue(tag).count.load(Relaxed);
    assert!(queue(policy::MAIN) > 5 && queue(policy::SMALL) > 2);
    let is_small = |&i: &u64| {
        let place = mine.place_of(&key(i));
        place.is_some_and(|place| mine.table.queue_of(place).unwrap().tag == policy::SMALL)
    };
    let pins: Vec<_> = (0..105).filter(is_small).map(|i| mine.find(&key(i)).unwrap().unwrap()).collect();
    assert_eq!(pins.len() as u64, queue(policy::SMALL));
    (200..210).for_each(|i| assert_eq!(store(&mine, i, KIB), Stored::Cached));
    assert_whole(&mine);
    drop(pins);
    end(mine);
}

#[test]
fn what_the_dead_pinned_can_go() {
    let (mine, heap) = cache(4 * KIB);
    let victim = elsewhere(&mine, &heap);
    (0..4).for_each(|i| assert_eq!(store(&mine, i, KIB), Stored::Cached));
    let views: Vec<_> = (0..4).map(|i| victim.find(&key(i)).unwrap().unwrap()).collect();
    let slot = victim.arena().participant_slot();
    std::mem::forget((views, victim));
    assert_eq!(store(&mine, 9, KIB), Stored::Uncached);
    heap.declare_dead(slot);
    assert_eq!(store(&mine, 9, KIB), Stored::Cached);
    end(mine);
}

#[test]
fn storing_and_deleting_begin_a_generation_and_eviction_does_not() {
    let (mine, _heap) = cache(4 * KIB);
    let wanted = key(1);
    let fresh = mine.generation(&wanted);
    load(&mine, 1, KIB);
    assert_eq!(mine.generation(&wanted), fresh, "loading begins none");
    (10..40).for_each(|i| assert_eq!(load(&mine, i, KIB), i));
    assert!(mine.find(&wanted).unwrap().is_none(), "it was evicted");
    assert_eq!(mine.generation(&wanted), fresh);
    store(&mine, 1, KIB);
    let stored = mine.generation(&wanted);
    assert_ne!(stored, fresh);
    mine.remove(&wanted, &FOREVER).unwrap();
    let removed = mine.generation(&wanted);
    assert!(removed != stored && removed != fresh);
    mine.clear(&FOREVER).unwrap();
    assert_ne!(mine.generation(&wanted), removed);
    end(mine);
}

// ---- loading

#[test]
fn each_key_is_loaded_once_and_all_get_it() {
    let (mine, heap) = cache(1 << 20);
    let loads = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            let (mine, heap, loads) = (&mine, &heap, &loads);
            scope.spawn(move || {
                let theirs = elsewhere(mine, heap);
                for wanted in 0..50 {
                    match theirs.fetch(&key(wanted), &FOREVER).unwrap() {
                        Fetch::Found(found) => assert_eq!(number(&found), wanted),
                        Fetch::Load(loading) => {
                            loads.fetch_add(1, Relaxed);
                            std::thread::yield_now();
                            let hold = block(&theirs, wanted, 500);
                            assert_eq!(loading.finish(value(&hold), &FOREVER).unwrap(), Stored::Cached);
                        }
                        Fetch::Failed(failure) => panic!("{failure:?}"),
                    }
                }
            });
        }
    });
    assert_eq!((loads.load(Relaxed), info(&mine).loads, info(&mine).misses), (50, 50, 50));
    assert_whole(&mine);
    end(mine);
}

fn begin(cache: &Arc<Cache>, wanted: u64) -> Loading {
    match cache.fetch(&key(wanted), &FOREVER).unwrap() {
        Fetch::Load(loading) => loading,
        other => panic!("expected a load, got {other:?}"),
    }
}

/// Fetches on a thread of its own, as another participant, and says so once the fetch waits.
fn waiter(cache: &Arc<Cache>, heap: &Arc<Heap>, wanted: u64) -> std::thread::JoinHandle<Result<Fetch>> {
    let (theirs, waits) = (elsewhere(cache, heap), cache.table.total(Count::Waits));
    let thread = std::thread::spawn(move || {
        let fetched = theirs.fetch(&key(wanted), &FOREVER);
        // A load that it began would end with the thread.
        if let Ok(Fetch::Load(loading)) = fetched {
            let hold = block(&theirs, wanted + 1000, 100);
            loading.finish(value(&hold), &FOREVER).unwrap();
            return theirs.fetch(&key(wanted), &FOREVER);
        }
        fetched
    });
    while cache.table.total(Count::Waits) == waits {
        std::thread::yield_now();
    }
    thread
}

fn found(fetched: Result<Fetch>) -> u64 {
    match fetched.unwrap() {
        Fetch::Found(found) => number(&found),
        other => panic!("expected a value, got {other:?}"),
    }
}

#[test]
fn a_failure_reaches_those_who_wait_and_the_next_tries_again() {
    let (mine, heap) = cache(1 << 20);
    let loading = begin(&mine, 1);
    let waiting = waiter(&mine, &heap, 1);
    loading.fail("ValueError", "no such tile: 1", &FOREVER).unwrap();
    match waiting.join().unwrap().unwrap() {
        Fetch::Failed(failure) => {
            assert_eq!((failure.type_name.as_str(), failure.text.as_str()), ("ValueError", "no such tile: 1"));
        }
        other => panic!("expected a failure, got {other:?}"),
    }
    assert_eq!((info(&mine).failures, info(&mine).entries), (1, 0));
    assert!(mine.get(&key(1), &FOREVER).unwrap().is_none() && keys(&mine).is_empty());
    assert_whole(&mine);
    assert_eq!(load(&mine, 1, 100), 1);
    let long = "x".repeat(5000) + "é";
    begin(&mine, 2).fail("E", &long, &FOREVER).unwrap();
    mine.clear(&FOREVER).unwrap();
    end(mine);
}

#[test]
fn a_load_that_is_given_up_or_whose_process_died_is_taken_over() {
    let (mine, heap) = cache(1 << 20);
    let loading = begin(&mine, 1);
    let waiting = waiter(&mine, &heap, 1);
    drop(loading);
    assert_eq!(found(waiting.join().unwrap()), 1001);

    let victim = elsewhere(&mine, &heap);
    let loading = begin(&victim, 2);
    let waiting = waiter(&mine, &heap, 2);
    let slot = victim.arena().participant_slot();
    std::mem::forget((loading, victim));
    heap.declare_dead(slot);
    assert_eq!(found(waiting.join().unwrap()), 1002);
    assert_whole(&mine);
    end(mine);
}

#[test]
fn a_key_that_is_stored_or_deleted_while_it_loads_keeps_the_newer_state() {
    let (mine, heap) = cache(1 << 20);
    let loading = begin(&mine, 1);
    let waiting = waiter(&mine, &heap, 1);
    store(&mine, 1, 100);
    assert_eq!(found(waiting.join().unwrap()), 1);
    assert_eq!(loading.finish(value(&block(&mine, 77, 100)), &FOREVER).unwrap(), Stored::Uncached);
    assert_eq!(load(&mine, 1, 100), 1);

    let loading = begin(&mine, 2);
    assert!(!mine.remove(&key(2), &FOREVER).unwrap(), "it had no value yet");
    assert_eq!(loading.finish(value(&block(&mine, 77, 100)), &FOREVER).unwrap(), Stored::Uncached);
    assert!(mine.find(&key(2)).unwrap().is_none());
    assert_whole(&mine);
    end(mine);
}

#[test]
fn a_load_inside_its_own_load_is_an_error_and_a_wait_has_its_timeout() {
    let (mine, heap) = cache(1 << 20);
    let loading = begin(&mine, 1);
    assert_eq!(mine.fetch(&key(1), &FOREVER).unwrap_err().kind(), Kind::Misuse);
    let fails = |cache: &Arc<Cache>| {
        let short = Patience::new(Some(Duration::from_millis(30)), &|| Ok(()));
        cache.fetch(&key(1), &short).unwrap_err().kind()
    };
    let theirs = elsewhere(&mine, &heap);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| fails(&theirs));
        assert_eq!(waiting.join().unwrap(), Kind::Timeout);
        // Another thread of the same process waits as anybody does.
        let waiting = scope.spawn(|| fails(&mine));
        assert_eq!(waiting.join().unwrap(), Kind::Timeout);
    });
    drop((loading, theirs));
    end(mine);
}

#[test]
fn places_come_back_from_loaders_that_died() {
    let (mine, heap) = cache_of(1 << 20, 1);
    let victim = elsewhere(&mine, &heap);
    for i in 0..u64::from(mine.geometry().places()) {
        std::mem::forget(begin(&victim, i));
    }
    let slot = victim.arena().participant_slot();
    std::mem::forget(victim);
    heap.declare_dead(slot);
    assert_eq!(load(&mine, 5000, 100), 5000);
    end(mine);
}

// ---- the policy

/// Numbers by Zipf's law with exponent 1, by inverting the harmonic sums.
struct Zipf {
    sums: Vec<f64>,
    dice: Dice,
}

impl Zipf {
    fn new(keys: usize, seed: u64) -> Self {
        let mut sum = 0.0;
        let sums = (1..=keys).map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        });
        Self { sums: sums.collect(), dice: Dice(seed) }
    }

    fn roll(&mut self) -> u64 {
        let at = (self.dice.next() >> 11) as f64 / (1_u64 << 53) as f64 * self.sums[self.sums.len() - 1];
        self.sums.partition_point(|&sum| sum < at) as u64
    }
}

/// S3-FIFO as its paper has it, over entries of one size: the twin of `policy`.
#[derive(Default)]
struct Twin {
    small: std::collections::VecDeque<u64>,
    main: std::collections::VecDeque<u64>,
    ghosts: std::collections::VecDeque<u64>,
    uses: std::collections::HashMap<u64, u64>,
    size: usize,
}

impl Twin {
    fn asks(&mut self, key: u64) -> bool {
        if let Some(uses) = self.uses.get_mut(&key) {
            *uses = (*uses + 1).min(3);
            return true;
        }
        while self.small.len() + self.main.len() >= self.size {
            self.evict();
        }
        if let Some(at) = self.ghosts.iter().position(|&ghost| ghost == key) {
            self.ghosts.remove(at);
            self.main.push_front(key);
        } else {
            self.small.push_front(key);
        }
        self.uses.insert(key, 0);
        false
    }

    fn evict(&mut self) {
        if self.small.len() * 10 >= self.size || self.main.is_empty() { self.evict_small() } else { self.evict_main() }
    }

    fn evict_small(&mut self) {
        let key = self.small.pop_back().unwrap();
        if self.uses[&key] > 1 {
            self.uses.insert(key, 0);
            self.main.push_front(key);
            return;
        }
        self.uses.remove(&key);
        self.ghosts.push_front(key);
        self.ghosts.truncate(self.main.len().max(1));
    }

    fn evict_main(&mut self) {
        let key = self.main.pop_back().unwrap();
        match self.uses[&key] {
            0 => drop(self.uses.remove(&key)),
            uses => {
                self.uses.insert(key, uses - 1);
                self.main.push_front(key);
            }
        }
    }
}

/// Least recently used, for comparison.
struct Lru {
    last: std::collections::HashMap<u64, u64>,
    order: std::collections::BTreeMap<u64, u64>,
    now: u64,
    size: usize,
}

impl Lru {
    fn asks(&mut self, key: u64) -> bool {
        self.now += 1;
        let before = self.last.insert(key, self.now);
        before.map(|then| self.order.remove(&then));
        self.order.insert(self.now, key);
        if self.order.len() > self.size {
            let (_, oldest) = self.order.pop_first().unwrap();
            self.last.remove(&oldest);
        }
        before.is_some()
    }
}

/// The hit ratios of the cache, of its twin and of LRU on one trace.
fn ratios(size: u64, trace: &[u64]) -> [f64; 3] {
    let (mine, _heap) = cache(size * KIB);
    let mut twin = Twin { size: size as usize, ..Twin::default() };
    let mut lru = Lru { last: Default::default(), order: Default::default(), now: 0, size: size as usize };
    let mut hits = [0_u32; 3];
    for &wanted in trace {
        let hit = mine.find(&key(wanted)).unwrap().is_some();
        if !hit {
            load(&mine, wanted, KIB);
        }
        let all = [hit, twin.asks(wanted), lru.asks(wanted)];
        hits.iter_mut().zip(all).for_each(|(count, hit)| *count += u32::from(hit));
    }
    assert_whole(&mine);
    end(mine);
    hits.map(|count| f64::from(count) / trace.len() as f64)
}

#[test]
fn the_policy_is_what_its_twin_is() {
    let mut zipf = Zipf::new(5000, 0x9e37_79b9);
    let trace: Vec<u64> = (0..60_000).map(|_| zipf.roll()).collect();
    let [mine, twin, lru] = ratios(300, &trace);
    assert!((mine - twin).abs() < 0.01, "zipf: {mine:.4}, twin {twin:.4}, lru {lru:.4}");
    assert!(mine > lru, "zipf: {mine:.4}, lru {lru:.4}");

    // A hot set asked for again and again, with scans of ten times the cache between.
    let mut scanned = 1_000_000;
    let mut trace = Vec::new();
    for _ in 0..6 {
        (0..4000).for_each(|_| trace.push(zipf.roll() % 200));
        trace.extend(scanned..scanned + 3000);
        scanned += 3000;
    }
    let [mine, twin, lru] = ratios(300, &trace);
    assert!((mine - twin).abs() < 0.01, "scan: {mine:.4}, twin {twin:.4}");
    assert!(mine > lru, "scan: {mine:.4}, lru {lru:.4}");
}

#[test]
fn a_scan_leaves_the_hot_ones_in() {
    let (mine, _heap) = cache(300 * KIB);
    let hits = |mine: &Arc<Cache>| (0..200).filter(|&hot| mine.find(&key(hot)).unwrap().is_some()).count();
    for _ in 0..5 {
        (0..200).for_each(|hot| assert_eq!(load(&mine, hot, KIB), hot));
    }
    let before = hits(&mine);
    (10_000..13_000).for_each(|once| assert_eq!(load(&mine, once, KIB), once));
    let after = hits(&mine);
    assert!(after * 100 >= before * 95, "{after} of {before} are left");
    end(mine);
}

// ---- many at once, and deaths

/// Any operation on any of a few keys; whatever is found is whole and is what its key says.
fn anything(cache: &Arc<Cache>, dice: &mut Dice) {
    let wanted = dice.roll(40);
    let len = KIB << dice.roll(3);
    let right = |found: Option<Found>| {
        found.inspect(|found| assert_eq!(number(found), wanted));
    };
    match dice.roll(12) {
        0 => assert!([true, false].contains(&cache.remove(&key(wanted), &FOREVER).unwrap())),
        1 => drop(store(cache, wanted, len)),
        2 => assert!(info(cache).bytes <= cache.geometry().maxsize),
        3 if dice.roll(20) == 0 => cache.clear(&FOREVER).unwrap(),
        3..6 => right(cache.get(&key(wanted), &FOREVER).unwrap()),
        6..8 => right(cache.find(&key(wanted)).unwrap()),
        8 => {
            if let Fetch::Load(loading) = cache.fetch(&key(wanted), &FOREVER).unwrap() {
                loading.fail("E", "text", &FOREVER).unwrap();
            }
        }
        _ => match cache.fetch(&key(wanted), &FOREVER).unwrap() {
            Fetch::Found(found) => right(Some(found)),
            Fetch::Load(loading) => drop(loading.finish(value(&block(cache, wanted, len)), &FOREVER).unwrap()),
            Fetch::Failed(failure) => assert_eq!(failure.text, "text"),
        },
    }
}

#[test]
fn many_at_once_find_what_is_right_and_leave_the_cache_whole() {
    let (mine, heap) = cache(24 * KIB);
    std::thread::scope(|scope| {
        for seed in 1..=4 {
            let (mine, heap) = (&mine, &heap);
            scope.spawn(move || {
                let theirs = elsewhere(mine, heap);
                let mut dice = Dice(seed);
                (0..2000).for_each(|_| anything(&theirs, &mut dice));
            });
        }
    });
    assert_whole(&mine);
    mine.clear(&FOREVER).unwrap();
    assert_eq!((info(&mine).bytes, info(&mine).entries), (0, 0));
    end(mine);
}

#[test]
fn scribble_is_no_fault() {
    for seed in 1..200 {
        let (mine, _heap) = cache(24 * KIB);
        (0..20).for_each(|i| assert_eq!(store(&mine, i, KIB), Stored::Cached));
        let mut dice = Dice(seed);
        let words = mine.head().words();
        for _ in 0..30 {
            let wild = [0, 1, 2, 3, 77, u64::MAX, u64::MAX - 1, 1 << 32, dice.roll(u64::MAX)];
            let at = 3 + dice.roll(words.len() as u64 - 3) as usize;
            words[at].store(wild[dice.roll(9) as usize], Relaxed);
        }
        // Whatever comes of it, it comes as a result.
        for i in 0..40 {
            let _ = mine.get(&key(i), &FOREVER);
            let _ = mine.store(&key(i), value(&block(&mine, i, KIB)), &FOREVER);
            let _ = mine.remove(&key(i / 2), &FOREVER);
        }
        let _ = (mine.keys(&FOREVER), mine.info(&FOREVER), mine.clear(&FOREVER));
    }
}

#[cfg(feature = "killpoints")]
mod deaths {
    use super::*;
    use crate::os::kill::{KILL_POINTS, armed::stops_at};

    /// Runs `script` as a new participant that stops for good at `label`; its slot if it did.
    fn dies(
        cache: &Arc<Cache>,
        heap: &Arc<Heap>,
        label: &'static str,
        nth: u32,
        script: fn(&Arc<Cache>),
    ) -> Option<u32> {
        let there = elsewhere(cache, heap);
        let slot = there.arena().participant_slot();
        let stopped = stops_at(label, nth, move || {
            script(&there);
            std::mem::forget(there);
        });
        stopped.then_some(slot)
    }

    fn loads(cache: &Arc<Cache>) {
        (0..30).for_each(|i| assert_eq!(load(cache, i, KIB), i));
        drop(begin(cache, 100));
        begin(cache, 101).fail("E", "text", &FOREVER).unwrap();
        let long = Key::new(vec![7; 300]).unwrap();
        let hold = block(cache, 7, 100);
        cache.store(&long, Value { hold: &hold, offset: 0, view: &[1; 300] }, &FOREVER).unwrap();
    }

    fn stores_and_deletes(cache: &Arc<Cache>) {
        for i in 0..12 {
            store(cache, i, KIB);
            store(cache, i, 2 * KIB);
            cache.remove(&key(i / 2), &FOREVER).unwrap();
        }
        cache.clear(&FOREVER).unwrap();
    }

    fn puts_in_order(cache: &Arc<Cache>) {
        cache.locked(&FOREVER, |gone| cache.recover(gone)).unwrap();
    }

    /// The survivors find what is right, load every key, and nothing is lost.
    fn goes_on(cache: &Arc<Cache>, label: &str) {
        for i in 0..30 {
            assert_eq!(load(cache, i, KIB), i, "{label}");
        }
        let mut all = keys(cache);
        let count = all.len();
        all.dedup();
        assert_eq!((all.len(), info(cache).entries), (count, count as u64), "{label}: no key twice");
        assert!(info(cache).bytes <= cache.geometry().maxsize);
        assert_whole(cache);
        let children = cache.head().children().unwrap().len();
        let failed = cache.places().filter(|&place| cache.table.entry(place).now().state() == State::Failed).count();
        assert!(children >= count && children <= count + failed + 4, "{label}: {children} records of {count}");
    }

    #[test]
    fn a_death_at_any_point_holds_nobody_up_and_loses_nothing() {
        let mut passed = Vec::new();
        for script in [loads as fn(&Arc<Cache>), stores_and_deletes, puts_in_order] {
            for &label in KILL_POINTS {
                for nth in [1, 7, 40] {
                    let (mine, heap) = cache(16 * KIB);
                    let arena = mine.arena().clone();
                    (20..40).for_each(|i| assert_eq!(load(&mine, i, KIB), i));
                    let Some(slot) = dies(&mine, &heap, label, nth, script) else { continue };
                    passed.push(label);
                    heap.declare_dead(slot);
                    goes_on(&mine, label);
                    mine.clear(&FOREVER).unwrap();
                    assert_eq!((info(&mine).bytes, mine.head().children().unwrap().len()), (0, 0), "{label}");
                    drop(mine);
                    assert_eq!(arena.stats().unwrap().used_bytes, 0, "{label} {nth}");
                }
            }
        }
        for label in KILL_POINTS.iter().filter(|label| label.starts_with("cache:")) {
            assert!(passed.contains(label), "no death was tried at {label}");
        }
    }
}
