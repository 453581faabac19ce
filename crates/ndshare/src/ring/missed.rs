//! Frames that readers miss: moving those on that are behind, each frame counted once, whoever dies ([`passing`](super::passing)).

use super::claim::FrameClaim;
use super::passing::{Passing, Who, finish_push, push_reader};
use super::protocol;
use super::state::Ring;
use crate::os::kill::{Point, point};
use crate::prim::Ordering::SeqCst;

impl Ring {
    /// Moves a reader of every frame on to `least`, if it is behind.
    pub(super) fn push_reader(&self, index: usize, least: u64) {
        let words = self.table.reader(index);
        push_reader(index, words.cursor, words.missed, self.table.passing(), least);
    }

    /// Moves a group on to `least`, if it is behind. Those frames are lost to it that no member has who lives.
    pub(super) fn pass_group(&self, group: usize, least: u64) {
        let words = self.table.group(group);
        // RAW: compared, and bounded where it is used; and a count, which is told.
        let (from, missed) = (words.cursor.load(SeqCst), words.missed.load(SeqCst));
        if from < least {
            let passing = Passing { who: Who::Group(group), from, least, missed };
            passing.write(self.table.passing());
            self.pass_frames(group, passing);
        }
    }

    /// Moves groups on that fall out of the window with the next frame, also those without members.
    pub(super) fn pass_groups(&self) {
        let least = (self.written() + 1).saturating_sub(self.table.geometry.slots.into());
        self.groups_in_use().for_each(|group| self.pass_group(group, least));
    }

    /// Ends what a process began that died under the lock. Idempotent.
    pub(super) fn finish_passing(&self) {
        let words = self.table.passing();
        let Some(passing) = Passing::read(words) else { return };
        match passing.who {
            Who::Reader(index) => {
                let reader = self.table.reader(index);
                finish_push(reader.cursor, reader.missed, words, passing);
            }
            Who::Group(group) => self.pass_frames(group, passing),
        }
    }

    fn pass_frames(&self, group: usize, Passing { from, least, missed, .. }: Passing) {
        let words = self.table.group(group);
        let head = self.written();
        // Other numbers would be nonsense in shared memory. What lies more than a lap before the head is written over.
        let least = least.min(head);
        let frames = || from.max(head.saturating_sub(self.table.entries()))..least;
        let claim = |seq| &self.table.entry(seq).claims[group];
        for seq in frames() {
            let seen = FrameClaim::read(claim(seq));
            if self.is_free(seq, seen) {
                protocol::give_up(claim(seq), seen, seq);
                point(Point::RingPassed);
            }
        }
        protocol::pass_over(words.cursor, least);
        point(Point::RingPassed);
        let lost = frames().filter(|&seq| FrameClaim::read(claim(seq)).is_lost(seq)).count() as u64;
        words.missed.store(missed.wrapping_add(lost), SeqCst);
        point(Point::RingPassed);
        Passing::end(self.table.passing());
    }
}
