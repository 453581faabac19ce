//! A ring told from outside: by a look at its arena, without joining it, and without a store to it.

use super::format::Format;
use super::note::{Note, Told};
use super::protocol::read_entry;
use super::stats::{Stats, Who};
use super::table::{RingSizes, Table};
use crate::arena::{AnyBlock, BlockId, Look};
use crate::array::Description;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::prim::{
    AtomicU64,
    Ordering::{Acquire, Relaxed},
    fence, load_bytes,
};

/// What a look tells of a ring. Nobody is swept for it: who died since is listed as dead.
#[derive(Debug, Clone, PartialEq)]
pub struct Glance {
    /// What its frames are.
    pub format: Format,
    /// Its sizes.
    pub sizes: RingSizes,
    /// Counts, readers and writers.
    pub stats: Stats,
    /// Bytes of the items of the last frame, or of the ring's own shape before there is one.
    pub frame_bytes: u64,
}

impl Glance {
    /// The ring whose head a block is.
    ///
    /// # Errors
    /// `WrongKind` when the block is no head of a ring; `InvalidValue` for one that contradicts itself, or is gone.
    pub fn of(look: &Look, head: BlockId) -> Result<Self> {
        let table = Table::open(look.living(head)?)?;
        let who = Who {
            pid_of: &|user| look.pid_of(user),
            is_alive: &|user| Ok(look.is_identity_alive(user)),
            is_live: &|block| look.is_live(block),
        };
        let (format, stats) = (table.read_format()?, table.stats(&who)?);
        let frame_bytes = last_frame_bytes(&table, &format).unwrap_or(table.geometry.frame_bytes);
        Ok(Self { format, sizes: table.geometry, stats, frame_bytes })
    }
}

/// The note of a ring's newest frame as a look tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenNote {
    /// How many bytes it has.
    pub len_bytes: usize,
    /// The note, where it is no longer than was asked for, and does not contradict itself.
    pub note: Option<Note<'static>>,
}

impl SeenNote {
    /// The note of the newest frame of the ring whose head a block is, with what it says if that is at most `most` bytes;
    /// none where the frame has none, or is gone meanwhile.
    ///
    /// # Errors
    /// As [`Glance::of`].
    pub fn of_newest(look: &Look, head: BlockId, most: usize) -> Result<Option<Self>> {
        let table = Table::open(look.living(head)?)?;
        let Some((block, told)) = newest(&table) else { return Ok(None) };
        let Some(len_bytes) = told.note_bytes() else { return Ok(None) };
        let Some((id, block)) = BlockId::from_word(block).and_then(|id| Some((id, look.block(id)?))) else {
            return Ok(None);
        };
        let read = || told.note(|at, len| tail_of(block.words(), at, len)).ok().flatten();
        let note = if len_bytes <= most { read() } else { None };
        // As with the items of a frame.
        fence(Acquire);
        Ok(Some(Self { len_bytes, note }).filter(|_| look.is_live(id)))
    }
}

/// A frame as a look has read it: a copy.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenFrame {
    /// Its number.
    pub seq: u64,
    /// When it was made, as its writer says; else when it was published, on the monotonic clock.
    pub time_ns: u64,
    /// When it was published, on the monotonic clock.
    pub published_ns: u64,
    /// The lengths of its axes.
    pub shape: Vec<usize>,
    /// What an item is.
    pub element: Element,
    /// The items in C order.
    pub bytes: Vec<u8>,
    /// The note beside it; an error for one that contradicts itself.
    pub note: Result<Option<Note<'static>>>,
}

impl SeenFrame {
    /// The frame of `seq` in the ring whose head a block is; none when there is no such frame any more, or not yet.
    ///
    /// # Errors
    /// As [`Glance::of`]; `InvalidValue` for a frame that says of itself what cannot be.
    pub fn of(look: &Look, head: BlockId, seq: u64) -> Result<Option<Self>> {
        let table = Table::open(look.living(head)?)?;
        let format = table.read_format()?;
        let entry = table.entry(seq);
        let read = read_entry(entry.seq, seq, || {
            // RAW: a name, which is looked up; a time, which is told; an offset, which is checked against the block.
            let [block, time_ns, offset] = [entry.block, entry.time_ns, entry.offset].map(|word| word.load(Relaxed));
            // RAW: a time, which is told.
            let times = (time_ns, entry.published_ns.load(Relaxed));
            (block, times, offset, Told::of(&entry))
        });
        let Some((block, (time_ns, published_ns), offset, mut told)) = read else { return Ok(None) };
        let Some(id) = BlockId::from_word(block) else { return Ok(None) };
        let Some(block) = look.block(id) else { return Ok(None) };
        told.read_view(|at, len| tail_of(block.words(), at, len));
        let (layout, element) = described(&format, &told.view)?;
        layout.check_inside(offset, element.size(), size_of_val(block.words()))?;
        let len = layout.items().and_then(|count| count.checked_mul(element.size()));
        if len.is_none_or(|len| len > size_of_val(block.words())) {
            return Err(Error::value("expected a frame whose items have a place each, got one that repeats them"));
        }
        let bytes = items(block.words(), offset, &layout, element.size());
        let note = told.note(|at, len| tail_of(block.words(), at, len));
        // A block has another generation before it is filled anew: what was copied is of this frame if it still lives.
        fence(Acquire);
        let frame = Self { seq, time_ns, published_ns, shape: layout.shape().to_vec(), element, bytes, note };
        Ok(Some(frame).filter(|_| look.is_live(id)))
    }
}

/// Bytes of a block that are told behind a frame's items.
fn tail_of(words: &[AtomicU64], at: u64, len: usize) -> Result<Vec<u8>> {
    let (layout, _) = Layout::contiguous(&[len], 1)?;
    layout.check_inside(at, 1, size_of_val(words))?;
    Ok(items(words, at, &layout, 1))
}

/// How the items of a frame lie, and what they are, by its view or by the ring's own shape.
fn described(format: &Format, view: &[u8]) -> Result<(Layout, Element)> {
    let own = if view.is_empty() { format.description() } else { None };
    let Description { layout, element } = own.map_or_else(|| Description::decode(view), Ok)?;
    let element = element.or_else(|| format.element.clone());
    let element =
        element.ok_or_else(|| Error::value("expected a frame that says what its items are, got one of bytes"))?;
    Ok((layout, element))
}

/// The items of an array, which lies inside the words, in C order.
fn items(words: &[AtomicU64], offset: u64, layout: &Layout, size: usize) -> Vec<u8> {
    let bytes = |at: usize, len: usize| {
        let loaded = load_bytes(&words[at / 8..], at % 8 + len);
        loaded.into_iter().skip(at % 8)
    };
    let count = layout.items().unwrap_or(0);
    if layout.is_contiguous(size) {
        return bytes(offset as usize, count * size).collect();
    }
    let mut all = Vec::with_capacity(count * size);
    for number in 0..count {
        let mut rest = number;
        let mut index: Vec<usize> = layout.shape().iter().rev().map(|&length| rest_of(&mut rest, length)).collect();
        index.reverse();
        let from_first = layout.offset_of(&index).unwrap_or(0);
        all.extend(bytes((offset as usize).wrapping_add_signed(from_first), size));
    }
    all
}

/// The last digit of a number in base `length`, which it loses.
fn rest_of(number: &mut usize, length: usize) -> usize {
    let digit = *number % length;
    *number /= length;
    digit
}

/// Bytes of the items of the last frame, if it says what it is.
fn last_frame_bytes<B: AnyBlock>(table: &Table<B>, format: &Format) -> Option<u64> {
    // A view that stands in the block is not looked up.
    let (_, told) = newest(table)?;
    let Description { layout, element } = Description::decode(&told.view).ok()?;
    let element = element.or_else(|| format.element.clone())?;
    let count = layout.shape().iter().try_fold(1_u64, |count, &length| count.checked_mul(length as u64))?;
    count.checked_mul(element.size() as u64)
}

/// The name of the newest frame's block, and what its entry says beside the items.
fn newest<B: AnyBlock>(table: &Table<B>) -> Option<(u64, Told)> {
    let seq = table.written().checked_sub(1)?;
    let entry = table.entry(seq);
    // RAW: a name, which is looked up.
    read_entry(entry.seq, seq, || (entry.block.load(Relaxed), Told::of(&entry)))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::{Content, Mode, Ring, RingOptions, Start};
    use super::*;
    use crate::arena::{Arena, Deadline, Options};
    use crate::{Array, Number};

    #[test]
    fn a_glance_tells_what_the_ring_tells_of_itself() {
        let arena = Arena::create(&Options { budget_bytes: Some(16 << 20), ..Options::default() }).unwrap();
        let forever = Deadline::never();
        let ring = Ring::new(&arena, Format::new(&[10, 10], Number::U16), RingOptions::slots(4), &forever).unwrap();
        let reader = ring.reader(Mode::Every, Start::Next, &forever).unwrap();
        let writer = ring.writer(&forever).unwrap();
        let look = Look::at(&arena.locator()).unwrap();
        let head = ring.head().block();
        assert_eq!(Glance::of(&look, head).unwrap().frame_bytes, 200);
        for _ in 0..3 {
            let mut frame = writer.begin(200, &forever).unwrap();
            frame.publish(Content::default(), &forever).unwrap();
        }
        let seen = Glance::of(&look, head).unwrap();
        assert_eq!((seen.stats.written, seen.stats.readers[0].lag, seen.sizes.slots), (3, 3, 4));
        assert_eq!(seen.stats, ring.stats(&forever).unwrap());
        let small = Array::zeros(&arena, &[3], Number::U8).unwrap();
        assert!(Glance::of(&look, small.hold().block()).is_err(), "it is an array");
        drop(reader);
    }

    #[test]
    fn a_look_tells_notes_short_and_long() {
        let arena = Arena::create(&Options { budget_bytes: Some(16 << 20), ..Options::default() }).unwrap();
        let forever = Deadline::never();
        let ring = Ring::new(&arena, Format::new(&[8], Number::U8), RingOptions::slots(4), &forever).unwrap();
        let (look, head) = (Look::at(&arena.locator()).unwrap(), ring.head().block());
        let texts = [None, Some("short".to_owned()), Some("long ".repeat(1000))];
        for (seq, text) in texts.iter().enumerate() {
            let note = text.clone().map(Note::text);
            let len_bytes = note.as_ref().map_or(0, |note| note.as_bytes().len());
            let mut frame = ring.begin_with_note(8, len_bytes as u64, &forever).unwrap();
            frame.publish(Content { note: note.as_ref(), ..Content::default() }, &forever).unwrap();
            let seen = SeenFrame::of(&look, head, seq as u64).unwrap().unwrap();
            assert_eq!(seen.note, Ok(note.clone()));
            let newest = SeenNote::of_newest(&look, head, 100).unwrap();
            let told = note.map(|note| SeenNote { len_bytes, note: Some(note).filter(|_| len_bytes <= 100) });
            assert_eq!(newest, told);
        }
    }
}
