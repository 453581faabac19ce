//! One process's share in an arena: what it has mapped, what it counts for itself, and who it is.

use super::backing::{Backing, Sign};
use super::budget::Limit;
use super::control::{ArenaSizes, Control, GRANULE_BYTES, Participant, Span};
use super::guests::Guests;
use super::ids::{BlockId, Locator};
use super::private::Private;
use crate::error::{Error, Kind, Result};
use crate::layout::human;
use crate::os::file::MemFile;
use crate::prim::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
    SpinLock, read_u32,
};
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::OnceLock;

/// Read permission for all that are not the owner, who has more.
const MOST_MODE: u32 = 0o644;
/// This process has no slot: it is a forked child that could get none.
pub(super) const NO_SLOT: u32 = u32::MAX;

/// One process's share in an arena. Its last reference leaves the arena and unmaps it.
///
/// ```
/// use ndshare::arena::Options;
/// use ndshare::{Arena, Array, Number};
///
/// let arena = Arena::create(&Options { budget_bytes: Some(64 << 20), ..Options::default() })?;
/// let image = Array::zeros(&arena, &[1080, 1920], Number::U16)?;
/// let stats = arena.stats()?;
/// assert_eq!((stats.budget_bytes, stats.blocks), (64 << 20, 1));
/// assert!(stats.used_bytes >= 1080 * 1920 * 2);
/// // Another process of this user joins by the locator, as text on its command line or in its environment:
/// assert_eq!(Arena::attach(&arena.locator().to_string().parse()?)?.id(), arena.id());
/// # Ok::<(), ndshare::Error>(())
/// ```
pub struct Arena {
    // The order matters: the sign of life goes first, the mapping last.
    pub(super) sign: SpinLock<Option<Sign>>,
    /// Taken only between forks.
    pub(super) guests: SpinLock<Guests>,
    pub(super) control: Control,
    pub(super) private: SpinLock<Private>,
    /// This process's slot, or [`NO_SLOT`].
    pub(super) slot: AtomicU32,
    /// Why this process has no slot.
    pub(super) absence: OnceLock<Error>,
    pub(super) swept_ms: AtomicU64,
    /// When this process last could not tell whether somebody lives, and since when it asks.
    pub(super) doubted_ms: AtomicU64,
    pub(super) doubts_since_ms: AtomicU64,
    pub(super) nonces: AtomicU64,
    /// Whether this process's references in flight keep the arena in it.
    pub(super) is_kept: AtomicBool,
    /// The thread of this process that has the lock of each block, or 0: to tell a second entry from a wait.
    pub(super) owners: Vec<AtomicU64>,
    pub(super) id: u64,
    /// This process, so that a reference in flight costs no system call.
    pub(super) pid: AtomicU32,
    pub(super) backing: Backing,
}

impl Arena {
    /// The arena's id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Where others can reach the arena through this process.
    pub fn locator(&self) -> Locator {
        let is_readonly = self.is_readonly();
        Locator { id: self.id, pid: self.pid.load(Relaxed), fd: self.backing.descriptor(), is_readonly }
    }

    /// Whether this process joined it to read arrays only: they are mapped without write permission, and nothing new can be
    /// made here.
    #[inline]
    pub fn is_readonly(&self) -> bool {
        self.backing.is_readonly()
    }

    /// # Errors
    /// `ReadOnly`, saying what was asked for, in an arena that this process joined to read only.
    #[inline]
    #[doc(hidden)]
    pub fn check_writable(&self, what: &str) -> Result<()> {
        if self.is_readonly() { Err(self.refuse(what)) } else { Ok(()) }
    }

    #[cold]
    fn refuse(&self, what: &str) -> Error {
        Error::new(
            Kind::ReadOnly,
            format!(
                "expected write permission for {what}, got arena {:016x}, which this process joined to read only: attach \
                 without readonly, or work on copies in an arena of this process's own",
                self.id
            ),
        )
    }

    /// How many bytes may be in blocks.
    pub fn budget_bytes(&self) -> u64 {
        self.control.geometry().budget
    }

    /// Whether it outlives the processes that have it, because it is a file with a path. So do names in it, and what has one.
    pub fn is_lasting(&self) -> bool {
        self.backing.is_lasting()
    }

    /// Where its file was opened, if it has a path.
    pub fn path(&self) -> Option<&Path> {
        match &self.backing {
            Backing::Os { file, .. } => file.path(),
            Backing::Heap(_) => None,
        }
    }

    /// Who else than this user may be let to read what is published of it, as permission bits: the `mode` that it was made
    /// with. None for an arena that is this user's alone.
    pub fn mode(&self) -> Option<u32> {
        let mode = read_u32(&self.control.header().mode, Relaxed).capped(MOST_MODE.into()) as u32;
        self.backing.data_file().map(|_| mode)
    }

    /// Where a block begins in the data, for those who are let to read these alone; 0 in an arena that is this user's alone.
    #[inline]
    pub(crate) fn place_to_tell(&self, block: BlockId) -> u64 {
        if self.backing.data_file().is_none() {
            return 0;
        }
        let span = self.control.block_quietly(block.index).and_then(|shared| self.control.sane_span(shared));
        span.map_or(0, |span| u64::from(span.start) * GRANULE_BYTES)
    }

    /// The file of the data, opened to be read only, and its length. None for an arena that has its data in one file with
    /// all else.
    ///
    /// # Errors
    /// `Attach` when the file can't be opened anew.
    pub(crate) fn open_data(&self) -> Result<Option<(OwnedFd, u64)>> {
        self.backing.data_file().map(|file| Ok((file.open_to_read()?, file.len_bytes()))).transpose()
    }

    /// The first byte of the data part in this process, as arrays have it.
    #[doc(hidden)]
    pub fn base(&self) -> *mut u8 {
        self.backing.view_base().as_ptr().wrapping_add(self.control.data_at() as usize)
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
    pub(super) fn slot(&self) -> Result<u32> {
        let slot = self.slot.load(Relaxed);
        if slot == NO_SLOT || !crate::os::fork::is_known() {
            return Err(self.why_no_slot());
        }
        Ok(slot)
    }

    #[cold]
    pub(super) fn why_no_slot(&self) -> Error {
        if !crate::os::fork::is_known() {
            return Error::attach(format!(
                "this process has no place in arena {:016x}: it was made by a raw clone, which nobody could prepare. What \
                 it inherited is shared still while its parent keeps it; make the process by an ordinary fork",
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
    #[doc(hidden)]
    pub fn identity(&self) -> Result<u64> {
        let slot = self.slot()?;
        // RAW: only told from others.
        let generation = self.control.participant(slot)?.generation.load(Relaxed);
        Ok(u64::from(generation) << 32 | u64::from(slot + 1))
    }

    /// The process id of the participant with this identity, while it takes part.
    #[doc(hidden)]
    pub fn pid_of(&self, identity: u64) -> Option<u32> {
        pid_of(&self.control, identity)
    }

    /// The same also after its end, until its slot has another tenant.
    pub(crate) fn last_pid_of(&self, identity: u64) -> Option<u32> {
        pid_of_tenant(&self.control, identity, |_| true)
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
    #[doc(hidden)]
    pub fn is_mapped_by(&self, pid: u32) -> bool {
        self.backing.is_mapped_by(pid)
    }

    /// The slot as tests on the heap declare it dead.
    #[doc(hidden)]
    pub fn participant_slot(&self) -> u32 {
        self.slot.load(Relaxed)
    }

    pub(super) fn address(&self, span: Span) -> *mut u8 {
        self.base().wrapping_add(span.start as usize * GRANULE_BYTES as usize)
    }

    /// Where the words in a span are, which every participant writes. No array ever shows this address.
    pub(super) fn address_of_words(&self, span: Span) -> *mut u8 {
        self.backing.base().as_ptr().wrapping_add(self.control.file_offset(span.start) as usize)
    }

    pub(super) fn is_parted(&self, address: usize) -> bool {
        let granule = u32::try_from((address - self.base().addr()) as u64 / GRANULE_BYTES).unwrap_or(u32::MAX);
        let private = self.private.lock();
        private.find(granule, granule).is_some_and(|mine| private.is_parted(mine.index))
    }

    pub(super) fn limit_name(&self) -> String {
        limit_name(&self.control)
    }
}

/// The process id of the participant with this identity, while it takes part.
pub(super) fn pid_of(control: &Control, identity: u64) -> Option<u32> {
    pid_of_tenant(control, identity, |tenant| tenant.state.load(SeqCst) != 0)
}

fn pid_of_tenant(control: &Control, identity: u64, counts: impl FnOnce(&Participant) -> bool) -> Option<u32> {
    let slot = slot_in(control, identity)?;
    let tenant = control.participant(slot).ok()?;
    let pid = tenant.pid.load(SeqCst);
    // Read last: a tenant that comes clears the number before it has another generation.
    let same = counts(tenant) && tenant.generation.load(SeqCst) == (identity >> 32) as u32;
    (same && pid != 0).then_some(pid)
}

/// The slot that an identity names, whoever has it now.
pub(super) fn slot_in(control: &Control, identity: u64) -> Option<u32> {
    (identity as u32).checked_sub(1).filter(|&slot| slot < control.geometry().participants)
}

/// What set the budget of an arena.
pub(super) fn limit_name(control: &Control) -> String {
    let limit = Limit::of_code(read_u32(&control.header().limit, Relaxed));
    limit.map_or("an unknown limit", Limit::name).to_owned()
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Arena {:016x} {}", self.id, human(self.budget_bytes()))?;
        self.path().map_or(Ok(()), |path| write!(f, " at {}", path.display()))?;
        f.write_str(">")
    }
}

pub(super) fn file_name(id: u64) -> String {
    format!("ndshare:{id:016x}")
}

/// What the file of the data is called, where those have one of their own. No name of an arena's file begins so.
pub(super) fn data_name(id: u64) -> String {
    format!("ndshare-data:{id:016x}")
}

/// The file of the arena that `locator` names. One that ends where the data begin has them in a second file.
pub(super) fn find_file(locator: &Locator) -> Result<MemFile> {
    let file = MemFile::find(&file_name(locator.id), locator.pid, locator.fd)?;
    if file.path().is_some() || file.len_bytes() != ArenaSizes::FULL.total_len() {
        return Ok(file);
    }
    Ok(file.with_rest(MemFile::find(&data_name(locator.id), locator.pid, NO_DESCRIPTOR)?))
}

/// Which descriptor it is nobody says.
const NO_DESCRIPTOR: i32 = -1;
