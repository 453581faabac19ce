//! A ring of another user's, whose data this process has been let to read. It takes no slot, holds nothing and writes nothing,
//! so no writer waits for it, or hears of it. Each frame is copied, and given only if nobody began to fill it again
//! meanwhile; what was overwritten before is counted as missed.
//!
//! Who offers the ring is not trusted: its head is read as any shared memory is, and a frame lies where the data are, or is an
//! error. Nobody wakes who does not write, so a reader looks again and again, after ever longer naps.

use super::format::Format;
use super::note::{Note, Told};
use super::protocol::{self, MOST_WRITTEN};
use super::table::{CLOSED, EntryWords, RingSizes, Table};
use super::time::age_of;
use crate::arena::{Copied, Deadline, OfferedBlock};
use crate::array::{Description, Element, Item, Layout, items_in};
use crate::error::{Empty, Error, Kind, Result, WriterDied};
use crate::os::monotonic;
use crate::os::offers::{End, Line};
use crate::prim::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
    load_bytes, read,
};
use std::sync::Arc;
use std::time::Duration;

/// The first nap of a wait, and the longest one.
const FIRST_NAP: Duration = Duration::from_micros(50);
const LONGEST_NAP: Duration = Duration::from_millis(2);

/// A ring that another user offers, to be read. It begins with the next frame that is published.
///
/// It is made by [`names::attach_offered`](crate::names::attach_offered).
#[derive(Debug)]
pub struct OfferedRing {
    table: Table<OfferedBlock>,
    format: Format,
    line: Arc<Line>,
    /// The next number that [`Self::get`] wants.
    cursor: AtomicU64,
    /// One more than the newest number that was given.
    given: AtomicU64,
    missed: AtomicU64,
}

/// A frame of such a ring: a copy, in this process's own memory.
#[derive(Debug)]
pub struct OfferedFrame {
    /// Its number.
    pub seq: u64,
    /// When it was made, as its writer says; else when it was published, on the monotonic clock.
    pub time_ns: u64,
    /// When it was published, on the monotonic clock.
    pub published_ns: u64,
    layout: Layout,
    element: Element,
    meta: Vec<u8>,
    told: Told,
    /// The note, where it stood behind the items.
    long_note: Option<Vec<u8>>,
    copied: Copied,
}

impl OfferedFrame {
    /// How long ago it was published, by the monotonic clock.
    pub fn age(&self) -> Duration {
        age_of(self.published_ns)
    }

    /// What the writer said beside it; empty when the ring has no meta.
    pub fn meta(&self) -> &[u8] {
        &self.meta
    }

    /// Text, JSON or bytes that the writer put beside it; none when there are none.
    ///
    /// # Errors
    /// `InvalidValue` when what the ring says of it does not lie where the data are, or is no text where it should be one.
    pub fn note(&self) -> Result<Option<Note<'static>>> {
        let missing = || Error::value("expected a note where the data are, got one elsewhere");
        self.told.note(|_, _| self.long_note.clone().ok_or_else(missing))
    }

    /// Its shape.
    pub fn shape(&self) -> &[usize] {
        self.layout.shape()
    }

    /// What its items are.
    pub fn element(&self) -> &Element {
        &self.element
    }

    /// The items in C order.
    ///
    /// # Errors
    /// `InvalidType` when they are of another type.
    pub fn to_vec<T: Item>(&self) -> Result<Vec<T>> {
        let (bytes, first) = self.bytes();
        items_in(bytes, first, &self.layout, &self.element)
    }

    /// How its items lie, and what they are.
    #[doc(hidden)]
    pub fn description(&self) -> Description {
        Description { layout: self.layout.clone(), element: Some(self.element.clone()) }
    }

    /// The bytes that its items reach, and where in them the first item is.
    pub fn bytes(&self) -> (&[u8], usize) {
        self.copied.bytes()
    }
}

/// What is told of a ring that is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OfferedStats {
    /// Frames published since the ring was made.
    pub written: u64,
    /// Frames that this reader never got, because they were overwritten.
    pub missed: u64,
    /// Published frames that [`OfferedRing::get`] has not given yet.
    pub lag: u64,
    /// Whether the ring was closed.
    pub closed: bool,
}

impl OfferedRing {
    /// The ring with this head, as long as `line` lasts.
    ///
    /// # Errors
    /// `WrongKind` for a block that is no head of a ring, or one of another version; `InvalidValue` for one that contradicts
    /// itself.
    pub(crate) fn open(head: OfferedBlock, line: Arc<Line>) -> Result<Self> {
        let table = Table::open(head)?;
        let format = table.read_format()?;
        let [cursor, given, missed] = [table.written(), 0, 0].map(AtomicU64::new);
        Ok(Self { table, format, line, cursor, given, missed })
    }

    /// What its frames are, as its head says.
    pub fn format(&self) -> &Format {
        &self.format
    }

    /// Its sizes.
    pub fn geometry(&self) -> &RingSizes {
        &self.table.geometry
    }

    /// The next frame, once there is one. Those that were overwritten before this reader came to them are missed.
    ///
    /// # Errors
    /// `Empty` at the deadline; `Closed` when the ring was closed and is read, and when it is not offered any more;
    /// `WriterDied` when the process that offers it has ended; `InvalidValue` for a frame that contradicts itself;
    /// `ArenaFull` without memory for a copy.
    pub fn get(&self, deadline: &Deadline) -> Result<OfferedFrame> {
        self.wait_for(deadline, || self.look_for_next())
    }

    /// The newest frame, if it is newer than the last one that was given; else the next one. [`Self::get`] goes on behind it.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn latest(&self, deadline: &Deadline) -> Result<OfferedFrame> {
        self.wait_for(deadline, || self.look_for_newest())
    }

    /// Counts.
    pub fn stats(&self) -> OfferedStats {
        // RAW: words of this process.
        let (cursor, missed) = (self.cursor.load(SeqCst), self.missed.load(SeqCst));
        let written = self.table.written();
        OfferedStats { written, missed, lag: written.saturating_sub(cursor), closed: self.is_closed() }
    }

    fn is_closed(&self) -> bool {
        // RAW: 0 or not.
        self.table.word(CLOSED).load(SeqCst) != 0
    }

    fn wait_for(&self, deadline: &Deadline, look: impl Fn() -> Result<Option<OfferedFrame>>) -> Result<OfferedFrame> {
        let since = monotonic();
        let mut nap = Duration::ZERO;
        // BOUND: the caller's deadline.
        loop {
            // Before the look: what was published before it was closed is there.
            let closed = self.is_closed();
            let found = look();
            // What nobody keeps any more is not what it was.
            if let Some(end) = self.line.wait(Duration::ZERO) {
                return Err(self.over(end));
            }
            if let Some(frame) = found? {
                self.given.fetch_max(frame.seq + 1, SeqCst);
                return Ok(frame);
            }
            if closed {
                return Err(Error::new(Kind::Closed, "the ring was closed, and every frame of it was read"));
            }
            deadline.go_on("the ring").map_err(|error| no_frame(error, since))?;
            nap = (nap * 2).clamp(FIRST_NAP, LONGEST_NAP);
            self.line.wait(deadline.nap(nap));
        }
    }

    #[cold]
    fn over(&self, end: End) -> Error {
        match end {
            End::Withdrawn => Error::new(Kind::Closed, "the ring is not offered any more: attach again when it is"),
            End::Died => {
                let pid = Some(self.line.pid).filter(|&pid| pid != 0);
                let who = pid.map_or_else(String::new, |pid| format!(" (process {pid})"));
                let text =
                    format!("the process that offers the ring has ended{who}: attach again when another one does");
                WriterDied { pid, ..WriterDied::saying(text) }.into()
            }
        }
    }

    fn look_for_next(&self) -> Result<Option<OfferedFrame>> {
        // BOUND: a lap; the caller looks again.
        for _ in 0..=self.table.entries() {
            // RAW: a word of this process.
            let (seq, head) = (self.cursor.load(SeqCst), self.table.written());
            if seq >= head {
                return Ok(None);
            }
            // Nothing that is more than a lap behind can be there.
            let oldest = head.saturating_sub(self.table.entries());
            let (found, next) = if seq < oldest { (None, oldest) } else { (self.copy(seq), seq + 1) };
            if self.cursor.compare_exchange(seq, next, SeqCst, SeqCst).is_err() {
                continue;
            }
            match found {
                Some(frame) => return frame.map(Some),
                None => self.missed.fetch_add(next - seq, SeqCst),
            };
        }
        Ok(None)
    }

    fn look_for_newest(&self) -> Result<Option<OfferedFrame>> {
        let head = self.table.written();
        // RAW: a word of this process.
        if head <= self.given.load(SeqCst) {
            return Ok(None);
        }
        let Some(frame) = self.copy(head - 1) else { return Ok(None) };
        self.cursor.fetch_max(head, SeqCst);
        // Of threads that look at once only one gives it.
        if self.given.fetch_max(head, SeqCst) >= head { Ok(None) } else { frame.map(Some) }
    }

    /// The frame of `seq`; none when it is not there any more.
    fn copy(&self, seq: u64) -> Option<Result<OfferedFrame>> {
        let entry = self.table.entry(seq);
        let said = protocol::read_entry(entry.seq, seq, || Said::of(&entry, &self.table))?;
        protocol::read_frame(self.table.frame(said.frame?).last, seq, || self.copy_said(seq, said))
    }

    fn copy_said(&self, seq: u64, said: Said) -> Result<OfferedFrame> {
        let Said { time_ns, published_ns, place, offset, mut told, meta, .. } = said;
        let tail = |at: u64, len: usize| self.tail(place.saturating_add(at), len);
        told.read_view(tail);
        let own = if told.view.is_empty() { self.format.description() } else { None };
        let Description { layout, element } = own.map_or_else(|| Description::decode(&told.view), Ok)?;
        let element = element.or_else(|| self.format.element.clone());
        let element = element.ok_or_else(|| Error::value("expected a frame that says what its items are, got none"))?;
        let copied = self.table.head.data().copy(place + offset, &layout, element.size())?;
        // One that does not lie inside is an error for who asks for it.
        let long_note = told.note_in_tail().and_then(|(at, len)| tail(at, len).ok());
        Ok(OfferedFrame { seq, time_ns, published_ns, layout, element, meta, told, long_note, copied })
    }

    /// Bytes of the data.
    fn tail(&self, at: u64, len: usize) -> Result<Vec<u8>> {
        let (layout, _) = Layout::contiguous(&[len], 1)?;
        let copied = self.table.head.data().copy(at, &layout, 1)?;
        let (bytes, first) = copied.bytes();
        Ok(bytes.iter().skip(first).take(len).copied().collect())
    }
}

#[cold]
fn no_frame(error: Error, since: Duration) -> Error {
    if error.kind() != Kind::Timeout {
        return error;
    }
    let message = "no frame came: expected one before the timeout; wait longer, or see what who offers the ring does";
    Empty { waited: Some(monotonic() - since), ..Empty::saying(message) }.into()
}

/// What an entry says, for who has no way to the block but the data.
struct Said {
    frame: Option<u32>,
    time_ns: u64,
    published_ns: u64,
    /// Where in the data the block begins, and where in that the first item is.
    place: u64,
    offset: u64,
    told: Told,
    meta: Vec<u8>,
}

impl Said {
    fn of(entry: &EntryWords<'_>, table: &Table<OfferedBlock>) -> Self {
        let most = table.head.data().len_bytes() as u64;
        let [place, offset] = [entry.place, entry.offset].map(|word| read(word, Relaxed).capped(most));
        Self {
            frame: table.frame_index(entry),
            // RAW: a time, which is told.
            time_ns: entry.time_ns.load(Relaxed),
            // RAW: a time, which is told.
            published_ns: entry.published_ns.load(Relaxed),
            place,
            offset,
            told: Told::of(entry),
            meta: load_bytes(entry.meta, table.geometry.meta_bytes as usize),
        }
    }
}

// More frames than this no ring has, so that no sum with a number of one overflows.
const _: () = assert!(MOST_WRITTEN < u64::MAX / 2);
