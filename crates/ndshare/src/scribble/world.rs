//! An arena with one object of each kind, and all its words by what they are a part of.

use crate::arena::{Arena, BlockId, Deadline, Heap, Hold, Locator, Options, TicketId};
use crate::array::Array;
use crate::cache::{Cache, Geometry, Key};
use crate::dice::Dice;
use crate::element::Number;
use crate::error::Result;
use crate::gather::{Canvas, Source};
use crate::lock::Lock;
use crate::overlay::{Overlay, Uses};
use crate::prim::{
    AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use crate::registry::TABLE_BYTES;
use crate::ring::{Content, Format, Mode, Reader, Ring, RingOptions, Start, WhenFull, Writer};
use std::sync::Arc;

const FOREVER: Deadline<'static> = Deadline::never();
const BUDGET: u64 = 4 << 20;
/// Values of the cache.
pub(super) const VALUES: u64 = 4;
const WHEN_FULL: [WhenFull; 3] = [WhenFull::Wait, WhenFull::DropOldest, WhenFull::DropNewest];

/// A word of shared memory.
#[derive(Clone, Copy)]
pub(super) enum Word<'a> {
    Half(&'a AtomicU32),
    Whole(&'a AtomicU64),
}

impl Word<'_> {
    pub(super) fn read(self) -> u64 {
        match self {
            Self::Half(word) => word.load(Relaxed).into(),
            Self::Whole(word) => word.load(Relaxed),
        }
    }

    pub(super) fn write(self, value: u64) {
        match self {
            Self::Half(word) => word.store(value as u32, SeqCst),
            Self::Whole(word) => word.store(value, SeqCst),
        }
    }
}

/// Words of one kind.
pub(super) struct Structure<'a> {
    pub name: &'static str,
    pub words: Vec<Word<'a>>,
}

/// How an arena is made for a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ground {
    /// On the heap, as one in memory.
    Heap,
    /// On the heap, as one in a file with a path: its names keep what they name.
    Lasting,
    /// In a memory file, which another process can open.
    Shared,
}

pub(super) struct World {
    // The order matters: what is in an arena goes before it.
    pub ring: Arc<Ring>,
    pub readers: Vec<Reader>,
    pub writer: Arc<Writer>,
    pub group: usize,
    pub cache: Arc<Cache>,
    pub overlay: Overlay,
    pub canvas: Canvas,
    pub tiles: Vec<Array>,
    pub lock: Lock,
    pub holds: Vec<Hold>,
    pub parent: Hold,
    pub record: TicketId,
    pub ticket: Option<TicketId>,
    table: Hold,
    /// The blocks of the cache's tables.
    tables: Vec<Hold>,
    pub arena: Arc<Arena>,
    pub heap: Option<Arc<Heap>>,
    /// Whether values of the cache are right: nobody writes over the tables of the arena.
    pub is_sure: bool,
}

pub(super) fn key(number: u64) -> Key {
    Key::of(&("tile", number)).unwrap()
}

pub(super) fn value(arena: &Arc<Arena>, number: u64) -> Result<Array> {
    let array = Array::empty(arena, &[64], Number::U64)?;
    array.copy_from_slice(&[number; 64])?;
    Ok(array)
}

/// An arena for a world: on the heap in the memory of the world before, if there was one.
fn arena_of(ground: Ground, before: Option<Arc<Heap>>) -> (Arc<Arena>, Option<Arc<Heap>>) {
    if ground == Ground::Shared {
        let options = Options { budget_bytes: Some(BUDGET), ..Options::default() };
        return (Arena::create(&options).unwrap(), None);
    }
    let made = Arena::create_small_on_heap(BUDGET, ground == Ground::Lasting, before);
    let (arena, heap) = made.unwrap();
    (arena, Some(heap))
}

impl World {
    pub(super) fn new(ground: Ground, dice: &mut Dice, before: Option<Arc<Heap>>) -> Self {
        let (arena, heap) = arena_of(ground, before);
        let sizes = [100, 3000, 70_000, 500_000];
        let holds: Vec<Hold> = sizes.iter().map(|&len| arena.alloc(len, 64, false, &FOREVER).unwrap()).collect();
        drop(arena.alloc(100_000, 64, false, &FOREVER));
        let parent = arena.alloc(1000, 64, true, &FOREVER).unwrap();
        let record = parent.adopt(&holds[2], &FOREVER).unwrap();
        let ticket = holds[3].issue(&FOREVER).unwrap();
        let tiles: Vec<Array> = (0..2).map(|number| value(&arena, number).unwrap()).collect();
        let canvas = Canvas::new(&arena, &[128], Number::U64).unwrap();
        canvas.concatenate(&[Source::fixed(&tiles[0]), Source::changing(&tiles[1])], 0, &FOREVER).unwrap();
        let uses = Uses::default().with("a", [("x", [50], Number::F64)]);
        let uses = uses.and_then(|uses| uses.with("b", [("y", [100], Number::U8)])).unwrap();
        let overlay = Overlay::named(&arena, "overlay", uses, &FOREVER).unwrap();
        let format = Format { meta: "|V8".parse().ok(), name: Some("ring".into()), ..Format::new(&[256], Number::U8) };
        let options = RingOptions { when_full: dice.pick(&WHEN_FULL), ..RingOptions::slots(2) };
        let ring = Ring::named(&arena, format, options, &FOREVER).unwrap();
        let group = ring.group("g", &FOREVER).unwrap();
        let modes = [Mode::Every, Mode::Latest, Mode::Group(group), Mode::Group(group)];
        let readers = modes.map(|mode| ring.reader(mode, Start::Next, &FOREVER).unwrap()).into();
        let cache = Cache::named(&arena, "cache", Geometry::new(64 << 10, Some(8)).unwrap(), &FOREVER).unwrap();
        for number in 0..VALUES {
            cache.store(&key(number), value(&arena, number).unwrap(), &FOREVER).unwrap();
        }
        let (lock, writer) = (Lock::named(&arena, "lock", &FOREVER).unwrap(), ring.writer(&FOREVER).unwrap());
        for _ in 0..dice.below(3) {
            let frame =
                ring.begin_own(&FOREVER).unwrap().publish(Content { meta: &[1; 8], ..Content::default() }, &FOREVER);
            frame.unwrap();
        }
        if ground == Ground::Lasting {
            arena.publish("array", &tiles[0], false, &FOREVER).unwrap();
        }
        let (table, tables) = (arena.root(TABLE_BYTES, &FOREVER).unwrap(), cache.table_blocks());
        Self {
            ring,
            readers,
            writer,
            group,
            cache,
            overlay,
            canvas,
            tiles,
            lock,
            holds,
            parent,
            record,
            ticket,
            table,
            tables,
            arena,
            heap,
            is_sure: false,
        }
    }

    /// The heads, by the kind of their object.
    fn heads(&self) -> Vec<(&'static str, &Hold)> {
        let one = [
            ("ring", self.ring.head()),
            ("overlay", self.overlay.head()),
            ("canvas", self.canvas.head()),
            ("lock", self.lock.head()),
            ("names", &self.table),
        ];
        let reader = self.readers.iter().map(|reader| ("ring tokens", reader.token()));
        one.into_iter().chain(reader).chain(self.tables.iter().map(|table| ("cache", table))).collect()
    }

    /// Where the heads are, for another process.
    pub(super) fn places(&self) -> Vec<BlockId> {
        self.heads().into_iter().map(|(_, head)| head.block()).collect()
    }

    /// All words, by what they are a part of; of the tables those in use, or all that there is room for.
    pub(super) fn structures(&self, all: bool) -> Vec<Structure<'_>> {
        let parts = if all { self.arena.ground() } else { self.arena.used_ground() };
        let mut structures: Vec<Structure<'_>> = parts
            .into_iter()
            .map(|(name, words)| Structure { name, words: words.iter().map(Word::Half).collect() })
            .collect();
        for (name, head) in self.heads() {
            let words = head.words().iter().map(Word::Whole);
            match structures.iter_mut().find(|one| one.name == name) {
                Some(one) => one.words.extend(words),
                None => structures.push(Structure { name, words: words.collect() }),
            }
        }
        structures
    }
}

/// What a fault may put into a word: nothing, all ones, a neighbour's, anything.
pub(super) fn wild<'a>(words: &[Word<'a>], at: usize, dice: &mut Dice) -> [u64; 4] {
    let neighbour = words[(at + 1) % words.len()].read();
    [0, u64::MAX, neighbour, dice.next()]
}

/// The arena and the heads of another process, to be written over.
pub(super) fn ground_of(locator: &Locator, places: &[BlockId]) -> Result<(Arc<Arena>, Vec<Hold>)> {
    let arena = Arena::attach(locator)?;
    let heads = places.iter().map(|&place| arena.take(place)).collect::<Result<_>>()?;
    Ok((arena, heads))
}
