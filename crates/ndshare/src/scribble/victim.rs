//! Everything that can be asked of a world. Each outcome will do, but for a wrong value.

use super::tally::Tally;
use super::world::{VALUES, World, key, value};
use crate::arena::{Arena, BlockId, Deadline, Hold, Reentry};
use crate::array::Array;
use crate::cache::{Cache, Fetch};
use crate::dice::Dice;
use crate::gather::{Canvas, Source};
use crate::lock::{Death, Lock, Locked};
use crate::overlay::Overlay;
use crate::prim::Ordering::Relaxed;
use crate::registry::{self, ObjectKind, Wanted};
use crate::ring::{Content, Mode, Note, Reader, Ring, Start};
use std::sync::Arc;
use std::time::Duration;

/// What is asked in one go.
type Work<'a> = fn(&mut Victim<'a>);

fn work<'a>() -> [Work<'a>; 8] {
    [
        Victim::use_blocks,
        Victim::use_ring,
        Victim::use_cache,
        Victim::use_overlay,
        Victim::use_canvas,
        Victim::use_locks,
        Victim::use_names,
        Victim::open_anew,
    ]
}

/// Somebody who uses a world, and what became of it.
pub(super) struct Victim<'a> {
    world: &'a World,
    tally: &'a mut Tally,
    dice: &'a mut Dice,
    wait: Deadline<'static>,
}

/// Asks for everything once, in some order.
pub(super) fn use_all(world: &World, tally: &mut Tally, dice: &mut Dice) {
    // Most do not wait, so that a lock that is taken for good costs little; some do, so that waits are tried as well.
    let wait = if dice.below(16) == 0 { Deadline::after(Duration::from_micros(100)) } else { Deadline::now() };
    let (work, first) = (work(), dice.below(8));
    let mut victim = Victim { world, tally, dice, wait };
    for turn in 0..work.len() {
        work[(first + turn) % work.len()](&mut victim);
    }
}

impl Victim<'_> {
    fn use_blocks(&mut self) {
        let Self { world, tally, wait, .. } = self;
        let arena = &world.arena;
        let mut holds: Vec<Hold> = Vec::new();
        for len in [100, 5000, 300_000] {
            holds.extend(tally.ask("alloc", || arena.alloc(len, 64, true, wait)));
        }
        let names: Vec<BlockId> = world.holds.iter().map(Hold::block).collect();
        for &name in &names {
            holds.extend(tally.ask("take", || arena.take(name)));
            tally.look("is_live", || arena.is_live(name));
            tally.ask("is_kept_by_others", || arena.is_kept_by_others(name));
        }
        if let Some(ticket) = world.ticket {
            holds.extend(tally.ask("claim", || arena.claim(names[3], ticket, wait)));
        }
        for hold in &holds {
            tally.look("words", || touch(hold));
            if tally.ask("lock_block", || arena.lock_block(hold, Reentry::Refuse, wait)).is_some() {
                tally.ask("unlock_block", || arena.unlock_block(hold, true));
            }
            tally.ask("is_block_locked", || arena.is_block_locked(hold));
        }
        tally.ask("issue", || world.holds[0].issue(wait));
        tally.look("children", || world.parent.children());
        if tally.ask("adopt", || world.parent.adopt(&world.holds[1], wait)).is_none() {
            tally.ask("disown", || world.parent.disown(world.record, wait));
        }
        // In any order.
        while !holds.is_empty() {
            let hold = holds.swap_remove(self.dice.below(holds.len()));
            tally.look("drop", move || drop(hold));
        }
        tally.ask("stats", || arena.stats());
        tally.ask("reclaim", || arena.reclaim(Duration::from_secs(1), wait));
        tally.look("sweep_the_dead", || arena.sweep_the_dead());
        if self.dice.below(32) == 0 {
            tally.look("audit", || arena.findings());
        }
    }

    fn use_ring(&mut self) {
        let (ring, readers, wait) = (&self.world.ring, &self.world.readers, self.wait_again());
        for (long, through) in [(false, true), (true, false)] {
            let note = if long { Note::text("n".repeat(600)) } else { Note::text("n") };
            let content = Content { meta: &[7; 8], note: Some(&note), ..Content::default() };
            let begin = || match through {
                true => ring.begin_with_note(256, 600, &wait),
                false => self.world.writer.begin_with_note(256, 600, &wait),
            };
            if let Some(mut writing) = self.tally.ask("begin", begin) {
                self.tally.ask("publish", || writing.publish(content, &wait));
                self.tally.look("discard", move || drop(writing));
            }
            readers.iter().for_each(|reader| self.read(reader, &wait));
        }
        let tally = &mut self.tally;
        tally.ask("ring.stats", || ring.stats(&wait));
        tally.look("ring.glance", || (ring.glance(), ring.waiting(), ring.writer_counts(), ring.written()));
        if self.dice.below(4) == 0 {
            let mode = self.dice.pick(&[Mode::Every, Mode::Latest, Mode::Group(self.world.group)]);
            let reader = tally.ask("ring.reader", || ring.reader(mode, Start::Oldest, &wait));
            reader.iter().for_each(|reader| self.read(reader, &wait));
            let tally = &mut self.tally;
            tally.look("reader.drop", move || drop(reader));
            if let Some(writer) = tally.ask("ring.writer", || ring.writer(&wait)) {
                let made = tally.ask("writer.begin", || writer.begin(10, &wait));
                made.map(|mut writing| tally.ask("writer.publish", || writing.publish(Content::default(), &wait)));
                tally.ask("writer.close", || writer.close(&wait));
            }
            tally.ask("ring.group", || ring.group("another", &wait));
        }
    }

    fn wait_again(&self) -> Deadline<'static> {
        if self.wait.waits() { Deadline::after(Duration::from_micros(100)) } else { Deadline::now() }
    }

    fn read(&mut self, reader: &Reader, wait: &Deadline) {
        let frame = match self.dice.below(4) {
            0 => self.tally.ask("reader.newest", || reader.newest_now(None)).flatten(),
            1 => self.tally.ask("reader.get", || reader.get(wait)),
            _ => self.tally.ask("reader.try_get", || reader.try_get()).flatten(),
        };
        let Some(frame) = frame else { return };
        self.tally.ask("frame.note", || frame.note());
        let bytes = self.tally.ask("frame.array", || frame.array()).filter(|array| array.len() <= 1 << 16);
        bytes.map(|array| self.tally.ask("array.to_bytes", || array.to_bytes()));
        self.tally.look("reader.lag", || (reader.lag(), reader.is_ready(), reader.missed()));
    }

    fn use_cache(&mut self) {
        let (arena, cache, wait) = (&self.world.arena, &self.world.cache, self.wait_again());
        for number in 0..VALUES + 2 {
            let key = key(number);
            let found = self.tally.ask("cache.get", || cache.get(&key, &wait)).flatten();
            found.into_iter().for_each(|array| self.is_right(&array, number));
            match self.dice.below(6) {
                0 => _ = self.tally.ask("cache.remove", || cache.remove(&key, &wait)),
                1 => _ = self.tally.ask("cache.age", || cache.age(&key, &wait)),
                2 => _ = self.tally.ask("cache.contains", || cache.contains(&key, &wait)),
                3 => {
                    let Some(array) = self.tally.ask("array", || value(arena, number)) else { continue };
                    self.tally.ask("cache.store", || cache.store(&key, array, &wait));
                }
                4 => drop(self.tally.ask("cache.fetch_block", || cache.fetch_block(&key, &wait).map(is_given_up))),
                _ => {
                    let found = self.tally.ask("cache.fetch", || cache.fetch(&key, &wait, |_| value(arena, number)));
                    found.into_iter().for_each(|array| self.is_right(&array, number));
                }
            }
        }
        self.tally.ask("cache.info", || cache.info(&wait));
        self.tally.ask("cache.keys", || cache.keys(&wait));
        match self.dice.below(32) {
            0 => _ = self.tally.ask("cache.clear", || cache.clear(&wait)),
            1 => self.tally.look("cache.glance", || cache.glance()),
            _ => {}
        }
    }

    /// A value of a cache is that of its key, or none, whatever stands in the cache's tables. Who writes over the arena's may make
    /// two blocks of one memory: then the bytes are anybody's.
    fn is_right(&self, array: &Array, number: u64) {
        let bytes = array.to_vec::<u64>();
        assert!(!self.world.is_sure || bytes == Ok(vec![number; 64]), "a wrong value for {number}: {bytes:?}");
    }

    fn use_overlay(&mut self) {
        let (overlay, wait) = (&self.world.overlay, self.wait_again());
        for (name, field) in [("a", "x"), ("b", "y"), ("a", "x")] {
            let Some(inside) = self.tally.ask("overlay.enter", || overlay.enter(name, &wait)) else { continue };
            self.tally.ask("overlay.array", || inside.array(field)?.to_bytes());
            self.tally.look("overlay.leave", move || drop(inside));
        }
    }

    fn use_canvas(&mut self) {
        let (World { canvas, tiles, .. }, wait) = (self.world, self.wait_again());
        let order = if self.dice.below(2) == 0 { [0, 1] } else { [1, 0] };
        let sources = order.map(|tile| Source::fixed(&tiles[tile]));
        self.tally.ask("canvas.concatenate", || canvas.concatenate(&sources, 0, &wait));
        self.tally.ask("canvas.array", || canvas.array().to_vec::<u64>());
    }

    fn use_locks(&mut self) {
        let (World { lock, tiles, .. }, wait) = (self.world, self.wait_again());
        let death = self.dice.pick(&[Death::Report, Death::Recover]);
        if let Some(locked) = self.tally.ask("lock.acquire", || lock.acquire(death, &wait)) {
            self.tally.ask("lock.release", || locked.release(true));
        }
        let blocks = || tiles.iter().map(|tile| tile.hold().clone()).collect();
        let locked = self.tally.ask("locked", || Locked::acquire(blocks(), death, &wait));
        self.tally.look("locked.drop", move || drop(locked));
        self.tally.ask("lock.try_acquire", || lock.try_acquire(death).map(drop));
        self.tally.ask("lock.is_locked", || lock.is_locked());
    }

    fn use_names(&mut self) {
        let (World { arena, tiles, .. }, wait) = (self.world, self.wait_again());
        let wanted = Wanted::new(ObjectKind::Cache, "cache");
        self.tally.ask("registry.find", || registry::find(arena, &wanted, &wait));
        let mine = Wanted::new(ObjectKind::Lock, "mine");
        let mut make = || arena.alloc(64, 64, true, &Deadline::now());
        let made = self.tally.ask("registry.find_or_make", || registry::find_or_make(arena, &mine, &mut make, &wait));
        self.tally.ask("registry.list", || registry::list(arena, &wait));
        self.tally.look("name.drop", move || drop(made));
        self.tally.ask("registry.remove", || registry::remove(arena, "mine", &wait));
        if arena.is_lasting() {
            self.tally.ask("publish", || arena.publish("array", &tiles[1], true, &wait));
            let object = self.tally.ask("attach_name", || arena.attach_name("array", &wait));
            let array = object.and_then(|object| Array::try_from(object).ok()).filter(|array| array.len() <= 1 << 16);
            array.map(|array| self.tally.ask("array.to_bytes", || array.to_bytes()));
            self.tally.ask("attach_name", || arena.attach_name("ring", &wait));
        }
    }

    /// As somebody who comes just now.
    fn open_anew(&mut self) {
        let World { arena, ring, cache, overlay, canvas, lock, tiles, heap, .. } = self.world;
        let (wait, tally) = (self.wait_again(), &mut self.tally);
        if let Some(again) = tally.ask("Ring.open", || Ring::open(ring.head().clone())) {
            tally.look("ring.glance", || (again.glance(), again.written()));
        }
        tally.ask("Cache.open", || Cache::open(cache.head().clone())?.get(&key(1), &wait));
        tally.ask("Overlay.open", || Overlay::open(overlay.head().clone()));
        tally.ask("Canvas.open", || Canvas::open(canvas.head().clone()).map(|canvas| canvas.array().to_bytes()));
        tally.ask("Lock.open", || Lock::open(lock.head().clone()));
        let token = tally.ask("token", || tiles[0].token(&wait));
        token.map(|token| tally.ask("Token.open_in", || token.open_in(arena, &wait)));
        if let Some(heap) = heap.as_ref().filter(|_| self.dice.below(8) == 0) {
            let other = tally.ask("join", || Arena::join_on_heap(heap));
            let Some(other) = other else { return };
            let head = tally.ask("take", || other.take(ring.head().block()));
            let theirs = head.and_then(|head| tally.ask("Ring.open", || Ring::open(head)));
            let reader =
                theirs.and_then(|ring| tally.ask("ring.reader", || ring.reader(Mode::Every, Start::Oldest, &wait)));
            reader.iter().for_each(|reader| self.read(reader, &wait));
            drop(reader);
            self.tally.look("leave", move || drop(other));
        }
    }
}

/// The words of a held block are its own, whatever the tables say.
fn touch(hold: &Hold) -> u64 {
    assert_eq!(hold.words().len() * 8, hold.len_bytes());
    let words = hold.words().iter().step_by(512).chain(hold.words().last());
    words.fold(0_u64, |sum, word| sum.wrapping_add(word.load(Relaxed)))
}

fn is_given_up(fetch: Fetch) -> bool {
    matches!(fetch, Fetch::Load(_))
}

/// Whether the tables of an arena were found to contradict themselves, so that all that is asked fails from then on.
pub(super) fn is_poisoned(arena: &Arc<Arena>) -> bool {
    arena.stats().is_err()
}
