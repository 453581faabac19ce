//! A peer that scribbles over a ring's head: whatever stands in any word of it, writers and readers get frames or typed
//! errors. Nothing panics, hangs or reads outside. For about a second; `NDSHARE_SCRIBBLE_SECONDS` makes it longer.

use super::look::Misses;
use super::protocol::{BUSY, MOST_WRITTEN};
use super::table::{CLOSED, HEAD};
use super::*;
use crate::arena::{Arena, Deadline, Heap};
use crate::dice::Dice;
use crate::error::{Error, Kind, Result};
use crate::prim::Ordering::{Relaxed, SeqCst};
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Short enough for a ring that looks full for ever.
fn briefly() -> Deadline<'static> {
    Deadline::new(Some(Duration::from_millis(1)), &|| Ok(()))
}

/// What every victim does, in some order. Each call gives a frame or an error.
fn use_it(ring: &Arc<Ring>, readers: &[Reader], len: u64) {
    for _ in 0..3 {
        if let Ok(mut writing) = ring.begin(len, &briefly()) {
            let [short, long] = [10, VIEW_BYTES + 1].map(|len| Note::text("n".repeat(len)));
            let content = Content { offset: 8, view: b"|u1", meta: b"meta", note: Some(&long), ..Content::default() };
            let _ = writing.publish(content, &Deadline::now());
            let _ = writing.publish(Content { note: Some(&short), ..content }, &briefly());
        }
        if let Ok(hold) = ring.arena().alloc(len as usize, 64, false, &briefly()) {
            let _ = ring.publish_block(&hold, len, Content::default(), &briefly());
        }
        for reader in readers {
            if let Ok(frame) = reader.get(&briefly()) {
                assert!(frame.view().len() <= MOST_VIEW_BYTES && frame.meta().len() <= 8);
                let _ = frame.note();
            }
            let _ = (reader.lag(), reader.is_ready(), reader.try_get());
        }
        let _ = (ring.stats(&briefly()), ring.waiting(), ring.glance());
    }
    let _ = ring.reader(Mode::Latest, Start::Oldest, &briefly());
    let _ = ring.group("another", &briefly());
    if let Ok(writer) = ring.writer(&briefly()) {
        let _ = writer.begin(len, &briefly()).map(|mut writing| writing.publish(Content::default(), &briefly()));
        let _ = (writer.written(), writer.is_used(), writer.close(&briefly()));
    }
    let _ = (ring.writer_counts(), ring.enter_writers(&briefly()), ring.leave_writers(&briefly()));
    let _ = ring.close(&briefly());
    readers.iter().for_each(|reader| drop(reader.get(&briefly())));
}

fn readers(ring: &Arc<Ring>) -> Vec<Reader> {
    let group = ring.group("g", &briefly()).unwrap();
    [Mode::Every, Mode::Latest, Mode::Group(group), Mode::Group(group)]
        .iter()
        .map(|&mode| ring.reader(mode, Start::Next, &briefly()).unwrap())
        .collect()
}

/// One ring with one word changed, before and while it is used.
fn round(arena: &Arc<Arena>, dice: &mut Dice, policy: WhenFull) -> Result<()> {
    let geometry = RingSizes::new(3, if dice.below(2) == 0 { 0 } else { 2048 }, 8)?;
    let ring = Ring::create(arena, geometry, policy, &briefly())?;
    let readers = readers(&ring);
    use_some(&ring, &readers);
    let words = ring.table.head.words();
    // The sizes were copied long ago; everything behind them is fair.
    let at = 8 + dice.below(words.len() - 8);
    let neighbour = words[at - 1].load(Relaxed);
    let values = [0, 1, u64::MAX, u64::MAX - 1, neighbour, words[at].load(Relaxed).wrapping_add(1), dice.next()];
    words[at].store(values[dice.below(values.len())], SeqCst);
    use_it(&ring, &readers, 1024);
    Ok(())
}

fn use_some(ring: &Arc<Ring>, readers: &[Reader]) {
    for number in 0..dice_free(ring) {
        if let Ok(mut writing) = ring.begin(1024, &briefly()) {
            let _ = writing.publish(Content { meta: &number.to_le_bytes(), ..Content::default() }, &briefly());
        }
        let _ = readers[number as usize % readers.len()].try_get();
    }
}

/// Some frames, other ones for each ring.
fn dice_free(ring: &Arc<Ring>) -> u64 {
    u64::from(ring.head().block().index) % 5
}

#[test]
fn whatever_stands_in_a_ring_nobody_panics_hangs_or_reads_outside() {
    let seconds = std::env::var("NDSHARE_SCRIBBLE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let (start, mut dice) = (Instant::now(), Dice(7));
    let mut rounds = 0_u32;
    while start.elapsed() < Duration::from_secs(seconds) || rounds < 20 {
        // A ring that was scribbled on may keep blocks for good: a new arena now and then.
        let (arena, heap): (Arc<Arena>, Arc<Heap>) = Arena::create_on_heap(4 << 20).unwrap();
        for policy in [WhenFull::Wait, WhenFull::DropOldest, WhenFull::DropNewest] {
            let _ = round(&arena, &mut dice, policy);
            rounds += 1;
        }
        drop((arena, heap));
    }
}

/// A reader whose place in the stream is a number that no frame ever had once waited for ever, or got an entry that was
/// just being written.
#[test]
fn a_cursor_that_no_frame_ever_had_is_an_error() {
    let (arena, _heap) = Arena::create_on_heap(4 << 20).unwrap();
    let ring = Ring::create(&arena, RingSizes::new(3, 2048, 8).unwrap(), WhenFull::DropOldest, &briefly()).unwrap();
    let reader = ring.reader(Mode::Every, Start::Next, &briefly()).unwrap();
    for _ in 0..8 {
        ring.begin(1024, &briefly()).unwrap().publish(Content::default(), &briefly()).unwrap();
    }
    protocol::open_entry(ring.table.entry(BUSY).seq);
    for cursor in [BUSY, u64::MAX, MOST_WRITTEN + 1] {
        reader.words().cursor.store(cursor, SeqCst);
        assert_eq!(reader.try_get().unwrap_err().kind(), Kind::Poisoned);
    }
}

/// Of readers of the newest frame and of groups such a place was not looked at: `get` waited for ever without a timeout,
/// a poll found nothing for ever, and at the end of the stream what was there was said to have been read. So it was for
/// readers of every frame where the number was merely beyond the head.
#[test]
fn a_place_to_which_the_stream_has_not_come_is_an_error_for_every_kind_of_reader() {
    let (arena, _heap) = Arena::create_on_heap(4 << 20).unwrap();
    let (geometry, forever) = (RingSizes::new(3, 2048, 8).unwrap(), Deadline::never());
    let ring = Ring::create(&arena, geometry, WhenFull::DropOldest, &briefly()).unwrap();
    let group = ring.group("g", &briefly()).unwrap();
    let readers =
        [Mode::Every, Mode::Latest, Mode::Group(group)].map(|mode| ring.reader(mode, Start::Next, &briefly()).unwrap());
    for _ in 0..5 {
        ring.begin(1024, &briefly()).unwrap().publish(Content::default(), &briefly()).unwrap();
    }
    let cursors = || readers.iter().map(|reader| reader.words().cursor).chain([ring.table.group(group).cursor]);
    for cursor in [7, 5 + 8, MOST_WRITTEN, MOST_WRITTEN + 1, BUSY, u64::MAX] {
        cursors().for_each(|word| word.store(cursor, SeqCst));
        for reader in &readers {
            assert_eq!(reader.get(&forever).unwrap_err().kind(), Kind::Poisoned, "{cursor} {:?}", reader.mode());
            assert_eq!(reader.try_get().unwrap_err().kind(), Kind::Poisoned);
            assert_eq!(reader.get_soon(Duration::ZERO).unwrap_err().kind(), Kind::Poisoned);
        }
    }
    // A head that was put back is the same to them.
    cursors().for_each(|word| word.store(5, SeqCst));
    readers.iter().for_each(|reader| assert!(reader.try_get().unwrap().is_none()));
    ring.table.word(HEAD).store(0, SeqCst);
    for is_closed in [false, true] {
        ring.table.word(CLOSED).store(is_closed.into(), SeqCst);
        for reader in &readers {
            assert_eq!(reader.get(&forever).unwrap_err().kind(), Kind::Poisoned, "{:?}", reader.mode());
        }
    }
}

/// The sum over readers was more than a number holds.
#[test]
fn frames_in_hand_of_many_readers_are_summed_up_whatever_they_say() {
    let (arena, _heap) = Arena::create_on_heap(4 << 20).unwrap();
    let ring = Ring::create(&arena, RingSizes::new(3, 2048, 8).unwrap(), WhenFull::Wait, &briefly()).unwrap();
    let readers = [(); 5].map(|()| ring.reader(Mode::Every, Start::Next, &briefly()).unwrap());
    ring.table.word(HEAD).store(u64::MAX, SeqCst);
    readers.iter().for_each(|reader| reader.words().held.store(u64::MAX, SeqCst));
    assert_eq!(ring.glance(), (5, MOST_WRITTEN, u64::MAX));
}

/// An entry that bears an older number than it was published under once made `get` look again and again, without a look
/// at its timeout or at signals; in a group its frame was passed over, and the group's place stayed there for ever.
#[test]
fn an_entry_that_bears_an_older_number_is_an_error_for_who_wants_it() {
    for (is_closed, number) in [(false, 0), (true, 0), (false, 1 << 40), (true, BUSY)] {
        let (arena, _heap) = Arena::create_on_heap(4 << 20).unwrap();
        let ring = Ring::create(&arena, RingSizes::new(3, 2048, 8).unwrap(), WhenFull::DropOldest, &briefly()).unwrap();
        let group = ring.group("g", &briefly()).unwrap();
        let readers = [Mode::Every, Mode::Group(group)].map(|mode| ring.reader(mode, Start::Next, &briefly()).unwrap());
        for _ in 0..8 {
            ring.begin(1024, &briefly()).unwrap().publish(Content::default(), &briefly()).unwrap();
        }
        let next = protocol::place(readers[0].words().cursor.load(SeqCst));
        (next + 1..8).for_each(|seq| ring.table.entry(seq).seq.store(number, SeqCst));
        ring.table.word(CLOSED).store(is_closed.into(), SeqCst);
        for reader in &readers {
            assert_eq!(reader.get(&Deadline::never()).unwrap().seq, next);
            let error = reader.get(&Deadline::never()).unwrap_err();
            assert_eq!(error.kind(), Kind::Poisoned, "{:?} {is_closed} {number}", reader.mode());
        }
    }
}

/// Past the largest number that a frame can have, every frame once bore the same: readers of the newest waited for ever
/// beside a writer that published.
#[test]
fn a_ring_without_a_number_left_is_an_error_for_who_publishes() {
    let (arena, _heap) = Arena::create_on_heap(4 << 20).unwrap();
    let ring = Ring::create(&arena, RingSizes::new(3, 2048, 8).unwrap(), WhenFull::DropOldest, &briefly()).unwrap();
    let latest = ring.reader(Mode::Latest, Start::Next, &briefly()).unwrap();
    for head in [MOST_WRITTEN, u64::MAX] {
        ring.table.word(HEAD).store(head, SeqCst);
        let mut writing = ring.begin(1024, &briefly()).unwrap();
        assert_eq!(writing.publish(Content::default(), &briefly()).unwrap_err().kind(), Kind::Poisoned);
        assert_eq!(latest.get(&Deadline::never()).unwrap_err().kind(), Kind::Poisoned);
    }
}

/// The count of frames in hand once went below nothing, and was told as 2^64 - 1.
#[test]
fn frames_in_hand_are_never_fewer_than_none_nor_more_than_were_written() {
    let (arena, _heap) = Arena::create_on_heap(4 << 20).unwrap();
    let ring = Ring::create(&arena, RingSizes::new(3, 2048, 8).unwrap(), WhenFull::Wait, &briefly()).unwrap();
    let reader = ring.reader(Mode::Every, Start::Next, &briefly()).unwrap();
    ring.begin(1024, &briefly()).unwrap().publish(Content::default(), &briefly()).unwrap();
    let frame = reader.get(&briefly()).unwrap();
    reader.words().held.store(0, SeqCst);
    drop(frame);
    assert_eq!((ring.glance().2, reader.words().held.load(SeqCst)), (0, 0));
    reader.words().held.store(u64::MAX, SeqCst);
    assert_eq!(ring.glance().2, 1);
    assert_eq!(ring.stats(&briefly()).unwrap().readers[0].held, 1);
}

/// A look that missed its frame was once repeated a million times, with no look at the timeout or at signals in between.
#[test]
fn who_misses_frames_again_and_again_looks_at_its_deadline() {
    let (arena, _heap) = Arena::create_on_heap(4 << 20).unwrap();
    let ring = Ring::create(&arena, RingSizes::new(3, 2048, 8).unwrap(), WhenFull::DropOldest, &briefly()).unwrap();
    let reader = ring.reader(Mode::Every, Start::Next, &briefly()).unwrap();
    let asked = Cell::new(0);
    let check = || {
        asked.set(asked.get() + 1);
        if asked.get() == 3 { Err(Error::new(Kind::Interrupted, "a signal")) } else { Ok(()) }
    };
    let deadline = Deadline::new(None, &check);
    let mut misses = Misses::new(&deadline);
    let outcomes = (0..10_000).map(|seq| reader.look_again(&mut misses, (seq % 3 > 0).then_some(seq)));
    let ended = outcomes.take_while(|outcome| matches!(outcome, Ok(true))).count();
    assert!(asked.get() == 3 && (1000..5000).contains(&ended), "{ended}");
    let past = Deadline::new(Some(Duration::ZERO), &|| Ok(()));
    let mut misses = Misses::new(&past);
    let error = (0..10_000).find_map(|seq| reader.look_again(&mut misses, Some(seq)).err()).unwrap();
    assert_eq!(error.kind(), Kind::Empty);
    let none = Deadline::now();
    let mut misses = Misses::new(&none);
    assert!((0..10_000).any(|seq| !reader.look_again(&mut misses, Some(seq)).unwrap()), "a poll waits for nobody");
}

/// The words of a frame that never fit are an error, for polls too: nobody waits for what can't come.
#[test]
fn a_frame_that_is_always_missed_is_an_error_for_every_kind_of_reader() {
    let (arena, _heap) = Arena::create_on_heap(4 << 20).unwrap();
    let ring = Ring::create(&arena, RingSizes::new(3, 2048, 8).unwrap(), WhenFull::DropOldest, &briefly()).unwrap();
    let group = ring.group("g", &briefly()).unwrap();
    let readers =
        [Mode::Every, Mode::Latest, Mode::Group(group)].map(|mode| ring.reader(mode, Start::Next, &briefly()).unwrap());
    ring.begin(1024, &briefly()).unwrap().publish(Content::default(), &briefly()).unwrap();
    for block in [0, 1 << 32 | 77, u64::MAX] {
        ring.table.entry(0).block.store(block, SeqCst);
        for reader in &readers {
            assert_eq!(reader.get(&Deadline::never()).unwrap_err().kind(), Kind::Poisoned, "{:?}", reader.mode());
            assert_eq!(reader.try_get().unwrap_err().kind(), Kind::Poisoned, "{:?}", reader.mode());
            assert_eq!(reader.get_soon(Duration::ZERO).unwrap_err().kind(), Kind::Poisoned, "{:?}", reader.mode());
        }
    }
}
