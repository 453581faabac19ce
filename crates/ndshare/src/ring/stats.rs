//! What is told of a ring: counts, its readers and writers, and the processes that use them.
//!
//! A statistic is a word of `table`, which whoever changes it counts up, and a field here. Sums are made when somebody
//! asks.

use super::policy::Mode;
use super::protocol;
use super::state::Ring;
use super::table::{
    CLOSED, DROPPED, GROUPS, LOST, NAME_BYTES, READERS, Table, WRITERS, WRITERS_ENDED, WRITERS_LOST, WRITERS_MADE,
};
use crate::arena::{AnyBlock, BlockId, Deadline, is_worth_a_look};
use crate::error::{self, Result};
use crate::os::kill::{Point, point};
use crate::prim::{Ordering::SeqCst, load_bytes, read};
use std::time::Duration;

/// How many processes an error names.
const NAMED: usize = 3;

/// A picture of a ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// Frames published since the ring was made.
    pub written: u64,
    /// Frames dropped by `DropNewest`.
    pub dropped: u64,
    /// Whether it was closed.
    pub closed: bool,
    /// Frames that readers never got because they were lapped, of those that are gone, too. What a group missed counts
    /// once.
    pub missed: u64,
    /// Frames that were lost before they came into this ring, on their way from another machine.
    pub lost: u64,
    /// Its readers.
    pub readers: Vec<ReaderStats>,
    /// Its writers.
    pub writers: Vec<WriterStats>,
}

/// A process as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its process id.
    pub pid: u32,
    /// What the system calls it; empty when it is gone.
    pub name: String,
}

impl Process {
    fn of(pid: u32) -> Self {
        Self { pid, name: crate::os::process_name(pid).unwrap_or_default() }
    }
}

impl From<Process> for error::Process {
    fn from(Process { pid, name }: Process) -> Self {
        Self { pid, name, is_stopped: false }
    }
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} ({})", self.pid, self.name)
    }
}

/// One writer of a ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriterStats {
    /// The process that uses it; none while nobody has.
    pub user: Option<Process>,
    /// Frames that it published.
    pub written: u64,
    /// Whether its process lives.
    pub alive: bool,
}

/// One reader of a ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderStats {
    /// Published frames that it has not taken yet.
    pub lag: u64,
    /// Frames that it never got, because it was lapped.
    pub missed: u64,
    /// Frames that it handed out and that still live.
    pub held: u64,
    /// Whether its process lives.
    pub alive: bool,
    /// Which frames it gets.
    pub mode: Mode,
    /// The name of its group.
    pub group: Option<String>,
    /// The process that uses it; none while nobody has.
    pub user: Option<Process>,
}

impl std::fmt::Display for ReaderStats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.mode, &self.group) {
            (Mode::Every, _) => write!(f, "a reader of every frame")?,
            (Mode::Latest, _) => write!(f, "a reader of the latest frame")?,
            (Mode::Group(_), group) => write!(f, "a reader of group {:?}", group.as_deref().unwrap_or(""))?,
        }
        match &self.user {
            Some(process) => write!(f, " in {process}")?,
            None => write!(f, " that no process has used yet")?,
        }
        write!(f, ", lag {}", self.lag)
    }
}

/// How many writers a ring has and had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriterCounts {
    /// Made ones, over the ring's life.
    pub made: u64,
    /// Made ones that were closed, or whose process ended in order.
    pub ended: u64,
    /// Made ones that died.
    pub lost: u64,
    /// Made ones that nobody has used yet.
    pub unused: u64,
    /// Those that a process has now, and processes that write through the ring itself.
    pub writing: u64,
}

impl std::fmt::Display for WriterCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { made, ended, lost, unused, writing } = *self;
        match (writing, unused) {
            (0, 0) => write!(f, "no writer is there")?,
            (1, 0) => write!(f, "one writer is there")?,
            (_, 0) => write!(f, "{writing} writers are there")?,
            _ => write!(f, "{writing} writers are there, and {unused} that no process has used yet")?,
        }
        if made > 0 {
            write!(f, " (of {made} that were made, {ended} were closed and {lost} died)")?;
        }
        Ok(())
    }
}

/// Who is who in a ring's arena, as whoever tells of the ring knows it.
pub(super) struct Who<'a> {
    /// The process id of an identity; none when nobody has it any more.
    pub pid_of: &'a dyn Fn(u64) -> Option<u32>,
    /// Whether an identity lives.
    pub is_alive: &'a dyn Fn(u64) -> Result<bool>,
    /// Whether a block lives.
    pub is_live: &'a dyn Fn(BlockId) -> bool,
}

impl Who<'_> {
    fn process(&self, identity: u64) -> Option<Process> {
        (self.pid_of)(identity).map(Process::of)
    }

    /// Whether a user lives, or nobody has come yet.
    fn may_come(&self, user: u64) -> Result<bool> {
        if user == 0 { Ok(true) } else { (self.is_alive)(user) }
    }
}

impl<B: AnyBlock> Table<B> {
    /// A picture of the ring, as its words are now.
    pub(super) fn stats(&self, who: &Who<'_>) -> Result<Stats> {
        let written = self.written();
        let live = self.readers_in_use().filter(|&index| self.is_reader_live(index, who.is_live));
        let readers = live.map(|index| self.reader_stats(index, written, who));
        let readers = readers.collect::<Result<_>>()?;
        let writers = self.writer_stats(who)?;
        // RAW: counts, which are told.
        let [dropped, lost] = [DROPPED, LOST].map(|index| self.word(index).load(SeqCst));
        let closed = self.word(CLOSED).load(SeqCst) != 0;
        Ok(Stats { written, dropped, closed, missed: self.missed(), lost, readers, writers })
    }

    /// Whether there is a reader at a slot.
    #[inline]
    pub(super) fn is_reader_live(&self, index: usize, is_live: impl Fn(BlockId) -> bool) -> bool {
        // RAW: a name, which is looked up.
        BlockId::from_word(self.reader(index).token.load(SeqCst)).is_some_and(is_live)
    }

    /// What all readers missed, past and present.
    fn missed(&self) -> u64 {
        let readers = (0..READERS).map(|index| self.reader(index).missed);
        let groups = (0..GROUPS).map(|group| self.group(group).missed);
        // RAW: counts, which are summed up in a circle and told.
        readers.chain(groups).fold(0, |sum, word| sum.wrapping_add(word.load(SeqCst)))
    }

    /// The next number that the reader of this mode at a slot wants, or its group.
    #[inline]
    pub(super) fn place_of(&self, index: usize, mode: Mode) -> u64 {
        match mode {
            // Who has no lock may read the mode of the slot's next reader beside the cursor of the one before.
            // RAW: a bound only together with the head, and compared with it by who asks.
            Mode::Every | Mode::Latest => protocol::place(self.reader(index).cursor.load(SeqCst)),
            // RAW: as above.
            Mode::Group(group) => self.group(group).cursor.load(SeqCst),
        }
    }

    /// Lag and missed frames of the reader at a slot.
    pub(super) fn books_of(&self, index: usize, written: u64) -> (u64, u64) {
        let words = self.reader(index);
        // RAW: a kind, which is matched whatever it is.
        let mode = Mode::unpack(words.kind.load(SeqCst));
        let missed = match mode {
            Mode::Every | Mode::Latest => {
                // RAW: counts, of which the difference is told, if there is one.
                let before = words.missed_before.load(SeqCst);
                // RAW: as above.
                words.missed.load(SeqCst).saturating_sub(before)
            }
            // RAW: a count, which is told.
            Mode::Group(group) => self.group(group).missed.load(SeqCst),
        };
        // RAW: only taken from what was written, and not below nothing.
        (written.saturating_sub(self.place_of(index, mode)), missed)
    }

    /// How many frames a reader looks at: not more than there were.
    pub(super) fn held_by(&self, index: usize, written: u64) -> u64 {
        read(self.reader(index).held, SeqCst).capped(written)
    }

    /// The name of a group, cut to what fits.
    fn group_name(&self, index: usize) -> String {
        let bytes = load_bytes(self.group(index).text, NAME_BYTES);
        String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
    }

    pub(super) fn reader_stats(&self, index: usize, written: u64, who: &Who<'_>) -> Result<ReaderStats> {
        let words = self.reader(index);
        let (lag, missed) = self.books_of(index, written);
        // RAW: a kind, which is matched whatever it is, and a name, which is looked up.
        let (mode, user) = (Mode::unpack(words.kind.load(SeqCst)), words.user.load(SeqCst));
        let group = if let Mode::Group(group) = mode { Some(self.group_name(group)) } else { None };
        let (held, alive) = (self.held_by(index, written), who.may_come(user)?);
        Ok(ReaderStats { lag, missed, held, alive, mode, group, user: who.process(user) })
    }

    /// The writers that there are, as one look sees them.
    fn writer_stats(&self, who: &Who<'_>) -> Result<Vec<WriterStats>> {
        let live = (0..WRITERS).map(|index| self.writer(index)).filter(|words| words.look().writes());
        let stats = live.map(|words| {
            // RAW: a name, which is looked up.
            let user = words.user.load(SeqCst);
            let written = read(words.written, SeqCst).capped(self.written());
            Ok(WriterStats { user: who.process(user), written, alive: who.may_come(user)? })
        });
        stats.collect()
    }
}

impl Ring {
    /// A picture of the ring. Dead readers and writers are gone from it.
    ///
    /// # Errors
    /// `Poisoned`; `Timeout` at `deadline`.
    pub fn stats(&self, deadline: &Deadline) -> Result<Stats> {
        self.prune(deadline)?;
        self.settle_writers(deadline)?;
        self.with_who(|who| self.table.stats(who))
    }

    /// Counts frames that were lost before they came into this ring: what brings them from another machine knows.
    ///
    /// # Errors
    /// `ReadOnly` where this process may only read.
    pub fn count_lost(&self, frames: u64) -> Result<()> {
        self.check_writable()?;
        self.table.word(LOST).fetch_add(frames, SeqCst);
        point(Point::RingMoved);
        Ok(())
    }

    /// What `tell` makes of the ring, where identities are asked about in its arena.
    pub(super) fn with_who<T>(&self, tell: impl FnOnce(&Who<'_>) -> T) -> T {
        let arena = self.arena();
        tell(&Who {
            pid_of: &|user| arena.pid_of(user),
            is_alive: &|user| arena.is_identity_alive(user),
            is_live: &|block| arena.is_live(block),
        })
    }

    /// How many readers there are, the largest lag, and how many frames they look at. It never waits and makes no system
    /// call.
    #[doc(hidden)]
    pub fn glance(&self) -> (usize, u64, u64) {
        let written = self.written();
        let live = self.readers_in_use().filter(|&index| self.is_reader_live(index));
        live.fold((0, 0, 0), |(count, lag, held), index| {
            let (its_lag, _) = self.table.books_of(index, written);
            (count + 1, its_lag.max(lag), held.saturating_add(self.table.held_by(index, written)))
        })
    }

    /// The processes that write, for the error of somebody who has waited so long for a frame; at most a few. Empty where none
    /// does, and where the wait was too short for a look.
    #[cold]
    pub(super) fn writers_in_words(&self, waited: Option<Duration>) -> String {
        if !is_worth_a_look(waited) {
            return String::new();
        }
        let mut pids: Vec<u32> = self.writing_identities().filter_map(|user| self.arena().pid_of(user)).collect();
        pids.sort_unstable();
        pids.dedup();
        let more = if pids.len() > NAMED { format!(" and {} more", pids.len() - NAMED) } else { String::new() };
        let those: Vec<String> = pids.iter().take(NAMED).map(|&pid| error::Process::of(pid).to_string()).collect();
        if those.is_empty() { String::new() } else { format!(", in {}{more}", those.join(", ")) }
    }

    /// How many writers there are and were.
    pub fn writer_counts(&self) -> WriterCounts {
        // RAW: counts, which are told.
        let count = |index| self.table.word(index).load(SeqCst);
        let (made, ended, lost) = (count(WRITERS_MADE), count(WRITERS_ENDED), count(WRITERS_LOST));
        let mut counts = WriterCounts { made, ended, lost, ..WriterCounts::default() };
        for words in (0..WRITERS).map(|index| self.table.writer(index)) {
            let is_used = words.user.load(SeqCst) != 0;
            counts.writing += u64::from(words.look().writes() && is_used);
            counts.unused += u64::from(words.look().writes() && !is_used);
        }
        counts
    }
}
