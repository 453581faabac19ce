//! How those who wait hear of news: a word of the head that counts events and that they sleep on, and for selectors a
//! byte in a pipe of their own. Who has no waiters makes no system call.

use super::protocol;
use super::state::Ring;
use super::table::WISHES;
use crate::arena::Deadline;
use crate::error::{Error, Result};
use crate::os::kill::{Point, point};
use crate::os::pipe::PipeId;
use crate::prim::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

/// {pid: 22, descriptor + 1: 24, how often it was emptied: 16, asked: 1, told: 1} of a pipe that wants a byte when a
/// frame is there, or when its reader is asked for one that it has in hand; 0: no pipe.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish(pub u64);

impl Wish {
    const TOLD: u64 = 1;
    const ASKED: u64 = 2;
    const DRAINS: u64 = 0xffff;

    pub(super) fn of(pid: u32, descriptor: i32) -> Option<Self> {
        let place = u64::try_from(descriptor).ok()? + 1;
        (pid < 1 << 22 && place < 1 << 24).then_some(Self(u64::from(pid) << 42 | place << 18))
    }

    pub(super) fn is_told(self) -> bool {
        self.0 & Self::TOLD != 0
    }

    pub(super) fn told(self) -> Self {
        Self(self.0 | Self::TOLD)
    }

    pub(super) fn is_asked(self) -> bool {
        self.0 & Self::ASKED != 0
    }

    fn asked(self) -> Self {
        Self(self.told().0 | Self::ASKED)
    }

    /// Neither told nor asked from now on.
    pub(super) fn drained(self) -> Self {
        let count = (self.0 >> 2).wrapping_add(1) & Self::DRAINS;
        if self.0 == 0 { self } else { Self(self.0 >> 18 << 18 | count << 2) }
    }

    /// How often it was emptied, where a wish has that.
    pub(super) fn count(self) -> u64 {
        self.0 & Self::DRAINS << 2
    }

    /// False: nobody could tell it, and it is to be told again.
    fn tell(self, id: PipeId) -> bool {
        crate::os::pipe::tell((self.0 >> 42) as u32, (self.0 >> 18 & 0xff_ffff) as i32 - 1, id)
    }
}

impl Ring {
    /// Counts an event up and wakes whoever sleeps on it.
    pub(super) fn announce(&self, index: usize) -> Result<()> {
        let was_awaited = protocol::announce(self.table.head.half_word(index)?);
        point(Point::RingEvent);
        if was_awaited { self.table.head.wake(index) } else { Ok(()) }
    }

    /// The same, but the word is left alone when nobody sleeps on it: others have it in their caches.
    #[inline]
    pub(super) fn announce_if_awaited(&self, index: usize) -> Result<()> {
        let is_awaited = protocol::is_awaited(self.table.head.half_word(index)?);
        point(Point::RingEvent);
        if is_awaited { self.announce(index) } else { Ok(()) }
    }

    /// Sleeps on an event until it counts up, unless `ready` says that there is something by now.
    pub(super) fn sleep(
        &self,
        index: usize,
        ready: impl Fn() -> bool,
        deadline: &Deadline,
        longest: Duration,
    ) -> Result<()> {
        let marked = protocol::mark(self.table.head.half_word(index)?, ready);
        point(Point::RingEvent);
        match marked {
            Some(marked) => self.table.head.nap_long_on(index, marked, deadline, longest),
            None => Ok(()),
        }
    }

    /// Tells readers that wait on a descriptor.
    pub(super) fn tell_pipes(&self) {
        self.readers_in_use().for_each(|index| self.tell_pipe(index, Wish::told));
    }

    /// The same, if anybody does.
    pub(super) fn tell_wishes(&self) {
        if self.table.word(WISHES).load(SeqCst) != 0 {
            self.tell_pipes();
        }
    }

    /// Asks a member for a frame that it has in hand, if it waits on a descriptor.
    pub(super) fn ask_pipe(&self, index: usize) {
        self.tell_pipe(index, Wish::asked);
    }

    fn tell_pipe(&self, index: usize, heard: fn(Wish) -> Wish) {
        let words = self.table.reader(index);
        // RAW: names, which the kernel is asked for; a byte goes only to the very pipe.
        let wish = Wish(words.pipe.load(SeqCst));
        if wish.0 == 0 || heard(wish).0 == wish.0 {
            return;
        }
        // RAW: compared with what the kernel says of the pipe.
        let id = PipeId { device: words.pipe_device.load(SeqCst), inode: words.pipe_inode.load(SeqCst) };
        // RAW: a name, which is looked up.
        // A program that has replaced the process is not the one that asked: its address space is another one.
        // Who cannot tell whether it lives leaves it its wish: nobody else would wake it again.
        if !self.arena().is_identity_alive(words.user.load(SeqCst)).unwrap_or(true) {
            let _ = words.pipe.compare_exchange(wish.0, 0, SeqCst, Relaxed);
            return point(Point::RingWished);
        }
        if !wish.tell(id) {
            return;
        }
        // After the byte, not before: a death in between costs one byte too many, not one too few.
        let _ = words.pipe.compare_exchange(wish.0, heard(wish).0, SeqCst, Relaxed);
        point(Point::RingWished);
    }
}

/// Asks whether the caller still waits. Its timeout is the error that `late` makes of how long it waited.
pub(super) fn go_on(deadline: &Deadline, late: impl FnOnce(Option<Duration>) -> Error) -> Result<()> {
    deadline.go_on("the ring").map_err(|error| match error {
        Error::Timeout(timeout) => late(timeout.waited),
        other => other,
    })
}
