//! An arena: one sealed memory file, mapped once by each process that takes part, carved into blocks.
//!
//! A block lives as long as somebody holds it. Each participant has one bit for each block, set with the first
//! reference in that process and cleared with the last; references inside one process are counted privately.
//! Whatever else keeps a block is a record (a [`TicketId`] names one). No count exists that a death could leave
//! wrong for good: bits are swept, records are counted anew.
//!
//! - `word`: the protocol of one block. `spans`: the free map. `lockword`, `lock`: the lock of the arena, and
//!   of each block. `sweep`: participants.
//! - `alloc`, `records`, `stats`: what users ask for. `shortage`: who gives memory up. `fork`: what a child inherits;
//!   `guests`: children without a place. `private`: what one process keeps for itself. `control`: where every shared
//!   word lies. `backing`: system or heap.

mod alloc;
mod backing;
mod control;
mod fork;
mod guests;
mod lock;
mod lockword;
mod outgoing;
mod private;
mod records;
mod shortage;
mod spans;
mod stats;
mod sweep;

mod word;

#[cfg(all(test, not(loom)))]
mod scribble;
#[cfg(all(test, not(loom)))]
mod tests;

pub use alloc::MAX_ALIGN;
pub use backing::Heap;
pub(crate) use fork::watch as watch_forks;
pub use fork::{find, is_inside, left_out};
pub use lock::{Patience, Reentry};
pub use outgoing::Outgoing;
pub use private::Judge;
pub use shortage::{MARK_CACHE, Shortage, on_shortage};
pub use stats::{ParticipantStats, Stats, TicketStats};

use crate::error::{Error, Kind, Result};
use crate::layout::human;
use crate::os::file::MemFile;
use crate::os::fork::between_forks;
use crate::os::memory::Mapping;
use crate::os::{HUGE_BYTES, limits, page_size_is_supported, random_u64};
use crate::prim::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
    SpinLock, read_u32,
};
use backing::{Backing, Sign};
use control::{Control, GRANULE_BYTES, Geometry, Span};
use guests::Guests;
use private::{Mine, Private};
use spans::Spans;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use sweep::Life;

/// This process has no slot: it is a forked child that could get none.
const NO_SLOT: u32 = u32::MAX;
/// Address space for each byte of the budget, so that fragmentation is no limit.
const SPACE_FACTOR: u64 = 4;
/// Warm blocks are kept up to this, or an eighth of the budget if that is less.
const WARM_CAP_BYTES: u64 = 512 << 20;
/// Descriptors that a new arena commits at once.
const FIRST_BLOCKS: u32 = 32;

/// Names of what can set a budget, as the header counts them.
const LIMITS: [&str; 7] = [
    "the budget given at creation",
    "three quarters of the RAM",
    "three quarters of the memory cgroup's limit",
    "RLIMIT_FSIZE",
    "RLIMIT_AS",
    "NDSHARE_BUDGET",
    "the most that one arena can hold",
];

/// What a new arena shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// How many bytes may be in blocks; none: three quarters of the smaller of RAM and the cgroup's limit.
    pub budget_bytes: Option<u64>,
    /// Whether the budget came from the environment, so that errors can say so.
    pub budget_from_environment: bool,
}

/// Names a block for as long as it lives: its place in the table, and which of the place's tenants it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockId {
    /// Place in the table.
    pub index: u32,
    /// Which tenant of the place.
    pub generation: u32,
}

impl BlockId {
    /// The name as one word that is never 0.
    pub fn to_word(self) -> u64 {
        u64::from(self.index.wrapping_add(1)) << 32 | u64::from(self.generation)
    }

    /// The name in a word; none for 0.
    #[inline]
    pub fn from_word(word: u64) -> Option<Self> {
        let index = ((word >> 32) as u32).checked_sub(1)?;
        Some(Self { index, generation: word as u32 })
    }
}

/// Names a reference in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TicketId {
    /// Place in the table.
    pub index: u32,
    /// Not 0, and different for each ticket.
    pub nonce: u64,
}

/// Where an arena can be reached: its id, and a process that has it open under a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Locator {
    /// The arena's id.
    pub id: u64,
    /// A process that takes part.
    pub pid: u32,
    /// The descriptor of the memory file in that process.
    pub fd: i32,
}

/// Whether a freed block's pages may be kept for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    Warm,
    /// A device of the dead may still be writing: the pages go at once.
    Nothing,
}

/// One process's share in an arena. Its last reference leaves the arena and unmaps it.
pub struct Arena {
    // The order matters: the sign of life goes first, the mapping last.
    sign: SpinLock<Option<Sign>>,
    /// Taken only between forks.
    guests: SpinLock<Guests>,
    control: Control,
    private: SpinLock<Private>,
    /// This process's slot, or [`NO_SLOT`].
    slot: AtomicU32,
    /// Why this process has no slot.
    absence: OnceLock<Error>,
    swept_ms: AtomicU64,
    /// When this process last could not tell whether somebody lives, and since when it asks.
    doubted_ms: AtomicU64,
    doubts_since_ms: AtomicU64,
    nonces: AtomicU64,
    /// Whether this process's references in flight keep the arena in it.
    is_kept: AtomicBool,
    /// The thread of this process that has the lock of each block, or 0: to tell a second entry from a wait.
    owners: Vec<AtomicU64>,
    id: u64,
    /// This process, so that a reference in flight costs no system call.
    pid: AtomicU32,
    backing: Backing,
}

impl Arena {
    /// Makes an arena and joins it.
    ///
    /// # Errors
    /// `ArenaFull` when a limit leaves no room for one, `InvalidValue` for a budget that is too small or too
    /// large, `Attach` without `/proc`.
    pub fn create(options: &Options) -> Result<Arc<Self>> {
        if !page_size_is_supported() {
            return Err(Error::new(Kind::Os, "expected pages of 4 KiB: this kernel's are of another size"));
        }
        fork::watch()?;
        fork::let_go();
        let (geometry, limit) = plan(options, &limits::memory_limit())?;
        let id = random_u64();
        let file = MemFile::create(&file_name(id), geometry.total_len())?;
        let mapping = Mapping::map(&file)?;
        let backing = Backing::Os { file, mapping };
        let arena = Self::format(backing, geometry, id, limit)?;
        fork::register(arena)
    }

    /// Joins the arena that `locator` names; the one already joined, if this process has it.
    ///
    /// # Errors
    /// `Unreachable` when nobody has it, `Foreign` when it is another user's, `Attach` when it has no place for one more
    /// process, `ArenaFull` when the address space has no room.
    pub fn attach(locator: &Locator) -> Result<Arc<Self>> {
        if let Some(arena) = fork::joined(locator.id) {
            return Ok(arena);
        }
        fork::watch()?;
        fork::let_go();
        let file = MemFile::find(&file_name(locator.id), locator.pid, locator.fd)?;
        let mapping = Mapping::map(&file)?;
        let arena = Self::open(Backing::Os { file, mapping })?;
        if arena.id != locator.id {
            return Err(Error::attach(format!("expected arena {:016x}, got {:016x}", locator.id, arena.id)));
        }
        fork::register(arena)
    }

    /// Makes an arena on the heap of this process, with its first participant.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn create_on_heap(budget_bytes: u64) -> Result<(Arc<Self>, Arc<Heap>)> {
        let data_len = budget_bytes.next_multiple_of(HUGE_BYTES);
        let small = Geometry { participants: 80, records: 1024, ticket_budget: 256, blocks: 4096, ..Geometry::FULL };
        let geometry = Geometry { data_len, budget: budget_bytes, warm_cap: budget_bytes / 2, ..small };
        let heap = Heap::new(geometry.total_len(), geometry.participants);
        let arena = Self::format(Backing::Heap(heap.clone()), geometry, random_u64(), 0)?;
        Ok((Arc::new(arena), heap))
    }

    /// Joins an arena on the heap as one more participant.
    ///
    /// # Errors
    /// `Attach` when all slots are taken.
    pub fn join_on_heap(heap: &Arc<Heap>) -> Result<Arc<Self>> {
        Self::open(Backing::Heap(heap.clone())).map(Arc::new)
    }

    fn format(backing: Backing, geometry: Geometry, id: u64, limit: u32) -> Result<Self> {
        let first = geometry.blocks_at()..geometry.blocks_at() + u64::from(FIRST_BLOCKS) * 128;
        backing.commit(0..geometry.records_at())?;
        backing.commit(first)?;
        // SAFETY: the backing has `total_len` zeroed bytes at a multiple of 2 MiB, and lives in the arena beside
        // the control, which is dropped before it.
        let control = unsafe { Control::format(backing.base(), geometry, id, limit) };
        control.span_header().ready.store(FIRST_BLOCKS, Relaxed);
        Spans::new(&control).format()?;
        Self::join(backing, control, id)
    }

    fn open(backing: Backing) -> Result<Self> {
        // SAFETY: the backing has that many mapped bytes at a multiple of 2 MiB, and lives in the arena beside
        // the control, which is dropped before it.
        let control = unsafe { Control::open(backing.base(), backing.len_bytes())? };
        // RAW: a name, which is told from others.
        let id = control.header().id.load(Relaxed);
        Self::join(backing, control, id)
    }

    fn join(backing: Backing, control: Control, id: u64) -> Result<Self> {
        let private = SpinLock::new(Private::new(control.geometry().blocks));
        let owners = zeroed(control.geometry().blocks);
        let arena = Self {
            sign: SpinLock::new(None),
            guests: SpinLock::new(Guests::default()),
            control,
            private,
            slot: AtomicU32::new(NO_SLOT),
            absence: OnceLock::new(),
            swept_ms: AtomicU64::new(0),
            doubted_ms: AtomicU64::new(0),
            doubts_since_ms: AtomicU64::new(0),
            nonces: AtomicU64::new(0),
            is_kept: AtomicBool::new(false),
            owners,
            id,
            pid: AtomicU32::new(std::process::id()),
            backing,
        };
        let (slot, sign) = arena.settle()?;
        *arena.sign.lock() = Some(sign);
        between_forks(|| Guests::new(&arena, slot).map(|guests| *arena.guests.lock() = guests))?;
        arena.slot.store(slot, SeqCst);
        arena.name_participant(slot, std::process::id())?;
        arena.sweep_all()?;
        Ok(arena)
    }

    /// The arenas of this process that nothing keeps in it but references in flight that it sent.
    pub fn kept_in_flight() -> Vec<Arc<Self>> {
        fork::kept_in_flight()
    }

    /// The arena's id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Where others can reach the arena through this process.
    pub fn locator(&self) -> Locator {
        Locator { id: self.id, pid: self.pid.load(Relaxed), fd: self.backing.descriptor() }
    }

    /// How many bytes may be in blocks.
    pub fn budget_bytes(&self) -> u64 {
        self.control.geometry().budget
    }

    /// The first byte of the data part in this process.
    pub fn base(&self) -> *mut u8 {
        self.backing.base().as_ptr().wrapping_add(self.control.data_at() as usize)
    }

    /// Whether an address lies in the data part.
    pub fn contains(&self, address: usize) -> bool {
        let start = self.base().addr();
        (start..start + self.control.geometry().data_len as usize).contains(&address)
    }

    /// The slot that this participant has.
    ///
    /// # Errors
    /// `Attach` in a forked child that got none, and in the child of a raw `clone`.
    #[inline]
    fn slot(&self) -> Result<u32> {
        let slot = self.slot.load(Relaxed);
        if slot == NO_SLOT || !crate::os::fork::is_known() {
            return Err(self.why_no_slot());
        }
        Ok(slot)
    }

    #[cold]
    fn why_no_slot(&self) -> Error {
        if !crate::os::fork::is_known() {
            return Error::attach(format!(
                "this process has no place in arena {:016x}: it was made by a raw clone, which nobody could prepare. What \
                 it inherited is shared still while its parent keeps it; make the process with multiprocessing or os.fork",
                self.id
            ));
        }
        self.absence.get().cloned().unwrap_or_else(|| Error::attach("this process has no place in the arena yet"))
    }

    /// Why this process has no place in the arena; none when it has one.
    pub fn absence(&self) -> Option<Error> {
        self.slot().err()
    }

    /// Who this participant is, as a word that is never 0 and never another's, also after its slot has a new tenant.
    ///
    /// # Errors
    /// `Attach` in a process without a slot.
    #[inline]
    pub fn identity(&self) -> Result<u64> {
        let slot = self.slot()?;
        // RAW: only told from others.
        let generation = self.control.participant(slot)?.generation.load(Relaxed);
        Ok(u64::from(generation) << 32 | u64::from(slot + 1))
    }

    /// Whether the participant with this identity lives, or may live. A dead one is swept.
    ///
    /// # Errors
    /// `Poisoned`; `Attach` in a process without a slot, and in one that has asked for ten seconds and cannot know.
    pub fn is_identity_alive(&self, identity: u64) -> Result<bool> {
        if self.identity()? == identity {
            return Ok(true);
        }
        let Some(slot) = (identity as u32).checked_sub(1) else { return Ok(false) };
        // Scribble, for no arena gives such a name: nobody lives by it.
        if slot >= self.control.geometry().participants {
            return Ok(false);
        }
        let tenant = self.control.participant(slot)?;
        let same = tenant.generation.load(SeqCst) == (identity >> 32) as u32 && tenant.state.load(SeqCst) != 0;
        if !same {
            return Ok(false);
        }
        match self.life(slot) {
            Life::Alive => Ok(true),
            Life::Dead => self.sweep(slot).map(|_| false),
            Life::Unknown(cause) => self.be_unsure(slot, &cause).map(|_| true),
        }
    }

    /// The process id of the participant with this identity, while it takes part.
    pub fn pid_of(&self, identity: u64) -> Option<u32> {
        let slot = (identity as u32).checked_sub(1).filter(|&slot| slot < self.control.geometry().participants)?;
        let tenant = self.control.participant(slot).ok()?;
        let pid = tenant.pid.load(Relaxed);
        // Read last: a tenant that came meanwhile has another generation.
        let same = tenant.state.load(SeqCst) != 0 && tenant.generation.load(SeqCst) == (identity >> 32) as u32;
        (same && pid != 0).then_some(pid)
    }

    /// Whether this process holds a block.
    pub fn has(&self, block: BlockId) -> bool {
        let private = self.private.lock();
        block.index < self.control.geometry().blocks
            && private.references(block.index) > 0
            && private.generation(block.index) == block.generation
    }

    /// Whether the process that is `pid` to this one takes part. In another pid namespace the number may be that of a
    /// stranger.
    pub fn is_mapped_by(&self, pid: u32) -> bool {
        crate::os::has_mapped(pid, &file_name(self.id))
    }

    /// The slot as tests on the heap declare it dead.
    pub fn participant_slot(&self) -> u32 {
        self.slot.load(Relaxed)
    }

    fn limit_name(&self) -> String {
        let code = read_u32(&self.control.header().limit, Relaxed).index(LIMITS.len());
        code.map_or("an unknown limit", |code| LIMITS[code]).to_owned()
    }

    /// A new reference to the block that has all of `len_bytes` at `address`, if this process holds one.
    fn find_block(self: &Arc<Self>, address: usize, len_bytes: usize) -> Option<Hold> {
        let first = (address - self.base().addr()) as u64;
        let last = first + (len_bytes as u64).max(1) - 1;
        let granule = |offset: u64| u32::try_from(offset / GRANULE_BYTES).ok();
        let mut private = self.private.lock();
        let mine = private.find(granule(first)?, granule(last)?)?;
        if private.is_parted(mine.index) {
            return None;
        }
        private.add_reference(mine.index);
        let generation = private.generation(mine.index);
        drop(private);
        Some(self.hold(mine, generation))
    }

    fn is_parted(&self, address: usize) -> bool {
        let granule = u32::try_from((address - self.base().addr()) as u64 / GRANULE_BYTES).unwrap_or(u32::MAX);
        let private = self.private.lock();
        private.find(granule, granule).is_some_and(|mine| private.is_parted(mine.index))
    }

    fn address(&self, span: Span) -> *mut u8 {
        self.base().wrapping_add(span.start as usize * GRANULE_BYTES as usize)
    }

    /// The reference that [`Hold::into_address`] gave away. None when no block of this process begins at `address`,
    /// and in the child of a raw `clone`, where nobody may look.
    ///
    /// # Safety
    /// If a block of this arena begins at `address`, then a reference to it was given away as this address, and was
    /// not taken back since, in this process or, before a fork, in the parent.
    pub unsafe fn take_back(self: &Arc<Self>, address: usize) -> Option<Hold> {
        if !self.contains(address) || !crate::os::fork::is_known() {
            return None;
        }
        let offset = (address - self.base().addr()) as u64;
        let granule = u32::try_from(offset / GRANULE_BYTES).ok().filter(|_| offset.is_multiple_of(GRANULE_BYTES))?;
        let private = self.private.lock();
        let mine = private.find(granule, granule).filter(|mine| mine.span.start == granule)?;
        let generation = private.generation(mine.index);
        drop(private);
        // SAFETY: the hold that was given away kept a strong reference to the arena, which this one takes over.
        let arena = unsafe { Arc::from_raw(Arc::as_ptr(self)) };
        Some(Hold { arena, mine, generation })
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // After a raw clone the registry's lock may be one that nobody will open.
        if crate::os::fork::is_known() {
            fork::forget(self.id);
            self.leave();
        }
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Arena {:016x} {}>", self.id, human(self.budget_bytes()))
    }
}

/// A table of zeros, in memory that the system maps page by page as it is used.
fn zeroed(entries: u32) -> Vec<AtomicU64> {
    let zeros = std::mem::ManuallyDrop::new(vec![0_u64; entries as usize]);
    // SAFETY: `AtomicU64` has the size, alignment and bits of `u64`, and `zeros` gives its memory up.
    unsafe { Vec::from_raw_parts(zeros.as_ptr().cast_mut().cast(), zeros.len(), zeros.capacity()) }
}

fn file_name(id: u64) -> String {
    format!("ndshare:{id:016x}")
}

/// The sizes of a new arena, and what set its budget.
fn plan(options: &Options, memory: &limits::Room) -> Result<(Geometry, u32)> {
    let most = (u64::from(u32::MAX) - 1) * GRANULE_BYTES / SPACE_FACTOR / HUGE_BYTES * HUGE_BYTES;
    let (mut budget, mut limit) = match options.budget_bytes {
        Some(bytes) => (bytes, if options.budget_from_environment { 5 } else { 0 }),
        None if memory.bytes / 4 * 3 > most => (most, 6),
        None => (memory.bytes / 4 * 3, if memory.limit == LIMITS[2] { 2 } else { 1 }),
    };
    if budget > most {
        return Err(Error::value(format!("expected a budget of at most {}, got {}", human(most), human(budget))));
    }
    let mut data_len = (budget * SPACE_FACTOR).next_multiple_of(HUGE_BYTES);
    let tables = Geometry::FULL.total_len();
    let space = limits::address_space_limit().map(|limit| limit.saturating_sub(limits::mapped_bytes()) / 2);
    for (code, most) in [(3, limits::file_size_limit()), (4, space)] {
        let Some(most) = most else { continue };
        let room = most.saturating_sub(tables) / HUGE_BYTES * HUGE_BYTES;
        if room == 0 {
            return Err(too_small(LIMITS[code as usize], most, tables + HUGE_BYTES));
        }
        if room < data_len {
            data_len = room;
        }
        if room < budget {
            (budget, limit) = (room, code);
        }
    }
    if budget == 0 {
        return Err(Error::value("expected a budget of at least one byte, got 0: name one such as \"1 GiB\""));
    }
    let warm_cap = (budget / 8).min(WARM_CAP_BYTES);
    Ok((Geometry { data_len, budget, warm_cap, ..Geometry::FULL }, limit))
}

fn too_small(name: &str, limit: u64, need: u64) -> Error {
    let (left, need) = (human(limit), human(need));
    Error::new(
        Kind::ArenaFull,
        format!("{name} leaves {left} for an arena, and the smallest takes {need}: raise the limit (ulimit -f, -v)"),
    )
}

/// One reference of this process to a block. A clone is another one; dropping it gives it back.
pub struct Hold {
    arena: Arc<Arena>,
    mine: Mine,
    generation: u32,
}

impl Hold {
    /// The arena of the block.
    pub fn arena(&self) -> &Arc<Arena> {
        &self.arena
    }

    /// The block's name.
    pub fn block(&self) -> BlockId {
        BlockId { index: self.mine.index, generation: self.generation }
    }

    /// The first byte of the block in this process.
    pub fn as_ptr(&self) -> *mut u8 {
        self.arena.address(self.mine.span)
    }

    /// The length of the block in bytes, as rounded up at allocation.
    pub fn len_bytes(&self) -> usize {
        self.mine.span.len_bytes() as usize
    }

    /// A ticket that keeps the block for the receiver of this reference; none when the ticket budget is used up,
    /// and the content must travel instead.
    ///
    /// # Errors
    /// `Poisoned`; `Attach` in a process without a slot; what `patience` says.
    pub fn issue(&self, patience: &Patience) -> Result<Option<TicketId>> {
        self.arena.issue(self.block(), patience)
    }

    /// Makes this block the parent of `child`: it keeps the child until the returned record is given to
    /// [`Self::disown`], or it goes itself.
    ///
    /// # Errors
    /// `ArenaFull` when the table of records is full; as [`Self::issue`].
    pub fn adopt(&self, child: &Hold, patience: &Patience) -> Result<TicketId> {
        let record = self.arena.adopt(self.block(), child.block(), patience)?;
        record.ok_or_else(|| {
            Error::new(
                Kind::ArenaFull,
                "the arena's table of records is full: expected a free one; drop rings or caches",
            )
        })
    }

    /// Ends the record by which a block keeps another one.
    ///
    /// # Errors
    /// As [`Self::issue`].
    pub fn disown(&self, record: TicketId, patience: &Patience) -> Result<()> {
        self.arena.disown(record, patience)
    }

    /// The first half of [`Self::disown`]: ends the record. Whoever calls gives the returned block to
    /// [`Arena::free_unkept`] soon; should it die before, the sweep does that.
    ///
    /// # Errors
    /// As [`Self::issue`].
    pub fn end_record(&self, record: TicketId, patience: &Patience) -> Result<Option<u32>> {
        self.arena.end_record(record, patience)
    }

    /// The records by which this block keeps others, and those others.
    ///
    /// # Errors
    /// `Poisoned`.
    pub fn children(&self) -> Result<Vec<(TicketId, BlockId)>> {
        self.arena.children(self.block())
    }

    /// Whether anybody holds the block, as far as one look can tell.
    pub fn is_held(arena: &Arena, block: BlockId) -> bool {
        arena.control.block_quietly(block.index).is_some_and(|shared| shared.words().is_held())
    }

    /// The whole block as 64-bit words, for protocols that live in a block.
    pub fn words(&self) -> &[AtomicU64] {
        let words = self.len_bytes() / 8;
        // SAFETY: the block is committed and held as long as the result lives; blocks start at multiples of 1 KiB;
        // atomics may be written by anybody at any time.
        unsafe { std::slice::from_raw_parts(self.as_ptr().cast::<AtomicU64>(), words) }
    }

    /// The `index`th 64-bit word of the block.
    ///
    /// # Errors
    /// `InvalidValue` beyond the end of the block.
    pub fn word(&self, index: usize) -> Result<&AtomicU64> {
        self.words().get(index).ok_or_else(|| {
            Error::value(format!("expected a word of a block of {} bytes, got {index}", self.len_bytes()))
        })
    }

    /// The low half of a word, as futexes want it.
    ///
    /// # Errors
    /// `InvalidValue` beyond the end of the block.
    pub fn half_word(&self, index: usize) -> Result<&AtomicU32> {
        self.low_half(index)
    }

    /// Waits until somebody calls [`Self::wake`] on the low half of a word that is no longer `seen`, for one nap.
    ///
    /// # Errors
    /// `InvalidValue` beyond the end of the block.
    pub fn nap_on(&self, index: usize, seen: u32, patience: &Patience) -> Result<()> {
        self.nap_long_on(index, seen, patience, Duration::from_millis(20))
    }

    /// As [`Self::nap_on`], for a nap of at most `longest`.
    ///
    /// # Errors
    /// `InvalidValue` beyond the end of the block.
    pub fn nap_long_on(&self, index: usize, seen: u32, patience: &Patience, longest: Duration) -> Result<()> {
        self.arena.backing.wait(self.low_half(index)?, seen, patience.nap(longest));
        Ok(())
    }

    /// Wakes everybody who naps on a word.
    ///
    /// # Errors
    /// `InvalidValue` beyond the end of the block.
    pub fn wake(&self, index: usize) -> Result<()> {
        self.arena.backing.wake(self.low_half(index)?);
        Ok(())
    }

    fn low_half(&self, index: usize) -> Result<&AtomicU32> {
        let word = std::ptr::from_ref(self.word(index)?).cast_mut().cast::<u32>();
        // SAFETY: the low half of a little-endian word is its first 32 bits; it is only ever accessed by atomics.
        Ok(unsafe { AtomicU32::from_ptr(word) })
    }

    /// Makes an idle block of this process's own under a new generation, so that it can be written again: nobody
    /// else holds it, and exactly one record keeps it. None when that is not so.
    ///
    /// # Errors
    /// `Attach` in a process without a slot.
    pub fn recycle(arena: &Arc<Arena>, block: BlockId) -> Result<Option<Self>> {
        arena.recycle(block)
    }

    /// Sweeps the dead among the holders of the block, and says whether anybody else alive holds it.
    ///
    /// # Errors
    /// `Poisoned`; `Attach` in a process without a slot.
    pub fn has_other_holders(&self) -> Result<bool> {
        self.arena.has_other_holders(self.mine.index)
    }

    /// Gives the reference away as the address of the block, for code that keeps nothing but addresses.
    /// [`Arena::take_back`] makes it a hold again.
    pub fn into_address(self) -> *mut u8 {
        std::mem::ManuallyDrop::new(self).as_ptr()
    }

    /// From now on `judge` says before each fork whether the block holds pointers into this process. If so, parent and
    /// child go on with copies of their own, as with ordinary memory; the block is not found by address any more.
    ///
    /// # Errors
    /// `InvalidValue` unless the block has whole pages, and none that others use.
    pub fn watch(&self, judge: Judge) -> Result<()> {
        if !alloc::is_whole_pages(self.mine.span) {
            return Err(Error::value("expected a block of whole pages to watch: make it a multiple of 4096 bytes"));
        }
        self.arena.private.lock().watch(self.mine.index, judge);
        Ok(())
    }

    /// Whether nothing but this process keeps the block: no record, and no other holder alive.
    ///
    /// # Errors
    /// As [`Self::has_other_holders`].
    pub fn is_private(&self) -> Result<bool> {
        let records = &self.arena.control.block(self.mine.index)?.records;
        Ok(records.load(SeqCst) == 0 && !self.has_other_holders()?)
    }

    fn zeroed(self, len_bytes: Option<usize>) -> Self {
        if let Some(len) = len_bytes {
            // SAFETY: the block has at least `len` committed bytes, and nobody else knows of it yet.
            unsafe { self.as_ptr().write_bytes(0, len) };
        }
        self
    }
}

impl Clone for Hold {
    fn clone(&self) -> Self {
        self.arena.private.lock().add_reference(self.mine.index);
        Self { arena: self.arena.clone(), ..*self }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.arena.release(self.mine);
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Hold block {} {}>", self.mine.index, human(self.len_bytes() as u64))
    }
}

impl fmt::Display for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nds1-{:016x}-{}-{}", self.id, self.pid, self.fd)
    }
}

impl FromStr for Locator {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let mut parts = text.strip_prefix("nds1-")?.splitn(3, '-');
            let id = u64::from_str_radix(parts.next()?, 16).ok()?;
            Some(Self { id, pid: parts.next()?.parse().ok()?, fd: parts.next()?.parse().ok()? })
        };
        parse().ok_or_else(|| Error::value(format!("expected a locator such as nds1-<id>-<pid>-<fd>, got {text:?}")))
    }
}
