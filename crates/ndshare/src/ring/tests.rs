//! Rings on the heap: the policies, deaths at every point, and many threads at once.

use super::*;
use crate::arena::Heap;
use crate::prim::{AtomicBool, AtomicU64};

const FOREVER: Patience<'static> = Patience::forever();
const LEN: usize = 4096;

fn soon() -> Patience<'static> {
    Patience::new(Some(Duration::from_millis(30)), &|| Ok(()))
}

fn ring(slots: usize, when_full: WhenFull) -> (Arc<Ring>, Arc<Heap>) {
    let (arena, heap) = Arena::create_on_heap(16 << 20).unwrap();
    let geometry = Geometry::new(slots, LEN as u64, 8).unwrap();
    (Ring::create(&arena, geometry, when_full, &FOREVER).unwrap(), heap)
}

/// The ring as another participant has it.
fn elsewhere(ring: &Ring, heap: &Arc<Heap>) -> Arc<Ring> {
    let arena = Arena::join_on_heap(heap).unwrap();
    Ring::open(arena.take(ring.head().block()).unwrap()).unwrap()
}

/// Publishes a frame full of one number, which is also its meta.
fn put(ring: &Arc<Ring>, number: u64, patience: &Patience) -> Result<Option<u64>> {
    let writing = ring.begin(LEN as u64, patience)?;
    stamp(writing.hold(), number);
    writing.publish(Content { meta: &number.to_le_bytes(), ..Content::default() }, patience)
}

fn stamp(hold: &Hold, number: u64) {
    hold.words()[..LEN / 8].iter().for_each(|word| word.store(number, Relaxed));
}

/// The number that a frame is full of; a torn frame is full of two.
fn number(frame: &Frame) -> u64 {
    let first = frame.hold().words()[0].load(Relaxed);
    assert!(frame.hold().words()[..LEN / 8].iter().all(|word| word.load(Relaxed) == first), "torn");
    assert_eq!(frame.meta(), first.to_le_bytes(), "the meta is another frame's");
    first
}

#[test]
fn every_reader_gets_every_frame_in_order() {
    let (ring, heap) = ring(4, WhenFull::Wait);
    let readers = [(); 2].map(|()| ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap());
    let there = elsewhere(&ring, &heap);
    let third = there.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    for i in 0..100 {
        put(&ring, i, &FOREVER).unwrap();
        for reader in readers.iter().chain([&third]) {
            let frame = reader.get(&FOREVER).unwrap();
            assert_eq!((frame.seq, number(&frame)), (i, i));
        }
    }
    assert_eq!(readers[0].get(&soon()).unwrap_err().kind(), Kind::Empty);
    assert!(readers[0].try_get().unwrap().is_none());
}

#[test]
fn a_writer_waits_for_the_slowest_reader_and_gets_full_at_its_timeout() {
    let (ring, _heap) = ring(3, WhenFull::Wait);
    let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    (0..3).for_each(|i| assert!(put(&ring, i, &FOREVER).is_ok()));
    assert_eq!(put(&ring, 3, &soon()).unwrap_err().kind(), Kind::Full);
    drop(reader.get(&FOREVER).unwrap());
    put(&ring, 3, &soon()).unwrap();
    drop(reader);
    (4..20).for_each(|i| assert!(put(&ring, i, &soon()).is_ok()));
    assert_eq!(ring.stats(&FOREVER).unwrap().readers, []);
}

#[test]
fn drop_oldest_counts_what_a_reader_missed() {
    let (ring, _heap) = ring(4, WhenFull::DropOldest);
    let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    put(&ring, 0, &FOREVER).unwrap();
    let held = reader.get(&FOREVER).unwrap();
    (1..30).for_each(|i| assert!(put(&ring, i, &FOREVER).is_ok()));
    let next = reader.get(&FOREVER).unwrap();
    let stats = &ring.stats(&FOREVER).unwrap().readers[0];
    assert_eq!((next.seq, stats.missed), (26, 25));
    assert_eq!((stats.held, stats.lag), (2, 3));
    assert_eq!(number(&held), 0, "a frame changes while somebody looks at it");
}

#[test]
fn a_group_misses_only_what_none_of_its_members_had() {
    let (ring, _heap) = ring(4, WhenFull::DropOldest);
    let group = Mode::Group(ring.group("compute", &FOREVER).unwrap());
    let members = [(); 2].map(|()| ring.reader(group, Start::Next, &FOREVER).unwrap());
    (0..2).for_each(|i| assert!(put(&ring, i, &FOREVER).is_ok()));
    let held = members[0].get(&FOREVER).unwrap();
    assert_eq!((number(&held), number(&members[1].get(&FOREVER).unwrap())), (0, 1));
    (2..10).for_each(|i| assert!(put(&ring, i, &FOREVER).is_ok()));
    assert_eq!(members[1].get(&FOREVER).unwrap().seq, 6);
    let missed: Vec<_> = ring.stats(&FOREVER).unwrap().readers.iter().map(|reader| reader.missed).collect();
    assert_eq!(missed, [4, 4], "frames 2 to 5");
}

#[test]
fn drop_newest_counts_what_was_not_published() {
    let (ring, _heap) = ring(2, WhenFull::DropNewest);
    let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    let published: Vec<_> = (0..5).map(|i| put(&ring, i, &FOREVER).unwrap()).collect();
    assert_eq!(published, [Some(0), Some(1), None, None, None]);
    assert_eq!(ring.stats(&FOREVER).unwrap().dropped, 3);
    assert_eq!(number(&reader.get(&FOREVER).unwrap()), 0);
    assert_eq!(put(&ring, 9, &FOREVER).unwrap(), Some(2), "numbers are dense");
}

#[test]
fn latest_gets_the_newest_and_holds_nobody_back() {
    for slots in [1, 2, 8] {
        let (ring, _heap) = ring(slots, WhenFull::Wait);
        let latest = ring.reader(Mode::Latest, Start::Next, &FOREVER).unwrap();
        let every = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
        for i in 0..40 {
            put(&ring, i, &FOREVER).unwrap();
            assert_eq!(number(&every.get(&FOREVER).unwrap()), i);
            if i % 5 == 0 {
                assert_eq!(number(&latest.get(&FOREVER).unwrap()), i);
                assert!(latest.try_get().unwrap().is_none());
            }
        }
    }
}

#[test]
fn without_readers_the_window_stays_for_one_that_starts_at_the_oldest() {
    let (ring, _heap) = ring(5, WhenFull::Wait);
    (0..17).for_each(|i| assert!(put(&ring, i, &FOREVER).is_ok()));
    let reader = ring.reader(Mode::Every, Start::Oldest, &FOREVER).unwrap();
    let numbers: Vec<u64> = (0..5).map(|_| number(&reader.get(&FOREVER).unwrap())).collect();
    assert_eq!(numbers, [12, 13, 14, 15, 16]);
}

#[test]
fn a_group_shares_the_frames_and_one_of_a_dead_member_comes_again() {
    let (ring, heap) = ring(8, WhenFull::Wait);
    let group = ring.group("compute", &FOREVER).unwrap();
    assert_eq!(ring.group("compute", &FOREVER).unwrap(), group);
    assert_ne!(ring.group("other", &FOREVER).unwrap(), group);
    let there = elsewhere(&ring, &heap);
    let mine = ring.reader(Mode::Group(group), Start::Next, &FOREVER).unwrap();
    let theirs = there.reader(Mode::Group(group), Start::Next, &FOREVER).unwrap();
    (0..4).for_each(|i| assert!(put(&ring, i, &FOREVER).is_ok()));
    let got: Vec<u64> = [&mine, &theirs, &mine].map(|reader| number(&reader.get(&FOREVER).unwrap())).to_vec();
    assert_eq!(got, [0, 1, 2]);
    let lost = theirs.get(&FOREVER).unwrap();
    assert_eq!(number(&lost), 3);
    assert!(mine.try_get().unwrap().is_none());
    heap.declare_dead(there.arena().participant_slot());
    std::mem::forget((lost, theirs, there));
    assert_eq!(number(&mine.get(&FOREVER).unwrap()), 3);
    (4..40).for_each(|i| {
        put(&ring, i, &FOREVER).unwrap();
        assert_eq!(number(&mine.get(&FOREVER).unwrap()), i);
    });
}

#[test]
fn a_member_that_waits_for_the_next_frame_has_done_with_those_it_holds() {
    let (ring, _heap) = ring(3, WhenFull::Wait);
    let group = ring.group("g", &FOREVER).unwrap();
    let members = [(); 2].map(|()| ring.reader(Mode::Group(group), Start::Next, &FOREVER).unwrap());
    put(&ring, 0, &FOREVER).unwrap();
    let held = members[0].get(&FOREVER).unwrap();
    for i in 1..3 {
        put(&ring, i, &FOREVER).unwrap();
        drop(members[1].get(&FOREVER).unwrap());
    }
    assert_eq!(put(&ring, 3, &soon()).unwrap_err().kind(), Kind::Full);
    assert_eq!(members[0].get(&soon()).unwrap_err().kind(), Kind::Empty);
    put(&ring, 3, &soon()).unwrap();
    assert_eq!(number(&held), 0);
    drop(held);
    assert_eq!(number(&members[0].get(&soon()).unwrap()), 3);
}

#[test]
fn a_group_without_members_holds_nobody_back_and_starts_anew() {
    let (ring, _heap) = ring(2, WhenFull::Wait);
    let group = ring.group("g", &FOREVER).unwrap();
    drop(ring.reader(Mode::Group(group), Start::Next, &FOREVER).unwrap());
    (0..9).for_each(|i| assert!(put(&ring, i, &soon()).is_ok()));
    let member = ring.reader(Mode::Group(group), Start::Next, &FOREVER).unwrap();
    put(&ring, 9, &soon()).unwrap();
    assert_eq!(number(&member.get(&FOREVER).unwrap()), 9);
}

#[test]
fn closing_drains_and_then_ends() {
    let (ring, _heap) = ring(4, WhenFull::Wait);
    let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    (0..2).for_each(|i| assert!(put(&ring, i, &FOREVER).is_ok()));
    let late = ring.begin(LEN as u64, &FOREVER).unwrap();
    ring.close(&FOREVER).unwrap();
    assert_eq!(late.publish(Content::default(), &FOREVER).unwrap_err().kind(), Kind::Closed);
    assert_eq!(put(&ring, 2, &FOREVER).unwrap_err().kind(), Kind::Closed);
    assert_eq!((number(&reader.get(&FOREVER).unwrap()), number(&reader.get(&FOREVER).unwrap())), (0, 1));
    assert_eq!(reader.get(&FOREVER).unwrap_err().kind(), Kind::Closed);
}

#[test]
fn the_death_of_the_last_writer_is_told_once_and_a_successor_goes_on() {
    let (ring, heap) = ring(4, WhenFull::Wait);
    let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    let writer = elsewhere(&ring, &heap);
    put(&writer, 0, &FOREVER).unwrap();
    heap.declare_dead(writer.arena().participant_slot());
    std::mem::forget(writer);
    assert_eq!(number(&reader.get(&soon()).unwrap()), 0);
    assert_eq!(reader.get(&FOREVER).unwrap_err().kind(), Kind::WriterDied);
    assert_eq!(reader.get(&soon()).unwrap_err().kind(), Kind::Empty);
    let successor = elsewhere(&ring, &heap);
    put(&successor, 1, &FOREVER).unwrap();
    let frame = reader.get(&FOREVER).unwrap();
    assert_eq!((frame.seq, number(&frame)), (1, 1));
}

#[test]
fn a_block_is_published_as_it_is_and_passes_on_to_another_ring() {
    let (ring, _heap) = ring(4, WhenFull::Wait);
    let geometry = Geometry::new(4, 0, 8).unwrap();
    let second = Ring::create(ring.arena(), geometry, WhenFull::Wait, &FOREVER).unwrap();
    let readers = [&ring, &second].map(|ring| ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap());
    for i in 0..30 {
        let hold = ring.arena().alloc(LEN, 64, false, &FOREVER).unwrap();
        stamp(&hold, i);
        let meta = i.to_le_bytes();
        let content = Content { offset: 0, view: b"u8", meta: &meta };
        ring.publish_block(&hold, LEN as u64, content, &FOREVER).unwrap();
        let first = readers[0].get(&FOREVER).unwrap();
        assert_eq!((first.hold().as_ptr(), first.view()), (hold.as_ptr(), &b"u8"[..]));
        second.publish_block(first.hold(), LEN as u64, content, &FOREVER).unwrap();
        assert_eq!(number(&readers[1].get(&FOREVER).unwrap()), i);
    }
}

#[test]
fn frames_of_any_size_fit_a_ring_without_one() {
    let (arena, _heap) = Arena::create_on_heap(16 << 20).unwrap();
    let ring = Ring::create(&arena, Geometry::new(3, 0, 0).unwrap(), WhenFull::Wait, &FOREVER).unwrap();
    let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    for i in 0..60_u64 {
        let len = 64 << (i * 7 % 13);
        let writing = ring.begin(len, &FOREVER).unwrap();
        assert!(writing.hold().len_bytes() as u64 >= len);
        writing.publish(Content::default(), &FOREVER).unwrap();
        drop(reader.get(&FOREVER).unwrap());
    }
    let fixed = Ring::create(&arena, Geometry::new(3, 100, 0).unwrap(), WhenFull::Wait, &FOREVER).unwrap();
    assert_eq!(fixed.begin(101, &FOREVER).unwrap_err().kind(), Kind::InvalidValue);
}

/// The bytes that an arena has given to a ring without a shape, after frames of these sizes, each read at once.
fn bytes_after(sizes: impl Iterator<Item = u64>) -> Vec<u64> {
    let (arena, _heap) = Arena::create_on_heap(64 << 20).unwrap();
    let ring = Ring::create(&arena, Geometry::new(3, 0, 0).unwrap(), WhenFull::Wait, &FOREVER).unwrap();
    let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    let pass = |len| {
        ring.begin(len, &FOREVER).unwrap().publish(Content::default(), &FOREVER).unwrap();
        drop(reader.get(&FOREVER).unwrap());
        arena.stats().unwrap().used_bytes
    };
    sizes.map(pass).collect()
}

/// A ring that once carried one large frame kept its block for ever.
#[test]
fn a_block_far_larger_than_what_the_ring_carries_now_is_given_back_after_two_periods() {
    const LARGE: u64 = 8 << 20;
    let once = bytes_after(std::iter::once(LARGE).chain((0..200).map(|_| 10)));
    assert!(once[0] >= LARGE && once[60] >= LARGE, "not at once");
    assert!(once[200] < 1 << 20, "{} bytes are held", once[200]);
    // One in each period keeps its block, and nothing is allocated meanwhile.
    let again = bytes_after((0..400).map(|i| if i % 50 == 0 { LARGE } else { 10 }));
    assert!(again[100..].iter().all(|&bytes| bytes == again[100]), "sizes that come again cost nothing");
    // Four times as large is not too large, and small blocks never are.
    let similar = bytes_after(std::iter::once(4 << 20).chain((0..300).map(|_| 1 << 20)));
    assert!(similar[300] >= 4 << 20);
    let small = bytes_after(std::iter::once(60 << 10).chain((0..300).map(|_| 8)));
    assert_eq!(small[300], small[1]);
}

#[test]
fn a_large_block_that_somebody_looks_at_or_that_waits_is_not_taken_away() {
    let (arena, _heap) = Arena::create_on_heap(64 << 20).unwrap();
    let ring = Ring::create(&arena, Geometry::new(3, 0, 8).unwrap(), WhenFull::DropOldest, &FOREVER).unwrap();
    let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    let large = ring.begin(1 << 20, &FOREVER).unwrap();
    stamp(large.hold(), 7);
    large.publish(Content { meta: &7_u64.to_le_bytes(), ..Content::default() }, &FOREVER).unwrap();
    let held = reader.get(&FOREVER).unwrap();
    for _ in 0..300 {
        ring.begin(8, &FOREVER).unwrap().publish(Content::default(), &FOREVER).unwrap();
    }
    assert_eq!(number(&held), 7);
    drop(held);
    for _ in 0..130 {
        ring.begin(8, &FOREVER).unwrap().publish(Content::default(), &FOREVER).unwrap();
    }
    assert!(arena.stats().unwrap().used_bytes < 1 << 20);
}

#[test]
fn a_reader_opened_twice_in_one_process_is_one_with_two_holders() {
    let (ring, _heap) = ring(4, WhenFull::Wait);
    let first = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    let token = ring.arena().take(first.token().block()).unwrap();
    let second = Reader::open(ring.clone(), first.index(), token).unwrap();
    (0..3).for_each(|i| assert!(put(&ring, i, &FOREVER).is_ok()));
    assert_eq!(number(&first.get(&FOREVER).unwrap()), 0);
    assert_eq!(number(&second.get(&FOREVER).unwrap()), 1);
    first.descriptor().unwrap();
    assert_eq!(second.descriptor().unwrap_err().kind(), Kind::Misuse);
    drop(first);
    assert_eq!(ring.stats(&FOREVER).unwrap().readers.len(), 1);
    assert_eq!(number(&second.get(&FOREVER).unwrap()), 2);
    drop(second);
    assert_eq!(ring.stats(&FOREVER).unwrap().readers, []);
}

#[test]
fn the_steady_state_allocates_nothing_and_a_thrown_away_frame_comes_again() {
    let (ring, _heap) = ring(4, WhenFull::Wait);
    let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    let mut places = std::collections::HashSet::new();
    for i in 0..50 {
        drop(ring.begin(LEN as u64, &FOREVER).unwrap());
        put(&ring, i, &FOREVER).unwrap();
        let frame = reader.get(&FOREVER).unwrap();
        places.insert(frame.hold().as_ptr());
    }
    assert!(places.len() <= 3, "the frame consumed last is written next, so few are in use: {}", places.len());
}

#[test]
fn a_reader_belongs_to_who_uses_it_first() {
    let (ring, heap) = ring(4, WhenFull::Wait);
    let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    let there = elsewhere(&ring, &heap);
    let token = there.arena().take(reader.token().block()).unwrap();
    let theirs = Reader::open(there.clone(), reader.index(), token).unwrap();
    assert!(!reader.is_used());
    put(&ring, 0, &FOREVER).unwrap();
    drop(theirs.get(&FOREVER).unwrap());
    assert_eq!(reader.try_get().unwrap_err().kind(), Kind::Misuse);
    // The sender's own goes; the receiver's stays.
    drop(reader);
    (1..5).for_each(|i| assert!(put(&ring, i, &soon()).is_ok()));
    assert_eq!(put(&ring, 5, &soon()).unwrap_err().kind(), Kind::Full);
    heap.declare_dead(there.arena().participant_slot());
    std::mem::forget((theirs, there));
    put(&ring, 5, &FOREVER).unwrap();
}

#[test]
fn nothing_is_left_when_everybody_has_dropped_the_ring() {
    let (ring, _heap) = ring(4, WhenFull::DropOldest);
    let arena = ring.arena().clone();
    let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    (0..9).for_each(|i| assert!(put(&ring, i, &FOREVER).is_ok()));
    let frame = reader.get(&FOREVER).unwrap();
    drop((ring, reader));
    assert_eq!(number(&frame), 5);
    drop(frame);
    assert_eq!(arena.stats().unwrap().used_bytes, 0);
}

#[test]
fn many_writers_and_readers_lose_and_tear_nothing() {
    let (ring, heap) = ring(16, WhenFull::Wait);
    let (writers, each) = (3, 3000);
    let group = ring.group("g", &FOREVER).unwrap();
    let seen = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    let ready = std::sync::Barrier::new(3 + 2 + 1);
    std::thread::scope(|scope| {
        let every = |latest: bool| {
            let (ring, heap, ready) = (&ring, &heap, &ready);
            scope.spawn(move || {
                let there = elsewhere(ring, heap);
                let mode = if latest { Mode::Latest } else { Mode::Every };
                let reader = there.reader(mode, Start::Next, &FOREVER).unwrap();
                ready.wait();
                let mut next = 0;
                loop {
                    match reader.get(&FOREVER) {
                        Ok(frame) => {
                            number(&frame);
                            assert!(if latest { frame.seq >= next } else { frame.seq == next }, "numbers are dense");
                            next = frame.seq + 1;
                        }
                        Err(error) => {
                            assert_eq!(error.kind(), Kind::Closed);
                            assert_eq!(next, writers * each);
                            return;
                        }
                    }
                }
            });
        };
        every(false);
        every(false);
        every(true);
        for _ in 0..2 {
            let (ring, heap, ready, seen) = (&ring, &heap, &ready, &seen);
            scope.spawn(move || {
                let there = elsewhere(ring, heap);
                let reader = there.reader(Mode::Group(group), Start::Next, &FOREVER).unwrap();
                ready.wait();
                while let Ok(frame) = reader.get(&FOREVER) {
                    number(&frame);
                    seen.fetch_add(1, Relaxed);
                }
            });
        }
        ready.wait();
        std::thread::scope(|inner| {
            for writer in 0..writers {
                let (ring, heap) = (&ring, &heap);
                inner.spawn(move || {
                    let there = elsewhere(ring, heap);
                    // A writer that went without a word would be taken for dead.
                    (0..each).for_each(|i| assert!(put(&there, writer * each + i, &FOREVER).is_ok()));
                    there.leave_writers().unwrap();
                });
            }
        });
        ring.close(&FOREVER).unwrap();
        done.store(true, Relaxed);
    });
    assert_eq!(seen.load(Relaxed), writers * each, "each frame to one of the group");
}

#[cfg(feature = "killpoints")]
mod deaths {
    use super::*;
    use crate::os::kill::{KILL_POINTS, armed::stops_at};

    /// Runs `script` as a new participant of the ring that stops for good at `label`; its slot if it did.
    fn dies(ring: &Arc<Ring>, heap: &Arc<Heap>, label: &'static str, nth: u32, script: fn(&Arc<Ring>)) -> Option<u32> {
        let there = elsewhere(ring, heap);
        let slot = there.arena().participant_slot();
        let stopped = stops_at(label, nth, move || {
            script(&there);
            std::mem::forget(there);
        });
        stopped.then_some(slot)
    }

    fn writes(ring: &Arc<Ring>) {
        // One block that is far too large later, for two periods.
        let large = ring.arena().alloc(256 << 10, 64, false, &FOREVER).unwrap();
        stamp(&large, 3000);
        let content = Content { meta: &3000_u64.to_le_bytes(), ..Content::default() };
        let _ = ring.publish_block(&large, LEN as u64, content, &FOREVER);
        drop(large);
        (1000..1150).for_each(|i| drop(put(ring, i, &FOREVER)));
        let hold = ring.arena().alloc(LEN, 64, false, &FOREVER).unwrap();
        stamp(&hold, 2000);
        let meta = 2000_u64.to_le_bytes();
        let _ = ring.publish_block(&hold, LEN as u64, Content { meta: &meta, ..Content::default() }, &FOREVER);
    }

    fn reads(ring: &Arc<Ring>) {
        let group = ring.group("g", &FOREVER).unwrap();
        let every = ring.reader(Mode::Every, Start::Oldest, &FOREVER).unwrap();
        let member = ring.reader(Mode::Group(group), Start::Oldest, &FOREVER).unwrap();
        every.descriptor().unwrap();
        for _ in 0..3 {
            drop(every.try_get().unwrap());
            drop(member.try_get().unwrap());
        }
        drop(every);
    }

    /// The survivors go on: numbers are dense, nothing is torn, and all frames come back.
    fn goes_on(ring: &Arc<Ring>, reader: &Reader) {
        let mut next = None;
        for i in 0..60 {
            put(ring, i, &FOREVER).unwrap();
            while let Some(frame) = reader.try_get().unwrap() {
                number(&frame);
                assert_eq!(frame.seq, next.unwrap_or(frame.seq), "numbers are dense");
                next = Some(frame.seq + 1);
            }
        }
        let places: std::collections::HashSet<_> = (0..40)
            .map(|i| {
                put(ring, i, &FOREVER).unwrap();
                reader.get(&FOREVER).unwrap().hold().as_ptr()
            })
            .collect();
        assert!(places.len() <= 12, "frames come back: {}", places.len());
    }

    #[test]
    fn a_death_on_either_side_holds_nobody_up() {
        let mut passed = Vec::new();
        for script in [writes as fn(&Arc<Ring>), reads] {
            for &label in KILL_POINTS {
                for nth in [1, 4] {
                    let (ring, heap) = ring(4, WhenFull::DropOldest);
                    let arena = ring.arena().clone();
                    let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
                    (0..3).for_each(|i| assert!(put(&ring, i, &FOREVER).is_ok()));
                    let Some(slot) = dies(&ring, &heap, label, nth, script) else { continue };
                    passed.push(label);
                    heap.declare_dead(slot);
                    goes_on(&ring, &reader);
                    assert_eq!(ring.stats(&FOREVER).unwrap().readers.len(), 1, "{label}");
                    drop((ring, reader));
                    assert_eq!(arena.stats().unwrap().used_bytes, 0, "{label} {nth}");
                }
            }
        }
        for label in KILL_POINTS.iter().filter(|label| label.starts_with("ring:") || label.starts_with("renew:")) {
            assert!(passed.contains(label), "no death was tried at {label}");
        }
    }
}
