//! A reader's descriptor for selectors: one epoll set that is readable while `get` has something to give or to say.
//!
//! In the set are a pipe, into which whoever publishes a frame, closes the ring or begins to write puts a byte; and the
//! processes whose death somebody must notice: the writers, and the other members of a group. Nothing of ours runs
//! meanwhile. Where a process can't be watched (a kernel or a rule without pidfds, no descriptor left, another pid
//! namespace) a timer takes its place; then the descriptor is readable for nothing four times a second.
//!
//! The set is put in order by whoever looks and finds nothing. A look that is attached to an interpreter only compares
//! who is there with whom it knows; if they differ, the pipe keeps its byte, and the next `get` does the rest.

use super::Ring;
use super::read::{Mode, Reader};
use super::table::{DEATHS, READERS, WISHES};
use crate::error::{Error, Kind, Result};
use crate::os::kill::{Point, point};
use crate::os::pipe::{Pipe, PipeId};
use crate::os::watch::{Ending, Ticks, Watch};
use crate::prim::Ordering::{Relaxed, SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often a process is looked at that can't be watched.
const TICK: Duration = Duration::from_millis(250);

/// What selectors wait on.
#[derive(Debug)]
pub(super) struct Selector {
    pipe: Pipe,
    /// For processes that can't be watched; made beforehand, because descriptors may be what is missing then.
    ticks: Ticks,
    watch: Watch,
    watched: Mutex<Watched>,
}

/// The processes that were there at the last look, at most as many as a ring has writers and readers.
#[derive(Debug, Default)]
struct Watched {
    known: Vec<u64>,
    /// Those of them that the kernel tells of.
    endings: Vec<(u64, Ending)>,
}

impl Selector {
    fn new() -> Option<Self> {
        let pipe = Pipe::new()?;
        let ticks = Ticks::new()?;
        let watch = Watch::new(&pipe, &ticks)?;
        Some(Self { pipe, ticks, watch, watched: Mutex::default() })
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        // No Python and no wait for a shared lock happens under it.
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches these processes and no others. `pid` says who they are, if this process can tell. `is_blind`: there is
    /// somebody else whose death the kernel does not tell of.
    fn rewatch(&self, wanted: &[u64], mut is_blind: bool, pid: &dyn Fn(u64) -> Option<u32>) {
        let mut watched = self.watched();
        let (keep, go): (Vec<_>, Vec<_>) = std::mem::take(&mut watched.endings)
            .into_iter()
            .partition(|(identity, ending)| wanted.contains(identity) && !ending.has_ended());
        go.iter().for_each(|(_, ending)| self.watch.remove_ending(ending));
        watched.endings = keep;
        for &identity in wanted {
            if watched.endings.iter().any(|(known, _)| *known == identity) {
                continue;
            }
            // One that has ended by now and is still taken for alive is about to go: the timer sees to it.
            let ending = pid(identity).and_then(Ending::of).filter(|ending| !ending.has_ended());
            match ending.filter(|ending| self.watch.add_ending(ending)) {
                Some(ending) => watched.endings.push((identity, ending)),
                None => is_blind = true,
            }
        }
        self.ticks.set(if is_blind { TICK } else { Duration::ZERO });
        watched.known = wanted.to_vec();
    }
}

/// {pid: 22, descriptor + 1: 24, how often it was emptied: 17, told: 1} of a pipe that wants a byte when a frame is
/// there; 0: no pipe.
#[derive(Clone, Copy)]
struct Wish(u64);

impl Wish {
    const DRAINS: u64 = (1 << 17) - 1;

    fn of(pid: u32, descriptor: i32) -> Option<Self> {
        let place = u64::try_from(descriptor).ok()? + 1;
        (pid < 1 << 22 && place < 1 << 24).then_some(Self(u64::from(pid) << 42 | place << 18))
    }

    fn is_told(self) -> bool {
        self.0 & 1 == 1
    }

    fn told(self) -> Self {
        Self(self.0 | 1)
    }

    fn drained(self) -> Self {
        let count = (self.0 >> 1).wrapping_add(1) & Self::DRAINS;
        if self.0 == 0 { self } else { Self(self.0 & !(Self::DRAINS << 1 | 1) | count << 1) }
    }

    fn tell(self, id: PipeId) {
        crate::os::pipe::tell((self.0 >> 42) as u32, (self.0 >> 18 & 0xff_ffff) as i32 - 1, id);
    }
}

impl Reader {
    /// A descriptor that is readable while there is something to get: a frame, the end, or the death of the last writer.
    /// Now and then it is readable for nothing; a look that finds nothing puts that right. The descriptor is the
    /// reader's own.
    ///
    /// # Errors
    /// `Misuse` when another process uses this reader; `Os` when there is no descriptor to be had.
    pub fn descriptor(&self) -> Result<i32> {
        self.own()?;
        let none = || Error::new(Kind::Os, "expected four free descriptors for a selector, got none: close some");
        if self.selector.get().is_none() {
            let _ = self.selector.set(Selector::new().ok_or_else(none)?);
        }
        let selector = self.selector.get().ok_or_else(none)?;
        let wish = Wish::of(std::process::id(), selector.pipe.others_descriptor()).ok_or_else(none)?;
        let words = self.words();
        if words.pipe.load(SeqCst) == 0 {
            // Before the wish: who sees that sees which pipe it is.
            words.pipe_device.store(selector.pipe.id().device, SeqCst);
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
        self.settle_whole()?;
        Ok(selector.watch.descriptor())
    }

    /// Empties the pipe when there is nothing to get, and fills it when there is. It waits for nobody.
    #[cold]
    pub(super) fn settle_pipe(&self) {
        let (Some(selector), word) = (self.selector.get(), self.words().pipe) else { return };
        let is_awake = || self.has_news() || self.is_unsettled(selector) || self.check_place().is_err();
        if !is_awake() {
            selector.pipe.drain();
            // From here on writers tell again; one that was just telling finds another word than it saw.
            let _ = word.fetch_update(SeqCst, SeqCst, |bits| Some(Wish(bits).drained().0));
        }
        // RAW: two bits of it are looked at, and it is compared.
        let wish = Wish(word.load(SeqCst));
        // Looked at again, because writers kept quiet until now.
        if !wish.is_told() && is_awake() {
            selector.pipe.fill();
            let _ = word.compare_exchange(wish.0, wish.told().0, SeqCst, Relaxed);
        }
    }

    /// The same, and watches those who are there now. It makes system calls.
    ///
    /// # Errors
    /// `Poisoned`; `Attach` in a process without a slot.
    pub(super) fn settle_whole(&self) -> Result<()> {
        let Some(selector) = self.selector.get() else { return Ok(()) };
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
        selector.rewatch(&alive, is_blind, &|identity| arena.pid_of(identity).filter(|&pid| arena.is_mapped_by(pid)));
        self.settle_pipe();
        Ok(())
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
            let members = self.ring.readers_in_use().map(|index| self.ring.table.reader(index));
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

impl Ring {
    /// Tells readers that wait on a descriptor.
    pub(super) fn tell_pipes(&self) {
        for index in self.readers_in_use().filter(|&index| index < READERS) {
            let words = self.table.reader(index);
            // RAW: names, which the kernel is asked for; a byte goes only to the very pipe.
            let wish = Wish(words.pipe.load(SeqCst));
            if wish.0 == 0 || wish.is_told() {
                continue;
            }
            // RAW: compared with what the kernel says of the pipe.
            let id = PipeId { device: words.pipe_device.load(SeqCst), inode: words.pipe_inode.load(SeqCst) };
            // RAW: a name, which is looked up.
            // A program that has replaced the process is not the one that asked: its address space is another one.
            if !self.arena().is_identity_alive(words.user.load(SeqCst)).unwrap_or(false) {
                let _ = words.pipe.compare_exchange(wish.0, 0, SeqCst, Relaxed);
                continue;
            }
            wish.tell(id);
            // After the byte, not before: a death in between costs one byte too many, not one too few.
            let _ = words.pipe.compare_exchange(wish.0, wish.told().0, SeqCst, Relaxed);
        }
    }

    /// The same, if anybody does.
    pub(super) fn tell_wishes(&self) {
        if self.table.word(WISHES).load(SeqCst) != 0 {
            self.tell_pipes();
        }
    }
}
