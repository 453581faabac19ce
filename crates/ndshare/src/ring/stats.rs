//! What is told of a ring: counts, its readers and writers, and the processes that use them.
//!
//! A statistic is a word of `table`, which whoever changes it counts up, and a field here. Sums are made when somebody
//! asks.

use super::policy::Mode;
use super::state::Ring;
use super::table::{DROPPED, GROUPS, READERS, WRITERS, WRITERS_ENDED, WRITERS_LOST, WRITERS_MADE};
use crate::arena::{Arena, Deadline};
use crate::error::{self, Result};
use crate::prim::{Ordering::SeqCst, read};

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
    /// The process of a participant; none when nobody has that identity any more.
    fn of(arena: &Arena, identity: u64) -> Option<Self> {
        let pid = arena.pid_of(identity)?;
        Some(Self { pid, name: crate::os::process_name(pid).unwrap_or_default() })
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

impl Ring {
    /// A picture of the ring. Dead readers and writers are gone from it.
    ///
    /// # Errors
    /// `Poisoned`; `Timeout` at `deadline`.
    pub fn stats(&self, deadline: &Deadline) -> Result<Stats> {
        self.prune(deadline)?;
        self.settle_writers(deadline)?;
        let is_alive = |user: u64| self.arena().is_identity_alive(user);
        let written = self.written();
        let live = self.readers_in_use().filter(|&index| self.is_reader_live(index));
        let readers = live.map(|index| self.reader_stats(index, written, &is_alive));
        let readers = readers.collect::<Result<_>>()?;
        let writers = self.writer_stats(&is_alive)?;
        // RAW: a count, which is told.
        let dropped = self.table.word(DROPPED).load(SeqCst);
        Ok(Stats { written, dropped, closed: self.is_closed(), missed: self.missed(), readers, writers })
    }

    /// How many readers there are, the largest lag, and how many frames they look at. It never waits and makes no system
    /// call.
    #[doc(hidden)]
    pub fn glance(&self) -> (usize, u64, u64) {
        let written = self.written();
        let live = self.readers_in_use().filter(|&index| self.is_reader_live(index));
        live.fold((0, 0, 0), |(count, lag, held), index| {
            let (its_lag, _) = self.books_of(index, written);
            (count + 1, its_lag.max(lag), held.saturating_add(self.held_by(index, written)))
        })
    }

    /// What all readers missed, past and present.
    fn missed(&self) -> u64 {
        let readers = (0..READERS).map(|index| self.table.reader(index).missed);
        let groups = (0..GROUPS).map(|group| self.table.group(group).missed);
        // RAW: counts, which are summed up in a circle and told.
        readers.chain(groups).fold(0, |sum, word| sum.wrapping_add(word.load(SeqCst)))
    }

    /// Lag and missed frames of the reader at a slot.
    pub(super) fn books_of(&self, index: usize, written: u64) -> (u64, u64) {
        let words = self.table.reader(index);
        // RAW: a kind, which is matched whatever it is.
        let (cursor, missed) = match Mode::unpack(words.kind.load(SeqCst)) {
            Mode::Every | Mode::Latest => {
                // RAW: counts, of which the difference is told, if there is one.
                let before = words.missed_before.load(SeqCst);
                // RAW: as above.
                (words.cursor, words.missed.load(SeqCst).saturating_sub(before))
            }
            // RAW: a count, which is told.
            Mode::Group(group) => (self.table.group(group).cursor, self.table.group(group).missed.load(SeqCst)),
        };
        // RAW: only taken from what was written, and not below nothing.
        (written.saturating_sub(cursor.load(SeqCst)), missed)
    }

    /// How many frames a reader looks at: not more than there were.
    fn held_by(&self, index: usize, written: u64) -> u64 {
        read(self.table.reader(index).held, SeqCst).capped(written)
    }

    pub(super) fn reader_stats(
        &self,
        index: usize,
        written: u64,
        is_alive: &dyn Fn(u64) -> Result<bool>,
    ) -> Result<ReaderStats> {
        let words = self.table.reader(index);
        let (lag, missed) = self.books_of(index, written);
        // RAW: a kind, which is matched whatever it is, and a name, which is looked up.
        let (mode, user) = (Mode::unpack(words.kind.load(SeqCst)), words.user.load(SeqCst));
        let group = if let Mode::Group(group) = mode { Some(self.group_name(group)) } else { None };
        let (held, alive) = (self.held_by(index, written), user == 0 || is_alive(user)?);
        Ok(ReaderStats { lag, missed, held, alive, mode, group, user: Process::of(self.arena(), user) })
    }

    /// The writers that there are, as one look sees them.
    fn writer_stats(&self, is_alive: &dyn Fn(u64) -> Result<bool>) -> Result<Vec<WriterStats>> {
        let live = (0..WRITERS).map(|index| self.table.writer(index)).filter(|words| words.look().writes());
        let stats = live.map(|words| {
            // RAW: a name, which is looked up.
            let user = words.user.load(SeqCst);
            let written = read(words.written, SeqCst).capped(self.written());
            Ok(WriterStats { user: Process::of(self.arena(), user), written, alive: user == 0 || is_alive(user)? })
        });
        stats.collect()
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
