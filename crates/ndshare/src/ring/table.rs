//! Where each word of a ring's head lies.
//!
//! ```text
//! words      0           what it is, in which version: see `crate::head`
//!            1..8        geometry, policy, bytes of the format
//!            8..40       head, and who is just being moved on, which publications write, in a line of their own; then what
//!                        is mostly read: event, space, closed, counters, who reads, which groups there are
//!            then        writers, 8 words each, a line that only the writer writes
//!            then        groups, 16 words each; readers, 16 words each, in two lines: what writers look at too, and
//!                        what only the reader writes
//!            then        frames, 4 words each; entries; the format, as bytes
//! ```
//!
//! An entry is the place of one sequence number: what was published, for readers to find. A frame is a block of the
//! ring's own. Everything is an atomic; what is read from here is bounded before it is used.

use super::claim::CLAIMANTS;
pub use super::claim::GROUPS;
use super::format::{Format, MOST_FORMAT_BYTES};
use super::passing::PassingWords;
use super::protocol::{BUSY, MOST_WRITTEN};
use crate::arena::{AnyBlock, Hold};
use crate::error::{Error, Result};
use crate::head::HeadKind;
use crate::prim::{AtomicU64, Ordering::SeqCst, load_bytes, read, store_bytes};

/// Writers that a ring can have at a time.
pub const WRITERS: usize = 64;
/// Readers that a ring can have at a time.
pub const READERS: usize = 64;
// A claim names every reader, and no other.
const _: () = assert!(READERS == CLAIMANTS);
/// Bytes of a group's name that others see.
pub(super) const NAME_BYTES: usize = 64;
/// Bytes of an entry for what describes a frame's dtype, shape and strides, and for its note.
pub const VIEW_BYTES: usize = 496;

/// The version of this layout.
const VERSION: u32 = 5;

/// Places of single words.
const GEOMETRY: usize = 1;
const GEOMETRY_WORDS: usize = 5;
/// What writers do when the ring is full.
pub(super) const POLICY: usize = 6;
const FORMAT_BYTES: usize = 7;
pub(super) const HEAD: usize = 8;
/// Who is just being moved on, and from where to where: see `passing`.
const PASSING: usize = 9;
pub(super) const EVENT: usize = 16;
pub(super) const SPACE: usize = 17;
pub(super) const CLOSED: usize = 18;
pub(super) const DROPPED: usize = 19;
pub(super) const DEATHS: usize = 20;
pub(super) const READERS_IN_USE: usize = 21;
/// Readers that want a byte in a pipe.
pub(super) const WISHES: usize = 22;
/// Groups that had a member: their position is remembered.
pub(super) const GROUPS_IN_USE: usize = 23;
/// Writers that were made, that ended in order, and that died, over the ring's life. Those that a process is by writing
/// through the ring itself do not count.
pub(super) const WRITERS_MADE: usize = 24;
pub(super) const WRITERS_ENDED: usize = 25;
pub(super) const WRITERS_LOST: usize = 26;
/// The process of the writer that died last; 0: none has, or it is not known.
pub(super) const LAST_LOST: usize = 27;
/// Frames that were lost before they came here, on their way from another machine. Whoever brings them counts.
pub(super) const LOST: usize = 28;
/// Sizes of late: see `sizes`.
pub(super) const PERIOD: usize = 32;
pub(super) const LARGEST_NOW: usize = 33;
pub(super) const LARGEST_BEFORE: usize = 34;
pub(super) const LOOK_AT: usize = 35;
/// Whether a record is left that no frame names.
pub(super) const UNTIDY: usize = 36;
const WRITERS_AT: usize = 40;
const WRITER_WORDS: usize = 8;
const GROUPS_AT: usize = WRITERS_AT + WRITERS * WRITER_WORDS;
const GROUP_WORDS: usize = 16;
const READERS_AT: usize = GROUPS_AT + GROUPS * GROUP_WORDS;
const READER_WORDS: usize = 16;
const FRAMES_AT: usize = READERS_AT + READERS * READER_WORDS;
const FRAME_WORDS: usize = 4;
/// Words of an entry before view and meta.
const ENTRY_FIXED: usize = 10 + GROUPS;
const VIEW_WORDS: usize = VIEW_BYTES / 8;

/// A frame that was never published, or whose content was thrown away.
pub(super) const NEVER: u64 = u64::MAX;

/// Sizes of a ring, as plain data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingSizes {
    /// How many published frames wait for readers at the most.
    pub slots: u32,
    /// How many frames the ring owns.
    pub frames: u32,
    /// Bytes that a frame is made for.
    pub frame_bytes: u64,
    /// Bytes of meta that go with each frame.
    pub meta_bytes: u32,
    /// How many frames stay whatever readers do.
    pub keep: u32,
}

const MAX_SLOTS: u32 = 1 << 16;

impl RingSizes {
    /// Parses the wish of a user.
    ///
    /// # Errors
    /// `InvalidValue` for no slots or too many, or too much meta.
    pub fn new(slots: usize, frame_bytes: u64, meta_bytes: usize) -> Result<Self> {
        let (got, got_meta) = (slots, meta_bytes);
        let slots = u32::try_from(slots).ok().filter(|slots| (1..=MAX_SLOTS).contains(slots));
        let slots = slots
            .ok_or_else(|| Error::value(format!("expected 1 to {MAX_SLOTS} slots, got {got}: a few are enough")))?;
        let meta_bytes = u32::try_from(meta_bytes).ok().filter(|&bytes| bytes <= 4096);
        let meta_bytes = meta_bytes
            .ok_or_else(|| Error::value(format!("expected at most 4096 bytes of meta a frame, got {got_meta}")))?;
        // Beside the window: one for each of a few writers that fill, one for each of a few readers that still look.
        Ok(Self { slots, frames: slots + 8, frame_bytes, meta_bytes, keep: 0 })
    }

    /// The same with so many frames that stay, whatever readers do, for one that comes late.
    ///
    /// # Errors
    /// `InvalidValue` for more than there are slots.
    pub fn keeping(self, keep: usize) -> Result<Self> {
        match u32::try_from(keep) {
            Ok(keep) if keep <= self.slots => Ok(Self { keep, ..self }),
            _ => Err(Error::value(format!(
                "expected to keep at most as many frames as there are slots, {}, got {keep}: keep fewer, or make the ring \
                 with more slots",
                self.slots
            ))),
        }
    }

    /// Entries: a power of two, and more than the window has.
    fn entries(&self) -> u64 {
        u64::from(self.slots + 1).next_power_of_two()
    }

    fn entry_words(&self) -> usize {
        (ENTRY_FIXED + VIEW_WORDS + self.meta_bytes.div_ceil(8) as usize).next_multiple_of(8)
    }

    fn entries_at(&self) -> usize {
        (FRAMES_AT + self.frames as usize * FRAME_WORDS).next_multiple_of(8)
    }

    fn format_at(&self) -> usize {
        self.entries_at() + self.entries() as usize * self.entry_words()
    }

    /// Bytes of the head, without its format.
    pub fn head_bytes(&self) -> usize {
        self.format_at() * 8
    }

    fn to_words(self) -> [u64; GEOMETRY_WORDS] {
        [self.slots.into(), self.frames.into(), self.frame_bytes, self.meta_bytes.into(), self.keep.into()]
    }

    fn from_words(words: [u64; GEOMETRY_WORDS], head_bytes: usize) -> Result<Self> {
        let [slots, frames, frame_bytes, meta_bytes, keep] = words;
        let sizes = (usize::try_from(slots), u32::try_from(frames), usize::try_from(meta_bytes));
        if let (Ok(slots), Ok(frames), Ok(meta_bytes)) = sizes
            && let Ok(keep) = usize::try_from(keep)
            && let Ok(geometry) = Self::new(slots, frame_bytes, meta_bytes).and_then(|geometry| geometry.keeping(keep))
            && geometry.frames == frames
            && geometry.head_bytes() <= head_bytes
        {
            return Ok(geometry);
        }
        Err(Error::value(format!("expected the head of a ring in {head_bytes} bytes, got sizes {words:?}")))
    }
}

/// The words of one ring.
#[derive(Debug, Clone)]
pub(super) struct Table<B = Hold> {
    pub head: B,
    pub geometry: RingSizes,
}

/// Words of one reader.
#[derive(Clone, Copy)]
pub(super) struct ReaderWords<'a> {
    /// {index + 1: 32, generation: 32} of the token that keeps the reader; 0: free.
    pub token: &'a AtomicU64,
    /// What kind of reader: see `Kind`.
    pub kind: &'a AtomicU64,
    /// The next sequence number that it wants, below the mark `protocol::PUSHED` if it reads every frame.
    pub cursor: &'a AtomicU64,
    /// Frames that the readers of this slot never got, because they were lapped. It only grows, so that no sum over
    /// readers past and present is ever in the middle of a change.
    pub missed: &'a AtomicU64,
    /// How many of those the readers before this one did not get.
    pub missed_before: &'a AtomicU64,
    /// {generation: 32, slot + 1: 32} of the process that uses it; 0: none yet.
    pub user: &'a AtomicU64,
    /// Frames that it handed out and that still live.
    pub held: &'a AtomicU64,
    /// How many readers had this slot before.
    pub incarnation: &'a AtomicU64,
    /// A pipe that wants a byte when a frame is there (see `Wish`); 0: none.
    pub pipe: &'a AtomicU64,
    /// Which pipe that is.
    pub pipe_device: &'a AtomicU64,
    pub pipe_inode: &'a AtomicU64,
}

/// Words of one group.
#[derive(Clone, Copy)]
pub(super) struct GroupWords<'a> {
    /// What the group's name hashes to; 0: free.
    pub name: &'a AtomicU64,
    /// Everything below is done, or was missed.
    pub cursor: &'a AtomicU64,
    pub missed: &'a AtomicU64,
    /// The name, cut to what fits.
    pub text: &'a [AtomicU64],
}

/// Words of one writer.
#[derive(Clone, Copy)]
pub(super) struct WriterWords<'a> {
    /// Which writer of this slot, of what kind, and whether it has ended (see `claim::SlotClaim`).
    pub state: &'a AtomicU64,
    /// {index + 1: 32, generation: 32} of the token that keeps one that nobody has used yet; 0: it never had one.
    pub token: &'a AtomicU64,
    /// {generation: 32, slot + 1: 32} of the process that uses it; 0: none yet.
    pub user: &'a AtomicU64,
    /// Frames that it published.
    pub written: &'a AtomicU64,
    /// The process that is just letting go of an unused one in order, so that this is not taken for a death; 0: none.
    pub leaver: &'a AtomicU64,
    /// The time of the last frame that it published: those of one writer do not go back.
    pub last_time_ns: &'a AtomicU64,
}

/// Words of one frame.
#[derive(Clone, Copy)]
pub(super) struct FrameWords<'a> {
    /// {index + 1: 32, generation: 32} of its block; 0: it has none yet.
    pub block: &'a AtomicU64,
    /// The record by which the head keeps the block.
    pub record: &'a AtomicU64,
    pub nonce: &'a AtomicU64,
    /// The sequence number that it was last published under, or [`NEVER`], or `BUSY` while a
    /// writer fills it.
    pub last: &'a AtomicU64,
}

/// Words of one entry. It begins at a line, which has all that is said of a plain frame: each line more that is written here
/// and read there would make a hand-over longer by what it takes from one processor to another. What follows is written only
/// where it changes.
#[derive(Clone, Copy)]
pub(super) struct EntryWords<'a> {
    /// The sequence number, or `BUSY`.
    pub seq: &'a AtomicU64,
    pub block: &'a AtomicU64,
    /// Which frame of the ring.
    pub frame: &'a AtomicU64,
    pub time_ns: &'a AtomicU64,
    /// When it was published, on the monotonic clock, whatever clock `time_ns` is of.
    pub published_ns: &'a AtomicU64,
    /// Where in the block the first item is.
    pub offset: &'a AtomicU64,
    pub view_len: &'a AtomicU64,
    /// What its note is: see `note`; 0: it has none.
    pub note: &'a AtomicU64,
    /// Where the block begins in the arena's data, for other users who are let to read these alone; else 0.
    pub place: &'a AtomicU64,
    /// Where in the block begins what is said behind the items, if view or note stand there.
    pub tail: &'a AtomicU64,
    /// For each group: who has it (see `claim::FrameClaim`).
    pub claims: &'a [AtomicU64],
    pub view: &'a [AtomicU64],
    pub meta: &'a [AtomicU64],
}

impl<B: AnyBlock> Table<B> {
    /// Writes geometry and format of a new ring into its zeroed head, which has room for both.
    pub(super) fn format(head: B, geometry: RingSizes, format: &[u8]) -> Self {
        use crate::prim::Ordering::Relaxed;
        let table = Self { head, geometry };
        // NO POINT: nobody else has the name of this block yet; with its maker it goes.
        table.word(0).store(HeadKind::Ring.signature(VERSION), Relaxed);
        for (word, value) in table.head.words()[GEOMETRY..].iter().zip(geometry.to_words()) {
            word.store(value, Relaxed);
        }
        table.word(FORMAT_BYTES).store(format.len() as u64, Relaxed);
        store_bytes(&table.head.words()[geometry.format_at()..], format);
        (0..geometry.frames).for_each(|index| table.frame(index).last.store(NEVER, Relaxed));
        (0..geometry.entries()).for_each(|seq| table.entry(seq).seq.store(BUSY, Relaxed));
        table
    }

    /// Reads and checks the geometry of somebody else's ring.
    pub(super) fn open(head: B) -> Result<Self> {
        use crate::prim::Ordering::Acquire;
        // RAW: checked as a whole.
        let word = |index: usize| head.words()[index].load(Acquire);
        HeadKind::Ring.check(VERSION, word(0))?;
        let geometry =
            RingSizes::from_words(std::array::from_fn(|index| word(GEOMETRY + index)), head.words().len() * 8)?;
        Ok(Self { head, geometry })
    }

    /// Reads and checks what the ring says of its frames, once.
    pub(super) fn read_format(&self) -> Result<Format> {
        let words = &self.head.words()[self.geometry.format_at()..];
        let len = read(self.word(FORMAT_BYTES), SeqCst).at_most((words.len() * 8).min(MOST_FORMAT_BYTES) as u64);
        let len = len.ok_or_else(|| Error::value("expected the format of a ring inside its head, got a longer one"))?;
        let format = Format::decode(&load_bytes(words, len as usize))?;
        let is_of = format.frame_bytes()? == self.geometry.frame_bytes || format.shape.is_none();
        if is_of && format.meta_bytes() == self.geometry.meta_bytes as usize {
            return Ok(format);
        }
        Err(Error::value("expected a ring whose format has the sizes of its frames, got one that contradicts itself"))
    }

    /// How many frames have been published.
    #[inline]
    pub(super) fn written(&self) -> u64 {
        // A ring that publishes a frame each nanosecond comes to this in a hundred years; so sums with it fit.
        read(self.word(HEAD), SeqCst).capped(MOST_WRITTEN)
    }

    /// Slots that have, or had, a reader.
    #[inline]
    pub(super) fn readers_in_use(&self) -> impl Iterator<Item = usize> + use<B> {
        // RAW: any bits are slots of readers.
        let mut bits = self.word(READERS_IN_USE).load(SeqCst);
        std::iter::from_fn(move || {
            let index = bits.trailing_zeros() as usize;
            // The lowest bit goes; there are as many as a word has.
            bits &= bits.wrapping_sub(1);
            (index < READERS).then_some(index)
        })
    }

    #[inline]
    pub(super) fn word(&self, index: usize) -> &AtomicU64 {
        &self.head.words()[index]
    }

    /// `index` is below [`WRITERS`].
    #[inline]
    pub(super) fn writer(&self, index: usize) -> WriterWords<'_> {
        let [state, token, user, written, leaver, last_time_ns] = self.array(WRITERS_AT + index * WRITER_WORDS);
        WriterWords { state, token, user, written, leaver, last_time_ns }
    }

    /// `index` is below [`READERS`].
    #[inline]
    pub(super) fn reader(&self, index: usize) -> ReaderWords<'_> {
        let at = READERS_AT + index * READER_WORDS;
        let [token, kind, cursor, missed, missed_before, incarnation, pipe] = self.array(at);
        let [user, held, pipe_device, pipe_inode] = self.array(at + READER_WORDS / 2);
        ReaderWords {
            token,
            kind,
            cursor,
            missed,
            missed_before,
            user,
            held,
            incarnation,
            pipe,
            pipe_device,
            pipe_inode,
        }
    }

    /// `index` is below [`GROUPS`].
    #[inline]
    pub(super) fn group(&self, index: usize) -> GroupWords<'_> {
        let at = GROUPS_AT + index * GROUP_WORDS;
        let [name, cursor, missed] = self.array(at);
        let text = &self.head.words()[at + GROUP_WORDS - NAME_BYTES / 8..at + GROUP_WORDS];
        GroupWords { name, cursor, missed, text }
    }

    #[inline]
    pub(super) fn passing(&self) -> PassingWords<'_> {
        let [who, from, least, missed] = self.array(PASSING);
        PassingWords { who, from, least, missed }
    }

    /// `index` is below the geometry's frames.
    #[inline]
    pub(super) fn frame(&self, index: u32) -> FrameWords<'_> {
        let [block, record, nonce, last] = self.array(FRAMES_AT + index as usize * FRAME_WORDS);
        FrameWords { block, record, nonce, last }
    }

    /// The place of sequence number `seq`.
    #[inline]
    pub(super) fn entry(&self, seq: u64) -> EntryWords<'_> {
        let index = (seq & (self.geometry.entries() - 1)) as usize;
        let len = self.geometry.entry_words();
        let words = &self.head.words()[self.geometry.entries_at() + index * len..][..len];
        let (fixed, rest) = words.split_at(ENTRY_FIXED);
        let (view, meta) = rest.split_at(VIEW_WORDS);
        EntryWords {
            seq: &fixed[0],
            block: &fixed[1],
            frame: &fixed[2],
            time_ns: &fixed[3],
            published_ns: &fixed[4],
            offset: &fixed[5],
            view_len: &fixed[6],
            note: &fixed[7],
            place: &fixed[8],
            tail: &fixed[9],
            claims: &fixed[10..],
            view,
            meta,
        }
    }

    #[inline]
    fn array<const N: usize>(&self, at: usize) -> [&AtomicU64; N] {
        let words = &self.head.words()[at..at + N];
        std::array::from_fn(|index| &words[index])
    }

    /// Which frame of the ring an entry names.
    #[inline]
    pub(super) fn frame_index(&self, entry: &EntryWords<'_>) -> Option<u32> {
        let frame = read(entry.frame, SeqCst).index(self.geometry.frames as usize)?;
        u32::try_from(frame).ok()
    }

    pub(super) fn entries(&self) -> u64 {
        self.geometry.entries()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn geometry_survives_its_words_and_bad_ones_are_refused() {
        let geometry = RingSizes::new(32, 4 << 20, 40).unwrap().keeping(32).unwrap();
        let words = geometry.to_words();
        assert_eq!(RingSizes::from_words(words, geometry.head_bytes()).unwrap(), geometry);
        assert!(RingSizes::from_words(words, geometry.head_bytes() - 8).is_err());
        assert!(RingSizes::from_words([0, 8, 0, 0, 0], 1 << 20).is_err());
        assert!(RingSizes::from_words([32, 41, 0, 0, 0], 1 << 20).is_err());
        assert!(RingSizes::from_words([32, 40, 0, 0, 33], 1 << 20).is_err());
        assert!(geometry.keeping(33).is_err());
        for (slots, meta) in [(0, 0), (1 << 17, 0), (4, 5000), (usize::MAX, 0)] {
            assert!(RingSizes::new(slots, 1, meta).is_err());
        }
    }
}
