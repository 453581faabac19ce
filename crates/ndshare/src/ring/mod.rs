//! A ring: frames from any number of writers to any number of readers, in one order.
//!
//! A frame is a block of the arena. The ring's head keeps it by a record; a writer and each reader that looks at it
//! hold it like any array. Published frames wait in the window, from the least cursor of the readers on; a frame that
//! all have consumed is the next to be written again, so that a few frames stay in the processor's cache. A frame
//! that somebody still looks at is never written: the ring takes another block for its place.
//!
//! Writers go through the head's lock, a few dozen nanoseconds a frame. Readers take no lock: they read an entry
//! and take a hold. A reader lives as long as its token, a small block that its process holds or that is on its way to
//! another one; so a reader that is dropped or killed holds the ring back no longer.
//!
//! `table`: where each word lies. `protocol`: the steps that several processes take at once. `write`, `read`: the two
//! sides. Waiting: a spin, then a futex.

mod format;
mod protocol;
mod read;
mod selector;
mod sizes;
mod table;
mod write;
mod writers;

#[cfg(all(test, not(loom)))]
mod scribble;
#[cfg(all(test, not(loom)))]
mod tests;

pub use format::{Format, MOST_NAME_BYTES};
pub use read::{Frame, Mode, Reader, Start};
pub use table::{GROUPS, Geometry, READERS, VIEW_BYTES, WRITERS};
pub use write::{Content, Writing};
pub use writers::{Writer, WriterCounts};

use crate::arena::{Arena, BlockId, Hold, Patience, TicketId};
use crate::array::Token;
use crate::error::{Error, Kind, Result};
use crate::lock::Entered;
use crate::os::kill::{Point, point};
use crate::prim::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
    read,
};
use crate::session;
use protocol::BUSY;
use std::sync::Arc;
use std::time::Duration;
use table::{CLOSED, DROPPED, EVENT, GROUPS_IN_USE, HEAD, NEVER, POLICY, READERS_IN_USE, SPACE, Table, UNTIDY, WISHES};

/// What a writer does when the window is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// It waits for the slowest reader.
    Wait,
    /// The slowest readers lose their oldest frame.
    DropOldest,
    /// The new frame is dropped, and counted.
    DropNewest,
}

/// More frames than a ring ever has.
const MOST_WRITTEN: u64 = u64::MAX >> 2;

/// A ring, as one process has it.
#[derive(Debug)]
pub struct Ring {
    table: Table,
    format: Format,
    when_full: WhenFull,
    spin_ns: AtomicU64,
    /// Where this process writes through the ring itself, one more than its place; a hint.
    own_writer: AtomicU64,
}

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

impl Ring {
    /// A new ring of `slots` frames of this format in `arena`, of which `keep` stay whatever readers do.
    ///
    /// ```
    /// use ndshare::arena::{Arena, Options, Patience};
    /// use ndshare::element::Number;
    /// use ndshare::ring::{Content, Format, Mode, Ring, Start, WhenFull};
    ///
    /// # fn main() -> ndshare::Result<()> {
    /// let (arena, forever) = (Arena::create(&Options { budget_bytes: Some(1 << 24), ..Options::default() })?, Patience::forever());
    /// let ring = Ring::new(&arena, Format::new(&[4, 6], Number::U16), 8, 0, WhenFull::Wait, &forever)?;
    /// let reader = ring.reader(Mode::Every, Start::Next, &forever)?;
    /// let frame = ring.begin_own(&forever)?;
    /// frame.array()?.fill(7_u16)?;
    /// frame.publish(Content::default(), &forever)?;
    /// assert_eq!(reader.get(&forever)?.array()?.to_vec::<u16>()?, [7; 24]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `InvalidValue` for a format, slots or frames to keep that cannot be; `ArenaFull`; what `patience` says.
    pub fn new(
        arena: &Arc<Arena>,
        format: Format,
        slots: usize,
        keep: usize,
        when_full: WhenFull,
        patience: &Patience,
    ) -> Result<Arc<Self>> {
        let geometry = Geometry::new(slots, format.frame_bytes()?, format.meta_bytes())?.keeping(keep)?;
        Self::of_sizes(arena, geometry, format, when_full, patience)
    }

    /// A new ring of frames of which nothing is said but their size.
    ///
    /// # Errors
    /// `ArenaFull`; what `patience` says.
    #[cfg(test)]
    pub(crate) fn create(
        arena: &Arc<Arena>,
        geometry: Geometry,
        when_full: WhenFull,
        patience: &Patience,
    ) -> Result<Arc<Self>> {
        let meta = (geometry.meta_bytes > 0).then_some(crate::element::Element::Void(geometry.meta_bytes));
        Self::of_sizes(arena, geometry, Format { meta, ..Format::default() }, when_full, patience)
    }

    fn of_sizes(
        arena: &Arc<Arena>,
        geometry: Geometry,
        format: Format,
        when_full: WhenFull,
        patience: &Patience,
    ) -> Result<Arc<Self>> {
        let bytes = format.encode()?;
        let head = arena.alloc(geometry.head_bytes() + bytes.len().next_multiple_of(8), 64, true, patience)?;
        let table = Table::format(head, geometry, &bytes);
        table.word(POLICY).store(when_full as u64, SeqCst);
        Ok(Self::over(table, format, when_full))
    }

    /// The ring whose head this is.
    ///
    /// # Errors
    /// `InvalidValue` when the block is no head of a ring, or one of another version.
    pub fn open(head: Hold) -> Result<Arc<Self>> {
        let table = Table::open(head)?;
        // RAW: matched.
        let when_full = match table.word(POLICY).load(SeqCst) {
            0 => WhenFull::Wait,
            1 => WhenFull::DropOldest,
            2 => WhenFull::DropNewest,
            other => return Err(Error::value(format!("expected a policy of a ring, got {other}"))),
        };
        let format = table.read_format()?;
        Ok(Self::over(table, format, when_full))
    }

    /// A reference to the ring for other processes, of this session or not; as text it goes on a command line. It opens
    /// while anybody has the ring.
    pub fn reference(&self) -> Token {
        session::reference_to(self.head())
    }

    /// The ring that such a reference names.
    ///
    /// # Errors
    /// As [`session::open`] and [`Self::open`].
    pub fn open_reference(reference: &Token, patience: &Patience) -> Result<Arc<Self>> {
        Self::open(session::claim(reference, patience)?)
    }

    fn over(table: Table, format: Format, when_full: WhenFull) -> Arc<Self> {
        let [spin_ns, own_writer] = [default_spin_ns(), 0].map(AtomicU64::new);
        let ring = Self { table, format, when_full, spin_ns, own_writer };
        if let Some(spin) = ring.format.spin_s.and_then(|spin_s| Duration::try_from_secs_f64(spin_s).ok()) {
            ring.set_spin(spin);
        }
        Arc::new(ring)
    }

    /// What its frames are, as its head says.
    pub fn format(&self) -> &Format {
        &self.format
    }

    /// How long readers of this object look without giving the processor up, before they sleep. By default 20 µs
    /// where there are two processors or more, else not at all.
    pub fn set_spin(&self, spin: Duration) {
        self.spin_ns.store(u64::try_from(spin.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    fn spin_time(&self) -> Duration {
        // RAW: a word of this process alone.
        Duration::from_nanos(self.spin_ns.load(Relaxed))
    }

    /// The block that names the ring.
    pub fn head(&self) -> &Hold {
        &self.table.head
    }

    /// Its sizes.
    pub fn geometry(&self) -> &Geometry {
        &self.table.geometry
    }

    /// What its writers do when it is full.
    pub fn when_full(&self) -> WhenFull {
        self.when_full
    }

    fn arena(&self) -> &Arc<Arena> {
        self.table.head.arena()
    }

    /// How many frames have been published.
    #[inline]
    pub fn written(&self) -> u64 {
        // A ring that publishes a frame each nanosecond comes to this in a hundred years; so sums with it fit.
        read(self.table.word(HEAD), SeqCst).capped(MOST_WRITTEN)
    }

    /// Whether it was closed.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.table.word(CLOSED).load(SeqCst) != 0
    }

    /// Ends the stream: writers get `Closed`, readers too once they have drained it.
    ///
    /// # Errors
    /// `Poisoned`; what `patience` says.
    pub fn close(&self, patience: &Patience) -> Result<()> {
        self.locked(patience, || {
            self.table.word(CLOSED).store(1, SeqCst);
            Ok(())
        })?;
        self.announce(EVENT)?;
        self.announce(SPACE)?;
        self.tell_pipes();
        Ok(())
    }

    /// A picture of the ring. Dead readers and writers are gone from it.
    ///
    /// # Errors
    /// `Poisoned`; what `patience` says.
    pub fn stats(&self, patience: &Patience) -> Result<Stats> {
        self.prune(patience)?;
        self.settle_writers(patience)?;
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
        let groups = (0..table::GROUPS).map(|group| self.table.group(group).missed);
        // RAW: counts, which are summed up in a circle and told.
        readers.chain(groups).fold(0, |sum, word| sum.wrapping_add(word.load(SeqCst)))
    }

    /// Lag and missed frames of the reader at a place.
    fn books_of(&self, index: usize, written: u64) -> (u64, u64) {
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

    fn reader_stats(&self, index: usize, written: u64, is_alive: &dyn Fn(u64) -> Result<bool>) -> Result<ReaderStats> {
        let words = self.table.reader(index);
        let (lag, missed) = self.books_of(index, written);
        // RAW: a kind, which is matched whatever it is, and a name, which is looked up.
        let (mode, user) = (Mode::unpack(words.kind.load(SeqCst)), words.user.load(SeqCst));
        let group = if let Mode::Group(group) = mode { Some(self.group_name(group)) } else { None };
        let (held, alive) = (self.held_by(index, written), user == 0 || is_alive(user)?);
        Ok(ReaderStats { lag, missed, held, alive, mode, group, user: Process::of(self.arena(), user) })
    }

    // ---- the lock, and what a death under it leaves

    /// Runs `work` under the head's lock, after putting things in order if an owner of it died.
    fn locked<T>(&self, patience: &Patience, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let (lock, dirty) = Entered::enter(&self.table.head, patience)?;
        if dirty || self.table.word(UNTIDY).load(Relaxed) != 0 {
            self.recover(patience)?;
        }
        let outcome = work();
        lock.leave()?;
        outcome
    }

    /// As [`Self::locked`] if the lock is free, clean and nobody waits for it; else none. It never waits.
    fn locked_quick<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
        let Some(lock) = Entered::enter_quick(&self.table.head)? else { return Ok(None) };
        let outcome = work();
        lock.leave()?;
        outcome.map(Some)
    }

    /// Puts the head in order after a death under its lock. Idempotent.
    fn recover(&self, patience: &Patience) -> Result<()> {
        let head = self.written();
        // A publication counts from the moment its entry bears its number.
        if self.table.entry(head).seq.load(SeqCst) == head {
            self.table.word(HEAD).store(head + 1, SeqCst);
        }
        let head = self.written();
        for index in 0..self.table.geometry.frames {
            let last = self.table.frame(index).last;
            // RAW: only compared.
            let number = last.load(SeqCst);
            if number >= head && number != BUSY {
                last.store(NEVER, SeqCst);
            }
        }
        self.reconcile_records(patience)?;
        self.table.word(UNTIDY).store(0, Relaxed);
        point(Point::RingReplaced);
        let live = (0..READERS).filter(|&index| self.is_reader_live(index)).fold(0, |bits, index| bits | 1 << index);
        self.table.word(READERS_IN_USE).store(live, SeqCst);
        self.announce(EVENT)?;
        self.announce(SPACE)
    }

    /// Ends the records of blocks that no frame names: their adoption died half-way.
    fn reconcile_records(&self, patience: &Patience) -> Result<()> {
        let named: Vec<u64> =
            // RAW: names, which are compared.
            (0..self.table.geometry.frames).map(|index| self.table.frame(index).nonce.load(SeqCst)).collect();
        for (record, _) in self.table.head.children()? {
            if !named.contains(&record.nonce) {
                self.table.head.disown(record, patience)?;
            }
        }
        Ok(())
    }

    /// Ends a record that no frame names any more, under the lock; the block it kept is to be freed then. A wait that is
    /// cut short, because who has the arena lock was stopped, leaves the record to who has the ring's lock next.
    fn end_record(&self, record: TicketId, patience: &Patience) -> Result<Option<u32>> {
        match self.table.head.end_record(record, patience) {
            Err(error) if matches!(error.kind(), Kind::Timeout | Kind::Interrupted) => {
                self.table.word(UNTIDY).store(1, Relaxed);
                point(Point::RingReplaced);
                Ok(None)
            }
            outcome => outcome,
        }
    }

    // ---- readers, as writers see them

    #[inline]
    fn readers_in_use(&self) -> impl Iterator<Item = usize> + use<> {
        // RAW: any bits are places of readers.
        let mut bits = self.table.word(READERS_IN_USE).load(SeqCst);
        std::iter::from_fn(move || {
            let index = bits.trailing_zeros() as usize;
            // The lowest bit goes; there are as many as a word has.
            bits &= bits.wrapping_sub(1);
            (index < READERS).then_some(index)
        })
    }

    #[inline]
    fn is_reader_live(&self, index: usize) -> bool {
        // RAW: a name, which is looked up.
        BlockId::from_word(self.table.reader(index).token.load(SeqCst)).is_some_and(|token| self.arena().is_live(token))
    }

    /// The cursor that holds back the ring for a reader; none for one that only wants the newest.
    fn cursor_of(&self, index: usize) -> Option<&AtomicU64> {
        // RAW: a kind, which is matched whatever it is.
        match Mode::unpack(self.table.reader(index).kind.load(SeqCst)) {
            Mode::Every => Some(self.table.reader(index).cursor),
            Mode::Latest => None,
            Mode::Group(group) => Some(self.table.group(group).cursor),
        }
    }

    /// The oldest number that some reader has not taken yet; none when nobody holds the ring back.
    fn least_cursor(&self) -> Option<u64> {
        let live = self.readers_in_use().filter(|&index| self.is_reader_live(index));
        // RAW: a bound only together with the head: see `floors` and `is_full`.
        live.filter_map(|index| self.cursor_of(index)).map(|cursor| cursor.load(SeqCst)).min()
    }

    /// Which frames are not written again, when `least` is the least cursor.
    fn floors(&self, least: Option<u64>) -> Floors {
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

    /// Groups that had a member.
    #[inline]
    fn groups_in_use(&self) -> impl Iterator<Item = usize> + use<> {
        // RAW: as many bits as there are groups are looked at.
        let bits = self.table.word(GROUPS_IN_USE).load(SeqCst);
        (0..if bits == 0 { 0 } else { table::GROUPS }).filter(move |group| bits >> group & 1 == 1)
    }

    /// Frames from here on are wanted, or are the window that stays for a reader to come.
    fn wished_floor(&self) -> u64 {
        self.floors(self.least_cursor()).wished
    }

    /// How many published frames wait for the slowest reader.
    pub fn waiting(&self) -> u64 {
        self.least_cursor().map_or(0, |least| self.written().saturating_sub(least))
    }

    /// Whether the reader at `least`, the slowest, keeps the window full.
    fn is_full(&self, least: Option<u64>) -> bool {
        let slots = u64::from(self.table.geometry.slots);
        least.is_some_and(|least| self.written().saturating_sub(least) >= slots)
    }

    /// Frees the places of readers that are gone, sweeping dead processes.
    fn prune(&self, patience: &Patience) -> Result<()> {
        // Readers on their way to processes that are over.
        self.arena().reclaim_undeliverable(patience)?;
        let mut gone = Vec::new();
        for index in self.readers_in_use() {
            // First of all: a reader that takes the place meanwhile has another one.
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
        self.locked(patience, || {
            for (index, incarnation, user_died) in gone {
                // A place may have been in the middle of getting a reader when it was looked at.
                let same = self.table.reader(index).incarnation.load(SeqCst) == incarnation;
                if same && (user_died || !self.is_reader_live(index)) {
                    self.forget_reader(index);
                }
            }
            Ok(())
        })?;
        self.announce(SPACE)
    }

    /// Frees a reader's place, under the lock.
    fn forget_reader(&self, index: usize) {
        let words = self.table.reader(index);
        words.token.store(0, SeqCst);
        words.pipe.store(0, SeqCst);
        self.table.word(WISHES).fetch_and(!(1 << index), SeqCst);
        words.incarnation.fetch_add(1, SeqCst);
        self.table.word(READERS_IN_USE).fetch_and(!(1 << index), SeqCst);
        point(Point::RingJoined);
    }

    // ---- waking

    /// Counts an event up and wakes whoever sleeps on it.
    fn announce(&self, index: usize) -> Result<()> {
        let was_awaited = protocol::announce(self.table.head.half_word(index)?);
        if was_awaited { self.table.head.wake(index) } else { Ok(()) }
    }

    /// The same, but the word is left alone when nobody sleeps on it: others have it in their caches.
    #[inline]
    fn announce_if_awaited(&self, index: usize) -> Result<()> {
        let is_awaited = protocol::is_awaited(self.table.head.half_word(index)?);
        point(Point::RingEvent);
        if is_awaited { self.announce(index) } else { Ok(()) }
    }

    /// Sleeps on an event until it counts up, unless `ready` says that there is something by now.
    fn sleep(&self, index: usize, ready: impl Fn() -> bool, patience: &Patience, longest: Duration) -> Result<()> {
        match protocol::mark(self.table.head.half_word(index)?, ready) {
            Some(marked) => self.table.head.nap_long_on(index, marked, patience, longest),
            None => Ok(()),
        }
    }
}

/// Which frames are not written again.
#[derive(Debug, Clone, Copy)]
struct Floors {
    /// From here on they stay if others can be had: the window stays for a reader to come.
    wished: u64,
    /// From here on they stay.
    firm: u64,
    /// Readers keep up: the frame consumed last is written first, while it is in the processor's cache.
    recent_first: bool,
}

/// Spinning pays only where the other side has a processor of its own.
fn default_spin_ns() -> u64 {
    if crate::os::processors() > 1 { 20_000 } else { 0 }
}

/// `error`, as `kind` with `text` if it is a timeout.
fn on_timeout(error: Error, kind: Kind, text: impl FnOnce() -> String) -> Error {
    if error.kind() == Kind::Timeout { Error::new(kind, text()) } else { error }
}
