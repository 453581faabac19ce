//! Which readers a ring has, as all of its processes see them: a slot of the head for each. A reader lives as long as its
//! token, a small block; so the slot of one that was killed is found free, and nobody waits for it.

use super::policy::{Mode, Start};
use super::state::Ring;
use super::table::{READERS, READERS_IN_USE, SPACE, WISHES};
use crate::arena::{BlockId, Deadline, Hold};
use crate::error::{Error, Kind, Result};
use crate::os::kill::{Point, point};
use crate::prim::Ordering::SeqCst;

impl Ring {
    #[inline]
    pub(super) fn readers_in_use(&self) -> impl Iterator<Item = usize> + use<> {
        self.table.readers_in_use()
    }

    #[inline]
    pub(super) fn is_reader_live(&self, index: usize) -> bool {
        self.table.is_reader_live(index, |token| self.arena().is_live(token))
    }

    pub(super) fn enter_reader(&self, mode: Mode, start: Start, token: &Hold) -> Result<usize> {
        let free = (0..READERS).find(|&index| !self.is_reader_live(index));
        let index = free.ok_or_else(|| {
            Error::new(Kind::Misuse, format!("expected at most {READERS} readers at a time, got one more: close one"))
        })?;
        let from = if start == Start::Next { self.written() } else { self.oldest_whole() };
        if let Mode::Group(group) = mode {
            self.found_group(group, from);
        }
        let words = self.table.reader(index);
        // RAW: only taken from a later count, and told.
        let missed = words.missed.load(SeqCst);
        let begin = [(words.kind, mode.pack()), (words.cursor, from), (words.missed_before, missed)];
        for (word, value) in begin.into_iter().chain([words.user, words.held, words.pipe].map(|word| (word, 0))) {
            word.store(value, SeqCst);
            point(Point::RingJoined);
        }
        words.incarnation.fetch_add(1, SeqCst);
        point(Point::RingJoined);
        words.token.store(token.block().to_word(), SeqCst);
        point(Point::RingJoined);
        self.table.word(READERS_IN_USE).fetch_or(1 << index, SeqCst);
        point(Point::RingJoined);
        Ok(index)
    }

    /// The least number from which on every entry and its frame are still there.
    pub(super) fn oldest_whole(&self) -> u64 {
        let head = self.written();
        let window = head.saturating_sub(u64::from(self.table.geometry.slots))..head;
        let whole = |&seq: &u64| {
            let entry = self.table.entry(seq);
            let its = |frame: u32| self.table.frame(frame).last.load(SeqCst) == seq;
            self.table.frame_index(&entry).is_some_and(its) && entry.seq.load(SeqCst) == seq
        };
        head - window.rev().take_while(whole).count() as u64
    }

    /// Frees the slots of readers that are gone, sweeping dead processes.
    pub(super) fn prune(&self, deadline: &Deadline) -> Result<()> {
        // Readers on their way to processes that are over.
        self.arena().reclaim_undeliverable(deadline)?;
        let mut gone = Vec::new();
        for index in self.readers_in_use() {
            // First of all: a reader that takes the slot meanwhile has another one.
            // RAW: only compared with what it is later.
            let incarnation = self.table.reader(index).incarnation.load(SeqCst);
            // RAW: a name, which is looked up.
            let user = self.table.reader(index).user.load(SeqCst);
            let user_died = user != 0 && !self.arena().is_identity_alive(user)?;
            // RAW: a name, which is looked up.
            if let Some(token) = BlockId::from_word(self.table.reader(index).token.load(SeqCst)) {
                // A reader on its way whose sender died: its ticket is all that is left, and keeps it.
                let _ = self.arena().is_kept_by_others(token)?;
            }
            if user_died || !self.is_reader_live(index) {
                gone.push((index, incarnation, user_died));
            }
        }
        if gone.is_empty() {
            return Ok(());
        }
        self.locked(deadline, || {
            for (index, incarnation, user_died) in gone {
                // A slot may have been in the middle of getting a reader when it was looked at.
                let same = self.table.reader(index).incarnation.load(SeqCst) == incarnation;
                if same && (user_died || !self.is_reader_live(index)) {
                    self.forget_reader(index);
                }
            }
            Ok(())
        })?;
        self.announce(SPACE)
    }

    /// Frees a reader's slot, under the lock.
    fn forget_reader(&self, index: usize) {
        let words = self.table.reader(index);
        for word in [words.token, words.pipe] {
            word.store(0, SeqCst);
            point(Point::RingJoined);
        }
        self.table.word(WISHES).fetch_and(!(1 << index), SeqCst);
        point(Point::RingJoined);
        words.incarnation.fetch_add(1, SeqCst);
        point(Point::RingJoined);
        self.table.word(READERS_IN_USE).fetch_and(!(1 << index), SeqCst);
        point(Point::RingJoined);
    }
}
