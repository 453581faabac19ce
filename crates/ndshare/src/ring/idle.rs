//! Which frames may be idle, as this process remembers: so the next one to write is found without a look through all. What
//! is said here is a hint, private to a process. Each frame is checked by its own words where it is used, under the ring's
//! lock; of frames that others have thrown away a search through the ring tells.
//!
//! Each number comes here once, when all readers have taken it, and goes when its frame bears another. So a publication
//! costs the same in a ring of ten slots and in one of ten thousand, however far behind its readers are.

use crate::error::Result;
use std::collections::VecDeque;

/// A frame that was published under a number, and that no reader has yet to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Past {
    pub seq: u64,
    pub frame: u32,
}

/// What came of trying one.
pub(super) enum Tried<T> {
    /// It was idle.
    Got(T),
    /// Somebody looks at it.
    Held,
    /// It has been written again.
    Gone,
}

/// What a process remembers of the frames of a ring.
#[derive(Debug, Default)]
pub(super) struct Idle {
    /// Each number below was met.
    floor: u64,
    /// Not tried yet, by their numbers.
    past: VecDeque<Past>,
    /// Held by somebody when they were tried, in the order in which that was.
    held: VecDeque<Past>,
    /// Where the next search through the ring's frames begins.
    pub turn: u32,
}

impl Idle {
    /// Meets the numbers from `oldest` to before `limit` that it has not met; `frame_of` says which frame has one still.
    pub(super) fn meet(&mut self, oldest: u64, limit: u64, frame_of: impl Fn(u64) -> Option<u32>) {
        if limit < self.floor {
            // A reader has come that begins further back.
            self.past.retain(|past| past.seq < limit);
            self.held.retain(|past| past.seq < limit);
        }
        let fresh = self.floor.max(oldest).min(limit)..limit;
        self.past.extend(fresh.filter_map(|seq| Some(Past { seq, frame: frame_of(seq)? })));
        self.floor = limit;
    }

    /// Forgets what is `gone` if it remembers more than `most`: another writer has had most of it.
    pub(super) fn tidy(&mut self, most: usize, is_there: impl Fn(Past) -> bool) {
        if self.past.len() + self.held.len() > most {
            self.past.retain(|&past| is_there(past));
            self.held.retain(|&past| is_there(past));
        }
    }

    /// One that is idle: of those not tried yet the one published last, or first; then those that were held, the first
    /// tried first.
    pub(super) fn find<T>(
        &mut self,
        recent_first: bool,
        attempt: impl Fn(Past) -> Result<Tried<T>>,
    ) -> Result<Option<T>> {
        let (untried, held) = (self.past.len(), self.held.len());
        for round in 0..untried + held {
            let past = match (round < untried, recent_first) {
                (true, true) => self.past.pop_back(),
                (true, false) => self.past.pop_front(),
                (false, _) => self.held.pop_front(),
            };
            let Some(past) = past else { continue };
            match attempt(past)? {
                Tried::Got(found) => return Ok(Some(found)),
                Tried::Held => self.held.push_back(past),
                Tried::Gone => {}
            }
        }
        Ok(None)
    }

    /// The one published longest ago, of those that `is_there` says to be there still.
    pub(super) fn oldest(&mut self, is_there: impl Fn(Past) -> bool) -> Option<Past> {
        let first = |list: &mut VecDeque<Past>| {
            // BOUND: each round takes one out.
            while list.front().is_some_and(|&past| !is_there(past)) {
                list.pop_front();
            }
            list.front().copied()
        };
        [first(&mut self.past), first(&mut self.held)].into_iter().flatten().min_by_key(|past| past.seq)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// Frames 0 to 9 under the numbers 0 to 9.
    fn met(limit: u64) -> Idle {
        let mut idle = Idle::default();
        idle.meet(0, limit, |seq| Some(seq as u32));
        idle
    }

    fn next(idle: &mut Idle, recent_first: bool, held: &[u64]) -> Option<u64> {
        let attempt = |past: Past| Ok(if held.contains(&past.seq) { Tried::Held } else { Tried::Got(past.seq) });
        idle.find(recent_first, attempt).expect("no error")
    }

    #[test]
    fn each_number_comes_once_the_last_first_or_the_first() {
        let mut idle = met(5);
        idle.meet(0, 5, |_| unreachable!("all of these were met"));
        assert_eq!([next(&mut idle, true, &[]), next(&mut idle, false, &[])], [Some(4), Some(0)]);
        idle.meet(0, 7, |seq| (seq != 5).then_some(seq as u32));
        let left: Vec<_> = std::iter::from_fn(|| next(&mut idle, true, &[])).collect();
        assert_eq!(left, [6, 3, 2, 1]);
    }

    #[test]
    fn what_is_held_comes_again_after_all_others() {
        let mut idle = met(4);
        assert_eq!(next(&mut idle, true, &[3, 2]), Some(1));
        assert_eq!(next(&mut idle, true, &[3, 2]), Some(0));
        assert_eq!(next(&mut idle, true, &[3, 2]), None);
        assert_eq!(
            [next(&mut idle, true, &[]), next(&mut idle, true, &[])],
            [Some(3), Some(2)],
            "the first tried first"
        );
        assert_eq!(next(&mut idle, true, &[]), None);
    }

    #[test]
    fn a_reader_that_begins_further_back_has_its_frames_forgotten_and_met_again() {
        let mut idle = met(6);
        assert_eq!(next(&mut idle, true, &[5]), Some(4));
        idle.meet(0, 2, |_| unreachable!("all of these were met"));
        assert_eq!(next(&mut idle, true, &[]), Some(1));
        idle.meet(0, 6, |seq| Some(seq as u32));
        let left: Vec<_> = std::iter::from_fn(|| next(&mut idle, false, &[])).collect();
        assert_eq!(left, [0, 2, 3, 4, 5]);
    }

    #[test]
    fn it_remembers_no_more_than_there_is() {
        let mut idle = met(10);
        idle.tidy(10, |_| unreachable!("not more than that"));
        idle.tidy(9, |past| past.seq.is_multiple_of(2));
        assert_eq!(idle.past.len(), 5);
        let asked = RefCell::new(Vec::new());
        let oldest = idle.oldest(|past| {
            asked.borrow_mut().push(past.seq);
            past.seq > 2
        });
        assert_eq!((oldest, asked.into_inner()), (Some(Past { seq: 4, frame: 4 }), vec![0, 2, 4]));
    }
}
