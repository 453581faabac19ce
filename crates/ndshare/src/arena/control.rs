//! The control part of an arena: where each word of it is, and the one way to get at them.
//!
//! ```text
//! 0          header      one page
//! 4 KiB      participants, 64 bytes each
//! +          records, 40 bytes each
//! +          blocks (descriptors), 128 bytes each
//! next 2 MiB the data part
//! ```
//!
//! Every word is an atomic, because a peer may write at any moment, also a peer that has gone wrong. The geometry
//! is copied out and checked once; after that it is never read from shared memory again.

use super::word::{HOLDER_WORDS, State, Words};
use crate::error::{Error, Result};
use crate::os::{HUGE_BYTES, PAGE_BYTES};
use crate::prim::{AtomicI32, AtomicU32, AtomicU64, Ordering, read, read_u32};
use std::mem::offset_of;
use std::path::Path;
use std::ptr::NonNull;

/// The unit of the data part: spans are multiples of it, at multiples of it.
pub(super) const GRANULE_BYTES: u64 = 1024;
/// Free spans are listed by size in so many lists.
pub(super) const BINS: usize = 128;
/// "No block" in a link.
pub(super) const NONE: u32 = u32::MAX;

const MAGIC: u64 = u64::from_le_bytes(*b"ndshare\x01");
const VERSION: u32 = 6;
/// What is greater is no version, but bytes of something else.
const MOST_VERSION: u32 = 1 << 20;

/// A cache line of its own.
#[repr(C, align(64))]
pub(super) struct Line<T>(pub T);

/// The first page.
#[repr(C)]
pub(super) struct Header {
    magic: AtomicU64,
    pub id: AtomicU64,
    data_len: AtomicU64,
    budget: AtomicU64,
    warm_cap: AtomicU64,
    version: AtomicU32,
    participants: AtomicU32,
    records: AtomicU32,
    blocks: AtomicU32,
    ticket_budget: AtomicU32,
    /// A number of where each word of the tables is: [`LAYOUT`].
    layout: AtomicU32,
    /// What set the budget: an index into the list of names.
    pub limit: AtomicU32,
    /// Not 0: the tables contradicted themselves.
    pub poisoned: AtomicU32,
    /// Which other users may be let to read what is published, as permission bits; 0: none.
    pub mode: AtomicU32,
    /// The arena lock: the owner's slot + 1, and the waiters' bit.
    pub lock: Line<AtomicU32>,
    pub spans: Line<SpanHeader>,
    /// Records that are tickets.
    pub ticket_count: AtomicU32,
    /// No record below this one is free.
    pub record_hint: AtomicU32,
    /// Records whose memory is committed.
    pub records_ready: AtomicU32,
    /// Not 0: there may be live blocks that nobody keeps, because who let go of them found the arena lock taken.
    pub unkept: AtomicU32,
    /// Not 0: some ticket was addressed to a process once.
    pub addressed: AtomicU32,
    /// How many participants have left or were swept, so that others see when there is something to look for.
    pub departures: AtomicU32,
    /// The block that others are found by {index + 1: 32, generation: 32}; 0 or stale: there is none now.
    pub root: AtomicU64,
    /// What contradicted itself first, as text, for those who find the arena poisoned later.
    poison_text: [AtomicU64; POISON_WORDS],
}

const POISON_WORDS: usize = 8;

/// The free map's part of the header. All of it can be rebuilt from the blocks.
#[repr(C)]
pub(super) struct SpanHeader {
    /// Granules in reserved, live and freeing blocks.
    pub used: AtomicU64,
    /// Granules in warm blocks.
    pub warm: AtomicU64,
    /// Descriptors that were ever in use.
    pub high: AtomicU32,
    /// Descriptors whose memory is committed.
    pub ready: AtomicU32,
    /// Head of the list of descriptors below `high` that nobody uses.
    pub unused: AtomicU32,
    pub gap_bins: [AtomicU32; BINS],
    pub warm_bins: [AtomicU32; BINS],
}

/// One process that takes part, or one slot for it.
#[repr(C, align(64))]
pub(super) struct Participant {
    /// 0: free. [`TAKEN`]: somebody's, alive or dead. [`LENT`]: a dead one's, whose holds stay for its guests.
    pub state: AtomicU32,
    /// How often the slot had a tenant; tells a sender from its successor.
    pub generation: AtomicU32,
    /// 0: not known.
    pub pid: AtomicU32,
    /// The descriptor of the memory file that siblings can open.
    pub descriptor: AtomicI32,
    /// The pid namespace in which `pid` counts; 0: not known.
    pub pid_namespace: AtomicU64,
}

/// States of a slot beside 0, which is free.
pub(super) const TAKEN: u32 = 1;
pub(super) const LENT: u32 = 2;

/// What keeps a block beside its holders: a reference in flight (a ticket), or another block (its parent).
/// It counts while `nonce` is not 0.
#[repr(C)]
pub(super) struct Record {
    pub nonce: AtomicU64,
    /// When a ticket was issued (monotonic ns), or the parent's generation.
    pub stamp: AtomicU64,
    pub block: AtomicU32,
    pub generation: AtomicU32,
    /// The sender's slot, and above it the low half of the slot's generation; or [`PARENT`].
    pub sender: AtomicU32,
    /// The sender's process id, or the parent's index.
    pub origin: AtomicU32,
    /// The process that a ticket is for, once it is known; 0: whoever comes.
    pub receiver: AtomicU32,
    /// In which numbering of processes (the inode of the pid namespace) the receiver has that number.
    pub numbering: AtomicU32,
}

/// In place of a sender: the record belongs to another block.
pub(super) const PARENT: u32 = u32::MAX;

/// A block, a gap between blocks, or a descriptor that nobody uses.
///
/// What takes and drops of the first 256 participants touch lies in the first cache line, because each line that goes
/// from one processor to another costs as much as all the rest of a take.
#[repr(C, align(128))]
pub(super) struct Block {
    pub word: AtomicU64,
    /// The span {first granule: 32, granules: 32}, in one word so that no death tears it.
    pub span: AtomicU64,
    /// Records that keep the block. Derived, and recounted after a crash.
    pub records: AtomicU32,
    /// Not 0: records may name this block as their parent, and go with it.
    pub is_parent: AtomicU32,
    /// The lock that users take on the block's content.
    pub lock: AtomicU32,
    /// What the block is the head of, for those who look for such; 0: nothing in particular.
    pub mark: AtomicU32,
    pub holders: [AtomicU64; HOLDER_WORDS],
    /// Neighbours in address order.
    pub before: AtomicU32,
    pub after: AtomicU32,
    /// Neighbours in a list of gaps, of warm blocks or of unused descriptors.
    pub list_before: AtomicU32,
    pub list_after: AtomicU32,
    /// The process that died in the lock last, for people; 0: nobody has, or it is not known. Told only while the lock is
    /// marked with a death.
    pub lost_owner: AtomicU32,
    unused: [AtomicU32; 3],
}

/// The offset of each field of some structs, and their sizes, in one list. A field that is not named does not compile.
macro_rules! places {
    ($($name:ident { $($field:ident),* })*) => {{
        $(let _ = |all: $name| { let $name { $($field: _),* } = all; };)*
        &[$(size_of::<$name>(), $(offset_of!($name, $field)),*),*]
    }};
}

/// A number of the layout: of where each word of the header and the tables is. It is another one where a field was moved
/// and `VERSION` was forgotten, or where a compiler for another machine lays a struct out otherwise.
const LAYOUT: u32 = fingerprint(places! {
    Header {
        magic, id, data_len, budget, warm_cap, version, participants, records, blocks, ticket_budget, layout, limit, poisoned,
        mode, lock, spans, ticket_count, record_hint, records_ready, unkept, addressed, departures, root, poison_text
    }
    SpanHeader { used, warm, high, ready, unused, gap_bins, warm_bins }
    Participant { state, generation, pid, descriptor, pid_namespace }
    Record { nonce, stamp, block, generation, sender, origin, receiver, numbering }
    Block {
        word, span, records, is_parent, lock, mark, holders, before, after, list_before, list_after, lost_owner, unused
    }
});

/// FNV-1a of some numbers, 32 bits. <https://www.rfc-editor.org/rfc/rfc9923>
const fn fingerprint(numbers: &[usize]) -> u32 {
    let (mut hash, mut index) = (0x811c_9dc5_u32, 0);
    // BOUND: the list. (A `for` is not to be had in a constant.)
    while index < numbers.len() {
        let bytes = (numbers[index] as u32).to_le_bytes();
        let mut place = 0;
        // BOUND: four bytes.
        while place < bytes.len() {
            hash = (hash ^ bytes[place] as u32).wrapping_mul(0x0100_0193);
            place += 1;
        }
        index += 1;
    }
    hash
}

#[cfg(not(loom))]
const _: () = {
    assert!(offset_of!(Header, layout) + size_of::<AtomicU32>() <= HEAD_BYTES);
    assert!(size_of::<Header>() <= PAGE_BYTES as usize);
    assert!(size_of::<Participant>() == 64);
    assert!(size_of::<Record>() == 40);
    assert!(size_of::<Block>() == 128);
};

impl Block {
    pub(super) fn words(&self) -> Words<'_> {
        Words { word: &self.word, records: &self.records, holders: &self.holders }
    }

    /// The span as a peer may have written it. [`Control::checked_span`] is the way to one that may be used.
    fn span(&self) -> Span {
        Span::unpack(self.span.load(Ordering::Relaxed))
    }

    /// The same for who copies tables to look at them.
    pub(super) fn raw_span(&self) -> Span {
        self.span()
    }

    pub(super) fn set_span(&self, span: Span) {
        // Release: whoever sees the state that a later store gives this block sees its span, too.
        self.span.store(span.pack(), Ordering::Release);
    }
}

/// A run of granules of the data part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Span {
    pub start: u32,
    pub granules: u32,
}

impl Span {
    pub(super) fn new(start: u32, end: u32) -> Self {
        Self { start, granules: end - start }
    }

    pub(super) fn pack(self) -> u64 {
        u64::from(self.start) << 32 | u64::from(self.granules)
    }

    fn unpack(bits: u64) -> Self {
        Self { start: (bits >> 32) as u32, granules: bits as u32 }
    }

    /// One past the last granule; saturating, because the span may be scribble. Compare with the geometry.
    pub(super) fn end(self) -> u32 {
        self.start.saturating_add(self.granules)
    }

    pub(super) fn overlaps(self, other: Self) -> bool {
        self.start < other.end() && other.start < self.end()
    }

    pub(super) fn len_bytes(self) -> u64 {
        u64::from(self.granules) * GRANULE_BYTES
    }
}

/// Whether a span has whole pages, and none that others use.
pub(super) fn is_whole_pages(span: Span) -> bool {
    let page = (PAGE_BYTES / GRANULE_BYTES) as u32;
    span.start.is_multiple_of(page) && span.end().is_multiple_of(page)
}

/// Sizes and offsets of everything in an arena, as plain data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ArenaSizes {
    pub participants: u32,
    pub records: u32,
    pub ticket_budget: u32,
    pub blocks: u32,
    pub data_len: u64,
    pub budget: u64,
    pub warm_cap: u64,
}

const PARTICIPANTS_AT: u64 = PAGE_BYTES;
/// The part of the header that says what it is and how large.
pub(super) const HEAD_BYTES: usize = 64;

impl ArenaSizes {
    /// The sizes of every arena that users see.
    pub(super) const FULL: Self = Self {
        participants: 512,
        records: 1 << 18,
        ticket_budget: 1 << 16,
        blocks: 1 << 18,
        data_len: 0,
        budget: 0,
        warm_cap: 0,
    };

    pub(super) fn records_at(&self) -> u64 {
        (PARTICIPANTS_AT + u64::from(self.participants) * size_of::<Participant>() as u64).next_multiple_of(PAGE_BYTES)
    }

    pub(super) fn blocks_at(&self) -> u64 {
        (self.records_at() + u64::from(self.records) * size_of::<Record>() as u64).next_multiple_of(PAGE_BYTES)
    }

    pub(super) fn data_at(&self) -> u64 {
        (self.blocks_at() + u64::from(self.blocks) * size_of::<Block>() as u64).next_multiple_of(HUGE_BYTES)
    }

    pub(super) fn total_len(&self) -> u64 {
        self.data_at() + self.data_len
    }

    pub(super) fn data_granules(&self) -> u32 {
        (self.data_len / GRANULE_BYTES) as u32
    }

    fn is_sound(&self, mapped_len: u64) -> bool {
        self.is_possible() && self.total_len() == mapped_len
    }

    fn is_possible(&self) -> bool {
        let tables = (1..=512).contains(&self.participants)
            && (1..=1 << 20).contains(&self.records)
            && (4..=1 << 22).contains(&self.blocks);
        let data = self.data_len.is_multiple_of(HUGE_BYTES) && self.data_len / GRANULE_BYTES < u64::from(u32::MAX);
        tables && data && self.budget <= self.data_len
    }

    /// The sizes and the id that the first bytes of a file of `len` bytes tell.
    ///
    /// # Errors
    /// `WrongKind` for a file that is no arena's, or one of another version; `Poisoned` for one that was cut or written over.
    pub(super) fn of_file(head: &[u8; HEAD_BYTES], len: u64, path: &Path) -> Result<(Self, u64)> {
        let word = |at: usize| u64::from_le_bytes(*head[at..].first_chunk().expect("a word of the head"));
        let half = |at: usize| u32::from_le_bytes(*head[at..].first_chunk().expect("half a word of the head"));
        if word(offset_of!(Header, magic)) != MAGIC {
            return Err(no_arena(path, len));
        }
        let version = half(offset_of!(Header, version));
        match version {
            VERSION => {}
            1..=MOST_VERSION => return Err(other_version(path, version)),
            _ => {
                return Err(damaged(
                    path,
                    &format!("expected version {VERSION}, got {version}, which there is none of"),
                ));
            }
        }
        let layout = half(offset_of!(Header, layout));
        if layout != LAYOUT {
            return Err(other_layout(path, layout));
        }
        let sizes = Self {
            participants: half(offset_of!(Header, participants)),
            records: half(offset_of!(Header, records)),
            ticket_budget: half(offset_of!(Header, ticket_budget)),
            blocks: half(offset_of!(Header, blocks)),
            data_len: word(offset_of!(Header, data_len)),
            budget: word(offset_of!(Header, budget)),
            warm_cap: word(offset_of!(Header, warm_cap)),
        };
        if sizes.is_sound(len) {
            return Ok((sizes, word(offset_of!(Header, id))));
        }
        let expected =
            if sizes.is_possible() { format!("{} bytes", sizes.total_len()) } else { "sizes that can be".into() };
        Err(damaged(path, &format!("expected {expected}, got {len} bytes")))
    }
}

/// The id in the first bytes of an arena's file, of whatever version; none of a file of something else.
pub(super) fn id_in_head(head: &[u8; HEAD_BYTES]) -> Option<u64> {
    let word = |at: usize| u64::from_le_bytes(*head[at..].first_chunk().expect("a word of the head"));
    (word(offset_of!(Header, magic)) == MAGIC).then(|| word(offset_of!(Header, id)))
}

#[cold]
fn no_arena(path: &Path, len: u64) -> Error {
    let message =
        format!("expected an arena in {}, got {len} bytes of something else: choose another path", path.display());
    Error::wrong_kind("arena", None, message)
}

#[cold]
fn other_version(path: &Path, version: u32) -> Error {
    let which = if version < VERSION { "an older" } else { "a newer" };
    let message = format!(
        "expected an arena of version {VERSION} in {}, got one of version {version}, which {which} ndshare made: use that one \
         to save what is in it, or choose another path",
        path.display()
    );
    Error::wrong_kind("arena", Some("arena"), message)
}

#[cold]
fn other_layout(path: &Path, layout: u32) -> Error {
    let message = format!(
        "expected an arena of layout {LAYOUT:#010x} in {}, got one of layout {layout:#010x} under the same version {VERSION}: \
         another build of ndshare made it; use that one to save what is in it, or choose another path",
        path.display()
    );
    Error::wrong_kind("arena", Some("arena"), message)
}

#[cold]
fn damaged(path: &Path, what: &str) -> Error {
    let message =
        format!("the arena in {} is damaged: {what}; it was cut or written over: remove the file", path.display());
    Error::written_over("the head of the arena's file", message)
}

/// The control part, mapped. Everything behind it is reached by bounded indexes.
pub(super) struct Control {
    base: NonNull<u8>,
    geometry: ArenaSizes,
    // Computed once, because every access needs one of them.
    records_at: u64,
    blocks_at: u64,
    data_at: u64,
}

// SAFETY: all shared words are atomics, and the geometry is private and constant.
unsafe impl Send for Control {}
// SAFETY: as above.
unsafe impl Sync for Control {}

impl Control {
    /// Writes the header of a new arena into zeroed memory and opens it.
    ///
    /// # Safety
    /// `base` is the start of `geometry.total_len()` mapped, zeroed bytes, aligned to 128, that outlive the result.
    pub(super) unsafe fn format(base: NonNull<u8>, geometry: ArenaSizes, id: u64, limit: u32) -> Self {
        let control = Self::over(base, geometry);
        let header = control.header();
        header.id.store(id, Ordering::Relaxed);
        header.data_len.store(geometry.data_len, Ordering::Relaxed);
        header.budget.store(geometry.budget, Ordering::Relaxed);
        header.warm_cap.store(geometry.warm_cap, Ordering::Relaxed);
        header.version.store(VERSION, Ordering::Relaxed);
        header.layout.store(LAYOUT, Ordering::Relaxed);
        header.participants.store(geometry.participants, Ordering::Relaxed);
        header.records.store(geometry.records, Ordering::Relaxed);
        header.ticket_budget.store(geometry.ticket_budget, Ordering::Relaxed);
        header.blocks.store(geometry.blocks, Ordering::Relaxed);
        header.limit.store(limit, Ordering::Relaxed);
        // Release, read by the Acquire in `open`: whoever sees the magic sees the rest.
        header.magic.store(MAGIC, Ordering::Release);
        control
    }

    /// Reads and checks the geometry of an arena that somebody else made.
    ///
    /// # Errors
    /// `Attach` when this is no arena of this version, or its sizes contradict each other.
    ///
    /// # Safety
    /// `base` is the start of `mapped_len` mapped bytes, aligned to 128, that outlive the result.
    pub(super) unsafe fn open(base: NonNull<u8>, mapped_len: u64) -> Result<Self> {
        if mapped_len < PAGE_BYTES {
            return Err(Error::unreachable(format!("expected an arena, got a file of {mapped_len} bytes")));
        }
        // SAFETY: the header lies in the first page, which is mapped; all its fields are atomics.
        let header = unsafe { base.cast::<Header>().as_ref() };
        let (magic, version) = (header.magic.load(Ordering::Acquire), header.version.load(Ordering::Relaxed));
        if (magic, version) != (MAGIC, VERSION) {
            return Err(Error::unreachable(format!(
                "expected an arena of version {VERSION}, got version {version} (magic {magic:#x}): \
                 use one version of ndshare in all processes"
            )));
        }
        let layout = header.layout.load(Ordering::Relaxed);
        if layout != LAYOUT {
            return Err(Error::unreachable(format!(
                "expected an arena of layout {LAYOUT:#010x}, got layout {layout:#010x} under the same version {VERSION}: \
                 use one build of ndshare in all processes"
            )));
        }
        let geometry = ArenaSizes {
            participants: header.participants.load(Ordering::Relaxed),
            records: header.records.load(Ordering::Relaxed),
            ticket_budget: header.ticket_budget.load(Ordering::Relaxed),
            blocks: header.blocks.load(Ordering::Relaxed),
            data_len: header.data_len.load(Ordering::Relaxed),
            budget: header.budget.load(Ordering::Relaxed),
            warm_cap: header.warm_cap.load(Ordering::Relaxed),
        };
        if !geometry.is_sound(mapped_len) {
            return Err(Error::unreachable(format!(
                "expected the sizes of an arena in {mapped_len} bytes, got {geometry:?}"
            )));
        }
        Ok(Self::over(base, geometry))
    }

    fn over(base: NonNull<u8>, geometry: ArenaSizes) -> Self {
        let (records_at, blocks_at, data_at) = (geometry.records_at(), geometry.blocks_at(), geometry.data_at());
        Self { base, geometry, records_at, blocks_at, data_at }
    }

    /// Where the data part begins.
    #[inline]
    pub(super) fn data_at(&self) -> u64 {
        self.data_at
    }

    pub(super) fn geometry(&self) -> &ArenaSizes {
        &self.geometry
    }

    pub(super) fn header(&self) -> &Header {
        // SAFETY: `format` and `open` were given memory that starts with a mapped page.
        unsafe { self.base.cast::<Header>().as_ref() }
    }

    pub(super) fn span_header(&self) -> &SpanHeader {
        &self.header().spans.0
    }

    /// Entry `index` of the table of `T` at `at`, which has `len` entries.
    fn entry<T>(&self, at: u64, index: u32, len: u32) -> Result<&T> {
        if index >= len {
            return Err(self.poison("an index is out of its table"));
        }
        let offset = at as usize + index as usize * size_of::<T>();
        // SAFETY: the tables lie inside the mapped memory (the geometry is checked), the index inside its table;
        // tables start at pages and entries keep the alignment; all fields are atomics.
        Ok(unsafe { self.base.add(offset).cast::<T>().as_ref() })
    }

    pub(super) fn participant(&self, slot: u32) -> Result<&Participant> {
        self.entry(PARTICIPANTS_AT, slot, self.geometry.participants)
    }

    pub(super) fn record(&self, index: u32) -> Result<&Record> {
        self.entry(self.records_at, index, self.geometry.records)
    }

    /// A record by an index that need not be one.
    pub(super) fn record_quietly(&self, index: u32) -> Option<&Record> {
        (index < self.geometry.records).then(|| self.record(index).ok())?
    }

    /// A block by an index that need not be one.
    pub(super) fn block_quietly(&self, index: u32) -> Option<&Block> {
        (index < self.geometry.blocks).then(|| self.block(index).ok())?
    }

    pub(super) fn block(&self, index: u32) -> Result<&Block> {
        self.entry(self.blocks_at, index, self.geometry.blocks)
    }

    /// How many descriptors were ever in use, bounded.
    pub(super) fn high(&self) -> u32 {
        self.capped(&self.span_header().high, self.geometry.blocks)
    }

    /// How many descriptors are committed, bounded.
    pub(super) fn blocks_ready(&self) -> u32 {
        self.capped(&self.span_header().ready, self.geometry.blocks)
    }

    fn capped(&self, word: &AtomicU32, most: u32) -> u32 {
        read_u32(word, Ordering::Acquire).capped(most.into()) as u32
    }

    /// How many records can be in use, bounded.
    pub(super) fn records_ready(&self) -> u32 {
        self.capped(&self.header().records_ready, self.geometry.records)
    }

    /// No record below this one is free, if the hint is right; bounded.
    pub(super) fn record_hint(&self) -> u32 {
        self.capped(&self.header().record_hint, self.geometry.records)
    }

    /// How many records are tickets.
    pub(super) fn ticket_count(&self) -> u32 {
        self.capped(&self.header().ticket_count, self.geometry.records)
    }

    /// The index of the block that a record keeps.
    pub(super) fn block_of(&self, record: &Record) -> Result<u32> {
        let index = read_u32(&record.block, Ordering::Relaxed).index(self.geometry.blocks as usize);
        index.map(|index| index as u32).ok_or_else(|| self.poison("a record names no block"))
    }

    /// The span of a block, which must lie inside the data part.
    pub(super) fn checked_span(&self, block: &Block) -> Result<Span> {
        self.sane_span(block).ok_or_else(|| self.poison("a span lies outside the data"))
    }

    /// The span of a block, if it lies inside the data part. For reports, which look without a lock.
    pub(super) fn sane_span(&self, block: &Block) -> Option<Span> {
        let span = block.span();
        (span.granules > 0 && span.end() <= self.geometry.data_granules()).then_some(span)
    }

    /// Whether a block has this very span.
    pub(super) fn has_span(&self, block: &Block, span: Span) -> bool {
        block.span() == span
    }

    /// Whether nobody uses a descriptor, not even as a gap.
    pub(super) fn is_unused(&self, block: &Block) -> bool {
        block.words().load().state == State::Free && block.span().granules == 0
    }

    /// A link between blocks: the index of one, or [`NONE`].
    pub(super) fn link(&self, word: &AtomicU32) -> Result<u32> {
        let link = read_u32(word, Ordering::Relaxed);
        if link.is(NONE.into()) {
            return Ok(NONE);
        }
        let index = link.index(self.geometry.blocks as usize);
        index.map(|index| index as u32).ok_or_else(|| self.poison("a link leads out of its table"))
    }

    /// A sum of granules, none of which is more than there are.
    pub(super) fn sum(&self, word: &AtomicU64) -> u64 {
        read(word, Ordering::Relaxed).capped(self.geometry.data_granules().into())
    }

    /// Makes a sum smaller, under the arena lock.
    pub(super) fn lower(&self, sum: &AtomicU64, granules: u64) -> Result<()> {
        let now = read(sum, Ordering::Relaxed).at_most(self.geometry.data_granules().into());
        let rest = now.and_then(|now| now.checked_sub(granules));
        let rest = rest.ok_or_else(|| self.poison("a sum is not that of its parts"))?;
        sum.store(rest, Ordering::Relaxed);
        Ok(())
    }

    /// Makes a sum larger, under the arena lock.
    pub(super) fn raise(&self, sum: &AtomicU64, granules: u64) {
        sum.store(self.sum(sum).saturating_add(granules), Ordering::Relaxed);
    }

    /// The process and the descriptor by which a participant is reached, as it says itself.
    pub(super) fn pid(&self, slot: u32) -> Result<u32> {
        Ok(self.participant(slot)?.pid.load(Ordering::Relaxed))
    }

    /// Every word of the control part that is in use, for tests that write over them. Not the geometry, which is read only
    /// when an arena is joined.
    #[cfg(all(test, not(loom)))]
    pub(super) fn scribbling_ground(&self) -> Vec<&[AtomicU32]> {
        let used = [usize::MAX, 4 * size_of::<Participant>(), 12 * size_of::<Record>()];
        let used = used.into_iter().chain([(self.high() + 2) as usize * size_of::<Block>()]);
        self.whole_ground().into_iter().zip(used).map(|(words, bytes)| &words[..words.len().min(bytes / 4)]).collect()
    }

    /// The same with what was never in use: header, participants, records and blocks, as far as there is room for them.
    #[cfg(all(any(test, feature = "fuzzing"), not(loom)))]
    pub(super) fn whole_ground(&self) -> [&[AtomicU32]; 4] {
        let end = self.blocks_at + u64::from(self.geometry.blocks) * size_of::<Block>() as u64;
        let header = (offset_of!(Header, limit) as u64, size_of::<Header>() as u64);
        let parts =
            [header, (PARTICIPANTS_AT, self.records_at), (self.records_at, self.blocks_at), (self.blocks_at, end)];
        parts.map(|(from, to)| {
            let first = self.base.as_ptr().wrapping_add(from as usize).cast::<AtomicU32>();
            // SAFETY: the ranges lie in the control part, start at multiples of 4, and hold nothing but atomics.
            unsafe { std::slice::from_raw_parts(first, ((to - from) / 4) as usize) }
        })
    }

    /// Byte offset of a granule in the file.
    pub(super) fn file_offset(&self, granule: u32) -> u64 {
        self.data_at + u64::from(granule) * GRANULE_BYTES
    }

    /// Marks the arena as unusable and returns the error that says so.
    pub(super) fn poison(&self, what: &str) -> Error {
        let header = self.header();
        // NO POINT: the first store counts, and is never undone; without the text others say only that it is poisoned.
        if header.poisoned.swap(1, Ordering::SeqCst) == 0 {
            for (word, chunk) in header.poison_text.iter().zip(what.as_bytes().chunks(8)) {
                let mut bytes = [0; 8];
                bytes[..chunk.len()].copy_from_slice(chunk);
                word.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
            }
        }
        Error::poisoned(what)
    }

    pub(super) fn check_poison(&self) -> Result<()> {
        match self.header().poisoned.load(Ordering::Relaxed) {
            0 => Ok(()),
            _ => Err(self.poisoned_earlier()),
        }
    }

    #[cold]
    fn poisoned_earlier(&self) -> Error {
        let words = self.header().poison_text.iter();
        let bytes: Vec<u8> = words.flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()).collect();
        let text = String::from_utf8_lossy(&bytes);
        Error::poisoned(&format!("found earlier: {}", text.trim_end_matches('\0')))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::arena::Arena;
    use crate::error::Kind;

    #[test]
    fn who_joins_an_arena_of_another_version_or_layout_is_told_so() {
        let (arena, heap) = Arena::create_on_heap(1 << 20).unwrap();
        let header = arena.control.header();
        for (word, others) in [(&header.version, [VERSION - 1, VERSION + 1]), (&header.layout, [LAYOUT ^ 1, 0])] {
            let ours = word.load(Ordering::Relaxed);
            for other in others {
                word.store(other, Ordering::Relaxed);
                let error = Arena::join_on_heap(&heap).unwrap_err();
                assert!(error.kind() == Kind::Unreachable && error.to_string().contains("in all processes"), "{error}");
            }
            word.store(ours, Ordering::Relaxed);
        }
        Arena::join_on_heap(&heap).unwrap();
    }

    #[test]
    fn the_fingerprint_is_fnv() {
        // Of nothing it is the basis; of each byte one step, as the RFC writes it.
        assert_eq!(fingerprint(&[]), 0x811c_9dc5);
        let by_hand =
            b"foob".iter().fold(0x811c_9dc5_u32, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(16_777_619));
        assert_eq!(fingerprint(&[u32::from_le_bytes(*b"foob") as usize]), by_hand);
    }
}
