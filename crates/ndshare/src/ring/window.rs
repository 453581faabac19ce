//! The window: which frames readers still want, when it is full, and what of it stays. A policy that decides which
//! frames go when the ring is full decides it here.

use super::policy::{Mode, WhenFull};
use super::state::Ring;
use crate::prim::Ordering::SeqCst;

/// Which frames are not written again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Floors {
    /// From here on they stay if others can be had: the window stays for a reader to come.
    pub wished: u64,
    /// From here on they stay.
    pub firm: u64,
    /// Readers keep up: the frame consumed last is written first, while it is in the processor's cache.
    pub recent_first: bool,
}

impl Ring {
    /// The place by which a reader holds back the ring; none of one that only wants the newest.
    fn holding_place_of(&self, index: usize) -> Option<u64> {
        // RAW: a kind, which is matched whatever it is.
        let mode = Mode::unpack(self.table.reader(index).kind.load(SeqCst));
        (mode != Mode::Latest).then(|| self.table.place_of(index, mode))
    }

    /// The oldest number that some reader has not taken yet; none when nobody holds the ring back.
    pub(super) fn least_cursor(&self) -> Option<u64> {
        let live = self.readers_in_use().filter(|&index| self.is_reader_live(index));
        live.filter_map(|index| self.holding_place_of(index)).min()
    }

    /// Which frames are not written again, when `least` is the least cursor.
    pub(super) fn floors(&self, least: Option<u64>) -> Floors {
        let head = self.written();
        let window = head.saturating_sub(self.table.geometry.slots.into());
        // The newest is always among them, for readers that only want that.
        let newest = if self.readers_in_use().next().is_some() { head.saturating_sub(1) } else { head };
        let kept = newest.min(head.saturating_sub(self.table.geometry.keep.into()));
        match least {
            None => Floors { wished: window.min(kept), firm: kept, recent_first: false },
            Some(least) => {
                let firm = least.min(kept).min(self.least_place_of_a_group(window));
                Floors { wished: firm, firm, recent_first: true }
            }
        }
    }

    /// The least number that a group has not done, with members or without, as far as the window reaches.
    #[inline]
    fn least_place_of_a_group(&self, window: u64) -> u64 {
        // RAW: a bound only together with the head: see `floors`.
        let places = self.groups_in_use().map(|group| self.table.group(group).cursor.load(SeqCst).max(window));
        places.min().unwrap_or(u64::MAX)
    }

    /// Frames from here on are wanted, or are the window that stays for a reader to come.
    pub(super) fn wished_floor(&self) -> u64 {
        self.floors(self.least_cursor()).wished
    }

    /// How many published frames wait for the slowest reader.
    #[doc(hidden)]
    pub fn waiting(&self) -> u64 {
        self.least_cursor().map_or(0, |least| self.written().saturating_sub(least))
    }

    /// Whether the reader at `least`, the slowest, keeps the window full.
    pub(super) fn is_full(&self, least: Option<u64>) -> bool {
        let slots = u64::from(self.table.geometry.slots);
        least.is_some_and(|least| self.written().saturating_sub(least) >= slots)
    }

    /// Moves the cursors of the slowest readers on, if that is the policy.
    pub(super) fn make_room(&self) -> bool {
        match self.when_full {
            WhenFull::Wait | WhenFull::DropNewest => return false,
            WhenFull::DropOldest => {}
        }
        let least = self.written() + 1 - u64::from(self.table.geometry.slots).min(self.written() + 1);
        for index in self.readers_in_use() {
            // RAW: a kind, which is matched whatever it is.
            match Mode::unpack(self.table.reader(index).kind.load(SeqCst)) {
                // One that is gone misses nothing any more.
                Mode::Every if self.is_reader_live(index) => self.push_reader(index, least),
                Mode::Group(group) => self.pass_group(group, least),
                Mode::Every | Mode::Latest => {}
            }
        }
        true
    }
}
