//! Heads of objects, and the table of names, in which a fuzzer has written over words: those who have the object already, and
//! who opens it then, get results or typed errors.

use super::patch::{arena_on_heap, patch_words};
use crate::arena::{Arena, BlockId, Deadline, Heap, Hold};
use crate::array::{Array, make_card, read_card};
use crate::cache::{Cache, Geometry, Key};
use crate::element::Number;
use crate::gather::{Canvas, Source};
use crate::lock::{Death, Lock};
use crate::overlay::{Overlay, Uses};
use crate::prim::AtomicU64;
use crate::registry::{self, ObjectKind, Wanted};
use crate::ring::{Content, Format, Mode, Note, Reader, Ring, RingOptions, Start, WhenFull};
use std::sync::Arc;

const NOW: Deadline<'static> = Deadline::now();
const FOREVER: Deadline<'static> = Deadline::never();

fn arena() -> (Arc<Arena>, Arc<Heap>) {
    arena_on_heap(2 << 20)
}

fn words(blocks: &[Hold]) -> Vec<&[AtomicU64]> {
    blocks.iter().map(Hold::words).collect()
}

/// The head of a ring: the first byte says what a full ring does, the rest which words are written over.
pub fn ring_head(data: &[u8]) -> bool {
    let Some((policy, stores)) = data.split_first() else { return false };
    let when_full = [WhenFull::Wait, WhenFull::DropOldest, WhenFull::DropNewest][usize::from(*policy) % 3];
    let (arena, _heap) = arena();
    let options = RingOptions { when_full, ..RingOptions::slots(2) };
    let format = Format { meta: "|V8".parse().ok(), ..Format::new(&[64], Number::U8) };
    let ring = Ring::new(&arena, format, options, &FOREVER).expect("a ring");
    let group = ring.group("g", &FOREVER).expect("a group");
    let modes = [Mode::Every, Mode::Latest, Mode::Group(group)];
    let readers = modes.map(|mode| ring.reader(mode, Start::Next, &FOREVER).expect("a reader"));
    for _ in 0..2 {
        write(&ring, &Note::text("note"));
    }
    patch_words(&[ring.head().words()], stores);
    use_ring(&ring, &readers);
    let Ok(other) = Ring::open(ring.head().clone()) else { return false };
    let readers: Vec<Reader> = modes.iter().filter_map(|&mode| other.reader(mode, Start::Oldest, &NOW).ok()).collect();
    use_ring(&other, &readers);
    true
}

fn write(ring: &Arc<Ring>, note: &Note<'_>) {
    if let Ok(mut writing) = ring.begin_with_note(64, 600, &NOW) {
        let content = Content { meta: &[7; 8], note: Some(note), ..Content::default() };
        let _ = writing.publish(content, &NOW);
    }
}

fn use_ring(ring: &Arc<Ring>, readers: &[Reader]) {
    for note in [Note::text("x"), Note::bytes(vec![1; 600])] {
        write(ring, &note);
        for frame in readers.iter().filter_map(|reader| reader.try_get().ok().flatten()) {
            let _ = (frame.note(), frame.array().and_then(|array| array.to_bytes()), frame.field("x"));
        }
        readers.iter().for_each(|reader| _ = (reader.lag(), reader.is_ready(), reader.newest_now(None)));
    }
    let _ = (ring.stats(&NOW), ring.glance(), ring.writer_counts(), ring.written(), ring.close(&NOW));
}

fn key(number: u64) -> Key {
    Key::of(&number).expect("a number is a key")
}

/// The tables of a cache: which words are written over.
pub fn cache_head(data: &[u8]) -> bool {
    let (arena, _heap) = arena();
    let geometry = Geometry::new(64 << 10, Some(8)).expect("sizes");
    let cache = Cache::create(&arena, geometry, &FOREVER).expect("a cache");
    let value = |number: u64| Array::from_slice(&arena, &[64], &[number; 64]);
    for number in 0..3 {
        cache.store(&key(number), value(number).expect("a value"), &FOREVER).expect("a value that is kept");
    }
    patch_words(&words(&cache.table_blocks()), data);
    let use_it = |cache: &Arc<Cache>| {
        for number in 0..5 {
            if let Ok(Some(found)) = cache.get(&key(number), &NOW) {
                assert_eq!(found.to_vec::<u64>().ok(), Some(vec![number; 64]), "a wrong value");
            }
            let _ = cache.fetch(&key(number), &NOW, |_| value(number));
            let _ = value(number).and_then(|array| cache.store(&key(number), array, &NOW));
        }
        let _ = (cache.keys(&NOW), cache.info(&NOW), cache.remove(&key(1), &NOW), cache.clear(&NOW));
    };
    use_it(&cache);
    Cache::open(cache.head().clone()).map(|other| use_it(&other)).is_ok()
}

/// Heads that keep a block: of an overlay, a canvas, a named array, a lock. The first byte says which.
pub fn kept_head(data: &[u8]) -> bool {
    let Some((kind, stores)) = data.split_first() else { return false };
    let (arena, _heap) = arena();
    let array = Array::from_slice(&arena, &[4, 4], &[1_u8; 16]).expect("an array");
    match kind % 4 {
        0 => {
            let uses = Uses::default().with("a", [("x", [100], Number::U8)]);
            let uses = uses.and_then(|uses| uses.with("b", [("y", [10], Number::U32)])).expect("uses");
            let overlay = Overlay::new(&arena, uses, &FOREVER).expect("an overlay");
            patch_words(&[overlay.head().words()], stores);
            let enter = |overlay: &Overlay| {
                for name in ["a", "b", "c"] {
                    let inside = overlay.enter(name, &NOW);
                    _ = inside
                        .map(|inside| (inside.array("x").map(Array::to_bytes), inside.array("y").map(Array::to_bytes)));
                }
            };
            enter(&overlay);
            Overlay::open(overlay.head().clone()).inspect(|other| enter(other)).is_ok()
        }
        1 => {
            let canvas = Canvas::new(&arena, &[4, 8], Number::U8).expect("a canvas");
            patch_words(&[canvas.head().words(), canvas.array().hold().words()], stores);
            let fill = |canvas: &Canvas| {
                let sources = [Source::fixed(&array), Source::changing(&array)];
                _ = (canvas.concatenate(&sources, 1, &NOW), canvas.array().to_bytes());
            };
            fill(&canvas);
            Canvas::open(canvas.head().clone()).inspect(|other| fill(other)).is_ok()
        }
        2 => {
            let card = make_card(&array.bare_reference(), array.hold(), &FOREVER).expect("a head");
            patch_words(&[card.words()], stores);
            let opened = read_card(&card).and_then(|(token, hold)| token.array_in(hold));
            opened.inspect(|array| _ = (array.len() < 1 << 16).then(|| array.to_bytes())).is_ok()
        }
        _ => {
            let lock = Lock::new(&arena, &FOREVER).expect("a lock");
            patch_words(&[lock.head().words()], stores);
            Lock::open(lock.head().clone()).and_then(|lock| lock.acquire(Death::Report, &NOW)).is_ok()
        }
    }
}

/// The table of names: which words are written over, in an arena in memory, and in one that lasts by the first byte.
pub fn registry(data: &[u8]) -> bool {
    let Some((kind, stores)) = data.split_first() else { return false };
    let made =
        if kind % 2 == 0 { arena() } else { Arena::create_small_on_heap(2 << 20, true, None).expect("an arena") };
    let (arena, heap) = &made;
    let block = |arena: &Arc<Arena>| arena.alloc(100, 64, true, &NOW);
    let wanted = |name| Wanted::new(ObjectKind::Cache, name);
    let made = ["a", "tiles"].map(|name| {
        registry::find_or_make(arena, &wanted(name), &mut || block(arena), &FOREVER).expect("a block with a name")
    });
    let table = arena.root(registry::TABLE_BYTES, &FOREVER).expect("the table");
    patch_words(&[table.words()], stores);
    let other = Arena::join_on_heap(heap).expect("a place");
    for arena in [arena, &other] {
        for name in ["a", "tiles", "none"] {
            let _ = registry::find(arena, &wanted(name), &NOW).map(|found| found.map(|hold| hold.words().len()));
            let _ = registry::get(arena, name, &NOW);
            let _ = registry::find_or_make(arena, &wanted(name), &mut || block(arena), &NOW);
        }
        let _ = block(arena).and_then(|block| registry::put(arena, (ObjectKind::Array, "b"), &block, true, &NOW));
        let _ = registry::list(arena, &NOW).map(|names| names.iter().for_each(|(name, _)| assert!(name.len() <= 240)));
        let _ = registry::remove(arena, "tiles", &NOW);
    }
    let _: Vec<BlockId> = made.iter().map(Hold::block).collect();
    registry::list(arena, &NOW).is_ok_and(|names| !names.is_empty())
}
