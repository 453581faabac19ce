//! The steps of a ring that several processes take at once.
//!
//! The functions take their words by reference, so that a loom model runs the same code. Three orders matter: who
//! sees the number of an entry sees its words; who moves a cursor never moves it back; and who marks an event before
//! it sleeps, and who looks for marks after it has changed something, cannot both miss the other.

use super::claim::FrameClaim;
use crate::prim::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
    fence, in_one_order,
};

/// More frames than a ring ever has.
pub(super) const MOST_WRITTEN: u64 = u64::MAX >> 2;
/// An entry that is being written, or a frame that is being filled.
pub(super) const BUSY: u64 = u64::MAX - 1;
/// In the cursor of a reader of every frame, above the number: it turns each time somebody else moves the cursor on.
pub(super) const PUSHED: u64 = 1 << 63;
/// Somebody sleeps on the event or the space word.
pub(super) const WAITER: u32 = 1;

// ---- entries

/// Begins to write an entry.
#[inline]
pub(super) fn open_entry(number: &AtomicU64) {
    // Release: who sees that it is busy sees the cursors that were moved on before.
    number.store(BUSY, Release);
    // Pairs with the fence in `read_entry`: who reads a word of what follows sees that the entry is busy.
    fence(Release);
}

/// Ends the writing of an entry: it bears its number from now on.
#[inline]
pub(super) fn seal_entry(number: &AtomicU64, seq: u64) {
    // Pairs with the Acquire in `read_entry`: who sees the number sees the entry and the frame's bytes.
    number.store(seq, Release);
}

/// What `read` finds in the entry of `seq`; none when the entry bore another number at any time meanwhile.
#[inline]
pub(super) fn read_entry<T>(number: &AtomicU64, seq: u64, read: impl FnOnce() -> T) -> Option<T> {
    if number.load(Acquire) != seq {
        return None;
    }
    let found = read();
    // Pairs with the fence in `open_entry`: had a word been of the next writer, this would not be `seq`.
    fence(Acquire);
    (number.load(Relaxed) == seq).then_some(found)
}

// ---- frames

/// Before a frame is filled again: from now on it bears no number. Who looks at its bytes without a hold, because it may
/// only read, sees that before it sees one of the new ones.
#[inline]
pub(super) fn open_frame(last: &AtomicU64) {
    last.store(BUSY, Relaxed);
    // Pairs with the fence in `read_frame`: who reads one of the new bytes sees that it bears no number.
    fence(Release);
}

/// What `read` finds in the frame that was published as `seq`; none when it bore another number at any time meanwhile.
#[inline]
pub(super) fn read_frame<T>(last: &AtomicU64, seq: u64, read: impl FnOnce() -> T) -> Option<T> {
    read_entry(last, seq, read)
}

// ---- cursors

/// Takes the frame at a cursor that was `seen`. False: somebody moved the cursor meanwhile.
#[inline]
pub(super) fn advance(cursor: &AtomicU64, seen: u64) -> bool {
    cursor.compare_exchange(seen, seen.wrapping_add(1), SeqCst, Relaxed).is_ok()
}

/// Where in the stream the cursor of a reader of every frame stands.
#[inline]
pub(super) fn place(cursor: u64) -> u64 {
    cursor & !PUSHED
}

/// Moves the cursor of a reader of every frame on to `least`, if it is as it was `seen`. The reader never turns the mark
/// [`PUSHED`], so that the cursor says, whatever its reader does, whether this came to pass.
#[inline]
pub(super) fn push_on(cursor: &AtomicU64, seen: u64, least: u64) -> bool {
    cursor.compare_exchange(seen, !seen & PUSHED | least, SeqCst, Relaxed).is_ok()
}

/// Whether the cursor of a reader of every frame was moved on for it since it was `seen`. Asked before it is so again.
#[inline]
pub(super) fn was_pushed(cursor: u64, seen: u64) -> bool {
    (cursor ^ seen) & PUSHED != 0
}

/// Moves a group's cursor on to `least` if it is behind.
#[inline]
pub(super) fn pass_over(cursor: &AtomicU64, least: u64) {
    cursor.fetch_max(least, SeqCst);
}

// ---- groups

/// Claims a frame for one member of a group, if its claim still says what was seen. Each frame begins with a claim of its
/// own, [`FrameClaim::nobodys`], so that is never the claim of another frame in the same entry.
#[inline]
pub(super) fn claim(word: &AtomicU64, seen: FrameClaim, mine: FrameClaim) -> bool {
    seen.replace(word, mine)
}

/// Marks a claimed frame as done, unless it was given to another member. Then comes [`pass_done`]: of two members that
/// end their claims at once, the later one sees both done.
#[inline]
pub(super) fn end_claim(word: &AtomicU64, mine: FrameClaim) {
    let _ = mine.replace(word, mine.ended());
    in_one_order();
}

/// Marks a frame as lost that no living member has, as `seen` says, if that is still so. None gets it from then on.
#[inline]
pub(super) fn give_up(word: &AtomicU64, seen: FrameClaim, seq: u64) {
    let _ = seen.replace(word, FrameClaim::lost(seq));
}

/// Moves a group's cursor over all frames that are done or lost. `entry` gives number and claim of a published frame.
#[inline]
pub(super) fn pass_done<'a>(cursor: &AtomicU64, entry: impl Fn(u64) -> Option<(&'a AtomicU64, &'a AtomicU64)>) {
    // BOUND: `entry` gives no more than a lap of them.
    loop {
        // RAW: `entry` gives none for what is no number of a frame.
        let next = cursor.load(SeqCst);
        let Some((number, claim)) = entry(next) else { return };
        let claim = FrameClaim::read(claim);
        if number.load(SeqCst) != next || !claim.is_over(next) {
            return;
        }
        let _ = advance(cursor, next);
    }
}

// ---- events

/// Whether somebody sleeps on an event. Asked after what it sleeps for has changed.
#[inline]
pub(super) fn is_awaited(event: &AtomicU32) -> bool {
    in_one_order();
    event.load(SeqCst) & WAITER != 0
}

/// Counts an event up and takes the mark away; says whether there was one, and sleepers are to be woken.
#[inline]
pub(super) fn announce(event: &AtomicU32) -> bool {
    // Counted up first: who marks the event from here on looks for itself what has changed.
    let was_awaited = event.fetch_add(2, SeqCst) & WAITER != 0;
    if was_awaited {
        // Who marked it in between is woken with the others, or finds another number than it would sleep on.
        event.fetch_and(!WAITER, SeqCst);
    }
    was_awaited
}

/// Marks an event before a sleep; gives the value to sleep on, or none when there is no need to: the event has counted
/// up, or `ready` says so.
#[inline]
pub(super) fn mark(event: &AtomicU32, ready: impl Fn() -> bool) -> Option<u32> {
    // RAW: any number is one to sleep on, and the mark is a bit of it.
    let seen = event.load(SeqCst);
    let marked = seen | WAITER;
    if seen != marked && event.compare_exchange(seen, marked, SeqCst, Relaxed).is_err() {
        return None;
    }
    in_one_order();
    if ready() { None } else { Some(marked) }
}

/// Models of one writer and its readers, of a group, and of sleep, run by loom over all interleavings.
#[cfg(all(test, loom))]
mod models {
    use super::super::claim::{Holder, Member};
    use super::*;
    use crate::models::{Block, READER, WRITER, check};
    use loom::sync::Arc;
    use loom::thread;

    struct Entry {
        number: AtomicU64,
        block: AtomicU64,
        generation: AtomicU64,
        meta: AtomicU64,
    }

    impl Entry {
        fn new() -> Self {
            let [number, block, generation, meta] = [BUSY, 0, 0, 0].map(AtomicU64::new);
            Self { number, block, generation, meta }
        }
    }

    /// A ring of one slot, two entries and two blocks, whose writer drops the oldest. The head is relaxed here, so that
    /// only the numbers of the entries order anything.
    struct Model {
        entries: [Entry; 2],
        blocks: [Block; 2],
        head: AtomicU64,
        cursor: AtomicU64,
        missed: AtomicU64,
    }

    impl Model {
        fn new() -> Arc<Self> {
            let [head, cursor, missed] = [0, 0, 0].map(AtomicU64::new);
            let (entries, blocks) = ([Entry::new(), Entry::new()], [Block::new(), Block::new()]);
            Arc::new(Self { entries, blocks, head, cursor, missed })
        }

        fn entry(&self, seq: u64) -> &Entry {
            &self.entries[seq as usize % 2]
        }

        /// Publishes the next frame, in whichever block is idle.
        fn publish(&self) {
            let seq = self.head.load(Relaxed);
            let seen = self.cursor.load(SeqCst);
            if place(seen) < seq {
                if push_on(&self.cursor, seen, seq) {
                    self.missed.fetch_add(seq - place(seen), SeqCst);
                } else {
                    // The reader has taken it meanwhile: there is no more than one that it may still want.
                    assert_eq!(place(self.cursor.load(SeqCst)), seq, "moved by another");
                }
            }
            let renewed = (0..2).find_map(|index| Some((index, self.blocks[index].renew()?)));
            let Some((block, generation)) = renewed else { return };
            self.blocks[block].bytes.store(seq + 100, Relaxed);
            // As in `publish`: under the lock, and before anybody can know of the frame.
            self.blocks[block].release(WRITER);
            let entry = self.entry(seq);
            open_entry(&entry.number);
            entry.block.store(block as u64, Relaxed);
            entry.generation.store(generation, Relaxed);
            entry.meta.store(seq + 200, Relaxed);
            seal_entry(&entry.number, seq);
            self.head.store(seq + 1, Relaxed);
        }

        /// The block of a frame, held, when its entry is whole.
        fn take(&self, seq: u64) -> Option<&Block> {
            let entry = self.entry(seq);
            let (block, generation, meta) = read_entry(&entry.number, seq, || {
                (entry.block.load(Relaxed), entry.generation.load(Relaxed), entry.meta.load(Relaxed))
            })?;
            assert_eq!(meta, seq + 200, "torn");
            let block = &self.blocks[block as usize];
            block.take(generation).then_some(block)
        }

        /// Looks twice for the next frame, and at it; gives how many there were.
        fn read_two(&self) -> u64 {
            let (mut got, mut next) = (0, 0);
            for _ in 0..2 {
                let seen = self.cursor.load(SeqCst);
                let seq = place(seen);
                if seq >= self.head.load(Relaxed) {
                    continue;
                }
                let Some(block) = self.take(seq) else { continue };
                if advance(&self.cursor, seen) {
                    assert!(seq >= next, "a frame twice");
                    (got, next) = (got + 1, seq + 1);
                    self.look_at(block, seq);
                } else {
                    block.release(READER);
                }
            }
            got
        }

        /// Looks twice for the newest frame, and at it.
        fn look_for_newest(&self) {
            let mut next = 0;
            for _ in 0..2 {
                let head = self.head.load(Relaxed);
                if head > next
                    && let Some(block) = self.take(head - 1)
                {
                    self.look_at(block, head - 1);
                    next = head;
                }
            }
        }

        fn look_at(&self, block: &Block, seq: u64) {
            assert_eq!(block.bytes.load(Relaxed), seq + 100, "another frame's bytes");
            block.release(READER);
        }
    }

    #[test]
    fn a_lapped_reader_gets_whole_frames_in_order_and_every_gap_is_counted() {
        check(|| {
            let model = Model::new();
            let ring = model.clone();
            let writer = thread::spawn(move || (0..3).for_each(|_| ring.publish()));
            let other = model.clone();
            let reader = thread::spawn(move || other.read_two());
            writer.join().unwrap();
            let got = reader.join().unwrap();
            let cursor = place(model.cursor.load(SeqCst));
            assert_eq!(got + model.missed.load(SeqCst), cursor, "a gap that nobody counted");
            assert!(cursor <= model.head.load(Relaxed));
        });
    }

    #[test]
    fn the_latest_frame_is_whole() {
        check(|| {
            let model = Model::new();
            let ring = model.clone();
            let reader = thread::spawn(move || ring.look_for_newest());
            (0..3).for_each(|_| model.publish());
            reader.join().unwrap();
        });
    }

    /// A process that may only read looks at a frame without a hold, while its block is filled again.
    #[test]
    fn who_looks_without_a_hold_sees_one_frame() {
        check(|| {
            let frame = Arc::new([0, 100].map(AtomicU64::new));
            let there = frame.clone();
            let writer = thread::spawn(move || {
                let [last, bytes] = &*there;
                open_frame(last);
                bytes.store(101, Relaxed);
                seal_entry(last, 1);
            });
            let [last, bytes] = &*frame;
            for seq in 0..2 {
                if let Some(found) = read_frame(last, seq, || bytes.load(Relaxed)) {
                    assert_eq!(found, 100 + seq, "another frame's bytes");
                }
            }
            writer.join().unwrap();
        });
    }

    #[test]
    fn who_finds_an_entry_busy_sees_its_cursor_moved_on() {
        check(|| {
            let words = Arc::new([0, 0].map(AtomicU64::new));
            let there = words.clone();
            let writer = thread::spawn(move || {
                assert!(push_on(&there[0], 0, 2));
                open_entry(&there[1]);
            });
            if words[1].load(Acquire) == BUSY {
                assert_eq!(place(words[0].load(Relaxed)), 2, "it would look for the same frame again");
            }
            writer.join().unwrap();
        });
    }

    /// Two published frames and the group that shares them.
    struct Group {
        numbers: [AtomicU64; 2],
        claims: [AtomicU64; 2],
        cursor: AtomicU64,
        looked_at: [AtomicU64; 2],
    }

    impl Group {
        fn new() -> Arc<Self> {
            let pair = |values: [u64; 2]| values.map(AtomicU64::new);
            let (numbers, claims, looked_at) = (pair([0, 1]), pair([0, 0]), pair([0, 0]));
            Arc::new(Self { numbers, claims, cursor: AtomicU64::new(0), looked_at })
        }

        fn name(seq: u64, member: usize) -> FrameClaim {
            FrameClaim::of(seq, Member::new(member, 0))
        }

        /// Takes the first frame whose claim is free or of the dead, and gives its number.
        fn get(&self, member: usize, dead: usize) -> Option<u64> {
            (self.cursor.load(SeqCst)..2).find(|&seq| {
                let word = &self.claims[seq as usize];
                let seen = FrameClaim::read(word);
                let is_free = seen.holder(seq) == Holder::Nobody || seen == Self::name(seq, dead);
                is_free && claim(word, seen, Self::name(seq, member))
            })
        }

        fn finish(&self, seq: u64, member: usize) {
            self.looked_at[seq as usize].fetch_add(1, SeqCst);
            assert!(self.cursor.load(SeqCst) <= seq, "passed before it was done");
            end_claim(&self.claims[seq as usize], Self::name(seq, member));
            pass_done(&self.cursor, |next| {
                let index = next as usize;
                Some((self.numbers.get(index)?, self.claims.get(index)?))
            });
        }

        fn work(&self, member: usize, dead: usize) {
            for _ in 0..2 {
                if let Some(seq) = self.get(member, dead) {
                    self.finish(seq, member);
                }
            }
        }
    }

    #[test]
    fn each_frame_goes_to_one_member_of_a_group() {
        check(|| {
            let group = Group::new();
            let other = group.clone();
            let thread = thread::spawn(move || other.work(1, 9));
            group.work(2, 9);
            thread.join().unwrap();
            // What both left alone, because each saw the other try for it.
            group.work(3, 9);
            assert_eq!(group.cursor.load(SeqCst), 2);
            group.looked_at.iter().for_each(|count| assert_eq!(count.load(SeqCst), 1));
        });
    }

    #[test]
    fn a_frame_of_a_dead_member_goes_to_one_other() {
        check(|| {
            let group = Group::new();
            assert_eq!(group.get(9, 0), Some(0), "the dead one has the first frame");
            let other = group.clone();
            let thread = thread::spawn(move || other.work(1, 9));
            group.work(2, 9);
            thread.join().unwrap();
            // What both left alone, because each saw the other try for it.
            group.work(3, 9);
            assert_eq!(group.cursor.load(SeqCst), 2);
            group.looked_at.iter().for_each(|count| assert_eq!(count.load(SeqCst), 1));
        });
    }

    /// A published frame of a group in the only entry of a ring, and its block.
    struct Lapped {
        number: AtomicU64,
        claim: AtomicU64,
        cursor: AtomicU64,
        missed: AtomicU64,
        block: Block,
    }

    impl Lapped {
        fn new() -> Arc<Self> {
            let [number, claim, cursor, missed] = [0, 0, 0, 0].map(AtomicU64::new);
            let model = Self { number, claim, cursor, missed, block: Block::new() };
            model.block.bytes.store(100, Relaxed);
            Arc::new(model)
        }

        /// Passes the group over, and writes the next frame into block and entry.
        fn overtake(&self) {
            let seen = FrameClaim::read(&self.claim);
            if seen.holder(0) == Holder::Nobody {
                give_up(&self.claim, seen, 0);
            }
            pass_over(&self.cursor, 1);
            self.missed.store(u64::from(FrameClaim::read(&self.claim).is_lost(0)), SeqCst);
            if self.block.renew().is_some() {
                self.block.bytes.store(101, Relaxed);
                self.block.release(WRITER);
            }
            open_entry(&self.number);
            self.claim.store(FrameClaim::nobodys(1).pack(), Relaxed);
            seal_entry(&self.number, 1);
        }

        /// Gets the first frame as a member does, if it can; gives how many it got.
        fn get(&self) -> u64 {
            let seen = FrameClaim::read(&self.claim);
            let is_free = self.number.load(SeqCst) == 0 && seen.holder(0) == Holder::Nobody;
            if !is_free || !self.block.take(0) {
                return 0;
            }
            let is_mine = claim(&self.claim, seen, Group::name(0, 1));
            if is_mine {
                assert_eq!(self.block.bytes.load(Relaxed), 100, "another frame's bytes");
                end_claim(&self.claim, Group::name(0, 1));
            }
            self.block.release(READER);
            is_mine.into()
        }
    }

    #[test]
    fn a_frame_of_a_group_that_is_passed_over_is_got_or_counted() {
        check(|| {
            let model = Lapped::new();
            let there = model.clone();
            let member = thread::spawn(move || there.get());
            model.overtake();
            let got = member.join().unwrap();
            assert_eq!(got + model.missed.load(SeqCst), 1, "a gap that nobody counted, or one too many");
            assert_eq!(
                FrameClaim::read(&model.claim).holder(1),
                Holder::Nobody,
                "the next frame is taken for the first"
            );
        });
    }

    /// Says what it would sleep on; the model then looks whether somebody would have woken it.
    fn falls_asleep(head: &AtomicU64, event: &AtomicU32) -> Option<u32> {
        let ready = || head.load(SeqCst) > 0;
        if ready() { None } else { mark(event, ready) }
    }

    #[test]
    fn nobody_sleeps_through_a_frame() {
        check(|| {
            let words = Arc::new((AtomicU64::new(0), AtomicU32::new(0)));
            let readers = [(); 2].map(|()| {
                let words = words.clone();
                thread::spawn(move || falls_asleep(&words.0, &words.1))
            });
            words.0.store(1, SeqCst);
            let woken = is_awaited(&words.1) && announce(&words.1);
            for reader in readers {
                if let Some(marked) = reader.join().unwrap() {
                    assert!(woken && words.1.load(SeqCst) != marked, "asleep for ever");
                }
            }
        });
    }
}
