//! A reader's descriptor for selectors: readable while `get` has something to give or to say.
//!
//! Whoever publishes a frame, closes the ring or begins to write puts a byte into the pipe of its [`Selector`], which also
//! watches the writers, and the other members of a group. So does a writer that finds the ring full for the sake of a
//! frame that a member of a group has in hand.
//!
//! The set is put in order by whoever looks and finds nothing. A look that is attached to an interpreter only compares
//! who is there with whom it knows; if they differ, the pipe keeps its byte, and the next `get` does the rest.

use super::notify::Wish;
use super::policy::Mode;
use super::reader::Reader;
use super::selector::{Selector, Watchers};
use super::table::{DEATHS, WISHES};
use crate::error::{Error, Kind, Result};
use crate::os::kill::{Point, point};
use crate::os::watch::Ending;
use crate::prim::Ordering::{Relaxed, SeqCst};

impl Reader {
    /// Whether anybody waits on the selector.
    pub(super) fn is_watched(&self) -> bool {
        // RAW: a word of this process alone.
        self.is_watched.load(SeqCst)
    }

    /// A descriptor that is readable while there is something to get: a frame, the end, or the death of the last writer.
    /// Now and then it is readable for nothing; a look that finds nothing puts that right. The descriptor is the
    /// reader's own.
    ///
    /// # Errors
    /// `Misuse` when another process uses this reader; `Os` when there is no descriptor to be had.
    pub fn descriptor(&self) -> Result<i32> {
        self.own()?;
        let selector = self.wish(|watchers| watchers.has_loop = true)?;
        self.settle_whole()?;
        Ok(selector.watch.descriptor())
    }

    /// Has writers tell the pipe from now on, for one more that waits on it.
    ///
    /// # Errors
    /// As [`Self::descriptor`].
    pub(super) fn wish(&self, count: impl FnOnce(&mut Watchers)) -> Result<&Selector> {
        let none = || Error::new(Kind::Os, "expected four free descriptors for a selector, got none: close some");
        if self.selector.get().is_none() {
            let _ = self.selector.set(Selector::new().ok_or_else(none)?);
        }
        let selector = self.selector.get().ok_or_else(none)?;
        let wish = Wish::of(std::process::id(), selector.pipe.others_descriptor()).ok_or_else(none)?;
        let (words, mut watchers) = (self.words(), self.watchers.lock());
        // Another word than each one before: a writer may still be telling the last of them.
        let wish = Wish(wish.0 | watchers.last.drained().count());
        if words.pipe.load(SeqCst) == 0 {
            // Before the wish: who sees that sees which pipe it is.
            words.pipe_device.store(selector.pipe.id().device, SeqCst);
            point(Point::RingWished);
            words.pipe_inode.store(selector.pipe.id().inode, SeqCst);
            point(Point::RingWished);
            let _ = words.pipe.compare_exchange(0, wish.0, SeqCst, SeqCst);
            point(Point::RingWished);
        }
        // RAW: only compared.
        if (words.pipe.load(SeqCst) ^ wish.0) >> 18 != 0 {
            return Err(Error::new(
                Kind::Misuse,
                "another object of this process has the reader's descriptor: use that",
            ));
        }
        self.ring.table.word(WISHES).fetch_or(1 << self.index, SeqCst);
        point(Point::RingWished);
        count(&mut watchers);
        self.is_watched.store(true, SeqCst);
        Ok(selector)
    }

    /// Takes the wish back when nobody waits on the pipe any more.
    pub(super) fn unwish(&self, count: impl FnOnce(&mut Watchers)) {
        let mut watchers = self.watchers.lock();
        count(&mut watchers);
        if watchers.has_loop || watchers.dozing > 0 {
            return;
        }
        self.is_watched.store(false, SeqCst);
        // RAW: kept to be compared, never looked up.
        let last = self.words().pipe.swap(0, SeqCst);
        watchers.last = if last == 0 { watchers.last } else { Wish(last) };
        point(Point::RingWished);
        self.ring.table.word(WISHES).fetch_and(!(1 << self.index), SeqCst);
        point(Point::RingWished);
    }

    /// Empties the pipe when there is nothing to get, and fills it when there is. It waits for nobody.
    #[cold]
    pub(super) fn settle_pipe(&self) {
        let (Some(selector), word) = (self.selector.get(), self.words().pipe) else { return };
        let is_awake = || {
            self.has_news()
                || self.is_asked()
                || self.is_unsettled(selector)
                || self.check_place().is_err()
                || self.check_open().is_err()
        };
        if !is_awake() {
            selector.pipe.drain();
            // From here on writers tell again; one that was just telling finds another word than it saw.
            // BOUND: a round is lost to a writer that tells, once after each emptying, or to another thread that empties.
            let _ = word.fetch_update(SeqCst, SeqCst, |bits| Some(Wish(bits).drained().0));
            point(Point::RingWished);
        }
        // RAW: two bits of it are looked at, and it is compared.
        let wish = Wish(word.load(SeqCst));
        // Looked at again, because writers kept quiet until now.
        if !wish.is_told() && is_awake() {
            selector.pipe.fill();
            let _ = word.compare_exchange(wish.0, wish.told().0, SeqCst, Relaxed);
            point(Point::RingWished);
        }
    }

    /// The same, and watches those who are there now. It makes system calls.
    ///
    /// # Errors
    /// `Poisoned`; `Attach` in a process without a slot.
    pub(super) fn settle_whole(&self) -> Result<()> {
        let Some(selector) = self.selector.get().filter(|_| self.is_watched()) else { return Ok(()) };
        let arena = self.ring.arena();
        let wanted = self.peers()?;
        // Asked anew each time: who is dead stays unknown, and so keeps the descriptor readable, until `get` has told.
        let mut alive = Vec::with_capacity(wanted.len());
        for identity in wanted {
            if arena.is_identity_alive(identity)? {
                alive.push(identity);
            }
        }
        // A writer that was made and that nobody has used yet has no process, but may be lost on its way.
        let is_blind = self.ring.writer_counts().unused > 0;
        selector.rewatch(&alive, is_blind, &|identity| {
            let pid = arena.pid_of(identity)?;
            let ending = Ending::of(pid)?;
            // Asked with the process in hand: while it lives its number is no other's.
            arena.is_mapped_by(pid).then_some(ending)
        });
        self.settle_pipe();
        Ok(())
    }

    /// Whether a writer has asked for a frame that this member has in hand, and still waits for it.
    fn is_asked(&self) -> bool {
        let Mode::Group(group) = self.mode() else { return false };
        // RAW: a bit of it.
        Wish(self.words().pipe.load(SeqCst)).is_asked() && self.ring.who_holds_back(group) == Some(self.member())
    }

    /// Whether somebody is there whom the selector does not know, or a death is not told of yet.
    fn is_unsettled(&self, selector: &Selector) -> bool {
        if self.ring.is_closed() && !matches!(self.mode(), Mode::Group(_)) {
            return false;
        }
        let Ok(peers) = self.peers() else { return false };
        let watched = selector.watched();
        if peers.iter().any(|peer| !watched.known.contains(peer)) {
            return true;
        }
        drop(watched);
        if self.ring.is_to_settle() {
            return true;
        }
        // RAW: only compared with what it was.
        !self.ring.has_writers()
            && !self.ring.is_closed()
            && !self.was_told_of(self.ring.table.word(DEATHS).load(SeqCst))
    }

    /// The processes whose death concerns this reader, but for its own.
    fn peers(&self) -> Result<Vec<u64>> {
        let me = self.ring.arena().identity()?;
        let mut peers: Vec<u64> = self.ring.writing_identities().collect();
        if let Mode::Group(_) = self.mode() {
            // One that is gone is no news: what it had in hand is there again, and that is looked for by itself.
            let members = self.ring.readers_in_use().filter(|&index| self.ring.is_reader_live(index));
            let members = members.map(|index| self.ring.table.reader(index));
            // RAW: kinds, which are matched whatever they are, and names, which are looked up.
            let members = members.filter(|words| Mode::unpack(words.kind.load(SeqCst)) == self.mode());
            // RAW: names, which are looked up.
            peers.extend(members.map(|words| words.user.load(SeqCst)));
        }
        peers.retain(|&peer| peer != 0 && peer != me);
        peers.sort_unstable();
        peers.dedup();
        Ok(peers)
    }
}
