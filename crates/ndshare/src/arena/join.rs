//! Making an arena, and joining one.

use super::backing::{Backing, DOOR, Heap};
use super::budget::{Limit, Options, check_mode, plan};
use super::control::{ArenaSizes, Control};
use super::deadline::{Deadline, NAP};
use super::fork;
use super::guests::Guests;
use super::ids::Locator;
use super::private::Private;
use super::spans::Spans;
use super::state::{Arena, NO_SLOT, data_name, file_name, find_file};
use crate::error::{Error, Kind, Result};
use crate::os::file::{Anchor, MemFile};
use crate::os::fork::between_forks;
use crate::os::kill::{Point, point};
use crate::os::memory::Mapping;
use crate::os::path::HAS_PATH;
use crate::os::{HUGE_BYTES, limits, page_size_is_supported, proc, process, random_u64};
use crate::prim::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
    SpinLock,
};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Putting an arena in order takes far less.
const DOOR_WAIT: Duration = Duration::from_secs(30);
/// Descriptors that a new arena commits at once.
const FIRST_BLOCKS: u32 = 32;

impl Arena {
    /// Makes an arena and joins it.
    ///
    /// # Errors
    /// `ArenaFull` when a limit leaves no room for one, `InvalidValue` for a budget that is too small or too
    /// large, and for a mode that lets others do more than read, `Attach` without `/proc`.
    pub fn create(options: &Options) -> Result<Arc<Self>> {
        if !page_size_is_supported() {
            return Err(Error::new(Kind::Os, "expected pages of 4 KiB: this kernel's are of another size"));
        }
        options.mode.map_or(Ok(()), check_mode)?;
        fork::watch()?;
        fork::let_go();
        let (geometry, limit) = plan(options, &limits::memory_limit())?;
        let id = random_u64() & !HAS_PATH;
        let file = match options.mode {
            None => MemFile::create(&file_name(id), geometry.total_len())?,
            Some(_) => {
                let data = MemFile::create(&data_name(id), geometry.data_len)?;
                MemFile::create(&file_name(id), geometry.data_at())?.with_rest(data)
            }
        };
        let mapping = Mapping::map(&file)?;
        let backing = Backing::Os { file, mapping, view: None };
        let arena = Self::format(backing, geometry, id, limit)?;
        arena.control.header().mode.store(options.mode.unwrap_or(0), Relaxed);
        point(Point::MakeFormatted);
        fork::register(arena)
    }

    /// Joins the arena that `locator` names, to read only if the locator says so; the one already joined, with whatever
    /// access, if this process has it.
    ///
    /// # Errors
    /// `Unreachable` when nobody has it, `Foreign` when it is another user's, `Attach` when it has no slot for one more
    /// process, `ArenaFull` when the address space has no room.
    pub fn attach(locator: &Locator) -> Result<Arc<Self>> {
        let joined = fork::joined(locator.id, false).or_else(|| fork::joined(locator.id, true));
        joined.map_or_else(|| Self::join_as(locator, locator.is_readonly), Ok)
    }

    /// Joins the arena that `locator` names with this access, whatever this process has of it with another one: then it
    /// takes part twice, and has the arena at two addresses.
    ///
    /// # Errors
    /// As [`Self::attach`].
    pub fn attach_as(locator: &Locator, is_readonly: bool) -> Result<Arc<Self>> {
        fork::joined(locator.id, is_readonly).map_or_else(|| Self::join_as(locator, is_readonly), Ok)
    }

    fn join_as(locator: &Locator, is_readonly: bool) -> Result<Arc<Self>> {
        fork::watch()?;
        fork::let_go();
        let file = find_file(locator)?;
        // Who opens a file with a path may just be putting it in order.
        let door = file.path().is_some().then(|| door(&file, &Deadline::after(DOOR_WAIT))).transpose()?;
        let mapping = Mapping::map(&file)?;
        let view = is_readonly.then(|| Mapping::readonly(&file)).transpose()?;
        let arena = Self::open(Backing::Os { file, mapping, view })?;
        drop(door);
        if arena.id != locator.id {
            return Err(Error::attach(format!("expected arena {:016x}, got {:016x}", locator.id, arena.id)));
        }
        fork::register(arena)
    }

    /// Whether the arena that `locator` names is surely gone. Not so, as far as this process can tell, when whoever named it
    /// has its number from another pid namespace (`numbering`), or lets nobody look.
    pub(crate) fn is_gone(locator: &Locator, numbering: u64) -> bool {
        let found = || MemFile::find(&file_name(locator.id), locator.pid, locator.fd);
        proc::pid_namespace() == Some(numbering)
            && found().is_err_and(|error| error.kind() == Kind::Unreachable)
            && !process::is_opaque(locator.pid)
    }

    /// Makes an arena on the heap of this process, with its first participant.
    ///
    /// # Errors
    /// As [`Self::create`].
    #[cfg(any(test, feature = "internals"))]
    pub fn create_on_heap(budget_bytes: u64) -> Result<(Arc<Self>, Arc<Heap>)> {
        Self::format_on_heap(budget_bytes, false)
    }

    /// The same, but it outlives its participants: [`Self::reopen_on_heap`] gives it to the next ones.
    ///
    /// # Errors
    /// As [`Self::create`].
    #[cfg(test)]
    pub(crate) fn create_lasting_on_heap(budget_bytes: u64) -> Result<(Arc<Self>, Arc<Heap>)> {
        Self::format_on_heap(budget_bytes, true)
    }

    #[cfg(any(test, feature = "internals"))]
    fn format_on_heap(budget_bytes: u64, is_lasting: bool) -> Result<(Arc<Self>, Arc<Heap>)> {
        let data_len = budget_bytes.next_multiple_of(HUGE_BYTES);
        let small =
            ArenaSizes { participants: 80, records: 1024, ticket_budget: 256, blocks: 4096, ..ArenaSizes::FULL };
        let geometry = ArenaSizes { data_len, budget: budget_bytes, warm_cap: budget_bytes / 2, ..small };
        let heap = Heap::new(geometry.total_len(), geometry.participants, is_lasting);
        let arena = Self::format(Backing::Heap(heap.clone()), geometry, random_u64(), Limit::Given)?;
        Ok((Arc::new(arena), heap))
    }

    /// An arena with tables that are small enough to be gone over word by word. It takes the place of one that was made in the
    /// same way and that all participants have left: its memory is zeros again.
    ///
    /// # Errors
    /// As [`Self::create`].
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn create_small_on_heap(
        budget_bytes: u64,
        is_lasting: bool,
        before: Option<Arc<Heap>>,
    ) -> Result<(Arc<Self>, Arc<Heap>)> {
        let small = ArenaSizes { participants: 24, records: 128, ticket_budget: 64, blocks: 512, ..ArenaSizes::FULL };
        let data_len = budget_bytes.next_multiple_of(HUGE_BYTES);
        let geometry = ArenaSizes { data_len, budget: budget_bytes, warm_cap: budget_bytes / 2, ..small };
        let fits = |heap: &Arc<Heap>| {
            Arc::strong_count(heap) == 1 && heap.len_bytes() == geometry.total_len() && !heap.is_lasting()
        };
        let heap = before.filter(|heap| fits(heap) && !is_lasting);
        let heap = heap.unwrap_or_else(|| Heap::new(geometry.total_len(), geometry.participants, is_lasting));
        let arena = Self::format(Backing::Heap(heap.clone()), geometry, random_u64(), Limit::Given)?;
        Ok((Arc::new(arena), heap))
    }

    /// Joins an arena on the heap as one more participant.
    ///
    /// # Errors
    /// `Attach` when all slots are taken.
    #[cfg(any(test, feature = "internals"))]
    pub fn join_on_heap(heap: &Arc<Heap>) -> Result<Arc<Self>> {
        Self::open(Backing::Heap(heap.clone())).map(Arc::new)
    }

    pub(super) fn format(backing: Backing, geometry: ArenaSizes, id: u64, limit: Limit) -> Result<Self> {
        let first = geometry.blocks_at()..geometry.blocks_at() + u64::from(FIRST_BLOCKS) * 128;
        backing.commit(0..geometry.records_at())?;
        backing.commit(first)?;
        // SAFETY: the backing has `total_len` zeroed bytes at a multiple of 2 MiB, and lives in the arena beside
        // the control, which is dropped before it.
        let control = unsafe { Control::format(backing.base(), geometry, id, limit.code()) };
        point(Point::MakeFormatted);
        control.span_header().ready.store(FIRST_BLOCKS, Relaxed);
        Spans::new(&control).format()?;
        point(Point::MakeFormatted);
        let arena = Self::over(backing, control, id);
        arena.enter()?;
        Ok(arena)
    }

    pub(super) fn open(backing: Backing) -> Result<Self> {
        let arena = Self::share(backing)?;
        arena.enter()?;
        Ok(arena)
    }

    /// A share without a slot in an arena that is there.
    pub(super) fn share(backing: Backing) -> Result<Self> {
        // SAFETY: the backing has that many mapped bytes at a multiple of 2 MiB, and lives in the arena beside
        // the control, which is dropped before it.
        let control = unsafe { Control::open(backing.base(), backing.len_bytes())? };
        // RAW: a name, which is told from others.
        let id = control.header().id.load(Relaxed);
        Ok(Self::over(backing, control, id))
    }

    fn over(backing: Backing, control: Control, id: u64) -> Self {
        let private = SpinLock::new(Private::new(control.geometry().blocks));
        let owners = zeroed(control.geometry().blocks);
        Self {
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
        }
    }

    /// Takes a slot.
    pub(super) fn enter(&self) -> Result<()> {
        let (slot, sign) = self.settle()?;
        *self.sign.lock() = Some(sign);
        between_forks(|| Guests::new(&self.backing, slot).map(|guests| *self.guests.lock() = guests))?;
        self.slot.store(slot, SeqCst);
        self.name_participant(slot, std::process::id())?;
        self.sweep_all().map(drop)
    }
}

/// The door of a file with a path. Who has it is the only one to come.
pub(super) fn door(file: &MemFile, deadline: &Deadline) -> Result<Anchor> {
    // BOUND: until whoever has it is in, or dies, or `deadline` ends.
    loop {
        if let Some(anchor) = file.anchor(DOOR, false)? {
            return if file.is_locked(DOOR..DOOR + 1)? { Ok(anchor) } else { Err(lets_go(file)) };
        }
        let what = format!("the door of {}, which another process is opening,", file.name_in_maps());
        deadline.go_on(&what).map_err(|error| at_the_door(file, error))?;
        std::thread::sleep(deadline.nap(NAP));
    }
}

/// The error of a wait that has ended, with the processes that have the file: the kernel does not tell which of them has the
/// door.
#[cold]
fn at_the_door(file: &MemFile, error: Error) -> Error {
    let there = if matches!(error.kind(), Kind::Timeout | Kind::Interrupted) { file.users() } else { Vec::new() };
    if there.is_empty() {
        return error;
    }
    let names: Vec<String> = there.iter().map(ToString::to_string).collect();
    let text = format!("{error}. {} is open in {}", file.name_in_maps(), names.join("; "));
    error.saying(text).waiting_on(there)
}

#[cold]
fn lets_go(file: &MemFile) -> Error {
    Error::attach(format!(
        "the file system of {} lets go of a lock although the file is mapped (overlayfs does): expected one such as tmpfs, \
         ext4 or xfs, for nobody could tell who lives; choose another path",
        file.name_in_maps()
    ))
}

/// A table of zeros, in memory that the system maps page by page as it is used.
fn zeroed(entries: u32) -> Vec<AtomicU64> {
    let zeros = std::mem::ManuallyDrop::new(vec![0_u64; entries as usize]);
    // SAFETY: `AtomicU64` has the size, alignment and bits of `u64`, and `zeros` gives its memory up.
    unsafe { Vec::from_raw_parts(zeros.as_ptr().cast_mut().cast(), zeros.len(), zeros.capacity()) }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::arena::Deadline;

    const FOREVER: Deadline<'static> = Deadline::never();

    #[test]
    fn a_process_may_have_an_arena_once_with_each_access() {
        let options = Options { budget_bytes: Some(8 << 20), ..Options::default() };
        let mine = Arena::create(&options).unwrap();
        let viewer = Arena::attach_as(&mine.locator(), true).unwrap();
        assert_eq!((viewer.id(), viewer.is_readonly(), mine.is_readonly()), (mine.id(), true, false));
        assert!(Arc::ptr_eq(&viewer, &Arena::attach_as(&viewer.locator(), true).unwrap()));
        assert!(Arc::ptr_eq(&mine, &Arena::attach_as(&viewer.locator(), false).unwrap()));
        assert!(Arc::ptr_eq(&mine, &Arena::attach(&viewer.locator()).unwrap()), "the one that may write is preferred");
        let text = viewer.locator().to_string();
        assert_eq!(text.parse::<Locator>().unwrap(), viewer.locator());

        let held = mine.alloc(5000, 64, true, &FOREVER).unwrap();
        let seen = viewer.take(held.block()).unwrap();
        assert!(seen.as_ptr() != held.as_ptr() && seen.is_readonly());
        assert!(viewer.contains(seen.as_ptr().addr()) && !viewer.contains(seen.words().as_ptr().addr()));
        assert!(fork::find(seen.as_ptr().addr(), 5000).unwrap().arena().is_readonly());
        assert!(fork::find(seen.words().as_ptr().addr(), 8).is_none(), "no array shows where words are");
        // SAFETY: the block has 5000 committed bytes, which nobody else writes.
        unsafe { held.as_ptr().write(7) };
        // SAFETY: the same bytes, mapped to be read.
        assert_eq!(unsafe { seen.as_ptr().read_volatile() }, 7);
        assert_eq!(seen.words()[0].load(SeqCst), 7);

        assert_eq!(viewer.alloc(8, 64, true, &FOREVER).unwrap_err().kind(), Kind::ReadOnly);
        assert!(viewer.alloc_quick(8, 64).is_none());
        let words = viewer.alloc_words(24, 64, true, &FOREVER).unwrap();
        words.words()[2].store(9, SeqCst);
        assert_eq!(mine.take(words.block()).unwrap().words()[2].load(SeqCst), 9);
        drop((words, seen));
        let id = mine.id();
        drop((mine, held));
        let again = Arena::attach(&viewer.locator()).unwrap();
        assert!(Arc::ptr_eq(&again, &viewer) && again.stats().unwrap().participants.len() == 1, "arena {id:x}");
    }
}
