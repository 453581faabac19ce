//! Rings on the heap: the policies, deaths at every point, and many threads at once.

use super::notify::Wish;
use super::pace::Step;
use super::*;
use crate::arena::{Arena, BlockId, Deadline, Heap, Hold};
use crate::error::{Error, Kind, Result};
use crate::prim::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::Arc;
use std::time::Duration;

const FOREVER: Deadline<'static> = Deadline::never();
const LEN: usize = 4096;

/// For what comes, however busy the machine is.
fn late() -> Deadline<'static> {
    Deadline::new(Some(Duration::from_secs(30)), &|| Ok(()))
}

fn soon() -> Deadline<'static> {
    Deadline::new(Some(Duration::from_millis(30)), &|| Ok(()))
}

fn ring(slots: usize, when_full: WhenFull) -> (Arc<Ring>, Arc<Heap>) {
    let (arena, heap) = Arena::create_on_heap(16 << 20).unwrap();
    let geometry = RingSizes::new(slots, LEN as u64, 8).unwrap();
    (Ring::create(&arena, geometry, when_full, &FOREVER).unwrap(), heap)
}

/// The ring as another participant has it.
fn elsewhere(ring: &Ring, heap: &Arc<Heap>) -> Arc<Ring> {
    let arena = Arena::join_on_heap(heap).unwrap();
    Ring::open(arena.take(ring.head().block()).unwrap()).unwrap()
}

/// Publishes a frame full of one number, which is also its meta.
fn put(ring: &Arc<Ring>, number: u64, deadline: &Deadline) -> Result<Option<u64>> {
    let mut writing = ring.begin(LEN as u64, deadline)?;
    stamp(writing.hold()?, number);
    let published = writing.publish(Content { meta: &number.to_le_bytes(), ..Content::default() }, deadline)?;
    assert_ne!(published, Published::Busy, "nobody asked for no wait");
    Ok(published.seq())
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
fn a_death_elsewhere_is_told_once_and_the_next_writer_goes_on() {
    let (ring, heap) = ring(4, WhenFull::Wait);
    let reader = elsewhere(&ring, &heap).reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    let publish = |writer: &Arc<Writer>, number| {
        let mut writing = writer.begin(LEN as u64, &FOREVER).unwrap();
        stamp(writing.hold().unwrap(), number);
        writing.publish(Content { meta: &number.to_le_bytes(), ..Content::default() }, &FOREVER).unwrap();
    };
    let writer = ring.writer(&FOREVER).unwrap();
    publish(&writer, 0);
    writer.die(&FOREVER).unwrap();
    assert_eq!(number(&reader.get(&FOREVER).unwrap()), 0);
    let Error::WriterDied(died) = reader.get(&FOREVER).unwrap_err() else { panic!("a death was expected") };
    assert_eq!(died.pid, None);
    assert_eq!(reader.get(&soon()).unwrap_err().kind(), Kind::Empty);
    assert_eq!(writer.begin(LEN as u64, &FOREVER).map(drop).unwrap_err().kind(), Kind::Closed);
    assert_eq!(writer.die(&FOREVER).unwrap_err().kind(), Kind::Closed);
    let next = ring.writer(&FOREVER).unwrap();
    publish(&next, 1);
    assert_eq!(number(&reader.get(&FOREVER).unwrap()), 1);
    next.close(&FOREVER).unwrap();
    assert_eq!(reader.get(&FOREVER).unwrap_err().kind(), Kind::Closed);
}

#[test]
fn what_was_lost_on_the_way_is_summed_up_for_all() {
    let (ring, heap) = ring(4, WhenFull::Wait);
    let there = elsewhere(&ring, &heap);
    ring.count_lost(3).unwrap();
    there.count_lost(4).unwrap();
    assert_eq!((ring.stats(&FOREVER).unwrap().lost, there.stats(&FOREVER).unwrap().lost), (7, 7));
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

/// One way to publish, and what becomes of a frame: it has a number, it was dropped, or it takes a wait that nobody asked
/// for, and then it is all there for the next try.
#[test]
fn a_frame_that_takes_a_wait_is_busy_and_can_still_be_published() {
    for when_full in [WhenFull::Wait, WhenFull::DropOldest, WhenFull::DropNewest] {
        let (ring, _heap) = ring(2, when_full);
        let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
        let mut writing = ring.begin(LEN as u64, &FOREVER).unwrap();
        stamp(writing.hold().unwrap(), 7);
        (0..2).for_each(|i| assert_eq!(put(&ring, i, &FOREVER).unwrap(), Some(i)));
        let meta = 7_u64.to_le_bytes();
        let content = Content { meta: &meta, ..Content::default() };
        let held = ring.locked(&FOREVER, || writing.publish(content, &Deadline::now())).unwrap();
        assert_eq!(held, Published::Busy, "somebody has the lock");
        let at_once = writing.publish(content, &Deadline::now()).unwrap();
        assert_eq!(at_once, if when_full == WhenFull::DropOldest { Published::Seq(2) } else { Published::Busy });
        match when_full {
            WhenFull::Wait => {
                assert_eq!(writing.publish(content, &soon()).unwrap_err().kind(), Kind::Full);
                assert_eq!(number(&reader.get(&FOREVER).unwrap()), 0);
                assert_eq!(writing.publish(content, &Deadline::now()).unwrap(), Published::Seq(2));
            }
            WhenFull::DropOldest => assert_eq!(ring.stats(&FOREVER).unwrap().missed, 1),
            WhenFull::DropNewest => {
                assert_eq!(ring.stats(&FOREVER).unwrap().dropped, 0, "what is busy is not dropped");
                assert_eq!(writing.publish(content, &FOREVER).unwrap(), Published::Dropped);
                assert_eq!(ring.stats(&FOREVER).unwrap().dropped, 1);
                assert_eq!(number(&reader.get(&FOREVER).unwrap()), 0);
                assert_eq!(writing.publish(content, &FOREVER).unwrap(), Published::Seq(2));
            }
        }
        assert_eq!(number(&reader.get(&FOREVER).unwrap()), 1);
        assert_eq!(number(&reader.get(&FOREVER).unwrap()), 7);
        assert_eq!(writing.publish(content, &FOREVER).unwrap_err().kind(), Kind::Misuse, "twice");
    }
}

#[test]
fn a_block_that_takes_a_wait_is_busy_too() {
    let (ring, _heap) = ring(1, WhenFull::Wait);
    let hold = ring.arena().alloc(LEN, 64, false, &FOREVER).unwrap();
    stamp(&hold, 5);
    let meta = 5_u64.to_le_bytes();
    let publish = |deadline: &Deadline| {
        ring.publish_block(&hold, LEN as u64, Content { meta: &meta, ..Content::default() }, deadline).unwrap()
    };
    assert_eq!(publish(&Deadline::now()), Published::Busy, "this process is no writer yet");
    assert_eq!(publish(&FOREVER), Published::Seq(0));
    assert_eq!(publish(&Deadline::now()), Published::Seq(1));
    let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    assert_eq!(publish(&Deadline::now()), Published::Seq(2));
    assert_eq!(publish(&Deadline::now()), Published::Busy, "the ring is full");
    assert_eq!(number(&reader.get(&FOREVER).unwrap()), 5);
}

#[test]
fn who_publishes_lets_go_of_the_frame_unless_it_is_kept() {
    let (ring, _heap) = ring(2, WhenFull::DropOldest);
    for is_kept in [false, true] {
        let mut writing = ring.begin(LEN as u64, &FOREVER).unwrap();
        let block = writing.hold().unwrap().block();
        stamp(writing.hold().unwrap(), 1);
        if is_kept {
            writing.keep();
        }
        assert!(writing.publish(Content::default(), &FOREVER).unwrap().seq().is_some());
        assert_eq!(Hold::is_held(ring.arena(), block), is_kept);
        match writing.hold() {
            Ok(hold) => assert!(is_kept && hold.words()[0].load(Relaxed) == 1),
            Err(error) => assert!(!is_kept && error.kind() == Kind::Misuse),
        }
        // Many laps later the one who keeps it still has its bytes.
        (0..40).for_each(|i| assert!(put(&ring, i, &FOREVER).is_ok()));
        assert!(!is_kept || writing.hold().unwrap().words()[0].load(Relaxed) == 1);
    }
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
fn a_group_without_members_holds_nobody_back_and_goes_on_where_it_was() {
    let (ring, _heap) = ring(2, WhenFull::Wait);
    let group = ring.group("g", &FOREVER).unwrap();
    let member = ring.reader(Mode::Group(group), Start::Next, &FOREVER).unwrap();
    put(&ring, 0, &FOREVER).unwrap();
    drop(member.get(&FOREVER).unwrap());
    drop(member);
    (1..9).for_each(|i| assert!(put(&ring, i, &soon()).is_ok()));
    assert_eq!(ring.stats(&FOREVER).unwrap().missed, 6, "frames 1 to 6 fell out of the window");
    let member = ring.reader(Mode::Group(group), Start::Next, &FOREVER).unwrap();
    let got = [(); 2].map(|()| number(&member.get(&FOREVER).unwrap()));
    assert_eq!((got, member.missed(), member.lag()), ([7, 8], 6, 0));
    put(&ring, 9, &soon()).unwrap();
    assert_eq!(number(&member.get(&FOREVER).unwrap()), 9);
}

/// The last member died with a frame in its hands; a reader beside it kept up, so that the frame consumed last was the
/// next to be written. What waited for the group was written over although the ring had room.
#[test]
fn a_group_whose_last_member_died_keeps_its_frames_beside_a_reader_that_keeps_up() {
    let (ring, heap) = ring(16, WhenFull::Wait);
    let group = Mode::Group(ring.group("g", &FOREVER).unwrap());
    let every = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    let there = elsewhere(&ring, &heap);
    let member = there.reader(group, Start::Next, &FOREVER).unwrap();
    let pass = |i| {
        put(&ring, i, &FOREVER).unwrap();
        drop(every.get(&FOREVER).unwrap());
    };
    (0..4).for_each(pass);
    let held = [(); 3].map(|()| member.get(&FOREVER).unwrap());
    let [first, ..] = held;
    drop(first);
    heap.declare_dead(there.arena().participant_slot());
    std::mem::forget((member, there));
    (4..14).for_each(pass);
    let member = ring.reader(group, Start::Next, &FOREVER).unwrap();
    let got: Vec<u64> = (1..14).map(|_| number(&member.get(&FOREVER).unwrap())).collect();
    assert_eq!((got, member.missed()), ((1..14).collect(), 0));
}

#[test]
fn frames_that_a_dead_member_had_are_missed_when_they_fall_out_of_the_window() {
    for when_full in [WhenFull::Wait, WhenFull::DropOldest] {
        let (ring, heap) = ring(4, when_full);
        let group = Mode::Group(ring.group("g", &FOREVER).unwrap());
        let there = elsewhere(&ring, &heap);
        let member = there.reader(group, Start::Next, &FOREVER).unwrap();
        (0..2).for_each(|i| assert!(put(&ring, i, &FOREVER).is_ok()));
        let held = member.get(&FOREVER).unwrap();
        heap.declare_dead(there.arena().participant_slot());
        std::mem::forget((held, member, there));
        ring.stats(&FOREVER).unwrap();
        (2..10).for_each(|i| assert!(put(&ring, i, &soon()).is_ok()));
        assert_eq!(ring.stats(&FOREVER).unwrap().missed, 6, "{when_full:?}");
    }
}

/// A viewer and a reader that keeps up had the ring write the same two frames over and over.
#[test]
fn the_last_frames_stay_whatever_readers_do() {
    for keep in [1, 3, 8] {
        let (arena, _heap) = Arena::create_on_heap(16 << 20).unwrap();
        let geometry = RingSizes::new(8, LEN as u64, 8).unwrap().keeping(keep).unwrap();
        let ring = Ring::create(&arena, geometry, WhenFull::Wait, &FOREVER).unwrap();
        let viewer = ring.reader(Mode::Latest, Start::Next, &FOREVER).unwrap();
        let every = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
        let kept = |from: u64| {
            let late = ring.reader(Mode::Every, Start::Oldest, &FOREVER).unwrap();
            let got: Vec<u64> = std::iter::from_fn(|| late.try_get().unwrap()).map(|frame| number(&frame)).collect();
            let last: Vec<u64> = (from.saturating_sub(keep as u64)..from).collect();
            assert_eq!(got[got.len() - last.len()..], last);
        };
        let mut views = Vec::new();
        for i in 0..60 {
            let mut writing = ring.begin(LEN as u64, &FOREVER).unwrap();
            kept(i);
            stamp(writing.hold().unwrap(), i);
            writing.publish(Content { meta: &i.to_le_bytes(), ..Content::default() }, &FOREVER).unwrap();
            views.push(every.get(&FOREVER).unwrap());
            let _ = viewer.try_get().unwrap();
            if views.len() > 12 {
                views.clear();
            }
            kept(i + 1);
        }
        drop((every, viewer));
        for i in 60..90 {
            put(&ring, i, &FOREVER).unwrap();
            kept(i + 1);
        }
    }
}

/// What a viewer does not look at was written again, although it holds nobody back: one that came late found two frames.
#[test]
fn beside_a_viewer_the_window_stays_for_one_that_starts_at_the_oldest() {
    let (ring, _heap) = ring(5, WhenFull::Wait);
    let viewer = ring.reader(Mode::Latest, Start::Next, &FOREVER).unwrap();
    for i in 0..17 {
        put(&ring, i, &FOREVER).unwrap();
        drop(viewer.get(&FOREVER).unwrap());
    }
    let reader = ring.reader(Mode::Every, Start::Oldest, &FOREVER).unwrap();
    let numbers: Vec<u64> = (0..5).map(|_| number(&reader.get(&FOREVER).unwrap())).collect();
    assert_eq!(numbers, [12, 13, 14, 15, 16]);
}

#[test]
fn what_readers_missed_is_counted_when_they_are_gone() {
    let (ring, heap) = ring(4, WhenFull::DropOldest);
    let missed = |ring: &Ring| ring.stats(&FOREVER).unwrap().missed;
    let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    (0..30).for_each(|i| assert!(put(&ring, i, &FOREVER).is_ok()));
    drop(reader.get(&FOREVER).unwrap());
    assert_eq!((reader.missed(), missed(&ring)), (26, 26));
    drop(reader);
    assert_eq!(missed(&ring), 26);
    let there = elsewhere(&ring, &heap);
    let second = there.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    (0..5).for_each(|i| assert!(put(&ring, i, &FOREVER).is_ok()));
    drop(second.get(&FOREVER).unwrap());
    assert_eq!((second.missed(), missed(&ring)), (1, 27));
    heap.declare_dead(there.arena().participant_slot());
    std::mem::forget((second, there));
    assert_eq!((ring.stats(&FOREVER).unwrap().readers.len(), missed(&ring)), (0, 27));
}

/// While another reader kept the ring full, one that was closed went on counting what it missed.
#[test]
fn a_reader_that_is_gone_misses_nothing_more() {
    let (ring, _heap) = ring(4, WhenFull::DropOldest);
    let missed = |ring: &Ring| ring.stats(&FOREVER).unwrap().missed;
    let slow = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    drop(ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap());
    // Nobody has asked for the counts yet, which frees the place of who is gone.
    (0..100).for_each(|i| assert!(put(&ring, i, &FOREVER).is_ok()));
    assert_eq!((slow.missed(), missed(&ring)), (96, 96));
}

// ---- writers

fn write(writer: &Writer, number: u64) {
    let mut writing = writer.begin(LEN as u64, &FOREVER).unwrap();
    stamp(writing.hold().unwrap(), number);
    writing.publish(Content { meta: &number.to_le_bytes(), ..Content::default() }, &FOREVER).unwrap();
}

/// The writer as another participant has it.
fn send(writer: &Writer, there: &Arc<Ring>) -> Arc<Writer> {
    let token = there.arena().take(writer.token().unwrap().block()).unwrap();
    Writer::open(there.clone(), writer.index(), token).unwrap()
}

fn next_is(reader: &Reader) -> Result<u64> {
    reader.get(&soon()).map(|frame| number(&frame))
}

#[test]
fn the_stream_ends_with_the_last_writer_that_was_made() {
    let (ring, heap) = ring(8, WhenFull::Wait);
    let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    let [first, second] = [(); 2].map(|()| ring.writer(&FOREVER).unwrap());
    write(&first, 0);
    first.close(&FOREVER).unwrap();
    first.close(&FOREVER).unwrap();
    assert_eq!(first.own().unwrap_err().kind(), Kind::Closed);
    assert!(!ring.is_closed(), "a sibling that was merely faster");
    // A process that is in and out says nothing of the siblings.
    ring.enter_writers(&FOREVER).unwrap();
    put(&ring, 1, &FOREVER).unwrap();
    ring.leave_writers(&FOREVER).unwrap();
    let there = elsewhere(&ring, &heap);
    let theirs = send(&second, &there);
    drop(second);
    assert!(!ring.is_closed(), "it lives on where it was sent");
    write(&theirs, 2);
    theirs.close(&FOREVER).unwrap();
    assert_eq!([(); 3].map(|()| next_is(&reader).unwrap()), [0, 1, 2]);
    assert_eq!(next_is(&reader).unwrap_err().kind(), Kind::Closed);
    assert_eq!(ring.writer(&FOREVER).unwrap_err().kind(), Kind::Closed);
    assert_eq!(ring.writer_counts(), WriterCounts { made: 2, ended: 2, ..WriterCounts::default() });
}

#[test]
fn a_writer_that_is_dropped_has_ended() {
    for used in [false, true] {
        let (ring, _heap) = ring(8, WhenFull::Wait);
        let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
        let writer = ring.writer(&FOREVER).unwrap();
        let twin = send(&writer, &ring);
        if used {
            write(&writer, 0);
        }
        drop(writer);
        assert!(!ring.is_closed(), "another object of this process has it");
        drop(twin);
        assert!(ring.is_closed());
        assert_eq!(next_is(&reader).is_ok(), used);
        assert_eq!(next_is(&reader).unwrap_err().kind(), Kind::Closed);
    }
}

#[test]
fn a_writer_belongs_to_who_uses_it_first() {
    let (ring, heap) = ring(8, WhenFull::Wait);
    let writer = ring.writer(&FOREVER).unwrap();
    let there = elsewhere(&ring, &heap);
    let theirs = send(&writer, &there);
    write(&theirs, 0);
    assert_eq!(writer.own().unwrap_err().kind(), Kind::Misuse);
    writer.close(&FOREVER).unwrap();
    assert!(!ring.is_closed(), "closing one's own does not end the other's");
    write(&theirs, 1);
    let stats = ring.stats(&FOREVER).unwrap();
    assert_eq!(stats.writers.iter().map(|writer| writer.written).collect::<Vec<_>>(), [2]);
    drop(theirs);
    assert!(ring.is_closed());
}

/// Used or not, alone or with a sibling that ends in order before or after: nobody who reads is left without a word.
#[test]
fn the_death_of_a_writer_is_told_once_used_or_not() {
    for (used, sibling) in [(false, 0), (true, 0), (false, 1), (true, 1), (false, 2), (true, 2)] {
        let (ring, heap) = ring(8, WhenFull::Wait);
        let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
        let there = elsewhere(&ring, &heap);
        let writer = ring.writer(&FOREVER).unwrap();
        let other = (sibling > 0).then(|| ring.writer(&FOREVER).unwrap());
        let theirs = send(&writer, &there);
        drop(writer);
        if used {
            write(&theirs, 0);
        }
        if sibling == 1 {
            other.as_ref().unwrap().close(&FOREVER).unwrap();
        }
        assert!(!ring.is_closed());
        heap.declare_dead(there.arena().participant_slot());
        std::mem::forget((theirs, there));
        if sibling == 2 {
            other.as_ref().unwrap().close(&FOREVER).unwrap();
        }
        if used {
            assert_eq!(next_is(&reader).unwrap(), 0);
        }
        assert_eq!(next_is(&reader).unwrap_err().kind(), Kind::WriterDied, "{used} {sibling}");
        let end = next_is(&reader).unwrap_err().kind();
        assert_eq!(end, if sibling == 2 { Kind::Closed } else { Kind::Empty }, "{used} {sibling}");
        assert_eq!(ring.writer_counts().lost, 1);
        if sibling != 2 {
            let successor = ring.writer(&FOREVER).unwrap();
            write(&successor, 7);
            drop(successor);
            assert_eq!(next_is(&reader).unwrap(), 7);
            assert_eq!(next_is(&reader).unwrap_err().kind(), Kind::Closed);
        }
    }
}

#[test]
fn who_writes_through_the_ring_itself_does_not_hold_up_the_end_of_those_that_were_made() {
    let (ring, _heap) = ring(8, WhenFull::Wait);
    put(&ring, 0, &FOREVER).unwrap();
    let writer = ring.writer(&FOREVER).unwrap();
    drop(writer);
    assert!(ring.is_closed());
    assert_eq!(put(&ring, 1, &FOREVER).unwrap_err().kind(), Kind::Closed);
}

#[test]
fn places_of_writers_come_back() {
    let (ring, heap) = ring(8, WhenFull::Wait);
    let _stays = ring.writer(&FOREVER).unwrap();
    for round in 0..3 * WRITERS {
        let there = elsewhere(&ring, &heap);
        let writer = there.writer(&FOREVER).unwrap();
        if round % 3 == 0 {
            heap.declare_dead(there.arena().participant_slot());
            std::mem::forget((writer, there));
        }
    }
    let all: Vec<Arc<Writer>> = (1..WRITERS).map(|_| ring.writer(&FOREVER).unwrap()).collect();
    assert_eq!(ring.writer(&FOREVER).unwrap_err().kind(), Kind::Misuse);
    assert_eq!(ring.stats(&FOREVER).unwrap().writers.len(), all.len() + 1);
}

#[test]
fn errors_say_who_is_behind_and_who_writes() {
    let (ring, _heap) = ring(2, WhenFull::Wait);
    let text = |outcome: Result<Option<u64>>| outcome.unwrap_err().to_string();
    let empty = |reader: &Reader| reader.get(&soon()).unwrap_err().to_string();
    let first = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    assert!(empty(&first).contains("no writer is there"), "{}", empty(&first));
    drop(first);
    let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    let group = Mode::Group(ring.group("work", &FOREVER).unwrap());
    let member = ring.reader(group, Start::Next, &FOREVER).unwrap();
    (0..2).for_each(|i| assert!(put(&ring, i, &FOREVER).is_ok()));
    let full = text(put(&ring, 2, &soon()));
    assert!(full.contains("a reader of every frame that no process has used yet, lag 2"), "{full}");
    drop(member.try_get().unwrap());
    drop((reader.get(&FOREVER).unwrap(), reader.get(&FOREVER).unwrap()));
    put(&ring, 2, &soon()).unwrap();
    let full = text(put(&ring, 3, &soon()));
    let process = format!("behind is a reader of group \"work\" in process {} (", std::process::id());
    assert!(full.contains(&process) && full.contains("lag 2"), "{full}");
    drop(reader.get(&FOREVER).unwrap());
    assert!(empty(&reader).contains("one writer is there"), "{}", empty(&reader));
    let _writers = [(); 2].map(|()| ring.writer(&FOREVER).unwrap());
    _writers[0].close(&FOREVER).unwrap();
    assert!(empty(&reader).contains("1 that no process has used yet (of 2 that were made, 1 were closed"));
}

#[test]
fn closing_drains_and_then_ends() {
    let (ring, _heap) = ring(4, WhenFull::Wait);
    let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    (0..2).for_each(|i| assert!(put(&ring, i, &FOREVER).is_ok()));
    let mut late = ring.begin(LEN as u64, &FOREVER).unwrap();
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

/// A reader found nothing, the writer published and died, and then the reader looked for deaths: it told of the death
/// first, and who stops at a death lost what was published.
#[test]
fn what_a_writer_published_before_it_died_comes_before_its_death() {
    let (ring, heap) = ring(4, WhenFull::Wait);
    let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    let writer = elsewhere(&ring, &heap);
    assert!(!reader.has_news());
    put(&writer, 0, &FOREVER).unwrap();
    heap.declare_dead(writer.arena().participant_slot());
    std::mem::forget(writer);
    reader.hear_of_deaths(&FOREVER, || reader.has_news()).unwrap();
    assert_eq!(number(&reader.get(&FOREVER).unwrap()), 0);
    assert_eq!(reader.get(&FOREVER).unwrap_err().kind(), Kind::WriterDied);
    assert_eq!(reader.get(&soon()).unwrap_err().kind(), Kind::Empty);
}

/// Nobody's number is told for another's: once the slot has another tenant, the process is not known any more.
#[test]
fn the_death_of_a_writer_names_its_process_until_its_slot_has_another_tenant() {
    for is_taken in [false, true] {
        let (ring, heap) = ring(4, WhenFull::Wait);
        let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
        let writer = elsewhere(&ring, &heap);
        put(&writer, 0, &FOREVER).unwrap();
        let slot = writer.arena().participant_slot();
        heap.declare_dead(slot);
        std::mem::forget(writer);
        ring.arena().sweep_the_dead().unwrap();
        let tenant = is_taken.then(|| Arena::join_on_heap(&heap).unwrap());
        assert_eq!(tenant.map(|tenant| tenant.participant_slot() == slot), is_taken.then_some(true));
        drop(reader.get(&FOREVER).unwrap());
        let Error::WriterDied(died) = reader.get(&FOREVER).unwrap_err() else { panic!("a death was expected") };
        assert_eq!(died.pid, (!is_taken).then(std::process::id));
    }
}

#[test]
fn a_block_is_published_as_it_is_and_passes_on_to_another_ring() {
    let (ring, _heap) = ring(4, WhenFull::Wait);
    let geometry = RingSizes::new(4, 0, 8).unwrap();
    let second = Ring::create(ring.arena(), geometry, WhenFull::Wait, &FOREVER).unwrap();
    let readers = [&ring, &second].map(|ring| ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap());
    for i in 0..30 {
        let hold = ring.arena().alloc(LEN, 64, false, &FOREVER).unwrap();
        stamp(&hold, i);
        let meta = i.to_le_bytes();
        let content = Content { view: b"u8", meta: &meta, ..Content::default() };
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
    let ring = Ring::create(&arena, RingSizes::new(3, 0, 0).unwrap(), WhenFull::Wait, &FOREVER).unwrap();
    let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    for i in 0..60_u64 {
        let len = 64 << (i * 7 % 13);
        let mut writing = ring.begin(len, &FOREVER).unwrap();
        assert!(writing.hold().unwrap().len_bytes() as u64 >= len);
        writing.publish(Content::default(), &FOREVER).unwrap();
        drop(reader.get(&FOREVER).unwrap());
    }
    let fixed = Ring::create(&arena, RingSizes::new(3, 100, 0).unwrap(), WhenFull::Wait, &FOREVER).unwrap();
    assert_eq!(fixed.begin(101, &FOREVER).unwrap_err().kind(), Kind::InvalidValue);
}

/// The bytes that an arena has given to a ring without a shape, after frames of these sizes, each read at once.
fn bytes_after(sizes: impl Iterator<Item = u64>) -> Vec<u64> {
    let (arena, _heap) = Arena::create_on_heap(64 << 20).unwrap();
    let ring = Ring::create(&arena, RingSizes::new(3, 0, 0).unwrap(), WhenFull::Wait, &FOREVER).unwrap();
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
    let ring = Ring::create(&arena, RingSizes::new(3, 0, 8).unwrap(), WhenFull::DropOldest, &FOREVER).unwrap();
    let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    let mut large = ring.begin(1 << 20, &FOREVER).unwrap();
    stamp(large.hold().unwrap(), 7);
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

/// A descriptor stayed readable for ever, and nothing was said of the death.
#[test]
fn who_waits_on_a_descriptor_and_tries_hears_of_deaths_and_of_the_end() {
    let (ring, heap) = ring(4, WhenFull::Wait);
    let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    reader.descriptor().unwrap();
    let there = elsewhere(&ring, &heap);
    put(&there, 0, &FOREVER).unwrap();
    assert_eq!(number(&reader.try_get().unwrap().unwrap()), 0);
    heap.declare_dead(there.arena().participant_slot());
    std::mem::forget(there);
    assert_eq!(reader.try_get().unwrap_err().kind(), Kind::WriterDied);
    assert!(reader.try_get().unwrap().is_none());
    ring.close(&FOREVER).unwrap();
    assert_eq!(reader.try_get().unwrap_err().kind(), Kind::Closed);
}

/// Nobody told the others of a group of the frame that a member had in hand as it left.
#[test]
fn who_waits_on_a_descriptor_hears_of_a_frame_that_a_member_leaves() {
    let (ring, _heap) = ring(4, WhenFull::Wait);
    let group = Mode::Group(ring.group("g", &FOREVER).unwrap());
    let [member, other, idle] = [(); 3].map(|()| ring.reader(group, Start::Next, &FOREVER).unwrap());
    put(&ring, 7, &FOREVER).unwrap();
    let frame = other.get(&FOREVER).unwrap();
    member.descriptor().unwrap();
    assert!(member.try_get().unwrap().is_none());
    let is_told = || Wish(member.words().pipe.load(Relaxed)).is_told();
    drop(idle);
    assert!(!is_told(), "who had nothing in hand leaves no news");
    drop(other);
    assert!(is_told());
    assert_eq!(number(&member.try_get().unwrap().unwrap()), 7);
    drop(frame);
}

/// Members that waited on descriptors with their last frames in variables kept a full ring full for ever.
#[test]
fn a_full_ring_asks_the_member_that_has_its_oldest_frame_in_hand() {
    for when_full in [WhenFull::Wait, WhenFull::DropNewest] {
        let (ring, _heap) = ring(2, when_full);
        let group = Mode::Group(ring.group("g", &FOREVER).unwrap());
        let members = [(); 2].map(|()| ring.reader(group, Start::Next, &FOREVER).unwrap());
        (0..2).for_each(|i| assert!(put(&ring, i, &FOREVER).is_ok()));
        let held = members.each_ref().map(|member| member.get(&FOREVER).unwrap());
        members.iter().for_each(|member| assert!(member.descriptor().is_ok()));
        let are_told = || members.each_ref().map(|member| Wish(member.words().pipe.load(Relaxed)).is_told());
        assert_eq!(are_told(), [false, false], "nobody waits for room");
        assert!(!matches!(put(&ring, 2, &soon()), Ok(Some(_))));
        assert_eq!(are_told(), [true, false], "{when_full:?}");
        members[0].descriptor().unwrap();
        assert_eq!(are_told(), [true, false], "who asks for the descriptor again hears of it, too");
        assert!(members[0].try_get().unwrap().is_none());
        assert_eq!(are_told(), [false, false]);
        assert_eq!(put(&ring, 2, &soon()).unwrap(), Some(2));
        assert_eq!(held.each_ref().map(number), [0, 1]);
        // What it has in hand is no concern of a writer that has room.
        drop(members[0].get(&FOREVER).unwrap());
        members.iter().for_each(|member| assert!(member.descriptor().is_ok()));
        assert_eq!(are_told(), [false, false]);
    }
}

#[test]
fn a_member_that_finds_nothing_has_done_with_what_it_holds() {
    let (ring, _heap) = ring(1, WhenFull::Wait);
    let group = Mode::Group(ring.group("g", &FOREVER).unwrap());
    let member = ring.reader(group, Start::Next, &FOREVER).unwrap();
    put(&ring, 0, &FOREVER).unwrap();
    let held = member.try_get().unwrap().unwrap();
    assert_eq!(put(&ring, 1, &soon()).unwrap_err().kind(), Kind::Full);
    assert!(member.try_get().unwrap().is_none());
    put(&ring, 1, &soon()).unwrap();
    drop(held);
}

/// Who fills a frame in other hands while the ring comes to be full hears that it takes a wait, and asks all the same.
#[test]
fn who_does_not_wait_for_room_asks_for_it_all_the_same() {
    let (ring, _heap) = ring(1, WhenFull::Wait);
    let group = Mode::Group(ring.group("g", &FOREVER).unwrap());
    let member = ring.reader(group, Start::Next, &FOREVER).unwrap();
    let mut writing = ring.begin(LEN as u64, &FOREVER).unwrap();
    put(&ring, 0, &FOREVER).unwrap();
    let held = member.get(&FOREVER).unwrap();
    member.descriptor().unwrap();
    assert_eq!(writing.publish(Content::default(), &Deadline::now()).unwrap(), Published::Busy);
    assert!(Wish(member.words().pipe.load(Relaxed)).is_told());
    assert!(member.try_get().unwrap().is_none());
    assert_eq!(writing.publish(Content::default(), &Deadline::now()).unwrap(), Published::Seq(1));
    drop(held);
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
fn a_reader_that_has_waited_for_long_dozes_until_a_frame_or_its_close_wakes_it() {
    let arena = Arena::create(&crate::arena::Options { budget_bytes: Some(1 << 22), ..Default::default() }).unwrap();
    let format = Format { meta: Some(crate::element::Element::Void(8)), ..Format::default() };
    let ring = Ring::new(&arena, format, RingOptions::slots(8), &FOREVER).unwrap();
    let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    let when_it_dozes = |work: fn(&Arc<Ring>, &Reader)| {
        let found = (0..2000).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            reader.is_watched()
        });
        assert!(found, "it never dozed");
        work(&ring, &reader);
    };
    let put_one = |ring: &Arc<Ring>, _: &Reader| assert!(put(ring, 1, &FOREVER).unwrap().is_some());
    for seq in 0..2 {
        std::thread::scope(|scope| {
            scope.spawn(|| when_it_dozes(put_one));
            assert_eq!(reader.get(&late()).unwrap().seq, seq);
        });
        assert!(!reader.is_watched() && !reader.is_deaf.load(Relaxed), "a byte woke it, and it wants no more");
        assert_eq!((reader.words().pipe.load(Relaxed), ring.table.word(table::WISHES).load(Relaxed)), (0, 0));
    }
    std::thread::scope(|scope| {
        scope.spawn(|| when_it_dozes(|_, reader| reader.close().unwrap()));
        assert_eq!(reader.get(&late()).unwrap_err().kind(), Kind::Closed);
    });
}

#[test]
fn a_reader_that_expects_frames_gets_each_and_keeps_its_timeouts() {
    let arena = Arena::create(&crate::arena::Options { budget_bytes: Some(1 << 22), ..Default::default() }).unwrap();
    let format = Format { spin: Some(Spin::Auto), meta: Some(crate::element::Element::Void(8)), ..Format::default() };
    let ring = Ring::new(&arena, format, RingOptions::slots(8), &FOREVER).unwrap();
    let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    let step = || reader.pace.as_ref().unwrap().lock().step(crate::os::monotonic().as_nanos() as f64);
    assert_eq!(step(), Step::Usual, "nothing is known yet");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..40 {
                std::thread::sleep(Duration::from_millis(3));
                put(&ring, number, &FOREVER).unwrap();
            }
        });
        (0..40).for_each(|seq| assert_eq!(reader.get(&late()).unwrap().seq, seq));
    });
    for milliseconds in [0, 1, 3, 7] {
        let brief = Deadline::after(Duration::from_millis(milliseconds));
        assert_eq!(reader.get(&brief).unwrap_err().kind(), Kind::Empty, "{milliseconds} ms");
    }
    // Whether that is a steady pace, is the machine's to say: on a busy one it is none.
    assert_eq!(reader.pace.as_ref().unwrap().lock().heard_of(), Some(39), "the pace hears of each frame");
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
                    there.leave_writers(&FOREVER).unwrap();
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
    use crate::os::kill::{
        KILL_POINTS,
        armed::{overtaken_at, stops_at},
    };
    use crate::prim::Ordering::SeqCst;

    /// So many short waits are enough on a busy machine, too.
    const PATIENCE: usize = 100;

    /// Runs `script` as a new participant of the ring that stops for good at `label`; its slot if it did.
    fn dies(ring: &Arc<Ring>, heap: &Arc<Heap>, label: &'static str, nth: u32, script: fn(&Arc<Ring>)) -> Option<u32> {
        let there = elsewhere(ring, heap);
        let slot = there.arena().participant_slot();
        let stopped = stops_at(label, nth, move || {
            script(&there);
            drop(there);
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

    fn made(ring: &Arc<Ring>) {
        let [used, unused, last] = [(); 3].map(|()| ring.writer(&FOREVER).unwrap());
        (1000..1004).for_each(|i| write(&used, i));
        used.close(&FOREVER).unwrap();
        drop(unused);
        ring.enter_writers(&FOREVER).unwrap();
        ring.leave_writers(&FOREVER).unwrap();
        drop(last);
    }

    /// Writers of which one stays, so that the stream goes on.
    fn comes_and_goes(ring: &Arc<Ring>) {
        std::mem::forget(ring.writer(&FOREVER).unwrap());
        let [used, unused] = [(); 2].map(|()| ring.writer(&FOREVER).unwrap());
        write(&used, 1000);
        used.close(&FOREVER).unwrap();
        drop(unused);
        ring.enter_writers(&FOREVER).unwrap();
        ring.leave_writers(&FOREVER).unwrap();
        let group = ring.group("gone", &FOREVER).unwrap();
        drop(ring.reader(Mode::Group(group), Start::Next, &FOREVER).unwrap());
        // The place is free from here on, and nobody moves the group's cursor for the sake of a member.
        ring.stats(&FOREVER).unwrap();
        (2000..2010).for_each(|i| drop(put(ring, i, &FOREVER)));
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

    /// Wherever a writer dies, its reader hears of a death or of the end, and never of neither. An end that somebody has
    /// announced comes, whoever died over it.
    #[test]
    fn a_writer_that_dies_at_any_point_leaves_its_reader_with_a_word() {
        for &label in KILL_POINTS {
            for nth in [1, 2, 3, 4, 6] {
                let (ring, heap) = ring(16, WhenFull::Wait);
                let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
                // Fewer passes, and so no death.
                let Some(slot) = dies(&ring, &heap, label, nth, made) else { break };
                heap.declare_dead(slot);
                // On a busy machine a wait can be over before anybody has looked for deaths.
                let word = (0..PATIENCE).find_map(|_| match reader.get(&soon()).map(|frame| number(&frame)) {
                    Ok(_) => None,
                    Err(error) if error.kind() == Kind::Empty && ring.writer_counts().made > 0 => None,
                    Err(error) => Some(error.kind()),
                });
                let (word, made) = (word.unwrap_or(Kind::Empty), ring.writer_counts());
                // The first three passes are before there is a writer: one is counted first, and the last store makes it.
                let none_was_made = made.made == 0 || (label == "ring:entered" && nth <= 3);
                let expected = if none_was_made { Kind::Empty } else { Kind::WriterDied };
                // The very last one had ended already.
                let is_over = word == Kind::Closed && ring.is_closed();
                assert!(word == expected || is_over, "{label} {nth}: {word:?} {made:?}");
                let stats = ring.stats(&FOREVER).unwrap();
                assert_eq!(stats.writers, [], "{label} {nth}");
                if !ring.is_closed() {
                    let successor = ring.writer(&FOREVER).unwrap();
                    write(&successor, 1);
                    drop(successor);
                }
                let ends = (0..40).any(|_| reader.get(&soon()).is_err_and(|error| error.kind() == Kind::Closed));
                assert!(ends, "{label} {nth}: the stream has no end");
            }
        }
    }

    /// A group whose last member died at any point goes on where it was: its successor gets what that one was not done
    /// with, and what came since.
    #[test]
    fn a_group_goes_on_after_a_death_at_any_point() {
        for &label in KILL_POINTS {
            for nth in [1, 2, 4] {
                let (ring, heap) = ring(16, WhenFull::Wait);
                ring.group("g", &FOREVER).unwrap();
                (0..4).for_each(|i| assert!(put(&ring, i, &FOREVER).is_ok()));
                let Some(slot) = dies(&ring, &heap, label, nth, reads) else { break };
                heap.declare_dead(slot);
                let done = ring.table.group(0).cursor.load(SeqCst);
                (4..8).for_each(|i| assert!(put(&ring, i, &FOREVER).is_ok()));
                let member = ring.reader(Mode::Group(0), Start::Oldest, &FOREVER).unwrap();
                let mut got = Vec::new();
                for _ in 0..PATIENCE {
                    got.extend(next_is(&member));
                    if got.last() == Some(&7) {
                        break;
                    }
                }
                assert!(done <= 3, "{label} {nth}");
                // A death between done and the cursor's move has the frame done.
                let from = got.first().copied().unwrap_or(0);
                assert_eq!(got, (from..8).collect::<Vec<_>>(), "{label} {nth}");
                assert!(from == done || from == done + 1, "{label} {nth}: {from} {done}");
            }
        }
    }

    /// A member died after it was done with the oldest frame and before it moved the group on; the others had nothing
    /// left that they could be done with, and the ring stayed full.
    #[test]
    fn a_full_ring_goes_on_after_a_member_died_wherever_it_was() {
        for when_full in [WhenFull::Wait, WhenFull::DropNewest] {
            for &label in KILL_POINTS {
                let (ring, heap) = ring(1, when_full);
                let group = Mode::Group(ring.group("g", &FOREVER).unwrap());
                let member = ring.reader(group, Start::Next, &FOREVER).unwrap();
                put(&ring, 0, &FOREVER).unwrap();
                let Some(slot) = dies(&ring, &heap, label, 1, reads) else { continue };
                heap.declare_dead(slot);
                let mut got = Vec::new();
                for i in 1..4 {
                    got.extend(std::iter::from_fn(|| member.get(&soon()).ok().map(|frame| number(&frame))));
                    assert_eq!(put(&ring, i, &soon()).unwrap(), Some(i), "{label}");
                }
                assert!(got == [0, 1, 2] || got == [1, 2], "{label}: {got:?}");
            }
        }
    }

    /// A writer died between a block's next generation and the frame that is to name it. The frame named a block that was
    /// gone, and kept its memory from everybody.
    #[test]
    fn a_death_while_a_block_is_renewed_costs_no_frame() {
        let (ring, heap) = ring(4, WhenFull::DropOldest);
        (0..8).for_each(|i| assert!(put(&ring, i, &FOREVER).is_ok()));
        let slot = dies(&ring, &heap, "renew:done", 1, writes).expect("a writer renews");
        heap.declare_dead(slot);
        put(&ring, 8, &FOREVER).unwrap();
        let named = (0..ring.table.geometry.frames).map(|index| ring.table.frame(index).block.load(SeqCst));
        let dead: Vec<_> = named.filter_map(BlockId::from_word).filter(|&block| !ring.arena().is_live(block)).collect();
        assert!(dead.is_empty(), "frames name blocks that do not live: {dead:?}");
    }

    /// A writer died while it put another block in the place of a frame's. The frame named the new block and the record of the
    /// old one; the new record went as one that no frame names, and with it the block. `ndshare check` found it.
    #[test]
    fn each_frame_names_a_block_that_its_record_keeps_wherever_a_writer_died() {
        for &label in KILL_POINTS.iter().filter(|label| label.starts_with("ring:") || label.starts_with("renew:")) {
            for nth in 1..=12 {
                let (ring, heap) = ring(4, WhenFull::DropOldest);
                (0..3).for_each(|i| assert!(put(&ring, i, &FOREVER).is_ok()));
                let Some(slot) = dies(&ring, &heap, label, nth, writes) else { break };
                heap.declare_dead(slot);
                ring.locked(&FOREVER, || Ok(())).unwrap();
                ring.stats(&FOREVER).unwrap();
                ring.arena().reclaim(Duration::ZERO, &FOREVER).unwrap();
                let kept = ring.head().children().unwrap();
                for words in (0..ring.table.geometry.frames).map(|index| ring.table.frame(index)) {
                    let Some(block) = BlockId::from_word(words.block.load(SeqCst)) else { continue };
                    let nonce = words.nonce.load(SeqCst);
                    let is_kept =
                        kept.iter().any(|(record, child)| record.nonce == nonce && child.index == block.index);
                    assert!(is_kept && ring.arena().is_live(block), "{label} {nth}: {block:?}");
                }
            }
        }
    }

    fn puts(ring: &Arc<Ring>) {
        (100..106).for_each(|i| drop(put(ring, i, &FOREVER)));
    }

    /// How many frames a reader gets, and how many it says that it missed.
    fn got_and_missed(reader: &Reader) -> (u64, u64) {
        let got = std::iter::from_fn(|| reader.try_get().unwrap().map(|frame| number(&frame))).count();
        (got as u64, reader.missed())
    }

    /// A writer moved readers and groups on that were behind, and counted afterwards what they lost by it; if it died between
    /// the two, nobody ever counted these frames. Now each frame was got or is counted, whoever died where.
    #[test]
    fn each_frame_that_is_not_got_is_counted_wherever_its_writer_died() {
        let mut died_passing = 0;
        for &label in KILL_POINTS.iter().filter(|label| label.starts_with("ring:")) {
            for nth in 1.. {
                let (ring, heap) = ring(2, WhenFull::DropOldest);
                let every = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
                let groups = ["empty", "slow"].map(|name| Mode::Group(ring.group(name, &FOREVER).unwrap()));
                let [_, member] = groups.map(|group| ring.reader(group, Start::Next, &FOREVER).unwrap());
                put(&ring, 0, &FOREVER).unwrap();
                // It has this one, which is not lost to its group then.
                let first = member.get(&FOREVER).unwrap();
                let Some(slot) = dies(&ring, &heap, label, nth, puts) else { break };
                died_passing += u32::from(label == "ring:passed");
                heap.declare_dead(slot);
                (1..6).for_each(|i| assert!(put(&ring, i, &FOREVER).is_ok()));
                drop(first);
                let late = ring.reader(groups[0], Start::Oldest, &FOREVER).unwrap();
                let written = ring.written();
                let books = [&every, &late, &member].map(got_and_missed);
                let sums = books.map(|(got, missed)| got + missed);
                assert_eq!(sums, [written, written, written - 1], "{label} {nth}: {books:?}");
                let missed = books.iter().map(|(_, missed)| missed).sum::<u64>();
                assert_eq!(ring.stats(&FOREVER).unwrap().missed, missed, "{label} {nth}");
            }
        }
        assert!(died_passing > 20, "at {died_passing} passes only");
    }

    /// A member of a group claimed a frame, and took its hold on it afterwards. Between the two a writer passed the group
    /// over, and counted no frame that a member had; the frame's memory was written again, the member got nothing, and
    /// nobody had counted the frame.
    #[test]
    fn each_frame_that_a_group_does_not_get_is_counted_wherever_writers_overtake_a_member() {
        for label in ["take:bit", "take:done", "ring:claimed", "ring:taken", "ring:done"] {
            let (mut nth, mut passes) = (1, 0);
            // BOUND: the passes of one frame that is got.
            while (1..=12).all(|frames| overtakes(label, nth, frames)) {
                (nth, passes) = (nth + 1, passes + 1);
            }
            assert!(passes > 0, "nobody passed {label}");
        }
    }

    /// A writer publishes so many frames while a member is somewhere on its way to one and back; false: it never comes there.
    fn overtakes(label: &'static str, nth: u32, frames: u64) -> bool {
        let (ring, heap) = ring(2, WhenFull::DropOldest);
        let group = Mode::Group(ring.group("g", &FOREVER).unwrap());
        let [member, other] = [(); 2].map(|()| ring.reader(group, Start::Next, &FOREVER).unwrap());
        put(&ring, 0, &FOREVER).unwrap();
        let (writer, mut first) = (elsewhere(&ring, &heap), 0);
        let is_overtaken = overtaken_at(
            label,
            nth,
            move || (1..=frames).for_each(|i| assert!(put(&writer, i, &FOREVER).is_ok())),
            || first = u64::from(member.try_get().unwrap().map(|frame| number(&frame)).is_some()),
        );
        let (got, missed) = got_and_missed(&other);
        let (more, _) = got_and_missed(&member);
        let written = ring.written();
        assert_eq!((first + got + more + missed, more), (written, 0), "{label} {nth}, {frames} frames");
        is_overtaken
    }

    /// It counted for readers of every frame, and for those of the newest only once somebody else had the ring's lock.
    #[test]
    fn a_frame_whose_writer_died_before_the_head_counted_it_is_the_newest() {
        let (ring, heap) = ring(4, WhenFull::DropOldest);
        let latest = ring.reader(Mode::Latest, Start::Next, &FOREVER).unwrap();
        let slot = dies(&ring, &heap, "ring:sequenced", 1, puts).expect("it publishes");
        heap.declare_dead(slot);
        assert_eq!(latest.newest_now(None).unwrap().map(|frame| number(&frame)), Some(100));
        assert_eq!(latest.try_get().unwrap().map(|frame| number(&frame)), Some(100));
        assert!(latest.try_get().unwrap().is_none(), "once");
        put(&ring, 1, &FOREVER).unwrap();
        assert_eq!(latest.try_get().unwrap().map(|frame| (frame.seq, number(&frame))), Some((1, 1)));
    }

    #[test]
    fn a_death_on_either_side_holds_nobody_up() {
        let mut passed = Vec::new();
        for script in [writes as fn(&Arc<Ring>), reads, comes_and_goes] {
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
            // That is what `a_writer_that_dies_at_any_point_leaves_its_reader_with_a_word` is for.
            if *label == "ring:over" {
                continue;
            }
            assert!(passed.contains(label), "no death was tried at {label}");
        }
    }
}

// ---- lines of the processor's cache

#[test]
fn what_is_said_of_a_plain_frame_stands_in_one_line() {
    let (arena, _heap) = Arena::create_on_heap(16 << 20).unwrap();
    for meta in [0, 1, 8, 100] {
        let sizes = RingSizes::new(5, 100, meta).unwrap();
        let ring = Ring::create(&arena, sizes, WhenFull::Wait, &FOREVER).unwrap();
        for seq in 0..ring.table.entries() {
            let entry = ring.table.entry(seq);
            let (times, layout) = ([entry.time_ns, entry.published_ns], [entry.offset, entry.view_len, entry.note]);
            let said = [entry.block, entry.frame].into_iter().chain(times).chain(layout);
            let at = |word: &AtomicU64| std::ptr::from_ref(word).addr();
            assert_eq!(at(entry.seq) % 64, 0);
            said.for_each(|word| assert_eq!(at(word) / 64, at(entry.seq) / 64));
        }
    }
}

/// Before there is a group nobody writes claims, so writers leave them alone.
#[test]
fn claims_of_the_lap_before_are_gone_however_late_a_group_came() {
    let (ring, _heap) = ring(2, WhenFull::Wait);
    (0..7).for_each(|i| assert_eq!(put(&ring, i, &FOREVER), Ok(Some(i))));
    let group = ring.group("late", &FOREVER).unwrap();
    let member = ring.reader(Mode::Group(group), Start::Next, &FOREVER).unwrap();
    for i in 7..7 + 3 * ring.table.entries() {
        put(&ring, i, &late()).unwrap();
        assert_eq!(number(&member.get(&late()).unwrap()), i);
    }
}

// ---- notes

#[test]
fn notes_and_descriptions_of_any_length_stand_in_the_entry_or_behind_the_items() {
    let (arena, _heap) = Arena::create_on_heap(16 << 20).unwrap();
    let ring = Ring::create(&arena, RingSizes::new(3, 0, 8).unwrap(), WhenFull::Wait, &FOREVER).unwrap();
    let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    for (i, note_len) in [0, 1, 8, 400, 496, 497, 3000, 100_000].into_iter().enumerate() {
        for view_len in [0, 3, 100, 496, 497, 5000] {
            let (text, view) = ("é".repeat(note_len / 2), vec![7; view_len]);
            let notes = [Note::text(text.clone()), Note::json(text), Note::bytes(vec![255; note_len])];
            let note = &notes[(i + view_len) % 3];
            let content = Content { view: &view, note: Some(note), meta: &[1; 8], ..Content::default() };
            let mut writing = ring.begin_with_note(13, content.tail_bytes() as u64, &FOREVER).unwrap();
            writing.publish(content, &FOREVER).unwrap();
            let frame = reader.get(&FOREVER).unwrap();
            assert_eq!(
                (frame.note().unwrap().as_ref(), frame.view(), frame.meta()),
                (Some(note), &view[..], &[1; 8][..])
            );
        }
    }
    ring.begin(13, &FOREVER).unwrap().publish(Content::default(), &FOREVER).unwrap();
    assert_eq!(reader.get(&FOREVER).unwrap().note().unwrap(), None);
}

#[test]
fn a_note_without_room_is_refused_and_the_frame_can_still_be_published() {
    let (arena, _heap) = Arena::create_on_heap(16 << 20).unwrap();
    let ring = Ring::create(&arena, RingSizes::new(3, 100, 0).unwrap(), WhenFull::Wait, &FOREVER).unwrap();
    let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    let note = Note::text("x".repeat(10_000));
    let content = Content { note: Some(&note), ..Content::default() };
    let mut writing = ring.begin(100, &FOREVER).unwrap();
    assert!(writing.tail_room().unwrap() < 10_000);
    assert_eq!(writing.publish(content, &FOREVER).unwrap_err().kind(), Kind::InvalidValue);
    writing.publish(Content::default(), &FOREVER).unwrap();
    assert_eq!(reader.get(&FOREVER).unwrap().note().unwrap(), None);
    let hold = ring.arena().alloc(100, 64, false, &FOREVER).unwrap();
    assert_eq!(ring.publish_block(&hold, 100, content, &FOREVER).unwrap_err().kind(), Kind::InvalidValue);
    assert_eq!(ring.begin_with_note(101, 5, &FOREVER).map(drop).unwrap_err().kind(), Kind::InvalidValue);
}

#[test]
fn a_note_that_lies_elsewhere_is_an_error_for_who_asks_for_it() {
    let (arena, _heap) = Arena::create_on_heap(16 << 20).unwrap();
    let ring = Ring::create(&arena, RingSizes::new(3, 100, 0).unwrap(), WhenFull::Wait, &FOREVER).unwrap();
    let reader = ring.reader(Mode::Every, Start::Next, &FOREVER).unwrap();
    let words = [1 | u64::MAX << 8, 1 | 1 << 40, 9 | 505 << 8, 9 | u64::MAX << 8, 4, 7 | 1 << 8];
    for (seq, word) in words.into_iter().enumerate() {
        for (tail, view_len) in [(0, 0), (u64::MAX, 0), (50, 600), (50, u64::MAX)] {
            ring.begin(100, &FOREVER).unwrap().publish(Content::default(), &FOREVER).unwrap();
            let entry = ring.table.entry(ring.written() - 1);
            entry.note.store(word, Relaxed);
            entry.tail.store(tail, Relaxed);
            entry.view_len.store(view_len, Relaxed);
            let frame = reader.get(&FOREVER).unwrap();
            assert!(frame.note().is_err(), "{seq}: {word:#x}");
            let _ = frame.array();
        }
    }
}
