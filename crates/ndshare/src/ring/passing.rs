//! Moving a reader or a group on that is behind, in steps of which each may be the last one of who takes them.
//!
//! Who takes the lock to publish moves on those that are behind, and counts what they lose by it. It may die in the middle, so
//! what it is about to do stands in the head first: whom it moves on, from where to where, and what that one had missed before.
//! Who has the lock next brings it to its end. Neither step is a sum that could be taken twice: the count is stored as a whole,
//! and how many frames are lost can be told again at any time. Of a reader of every frame the mark in its cursor tells whether
//! it was moved on, or came so far itself; of a group the claims of the frames tell which of them are lost.

use super::claim::{CLAIMANTS, GROUPS};
use super::protocol;
use crate::os::kill::{Point, point};
use crate::prim::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
    Unchecked, read,
};

/// Words that say which reader or group is just being moved on.
#[derive(Clone, Copy)]
pub(super) struct PassingWords<'a> {
    /// Index + 1 of a reader, or of a group above those; 0: none is.
    pub who: &'a AtomicU64,
    /// Its cursor before.
    pub from: &'a AtomicU64,
    /// Its place afterwards.
    pub least: &'a AtomicU64,
    /// What it had missed before.
    pub missed: &'a AtomicU64,
}

/// Who is moved on. Bounded: whatever stands in shared memory is one of these, or nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Reader(usize),
    Group(usize),
}

/// What is done under the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Passing {
    pub who: Who,
    /// Its cursor before.
    pub from: u64,
    /// Its place afterwards.
    pub least: u64,
    /// What it had missed before.
    pub missed: u64,
}

impl Who {
    fn pack(self) -> u64 {
        let index = match self {
            Self::Reader(index) => index,
            Self::Group(group) => CLAIMANTS + group,
        };
        index as u64 + 1
    }

    fn unpack(word: Unchecked) -> Option<Self> {
        let index = word.index(CLAIMANTS + GROUPS + 1)?.checked_sub(1)?;
        Some(index.checked_sub(CLAIMANTS).map_or(Self::Reader(index), Self::Group))
    }
}

impl Passing {
    pub(super) fn read(words: PassingWords<'_>) -> Option<Self> {
        let who = Who::unpack(read(words.who, Acquire))?;
        // RAW: numbers that are compared, and a count, which is told.
        let [from, least, missed] = [words.from, words.least, words.missed].map(|word| word.load(Relaxed));
        Some(Self { who, from, least, missed })
    }

    /// Says what is about to be done. `who` last: without it the others mean nothing.
    pub(super) fn write(self, words: PassingWords<'_>) {
        for (word, value) in [(words.from, self.from), (words.least, self.least), (words.missed, self.missed)] {
            word.store(value, Relaxed);
        }
        point(Point::RingPassed);
        words.who.store(self.who.pack(), Release);
        point(Point::RingPassed);
    }

    /// Says that it is done.
    pub(super) fn end(words: PassingWords<'_>) {
        words.who.store(0, Release);
        point(Point::RingPassed);
    }
}

/// Moves a reader's cursor on, if it is behind, and counts what it loses by that.
pub(super) fn push_reader(index: usize, cursor: &AtomicU64, missed: &AtomicU64, words: PassingWords<'_>, least: u64) {
    // BOUND: an exchange fails only when the reader has taken a frame of those before `least`.
    while let Some(passing) = begin_push(index, cursor, missed, words, least) {
        let is_pushed = protocol::push_on(cursor, passing.from, least);
        point(Point::RingMoved);
        finish_push(cursor, missed, words, passing);
        if is_pushed {
            return;
        }
    }
}

/// Says that a reader is about to be moved on; none: it is not behind.
fn begin_push(
    index: usize,
    cursor: &AtomicU64,
    missed: &AtomicU64,
    words: PassingWords<'_>,
    least: u64,
) -> Option<Passing> {
    // RAW: compared, and a count, which is told.
    let (from, missed) = (cursor.load(SeqCst), missed.load(SeqCst));
    let passing = Passing { who: Who::Reader(index), from, least, missed };
    (protocol::place(from) < least).then(|| {
        passing.write(words);
        passing
    })
}

pub(super) fn finish_push(cursor: &AtomicU64, missed: &AtomicU64, words: PassingWords<'_>, passing: Passing) {
    count_push(cursor, missed, passing);
    Passing::end(words);
}

/// Counts what a reader has lost, if it was moved on.
fn count_push(cursor: &AtomicU64, missed: &AtomicU64, passing: Passing) {
    // RAW: only compared.
    if protocol::was_pushed(cursor.load(SeqCst), passing.from) {
        let lost = passing.least.saturating_sub(protocol::place(passing.from));
        missed.store(passing.missed.wrapping_add(lost), SeqCst);
        point(Point::RingMoved);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn who_is_moved_on_survives_its_word_and_another_word_is_nobody() {
        for who in [Who::Reader(0), Who::Reader(CLAIMANTS - 1), Who::Group(0), Who::Group(GROUPS - 1)] {
            assert_eq!(Who::unpack(Unchecked::new(who.pack())), Some(who));
        }
        for word in [0, (CLAIMANTS + GROUPS) as u64 + 1, u64::MAX] {
            assert_eq!(Who::unpack(Unchecked::new(word)), None, "{word:#x}");
        }
    }
}

/// A model of a reader of every frame that is moved on by somebody who dies anywhere, and whose heir ends what that one began,
/// run by loom over all interleavings.
#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::models::check;
    use loom::sync::Arc;
    use loom::thread;

    struct Model {
        cursor: AtomicU64,
        missed: AtomicU64,
        passing: [AtomicU64; 4],
    }

    impl Model {
        fn words(&self) -> PassingWords<'_> {
            let [who, from, least, missed] = &self.passing;
            PassingWords { who, from, least, missed }
        }

        /// The steps of `push_reader`, as many as it comes to.
        fn push_and_die(&self, least: u64, steps: usize) {
            if steps == 0 {
                return;
            }
            let Some(passing) = begin_push(0, &self.cursor, &self.missed, self.words(), least) else { return };
            if steps > 1 {
                protocol::push_on(&self.cursor, passing.from, least);
            }
            if steps > 2 {
                count_push(&self.cursor, &self.missed, passing);
            }
        }

        fn inherit(&self) {
            if let Some(passing) = Passing::read(self.words()) {
                finish_push(&self.cursor, &self.missed, self.words(), passing);
            }
        }

        /// Takes up to two frames; gives how many.
        fn read(&self) -> u64 {
            let take = || {
                let seen = self.cursor.load(SeqCst);
                protocol::place(seen) < 2 && protocol::advance(&self.cursor, seen)
            };
            u64::from(take()) + u64::from(take())
        }
    }

    #[test]
    fn each_frame_that_a_reader_loses_is_counted_once_whoever_dies() {
        for steps in 0..4 {
            check(move || {
                let [cursor, missed] = [0, 0].map(AtomicU64::new);
                let model = Arc::new(Model { cursor, missed, passing: [0, 0, 0, 0].map(AtomicU64::new) });
                let there = model.clone();
                let writer = thread::spawn(move || {
                    there.push_and_die(1, steps);
                    there.inherit();
                    push_reader(0, &there.cursor, &there.missed, there.words(), 2);
                });
                let other = model.clone();
                let reader = thread::spawn(move || other.read());
                writer.join().unwrap();
                let got = reader.join().unwrap();
                let place = protocol::place(model.cursor.load(SeqCst));
                assert_eq!((got + model.missed.load(SeqCst), place), (2, 2), "a gap that nobody counted, or twice");
            });
        }
    }
}
